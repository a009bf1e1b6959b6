//! The simulator over fixed seeds, and over planted bugs that it has to find.

use std::time::Duration;

use dalsegno_testkit::sim::{Knobs, Mutation, run, shrink, walk};

/// As many as take a few seconds without optimisation; `--example sim` walks further.
const HISTORIES: u64 = 7_000;
/// From here on so many are enough for a crash before and after everything.
const FIRST: u64 = 12_001;
/// No limit of time: the number of histories is fixed.
const NO_LIMIT: Duration = Duration::from_secs(3_600);

#[test]
fn fixed_seeds_break_no_rule_and_meet_every_phase_and_effect_with_a_crash() {
    let found = walk(FIRST, HISTORIES, NO_LIMIT, 2, 1, None);
    if let Some((seed, violation)) = found.failures.first() {
        panic!(
            "seed {seed} breaks {}: {}; it needs {}. Tell it: cargo run -p dalsegno-testkit --example sim -- --seed {seed}",
            violation.rule,
            violation.detail,
            shrink(*seed, violation.rule, None).needs()
        );
    }
    assert_eq!(found.coverage.histories, HISTORIES);
    assert_eq!(found.coverage.unmet(), Vec::<String>::new());
    assert!(found.coverage.refused_appends > 0, "no old daemon tried to write");
}

#[test]
fn every_planted_bug_is_caught() {
    for mutation in Mutation::ALL {
        let found = walk(1, 5_000, NO_LIMIT, 1, 1, Some(mutation));
        assert!(!found.failures.is_empty(), "{mutation:?} is not caught in {} histories", found.coverage.histories);
    }
}

#[test]
fn a_seed_gives_the_same_history_each_time() {
    for seed in 1..20 {
        let first = run(seed, Knobs::default(), None, true);
        let second = run(seed, Knobs::default(), None, true);
        assert!(first.trace.len() > 10);
        assert_eq!(first.trace, second.trace);
        assert_eq!(first.coverage, second.coverage);
    }
}
