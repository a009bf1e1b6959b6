//! Many histories in a box of time, and what a failing one needs to fail.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::{Coverage, Knobs, Mutation, Violation, run};

/// The first failing history, and the counters of all.
#[derive(Debug, Clone, Default)]
pub struct Found {
    /// Sums over all histories.
    pub coverage: Coverage,
    /// Seeds that failed, lowest first.
    pub failures: Vec<(u64, Violation)>,
    /// How long it took.
    pub took: Duration,
}

/// Runs histories from `seed` on: `count` of them, or as many as fit in `limit`; ends after `failures` that failed.
#[must_use]
pub fn walk(
    seed: u64,
    count: u64,
    limit: Duration,
    threads: usize,
    failures: usize,
    mutation: Option<Mutation>,
) -> Found {
    let begin = Instant::now();
    let next = AtomicU64::new(0);
    let enough = AtomicBool::new(false);
    let found: Mutex<Found> = Mutex::new(Found::default());
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| {
                let mut coverage = Coverage::default();
                while !enough.load(Ordering::Relaxed) && begin.elapsed() < limit {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count {
                        break;
                    }
                    let history = run(seed.wrapping_add(number), Knobs::default(), mutation, false);
                    coverage.add(&history.coverage);
                    if let Some(violation) = history.violation {
                        let mut found = found.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                        found.failures.push((history.seed, violation));
                        if found.failures.len() >= failures {
                            enough.store(true, Ordering::Relaxed);
                        }
                    }
                }
                found.lock().unwrap_or_else(std::sync::PoisonError::into_inner).coverage.add(&coverage);
            });
        }
    });
    let mut found = found.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    found.failures.sort_by_key(|(seed, _)| *seed);
    found.took = begin.elapsed();
    found
}

/// The fewest kinds of unkindness under which the seed still breaks the same rule.
#[must_use]
pub fn shrink(seed: u64, rule: &str, mutation: Option<Mutation>) -> Knobs {
    let mut knobs = Knobs::default();
    let without: [fn(&mut Knobs); 8] = [
        |knobs| knobs.restore = false,
        |knobs| knobs.disk = false,
        |knobs| knobs.clock = false,
        |knobs| knobs.zombies = false,
        |knobs| knobs.human = false,
        |knobs| knobs.slow = false,
        |knobs| knobs.faults = false,
        |knobs| knobs.crashes = false,
    ];
    for off in without {
        let mut fewer = knobs;
        off(&mut fewer);
        if run(seed, fewer, mutation, false).violation.is_some_and(|violation| violation.rule == rule) {
            knobs = fewer;
        }
    }
    knobs
}
