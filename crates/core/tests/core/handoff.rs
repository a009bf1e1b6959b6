//! The steps of a handoff: order, failure, parking.

use crate::desk::*;
use dalsegno_core::*;

#[test]
fn the_agent_ends_before_the_push_and_nothing_else_starts_before_the_push_is_done() {
    let mut desk = Desk::new(policy());
    desk.reach_checks();
    desk.done("run_check", EffectOutput::CheckEnded { passed: true, output_tail: String::new() });
    assert_eq!(desk.open(), ["stop_agent"]);
    desk.done("stop_agent", EffectOutput::Swept { killed: 1 });
    assert_eq!(desk.open(), ["push_branch"]);
    desk.done("push_branch", EffectOutput::Pushed);
    assert_eq!(desk.open(), ["comment", "move_issue"]);
    assert_eq!(desk.entry(1).handed_off, Some("c1".into()));
}

#[test]
fn each_check_runs_once_in_order_and_the_evidence_names_them() {
    let mut two = policy();
    two.handoff.as_mut().unwrap().checks = vec!["./lint".into(), "./test".into()];
    let mut desk = Desk::new(two);
    desk.reach_checks();
    let first = desk.done("run_check", EffectOutput::CheckEnded { passed: true, output_tail: String::new() });
    assert_eq!(first.effect, Effect::RunCheck { commit: "c1".into(), index: 0 });
    let second = desk.done("run_check", EffectOutput::CheckEnded { passed: true, output_tail: String::new() });
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

#[test]
fn a_failed_step_is_tried_again_with_a_growing_wait_and_parks_in_the_end() {
    let mut desk = Desk::new(policy());
    desk.reach_delivery();
    desk.done("push_branch", EffectOutput::Pushed);
    desk.done("move_issue", EffectOutput::Moved { state: "Human Review".into() });
    let mut key = None;
    for wait in [2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000] {
        let request = desk.performs.first().unwrap().clone();
        assert_eq!(*key.get_or_insert(request.key.clone()), request.key, "the same idempotency key");
        desk.fail("comment", retryable());
        desk.pass(wait - 1);
        assert!(desk.open().is_empty(), "before {wait}");
        desk.pass(1);
    }
    desk.fail("comment", retryable());
    assert_eq!(desk.status(1), IssueStatus::Parked);
    let reason = desk.entry(1).reason.clone().unwrap();
    assert!(reason.starts_with("handoff_step_failed: the branch is pushed, but comment"), "{reason}");
}

#[test]
fn a_push_that_cannot_be_parks_under_its_own_code() {
    let mut desk = Desk::new(policy());
    desk.reach_delivery();
    desk.fail("push_branch", Failure::permanent("branch_in_use", "somebody else has it"));
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
    desk.fail("push_branch", diverged());
    assert_eq!((desk.phase(), desk.status(1)), (Some(Phase::Bringing), IssueStatus::Running));
    desk.done("bring_remote", EffectOutput::RemoteBrought { commit: "theirs".into() });
    let resumed = desk.done("start_session", session(SessionStart::Resumed));
    assert!(matches!(resumed.effect, Effect::StartSession { resume: Some(_), seek: None }));
    let prompt = desk.done("prompt", turn_ended(TurnOutcome::Completed));
    let missing = Missing::Diverged { remote: "theirs".into() };
    assert_eq!(prompt.effect, Effect::Prompt { turn: 2, prompt: PromptSpec::Continue { missing } });
    desk.answer_assess(Some(issue(1)), Work { head: Some("merge".into()), ..with_commit() });
    desk.done("fetch_commit", EffectOutput::CommitFetched { commit: "merge".into() });
    desk.done("run_check", EffectOutput::CheckEnded { passed: true, output_tail: String::new() });
    let close = desk.done("stop_agent", EffectOutput::Swept { killed: 0 });
    assert_ne!(close.key, "run-1/close", "the recorded end is another one's");
}

#[test]
fn what_somebody_else_pushed_is_merged_and_handed_over() {
    let mut desk = Desk::new(policy());
    merged(&mut desk);
    let push = desk.done("push_branch", EffectOutput::Pushed);
    assert!(matches!(&push.effect, Effect::PushBranch { commit, .. } if commit.as_str() == "merge"));
    assert_ne!(push.key, "run-1/push", "the refused push is another one");
    desk.done("comment", EffectOutput::Commented);
    desk.done("move_issue", EffectOutput::Moved { state: "Human Review".into() });
    assert_eq!(desk.status(1), IssueStatus::HandedOff);
    assert_eq!(desk.entry(1).handed_off.as_ref().map(|commit| commit.as_str()), Some("merge"));
}

#[test]
fn diverged_again_after_the_merge_parks() {
    let mut desk = Desk::new(policy());
    merged(&mut desk);
    desk.fail("push_branch", diverged());
    assert_eq!(desk.status(1), IssueStatus::Parked);
    assert!(desk.entry(1).reason.as_deref().unwrap().starts_with("branch_diverged"));
}

#[test]
fn without_a_turn_left_a_diverged_branch_parks_at_once() {
    let mut policy = policy();
    policy.agent.max_turns = 1;
    let mut desk = Desk::new(policy);
    desk.reach_delivery();
    desk.fail("push_branch", diverged());
    assert_eq!(desk.status(1), IssueStatus::Parked);
    assert!(desk.entry(1).reason.as_deref().unwrap().starts_with("branch_diverged"));
}

#[test]
fn a_restart_while_the_remotes_commits_are_brought_brings_them_again() {
    let mut desk = Desk::new(policy());
    desk.reach_delivery();
    desk.fail("push_branch", diverged());
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
    desk.fail("push_branch", diverged());
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
    desk.done("run_check", EffectOutput::CheckEnded { passed: true, output_tail: String::new() });
    desk.poll(&[in_state(1, "Backlog")]);
    desk.done("stop_agent", EffectOutput::Swept { killed: 1 });
    desk.done("stop_agent", EffectOutput::Swept { killed: 0 });
    assert_eq!(desk.status(1), IssueStatus::Idle);
    assert_eq!(desk.entry(1).handed_off, None);
}

#[test]
fn a_step_that_answers_something_else_parks_and_is_not_done_again() {
    let mut desk = Desk::new(policy());
    desk.reach_delivery();
    desk.done("push_branch", EffectOutput::Commented);
    assert_eq!(desk.entry(1).handed_off, None, "nobody said that it is pushed");
    assert_eq!((desk.status(1), desk.open()), (IssueStatus::Parked, Vec::new()));
    assert!(desk.reason(1).starts_with("wrong_output"), "{}", desk.reason(1));
}

#[test]
fn what_fails_past_the_pivot_and_is_no_step_parks_the_issue() {
    for (pushed, commented) in [(false, false), (true, false), (true, true)] {
        let mut desk = Desk::new(policy());
        desk.reach_delivery();
        if pushed {
            desk.done("push_branch", EffectOutput::Pushed);
        }
        if commented {
            desk.done("comment", EffectOutput::Commented);
        }
        // Another version's handoff did something that is no step of this one's.
        let last = desk.journal.last().unwrap();
        let (seq, at) = (last.seq + 1, last.at);
        let event = Event::EffectIntended {
            effect_id: EffectId(90),
            issue: "i1".into(),
            run: Some("run-1".into()),
            key: "run-1/other".into(),
            attempt: 1,
            effect: Effect::FetchCommit,
        };
        desk.journal.push(Recorded { seq, at, event });
        desk.restart();
        desk.done("sweep", EffectOutput::Swept { killed: 0 });
        if commented {
            desk.doubt("fetch_commit")
        } else {
            desk.fail("fetch_commit", retryable())
        }
        for _ in 0..=usize::from(pushed && !commented) {
            desk.answer_probe(ProbeAnswer::NotApplied);
        }
        if pushed {
            if !commented {
                desk.done("comment", EffectOutput::Commented);
            }
            desk.done("move_issue", EffectOutput::Moved { state: "Human Review".into() });
        } else {
            desk.done("push_branch", EffectOutput::Pushed);
        }
        assert_eq!((desk.status(1), desk.open()), (IssueStatus::Parked, Vec::new()), "{pushed} {commented}");
        let code = if commented { "in_doubt: fetch_commit" } else { "test_failure" };
        assert!(desk.reason(1).starts_with(code), "{}", desk.reason(1));
        assert_eq!(desk.entry(1).handed_off, Some("c1".into()), "what was delivered stays delivered");
    }
}
