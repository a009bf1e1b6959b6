//! Handoffs that wait for an operator: parked steps and approvals, over restarts.

use dalsegno_engine::DriverEnd;
use dalsegno_engine::core::{ActionAnswer, ActionRequest, Event, Failure, IssueStatus, Receipt, StepState};
use dalsegno_testkit::doubles::{Act, Stage, issue, policy};
use serde_json::{Value, json};

use crate::support::{Life, called, event, had_status, start, status, within};

/// What an operator says of A's handoff; the answer, and how the action ended once it was accepted.
pub(crate) async fn say(stage: &Stage, life: &Life, kind: &str, payload: Value) -> (Receipt, Option<Event>) {
    let request = ActionRequest {
        kind: kind.to_owned(),
        target_kind: "issue".to_owned(),
        target_id: "A".to_owned(),
        correlation_id: None,
        idempotency_key: None,
        reject_duplicate: false,
        by: None,
        content: format!("{kind} {payload}"),
        payload,
    };
    let Some(ActionAnswer::Decided(receipt)) = within(life.handle.act(request)).await else { panic!("it is decided") };
    let receipt = *receipt;
    if !receipt.accepted {
        return (receipt, None);
    }
    let ends = |event: &Event| {
        matches!(event, Event::ActionCompleted { action_id, .. } | Event::ActionFailed { action_id, .. }
            if *action_id == receipt.action_id)
    };
    event(stage, ends).await;
    let end = stage.journal.events().into_iter().map(|recorded| recorded.event).find(|event| ends(event));
    (receipt, end)
}

fn events(stage: &Stage) -> Vec<Event> {
    stage.journal.events().into_iter().map(|recorded| recorded.event).collect()
}

pub(crate) fn completed(end: Option<&Event>) -> bool {
    matches!(end, Some(Event::ActionCompleted { .. }))
}

/// A handoff whose comment is refused for good, and the daemon that met that has ended.
async fn parked() -> Stage {
    let stage = Stage::default();
    stage.tracker().put(issue("A"));
    stage.tracker().comment.next_of("A", Act::Fail(Failure::permanent("tracker_status", "no")));
    assert_eq!(start(&stage, true).end().await.unwrap(), DriverEnd::Quiet, "a parked step holds up no end");
    assert!(had_status(&stage, "A", IssueStatus::Parked));
    assert!(!had_status(&stage, "A", IssueStatus::HandedOff));
    stage
}

#[tokio::test(start_paused = true)]
async fn a_parked_step_is_tried_again_by_an_operator_and_the_handoff_ends() {
    let stage = parked().await;
    let life = start(&stage, false);
    event(&stage, |event| matches!(event, Event::DaemonStarted { epoch: 2, .. })).await;
    let (refused, _) = say(&stage, &life, "settle", json!({"step": "push", "verb": "retry"})).await;
    assert_eq!(refused.code.as_deref(), Some("not_parked"));
    let (receipt, end) = say(&stage, &life, "settle", json!({"step": "comment", "verb": "retry", "by": "ada"})).await;
    assert!(receipt.accepted && completed(end.as_ref()), "{receipt:?} {end:?}");
    status(&stage, "A", IssueStatus::HandedOff).await;
    assert_eq!((stage.record.count_of("push", "A"), stage.record.count_of("comment", "A")), (1, 2));
    assert_eq!(stage.record.count_of("move_issue", "A"), 1, "the move did not wait for the comment");
    assert_eq!(stage.record.unintended(), []);
    assert_eq!(life.stop().await.unwrap(), DriverEnd::Stopped);
    let heard: Vec<(&str, &str)> = events(&stage)
        .iter()
        .filter_map(|event| match event {
            Event::SagaStep { step, state, .. } => Some((step.as_str(), state.as_str())),
            _ => None,
        })
        .collect();
    assert_eq!(heard.iter().filter(|(_, state)| *state == "done").count(), 3, "each is heard once: {heard:?}");
    assert_eq!(heard.iter().filter(|step| **step == ("push", "intended")).count(), 1, "{heard:?}");
}

#[tokio::test(start_paused = true)]
async fn a_step_that_an_operator_leaves_ends_the_handoff_without_it() {
    let stage = parked().await;
    let life = start(&stage, false);
    event(&stage, |event| matches!(event, Event::DaemonStarted { epoch: 2, .. })).await;
    // What the saga does not allow is told when it has been asked.
    let (_, end) = say(&stage, &life, "settle", json!({"step": "comment", "verb": "undone"})).await;
    let Some(Event::ActionFailed { failure, .. }) = end else { panic!("{end:?}") };
    assert_eq!(failure.code, "settlement_not_allowed");
    let (_, end) =
        say(&stage, &life, "settle", json!({"step": "comment", "verb": "skip", "why": "told by mail"})).await;
    assert!(completed(end.as_ref()), "{end:?}");
    status(&stage, "A", IssueStatus::HandedOff).await;
    assert_eq!(stage.record.count_of("comment", "A"), 1);
    assert_eq!(life.stop().await.unwrap(), DriverEnd::Stopped);
}

/// A handoff that waits for an approval, and the daemon that asked has ended.
async fn asked(expires: u64) -> Stage {
    let mut policy = policy();
    policy.handoff.as_mut().unwrap().approval_ms = Some(expires);
    let stage = Stage::new(policy);
    stage.tracker().put(issue("A"));
    assert_eq!(start(&stage, true).end().await.unwrap(), DriverEnd::Quiet);
    assert!(had_status(&stage, "A", IssueStatus::WaitingApproval));
    assert_eq!(stage.record.count_of("push", "A"), 0);
    stage
}

#[tokio::test(start_paused = true)]
async fn an_approval_is_waited_for_over_a_restart_and_given_once() {
    let stage = asked(86_400_000).await;
    let life = start(&stage, false);
    event(&stage, |event| matches!(event, Event::DaemonStarted { epoch: 2, .. })).await;
    let (other, _) = say(&stage, &life, "approve", json!({"fingerprint": "another"})).await;
    assert_eq!(other.code.as_deref(), Some("no_open_question"));
    let (receipt, end) = say(&stage, &life, "approve", json!({"by": "ada"})).await;
    assert!(receipt.accepted && completed(end.as_ref()), "{receipt:?} {end:?}");
    status(&stage, "A", IssueStatus::HandedOff).await;
    assert_eq!(stage.record.count_of("push", "A"), 1);
    let (late, _) = say(&stage, &life, "deny", json!({})).await;
    assert_eq!(late.code.as_deref(), Some("no_open_question"));
    assert_eq!(life.stop().await.unwrap(), DriverEnd::Stopped);
}

#[tokio::test(start_paused = true)]
async fn what_is_denied_is_not_pushed() {
    let stage = asked(86_400_000).await;
    let life = start(&stage, false);
    event(&stage, |event| matches!(event, Event::DaemonStarted { epoch: 2, .. })).await;
    let (_, end) = say(&stage, &life, "deny", json!({"by": "ada", "why": "not this week"})).await;
    assert!(completed(end.as_ref()), "{end:?}");
    status(&stage, "A", IssueStatus::Parked).await;
    let parked = stage.journal.events().into_iter().find_map(|recorded| match recorded.event {
        Event::Parked { reason, detail, .. } => Some((reason, detail)),
        _ => None,
    });
    let (reason, detail) = parked.unwrap();
    assert!(reason == "approval_denied" && detail.contains("not this week"), "{reason} {detail}");
    assert_eq!((stage.record.count_of("push", "A"), stage.record.count_of("comment", "A")), (0, 0));
    assert_eq!(life.stop().await.unwrap(), DriverEnd::Stopped);
}

#[tokio::test(start_paused = true)]
async fn an_approval_that_expires_parks_and_is_asked_for_anew() {
    let stage = asked(60_000).await;
    let life = start(&stage, false);
    status(&stage, "A", IssueStatus::Parked).await;
    let (_, end) = say(&stage, &life, "settle", json!({"step": "push", "verb": "retry"})).await;
    assert!(completed(end.as_ref()), "{end:?}");
    let again = |recorded: &dalsegno_engine::core::Recorded| {
        matches!(&recorded.event, Event::SagaStep { state: StepState::AwaitingApproval { .. }, .. })
    };
    within(stage.journal.count(2, again)).await;
    let (_, end) = say(&stage, &life, "approve", json!({})).await;
    assert!(completed(end.as_ref()), "{end:?}");
    status(&stage, "A", IssueStatus::HandedOff).await;
    assert_eq!(life.stop().await.unwrap(), DriverEnd::Stopped);
}

#[tokio::test(start_paused = true)]
async fn an_issue_that_is_closed_before_the_approval_is_not_pushed() {
    let stage = asked(86_400_000).await;
    let life = start(&stage, false);
    let mut closed = issue("A");
    closed.state = "Done".to_owned();
    stage.tracker().put(closed);
    status(&stage, "A", IssueStatus::Idle).await;
    assert_eq!(stage.record.count_of("push", "A"), 0);
    assert_eq!(life.stop().await.unwrap(), DriverEnd::Stopped);
}

#[tokio::test(start_paused = true)]
async fn a_daemon_that_ends_lets_go_of_a_handoff_and_turns_nothing_back() {
    let stage = Stage::default();
    stage.tracker().put(issue("A"));
    stage.workspaces.push.next_of("A", Act::Hang);
    let life = start(&stage, false);
    called(&stage, "push", "A").await;
    assert_eq!(life.stop().await.unwrap(), DriverEnd::Stopped);
    assert_eq!(start(&stage, true).end().await.unwrap(), DriverEnd::Quiet);
    assert!(had_status(&stage, "A", IssueStatus::HandedOff));
    assert!(!stage.journal.events().iter().any(|recorded| matches!(recorded.event, Event::SagaTurnedBack { .. })));
    assert_eq!(stage.record.unintended(), []);
}
