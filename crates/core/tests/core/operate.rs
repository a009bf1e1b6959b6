//! What operators do to the work on an issue: each accepted action ends once, and the world shows it, also over restarts.

use crate::action::{act, request};
use crate::desk::*;
use dalsegno_core::*;
use serde_json::{Value, json};

fn on_issue(desk: &mut Desk, kind: &str, payload: Value) -> Receipt {
    act(desk, request(kind, ("issue", "DS-1"), payload))
}

/// How the action ended, and how often.
fn ends(desk: &Desk, receipt: &Receipt) -> (usize, usize) {
    let of = |action: &String| *action == receipt.action_id;
    let events = desk.journal.iter().map(|recorded| &recorded.event);
    let completed =
        events.clone().filter(|event| matches!(event, Event::ActionCompleted { action_id, .. } if of(action_id)));
    let failed = events.clone().filter(|event| matches!(event, Event::ActionFailed { action_id, .. } if of(action_id)));
    (completed.count(), failed.count())
}

/// An issue that is seen and not worked on.
fn blocked() -> Issue {
    Issue { dispatchable: false, ..issue(1) }
}

fn swept() -> EffectOutput {
    EffectOutput::Swept { killed: 1 }
}

fn prompt(desk: &mut Desk) -> (PromptSpec, Vec<Message>) {
    match desk.take("prompt").effect {
        Effect::Prompt { prompt, messages, .. } => (prompt, messages),
        other => panic!("{other:?}"),
    }
}

/// The next run of a paused or answered issue, up to its prompt.
fn resumed(desk: &mut Desk) -> (PromptSpec, Vec<Message>) {
    desk.poll(&[issue(1)]);
    desk.done("prepare_workspace", workspace_ready(false));
    let started = desk.done("start_session", session(SessionStart::Resumed)).effect;
    assert_eq!(started, Effect::StartSession { resume: Some(SessionId::from("s1")), seek: None });
    prompt(desk)
}

#[test]
fn a_paused_issue_frees_its_slot_and_goes_on_in_its_session_as_the_same_attempt() {
    let mut desk = Desk::new(policy());
    desk.reach_turn();
    let paused = on_issue(&mut desk, "pause", json!({}));
    assert!(paused.accepted && paused.completed_at.is_none());
    assert_eq!(desk.status(1), IssueStatus::Running);
    desk.turn(TurnOutcome::Interrupted);
    desk.done("stop_agent", swept());
    assert_eq!((desk.status(1), ends(&desk, &paused)), (IssueStatus::Paused, (1, 0)));
    desk.restart();
    desk.poll(&[issue(1)]);
    assert_eq!((desk.status(1), desk.open().len()), (IssueStatus::Paused, 0));
    assert_eq!(on_issue(&mut desk, "pause", json!({})).code.as_deref(), Some("not_running"));
    let runs = desk.entry(1).runs;
    let back = on_issue(&mut desk, "resume", json!({}));
    assert_eq!(ends(&desk, &back), (1, 0));
    assert_eq!(resumed(&mut desk), (PromptSpec::Resumed, Vec::new()));
    assert_eq!((desk.entry(1).runs, desk.run().attempt), (runs, None));
}

#[test]
fn an_agent_is_not_told_to_stop_before_the_wish_is_on_disk() {
    let mut desk = Desk::new(policy());
    desk.reach_turn();
    let at = Timestamp(desk.now);
    let wish = request("pause", ("issue", "DS-1"), json!({}));
    desk.machine.handle(Input::Action { caller: 7, request: Box::new(wish) }, at);
    let Output::Append(batch) = desk.machine.poll_output() else { panic!("the wish is written down first") };
    let next = desk.machine.poll_output();
    assert!(matches!(next, Output::Wait(_)), "before the batch is on disk: {next:?}");
    desk.hand(Input::Committed(batch.committed()));
    assert_eq!((desk.cancels.len(), desk.replies.len()), (1, 1));
}

#[test]
fn a_permission_given_in_a_turn_that_was_cut_is_given_to_whoever_goes_on_with_it_and_to_no_later_turn() {
    let mut desk = Desk::new(policy());
    desk.reach_turn();
    let run = desk.run().id.clone();
    let signal = Signal::Asked { ask: 1, question: "May I?".into(), wants: Wants::Permission };
    desk.hand(Input::Signal { run, signal });
    let given = on_issue(&mut desk, "approve", json!({}));
    desk.done("answer_agent", EffectOutput::AgentTold);
    assert_eq!(ends(&desk, &given), (1, 0));
    desk.restart();
    desk.done("sweep", swept());
    let started = desk.done("start_session", session(SessionStart::Resumed));
    assert_eq!(started.grants, ["May I?"]);
    desk.turn(TurnOutcome::Completed);
    assert_eq!(desk.run().grants_of_turn, Vec::<String>::new());
}

#[test]
fn a_pause_survives_a_restart_in_the_middle_of_it() {
    let mut desk = Desk::new(policy());
    desk.reach_turn();
    let paused = on_issue(&mut desk, "pause", json!({}));
    desk.restart();
    desk.done("sweep", swept());
    assert_eq!((desk.status(1), ends(&desk, &paused)), (IssueStatus::Paused, (1, 0)));
    on_issue(&mut desk, "resume", json!({}));
    assert_eq!(resumed(&mut desk).0, PromptSpec::Resumed);
}

#[test]
fn a_paused_issue_stays_paused_when_it_is_edited_and_is_let_go_of_when_it_is_done() {
    let mut desk = Desk::new(policy());
    desk.reach_turn();
    on_issue(&mut desk, "pause", json!({}));
    desk.turn(TurnOutcome::Interrupted);
    desk.done("stop_agent", swept());
    for state in ["Backlog", "Todo"] {
        desk.poll(&[in_state(1, state)]);
        assert_eq!(desk.status(1), IssueStatus::Paused, "{state}");
    }
    desk.poll(&[in_state(1, "Done")]);
    assert_eq!(desk.status(1), IssueStatus::Idle);
}

#[test]
fn what_another_kind_of_agent_began_is_told_to_the_new_one() {
    let mut desk = Desk::new(policy());
    desk.reach_turn();
    on_issue(&mut desk, "pause", json!({}));
    desk.turn(TurnOutcome::Interrupted);
    desk.done("stop_agent", swept());
    let mut other = policy();
    other.agent.kind = AgentKind::Codex;
    desk.hand(Input::PolicyLoaded { hash: "other".into(), policy: Box::new(other) });
    on_issue(&mut desk, "resume", json!({}));
    desk.poll(&[issue(1)]);
    desk.done("prepare_workspace", workspace_ready(false));
    desk.done("start_session", session(SessionStart::New));
    assert_eq!(prompt(&mut desk).0, PromptSpec::Rehydrate { attempt: None, turns: 1 });
}

#[test]
fn a_canceled_issue_ends_its_agent_and_stays_canceled() {
    let mut desk = Desk::new(policy());
    desk.reach_turn();
    let canceled = on_issue(&mut desk, "cancel", json!({}));
    assert_eq!(desk.open(), ["prompt", "stop_agent"]);
    desk.turn(TurnOutcome::Interrupted);
    desk.done("stop_agent", swept());
    assert_eq!((desk.status(1), ends(&desk, &canceled)), (IssueStatus::Canceled, (1, 0)));
    desk.poll(&[issue(1)]);
    assert_eq!(desk.status(1), IssueStatus::Canceled);
    assert_eq!(on_issue(&mut desk, "cancel", json!({})).code.as_deref(), Some("not_cancelable"));
    let mut edited = issue(1);
    edited.description = Some("again, please".into());
    desk.poll(&[edited]);
    assert_eq!(desk.status(1), IssueStatus::Running);
}

#[test]
fn an_issue_without_a_run_is_canceled_at_once() {
    let mut desk = Desk::new(policy());
    desk.poll(&[issue(1)]);
    desk.fail("prepare_workspace", retryable());
    desk.done("stop_agent", swept());
    assert_eq!(desk.status(1), IssueStatus::WaitingRetry);
    let canceled = on_issue(&mut desk, "cancel", json!({}));
    assert_eq!((desk.status(1), ends(&desk, &canceled)), (IssueStatus::Canceled, (1, 0)));
}

#[test]
fn a_cancel_that_comes_while_a_pause_is_under_way_wins() {
    let mut desk = Desk::new(policy());
    desk.reach_turn();
    let paused = on_issue(&mut desk, "pause", json!({}));
    let canceled = on_issue(&mut desk, "cancel", json!({}));
    desk.turn(TurnOutcome::Interrupted);
    desk.done("stop_agent", swept());
    assert_eq!(desk.status(1), IssueStatus::Canceled);
    assert_eq!((ends(&desk, &paused), ends(&desk, &canceled)), ((1, 0), (1, 0)));
}

#[test]
fn wishes_to_stop_a_run_have_a_limit_and_all_of_them_end_with_it() {
    let mut desk = Desk::new(policy());
    desk.reach_turn();
    let kinds = ["pause", "cancel"].into_iter().cycle();
    let wishes: Vec<Receipt> = kinds.take(256).map(|kind| on_issue(&mut desk, kind, json!({}))).collect();
    for kind in ["pause", "cancel"] {
        assert_eq!(on_issue(&mut desk, kind, json!({})).code.as_deref(), Some("too_many_actions"), "{kind}");
    }
    desk.stop();
    assert_eq!(desk.status(1), IssueStatus::Canceled);
    let ends: Vec<_> = wishes.iter().map(|wish| ends(&desk, wish)).collect();
    assert!(ends.iter().all(|(completed, failed)| completed + failed == 1), "{ends:?}");
    on_issue(&mut desk, "retry", json!({}));
    desk.next_run(&issue(1));
    assert!(on_issue(&mut desk, "pause", json!({})).accepted, "the next run has wishes of its own");
}

#[test]
fn a_handoff_is_canceled_before_its_pivot_and_undone() {
    let mut desk = Desk::new(forge_policy());
    desk.reach_delivery();
    desk.steps(&[(SagaStep::Look, StepState::Done), (SagaStep::Push, StepState::Done)]);
    let canceled = on_issue(&mut desk, "cancel", json!({}));
    assert!(canceled.accepted && !desk.cancels.is_empty());
    desk.steps(&[(SagaStep::Push, StepState::Undone)]);
    desk.done("hand_off", EffectOutput::HandedOff { end: SagaEnd::Compensated });
    assert_eq!((desk.status(1), ends(&desk, &canceled)), (IssueStatus::Canceled, (1, 0)));
}

#[test]
fn a_handoff_that_was_faster_than_the_cancel_is_handed_off_and_the_action_says_so() {
    let mut desk = Desk::new(forge_policy());
    desk.reach_delivery();
    let canceled = on_issue(&mut desk, "cancel", json!({}));
    desk.done("hand_off", EffectOutput::HandedOff { end: SagaEnd::Committed });
    assert_eq!((desk.status(1), ends(&desk, &canceled)), (IssueStatus::HandedOff, (0, 1)));
    assert_eq!(desk.machine.receipt(&canceled.action_id).unwrap().failure.unwrap().code, "overtaken");
}

#[test]
fn past_its_pivot_nothing_is_canceled() {
    let mut desk = Desk::new(policy());
    desk.reach_delivery();
    desk.steps(&[(SagaStep::Push, StepState::Intended)]);
    assert_eq!(on_issue(&mut desk, "cancel", json!({})).code.as_deref(), Some("not_cancelable"));
}

#[test]
fn a_retry_moves_the_issue_to_an_active_state_and_begins_anew() {
    let mut desk = Desk::new(policy());
    desk.hand_off();
    desk.poll(&[in_state(1, "Human Review")]);
    let again = on_issue(&mut desk, "retry", json!({}));
    assert!(again.accepted && again.completed_at.is_none());
    assert_eq!(desk.status(1), IssueStatus::HandedOff);
    let moved = desk.done("transition_issue", EffectOutput::Moved { state: "Todo".into() }).effect;
    let Effect::CarryOut { order: Order::Transition { to, .. }, .. } = moved else { panic!("no move") };
    assert_eq!((desk.status(1), ends(&desk, &again)), (IssueStatus::Idle, (1, 0)));
    desk.poll(&[in_state(1, &to)]);
    assert_eq!(desk.status(1), IssueStatus::Running);
    let active = on_issue(&mut desk, "retry", json!({}));
    assert_eq!(active.code.as_deref(), Some("already_active"));
    assert!(active.reason.unwrap().contains("already active"));
}

#[test]
fn a_retry_that_the_tracker_refuses_leaves_the_issue_as_it_is() {
    let mut desk = Desk::new(policy());
    desk.hand_off();
    desk.poll(&[in_state(1, "Human Review")]);
    let again = on_issue(&mut desk, "retry", json!({}));
    desk.fail("transition_issue", Failure::permanent("tracker_status", "no"));
    assert_eq!((desk.status(1), ends(&desk, &again)), (IssueStatus::HandedOff, (0, 1)));
}

#[test]
fn a_rehydrated_issue_has_a_new_session_with_an_account_of_the_old_one() {
    let mut desk = Desk::new(policy());
    desk.reach_turn();
    assert_eq!(on_issue(&mut desk, "rehydrate", json!({})).code.as_deref(), Some("not_terminal"));
    on_issue(&mut desk, "cancel", json!({}));
    desk.turn(TurnOutcome::Interrupted);
    desk.done("stop_agent", swept());
    let again = on_issue(&mut desk, "rehydrate", json!({}));
    assert_eq!(ends(&desk, &again), (1, 0));
    desk.restart();
    desk.poll(&[issue(1)]);
    desk.done("prepare_workspace", workspace_ready(false));
    let started = desk.done("start_session", session(SessionStart::New)).effect;
    assert_eq!(started, Effect::StartSession { resume: None, seek: None });
    assert_eq!(prompt(&mut desk).0, PromptSpec::Rehydrate { attempt: None, turns: 1 });
}

#[test]
fn words_go_into_the_open_turn_and_else_come_with_the_next_prompt() {
    let mut desk = Desk::new(policy());
    desk.reach_turn();
    let live = on_issue(&mut desk, "steer", json!({"text": "mind the tests", "by": "ada"}));
    desk.done("steer_turn", EffectOutput::AgentTold);
    assert_eq!(ends(&desk, &live), (1, 0));
    assert!(desk.entry(1).messages.is_empty());
    let late = on_issue(&mut desk, "steer", json!({"text": "and the docs"}));
    desk.fail("steer_turn", Failure::retryable("no_turn", "none"));
    assert_eq!((ends(&desk, &late), desk.entry(1).messages.len()), ((1, 0), 1));
    // The work is ready, and is not handed over before the agent has heard that.
    desk.turn(TurnOutcome::Completed);
    desk.answer_assess(Some(issue(1)), with_commit());
    let (spec, messages) = prompt(&mut desk);
    assert_eq!(spec, PromptSpec::Continue { missing: Missing::Messages });
    assert_eq!(
        messages.iter().map(|said| (said.text.as_str(), said.unsure)).collect::<Vec<_>>(),
        [("and the docs", false)]
    );
    assert!(desk.entry(1).messages.is_empty());
}

#[test]
fn words_whose_fate_a_crash_hides_are_said_again_and_marked() {
    let mut desk = Desk::new(policy());
    desk.reach_turn();
    let words = on_issue(&mut desk, "steer", json!({"text": "mind the tests"}));
    desk.restart();
    assert_eq!(ends(&desk, &words), (1, 0));
    desk.done("sweep", swept());
    desk.done("start_session", session(SessionStart::ResumedPromptFound));
    let (_, messages) = prompt(&mut desk);
    assert!(messages[0].unsure, "{messages:?}");
}

#[test]
fn words_that_were_heard_in_a_turn_that_is_lost_are_said_again() {
    let mut desk = Desk::new(policy());
    desk.reach_turn();
    on_issue(&mut desk, "steer", json!({"text": "mind the tests"}));
    desk.done("steer_turn", EffectOutput::AgentTold);
    desk.restart();
    desk.done("sweep", swept());
    desk.done("start_session", session(SessionStart::Gone));
    let (spec, messages) = prompt(&mut desk);
    assert_eq!(spec, PromptSpec::Rehydrate { attempt: None, turns: 1 });
    assert!(messages.len() == 1 && messages[0].unsure, "{messages:?}");
}

#[test]
fn words_have_a_limit() {
    let mut desk = Desk::new(policy());
    desk.reach_turn();
    on_issue(&mut desk, "pause", json!({}));
    desk.turn(TurnOutcome::Interrupted);
    desk.done("stop_agent", swept());
    let mut codes: Vec<Option<String>> =
        (0..21).map(|_| on_issue(&mut desk, "steer", json!({"text": "again"})).code).collect();
    assert_eq!(codes.pop().unwrap().as_deref(), Some("too_many_messages"));
    assert!(codes.iter().all(Option::is_none));
    on_issue(&mut desk, "resume", json!({}));
    assert_eq!(resumed(&mut desk).1.len(), 20);
}

#[test]
fn words_on_their_way_to_the_agent_count_against_the_limit_of_its_issue_alone() {
    let mut desk = Desk::new(policy());
    desk.poll(&[issue(1), issue(2)]);
    for _ in 0..2 {
        desk.done("prepare_workspace", workspace_ready(true));
        desk.done("start_session", session(SessionStart::New));
    }
    let say = |desk: &mut Desk, issue| act(desk, request("steer", ("issue", issue), json!({"text": "again"}))).code;
    let refused = Some("too_many_messages".to_owned());
    for _ in 0..20 {
        assert_eq!(say(&mut desk, "DS-1"), None);
    }
    assert!(desk.entry(1).messages.is_empty(), "all of them are on their way");
    assert_eq!(say(&mut desk, "DS-1"), refused);
    assert_eq!(say(&mut desk, "DS-2"), None);
    // What did not get there waits as well; what was heard makes room.
    desk.fail("steer_turn", Failure::retryable("no_turn", "none"));
    assert_eq!((desk.entry(1).messages.len(), say(&mut desk, "DS-1")), (1, refused));
    desk.done("steer_turn", EffectOutput::AgentTold);
    assert_eq!(say(&mut desk, "DS-1"), None);
}

#[test]
fn the_tracker_is_written_to_once_and_its_refusal_is_told() {
    let mut desk = Desk::new(policy());
    desk.poll(&[blocked()]);
    let said = on_issue(&mut desk, "comment", json!({"body": "seen\nand noted"}));
    let first = desk.take("comment_issue");
    desk.restart();
    let again = desk.done("comment_issue", EffectOutput::Commented);
    assert_eq!((&first.key, first.attempt, again.attempt), (&again.key, 1, 2));
    assert_eq!(ends(&desk, &said), (1, 0));
    let moved = on_issue(&mut desk, "transition_issue", json!({"state": "Nowhere"}));
    desk.fail("transition_issue", Failure::permanent("unknown_state", "the tracker has no such state"));
    assert_eq!(ends(&desk, &moved), (0, 1));
    let made = on_issue(&mut desk, "create_followup", json!({"title": "Next"}));
    desk.done("create_issue", EffectOutput::IssueMade { identifier: "DS-9".into() });
    assert_eq!(desk.machine.receipt(&made.action_id).unwrap().note.as_deref(), Some("DS-9"));
    for (kind, payload, code) in [
        ("comment", json!({}), "invalid_payload"),
        ("comment", json!({"body": "a", "bold": true}), "invalid_payload"),
        ("comment", json!({"body": "\u{1b}[31m"}), "invalid_payload"),
        ("comment", json!({"body": "x".repeat(9_000)}), "invalid_payload"),
        ("transition_issue", json!({}), "unknown_state"),
        ("transition_issue", json!({"state": " "}), "unknown_state"),
        ("create_followup", json!({"title": " "}), "invalid_payload"),
    ] {
        assert_eq!(on_issue(&mut desk, kind, payload.clone()).code.as_deref(), Some(code), "{kind} {payload}");
    }
}

#[test]
fn a_question_holds_the_session_and_the_answer_goes_into_it_as_a_new_turn() {
    let mut desk = Desk::new(policy());
    desk.reach_turn();
    desk.turn(TurnOutcome::Asked { question: "Which colour?".into(), wants: Wants::Input });
    desk.done("stop_agent", swept());
    assert_eq!(desk.reason(1), "question_asked: Which colour?");
    assert_eq!(desk.status(1), IssueStatus::WaitingQuestion);
    desk.restart();
    for (kind, payload) in [("approve", json!({})), ("deny", json!({}))] {
        assert_eq!(on_issue(&mut desk, kind, payload).code.as_deref(), Some("no_open_question"));
    }
    let answered = on_issue(&mut desk, "answer", json!({"text": "blue", "by": "ada"}));
    assert_eq!(ends(&desk, &answered), (1, 0));
    assert_eq!(on_issue(&mut desk, "answer", json!({"text": "red"})).code.as_deref(), Some("no_open_question"));
    let (spec, messages) = resumed(&mut desk);
    assert_eq!(spec, PromptSpec::Resumed);
    assert_eq!((messages[0].question.as_deref(), messages[0].text.as_str()), (Some("Which colour?"), "blue"));
}

#[test]
fn a_permission_is_given_for_the_session_that_asked() {
    let mut desk = Desk::new(policy());
    desk.reach_turn();
    desk.turn(TurnOutcome::Asked { question: "to delete build".into(), wants: Wants::Permission });
    desk.done("stop_agent", swept());
    assert_eq!(on_issue(&mut desk, "answer", json!({"text": "yes"})).code.as_deref(), Some("no_open_question"));
    assert!(on_issue(&mut desk, "approve", json!({})).accepted);
    desk.poll(&[issue(1)]);
    desk.done("prepare_workspace", workspace_ready(false));
    assert_eq!(desk.take("start_session").grants, ["to delete build"]);
}

#[test]
fn a_question_with_the_turn_open_is_answered_into_it() {
    let mut desk = Desk::new(policy());
    desk.reach_turn();
    let run = desk.run().id.clone();
    let asked = Signal::Asked { ask: 3, question: "Which colour?".into(), wants: Wants::Input };
    desk.hand(Input::Signal { run: run.clone(), signal: asked });
    assert_eq!((desk.status(1), desk.machine.is_quiet()), (IssueStatus::WaitingQuestion, true));
    // Nobody takes its silence for a stall.
    desk.pass(10 * 3_600_000);
    assert_eq!(desk.status(1), IssueStatus::WaitingQuestion);
    let answered = on_issue(&mut desk, "answer", json!({"text": "blue"}));
    assert_eq!(desk.status(1), IssueStatus::Running);
    let told = desk.done("answer_agent", EffectOutput::AgentTold).effect;
    assert!(matches!(told, Effect::CarryOut { order: Order::Reply { ask: 3, .. }, .. }));
    assert_eq!(ends(&desk, &answered), (1, 0));
    desk.turn(TurnOutcome::Completed);
    assert_eq!(desk.phase(), Some(Phase::Assessing));
}

#[test]
fn an_answer_that_came_too_late_for_the_turn_comes_with_the_next_one() {
    let mut desk = Desk::new(policy());
    desk.reach_turn();
    let run = desk.run().id.clone();
    let asked = Signal::Asked { ask: 3, question: "Which colour?".into(), wants: Wants::Input };
    desk.hand(Input::Signal { run, signal: asked });
    let answered = on_issue(&mut desk, "answer", json!({"text": "blue"}));
    desk.turn(TurnOutcome::Asked { question: "Which colour?".into(), wants: Wants::Input });
    desk.fail("answer_agent", Failure::retryable("not_waiting", "no"));
    assert_eq!(ends(&desk, &answered), (1, 0));
    desk.done("stop_agent", swept());
    assert_eq!(desk.status(1), IssueStatus::Queued);
    assert_eq!(resumed(&mut desk).1[0].text, "blue");
}

#[test]
fn a_question_that_a_crash_left_open_waits_without_an_agent_and_is_answered_in_a_new_turn() {
    let mut desk = Desk::new(policy());
    desk.reach_turn();
    let run = desk.run().id.clone();
    let asked = Signal::Asked { ask: 3, question: "Which colour?".into(), wants: Wants::Input };
    desk.hand(Input::Signal { run, signal: asked });
    desk.restart();
    desk.done("sweep", swept());
    desk.done("stop_agent", swept());
    assert_eq!((desk.status(1), desk.open().len()), (IssueStatus::WaitingQuestion, 0));
    assert!(on_issue(&mut desk, "answer", json!({"text": "blue"})).accepted);
    assert_eq!(resumed(&mut desk).1[0].text, "blue");
}

#[test]
fn a_daemon_that_runs_once_or_ends_holds_what_agents_wait_for() {
    for end in [Input::NobodyAnswers, Input::Drain] {
        let mut desk = Desk::new(policy());
        desk.reach_turn();
        let run = desk.run().id.clone();
        let asked = Signal::Asked { ask: 3, question: "Which colour?".into(), wants: Wants::Input };
        desk.hand(Input::Signal { run, signal: asked });
        desk.hand(end);
        desk.turn(TurnOutcome::Interrupted);
        desk.done("stop_agent", swept());
        assert_eq!((desk.status(1), desk.open().len()), (IssueStatus::WaitingQuestion, 0));
        desk.restart();
        assert!(on_issue(&mut desk, "answer", json!({"text": "blue"})).accepted);
        assert_eq!(resumed(&mut desk).1[0].text, "blue");
    }
}

#[test]
fn a_turn_that_ends_without_its_answer_withdraws_the_question() {
    let mut desk = Desk::new(policy());
    desk.reach_turn();
    let run = desk.run().id.clone();
    let asked = Signal::Asked { ask: 3, question: "Which colour?".into(), wants: Wants::Input };
    desk.hand(Input::Signal { run, signal: asked });
    desk.turn(TurnOutcome::Completed);
    assert_eq!((desk.status(1), &desk.entry(1).question), (IssueStatus::Running, &None));
}

#[test]
fn a_question_that_nobody_answers_parks_after_its_time_which_a_restart_keeps() {
    for live in [true, false] {
        let mut desk = Desk::new(policy());
        desk.reach_turn();
        let run = desk.run().id.clone();
        if live {
            let asked = Signal::Asked { ask: 1, question: "Which?".into(), wants: Wants::Input };
            desk.hand(Input::Signal { run, signal: asked });
        } else {
            desk.turn(TurnOutcome::Asked { question: "Which?".into(), wants: Wants::Input });
            desk.done("stop_agent", swept());
            desk.pass(3_600_000);
            desk.restart();
        }
        desk.pass(24 * 3_600_000 + 1);
        if live {
            desk.turn(TurnOutcome::Interrupted);
            desk.done("stop_agent", swept());
        }
        assert_eq!(desk.reason(1), "question_expired: nobody answered in time: Which?", "{live}");
        assert_eq!(on_issue(&mut desk, "answer", json!({"text": "x"})).code.as_deref(), Some("no_open_question"));
    }
}

#[test]
fn a_drained_daemon_takes_no_new_work_also_after_a_restart() {
    let mut desk = Desk::new(policy());
    assert!(act(&mut desk, request("drain", ("daemon", ""), json!({}))).completed_at.is_some());
    desk.restart();
    desk.poll(&[issue(1)]);
    assert!(desk.dispatched().is_empty() && desk.machine.is_quiet());
    act(&mut desk, request("undrain", ("daemon", ""), json!({})));
    desk.poll(&[issue(1)]);
    assert_eq!(desk.dispatched(), ["i1"]);
}

/// The table of docs/actions.md, walked: each kind in each status, as it is told (`allowed_actions`) and as it is decided.
#[test]
fn what_is_told_to_be_allowed_is_accepted_and_nothing_else() {
    let payload = |kind: &str| match kind {
        "steer" | "answer" => json!({"text": "x"}),
        "comment" => json!({"body": "x"}),
        "transition_issue" => json!({"state": "Todo"}),
        "create_followup" => json!({"title": "x"}),
        "set_budget" => json!({"tokens": 1}),
        "settle" => json!({"step": "comment", "verb": "retry"}),
        _ => json!({}),
    };
    let rows = crate::table::rows();
    let written: std::collections::BTreeSet<&str> = rows.iter().flat_map(|row| row.kinds.clone()).collect();
    let of_issues = ActionKind::ALL.into_iter().filter(|kind| kind.targets().contains(&"issue"));
    assert_eq!(written, of_issues.map(ActionKind::as_str).collect(), "a row for each kind");
    let mut seen = std::collections::BTreeSet::new();
    for (name, reach) in situations() {
        let mut first = Desk::new(policy());
        reach(&mut first);
        seen.insert(first.status(1));
        let told = Standing::of(first.machine.state(), first.entry(1), Timestamp(first.now)).allowed();
        for (row, kind) in rows.iter().flat_map(|row| row.kinds.iter().map(move |kind| (row, *kind))) {
            let mut desk = Desk::new(policy());
            reach(&mut desk);
            let receipt = on_issue(&mut desk, kind, payload(kind));
            let refused = row.refused(name);
            assert_eq!(receipt.code.as_deref(), refused.map(|(code, _)| code), "{name}: {kind} {receipt:?}");
            let reason = receipt.reason.clone().unwrap_or_default();
            assert!(reason.contains(refused.map_or("", |(_, words)| words)), "{name}: {kind} {receipt:?}");
            assert_eq!(
                (receipt.accepted, told.iter().any(|it| it.as_str() == kind)),
                (refused.is_none(), refused.is_none()),
                "{name}: {kind}"
            );
        }
    }
    // Nothing fails for good by itself.
    let all: std::collections::BTreeSet<_> =
        IssueStatus::ALL.into_iter().filter(|status| *status != IssueStatus::Failed).collect();
    assert_eq!(seen, all, "each status is walked");
}

type Reach = fn(&mut Desk);

/// By the names of the table.
fn situations() -> [(&'static str, Reach); 16] {
    [
        ("idle", |desk| desk.poll(&[blocked()])),
        ("queued", |desk| {
            desk.reach_turn();
            on_issue(desk, "pause", json!({}));
            desk.turn(TurnOutcome::Interrupted);
            desk.done("stop_agent", swept());
            on_issue(desk, "resume", json!({}));
        }),
        ("running", Desk::reach_turn),
        ("paused", |desk| {
            desk.reach_turn();
            on_issue(desk, "pause", json!({}));
            desk.turn(TurnOutcome::Interrupted);
            desk.done("stop_agent", swept());
        }),
        ("waiting_retry", |desk| {
            desk.poll(&[issue(1)]);
            desk.fail("prepare_workspace", retryable());
            desk.done("stop_agent", swept());
        }),
        ("waiting_quota", |desk| {
            desk.reach_turn();
            let reset_at = Some(Timestamp(desk.now + 60_000));
            desk.turn(TurnOutcome::RateLimited { reset_at });
            desk.done("stop_agent", swept());
        }),
        ("question", |desk| {
            desk.reach_turn();
            desk.turn(TurnOutcome::Asked { question: "?".into(), wants: Wants::Input });
            desk.done("stop_agent", swept());
        }),
        ("permission", |desk| {
            desk.reach_turn();
            desk.turn(TurnOutcome::Asked { question: "?".into(), wants: Wants::Permission });
            desk.done("stop_agent", swept());
        }),
        ("approval", |desk| {
            desk.reach_delivery();
            let expires_at = Timestamp(desk.now + 60_000);
            desk.steps(&[(SagaStep::Push, StepState::AwaitingApproval { fingerprint: "f".into(), expires_at })]);
        }),
        ("handing_off", |desk| {
            desk.reach_checks();
            desk.done("run_check", EffectOutput::CheckEnded { passed: true, output_tail: String::new(), kept: None });
        }),
        ("past_pivot", Desk::reach_delivery),
        ("parked", |desk| {
            desk.reach_turn();
            on_issue(desk, "set_budget", json!({"tokens": 1}));
            desk.report(Usage::new(1_000, 0), None);
            desk.stop();
        }),
        ("parked_step", |desk| {
            desk.reach_delivery();
            desk.pushed();
            let parked = StepState::Parked { reason: "no".into() };
            desk.steps(&[(SagaStep::Comment, parked), (SagaStep::Move, StepState::Done)]);
        }),
        ("handed_off", Desk::hand_off),
        ("completed", |desk| {
            desk.hand_off();
            desk.poll(&[in_state(1, "Done")]);
        }),
        ("canceled", |desk| {
            desk.reach_turn();
            on_issue(desk, "cancel", json!({}));
            desk.turn(TurnOutcome::Interrupted);
            desk.done("stop_agent", swept());
        }),
    ]
}

#[test]
fn a_flood_of_comments_is_written_in_order_a_few_at_a_time_and_refused_when_too_many_wait() {
    let mut desk = Desk::new(policy());
    desk.poll(&[blocked()]);
    for number in 0..WRITES {
        assert!(on_issue(&mut desk, "comment", json!({"body": format!("{number}")})).accepted);
    }
    assert_eq!(desk.open().len(), WRITES_AT_ONCE);
    let refused = on_issue(&mut desk, "comment", json!({"body": "one more"}));
    assert_eq!(refused.code.as_deref(), Some("too_many_actions"));
    assert!(on_issue(&mut desk, "set_budget", json!({"tokens": 5})).accepted);
    let first = desk.take("comment_issue");
    desk.hand(Input::EffectEnded { id: first.id, outcome: Outcome::Done { output: EffectOutput::Commented } });
    assert_eq!(desk.open().len(), WRITES_AT_ONCE, "the next one has its turn");
    let turns: Vec<u64> = desk.performs.iter().map(|request| request.id.0).collect();
    assert!(turns.is_sorted() && turns.len() == WRITES_AT_ONCE, "in the order of their acceptance: {turns:?}");
    assert!(on_issue(&mut desk, "comment", json!({"body": "again"})).accepted);
}
