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

/// A run whose first check failed and then passed, with one between them that said nothing, and one that was cut.
fn checked(world: &World) {
    let ended = |command: &str, passed: bool, file: Option<&str>| {
        let kept = file.map(|file| json!({"file": file, "sha256": format!("of {file}"), "bytes": 12}));
        let data =
            json!({"run": "run-2", "commit": "c0ffee0123456789", "command": command, "passed": passed, "kept": kept});
        world.commit("check_ended", Some("DS-1"), Some("run-2"), data);
    };
    world.keep("run-2", "8-0-check-1.log", "<script>alert(1)</script> & \"quoted\"\n", None);
    world.keep("run-2", "9-0-check-1.log", "\n\nfine\n", Some("missing"));
    ended("test -s <work>", false, Some("8-0-check-1.log"));
    ended("true", true, None);
    ended("test -s <work>", true, Some("9-0-check-1.log"));
}

#[tokio::test]
async fn each_check_of_a_run_leads_to_what_it_said() {
    let world = World::new();
    checked(&world);
    let router = world.router();
    for target in ["/runs/run-2", "/issues/DS-1"] {
        let shown = page(&router, target, true).await.text;
        let table = shown.split("<section class=\"checks\">").nth(1).unwrap().split("</section>").next().unwrap();
        let rows: Vec<&str> = table.split("<tr id=\"check-").skip(1).collect();
        let told: Vec<(&str, bool, bool)> = rows
            .iter()
            .map(|row| {
                (&row[..1], row.contains("class=\"badge good\">passed"), row.contains("class=\"badge waits\">failed"))
            })
            .collect();
        assert_eq!(told, [("4", true, false), ("3", true, false), ("2", false, true), ("1", false, false)], "{table}");
        assert!(rows[0].contains("<a href=\"/runs/run-2/files/9-0-check-1.log\">What check 4 said</a>"), "{table}");
        assert!(rows[0].contains(">lost<") && rows[1].contains("nothing is kept"), "{table}");
        assert!(
            rows[2].contains("<code>test -s &lt;work&gt;</code>") && rows[2].contains("<code>c0ffee012345</code>"),
            "{table}"
        );
        assert!(rows[3].contains("<code>check-2.log</code>") && rows[3].contains("not told"), "{table}");
        let stranger = page(&router, target, false).await.text;
        assert!(!stranger.contains("class=\"checks\"") && !stranger.contains("test -s"), "{stranger}");
    }
    let events = page(&router, "/events", true).await.text;
    assert!(events.contains("<a href=\"/runs/run-2/files/8-0-check-1.log\">what it said</a>"), "{events}");
    assert!(!page(&router, "/events", false).await.text.contains("what it said"));
}

#[tokio::test]
async fn a_page_shows_all_that_a_check_said_and_nothing_of_it_is_markup() {
    let world = World::new();
    checked(&world);
    let router = world.router();
    let shown = page(&router, "/runs/run-2/files/8-0-check-1.log", true).await;
    assert_eq!(shown.status, StatusCode::OK);
    assert!(!shown.text.contains("<script>alert"), "{}", shown.text);
    for part in [
        "<h1>test -s &lt;work&gt;</h1>",
        "class=\"badge waits\">failed</span> on <code>c0ffee012345</code>",
        "<code>of 8-0-check-1.log</code>",
        "<a href=\"/api/v1/runs/run-2/files/8-0-check-1.log\">as plain text</a>",
        "<pre class=\"text output\">\n&lt;script&gt;alert(1)&lt;/script&gt; &amp; &quot;quoted&quot;\n</pre>",
        "<a href=\"/runs/run-2\">run-2</a>",
        "<a href=\"/issues/DS-1\">DS-1</a>",
    ] {
        assert!(shown.text.contains(part), "{part}: {}", shown.text);
    }
    // Whose end is not told has a page all the same.
    let untold = page(&router, "/runs/run-2/files/7-0-check-2.log", true).await.text;
    assert!(untold.contains("<h1>check-2.log</h1>") && untold.contains("not told"), "{untold}");

    let lost = page(&router, "/runs/run-2/files/9-0-check-1.log", true).await;
    assert_eq!(lost.status, StatusCode::GONE);
    for part in ["<h1>test -s &lt;work&gt;</h1>", "badge good\">passed", "<code>file_lost</code>", "any more: missing"]
    {
        assert!(lost.text.contains(part), "{part}: {}", lost.text);
    }
    assert!(!lost.text.contains("<pre") && !lost.text.contains("as plain text"), "{}", lost.text);

    let stranger = page(&router, "/runs/run-2/files/8-0-check-1.log", false).await;
    assert_eq!(stranger.status, StatusCode::UNAUTHORIZED);
    assert!(!stranger.text.contains("quoted"), "{}", stranger.text);
    for (target, status) in [("/runs/run-1/files/8-0-check-1.log", 404), ("/runs/run-2/files/a%00", 400)] {
        assert_eq!(page(&router, target, true).await.status.as_u16(), status, "{target}");
    }
}

#[tokio::test]
async fn of_a_text_beyond_all_measure_a_page_shows_the_end_and_says_so() {
    let world = World::new();
    let long = format!("the begin\n{}the end\n", "ä".repeat(2 << 20));
    world.keep("run-2", "9-0-check-1.log", &long, None);
    let router = world.router();
    let shown = page(&router, "/runs/run-2/files/9-0-check-1.log", true).await.text;
    assert!(shown.contains("Only the end is shown here") && shown.contains("the end\n</pre>"));
    assert!(!shown.contains("the begin") && !shown.contains('\u{fffd}'));
    let (_, _, text) = content(&router, "/api/v1/runs/run-2/files/9-0-check-1.log").await;
    assert_eq!(text, long.into_bytes());
}
