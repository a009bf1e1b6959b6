//! What is recorded is told again, and to no other question.

use std::time::{Duration, Instant};

use dalsegno_durable::mismatch::NAMED_PATHS;
use dalsegno_durable::{Command, DurableError, EffectError, Fingerprint, InDoubt, Mismatch, key::Secret};
use serde_json::{Value, json};

use super::HostFixture;
use super::scene::{Act, Executor, code, direct, faults_of, open, record, turn};
use crate::durable::StoreCall;

/// A success is told again, in the same process and in the next, and nothing runs.
pub async fn replay_of_success_calls_nothing(fixture: &dyn HostFixture) {
    replayed(fixture, Act::Answer(json!({"n": 18_446_744_073_709_551_615_u64, "f": 0.1, "ü": [null, true]}))).await;
}

/// So is a failure, as the same error with the same code.
pub async fn replay_of_error_calls_nothing(fixture: &dyn HostFixture) {
    replayed(fixture, Act::Fail(EffectError::permanent("refused", "not for you"))).await;
}

async fn replayed(fixture: &dyn HostFixture, act: Act) {
    let executor = Executor::new([act.clone()]);
    for _ in 0..3 {
        {
            let host = fixture.host();
            let scope = open(&host, turn("1")).await;
            for _ in 0..2 {
                let told: Result<Value, _> = scope.effect("k", direct(1)).run(|call| executor.run(call)).await;
                match (&act, told) {
                    (Act::Answer(output), Ok(told)) => assert_eq!(told, *output),
                    (Act::Fail(error), Err(DurableError::Effect(told))) => assert_eq!(told, *error),
                    (_, told) => panic!("{told:?}"),
                }
            }
        }
        fixture.reopen().await;
    }
    assert_eq!(executor.count(), 1);
}

/// A scope that is open is replayed without a call of the store.
pub async fn replay_touches_no_store(fixture: &dyn HostFixture) {
    let Some(faults) = faults_of(fixture) else { return };
    let host = fixture.host();
    let scope = open(&host, turn("1")).await;
    let step = async |name: &str| scope.step(name, &1, || async { Ok(1) }).await.unwrap();
    for name in ["a", "b", "c"] {
        step(name).await;
    }
    let before = faults.calls();
    for name in ["c", "a", "b", "a"] {
        step(name).await;
    }
    assert_eq!(faults.calls(), before);
}

/// Code that asks in another order than the first time is told the same.
pub async fn replay_in_another_order(fixture: &dyn HostFixture) {
    let names = ["a", "b", "c", "d", "e"];
    let order = [3, 0, 4, 2, 1];
    let executor = Executor::new(names.map(|name| Act::Answer(json!(name))));
    let ask = async |order: &[usize]| {
        let host = fixture.host();
        let scope = open(&host, turn("1")).await;
        for at in order {
            let told: Value = scope.effect(names[*at], direct(*at)).run(|call| executor.run(call)).await.unwrap();
            assert_eq!(told, names[*at]);
        }
    };
    ask(&[0, 1, 2, 3, 4]).await;
    ask(&order).await;
    fixture.reopen().await;
    ask(&order).await;
    fixture.reopen().await;
    // And one that is asked for only now is new, wherever it comes.
    let host = fixture.host();
    let scope = open(&host, turn("1")).await;
    assert_eq!(scope.step("between", &1, || async { Ok("new".to_owned()) }).await.unwrap(), "new");
    ask(&order).await;
    assert_eq!(executor.count(), names.len());
}

/// Where an effect came from is no part of what it is.
pub async fn replay_with_another_cause(fixture: &dyn HostFixture) {
    let host = fixture.host();
    let scope = open(&host, turn("1")).await;
    let executor = Executor::once(1);
    for cause in ["one", "two"] {
        let told: Value = scope.effect("k", direct(1)).caused_by(cause).run(|call| executor.run(call)).await.unwrap();
        assert_eq!(told, json!(1));
    }
    assert_eq!(executor.count(), 1);
}

fn mismatch(told: Result<Value, DurableError>) -> Mismatch {
    match told {
        Err(error @ DurableError::ReplayMismatch(_)) => {
            assert_eq!(error.code(), "replay_mismatch");
            let DurableError::ReplayMismatch(mismatch) = error else { unreachable!() };
            *mismatch
        }
        other => panic!("{other:?}"),
    }
}

/// The same key with other content: both hashes, how many paths differ, the first eight of them, and values on request alone;
/// secrets not even then. Nothing runs, and what was recorded stays.
pub async fn mismatch_diagnostics(fixture: &dyn HostFixture) {
    let secret = Secret::new([9; 32]);
    let input = |from: u64, token: &str| {
        let mut members: serde_json::Map<String, Value> =
            (0..12).map(|number| (format!("m{number:02}"), json!(from + number))).collect();
        members.insert("same".into(), json!("unchanged value"));
        members.insert("token".into(), json!(Fingerprint::of_secret(&secret, token.as_bytes())));
        Command::Direct { name: "do".into(), input: Value::Object(members) }
    };
    let executor = Executor::once("kept");
    for _ in 0..2 {
        {
            let host = fixture.host();
            let scope = open(&host, turn("1")).await;
            let ask = async |command: Command| scope.effect("k", command).run(|call| executor.run(call)).await;
            assert_eq!(ask(input(1_000, "hunter2")).await.unwrap(), json!("kept"));
            let found = mismatch(ask(input(5_000, "hunter3")).await);
            assert_eq!(found.replay_key, "k");
            assert_eq!(Some(found.recorded), record(&scope, "k").await.map(|record| record.hash));
            assert_ne!(found.recorded, found.given);
            assert_eq!(found.divergent, Some(13), "twelve members and a digest; what is the same is not counted");
            let paths: Vec<&str> = found.paths.iter().map(|at| at.path.as_str()).collect();
            assert_eq!(paths.len(), NAMED_PATHS);
            assert_eq!((paths[0], paths[7]), ("/command/input/m00", "/command/input/m07"));
            let text = found.to_string();
            assert!(text.contains(&found.recorded.to_string()) && text.contains(&found.given.to_string()), "{text}");
            assert!(!text.contains("5000") && !text.contains("1000"), "values are told on request alone: {text}");
            let values = found.with_values();
            assert!(values.contains("/command/input/m00: 1000 → 5000"), "{values}");
            assert!(!values.contains("hunter"), "{values}");
            let found = mismatch(ask(Command::Direct { name: "do".into(), input: json!(1) }).await);
            assert_eq!((found.divergent, found.paths[0].path.as_str()), (Some(1), "/command/input"));
            // Of another kind under the same key.
            let found = mismatch(ask(Command::Sleep { duration_ms: 1 }).await);
            assert!(found.paths.iter().any(|at| at.path == "/invocation/kind"), "{found:?}");
        }
        fixture.reopen().await;
    }
    assert_eq!(executor.count(), 1);
}

/// Other content than an intent's is refused like other content than an outcome's: the doubt stays what it was.
pub async fn mismatch_with_an_intent(fixture: &dyn HostFixture) {
    let executor = Executor::new([Act::Hang, Act::Answer(json!("done"))]);
    {
        let host = fixture.host();
        let scope = open(&host, turn("1")).await;
        tokio::select! {
            told = scope.effect("k", direct(1)).run::<Value, _, _>(|call| executor.run(call)) => panic!("{told:?}"),
            () = executor.entered() => {}
        }
    }
    for _ in 0..2 {
        {
            let host = fixture.host();
            let scope = open(&host, turn("1")).await;
            let other = scope.effect("k", direct(2)).in_doubt(InDoubt::Rerun).run(|call| executor.run(call)).await;
            assert_eq!(mismatch(other).divergent, Some(1));
        }
        fixture.reopen().await;
    }
    assert_eq!(executor.count(), 1);
    let host = fixture.host();
    let scope = open(&host, turn("1")).await;
    let told = scope.effect("k", direct(1)).in_doubt(InDoubt::Rerun).run(|call| executor.run(call)).await;
    assert_eq!(told.unwrap(), json!("done"));
}

/// Content that is too large to be kept is refused by its hash.
pub async fn mismatch_with_large_content(fixture: &dyn HostFixture) {
    let host = fixture.host();
    let scope = open(&host, turn("1")).await;
    let large = |last: &str| direct("x".repeat(dalsegno_durable::record::CONTENT_BYTES) + last);
    let executor = Executor::once(1);
    scope.effect("k", large("a")).run::<Value, _, _>(|call| executor.run(call)).await.unwrap();
    scope.effect("k", large("a")).run::<Value, _, _>(|call| executor.run(call)).await.unwrap();
    let found = mismatch(scope.effect("k", large("b")).run(|call| executor.run(call)).await);
    assert_eq!((found.divergent, found.paths.len()), (None, 0));
    let endless = scope.effect("j", direct("x".repeat(dalsegno_durable::envelope::COMMAND_BYTES)));
    assert_eq!(code(endless.run::<Value, _, _>(|call| executor.run(call)).await), "command_too_large");
    assert_eq!(executor.count(), 1);
}

/// A scope of ten times as many effects is opened with as many calls of the store, and in about ten times as long.
pub async fn ten_thousand_effects_reopen_in_linear_time(fixture: &dyn HostFixture) {
    // Linear is 10, quadratic is 100; a busy machine is somewhere between, so the best of several counts, and what is over in a
    // moment is not told apart from it.
    const GENEROUS: f64 = 45.0;
    const MOMENT: f64 = 5e-3;
    let mut took = Vec::new();
    for effects in [1_000_u32, 10_000] {
        let scope_of = || turn(&effects.to_string());
        {
            let host = fixture.host();
            let scope = open(&host, scope_of()).await;
            let made = (0..effects).map(|number| {
                let scope = &scope;
                async move { scope.step(&format!("step {number}"), &number, || async move { Ok(number) }).await }
            });
            let made = futures::future::join_all(made).await;
            assert!(made.into_iter().all(|made| made.is_ok()));
        }
        let mut best = Duration::MAX;
        for _ in 0..5 {
            fixture.reopen().await;
            let before = fixture.faults().map(|faults| faults.calls());
            let began = Instant::now();
            let host = fixture.host();
            let scope = open(&host, scope_of()).await;
            best = best.min(began.elapsed());
            assert_eq!(scope.controller().effects().await.unwrap().len(), usize::try_from(effects).unwrap());
            for number in [0, effects / 2, effects - 1] {
                let told = scope.step(&format!("step {number}"), &number, || async { Ok(u32::MAX) }).await;
                assert_eq!(told.unwrap(), number);
            }
            let calls = fixture.faults().map(|faults| faults.calls() - before.unwrap_or(0));
            assert!(calls.is_none_or(|calls| calls == 1), "one call opens a scope of {effects}, not {calls:?}");
            assert!(fixture.faults().is_none_or(|faults| faults.count(StoreCall::Load) == 0));
        }
        took.push(best.as_secs_f64());
    }
    assert!(took[1] < took[0].max(MOMENT) * GENEROUS, "1,000: {} s; 10,000: {} s", took[0], took[1]);
}
