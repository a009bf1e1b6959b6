//! `errors`: every stable code of the sources is explained in docs/errors.md, and every code that is explained is used.

use std::collections::{BTreeMap, BTreeSet};

use super::{Finding, Source, code_lines, is_test_file};

const REFERENCE: &str = "docs/errors.md";
/// What stands before a code and nothing else.
const SURE: [&str; 9] = [
    "Failure::permanent(",
    "Failure::retryable(",
    "CliError::new(",
    "CliError::io(",
    "EffectError::permanent(",
    "EffectError::retryable(",
    "EffectError::unknown(",
    "Self::permanent(",
    "refusal(",
];
/// What stands before a code of several words, and before other words as well.
const FIRST: [&str; 7] = [".must(", ".failure(", "io_failure(", "blocking(", "released(", "code: ", "invalid("];
/// What stands before codes between which a condition chooses.
const CHOICE: &str = "let code = if ";
/// What stands before a code, when other arguments come first.
const LATER: [&str; 3] = ["park_run(", "park_issue(", "end_in_order("];
/// Files in which every such literal is a code, with what stands before it.
const LISTS: [(&str, &str); 3] = [
    ("crates/api/src/error.rs", ": &str = "),
    ("crates/store/src/error.rs", " => "),
    ("crates/durable/src/error.rs", " => "),
];
/// Folders whose codes nobody meets but tests.
const NOT_SHIPPED: [&str; 2] = ["crates/testkit/", "xtask/"];

pub(super) fn check(sources: &[Source]) -> Vec<Finding> {
    let Some(reference) = sources.iter().find(|source| source.path == REFERENCE) else { return Vec::new() };
    let explained: BTreeMap<&str, usize> = (1..)
        .zip(reference.text.lines())
        .filter_map(|(number, line)| Some((number, line.strip_prefix("| `")?.split_once('|')?.0)))
        .flat_map(|(number, cell)| cell.split('`').step_by(2).map(move |code| (code, number)))
        .filter(|(code, _)| is_code(code))
        .collect();
    let shipped: Vec<&Source> = sources.iter().filter(|source| is_shipped(source)).collect();
    let mut findings = Vec::new();
    let mut told = BTreeSet::new();
    for source in &shipped {
        for (line, code) in codes(source) {
            if !explained.contains_key(code.as_str()) && told.insert(code.clone()) {
                findings.push(finding(&source.path, line, format!("{REFERENCE} does not explain the code `{code}`")));
            }
        }
    }
    for (code, line) in explained {
        let (whole, with_words) = (format!("\"{code}\""), format!("\"{code}: "));
        let is_used = shipped.iter().any(|source| source.text.contains(&whole) || source.text.contains(&with_words));
        if !is_used {
            findings.push(finding(REFERENCE, line, format!("no source has the code `{code}`")));
        }
    }
    findings
}

fn finding(path: &str, line: usize, message: String) -> Finding {
    Finding { path: path.to_owned(), line, rule: "errors", message, note: false }
}

fn is_shipped(source: &Source) -> bool {
    source.path.starts_with("crates/")
        && source.path.ends_with(".rs")
        && !is_test_file(&source.path)
        && !NOT_SHIPPED.iter().any(|folder| source.path.starts_with(folder))
}

/// Codes with the lines that they stand on, in the order of the file.
fn codes(source: &Source) -> Vec<(usize, String)> {
    let lines: Vec<(usize, &str)> = code_lines(source).collect();
    let mut found = Vec::new();
    for (at, (number, line)) in lines.iter().enumerate() {
        // The literal may stand on the next line.
        let next = lines.get(at + 1).map_or("", |(_, next)| next.trim_start());
        let mut add = |code: Option<&str>| found.extend(code.map(|code| (*number, code.to_owned())));
        for (opener, sure) in SURE.map(|opener| (opener, true)).into_iter().chain(FIRST.map(|opener| (opener, false))) {
            for rest in after(line, opener) {
                let rest = if rest.trim().is_empty() { next } else { rest };
                add(rest.strip_prefix('"').and_then(literal).filter(|code| sure || code.contains('_')));
            }
        }
        for opener in LATER {
            for rest in after(line, opener) {
                let rest = if rest.contains('"') { rest } else { next };
                add(rest.split_once('"').and_then(|(_, text)| literal(text)));
            }
        }
        for rest in after(line, CHOICE) {
            rest.split('"').skip(1).step_by(2).for_each(|code| add(Some(code).filter(|code| is_code(code))));
        }
        for (file, opener) in LISTS {
            if source.path == file {
                after(line, opener).for_each(|rest| add(rest.strip_prefix('"').and_then(literal)));
            }
        }
    }
    found
}

/// What follows each place at which `opener` stands.
fn after<'a>(line: &'a str, opener: &'a str) -> impl Iterator<Item = &'a str> {
    line.match_indices(opener).filter_map(move |(at, _)| line.get(at + opener.len()..))
}

/// The code at the beginning of a literal: all of it, or what stands before its colon.
fn literal(text: &str) -> Option<&str> {
    let (literal, _) = text.split_once('"')?;
    let code = literal.split_once(": ").map_or(literal, |(code, _)| code);
    is_code(code).then_some(code)
}

fn is_code(text: &str) -> bool {
    text.len() > 3
        && text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(path: &str, text: &str) -> Source {
        Source { path: path.to_owned(), text: text.to_owned() }
    }

    fn messages(code: &str, reference: &str) -> Vec<String> {
        let sources = [source("crates/core/src/x.rs", code), source(REFERENCE, reference)];
        check(&sources).into_iter().map(|finding| finding.message).collect()
    }

    #[test]
    fn a_code_that_nobody_explains_is_found_wherever_it_stands() {
        let text = "| code | |\n|---|---|\n| `known`, `also_known` | x |\n";
        let known = "Failure::permanent(\"known\", \"x\"); CliError::io(\"also_known\", &e);\n";
        assert_eq!(messages(known, text), Vec::<String>::new());
        for code in [
            "Failure::retryable(\"new_code\", x)",
            "Failure::permanent(\n    \"new_code\",\n    x,\n)",
            "said.must(\"new_code\", what)",
            "self.park_run(id, \"new_code\", x)",
            "released(\"new_code: with words\", true)",
            "Failure { code: \"new_code\".to_owned(), ..failure }",
            "Err(refusal(\"new_code\", format!(x)))",
            "EffectError::permanent(\"new_code\", x)",
            "Err(EffectError::unknown(\n    \"new_code\",\n    x))",
            "return invalid(\"new_code\", x);",
            "DurableError::Invalid { code: \"new_code\", message }",
            "let code = if same { \"known\" } else { \"new_code\" };",
        ] {
            let found = messages(&format!("{known}{code}\n"), text);
            assert_eq!(found, ["docs/errors.md does not explain the code `new_code`"], "{code}");
        }
    }

    #[test]
    fn variables_comments_and_tests_are_no_codes() {
        let text = "| `known` | x |\n";
        let code = "Failure::permanent(\"known\", x)\nio_failure(\"opening\", x)\nFailure::permanent(code, \"text_text\")\n// Failure::permanent(\"a_b_c\")\n#[cfg(test)]\nFailure::permanent(\"in_tests\", x)\n";
        assert_eq!(messages(code, text), Vec::<String>::new());
    }

    #[test]
    fn a_code_that_nobody_uses_any_more_is_found() {
        let found = messages("Failure::permanent(\"known\", x)\n", "| `known` | x |\n| `gone_code` | x |\n");
        assert_eq!(found, ["no source has the code `gone_code`"]);
    }
}
