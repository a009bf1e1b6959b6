use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::http::StatusCode;
use dalsegno_gateway::{Gate, Rate, Role, Token, Tokens, hash_of};
use serde_json::json;
use tower::ServiceExt as _;

use crate::world::{Answer, TOKEN, World, get, get_open, request, send};

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

struct Fixed(Mutex<Arc<[Token]>>);

impl Tokens for Fixed {
    fn all(&self) -> Arc<[Token]> {
        Arc::clone(&self.0.lock().unwrap())
    }
}

/// A gate that knows `viewer`, `operator` and `admin`, each by the token of its name; and what revokes them all.
fn with_roles() -> (Gate, Arc<Fixed>) {
    let token = |role: Role| Token {
        name: format!("the {}", role.as_str()),
        role,
        hash: hash_of(role.as_str()),
        made_at: "2026-01-01T00:00:00Z".to_owned(),
    };
    let tokens = Arc::new(Fixed(Mutex::new(Role::ALL.map(token).into())));
    (Gate::new(TOKEN).tokens(tokens.clone()), tokens)
}

async fn ask(router: &Router, method: &str, target: &str, headers: &[(&str, &str)]) -> Answer {
    let mut request = request(method, target);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    send(router, request.body(Body::empty()).unwrap()).await
}

#[tokio::test]
async fn each_role_may_what_it_says_and_no_more() {
    let (gate, tokens) = with_roles();
    let router = World::new().router_behind(gate);
    for (method, target, statuses) in [
        ("GET", "/api/v1/runs/run-2/transcript", [401, 200, 200, 200]),
        ("GET", "/api/v1/actions/act-1", [401, 200, 200, 200]),
        ("POST", "/api/v1/login-links", [401, 201, 201, 201]),
        ("POST", "/api/v1/refresh", [401, 403, 202, 202]),
        ("POST", "/api/v1/actions", [401, 403, 422, 422]),
        ("GET", "/api/v1/tokens", [401, 403, 403, 200]),
    ] {
        let who = [None, Some("viewer"), Some("operator"), Some("admin")];
        for (token, status) in who.into_iter().zip(statuses) {
            let bearer = token.map(|token| format!("Bearer {token}"));
            let headers: Vec<_> = bearer.iter().map(|bearer| ("authorization", bearer.as_str())).collect();
            let answer = ask(&router, method, target, &headers).await;
            assert_eq!(answer.status.as_u16(), status, "{method} {target} {token:?}: {}", answer.body);
            if status == 403 {
                assert_eq!(answer.code(), "role_too_low");
            }
        }
    }
    *tokens.0.lock().unwrap() = Arc::new([]);
    let answer = ask(&router, "GET", "/api/v1/state", &[("authorization", "Bearer admin")]).await;
    assert_eq!((answer.status.as_u16(), answer.code()), (401, "token_invalid"), "revoked");
}

#[tokio::test]
async fn an_action_names_who_acted_as_far_as_they_are_known() {
    let (gate, _) = with_roles();
    let router = World::new().router_behind(gate);
    let long = "x".repeat(101);
    for (token, said, by) in [
        (TOKEN, None, "local"),
        (TOKEN, Some("ada"), "ada"),
        (TOKEN, Some(" \n"), "local"),
        (TOKEN, Some(long.as_str()), "local"),
        ("operator", None, "the operator"),
        ("operator", Some("ada"), "ada (the operator)"),
        ("operator", Some("the operator"), "the operator"),
        ("admin", Some("the operator"), "the operator (the admin)"),
    ] {
        let payload = said.map_or_else(|| json!({}), |said| json!({"by": said}));
        let action = json!({"schema_version": 1, "action_kind": "release", "target": {"kind": "issue", "id": "DS-1"}, "payload": payload});
        let request = request("POST", "/api/v1/actions").header("authorization", format!("Bearer {token}"));
        let answer = send(&router, request.body(Body::from(action.to_string())).unwrap()).await;
        assert_eq!(answer.body["by"], by, "{token} {said:?}: {}", answer.body);
    }
}

/// The cookie of a new session.
async fn log_in(router: &Router, token: &str) -> String {
    let bearer = format!("Bearer {token}");
    let link = ask(router, "POST", "/api/v1/login-links", &[("authorization", &bearer)]).await.body;
    let path = link["path"].as_str().unwrap();
    let entered = raw(router, path).await;
    assert_eq!(entered.0, 200);
    let cookie = entered.1.unwrap();
    for part in ["dalsegno_session_7272=", "; HttpOnly", "; SameSite=Strict", "; Max-Age=43200", "; Path=/"] {
        assert!(cookie.contains(part), "{cookie}");
    }
    assert!(!cookie.contains("Secure"), "loopback speaks no TLS");
    assert_eq!(raw(router, path).await, (401, None), "a link works once");
    cookie.split(';').next().unwrap().to_owned()
}

/// Status and cookie of a page that is no JSON.
async fn raw(router: &Router, target: &str) -> (u16, Option<String>) {
    let request = request("GET", target).body(Body::empty()).unwrap();
    let answer = router.clone().oneshot(request).await.unwrap();
    let cookie = answer.headers().get("set-cookie").map(|cookie| cookie.to_str().unwrap().to_owned());
    (answer.status().as_u16(), cookie)
}

#[tokio::test]
async fn a_session_reads_and_writes_as_its_token_does_but_only_from_our_own_page() {
    let (gate, tokens) = with_roles();
    let router = World::new().router_behind(gate);
    let cookie = log_in(&router, "operator").await;
    let also = format!("other=1; {cookie}; more=2");
    let read = ask(&router, "GET", "/api/v1/runs/run-2/transcript", &[("cookie", &also)]).await;
    assert_eq!(read.status, StatusCode::OK, "{}", read.body);
    let own = ("origin", "http://127.0.0.1:7272");
    for (target, headers, status, code) in [
        ("/api/v1/refresh", vec![], 403, "origin_refused"),
        ("/api/v1/refresh", vec![("origin", "http://127.0.0.1:7273")], 403, "origin_refused"),
        ("/api/v1/refresh", vec![("origin", "null")], 403, "origin_refused"),
        ("/api/v1/login-links", vec![own], 403, "role_too_low"),
    ] {
        let headers: Vec<_> = [vec![("cookie", cookie.as_str())], headers].concat();
        let answer = ask(&router, "POST", target, &headers).await;
        assert_eq!((answer.status.as_u16(), answer.code()), (status, code), "{target} {headers:?}");
    }
    let write = ask(&router, "POST", "/api/v1/refresh", &[("cookie", &cookie), own]).await;
    assert_eq!(write.status, StatusCode::ACCEPTED, "{}", write.body);
    let viewer = log_in(&router, "viewer").await;
    let write = ask(&router, "POST", "/api/v1/refresh", &[("cookie", &viewer), own]).await;
    assert_eq!((write.status.as_u16(), write.code()), (403, "role_too_low"));
    // The session ends with its token.
    *tokens.0.lock().unwrap() = Arc::new([]);
    let read = ask(&router, "GET", "/api/v1/runs/run-2/transcript", &[("cookie", &cookie)]).await;
    assert_eq!((read.status.as_u16(), read.code()), (401, "token_required"));
    let open = ask(&router, "GET", "/api/v1/state", &[("cookie", &cookie)]).await;
    assert_eq!(open.status, StatusCode::OK, "what is over counts as nothing");
}

#[tokio::test]
async fn a_closed_gate_tells_strangers_nothing_but_that_it_is_there() {
    let (gate, _) = with_roles();
    let router = World::new().router_behind(gate.closed(true));
    for target in ["/api/v1/state", "/api/v1/issues", "/api/v1/DS-1", "/api/v1/events/stream", "/", "/nothing"] {
        let answer = get_open(&router, target).await;
        assert_eq!((answer.status.as_u16(), answer.code()), (401, "token_required"), "{target}");
    }
    assert_eq!(get_open(&router, "/healthz").await.status, StatusCode::OK);
    let state = ask(&router, "GET", "/api/v1/state", &[("authorization", "Bearer viewer")]).await;
    assert_eq!(state.status, StatusCode::OK);
    let cookie = log_in(&router, "viewer").await;
    assert_eq!(ask(&router, "GET", "/api/v1/state", &[("cookie", &cookie)]).await.status, StatusCode::OK);
}

#[tokio::test]
async fn other_names_are_admitted_when_they_are_configured_and_get_cookies_for_tls_alone() {
    let (gate, _) = with_roles();
    let router = World::new().router_behind(gate.hosts(vec!["dash.example".to_owned()]));
    let from = |host: &str, method: &str, target: &str| {
        let bearer = "Bearer operator";
        let request = axum::http::Request::builder().method(method).uri(target).header("host", host);
        request.header("authorization", bearer).header("origin", format!("https://{host}")).body(Body::empty()).unwrap()
    };
    for (host, status) in [("dash.example", 202), ("DASH.example:443", 202), ("evil.example", 403)] {
        assert_eq!(send(&router, from(host, "POST", "/api/v1/refresh")).await.status.as_u16(), status, "{host}");
    }
    let link = send(&router, from("dash.example", "POST", "/api/v1/login-links")).await.body;
    let entered = router.clone().oneshot(from("dash.example", "GET", link["path"].as_str().unwrap())).await.unwrap();
    let cookie = entered.headers()["set-cookie"].to_str().unwrap();
    assert!(cookie.starts_with("dalsegno_session=") && cookie.ends_with("; Secure"), "{cookie}");
}

#[tokio::test(start_paused = true)]
async fn too_many_requests_wait_for_their_own_token_alone() {
    let (gate, _) = with_roles();
    let router = World::new().router_behind(gate.rate(Rate { per_second: 0.5, burst: 2.0 }));
    let as_viewer = [("authorization", "Bearer viewer")];
    for _ in 0..2 {
        assert_eq!(ask(&router, "GET", "/api/v1/issues", &as_viewer).await.status, StatusCode::OK);
    }
    let answer = ask(&router, "POST", "/api/v1/refresh", &as_viewer).await;
    assert_eq!((answer.status.as_u16(), answer.code()), (429, "rate_limited"));
    assert_eq!(answer.headers["retry-after"], "2");
    assert_eq!(
        ask(&router, "GET", "/api/v1/issues", &[("authorization", "Bearer admin")]).await.status,
        StatusCode::OK
    );
    // Whoever guesses shares what strangers have.
    for status in [401, 401, 429] {
        let guess = ask(&router, "GET", "/api/v1/issues", &[("authorization", "Bearer guess")]).await;
        assert_eq!(guess.status.as_u16(), status);
    }
    assert_eq!(get_open(&router, "/api/v1/issues").await.status.as_u16(), 429);
    tokio::time::advance(std::time::Duration::from_secs(2)).await;
    assert_eq!(ask(&router, "GET", "/api/v1/issues", &as_viewer).await.status, StatusCode::OK);
}
