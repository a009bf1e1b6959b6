//! How long files are, and what editors and merges leave behind.

use super::{Finding, Source, first_test_line, is_test_file};

/// Lines without tests from which a file is worth a look.
const LONG: usize = 400;
/// Lines without tests past which a file needs a reason.
const TOO_LONG: usize = 800;

/// Beginnings of lines that a merge leaves.
const CONFLICTS: [&str; 3] = ["<<<<<<< ", ">>>>>>> ", "||||||| "];

pub(super) fn check(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut add = |line: usize, rule: &'static str, note: bool, message: String| {
        findings.push(Finding { path: source.path.clone(), line, rule, message, note });
    };
    if source.path.ends_with(".rs") && !is_test_file(&source.path) {
        let lines = first_test_line(&source.text) - 1;
        let reasoned = source.text.contains("tidy: long because ");
        if lines > TOO_LONG && !reasoned {
            add(1, "long", false, format!("{lines} lines without tests; split it, or say `tidy: long because …`"));
        } else if lines > LONG && !reasoned {
            add(1, "long", true, format!("{lines} lines without tests"));
        }
    }
    for (index, line) in source.text.lines().enumerate() {
        if CONFLICTS.iter().any(|mark| line.starts_with(mark)) {
            add(index + 1, "conflict", false, "a merge was not finished".to_owned());
        }
        if line.ends_with(' ') && !source.path.ends_with(".md") {
            add(index + 1, "space", false, "ends with a space".to_owned());
        }
    }
    if !source.text.is_empty() && !source.text.ends_with('\n') {
        add(source.text.lines().count(), "newline", false, "the last line does not end".to_owned());
    }
    findings
}
