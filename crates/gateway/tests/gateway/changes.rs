//! What runs changed: who sees it, what is compared, and how it is shown.

use axum::http::StatusCode;
use dalsegno_core::{CommitId, Failure, RunView, View};
use dalsegno_engine::Reads as _;
use serde_json::json;

use crate::world::{World, get, get_open, request, send};

const DIFF: &str = "/api/v1/runs/run-2/diff";

#[tokio::test]
async fn a_change_is_told_to_whoever_reads_and_to_nobody_without_a_token() {
    let world = World::new();
    let router = world.router();
    let refused = get_open(&router, DIFF).await;
    assert_eq!((refused.status, refused.code()), (StatusCode::UNAUTHORIZED, "token_required"));
    assert!(world.wanted.lock().unwrap().is_empty(), "nothing was looked at for a stranger");
    let told = get(&router, DIFF).await;
    assert_eq!(told.status, StatusCode::OK);
    assert_eq!(told.body["run"], "run-2");
    assert_eq!((&told.body["source"], &told.body["total_files"]), (&json!("workspace"), &json!(2)));
    assert_eq!((&told.body["additions"], &told.body["truncated"]), (&json!(1), &json!(true)));
    assert_eq!(told.body["files"][0]["status"], "added");
    assert!(told.body["files"][0]["patch"].as_str().unwrap().contains("secret"));
    assert_eq!(told.body["files"][1]["patch"], json!(null));
    let unknown = get(&router, "/api/v1/runs/run-99/diff").await;
    assert_eq!((unknown.status, unknown.code()), (StatusCode::NOT_FOUND, "run_not_found"));
    let parameter = get(&router, &format!("{DIFF}?x=1")).await;
    assert_eq!(parameter.code(), "unknown_parameter");
    let wrong = send(
        &router,
        request("GET", DIFF).header("authorization", "Bearer x").body(axum::body::Body::empty()).unwrap(),
    );
    assert_eq!(wrong.await.code(), "token_invalid");
}

#[tokio::test]
async fn a_workspace_is_looked_at_for_its_latest_run_and_a_commit_for_an_earlier_one() {
    let world = World::new();
    let workspace = |base: &str| json!({"path": "/w/DS-4", "branch": "b", "base_commit": base});
    world.commit(
        "workspace_ready",
        Some("DS-4"),
        Some("run-1"),
        json!({"workspace": workspace("older"), "created": true}),
    );
    let router = world.router();
    // The issue of run-1 has no workspace any more: what was handed over is compared with what the event tells.
    get(&router, "/api/v1/runs/run-1/diff").await;
    get(&router, DIFF).await;
    let wanted = world.wanted.lock().unwrap().clone();
    assert_eq!((&wanted[0].workspace, &wanted[0].commit), (&None, &Some(CommitId::from("c0ffee"))));
    assert_eq!(wanted[0].base, Some(CommitId::from("older")));
    assert_eq!(wanted[1].workspace.as_ref().map(|workspace| workspace.path.as_str()), Some("/w/DS-1"));

    // A later run works in the workspace: the earlier one has nothing of its own there.
    let later = RunView { id: "run-3".into(), ..world.reads.run("run-2").unwrap().unwrap() };
    world.reads.put(View::Run(Box::new(later)));
    let moved_on = get(&router, DIFF).await;
    assert_eq!((moved_on.status, moved_on.code()), (StatusCode::CONFLICT, "workspace_moved_on"));
    let gone = RunView { handoff: None, ..world.reads.run("run-1").unwrap().unwrap() };
    world.reads.put(View::Run(Box::new(gone)));
    let gone = get(&router, "/api/v1/runs/run-1/diff").await;
    assert_eq!((gone.status, gone.code()), (StatusCode::CONFLICT, "workspace_missing"));
}

#[tokio::test]
async fn what_cannot_be_looked_at_is_told_and_is_no_error_of_the_page() {
    let world = World::new();
    for (failure, status) in [
        (Failure::permanent("base_missing", "rewritten"), StatusCode::CONFLICT),
        (Failure::retryable("git_timeout", "slow"), StatusCode::SERVICE_UNAVAILABLE),
    ] {
        let router = world.router();
        *world.change.lock().unwrap() = Err(failure.clone());
        let told = get(&router, DIFF).await;
        assert_eq!((told.status, told.code()), (status, failure.code.as_str()));
        let page = crate::pages::page(&router, "/runs/run-2", true).await;
        assert!(page.status == StatusCode::OK && page.text.contains(&failure.code), "{}", page.text);
    }
}

#[tokio::test]
async fn pages_show_a_change_file_by_file_and_as_text() {
    let router = World::new().router();
    for target in ["/runs/run-2", "/issues/DS-1"] {
        let page = crate::pages::page(&router, target, true).await;
        assert!(page.text.contains("<details class=\"file\" id=\"change-s\">"), "{}", page.text);
        assert!(page.text.contains("<span class=\"add\">+secret &lt;b&gt;line&lt;/b&gt;\n</span>"), "{}", page.text);
        assert!(page.text.contains("too large to be shown"), "{}", page.text);
        let open = crate::pages::page(&router, target, false).await;
        assert!(!open.text.contains("secret") && !open.text.contains("Changes"), "{}", open.text);
    }
}
