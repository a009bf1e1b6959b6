//! Counting tests by the lines with which each test binary ends.

use std::process::Command;

use crate::shell::{Done, run_lines};

/// Tests that ran, summed over all test binaries.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) ignored: u64,
}

impl Tally {
    /// Adds what one binary counted.
    pub(crate) fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.ignored += other.ignored;
    }

    /// Counts a check that is no cargo test.
    pub(crate) fn count(&mut self, ok: bool) {
        self.passed += u64::from(ok);
        self.failed += u64::from(!ok);
    }
}

/// What a `test result:` line says; `None` for every other line.
pub(crate) fn parse(line: &str) -> Option<Tally> {
    // With `--nocapture` a test's own unfinished line may stand before it.
    let (_, counts) = line.split_once("test result: ")?;
    let (_verdict, counts) = counts.split_once(". ")?;
    let mut tally = Tally::default();
    let mut complete = (false, false);
    for part in counts.split(';') {
        let Some((number, word)) = part.trim().split_once(' ') else { continue };
        let Ok(number) = number.parse::<u64>() else { continue };
        match word {
            "passed" => (tally.passed, complete.0) = (number, true),
            "failed" => (tally.failed, complete.1) = (number, true),
            "ignored" => tally.ignored = number,
            _ => {}
        }
    }
    (complete == (true, true)).then_some(tally)
}

/// Runs a `cargo test` command, passes its output through, and counts. A binary that dies without a count,
/// or a build that fails, counts as one failure.
pub(crate) fn run_counted(command: &mut Command, tally: &mut Tally) -> Done {
    let mut counted = Tally::default();
    let done = run_lines(command, |line| {
        if let Some(binary) = parse(line) {
            counted.add(binary);
        }
    });
    if done.is_err() && counted.failed == 0 {
        counted.failed = 1;
    }
    tally.add(counted);
    done.and_then(|()| match counted {
        Tally { failed: 0, passed: 0, .. } => Err("no test ran: a check that cannot fail is none".to_owned()),
        Tally { failed: 0, .. } => Ok(()),
        Tally { failed, .. } => Err(format!("{failed} failed")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_good_result_line_is_counted() {
        let line = "test result: ok. 12 passed; 0 failed; 3 ignored; 0 measured; 1 filtered out; finished in 0.02s";
        assert_eq!(parse(line), Some(Tally { passed: 12, failed: 0, ignored: 3 }));
    }

    #[test]
    fn a_bad_result_line_is_counted() {
        let line = "test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.00s";
        assert_eq!(parse(line), Some(Tally { passed: 1, failed: 2, ignored: 0 }));
    }

    #[test]
    fn a_result_after_an_unfinished_line_is_counted() {
        let line = "50%...test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out";
        assert_eq!(parse(line), Some(Tally { passed: 1, failed: 0, ignored: 0 }));
    }

    #[test]
    fn other_lines_are_not_counted() {
        for line in ["", "test result", "test a ... ok", "running 3 tests", "test result: ok. x passed; y failed"] {
            assert_eq!(parse(line), None, "{line}");
        }
    }

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn a_binary_that_dies_without_a_count_is_one_failure() {
        let mut tally = Tally::default();
        let done =
            run_counted(&mut shell("echo 'test result: ok. 2 passed; 0 failed; 0 ignored'; exit 101"), &mut tally);
        assert!(done.is_err());
        assert_eq!(tally, Tally { passed: 2, failed: 1, ignored: 0 });
    }

    #[test]
    fn a_run_without_tests_is_no_success() {
        let mut tally = Tally::default();
        let none = "echo 'test result: ok. 0 passed; 0 failed; 0 ignored'";
        assert!(run_counted(&mut shell(none), &mut tally).is_err());
    }

    #[test]
    fn binaries_are_summed() {
        let mut tally = Tally::default();
        let two = "for n in 2 3; do echo \"test result: ok. $n passed; 0 failed; 1 ignored\"; done";
        assert_eq!(run_counted(&mut shell(two), &mut tally), Ok(()));
        assert_eq!(tally, Tally { passed: 5, failed: 0, ignored: 2 });
    }
}
