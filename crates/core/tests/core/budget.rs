//! Budgets: before each turn and at each report; nothing is forgotten or counted twice over a restart.

use std::collections::BTreeMap;

use crate::desk::*;
use dalsegno_core::*;

const DAY: i64 = 86_400_000;

fn limited(change: impl Fn(&mut BudgetPolicy)) -> Policy {
    let mut policy = policy();
    change(&mut policy.budget);
    policy.agent.max_turns = 50;
    policy.agent.stall_timeout_ms = 0;
    policy.breaker.no_progress_turns = 0;
    policy
}

fn price() -> Price {
    Price { input_nanousd: 1_000, cached_input_nanousd: 100, output_nanousd: 5_000 }
}

fn look(desk: &mut Desk) {
    desk.answer_assess(Some(issue(1)), without_commit());
}

#[test]
fn at_the_limit_the_agent_is_ended_and_the_issue_parks_with_the_figures() {
    let mut desk = Desk::new(limited(|budget| budget.issue.tokens = Some(1_000)));
    desk.reach_turn();
    desk.report(Usage::new(990, 0), None);
    assert!(desk.cancels.is_empty());
    desk.report(Usage { cached_input_tokens: 300, ..Usage::new(1_000, 20) }, None);
    assert_eq!(desk.cancels.len(), 1);
    desk.stop();
    assert_eq!(desk.status(1), IssueStatus::Parked);
    assert_eq!(
        desk.reason(1),
        "budget_exceeded: limit issue_tokens of the issue: 1020 of 1000 tokens used; 1000 tokens in (300 cached), \
         20 out, 1020 in all, $0.000000 and what has no price, 0 turns, 4 s in 1 runs"
    );
    assert_eq!(desk.entry(1).parked.as_ref().unwrap().limit, Some(BudgetLimit::IssueTokens));
}

#[test]
fn a_turn_that_ends_at_the_limit_is_the_last_one() {
    let mut desk = Desk::new(limited(|budget| budget.issue.tokens = Some(1_000)));
    desk.reach_turn();
    desk.turn_of(Usage::new(600, 0), None, None);
    look(&mut desk);
    desk.turn_of(Usage::new(400, 0), None, None);
    assert_eq!(desk.open(), ["stop_agent"]);
    desk.stop();
    assert_eq!(desk.status(1), IssueStatus::Parked);
}

#[test]
fn use_is_remembered_over_restarts_and_runs_and_a_change_by_others_brings_no_new_budget() {
    let mut desk = Desk::new(limited(|budget| budget.issue.tokens = Some(1_000)));
    desk.reach_turn();
    desk.report(Usage::new(600, 0), None);
    for _ in 0..3 {
        desk.restart();
        desk.done("sweep", EffectOutput::Swept { killed: 1 });
        desk.done("start_session", session(SessionStart::ResumedPromptMissing));
    }
    assert_eq!(desk.entry(1).usage.total_tokens, 600);
    desk.report(Usage::new(400, 0), None);
    desk.stop();
    assert!(desk.reason(1).starts_with("budget_exceeded"));
    desk.restart();
    desk.poll(&[Issue { description: Some("please".into()), ..issue(1) }]);
    assert_eq!(desk.status(1), IssueStatus::Parked);
    assert_eq!(desk.dispatched().len(), 1);
}

#[test]
fn a_repeated_prompt_needs_a_budget_too() {
    let mut desk = Desk::new(limited(|budget| budget.issue.tokens = Some(1_000)));
    desk.reach_turn();
    desk.report(Usage::new(900, 0), None);
    desk.restart();
    desk.done("sweep", EffectOutput::Swept { killed: 1 });
    let how = SessionStart::ResumedPromptMissing;
    let total = Some(Usage::new(1_000, 0));
    desk.done("start_session", EffectOutput::SessionStarted { session: "s1".into(), how, usage: total });
    assert_eq!(desk.open(), ["stop_agent"]);
    desk.stop();
    assert!(desk.reason(1).starts_with("budget_exceeded"));
}

#[test]
fn turns_are_limited_before_a_turn_and_cut_ones_do_not_count() {
    let mut desk = Desk::new(limited(|budget| budget.issue.turns = Some(2)));
    desk.reach_turn();
    desk.restart();
    desk.done("sweep", EffectOutput::Swept { killed: 1 });
    desk.done("start_session", session(SessionStart::ResumedPromptFound));
    for _ in 0..2 {
        desk.turn_of(Usage::new(1, 0), None, None);
        look(&mut desk);
    }
    desk.stop();
    assert!(desk.reason(1).contains("limit issue_turns of the issue: 2 of 2 turns used"), "{}", desk.reason(1));
}

#[test]
fn the_last_allowed_turn_may_still_be_handed_over() {
    let mut desk = Desk::new(limited(|budget| budget.issue.turns = Some(1)));
    desk.hand_off();
    assert_eq!(desk.status(1), IssueStatus::HandedOff);
}

#[test]
fn the_time_of_all_runs_is_limited_by_a_due_time_that_a_restart_keeps() {
    let mut desk = Desk::new(limited(|budget| budget.issue.wall_clock_ms = Some(100_000)));
    desk.reach_turn();
    desk.now += 40_000;
    desk.turn(TurnOutcome::Failed { failure: retryable() });
    desk.stop();
    assert_eq!(desk.entry(1).run_ms, 40_000);
    desk.pass(10_000);
    desk.next_run(&issue(1));
    let end = desk.now + 60_000;
    desk.restart();
    desk.poll(&[issue(1)]);
    desk.now = end - 1;
    desk.poll(&[issue(1)]);
    assert_eq!(desk.phase(), Some(Phase::Prompting));
    assert_eq!(desk.wake, Some(Timestamp(end)));
    desk.pass(1);
    assert_eq!(desk.phase(), Some(Phase::Stopping));
}

#[test]
fn the_days_limit_parks_what_runs_and_holds_up_the_rest_until_the_day_turns() {
    let mut desk = Desk::new(limited(|budget| budget.day.tokens = Some(1_000)));
    desk.poll(&[issue(1), issue(2)]);
    for _ in 0..2 {
        desk.done("prepare_workspace", workspace_ready(true));
        desk.done("start_session", session(SessionStart::New));
    }
    let runs: Vec<RunId> = desk.machine.state().runs.keys().cloned().collect();
    for run in &runs {
        let signal = Signal::Usage(Report { usage: Usage::new(500, 0), model: None });
        desk.hand(Input::Signal { run: run.clone(), signal });
    }
    assert_eq!(desk.cancels.len(), 2);
    desk.stop();
    desk.stop();
    for number in [1, 2] {
        let reason = desk.reason(number);
        assert!(reason.contains("limit day_tokens of this UTC day: 1000 of 1000"), "{reason}");
    }
    desk.restart();
    desk.poll(&[issue(1), issue(2), issue(3)]);
    assert_eq!(desk.status(3), IssueStatus::Queued);
    let explained = desk.machine.explain("DS-3").unwrap();
    let rule = explained.rules.iter().find(|rule| rule.rule == "day_budget").unwrap();
    assert!(!rule.pass && rule.remedy.as_ref().unwrap().contains("UTC day turns"), "{rule:?}");
    desk.now = DAY - 1;
    desk.poll(&[issue(1), issue(2), issue(3)]);
    assert_eq!(desk.wake, Some(Timestamp(DAY)));
    desk.asks.clear();
    desk.pass(1);
    desk.poll(&[issue(1), issue(2), issue(3)]);
    assert_eq!(desk.status(3), IssueStatus::Running);
}

#[test]
fn a_limit_of_cost_needs_prices() {
    let priced = |model: Option<&str>| {
        let mut policy = limited(|budget| {
            budget.issue.cost_nanousd = Some(1_000_000);
            budget.prices = BTreeMap::from([("m".to_owned(), price())]);
        });
        policy.agent.model = model.map(str::to_owned);
        policy
    };
    let mut desk = Desk::new(priced(Some("m")));
    desk.reach_turn();
    desk.report(Usage::new(999, 0), Some("m"));
    assert!(desk.cancels.is_empty());
    desk.report(Usage::new(1_000, 0), Some("m"));
    desk.stop();
    let reason = desk.reason(1);
    assert!(reason.contains("limit issue_cost of the issue: $0.001000 of $0.001000 used"), "{reason}");

    let mut desk = Desk::new(priced(None));
    desk.reach_turn();
    desk.report(Usage::new(10, 0), Some("other"));
    desk.stop();
    assert!(desk.reason(1).starts_with("price_unknown: model \"other\" has no price"), "{}", desk.reason(1));

    // The policy names it: no run begins.
    let mut desk = Desk::new(priced(Some("other")));
    desk.poll(&[issue(1)]);
    assert!(desk.reason(1).starts_with("price_unknown"), "{}", desk.reason(1));
    assert_eq!(desk.dispatched().len(), 0);
}

#[test]
fn without_a_limit_no_price_is_needed() {
    let mut desk = Desk::new(limited(|_| {}));
    desk.reach_turn();
    desk.report(Usage::new(10, 0), Some("other"));
    assert!(desk.cancels.is_empty());
}

#[test]
fn the_use_of_a_day_adds_up_until_the_day_turns() {
    let mut desk = Desk::new(limited(|_| ()));
    desk.reach_turn();
    desk.report(Usage::new(100, 0), None);
    let today = |desk: &Desk| desk.machine.budgets(Timestamp(desk.now))[0].usage.tokens();
    assert_eq!(today(&desk), 100);
    desk.now = DAY;
    desk.report(Usage::new(250, 0), None);
    desk.report(Usage::new(300, 0), None);
    assert_eq!(today(&desk), 200, "of the 300 of the session");
    desk.now = 2 * DAY;
    assert_eq!(today(&desk), 0);
}

#[test]
fn a_day_that_is_spent_ends_no_run_that_is_in_no_turn() {
    let mut desk = Desk::new(limited(|budget| budget.day.tokens = Some(1_000)));
    desk.poll(&[issue(1), issue(2)]);
    desk.done("prepare_workspace", workspace_ready(true));
    desk.done("start_session", session(SessionStart::New));
    let phase = |desk: &Desk, number: usize| desk.machine.state().runs.values().nth(number).map(|run| run.phase);
    assert_eq!((phase(&desk, 0), phase(&desk, 1)), (Some(Phase::Prompting), Some(Phase::Preparing)));
    desk.report(Usage::new(1_000, 0), None);
    assert_eq!((phase(&desk, 0), phase(&desk, 1)), (Some(Phase::Stopping), Some(Phase::Preparing)));
}

#[test]
fn what_was_begun_is_listed_also_without_use_and_nothing_else() {
    let mut desk = Desk::new(limited(|_| ()));
    let blocked = |number| Issue { dispatchable: false, ..issue(number) };
    desk.poll(&[issue(1), blocked(2), blocked(3)]);
    let listed = |desk: &Desk| -> Vec<Option<String>> {
        desk.machine.budgets(Timestamp(desk.now)).into_iter().map(|line| line.identifier).collect()
    };
    let begun = desk.entry(1);
    assert_eq!((begun.runs, begun.usage), (1, Usage::default()));
    assert_eq!(listed(&desk), [None, Some("DS-1".to_owned())]);
}
