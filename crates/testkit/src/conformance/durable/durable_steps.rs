//! Steps, sleeps, retries.

use std::time::Duration;

use dalsegno_durable::{EffectError, Progress, Retry};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::HostFixture;
use super::scene::{Act, Executor, a_moment, code, direct, open, record, turn};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Report {
    lines: u64,
    words: Vec<String>,
}

/// A step's value, typed, is told again after a restart; the closure runs once.
pub async fn step_success(fixture: &dyn HostFixture) {
    let report = || Report { lines: u64::MAX, words: vec!["größe".into(), "\u{1f600}\n".into()] };
    {
        let host = fixture.host();
        let scope = open(&host, turn("1")).await;
        assert_eq!(scope.step("count", "text", || async { Ok(report()) }).await.unwrap(), report());
        let again = scope.step("count", "text", || async { Ok(Report { lines: 0, words: vec![] }) }).await;
        assert_eq!(again.unwrap(), report());
    }
    fixture.reopen().await;
    let host = fixture.host();
    let scope = open(&host, turn("1")).await;
    let again = scope.step("count", "text", || async { Ok(Report { lines: 0, words: vec![] }) }).await;
    assert_eq!(again.unwrap(), report());
}

/// A step's failure is recorded: the same error, the same code, and nothing runs.
pub async fn step_error(fixture: &dyn HostFixture) {
    let failure = || EffectError::permanent("no_such_file", "there is no file a.txt");
    let ran = std::sync::atomic::AtomicUsize::new(0);
    for _ in 0..3 {
        {
            let host = fixture.host();
            let scope = open(&host, turn("1")).await;
            let told = scope.step("read", "a.txt", || async {
                ran.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                Err::<u64, _>(failure())
            });
            let Err(dalsegno_durable::DurableError::Effect(error)) = told.await else { panic!("it was to fail") };
            assert_eq!(error, failure());
        }
        fixture.reopen().await;
    }
    assert_eq!(ran.into_inner(), 1);
}

/// Another input under the same name is another step, and is refused; the order of an input's fields is none of its content.
pub async fn step_input_in_hash(fixture: &dyn HostFixture) {
    let host = fixture.host();
    let scope = open(&host, turn("1")).await;
    let step = async |input: serde_json::Value| scope.step("s", &input, || async { Ok(1) }).await;
    assert_eq!(step(json!({"a": 1, "b": [1, {"x": 1, "y": 2}]})).await.unwrap(), 1);
    assert_eq!(step(json!({"b": [1, {"y": 2, "x": 1}], "a": 1})).await.unwrap(), 1);
    for other in [
        json!({"a": 2, "b": [1, {"x": 1, "y": 2}]}),
        json!({"a": 1, "b": [{"x": 1, "y": 2}, 1]}),
        json!({"a": 1, "b": [1, {"x": 1}]}),
        json!({"a": "1", "b": [1, {"x": 1, "y": 2}]}),
        json!(null),
    ] {
        assert_eq!(code(step(other).await), "replay_mismatch");
    }
}

/// A value of another type than was recorded is said to be that, and not run again.
pub async fn step_of_another_type_is_unreadable(fixture: &dyn HostFixture) {
    let host = fixture.host();
    let scope = open(&host, turn("1")).await;
    scope.step("s", &1, || async { Ok("text".to_owned()) }).await.unwrap();
    let told = scope.step("s", &1, || async { Ok(5_u64) }).await;
    assert_eq!(code(told), "recorded_outcome_unreadable");
}

/// A sleep ends when it is due, and a replay does not sleep.
pub async fn sleep_is_due_once(fixture: &dyn HostFixture) {
    let (host, clock) = (fixture.host(), fixture.clock());
    let scope = open(&host, turn("1")).await;
    let passes = async {
        clock.asleep(1).await;
        clock.advance(Duration::from_millis(9_999));
        a_moment().await;
        assert_eq!(clock.sleepers(), 1, "not before its time");
        clock.advance(Duration::from_millis(1));
    };
    let (slept, ()) = tokio::join!(scope.sleep("nap", Duration::from_secs(10)), passes);
    slept.unwrap();
    scope.sleep("nap", Duration::from_secs(10)).await.unwrap();
    assert_eq!(code(scope.sleep("nap", Duration::from_secs(11)).await), "replay_mismatch");
}

/// After a restart the rest is slept, not the whole; one that was over meanwhile ends at once.
pub async fn sleep_resumes_the_rest(fixture: &dyn HostFixture) {
    let clock = fixture.clock();
    let cut = async |name: &str, seconds: u64| {
        let host = fixture.host();
        let scope = open(&host, turn("1")).await;
        let due = scope.controller().now().after(Duration::from_secs(seconds));
        tokio::select! {
            slept = scope.sleep(name, Duration::from_secs(seconds)) => panic!("{slept:?}"),
            () = clock.asleep(1) => {}
        }
        assert_eq!(record(&scope, name).await.unwrap().state.due_at, Some(due));
    };
    cut("long", 100).await;
    cut("short", 50).await;
    clock.advance(Duration::from_secs(60));
    fixture.reopen().await;
    let host = fixture.host();
    let scope = open(&host, turn("1")).await;
    scope.sleep("short", Duration::from_secs(50)).await.unwrap();
    let passes = async {
        clock.asleep(1).await;
        clock.advance(Duration::from_secs(39));
        a_moment().await;
        assert_eq!(clock.sleepers(), 1, "not before its time");
        clock.advance(Duration::from_secs(1));
    };
    let (slept, ()) = tokio::join!(scope.sleep("long", Duration::from_secs(100)), passes);
    slept.unwrap();
}

fn retry() -> Retry {
    Retry { attempts: 3, base: Duration::from_secs(10), cap: Duration::from_secs(15) }
}

fn busy() -> Act {
    Act::Fail(EffectError::retryable("busy", "try again"))
}

/// A retryable failure is tried again under the policy, after its pause, with the same key; each attempt is recorded.
pub async fn retries_are_recorded(fixture: &dyn HostFixture) {
    let (host, clock) = (fixture.host(), fixture.clock());
    let scope = open(&host, turn("1")).await;
    let executor = Executor::new([busy(), busy(), Act::Answer(json!("done"))]);
    let began = scope.controller().now();
    let passes = async {
        for pause in [10, 15] {
            clock.asleep(1).await;
            clock.advance(Duration::from_secs(pause - 1));
            a_moment().await;
            assert_eq!(clock.sleepers(), 1, "not before its time");
            clock.advance(Duration::from_secs(1));
        }
    };
    let run = scope.effect("k", direct(1)).retry(retry()).run(|call| executor.run(call));
    let (told, ()) = tokio::join!(run, passes);
    assert_eq!(told.unwrap(), json!("done"));
    let attempts: Vec<u32> = executor.calls().iter().map(|call| call.attempt).collect();
    assert_eq!(attempts, [1, 2, 3]);
    let keys = executor.keys();
    assert!(keys.iter().all(|key| *key == keys[0]), "an attempt is no part of the key: {keys:?}");
    let state = record(&scope, "k").await.unwrap().state;
    let failures: Vec<(u32, i64, &str)> = state
        .failures
        .iter()
        .map(|failure| (failure.attempt, failure.at.0 - began.0, failure.error.code.as_str()))
        .collect();
    assert_eq!(failures, [(1, 0, "busy"), (2, 10_000, "busy")]);
    assert_eq!((state.generation, state.attempt, state.doubts), (1, 3, 0));
}

/// The pause before the next attempt is recorded as well: a restart neither cuts it short nor begins it anew.
pub async fn retry_pause_survives_reopen(fixture: &dyn HostFixture) {
    let clock = fixture.clock();
    let executor = Executor::new([busy(), Act::Answer(json!("done"))]);
    {
        let host = fixture.host();
        let scope = open(&host, turn("1")).await;
        tokio::select! {
            told = scope.effect("k", direct(1)).retry(retry()).run(|call| executor.run(call)) => panic!("{told:?}"),
            () = clock.asleep(1) => {}
        }
        let state = record(&scope, "k").await.unwrap().state;
        assert_eq!((&state.progress, state.failures.len()), (&Progress::Resting, 1));
    }
    clock.advance(Duration::from_secs(6));
    fixture.reopen().await;
    let host = fixture.host();
    let scope = open(&host, turn("1")).await;
    let passes = async {
        clock.asleep(1).await;
        clock.advance(Duration::from_secs(3));
        a_moment().await;
        assert_eq!((clock.sleepers(), executor.count()), (1, 1), "not before its time");
        clock.advance(Duration::from_secs(1));
    };
    let run = scope.effect("k", direct(1)).retry(retry()).run(|call| executor.run(call));
    let (told, ()) = tokio::join!(run, passes);
    assert_eq!(told.unwrap(), json!("done"));
    let keys = executor.keys();
    assert_eq!((keys.len(), &keys[0]), (2, &keys[1]));
    assert_eq!(executor.calls()[1].attempt, 2);
}

/// When the policy gives no attempt more, the failure is the outcome, and stays.
pub async fn retries_exhausted_are_a_failure(fixture: &dyn HostFixture) {
    let executor = Executor::new([busy(), busy()]);
    let retry = Retry { attempts: 2, base: Duration::ZERO, cap: Duration::ZERO };
    for _ in 0..2 {
        {
            let host = fixture.host();
            let scope = open(&host, turn("1")).await;
            let told = scope.effect("k", direct(1)).retry(retry).run(|call| executor.run(call)).await;
            assert_eq!(code(told.map(|told: serde_json::Value| told)), "busy");
            assert_eq!(record(&scope, "k").await.unwrap().state.failures.len(), 2);
        }
        fixture.reopen().await;
    }
    assert_eq!(executor.count(), 2);
}

/// An output that is too large to be kept is a failure that says that it took place; the same at each replay.
pub async fn output_too_large_is_a_failure(fixture: &dyn HostFixture) {
    let executor = Executor::once("x".repeat(dalsegno_durable::record::OUTPUT_BYTES));
    for _ in 0..2 {
        {
            let host = fixture.host();
            let scope = open(&host, turn("1")).await;
            let told = scope.effect("k", direct(1)).run(|call| executor.run(call)).await;
            assert_eq!(code(told.map(|told: serde_json::Value| told)), "output_too_large");
        }
        fixture.reopen().await;
    }
}
