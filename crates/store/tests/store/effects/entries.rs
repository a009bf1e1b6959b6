//! Effects that a machine decides by its journal: in the batch's transaction, beside those of everybody else.

use std::sync::Arc;

use dalsegno_durable::{EffectError, EffectHost, EffectRecord, Entry, Outcome, Progress, StoredHost, Timestamp};
use dalsegno_engine::Reads as _;
use serde_json::json;

use super::intent;
use crate::support::{open, plain_batch};

fn run(name: &str) -> dalsegno_durable::ExecutionScope {
    dalsegno_durable::ExecutionScope::process(name)
}

fn intended(name: &str, key: &str) -> (Entry, EffectRecord) {
    let record = intent(&run(name), key, 1);
    (Entry::Intended { scope: run(name), record: record.clone() }, record)
}

fn changed(name: &str, record: &EffectRecord, change: impl FnOnce(&mut EffectRecord)) -> Entry {
    let mut record = record.clone();
    change(&mut record);
    Entry::Changed { scope: run(name), replay_key: record.replay_key, state: record.state }
}

fn end(record: &mut EffectRecord) {
    record.state.end(1, Timestamp(9), Outcome::Done(json!(record.replay_key)), None);
}

#[tokio::test]
async fn entries_are_there_when_their_batch_is_and_stand_beside_others() {
    let dir = tempfile::tempdir().unwrap();
    let opened = open(dir.path());
    let (first, a) = intended("run-1", "a");
    let (second, b) = intended("run-1", "b");
    opened.journal.submit_with(plain_batch(1, 1, 1), vec![first, second]).await.unwrap().await.unwrap();

    // A tool of the same run writes under a lease of its own, and neither takes anything from the other.
    let host = StoredHost::new(Arc::new(opened.durable));
    let scope = host.scoped(run("run-1")).await.unwrap();
    scope.step("tool/1", &1, || async { Ok::<i32, EffectError>(7) }).await.unwrap();
    let entries = vec![changed("run-1", &a, end)];
    opened.journal.submit_with(plain_batch(1, 2, 2), entries).await.unwrap().await.unwrap();
    scope.step("tool/2", &2, || async { Ok::<i32, EffectError>(8) }).await.unwrap();

    // A batch that is refused leaves none of its entries.
    let refused = opened.journal.submit_with(plain_batch(1, 9, 9), vec![intended("run-1", "never").0]).await.unwrap();
    assert!(refused.await.is_err());
    let rows = opened.store.effects("run-1", 0, 10).unwrap();
    let keys: Vec<&str> = rows.iter().map(|row| row.record.replay_key.as_str()).collect();
    assert_eq!(keys, ["a", "b", "tool/1", "tool/2"]);
    assert!(
        matches!(&rows[0].record.state.progress, Progress::Ended { outcome: Outcome::Done(value), .. } if value == "a")
    );
    assert_eq!(rows[1].record.state.progress, Progress::Open);
    let after = opened.store.effects("run-1", rows[1].place, 1).unwrap();
    assert_eq!(after.len(), 1);
    assert_eq!(after[0].record.replay_key, "tool/1");
    assert_eq!(opened.store.effects("run-9", 0, 10).unwrap(), []);
    drop(scope);
    drop((host, opened.journal, opened.store));

    // The next daemon goes on with what is open, under its epoch, and ends the scope.
    let opened = open(dir.path());
    let again = Entry::Intended {
        scope: run("run-1"),
        record: {
            let mut record = b.clone();
            record.state.again(2);
            record
        },
    };
    opened.journal.submit_with(plain_batch(2, 3, 3), vec![again]).await.unwrap().await.unwrap();
    let rows = opened.store.effects("run-1", 0, 10).unwrap();
    assert_eq!((rows.len(), rows[1].record.state.attempt, rows[1].record.state.epoch), (4, 2, 2));
    let over = vec![changed("run-1", &b, end), Entry::Ended { scope: run("run-1"), at: Timestamp(10) }];
    opened.journal.submit_with(plain_batch(2, 4, 4), over).await.unwrap().await.unwrap();
    let host = StoredHost::new(Arc::new(opened.durable));
    let scope = host.scoped(run("run-1")).await.unwrap();
    assert_eq!(scope.step("tool/1", &1, || async { Ok::<i32, EffectError>(0) }).await.unwrap(), 7);
    let late = scope.step("tool/3", &3, || async { Ok::<i32, EffectError>(0) }).await.unwrap_err();
    assert_eq!(late.code(), "scope_ended");
}

#[tokio::test]
async fn an_entry_that_does_not_fit_holds_up_neither_its_batch_nor_others() {
    let dir = tempfile::tempdir().unwrap();
    let opened = open(dir.path());
    let (_, unknown) = intended("run-1", "unknown");
    let (fine, _) = intended("run-2", "fine");
    let entries = vec![changed("run-1", &unknown, end), fine, Entry::Ended { scope: run("run-3"), at: Timestamp(1) }];
    opened.journal.submit_with(plain_batch(1, 1, 1), entries).await.unwrap().await.unwrap();
    assert_eq!(opened.store.effects("run-1", 0, 10).unwrap(), []);
    assert_eq!(opened.store.effects("run-2", 0, 10).unwrap().len(), 1);
}

/// A run of many effects costs what they cost: none is looked for among all that were before.
#[tokio::test]
async fn effects_of_a_long_run_cost_the_same_at_its_end() {
    const EFFECTS: u64 = 6_000;
    let dir = tempfile::tempdir().unwrap();
    let opened = open(dir.path());
    let mut took = Vec::new();
    for half in 0..2 {
        let began = std::time::Instant::now();
        let entries = (0..EFFECTS).flat_map(|number| {
            let (intended, record) = intended("run-1", &format!("{half}/{number}"));
            [intended, changed("run-1", &record, end)]
        });
        opened.journal.submit_with(plain_batch(1, half + 1, half + 1), entries.collect()).await.unwrap().await.unwrap();
        took.push(began.elapsed());
    }
    assert!(took[1] < took[0] * 2 + std::time::Duration::from_millis(500), "{took:?}");
}
