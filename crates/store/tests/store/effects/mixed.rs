//! Journal and effects by one writer: one transaction, one sync, and a refusal concerns nobody else.

use dalsegno_durable::store::{StoreError, Write};
use dalsegno_durable::{Claim, DurableStore};
use dalsegno_engine::AppendError;

use super::{done, intent, scope};
use crate::support::{numbers, open, plain_batch, raw};

#[tokio::test]
async fn a_group_shares_a_sync_and_a_refused_job_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let opened = open(dir.path());
    let (journal, durable) = (&opened.journal, &opened.durable);
    let lease = durable.open(&scope("1"), Claim::IfFree).await.unwrap().lease;
    let old = durable.open(&scope("2"), Claim::IfFree).await.unwrap().lease;
    durable.open(&scope("2"), Claim::IfFree).await.unwrap();
    let commits = journal.counts().commits;

    // The writer is held up at its first job, and all others become one group.
    let other = raw(dir.path());
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let first = journal.submit(plain_batch(1, 1, 2)).await.unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    let record = intent(&scope("1"), "a", 1);
    let (good, bad, stale, again, twice, end) = tokio::join!(
        journal.submit(plain_batch(1, 3, 4)),
        journal.submit(plain_batch(1, 9, 9)),
        async {
            let (good, stale, twice) = tokio::join!(
                durable.write(lease, Write::Intend(record.clone())),
                durable.write(old, Write::Intend(intent(&scope("2"), "a", 1))),
                durable.write(lease, Write::Intend(record.clone())),
            );
            (good, stale, twice)
        },
        journal.submit(plain_batch(1, 5, 5)),
        durable.load(lease),
        async {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            other.execute_batch("COMMIT").unwrap();
        },
    );
    let ((), loaded) = (end, twice.unwrap());
    let (written, stale, twice) = stale;
    let place = written.unwrap();
    assert_eq!(stale.unwrap_err(), StoreError::LeaseLost { current: 2 });
    assert!(matches!(twice, Err(StoreError::Failed(_))));
    assert_eq!(loaded.effects.len(), 1, "a read sees what was asked for before it");
    first.await.unwrap();
    good.unwrap().await.unwrap();
    assert_eq!(bad.unwrap().await.unwrap_err(), AppendError::UnexpectedSequence { expected: 5, found: 9 });
    again.unwrap().await.unwrap();
    assert_eq!(journal.counts().commits, commits + 2, "the first job, and the group");

    durable.write(lease, Write::Change(place, done(&record, 1))).await.unwrap();
    drop((opened.journal, opened.store));
    let again = open(dir.path());
    assert_eq!(numbers(&again.loaded.events), [1, 2, 3, 4, 5]);
    let reopened = again.durable.open(&scope("1"), Claim::IfFree).await.unwrap();
    assert_eq!(reopened.effects.len(), 1);
    assert_eq!(reopened.effects[0].1.state, done(&record, 1));
    assert_eq!(again.durable.open(&scope("2"), Claim::IfFree).await.unwrap().effects.len(), 0);
}

#[tokio::test]
async fn a_group_of_refusals_needs_no_sync() {
    let dir = tempfile::tempdir().unwrap();
    let opened = open(dir.path());
    let lease = opened.durable.open(&scope("1"), Claim::IfFree).await.unwrap().lease;
    let commits = opened.journal.counts().commits;
    opened.durable.load(lease).await.unwrap();
    opened.durable.wait_cursor().await.unwrap();
    let stale = dalsegno_durable::store::Lease { epoch: 9, ..lease };
    assert!(opened.durable.load(stale).await.is_err());
    assert_eq!(opened.journal.counts().commits, commits);
}
