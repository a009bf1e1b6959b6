//! Every ceiling is in the journal: a restart neither adds to it nor forgets it.

use crate::desk::*;
use dalsegno_core::*;

#[test]
fn a_lying_end_of_turn_ends_by_the_breaker_or_by_max_turns() {
    for (max_turns, code) in [(4, "max_turns_reached"), (20, "breaker_no_progress")] {
        let mut patient = policy();
        patient.agent.max_turns = max_turns;
        let mut desk = Desk::new(patient);
        desk.reach_turn();
        for _ in 0..max_turns.min(5) {
            desk.turn(TurnOutcome::Completed);
            // A restart while the work is looked at: it is looked at again, and counts once.
            desk.restart();
            desk.done("sweep", EffectOutput::Swept { killed: 1 });
            desk.answer_assess(Some(issue(1)), without_commit());
            if desk.open().contains(&"start_session") {
                desk.done("start_session", session(SessionStart::Resumed));
            }
        }
        desk.stop();
        assert!(desk.reason(1).starts_with(code), "{}", desk.reason(1));
    }
}

#[test]
fn continuations_without_a_handoff_meet_the_ceiling_of_runs_across_restarts() {
    let mut endless = policy();
    endless.handoff = None;
    endless.agent.max_turns = 1;
    endless.budget.issue_runs = 4;
    endless.breaker.no_progress_turns = 0;
    let mut desk = Desk::new(endless);
    desk.reach_turn();
    for run in 1..=4 {
        desk.turn(TurnOutcome::Completed);
        desk.answer_assess(Some(issue(1)), without_commit());
        desk.stop();
        assert_eq!(desk.entry(1).runs, run);
        if run < 4 {
            assert_eq!(desk.status(1), IssueStatus::WaitingRetry);
            desk.restart();
            desk.now += 1_000;
            desk.next_run(&issue(1));
        }
    }
    assert!(desk.reason(1).starts_with("runs_exhausted"), "{}", desk.reason(1));
    assert_eq!(desk.entry(1).parked.as_ref().unwrap().limit, Some(BudgetLimit::IssueRuns));
}

#[test]
fn prompts_that_are_sent_again_and_again_meet_the_ceiling_of_cut_turns() {
    let mut desk = Desk::new(policy());
    desk.reach_turn();
    for _ in 0..51 {
        desk.restart();
        desk.done("sweep", EffectOutput::Swept { killed: 1 });
        desk.done("start_session", session(SessionStart::ResumedPromptMissing));
    }
    desk.stop();
    assert!(desk.reason(1).starts_with("cut_turns_exhausted: 50 turns"), "{}", desk.reason(1));
}
