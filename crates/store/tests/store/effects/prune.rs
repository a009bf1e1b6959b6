//! What is old goes, its tombstone stays, and the database does not grow.

use std::sync::Arc;

use dalsegno_durable::store::StoreError;
use dalsegno_durable::{Claim, DurableStore, EffectHost, Timestamp};

use super::{address, answer, count, database, ended_scope, host, scope, step, store};

#[tokio::test]
async fn old_scopes_go_in_portions_and_never_live_ones() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    ended_scope(&store, "long", 1_500, 1).await;
    for number in 0..5_i64 {
        ended_scope(&store, &format!("old-{number}"), 3, 2 + number).await;
    }
    ended_scope(&store, "recent", 3, 1_000).await;
    store.open(&scope("live"), Claim::IfFree).await.unwrap();
    store.resolve(&address("live", "w"), answer(1), Timestamp(1)).await.unwrap();
    assert_eq!(store.prune(Timestamp(1), 256).await.unwrap(), 0);
    assert_eq!(store.prune(Timestamp(1_000), 2).await.unwrap(), 2, "as many as were asked for");
    assert_eq!(count(dir.path(), "scopes"), 6);
    assert_eq!(store.prune(Timestamp(1_000), 256).await.unwrap(), 4);
    assert_eq!(store.prune(Timestamp(1_000), 256).await.unwrap(), 0);
    for (table, rows) in
        [("scopes", 2), ("effects", 3), ("outcomes", 3), ("pruned", 0), ("waits", 1), ("tombstones", 6)]
    {
        assert_eq!(count(dir.path(), table), rows, "{table}");
    }
    assert_eq!(store.open(&scope("long"), Claim::TakeOver).await.unwrap_err(), StoreError::ScopeEnded);
    let late = store.resolve(&address("old-1", "w"), answer(1), Timestamp(9)).await;
    assert_eq!(late.unwrap_err(), StoreError::UnknownWait);
    assert_eq!(count(dir.path(), "waits"), 1, "a late answer leaves nothing");
    assert_eq!(store.open(&scope("recent"), Claim::IfFree).await.unwrap().effects.len(), 3);
}

#[tokio::test]
async fn the_database_is_as_large_as_what_lives_however_much_passed() {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(store(dir.path()));
    let host = host(&store);
    let live = host.scoped(scope("live")).await.unwrap();
    let mut sizes = Vec::new();
    let mut now = 0;
    for round in 0..8_u64 {
        step(&live, &format!("round-{round}"), round).await;
        let scopes: Vec<_> = (0..64)
            .map(|number| {
                let store = Arc::clone(&store);
                let at = now + number;
                tokio::spawn(async move { ended_scope(&store, &format!("{round}-{number}"), 10, at).await })
            })
            .collect();
        for scope in scopes {
            scope.await.unwrap();
        }
        now += 64;
        store.prune(Timestamp(now - 64), 256).await.unwrap();
        super::raw(dir.path()).execute_batch("PRAGMA wal_checkpoint(PASSIVE)").unwrap();
        sizes.push(std::fs::metadata(database(dir.path())).unwrap().len());
    }
    assert!(sizes[7] <= sizes[2] + sizes[2] / 10, "it grows: {sizes:?}");
    let keys = live.controller().effects().await.unwrap().len();
    assert_eq!(keys, 8, "what lives is not pruned");
    assert_eq!(count(dir.path(), "tombstones"), 7 * 64);
}

/// What was newest may be pruned; what comes then is still found.
#[tokio::test]
async fn effects_that_come_after_the_newest_were_pruned_are_found_again() {
    let dir = tempfile::tempdir().unwrap();
    let before = store(dir.path());
    ended_scope(&before, "old", 3, 1).await;
    before.prune(Timestamp(2), 10).await.unwrap();
    drop(before);
    // As after very many effects, all of them gone by now.
    super::raw(dir.path()).execute("UPDATE meta SET value = 5000 WHERE key = 'heads_through'", []).unwrap();
    let writing = store(dir.path());
    let lease = writing.open(&scope("new"), Claim::IfFree).await.unwrap().lease;
    for number in 0..3 {
        super::intend(&writing, lease, &super::intent(&scope("new"), &format!("e{number}"), 1)).await.unwrap();
    }
    drop(writing);
    assert_eq!(store(dir.path()).open(&scope("new"), Claim::IfFree).await.unwrap().effects.len(), 3);
}

/// Heads are written now and then; whoever comes after that many effects finds all of them.
#[tokio::test]
async fn chains_are_whole_before_and_after_their_heads_are_written() {
    let dir = tempfile::tempdir().unwrap();
    let first = Arc::new(store(dir.path()));
    // Ten at a time, so that most are silent when heads are written.
    for ten in 0..15 {
        let tasks: Vec<_> = (ten * 10..ten * 10 + 10)
            .map(|name| {
                let store = Arc::clone(&first);
                tokio::spawn(async move {
                    let scope = scope(&name.to_string());
                    let lease = store.open(&scope, Claim::IfFree).await.unwrap().lease;
                    for number in 0..60 {
                        super::intend(&store, lease, &super::intent(&scope, &format!("e{number}"), 1)).await.unwrap();
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
    }
    first.close();
    let sql = "SELECT value FROM meta WHERE key = 'heads_through'";
    let through: i64 = super::raw(dir.path()).query_row(sql, [], |row| row.get(0)).unwrap();
    // Twice: the first time by a look at the table, the second time from memory.
    assert!((8_192..9_000).contains(&through), "{through}");
    let again = store(dir.path());
    for name in 0..150 {
        let opened = again.open(&scope(&name.to_string()), Claim::IfFree).await.unwrap();
        assert_eq!(opened.effects.len(), 60, "{name}");
    }
}
