//! `kill`: the real binary, killed at random times while work is in flight.

use crate::crash::crash_test;
use crate::shell::{Done, say, seed_or_fresh};
use crate::tally::{Tally, run_counted};

/// Kill the daemon at random moments while a scripted project runs, and look at what came of it.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// How often it is killed with work in flight.
    #[arg(long, default_value_t = 14)]
    rounds: u32,
    /// Seed of the moments; a fresh one is made and printed without it.
    #[arg(long)]
    seed: Option<u64>,
}

pub(crate) fn run(arguments: &Arguments) -> Done {
    let (rounds, seed) = (arguments.rounds, seed_or_fresh(arguments.seed));
    let mut command = crash_test("crash::kill");
    command.env("DALSEGNO_KILL", format!("{rounds}:{seed}"));
    let mut tally = Tally::default();
    let done = run_counted(&mut command, &mut tally);
    say(format_args!("{} passed, {} failed", tally.passed, tally.failed));
    done.map_err(|problem| format!("{problem}; again with `cargo xtask kill --rounds {rounds} --seed {seed}`"))
}
