//! After the disk refused, nothing more is taken; opening again recovers.

use std::time::Duration;

use dalsegno_core::{Batch, Event, Failure};
use dalsegno_engine::{AppendError, Journal, Reads};
use dalsegno_store::{OpenOptions, Store};

use crate::support::{batch, numbers, open, plain, plain_batch, plain_snapshot};

fn large(seq: u64) -> dalsegno_core::Recorded {
    let mut recorded = plain(seq);
    recorded.event = Event::DaemonStopped { reason: "x".repeat(20_000) };
    recorded
}

#[tokio::test]
async fn a_full_disk_poisons_and_nothing_is_half_there() {
    let dir = tempfile::tempdir().unwrap();
    let small = OpenOptions { max_pages: Some(100), ..OpenOptions::default() };
    let opened = Store::open(dir.path(), small).unwrap();
    let mut acknowledged = 0;
    let error = loop {
        // Two events, so that a batch could be half there.
        let pair = batch(1, vec![large(acknowledged + 1), large(acknowledged + 2)]);
        match opened.journal.append(pair, Vec::new()).await {
            Ok(_) => acknowledged += 2,
            Err(error) => break error,
        }
        assert!(acknowledged < 100, "the disk never gets full");
    };
    assert!(matches!(&error, AppendError::Storage(text) if text.starts_with("disk_full: ")), "{error:?}");
    assert!(acknowledged >= 10);
    for seq in [acknowledged + 1, acknowledged + 3] {
        let later = opened.journal.append(plain_batch(1, seq, seq), Vec::new()).await.unwrap_err();
        assert!(matches!(&later, AppendError::Poisoned(text) if text.contains("disk_full")), "{later:?}");
    }
    assert_eq!(opened.store.bounds().unwrap(), (1, acknowledged), "reads go on");
    drop((opened.store, opened.journal));

    let again = open(dir.path());
    assert_eq!(numbers(&again.loaded.events), (1..=acknowledged).collect::<Vec<_>>());
    again.journal.append(plain_batch(1, acknowledged + 1, acknowledged + 1), Vec::new()).await.unwrap();
}

#[tokio::test]
async fn the_whole_group_of_a_failed_batch_fails() {
    let dir = tempfile::tempdir().unwrap();
    let small = OpenOptions { max_pages: Some(60), ..OpenOptions::default() };
    let opened = Store::open(dir.path(), small).unwrap();
    let mut pending = Vec::new();
    for seq in 1..=200 {
        match opened.journal.submit(batch(1, vec![large(seq)])).await {
            Ok(answer) => pending.push(answer),
            Err(error) => panic!("the queue takes what comes: {error}"),
        }
    }
    let mut answers = Vec::new();
    for answer in pending {
        answers.push(answer.await);
    }
    let good = answers.iter().take_while(|answer| answer.is_ok()).count();
    assert!(answers[good..].iter().all(Result::is_err), "nothing is taken after a failure");
    assert!(answers[good..].iter().any(|answer| matches!(answer, Err(AppendError::Storage(_)))));
    assert!(matches!(answers.last(), Some(Err(AppendError::Storage(_) | AppendError::Poisoned(_)))));
    drop((opened.store, opened.journal));
    assert_eq!(numbers(&open(dir.path()).loaded.events), (1..=good as u64).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_snapshot_without_room_is_left_out_and_a_batch_without_room_is_the_last() {
    let dir = tempfile::tempdir().unwrap();
    let small = OpenOptions { max_pages: Some(100), ..OpenOptions::default() };
    let opened = Store::open(dir.path(), small).unwrap();
    let mut much = plain_snapshot(1);
    much.state.tracker_failure = Some(Failure::permanent("large", "x".repeat(1 << 20)));
    opened.journal.append(Batch { snapshot: Some(much), ..plain_batch(1, 1, 1) }, Vec::new()).await.unwrap();
    // It is made beside the writer. One that is offered when it is through, and has room, is kept.
    let mut seq = 1;
    let kept = async {
        while opened.store.load().unwrap().snapshot.is_none() {
            seq += 1;
            let batch = Batch { snapshot: Some(plain_snapshot(seq)), ..plain_batch(1, seq, seq) };
            opened.journal.append(batch, Vec::new()).await.unwrap();
        }
    };
    tokio::time::timeout(Duration::from_secs(60), kept).await.expect("a snapshot with room is kept");
    assert_ne!(opened.store.load().unwrap().snapshot.unwrap().state.seq, 1, "there was room for the large one");

    // Of a batch nothing is left out.
    let error = loop {
        seq += 1;
        if let Err(error) = opened.journal.append(batch(1, vec![large(seq)]), Vec::new()).await {
            break error;
        }
    };
    assert!(matches!(&error, AppendError::Storage(text) if text.starts_with("disk_full: ")), "{error:?}");
    let later = opened.journal.append(plain_batch(1, seq, seq), Vec::new()).await.unwrap_err();
    assert!(matches!(&later, AppendError::Poisoned(_)), "{later:?}");
}
