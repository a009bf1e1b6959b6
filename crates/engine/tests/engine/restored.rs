//! A handoff of a backup that was restored: each step may have been done since, and none may have to be undone.

use dalsegno_durable::ExecutionScope;
use dalsegno_durable::key::{Secret, idempotency_key, marker};
use dalsegno_engine::core::{Batch, Event, IssueId, IssueStatus, Policy, Recorded, Timestamp};
use dalsegno_engine::{DriverEnd, Journal as _, Tracker as _};
use dalsegno_testkit::doubles::{Act, Stage, issue, policy};
use serde_json::json;

use crate::forge::forge_policy;
use crate::handoff::{completed, say};
use crate::support::{event, start, status};

/// The journal as a restore leaves it: one event further, under another epoch.
async fn restore(stage: &Stage) {
    let loaded = stage.journal.load();
    let (seq, at) = stage.journal.events().last().map(|last| (last.seq, last.at)).unwrap();
    let epoch = loaded.epoch + 1_000;
    let journal = "lost".to_owned();
    let event = Event::JournalRestored { epoch, journal, backup_at: Timestamp(1), skipped: 1_000 };
    let events = vec![Recorded { seq: seq + 1, at, event }];
    let batch = Batch { epoch, events, views: Vec::new(), snapshot: None };
    stage.journal.append(batch, Vec::new()).await.unwrap();
}

/// A handoff that waits for an approval, in a journal that was restored.
async fn asked() -> Stage {
    asked_under(policy()).await
}

/// The same with a forge: branch and draft are there.
async fn asked_of_a_forge() -> Stage {
    asked_under(forge_policy()).await
}

async fn asked_under(mut policy: Policy) -> Stage {
    policy.handoff.as_mut().unwrap().approval_ms = Some(86_400_000);
    let stage = Stage::new(policy);
    stage.tracker().put(issue("A"));
    assert_eq!(start(&stage, true).end().await.unwrap(), DriverEnd::Quiet);
    restore(&stage).await;
    stage
}

#[tokio::test(start_paused = true)]
async fn a_step_that_was_done_since_is_found_and_one_that_was_not_is_done() {
    let stage = asked().await;
    stage.workspaces.probe_push.always(Act::Answer(true));
    let life = start(&stage, false);
    event(&stage, |event| matches!(event, Event::DaemonStarted { epoch, .. } if *epoch > 1_000)).await;
    let (receipt, end) = say(&stage, &life, "approve", json!({"by": "ada"})).await;
    assert!(receipt.accepted && completed(end.as_ref()), "{receipt:?} {end:?}");
    status(&stage, "A", IssueStatus::HandedOff).await;
    assert_eq!(stage.record.count_of("push", "A"), 0, "the branch is there");
    assert_eq!((stage.record.count_of("comment", "A"), stage.record.count_of("move_issue", "A")), (1, 1));
    assert_eq!(life.stop().await.unwrap(), DriverEnd::Stopped);
}

#[tokio::test(start_paused = true)]
async fn a_step_that_was_done_since_under_a_later_generation_is_found() {
    let stage = asked().await;
    let secret = Secret::new([7; 32]);
    // The lost life was shown that its first call had not arrived, and called again.
    let scope = ExecutionScope::saga("run-1.handoff").key();
    let key = idempotency_key(&secret, &scope, "comment/do", 2);
    let mark = marker(&secret, &key);
    stage.tracker().comment(&IssueId::from("A"), "done", &mark).await.unwrap();
    let life = start(&stage, false);
    event(&stage, |event| matches!(event, Event::DaemonStarted { epoch, .. } if *epoch > 1_000)).await;
    let (receipt, end) = say(&stage, &life, "approve", json!({"by": "ada"})).await;
    assert!(receipt.accepted && completed(end.as_ref()), "{receipt:?} {end:?}");
    status(&stage, "A", IssueStatus::HandedOff).await;
    assert_eq!(stage.tracker().comments("A"), ["done"]);
    assert_eq!(life.stop().await.unwrap(), DriverEnd::Stopped);
}

#[tokio::test(start_paused = true)]
async fn an_issue_is_looked_at_once_and_a_remote_that_does_not_answer_is_asked_again() {
    let stage = Stage::default();
    start(&stage, true).end().await.unwrap();
    restore(&stage).await;
    stage.tracker().put(issue("A"));
    stage.workspaces.tip.next_of("A", Act::Fail(dalsegno_engine::core::Failure::retryable("repo_unreachable", "no")));
    let life = start(&stage, false);
    status(&stage, "A", IssueStatus::HandedOff).await;
    assert_eq!(stage.record.count_of("workspaces.branch_tip", "A"), 2);
    let kinds = stage.journal.kinds();
    let place = |kind: &str| kinds.iter().position(|known| *known == kind).unwrap();
    assert!(place("restore_probed") < place("run_started"), "{kinds:?}");
    assert_eq!(life.stop().await.unwrap(), DriverEnd::Stopped);
}

#[tokio::test(start_paused = true)]
async fn a_push_that_was_taken_back_since_is_not_built_upon() {
    let stage = asked_of_a_forge().await;
    stage.workspaces.probe_push.always(Act::Answer(false));
    let life = start(&stage, false);
    event(&stage, |event| matches!(event, Event::DaemonStarted { epoch, .. } if *epoch > 1_000)).await;
    let (_, end) = say(&stage, &life, "approve", json!({"by": "ada"})).await;
    assert!(completed(end.as_ref()), "{end:?}");
    status(&stage, "A", IssueStatus::Parked).await;
    let turned_back = stage.journal.events().into_iter().find_map(|recorded| match recorded.event {
        Event::SagaTurnedBack { failure, .. } => Some(failure.code),
        _ => None,
    });
    assert_eq!(turned_back.as_deref(), Some("restored_push_missing"));
    assert_eq!(stage.record.count_of("comment", "A"), 0, "nobody is told that it was handed over");
    assert_eq!(life.stop().await.unwrap(), DriverEnd::Stopped);
}

#[tokio::test(start_paused = true)]
async fn what_may_have_been_handed_over_since_is_not_taken_back() {
    let stage = asked_of_a_forge().await;
    let life = start(&stage, false);
    event(&stage, |event| matches!(event, Event::DaemonStarted { epoch, .. } if *epoch > 1_000)).await;
    let (_, end) = say(&stage, &life, "deny", json!({"by": "ada", "why": "no"})).await;
    assert!(completed(end.as_ref()), "{end:?}");
    status(&stage, "A", IssueStatus::Parked).await;
    let parked = stage.journal.events().into_iter().find_map(|recorded| match recorded.event {
        Event::Parked { detail, .. } => Some(detail),
        _ => None,
    });
    assert!(parked.as_ref().is_some_and(|detail| detail.contains("restored_undo")), "{parked:?}");
    assert!(stage.forges.forge.pulls().iter().all(|pull| pull.open), "the pull request stays open");
    assert_eq!(stage.record.count_of("undo_push", "A"), 0);
    assert_eq!(life.stop().await.unwrap(), DriverEnd::Stopped);
}
