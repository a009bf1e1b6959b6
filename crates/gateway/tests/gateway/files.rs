//! What is kept for runs: who reads it, and how it is shown.

use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, StatusCode};
use serde_json::json;
use tower::ServiceExt as _;

use crate::pages::page;
use crate::world::{TOKEN, World, get, get_open, request};

const FILES: &str = "/api/v1/runs/run-2/files";
const FILE: &str = "/api/v1/runs/run-2/files/7-0-check-2.log";

/// What a file holds, as the operator gets it.
async fn content(router: &axum::Router, target: &str) -> (StatusCode, HeaderMap, Vec<u8>) {
    let asked = request("GET", target).header("authorization", format!("Bearer {TOKEN}")).body(Body::empty()).unwrap();
    let (parts, body) = router.clone().oneshot(asked).await.unwrap().into_parts();
    (parts.status, parts.headers, to_bytes(body, 1 << 24).await.unwrap().to_vec())
}

#[tokio::test]
async fn what_is_kept_is_told_to_whoever_reads_and_to_nobody_without_a_token() {
    let router = World::new().router();
    for target in [FILES, FILE, "/api/v1/runs/run-2/files/none", "/api/v1/runs/run-99/files", &format!("{FILE}?x=1")] {
        let refused = get_open(&router, target).await;
        assert_eq!((refused.status, refused.code()), (StatusCode::UNAUTHORIZED, "token_required"), "{target}");
    }
    let receipt = json!({
        "file": "7-0-check-2.log", "name": "check-2.log", "bytes": 13, "sha256": "of 7-0-check-2.log", "lost": null,
    });
    assert_eq!(get(&router, FILES).await.body, json!({"files": [receipt]}));
    let (status, headers, text) = content(&router, FILE).await;
    assert_eq!((status, text.as_slice()), (StatusCode::OK, b"secret words\n".as_slice()));
    for (name, value) in [
        ("content-type", "text/plain; charset=utf-8"),
        ("x-content-type-options", "nosniff"),
        ("cache-control", "no-store"),
    ] {
        assert_eq!(headers[name], value, "{name}");
    }
    assert_eq!(get(&router, &format!("{FILE}?x=1")).await.code(), "unknown_parameter");
    assert_eq!(get(&router, &format!("{FILES}?limit=1")).await.code(), "unknown_parameter");
}

#[tokio::test]
async fn a_name_opens_what_is_kept_for_this_run_and_nothing_else() {
    let router = World::new().router();
    for (target, status, code) in [
        ("/api/v1/runs/run-99/files", 404, "run_not_found"),
        ("/api/v1/runs/run-99/files/7-0-check-2.log", 404, "run_not_found"),
        ("/api/v1/runs/run-2/files/8-0-check-2.log", 404, "file_not_found"),
        ("/api/v1/runs/run-2/files/check-2.log", 404, "file_not_found"),
        // That of another run.
        ("/api/v1/runs/run-2/files/3-0-check-1.log", 404, "file_not_found"),
        ("/api/v1/runs/run-1/files/7-0-check-2.log", 404, "file_not_found"),
        ("/api/v1/runs/run-2/files/..%2f..%2ftoken", 404, "file_not_found"),
        ("/api/v1/runs/run-2/files/%2e%2e", 404, "file_not_found"),
        ("/api/v1/runs/run-2/files/%2fetc%2fpasswd", 404, "file_not_found"),
        ("/api/v1/runs/run-2/files/..", 404, "file_not_found"),
        ("/api/v1/runs/run-2/files/a/b", 404, "route_not_found"),
        ("/api/v1/runs/run-2/files/a%00", 400, "invalid_path"),
        ("/api/v1/runs/run-2/files/%ff%fe", 400, "invalid_path"),
        (&format!("/api/v1/runs/run-2/files/{}", "x".repeat(257)), 400, "invalid_path"),
        (&format!("/api/v1/runs/{}/files/7-0-check-2.log", "x".repeat(257)), 400, "invalid_path"),
    ] {
        let answer = get(&router, target).await;
        assert_eq!((answer.status.as_u16(), answer.code()), (status, code), "{target}");
    }
}

#[tokio::test]
async fn what_is_lost_is_told_with_why_and_never_answered() {
    let world = World::new();
    world.keep("run-2", "9-0-check-1.log", "not what it was", Some("corrupt"));
    let router = world.router();
    let listed = get(&router, FILES).await.body;
    assert_eq!((&listed["files"][0]["lost"], &listed["files"][1]["lost"]), (&json!(null), &json!("corrupt")));
    let lost = get(&router, "/api/v1/runs/run-2/files/9-0-check-1.log").await;
    assert_eq!((lost.status, lost.code()), (StatusCode::GONE, "file_lost"));
    assert!(lost.body["error"]["message"].as_str().unwrap().ends_with("corrupt"), "{}", lost.body);
    assert!(!lost.body.to_string().contains("not what it was"));
}

#[tokio::test]
async fn bytes_that_are_no_text_are_replaced() {
    let world = World::new();
    world.keep("run-2", "9-0-check-1.log", b"a\xff\xfeb\x00\x1b[31mc", None);
    let (status, headers, text) = content(&world.router(), "/api/v1/runs/run-2/files/9-0-check-1.log").await;
    assert_eq!((status, &headers["content-type"]), (StatusCode::OK, &"text/plain; charset=utf-8".parse().unwrap()));
    assert_eq!(String::from_utf8(text).unwrap(), "a\u{fffd}\u{fffd}b\0\u{1b}[31mc");
}
