use axum::http::StatusCode;
use dalsegno_api::Cursor;
use serde_json::{Value, json};

use crate::world::{World, get};

fn numbers(page: &Value) -> Vec<u64> {
    page["events"].as_array().unwrap().iter().map(|event| event["seq"].as_u64().unwrap()).collect()
}

#[tokio::test]
async fn pages_follow_each_other_without_gap_or_repeat() {
    let router = World::new().router();
    let mut seen = Vec::new();
    let mut after = String::new();
    loop {
        let page = get(&router, &format!("/api/v1/events?limit=3&after={after}")).await.body;
        let next = page["next"].as_str().unwrap().to_owned();
        if numbers(&page).is_empty() {
            assert_eq!((next.as_str(), page["head"].as_str()), (after.as_str(), Some(after.as_str())));
            break;
        }
        seen.extend(numbers(&page));
        after = next;
    }
    assert_eq!(seen, (1..=10).collect::<Vec<_>>());
}

#[tokio::test]
async fn an_event_has_exactly_the_agreed_fields() {
    let router = World::new().router();
    let page = get(&router, "/api/v1/events?limit=2").await.body;
    let second = &page["events"][1];
    assert_eq!(
        *second,
        json!({
            "cursor": Cursor::event("journal-a", 2).to_string(), "seq": 2, "at": "2026-01-01T00:00:00.000Z",
            "kind": "effect_ended", "issue": "DS-1", "run": "run-2", "action_id": null, "correlation_id": null,
            "caused_by": null, "data": {"n": 2, "summary": "secret words", "outcome": {"result": "done"}},
        })
    );
    assert_eq!(page["next"], second["cursor"]);
    assert_eq!(page["head"], Cursor::event("journal-a", 10).to_string());
}

#[tokio::test]
async fn filters_hold_and_their_cursors_move_on() {
    let router = World::new().router();
    for (query, expected) in [
        ("issue=ds-1", vec![2, 4, 6, 8, 10]),
        ("issue=1", vec![2, 4, 6, 8, 10]),
        ("run=run-2&kind=turn_ended", vec![10]),
        ("kind=nothing", vec![]),
        ("issue=DS-1&run=run-1", vec![]),
    ] {
        let page = get(&router, &format!("/api/v1/events?{query}")).await.body;
        assert_eq!(numbers(&page), expected, "{query}");
        assert_eq!(page["next"], page["head"], "{query}: everything was looked at");
    }
    let page = get(&router, "/api/v1/events?issue=DS-1&limit=2").await.body;
    let next = page["next"].as_str().unwrap();
    let page = get(&router, &format!("/api/v1/events?issue=DS-1&limit=2&after={next}")).await.body;
    assert_eq!(numbers(&page), [6, 8]);
}

#[tokio::test]
async fn a_cursor_that_cannot_be_served_is_told() {
    let world = World::new();
    world.reads.prune(5);
    let router = world.router();
    let gone = [
        ("of another journal", Cursor::event("journal-b", 7)),
        ("of a transcript", Cursor::transcript("journal-a", "run-2", 7)),
        ("beyond the head", Cursor::event("journal-a", 11)),
        ("older than the retention", Cursor::event("journal-a", 3)),
    ];
    for route in ["/api/v1/events", "/api/v1/events/stream"] {
        for (what, cursor) in &gone {
            let answer = get(&router, &format!("{route}?after={cursor}")).await;
            assert_eq!((answer.status, answer.code()), (StatusCode::GONE, "cursor_gone"), "{route} {what}");
            let oldest = answer.body["error"]["oldest"].as_str().unwrap();
            let page = get(&router, &format!("/api/v1/events?after={oldest}")).await.body;
            assert_eq!(numbers(&page), [5, 6, 7, 8, 9, 10], "{what}");
        }
        let text = Cursor::event("journal-a", 7).to_string();
        for damaged in ["x".to_owned(), format!("{text}A"), text[1..].to_owned(), "7".to_owned(), "%00".to_owned()] {
            let answer = get(&router, &format!("{route}?after={damaged}")).await;
            assert_eq!(
                (answer.status, answer.code()),
                (StatusCode::BAD_REQUEST, "invalid_cursor"),
                "{route} {damaged}"
            );
        }
    }
    let page = get(&router, "/api/v1/events").await.body;
    assert_eq!(numbers(&page), [5, 6, 7, 8, 9, 10], "without `after` it starts at the oldest kept");
    let page = get(&router, &format!("/api/v1/events?after={}", Cursor::event("journal-a", 4))).await.body;
    assert_eq!(numbers(&page), [5, 6, 7, 8, 9, 10]);
    let page = get(&router, &format!("/api/v1/events?after={}", Cursor::event("journal-a", 10))).await.body;
    assert_eq!(numbers(&page), [] as [u64; 0]);
}
