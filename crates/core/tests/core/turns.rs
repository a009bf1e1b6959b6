//! When a run is done: the rule that is asked after each turn, and the limits of turns.

use crate::desk::*;
use dalsegno_core::*;

fn prompt(desk: &mut Desk) -> PromptSpec {
    match desk.take("prompt").effect {
        Effect::Prompt { prompt, .. } => prompt,
        other => panic!("{other:?}"),
    }
}

#[test]
fn s7_1_the_same_session_goes_on_until_there_is_a_commit() {
    let mut desk = Desk::new(policy());
    desk.reach_turn();
    desk.turn(TurnOutcome::Completed);
    desk.answer_assess(Some(issue(1)), without_commit());
    assert_eq!(prompt(&mut desk), PromptSpec::Continue { missing: Missing::NoCommit });
}

#[test]
fn the_end_of_a_failed_check_is_in_the_next_prompt() {
    let mut desk = Desk::new(policy());
    desk.reach_checks();
    desk.done("run_check", EffectOutput::CheckEnded { passed: false, output_tail: "assertion".into(), kept: None });
    let missing = Missing::CheckFailed { command: "./test".into(), output_tail: "assertion".into() };
    assert_eq!(prompt(&mut desk), PromptSpec::Continue { missing });
}

#[test]
fn leftovers_are_committed_or_asked_for() {
    let mut desk = Desk::new(policy());
    desk.reach_turn();
    desk.turn(TurnOutcome::Completed);
    desk.answer_assess(Some(issue(1)), dirty());
    desk.done("commit_leftovers", EffectOutput::LeftoversCommitted { committed: true });
    assert_eq!(desk.open(), ["fetch_commit"]);

    let mut strict = policy();
    strict.handoff.as_mut().unwrap().commit = CommitMode::Require;
    let mut desk = Desk::new(strict);
    desk.reach_turn();
    desk.turn(TurnOutcome::Completed);
    desk.answer_assess(Some(issue(1)), dirty());
    let missing = Missing::Uncommitted { files: vec!["a.txt".into()] };
    assert_eq!(prompt(&mut desk), PromptSpec::Continue { missing });
}

#[test]
fn max_turns_parks_with_the_evidence() {
    let mut desk = Desk::new(policy());
    desk.reach_turn();
    for _ in 0..3 {
        desk.turn(TurnOutcome::Completed);
        desk.answer_assess(Some(issue(1)), without_commit());
    }
    desk.done("stop_agent", EffectOutput::Swept { killed: 1 });
    assert_eq!(desk.status(1), IssueStatus::Parked);
    let reason = desk.entry(1).reason.clone().unwrap();
    assert!(reason.starts_with("max_turns_reached: 3 turns") && reason.contains("nothing was committed"), "{reason}");
}

#[test]
fn an_issue_that_left_the_active_states_ends_the_run_without_a_handoff() {
    for (now, workspace) in [(Some(in_state(1, "Backlog")), true), (Some(in_state(1, "Done")), false), (None, true)] {
        let mut desk = Desk::new(policy());
        desk.reach_turn();
        desk.turn(TurnOutcome::Completed);
        desk.answer_assess(now, with_commit());
        desk.done("stop_agent", EffectOutput::Swept { killed: 1 });
        assert_eq!(desk.status(1), IssueStatus::Idle);
        assert_eq!(desk.open().is_empty(), workspace);
    }
}

#[test]
fn a_look_that_is_older_than_a_poll_does_not_decide() {
    let mut desk = Desk::new(policy());
    desk.reach_turn();
    desk.turn(TurnOutcome::Completed);
    desk.poll(&[Issue { description: Some("newer".into()), ..issue(1) }]);
    desk.answer_assess(Some(issue(1)), with_commit());
    assert_eq!(desk.entry(1).issue.description.as_deref(), Some("newer"));
    assert_eq!(desk.open(), ["fetch_commit"]);
}

#[test]
fn cut_turns_count_towards_a_limit_of_their_own() {
    let mut desk = Desk::new(policy());
    desk.reach_turn();
    for cut in 0..50 {
        desk.restart();
        desk.done("sweep", EffectOutput::Swept { killed: 1 });
        assert_eq!(desk.open(), ["start_session"], "after {cut} cut turns");
        desk.done("start_session", session(SessionStart::ResumedPromptFound));
    }
    desk.done("stop_agent", EffectOutput::Swept { killed: 1 });
    assert_eq!(desk.status(1), IssueStatus::Parked);
    assert!(desk.entry(1).reason.as_deref().unwrap().starts_with("cut_turns_exhausted"));
    assert_eq!(desk.entry(1).runs, 1);
}

#[test]
fn cut_turns_do_not_count_towards_max_turns() {
    let mut desk = Desk::new(policy());
    desk.reach_turn();
    for _ in 0..5 {
        desk.restart();
        desk.done("sweep", EffectOutput::Swept { killed: 1 });
        desk.done("start_session", session(SessionStart::ResumedPromptFound));
    }
    assert_eq!(desk.machine.state().runs.values().next().unwrap().counted_turns, 0);
    assert_eq!(desk.open(), ["prompt"]);
}

#[test]
fn s13_5_usage_is_the_largest_report_of_each_turn() {
    let mut desk = Desk::new(policy());
    desk.reach_turn();
    let run = desk.machine.state().runs.keys().next().unwrap().clone();
    for total in [50, 30, 50, 90] {
        desk.now += 2_000;
        let usage = Usage::new(total, 0);
        desk.hand(Input::Signal { run: run.clone(), signal: Signal::Usage(Report { usage, model: None }) });
    }
    assert_eq!(desk.machine.state().usage.total_tokens, 90);
    desk.turn(TurnOutcome::Completed);
    assert_eq!(desk.machine.state().usage.total_tokens, 110);
    assert_eq!(desk.entry(1).usage.total_tokens, 110);
}

#[test]
fn an_agent_that_comes_up_while_its_run_stops_is_stopped_again() {
    let mut desk = Desk::new(policy());
    desk.poll(&[issue(1)]);
    desk.done("prepare_workspace", workspace_ready(true));
    desk.poll(&[in_state(1, "Backlog")]);
    desk.done("stop_agent", EffectOutput::Swept { killed: 0 });
    desk.done("start_session", session(SessionStart::New));
    desk.done("stop_agent", EffectOutput::Swept { killed: 1 });
    assert_eq!(desk.status(1), IssueStatus::Idle);
}

#[test]
fn an_issue_that_turns_out_closed_when_claimed_gets_no_agent() {
    let mut claiming = policy();
    claiming.handoff.as_mut().unwrap().claim_state = Some("In Progress".into());
    let mut desk = Desk::new(claiming);
    desk.poll(&[issue(1)]);
    desk.done("prepare_workspace", workspace_ready(true));
    desk.done("move_issue", EffectOutput::Moved { state: "Done".into() });
    assert_eq!(desk.open(), ["stop_agent"]);
}
