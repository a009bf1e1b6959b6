//! Webhooks: one issue is looked at alone, or the tracker is read early; within bounds.

use crate::desk::*;
use dalsegno_core::*;

fn webhook(desk: &mut Desk, names: &[&str]) -> Option<String> {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let told = desk.machine.looks_at(&names);
    desk.hand(Input::Webhook { names });
    told
}

fn polls(desk: &Desk) -> usize {
    desk.asks.iter().filter(|(_, query)| matches!(query, Query::Poll { .. })).count()
}

/// The issues that are being looked at alone.
fn looks(desk: &Desk) -> Vec<&str> {
    let looks = desk.asks.iter().filter_map(|(_, query)| match query {
        Query::Look { issue, .. } => Some(issue.as_str()),
        Query::Poll { .. }
        | Query::Inspect { .. }
        | Query::Assess { .. }
        | Query::LostWork { .. }
        | Query::Probe { .. } => None,
    });
    looks.collect()
}

fn answer(desk: &mut Desk, seen: Result<Option<Issue>, Failure>) {
    let at = desk.asks.iter().position(|(_, query)| matches!(query, Query::Look { .. })).expect("no look is open");
    let (id, _) = desk.asks.remove(at);
    desk.hand(Input::Answered { id, answer: Answer::Look(seen) });
}

/// So many issues are known and rest; the tracker was read a second ago.
fn known(count: u32) -> Desk {
    let mut desk = Desk::new(policy());
    desk.poll(&(1..=count).map(|number| Issue { dispatchable: false, ..issue(number) }).collect::<Vec<_>>());
    desk.poll(&resting(count));
    desk.pass(1_000);
    assert_eq!((polls(&desk), desk.open().len()), (0, 0));
    desk
}

fn resting(count: u32) -> Vec<Issue> {
    (1..=count).map(|number| in_state(number, "Backlog")).collect()
}

#[test]
fn a_known_issue_is_looked_at_alone_by_identifier_or_id_and_starts() {
    for names in [&["ds-1"][..], &["i1"], &["no-such", "DS-1"]] {
        let mut desk = known(2);
        let journal = desk.journal.len();
        assert_eq!(webhook(&mut desk, names).as_deref(), Some("DS-1"));
        assert_eq!((looks(&desk), polls(&desk)), (vec!["i1"], 0));
        assert_eq!(desk.journal.len(), journal, "a webhook is not journaled");
        answer(&mut desk, Ok(Some(issue(1))));
        assert_eq!(desk.status(1), IssueStatus::Running);
        assert_eq!((polls(&desk), desk.status(2)), (0, IssueStatus::Idle));
    }
}

#[test]
fn what_a_look_sees_is_taken_as_from_a_poll() {
    let mut desk = Desk::new(policy());
    desk.reach_turn();
    desk.poll(&[issue(1)]);
    webhook(&mut desk, &["DS-1"]);
    answer(&mut desk, Ok(Some(in_state(1, "Done"))));
    assert!(!desk.cancels.is_empty() || desk.open().contains(&"stop_agent"), "the run goes on: {:?}", desk.open());

    let mut desk = known(1);
    webhook(&mut desk, &["DS-1"]);
    answer(&mut desk, Ok(None));
    assert!(desk.machine.state().issues.is_empty(), "an issue that is gone is still there");
}

#[test]
fn what_names_no_known_issue_is_one_early_poll_a_second() {
    for names in [&[][..], &["DS-9"]] {
        let mut desk = known(1);
        assert_eq!(webhook(&mut desk, names), None);
        assert_eq!((polls(&desk), looks(&desk).len()), (1, 0));
        for _ in 0..100 {
            webhook(&mut desk, names);
        }
        desk.poll(&[in_state(1, "Backlog")]);
        assert_eq!(polls(&desk), 0, "sooner than a second after the last");
        desk.pass(999);
        assert_eq!(polls(&desk), 0);
        desk.pass(1);
        assert_eq!(polls(&desk), 1, "what came during a poll may be newer than what it read");
        desk.poll(&[in_state(1, "Backlog")]);
        desk.pass(5_000);
        assert_eq!(polls(&desk), 0, "a hundred webhooks are one poll");
    }
}

#[test]
fn one_look_at_a_time_and_one_of_an_issue_in_a_second() {
    let mut desk = known(2);
    for _ in 0..10 {
        webhook(&mut desk, &["DS-1"]);
        webhook(&mut desk, &["DS-2"]);
    }
    assert_eq!(looks(&desk), ["i1"]);
    answer(&mut desk, Ok(Some(in_state(1, "Backlog"))));
    assert_eq!(looks(&desk), ["i2"]);
    answer(&mut desk, Ok(Some(in_state(2, "Backlog"))));
    assert_eq!(looks(&desk), Vec::<&str>::new());
    desk.pass(999);
    assert_eq!(looks(&desk), Vec::<&str>::new());
    desk.pass(1);
    assert_eq!(looks(&desk), ["i1"], "what came while it was looked at is looked for again");
    answer(&mut desk, Ok(Some(in_state(1, "Backlog"))));
    desk.pass(5_000);
    assert_eq!((looks(&desk).len(), polls(&desk)), (0, 0));
}

#[test]
fn beyond_fifty_issues_the_tracker_is_read() {
    let mut desk = known(51);
    for number in 1..=50 {
        let name = format!("DS-{number}");
        assert_eq!(webhook(&mut desk, &[&name]), Some(name));
    }
    assert_eq!((looks(&desk).len(), polls(&desk)), (1, 0));
    assert_eq!(webhook(&mut desk, &["DS-51"]), None);
    assert_eq!((looks(&desk).len(), polls(&desk)), (1, 1));
    assert_eq!(webhook(&mut desk, &["DS-50"]).as_deref(), Some("DS-50"), "it waits already");
    desk.poll(&resting(51));
    for _ in 0..50 {
        let number: u32 = looks(&desk)[0].trim_start_matches('i').parse().unwrap();
        answer(&mut desk, Ok(Some(in_state(number, "Backlog"))));
    }
    desk.pass(1_000);
    assert_eq!(webhook(&mut desk, &["DS-51"]).as_deref(), Some("DS-51"), "there is room again");
}

#[test]
fn a_look_never_takes_the_place_of_what_is_newer() {
    // A poll is answered while the look is under way.
    let mut desk = known(1);
    webhook(&mut desk, &["DS-1"]);
    desk.poll(&[Issue { title: "newer".into(), ..in_state(1, "Backlog") }]);
    answer(&mut desk, Ok(Some(Issue { title: "older".into(), ..in_state(1, "Backlog") })));
    assert_eq!(desk.entry(1).issue.title, "newer");
    desk.pass(1_000);
    assert_eq!(looks(&desk), ["i1"], "the webhook is not forgotten for it");

    // A poll that is under way saw less than the look.
    answer(&mut desk, Ok(Some(Issue { title: "newest".into(), ..in_state(1, "Backlog") })));
    desk.hand(Input::Refresh);
    webhook(&mut desk, &["DS-1"]);
    desk.pass(1_000);
    answer(&mut desk, Ok(Some(Issue { title: "last".into(), ..in_state(1, "Backlog") })));
    desk.poll(&[Issue { title: "newest".into(), ..in_state(1, "Backlog") }]);
    assert_eq!(desk.entry(1).issue.title, "last");
}

#[test]
fn our_own_write_is_not_taken_for_somebody_elses() {
    let mut desk = Desk::new(policy());
    desk.reach_delivery();
    webhook(&mut desk, &["DS-1"]);
    assert_eq!(looks(&desk), ["i1"]);
    desk.pushed();
    desk.delivered("Human Review");
    answer(&mut desk, Ok(Some(issue(1))));
    desk.poll(&[in_state(1, "Human Review")]);
    let woken = desk.journal.iter().any(|recorded| matches!(recorded.event, Event::IssueReopened { .. }));
    assert!(!woken, "what was read before our move woke the issue");
}

#[test]
fn a_look_that_fails_is_an_early_poll_and_a_failing_tracker_is_not_pressed() {
    let mut desk = known(1);
    webhook(&mut desk, &["DS-1"]);
    answer(&mut desk, Err(retryable()));
    assert_eq!(polls(&desk), 1);
    desk.poll_fails();
    for _ in 0..10 {
        webhook(&mut desk, &[]);
        desk.pass(400);
    }
    assert_eq!(polls(&desk), 0);
    desk.pass(1_000);
    assert_eq!(polls(&desk), 1, "five seconds after it failed");
}

/// Passes time until the tracker is read. Returns after how many milliseconds that was.
fn until_polled(desk: &mut Desk) -> i64 {
    let from = desk.now;
    while polls(desk) == 0 {
        let wake = desk.wake.expect("the tracker is never read again");
        desk.pass(wake.0 - desk.now);
    }
    desk.now - from
}

#[test]
fn polls_are_rarer_only_while_the_trackers_own_service_is_heard() {
    let idle = [in_state(1, "Backlog")];
    let mut desk = known(1);
    webhook(&mut desk, &[]);
    desk.poll(&idle);
    assert_eq!(until_polled(&mut desk), 30_000, "whoever names no issue of the tracker is not heard");
    desk.poll(&idle);

    webhook(&mut desk, &["DS-9"]);
    desk.pass(1_000);
    desk.poll(&idle);
    assert_eq!(until_polled(&mut desk), 300_000);
    desk.poll(&idle);
    // 301 s of the ten minutes are over; beyond them the interval counts again.
    assert_eq!(until_polled(&mut desk), 299_000);
    desk.poll(&idle);
    assert_eq!(until_polled(&mut desk), 30_000, "silence makes them as often as they were");
    desk.poll(&idle);

    webhook(&mut desk, &["DS-1"]);
    answer(&mut desk, Ok(Some(in_state(1, "Backlog"))));
    desk.restart();
    desk.poll(&idle);
    assert_eq!(until_polled(&mut desk), 30_000, "nothing of it outlives the daemon");
}

#[test]
fn polls_are_never_rarer_than_five_minutes_or_what_was_asked_for() {
    for (interval, rare) in [(1_000, 10_000), (60_000, 300_000), (400_000, 400_000)] {
        let mut desk = Desk::new(Policy { poll_interval_ms: interval, ..policy() });
        desk.poll(&[]);
        desk.pass(500);
        webhook(&mut desk, &["DS-1"]);
        desk.pass(500);
        desk.poll(&[]);
        assert_eq!(until_polled(&mut desk), rare, "{interval}");
    }
}

#[test]
fn nothing_is_looked_at_while_the_daemon_drains_and_it_is_not_quiet_before_it_looked() {
    let mut desk = known(1);
    assert!(desk.machine.is_quiet());
    webhook(&mut desk, &["DS-1"]);
    assert!(!desk.machine.is_quiet());
    answer(&mut desk, Ok(Some(in_state(1, "Backlog"))));
    assert!(desk.machine.is_quiet());
    desk.hand(Input::Drain);
    webhook(&mut desk, &["DS-1"]);
    desk.pass(5_000);
    assert_eq!((looks(&desk).len(), polls(&desk)), (0, 0));
}
