//! `sim`: the whole product in one thread, from one seed.

use crate::shell::{self, Done, cargo, seed_or_fresh};

/// Run the simulator: histories with crashes at every append and around every effect, judged by the invariants.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The first seed; a fresh one is made and printed without it. A failing one replays exactly.
    #[arg(long)]
    seed: Option<u64>,
    /// How long, such as `30s` or `5m`.
    #[arg(long = "for", default_value = "30s", value_parser = duration)]
    time: String,
}

pub(crate) fn run(arguments: &Arguments) -> Done {
    simulate(seed_or_fresh(arguments.seed), &arguments.time)
}

/// Runs the simulator of the test kit.
pub(crate) fn simulate(seed: u64, time: &str) -> Done {
    let seed = seed.to_string();
    let package = ["run", "--quiet", "--locked", "--release", "--package", "dalsegno-testkit", "--example", "sim"];
    shell::run(cargo(&package).args(["--", "--seed", &seed, "--for", time]))
        .map_err(|problem| format!("{problem}; the failing seed is printed above"))
}

fn duration(text: &str) -> Result<String, String> {
    let number = text.strip_suffix("ms").or_else(|| text.strip_suffix(['s', 'm']));
    match number.map(str::parse::<u64>) {
        Some(Ok(number)) if number > 0 => Ok(text.to_owned()),
        Some(_) | None => Err("expected a number with ms, s or m, such as 30s".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_number_and_a_unit() {
        for good in ["30s", "500ms", "5m"] {
            assert_eq!(duration(good).as_deref(), Ok(good));
        }
        for bad in ["", "s", "30", "0s", "-1s", "3h", "1.5s"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }
}
