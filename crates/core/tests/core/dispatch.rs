//! Symphony §8.2, §8.3, §17.4: who runs, in which order, and who does not.

use crate::desk::*;
use dalsegno_core::*;

#[test]
fn s17_4_dispatch_sorts_by_priority_then_oldest_then_identifier() {
    let mut desk = Desk::new(policy());
    let made = |number, priority, created: Option<i64>| Issue {
        priority,
        created_at: created.map(Timestamp),
        ..issue(number)
    };
    desk.poll(&[
        made(1, Some(0), Some(1)),
        made(2, None, Some(2)),
        made(3, Some(2), Some(9)),
        made(4, Some(2), Some(5)),
        made(5, Some(1), None),
        made(6, Some(2), None),
        made(7, Some(5), Some(1)),
    ]);
    // Zero, five and none sort after 1 to 4, among each other by age, then by identifier.
    assert_eq!(desk.dispatched(), ["i5", "i4", "i3", "i6", "i1", "i7", "i2"]);
}

#[test]
fn s8_3_slots_limit_runs_and_the_rest_is_queued() {
    let mut policy = policy();
    policy.agent.max_concurrent_agents = 2;
    let mut desk = Desk::new(policy);
    desk.poll(&[issue(1), issue(2), issue(3)]);
    assert_eq!(desk.dispatched(), ["i1", "i2"]);
    assert_eq!(desk.status(3), IssueStatus::Queued);
    assert_eq!(desk.entry(3).reason.as_deref(), Some("no available orchestrator slots"));
    assert_eq!(desk.entry(3).runs, 0);
}

#[test]
fn s8_3_limits_per_state_ignore_case_and_leave_others_alone() {
    let mut policy = policy();
    policy.agent.max_concurrent_agents_by_state.insert("todo".into(), 1);
    let mut desk = Desk::new(policy);
    desk.poll(&[in_state(1, "TODO"), in_state(2, "Todo"), in_state(3, "Rework")]);
    assert_eq!(desk.dispatched(), ["i1", "i3"]);
    assert_eq!(desk.status(2), IssueStatus::Queued);
}

#[test]
fn s17_4_undispatchable_issues_wait_until_the_adapter_lets_them() {
    let mut desk = Desk::new(policy());
    let blocked = Issue { dispatchable: false, undispatchable_reason: Some("blocked by DS-9".into()), ..issue(1) };
    desk.poll(&[blocked]);
    assert_eq!(desk.status(1), IssueStatus::Idle);
    let explained = desk.machine.explain("ds-1").unwrap();
    let failing: Vec<&str> = explained.rules.iter().filter(|rule| !rule.pass).map(|rule| rule.rule.as_str()).collect();
    assert_eq!(failing, ["dispatchable"]);
    desk.poll(&[issue(1)]);
    assert_eq!(desk.dispatched(), ["i1"]);
}

#[test]
fn s17_4_required_labels_match_without_case_and_a_blank_one_matches_nothing() {
    let mut wanted = policy();
    wanted.tracker.required_labels = vec![" Agent ".into()];
    let mut desk = Desk::new(wanted.clone());
    desk.poll(&[issue(1), Issue { labels: vec!["agent".into()], ..issue(2) }]);
    assert_eq!(desk.dispatched(), ["i2"]);

    wanted.tracker.required_labels = vec!["  ".into()];
    let mut desk = Desk::new(wanted);
    desk.poll(&[Issue { labels: vec![String::new(), "agent".into()], ..issue(1) }]);
    assert!(desk.dispatched().is_empty());
}

#[test]
fn s8_2_a_state_that_is_active_and_terminal_is_terminal() {
    let mut policy = policy();
    policy.tracker.active_states.push("Done".into());
    let mut desk = Desk::new(policy);
    desk.poll(&[in_state(1, "Done")]);
    assert!(desk.dispatched().is_empty());
}

#[test]
fn s6_3_a_broken_workflow_holds_dispatch_and_a_good_one_goes_on() {
    let mut desk = Desk::new(policy());
    desk.hand(Input::PolicyRejected(Failure::permanent("workflow_parse_error", "no")));
    desk.poll(&[issue(1)]);
    assert!(desk.dispatched().is_empty());
    let policy = Box::new(desk.policy.clone());
    desk.hand(Input::PolicyLoaded { hash: "p".into(), policy });
    desk.poll(&[issue(1)]);
    assert_eq!(desk.dispatched(), ["i1"]);
}

#[test]
fn a_drained_daemon_takes_no_new_work_and_ends_what_it_has() {
    let mut desk = Desk::new(policy());
    desk.poll(&[issue(1)]);
    desk.hand(Input::Drain);
    desk.pass(60_000);
    assert!(!desk.asks.iter().any(|(_, query)| matches!(query, Query::Poll { .. })));
    desk.done("prepare_workspace", workspace_ready(true));
    assert_eq!(desk.open(), ["start_session"]);
    let explained = desk.machine.explain("i1").unwrap();
    assert!(explained.rules.iter().any(|rule| rule.rule == "not_drained" && !rule.pass));
}

#[test]
fn s17_4_an_active_refresh_updates_the_running_entry() {
    let mut desk = Desk::new(policy());
    desk.poll(&[issue(1)]);
    desk.poll(&[Issue { title: "new".into(), ..in_state(1, "Rework") }]);
    assert_eq!(desk.entry(1).issue.title, "new");
    assert_eq!(desk.open(), ["prepare_workspace"]);
}

#[test]
fn s17_4_a_terminal_state_stops_the_run_and_cleans_the_workspace() {
    let mut desk = Desk::new(policy());
    desk.reach_turn();
    desk.poll(&[in_state(1, "Done")]);
    assert_eq!(desk.cancels.len(), 1);
    desk.turn(TurnOutcome::Interrupted);
    desk.done("stop_agent", EffectOutput::Swept { killed: 1 });
    assert_eq!(desk.status(1), IssueStatus::Idle);
    desk.done("remove_workspace", EffectOutput::WorkspaceRemoved);
    assert_eq!(desk.entry(1).workspace, None);
}

#[test]
fn s17_4_a_resting_state_stops_the_run_and_leaves_the_workspace() {
    for gone in [in_state(1, "Backlog"), Issue { dispatchable: false, ..issue(1) }] {
        let mut desk = Desk::new(policy());
        desk.reach_turn();
        desk.poll(&[gone]);
        desk.turn(TurnOutcome::Interrupted);
        desk.done("stop_agent", EffectOutput::Swept { killed: 1 });
        assert_eq!(desk.status(1), IssueStatus::Idle);
        assert!(desk.open().is_empty());
        assert!(desk.entry(1).workspace.is_some());
    }
}

#[test]
fn s8_5_an_issue_that_vanished_stops_its_run() {
    let mut desk = Desk::new(policy());
    desk.reach_turn();
    desk.poll(&[]);
    desk.turn(TurnOutcome::Interrupted);
    desk.done("stop_agent", EffectOutput::Swept { killed: 1 });
    desk.poll(&[]);
    assert!(desk.machine.state().issues.is_empty());
}

#[test]
fn s8_5_a_failed_refresh_leaves_runs_alone() {
    let mut desk = Desk::new(policy());
    desk.reach_turn();
    desk.hand(Input::Refresh);
    let (id, _) = desk.asks.remove(0);
    let answer = Answer::poll(Err(retryable()), Ok(Vec::new()), Vec::new());
    desk.hand(Input::Answered { id, answer });
    assert_eq!(desk.phase(), Some(Phase::Prompting));
    assert!(desk.machine.state().tracker_failure.is_some());
    assert!(desk.cancels.is_empty());
}

#[test]
fn a_refresh_during_a_poll_is_followed_by_another_poll() {
    let mut desk = Desk::new(policy());
    desk.poll(&[]);
    desk.hand(Input::Refresh);
    let (id, _) = desk.asks.remove(0);
    assert!(desk.asks.is_empty());
    desk.hand(Input::Refresh);
    let answer = Answer::poll(Ok(Vec::new()), Ok(Vec::new()), Vec::new());
    desk.hand(Input::Answered { id, answer });
    assert_eq!(desk.asks.len(), 1, "what was asked for during the poll is lost");
}

#[test]
fn an_issue_that_cannot_be_read_is_neither_gone_nor_changed() {
    let mut desk = Desk::new(policy());
    desk.reach_turn();
    let (known, runs) = (desk.machine.state().issues.clone(), desk.machine.state().runs.len());
    desk.hand(Input::Refresh);
    let (id, _) = desk.asks.remove(0);
    let unreadable = known.keys().cloned().collect();
    desk.hand(Input::Answered { id, answer: Answer::poll(Ok(Vec::new()), Ok(Vec::new()), unreadable) });
    assert_eq!(desk.machine.state().issues, known);
    assert_eq!(desk.machine.state().runs.len(), runs);
    assert!(desk.cancels.is_empty());
}

#[test]
fn s17_4_reconciliation_without_runs_does_nothing() {
    let mut desk = Desk::new(policy());
    desk.poll(&[]);
    let before = desk.journal.len();
    desk.poll(&[]);
    assert_eq!(desk.journal.len(), before);
}

#[test]
fn a_dirty_workspace_of_a_closed_issue_is_kept_and_asked_about_once() {
    let mut desk = Desk::new(policy());
    desk.reach_turn();
    desk.poll(&[in_state(1, "Done")]);
    desk.turn(TurnOutcome::Interrupted);
    desk.done("stop_agent", EffectOutput::Swept { killed: 1 });
    desk.done("remove_workspace", EffectOutput::WorkspaceKept { reason: "a.txt".into() });
    desk.poll(&[in_state(1, "Done")]);
    assert!(desk.open().is_empty());
    assert!(desk.entry(1).workspace.is_some());
}
