//! Documents speak of what is there: every path that they name exists, and every test that they call as a witness.

use std::collections::BTreeSet;

use super::{Finding, Source};

/// Beginnings of what is taken for a path of the tree when it stands in backticks.
const ROOTS: [&str; 6] = ["crates/", "xtask/", "docs/", ".ci/", "examples/", "compare/"];
/// Documents whose tests are checked, with the mark that stands before a test's name.
const WITNESSES: [&str; 2] = ["docs/symphony.md", "docs/invariants.md"];
const TEST_MARK: &str = "test `";
/// End of a row of a table whose test is still to be named.
const OPEN_ROW: &str = "| *open* |";

/// The list of WORKFLOW.md's keys, and the reference that has to explain each.
const KEYS: &str = "crates/adapters/src/workflow/keys.rs";
const KEYS_REFERENCE: &str = "docs/workflow.md";

/// A document that walks through the code and names functions as `crates/core/src/run.rs::function`.
const WALKS: &str = "docs/walks.md";

pub(super) fn check(sources: &[Source]) -> Vec<Finding> {
    let mut findings = unexplained_keys(sources);
    findings.extend(lost_walks(sources));
    let tests = function_names(sources);
    let paths: BTreeSet<&str> = sources.iter().map(|source| source.path.as_str()).collect();
    for source in sources.iter().filter(|source| source.path.ends_with(".md")) {
        let open: Vec<usize> =
            (1..).zip(source.text.lines()).filter(|(_, line)| line.ends_with(OPEN_ROW)).map(|(n, _)| n).collect();
        if let Some(first) = open.first() {
            let message = format!("{} rows name no test yet", open.len());
            findings.push(Finding { path: source.path.clone(), line: *first, rule: "test", message, note: true });
        }
        for (index, line) in source.text.lines().enumerate() {
            let mut add = |rule: &'static str, message: String| {
                findings.push(Finding { path: source.path.clone(), line: index + 1, rule, message, note: false });
            };
            let paths_named = in_backticks(line).map(|named| named.split("::").next().unwrap_or(named));
            for named in paths_named.filter(|named| ROOTS.iter().any(|root| named.starts_with(root))) {
                if !is_there(&paths, named) {
                    add("path", format!("there is no {named}"));
                }
            }
            if WITNESSES.contains(&source.path.as_str()) {
                for name in tests_named(line).filter(|name| !tests.contains(name)) {
                    add("test", format!("there is no test `{name}`"));
                }
            }
        }
    }
    findings
}

/// Keys that the reference does not have, in full or without the name of their section.
fn unexplained_keys(sources: &[Source]) -> Vec<Finding> {
    let text = |path: &str| sources.iter().find(|source| source.path == path).map(|source| source.text.as_str());
    let (Some(keys), Some(reference)) = (text(KEYS), text(KEYS_REFERENCE)) else { return Vec::new() };
    let explained: BTreeSet<&str> = reference.lines().flat_map(in_backticks).collect();
    (1..)
        .zip(keys.lines())
        .skip_while(|(_, line)| !line.starts_with("const KNOWN"))
        .take_while(|(_, line)| !line.starts_with("];"))
        .filter_map(|(number, line)| Some((number, line.trim().strip_prefix('"')?.strip_suffix("\",")?)))
        .map(|(number, key)| (number, key.trim_end_matches(".*")))
        .filter(|(_, key)| {
            let without_section = key.split_once('.').map_or(*key, |(_, rest)| rest);
            !explained.contains(key) && !explained.contains(without_section)
        })
        .map(|(line, key)| {
            let message = format!("{KEYS_REFERENCE} does not explain {key}");
            Finding { path: KEYS.to_owned(), line, rule: "keys", message, note: false }
        })
        .collect()
}

/// Steps of the walks whose file or function is not there. The path may leave `crates/` and `src/` out: `core/run.rs::function`.
fn lost_walks(sources: &[Source]) -> Vec<Finding> {
    let Some(walks) = sources.iter().find(|source| source.path == WALKS) else { return Vec::new() };
    let mut findings = Vec::new();
    for (line, text) in (1..).zip(walks.text.lines()) {
        for (path, function) in in_backticks(text).filter_map(|named| named.split_once(".rs::")) {
            let function = function.trim_end_matches("()");
            let function = function.rsplit("::").next().unwrap_or(function);
            let (member, rest) = path.split_once('/').unwrap_or((path, ""));
            let places = [format!("{path}.rs"), format!("crates/{path}.rs"), format!("crates/{member}/src/{rest}.rs")];
            let message = match sources.iter().find(|source| places.contains(&source.path)) {
                None => format!("there is no {path}.rs"),
                Some(file) if file.text.lines().filter_map(function_name).any(|name| name == function) => continue,
                Some(file) => format!("{} has no function `{function}`", file.path),
            };
            findings.push(Finding { path: WALKS.to_owned(), line, rule: "walk", message, note: false });
        }
    }
    findings
}

fn in_backticks(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

/// Whether the tree has the file, or a folder of that name. `{a,b}` and `*` are not looked into.
fn is_there(paths: &BTreeSet<&str>, named: &str) -> bool {
    let plain = named.split(['*', '{', '<', ' ', '#']).next().unwrap_or(named);
    if plain != named {
        return paths.iter().any(|path| path.starts_with(plain));
    }
    let folder = format!("{}/", named.trim_end_matches('/'));
    paths.contains(named) || paths.iter().any(|path| path.starts_with(&folder))
}

fn tests_named(line: &str) -> impl Iterator<Item = &str> {
    line.split(TEST_MARK).skip(1).filter_map(|rest| rest.split_once('`')).map(|(name, _)| name)
}

/// Names of all functions of all Rust sources.
fn function_names(sources: &[Source]) -> BTreeSet<&str> {
    let rust = sources.iter().filter(|source| source.path.ends_with(".rs"));
    rust.flat_map(|source| source.text.lines()).filter_map(function_name).collect()
}

fn function_name(line: &str) -> Option<&str> {
    let (before, rest) = line.trim_start().split_once("fn ")?;
    let only_keywords =
        before.split_whitespace().all(|word| ["async", "const", "unsafe"].contains(&word) || word.starts_with("pub"));
    let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_')?;
    rest.get(..end).filter(|name| only_keywords && !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(path: &str, text: &str) -> Source {
        Source { path: path.to_owned(), text: text.to_owned() }
    }

    fn messages(sources: &[Source]) -> Vec<String> {
        check(sources).into_iter().map(|finding| finding.message).collect()
    }

    #[test]
    fn a_path_that_is_not_there_is_found() {
        let code = source("crates/core/src/run.rs", "fn a() {}\n");
        let doc = source("README.md", "see `crates/core/src/run.rs`, `crates/core/`, `crates/*/src`, `cargo x`\n");
        assert_eq!(messages(&[code, doc]), Vec::<String>::new());
        let doc = source("README.md", "see `crates/gone/src/x.rs`\n");
        assert_eq!(messages(&[doc]), ["there is no crates/gone/src/x.rs"]);
    }

    #[test]
    fn a_test_that_is_not_there_is_found() {
        let code = source("crates/core/tests/x.rs", "    #[test]\n    fn folds_anywhere() {}\n");
        let doc = source("docs/symphony.md", "| a | test `folds_anywhere`, test `never_written` |\n");
        assert_eq!(messages(&[code, doc]), ["there is no test `never_written`"]);
    }

    #[test]
    fn rows_without_a_test_are_counted_and_are_no_failure() {
        let doc = source("docs/symphony.md", "| a | core | *open* |\n| b | core | *open* |\n| c | core | *later* |\n");
        let found = check(&[doc]);
        assert!(matches!(found.as_slice(), [only] if only.note && only.message.starts_with("2 rows")), "{found:?}");
    }

    #[test]
    fn a_key_without_explanation_is_found() {
        let list = "const KNOWN: &[&str] = &[\n    \"agent.kind\",\n    \"a.map.*\",\n    \"store.url\",\n    \"x.new\",\n];\n    \"y\",\n";
        let keys = source(KEYS, list);
        let reference = source(KEYS_REFERENCE, "| `kind` | `map`, `store.url` |\n");
        assert_eq!(messages(&[keys, reference]), ["docs/workflow.md does not explain x.new"]);
    }

    #[test]
    fn a_step_of_a_walk_that_is_not_there_is_found_and_without_walks_there_is_nothing_to_find() {
        let code = source("crates/core/src/run.rs", "impl Run {\n    pub(crate) fn begins<T>(x: T) {}\n}\n");
        let there =
            "first `crates/core/src/run.rs::begins`, or `core/src/run.rs::begins()`, `core/src/run.rs::Run::begins`\n";
        assert_eq!(messages(&[code.clone(), source(WALKS, there)]), Vec::<String>::new());
        let gone = "`core/src/run.rs::ends`, then `core/src/gone.rs::begins`\n\n`crates/core/src/gone.rs::begins`\n";
        let found = check(&[code.clone(), source(WALKS, gone)]);
        let walks: Vec<(usize, &str)> = found
            .iter()
            .filter(|finding| finding.rule == "walk")
            .map(|finding| (finding.line, finding.message.as_str()))
            .collect();
        assert_eq!(
            walks,
            [
                (1, "crates/core/src/run.rs has no function `ends`"),
                (1, "there is no core/src/gone.rs"),
                (3, "there is no crates/core/src/gone.rs"),
            ]
        );
        assert_eq!(messages(&[code, source("docs/other.md", "`core/src/run.rs::ends`\n")]), Vec::<String>::new());
    }

    #[test]
    fn functions_are_seen_whatever_stands_before_them() {
        assert_eq!(function_name("    pub(crate) async fn a_b<T>(x: T) {"), Some("a_b"));
        assert_eq!(function_name("fn a() {"), Some("a"));
        assert_eq!(function_name("// the fn a() does"), None);
        assert_eq!(function_name("let x = 1;"), None);
    }
}
