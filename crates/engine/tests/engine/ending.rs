//! The end: asked for, at once, and by force.

use std::sync::atomic::Ordering;
use std::time::Duration;

use dalsegno_engine::DriverEnd;
use dalsegno_engine::core::{Event, Failure, IssueStatus};
use dalsegno_testkit::doubles::{Act, Stage, issue};
use tokio::time::Instant;

use crate::support::{DRAIN, called, had_status, start, status};

/// A stage with an agent in a turn that does not end.
async fn in_a_turn() -> (Stage, crate::support::Life) {
    let stage = Stage::default();
    stage.tracker().put(issue("A"));
    stage.agents.turns.next_of("A", Act::Hang);
    let life = start(&stage, false);
    called(&stage, "prompt", "A").await;
    (stage, life)
}

fn assert_left_to_recovery(stage: &Stage) {
    let events = stage.journal.events();
    let ended = |event: &Event| matches!(event, Event::TurnEnded { .. } | Event::RunEnding { .. });
    assert!(!events.iter().any(|recorded| ended(&recorded.event)), "{:?}", stage.journal.kinds());
    assert!(matches!(events.last().unwrap().event, Event::DaemonStopped { .. }));
    assert_eq!(stage.agents.alive(), 0);
    assert!(stage.record.count_of("processes.sweep", "journal/run-1") > 0);
}

#[tokio::test(start_paused = true)]
async fn short_effects_end_one_after_the_other_and_nothing_new_begins() {
    let stage = Stage::default();
    stage.tracker().put(issue("A"));
    stage.workspaces.check.next(Act::Late(Duration::from_secs(3), true));
    stage.journal.slow(Duration::from_millis(100));
    let life = start(&stage, false);
    called(&stage, "run_check", "A").await;
    stage.tracker().put(issue("B"));
    assert_eq!(life.stop().await.unwrap(), DriverEnd::Stopped);
    assert!(had_status(&stage, "A", IssueStatus::HandedOff), "{:?}", stage.journal.kinds());
    assert_eq!(stage.record.count_of("prepare_workspace", "B"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_turn_is_waited_for_within_the_limit_and_then_left_to_the_next_daemon() {
    let (stage, life) = in_a_turn().await;
    let asked = Instant::now();
    assert_eq!(life.stop().await.unwrap(), DriverEnd::Stopped);
    let took = asked.elapsed();
    assert!(took >= DRAIN && took < 2 * DRAIN, "{took:?} on the paused clock");
    assert_left_to_recovery(&stage);
    // The next daemon sweeps, finds the prompt in the session's history and goes on.
    assert_eq!(start(&stage, true).end().await.unwrap(), DriverEnd::Quiet);
    assert!(had_status(&stage, "A", IssueStatus::HandedOff));
    assert_eq!(stage.record.count_of("prompt", "A"), 2);
    assert!(!stage.journal.kinds().contains(&"parked"));
}

#[tokio::test(start_paused = true)]
async fn a_second_word_ends_at_once() {
    let (stage, life) = in_a_turn().await;
    stage.agents.deaf.store(true, Ordering::SeqCst);
    let asked = Instant::now();
    life.stop.cancel();
    tokio::task::yield_now().await;
    life.stop_now.cancel();
    assert_eq!(life.end().await.unwrap(), DriverEnd::Stopped);
    assert!(asked.elapsed() < DRAIN, "{:?} on the paused clock", asked.elapsed());
    assert_left_to_recovery(&stage);
}

#[tokio::test(start_paused = true)]
async fn an_agent_and_a_sweep_that_hang_do_not_keep_the_daemon() {
    let (stage, life) = in_a_turn().await;
    stage.agents.close.always(Act::Hang);
    stage.processes.sweep.always(Act::Hang);
    life.stop_now.cancel();
    assert_eq!(life.end().await.unwrap(), DriverEnd::Stopped);
    assert_eq!(stage.agents.alive(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_agent_whose_end_panics_does_not_keep_the_others() {
    let stage = Stage::default();
    for name in ["A", "B"] {
        stage.tracker().put(issue(name));
        stage.agents.turns.next_of(name, Act::Hang);
    }
    let life = start(&stage, false);
    called(&stage, "prompt", "A").await;
    called(&stage, "prompt", "B").await;
    stage.agents.close.next_of("A", Act::Panic);
    life.stop_now.cancel();
    assert_eq!(life.end().await.unwrap(), DriverEnd::Stopped);
    assert_eq!(stage.agents.alive(), 0);
    for run in ["journal/run-1", "journal/run-2"] {
        assert_eq!(stage.record.count_of("processes.sweep", run), 1, "{run}");
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_outlives_a_loop_that_is_dropped() {
    let stage = Stage::default();
    stage.tracker().put(issue("A"));
    stage.workspaces.check.next(Act::Hang);
    let life = start(&stage, false);
    called(&stage, "run_check", "A").await;
    assert_eq!(stage.agents.alive(), 1);
    let handle = life.handle.clone();
    life.drop_it().await;
    let (calls, appends) = (stage.record.calls().len(), stage.journal.appends());
    crate::support::pass(60).await;
    assert_eq!(stage.agents.alive(), 0);
    assert_eq!(stage.record.calls().len(), calls);
    assert_eq!(stage.journal.appends(), appends);
    assert_eq!(handle.explain("A").await, None);
    assert_eq!(handle.refresh().await, None);
}

#[tokio::test(start_paused = true)]
async fn a_tracker_that_cannot_be_opened_keeps_no_agent_alive() {
    let (stage, life) = in_a_turn().await;
    life.drop_it().await;
    stage.trackers.fail(Some(Failure::permanent("missing_tracker_secret", "TRACKER_TOKEN is not set")));
    let life = start(&stage, false);
    called(&stage, "workspaces.unlock", "/workspaces/A").await;
    assert!(stage.record.count_of("processes.sweep", "journal/run-1") > 0);
    assert_eq!(life.stop().await.unwrap(), DriverEnd::Stopped);
    assert!(!had_status(&stage, "A", IssueStatus::HandedOff));
}

#[tokio::test(start_paused = true)]
async fn work_that_was_held_back_by_the_end_is_done_by_the_next_daemon() {
    let stage = Stage::default();
    stage.tracker().put(issue("A"));
    stage.workspaces.prepare.next(Act::Late(Duration::from_secs(3), ()));
    let life = start(&stage, false);
    called(&stage, "prepare_workspace", "A").await;
    assert_eq!(life.stop().await.unwrap(), DriverEnd::Stopped);
    assert_eq!(stage.record.count_of("start_session", "A"), 0);
    let life = start(&stage, false);
    status(&stage, "A", IssueStatus::HandedOff).await;
    assert_eq!(life.stop().await.unwrap(), DriverEnd::Stopped);
    assert_eq!(stage.record.unintended(), []);
}
