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
