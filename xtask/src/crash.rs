//! `crash`: the real binary, a host of durable effects, or sagas, killed at numbered points of a scripted run; or a disk that fails at them.

use crate::shell::{Done, cargo, say, seed_or_fresh};
use crate::tally::{Tally, run_counted};

/// Kill the daemon, a host of durable effects, or sagas, at each write and each effect boundary, one by one or sampled; or let its disk fail.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Walk every point.
    #[arg(long, conflicts_with = "sample")]
    all: bool,
    /// Walk this many points, chosen by the seed.
    #[arg(long, default_value_t = 20)]
    sample: u32,
    /// Seed of the choice, and of random sagas; a fresh one is made and printed without it.
    #[arg(long)]
    seed: Option<u64>,
    /// Kill a host of durable effects and waits, not the daemon.
    #[arg(long, conflicts_with = "sagas")]
    durable: bool,
    /// Walk sagas in memory: every single kill, and pairs of them (`--all`: every pair); and random sagas with random kills.
    #[arg(long)]
    sagas: bool,
    /// Let each system call by which the daemon changes its state directory fail, alone and with all after it, or kill the daemon before it; and
    /// the same for the log of a store without room. `--all` takes an hour.
    #[arg(long, conflicts_with_all = ["durable", "sagas"])]
    disk: bool,
}

/// Which points are walked.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Walk {
    /// Every one.
    All,
    /// So many, chosen by the seed.
    Sample { points: u32, seed: u64 },
}

impl Walk {
    /// What the crash harness reads from its environment.
    pub(crate) fn variable(&self) -> String {
        match self {
            Self::All => "all".to_owned(),
            Self::Sample { points, seed } => format!("sample:{points}:{seed}"),
        }
    }
}

/// Random sagas beside a sample of the walk, and beside all of it.
const PLANS: (u32, u32) = (2_000, 100_000);

pub(crate) fn run(arguments: &Arguments) -> Done {
    if arguments.all && arguments.seed.is_some() && !arguments.sagas {
        return Err("--all chooses nothing; give --seed with --sample, or with --sagas".to_owned());
    }
    let seed = seed_or_fresh(arguments.seed);
    let walk = if arguments.all { Walk::All } else { Walk::Sample { points: arguments.sample, seed } };
    let mut tally = Tally::default();
    let done = self::walk(&walk, seed, arguments, &mut tally);
    say(format_args!("{} passed, {} failed", tally.passed, tally.failed));
    done
}

/// Walks, and counts the tests.
fn walk(walk: &Walk, seed: u64, arguments: &Arguments, tally: &mut Tally) -> Done {
    let (mut command, whom) = match (arguments.durable, arguments.sagas) {
        _ if arguments.disk => (disk_test(), " --disk"),
        (true, _) => (durable_test(), " --durable"),
        (false, true) => (saga_test(if arguments.all { PLANS.1 } else { PLANS.0 }, seed), " --sagas"),
        (false, false) => (crash_test("crash::walk"), ""),
    };
    command.env("DALSEGNO_CRASH_WALK", walk.variable());
    run_counted(&mut command, tally).map_err(|problem| match walk {
        Walk::All if arguments.sagas => format!("{problem}; again with `cargo xtask crash{whom} --all --seed {seed}`"),
        Walk::All => problem,
        Walk::Sample { points, seed } => {
            format!("{problem}; again with `cargo xtask crash{whom} --sample {points} --seed {seed}`")
        }
    })
}

/// The walks of system calls that fail: of the daemon, and of its store alone.
fn disk_test() -> std::process::Command {
    let packages = ["--package", "dalsegno", "--test", "blackbox", "--package", "dalsegno-store", "--test", "store"];
    let mut test = cargo(&["test", "--locked", "--no-fail-fast"]);
    test.args(packages).args(["broken::walk", "--", "--nocapture"]);
    test
}

/// The walk of durable effects on SQLite.
fn durable_test() -> std::process::Command {
    let walk = "durable_kill::walk";
    cargo(&["test", "--locked", "--package", "dalsegno-store", "--test", "store", walk, "--", "--nocapture"])
}

/// The walk of sagas, with so many random ones. For release: nothing is killed but what the walk plays, and it plays much.
fn saga_test(plans: u32, seed: u64) -> std::process::Command {
    let walk = "saga::every";
    let mut test = cargo(&[
        "test",
        "--locked",
        "--release",
        "--package",
        "dalsegno-testkit",
        "--test",
        "testkit",
        walk,
        "--",
        "--nocapture",
    ]);
    test.env("DALSEGNO_SAGA_PLANS", format!("{plans}:{seed}"));
    test
}

/// The black-box tests of the binary whose names begin with `filter`. In the dev profile: a release build has no
/// crash points.
pub(crate) fn crash_test(filter: &str) -> std::process::Command {
    cargo(&["test", "--locked", "--package", "dalsegno", "--test", "blackbox", filter, "--", "--nocapture"])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_walk_is_spelled_as_the_harness_reads_it() {
        assert_eq!(Walk::All.variable(), "all");
        assert_eq!(Walk::Sample { points: 8, seed: 42 }.variable(), "sample:8:42");
    }
}
