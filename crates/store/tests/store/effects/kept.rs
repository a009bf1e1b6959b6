//! What is there when a database is opened again.

use std::sync::Arc;
use std::time::Duration;

use dalsegno_durable::key::marker;
use dalsegno_durable::store::Write;
use dalsegno_durable::{
    Claim, Command, DurableStore, EffectError, EffectHost, InDoubt, Progress, Resolved, Retry, Settled, Settlement,
    Timestamp,
};
use dalsegno_store::{DurableOptions, SqliteDurable};
use serde_json::json;
use std::os::unix::fs::PermissionsExt;

use super::{address, answer, count, database, done, host, intend, intent, raw, scope, step, store};

#[tokio::test]
async fn effects_errors_waits_and_the_secret_outlive_the_store() {
    let dir = tempfile::tempdir().unwrap();
    let first = Arc::new(store(dir.path()));
    let (key, mark) = {
        let host = host(&first);
        let turn = host.scoped(scope("1")).await.unwrap();
        assert_eq!(step(&turn, "a", 7).await, 7);
        let failing = || async { Err::<u64, _>(EffectError::permanent("no_such_file", "it is not there")) };
        assert_eq!(turn.step("b", "x", failing).await.unwrap_err().code(), "no_such_file");
        let retried = turn
            .effect("c", Command::External { system: "s".into(), request: json!({}) })
            .in_doubt(InDoubt::SameKey)
            .retry(Retry { attempts: 2, base: Duration::ZERO, cap: Duration::ZERO })
            .run(|call| async move {
                if call.attempt == 1 { Err(EffectError::retryable("busy", "later")) } else { Ok(call.idempotency_key) }
            })
            .await
            .unwrap();
        assert_eq!(retried.len(), 32);
        let parked = turn
            .effect("d", Command::External { system: "s".into(), request: json!({}) })
            .in_doubt(InDoubt::Park)
            .run(|_| async { Err::<(), _>(EffectError::unknown("lost", "no answer")) })
            .await;
        assert_eq!(parked.unwrap_err().code(), "in_doubt");
        let key = turn.wait_key("approve").unwrap();
        assert_eq!(host.resolve(&key, answer(5)).await.unwrap(), Resolved::Accepted);
        (key, marker(first.secret(), "m"))
    };
    let before = first.open(&scope("1"), Claim::IfFree).await.unwrap();
    first.close();

    let again = Arc::new(store(dir.path()));
    assert_eq!(marker(again.secret(), "m"), mark, "another secret");
    let opened = again.open(&scope("1"), Claim::IfFree).await.unwrap();
    assert!(opened.effects == before.effects, "what is read is not what was written");
    assert_eq!(opened.lease.epoch, before.lease.epoch + 1);
    let retried = &opened.effects[2].1.state;
    assert_eq!((retried.attempt, retried.failures.len()), (2, 1));
    assert!(matches!(opened.effects[3].1.state.progress, Progress::Parked { .. }));

    let host = host(&again);
    let turn = host.scoped(scope("1")).await.unwrap();
    assert_eq!(step(&turn, "a", 8).await, 7);
    let not_run = || async { Ok::<u64, EffectError>(1) };
    assert_eq!(turn.step("b", "x", not_run).await.unwrap_err().code(), "no_such_file");
    let who = Settled { by: "ann".into(), why: "it is in the log".into() };
    turn.controller().settle("d", Settlement::Applied(json!(null)), who).await.unwrap();
    assert_eq!(host.resolve(&key, answer(6)).await.unwrap(), Resolved::AlreadyResolved { terminal: answer(5) });
    assert_eq!(turn.wait(&key).await.unwrap(), answer(5));
}

#[tokio::test]
async fn an_intent_without_its_outcome_is_there_and_in_place() {
    let dir = tempfile::tempdir().unwrap();
    let first = store(dir.path());
    let scope = scope("1");
    let lease = first.open(&scope, Claim::IfFree).await.unwrap().lease;
    let records: Vec<_> = (0..5).map(|number| intent(&scope, &format!("e{number}"), lease.epoch)).collect();
    let mut places = Vec::new();
    for record in &records {
        places.push(intend(&first, lease, record).await.unwrap());
    }
    let mut resting = records[1].state.clone();
    resting.rest(lease.epoch, Timestamp(5), Timestamp(6), EffectError::retryable("busy", "later"));
    first.write(lease, Write::Change(places[1], resting.clone())).await.unwrap();
    resting.again(lease.epoch);
    first.write(lease, Write::Change(places[1], resting.clone())).await.unwrap();
    first.write(lease, Write::Change(places[3], done(&records[3], 3))).await.unwrap();
    // One that comes with more than an intent usually has.
    let mut odd = intent(&scope, "odd", lease.epoch);
    odd.state.generation = 3;
    places.push(intend(&first, lease, &odd).await.unwrap());
    drop(first);

    let again = store(dir.path());
    let opened = again.open(&scope, Claim::IfFree).await.unwrap();
    let found: Vec<_> = opened.effects.iter().map(|(place, _)| *place).collect();
    assert_eq!(found, places);
    let mut expected = records.clone();
    expected[1].state = resting;
    expected[3].state = done(&records[3], 3);
    expected.push(odd);
    let found: Vec<_> = opened.effects.into_iter().map(|(_, record)| record).collect();
    assert!(found == expected);
}

#[tokio::test]
async fn a_load_comes_behind_what_was_asked_before() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    let scope = scope("1");
    let lease = store.open(&scope, Claim::IfFree).await.unwrap().lease;
    for number in 0..50 {
        let record = intent(&scope, &format!("e{number}"), lease.epoch);
        {
            // Its answer is never waited for.
            let mut write = std::pin::pin!(store.write(lease, Write::Intend(record)));
            assert!(poll_once(write.as_mut()).await.is_none());
        }
        assert_eq!(store.load(lease).await.unwrap().effects.len(), number + 1);
    }
}

/// Polls once.
async fn poll_once<T>(future: std::pin::Pin<&mut (impl Future<Output = T> + ?Sized)>) -> Option<T> {
    let mut future = Some(future);
    std::future::poll_fn(move |cx| {
        let polled = future.take().map(|future| future.poll(cx));
        std::task::Poll::Ready(match polled {
            Some(std::task::Poll::Ready(value)) => Some(value),
            Some(std::task::Poll::Pending) | None => None,
        })
    })
    .await
}

#[tokio::test]
async fn only_the_owner_can_read_what_is_made_and_nothing_is_left_of_who_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let first = store(dir.path());
    let second = store(dir.path());
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let owners = dir.path().join("effects.db.owners");
    assert_eq!((mode(&database(dir.path())), mode(&owners)), (0o600, 0o700));
    let files = || std::fs::read_dir(&owners).unwrap().map(|entry| mode(&entry.unwrap().path())).collect::<Vec<_>>();
    assert_eq!(files(), [0o600; 3], "one for each owner, and the one for openings");
    drop((first, second));
    assert_eq!(files(), [0o600]);
}

#[tokio::test]
async fn a_full_disk_poisons_and_nothing_is_half_there() {
    let dir = tempfile::tempdir().unwrap();
    let small = DurableOptions { max_pages: Some(60), ..DurableOptions::default() };
    let full = SqliteDurable::open_with(&database(dir.path()), &small).unwrap();
    let scope = scope("1");
    let lease = full.open(&scope, Claim::IfFree).await.unwrap().lease;
    let mut acknowledged = 0;
    let large = |number: u32| {
        let mut record = intent(&scope, &format!("e{number}"), lease.epoch);
        record.content = Some("x".repeat(20_000));
        record
    };
    let error = loop {
        match intend(&full, lease, &large(acknowledged)).await {
            Ok(_) => acknowledged += 1,
            Err(error) => break error,
        }
        assert!(acknowledged < 100, "the disk never gets full");
    };
    assert!(error.to_string().contains("disk_full"), "{error}");
    let later = full.load(lease).await.unwrap_err();
    assert!(later.to_string().contains("disk_full"), "{later}");
    drop(full);
    assert_eq!(count(dir.path(), "effects"), u64::from(acknowledged));
    let again = store(dir.path());
    let opened = again.open(&scope, Claim::IfFree).await.unwrap();
    assert_eq!(opened.effects.len(), acknowledged as usize);
}

#[tokio::test]
async fn a_closed_store_answers_that_it_is_closed() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    store.close();
    let error = store.open(&scope("1"), Claim::IfFree).await.unwrap_err();
    assert!(error.to_string().contains("closed"), "{error}");
    // One beside a journal ends with it.
    let daemon = tempfile::tempdir().unwrap();
    let opened = crate::support::open(daemon.path());
    let durable = opened.durable;
    let lease = durable.open(&scope("1"), Claim::IfFree).await.unwrap().lease;
    drop(opened.journal);
    assert!(durable.load(lease).await.is_err());
}

#[test]
fn databases_of_a_daemon_and_of_effects_alone_are_not_taken_for_each_other() {
    let dir = tempfile::tempdir().unwrap();
    drop(crate::support::open(dir.path()));
    let error = SqliteDurable::open(&dir.path().join("dalsegno.db")).unwrap_err();
    assert_eq!(error.code(), "corrupt_database");
    let other = tempfile::tempdir().unwrap();
    drop(store(other.path()));
    std::fs::rename(database(other.path()), other.path().join("dalsegno.db")).unwrap();
    let error = dalsegno_store::Store::open(other.path(), dalsegno_store::OpenOptions::default()).unwrap_err();
    assert_eq!(error.code(), "corrupt_database");
}

#[test]
fn a_newer_database_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    drop(store(dir.path()));
    raw(dir.path()).pragma_update(None, "user_version", 2).unwrap();
    assert_eq!(SqliteDurable::open(&database(dir.path())).unwrap_err().code(), "future_schema");
}

#[tokio::test]
async fn ends_of_waits_are_listed_and_a_gap_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    let lease = store.open(&scope("1"), Claim::IfFree).await.unwrap().lease;
    let start = store.wait_cursor().await.unwrap();
    let now = Timestamp(10);
    for number in 0..3 {
        store.register(&address("1", &format!("w{number}")), None, now).await.unwrap();
    }
    store.resolve(&address("1", "w1"), answer(1), now).await.unwrap();
    store.register(&address("1", "late"), Some(Timestamp(9)), now).await.unwrap();
    store.end(lease, now).await.unwrap();
    let page = store.waits_ended_after(start).await.unwrap();
    let told: Vec<_> = page
        .changes
        .iter()
        .map(|end| format!("{} {}", end.address.identity, serde_json::json!(end.terminal)["end"]))
        .collect();
    assert_eq!(told, ["w1 \"resolved\"", "late \"resolved\"", "w0 \"scope_ended\"", "w2 \"scope_ended\""]);
    assert_eq!((page.gap, page.next), (false, store.wait_cursor().await.unwrap()));
    assert_eq!(store.waits_ended_after(page.next).await.unwrap().changes, []);

    // Long after: the list has begun to lose its oldest.
    let fill = "WITH RECURSIVE n(i) AS (SELECT 5 UNION ALL SELECT i + 1 FROM n WHERE i < 66000)
                INSERT INTO wait_ends SELECT i, '[\"process\",\"p\"]', 'w', '{\"end\":\"revoked\"}' FROM n";
    raw(dir.path()).execute_batch(fill).unwrap();
    store.open(&scope("2"), Claim::IfFree).await.unwrap();
    for number in 0..256 {
        store.resolve(&address("2", &format!("w{number}")), answer(number), now).await.unwrap();
    }
    let kept = count(dir.path(), "wait_ends");
    assert!((65_536..65_536 + 256).contains(&kept), "{kept} ends are kept");
    let page = store.waits_ended_after(start).await.unwrap();
    assert!(page.gap && page.changes.len() == 1_024, "{} {}", page.gap, page.changes.len());
    assert!(!store.waits_ended_after(page.next).await.unwrap().gap);
    let last = store.waits_ended_after(66_255).await.unwrap();
    assert_eq!((last.changes.len(), last.changes[0].address.clone()), (1, address("2", "w255")));
}
