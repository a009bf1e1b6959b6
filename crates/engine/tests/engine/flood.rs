//! Floods cost bounded entries, and no deadlock.

use std::time::Duration;

use dalsegno_engine::DriverEnd;
use dalsegno_engine::core::{Event, Failure, TurnOutcome, Usage};
use dalsegno_testkit::doubles::{Act, Stage, issue, policy};

use crate::support::{called, event, pass, start, within};

fn usages(stage: &Stage) -> Vec<(u32, Usage)> {
    let usage = |recorded: &dalsegno_engine::core::Recorded| match &recorded.event {
        Event::Usage { turn, usage, .. } => Some((*turn, *usage)),
        _ => None,
    };
    stage.journal.events().iter().filter_map(usage).collect()
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_signs_costs_a_few_entries_and_loses_no_figures() {
    let stage = Stage::default();
    stage.tracker().put(issue("A"));
    stage.agents.turns.next_of("A", Act::Hang);
    let life = start(&stage, false);
    called(&stage, "prompt", "A").await;
    let sink = stage.agents.sink("A").unwrap();
    let before = stage.journal.events().len();
    for number in 1..=100_000_u64 {
        sink.activity();
        sink.usage(Usage::new(number, 1), None);
        if number % 1_000 == 0 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    pass(3).await;
    let entries = stage.journal.events().len() - before;
    assert!(entries <= 14, "{entries} entries in 13 s");
    assert_eq!(
        usages(&stage).last(),
        Some(&(1, Usage::new(100_000, 1))),
        "the last report is there without a further one"
    );
    assert_eq!(life.stop().await.unwrap(), DriverEnd::Stopped);
}

#[tokio::test(start_paused = true)]
async fn figures_of_a_turn_are_not_counted_to_the_next_one() {
    let stage = Stage::default();
    stage.tracker().put(issue("A"));
    stage.agents.turns.next(Act::Late(Duration::from_millis(5_200), TurnOutcome::Completed));
    stage.agents.turns.next(Act::Hang);
    stage.workspaces.check.next(Act::Answer(false));
    let life = start(&stage, false);
    called(&stage, "prompt", "A").await;
    let sink = stage.agents.sink("A").unwrap();
    tokio::time::sleep(Duration::from_millis(5_100)).await;
    sink.usage(Usage::new(500, 5), None);
    event(&stage, |event| matches!(event, Event::TurnStarted { turn: 2, .. })).await;
    // A late word of the first turn.
    pass(3).await;
    assert!(usages(&stage).iter().all(|(turn, _)| *turn == 1), "{:?}", usages(&stage));
    sink.usage(Usage::new(7, 7), None);
    pass(3).await;
    assert_eq!(usages(&stage).last(), Some(&(2, Usage::new(7, 7))));
    assert_eq!(life.stop().await.unwrap(), DriverEnd::Stopped);
}

#[tokio::test(start_paused = true)]
async fn what_an_agent_reported_just_before_it_died_is_counted() {
    let stage = Stage::default();
    stage.tracker().put(issue("A"));
    stage.agents.turns.next(Act::FailLate(Duration::from_secs(5), Failure::retryable("agent_exit", "it died")));
    let life = start(&stage, false);
    called(&stage, "prompt", "A").await;
    let sink = stage.agents.sink("A").unwrap();
    tokio::time::sleep(Duration::from_millis(4_000)).await;
    sink.usage(Usage::new(100, 1), None);
    // Too soon after the last report to be told by itself.
    tokio::time::sleep(Duration::from_millis(900)).await;
    sink.usage(Usage::new(200, 2), None);
    event(&stage, |event| matches!(event, Event::RunEnded { .. })).await;
    assert_eq!(usages(&stage), [(1, Usage::new(100, 1)), (1, Usage::new(200, 2))]);
    assert_eq!(life.stop().await.unwrap(), DriverEnd::Stopped);
}

#[tokio::test(start_paused = true)]
async fn signs_of_an_agent_that_is_gone_keep_nothing() {
    let stage = Stage::default();
    stage.tracker().put(issue("A"));
    let life = start(&stage, false);
    event(&stage, |event| matches!(event, Event::RunEnded { .. })).await;
    let sink = stage.agents.sink("A").unwrap();
    sink.activity();
    sink.usage(Usage::new(1, 1), None);
    assert_eq!(life.handle.last_sign("run-1"), None);
    assert_eq!(life.stop().await.unwrap(), DriverEnd::Stopped);
}

#[tokio::test(start_paused = true)]
async fn more_effects_than_the_inbox_holds_may_end_at_once() {
    const ISSUES: usize = 1_100;
    let mut policy = policy();
    policy.agent.max_concurrent_agents = 2_000;
    let stage = Stage::new(policy);
    for number in 0..ISSUES {
        stage.tracker().put(issue(&format!("I-{number}")));
    }
    stage.workspaces.prepare.always(Act::Late(Duration::from_secs(60), ()));
    stage.agents.start.always(Act::Hang);
    let life = start(&stage, false);
    within(stage.journal.count(ISSUES, |recorded| matches!(recorded.event, Event::WorkspaceReady { .. }))).await;
    life.stop_now.cancel();
    assert_eq!(life.end().await.unwrap(), DriverEnd::Stopped);
}
