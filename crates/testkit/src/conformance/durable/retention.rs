//! What has ended is told for a while, and then goes; what lives stays.

use std::time::Duration;

use dalsegno_durable::Resolved;
use serde_json::{Value, json};

use super::HostFixture;
use super::scene::{Executor, a_moment, already, answer, code, direct, open, record, turn};

const UNKNOWN: &str = "await_event_unknown_or_revoked";

/// A scope with an effect that is over and a wait that was answered; ended, if so.
async fn lived(fixture: &dyn HostFixture, id: &str, end: bool) {
    let host = fixture.host();
    let scope = open(&host, turn(id)).await;
    let executor = Executor::once(id);
    let told: Value = scope.effect("k", direct(1)).run(|call| executor.run(call)).await.unwrap();
    assert_eq!(told, id);
    host.resolve(&scope.wait_key("w").unwrap(), answer(id)).await.unwrap();
    if end {
        scope.end().await.unwrap();
        scope.end().await.unwrap();
    }
}

/// What is there of it is told; nothing else happens in it.
async fn tells_and_refuses(fixture: &dyn HostFixture, id: &str) {
    let host = fixture.host();
    let scope = open(&host, turn(id)).await;
    let executor = Executor::never();
    let told: Value = scope.effect("k", direct(1)).run(|call| executor.run(call)).await.unwrap();
    assert_eq!(told, id);
    let other = scope.effect("k", direct(2)).run::<Value, _, _>(|call| executor.run(call)).await;
    assert_eq!(code(other), "replay_mismatch");
    let new = scope.effect("new", direct(1)).run::<Value, _, _>(|call| executor.run(call)).await;
    assert_eq!(code(new), "scope_ended");
    assert_eq!(code(scope.sleep("nap", Duration::from_secs(1)).await), "scope_ended");
    assert_eq!(record(&scope, "new").await, None);
    assert_eq!(executor.count(), 0);
    // A wait that has its answer tells it; one that has none gets none any more.
    let key = scope.wait_key("w").unwrap();
    assert_eq!(scope.wait(&key).await.unwrap(), answer(id));
    assert_eq!(host.resolve(&key, answer(2)).await.unwrap(), already(answer(id)));
    assert_eq!(code(host.resolve(&scope.wait_key("new").unwrap(), answer(1)).await), UNKNOWN);
}

/// Only a tombstone is left.
async fn is_gone(fixture: &dyn HostFixture, id: &str) {
    let host = fixture.host();
    for _ in 0..2 {
        assert_eq!(code(host.scoped(turn(id)).await), "scope_ended");
        assert_eq!(code(host.take_over(turn(id)).await), "scope_ended");
        assert_eq!(code(host.resolve(&host.wait_key(&turn(id), "w").unwrap(), answer(1)).await), UNKNOWN);
        assert_eq!(code(host.resolve(&host.wait_key(&turn(id), "new").unwrap(), answer(1)).await), UNKNOWN);
    }
}

/// Within the retention an ended scope tells its outcomes, and answers `scope_ended` to everything else.
pub async fn ended_scope_tells_outcomes_and_refuses_the_rest(fixture: &dyn HostFixture) {
    lived(fixture, "1", true).await;
    tells_and_refuses(fixture, "1").await;
    fixture.clock().advance(fixture.retention() - Duration::from_secs(1));
    fixture.host().prune().await.unwrap();
    tells_and_refuses(fixture, "1").await;
}

/// Also in another process, and to a scope that was held when it ended.
pub async fn ended_scope_survives_reopen(fixture: &dyn HostFixture) {
    lived(fixture, "1", true).await;
    fixture.reopen().await;
    tells_and_refuses(fixture, "1").await;
    fixture.reopen().await;
    tells_and_refuses(fixture, "1").await;
}

/// After it, records and waits are gone; the tombstone answers, also after a reopen and to whoever held the scope all the while.
pub async fn retention_prunes(fixture: &dyn HostFixture) {
    lived(fixture, "1", true).await;
    lived(fixture, "2", true).await;
    {
        let host = fixture.host();
        let held = open(&host, turn("2")).await;
        fixture.clock().advance(fixture.retention() + Duration::from_secs(1));
        assert_eq!(host.prune().await.unwrap(), 2);
        assert_eq!(host.prune().await.unwrap(), 0);
        let executor = Executor::never();
        let new = held.effect("new", direct(1)).run::<Value, _, _>(|call| executor.run(call)).await;
        assert_eq!(code(new), "scope_ended");
        assert_eq!(code(held.wait(&held.wait_key("w").unwrap()).await), UNKNOWN);
    }
    is_gone(fixture, "1").await;
    fixture.reopen().await;
    is_gone(fixture, "1").await;
    is_gone(fixture, "2").await;
    // A scope of another name is another scope.
    lived(fixture, "3", false).await;
}

/// A scope that lived long is kept as long after its end as any other.
pub async fn retention_is_counted_from_the_end(fixture: &dyn HostFixture) {
    lived(fixture, "1", false).await;
    fixture.clock().advance(fixture.retention() * 10);
    {
        let host = fixture.host();
        open(&host, turn("1")).await.end().await.unwrap();
        assert_eq!(host.prune().await.unwrap(), 0);
    }
    tells_and_refuses(fixture, "1").await;
    fixture.clock().advance(fixture.retention() + Duration::from_secs(1));
    assert_eq!(fixture.host().prune().await.unwrap(), 1);
    is_gone(fixture, "1").await;
}

/// A scope that has not ended is never pruned, however old it is and whether or not somebody holds it.
pub async fn retention_never_prunes_live(fixture: &dyn HostFixture) {
    lived(fixture, "live", false).await;
    lived(fixture, "ended", true).await;
    let key = fixture.host().wait_key(&turn("live"), "open").unwrap();
    {
        let host = fixture.host();
        let scope = open(&host, turn("live")).await;
        tokio::select! {
            biased;
            told = scope.wait(&key) => panic!("{told:?}"),
            () = a_moment() => {}
        }
    }
    fixture.clock().advance(fixture.retention() * 100);
    assert_eq!(fixture.host().prune().await.unwrap(), 1);
    fixture.reopen().await;
    assert_eq!(fixture.host().prune().await.unwrap(), 0);
    let host = fixture.host();
    assert_eq!(host.resolve(&key, answer(1)).await.unwrap(), Resolved::Accepted);
    let scope = open(&host, turn("live")).await;
    let executor = Executor::never();
    let told: Value = scope.effect("k", direct(1)).run(|call| executor.run(call)).await.unwrap();
    assert_eq!(told, "live");
    assert_eq!(scope.step("new", &1, || async { Ok(1) }).await.unwrap(), 1);
    assert_eq!(scope.wait(&key).await.unwrap(), answer(1));
}

/// Nobody has to call it: while scopes end, old ones go.
pub async fn ending_prunes_by_itself(fixture: &dyn HostFixture) {
    lived(fixture, "old", true).await;
    fixture.clock().advance(fixture.retention() + Duration::from_secs(10));
    lived(fixture, "new", true).await;
    assert_eq!(fixture.host().prune().await.unwrap(), 0, "it went with the end of the other one");
    is_gone(fixture, "old").await;
    tells_and_refuses(fixture, "new").await;
}

/// Whoever answers a question of an ended scope is told that there is none, before the pruning as after it.
pub async fn late_resolve_after_the_end(fixture: &dyn HostFixture) {
    let key = {
        let host = fixture.host();
        let scope = open(&host, turn("1")).await;
        let key = scope.wait_key("open").unwrap();
        tokio::select! {
            biased;
            told = scope.wait(&key) => panic!("{told:?}"),
            () = a_moment() => {}
        }
        scope.end().await.unwrap();
        key
    };
    assert_eq!(code(fixture.host().resolve(&key, answer(1)).await), UNKNOWN);
    fixture.reopen().await;
    assert_eq!(code(fixture.host().resolve(&key, answer(1)).await), UNKNOWN);
    fixture.clock().advance(fixture.retention() + Duration::from_secs(1));
    fixture.host().prune().await.unwrap();
    assert_eq!(code(fixture.host().resolve(&key, answer(1)).await), UNKNOWN);
}

/// Whoever is parked in a scope that ends is told so.
pub async fn waiter_of_an_ended_scope(fixture: &dyn HostFixture) {
    let host = fixture.host();
    let scope = open(&host, turn("1")).await;
    let key = scope.wait_key("w").unwrap();
    let ended = async {
        a_moment().await;
        scope.end().await.unwrap();
    };
    let (told, ()) = tokio::join!(scope.wait(&key), ended);
    assert_eq!(code(told), "scope_ended");
    assert_eq!(code(scope.wait(&key).await), "scope_ended");
}

/// Many old scopes go at last, each once.
pub async fn pruned_in_pages(fixture: &dyn HostFixture) {
    const SCOPES: u64 = 600;
    {
        let host = fixture.host();
        let ended = (0..SCOPES).map(|number| {
            let host = &host;
            async move {
                let scope = open(host, turn(&number.to_string())).await;
                assert_eq!(scope.step("s", &number, || async { Ok(json!(number)) }).await.unwrap(), number);
                scope.end().await.unwrap();
            }
        });
        futures::future::join_all(ended).await;
        fixture.clock().advance(fixture.retention() + Duration::from_secs(1));
        let mut gone = 0;
        loop {
            match host.prune().await.unwrap() {
                0 => break,
                some => gone += some,
            }
        }
        assert_eq!(gone, SCOPES);
    }
    is_gone(fixture, "0").await;
    is_gone(fixture, "599").await;
}
