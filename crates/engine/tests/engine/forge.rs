//! Handoffs to a forge with pull requests: done, undone, or named.

use dalsegno_engine::DriverEnd;
use dalsegno_engine::core::{
    Event, Failure, ForgePolicy, Issue, IssueStatus, Policy, PullRequest, SagaStep, StepState,
};
use dalsegno_testkit::doubles::{Act, ForgeCall, ForgeFault, Stage, issue, policy};

use crate::support::{event, had_status, start, status, step_doubts};

pub(crate) fn forge_policy() -> Policy {
    let mut policy = policy();
    policy.handoff.as_mut().unwrap().forge =
        Some(ForgePolicy { kind: "double".to_owned(), provider: serde_json::Map::new() });
    policy
}

fn stage() -> Stage {
    let stage = Stage::new(forge_policy());
    stage.tracker().put(issue("A"));
    stage
}

/// Where the steps of the handoff are in the end.
fn steps(stage: &Stage) -> Vec<(&'static str, &'static str)> {
    let mut steps = Vec::new();
    for recorded in stage.journal.events() {
        if let Event::SagaStep { step, state, .. } = recorded.event {
            steps.retain(|(known, _)| *known != step.as_str());
            steps.push((step.as_str(), state.as_str()));
        }
    }
    let order = |step: &str| SagaStep::ALL.iter().position(|known| known.as_str() == step);
    steps.sort_by_key(|(step, _)| order(step));
    steps
}

/// Open, draft, merged.
fn pulls(stage: &Stage) -> Vec<(bool, bool, bool)> {
    stage.forges.forge.pulls().iter().map(|pull| (pull.open, pull.draft, pull.merged)).collect()
}

fn linked(stage: &Stage) -> Vec<PullRequest> {
    let linked = stage.journal.events().into_iter().filter_map(|recorded| match recorded.event {
        Event::PullRequestLinked { pull_request, .. } => Some(pull_request),
        _ => None,
    });
    linked.collect()
}

#[tokio::test(start_paused = true)]
async fn a_draft_is_opened_marked_as_ready_and_named_in_the_comment() {
    let stage = stage();
    assert_eq!(start(&stage, true).end().await.unwrap(), DriverEnd::Quiet);
    assert!(had_status(&stage, "A", IssueStatus::HandedOff));
    let done = ["look", "push", "open", "ready", "comment", "move"].map(|step| (step, "done"));
    assert_eq!(steps(&stage), done);
    let pull = stage.forges.forge.pulls().remove(0);
    assert_eq!((pull.head.as_str(), pull.title.as_str()), ("dalsegno/A", "A: Title of A"));
    assert!(pull.body.starts_with("Done.\n\nBranch `dalsegno/A` at cccc"), "{}", pull.body);
    assert!(pull.body.contains("- `./test`"), "{}", pull.body);
    assert_eq!(pulls(&stage), [(true, false, false)]);
    let comments = stage.tracker().comments("A");
    assert!(comments.len() == 1 && comments[0].contains(&linked(&stage)[0].url), "{comments:?}");
    assert_eq!(stage.record.unintended(), []);
}

#[tokio::test(start_paused = true)]
async fn an_opening_in_doubt_is_looked_for_and_not_done_twice() {
    for applied in [true, false] {
        let stage = stage();
        let failure = Failure::retryable("forge_no_answer", "silence");
        stage.forges.forge.fail_next(ForgeCall::Open, ForgeFault::Unknown { applied, failure });
        assert_eq!(start(&stage, true).end().await.unwrap(), DriverEnd::Quiet);
        assert!(had_status(&stage, "A", IssueStatus::HandedOff), "applied: {applied}");
        assert_eq!((pulls(&stage), step_doubts(&stage)), (vec![(true, false, false)], vec!["open"]));
        assert_eq!(linked(&stage).len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn ready_in_doubt_is_not_undone() {
    for applied in [true, false] {
        let stage = stage();
        let failure = Failure::retryable("forge_no_answer", "silence");
        stage.forges.forge.fail_next(ForgeCall::Ready, ForgeFault::Unknown { applied, failure });
        assert_eq!(start(&stage, true).end().await.unwrap(), DriverEnd::Quiet);
        assert!(had_status(&stage, "A", IssueStatus::HandedOff), "applied: {applied}");
        assert_eq!((pulls(&stage), stage.record.count_of("undo_push", "A")), (vec![(true, false, false)], 0));
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_refused_before_the_pivot_leaves_the_remote_as_it_was() {
    let stage = stage();
    let refused = Failure::permanent("pull_request_closed", "somebody closed it");
    stage.forges.forge.fail_next(ForgeCall::Ready, ForgeFault::NotApplied(refused));
    assert_eq!(start(&stage, true).end().await.unwrap(), DriverEnd::Quiet);
    assert!(had_status(&stage, "A", IssueStatus::Parked) && !had_status(&stage, "A", IssueStatus::HandedOff));
    let ended = [("look", "done"), ("push", "undone"), ("open", "undone"), ("ready", "not_applied")];
    assert_eq!(steps(&stage), ended);
    assert_eq!((pulls(&stage), stage.record.count_of("undo_push", "A")), (vec![(false, true, false)], 1));
    assert_eq!(stage.tracker().comments("A"), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn an_undo_that_keeps_failing_parks_its_step_and_an_operator_ends_it() {
    let stage = stage();
    let refused = Failure::permanent("forge_denied", "no");
    stage.forges.forge.fail_next(ForgeCall::Ready, ForgeFault::NotApplied(refused));
    stage.workspaces.undo_push.next(Act::Fail(Failure::permanent("branch_built_on", "somebody went on with it")));
    assert_eq!(start(&stage, true).end().await.unwrap(), DriverEnd::Quiet, "a parked undo holds up no end");
    assert_eq!(steps(&stage)[1..3], [("push", "parked"), ("open", "undone")], "the other is undone");

    let life = start(&stage, false);
    event(&stage, |event| matches!(event, Event::DaemonStarted { epoch: 2, .. })).await;
    let said = serde_json::json!({"step": "push", "verb": "undone", "why": "put back by hand", "by": "ada"});
    let (receipt, end) = crate::handoff::say(&stage, &life, "settle", said).await;
    assert!(receipt.accepted && crate::handoff::completed(end.as_ref()), "{receipt:?} {end:?}");
    event(&stage, |event| matches!(event, Event::SagaEnded { committed: false, .. })).await;
    let parked = |event: &Event| matches!(event, Event::Parked { reason, .. } if reason == "forge_denied");
    event(&stage, parked).await;
    assert_eq!((steps(&stage)[1], stage.record.count_of("undo_push", "A")), (("push", "undone"), 1));
    assert_eq!(life.stop().await.unwrap(), DriverEnd::Stopped);
}

#[tokio::test(start_paused = true)]
async fn what_comes_back_from_review_goes_into_the_same_pull_request() {
    let stage = stage();
    assert_eq!(start(&stage, true).end().await.unwrap(), DriverEnd::Quiet);
    let back = Issue { state: "Rework".to_owned(), description: Some("More.".to_owned()), ..issue("A") };
    stage.tracker().put(back);
    assert_eq!(start(&stage, true).end().await.unwrap(), DriverEnd::Quiet);
    let handoffs = stage
        .journal
        .events()
        .into_iter()
        .filter(|recorded| matches!(recorded.event, Event::SagaEnded { committed: true, .. }));
    assert_eq!((handoffs.count(), pulls(&stage).len()), (2, 1));
    assert_eq!(stage.forges.forge.calls().iter().filter(|call| **call == ForgeCall::Open).count(), 1);

    // One that is closed meanwhile is not opened again: there is another one.
    stage.forges.forge.close_as_somebody(1);
    let again = Issue { state: "Rework".to_owned(), description: Some("Still more.".to_owned()), ..issue("A") };
    stage.tracker().put(again);
    assert_eq!(start(&stage, true).end().await.unwrap(), DriverEnd::Quiet);
    assert_eq!(pulls(&stage), [(false, false, false), (true, false, false)]);
    assert_eq!(linked(&stage).last().map(|linked| linked.number), Some(2));
}

#[tokio::test(start_paused = true)]
async fn an_approval_is_asked_for_before_the_pull_request_is_ready_and_a_denial_undoes_the_draft() {
    let mut policy = forge_policy();
    policy.handoff.as_mut().unwrap().approval_ms = Some(86_400_000);
    let stage = Stage::new(policy);
    stage.tracker().put(issue("A"));
    let life = start(&stage, false);
    status(&stage, "A", IssueStatus::WaitingApproval).await;
    assert_eq!(pulls(&stage), [(true, true, false)], "the draft can be looked at");
    let waits = |event: &Event| {
        matches!(event, Event::SagaStep { step: SagaStep::Ready, state: StepState::AwaitingApproval { .. }, .. })
    };
    event(&stage, waits).await;
    let (receipt, end) = crate::handoff::say(&stage, &life, "deny", serde_json::json!({"why": "not so"})).await;
    assert!(receipt.accepted && crate::handoff::completed(end.as_ref()), "{receipt:?} {end:?}");
    status(&stage, "A", IssueStatus::Parked).await;
    assert_eq!((pulls(&stage), stage.record.count_of("undo_push", "A")), (vec![(false, true, false)], 1));
    assert_eq!(life.stop().await.unwrap(), DriverEnd::Stopped);
}
