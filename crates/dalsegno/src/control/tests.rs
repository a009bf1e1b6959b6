#![allow(clippy::unwrap_used, reason = "tests")]

use std::time::Duration;

use dalsegno_core::IssueStatus;
use dalsegno_engine::{AppendError, Driver, DriverEnd, DriverError, DriverOptions};
use dalsegno_testkit::doubles::{Act, MemoryJournal, NoWebhooks, Stage as Doubles, issue};
use tokio::task::JoinHandle;

use super::*;

const PATIENCE: Duration = Duration::from_secs(30);

/// A daemon's loop over a stage, as the gateway reaches it.
struct Life {
    control: DriverControl,
    stop: CancellationToken,
    stop_now: CancellationToken,
    running: Option<JoinHandle<Result<DriverEnd, DriverError>>>,
    driver: Option<Driver>,
}

impl Life {
    /// Replayed, and not running yet.
    fn new(stage: &Doubles) -> Self {
        let options =
            DriverOptions { once: false, drain_limit: PATIENCE, version: "test".to_owned(), pid: std::process::id() };
        let journal = stage.journal.clone();
        let (driver, handle) = Driver::new(stage.journal.load(), journal, stage.world(), options).unwrap();
        let (stop, stop_now) = (CancellationToken::new(), CancellationToken::new());
        let control = DriverControl::new(handle, stage.workspaces.clone(), Arc::new(NoWebhooks), stop.clone());
        Self { control, stop, stop_now, running: None, driver: Some(driver) }
    }

    fn start(mut self) -> Self {
        let driver = self.driver.take().unwrap();
        self.running = Some(tokio::spawn(driver.run(self.stop.clone(), self.stop_now.clone())));
        self
    }

    async fn end(&mut self) -> Result<DriverEnd, DriverError> {
        tokio::time::timeout(PATIENCE, self.running.take().unwrap()).await.unwrap().unwrap()
    }

    /// As a crash ends it.
    async fn kill(&mut self) {
        let running = self.running.take().unwrap();
        running.abort();
        assert!(running.await.is_err());
    }
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    let wait = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, wait).await.is_ok(), "waited in vain for {what}");
}

fn swept(stage: &Doubles) -> usize {
    stage.record.count_of("processes.sweep", "journal/run-1")
}

#[tokio::test(start_paused = true)]
async fn a_daemon_is_ready_when_it_took_over_and_swept_and_not_by_the_events_of_an_earlier_one() {
    let stage = Doubles::default();
    stage.tracker().put(issue("A"));
    stage.agents.turns.next_of("A", Act::Hang);
    let fresh = Life::new(&stage);
    assert!(!fresh.control.ready(), "nothing is recorded yet");
    let mut first = fresh.start();
    until("the first life", || first.control.ready()).await;
    until("a turn", || stage.record.count_of("prompt", "A") > 0).await;
    first.kill().await;
    assert!(!first.control.ready(), "its loop is gone");

    let next = Life::new(&stage);
    assert!(*next.control.head().borrow() > 0, "the journal is not empty");
    assert!(!next.control.ready(), "the events are an earlier daemon's");
    let before = swept(&stage);
    stage.processes.sweep.next_of("journal/run-1", Act::Late(Duration::from_secs(5), 0));
    let next = next.start();
    until("the sweep", || swept(&stage) > before).await;
    assert!(!next.control.ready(), "what the last one left running is not ended yet");
    until("recovery", || next.control.ready()).await;
    next.stop.cancel();
    assert!(!next.control.ready(), "it takes no new work");
}

#[tokio::test(start_paused = true)]
async fn after_a_failed_append_a_daemon_is_not_ready_and_its_questions_are_refused() {
    let stage = Doubles::default();
    stage.tracker().put(issue("A"));
    let mut life = Life::new(&stage).start();
    until("an issue", || stage.journal.kinds().contains(&"saga_ended")).await;
    assert!(life.control.ready());
    assert_eq!(life.control.explain("A").await.unwrap().unwrap().status, IssueStatus::HandedOff);
    assert_eq!(life.control.explain("nobody").await, Ok(None), "unknown is no failure while the loop lives");
    let wanted = dalsegno_engine::ChangeWanted { run: "run-1".into(), workspace: None, base: None, commit: None };
    let forgotten = PolicyHash::from("forgotten");
    let change = life.control.change(&forgotten, wanted.clone()).await;
    assert!(change.is_ok_and(|change| change.head.is_some()), "under the policy in force, when its own is gone");
    let counts = std::collections::BTreeMap::from([("token_required".to_owned(), 3)]);
    life.control.writes_refused(counts.clone()).await.unwrap();
    until("the refused writes", || stage.journal.kinds().contains(&"writes_refused")).await;
    stage.journal.fail_next(AppendError::Storage("disk_full".to_owned()));
    stage.tracker().put(issue("B"));
    life.control.refresh().await.unwrap();
    until("the failure", || !life.control.ready()).await;
    assert!(life.end().await.is_err());
    assert!(!life.control.ready());
    for key in ["A", "nobody"] {
        assert_eq!(life.control.explain(key).await.unwrap_err().code, code::ENGINE_UNAVAILABLE, "{key}");
    }
    assert_eq!(life.control.budgets().await.unwrap_err().code, code::ENGINE_UNAVAILABLE);
    assert_eq!(life.control.change(&forgotten, wanted).await.unwrap_err().code, code::ENGINE_UNAVAILABLE);
    assert_eq!(life.control.writes_refused(counts).await.unwrap_err().code, code::ENGINE_UNAVAILABLE);
}

#[tokio::test(start_paused = true)]
async fn an_append_that_is_cut_off_or_panics_leaves_nothing_ready() {
    for hurt in [MemoryJournal::panic_next, MemoryJournal::hang_next] {
        let stage = Doubles::default();
        let life = Life::new(&stage).start();
        until("the takeover", || life.control.ready()).await;
        hurt(&stage.journal);
        stage.tracker().put(issue("A"));
        life.control.refresh().await.unwrap();
        life.stop_now.cancel();
        until("the end", || !life.control.ready()).await;
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_hears_how_an_action_ended_before_that_is_durable() {
    let stage = Doubles::default();
    let life = Life::new(&stage).start();
    until("the takeover", || life.control.ready()).await;
    let request = |key: &str| ActionRequest {
        kind: "drain".to_owned(),
        target_kind: "daemon".to_owned(),
        target_id: String::new(),
        correlation_id: None,
        by: None,
        idempotency_key: Some(key.to_owned()),
        reject_duplicate: false,
        content: key.to_owned(),
        payload: serde_json::json!({}),
    };
    let ActionAnswer::Decided(first) = life.control.act(request("k-1")).await.unwrap() else { panic!("it is decided") };
    assert!(life.control.receipt(&first.action_id).await.unwrap().is_some(), "it is durable, and told");
    // The next batch never comes to disk.
    stage.journal.hang_next();
    let second = tokio::spawn(life.control.act(request("k-2")));
    until("the batch is out", || stage.journal.took_next()).await;
    let next = format!("act-{}", first.action_id.trim_start_matches("act-").parse::<u64>().unwrap() + 1);
    let told = tokio::time::timeout(Duration::from_secs(5), life.control.receipt(&next)).await;
    assert!(told.is_err(), "it is told although it is not durable: {told:?}");
    second.abort();
}
