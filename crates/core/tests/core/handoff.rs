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
    desk.fail("push_branch", Failure::permanent("branch_diverged", "somebody else pushed"));
    assert_eq!(desk.status(1), IssueStatus::Parked);
    assert!(desk.entry(1).reason.as_deref().unwrap().starts_with("branch_diverged"));
    assert!(!desk.kinds().contains(&"issue_reopened"));
    assert_eq!(desk.entry(1).handed_off, None);
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
