//! The steps of a handoff: order, failure, parking.

use crate::action::{act, request};
use crate::desk::*;
use dalsegno_core::*;
use serde_json::json;

#[test]
fn the_agent_ends_before_the_handoff_begins() {
    let mut desk = Desk::new(policy());
    desk.reach_checks();
    desk.done("run_check", EffectOutput::CheckEnded { passed: true, output_tail: String::new(), kept: None });
    assert_eq!(desk.open(), ["stop_agent"]);
    desk.done("stop_agent", EffectOutput::Swept { killed: 1 });
    let handoff = desk.take("hand_off");
    let wanted = Effect::HandOff {
        saga: "run-1.handoff".into(),
        commit: "c1".into(),
        expected: None,
        from: Some("Todo".into()),
        pull_request: None,
    };
    assert_eq!((handoff.effect.clone(), desk.status(1)), (wanted, IssueStatus::HandingOff));
    desk.performs.push(handoff);
    desk.pushed();
    assert_eq!(desk.entry(1).handed_off, Some("c1".into()));
}

#[test]
fn each_check_runs_once_in_order_and_the_evidence_names_them() {
    let mut two = policy();
    two.handoff.as_mut().unwrap().checks = vec!["./lint".into(), "./test".into()];
    let mut desk = Desk::new(two);
    desk.reach_checks();
    let first =
        desk.done("run_check", EffectOutput::CheckEnded { passed: true, output_tail: String::new(), kept: None });
    assert_eq!(first.effect, Effect::RunCheck { commit: "c1".into(), index: 0 });
    let second =
        desk.done("run_check", EffectOutput::CheckEnded { passed: true, output_tail: String::new(), kept: None });
    assert_eq!(second.effect, Effect::RunCheck { commit: "c1".into(), index: 1 });
    let evidence = desk.machine.state().runs.values().next().unwrap().evidence.clone();
    assert_eq!(evidence.as_deref(), Some("passed on c1: ./lint; ./test"));
}

#[test]
fn without_checks_it_says_no_evidence() {
    let mut none = policy();
    none.handoff.as_mut().unwrap().checks.clear();
    let mut desk = Desk::new(none);
    desk.reach_checks();
    let evidence = desk.machine.state().runs.values().next().unwrap().evidence.clone();
    assert!(evidence.unwrap().starts_with("no evidence"));
}

fn parked(reason: &str) -> StepState {
    StepState::Parked { reason: reason.into() }
}

#[test]
fn what_the_saga_tells_becomes_events_once() {
    let mut desk = Desk::new(policy());
    desk.reach_delivery();
    let waiting = StepState::Waiting { failures: 1, due_at: Timestamp(desk.now + 2_000) };
    for _ in 0..2 {
        desk.steps(&[(SagaStep::Push, waiting.clone())]);
    }
    desk.pushed();
    let told = desk.journal.iter().filter_map(|recorded| match &recorded.event {
        Event::SagaStep { step, state, .. } => Some((step.as_str(), state.as_str())),
        _ => None,
    });
    let told: Vec<_> = told.collect();
    let wanted =
        [("push", "intended"), ("push", "waiting"), ("push", "done"), ("comment", "intended"), ("move", "intended")];
    assert_eq!(told, wanted);
}

#[test]
fn a_parked_step_parks_the_issue_and_its_settling_goes_on_with_the_handoff() {
    let mut desk = Desk::new(policy());
    desk.reach_delivery();
    desk.pushed();
    desk.steps(&[(SagaStep::Comment, parked("tracker_status: no"))]);
    assert_eq!(desk.status(1), IssueStatus::HandingOff, "the move is under way");
    assert!(!desk.machine.is_resting(desk.performs[0].id));
    desk.steps(&[(SagaStep::Move, StepState::Done)]);
    assert_eq!((desk.status(1), desk.phase()), (IssueStatus::Parked, Some(Phase::Delivering)));
    let reason = "handoff_step_failed: the branch is pushed, but comment: tracker_status: no";
    assert_eq!(desk.reason(1), reason);
    assert!(desk.machine.is_resting(desk.performs[0].id), "it holds up no end of the daemon");

    // It takes no slot, and neither a change in the tracker nor a restart begins another run.
    let changed = Issue { description: Some("more".into()), ..in_state(1, "Todo") };
    desk.poll(&[changed.clone(), issue(2)]);
    assert_eq!(desk.dispatched(), ["i1", "i2"]);
    desk.restart();
    desk.poll(&[changed, issue(2)]);
    assert_eq!((desk.dispatched(), desk.status(1)), (vec!["i1".to_owned(), "i2".to_owned()], IssueStatus::Parked));
    desk.done("sweep", EffectOutput::Swept { killed: 0 });
    desk.steps(&[(SagaStep::Comment, StepState::Intended)]);
    assert_eq!(desk.status(1), IssueStatus::HandingOff);
    desk.steps(&[(SagaStep::Comment, StepState::Done)]);
    desk.done("hand_off", EffectOutput::HandedOff { end: SagaEnd::Committed });
    assert_eq!(desk.status(1), IssueStatus::HandedOff);
}

#[test]
fn an_issue_with_a_parked_step_is_not_released() {
    let mut desk = Desk::new(policy());
    desk.reach_delivery();
    desk.steps(&[(SagaStep::Push, parked("push_failed: who knows"))]);
    assert!(desk.reason(1).starts_with("handoff_step_failed: push: push_failed"), "{}", desk.reason(1));
    release(&mut desk);
    assert_eq!(desk.replies[0].1.code.as_deref(), Some("handoff_parked"));
}

fn release(desk: &mut Desk) {
    let request = ActionRequest {
        kind: "release".into(),
        target_kind: "issue".into(),
        target_id: "DS-1".into(),
        correlation_id: None,
        idempotency_key: None,
        reject_duplicate: false,
        by: None,
        content: "release".into(),
        payload: serde_json::Value::Null,
    };
    desk.hand(Input::Action { caller: 1, request: Box::new(request) });
}

/// To the handoff that was in doubt too often.
fn in_doubt() -> Desk {
    let mut desk = Desk::new(policy());
    desk.reach_delivery();
    for _ in 0..5 {
        desk.doubt("hand_off");
    }
    assert_eq!((desk.status(1), desk.phase()), (IssueStatus::Parked, Some(Phase::Delivering)));
    assert!(desk.reason(1).starts_with("handoff_in_doubt"), "{}", desk.reason(1));
    assert!(desk.open().is_empty());
    desk.poll(&[issue(1)]);
    assert!(desk.machine.is_quiet(), "it holds up no end of the daemon");
    desk
}

#[test]
fn a_handoff_in_doubt_is_nobodys_never_and_a_release_takes_it_up_again() {
    let mut desk = in_doubt();
    release(&mut desk);
    assert!(desk.replies[0].1.accepted);
    assert_eq!((desk.status(1), desk.open()), (IssueStatus::HandingOff, vec!["hand_off"]));
    // Its doubts are counted anew.
    desk.doubt("hand_off");
    assert_eq!(desk.open(), ["hand_off"]);
    desk.pushed();
    desk.delivered("Human Review");
    assert_eq!(desk.status(1), IssueStatus::HandedOff);
}

#[test]
fn a_handoff_in_doubt_is_taken_up_by_a_restart_and_by_the_trackers_word() {
    let mut desk = in_doubt();
    desk.restart();
    desk.done("sweep", EffectOutput::Swept { killed: 0 });
    assert_eq!((desk.status(1), desk.open()), (IssueStatus::HandingOff, vec!["hand_off"]));

    let mut desk = Desk::new(policy());
    desk.reach_checks();
    desk.done("run_check", EffectOutput::CheckEnded { passed: true, output_tail: String::new(), kept: None });
    desk.done("stop_agent", EffectOutput::Swept { killed: 1 });
    for _ in 0..5 {
        desk.doubt("hand_off");
    }
    desk.poll(&[in_state(1, "Backlog")]);
    assert_eq!(desk.open(), ["hand_off"]);
    assert!(desk.performs[0].unwanted, "to be undone");
}

#[test]
fn what_an_operator_left_as_it_is_ends_the_handoff_by_its_pivot() {
    for (pushed, status) in [(true, IssueStatus::HandedOff), (false, IssueStatus::Parked)] {
        let mut desk = Desk::new(policy());
        desk.reach_delivery();
        if pushed {
            desk.pushed();
            desk.steps(&[(SagaStep::Comment, StepState::Skipped), (SagaStep::Move, StepState::Done)]);
        }
        desk.done("hand_off", EffectOutput::HandedOff { end: SagaEnd::Abandoned });
        assert_eq!(desk.status(1), status, "{}", desk.reason(1));
    }
}

#[test]
fn an_approval_that_is_waited_for_is_no_work() {
    let mut desk = Desk::new(policy());
    desk.reach_checks();
    desk.done("run_check", EffectOutput::CheckEnded { passed: true, output_tail: String::new(), kept: None });
    desk.done("stop_agent", EffectOutput::Swept { killed: 1 });
    let asked = StepState::AwaitingApproval { fingerprint: "f".into(), expires_at: Timestamp(desk.now + 1_000) };
    desk.steps(&[(SagaStep::Push, asked)]);
    assert_eq!(desk.status(1), IssueStatus::WaitingApproval);
    desk.poll(&[issue(1)]);
    assert!(desk.machine.is_quiet());

    // Before the pivot the tracker's word turns it back, also over a restart.
    desk.poll(&[in_state(1, "Done")]);
    assert_eq!(desk.cancels, [desk.performs[0].id]);
    desk.restart();
    desk.done("sweep", EffectOutput::Swept { killed: 0 });
    assert_eq!((desk.performs[0].unwanted, desk.cancels.as_slice()), (true, &[desk.performs[0].id][..]));
    desk.progress(&[], Some(Failure::permanent("canceled", "no")), None);
    desk.done("hand_off", EffectOutput::HandedOff { end: SagaEnd::Compensated });
    assert_eq!((desk.status(1), desk.open()), (IssueStatus::Idle, vec!["remove_workspace"]));
}

fn may(desk: &Desk, kind: ActionKind) -> bool {
    let told = Standing::of(desk.machine.state(), desk.entry(1), Timestamp(desk.now)).allowed();
    told.contains(&kind)
}

#[test]
fn an_approval_is_answered_once_however_often_somebody_says_it() {
    let mut desk = Desk::new(policy());
    desk.reach_delivery();
    let expires_at = Timestamp(desk.now + 600_000);
    let asked = StepState::AwaitingApproval { fingerprint: "f".into(), expires_at };
    desk.steps(&[(SagaStep::Push, asked)]);
    let saga = desk.run().handoff.clone().unwrap().saga.unwrap();
    let say = |desk: &mut Desk, kind, target| act(desk, request(kind, target, json!({})));
    let first = say(&mut desk, "approve", ("saga", &saga));
    assert!(first.accepted);
    for restart in [false, true] {
        if restart {
            desk.restart();
        }
        for kind in ["approve", "deny"] {
            for target in [("issue", "DS-1"), ("saga", saga.as_str())] {
                let refused = say(&mut desk, kind, target);
                assert_eq!(refused.code.as_deref(), Some("no_open_question"), "{kind} {target:?} {restart}");
            }
        }
        assert_eq!(desk.open().iter().filter(|kind| **kind == "tell_saga").count(), 1);
        assert!(!may(&desk, ActionKind::Approve) && !may(&desk, ActionKind::Deny));
    }
    // A word that did not get there leaves the question open.
    desk.fail("tell_saga", Failure::permanent("saga_stopped", "not now"));
    assert!(may(&desk, ActionKind::Approve) && say(&mut desk, "deny", ("issue", "DS-1")).accepted);
}

#[test]
fn each_parked_step_is_told_one_word_at_a_time() {
    let mut desk = Desk::new(policy());
    desk.reach_delivery();
    desk.pushed();
    let both = [SagaStep::Comment, SagaStep::Move];
    desk.steps(&both.map(|step| (step, parked("tracker_status: no"))));
    let say = |desk: &mut Desk, step: SagaStep| {
        let word = json!({"step": step.as_str(), "verb": "retry"});
        act(desk, request("settle", ("issue", "DS-1"), word)).code
    };
    let refused = Some("not_parked".to_owned());
    for step in both {
        assert_eq!([step, step].map(|step| say(&mut desk, step)), [None, refused.clone()]);
    }
    assert!(!may(&desk, ActionKind::Settle));
    assert_eq!(
        act(&mut desk, request("release", ("issue", "DS-1"), json!({}))).code.as_deref(),
        Some("handoff_parked")
    );
    // It was told, tried the step again, and parked it again.
    desk.done("tell_saga", EffectOutput::SagaTold);
    assert!(may(&desk, ActionKind::Settle));
    assert_eq!(both.map(|step| say(&mut desk, step)), [None, refused]);
}

#[test]
fn too_late_to_turn_back_it_is_handed_over() {
    let mut desk = Desk::new(policy());
    desk.reach_delivery();
    desk.steps(&[(SagaStep::Push, StepState::Waiting { failures: 1, due_at: Timestamp(desk.now + 2_000) })]);
    desk.poll(&[in_state(1, "Backlog")]);
    assert_eq!(desk.cancels, [desk.performs[0].id]);
    desk.delivered("Human Review");
    assert_eq!(desk.status(1), IssueStatus::HandedOff);
}

#[test]
fn a_push_that_cannot_be_parks_under_its_own_code() {
    let mut desk = Desk::new(policy());
    desk.reach_delivery();
    desk.refused(&Failure::permanent("branch_in_use", "somebody else has it"));
    assert_eq!(desk.status(1), IssueStatus::Parked);
    assert!(desk.entry(1).reason.as_deref().unwrap().starts_with("branch_in_use"));
    assert!(!desk.kinds().contains(&"issue_reopened"));
    assert_eq!(desk.entry(1).handed_off, None);
}

fn diverged() -> Failure {
    Failure::permanent("branch_diverged", "somebody else pushed")
}

/// To the second delivery, with what somebody else pushed merged.
fn merged(desk: &mut Desk) {
    desk.reach_delivery();
    desk.refused(&diverged());
    assert_eq!((desk.phase(), desk.status(1)), (Some(Phase::Bringing), IssueStatus::Running));
    desk.done("bring_remote", EffectOutput::RemoteBrought { commit: "theirs".into() });
    let resumed = desk.done("start_session", session(SessionStart::Resumed));
    assert!(matches!(resumed.effect, Effect::StartSession { resume: Some(_), seek: None }));
    let prompt = desk.done("prompt", turn_ended(TurnOutcome::Completed));
    let missing = Missing::Diverged { remote: "theirs".into() };
    assert_eq!(
        prompt.effect,
        Effect::Prompt { turn: 2, prompt: PromptSpec::Continue { missing }, messages: Vec::new() }
    );
    desk.answer_assess(Some(issue(1)), Work { head: Some("merge".into()), ..with_commit() });
    desk.done("fetch_commit", EffectOutput::CommitFetched { commit: "merge".into() });
    desk.done("run_check", EffectOutput::CheckEnded { passed: true, output_tail: String::new(), kept: None });
    let close = desk.done("stop_agent", EffectOutput::Swept { killed: 0 });
    assert_ne!(close.key, "run-1/close", "the recorded end is another one's");
}

#[test]
fn what_somebody_else_pushed_is_merged_and_handed_over() {
    let mut desk = Desk::new(policy());
    merged(&mut desk);
    let handoff = desk.take("hand_off");
    assert!(matches!(&handoff.effect, Effect::HandOff { commit, saga, .. }
        if commit.as_str() == "merge" && saga == "run-1.handoff.1"));
    assert_eq!(handoff.key, "run-1/handoff/1", "the refused one is another one");
    desk.performs.push(handoff);
    desk.delivered("Human Review");
    assert_eq!(desk.status(1), IssueStatus::HandedOff);
    assert_eq!(desk.entry(1).handed_off.as_ref().map(|commit| commit.as_str()), Some("merge"));
}

#[test]
fn diverged_again_after_the_merge_parks() {
    let mut desk = Desk::new(policy());
    merged(&mut desk);
    desk.refused(&diverged());
    assert_eq!(desk.status(1), IssueStatus::Parked);
    assert!(desk.entry(1).reason.as_deref().unwrap().starts_with("branch_diverged"));
}

#[test]
fn without_a_turn_left_a_diverged_branch_parks_at_once() {
    let mut policy = policy();
    policy.agent.max_turns = 1;
    let mut desk = Desk::new(policy);
    desk.reach_delivery();
    desk.refused(&diverged());
    assert_eq!(desk.status(1), IssueStatus::Parked);
    assert!(desk.entry(1).reason.as_deref().unwrap().starts_with("branch_diverged"));
}

#[test]
fn a_restart_while_the_remotes_commits_are_brought_brings_them_again() {
    let mut desk = Desk::new(policy());
    desk.reach_delivery();
    desk.refused(&diverged());
    desk.restart();
    desk.done("sweep", EffectOutput::Swept { killed: 0 });
    let again = desk.done("bring_remote", EffectOutput::RemoteBrought { commit: "theirs".into() });
    assert_eq!(again.attempt, 2);
    desk.done("start_session", session(SessionStart::Resumed));
    assert_eq!(desk.open(), ["prompt"]);
}

#[test]
fn before_the_merge_the_trackers_word_stops_the_run() {
    let mut desk = Desk::new(policy());
    desk.reach_delivery();
    desk.refused(&diverged());
    desk.poll(&[in_state(1, "Backlog")]);
    desk.fail("bring_remote", retryable());
    desk.done("stop_agent", EffectOutput::Swept { killed: 0 });
    assert_eq!(desk.status(1), IssueStatus::Idle);
    assert_eq!(desk.kinds().iter().filter(|kind| **kind == "saga_ended").count(), 1);
}

#[test]
fn past_the_pivot_the_trackers_word_does_not_stop_the_handoff() {
    let mut desk = Desk::new(policy());
    desk.reach_delivery();
    desk.poll(&[in_state(1, "Backlog")]);
    assert!(desk.cancels.is_empty());
    assert_eq!(desk.phase(), Some(Phase::Delivering));
}

#[test]
fn before_the_pivot_it_does() {
    let mut desk = Desk::new(policy());
    desk.reach_checks();
    desk.done("run_check", EffectOutput::CheckEnded { passed: true, output_tail: String::new(), kept: None });
    desk.poll(&[in_state(1, "Backlog")]);
    desk.done("stop_agent", EffectOutput::Swept { killed: 1 });
    desk.done("stop_agent", EffectOutput::Swept { killed: 0 });
    assert_eq!(desk.status(1), IssueStatus::Idle);
    assert_eq!(desk.entry(1).handed_off, None);
}

#[test]
fn an_answer_that_is_none_parks_and_nothing_counts_as_delivered() {
    let mut desk = Desk::new(policy());
    desk.reach_delivery();
    desk.done("hand_off", EffectOutput::Commented);
    assert_eq!(desk.entry(1).handed_off, None, "nobody said that it is pushed");
    assert_eq!((desk.status(1), desk.open()), (IssueStatus::Parked, Vec::new()));
    assert!(desk.reason(1).starts_with("wrong_output"), "{}", desk.reason(1));
}

#[test]
fn a_saga_that_cannot_be_run_parks_the_issue_and_what_was_delivered_stays_delivered() {
    for pushed in [false, true] {
        let mut desk = Desk::new(policy());
        desk.reach_delivery();
        if pushed {
            desk.pushed();
        }
        desk.fail("hand_off", Failure::permanent("saga_damaged", "its log cannot be read"));
        assert_eq!((desk.status(1), desk.open()), (IssueStatus::Parked, Vec::new()));
        assert!(desk.reason(1).starts_with("saga_damaged"), "{}", desk.reason(1));
        assert_eq!(desk.entry(1).handed_off.is_some(), pushed);
    }
}

#[test]
fn with_a_forge_the_pull_request_is_the_pivot_and_the_next_handoff_goes_on_with_it() {
    let mut desk = Desk::new(forge_policy());
    desk.reach_delivery();
    desk.opened();
    assert_eq!(desk.entry(1).pull_request, Some(pull_request()));
    assert!(!desk.run().past_pivot(), "a draft is no point of no return");
    let linked = |desk: &Desk| {
        let linked = desk.journal.iter().filter(|recorded| matches!(recorded.event, Event::PullRequestLinked { .. }));
        linked.count()
    };
    assert_eq!(linked(&desk), 1);
    desk.steps(&[(SagaStep::Ready, StepState::Intended)]);
    assert!(desk.run().past_pivot());
    desk.delivered("Human Review");
    assert_eq!((desk.status(1), linked(&desk)), (IssueStatus::HandedOff, 1));

    // Sent back, it goes into the same pull request.
    let sent_back = Issue { description: Some("more".into()), ..in_state(1, "Rework") };
    desk.next_run(&sent_back);
    desk.turn(TurnOutcome::Completed);
    desk.answer_assess(Some(sent_back), with_commit());
    desk.done("fetch_commit", EffectOutput::CommitFetched { commit: "c2".into() });
    desk.done("run_check", EffectOutput::CheckEnded { passed: true, output_tail: String::new(), kept: None });
    desk.done("stop_agent", EffectOutput::Swept { killed: 1 });
    let again = desk.take("hand_off");
    assert!(matches!(again.effect, Effect::HandOff { pull_request: Some(7), .. }), "{:?}", again.effect);
}

#[test]
fn a_push_that_is_undone_was_not_handed_over() {
    let mut desk = Desk::new(forge_policy());
    desk.reach_delivery();
    desk.opened();
    assert_eq!(desk.entry(1).handed_off, Some("c1".into()));
    let failure = Failure::permanent("pull_request_closed", "somebody closed it");
    let refused = StepState::NotApplied { reason: failure.to_string() };
    desk.progress(&[(SagaStep::Ready, refused), (SagaStep::Open, StepState::Undoing)], Some(failure), None);
    desk.steps(&[(SagaStep::Open, StepState::Undone), (SagaStep::Push, StepState::Undoing)]);
    desk.steps(&[(SagaStep::Push, StepState::Undone)]);
    desk.done("hand_off", EffectOutput::HandedOff { end: SagaEnd::Compensated });
    assert_eq!((desk.status(1), desk.entry(1).handed_off.clone()), (IssueStatus::Parked, None));
    assert_eq!(desk.reason(1), "pull_request_closed: somebody closed it");
}

#[test]
fn an_issue_that_turns_terminal_before_the_pivot_turns_the_handoff_back() {
    let mut desk = Desk::new(forge_policy());
    desk.reach_delivery();
    desk.opened();
    desk.poll(&[in_state(1, "Done")]);
    let handoff = desk.performs.iter().find(|request| request.effect.kind() == "hand_off").unwrap().id;
    assert_eq!(desk.cancels, [handoff]);
    desk.steps(&[(SagaStep::Open, StepState::Undone), (SagaStep::Push, StepState::Undone)]);
    desk.done("hand_off", EffectOutput::HandedOff { end: SagaEnd::Compensated });
    assert_eq!(desk.entry(1).handed_off, None);
}

#[test]
fn the_move_is_ours_as_soon_as_the_saga_tells_it() {
    let mut desk = Desk::new(policy());
    desk.reach_delivery();
    desk.pushed();
    desk.progress(&[(SagaStep::Move, StepState::Done)], None, Some("Human Review"));
    assert_eq!((desk.phase(), desk.entry(1).issue.state.as_str()), (Some(Phase::Delivering), "Human Review"));
}

#[test]
fn a_handoff_that_was_given_up_before_it_began_ends_as_the_run_was_to_end() {
    let ended = |code: &str| {
        let mut desk = Desk::new(policy());
        desk.reach_checks();
        desk.done("run_check", EffectOutput::CheckEnded { passed: true, output_tail: String::new(), kept: None });
        desk.done("stop_agent", EffectOutput::Swept { killed: 0 });
        desk.poll(&[in_state(1, "Done")]);
        desk.fail("hand_off", Failure::permanent(code, "it did not begin"));
        desk.reason(1)
    };
    let reason = ended("canceled");
    assert!(!reason.contains("it did not begin"), "{reason}");
    let reason = ended("saga_refused");
    assert!(reason.contains("it did not begin"), "{reason}");
}

#[test]
fn nothing_rests_while_what_a_dead_daemon_left_is_swept() {
    let mut desk = Desk::new(policy());
    desk.reach_delivery();
    desk.restart();
    let sweep = desk.performs.iter().find(|request| request.effect.kind() == "sweep").expect("no sweep").id;
    assert!(!desk.machine.is_resting(sweep) && !desk.machine.is_quiet());
    assert!(!desk.machine.is_handoff(sweep));
    desk.done("sweep", EffectOutput::Swept { killed: 0 });
    assert!(desk.machine.is_handoff(desk.performs[0].id), "{:?}", desk.open());
}

#[test]
fn what_is_given_up_before_it_is_on_disk_is_not_begun() {
    let mut desk = Desk::new(policy());
    desk.poll(&[issue(1)]);
    let prepare = desk.take("prepare_workspace");
    desk.hand(Input::Refresh);
    let at = desk.asks.iter().position(|(_, query)| matches!(query, Query::Poll { .. })).unwrap();
    let (id, _) = desk.asks.remove(at);
    // The session's intent is decided, and not yet written, when the tracker says that the issue is done.
    let (now, answer) = (Timestamp(desk.now), desk.poll_answer(&[in_state(1, "Done")]));
    let outcome = Outcome::Done { output: workspace_ready(true) };
    desk.machine.handle(Input::EffectEnded { id: prepare.id, outcome }, now);
    desk.hand(Input::Answered { id, answer });
    assert_eq!(desk.open(), ["stop_agent"], "and not the session");
}
