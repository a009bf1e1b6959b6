use axum::body::Body;
use axum::http::StatusCode;
use serde_json::json;

use crate::world::{TOKEN, World, get, get_open, request, send};

#[tokio::test]
async fn contents_and_writes_need_the_token() {
    let router = World::new().router();
    for (method, target) in [
        ("GET", "/api/v1/runs/run-2/transcript"),
        ("GET", "/api/v1/runs/run-2/effects"),
        ("GET", "/api/v1/runs/run-99/transcript"),
        ("POST", "/api/v1/refresh"),
    ] {
        let answer = send(&router, request(method, target).body(Body::empty()).unwrap()).await;
        assert_eq!((answer.status, answer.code()), (StatusCode::UNAUTHORIZED, "token_required"), "{target}");
        assert_eq!(answer.headers["www-authenticate"], "Bearer");
    }
}

#[tokio::test]
async fn a_wrong_token_is_refused_even_where_none_is_needed() {
    let router = World::new().router();
    for header in
        ["Bearer wrong", "Bearer ", "Basic abc", TOKEN, &format!("Bearer {TOKEN}x"), &format!("Bearer  {TOKEN}")]
    {
        for target in ["/api/v1/state", "/healthz", "/api/v1/events/stream"] {
            let request = request("GET", target).header("authorization", header).body(Body::empty()).unwrap();
            let answer = send(&router, request).await;
            assert_eq!(
                (answer.status, answer.code()),
                (StatusCode::UNAUTHORIZED, "token_invalid"),
                "{header} {target}"
            );
        }
    }
    let fine = request("GET", "/api/v1/state").header("authorization", format!("bearer {TOKEN}"));
    assert_eq!(send(&router, fine.body(Body::empty()).unwrap()).await.status, StatusCode::OK);
}

#[tokio::test]
async fn without_a_token_the_overview_comes_without_contents() {
    let world = World::new();
    let parked = json!({"issue": "3", "from": "running", "to": "parked", "reason": "hook_failed: secret output"});
    world.commit("issue_status", Some("DS-3"), None, parked);
    let ended = json!({"run": "run-1", "outcome": "failed", "reason": "agent_exit: secret", "evidence": "no: secret"});
    world.commit("run_ended", Some("DS-4"), Some("run-1"), ended);
    let router = world.router();
    for target in [
        "/healthz",
        "/api/v1/state",
        "/api/v1/issues",
        "/api/v1/DS-1",
        "/api/v1/issues/DS-1",
        "/api/v1/issues/DS-3",
        "/api/v1/issues/DS-3/explain",
        "/api/v1/issues/DS-4",
        "/api/v1/issues/DS-4/runs",
        "/api/v1/issues/state",
        "/api/v1/runs",
        "/api/v1/runs/run-1",
        "/api/v1/events",
    ] {
        let open = get_open(&router, target).await;
        assert_eq!(open.status, StatusCode::OK, "{target}");
        assert!(!open.body.to_string().contains("secret"), "{target}: {}", open.body);
    }
    let state = get(&router, "/api/v1/state").await.body;
    assert!(state.to_string().contains("secret words"), "the operator sees what is withheld from others");
    // Of a reason everybody sees the code, wherever it stands.
    let state = get_open(&router, "/api/v1/state").await.body;
    assert_eq!(
        (&state["parked"][0]["error"], &state["retrying"][0]["error"]),
        (&json!("hook_failed"), &json!("hook_failed"))
    );
    let detail = get_open(&router, "/api/v1/issues/DS-3").await.body;
    assert_eq!((&detail["reason"], &detail["last_error"]), (&json!("hook_failed"), &json!("hook_failed")));
    assert_eq!(detail["recent_events"][0]["message"], "running → parked: hook_failed");
    let run = get_open(&router, "/api/v1/runs/run-1").await.body;
    assert_eq!((&run["reason"], &run["evidence"]), (&json!("canceled"), &json!("passed on c0ffee")));
    assert_eq!(run["handoff"]["steps"][2]["reason"], "tracker_status");
    let rules = get_open(&router, "/api/v1/issues/DS-3/explain").await.body["rules"].clone();
    assert_eq!((&rules[0]["detail"], &rules[1]["detail"]), (&json!("1 of 1 taken"), &json!("")));
    let told = get(&router, "/api/v1/issues/DS-3").await.body;
    assert_eq!(told["reason"], "hook_failed: secret output", "the operator sees the words");
    let events = get_open(&router, "/api/v1/events?limit=1").await.body;
    assert_eq!(events["events"][0]["data"], json!({"n": 1, "outcome": {"result": "done"}}));
    assert_eq!(events["events"][0]["content_withheld"], true);
}

#[tokio::test]
async fn pages_from_elsewhere_are_refused() {
    let router = World::new().router();
    let ask = |host: Option<&'static str>, origin: Option<&'static str>| {
        let mut request = axum::http::Request::builder().uri("/api/v1/state");
        if let Some(host) = host {
            request = request.header("host", host);
        }
        if let Some(origin) = origin {
            request = request.header("origin", origin);
        }
        request.body(Body::empty()).unwrap()
    };
    for (host, origin, code) in [
        (None, None, "host_refused"),
        (Some("evil.example"), None, "host_refused"),
        (Some("evil.example:7272"), Some("http://evil.example:7272"), "host_refused"),
        (Some("127.0.0.1.nip.io"), None, "host_refused"),
        (Some("127.0.0.1:7272"), Some("http://evil.example"), "origin_refused"),
        (Some("127.0.0.1:7272"), Some("null"), "origin_refused"),
        (Some("127.0.0.1:7272"), Some("http://127.0.0.1:9999"), "origin_refused"),
        (Some("127.0.0.1:7272"), Some("https://127.0.0.1:7272"), "origin_refused"),
    ] {
        let answer = send(&router, ask(host, origin)).await;
        assert_eq!((answer.status, answer.code()), (StatusCode::FORBIDDEN, code), "{host:?} {origin:?}");
    }
    for (host, origin) in [
        ("127.0.0.1:7272", None),
        ("localhost", None),
        ("[::1]:1", None),
        ("127.0.0.1:7272", Some("http://127.0.0.1:7272")),
    ] {
        assert_eq!(send(&router, ask(Some(host), origin)).await.status, StatusCode::OK, "{host} {origin:?}");
    }
    let rebound = axum::http::Request::builder().uri("http://evil.example/api/v1/state").header("host", "localhost");
    let answer = send(&router, rebound.body(Body::empty()).unwrap()).await;
    assert_eq!(answer.code(), "host_refused");
    let twice =
        axum::http::Request::builder().uri("/api/v1/state").header("host", "localhost").header("host", "evil.example");
    assert_eq!(send(&router, twice.body(Body::empty()).unwrap()).await.code(), "host_refused");
    let lost = axum::http::Request::builder().uri("/nothing").header("host", "evil.example");
    assert_eq!(send(&router, lost.body(Body::empty()).unwrap()).await.code(), "host_refused");
}

#[tokio::test]
async fn bodies_are_capped_and_checked() {
    let router = World::new().router();
    let post = |body: String| {
        let request = request("POST", "/api/v1/refresh").header("authorization", format!("Bearer {TOKEN}"));
        send(&router, request.body(Body::from(body)).unwrap())
    };
    let large = post(" ".repeat(64 * 1024 + 1)).await;
    assert_eq!((large.status, large.code()), (StatusCode::PAYLOAD_TOO_LARGE, "body_too_large"));
    for body in ["[]", "1", "{", "\u{0}", "{}{}"] {
        let answer = post(body.to_owned()).await;
        assert_eq!((answer.status, answer.code()), (StatusCode::BAD_REQUEST, "invalid_body"), "{body}");
    }
    assert_eq!(post(" ".repeat(64 * 1024)).await.status, StatusCode::ACCEPTED);
}

#[tokio::test]
async fn answers_are_not_kept_by_caches() {
    let router = World::new().router();
    for target in ["/api/v1/state", "/nothing", "/api/v1/refresh"] {
        let answer = get(&router, target).await;
        assert_eq!(answer.headers["cache-control"], "no-store", "{target}");
        assert_eq!(answer.headers["x-content-type-options"], "nosniff", "{target}");
        assert_eq!(answer.headers["content-type"], "application/json", "{target}");
    }
}
