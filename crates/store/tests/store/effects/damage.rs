//! Rows that are not what was written: told as such, by nobody's panic, and without what they hold.

use dalsegno_durable::store::{StoreError, Write};
use dalsegno_durable::{Claim, DurableStore, Timestamp};

use super::{address, answer, done, intend, intent, raw, scope, store};

async fn refusal(sql: &str) -> String {
    let dir = tempfile::tempdir().unwrap();
    let first = store(dir.path());
    let scope = scope("1");
    let lease = first.open(&scope, Claim::IfFree).await.unwrap().lease;
    let mut places = Vec::new();
    for key in ["a", "b", "c"] {
        let record = intent(&scope, key, 1);
        let place = intend(&first, lease, &record).await.unwrap();
        first.write(lease, Write::Change(place, done(&record, 4_711))).await.unwrap();
        places.push(place);
    }
    raw(dir.path()).execute_batch(sql).unwrap();
    let error = first.load(lease).await.unwrap_err();
    assert!(matches!(error, StoreError::Failed(_)), "{error:?}");
    let taken = store(dir.path()).open(&scope, Claim::TakeOver).await.unwrap_err();
    assert_eq!(error, taken);
    // Others are served.
    first.open(&super::scope("2"), Claim::IfFree).await.unwrap();
    error.to_string()
}

#[tokio::test]
async fn a_damaged_record_is_told_by_its_place() {
    for (sql, words) in [
        ("UPDATE outcomes SET state = '{\"secret\": 4711' WHERE place = 2", "its state is unreadable"),
        ("UPDATE outcomes SET state = '{\"generation\":\"4711\"}' WHERE place = 2", "its state is unreadable"),
        ("UPDATE outcomes SET state = CAST(x'ff' AS TEXT) WHERE place = 2", "damaged"),
        ("UPDATE effects SET kind = 'miracle' WHERE place = 2", "its kind is unknown"),
        ("UPDATE effects SET hash = x'00' WHERE place = 2", "its hash"),
        ("UPDATE effects SET scope = 7 WHERE place = 2", "not where its scope has it"),
        ("UPDATE effects SET previous = 3 WHERE place = 2", "not where its scope has it"),
        ("DELETE FROM effects WHERE place = 2", "not where its scope has it"),
        ("UPDATE effects SET replay_key = 'a' WHERE place = 2", "another one has its replay key"),
    ] {
        let told = refusal(sql).await;
        assert!(told.contains(words), "{sql}: {told}");
        assert!(!told.contains("4711"), "{sql}: {told}");
    }
}

#[tokio::test]
async fn a_damaged_wait_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    store.open(&scope("1"), Claim::IfFree).await.unwrap();
    let wait = address("1", "w");
    store.resolve(&wait, answer(4_711), Timestamp(1)).await.unwrap();
    raw(dir.path()).execute("UPDATE waits SET terminal = '{\"end\":\"4711\"}'", []).unwrap();
    for error in [
        store.peek(&wait, Timestamp(2)).await.unwrap_err(),
        store.resolve(&wait, answer(1), Timestamp(2)).await.unwrap_err(),
    ] {
        assert!(error.to_string().contains("a wait is damaged") && !error.to_string().contains("4711"), "{error}");
    }
    // It does not hold up the ends of others.
    store.resolve(&address("1", "other"), answer(1), Timestamp(1)).await.unwrap();
    let page = store.waits_ended_after(0).await.unwrap();
    assert_eq!((page.gap, page.changes.len(), page.next), (true, 1, 2));
}
