//! Notices: what is told to whom, once at least, in bounded messages.

use crate::action::{act, request};
use crate::desk::*;
use dalsegno_core::*;

fn hook(address: &str) -> Receiver {
    Receiver::Webhook { address: address.to_owned(), secret: None }
}

fn told(entries: &[(Receiver, &[Topic])]) -> Policy {
    let notify = entries.iter().map(|(receiver, on)| NotifyPolicy { receiver: receiver.clone(), on: on.to_vec() });
    Policy { notify: notify.collect(), ..policy() }
}

/// Fails the run of the newest issue for good, so that it parks.
fn park(desk: &mut Desk, number: u32) {
    desk.poll(&(1..=number).map(issue).collect::<Vec<_>>());
    desk.fail("prepare_workspace", Failure::permanent("workspace_broken", "it cannot be made"));
    desk.done("stop_agent", EffectOutput::Swept { killed: 0 });
}

fn message(request: &EffectRequest) -> (Vec<(u64, Topic, String)>, u64) {
    let Effect::Notify { notices, missed, .. } = &request.effect else { panic!("no message") };
    (notices.iter().map(|notice| (notice.number, notice.topic, notice.identifier.clone())).collect(), *missed)
}

fn outbox(desk: &Desk) -> &Outbox {
    &desk.machine.state().outbox
}

#[test]
fn each_receiver_is_told_what_it_wants_to_hear_and_no_more() {
    let mut desk = Desk::new(told(&[
        (hook("$PARKED"), &[Topic::Parked]),
        (hook("$DONE"), &[Topic::Done]),
        (Receiver::Command { command: "say".to_owned() }, &Topic::ALL),
    ]));
    park(&mut desk, 1);
    let first = desk.take("notify");
    let second = desk.take("notify");
    assert_eq!(message(&first), (vec![(1, Topic::Parked, "DS-1".to_owned())], 0));
    assert_eq!(message(&second), (vec![(2, Topic::Parked, "DS-1".to_owned())], 0));
    let Effect::Notify { notices, .. } = &first.effect else { panic!() };
    assert_eq!((notices[0].title.as_str(), notices[0].at), ("title", Timestamp(desk.now)));
    assert!(notices[0].text.contains("it cannot be made"), "{}", notices[0].text);
    assert!(!desk.open().contains(&"notify"), "who wants to hear what is done hears nothing of it");
}

#[test]
fn a_limit_that_was_reached_is_heard_by_who_wants_budgets_and_by_who_wants_what_is_parked() {
    for topic in [Topic::Budget, Topic::Parked] {
        let mut policy = told(&[(hook("$X"), &[topic])]);
        policy.budget.issue.tokens = Some(1_000);
        let mut desk = Desk::new(policy);
        desk.reach_turn();
        desk.report(Usage::new(1_000, 0), None);
        desk.stop();
        assert_eq!(message(&desk.take("notify")).0[0].1, Topic::Budget);
    }
}

#[test]
fn what_waits_while_a_message_is_under_way_is_one_message_after_a_second() {
    let mut desk = Desk::new(told(&[(hook("$X"), &[Topic::Parked])]));
    (1..=5).for_each(|number| park(&mut desk, number));
    let first = desk.take("notify");
    assert_eq!(message(&first).0.len(), 1, "the first is not held back");
    assert!(!desk.open().contains(&"notify"), "one at a time");
    desk.end(&first, Outcome::Done { output: EffectOutput::Notified });
    assert!(!desk.open().contains(&"notify"), "one a second");
    assert_eq!(desk.wake.map(|wake| wake.0 - desk.now), Some(1_000));
    desk.pass(1_000);
    let numbers: Vec<u64> = message(&desk.take("notify")).0.into_iter().map(|(number, ..)| number).collect();
    assert_eq!(numbers, [2, 3, 4, 5]);
}

#[test]
fn a_message_that_failed_is_sent_again_as_it_was_and_given_up_in_the_end_with_an_event() {
    let mut desk = Desk::new(told(&[(hook("$X"), &[Topic::Parked])]));
    park(&mut desk, 1);
    let mut waits = Vec::new();
    for attempt in 1..=8 {
        let request = desk.take("notify");
        assert_eq!(message(&request).0, [(1, Topic::Parked, "DS-1".to_owned())], "try {attempt}");
        desk.end(&request, Outcome::Failed { failure: retryable() });
        if attempt == 1 {
            park(&mut desk, 2);
        }
        if let Some(queue) = outbox(&desk).queues.first().filter(|queue| queue.composed > 0) {
            waits.push((queue.not_before.0 - desk.now) / 1_000);
            desk.pass(queue.not_before.0 - desk.now);
        }
    }
    assert_eq!(waits, [10, 20, 40, 80, 160, 320, 640]);
    let dropped = desk.journal.iter().find_map(|recorded| match &recorded.event {
        Event::NoticesDropped { first, count, all, failure, .. } => Some((*first, *count, *all, failure.code.clone())),
        _ => None,
    });
    assert_eq!(dropped, Some((1, 1, false, "test_failure".to_owned())));
    desk.pass(1_000);
    assert_eq!(message(&desk.take("notify")).0, [(2, Topic::Parked, "DS-2".to_owned())], "the next one goes on");
}

#[test]
fn a_message_whose_end_nobody_knows_is_sent_again_after_a_restart_under_the_same_id() {
    let mut desk = Desk::new(told(&[(hook("$X"), &[Topic::Parked])]));
    park(&mut desk, 1);
    let before = desk.take("notify");
    desk.restart();
    let after = desk.take("notify");
    assert_eq!((message(&before), &before.key), (message(&after), &after.key));
    assert_eq!((before.attempt, after.attempt), (1, 2));
    desk.end(&after, Outcome::Done { output: EffectOutput::Notified });
    assert!(outbox(&desk).queues[0].waiting.is_empty());
}

#[test]
fn a_receiver_that_is_away_holds_up_no_other_and_no_run() {
    let mut desk = Desk::new(told(&[(hook("$AWAY"), &[Topic::Parked]), (hook("$THERE"), &[Topic::Parked])]));
    park(&mut desk, 1);
    let away = desk.take("notify");
    let there = desk.take("notify");
    desk.end(&there, Outcome::Done { output: EffectOutput::Notified });
    desk.pass(1_000);
    park(&mut desk, 2);
    let Effect::Notify { receiver, .. } = desk.take("notify").effect else { panic!() };
    assert_eq!(receiver, hook("$THERE"));
    // The issue whose notice is under way runs again all the same.
    let retry = request("retry", ("issue", "DS-1"), serde_json::json!({}));
    assert_eq!(act(&mut desk, retry).code, None);
    desk.poll(&[issue(1), issue(2)]);
    assert!(desk.open().contains(&"prepare_workspace"), "{:?}", desk.open());
    drop(away);
}

#[test]
fn a_queue_is_bounded_and_the_next_message_counts_what_it_lost() {
    let mut desk = Desk::new(told(&[(hook("$X"), &[Topic::Parked])]));
    park(&mut desk, 1);
    let first = desk.take("notify");
    let mut state = desk.machine.state().clone();
    let notice = |number| Notice {
        number,
        topic: Topic::Parked,
        issue: "i1".into(),
        identifier: "DS-1".to_owned(),
        title: String::new(),
        text: String::new(),
        url: None,
        at: state.at,
    };
    let queued: Vec<Event> =
        (2..=1_200).map(|number| Event::NoticeQueued { receiver: hook("$X"), notice: notice(number) }).collect();
    let (seq, at) = (state.seq, state.at);
    for (place, event) in queued.into_iter().enumerate() {
        let recorded = Recorded { seq: seq + 1 + place as u64, at, event };
        state.apply(&recorded).unwrap();
        desk.journal.push(recorded);
    }
    assert_eq!((state.outbox.queues[0].waiting.len(), state.outbox.queues[0].missed), (1_000, 200));
    desk.restart();
    let again = desk.take("notify");
    assert_eq!(message(&again), message(&first));
    desk.end(&again, Outcome::Done { output: EffectOutput::Notified });
    desk.pass(1_000);
    let (notices, missed) = message(&desk.take("notify"));
    assert_eq!((notices.len(), notices[0].0, missed), (100, 2, 200));
}

#[test]
fn what_waits_for_a_receiver_that_workflow_md_does_not_name_any_more_is_given_up_with_an_event() {
    let mut desk = Desk::new(told(&[(hook("$X"), &[Topic::Parked])]));
    park(&mut desk, 1);
    let request = desk.take("notify");
    desk.end(&request, Outcome::Failed { failure: retryable() });
    desk.hand(Input::PolicyLoaded { hash: "q".into(), policy: Box::new(policy()) });
    desk.pass(60_000);
    assert!(desk.kinds().contains(&"notices_dropped"));
    assert!(outbox(&desk).queues.is_empty());
}
