//! Batches and stores for the tests.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use dalsegno_core::{
    Batch, Event, Issue, IssueId, IssueStatus, IssueView, Phase, PolicyHash, Recorded, RunId, RunOutcome, RunView,
    SNAPSHOT_FORMAT, Snapshot, State, Timestamp, Usage, View,
};
use dalsegno_engine::Journal as _;
use dalsegno_store::{OpenOptions, Opened, Store};

pub(crate) fn open(dir: &Path) -> Opened {
    Store::open(dir, OpenOptions::default()).unwrap()
}

/// An event without any rule about what comes before it.
pub(crate) fn plain(seq: u64) -> Recorded {
    let event = Event::DaemonStopped { reason: format!("number {seq}") };
    Recorded { seq, at: Timestamp(seq as i64), event }
}

pub(crate) fn batch(epoch: u64, events: Vec<Recorded>) -> Batch {
    Batch { epoch, events, views: Vec::new(), snapshot: None }
}

/// Plain events from `first` to `last` in one batch.
pub(crate) fn plain_batch(epoch: u64, first: u64, last: u64) -> Batch {
    batch(epoch, (first..=last).map(plain).collect())
}

/// The state after plain events up to `seq`.
pub(crate) fn plain_snapshot(seq: u64) -> Box<Snapshot> {
    let state = State { seq, at: Timestamp(seq as i64), ..State::default() };
    Box::new(Snapshot { format: SNAPSHOT_FORMAT, state })
}

/// Appends a batch, and waits for its snapshot to be kept: that is made beside the writer, and one that comes meanwhile is left out.
pub(crate) async fn append(opened: &Opened, batch: Batch) {
    let seq = batch.snapshot.as_ref().map(|snapshot| snapshot.state.seq);
    opened.journal.append(batch, Vec::new()).await.unwrap();
    let Some(seq) = seq else { return };
    let kept = async {
        while opened.store.load().unwrap().snapshot.is_none_or(|snapshot| snapshot.state.seq != seq) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), kept).await.expect("the snapshot is kept");
}

pub(crate) fn numbers(events: &[Recorded]) -> Vec<u64> {
    events.iter().map(|recorded| recorded.seq).collect()
}

pub(crate) fn recorded(seq: u64, event: Event) -> Recorded {
    Recorded { seq, at: Timestamp(1_000 + seq as i64), event }
}

pub(crate) fn issue(id: &str, identifier: &str) -> Issue {
    Issue {
        description: Some("Words, “quoted”, and a\nnew line.".to_owned()),
        priority: Some(2),
        labels: vec!["backend".to_owned()],
        created_at: Some(Timestamp(5)),
        ..Issue::new(id, identifier, format!("The title of {identifier}"), "Todo")
    }
}

pub(crate) fn seen(seq: u64, id: &str, identifier: &str) -> Recorded {
    recorded(seq, Event::IssueSeen { issue: Arc::new(issue(id, identifier)) })
}

pub(crate) fn run_started(seq: u64, run: &str, issue: &str) -> Recorded {
    let policy = PolicyHash::from("abc");
    recorded(seq, Event::RunStarted { run: RunId::from(run), issue: IssueId::from(issue), attempt: None, policy })
}

pub(crate) fn phase(seq: u64, run: &str) -> Recorded {
    recorded(seq, Event::RunPhase { run: RunId::from(run), phase: Phase::Launching })
}

pub(crate) fn issue_view(id: &str, identifier: &str, status: IssueStatus) -> View {
    View::Issue(Box::new(IssueView {
        issue: issue(id, identifier).into(),
        status,
        reason: None,
        attempt: None,
        due_at: None,
        workspace: None,
        current_run: None,
        handed_off: None,
        pull_request: None,
        question: None,
        allowed_actions: Vec::new(),
        usage: Usage::new(1, 2),
        seen_at: Timestamp(1),
        changed_at: Timestamp(2),
    }))
}

pub(crate) fn run_view(run: &str, issue: &str, started_at: i64, ended_at: Option<i64>) -> View {
    View::Run(Box::new(RunView {
        id: RunId::from(run),
        issue: IssueId::from(issue),
        identifier: issue.to_uppercase(),
        attempt: None,
        policy: PolicyHash::from("abc"),
        phase: if ended_at.is_some() { Phase::Ended } else { Phase::Preparing },
        outcome: ended_at.map(|_| RunOutcome::Completed),
        reason: None,
        evidence: None,
        session: None,
        turns: 1,
        cut_turns: 0,
        handoff: None,
        usage: Usage::default(),
        started_at: Timestamp(started_at),
        ended_at: ended_at.map(Timestamp),
    }))
}

/// Another connection to the database, for what only a test does to it.
pub(crate) fn raw(dir: &Path) -> rusqlite::Connection {
    rusqlite::Connection::open(dir.join("dalsegno.db")).unwrap()
}
