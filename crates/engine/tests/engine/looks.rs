//! Looks at the tracker and at WORKFLOW.md: they may hang, panic, fail and change, and work goes on.

use std::time::Duration;

use dalsegno_engine::DriverEnd;
use dalsegno_engine::core::{Event, Failure, IssueStatus, ReadyState, TurnOutcome};
use dalsegno_testkit::doubles::{Act, Stage, issue, policy};

use crate::support::{Life, called, event, had_status, pass, start, status};

#[tokio::test(start_paused = true)]
async fn a_poll_that_hangs_stops_no_run_and_is_asked_again() {
    for hangs in [Act::Hang, Act::Panic] {
        let stage = Stage::default();
        stage.tracker().put(issue("A"));
        stage.agents.turns.next(Act::Late(Duration::from_secs(40), TurnOutcome::Completed));
        let life = start(&stage, false);
        called(&stage, "prompt", "A").await;
        stage.tracker().by_states.next(hangs);
        stage.tracker().put(issue("B"));
        status(&stage, "A", IssueStatus::HandedOff).await;
        event(&stage, |event| matches!(event, Event::TrackerHealth { failure: Some(_) })).await;
        status(&stage, "B", IssueStatus::HandedOff).await;
        event(&stage, |event| matches!(event, Event::TrackerHealth { failure: None })).await;
        assert_eq!(life.stop().await.unwrap(), DriverEnd::Stopped);
    }
}

#[tokio::test(start_paused = true)]
async fn a_look_at_the_work_that_hangs_or_panics_is_made_again() {
    let stage = Stage::default();
    stage.tracker().put(issue("A"));
    stage.workspaces.inspect.next(Act::Panic);
    let life = start(&stage, false);
    event(&stage, |event| matches!(event, Event::RunEnded { .. })).await;
    assert_eq!(life.stop().await.unwrap(), DriverEnd::Stopped);
    // A look that fails is a failure of the run, and the next run succeeds; it is never silence.
    assert!(stage.record.count("workspaces.inspect") > 0);
}

#[tokio::test(start_paused = true)]
async fn a_run_keeps_the_tracker_of_its_own_policy() {
    let stage = Stage::default();
    stage.tracker().put(issue("A"));
    stage.agents.turns.next(Act::Late(Duration::from_secs(40), TurnOutcome::Completed));
    let life = start(&stage, false);
    called(&stage, "prompt", "A").await;
    let mut other = policy();
    other.tracker.provider.insert("name".to_owned(), "other".into());
    stage.trackers.named("other").by_states.always(Act::Fail(Failure::retryable("tracker_request", "down")));
    stage.workflow.save(Ok(other));
    event(&stage, |event| matches!(event, Event::TrackerHealth { failure: Some(_) })).await;
    status(&stage, "A", IssueStatus::HandedOff).await;
    assert_eq!(stage.tracker().state("A").as_deref(), Some("Human Review"));
    assert_eq!(stage.record.count_of("trackers.open", "main"), 1);
    assert_eq!(life.stop().await.unwrap(), DriverEnd::Stopped);
}

#[tokio::test(start_paused = true)]
async fn wishes_to_read_the_tracker_coalesce_until_it_was_read() {
    let stage = Stage::default();
    stage.tracker().put(issue("A"));
    stage.agents.turns.next(Act::Late(Duration::from_secs(10), TurnOutcome::Completed));
    let life = start(&stage, false);
    called(&stage, "prompt", "A").await;
    stage.tracker().by_states.next(Act::Late(Duration::from_secs(60), Vec::new()));
    stage.workspaces.check.next(Act::Late(Duration::from_secs(600), true));
    assert_eq!(life.handle.refresh().await, Some(false));
    pass(1).await;
    assert_eq!(life.handle.refresh().await, Some(true));
    // The look at the turn's work is an answer too, and not the one that was wished for.
    called(&stage, "run_check", "A").await;
    assert_eq!(life.handle.refresh().await, Some(true));
    pass(60).await;
    assert_eq!(life.handle.refresh().await, Some(false));
    life.stop_now.cancel();
    assert_eq!(life.end().await.unwrap(), DriverEnd::Stopped);
}

#[tokio::test(start_paused = true)]
async fn rules_are_explained_while_everything_is_busy() {
    let stage = Stage::default();
    stage.tracker().put(issue("A"));
    stage.agents.turns.next(Act::Hang);
    let life = start(&stage, false);
    called(&stage, "prompt", "A").await;
    stage.tracker().by_states.next(Act::Hang);
    life.handle.refresh().await;
    pass(1).await;
    let explanation = life.handle.explain("a").await.flatten().expect("A is known");
    assert_eq!(explanation.status, IssueStatus::Running);
    // Unknown is an answer; the end of the loop is none.
    assert_eq!(life.handle.explain("unknown").await, Some(None));
    life.stop_now.cancel();
    assert_eq!(life.end().await.unwrap(), DriverEnd::Stopped);
}

#[tokio::test(start_paused = true)]
async fn a_broken_workflow_starts_nothing_and_stops_nothing_and_a_good_one_goes_on() {
    let stage = Stage::default();
    stage.tracker().put(issue("A"));
    stage.agents.turns.next(Act::Late(Duration::from_secs(100), TurnOutcome::Completed));
    let life = start(&stage, false);
    called(&stage, "prompt", "A").await;
    stage.workflow.save(Err(Failure::permanent("workflow_parse_error", "line 3")));
    stage.tracker().put(issue("B"));
    event(&stage, |event| matches!(event, Event::WorkflowRejected { .. })).await;
    status(&stage, "A", IssueStatus::HandedOff).await;
    pass(120).await;
    assert_eq!(stage.record.count_of("prepare_workspace", "B"), 0);
    let mut good = policy();
    good.prompt_template = "Work well.".to_owned();
    stage.workflow.save(Ok(good));
    status(&stage, "B", IssueStatus::HandedOff).await;
    assert!(had_status(&stage, "A", IssueStatus::HandedOff));
    let said = stage.transcripts.entries();
    assert!(said.iter().any(|(run, entry)| run.as_str() == "run-2" && entry.text.starts_with("Work well.")));
    assert_eq!(life.stop().await.unwrap(), DriverEnd::Stopped);
}

#[tokio::test(start_paused = true)]
async fn a_wish_to_read_the_tracker_takes_a_saved_workflow_along() {
    let stage = Stage::default();
    let life = start(&stage, false);
    called(&stage, "tracker.fetch_issues_by_ids", "main").await;
    pass(2).await;
    let mut other = policy();
    other.tracker.provider.insert("name".to_owned(), "other".into());
    stage.workflow.save(Ok(other));
    let before = stage.record.count_of("tracker.fetch_issues_by_states", "main");
    life.handle.refresh().await;
    called(&stage, "tracker.fetch_issues_by_states", "other").await;
    assert_eq!(stage.record.count_of("tracker.fetch_issues_by_states", "main"), before);
    assert_eq!(life.stop().await.unwrap(), DriverEnd::Stopped);
}

/// A tracker with many issues that wait behind one agent, which never ends.
async fn crowded(count: usize) -> (Stage, Life) {
    let mut one = policy();
    one.agent.max_concurrent_agents = 1;
    let stage = Stage::new(one);
    for number in 0..count {
        stage.tracker().put(issue(&format!("A{number:04}")));
    }
    stage.agents.turns.always(Act::Hang);
    let life = start(&stage, false);
    called(&stage, "prompt", "A0000").await;
    (stage, life)
}

#[tokio::test(start_paused = true)]
async fn a_few_issues_that_cannot_be_read_hold_up_none_of_many_others() {
    let (stage, life) = crowded(2_000).await;
    for spoiled in ["A0003", "A0004", "A1999"] {
        stage.tracker().spoil(spoiled);
    }
    let mut other = issue("A1000");
    other.title = "Another title".to_owned();
    stage.tracker().put(other);
    let before = stage.record.count_of("tracker.fetch_issues_by_ids", "main");
    event(&stage, |event| matches!(event, Event::IssueChanged { issue } if issue.id.as_str() == "A1000")).await;
    let looks = stage.record.count_of("tracker.fetch_issues_by_ids", "main") - before;
    assert!(looks < 100, "{looks} looks");
    pass(60).await;
    let bad = |event: &Event| matches!(event, Event::IssueGone { .. } | Event::TrackerHealth { .. });
    assert!(!stage.journal.events().iter().any(|recorded| bad(&recorded.event)), "what was known of them stays");
    life.stop_now.cancel();
    assert_eq!(life.end().await.unwrap(), DriverEnd::Stopped);
}

#[tokio::test(start_paused = true)]
async fn one_poll_has_one_limit_however_much_it_asks() {
    let (stage, life) = crowded(200).await;
    // Each look is answered, late: with something that cannot be read in it.
    let half_saved = Failure::retryable("tracker_response", "half of an issue");
    stage.tracker().by_ids.always(Act::FailLate(Duration::from_secs(100), half_saved));
    life.handle.refresh().await;
    let begun = tokio::time::Instant::now();
    event(&stage, |event| matches!(event, Event::TrackerHealth { failure: Some(_) })).await;
    assert!(begun.elapsed() < Duration::from_secs(300), "{:?}", begun.elapsed());
    life.stop_now.cancel();
    assert_eq!(life.end().await.unwrap(), DriverEnd::Stopped);
}

#[tokio::test(start_paused = true)]
async fn what_would_not_start_a_daemon_does_not_replace_a_policy_that_works() {
    let stage = Stage::default();
    stage.tracker().put(issue("A"));
    stage.agents.turns.next(Act::Late(Duration::from_secs(100), TurnOutcome::Completed));
    let life = start(&stage, false);
    called(&stage, "prompt", "A").await;
    stage.workspaces.preflight.next(Act::Fail(Failure::permanent("remote_not_found", "there is no such remote")));
    stage.workflow.save(Ok(policy()));
    let refused =
        |event: &Event| matches!(event, Event::WorkflowRejected { failure } if failure.code == "remote_not_found");
    event(&stage, refused).await;
    life.stop_now.cancel();
    assert_eq!(life.end().await.unwrap(), DriverEnd::Stopped);
}

#[tokio::test(start_paused = true)]
async fn a_webhook_has_its_issue_looked_at_alone_and_others_the_whole_tracker() {
    let stage = Stage::default();
    stage.tracker().put(issue("A"));
    let life = start(&stage, false);
    status(&stage, "A", IssueStatus::HandedOff).await;
    // Until the poll after the run is over.
    pass(2).await;
    let reads = |what: &str| stage.record.count(&format!("tracker.{what}"));
    let before = (reads("fetch_issues_by_states"), reads("fetch_issues_by_ids"));
    // The run that it starts goes on for a while, and reads the tracker when it ends.
    stage.agents.turns.next(Act::Late(Duration::from_secs(10), TurnOutcome::Completed));
    stage.tracker().put(issue("A"));
    assert_eq!(life.handle.webhook(vec!["no-such".to_owned(), "A".to_owned()]).await, Some(Some("A".to_owned())));
    pass(1).await;
    let after = (reads("fetch_issues_by_states"), reads("fetch_issues_by_ids"));
    assert_eq!((after.0, after.1 > before.1), (before.0, true), "the whole tracker was read");
    assert!(stage.record.count_of("prepare_workspace", "A") > 1, "somebody's change did not start it again");

    stage.tracker().put(issue("B"));
    assert_eq!(life.handle.webhook(vec!["B".to_owned()]).await, Some(None));
    status(&stage, "B", IssueStatus::HandedOff).await;
    assert_eq!(life.stop().await.unwrap(), DriverEnd::Stopped);
}

#[tokio::test(start_paused = true)]
async fn a_look_outside_that_hangs_or_panics_holds_up_what_is_new_and_is_made_again() {
    for hurt in [Act::Hang, Act::Panic] {
        let stage = Stage::default();
        stage.tracker().put(issue("A"));
        stage.inspector.inspect.next(hurt);
        let life = start(&stage, false);
        event(&stage, |event| matches!(event, Event::Readiness { told, .. } if told.state == ReadyState::Blocked))
            .await;
        assert_eq!(stage.record.count("prepare_workspace"), 0, "it fails closed");
        status(&stage, "A", IssueStatus::HandedOff).await;
        assert!(stage.record.count("inspector.inspect") > 1);
        assert_eq!(life.stop().await.unwrap(), DriverEnd::Stopped);
    }
}
