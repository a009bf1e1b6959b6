//! Whoever lost a scope writes nothing into it, and nothing is written twice.

use std::sync::Arc;

use dalsegno_durable::store::{Lease, StoreError, Write};
use dalsegno_durable::{Claim, DurableStore, EffectHost, Timestamp};

use super::{count, done, ended_scope, host, intend, intent, scope, step, store};

#[tokio::test]
async fn who_was_taken_over_writes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (first, second) = (store(dir.path()), store(dir.path()));
    let scope = scope("1");
    let old = first.open(&scope, Claim::IfFree).await.unwrap().lease;
    let record = intent(&scope, "a", old.epoch);
    let place = intend(&first, old, &record).await.unwrap();
    assert_eq!(second.open(&scope, Claim::IfFree).await.unwrap_err(), StoreError::Owned);
    let taken = second.open(&scope, Claim::TakeOver).await.unwrap();
    assert_eq!(taken.effects.len(), 1, "what the other one wrote is seen");
    let lost = StoreError::LeaseLost { current: 2 };
    assert_eq!(intend(&first, old, &intent(&scope, "b", 1)).await.unwrap_err(), lost);
    assert_eq!(first.write(old, Write::Change(place, done(&record, 1))).await.unwrap_err(), lost);
    assert_eq!(first.end(old, Timestamp(1)).await.unwrap_err(), lost);
    assert_eq!(first.load(old).await.unwrap_err(), lost);
    assert_eq!((count(dir.path(), "effects"), count(dir.path(), "outcomes")), (1, 0));
    // The new owner goes on, and the old one may take it back.
    second.write(taken.lease, Write::Change(place, done(&record, 2))).await.unwrap();
    intend(&second, taken.lease, &intent(&scope, "c", 2)).await.unwrap();
    let back = first.open(&scope, Claim::TakeOver).await.unwrap();
    assert_eq!((back.lease.epoch, back.effects.len()), (3, 2));
    assert_eq!(back.effects[0].1.state, done(&record, 2));
    intend(&first, back.lease, &intent(&scope, "d", 3)).await.unwrap();
    assert_eq!(first.load(back.lease).await.unwrap().effects.len(), 3);
}

#[tokio::test]
async fn an_owner_that_closed_leaves_its_scopes() {
    let dir = tempfile::tempdir().unwrap();
    let (first, second) = (store(dir.path()), store(dir.path()));
    first.open(&scope("1"), Claim::IfFree).await.unwrap();
    drop(first);
    assert_eq!(second.open(&scope("1"), Claim::IfFree).await.unwrap().lease.epoch, 2);
}

#[tokio::test]
async fn a_scope_that_ended_elsewhere_takes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (first, second) = (store(dir.path()), store(dir.path()));
    let lease = first.open(&scope("1"), Claim::IfFree).await.unwrap().lease;
    let theirs = second.open(&scope("1"), Claim::TakeOver).await.unwrap().lease;
    second.end(theirs, Timestamp(5)).await.unwrap();
    assert!(matches!(first.load(lease).await, Err(StoreError::LeaseLost { .. })));
    assert_eq!(intend(&second, theirs, &intent(&scope("1"), "a", 2)).await.unwrap_err(), StoreError::ScopeEnded);
    assert!(second.load(theirs).await.unwrap().ended);
    assert!(first.open(&scope("1"), Claim::IfFree).await.unwrap().ended);
    assert_eq!(first.prune(Timestamp(6), 10).await.unwrap(), 1);
    assert_eq!(second.load(theirs).await.unwrap_err(), StoreError::ScopeEnded);
    assert_eq!(second.open(&scope("1"), Claim::TakeOver).await.unwrap_err(), StoreError::ScopeEnded);
}

#[tokio::test]
async fn an_old_lease_never_fits_a_newer_scope() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    let old = ended_scope(&store, "1", 3, 5).await;
    assert_eq!(store.prune(Timestamp(6), 10).await.unwrap(), 1);
    let new = store.open(&scope("2"), Claim::IfFree).await.unwrap().lease;
    assert_ne!(old.row, new.row, "a number of a scope that is gone is given again");
    assert_eq!(intend(&store, old, &intent(&scope("1"), "a", 1)).await.unwrap_err(), StoreError::ScopeEnded);
}

#[tokio::test]
async fn a_replay_key_is_recorded_once_also_when_it_was_forgotten_meanwhile() {
    let dir = tempfile::tempdir().unwrap();
    let (first, second) = (store(dir.path()), store(dir.path()));
    let scope = scope("1");
    let lease = first.open(&scope, Claim::IfFree).await.unwrap().lease;
    intend(&first, lease, &intent(&scope, "a", 1)).await.unwrap();
    assert!(matches!(intend(&first, lease, &intent(&scope, "a", 1)).await, Err(StoreError::Failed(_))));
    // Somebody else writes, and what was remembered is looked at again.
    second.open(&super::scope("2"), Claim::IfFree).await.unwrap();
    assert!(matches!(intend(&first, lease, &intent(&scope, "a", 1)).await, Err(StoreError::Failed(_))));
    intend(&first, lease, &intent(&scope, "b", 1)).await.unwrap();
    let taken = second.open(&scope, Claim::TakeOver).await.unwrap().lease;
    assert!(matches!(intend(&second, taken, &intent(&scope, "b", 2)).await, Err(StoreError::Failed(_))));
    assert_eq!(count(dir.path(), "effects"), 2);
}

#[tokio::test]
async fn a_change_of_another_scopes_record_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    let ours = store.open(&scope("1"), Claim::IfFree).await.unwrap().lease;
    let theirs = store.open(&scope("2"), Claim::IfFree).await.unwrap().lease;
    let record = intent(&scope("1"), "a", 1);
    let place = intend(&store, ours, &record).await.unwrap();
    let refused = store.write(theirs, Write::Change(place, done(&record, 1))).await;
    assert!(matches!(refused, Err(StoreError::Failed(_))));
    assert_eq!(count(dir.path(), "outcomes"), 0);
    let nowhere = Lease { row: dalsegno_durable::store::ScopeRow(99), epoch: 1 };
    assert_eq!(store.load(nowhere).await.unwrap_err(), StoreError::ScopeEnded);
}

/// Two owners who write at the same time, each into scopes of its own: chains stay what they are.
#[tokio::test]
async fn owners_that_write_in_turns_do_not_mix_their_chains() {
    let dir = tempfile::tempdir().unwrap();
    let stores = [Arc::new(store(dir.path())), Arc::new(store(dir.path()))];
    for round in 0..3 {
        for (index, store) in stores.iter().enumerate() {
            let host = host(store);
            for name in 0..4 {
                let turn = host.scoped(scope(&format!("{index}-{name}"))).await.unwrap();
                for number in 0..5 {
                    step(&turn, &format!("{round}-{number}"), number).await;
                }
            }
        }
    }
    for store in &stores {
        store.close();
    }
    let again = store(dir.path());
    for name in ["0-0", "0-3", "1-0", "1-3"] {
        let opened = again.open(&scope(name), Claim::IfFree).await.unwrap();
        let keys: Vec<_> = opened.effects.iter().map(|(_, record)| record.replay_key.clone()).collect();
        let expected: Vec<_> = (0..3).flat_map(|round| (0..5).map(move |number| format!("{round}-{number}"))).collect();
        assert_eq!(keys, expected, "{name}");
    }
}
