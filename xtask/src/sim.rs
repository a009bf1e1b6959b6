//! `sim`: the whole product in one thread, from one seed.

use std::process::Command;

use crate::shell::{self, Done, cargo, seed_or_fresh};

/// Run the simulator: histories with crashes at every append and around every effect, judged by the invariants.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The first seed; a fresh one is made and printed without it. A failing one replays exactly.
    #[arg(long)]
    seed: Option<u64>,
    /// How long it walks from there on, such as `30s` or `5m`.
    #[arg(long = "for", default_value = "30s", value_parser = seconds)]
    time: u64,
    /// Plant each known bug in turn, and see that it is caught.
    #[arg(long)]
    mutants: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Done {
    let seed = seed_or_fresh(arguments.seed);
    let task = if arguments.mutants { vec!["--mutants".to_owned()] } else { walk_for(arguments.time) };
    let package = ["run", "--quiet", "--locked", "--release", "--package", "dalsegno-testkit", "--example", "sim"];
    simulate(cargo(&package).arg("--"), seed, &task)
}

/// Walks from the seed on, for so many seconds.
pub(crate) fn walk_for(seconds: u64) -> Vec<String> {
    vec!["--for".to_owned(), format!("{seconds}s")]
}

/// Runs the simulator of the test kit, which `command` starts.
pub(crate) fn simulate(command: &mut Command, seed: u64, task: &[String]) -> Done {
    command.args(["--seed", &seed.to_string()]).args(task);
    shell::run(command).map_err(|problem| {
        format!("{problem}; the failing seed is printed above, and `cargo xtask sim --seed <it>` walks on from it")
    })
}

/// Whole seconds of `30s`, `5m` or a plain number.
pub(crate) fn seconds(text: &str) -> Result<u64, String> {
    let (number, unit) = match (text.strip_suffix('s'), text.strip_suffix('m')) {
        (Some(number), _) => (number, 1),
        (None, Some(number)) => (number, 60),
        (None, None) => (text, 1),
    };
    match number.parse::<u64>().ok().and_then(|number| number.checked_mul(unit)) {
        Some(seconds) if seconds > 0 => Ok(seconds),
        Some(_) | None => Err("expected a number with s or m, such as 30s".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_number_and_a_unit() {
        for (good, whole) in [("30s", 30), ("5m", 300), ("7", 7)] {
            assert_eq!(seconds(good), Ok(whole));
        }
        for bad in ["", "s", "0s", "-1s", "3h", "1.5s", "500ms"] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
    }
}
