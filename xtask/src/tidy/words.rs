//! One word for one thing: `docs/glossary.md` says which.

use super::{Finding, Source, first_test_line, is_test_file};

/// Files that name the words which are not used, because that is what they are for.
const ABOUT_WORDS: [&str; 4] = ["docs/glossary.md", "xtask/src/tidy/", "CONTRIBUTING.md", "Cargo.lock"];

/// Spellings of others that we call but did not choose.
const FOREIGN: [&str; 9] = [
    // SQL's.
    "ROLLBACK",
    "is_cancelled",
    ".cancelled()",
    ".cancelled_owned()",
    "run_until_cancelled",
    "StopReason::Cancelled",
    "Outcome::Cancelled",
    "\"cancelled\"",
    // An error name of the Symphony specification.
    "turn_cancelled",
];

/// Where words and those that are not used for them are listed.
const GLOSSARY: &str = "docs/glossary.md";
/// Words that the glossary has under *not*, and that name something else as well: where they stand, they are mostly right.
const ALSO_OTHERS: [&str; 49] = [
    "ack",
    "activity",
    "blocked",
    "cache",
    "checkpoint",
    "command",
    "config",
    "context",
    "conversation",
    "delivery",
    "done",
    "dump",
    "effect",
    "execution",
    "final",
    "gate",
    "history",
    "input",
    "iteration",
    "job",
    "key",
    "lock",
    "locked",
    "log",
    "message",
    "model",
    "number",
    "offset",
    "operation",
    "pending",
    "publish",
    "repair",
    "sandbox",
    "settings",
    "step",
    "store",
    "stuck",
    "tag",
    "task",
    "term",
    "thread",
    "token",
    "transaction",
    "trigger",
    "unknown",
    "validation",
    "worker",
    "workflow",
    "worktree",
];

/// Words that are not used, with those that are.
pub(super) struct Glossary {
    words: Vec<(String, String)>,
}

impl Glossary {
    /// The column *not* of the glossary's tables, but for what names something else as well.
    pub(super) fn of(sources: &[Source]) -> Self {
        let text = sources.iter().find(|source| source.path == GLOSSARY).map_or("", |source| &source.text);
        let mut words: Vec<(String, String)> = Vec::new();
        for row in text.lines().filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |")) {
            let cells: Vec<&str> = row.split(" | ").collect();
            let [word, _, not] = cells.as_slice() else { continue };
            for not in without_remarks(not).split(',').map(str::trim).filter(|not| !not.is_empty() && *word != "word") {
                // A word may stand in for several; the first row tells which is ours.
                if !ALSO_OTHERS.contains(&not) && words.iter().all(|(known, _)| known != not) {
                    words.push((not.to_owned(), (*word).to_owned()));
                }
            }
        }
        Self { words }
    }
}

/// The text without what stands in brackets.
fn without_remarks(text: &str) -> String {
    text.split('(').map(|part| part.split_once(')').map_or(part, |(_, rest)| rest)).collect()
}

/// Endings of type and module names that say nothing.
const EMPTY_NAMES: [&str; 5] = ["manager", "helper", "helpers", "util", "utils"];

/// What does not belong into a public tree: notes to oneself, what tools sign with.
const LEFTOVERS: [&str; 4] = ["FIXME", "XXX", "Co-Authored-By", "Generated with"];
/// Somebody's own folders. In tests they are as good as any.
const FOLDERS: [&str; 3] = ["/home/", "/root/", "/Users/"];

pub(super) fn check(source: &Source, glossary: &Glossary) -> Vec<Finding> {
    if ABOUT_WORDS.iter().any(|path| source.path.starts_with(path)) {
        return Vec::new();
    }
    let mut findings = Vec::new();
    let tests_from = if is_test_file(&source.path) { 0 } else { first_test_line(&source.text) };
    for (index, line) in source.text.lines().enumerate() {
        let mut add = |rule: &'static str, message: String| {
            findings.push(Finding { path: source.path.clone(), line: index + 1, rule, message, note: false });
        };
        let ours = FOREIGN.iter().fold(line.to_owned(), |line, foreign| line.replace(foreign, "")).to_lowercase();
        for (word, instead) in &glossary.words {
            if has_word(&ours, word) {
                add("words", format!("`{word}` is not our word: `{instead}`"));
            }
        }
        for leftover in LEFTOVERS.into_iter().chain(FOLDERS) {
            let in_tests = index + 1 >= tests_from && FOLDERS.contains(&leftover);
            if line.contains(leftover) && !in_tests {
                add("leftover", format!("`{leftover}` does not belong here"));
            }
        }
        if source.path.ends_with(".rs")
            && let Some(name) = declared_name(line)
            && let Some(ending) = EMPTY_NAMES.iter().find(|ending| name_ends_with(name, ending))
        {
            add("names", format!("`{name}` says nothing by `{ending}`: name what it does"));
        }
    }
    findings
}

/// Whether the lowercase line holds the word, alone or as a part of a name (`was_cancelled`, `TicketId`), but not as a
/// part of a longer word (`sticketed`).
fn has_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let before = line.get(..at).and_then(|before| before.chars().next_back());
        !before.is_some_and(char::is_alphabetic)
    })
}

/// The name that a line of Rust declares as a type or a module.
fn declared_name(line: &str) -> Option<&str> {
    let words = line.split_whitespace().skip_while(|word| word.starts_with("pub")).collect::<Vec<_>>();
    let [keyword, name, ..] = words.as_slice() else { return None };
    if !["struct", "enum", "trait", "type", "mod", "union"].contains(keyword) {
        return None;
    }
    let end = name.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(name.len());
    name.get(..end).filter(|name| !name.is_empty())
}

/// `SessionManager`, `manager` and `session_manager` end with `manager`; `Remanager` does not.
fn name_ends_with(name: &str, ending: &str) -> bool {
    let Some(at) = name.len().checked_sub(ending.len()) else { return false };
    let (Some(front), Some(tail)) = (name.get(..at), name.get(at..)) else { return false };
    let new_word = front.is_empty() || front.ends_with('_') || tail.chars().next().is_some_and(char::is_uppercase);
    tail.eq_ignore_ascii_case(ending) && new_word
}
