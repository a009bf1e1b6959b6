//! Runs simulated histories: `sim --seed N` tells one, `sim --seed N --for 30s` walks from there on.
#![allow(clippy::print_stdout, reason = "a program for the terminal")]

use std::process::ExitCode;
use std::time::Duration;

use dalsegno_testkit::sim::{Coverage, Found, Knobs, Mutation, Violation, run, shrink, walk};

/// A history is some ten thousand small allocations, and the system's allocator took half of its time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

struct Arguments {
    seed: u64,
    limit: Option<Duration>,
    count: Option<u64>,
    threads: usize,
    failures: usize,
    mutants: bool,
    lines: usize,
}

fn arguments() -> Option<Arguments> {
    let mut read =
        Arguments { seed: 1, limit: None, count: None, threads: 2, failures: 1, mutants: false, lines: usize::MAX };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--seed" => read.seed = words.next()?.parse().ok()?,
            "--for" => {
                let text = words.next()?;
                read.limit = Some(Duration::from_secs(text.trim_end_matches('s').parse().ok()?));
            }
            "--count" => read.count = Some(words.next()?.parse().ok()?),
            "--threads" => read.threads = words.next()?.parse().ok()?,
            "--failures" => read.failures = words.next()?.parse().ok()?,
            "--lines" => read.lines = words.next()?.parse().ok()?,
            "--mutants" => read.mutants = true,
            _ => return None,
        }
    }
    Some(read)
}

fn main() -> ExitCode {
    let Some(arguments) = arguments() else {
        println!("sim [--seed N] [--for 30s | --count N] [--threads 2] [--failures 1] [--lines N] [--mutants]");
        return ExitCode::from(2);
    };
    std::panic::set_hook(Box::new(|_| {}));
    if arguments.mutants {
        return mutants(&arguments);
    }
    if arguments.limit.is_none() && arguments.count.is_none() {
        return tell(arguments.seed, arguments.lines);
    }
    let limit = arguments.limit.unwrap_or(Duration::from_secs(3_600));
    let count = arguments.count.unwrap_or(u64::MAX);
    let found = walk(arguments.seed, count, limit, arguments.threads, arguments.failures, None);
    summary(&found);
    let mut rules: Vec<&str> = found.failures.iter().map(|(_, violation)| violation.rule).collect();
    rules.sort_unstable();
    rules.dedup();
    for rule in rules {
        let seeds: Vec<&(u64, Violation)> =
            found.failures.iter().filter(|(_, violation)| violation.rule == rule).collect();
        println!("{rule}: {} histories", seeds.len());
        for (seed, violation) in seeds.into_iter().take(5) {
            let needs = shrink(*seed, violation.rule, None).needs();
            println!("  seed {seed}: {}\n    needs {needs}", violation.detail);
        }
    }
    if found.failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn tell(seed: u64, lines: usize) -> ExitCode {
    let first = run(seed, Knobs::default(), None, false);
    let knobs = first.violation.as_ref().map_or_else(Knobs::default, |broken| shrink(seed, broken.rule, None));
    let history = run(seed, knobs, None, true);
    let skip = history.trace.len().saturating_sub(lines);
    for line in history.trace.iter().skip(skip) {
        println!("{line}");
    }
    match history.violation {
        Some(violation) => {
            println!("seed {seed} breaks {}: {}\n    needs {}", violation.rule, violation.detail, knobs.needs());
            ExitCode::FAILURE
        }
        None => {
            println!("seed {seed}: {} steps, {} crashes, all well", history.coverage.steps, history.coverage.crashes);
            ExitCode::SUCCESS
        }
    }
}

fn mutants(arguments: &Arguments) -> ExitCode {
    let mut all = true;
    for mutation in Mutation::ALL {
        let found = walk(arguments.seed, 5_000, Duration::from_secs(60), 1, 1, Some(mutation));
        match found.failures.first() {
            Some((seed, violation)) => {
                println!("{mutation:?}: caught by seed {seed} ({}: {})", violation.rule, violation.detail);
            }
            None => {
                all = false;
                println!("{mutation:?}: NOT CAUGHT in {} histories", found.coverage.histories);
            }
        }
    }
    if all { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn summary(found: &Found) {
    let Coverage { histories, steps, events, crashes, .. } = found.coverage;
    let seconds = found.took.as_secs_f64();
    #[allow(clippy::cast_precision_loss, reason = "a rate for people")]
    let rate = histories as f64 / seconds;
    println!("{histories} histories in {seconds:.1} s: {rate:.0}/s, {steps} steps, {events} events, {crashes} crashes");
    let c = &found.coverage;
    println!(
        "batches lost {}, torn {}, unacknowledged {}; snapshots {}; zombies {} with {} refused appends; clock jumps {} and {} back; agents that died {}, prompts lost {}; edits {}; webhooks {}; failed queries {}",
        c.lost_batches,
        c.torn_batches,
        c.unacknowledged_batches,
        c.snapshots,
        c.zombies,
        c.refused_appends,
        c.clock_jumps,
        c.clock_set_back,
        c.deaths,
        c.lost_prompts,
        c.edits,
        c.named_webhooks + c.other_webhooks,
        c.failed_queries
    );
    println!(
        "backups restored {}, events lost {}; looks {}, of which found lost work {}",
        c.restores, c.events_lost, c.looks, c.lost_work
    );
    println!(
        "batches of kept files: {:?}; cut by a crash while {:?}; handoffs before a look at receipts of others {}",
        c.batches, c.cut_batches, c.unlooked_handoffs
    );
    println!("disks: {:?}; failed appends {}, failed starts {}", c.disk, c.failed_appends, c.failed_starts);
    println!(
        "{:<18} {:>10} {:>14} {:>13} {:>9} {:>9}",
        "effect", "performed", "crash before", "crash after", "in doubt", "failed"
    );
    for (kind, around) in &c.effects {
        println!(
            "{kind:<18} {:>10} {:>14} {:>13} {:>9} {:>9}",
            around.performed, around.crashed_before, around.crashed_after, around.doubted, around.failed
        );
    }
    println!("recovered in phase: {:?}", c.recovered);
    println!("operators: {:?}", c.actions);
    println!("issues at the end: {:?}", c.ends);
    println!("parked: {:?}", c.parked);
    for unmet in c.unmet() {
        println!("NOT COVERED: {unmet}");
    }
}
