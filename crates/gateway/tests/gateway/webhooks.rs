//! Webhooks in: who is believed, what is answered, and what is never asked of the engine.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::Router;
use axum::body::Body;
use axum::http::StatusCode;
use dalsegno_gateway::{Gate, Rate};
use serde_json::json;
use tower::ServiceExt as _;

use crate::world::{Answer, TOKEN, World, get, send};

const PATH: &str = "/api/v1/webhooks/github";

/// As a service sends it: under a name that the daemon does not know.
async fn post(router: &Router, path: &str, headers: &[(&str, &str)], body: impl Into<Body>) -> Answer {
    let mut request = axum::http::Request::builder().method("POST").uri(path).header("host", "tunnel.example");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    send(router, request.body(body.into()).unwrap()).await
}

fn named(world: &World) -> usize {
    world.named.lock().unwrap().len()
}

#[tokio::test]
async fn what_is_taken_says_what_is_looked_at() {
    let world = World::new();
    let router = world.router();
    let right = [("x-mark", "right")];
    let known = post(&router, PATH, &right, "I_1 DS-1").await;
    assert_eq!(known.status, StatusCode::ACCEPTED);
    assert_eq!(known.body, json!({"status": "accepted", "looks_at": "issue", "issue": "DS-1"}));
    for body in ["DS-9", ""] {
        let other = post(&router, &format!("{PATH}?user_id=ada"), &right, body).await;
        assert_eq!(other.status, StatusCode::ACCEPTED);
        assert_eq!(other.body, json!({"status": "accepted", "looks_at": "tracker"}));
    }
    assert_eq!(*world.named.lock().unwrap(), [vec!["I_1", "DS-1"], vec!["DS-9"], vec![]]);
}

#[tokio::test]
async fn a_delivery_is_taken_once_and_one_that_was_not_taken_may_come_again() {
    let world = World::new();
    let router = world.router();
    let delivery = |mark, id| [("x-mark", mark), ("x-id", id)];
    // What is not believed takes no name away from what is.
    assert_eq!(post(&router, PATH, &delivery("wrong", "d-1"), "DS-1").await.status, StatusCode::UNAUTHORIZED);
    world.engine_gone.store(true, Ordering::SeqCst);
    let ending = post(&router, PATH, &delivery("right", "d-1"), "DS-1").await;
    assert_eq!((ending.status, ending.code()), (StatusCode::SERVICE_UNAVAILABLE, "engine_unavailable"));
    world.engine_gone.store(false, Ordering::SeqCst);
    assert_eq!(post(&router, PATH, &delivery("right", "d-1"), "DS-1").await.status, StatusCode::ACCEPTED);
    for _ in 0..3 {
        let again = post(&router, PATH, &delivery("right", "d-1"), "DS-1").await;
        assert_eq!((again.status, again.body), (StatusCode::OK, json!({"status": "duplicate"})));
    }
    assert_eq!(named(&world), 1);
    assert_eq!(post(&router, PATH, &delivery("right", "d-2"), "DS-1").await.status, StatusCode::ACCEPTED);
    // A service that gives no names is never taken for one that repeats itself.
    for _ in 0..2 {
        assert_eq!(post(&router, PATH, &[("x-mark", "right")], "DS-1").await.status, StatusCode::ACCEPTED);
    }
    assert_eq!(named(&world), 4);
}

#[tokio::test]
async fn what_is_not_believed_is_told_why_and_asks_nothing_of_the_engine() {
    let world = World::new();
    let router = world.router();
    for (path, mark, status, code) in [
        (PATH, "wrong", 401, "webhook_signature"),
        (PATH, "old", 401, "webhook_stale"),
        (PATH, "text", 422, "invalid_body"),
        ("/api/v1/webhooks/linear", "right", 404, "webhook_not_configured"),
        ("/api/v1/webhooks/nobody", "right", 404, "webhook_not_configured"),
    ] {
        let answer = post(&router, path, &[("x-mark", mark)], "DS-1").await;
        assert_eq!((answer.status.as_u16(), answer.code()), (status, code), "{path} {mark}");
        assert!(answer.body["error"]["hint"].is_string());
        let scheme = answer.headers.get("www-authenticate").map(|scheme| scheme.to_str().unwrap());
        assert_eq!(scheme, (status == 401).then_some("Signature"), "a token would not help");
    }
    // A token is no signature, and a wrong one is nothing to be told.
    for token in [TOKEN, "wrong"] {
        let bearer = format!("Bearer {token}");
        let answer = post(&router, PATH, &[("x-mark", "wrong"), ("authorization", &bearer)], "").await;
        assert_eq!(answer.code(), "webhook_signature");
    }
    assert_eq!(named(&world), 0);
}

#[tokio::test]
async fn pages_are_refused_whatever_they_know_and_services_come_by_any_name() {
    let world = World::new();
    for gate in [Gate::new(TOKEN), Gate::new(TOKEN).closed(true)] {
        let router = world.router_behind(gate);
        for origin in ["http://tunnel.example", "http://127.0.0.1:7272", "null", ""] {
            let answer = post(&router, PATH, &[("x-mark", "right"), ("origin", origin)], "DS-1").await;
            assert_eq!((answer.status, answer.code()), (StatusCode::FORBIDDEN, "origin_refused"), "{origin}");
        }
        assert_eq!(post(&router, PATH, &[("x-mark", "right")], "DS-1").await.status, StatusCode::ACCEPTED);
        // The name lets nobody in anywhere else.
        for (method, path) in
            [("GET", PATH), ("POST", "/api/v1/refresh"), ("POST", "/api/v1/webhooks"), ("GET", "/api/v1/state")]
        {
            let request = axum::http::Request::builder().method(method).uri(path).header("host", "tunnel.example");
            let answer = send(&router, request.body(Body::empty()).unwrap()).await;
            assert_eq!(answer.code(), "host_refused", "{method} {path}");
        }
    }
    assert_eq!(named(&world), 2);
}

#[tokio::test]
async fn bodies_may_be_two_mebibytes_and_no_more() {
    let world = World::new();
    let router = world.router();
    let largest = vec![b' '; 2 * 1024 * 1024];
    assert_eq!(post(&router, PATH, &[("x-mark", "right")], largest.clone()).await.status, StatusCode::ACCEPTED);
    let larger = [largest, vec![b' ']].concat();
    let answer = post(&router, PATH, &[("x-mark", "right")], larger).await;
    assert_eq!((answer.status, answer.code()), (StatusCode::PAYLOAD_TOO_LARGE, "body_too_large"));
    assert!(answer.body["error"]["hint"].as_str().unwrap().contains("2097152"));
    assert_eq!(named(&world), 1);
}

#[tokio::test(start_paused = true)]
async fn few_are_read_at_once_and_others_are_told_to_come_again() {
    let world = World::new();
    let router = world.router();
    let mut hanging = Vec::new();
    for _ in 0..16 {
        let router = router.clone();
        hanging.push(tokio::spawn(async move { post(&router, PATH, &[("x-mark", "hang")], "").await }));
    }
    tokio::task::yield_now().await;
    let answer = post(&router, PATH, &[("x-mark", "right")], "DS-1").await;
    assert_eq!((answer.status, answer.code()), (StatusCode::SERVICE_UNAVAILABLE, "webhook_busy"));
    assert_eq!(answer.headers["retry-after"], "1");
    for hung in hanging {
        assert_eq!(hung.await.unwrap().code(), "engine_unavailable");
    }
    assert_eq!(post(&router, PATH, &[("x-mark", "right")], "DS-1").await.status, StatusCode::ACCEPTED);
}

#[tokio::test]
async fn strangers_who_flood_are_refused_and_figures_tell_how_webhooks_ended() {
    let world = World::new();
    let router = world.router();
    for (path, mark) in [(PATH, "right"), (PATH, "wrong"), (PATH, "wrong"), ("/api/v1/webhooks/x", "right")] {
        post(&router, path, &[("x-mark", mark)], "DS-1").await;
    }
    let request = crate::world::request("GET", "/metrics").body(Body::empty()).unwrap();
    let answer = router.clone().oneshot(request).await.unwrap();
    let text = axum::body::to_bytes(answer.into_body(), 1 << 20).await.unwrap();
    let text = String::from_utf8(text.to_vec()).unwrap();
    for line in [
        "dalsegno_webhooks_total{service=\"github\",outcome=\"accepted\"} 1",
        "dalsegno_webhooks_total{service=\"github\",outcome=\"webhook_signature\"} 2",
        "dalsegno_webhooks_total{service=\"other\",outcome=\"webhook_not_configured\"} 1",
    ] {
        assert!(text.lines().any(|found| found == line), "no {line} in {text}");
    }
    assert_eq!(get(&router, "/api/v1/capabilities").await.body["webhooks"], json!(["github", "linear"]));

    let router = Arc::clone(&world).router_behind(Gate::new(TOKEN).rate(Rate { per_second: 0.1, burst: 2.0 }));
    let mut codes = Vec::new();
    for _ in 0..3 {
        codes.push(post(&router, PATH, &[("x-mark", "wrong")], "").await.code().to_owned());
    }
    assert_eq!(codes, ["webhook_signature", "webhook_signature", "rate_limited"]);
}
