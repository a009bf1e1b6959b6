//! A journal that was restored from a backup: what was live ends, and nothing is dispatched before somebody looked.

use dalsegno_core::*;

use crate::desk::*;
use crate::recovery::{hook, life, lived, under_way};

/// The desk's journal as a backup that is restored, with a new daemon over it.
fn restore(desk: &mut Desk) {
    let last = desk.journal.last().unwrap().clone();
    desk.epoch += 1_000;
    let (epoch, journal, backup_at) = (desk.epoch, "lost".to_owned(), last.at);
    let event = Event::JournalRestored { epoch, journal, backup_at, skipped: 1_000 };
    desk.journal.push(Recorded { seq: last.seq + 1, at: last.at, event });
    desk.restart();
}

fn kinds(desk: &Desk) -> Vec<&'static str> {
    let restored = desk.journal.iter().rposition(|recorded| recorded.event.kind() == "journal_restored").unwrap();
    desk.journal[restored..].iter().map(|recorded| recorded.event.kind()).collect()
}

/// Answers the look at where the branch is.
fn answer_look(desk: &mut Desk, tip: Result<Option<CommitId>, Failure>) {
    let at = desk.asks.iter().position(|(_, query)| matches!(query, Query::LostWork { .. })).expect("no look is open");
    let (id, _) = desk.asks.remove(at);
    desk.hand(Input::Answered { id, answer: Answer::LostWork(tip) });
}

/// A run in its first turn, restored, swept and ended; its issue waits for the look.
fn looked_at() -> Desk {
    let mut desk = lived(5);
    restore(&mut desk);
    desk.done("sweep", EffectOutput::Swept { killed: 0 });
    desk.done("stop_agent", EffectOutput::Swept { killed: 0 });
    desk.done("run_hook", hook());
    assert_eq!(desk.status(1), IssueStatus::WaitingRetry);
    desk.pass(2_000);
    desk.poll(&[issue(1)]);
    assert_eq!((desk.status(1), under_way(&desk)), (IssueStatus::Queued, vec!["lost_work"]));
    desk
}

#[test]
fn what_was_live_in_the_backup_ends_but_for_a_handoff() {
    for (step, ((kind, _), phase, after)) in life().into_iter().enumerate() {
        let mut desk = lived(step);
        restore(&mut desk);
        assert_eq!(under_way(&desk), ["sweep"], "{phase}, while {kind} was open");
        desk.done("sweep", EffectOutput::Swept { killed: 0 });
        let expected = match phase {
            "delivering" | "after_run" => after,
            _ => &["stop_agent"],
        };
        assert_eq!(under_way(&desk), expected, "{phase}, while {kind} was open");
        if phase == "delivering" {
            assert!(desk.take("hand_off").restored, "each of its steps is looked for");
        }
    }
}

#[test]
fn a_restored_handoff_that_meets_a_branch_that_went_on_parks_because_its_agent_may_have_had_the_turn_to_merge() {
    let mut desk = Desk::new(policy());
    desk.reach_delivery();
    restore(&mut desk);
    desk.done("sweep", EffectOutput::Swept { killed: 0 });
    desk.refused(&Failure::permanent("branch_diverged", "somebody else pushed"));
    assert_eq!(desk.status(1), IssueStatus::Parked);
    assert!(desk.entry(1).reason.as_deref().unwrap().starts_with("branch_diverged"));
    assert!(!kinds(&desk).contains(&"turn_started"));
}

#[test]
fn an_issue_whose_branch_is_where_the_backup_has_it_is_dispatched_under_a_new_number() {
    let mut desk = looked_at();
    answer_look(&mut desk, Ok(None));
    desk.poll(&[issue(1)]);
    assert_eq!(desk.run().id.as_str(), "run-1002");
    assert!(kinds(&desk).contains(&"restore_probed"));
    let request = desk.take("prepare_workspace");
    assert!(request.id.0 > 1_000 && !request.restored);
}

#[test]
fn work_that_went_on_since_parks_the_issue() {
    let mut desk = looked_at();
    answer_look(&mut desk, Ok(Some(CommitId::from("c1"))));
    assert_eq!(desk.status(1), IssueStatus::Parked);
    assert!(
        desk.entry(1).reason.as_ref().is_some_and(|why| why.starts_with("restored_work_found: its branch is at c1"))
    );
    desk.poll(&[issue(1)]);
    assert_eq!(desk.dispatched().len(), 1, "nothing is dispatched");
}

#[test]
fn a_change_in_the_tracker_since_parks_what_was_being_worked_on_and_nothing_else() {
    let changed = |number: u32| Issue { updated_at: Some(Timestamp(9)), ..issue(number) };
    let mut desk = looked_at();
    desk.poll(&[changed(1), changed(2)]);
    answer_look(&mut desk, Ok(None));
    assert_eq!(desk.status(1), IssueStatus::Parked);
    answer_look(&mut desk, Ok(None));
    desk.poll(&[changed(1), changed(2)]);
    assert_eq!(desk.dispatched(), ["i1", "i2"], "the new one is looked at, too, and runs");
}

#[test]
fn a_remote_that_does_not_answer_is_asked_again_and_nothing_is_dispatched_meanwhile() {
    let mut desk = looked_at();
    for _ in 0..3 {
        answer_look(&mut desk, Err(retryable()));
        assert!(desk.entry(1).reason.as_ref().is_some_and(|why| why.starts_with("test_failure")));
        let before = desk.journal.len();
        desk.poll(&[issue(1)]);
        assert_eq!(desk.journal.len(), before, "a wait is told once");
    }
    let explained = desk.machine.explain("DS-1").unwrap();
    let rule = explained.rules.iter().find(|rule| rule.rule == "restore_probed").unwrap();
    assert!(!rule.pass && rule.detail.contains("restored from a backup"));
}

#[test]
fn an_issue_that_is_younger_than_the_restore_is_dispatched_at_once() {
    let mut desk = Desk::new(policy());
    restore(&mut desk);
    let young = Issue { created_at: Some(Timestamp(desk.now + 1)), ..issue(1) };
    desk.poll(&[young]);
    assert_eq!(desk.dispatched(), ["i1"]);
}
