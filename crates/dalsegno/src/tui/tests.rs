//! What keys and answers make of the screen.
#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use dalsegno_api::{Action, Completion, Issue, Receipt, State, Target};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use serde_json::json;

use super::keys::Key;
use super::model::{Ask, Model, Over, Page, Said};
use super::view;

fn issue(identifier: &str, status: &str, title: &str) -> Issue {
    serde_json::from_value(json!({
        "identifier": identifier, "id": identifier, "title": title, "status": status, "tracker_state": "Todo",
        "reason": if status == "parked" { Some("breaker_same_failure: the check fails") } else { None },
        "attempt": null, "workspace": null, "current_run": null, "url": null, "labels": [], "priority": null, "due_at": null,
        "handed_off_commit": null,
        "usage": {"input_tokens": 1000, "output_tokens": 200, "total_tokens": 1200, "cost_usd": 0.5},
        "allowed_actions": if status == "running" { vec!["pause", "cancel", "steer"] } else { vec!["release", "comment"] },
    }))
    .unwrap()
}

fn state() -> State {
    serde_json::from_value(json!({
        "generated_at": "2026-01-01T00:00:00Z", "ready": true,
        "counts": {"running": 1, "retrying": 0, "parked": 1, "paused": 0, "queued": 1, "waiting": 0, "total": 4, "by_status": {}},
        "running": [], "retrying": [], "parked": [], "paused": [], "queued": [], "waiting": [],
        "codex_totals": {"input_tokens": 0, "output_tokens": 0, "total_tokens": 0, "seconds_running": 0.0},
        "totals": {"input_tokens": 0, "output_tokens": 0, "total_tokens": 120_300, "seconds_running": 0.0},
        "rate_limits": null, "workflow_error": null, "tracker_error": null, "policy": null, "epoch": 1, "head": "x",
    }))
    .unwrap()
}

fn model() -> Model {
    let mut model = Model::new("ada".to_owned(), false);
    let issues = vec![
        issue("DS-10", "queued", "Ten"),
        issue("DS-9", "queued", "Nine"),
        issue("DS-2", "running", "Two\u{1b}[2J with\na line"),
        issue("DS-1", "parked", "One"),
    ];
    model.update(Said::Overview { state: Box::new(state()), issues, readiness: None, day: None });
    model
}

fn keys(model: &mut Model, keys: &[Key]) -> Vec<Ask> {
    keys.iter().flat_map(|key| model.update(Said::Key(*key))).collect()
}

fn typed(model: &mut Model, text: &str) {
    keys(model, &text.chars().map(Key::Char).collect::<Vec<_>>());
}

fn screen(model: &Model, width: u16, height: u16) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| view::draw(frame, model)).unwrap();
    let buffer = terminal.backend().buffer().clone();
    (0..height)
        .map(|y| (0..width).map(|x| buffer[(x, y)].symbol().to_owned()).collect::<String>().trim_end().to_owned())
        .collect()
}

#[test]
fn the_list_has_what_needs_somebody_first() {
    assert_eq!(
        screen(&model(), 100, 8),
        [
            "1 need you · 1 run · 1 wait · 120.3k tokens",
            ">■ DS-1   parked           One  — breaker_same_failure: the check fails",
            " ▶ DS-2   running          Two[2J with a line",
            " · DS-9   queued           Nine",
            " · DS-10  queued           Ten",
            "",
            "",
            "Enter open   a act   / filter   ? keys   q leave",
        ]
    );
    assert_eq!(screen(&model(), 40, 4)[1], ">■ DS-1   parked           One", "a narrow one has no reasons");
}

#[test]
fn the_first_line_says_what_the_day_used_of_what_it_may() {
    let head = |day: serde_json::Value| {
        let mut model = model();
        let mut line = json!({"issue": null, "tokens": 20_000, "tokens_limit": 500_000, "cost_usd": 1.204,
            "cost_usd_limit": 5.0, "unpriced": false, "turns": 3, "turns_limit": null, "runs": 1, "runs_limit": null,
            "wall_clock_ms": 0, "wall_clock_ms_limit": null});
        line.as_object_mut().unwrap().extend(day.as_object().unwrap().clone());
        let day = Some(serde_json::from_value(line).unwrap());
        let readiness =
            serde_json::from_value(json!({"status": "ready", "reason": "", "takes_work": true, "remaining": 0,
            "plan": [], "surfaces": []}));
        let issues = std::mem::take(&mut model.issues);
        model.colour = true;
        model.update(Said::Overview { state: Box::new(state()), issues, readiness: readiness.ok(), day });
        let mut terminal = Terminal::new(TestBackend::new(80, 3)).unwrap();
        terminal.draw(|frame| view::draw(frame, &model)).unwrap();
        let red = (0..80).any(|x| terminal.backend().buffer()[(x, 0)].fg == ratatui::style::Color::Red);
        (screen(&model, 80, 3).remove(0), red)
    };
    for (day, told, red) in [
        (json!({}), "today 20.0k/500.0k tokens, $1.20/$5.00", false),
        (json!({"tokens_limit": null, "cost_usd_limit": null}), "today 20.0k tokens, $1.20", false),
        (
            json!({"tokens_limit": null, "cost_usd_limit": null, "cost_usd": 0.0, "unpriced": true}),
            "today 20.0k tokens",
            false,
        ),
        (json!({"unpriced": true}), "today 20.0k/500.0k tokens, ≥$1.20/$5.00", false),
        (json!({"tokens": 500_000}), "today 500.0k/500.0k tokens, $1.20/$5.00", true),
        (json!({"cost_usd": 5.0}), "today 20.0k/500.0k tokens, $5.00/$5.00", true),
    ] {
        assert_eq!(head(day), (format!("1 need you · 1 run · 1 wait · {told} · ready"), red));
    }
}

#[test]
fn keys_choose_filter_open_and_go_back() {
    let mut model = model();
    keys(&mut model, &[Key::Down, Key::Char('j'), Key::Up]);
    assert_eq!(model.chosen.as_deref(), Some("DS-2"));
    keys(&mut model, &[Key::Char('/')]);
    typed(&mut model, "que");
    assert_eq!(model.rows().len(), 2);
    assert_eq!(model.chosen.as_deref(), Some("DS-9"), "the choice is among what is shown");
    assert_eq!(screen(&model, 40, 6)[5], "/que▏");
    keys(&mut model, &[Key::Enter, Key::Enter]);
    assert_eq!((model.page, model.wanted().issue.as_deref()), (Page::Issue, Some("DS-9")));
    keys(&mut model, &[Key::Esc, Key::Esc]);
    assert_eq!((model.page, model.rows().len()), (Page::List, 4), "Esc takes the filter away, and leaves nothing");
    assert!(!model.left);
    keys(&mut model, &[Key::Char('q')]);
    assert!(model.left);
}

#[test]
fn a_chosen_row_stays_chosen_when_others_come_before_it() {
    let mut model = model();
    keys(&mut model, &[Key::End]);
    assert_eq!((model.chosen.as_deref(), model.at()), (Some("DS-10"), 3));
    let mut issues = model.issues.clone();
    issues.push(issue("DS-11", "waiting_question", "Eleven"));
    model.update(Said::Overview { state: Box::new(state()), issues, readiness: None, day: None });
    assert_eq!((model.chosen.as_deref(), model.at()), (Some("DS-10"), 4));
}

fn the_action(asks: &[Ask]) -> Action {
    match asks {
        [Ask::Act(action)] => (**action).clone(),
        other => panic!("no single action: {other:?}"),
    }
}

#[test]
fn only_what_is_allowed_is_offered_and_what_is_grave_is_asked_again() {
    let mut model = model();
    keys(&mut model, &[Key::Down, Key::Char('a')]);
    let shown = screen(&model, 60, 16).join("\n");
    for kind in ["> pause", "cancel", "steer", "refresh", "drain"] {
        assert!(shown.contains(kind), "{shown}");
    }
    assert!(!shown.contains("release"), "{shown}");
    assert!(keys(&mut model, &[Key::Down, Key::Enter]).is_empty(), "cancel is not done at once");
    assert!(matches!(&model.over, Some(Over::Confirm { action }) if action.action_kind == "cancel"));
    assert!(keys(&mut model, &[Key::Char('x')]).is_empty());
    let action = the_action(&keys(&mut model, &[Key::Char('y')]));
    assert_eq!((action.target.id.as_str(), action.payload["by"].as_str()), ("DS-2", Some("ada")));
    // Not wanted after all.
    keys(&mut model, &[Key::Char('a'), Key::Down, Key::Enter]);
    assert!(keys(&mut model, &[Key::Char('n')]).is_empty() && model.over.is_none());
}

#[test]
fn words_are_typed_and_go_into_the_payload() {
    let mut model = model();
    keys(&mut model, &[Key::Down, Key::Char('a'), Key::Down, Key::Down, Key::Enter]);
    assert!(keys(&mut model, &[Key::Enter]).is_empty(), "there is nothing to say");
    typed(&mut model, "mind the tesst");
    keys(&mut model, &[Key::Backspace, Key::Backspace]);
    model.update(Said::Pasted("ts\nq".to_owned()));
    assert!(screen(&model, 60, 10).join("\n").contains("> mind the tests q▏"));
    let action = the_action(&keys(&mut model, &[Key::Enter]));
    assert_eq!((action.action_kind.as_str(), &action.payload["text"]), ("steer", &json!("mind the tests q")));
    let first = action.idempotency_key.unwrap();
    let again = the_action(&keys(&mut model, &[Key::Char('a'), Key::Enter]));
    assert_ne!(Some(first), again.idempotency_key, "another confirmation is another action");
}

#[test]
fn an_action_that_nobody_answered_is_offered_again_under_its_own_key() {
    let mut model = model();
    let action = the_action(&keys(&mut model, &[Key::Down, Key::Char('a'), Key::Enter]));
    let failed =
        Said::Failed { action: Box::new(action.clone()), unsure: true, why: "pause DS-2: nobody answers".to_owned() };
    model.update(failed);
    assert_eq!(the_action(&keys(&mut model, &[Key::Enter])), action);
}

#[test]
fn receipts_and_ends_are_told() {
    let mut model = model();
    let receipt = |status: &str, reason: Option<&str>| Receipt {
        schema_version: 1,
        action_id: "act-1".to_owned(),
        correlation_id: "c".to_owned(),
        action_kind: "pause".to_owned(),
        target: Target { kind: "issue".to_owned(), id: "DS-2".to_owned() },
        status: status.to_owned(),
        code: reason.map(|_| "not_running".to_owned()),
        reason: reason.map(str::to_owned),
        by: None,
        issued_at: String::new(),
        expected_followups: Vec::new(),
        replayed: false,
    };
    let last = |model: &Model| screen(model, 80, 8)[7].clone();
    assert_eq!(model.update(Said::Receipt(receipt("accepted", None))), [Ask::Refresh]);
    assert_eq!(last(&model), "pause DS-2: accepted (act-1)");
    model.update(Said::Receipt(receipt("rejected", Some("pause only valid on a running issue"))));
    assert_eq!(last(&model), "pause DS-2: refused: pause only valid on a running issue");
    let completion: Completion = serde_json::from_value(json!({
        "status": "completed", "code": null, "reason": null, "at": "2026-01-01T00:00:00Z", "ended_at": "2026-01-01T00:00:00Z", "result": null, "event": "action_completed",
    }))
    .unwrap();
    model.update(Said::Ended { kind: "pause".to_owned(), target: "DS-2".to_owned(), completion });
    assert_eq!(last(&model), "pause DS-2: done");
}

#[test]
fn what_is_old_is_said_to_be() {
    let mut model = model();
    model.update(Said::Lost("no daemon runs on this project".to_owned()));
    assert_eq!(screen(&model, 90, 6)[0], "NO DAEMON: no daemon runs on this project (what is below is old)");
    assert!(screen(&model, 90, 6)[1].contains("DS-1"));
    let issues = model.issues.clone();
    model.update(Said::Overview { state: Box::new(state()), issues, readiness: None, day: None });
    assert!(screen(&model, 90, 6)[0].starts_with("1 need you"));
}

#[test]
fn a_transcript_is_followed_bounded_and_stays_where_it_is_read() {
    let mut model = model();
    model.page = Page::Transcript;
    model.of_run = Some(("run-1".to_owned(), None));
    let entries = |from: usize, to: usize| {
        let entry = |n: usize| {
            serde_json::from_value(json!({"at": "", "turn": 1, "kind": "message", "text": format!("line {n}")}))
                .unwrap()
        };
        (from..to).map(entry).collect::<Vec<_>>()
    };
    let heard = |entries| Said::Transcript { run: "run-1".to_owned(), entries, next: "c".to_owned(), fresh: false };
    model.update(heard(entries(0, 1_500)));
    assert_eq!(model.transcript.len(), super::model::ENTRIES);
    assert_eq!(screen(&model, 30, 5)[3], "  line 1499", "the newest is seen");
    keys(&mut model, &[Key::Up, Key::Up]);
    assert_eq!(screen(&model, 30, 5)[3], "  line 1497");
    model.update(heard(entries(1_500, 1_510)));
    assert_eq!(screen(&model, 30, 5)[3], "  line 1497", "what is read does not run away");
    keys(&mut model, &[Key::Char('G')]);
    assert_eq!(screen(&model, 30, 5)[3], "  line 1509");
    model.update(Said::Transcript {
        run: "run-0".to_owned(),
        entries: entries(0, 1),
        next: "c".to_owned(),
        fresh: true,
    });
    assert_eq!(model.transcript.len(), super::model::ENTRIES, "another run's words are none of it");
    keys(&mut model, &[Key::Char('?')]);
    assert!(screen(&model, 80, 20).join("\n").contains("leave; the daemon goes on"));
}
