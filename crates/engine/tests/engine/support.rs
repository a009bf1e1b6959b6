//! A daemon's life over a stage.

use std::time::Duration;

use dalsegno_engine::core::{Event, IssueStatus, Recorded, StepState};
use dalsegno_engine::{Driver, DriverEnd, DriverError, DriverHandle, DriverOptions};
use dalsegno_testkit::doubles::Stage;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Longest wait for what lets orderly ends happen.
pub(crate) const DRAIN: Duration = Duration::from_secs(10);

/// A driver that runs.
pub(crate) struct Life {
    pub(crate) handle: DriverHandle,
    pub(crate) stop: CancellationToken,
    pub(crate) stop_now: CancellationToken,
    running: JoinHandle<Result<DriverEnd, DriverError>>,
}

/// Starts a driver on what the journal holds.
pub(crate) fn start(stage: &Stage, once: bool) -> Life {
    let options = DriverOptions { once, drain_limit: DRAIN, version: "test".to_owned(), pid: 1 };
    let (driver, handle) = Driver::new(stage.journal.load(), stage.journal.clone(), stage.world(), options).unwrap();
    let (stop, stop_now) = (CancellationToken::new(), CancellationToken::new());
    let running = tokio::spawn(driver.run(stop.clone(), stop_now.clone()));
    Life { handle, stop, stop_now, running }
}

impl Life {
    /// How it ends, by itself.
    pub(crate) async fn end(self) -> Result<DriverEnd, DriverError> {
        within(self.running).await.unwrap()
    }

    /// Asks it to end.
    pub(crate) async fn stop(self) -> Result<DriverEnd, DriverError> {
        self.stop.cancel();
        self.end().await
    }

    /// Ends it as a crash does.
    pub(crate) async fn drop_it(self) {
        self.running.abort();
        assert!(self.running.await.unwrap_err().is_cancelled());
    }
}

/// The answer, or a failing test instead of one that hangs.
pub(crate) async fn within<T>(wait: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(3 * 3_600), wait).await.expect("it never happened")
}

/// Waits for the first event that is as `wanted` says.
pub(crate) async fn event(stage: &Stage, wanted: impl Fn(&Event) -> bool) {
    within(stage.journal.count(1, |recorded: &Recorded| wanted(&recorded.event))).await;
}

pub(crate) fn is_status(event: &Event, name: &str, status: IssueStatus) -> bool {
    matches!(event, Event::IssueStatus { issue, to, .. } if issue.as_str() == name && *to == status)
}

/// Waits until the issue gets this status.
pub(crate) async fn status(stage: &Stage, name: &str, status: IssueStatus) {
    event(stage, |event| is_status(event, name, status)).await;
}

/// Whether the issue ever got this status.
pub(crate) fn had_status(stage: &Stage, name: &str, status: IssueStatus) -> bool {
    stage.journal.events().iter().any(|recorded| is_status(&recorded.event, name, status))
}

/// Waits until the double was called about this.
pub(crate) async fn called(stage: &Stage, what: &str, about: &str) {
    within(async {
        while stage.record.count_of(what, about) == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

/// Lets this much time pass.
pub(crate) async fn pass(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

/// Steps of the issue's handoffs that were in doubt, in order.
pub(crate) fn step_doubts(stage: &Stage) -> Vec<&'static str> {
    let doubt = |recorded: Recorded| match recorded.event {
        Event::SagaStep { step, state: StepState::InDoubt { .. }, .. } => Some(step.as_str()),
        _ => None,
    };
    stage.journal.events().into_iter().filter_map(doubt).collect()
}

/// Reasons of the issue's doubts.
pub(crate) fn doubts(stage: &Stage, name: &str) -> Vec<String> {
    let doubt = |recorded: Recorded| match recorded.event {
        Event::EffectInDoubt { issue, reason, .. } if issue.as_str() == name => Some(reason),
        _ => None,
    };
    stage.journal.events().into_iter().filter_map(doubt).collect()
}
