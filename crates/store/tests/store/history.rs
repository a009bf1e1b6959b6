//! Random histories with random restarts: what is loaded folds to the state that was live.

use std::sync::Arc;

use dalsegno_core::{Event, Failure, IssueId, IssueStatus, Recorded, SNAPSHOT_FORMAT, Snapshot, State, Timestamp};
use dalsegno_engine::{Journal, Loaded};
use proptest::prelude::*;

use crate::samples::policy;
use crate::support::{batch, issue, open, run_started};

/// What happens next, as far as the fold allows it.
#[derive(Debug, Clone)]
enum Step {
    Event(Kind, u8),
    /// The batch so far goes to the journal, with a snapshot or without.
    Append {
        snapshot: bool,
    },
    Reopen,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Started,
    Workflow,
    Health,
    Seen,
    Changed,
    Gone,
    Status,
    Run,
}

fn step() -> impl Strategy<Value = Step> {
    use Kind::{Changed, Gone, Health, Run, Seen, Started, Status, Workflow};
    let kinds = prop::sample::select(vec![Started, Workflow, Health, Seen, Seen, Changed, Gone, Status, Status, Run]);
    prop_oneof![
        12 => (kinds, 0..6_u8).prop_map(|(kind, number)| Step::Event(kind, number)),
        5 => any::<bool>().prop_map(|snapshot| Step::Append { snapshot }),
        1 => Just(Step::Reopen),
    ]
}

fn event(state: &State, kind: Kind, number: u8) -> Event {
    let id = IssueId(format!("i{number}"));
    match kind {
        Kind::Started => Event::DaemonStarted { epoch: state.epoch + 1, version: "v".to_owned(), pid: 1 },
        Kind::Workflow => Event::WorkflowLoaded { hash: "abc".into(), policy: Box::new(policy()) },
        Kind::Health => Event::TrackerHealth {
            failure: number.is_multiple_of(2).then(|| Failure::retryable("tracker_request", "x")),
        },
        Kind::Seen => Event::IssueSeen { issue: Arc::new(issue(&id.0, &format!("DS-{number}"))) },
        Kind::Changed => {
            let mut changed = issue(&id.0, &format!("DS-{number}"));
            changed.title = format!("changed by event {}", state.seq + 1);
            Event::IssueChanged { issue: Arc::new(changed) }
        }
        Kind::Gone => Event::IssueGone { issue: id },
        Kind::Status => {
            let from = state.issues.get(&id).map_or(IssueStatus::Idle, |entry| entry.status);
            let to = IssueStatus::ALL[(state.seq as usize + usize::from(number)) % IssueStatus::ALL.len()];
            Event::IssueStatus { issue: id, from, to, reason: Some("because".to_owned()), due_at: None }
        }
        Kind::Run => run_started(0, &format!("run-{}", state.run_count + 1), &id.0).event,
    }
}

fn fold(loaded: &Loaded) -> State {
    let mut state = loaded.snapshot.as_ref().map_or_else(State::default, |snapshot| snapshot.state.clone());
    for recorded in &loaded.events {
        state.apply(recorded).unwrap();
    }
    state
}

async fn play(steps: Vec<Step>) {
    let dir = tempfile::tempdir().unwrap();
    let mut opened = open(dir.path());
    let mut live = State::default();
    let mut durable = State::default();
    let mut events: Vec<Recorded> = Vec::new();
    for step in steps.into_iter().chain([Step::Append { snapshot: false }, Step::Reopen]) {
        match step {
            Step::Event(kind, number) => {
                let event = event(&live, kind, number);
                let recorded = Recorded { seq: live.seq + 1, at: Timestamp(live.at.0 + i64::from(number)), event };
                let mut next = live.clone();
                if next.apply(&recorded).is_ok() {
                    live = next;
                    events.push(recorded);
                }
            }
            Step::Append { snapshot } => {
                let mut next = batch(live.epoch, std::mem::take(&mut events));
                next.snapshot = snapshot.then(|| Box::new(Snapshot { format: SNAPSHOT_FORMAT, state: live.clone() }));
                opened.journal.append(next, Vec::new()).await.unwrap();
                durable = live.clone();
            }
            Step::Reopen => {
                drop((opened.store, opened.journal));
                // What was not appended is lost with the daemon, and with nothing else.
                events.clear();
                live = durable.clone();
                opened = open(dir.path());
                assert_eq!(fold(&opened.loaded), durable);
                assert_eq!(opened.loaded.epoch, durable.epoch);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn what_is_loaded_folds_to_what_was_live(steps in prop::collection::vec(step(), 1..80)) {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(play(steps));
    }
}
