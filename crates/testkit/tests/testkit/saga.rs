//! The crash walk of sagas, and what it catches.

mod random;

use std::io::Write as _;

use dalsegno_testkit::crash::Points;
use dalsegno_testkit::saga::{Bug, History, Pairs, history, scenarios, walk};

/// Scenarios of which some pairs of kills are walked when nobody asked for more.
const SAMPLE: u64 = 20;

#[test]
fn every_saga_survives_every_kill_and_every_pair_of_kills() {
    let scenarios = scenarios();
    let pairs_of = |at: u64| match Points::from_environment(SAMPLE) {
        Points::All => Pairs::All,
        Points::Sample { count, seed } => {
            let every = (scenarios.len() as u64 / count.max(1)).max(1);
            if (at + seed).is_multiple_of(every) { Pairs::Chosen(seed / every + at) } else { Pairs::None }
        }
    };
    let mut histories = 0;
    for (at, scenario) in (0..).zip(&scenarios) {
        match walk(scenario, None, pairs_of(at)) {
            Ok(played) => histories += played,
            Err(broken) => panic!("{broken}"),
        }
    }
    writeln!(std::io::stdout(), "crash walk of sagas: {histories} histories of {} scenarios", scenarios.len()).unwrap();
}

#[test]
fn every_random_saga_survives_random_kills() {
    let (plans, seed) = random::from_environment();
    let tally = random::play((plans, seed)).unwrap_or_else(|failed| panic!("{failed}"));
    writeln!(
        std::io::stdout(),
        "random sagas: {} histories of {plans} plans from seed {seed}, {} with kills: {} committed, {} compensated, {} \
         abandoned",
        tally.histories,
        tally.killed,
        tally.committed,
        tally.compensated,
        tally.abandoned,
    )
    .unwrap();
    let each = [tally.killed, tally.committed, tally.compensated, tally.abandoned];
    assert!(plans < 100 || each.into_iter().all(|some| some > 0), "{tally:?} leaves something out");
}

#[test]
fn every_planted_bug_is_caught() {
    let scenarios = scenarios();
    for bug in Bug::ALL {
        let caught = scenarios.iter().find_map(|scenario| walk(scenario, Some(bug), Pairs::None).err());
        let caught = caught.unwrap_or_else(|| panic!("{bug:?} is not caught"));
        writeln!(std::io::stdout(), "{bug:?}: {caught}").unwrap();
    }
}

#[test]
fn without_faults_it_commits() {
    for scenario in scenarios().iter().filter(|scenario| scenario.script.is_empty() && scenario.always.is_empty()) {
        let played = history(&History { scenario, kills: Vec::new(), bug: None });
        assert!(played.end.is_some(), "{}", scenario.name);
    }
}
