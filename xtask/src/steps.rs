//! A row of steps: each announced and timed, all of them run, a table at the end.

use std::time::{Duration, Instant};

use crate::shell::{Done, say};

/// Steps that were taken.
#[derive(Default)]
pub(crate) struct Steps {
    taken: Vec<Step>,
}

struct Step {
    name: String,
    took: Duration,
    ended: Ended,
}

enum Ended {
    Ok,
    Failed(String),
    Skipped(String),
}

impl Steps {
    /// Takes one step; a failure is kept, and the next step is taken all the same.
    pub(crate) fn take(&mut self, name: &str, work: impl FnOnce() -> Done) {
        say(format_args!("\n== {name}"));
        let began = Instant::now();
        let done = work();
        let took = began.elapsed();
        let ended = match done {
            Ok(()) => {
                say(format_args!("== {name}: ok in {}", seconds(took)));
                Ended::Ok
            }
            Err(problem) => {
                say(format_args!("== {name}: FAILED after {}: {problem}", seconds(took)));
                Ended::Failed(problem)
            }
        };
        self.taken.push(Step { name: name.to_owned(), took, ended });
    }

    /// Leaves a step out, loudly.
    pub(crate) fn skip(&mut self, name: &str, why: &str) {
        say(format_args!("\n!! SKIPPED {name}: {why}"));
        let ended = Ended::Skipped(why.to_owned());
        self.taken.push(Step { name: name.to_owned(), took: Duration::ZERO, ended });
    }

    /// Whether the latest step ended well.
    pub(crate) fn last_ok(&self) -> bool {
        self.taken.last().is_some_and(|step| matches!(step.ended, Ended::Ok))
    }

    /// Prints what each step took and how it ended.
    pub(crate) fn print_table(&self) {
        let width = self.taken.iter().map(|step| step.name.len()).max().unwrap_or(0);
        say("");
        for step in &self.taken {
            let ended = match &step.ended {
                Ended::Ok => "ok".to_owned(),
                Ended::Failed(problem) => format!("FAILED: {}", problem.lines().next().unwrap_or_default()),
                Ended::Skipped(why) => format!("SKIPPED: {why}"),
            };
            say(format_args!("{:width$}  {:>9}  {ended}", step.name, seconds(step.took)));
        }
        let whole = self.taken.iter().map(|step| step.took).sum();
        say(format_args!("{:width$}  {:>9}", "together", seconds(whole)));
    }

    /// An error that names the steps that failed.
    pub(crate) fn verdict(&self) -> Done {
        let failed: Vec<&str> = self
            .taken
            .iter()
            .filter(|step| matches!(step.ended, Ended::Failed(_)))
            .map(|step| step.name.as_str())
            .collect();
        if failed.is_empty() { Ok(()) } else { Err(format!("failed: {}", failed.join(", "))) }
    }
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_step_stops_none_of_the_others_and_fails_the_whole() {
        let mut steps = Steps::default();
        let mut reached = false;
        steps.take("first", || Err("broken".to_owned()));
        steps.take("second", || {
            reached = true;
            Ok(())
        });
        steps.skip("third", "not here");
        assert!(reached);
        assert_eq!(steps.verdict(), Err("failed: first".to_owned()));
    }

    #[test]
    fn a_skipped_step_is_no_failure() {
        let mut steps = Steps::default();
        steps.take("first", || Ok(()));
        steps.skip("second", "not here");
        assert_eq!(steps.verdict(), Ok(()));
    }
}
