//! `test`: the whole suite on this machine.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::crash::Walk;
use crate::metadata::Metadata;
use crate::shell::{Done, TempDir, cargo, root, run_within, say, seed_or_fresh, with_empty_home};
use crate::steps::Steps;
use crate::tally::{Tally, run_counted};
use crate::{parts, sim};

/// Crash points that `cargo test` walks; `cargo xtask crash --all` walks every one.
const CRASH_SAMPLE: u32 = 14;
/// Random kills of `cargo test`; `cargo xtask kill` takes other numbers.
const KILL_ROUNDS: u32 = 14;
/// How long the simulator walks from a fresh seed on.
const SIM_SECONDS: u64 = 20;
/// The demo promises less than two minutes; a slow machine gets more before it is ended.
const DEMO_LIMIT: Duration = Duration::from_secs(300);
/// Packages whose tests cannot run without git.
const NEED_GIT: [&str; 2] = ["dalsegno", "dalsegno-adapters"];

/// Run everything: cargo test (with a sampled crash walk and random kills), the demo, the demo under SIGKILL, the
/// simulator. All in the dev profile, so that nothing is compiled twice.
#[derive(clap::Args, Default)]
pub(crate) struct Arguments {
    /// Seed of the crash walk's choice, the random kills and the simulator; a fresh one is made and printed without it.
    #[arg(long)]
    seed: Option<u64>,
}

fn suite(arguments: &Arguments) -> (Steps, Tally) {
    let mut steps = Steps::default();
    let mut tally = Tally::default();
    let seed = seed_or_fresh(arguments.seed);

    let mut missing_git = None;
    let mut found = Vec::new();
    steps.take("real parts", || {
        missing_git = parts::git()?;
        found = parts::find_or_install()?;
        let missing: Vec<&str> = found.iter().filter(|part| part.program.is_err()).map(|part| part.name).collect();
        // On somebody's own machine their tests skip, each with a line of its own.
        if missing.is_empty() || std::env::var_os("CI").is_none() {
            Ok(())
        } else {
            Err(format!("missing: {}", missing.join(", ")))
        }
    });
    if !steps.last_ok() {
        tally.count(false);
    }

    let mut test = cargo(&["test", "--workspace", "--locked", "--no-fail-fast"]);
    test.env("DALSEGNO_CRASH_WALK", Walk::Sample { points: CRASH_SAMPLE, seed }.variable());
    test.env("DALSEGNO_KILL", format!("{KILL_ROUNDS}:{seed}"));
    for part in &found {
        if let Ok(program) = &part.program {
            test.env(part.variable, program);
        }
    }
    // The product looks for its sandbox on PATH alone. What is there already goes first.
    let beside = found.iter().filter_map(|part| part.program.as_ref().ok()?.parent());
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path: Vec<PathBuf> = std::env::split_paths(&path).chain(beside.map(PathBuf::from)).collect();
    match std::env::join_paths(path) {
        Ok(path) => {
            test.env("PATH", path);
        }
        Err(error) => say(format_args!("the real parts are not put on PATH: {error}")),
    }
    if missing_git.is_some() {
        for package in NEED_GIT {
            test.args(["--exclude", package]);
        }
    }
    steps.take("cargo test", || run_counted(&mut test, &mut tally));

    if let Some(why) = &missing_git {
        for name in ["tests of dalsegno and dalsegno-adapters", "demo", "demo --crash"] {
            steps.skip(name, why);
        }
    } else {
        for part in found.iter().filter(|part| part.program.is_err()) {
            steps.skip(&format!("tests with {}", part.name), "it is missing; `cargo xtask parts` says why");
        }
        for verb in [&["demo"][..], &["demo", "--crash"]] {
            steps.take(&verb.join(" "), || demo(verb));
            tally.count(steps.last_ok());
        }
    }

    steps.take("simulator", || {
        let mut simulator = Command::new(built("examples/sim")?);
        simulator.current_dir(root()).stdin(Stdio::null());
        sim::simulate(&mut simulator, seed, &sim::walk_for(SIM_SECONDS))
    });
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

/// Runs the demo of the binary that `cargo test` built, in a home of its own.
fn demo(verb: &[&str]) -> Done {
    let home = TempDir::new("home")?;
    let mut command = Command::new(built("dalsegno")?);
    command.args(verb).arg("--no-open").stdin(Stdio::null());
    with_empty_home(&mut command, home.path());
    run_within(&mut command, DEMO_LIMIT)
}

/// A program that `cargo test --workspace` left in the dev profile. It is run as it is: `cargo run --package …` would
/// choose other features for what the packages share, and compile all of that once more.
fn built(name: &str) -> Result<PathBuf, String> {
    let program = Metadata::load()?.target_directory.join("debug").join(name);
    if program.is_file() { Ok(program) } else { Err(format!("{} was not built", program.display())) }
}
