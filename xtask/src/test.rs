//! `test`: the whole suite on this machine.

use std::time::Duration;

use crate::crash::{self, Walk};
use crate::shell::{self, Done, TempDir, cargo, run_within, say, seed_or_fresh, with_empty_home};
use crate::steps::Steps;
use crate::tally::{Tally, run_counted};
use crate::{parts, sim};

/// Crash points of the sampled walk; `cargo xtask crash --all` walks every one.
const CRASH_SAMPLE: u32 = 8;
/// How long the simulator runs.
const SIM_TIME: &str = "15s";
/// The demo promises less than two minutes; a slow machine gets more before it is ended.
const DEMO_LIMIT: Duration = Duration::from_secs(300);
/// Packages whose tests cannot run without git.
const NEED_GIT: [&str; 2] = ["dalsegno", "dalsegno-adapters"];

/// Run everything: cargo test, the demo, the demo under SIGKILL, a sampled crash walk, the simulator.
#[derive(clap::Args, Default)]
pub(crate) struct Arguments {
    /// Seed of the crash walk and the simulator; a fresh one is made and printed without it.
    #[arg(long)]
    seed: Option<u64>,
}

fn suite(arguments: &Arguments) -> (Steps, Tally) {
    let mut steps = Steps::default();
    let mut tally = Tally::default();
    let seed = seed_or_fresh(arguments.seed);

    let mut missing_git = None;
    steps.take("real parts", || {
        missing_git = parts::git()?;
        Ok(())
    });
    if !steps.last_ok() {
        tally.count(false);
    }

    let mut test = cargo(&["test", "--workspace", "--locked", "--no-fail-fast"]);
    if missing_git.is_some() {
        for package in NEED_GIT {
            test.args(["--exclude", package]);
        }
    }
    steps.take("cargo test", || run_counted(&mut test, &mut tally));

    if let Some(why) = &missing_git {
        for name in ["tests of dalsegno and dalsegno-adapters", "demo", "demo --crash", "crash walk"] {
            steps.skip(name, why);
        }
    } else {
        steps.take("build", || shell::run(&mut cargo(&["build", "--locked", "--package", "dalsegno"])));
        for verb in [&["demo"][..], &["demo", "--crash"]] {
            steps.take(&verb.join(" "), || demo(verb));
            tally.count(steps.last_ok());
        }
        let walk = Walk::Sample { points: CRASH_SAMPLE, seed };
        steps.take("crash walk", || crash::walk(&walk, &mut tally));
    }

    steps.take("simulator", || sim::simulate(seed, SIM_TIME));
    tally.count(steps.last_ok());
    (steps, tally)
}

pub(crate) fn run(arguments: &Arguments) -> Done {
    let (steps, tally) = suite(arguments);
    steps.print_table();
    if tally.ignored > 0 {
        say(format_args!("{} ignored", tally.ignored));
    }
    say(format_args!("{} passed, {} failed", tally.passed, tally.failed));
    steps.verdict()
}

fn demo(verb: &[&str]) -> Done {
    let home = TempDir::new("home")?;
    let mut command = cargo(&["run", "--quiet", "--locked", "--package", "dalsegno", "--"]);
    command.args(verb).arg("--no-open");
    with_empty_home(&mut command, home.path());
    run_within(&mut command, DEMO_LIMIT)
}
