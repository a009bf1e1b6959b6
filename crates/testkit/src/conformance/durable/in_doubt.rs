//! Effects whose intent is there and whose outcome is not, each really left so: by a caller that was dropped in the middle, by a
//! panic, by a deadline, by an executor that does not know, by a process that is gone.

use std::time::Duration;

use dalsegno_durable::record::DOUBTS;
use dalsegno_durable::{
    Call, DurableError, EffectError, EffectRecord, InDoubt, Outcome, Probed, Progress, Retry, Settled, Settlement,
};
use serde_json::{Value, json};

use super::HostFixture;
use super::scene::{Act, Executor, code, direct, open, record, turn};

/// How the first attempt is left without an outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    Dropped,
    Reopened,
    Panic,
    Deadline,
    Unknown,
}

const CAUSES: [Cause; 5] = [Cause::Dropped, Cause::Reopened, Cause::Panic, Cause::Deadline, Cause::Unknown];

/// The first attempt's executor.
fn first(cause: Cause) -> Act {
    match cause {
        Cause::Dropped | Cause::Reopened | Cause::Deadline => Act::Hang,
        Cause::Panic => Act::Panic,
        Cause::Unknown => Act::Fail(EffectError::unknown("no_answer", "the remote did not answer")),
    }
}

/// What came of it.
struct Seen {
    cause: Cause,
    told: Result<Value, DurableError>,
    calls: Vec<Call>,
    probes: Vec<Call>,
    record: EffectRecord,
}

/// Leaves an effect in doubt, and asks for it again where the doubt was not settled at once. `probe`: what a probe answers, by turns.
async fn doubt(fixture: &dyn HostFixture, cause: Cause, policy: InDoubt, probe: Vec<Probed>) -> Seen {
    let executor = Executor::new([first(cause), Act::Answer(json!("second"))]);
    let probes = std::sync::Mutex::new((Vec::new(), probe.into_iter()));
    let mut told = None;
    let mut last = None;
    for round in 1..=2 {
        {
            let host = fixture.host();
            let scope = open(&host, turn(&format!("{cause:?}"))).await;
            let mut effect = scope.effect("k", direct(1)).in_doubt(policy).limit(Duration::from_secs(900));
            if cause == Cause::Deadline {
                effect = effect.limit(Duration::from_millis(20));
            }
            if policy == InDoubt::Probe {
                effect = effect.probe(|call| {
                    let mut probes = probes.lock().unwrap();
                    probes.0.push(call);
                    std::future::ready(probes.1.next().unwrap())
                });
            }
            let run = effect.run(|call| executor.run(call));
            let cut = round == 1 && matches!(cause, Cause::Dropped | Cause::Reopened);
            if cut {
                tokio::select! {
                    told = run => panic!("{cause:?}: it was to hang: {told:?}"),
                    () = executor.entered() => {}
                }
            } else {
                told = Some(run.await);
            }
            last = record(&scope, "k").await;
        }
        if told.is_some() {
            break;
        }
        if cause == Cause::Reopened {
            fixture.reopen().await;
        }
    }
    let probes = probes.into_inner().unwrap().0;
    Seen { cause, told: told.unwrap(), calls: executor.calls(), probes, record: last.unwrap() }
}

fn ended_with(seen: &Seen, output: &str) {
    let Seen { cause, told, record, .. } = seen;
    assert_eq!(told.as_ref().ok(), Some(&json!(output)), "{cause:?}: {told:?}");
    let ended = Progress::Ended { outcome: Outcome::Done(json!(output)), settled: None };
    assert_eq!(record.state.progress, ended, "{cause:?}");
}

/// A closure that panics before it gives a future is in doubt like one that panics later; so is a probe.
pub async fn in_doubt_by_a_panic_of_the_closure(fixture: &dyn HostFixture) {
    let host = fixture.host();
    let scope = open(&host, turn("1")).await;
    let calls = std::sync::atomic::AtomicU32::new(0);
    let run = |_: Call| {
        assert!(calls.fetch_add(1, std::sync::atomic::Ordering::SeqCst) > 0, "the closure panics the first time");
        std::future::ready(Ok(json!("second")))
    };
    let told: Value = scope.effect("k", direct(1)).in_doubt(InDoubt::Rerun).run(run).await.unwrap();
    assert_eq!((told, calls.into_inner()), (json!("second"), 2));
    let executor = Executor::new([Act::Panic]);
    let look = |_: Call| -> std::future::Ready<Probed> { panic!("the probe panics") };
    let run = scope.effect("probed", direct(1)).probe(look).run::<Value, _, _>(|call| executor.run(call));
    let passes = async {
        loop {
            fixture.clock().asleep(1).await;
            fixture.clock().advance(Duration::from_secs(60));
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        told = run => assert_eq!(code(told), "in_doubt"),
        () = passes => {}
    }
}

/// What is idempotent by nature runs again.
pub async fn in_doubt_rerun(fixture: &dyn HostFixture) {
    for cause in CAUSES {
        let seen = doubt(fixture, cause, InDoubt::Rerun, vec![]).await;
        ended_with(&seen, "second");
        assert_eq!((seen.calls.len(), seen.calls[1].attempt), (2, 2), "{cause:?}");
        assert_eq!((seen.record.state.attempt, seen.record.state.doubts), (2, 1), "{cause:?}");
    }
}

/// What a remote deduplicates runs again, under the same key.
pub async fn in_doubt_same_key(fixture: &dyn HostFixture) {
    for cause in CAUSES {
        let seen = doubt(fixture, cause, InDoubt::SameKey, vec![]).await;
        ended_with(&seen, "second");
        assert_eq!(seen.calls.len(), 2, "{cause:?}");
        assert_eq!(seen.calls[0].idempotency_key, seen.calls[1].idempotency_key, "{cause:?}");
        assert_eq!((seen.calls[1].attempt, seen.record.state.generation), (2, 1), "{cause:?}");
    }
}

/// A probe that finds it done gives its output; nothing runs again.
pub async fn in_doubt_probe_applied(fixture: &dyn HostFixture) {
    for cause in CAUSES {
        let seen = doubt(fixture, cause, InDoubt::Probe, vec![Probed::Applied(json!("found"))]).await;
        ended_with(&seen, "found");
        assert_eq!((seen.calls.len(), seen.probes.len()), (1, 1), "{cause:?}");
        assert_eq!(seen.probes[0].idempotency_key, seen.calls[0].idempotency_key, "it looks for that one: {cause:?}");
    }
}

/// One that finds it not done begins a new generation, under a new key.
pub async fn in_doubt_probe_not_applied(fixture: &dyn HostFixture) {
    for cause in CAUSES {
        let seen = doubt(fixture, cause, InDoubt::Probe, vec![Probed::NotApplied]).await;
        ended_with(&seen, "second");
        assert_eq!((seen.calls.len(), seen.probes.len()), (2, 1), "{cause:?}");
        assert_ne!(seen.calls[0].idempotency_key, seen.calls[1].idempotency_key, "{cause:?}");
        assert_eq!((seen.record.state.generation, seen.record.state.attempt), (2, 2), "{cause:?}");
    }
}

/// One that cannot tell leaves it to an operator; nothing runs again.
pub async fn in_doubt_probe_inconclusive(fixture: &dyn HostFixture) {
    for cause in CAUSES {
        let error = EffectError::permanent("forbidden", "may not look");
        let seen = doubt(fixture, cause, InDoubt::Probe, vec![Probed::Inconclusive(error)]).await;
        assert_eq!(code(seen.told), "in_doubt", "{cause:?}");
        assert_eq!((seen.calls.len(), seen.probes.len()), (1, 1), "{cause:?}");
        let Progress::Parked { reason } = &seen.record.state.progress else { panic!("{:?}", seen.record.state) };
        assert!(reason.contains("may not look"), "{reason}");
    }
}

/// A probe that could not tell this time is asked again after a pause, and not without end.
pub async fn in_doubt_probe_is_asked_again(fixture: &dyn HostFixture) {
    let clock = fixture.clock();
    let unknown = || Probed::Inconclusive(EffectError::unknown("no_answer", "it did not answer"));
    for (id, answers, parked) in
        [("told", vec![unknown(), Probed::Applied(json!("found"))], false), ("never told", vec![unknown(); 8], true)]
    {
        let host = fixture.host();
        let scope = open(&host, turn(id)).await;
        let executor = Executor::new([Act::Panic]);
        let looks = std::sync::Mutex::new(answers.into_iter());
        let effect = scope.effect("k", direct(1)).probe(|_| std::future::ready(looks.lock().unwrap().next().unwrap()));
        let run = effect.run::<Value, _, _>(|call| executor.run(call));
        let passes = async {
            loop {
                clock.asleep(1).await;
                clock.advance(Duration::from_secs(60));
                tokio::task::yield_now().await;
            }
        };
        let told = tokio::select! {
            told = run => told,
            () = passes => return,
        };
        let left = looks.into_inner().unwrap().count();
        if parked {
            assert_eq!((code(told).as_str(), left), ("in_doubt", 5), "three looks");
        } else {
            assert_eq!((told.unwrap(), left), (json!("found"), 0));
        }
        assert_eq!(executor.count(), 1);
    }
}

/// What an operator is to settle waits for one: `in_doubt`, now and at each later call, also after a restart.
pub async fn in_doubt_park(fixture: &dyn HostFixture) {
    for cause in CAUSES {
        let seen = doubt(fixture, cause, InDoubt::Park, vec![]).await;
        assert_eq!(code(seen.told), "in_doubt", "{cause:?}");
        assert_eq!(seen.calls.len(), 1, "{cause:?}");
        assert!(matches!(seen.record.state.progress, Progress::Parked { .. }), "{cause:?}");
    }
    fixture.reopen().await;
    let host = fixture.host();
    for cause in CAUSES {
        let scope = open(&host, turn(&format!("{cause:?}"))).await;
        let executor = Executor::never();
        // Not even a policy that would run it changes that: it was parked.
        for policy in [InDoubt::Park, InDoubt::Rerun] {
            let told = scope.effect("k", direct(1)).in_doubt(policy).run(|call| executor.run(call)).await;
            assert_eq!(code(told.map(|told: Value| told)), "in_doubt");
        }
        assert_eq!(executor.count(), 0);
    }
}

fn operator() -> Settled {
    Settled { by: "an operator".into(), why: "looked into it".into() }
}

/// An operator's word that it took place is its outcome, with his name.
pub async fn in_doubt_settled_as_applied(fixture: &dyn HostFixture) {
    doubt(fixture, Cause::Dropped, InDoubt::Park, vec![]).await;
    {
        let host = fixture.host();
        let scope = open(&host, turn("Dropped")).await;
        let settle = async |key: &str| {
            scope.controller().settle(key, Settlement::Applied(json!("it is there")), operator()).await
        };
        assert_eq!(code(settle("another").await), "not_parked");
        settle("k").await.unwrap();
        assert_eq!(code(settle("k").await), "not_parked", "once");
    }
    fixture.reopen().await;
    let host = fixture.host();
    let scope = open(&host, turn("Dropped")).await;
    let executor = Executor::never();
    let told: Value = scope.effect("k", direct(1)).run(|call| executor.run(call)).await.unwrap();
    assert_eq!(told, "it is there");
    let ended = Progress::Ended { outcome: Outcome::Done(json!("it is there")), settled: Some(operator()) };
    assert_eq!(record(&scope, "k").await.unwrap().state.progress, ended);
}

/// His word that it did not lets the next call do it, under a new key.
pub async fn in_doubt_settled_as_not_applied(fixture: &dyn HostFixture) {
    let seen = doubt(fixture, Cause::Dropped, InDoubt::Park, vec![]).await;
    {
        let host = fixture.host();
        let scope = open(&host, turn("Dropped")).await;
        scope.controller().settle("k", Settlement::NotApplied, operator()).await.unwrap();
    }
    fixture.reopen().await;
    let host = fixture.host();
    let scope = open(&host, turn("Dropped")).await;
    let executor = Executor::once("anew");
    let told: Value = scope.effect("k", direct(1)).run(|call| executor.run(call)).await.unwrap();
    assert_eq!(told, "anew");
    assert_ne!(executor.keys()[0], seen.calls[0].idempotency_key);
    assert_eq!(record(&scope, "k").await.unwrap().state.generation, 2);
}

/// A crash between the second intent and its outcome is a doubt like the first: the same policy settles it, and what a probe began
/// anew stays in its new generation.
pub async fn in_doubt_of_each_policy_by_a_crash_between(fixture: &dyn HostFixture) {
    for (policy, keys_differ) in [(InDoubt::Rerun, false), (InDoubt::SameKey, false), (InDoubt::Probe, true)] {
        let scope_of = || turn(&format!("{policy:?}"));
        let executor = Executor::new([Act::Hang, Act::Hang, Act::Answer(json!("third"))]);
        // Not applied the first time; found the second, had it not been cut off.
        for round in 1..=3 {
            {
                let host = fixture.host();
                let scope = open(&host, scope_of()).await;
                let effect = scope.effect("k", direct(1)).in_doubt(policy);
                let effect = if policy == InDoubt::Probe {
                    effect.probe(|_| std::future::ready(Probed::<Value>::NotApplied))
                } else {
                    effect
                };
                let run = effect.run::<Value, _, _>(|call| executor.run(call));
                if round == 3 {
                    assert_eq!(run.await.unwrap(), "third");
                } else {
                    tokio::select! {
                        told = run => panic!("{told:?}"),
                        () = executor.entered() => {}
                    }
                }
            }
            fixture.reopen().await;
        }
        let keys = executor.keys();
        assert_eq!(keys.len(), 3);
        assert_eq!((keys[0] != keys[1], keys[1] != keys[2]), (keys_differ, keys_differ), "{policy:?}");
    }
}

/// An effect of which nobody ever knows is left to an operator at last, within one call as over many restarts.
pub async fn doubts_are_bounded(fixture: &dyn HostFixture) {
    let most = usize::try_from(DOUBTS).unwrap();
    {
        let host = fixture.host();
        let scope = open(&host, turn("one call")).await;
        let executor = Executor::new(vec![Act::Panic; most * 2]);
        let effect = scope.effect("k", direct(1)).in_doubt(InDoubt::Rerun);
        assert_eq!(code(effect.run::<Value, _, _>(|call| executor.run(call)).await), "in_doubt");
        assert_eq!(executor.count(), most);
    }
    let executor = Executor::new(vec![Act::Hang; most * 2]);
    for _ in 0..most {
        {
            let host = fixture.host();
            let scope = open(&host, turn("restarts")).await;
            let effect = scope.effect("k", direct(1)).in_doubt(InDoubt::SameKey);
            tokio::select! {
                told = effect.run::<Value, _, _>(|call| executor.run(call)) => panic!("{told:?}"),
                () = executor.entered() => {}
            }
        }
        fixture.reopen().await;
    }
    let host = fixture.host();
    let scope = open(&host, turn("restarts")).await;
    let effect = scope.effect("k", direct(1)).in_doubt(InDoubt::SameKey);
    assert_eq!(code(effect.run::<Value, _, _>(|call| executor.run(call)).await), "in_doubt");
    assert_eq!(executor.count(), most);
}

/// A doubt takes none of the attempts that the policy gives to failures.
pub async fn doubts_take_no_retries(fixture: &dyn HostFixture) {
    let host = fixture.host();
    let scope = open(&host, turn("1")).await;
    let busy = || Act::Fail(EffectError::retryable("busy", "try again"));
    let executor = Executor::new([Act::Panic, busy(), Act::Panic, Act::Answer(json!("done"))]);
    let retry = Retry { attempts: 2, base: Duration::ZERO, cap: Duration::ZERO };
    let effect = scope.effect("k", direct(1)).in_doubt(InDoubt::Rerun).retry(retry);
    let told: Value = effect.run(|call| executor.run(call)).await.unwrap();
    assert_eq!(told, "done");
    let state = record(&scope, "k").await.unwrap().state;
    assert_eq!((state.attempt, state.doubts, state.failures.len()), (4, 2, 1));
}

/// Nor does it when an operator settled it as not applied.
pub async fn settled_doubts_take_no_retries(fixture: &dyn HostFixture) {
    let host = fixture.host();
    let scope = open(&host, turn("1")).await;
    let executor =
        Executor::new([Act::Panic, Act::Fail(EffectError::retryable("busy", "try again")), Act::Answer(json!("done"))]);
    let retry = Retry { attempts: 2, base: Duration::ZERO, cap: Duration::ZERO };
    let effect = || scope.effect("k", direct(1)).in_doubt(InDoubt::Park).retry(retry);
    assert_eq!(code(effect().run::<Value, _, _>(|call| executor.run(call)).await), "in_doubt");
    scope.controller().settle("k", Settlement::NotApplied, operator()).await.unwrap();
    let told: Value = effect().run(|call| executor.run(call)).await.unwrap();
    assert_eq!(told, "done");
}
