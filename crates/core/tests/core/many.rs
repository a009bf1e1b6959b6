//! Many issues at once: what is written together, and what a crash leaves of it.

use std::collections::BTreeMap;

use crate::desk::*;
use dalsegno_core::*;

const ISSUES: u32 = 1_300;
const SLOTS: u32 = 40;

/// A machine that is told what the tracker shows until nothing is left to append; the batches.
fn batches(machine: &mut Machine, epoch: u64, issues: &[Issue]) -> Vec<Batch> {
    let agent = AgentPolicy { max_concurrent_agents: SLOTS, ..policy().agent };
    let policy = Box::new(Policy { agent, ..policy() });
    let (mut batches, mut inputs) = (Vec::new(), Vec::new());
    inputs.push(Input::PolicyLoaded { hash: "p".into(), policy });
    inputs.push(Input::Started { epoch, version: "0".into(), pid: 1 });
    while let Some(input) = inputs.pop() {
        machine.handle(input, Timestamp(1_000));
        loop {
            match machine.poll_output() {
                Output::Append(batch) => {
                    inputs.push(Input::Committed(batch.committed()));
                    batches.push(batch);
                }
                Output::Ask(id, query) => {
                    let answer = match query {
                        Query::Inspect { .. } => Answer::Inspect(Box::new(Inspection::clear(u64::MAX))),
                        _ => Answer::poll(Ok(issues.to_vec()), Ok(issues.to_vec()), Vec::new()),
                    };
                    inputs.insert(0, Input::Answered { id, answer });
                }
                Output::Wait(_) => break,
                _ => {}
            }
        }
    }
    batches
}

#[test]
fn what_many_issues_bring_is_cut_between_issues_and_a_crash_there_loses_and_repeats_nothing() {
    let issues: Vec<Issue> = (1..=ISSUES).map(issue).collect();
    let mut machine = Machine::replay(None, []).unwrap();
    let whole = batches(&mut machine, 1, &issues);
    assert!(whole.len() > 3, "{} batches", whole.len());
    let mut state = State::default();
    for batch in &whole {
        assert!(batch.events.len() < 530, "{} events in one batch", batch.events.len());
        for recorded in &batch.events {
            state.apply(recorded).unwrap();
        }
        let touched = batch.events.iter().filter_map(|recorded| recorded.event.issue());
        for issue in touched {
            let has_row = batch.views.iter().any(|row| name(row).as_deref() == Some(issue.as_str()));
            assert!(has_row, "the row of {issue} is in the batch of its event");
        }
        let rows = views(&state);
        let rows: BTreeMap<String, &View> = rows.iter().filter_map(|row| Some((name(row)?, row))).collect();
        for row in &batch.views {
            let Some(name) = name(row) else { continue };
            assert_eq!(rows[&name], row, "rows are as the batch leaves them");
        }
    }
    assert_eq!(&state, machine.state());
    for crash in 0..=whole.len() {
        let kept: Vec<Recorded> = whole.iter().take(crash).flat_map(|batch| batch.events.clone()).collect();
        let mut next = Machine::replay(None, kept.clone()).unwrap();
        let more = batches(&mut next, 2, &issues);
        let journal: Vec<&Event> =
            kept.iter().chain(more.iter().flat_map(|batch| &batch.events)).map(|recorded| &recorded.event).collect();
        let count = |is: fn(&Event) -> bool| journal.iter().filter(|event| is(event)).count();
        assert_eq!(count(|event| matches!(event, Event::IssueSeen { .. })), ISSUES as usize, "after {crash} batches");
        assert_eq!(count(|event| matches!(event, Event::RunStarted { .. })), SLOTS as usize, "after {crash} batches");
        let queued = next.state().issues.values().filter(|entry| entry.status == IssueStatus::Queued).count();
        assert_eq!(queued, (ISSUES - SLOTS) as usize, "after {crash} batches");
    }
}

fn name(row: &View) -> Option<String> {
    match row {
        View::Issue(issue) => Some(issue.issue.id.to_string()),
        View::Run(run) => Some(run.id.to_string()),
        _ => None,
    }
}

#[test]
fn of_an_issue_that_is_seen_more_than_once_what_came_last_counts() {
    let named = |number, title: &str| Issue { title: title.to_owned(), ..issue(number) };
    let known = vec![named(3, "known"), named(1, "known"), named(3, "known again")];
    let active = vec![named(2, "active"), named(1, "active"), named(2, "active again")];
    let seen = SeenIssues::of(known, active);
    let seen: Vec<(&str, &str)> = seen.iter().map(|issue| (issue.id.as_str(), issue.title.as_str())).collect();
    assert_eq!(seen, [("i1", "active"), ("i2", "active again"), ("i3", "known again")]);
}

/// Those with a live run, and those in line.
fn running_and_queued(desk: &Desk) -> (Vec<&str>, Vec<&str>) {
    let with = |is: fn(&IssueEntry) -> bool| {
        let entries = desk.machine.state().issues.values().filter(move |entry| is(entry));
        entries.map(|entry| entry.issue.id.as_str()).collect()
    };
    (with(|entry| entry.current_run.is_some()), with(|entry| entry.status == IssueStatus::Queued))
}

#[test]
fn a_slot_that_is_free_goes_to_the_first_of_those_who_wait_in_line_and_to_nobody_else() {
    let mut policy = policy();
    policy.agent.max_concurrent_agents = 1;
    let mut desk = Desk::new(policy);
    let urgent = |number, priority| Issue { priority: Some(priority), ..issue(number) };
    let mut board = vec![urgent(1, 1), urgent(2, 4), urgent(3, 2), urgent(4, 3)];
    desk.poll(&board);
    desk.poll(&board);
    assert_eq!(running_and_queued(&desk), (vec!["i1"], vec!["i2", "i3", "i4"]));
    board[0].state = "Backlog".to_owned();
    desk.poll(&board);
    desk.done("prepare_workspace", workspace_ready(true));
    desk.done("stop_agent", EffectOutput::Swept { killed: 0 });
    desk.poll(&board);
    assert_eq!(running_and_queued(&desk), (vec!["i3"], vec!["i2", "i4"]));
}

#[test]
fn a_new_policy_says_at_once_who_is_in_line_and_who_is_not_wanted_any_more() {
    let mut one = policy();
    one.agent.max_concurrent_agents = 1;
    let mut desk = Desk::new(one.clone());
    let labelled = |number, label: &str| Issue { labels: vec![label.to_owned()], ..issue(number) };
    let board = [labelled(1, "go"), labelled(2, "go"), labelled(3, "stay")];
    desk.poll(&board);
    assert_eq!(running_and_queued(&desk), (vec!["i1"], vec!["i2", "i3"]));
    one.tracker.required_labels = vec!["stay".to_owned()];
    desk.hand(Input::PolicyLoaded { hash: "q".into(), policy: Box::new(one) });
    desk.poll(&board);
    desk.done("prepare_workspace", workspace_ready(true));
    desk.done("stop_agent", EffectOutput::Swept { killed: 0 });
    desk.poll(&board);
    assert_eq!(running_and_queued(&desk), (vec!["i3"], vec![]));
}
