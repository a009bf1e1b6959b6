//! The pages: made from what the API says, escaped, and of no use to strangers.

use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode};
use dalsegno_core::{DiskUse, View, WorkspaceUse};
use dalsegno_gateway::Gate;
use serde_json::json;
use tower::ServiceExt as _;

use crate::world::{TOKEN, World, request, run};

pub(crate) struct Shown {
    pub(crate) status: StatusCode,
    pub(crate) text: String,
    policy: String,
}

async fn shown(router: &axum::Router, request: Request<Body>) -> Shown {
    let answer = router.clone().oneshot(request).await.unwrap();
    let policy = answer.headers().get("content-security-policy").map(|it| it.to_str().unwrap().to_owned());
    let (status, body) = (answer.status(), to_bytes(answer.into_body(), 1 << 24).await.unwrap());
    Shown { status, text: String::from_utf8(body.to_vec()).unwrap(), policy: policy.unwrap_or_default() }
}

pub(crate) async fn page(router: &axum::Router, target: &str, token: bool) -> Shown {
    let mut request = request("GET", target);
    if token {
        request = request.header("authorization", format!("Bearer {TOKEN}"));
    }
    shown(router, request.body(Body::empty()).unwrap()).await
}

#[tokio::test]
async fn every_page_is_whole_and_loads_nothing_from_elsewhere() {
    let world = World::new();
    world.commit("issue_status", Some("1"), None, json!({"issue": "1", "from": "queued", "to": "running"}));
    let router = world.router();
    for target in [
        "/",
        "/issues/DS-1",
        "/issues/%C3%9Cn%C3%AF%2F6",
        "/runs/run-1",
        "/runs/run-2",
        "/runs/run-2/files/7-0-check-2.log",
        "/events",
        "/usage",
    ] {
        let page = page(&router, target, true).await;
        assert_eq!(page.status, StatusCode::OK, "{target}: {}", page.text);
        assert!(page.text.starts_with("<!DOCTYPE html>") && page.text.ends_with("</html>"), "{target}");
        assert!(page.policy.contains("default-src 'none'") && !page.policy.contains("unsafe"), "{target}");
        for elsewhere in ["src=\"http", "href=\"//", "<style", "style=", "onclick", "javascript:"] {
            assert!(!page.text.contains(elsewhere), "{target} has {elsewhere}");
        }
    }
    for (target, status) in
        [("/issues/DS-99", 404), ("/runs/run-99", 404), ("/runs/run-2/files/none", 404), ("/assets/other", 404)]
    {
        assert_eq!(page(&router, target, true).await.status.as_u16(), status, "{target}");
    }
    for (asset, kind) in [("style.css", "text/css"), ("live.js", "text/javascript")] {
        let request = request("GET", &format!("/assets/{asset}")).body(Body::empty()).unwrap();
        let answer = router.clone().oneshot(request).await.unwrap();
        assert!(answer.headers()["content-type"].to_str().unwrap().starts_with(kind), "{asset}");
    }
}

#[tokio::test]
async fn strangers_see_the_overview_and_nothing_to_act_with() {
    let router = World::new().router();
    let (known, stranger) = (page(&router, "/issues/DS-4", true).await, page(&router, "/issues/DS-4", false).await);
    assert!(known.text.contains("secret answer"), "{}", known.text);
    assert!(!stranger.text.contains("secret answer") && !stranger.text.contains("<form"), "{}", stranger.text);
    assert!(stranger.text.contains("dalsegno open"));
    let closed = World::new().router_behind(Gate::new(TOKEN).closed(true));
    assert_eq!(page(&closed, "/", false).await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_form_acts_and_leads_back_with_the_receipt() {
    let router = World::new().router();
    let send = |body: &'static str, token: bool| {
        let mut request = request("POST", "/act").header("content-type", "application/x-www-form-urlencoded");
        if token {
            request = request.header("authorization", format!("Bearer {TOKEN}"));
        }
        let (router, request) = (router.clone(), request.body(Body::from(body)).unwrap());
        async move { router.oneshot(request).await.unwrap() }
    };
    let answer = send("kind=release&issue=DS-1", true).await;
    assert_eq!(answer.status(), StatusCode::SEE_OTHER);
    assert_eq!(answer.headers()["location"], "/issues/DS-1?receipt=act-1");
    for (body, token, status) in [
        ("kind=release&issue=DS-1", false, StatusCode::UNAUTHORIZED),
        ("kind=release&issue=DS-4", true, StatusCode::CONFLICT),
        ("kind=release&issue=DS-9", true, StatusCode::NOT_FOUND),
        ("kind=%zz", true, StatusCode::UNPROCESSABLE_ENTITY),
        ("", true, StatusCode::UNPROCESSABLE_ENTITY),
    ] {
        assert_eq!(send(body, token).await.status(), status, "{body:?}");
    }
}

#[tokio::test]
async fn figures_are_told_in_the_text_format_of_prometheus() {
    let router = World::new().router();
    page(&router, "/issues/DS-99", true).await;
    page(&router, "/nowhere", true).await;
    let figures = page(&router, "/metrics", false).await;
    assert_eq!(figures.status, StatusCode::OK);
    for line in [
        "dalsegno_info{version=\"1.2.3\"} 1",
        "dalsegno_ready 1",
        "dalsegno_issues{status=\"parked\"} 1",
        "dalsegno_issues{status=\"canceled\"} 0",
        "dalsegno_http_requests_total{route=\"/issues/{id}\",method=\"GET\",status=\"404\"} 1",
        "dalsegno_http_requests_total{route=\"other\",method=\"GET\",status=\"404\"} 1",
    ] {
        assert!(figures.text.lines().any(|found| found == line), "{line}:\n{}", figures.text);
    }
    for sample in figures.text.lines().filter(|line| !line.starts_with('#')) {
        let (name, value) = sample.rsplit_once(' ').unwrap();
        assert!(name.starts_with("dalsegno_") && value.parse::<u64>().is_ok(), "{sample}");
    }
}

#[tokio::test]
async fn what_failed_or_is_blocked_is_not_shown_in_the_colour_of_what_is_done() {
    for (outcome, class) in [("failed", "needs"), ("completed", "good"), ("interrupted", "waits")] {
        let world = World::new();
        world.commit("run_ended", Some("DS-1"), Some("run-2"), json!({"outcome": outcome, "reason": "agent_exit: 3"}));
        let router = world.router();
        for target in ["/issues/DS-1", "/events"] {
            let shown = page(&router, target, true).await.text;
            let before = shown.split("<b>run ended</b>").next().unwrap();
            let line = before.rsplit("<li").next().unwrap();
            assert!(line.contains(&format!("class=\"{class}\"")), "{target}: {outcome}: {line}");
            assert!(shown.contains(&format!("{outcome}: agent_exit: 3")), "{target}: {shown}");
        }
    }
    let world = World::new();
    world.commit("readiness", None, None, json!({"state": "blocked", "surfaces": ["sagas"], "remaining": 1}));
    let shown = page(&world.router(), "/events", true).await.text;
    let line = shown.split("<b>readiness</b>").next().unwrap().rsplit("<li").next().unwrap().to_owned();
    assert!(line.contains("class=\"needs\""), "{line}");
}

#[tokio::test]
async fn a_step_that_waits_for_somebody_stands_before_what_else_can_be_done() {
    let world = World::new();
    world.reads.put(View::Run(Box::new(run("run-3", "3", "DS-3", true))));
    let router = world.router();
    for (target, first) in [("/issues/DS-3", true), ("/issues/DS-4", false)] {
        let shown = page(&router, target, true).await.text;
        let place = |sought: &str| shown.find(sought).unwrap_or_else(|| panic!("{target} has no {sought}: {shown}"));
        assert_eq!(place("<section class=\"handoff\">") < place("<div class=\"actions\">"), first, "{target}");
        assert_eq!(shown.matches("<section class=\"handoff\">").count(), 1, "{target}");
    }
}

#[tokio::test]
async fn what_is_found_is_what_is_shown() {
    let router = World::new().router();
    for (target, words) in [
        ("/?only=waits", "2 issues found"),
        ("/?only=works", "1 issue found"),
        ("/?find=ds-&only=works", "1 issue found"),
    ] {
        let shown = page(&router, target, true).await.text;
        assert!(shown.contains(words), "{target}: {shown}");
        let tiles = shown.matches("<li class=\"tile\"").count();
        assert!(words.starts_with(&tiles.to_string()), "{target}: {tiles} are shown");
    }
}

#[tokio::test]
async fn the_disk_is_shown_as_it_was_found_and_nothing_is_made_up() {
    let world = World::new();
    let router = world.router();
    assert!(page(&router, "/daemon", true).await.text.contains("not looked at yet"));
    let found = |state, limit| DiskUse {
        free: 5 << 30,
        state,
        used: 3 << 20,
        limit,
        workspaces: vec![
            WorkspaceUse { path: "/w/DS-1".to_owned(), issue: Some("DS-1".to_owned()), bytes: 2 << 20 },
            WorkspaceUse { path: "/w/X".to_owned(), issue: None, bytes: 1 << 20 },
        ],
    };
    *world.disk.lock().unwrap() = Some(found(Some(150 << 20), Some(1 << 30)));
    let shown = page(&router, "/daemon", true).await.text;
    for words in [
        "<dt>Free</dt><dd>5.0 GiB</dd>",
        "<dt>State directory</dt><dd>150 MiB</dd>",
        "max=\"1073741824\" value=\"3145728\"",
        "3.0 MiB of 1.0 GiB",
        "<a href=\"/issues/DS-1\">DS-1</a></th><td class=\"number\">2.0 MiB</td><td class=\"whole\"><code>/w/DS-1</code>",
        "nobody's",
    ] {
        assert!(shown.contains(words), "{words}: {shown}");
    }
    assert!(!page(&router, "/daemon", false).await.text.contains("/w/"), "where a directory is tells of the machine");
    *world.disk.lock().unwrap() = Some(found(None, None));
    let shown = page(&router, "/daemon", true).await.text;
    assert!(shown.contains("<dd>not measured</dd>") && shown.contains("3.0 MiB, without a limit"), "{shown}");
    let told: serde_json::Value = serde_json::from_str(&page(&router, "/api/v1/readiness", true).await.text).unwrap();
    assert_eq!(told["disk"]["state_bytes"], serde_json::Value::Null);
}

#[tokio::test]
async fn capabilities_and_readiness_are_told() {
    let router = World::new().router();
    let told: serde_json::Value =
        serde_json::from_str(&page(&router, "/api/v1/capabilities", false).await.text).unwrap();
    let kinds: Vec<&str> =
        told["actions"].as_array().unwrap().iter().map(|kind| kind["kind"].as_str().unwrap()).collect();
    assert!(
        kinds.contains(&"pause") && kinds.contains(&"reload") && kinds.len() == dalsegno_core::ActionKind::ALL.len()
    );
    let (newest, oldest) = (dalsegno_core::ACTIONS_KEPT, dalsegno_api::Cursor::event("journal-a", 0).to_string());
    assert_eq!(
        told["retention"],
        json!({"events": 1_000, "event_days": 90, "oldest": oldest, "ended_runs": 100, "receipts": newest, "idempotency_keys": newest})
    );
    let ready = page(&router, "/readyz", false).await;
    assert_eq!((ready.status, ready.text.as_str()), (StatusCode::OK, "{\"status\":\"ready\"}"));
}
