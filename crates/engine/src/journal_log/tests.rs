use dalsegno_core::{Effect, EffectId, Machine, PolicyHash};

use super::*;

fn recorded(event: Event) -> Recorded {
    Recorded { seq: 7, at: Timestamp(1_000), event }
}

fn empty() -> Machine {
    Machine::replay(None, []).expect("nothing can be replayed")
}

#[test]
fn a_line_of_a_run_carries_its_whole_context() {
    let machine = empty();
    let view = dalsegno_core::RunView {
        id: RunId::from("run-1"),
        issue: IssueId::from("id-1"),
        identifier: "DS-1".to_owned(),
        attempt: None,
        policy: PolicyHash::from("hash"),
        phase: dalsegno_core::Phase::Ended,
        outcome: Some(RunOutcome::Failed),
        reason: None,
        evidence: None,
        session: Some(SessionId::from("session-1")),
        turns: 1,
        cut_turns: 0,
        handoff: None,
        usage: dalsegno_core::Usage::default(),
        started_at: Timestamp(0),
        ended_at: Some(Timestamp(1)),
    };
    let event = Event::RunEnded {
        run: RunId::from("run-1"),
        outcome: RunOutcome::Failed,
        reason: Some("agent_exit: it\u{1b}[2J ended\nbadly".to_owned()),
        evidence: None,
    };
    let line = log_event(&recorded(event), &[View::Run(Box::new(view))], machine.state());
    assert_eq!(line.level, Level::WARN);
    assert_eq!(line.message, "DS-1: run-1 ended");
    assert_eq!((line.outcome, line.reason.as_deref()), (Some("failed"), Some("agent_exit: it [2J ended badly")));
    let context = Context {
        issue_id: Some("id-1".to_owned()),
        issue_identifier: Some("DS-1".to_owned()),
        run: Some("run-1".to_owned()),
        session_id: Some("session-1".to_owned()),
    };
    assert_eq!(line.context, context);
}

#[test]
fn effects_are_for_whoever_looks_closely_and_parked_issues_for_everybody() {
    let machine = empty();
    let intended = Event::EffectIntended {
        effect_id: EffectId(3),
        issue: IssueId::from("id-1"),
        run: None,
        key: "k".to_owned(),
        attempt: 1,
        effect: Effect::Sweep,
    };
    assert_eq!(log_event(&recorded(intended), &[], machine.state()).level, Level::DEBUG);
    let parked = Event::Parked {
        issue: IssueId::from("id-1"),
        run: None,
        reason: "max_turns_reached".to_owned(),
        detail: "x".repeat(2_000),
        limit: None,
        held_until: None,
    };
    let line = log_event(&recorded(parked), &[], machine.state());
    assert_eq!(line.level, Level::WARN);
    let reason = line.reason.expect("a reason");
    assert!(reason.starts_with("max_turns_reached: xxx") && reason.chars().count() == REASON_LIMIT + 1, "{reason}");
}

#[test]
fn spans_are_short() {
    assert_eq!([span(0), span(1_250), span(42_000), span(720_000)], ["0.0 s", "1.2 s", "42 s", "12 min"]);
}
