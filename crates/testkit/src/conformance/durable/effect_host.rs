//! Scopes and the order of things: intent, execution, outcome, answer.

use std::time::Duration;

use dalsegno_durable::{
    Command, EffectKind, EffectPlan, ExecutionScope, InDoubt, Outcome, Progress, Retry, RuntimeScope, ToolRequest,
};
use futures::FutureExt;
use serde_json::{Value, json};

use super::HostFixture;
use super::scene::{Act, Executor, a_moment, code, direct, faults_of, open, owned, record, skipped, turn};
use crate::durable::{Moment, StoreCall};

fn every_scope() -> [ExecutionScope; 5] {
    [
        ExecutionScope::turn("session-1", "1"),
        ExecutionScope::process("1"),
        ExecutionScope::QueueDrain { session: "session-1".into(), drain: "1".into() },
        ExecutionScope::SessionDelete { session: "1".into() },
        ExecutionScope::operation("1"),
    ]
}

/// A controller reports the scope that it was opened with.
pub async fn scope_metadata_kept(fixture: &dyn HostFixture) {
    let host = fixture.host();
    for scope in every_scope() {
        let opened = host.scoped(scope.clone()).await.unwrap();
        assert_eq!(opened.scope(), &scope);
        assert_eq!(opened.controller().scope(), &scope);
        assert_eq!(opened.scope_id(), "1", "{scope}");
        let is_turn = matches!(scope, ExecutionScope::Turn { .. });
        assert_eq!(opened.turn_id(), is_turn.then_some("1"), "only a turn has a turn's id: {scope}");
        assert!(opened.controller().epoch() > 0);
    }
}

/// An empty id is refused with a stable code, before anything is asked of the store.
pub async fn missing_ids_refused(fixture: &dyn HostFixture) {
    let host = fixture.host();
    let before = fixture.faults().map(|faults| faults.calls());
    let drain =
        |session: &str, drain: &str| ExecutionScope::QueueDrain { session: session.into(), drain: drain.into() };
    for scope in [
        ExecutionScope::turn("", "1"),
        ExecutionScope::turn("session-1", ""),
        ExecutionScope::process(""),
        drain("", "1"),
        drain("session-1", ""),
        ExecutionScope::SessionDelete { session: String::new() },
        ExecutionScope::operation(""),
    ] {
        let expected = "missing_execution_scope_id";
        assert_eq!(code(host.scoped(scope.clone()).await), expected, "{scope:?}");
        assert_eq!(code(host.scoped_static(scope.clone()).await), expected, "{scope:?}");
        assert_eq!(code(host.take_over(scope.clone()).await), expected, "{scope:?}");
        assert_eq!(code(host.wait_key(&scope, "w")), expected, "{scope:?}");
    }
    assert_eq!(fixture.faults().map(|faults| faults.calls()), before);
    let scope = open(&host, turn("1")).await;
    let executor = Executor::never();
    assert_eq!(code(scope.wait_key("")), "missing_wait_identity");
    let told = scope.effect("", direct(1)).run(|call| executor.run(call)).await;
    assert_eq!(code(told), "missing_replay_key");
    let told = scope.effect("k", direct(1)).named("").run(|call| executor.run(call)).await;
    assert_eq!(code(told), "missing_effect_id");
    assert_eq!(executor.count(), 0);
}

/// So does one that a task of its own holds, and it works there.
pub async fn static_scope_keeps_metadata(fixture: &dyn HostFixture) {
    let host = fixture.host();
    for scope in every_scope() {
        let Some(opened) = host.scoped_static(scope.clone()).await.unwrap() else {
            skipped("this host hands out no scopes to tasks");
            return;
        };
        let told = tokio::spawn(async move {
            let told = opened.step("count", &3, || async { Ok(4) }).await.unwrap();
            (opened.scope().clone(), opened.scope_id().to_owned(), told)
        });
        assert_eq!(told.await.unwrap(), (scope, "1".to_owned(), 4));
    }
}

/// Whoever opens a scope twice at once has one scope and one epoch.
pub async fn scope_is_opened_once(fixture: &dyn HostFixture) {
    let host = fixture.host();
    let opened = futures::future::join_all((0..16).map(|_| host.scoped(turn("1")))).await;
    let epochs: Vec<u64> = opened.into_iter().map(|scope| scope.unwrap().controller().epoch()).collect();
    assert!(epochs.iter().all(|epoch| *epoch == epochs[0]), "{epochs:?}");
}

/// A host says whether what it records outlives the process; every instance says the same.
pub async fn durability_is_told(fixture: &dyn HostFixture) {
    assert_eq!(fixture.host().supports_durable_effects(), fixture.durable());
    assert_eq!(fixture.another().await.supports_durable_effects(), fixture.durable());
}

/// No executor runs while the store has not answered that the intent is there.
pub async fn intent_is_durable_before_the_executor_runs(fixture: &dyn HostFixture) {
    let Some(faults) = faults_of(fixture) else { return };
    for (id, moment) in [("before", Moment::Before), ("after", Moment::After)] {
        let host = fixture.host();
        let scope = open(&host, turn(id)).await;
        let executor = Executor::once(1);
        let hold = faults.hold_next(StoreCall::Intend, moment);
        let watched = async {
            hold.reached().await;
            a_moment().await;
            assert_eq!(executor.count(), 0, "it runs, and nobody knows that it was meant to");
            hold.release();
        };
        let run = scope.effect("k", direct(1)).run(|call| executor.run(call));
        let (told, ()) = tokio::join!(run, watched);
        assert_eq!(told.unwrap(), json!(1));
    }
    // The record is what a later owner finds: an intent.
    {
        let host = fixture.host();
        let scope = open(&host, turn("left")).await;
        let executor = Executor::new([Act::Hang]);
        tokio::select! {
            told = scope.effect("k", direct(1)).run(|call| executor.run(call)) => panic!("{told:?}"),
            () = executor.entered() => {}
        }
    }
    fixture.reopen().await;
    let host = fixture.host();
    let record = record(&open(&host, turn("left")).await, "k").await.unwrap();
    assert_eq!(record.state.progress, Progress::Open);
}

/// Nobody hears an outcome while the store has not answered that it is there.
pub async fn outcome_is_durable_before_it_is_told(fixture: &dyn HostFixture) {
    let Some(faults) = faults_of(fixture) else { return };
    for (id, moment) in [("before", Moment::Before), ("after", Moment::After)] {
        let host = fixture.host();
        let scope = open(&host, turn(id)).await;
        let executor = Executor::once(1);
        let hold = faults.hold_next(StoreCall::Change, moment);
        let run = scope.effect("k", direct(1)).run(|call| executor.run(call)).boxed();
        let run = tokio::select! {
            biased;
            () = async { hold.reached().await; a_moment().await } => None,
            told = run => Some(told),
        };
        assert!(run.is_none(), "it was told before it was recorded: {run:?}");
        drop(scope);
        hold.release();
    }
    fixture.reopen().await;
    // Cut off before the write, it is in doubt; cut off after it, it is over.
    let host = fixture.host();
    let of = async |id: &str| record(&open(&host, turn(id)).await, "k").await.unwrap().state.progress;
    assert_eq!(of("before").await, Progress::Open);
    assert_eq!(of("after").await, Progress::Ended { outcome: Outcome::Done(json!(1)), settled: None });
}

fn every_command() -> Vec<Command> {
    let (name, value) = (|| "n".to_owned(), || json!({"a": [1, 2.5, "x", null]}));
    vec![
        Command::LlmCall { request: value() },
        Command::ToolCall { tool: name(), arguments: value() },
        Command::ToolBatch { calls: vec![ToolRequest { tool: name(), arguments: value() }] },
        Command::ExecCode { language: name(), code: name() },
        Command::Checkpoint { state: value() },
        Command::Process { request: value() },
        Command::Trigger { name: name(), payload: value() },
        Command::Sleep { duration_ms: 0 },
        Command::AwaitEvent { wait: name() },
        Command::PeekEvent { wait: name() },
        Command::DurableStep { name: name(), input: value() },
        Command::External { system: name(), request: value() },
        Command::Direct { name: name(), input: value() },
    ]
}

/// Each kind is executed once; its record tells kind, hash, provenance and outcome, also after a reopen.
pub async fn every_kind_is_executed_and_recorded(fixture: &dyn HostFixture) {
    let runtime = RuntimeScope { session: "session-1".into(), turn: "1".into(), turn_index: 4, iteration: 2 };
    let replay = async |executor: &Executor| {
        let host = fixture.host();
        let scope = open(&host, turn("1")).await;
        for command in every_command() {
            let kind = command.kind();
            let effect = scope.effect(kind.as_str(), command).in_doubt(InDoubt::Park);
            let effect = effect.caused_by("the first").from_runtime(runtime.clone());
            let told: Value = effect.run(|call| executor.run(call)).await.unwrap();
            assert_eq!(told, if kind == EffectKind::Sleep { Value::Null } else { json!({"out": [1]}) }, "{kind:?}");
        }
        scope.controller().effects().await.unwrap()
    };
    let executor = Executor::new(std::iter::repeat_n(Act::Answer(json!({"out": [1]})), EffectKind::ALL.len() - 1));
    let records = replay(&executor).await;
    let kinds: Vec<EffectKind> = records.iter().map(|record| record.kind).collect();
    assert_eq!(kinds, EffectKind::ALL, "in the order of their intents");
    for record in &records {
        let provenance: Value = serde_json::from_str(record.provenance.as_deref().unwrap()).unwrap();
        assert_eq!(provenance["caused_by"], "the first");
        assert_eq!(provenance["runtime"]["turn_index"], 4);
        assert!(matches!(record.state.progress, Progress::Ended { .. }), "{record:?}");
    }
    fixture.reopen().await;
    assert_eq!(replay(&Executor::never()).await, records);
}

/// Writes to somebody else's system say how they are settled, or are not made.
pub async fn external_must_declare_its_policy(fixture: &dyn HostFixture) {
    let host = fixture.host();
    let scope = open(&host, turn("1")).await;
    let external = || Command::External { system: "bank".into(), request: json!(1) };
    let executor = Executor::never();
    let told = scope.effect("k", external()).run(|call| executor.run(call)).await;
    assert_eq!(code(told), "in_doubt_undeclared");
    let told = scope.effect("k", external()).in_doubt(InDoubt::Probe).run(|call| executor.run(call)).await;
    assert_eq!(code(told), "probe_missing");
    assert_eq!(executor.count(), 0);
    assert_eq!(record(&scope, "k").await, None);
    let executor = Executor::once(1);
    scope.effect("k", external()).in_doubt(InDoubt::SameKey).run(|call| executor.run(call)).await.unwrap();
}

/// A controller executes effects of its own scope alone.
pub async fn effect_of_another_scope_refused(fixture: &dyn HostFixture) {
    let host = fixture.host();
    let (scope, other) = (open(&host, turn("1")).await, open(&host, turn("2")).await);
    let invocation = dalsegno_durable::Invocation {
        scope: other.scope().clone(),
        effect_id: "e".into(),
        kind: EffectKind::Direct,
        replay_key: "k".into(),
        caused_by: None,
        runtime: None,
    };
    let envelope = dalsegno_durable::Envelope::new(invocation, direct(1)).unwrap();
    let executor = Executor::never();
    let run = |call| executor.run(call).boxed();
    let plan = EffectPlan {
        envelope,
        in_doubt: InDoubt::Rerun,
        retry: Retry::NEVER,
        limit: None,
        executor: &run,
        probe: None,
    };
    assert_eq!(code(scope.controller().execute(plan).await), "foreign_scope");
    assert_eq!((record(&scope, "k").await, record(&other, "k").await), (None, None));
}

/// An executor is told its attempt, its deadline by the host's clock, and its owner's epoch.
pub async fn executor_is_told_its_call(fixture: &dyn HostFixture) {
    let host = fixture.host();
    let scope = open(&host, turn("1")).await;
    let executor = Executor::new([Act::Answer(json!(1)), Act::Answer(json!(2))]);
    let now = scope.controller().now();
    let limit = Duration::from_secs(90);
    scope.effect("a", direct(1)).limit(limit).run(|call| executor.run(call)).await.unwrap();
    scope.effect("b", direct(1)).unlimited().run(|call| executor.run(call)).await.unwrap();
    let calls = executor.calls();
    assert_eq!((calls[0].deadline, calls[1].deadline), (Some(now.after(limit)), None));
    for call in calls {
        assert_eq!((call.attempt, call.epoch), (1, scope.controller().epoch()));
        assert!(!call.cancel.is_cancelled());
        assert!(!call.idempotency_key.is_empty());
    }
}

/// Another scope or another replay key has another idempotency key.
pub async fn idempotency_key_is_of_scope_and_replay_key(fixture: &dyn HostFixture) {
    let host = fixture.host();
    let executor = Executor::new((0..15).map(|number| Act::Answer(json!(number))));
    for scope in every_scope() {
        let scope = open(&host, scope).await;
        for key in ["a", "b", "a/b"] {
            scope.effect(key, direct(1)).run(|call| executor.run(call)).await.unwrap();
        }
    }
    let keys: std::collections::BTreeSet<String> = executor.keys().into_iter().collect();
    assert_eq!(keys.len(), 15);
}

/// Turn "1" of two sessions: no effect, no wait and no key of one is the other's.
pub async fn turns_of_two_sessions_never_meet(fixture: &dyn HostFixture) {
    let executor = Executor::new([Act::Answer(json!("one")), Act::Answer(json!("two"))]);
    let sessions = ["session-1", "session-2"].map(|session| ExecutionScope::turn(session, "1"));
    for _ in 0..2 {
        {
            let host = fixture.host();
            let [one, two] = &sessions;
            let (one, two) = (open(&host, one.clone()).await, open(&host, two.clone()).await);
            let told: Value = one.effect("k", direct(1)).run(|call| executor.run(call)).await.unwrap();
            assert_eq!(told, "one");
            let told: Value = two.effect("k", direct(1)).run(|call| executor.run(call)).await.unwrap();
            assert_eq!(told, "two");
            assert_ne!(one.wait_key("w").unwrap(), two.wait_key("w").unwrap());
        }
        fixture.reopen().await;
    }
    let keys = executor.keys();
    assert_ne!(keys[0], keys[1]);
    let host = fixture.host();
    let [one, two] = sessions;
    let (one, two) = (owned(&host, one).await, owned(&host, two).await);
    let resolved = host.resolve(&one.wait_key("w").unwrap(), super::scene::answer(1)).await.unwrap();
    assert_eq!(resolved, dalsegno_durable::Resolved::Accepted);
    assert_eq!(two.controller().peek(&two.wait_key("w").unwrap()).await.unwrap(), None);
}

/// What the store could not write is no failure of the effect: the caller hears of the store, nothing is recorded, and the next
/// call begins anew.
pub async fn store_error_before_the_intent_is_no_failure(fixture: &dyn HostFixture) {
    store_error(fixture, StoreCall::Intend, Moment::Before, &[0, 1]).await;
}

/// The intent is there though its answer was lost: the next call finds it in doubt, and settles it.
pub async fn store_error_after_the_intent_is_no_failure(fixture: &dyn HostFixture) {
    store_error(fixture, StoreCall::Intend, Moment::After, &[0, 1]).await;
}

/// The outcome is lost: in doubt, and settled, by the same key.
pub async fn store_error_before_the_outcome_is_no_failure(fixture: &dyn HostFixture) {
    store_error(fixture, StoreCall::Change, Moment::Before, &[1, 2]).await;
}

/// The outcome is there though its answer was lost: the next call tells it, and runs nothing.
pub async fn store_error_after_the_outcome_is_no_failure(fixture: &dyn HostFixture) {
    store_error(fixture, StoreCall::Change, Moment::After, &[1, 1]).await;
}

/// Fails one call; `runs`: how often the executor was called by then, and in the end.
async fn store_error(fixture: &dyn HostFixture, call: StoreCall, moment: Moment, runs: &[usize; 2]) {
    let Some(faults) = faults_of(fixture) else { return };
    for reopen in [false, true] {
        let scope_of = || turn(if reopen { "reopened" } else { "same" });
        let executor = Executor::new(std::iter::repeat_n(Act::Answer(json!("done")), 2));
        {
            let host = fixture.host();
            let scope = open(&host, scope_of()).await;
            faults.fail_next(call, moment);
            let effect = scope.effect("k", direct(1)).in_doubt(InDoubt::SameKey);
            assert_eq!(code(effect.run(|call| executor.run(call)).await), "durable_store_failed");
            assert_eq!(executor.count(), runs[0]);
        }
        if reopen {
            fixture.reopen().await;
        }
        let host = fixture.host();
        let scope = open(&host, scope_of()).await;
        let told: Value = {
            let effect = scope.effect("k", direct(1)).in_doubt(InDoubt::SameKey);
            effect.run(|call| executor.run(call)).await.unwrap()
        };
        assert_eq!(told, "done");
        assert_eq!(executor.count(), runs[1]);
        let keys = executor.keys();
        assert!(keys.iter().all(|key| *key == keys[0]), "{keys:?}");
        let record = record(&scope, "k").await.unwrap();
        assert_eq!(record.state.failures, [], "a store's failure was recorded as the effect's");
        assert_eq!(record.state.progress, Progress::Ended { outcome: Outcome::Done(json!("done")), settled: None });
    }
}
