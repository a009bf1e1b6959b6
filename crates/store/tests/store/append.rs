//! Appending: order, epochs, groups.

use std::sync::Arc;

use dalsegno_engine::{AppendError, Journal, Reads};
use dalsegno_store::{OpenOptions, Store};

use crate::support::{batch, numbers, open, plain, plain_batch, plain_snapshot};

#[tokio::test]
async fn opening_again_finds_everything() {
    let dir = tempfile::tempdir().unwrap();
    let first = open(dir.path());
    assert_eq!(first.loaded.epoch, 0);
    assert!(first.loaded.events.is_empty() && first.loaded.snapshot.is_none());
    let answer = first.journal.append(plain_batch(3, 1, 3), Vec::new()).await.unwrap();
    assert_eq!(answer, plain_batch(3, 1, 3).committed());
    first.journal.append(plain_batch(3, 4, 4), Vec::new()).await.unwrap();
    let (id, secret) = (first.journal_id.clone(), first.secret.clone());
    drop((first.store, first.journal));

    let again = open(dir.path());
    assert_eq!(again.loaded.events, (1..=4).map(plain).collect::<Vec<_>>());
    assert_eq!(again.loaded.epoch, 3);
    assert_eq!(again.journal_id, id);
    assert_eq!(again.store.journal_id(), id);
    let marker = |secret| dalsegno_durable::key::marker(secret, "a key");
    assert_eq!(marker(&again.secret), marker(&secret));
    again.journal.append(plain_batch(4, 5, 5), Vec::new()).await.unwrap();
}

#[tokio::test]
async fn journals_have_ids_and_secrets_of_their_own() {
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (one, other) = (open(one.path()), open(other.path()));
    assert_ne!(one.journal_id, other.journal_id);
    let marker = |secret| dalsegno_durable::key::marker(secret, "a key");
    assert_ne!(marker(&one.secret), marker(&other.secret));
}

#[tokio::test]
async fn a_gap_is_refused_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let opened = open(dir.path());
    opened.journal.append(plain_batch(1, 1, 2), Vec::new()).await.unwrap();
    for (refused, expected, found) in [
        (plain_batch(1, 4, 4), 3, 4),
        (plain_batch(1, 2, 2), 3, 2),
        (batch(1, vec![plain(3), plain(5)]), 4, 5),
        (batch(1, vec![plain(3), plain(3)]), 4, 3),
    ] {
        let error = opened.journal.append(refused, Vec::new()).await.unwrap_err();
        assert_eq!(error, AppendError::UnexpectedSequence { expected, found });
    }
    let mut wrong_snapshot = plain_batch(1, 3, 3);
    wrong_snapshot.snapshot = Some(plain_snapshot(2));
    let error = opened.journal.append(wrong_snapshot, Vec::new()).await.unwrap_err();
    assert_eq!(error, AppendError::UnexpectedSequence { expected: 4, found: 3 });
    assert_eq!(opened.store.bounds().unwrap(), (1, 2));
    // A refusal poisons nothing.
    opened.journal.append(plain_batch(1, 3, 3), Vec::new()).await.unwrap();
    drop((opened.store, opened.journal));
    assert_eq!(numbers(&open(dir.path()).loaded.events), [1, 2, 3]);
}

#[tokio::test]
async fn a_stale_epoch_is_refused_also_after_opening_again() {
    let dir = tempfile::tempdir().unwrap();
    let opened = open(dir.path());
    opened.journal.append(plain_batch(7, 1, 1), Vec::new()).await.unwrap();
    let stale = AppendError::StaleEpoch { ours: 6, current: 7 };
    assert_eq!(opened.journal.append(plain_batch(6, 2, 2), Vec::new()).await.unwrap_err(), stale);
    drop((opened.store, opened.journal));
    let again = open(dir.path());
    assert_eq!(again.loaded.epoch, 7);
    assert_eq!(again.journal.append(plain_batch(6, 2, 2), Vec::new()).await.unwrap_err(), stale);
    again.journal.append(plain_batch(7, 2, 2), Vec::new()).await.unwrap();
}

#[tokio::test]
async fn batches_in_flight_share_a_sync() {
    let dir = tempfile::tempdir().unwrap();
    let opened = open(dir.path());
    let mut pending = Vec::new();
    for seq in 1..=500 {
        pending.push(opened.journal.submit(plain_batch(1, seq, seq)).await.unwrap());
    }
    for answer in pending {
        answer.await.unwrap();
    }
    let counts = opened.journal.counts();
    assert_eq!(counts.batches, 500);
    // The queue fills while the first commits sync; one commit per batch would be 500.
    assert!(counts.commits < 250, "{counts:?}");
    assert_eq!(opened.store.bounds().unwrap(), (1, 500));
}

#[tokio::test]
async fn the_good_ones_of_a_group_commit_beside_a_refused_one() {
    let dir = tempfile::tempdir().unwrap();
    let opened = open(dir.path());
    let mut pending = Vec::new();
    for seq in 1..=200 {
        pending.push((true, opened.journal.submit(plain_batch(2, seq, seq)).await.unwrap()));
        pending.push((false, opened.journal.submit(plain_batch(2, seq, seq)).await.unwrap()));
        pending.push((false, opened.journal.submit(plain_batch(1, seq + 1, seq + 1)).await.unwrap()));
    }
    for (good, answer) in pending {
        assert_eq!(answer.await.is_ok(), good);
    }
    assert!(opened.journal.counts().commits < 200);
    drop((opened.store, opened.journal));
    assert_eq!(numbers(&open(dir.path()).loaded.events), (1..=200).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_see_only_whole_batches_while_others_write() {
    let dir = tempfile::tempdir().unwrap();
    let opened = open(dir.path());
    let store: Arc<Store> = Arc::clone(&opened.store);
    let reader = tokio::task::spawn_blocking(move || {
        let mut reads = 0;
        loop {
            let (first, last) = store.bounds().unwrap();
            assert_eq!((first, last % 5), (1, 0), "half a batch");
            reads += 1;
            if last == 1_000 {
                return reads;
            }
        }
    });
    for first in (1..=1_000).step_by(5) {
        opened.journal.append(plain_batch(1, first, first + 4), Vec::new()).await.unwrap();
    }
    assert!(reader.await.unwrap() > 0);
}

#[tokio::test]
async fn an_append_that_nobody_waits_for_still_takes_place() {
    let dir = tempfile::tempdir().unwrap();
    let opened = open(dir.path());
    drop(opened.journal.submit(plain_batch(1, 1, 1)).await.unwrap());
    opened.journal.append(plain_batch(1, 2, 2), Vec::new()).await.unwrap();
    drop((opened.store, opened.journal));
    assert_eq!(numbers(&open(dir.path()).loaded.events), [1, 2]);
}

#[tokio::test]
async fn the_log_stays_bounded() {
    for apart_checkpoints in [false, true] {
        log_is_bounded(apart_checkpoints).await;
    }
}

async fn log_is_bounded(apart_checkpoints: bool) {
    let dir = tempfile::tempdir().unwrap();
    let opened = Store::open(dir.path(), OpenOptions { apart_checkpoints, ..OpenOptions::default() }).unwrap();
    let mut pending = std::collections::VecDeque::new();
    let mut next = 1;
    // About 160 MiB of events with sixteen batches in flight, so that the log never rests.
    for _ in 0..160 {
        let mut events: Vec<_> = (next..next + 16).map(plain).collect();
        for recorded in &mut events {
            recorded.event = dalsegno_core::Event::DaemonStopped { reason: "x".repeat(64 << 10) };
        }
        next += 16;
        pending.push_back(opened.journal.submit(batch(1, events)).await.unwrap());
        if pending.len() > 16 {
            pending.pop_front().unwrap().await.unwrap();
        }
    }
    for answer in pending {
        answer.await.unwrap();
    }
    let log = std::fs::metadata(dir.path().join("dalsegno.db-wal")).unwrap().len();
    assert!(log < 80 << 20, "the log has {log} bytes");
}

#[tokio::test]
async fn the_log_stays_bounded_with_small_commits() {
    for apart_checkpoints in [false, true] {
        log_is_bounded_with_small_commits(apart_checkpoints).await;
    }
}

async fn log_is_bounded_with_small_commits(apart_checkpoints: bool) {
    let dir = tempfile::tempdir().unwrap();
    let opened = Store::open(dir.path(), OpenOptions { apart_checkpoints, ..OpenOptions::default() }).unwrap();
    // Each changes several pages of 8 KiB: without care this is a log of about 100 MiB.
    for seq in 1..=4_000_u64 {
        let mut one = plain_batch(1, seq, seq);
        one.views.push(crate::support::run_view(&format!("run-{seq}"), "i1", 0, None));
        opened.journal.append(one, Vec::new()).await.unwrap();
    }
    let log = std::fs::metadata(dir.path().join("dalsegno.db-wal")).unwrap().len();
    assert!(log < 40 << 20, "the log has {log} bytes");
}
