//! The crash walk of sagas, and what it catches.

use std::io::Write as _;

use dalsegno_testkit::crash::Points;
use dalsegno_testkit::saga::{Bug, History, history, scenarios, walk};

/// Scenarios whose pairs of kills are walked when nobody asked for all.
const SAMPLE: u64 = 3;

#[test]
fn every_saga_survives_every_kill_and_every_pair_of_kills() {
    let scenarios = scenarios();
    let pairs_of: Box<dyn Fn(usize) -> bool> = match Points::from_environment(SAMPLE) {
        Points::All => Box::new(|_| true),
        Points::Sample { count, seed } => {
            let every = (scenarios.len() as u64 / count.max(1)).max(1);
            Box::new(move |at| (at as u64 + seed).is_multiple_of(every))
        }
    };
    let mut histories = 0;
    for (at, scenario) in scenarios.iter().enumerate() {
        match walk(scenario, None, pairs_of(at)) {
            Ok(played) => histories += played,
            Err(broken) => panic!("{broken}"),
        }
    }
    writeln!(std::io::stdout(), "crash walk of sagas: {histories} histories of {} scenarios", scenarios.len()).unwrap();
}

#[test]
fn every_planted_bug_is_caught() {
    let scenarios = scenarios();
    for bug in Bug::ALL {
        let caught = scenarios.iter().find_map(|scenario| walk(scenario, Some(bug), false).err());
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
