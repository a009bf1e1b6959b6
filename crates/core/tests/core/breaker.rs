//! Breakers: what leads nowhere parks with the evidence, over runs and restarts; what is no failure does not.

use crate::desk::*;
use dalsegno_core::*;

fn fail_with(desk: &mut Desk, message: &str) {
    desk.poll(&[issue(1)]);
    desk.fail("prepare_workspace", Failure::retryable("agent_exit", message));
    desk.done("stop_agent", EffectOutput::Swept { killed: 0 });
    desk.now += 400_000;
}

fn idle_turn(desk: &mut Desk, issue: &Issue, tools: Option<&str>) {
    desk.turn_of(Usage::new(1, 0), None, tools);
    desk.answer_assess(Some(issue.clone()), without_commit());
}

fn patient() -> Policy {
    let mut policy = policy();
    policy.agent.max_turns = 50;
    policy
}

fn described(text: &str) -> Issue {
    Issue { description: Some(text.into()), ..issue(1) }
}

/// Parked by the same failure three times; the moment at which that was.
fn tripped() -> (Desk, i64) {
    let mut desk = Desk::new(policy());
    for _ in 0..3 {
        fail_with(&mut desk, "it ended with code 1");
    }
    assert!(desk.reason(1).starts_with("breaker_same_failure"), "{}", desk.reason(1));
    let at = desk.entry(1).parked.as_ref().unwrap().at.0;
    (desk, at)
}

#[test]
fn the_signature_of_a_failure_has_no_numbers_and_no_ids() {
    let one = signature("agent_exit: process 4711 ended with code 1 (session 0af3-77, deadbeef) at 12:00");
    let two = signature("agent_exit: process 12 ended with code 137 (session 9b-001, cafebabe) at 13:30");
    assert_eq!(one, two);
    assert_ne!(one, signature("agent_exit: process 12 was killed"));
    assert_ne!(signature("agent_exit: no"), signature("agent_protocol: no"));
}

#[test]
fn the_same_failure_again_and_again_parks_with_the_runs_across_restarts() {
    let mut desk = Desk::new(policy());
    for code in [1, 2] {
        fail_with(&mut desk, &format!("it ended with code {code}"));
        desk.restart();
        assert_eq!(desk.entry(1).breaker.failures.len(), code);
    }
    fail_with(&mut desk, "it ended with code 3");
    assert_eq!(desk.status(1), IssueStatus::Parked);
    let reason = desk.reason(1);
    assert!(reason.contains("3 runs in a row (run-1, run-2, run-3)") && reason.contains("code 3"), "{reason}");
}

#[test]
fn another_failure_begins_another_row() {
    let mut desk = Desk::new(policy());
    for message in ["one", "one", "two", "two", "one"] {
        fail_with(&mut desk, message);
        assert_eq!(desk.status(1), IssueStatus::WaitingRetry);
    }
}

#[test]
fn turns_without_progress_park_over_the_borders_of_runs() {
    let mut desk = Desk::new(patient());
    desk.reach_turn();
    for _ in 0..3 {
        idle_turn(&mut desk, &issue(1), None);
    }
    desk.turn(TurnOutcome::Failed { failure: retryable() });
    desk.stop();
    desk.now += 10_000;
    desk.restart();
    desk.next_run(&issue(1));
    // A turn that is cut feeds nothing.
    desk.restart();
    desk.done("sweep", EffectOutput::Swept { killed: 1 });
    desk.done("start_session", session(SessionStart::ResumedPromptFound));
    idle_turn(&mut desk, &issue(1), None);
    assert_eq!(desk.open(), ["prompt"]);
    idle_turn(&mut desk, &issue(1), None);
    desk.stop();
    let reason = desk.reason(1);
    assert!(reason.starts_with("breaker_no_progress: 5 turns since run-1 turn 1"), "{reason}");
    assert!(reason.contains("head base") && reason.contains("nothing was committed"), "{reason}");
}

#[test]
fn a_new_tool_result_a_changed_file_or_a_commit_is_progress() {
    let mut desk = Desk::new(patient());
    desk.reach_turn();
    for round in 0..30 {
        idle_turn(&mut desk, &issue(1), Some(&format!("result {round}")));
    }
    assert_eq!(desk.open(), ["prompt"]);
    assert_eq!(desk.entry(1).breaker.tool_digests.len(), 16, "not all results are remembered for ever");
    for round in 0..5 {
        desk.turn_of(Usage::new(1, 0), None, Some("result 29"));
        let diff_digest = (round < 4).then(|| format!("d{round}"));
        desk.answer_assess(Some(issue(1)), Work { diff_digest, ..without_commit() });
        assert_eq!(desk.entry(1).breaker.idle_turns, 0);
    }
    // The old result and the same work again.
    for _ in 0..5 {
        idle_turn(&mut desk, &issue(1), Some("result 29"));
    }
    desk.stop();
    assert!(desk.reason(1).starts_with("breaker_no_progress"));
}

#[test]
fn where_nothing_can_be_measured_nothing_is_counted() {
    let mut desk = Desk::new(patient());
    desk.reach_turn();
    for _ in 0..20 {
        desk.turn_of(Usage::new(1, 0), None, None);
        // What was never seen before cannot have changed.
        let work = Work { head: None, has_commits: false, uncommitted: vec!["a.txt".into()], diff_digest: None };
        desk.answer_assess(Some(issue(1)), work);
    }
    assert_eq!(desk.open(), ["prompt"]);
    assert!(!desk.kinds().contains(&"progress"));
}

#[test]
fn each_measure_alone_shows_that_nothing_was_done() {
    let nothing = || Work { head: None, ..without_commit() };
    let looks = [
        (without_commit(), None),
        (Work { diff_digest: Some("d".into()), ..nothing() }, None),
        (nothing(), Some("the same result")),
    ];
    for (work, tools) in looks {
        let mut desk = Desk::new(patient());
        desk.reach_turn();
        for _ in 0..20 {
            if desk.open() != ["prompt"] {
                break;
            }
            desk.turn_of(Usage::new(1, 0), None, tools);
            desk.answer_assess(Some(issue(1)), work.clone());
        }
        desk.stop();
        assert!(desk.reason(1).starts_with("breaker_no_progress"), "{work:?} {tools:?}: {}", desk.reason(1));
    }
}

#[test]
fn work_that_was_there_before_an_issue_was_reopened_is_no_progress_after_it() {
    let work = || Work { uncommitted: vec!["a.txt".into()], ..without_commit() };
    let mut desk = Desk::new(patient());
    desk.reach_turn();
    while desk.open() == ["prompt"] {
        desk.turn_of(Usage::new(1, 0), None, None);
        desk.answer_assess(Some(issue(1)), work());
    }
    desk.stop();
    assert!(desk.reason(1).starts_with("breaker_no_progress"), "{}", desk.reason(1));
    desk.now += 3_600_000;
    desk.next_run(&described("again"));
    desk.turn_of(Usage::new(1, 0), None, None);
    desk.answer_assess(Some(described("again")), work());
    assert_eq!(desk.entry(1).breaker.idle_turns, 1);
}

#[test]
fn a_long_quiet_turn_is_no_failure() {
    let mut quiet = patient();
    quiet.agent.stall_timeout_ms = 0;
    let mut desk = Desk::new(quiet);
    desk.reach_turn();
    for _ in 0..50 {
        desk.pass(3_600_000);
    }
    assert_eq!(desk.open().iter().filter(|kind| **kind == "prompt").count(), 1);
    assert!(desk.cancels.is_empty());
}

#[test]
fn while_it_is_held_others_do_not_reopen_it_and_what_they_changed_counts_afterwards() {
    let (mut desk, at) = tripped();
    desk.now = at + 60_000;
    desk.poll(&[described("again")]);
    assert_eq!(desk.status(1), IssueStatus::Parked);
    let until = at + 1_800_000;
    assert_eq!(desk.entry(1).due_at, Some(Timestamp(until)));
    let explained = desk.machine.explain("DS-1").unwrap();
    let rule = explained.rules.iter().find(|rule| rule.rule == "status_allows").unwrap();
    assert!(rule.remedy.as_ref().unwrap().contains("changes in the tracker count in 1740 s"), "{rule:?}");
    desk.restart();
    desk.poll(&[described("again")]);
    desk.now = until - 1;
    desk.poll(&[described("again")]);
    assert_eq!(desk.status(1), IssueStatus::Parked);
    assert_eq!(desk.wake, Some(Timestamp(until)));
    desk.pass(1);
    assert_eq!(desk.status(1), IssueStatus::Idle);
    assert!(desk.entry(1).breaker.failures.is_empty());
    desk.poll(&[described("again")]);
    assert_eq!(desk.status(1), IssueStatus::Running);
}

#[test]
fn a_poll_that_is_answered_in_the_moment_in_which_a_hold_ends_dispatches() {
    let (mut desk, at) = tripped();
    desk.now = at + 60_000;
    desk.poll(&[described("again")]);
    desk.now = at + 1_800_000 - 1;
    desk.hand(Input::Refresh);
    assert!(desk.asks.iter().any(|(_, query)| matches!(query, Query::Poll { .. })), "asked while it is held");
    desk.now += 1;
    desk.poll(&[described("again")]);
    assert_eq!(desk.status(1), IssueStatus::Running);
}

#[test]
fn a_change_that_was_taken_back_while_it_was_held_reopens_nothing() {
    let (mut desk, at) = tripped();
    desk.now = at + 60_000;
    desk.poll(&[described("again")]);
    desk.poll(&[issue(1)]);
    desk.now = at + 1_800_000;
    desk.poll(&[issue(1)]);
    assert_eq!(desk.status(1), IssueStatus::Parked);
    assert_eq!(desk.entry(1).due_at, None);
}

#[test]
fn vanishing_and_coming_back_changed_does_not_end_the_hold() {
    let (mut desk, at) = tripped();
    desk.now = at + 60_000;
    desk.poll(&[]);
    desk.poll(&[described("again")]);
    assert_eq!(desk.status(1), IssueStatus::Parked);
    desk.now = at + 1_800_000;
    desk.hand(Input::Tick);
    assert_eq!(desk.status(1), IssueStatus::Idle);
}

#[test]
fn after_the_hold_a_change_reopens_at_once() {
    let (mut desk, at) = tripped();
    desk.now = at + 1_800_000;
    desk.poll(&[described("again")]);
    assert_eq!(desk.status(1), IssueStatus::Running);
}

#[test]
fn reopening_again_and_again_what_brings_no_commit_parks() {
    let mut short = policy();
    short.agent.max_turns = 1;
    let mut desk = Desk::new(short);
    desk.reach_turn();
    idle_turn(&mut desk, &issue(1), None);
    desk.stop();
    for round in 1..=3 {
        assert!(desk.reason(1).starts_with("max_turns_reached"), "{}", desk.reason(1));
        desk.restart();
        let changed = described(&format!("again {round}"));
        desk.next_run(&changed);
        idle_turn(&mut desk, &changed, None);
        desk.stop();
    }
    desk.poll(&[described("once more")]);
    assert!(desk.reason(1).starts_with("breaker_redispatch"), "{}", desk.reason(1));
    assert!(desk.reason(1).contains("3 times within 1800 s"), "{}", desk.reason(1));
    assert_eq!(desk.dispatched().len(), 4);
}

#[test]
fn sending_back_what_brings_commits_is_no_loop() {
    let mut desk = Desk::new(policy());
    desk.hand_off();
    for round in 0..6 {
        let change = described(&format!("review {round}"));
        desk.next_run(&change);
        desk.turn(TurnOutcome::Completed);
        let commit = format!("c{}", round + 2);
        let work = Work { head: Some(CommitId(commit.clone())), ..with_commit() };
        desk.answer_assess(Some(change), work);
        desk.done("fetch_commit", EffectOutput::CommitFetched { commit: CommitId(commit) });
        desk.done("run_check", EffectOutput::CheckEnded { passed: true, output_tail: String::new(), kept: None });
        desk.done("stop_agent", EffectOutput::Swept { killed: 1 });
        desk.delivered("Human Review");
        assert_eq!(desk.status(1), IssueStatus::HandedOff);
    }
}

/// The agent moves its issue to an inactive state, and something moves it back; with another commit each time, or not.
fn ping_pong(desk: &mut Desk, cycles: u32, commits: bool) {
    desk.reach_turn();
    for round in 1..=cycles {
        desk.turn(TurnOutcome::Completed);
        let commit = commits.then(|| CommitId(format!("c{round}")));
        let work = Work { head: commit.or(Some("base".into())), has_commits: commits, ..without_commit() };
        desk.answer_assess(Some(in_state(1, "Backlog")), work);
        desk.stop();
        assert_eq!(desk.status(1), IssueStatus::Idle);
        desk.restart();
        // On the way back it may rest somewhere else, and be renamed.
        desk.poll(&[in_state(1, "Later")]);
        desk.poll(&[issue(1)]);
        if desk.status(1) != IssueStatus::Running {
            break;
        }
        desk.done("prepare_workspace", workspace_ready(false));
        desk.done("start_session", session(SessionStart::New));
    }
}

#[test]
fn an_issue_that_its_agent_moves_away_and_something_moves_back_parks() {
    let mut desk = Desk::new(policy());
    ping_pong(&mut desk, 10, false);
    assert_eq!(desk.status(1), IssueStatus::Parked);
    assert!(desk.reason(1).starts_with("breaker_redispatch"), "{}", desk.reason(1));
    assert_eq!(desk.dispatched().len(), 4, "once, and three times again");

    let mut desk = Desk::new(policy());
    ping_pong(&mut desk, 10, true);
    assert_eq!(desk.status(1), IssueStatus::Running, "with a commit each time it is review, and no loop");
    assert_eq!(desk.dispatched().len(), 11);
}

#[test]
fn an_issue_that_vanishes_and_comes_back_again_and_again_parks() {
    let mut desk = Desk::new(policy());
    desk.reach_turn();
    for _ in 0..10 {
        desk.poll(&[]);
        desk.stop();
        desk.poll(&[]);
        assert!(desk.machine.state().issues.is_empty());
        desk.poll(&[issue(1)]);
        if desk.status(1) != IssueStatus::Running {
            break;
        }
        desk.done("prepare_workspace", workspace_ready(false));
        desk.done("start_session", session(SessionStart::New));
    }
    assert!(desk.reason(1).starts_with("breaker_redispatch"), "{}", desk.reason(1));
    assert_eq!(desk.dispatched().len(), 4);
}
