//! The ledger: no token is counted twice, and none that was reported is forgotten.

use std::collections::BTreeMap;

use crate::desk::*;
use dalsegno_core::*;

fn rows(desk: &Desk) -> Vec<(u32, Option<&str>, u64, bool)> {
    desk.rows.values().map(|row| (row.turn, row.model.as_deref(), row.usage.total_tokens, row.incomplete)).collect()
}

fn resumed(how: SessionStart, total: u64) -> EffectOutput {
    EffectOutput::SessionStarted { session: "s1".into(), how, usage: Some(Usage::new(total, 0)) }
}

#[test]
fn a_report_counts_as_far_as_it_is_more_than_what_the_turn_has() {
    let mut desk = Desk::new(policy());
    desk.reach_turn();
    for (tokens, model) in [(100, None), (40, None), (300, Some("big")), (300, Some("big")), (350, Some("small"))] {
        desk.report(Usage::new(tokens, 0), model);
    }
    desk.turn_of(Usage::new(360, 0), None, None);
    assert_eq!(rows(&desk), [(1, Some("big"), 300, false), (1, Some("small"), 60, false)]);
    assert_eq!(desk.entry(1).usage.total_tokens, 360);
    let by_model: Vec<_> =
        desk.entry(1).models.iter().map(|(model, usage)| (model.to_owned(), usage.total_tokens)).collect();
    assert_eq!(by_model, [("big".to_owned(), 300), ("small".to_owned(), 60)]);
    assert_eq!(desk.machine.state().day.models.total().total_tokens, 360);
}

#[test]
fn reports_in_quick_succession_are_counted_when_the_agent_has_rested() {
    let mut desk = Desk::new(policy());
    desk.reach_turn();
    desk.report(Usage::new(10, 0), None);
    let run = desk.run().id.clone();
    for tokens in [20, 90, 50] {
        let signal = Signal::Usage(Report { usage: Usage::new(tokens, 0), model: None });
        desk.hand(Input::Signal { run: run.clone(), signal });
    }
    assert_eq!(desk.entry(1).usage.total_tokens, 10);
    assert_eq!(desk.wake, Some(Timestamp(desk.now + 1_000)));
    desk.pass(1_000);
    assert_eq!(desk.entry(1).usage.total_tokens, 90);
}

#[test]
fn what_a_cut_turn_cost_is_settled_once_by_the_sessions_own_total() {
    let mut desk = Desk::new(policy());
    desk.reach_turn();
    desk.report(Usage::new(100, 0), Some("m"));
    desk.restart();
    desk.done("sweep", EffectOutput::Swept { killed: 1 });
    desk.done("start_session", resumed(SessionStart::ResumedPromptFound, 450));
    assert_eq!(rows(&desk), [(1, Some("m"), 450, false)]);
    // The next turn begins at nothing, and is cut in its turn.
    desk.report(Usage::new(50, 0), Some("m"));
    desk.restart();
    desk.done("sweep", EffectOutput::Swept { killed: 1 });
    desk.done("start_session", resumed(SessionStart::ResumedPromptFound, 520));
    assert_eq!(rows(&desk), [(1, Some("m"), 450, false), (2, Some("m"), 70, false)]);
    // The same total again adds nothing.
    desk.restart();
    desk.done("sweep", EffectOutput::Swept { killed: 1 });
    desk.done("start_session", resumed(SessionStart::ResumedPromptFound, 520));
    assert_eq!(desk.entry(1).usage.total_tokens, 520);
    assert_eq!(desk.machine.state().usage.total_tokens, 520);
}

#[test]
fn a_turn_that_was_cut_and_not_settled_is_incomplete() {
    let mut desk = Desk::new(policy());
    desk.reach_turn();
    desk.restart();
    desk.done("sweep", EffectOutput::Swept { killed: 1 });
    desk.done("start_session", session(SessionStart::ResumedPromptFound));
    assert_eq!(rows(&desk), [(1, None, 0, true)]);
    desk.report(Usage::new(70, 0), Some("m"));
    desk.poll(&[in_state(1, "Backlog")]);
    desk.stop();
    assert_eq!(rows(&desk), [(1, None, 0, true), (2, Some("m"), 70, true)]);
}

#[test]
fn a_prompt_that_is_sent_again_counts_on_top_of_its_first_sending() {
    let mut desk = Desk::new(policy());
    desk.reach_turn();
    desk.report(Usage::new(100, 0), None);
    desk.restart();
    desk.done("sweep", EffectOutput::Swept { killed: 1 });
    desk.done("start_session", session(SessionStart::ResumedPromptMissing));
    desk.report(Usage::new(30, 0), None);
    desk.turn_of(Usage::new(60, 0), None, None);
    assert_eq!(desk.entry(1).usage.total_tokens, 160);
    assert_eq!(rows(&desk), [(1, None, 160, true)]);
}

#[test]
fn a_new_session_begins_at_nothing() {
    let mut desk = Desk::new(policy());
    desk.reach_turn();
    desk.report(Usage::new(100, 0), None);
    desk.restart();
    desk.done("sweep", EffectOutput::Swept { killed: 1 });
    let gone = EffectOutput::SessionStarted { session: "s2".into(), how: SessionStart::Gone, usage: None };
    desk.done("start_session", gone);
    desk.report(Usage::new(20, 0), None);
    desk.restart();
    desk.done("sweep", EffectOutput::Swept { killed: 1 });
    let total = Some(Usage::new(25, 0));
    let how = SessionStart::ResumedPromptFound;
    desk.done("start_session", EffectOutput::SessionStarted { session: "s2".into(), how, usage: total });
    assert_eq!(desk.entry(1).usage.total_tokens, 125);
}

#[test]
fn a_turn_over_midnight_is_in_both_days_and_each_token_in_one() {
    let mut desk = Desk::new(policy());
    desk.reach_turn();
    desk.report(Usage::new(100, 0), Some("m"));
    let run = desk.run().id.clone();
    desk.now = 86_400_000;
    desk.hand(Input::ClockJumped);
    desk.hand(Input::Signal {
        run,
        signal: Signal::Usage(Report { usage: Usage::new(150, 0), model: Some("m".into()) }),
    });
    let days: Vec<_> = desk.rows.values().map(|row| (row.day, row.usage.total_tokens)).collect();
    assert_eq!(days, [(0, 100), (1, 50)]);
    assert_eq!(desk.machine.state().day.models.total().total_tokens, 50);
}

#[test]
fn cost_is_counted_by_model_and_the_cache_has_its_own_price() {
    let price = Price { input_nanousd: 3_000, cached_input_nanousd: 300, output_nanousd: 15_000 };
    let usage = Usage { input_tokens: 1_000, cached_input_tokens: 400, output_tokens: 100, total_tokens: 1_100 };
    assert_eq!(usage.cost_nanousd(price), 600 * 3_000 + 400 * 300 + 100 * 15_000);
    let odd = Usage { cached_input_tokens: 9_999, ..usage };
    assert_eq!(odd.cost_nanousd(price), 1_000 * 300 + 100 * 15_000);

    let mut priced = policy();
    priced.budget.prices = BTreeMap::from([("m".to_owned(), price)]);
    let mut desk = Desk::new(priced);
    desk.reach_turn();
    desk.turn_of(usage, Some("m"), None);
    let cost: Vec<_> = desk.rows.values().map(|row| row.cost_nanousd).collect();
    assert_eq!(cost, [Some(usage.cost_nanousd(price))]);
}

#[test]
fn a_report_that_waits_when_its_agent_dies_counts_once_when_the_prompt_is_sent_again() {
    let mut desk = Desk::new(policy());
    desk.reach_turn();
    desk.report(Usage::new(300, 0), None);
    let run = desk.run().id.clone();
    // Too soon after the last one to be journaled by itself.
    desk.hand(Input::Signal { run, signal: Signal::Usage(Report { usage: Usage::new(400, 0), model: None }) });
    assert_eq!(desk.entry(1).usage.total_tokens, 300);
    desk.fail("prompt", Failure::retryable("agent_exit", "signal 9"));
    desk.done("sweep", EffectOutput::Swept { killed: 0 });
    desk.done("start_session", session(SessionStart::ResumedPromptMissing));
    assert_eq!(desk.entry(1).usage.total_tokens, 400);
    desk.turn_of(Usage::new(50, 0), None, None);
    assert_eq!(desk.entry(1).usage.total_tokens, 450);
}

#[test]
fn a_total_below_what_was_reported_does_not_make_a_cut_turn_whole() {
    for (how, again) in [(SessionStart::ResumedPromptFound, false), (SessionStart::ResumedPromptMissing, true)] {
        let mut desk = Desk::new(policy());
        desk.reach_turn();
        // What sub-agents used is in it; the thread's own total leaves that out.
        desk.report(Usage::new(900, 100), Some("m"));
        desk.restart();
        desk.done("sweep", EffectOutput::Swept { killed: 1 });
        let total = Some(Usage::new(400, 120));
        let resumed = EffectOutput::SessionStarted { session: "s1".into(), how, usage: total };
        desk.done("start_session", resumed);
        let row = desk.rows.values().next().unwrap();
        assert_eq!((row.usage.input_tokens, row.usage.output_tokens), (900, 120), "what is known beyond it counts");
        assert!(row.incomplete, "sent again: {again}");
        // A later total that has all of it settles the next turn.
        if !again {
            desk.restart();
            desk.done("sweep", EffectOutput::Swept { killed: 1 });
            let total = Some(Usage::new(2_000, 300));
            desk.done("start_session", EffectOutput::SessionStarted { session: "s1".into(), how, usage: total });
            assert_eq!(rows(&desk).iter().map(|row| row.3).collect::<Vec<_>>(), [true, false]);
        }
    }
}

#[test]
fn a_report_that_waits_while_a_session_is_lost_is_not_taken_for_one_of_the_next_session() {
    let mut desk = Desk::new(policy());
    desk.reach_turn();
    let run = desk.run().id.clone();
    for tokens in [100, 150] {
        let signal = Signal::Usage(Report { usage: Usage::new(tokens, 0), model: None });
        desk.hand(Input::Signal { run: run.clone(), signal });
    }
    desk.doubt("prompt");
    desk.done("sweep", EffectOutput::Swept { killed: 1 });
    let gone = |total| EffectOutput::SessionStarted { session: "s2".into(), how: SessionStart::Gone, usage: total };
    desk.done("start_session", gone(None));
    desk.restart();
    desk.done("sweep", EffectOutput::Swept { killed: 1 });
    let found = SessionStart::ResumedPromptFound;
    let total = Some(Usage::new(400, 0));
    desk.done("start_session", EffectOutput::SessionStarted { session: "s2".into(), how: found, usage: total });
    assert_eq!(desk.entry(1).usage.total_tokens, 150 + 400);
}
