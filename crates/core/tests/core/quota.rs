//! Quota: a refusal with a reset time suspends a kind of agent, and the time survives every restart.

use crate::desk::*;
use dalsegno_core::*;

fn refuse(desk: &mut Desk, reset_at: Option<i64>) {
    desk.turn(TurnOutcome::RateLimited { reset_at: reset_at.map(Timestamp) });
    desk.done("stop_agent", EffectOutput::Swept { killed: 1 });
}

#[test]
fn the_kind_is_suspended_until_the_reset_and_the_issue_goes_on_then() {
    let mut desk = Desk::new(policy());
    desk.reach_turn();
    let until = desk.now + 900_000;
    refuse(&mut desk, Some(until));
    assert_eq!(desk.status(1), IssueStatus::WaitingQuota);
    assert_eq!(desk.entry(1).due_at, Some(Timestamp(until)));
    desk.poll(&[issue(1), issue(2)]);
    assert_eq!(desk.status(2), IssueStatus::Queued);
    let explained = desk.machine.explain("DS-2").unwrap();
    let rule = explained.rules.iter().find(|rule| !rule.pass).unwrap();
    assert_eq!(rule.rule, "agent_available");
    assert!(rule.detail.contains("the quota of acp is used up; it resets in 900 s"), "{}", rule.detail);

    desk.restart();
    desk.poll(&[issue(1), issue(2)]);
    assert_eq!(desk.status(1), IssueStatus::WaitingQuota);
    assert_eq!(desk.dispatched().len(), 1);
    desk.now = until - 1;
    desk.poll(&[issue(1), issue(2)]);
    assert_eq!(desk.dispatched().len(), 1);
    assert_eq!(desk.wake, Some(Timestamp(until)));
    desk.pass(1);
    desk.poll(&[issue(1), issue(2)]);
    assert_eq!(desk.dispatched().len(), 3);
    assert!(desk.machine.state().suspended.is_empty());
    assert_eq!(desk.kinds().iter().filter(|kind| **kind == "agent_resumed").count(), 1);
}

#[test]
fn issues_of_another_kind_go_on() {
    let mut desk = Desk::new(policy());
    desk.reach_turn();
    let until = desk.now + 900_000;
    refuse(&mut desk, Some(until));
    let mut other = policy();
    other.agent.kind = AgentKind::Codex;
    desk.hand(Input::PolicyLoaded { hash: "other".into(), policy: Box::new(other) });
    desk.poll(&[issue(1), issue(2)]);
    assert_eq!(desk.status(2), IssueStatus::Running);
}

#[test]
fn the_time_is_never_moved_closer() {
    let mut desk = Desk::new(policy());
    desk.poll(&[issue(1), issue(2)]);
    for _ in 0..2 {
        desk.done("prepare_workspace", workspace_ready(true));
        desk.done("start_session", session(SessionStart::New));
    }
    let until = desk.now + 900_000;
    let sooner = desk.now + 60_000;
    refuse(&mut desk, Some(until));
    refuse(&mut desk, Some(sooner));
    assert_eq!(desk.machine.state().suspended.values().copied().collect::<Vec<_>>(), [Timestamp(until)]);
    desk.pass(60_000);
    desk.poll(&[issue(1), issue(2)]);
    assert_eq!(desk.dispatched().len(), 2);
}

#[test]
fn switched_off_or_too_far_away_the_issue_parks_and_nothing_is_suspended() {
    for (on, wait) in [(false, 60_000), (true, 9 * 86_400_000)] {
        let mut quota = policy();
        quota.quota.resume_at_reset = on;
        let mut desk = Desk::new(quota);
        desk.reach_turn();
        let until = desk.now + wait;
        refuse(&mut desk, Some(until));
        assert!(desk.reason(1).starts_with("quota_exhausted"), "{}", desk.reason(1));
        assert_eq!(desk.status(1), IssueStatus::Parked);
        assert!(desk.machine.state().suspended.is_empty());
    }
}

#[test]
fn an_endless_refusal_meets_the_ceiling_of_runs_across_restarts_and_trips_no_breaker() {
    for reset in [None, Some(-5_000), Some(30_000)] {
        let mut few = policy();
        few.budget.issue_runs = 6;
        let mut desk = Desk::new(few);
        desk.reach_turn();
        for run in 1..=6 {
            let reset_at = reset.map(|ms| desk.now + ms);
            refuse(&mut desk, reset_at);
            assert_eq!(desk.entry(1).runs, run);
            if run < 6 {
                let waits = if reset == Some(30_000) { IssueStatus::WaitingQuota } else { IssueStatus::WaitingRetry };
                assert_eq!(desk.status(1), waits);
                desk.restart();
                desk.now += 400_000;
                desk.next_run(&issue(1));
            }
        }
        assert!(desk.reason(1).starts_with("runs_exhausted"), "{}", desk.reason(1));
    }
}
