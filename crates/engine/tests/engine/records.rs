//! The machine's effects are records of the library of durable effects, with the same intents and outcomes.

use std::collections::BTreeMap;

use dalsegno_durable::{EffectKind, Outcome as Recorded, Progress};
use dalsegno_engine::DriverEnd;
use dalsegno_engine::core::{EffectId, Event, Outcome};
use dalsegno_testkit::doubles::{Act, Stage, issue};

use crate::support::start;

#[tokio::test(start_paused = true)]
async fn every_effect_of_the_journal_is_a_record_with_the_same_outcome() {
    let stage = Stage::default();
    stage.tracker().put(issue("A"));
    stage.workspaces.fetch.next_of("A", Act::Hang);
    stage.agents.start.next_of("A", Act::Panic);
    assert_eq!(start(&stage, true).end().await.unwrap(), DriverEnd::Quiet);
    let records = stage.journal.effects();
    let mut outcomes: BTreeMap<EffectId, Outcome> = BTreeMap::new();
    let mut doubts = 0;
    for recorded in stage.journal.events() {
        match recorded.event {
            Event::EffectEnded { effect_id, outcome, .. } => drop(outcomes.insert(effect_id, outcome)),
            Event::EffectInDoubt { .. } => doubts += 1,
            _ => {}
        }
    }
    assert!(!outcomes.is_empty());
    assert_eq!(records.len(), outcomes.len());
    for (id, outcome) in outcomes {
        let (_, record) = records.iter().find(|((_, key), _)| key.ends_with(&format!("@{id}"))).unwrap();
        let Progress::Ended { outcome: recorded, .. } = &record.state.progress else { panic!("{record:?}") };
        match (outcome, recorded) {
            (Outcome::Done { output }, Recorded::Done(value)) => {
                assert_eq!(serde_json::to_value(output).unwrap(), *value)
            }
            (Outcome::Failed { failure }, Recorded::Failed(error)) => assert_eq!(failure.code, error.code),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(records.values().map(|record| record.state.doubts).sum::<u32>(), doubts);
    assert!(doubts >= 2);
    let fetch = records.values().find(|record| record.replay_key.contains("fetch")).unwrap();
    assert_eq!((fetch.kind, fetch.state.attempt), (EffectKind::Direct, 2));
}

#[tokio::test(start_paused = true)]
async fn an_endless_issue_id_is_recorded_under_a_short_name() {
    let stage = Stage::default();
    let long = "A".repeat(5_000);
    stage.tracker().put(issue(&long));
    assert_eq!(start(&stage, true).end().await.unwrap(), DriverEnd::Quiet);
    let mut done = issue(&long);
    done.state = "Done".to_owned();
    stage.tracker().put(done);
    assert_eq!(start(&stage, true).end().await.unwrap(), DriverEnd::Quiet);
    let removed = stage.journal.effects().into_values().find(|record| record.replay_key.starts_with("issue/"));
    assert!(removed.is_some_and(|record| record.replay_key.len() <= dalsegno_durable::NAME_BYTES));
}
