//! What is settled stays settled: only somebody else's change opens it.

use crate::desk::*;
use dalsegno_core::*;

fn review(number: u32) -> Issue {
    in_state(number, "Human Review")
}

#[test]
fn our_own_move_and_comment_do_not_reopen() {
    let mut active = policy();
    active.handoff.as_mut().unwrap().state = Some("Rework".into());
    let mut desk = Desk::new(active);
    desk.reach_delivery();
    desk.delivered("Rework");
    assert_eq!(desk.status(1), IssueStatus::HandedOff);
    for _ in 0..3 {
        // The comment changed the time of the last change.
        desk.poll(&[Issue { updated_at: Some(Timestamp(9)), title: "other".into(), ..in_state(1, "Rework") }]);
    }
    assert_eq!(desk.status(1), IssueStatus::HandedOff);
    assert_eq!(desk.dispatched().len(), 1);
}

#[test]
fn without_a_handoff_state_the_issue_stays_active_and_handed_off() {
    let mut still = policy();
    still.handoff.as_mut().unwrap().state = None;
    let mut desk = Desk::new(still);
    desk.reach_delivery();
    desk.delivered("Todo");
    desk.poll(&[issue(1)]);
    desk.restart();
    desk.poll(&[issue(1)]);
    assert_eq!(desk.status(1), IssueStatus::HandedOff);
    assert_eq!(desk.dispatched().len(), 1);
}

#[test]
fn a_persons_change_reopens_and_needs_commits_beyond_the_last_handoff() {
    let changes = [
        in_state(1, "Rework"),
        Issue { labels: vec!["again".into()], ..in_state(1, "Todo") },
        Issue { description: Some("more".into()), ..in_state(1, "Todo") },
    ];
    for change in changes {
        let mut desk = Desk::new(policy());
        desk.hand_off();
        desk.poll(std::slice::from_ref(&change));
        assert_eq!(desk.dispatched().len(), 2, "{change:?}");
        desk.done("prepare_workspace", workspace_ready(false));
        desk.done("start_session", session(SessionStart::New));
        desk.turn(TurnOutcome::Completed);
        let since = desk.asks.iter().find_map(|(_, query)| match query {
            Query::Assess { since, .. } => Some(since.clone()),
            _ => None,
        });
        assert_eq!(since, Some(Some("c1".into())));
    }
}

#[test]
fn a_poll_from_before_our_move_does_not_reopen() {
    let mut desk = Desk::new(policy());
    desk.reach_delivery();
    desk.pushed();
    // Asked before the move, answered after it.
    desk.hand(Input::Refresh);
    desk.delivered("Human Review");
    desk.poll(&[issue(1)]);
    assert_eq!(desk.status(1), IssueStatus::HandedOff);
    desk.poll(&[review(1)]);
    assert_eq!(desk.status(1), IssueStatus::HandedOff);
    assert_eq!(desk.dispatched().len(), 1);
}

#[test]
fn a_poll_from_before_the_last_look_does_not_reopen_a_parked_issue() {
    let mut once = policy();
    once.agent.max_turns = 1;
    let mut desk = Desk::new(once);
    desk.reach_turn();
    desk.turn(TurnOutcome::Completed);
    desk.hand(Input::Refresh);
    let newer = Issue { description: Some("newer".into()), ..issue(1) };
    desk.answer_assess(Some(newer.clone()), without_commit());
    desk.done("stop_agent", EffectOutput::Swept { killed: 1 });
    assert_eq!(desk.status(1), IssueStatus::Parked);
    desk.poll(&[issue(1)]);
    assert_eq!(desk.status(1), IssueStatus::Parked);
    desk.poll(&[newer]);
    assert_eq!(desk.status(1), IssueStatus::Parked);
}

#[test]
fn a_closed_issue_is_completed_and_its_workspace_goes() {
    let mut desk = Desk::new(policy());
    desk.hand_off();
    desk.poll(&[in_state(1, "Done")]);
    assert_eq!(desk.status(1), IssueStatus::Completed);
    assert_eq!(desk.open(), ["remove_workspace"]);
}

#[test]
fn an_issue_closed_during_its_handoff_is_completed() {
    let mut desk = Desk::new(policy());
    desk.reach_delivery();
    desk.poll(&[in_state(1, "Done")]);
    desk.delivered("Done");
    assert_eq!(desk.status(1), IssueStatus::Completed);
}

#[test]
fn an_issue_that_vanishes_and_comes_back_unchanged_stays_handed_off() {
    let mut desk = Desk::new(policy());
    desk.hand_off();
    desk.poll(&[]);
    assert!(desk.machine.state().issues.is_empty());
    desk.restart();
    // Only active issues are found again by their state; a person opens it.
    desk.poll(&[in_state(1, "Rework")]);
    assert_eq!(desk.entry(1).handed_off, Some("c1".into()));

    let mut still = policy();
    still.handoff.as_mut().unwrap().state = None;
    let mut desk = Desk::new(still);
    desk.reach_delivery();
    desk.delivered("Todo");
    desk.poll(&[]);
    desk.poll(&[issue(1)]);
    assert_eq!(desk.status(1), IssueStatus::HandedOff);
    assert_eq!(desk.dispatched().len(), 1);
}
