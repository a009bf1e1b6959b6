//! Symphony §8.4, §17.4: what happens after a run.

use crate::desk::*;
use dalsegno_core::*;

fn due(desk: &Desk) -> i64 {
    assert_eq!(desk.status(1), IssueStatus::WaitingRetry);
    desk.entry(1).due_at.unwrap().0 - desk.now
}

fn fail_a_run(desk: &mut Desk) {
    desk.fail("prepare_workspace", retryable());
    desk.done("stop_agent", EffectOutput::Swept { killed: 0 });
}

#[test]
fn s17_4_failures_back_off_from_ten_seconds_doubling_to_the_cap() {
    let mut policy = policy();
    policy.agent.max_retry_backoff_ms = 65_000;
    policy.breaker.same_failure = 0;
    let mut desk = Desk::new(policy);
    for (attempt, wait) in [10_000, 20_000, 40_000, 65_000, 65_000].into_iter().enumerate() {
        desk.poll(&[issue(1)]);
        let live = desk.machine.state().runs.values().next().unwrap();
        assert_eq!(live.attempt, u32::try_from(attempt).ok().filter(|attempt| *attempt > 0));
        fail_a_run(&mut desk);
        assert_eq!(due(&desk), wait);
        assert!(desk.entry(1).reason.as_deref().unwrap().starts_with("test_failure"));
        desk.pass(wait);
    }
}

#[test]
fn s17_4_a_retry_keeps_its_due_time_through_a_restart() {
    let mut desk = Desk::new(policy());
    desk.poll(&[issue(1)]);
    fail_a_run(&mut desk);
    desk.now += 4_000;
    desk.restart();
    assert_eq!(due(&desk), 6_000);
    desk.poll(&[issue(1)]);
    assert_eq!(desk.dispatched().len(), 1);
    desk.pass(6_000);
    desk.poll(&[issue(1)]);
    assert_eq!(desk.dispatched().len(), 2);
}

#[test]
fn s17_4_a_clean_end_without_handoff_continues_after_a_second_as_attempt_one() {
    let mut policy = policy();
    policy.handoff = None;
    policy.agent.max_turns = 1;
    let mut desk = Desk::new(policy);
    desk.reach_turn();
    desk.turn(TurnOutcome::Completed);
    desk.answer_assess(Some(issue(1)), without_commit());
    desk.done("stop_agent", EffectOutput::Swept { killed: 1 });
    assert_eq!(due(&desk), 1_000);
    desk.pass(1_000);
    desk.poll(&[issue(1)]);
    assert_eq!(desk.machine.state().runs.values().next().unwrap().attempt, Some(1));
}

#[test]
fn s17_4_a_due_retry_without_a_slot_is_queued_with_the_reason() {
    let mut policy = policy();
    policy.agent.max_concurrent_agents = 1;
    let mut desk = Desk::new(policy);
    desk.poll(&[issue(1)]);
    fail_a_run(&mut desk);
    desk.poll(&[issue(1), issue(2)]);
    desk.pass(10_000);
    desk.poll(&[issue(1), issue(2)]);
    assert_eq!(desk.status(1), IssueStatus::Queued);
    assert_eq!(desk.entry(1).runs, 1);
}

#[test]
fn s8_4_a_waiting_issue_that_is_no_longer_wanted_is_released() {
    for (state, workspace) in [("Done", false), ("Backlog", false)] {
        let mut desk = Desk::new(policy());
        desk.poll(&[issue(1)]);
        fail_a_run(&mut desk);
        desk.poll(&[in_state(1, state)]);
        assert_eq!(desk.status(1), IssueStatus::Idle);
        assert_eq!(desk.entry(1).workspace.is_some(), workspace);
    }
}

#[test]
fn a_permanent_failure_parks_with_its_remedy() {
    let mut desk = Desk::new(policy());
    desk.poll(&[issue(1)]);
    desk.fail("prepare_workspace", Failure::permanent("base_not_found", "no main").hint("set workspace.base"));
    desk.done("stop_agent", EffectOutput::Swept { killed: 0 });
    assert_eq!(desk.status(1), IssueStatus::Parked);
    let reason = desk.entry(1).reason.clone().unwrap();
    assert!(reason.contains("base_not_found") && reason.contains("set workspace.base"), "{reason}");
}

#[test]
fn runs_exhausted_parks_and_somebody_elses_change_starts_afresh() {
    let mut policy = policy();
    policy.budget.issue_runs = 2;
    let mut desk = Desk::new(policy);
    desk.poll(&[issue(1)]);
    fail_a_run(&mut desk);
    desk.pass(10_000);
    desk.poll(&[issue(1)]);
    fail_a_run(&mut desk);
    assert_eq!(desk.status(1), IssueStatus::Parked);
    assert!(desk.entry(1).reason.as_deref().unwrap().starts_with("runs_exhausted: 2 of 2"));
    desk.poll(&[issue(1)]);
    assert_eq!(desk.dispatched().len(), 2);
    desk.poll(&[in_state(1, "Rework")]);
    assert_eq!(desk.dispatched().len(), 3);
    assert_eq!(desk.machine.state().runs.values().next().unwrap().attempt, None);
}

#[test]
fn an_issue_released_with_its_last_run_is_parked_or_starts_afresh() {
    let mut policy = policy();
    policy.budget.issue_runs = 1;
    let mut desk = Desk::new(policy);
    desk.reach_turn();
    desk.poll(&[Issue { dispatchable: false, ..issue(1) }]);
    desk.turn(TurnOutcome::Interrupted);
    desk.done("stop_agent", EffectOutput::Swept { killed: 1 });
    // Its blocker is done: nobody changed the issue itself.
    desk.poll(&[issue(1)]);
    assert_eq!(desk.status(1), IssueStatus::Parked);

    let mut desk = Desk::new(desk.policy.clone());
    desk.reach_turn();
    desk.poll(&[in_state(1, "Backlog")]);
    desk.turn(TurnOutcome::Interrupted);
    desk.done("stop_agent", EffectOutput::Swept { killed: 1 });
    desk.poll(&[in_state(1, "Todo")]);
    assert_eq!(desk.dispatched().len(), 2);
}

#[test]
fn s17_4_a_stalled_session_is_killed_and_retried() {
    let mut desk = Desk::new(policy());
    desk.reach_turn();
    desk.pass(299_000);
    let run = desk.machine.state().runs.keys().next().unwrap().clone();
    desk.hand(Input::Signal { run, signal: Signal::Activity });
    desk.pass(299_000);
    assert!(desk.cancels.is_empty());
    desk.pass(2_000);
    assert_eq!(desk.cancels.len(), 1);
    desk.turn(TurnOutcome::Interrupted);
    desk.done("stop_agent", EffectOutput::Swept { killed: 1 });
    assert_eq!(due(&desk), 10_000);
    assert!(desk.entry(1).reason.as_deref().unwrap().starts_with("stalled"));
}

#[test]
fn s8_5_no_stall_timeout_means_no_stalls_and_a_jump_of_the_clock_starts_over() {
    let mut off = policy();
    off.agent.stall_timeout_ms = 0;
    let mut desk = Desk::new(off);
    desk.reach_turn();
    desk.pass(100_000_000);
    assert!(desk.cancels.is_empty());

    let mut desk = Desk::new(policy());
    desk.reach_turn();
    desk.now += 10_000_000;
    desk.hand(Input::ClockJumped);
    assert!(desk.cancels.is_empty());
}

#[test]
fn a_long_check_does_not_count_as_silence_of_the_next_turn() {
    let mut desk = Desk::new(policy());
    desk.reach_checks();
    desk.now += 600_000;
    desk.done("run_check", EffectOutput::CheckEnded { passed: false, output_tail: "no".into(), kept: None });
    assert!(desk.cancels.is_empty());
    assert_eq!(desk.open(), ["prompt"]);
}
