//! Suspends and clocks that are set.

use dalsegno_engine::DriverEnd;
use dalsegno_engine::core::{Event, IssueStatus};
use dalsegno_testkit::doubles::{Act, Stage, issue};

use crate::support::{called, event, pass, start, status, within};

const HOUR_MS: u64 = 3_600_000;

fn is_ending(event: &Event) -> bool {
    matches!(event, Event::RunEnding { .. })
}

#[tokio::test(start_paused = true)]
async fn clocks_of_silence_start_over_after_a_suspend_and_after_a_jump() {
    let jumps: [fn(&Stage); 2] = [|stage| stage.clock.suspend(HOUR_MS), |stage| stage.clock.set_wall(3_600_000)];
    for jump in jumps {
        let stage = Stage::default();
        stage.tracker().put(issue("A"));
        stage.agents.turns.next(Act::Hang);
        let life = start(&stage, false);
        called(&stage, "prompt", "A").await;
        pass(100).await;
        jump(&stage);
        pass(290).await;
        assert!(
            !stage.journal.events().iter().any(|recorded| is_ending(&recorded.event)),
            "silence before it counts not"
        );
        event(&stage, is_ending).await;
        assert_eq!(life.stop().await.unwrap(), DriverEnd::Stopped);
    }
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_set_back_stops_no_timer() {
    let stage = Stage::default();
    let life = start(&stage, false);
    called(&stage, "tracker.fetch_issues_by_ids", "main").await;
    stage.clock.set_wall(-3_600_000);
    stage.tracker().put(issue("A"));
    let soon = tokio::time::timeout(std::time::Duration::from_secs(120), status(&stage, "A", IssueStatus::HandedOff));
    within(soon).await.expect("the tracker is read in its interval");
    assert_eq!(life.stop().await.unwrap(), DriverEnd::Stopped);
}

const DAY_MS: i64 = 24 * 3_600_000;
const YEAR_MS: i64 = 365 * DAY_MS;

/// Time from the first event to the last, in days.
fn span_days(stage: &Stage) -> i64 {
    let events = stage.journal.events();
    (events.last().unwrap().at.0 - events.first().unwrap().at.0) / DAY_MS
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_far_ahead_for_a_moment_is_not_believed() {
    let stage = Stage::default();
    let life = start(&stage, false);
    called(&stage, "tracker.fetch_issues_by_ids", "main").await;
    stage.clock.set_wall(20 * YEAR_MS);
    stage.tracker().put(issue("A"));
    life.handle.refresh().await;
    status(&stage, "A", IssueStatus::HandedOff).await;
    assert_eq!(span_days(&stage), 0);
    stage.clock.set_wall(-20 * YEAR_MS);
    pass(300).await;
    assert_eq!(life.stop().await.unwrap(), DriverEnd::Stopped);
    assert_eq!(span_days(&stage), 0);
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_stays_ahead_is_followed_and_means_no_silence() {
    let stage = Stage::default();
    stage.tracker().put(issue("A"));
    stage.agents.turns.next(Act::Hang);
    let life = start(&stage, false);
    called(&stage, "prompt", "A").await;
    pass(100).await;
    stage.clock.set_wall(30 * DAY_MS);
    pass(250).await;
    stage.tracker().put(issue("B"));
    status(&stage, "B", IssueStatus::HandedOff).await;
    assert_eq!(span_days(&stage), 30);
    assert!(!stage.journal.events().iter().any(
        |recorded| matches!(&recorded.event, Event::RunEnding { ending, .. } if ending.reason.starts_with("stalled"))
    ));
    life.stop_now.cancel();
    assert_eq!(life.end().await.unwrap(), DriverEnd::Stopped);
}

#[tokio::test(start_paused = true)]
async fn after_a_start_weeks_are_believed_at_once_and_years_when_they_stand() {
    let stage = Stage::default();
    assert_eq!(start(&stage, true).end().await.unwrap(), DriverEnd::Quiet);
    stage.clock.set_wall(30 * DAY_MS);
    assert_eq!(start(&stage, true).end().await.unwrap(), DriverEnd::Quiet);
    assert_eq!(span_days(&stage), 30);
    stage.clock.set_wall(20 * YEAR_MS);
    let life = start(&stage, false);
    stage.tracker().put(issue("A"));
    status(&stage, "A", IssueStatus::HandedOff).await;
    assert_eq!(span_days(&stage), 30);
    pass(90).await;
    assert_eq!(life.stop().await.unwrap(), DriverEnd::Stopped);
    assert_eq!(span_days(&stage), 30 + 20 * 365);
}
