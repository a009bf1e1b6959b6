use std::sync::atomic::Ordering;

use axum::body::Body;
use axum::http::StatusCode;
use dalsegno_core::{Usage, UsageView, View};
use dalsegno_durable::{self as durable, Command, EffectRecord, Envelope, ExecutionScope, Invocation};
use serde_json::{Value, json};

use crate::world::{NOW, TOKEN, World, get, get_open, request, send};

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

#[tokio::test]
async fn healthz_names_the_process() {
    let answer = get(&World::new().router(), "/healthz").await;
    assert_eq!(answer.body, json!({"status": "ok", "version": "1.2.3", "pid": std::process::id()}));
}

#[tokio::test]
async fn state_has_the_symphony_shape_and_ours() {
    let state = get(&World::new().router(), "/api/v1/state").await.body;
    assert_eq!(state["generated_at"], "2026-01-01T00:00:00.500Z");
    assert_eq!(state["counts"]["running"], 1);
    assert_eq!(state["counts"]["retrying"], 1);
    assert_eq!(state["counts"]["total"], 6);
    assert_eq!(state["counts"]["by_status"]["handed_off"], 1);
    assert_eq!(state["counts"]["by_status"]["canceled"], 0);
    let running = json!([{
        "issue_id": "1", "issue_identifier": "DS-1", "issue_url": "https://tracker.example/1", "title": "Title of DS-1",
        "status": "running", "attempt": null, "run": "run-2", "phase": "checking", "session_id": "session-1",
        "turn_count": 2, "state": "Todo", "started_at": "2026-01-01T00:00:00.000Z", "last_event": "message",
        "last_message": "secret words", "last_event_at": "2026-01-01T00:00:00.000Z",
        "tokens": {"input_tokens": 1, "output_tokens": 2, "total_tokens": 3},
    }]);
    assert_eq!(state["running"], running);
    let retrying = json!([{
        "issue_id": "5", "issue_identifier": "state", "issue_url": "https://tracker.example/5", "title": "Title of state",
        "status": "waiting_retry", "state": "Todo", "attempt": 2, "due_at": "2026-01-01T00:00:09.000Z",
        "error": "hook_failed: secret output",
    }]);
    assert_eq!(state["retrying"], retrying);
    assert_eq!(state["parked"][0]["issue_identifier"], "DS-3");
    assert_eq!(state["queued"][0]["issue_identifier"], "DS-2");
    assert_eq!(state["paused"], json!([]));
    // 1.5 s of ended runs, and 0.5 s of the live one.
    let totals = json!({"input_tokens": 50, "output_tokens": 24, "total_tokens": 74, "seconds_running": 2.0});
    assert_eq!(state["codex_totals"], totals);
    assert_eq!(state["totals"], totals);
    let window = &state["rate_limits"]["windows"][0];
    assert_eq!((&window["name"], &window["used_percent"]), (&json!("primary"), &json!(42.5)));
    assert!(window["resets_at"].as_str().is_some_and(|at| at > state["generated_at"].as_str().unwrap()), "{window}");
    assert_eq!(state["workflow_error"]["code"], "workflow_parse_error");
    assert_eq!(state["workflow_error"]["message"], "secret line");
    assert_eq!(state["epoch"], 3);
}

#[tokio::test]
async fn an_empty_store_answers_too() {
    let router = World::empty().router();
    let state = get(&router, "/api/v1/state").await;
    assert_eq!((state.status, &state.body["counts"]["total"]), (StatusCode::OK, &json!(0)));
    assert_eq!(get(&router, "/api/v1/issues").await.body, json!({"issues": [], "total": 0}));
    assert_eq!(get(&router, "/api/v1/runs").await.body, json!({"runs": []}));
    let page = get(&router, "/api/v1/events").await.body;
    assert_eq!(page["events"], json!([]));
    assert_eq!(page["next"], page["head"]);
}

#[tokio::test]
async fn an_issue_has_exactly_the_agreed_fields() {
    let body = get(&World::new().router(), "/api/v1/issues").await.body;
    let agreed = [
        "allowed_actions",
        "attempt",
        "current_run",
        "due_at",
        "handed_off_commit",
        "id",
        "identifier",
        "labels",
        "priority",
        "pull_request",
        "question",
        "reason",
        "status",
        "title",
        "tracker_state",
        "url",
        "usage",
        "workspace",
    ];
    for issue in body["issues"].as_array().unwrap() {
        let mut found = keys(issue);
        found.sort_unstable();
        assert_eq!(found, agreed);
    }
    let first = &body["issues"][0];
    assert_eq!(first["workspace"], json!({"path": "/w/DS-1", "branch": "dalsegno/DS-1"}));
    assert_eq!(first["usage"], json!({"input_tokens": 3, "output_tokens": 4, "total_tokens": 7, "cost_usd": null}));
    assert_eq!(first["current_run"], "run-2");
}

#[tokio::test]
async fn issues_are_filtered_by_our_status_or_the_trackers_state() {
    let router = World::new().router();
    for (query, expected) in [
        ("state=running", vec!["DS-1"]),
        ("state=PARKED", vec!["DS-3"]),
        ("state=human%20review", vec!["DS-4"]),
        ("state=Nowhere", vec![]),
        ("state=", vec!["DS-1", "DS-2", "DS-3", "DS-4", "state", "Ünï/6"]),
    ] {
        let body = get(&router, &format!("/api/v1/issues?{query}")).await.body;
        let found: Vec<&str> =
            body["issues"].as_array().unwrap().iter().map(|i| i["identifier"].as_str().unwrap()).collect();
        assert_eq!(found, expected, "{query}");
    }
    let body = get(&router, "/api/v1/issues?limit=2").await.body;
    assert_eq!((body["issues"].as_array().unwrap().len(), &body["total"]), (2, &json!(6)));
}

#[tokio::test]
async fn the_detail_is_found_by_identifier_or_id_under_both_paths() {
    let router = World::new().router();
    let detail = get(&router, "/api/v1/DS-1").await.body;
    for path in ["/api/v1/ds-1", "/api/v1/1", "/api/v1/issues/DS-1", "/api/v1/issues/1"] {
        assert_eq!(get(&router, path).await.body, detail, "{path}");
    }
    assert_eq!(detail["issue_identifier"], "DS-1");
    assert_eq!(detail["identifier"], "DS-1");
    assert_eq!(detail["status"], "running");
    assert_eq!(detail["description"], "secret words");
    assert_eq!(detail["running"]["run"], "run-2");
    assert_eq!(detail["last_run"]["id"], "run-2");
    assert_eq!(detail["attempts"], json!({"restart_count": 0, "current_retry_attempt": 0}));
    assert_eq!(detail["retry"], Value::Null);
    assert_eq!(detail["logs"]["codex_session_logs"][0]["url"], "/api/v1/runs/run-2/transcript");
    // Intents and outcomes of effects are left out: other events tell what came of them.
    assert_eq!(detail["recent_events"].as_array().unwrap().len(), 1);
    assert_eq!(detail["recent_events"][0]["event"], "turn_ended");
    assert_eq!(get(&router, "/api/v1/%C3%9Cn%C3%AF%2F6").await.body["id"], "6");
    let waits = get(&router, "/api/v1/issues/state").await.body;
    assert_eq!(
        waits["retry"],
        json!({"attempt": 2, "due_at": "2026-01-01T00:00:09.000Z", "error": "hook_failed: secret output"})
    );
    assert_eq!(waits["attempts"], json!({"restart_count": 1, "current_retry_attempt": 2}));
    assert_eq!(waits["last_error"], "hook_failed: secret output");
}

#[tokio::test]
async fn fixed_routes_win_over_identifiers() {
    let router = World::new().router();
    assert!(get(&router, "/api/v1/state").await.body["counts"].is_object());
    assert_eq!(get(&router, "/api/v1/refresh").await.status, StatusCode::METHOD_NOT_ALLOWED);
    assert!(get(&router, "/api/v1/runs").await.body["runs"].is_array());
}

#[tokio::test]
async fn explain_gives_every_rule() {
    let router = World::new().router();
    let expected = json!({
        "identifier": "DS-2", "status": "queued",
        "rules": [
            {"rule": "slot_free", "pass": false, "detail": "1 of 1 taken", "remedy": "wait"},
            {"rule": "status_allows", "pass": false, "detail": "status is parked (hook_failed: secret)", "remedy": "wait"},
        ],
    });
    assert_eq!(get(&router, "/api/v1/issues/2/explain").await.body, expected);
}

#[tokio::test]
async fn runs_are_newest_first_and_whole() {
    let router = World::new().router();
    let body = get(&router, "/api/v1/runs").await.body;
    let names: Vec<&str> = body["runs"].as_array().unwrap().iter().map(|run| run["id"].as_str().unwrap()).collect();
    assert_eq!(names, ["run-2", "run-1"]);
    assert_eq!(get(&router, "/api/v1/runs?limit=1").await.body["runs"].as_array().unwrap().len(), 1);
    assert_eq!(get(&router, "/api/v1/issues/ds-4/runs").await.body["runs"][0]["id"], "run-1");
    assert_eq!(get(&router, "/api/v1/issues/ds-2/runs").await.body, json!({"runs": []}));
    let run = get(&router, "/api/v1/runs/run-1").await.body;
    let handoff = json!({"commit": "c0ffee", "saga": "run-1.handoff", "turned_back": null, "pull_request": null, "steps": [
        {"step": "push", "state": "done", "failures": 0, "due_at": null, "reason": null},
        {"step": "comment", "state": "waiting", "failures": 2, "due_at": "2026-01-01T00:00:00.000Z", "reason": null},
        {"step": "move", "state": "parked", "failures": 0, "due_at": null, "reason": "tracker_status: secret answer"},
    ]});
    assert_eq!(run["handoff"], handoff);
    assert_eq!((&run["outcome"], &run["phase"], &run["issue"]), (&json!("completed"), &json!("ended"), &json!("DS-4")));
}

#[tokio::test]
async fn refresh_is_accepted_and_coalesced() {
    let world = World::new();
    let router = world.router();
    for (body, coalesced) in [("", false), ("{}", true), (" \n", true)] {
        let request = request("POST", "/api/v1/refresh").header("authorization", format!("Bearer {TOKEN}"));
        let answer = send(&router, request.body(Body::from(body)).unwrap()).await;
        assert_eq!(answer.status, StatusCode::ACCEPTED);
        let expected = json!({"queued": true, "coalesced": coalesced, "requested_at": "2026-01-01T00:00:00.500Z",
                              "operations": ["poll", "reconcile"]});
        assert_eq!(answer.body, expected);
    }
}

#[tokio::test]
async fn what_is_not_there_is_told_with_a_code() {
    let router = World::new().router();
    for (path, code) in [
        ("/api/v1/DS-99", "issue_not_found"),
        ("/api/v1/issues/DS-99", "issue_not_found"),
        ("/api/v1/issues/DS-99/runs", "issue_not_found"),
        ("/api/v1/issues/DS-99/explain", "issue_not_found"),
        ("/api/v1/runs/run-99", "run_not_found"),
        ("/api/v1/runs/run-99/transcript", "run_not_found"),
        ("/api/v1/runs/run-1/nothing", "route_not_found"),
        ("/api/v2/state", "route_not_found"),
        ("/nowhere", "route_not_found"),
    ] {
        let answer = get(&router, path).await;
        assert_eq!((answer.status, answer.code()), (StatusCode::NOT_FOUND, code), "{path}");
        assert!(answer.body["error"]["hint"].is_string(), "{path}");
    }
}

#[tokio::test]
async fn wrong_methods_get_405_with_the_envelope() {
    let router = World::new().router();
    for (method, path, allowed) in [
        ("POST", "/healthz", "GET"),
        ("POST", "/api/v1/state", "GET"),
        ("GET", "/api/v1/refresh", "POST"),
        ("DELETE", "/api/v1/refresh", "POST"),
        ("POST", "/api/v1/issues", "GET"),
        ("PUT", "/api/v1/issues/DS-1", "GET"),
        ("POST", "/api/v1/issues/DS-1/explain", "GET"),
        ("POST", "/api/v1/issues/DS-1/runs", "GET"),
        ("POST", "/api/v1/runs", "GET"),
        ("PATCH", "/api/v1/runs/run-1", "GET"),
        ("POST", "/api/v1/runs/run-1/transcript", "GET"),
        ("POST", "/api/v1/events", "GET"),
        ("POST", "/api/v1/events/stream", "GET"),
        ("POST", "/api/v1/DS-1", "GET"),
    ] {
        let answer = send(&router, request(method, path).body(Body::empty()).unwrap()).await;
        assert_eq!(
            (answer.status, answer.code()),
            (StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed"),
            "{method} {path}"
        );
        let allow = answer.headers["allow"].to_str().unwrap();
        assert!(allow.contains(allowed), "{method} {path}: {allow}");
    }
}

#[tokio::test]
async fn no_query_makes_a_500() {
    let router = World::new().router();
    let long = "x".repeat(300);
    for (target, status, code) in [
        ("/api/v1/runs?limit=0", 422, "invalid_parameter"),
        ("/api/v1/runs?limit=", 422, "invalid_parameter"),
        ("/api/v1/runs?limit=1001", 422, "invalid_parameter"),
        ("/api/v1/runs?limit=-1", 422, "invalid_parameter"),
        ("/api/v1/runs?limit=99999999999999999999", 422, "invalid_parameter"),
        ("/api/v1/runs?limit=ten", 422, "invalid_parameter"),
        ("/api/v1/runs?limit=1&limit=2", 422, "invalid_parameter"),
        ("/api/v1/runs?lmit=1", 400, "unknown_parameter"),
        ("/api/v1/state?x=1", 400, "unknown_parameter"),
        ("/api/v1/DS-1?x=1", 400, "unknown_parameter"),
        ("/api/v1/issues?limit=10001", 422, "invalid_parameter"),
        (&format!("/api/v1/issues?state={long}"), 422, "invalid_parameter"),
        ("/api/v1/issues?state=a%00b", 422, "invalid_parameter"),
        ("/api/v1/events?limit=1001", 422, "invalid_parameter"),
        ("/api/v1/events?kind=%0a", 422, "invalid_parameter"),
        (&format!("/api/v1/events?issue={long}"), 422, "invalid_parameter"),
        ("/api/v1/events?after=x&after=y", 422, "invalid_parameter"),
        ("/api/v1/events/stream?limit=5", 400, "unknown_parameter"),
        ("/api/v1/runs/run-2/transcript?limit=0", 422, "invalid_parameter"),
        ("/api/v1/runs/run-2/transcript?after=%F0", 400, "invalid_cursor"),
        ("/api/v1/%FF", 400, "invalid_path"),
        ("/api/v1/issues/%00", 400, "invalid_path"),
        (&format!("/api/v1/runs/{long}"), 400, "invalid_path"),
    ] {
        let answer = get(&router, target).await;
        assert_eq!((answer.status.as_u16(), answer.code()), (status, code), "{target}");
    }
}

#[tokio::test]
async fn transcripts_are_read_page_by_page() {
    let router = World::new().router();
    let first = get(&router, "/api/v1/runs/run-2/transcript?limit=3").await.body;
    let lines = |page: &Value| -> Vec<String> {
        page["entries"].as_array().unwrap().iter().map(|e| e["text"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(lines(&first), ["line 0", "line 1", "line 2"]);
    assert_eq!(
        first["entries"][0],
        json!({"at": "2026-01-01T00:00:00.000Z", "turn": 0, "kind": "prompt", "text": "line 0"})
    );
    assert_eq!(first["ended"], false);
    let next = first["next"].as_str().unwrap();
    let second = get(&router, &format!("/api/v1/runs/run-2/transcript?after={next}")).await.body;
    assert_eq!(lines(&second), ["line 3", "line 4"]);
    let next = second["next"].as_str().unwrap();
    let third = get(&router, &format!("/api/v1/runs/run-2/transcript?after={next}")).await.body;
    assert_eq!((third["entries"].clone(), third["next"].as_str()), (json!([]), Some(next)));
    assert_eq!(get(&router, "/api/v1/runs/run-1/transcript").await.body["ended"], true);
    let other = get(&router, &format!("/api/v1/runs/run-1/transcript?after={next}")).await;
    assert_eq!((other.status, other.code()), (StatusCode::GONE, "cursor_gone"));
    let oldest = other.body["error"]["oldest"].as_str().unwrap();
    assert_eq!(get(&router, &format!("/api/v1/runs/run-1/transcript?after={oldest}")).await.status, StatusCode::OK);
}

#[tokio::test]
async fn effects_are_read_with_intent_and_outcome() {
    let world = World::new();
    let scope = ExecutionScope::process("run-2");
    let record = |key: &str| {
        let command = Command::External { system: "git".into(), request: json!({"branch": key}) };
        let invocation = Invocation {
            scope: scope.clone(),
            effect_id: key.into(),
            kind: command.kind(),
            replay_key: key.into(),
            caused_by: None,
            runtime: None,
        };
        EffectRecord::intended(&Envelope::new(invocation, command).unwrap(), 3, durable::Timestamp(NOW.0), None)
    };
    let mut done = record("a");
    done.state.end(3, durable::Timestamp(NOW.0), durable::Outcome::Done(json!({"pushed": true})), None);
    let mut failed = record("b");
    let error = durable::EffectError::permanent("no_such_branch", "it is gone");
    failed.state.end(3, durable::Timestamp(NOW.0), durable::Outcome::Failed(error), None);
    let mut parked = record("c");
    parked.state.park(3, "nobody knows".into());
    for record in [done, failed, parked, record("d")] {
        world.reads.note_effect("run-2", record);
    }
    let router = world.router();
    let page = get(&router, "/api/v1/runs/run-2/effects?limit=3").await.body;
    let told = |n: usize| page["effects"][n].clone();
    assert_eq!(told(0)["command"], json!({"type": "external", "system": "git", "request": {"branch": "a"}}));
    assert_eq!((&told(0)["result"], &told(0)["output"]), (&json!("done"), &json!({"pushed": true})));
    assert_eq!((&told(1)["result"], &told(1)["error"]["code"]), (&json!("failed"), &json!("no_such_branch")));
    assert_eq!((&told(2)["progress"], &told(2)["error"]["message"]), (&json!("parked"), &json!("nobody knows")));
    let next = page["next"].as_str().unwrap();
    let rest = get(&router, &format!("/api/v1/runs/run-2/effects?after={next}")).await.body;
    assert_eq!(
        (rest["effects"][0]["key"].as_str(), rest["effects"][0]["progress"].as_str()),
        (Some("d"), Some("open"))
    );
    assert_eq!(rest["effects"].as_array().unwrap().len(), 1);
    let other = get(&router, &format!("/api/v1/runs/run-1/effects?after={next}")).await;
    assert_eq!((other.status, other.code()), (StatusCode::GONE, "cursor_gone"));
    assert_eq!(get(&router, "/api/v1/runs/run-99/effects").await.code(), "run_not_found");
}

#[tokio::test]
async fn a_saga_is_told_whole_to_whoever_has_the_token() {
    let world = World::new();
    let step = json!({
        "name": "push", "kind": "pivot", "after": [], "state": "awaiting_approval", "generation": 1, "attempts": 0,
        "undo_attempts": 0, "key": "k1", "approval": {"step": "push", "fingerprint": "f1", "expires_at": 1_767_225_600_000_i64},
    });
    let parked = json!({
        "name": "comment", "kind": "retriable", "after": ["push"], "state": "parked", "generation": 2, "attempts": 3,
        "undo_attempts": 0, "key": "k2", "probe": "not_applied", "verbs": ["retry", "skip"],
        "failure": {"code": "tracker_status", "message": "no"},
    });
    let view =
        json!({"id": "run-2.handoff", "name": "handoff", "version": 1, "state": "parked", "steps": [step, parked]});
    world.reads.put_saga(serde_json::from_value(view).unwrap());
    let router = world.router();
    let saga = get(&router, "/api/v1/sagas/run-2.handoff").await.body;
    assert_eq!(
        (&saga["id"], &saga["state"], &saga["turned_back"]),
        (&json!("run-2.handoff"), &json!("parked"), &json!(null))
    );
    let approval = json!({"fingerprint": "f1", "expires_at": "2026-01-01T00:00:00.000Z"});
    assert_eq!((&saga["steps"][0]["approval"], &saga["steps"][0]["key"]), (&approval, &json!("k1")));
    let told = &saga["steps"][1];
    assert_eq!(
        (&told["after"], &told["verbs"], &told["probe"]),
        (&json!(["push"]), &json!(["retry", "skip"]), &json!("not_applied"))
    );
    assert_eq!(told["failure"], json!({"code": "tracker_status", "message": "no"}));

    let none = get(&router, "/api/v1/sagas/run-9.handoff").await;
    assert_eq!((none.status, none.code()), (StatusCode::NOT_FOUND, "saga_not_found"));
    let stranger = send(&router, request("GET", "/api/v1/sagas/run-2.handoff").body(Body::empty()).unwrap()).await;
    assert_eq!((stranger.status, stranger.code()), (StatusCode::UNAUTHORIZED, "token_required"));
}

#[tokio::test]
async fn a_store_or_an_engine_that_does_not_answer_is_503() {
    let world = World::new();
    let router = world.router();
    world.reads.fail(Some("disk is gone"));
    for path in
        ["/api/v1/state", "/api/v1/DS-1", "/api/v1/issues", "/api/v1/runs", "/api/v1/events", "/api/v1/events/stream"]
    {
        let answer = get(&router, path).await;
        assert_eq!((answer.status, answer.code()), (StatusCode::SERVICE_UNAVAILABLE, "store_unreadable"), "{path}");
    }
    assert_eq!(get(&router, "/healthz").await.status, StatusCode::OK);
    world.reads.fail(None);
    world.engine_gone.store(true, Ordering::SeqCst);
    let answer = get(&router, "/api/v1/issues/DS-1/explain").await;
    assert_eq!((answer.status, answer.code()), (StatusCode::SERVICE_UNAVAILABLE, "engine_unavailable"));
}

#[tokio::test]
async fn usage_has_its_cost_where_every_price_is_known_and_the_ledger_has_all_of_it() {
    let world = World::new();
    let row = |run: &str, issue: &str, usage: Usage, cost_nanousd| {
        let identifier = format!("DS-{issue}");
        world.reads.put(View::Usage(Box::new(UsageView {
            run: run.into(),
            turn: 1,
            place: 0,
            issue: issue.into(),
            identifier,
            session: None,
            model: Some("m".to_owned()),
            day: 1,
            usage,
            cost_nanousd,
            incomplete: false,
        })));
    };
    row("run-1", "4", Usage::new(1, 2), Some(1_500_000_000));
    row("run-0", "4", Usage::new(2, 2), Some(250_000_000));
    row("run-2", "1", Usage::new(3, 4), None);
    row("run-9", "2", Usage::new(1, 1), Some(1));
    let router = world.router();
    let issues = get(&router, "/api/v1/issues").await.body["issues"].clone();
    let costs: Vec<&Value> = issues.as_array().unwrap().iter().map(|issue| &issue["usage"]["cost_usd"]).collect();
    // DS-1 has no price, DS-2 more tokens than the ledger, the others no rows.
    assert_eq!(costs, [&Value::Null, &Value::Null, &Value::Null, &json!(1.75), &Value::Null, &Value::Null]);
    for (path, pointer) in [
        ("/api/v1/DS-4", "/last_run/usage/cost_usd"),
        ("/api/v1/issues/DS-4/runs", "/runs/0/usage/cost_usd"),
        ("/api/v1/runs", "/runs/1/usage/cost_usd"),
        ("/api/v1/runs/run-1", "/usage/cost_usd"),
    ] {
        assert_eq!(get(&router, path).await.body.pointer(pointer), Some(&json!(1.5)), "{path}");
    }
    assert_eq!(get(&router, "/api/v1/DS-4").await.body["usage"]["cost_usd"], 1.75);
    assert_eq!(get(&router, "/api/v1/runs/run-2").await.body["usage"]["cost_usd"], Value::Null);
}

#[tokio::test]
async fn events_of_an_action_name_it_and_what_its_caller_joins_it_with() {
    let world = World::new();
    let accepted = json!({"action_id": "act-7", "correlation_id": "secret-c", "action_kind": "release", "target_kind": "issue",
                          "target_id": "DS-1", "issue": "1", "idempotency_key": "secret-k", "content": "secret", "by": "secret-by"});
    world.commit("action_accepted", Some("DS-1"), None, accepted);
    world.commit("released", Some("DS-1"), None, json!({"issue": "1", "action_id": "act-7"}));
    let router = world.router();
    let events = get(&router, "/api/v1/events?issue=DS-1&kind=action_accepted").await.body["events"].clone();
    assert_eq!((&events[0]["action_id"], &events[0]["correlation_id"]), (&json!("act-7"), &json!("secret-c")));
    let events = get(&router, "/api/v1/events?kind=released").await.body["events"].clone();
    assert_eq!((&events[0]["action_id"], &events[0]["correlation_id"]), (&json!("act-7"), &Value::Null));
    let open = get_open(&router, "/api/v1/events?kind=action_accepted").await.body["events"].clone();
    assert_eq!(open[0]["action_id"], "act-7");
    let detail = get(&router, "/api/v1/DS-1").await.body["recent_events"].to_string();
    assert!(detail.contains("release by secret-by"), "{detail}");
    let counts = json!({"counts": {"rate_limited": 40, "token_required": 2}});
    world.commit("writes_refused", None, None, counts.clone());
    let refused = get_open(&router, "/api/v1/events?kind=writes_refused").await.body["events"][0].clone();
    assert_eq!((&refused["data"], &refused["content_withheld"]), (&counts, &Value::Null), "figures are no texts");
    assert!(!open.to_string().contains("secret"), "{open}");
}
