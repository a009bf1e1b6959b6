//! Many at once: one runs, all are told, nobody sleeps for ever.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use dalsegno_durable::{InDoubt, Progress, Resolution, Resolved, WaitKey};
use futures::FutureExt;
use futures::future::join_all;
use serde_json::{Value, json};

use super::HostFixture;
use super::scene::{Act, Executor, a_moment, already, answer, code, direct, faults_of, open, owned, record, turn};
use crate::crash::Random;
use crate::durable::{Moment, StoreCall};

/// Two callers, one key, at once: one runs, both are told.
pub async fn single_flight(fixture: &dyn HostFixture) {
    let host = fixture.host();
    let scope = open(&host, turn("1")).await;
    let executor = Executor::new([Act::Halt(json!("once"))]);
    let callers = (0..8).map(|_| scope.effect("k", direct(1)).run::<Value, _, _>(|call| executor.run(call)));
    let watched = async {
        executor.entered().await;
        a_moment().await;
        assert_eq!(executor.count(), 1);
        executor.release();
    };
    let (told, ()) = tokio::join!(join_all(callers), watched);
    assert!(told.into_iter().all(|told| told.unwrap() == "once"));
    // A second hold on the scope is no second runner.
    let again = open(&host, turn("1")).await;
    assert_eq!(again.effect("k", direct(1)).run::<Value, _, _>(|call| executor.run(call)).await.unwrap(), "once");
    assert_eq!(executor.count(), 1);
}

/// When the one that runs is dropped, the other one finds the effect in doubt, and settles it.
pub async fn single_flight_of_a_dropped_runner(fixture: &dyn HostFixture) {
    let host = fixture.host();
    let scope = open(&host, turn("1")).await;
    let executor = Executor::new([Act::Hang, Act::Answer(json!("second"))]);
    let ask = || {
        let effect = scope.effect("k", direct(1)).in_doubt(InDoubt::SameKey);
        effect.run::<Value, _, _>(|call| executor.run(call)).boxed()
    };
    let (mut first, mut second) = (ask(), ask());
    tokio::select! {
        told = &mut first => panic!("{told:?}"),
        () = executor.entered() => {}
    }
    tokio::select! {
        biased;
        told = &mut second => panic!("{told:?}"),
        () = a_moment() => {}
    }
    drop(first);
    assert_eq!(second.await.unwrap(), "second");
    let keys = executor.keys();
    assert_eq!((keys.len(), &keys[0]), (2, &keys[1]));
}

/// Whoever asks for other content meanwhile is refused, and does not disturb the one that runs.
pub async fn single_flight_of_a_mismatch(fixture: &dyn HostFixture) {
    let host = fixture.host();
    let scope = open(&host, turn("1")).await;
    let executor = Executor::new([Act::Halt(json!("first"))]);
    let run = scope.effect("k", direct(1)).run::<Value, _, _>(|call| executor.run(call));
    let other = async {
        executor.entered().await;
        let ask = scope.effect("k", direct(2)).run::<Value, _, _>(|call| executor.run(call));
        let (told, ()) = tokio::join!(ask, async {
            a_moment().await;
            executor.release();
        });
        assert_eq!(code(told), "replay_mismatch");
    };
    let (told, ()) = tokio::join!(run, other);
    assert_eq!(told.unwrap(), "first");
    assert_eq!(executor.count(), 1);
}

/// Effects that end in any order are told alike by every replay, which runs nothing; their records stand in the order of their
/// intents.
pub async fn concurrent_replay_deterministic(fixture: &dyn HostFixture) {
    const EFFECTS: usize = 64;
    let ran = Arc::new(AtomicUsize::new(0));
    let mut orders = Vec::new();
    for seed in 0..3 {
        {
            let host = fixture.host();
            let scope = open(&host, turn("1")).await;
            let mut random = Random::new(seed);
            let mut order: Vec<usize> = (0..EFFECTS).collect();
            for at in (1..EFFECTS).rev() {
                order.swap(at, usize::try_from(random.below(at as u64 + 1)).unwrap());
            }
            let asked = order.iter().map(|number| {
                let (pause, ran, scope) = (Duration::from_micros(random.below(3_000)), &ran, &scope);
                async move {
                    let effect = scope.effect(&format!("effect {number}"), direct(*number));
                    let run = |_| async move {
                        ran.fetch_add(1, Ordering::SeqCst);
                        tokio::time::sleep(pause).await;
                        Ok(json!([number, "told"]))
                    };
                    assert_eq!(effect.run::<Value, _, _>(run).await.unwrap(), json!([number, "told"]));
                }
            });
            join_all(asked).await;
            let records = scope.controller().effects().await.unwrap();
            orders.push(records.into_iter().map(|record| record.replay_key).collect::<Vec<_>>());
        }
        fixture.reopen().await;
    }
    assert_eq!(ran.load(Ordering::SeqCst), EFFECTS);
    assert!(orders[0] == orders[1] && orders[1] == orders[2]);
}

/// Of many who resolve at once, in two processes, one is the first; everybody else, and whoever waits, is told that one.
pub async fn first_writer_wins_across_instances(fixture: &dyn HostFixture) {
    let (host, other) = (fixture.host(), fixture.another().await);
    let scope = owned(&host, turn("1")).await;
    for round in 0..20 {
        let key = scope.wait_key(&format!("w{round}")).unwrap();
        let waiting = tokio::spawn({
            let (scope, key) = (scope.clone(), key.clone());
            async move { scope.wait(&key).await.unwrap() }
        });
        let resolvers = (0..8).map(|number| {
            let (host, key) = (Arc::clone(if number % 2 == 0 { &host } else { &other }), key.clone());
            tokio::spawn(async move { (number, host.resolve(&key, answer(number)).await.unwrap()) })
        });
        let told: Vec<(i32, Resolved)> = join_all(resolvers).await.into_iter().map(Result::unwrap).collect();
        let first: Vec<i32> =
            told.iter().filter(|(_, told)| *told == Resolved::Accepted).map(|(number, _)| *number).collect();
        assert_eq!(first.len(), 1, "{told:?}");
        let late = already(answer(first[0]));
        assert!(told.iter().all(|(number, told)| *number == first[0] || *told == late), "{told:?}");
        assert_eq!(waiting.await.unwrap(), answer(first[0]));
    }
}

/// Pairs of a waiter and a resolver that race, in one process and in two: no waiter sleeps on.
pub async fn wake_up_never_lost(fixture: &dyn HostFixture) {
    const PAIRS: usize = 400;
    let (host, other) = (fixture.host(), fixture.another().await);
    let scope = owned(&host, turn("1")).await;
    let mut random = Random::new(20_261);
    let mut pairs = Vec::new();
    for number in 0..PAIRS {
        let key = scope.wait_key(&format!("w{number}")).unwrap();
        let resolver = Arc::clone(if number % 2 == 0 { &host } else { &other });
        let (before, after) = (random.below(400), random.below(400));
        let waiting = tokio::spawn({
            let (scope, key) = (scope.clone(), key.clone());
            async move {
                pause(before).await;
                scope.wait(&key).await.unwrap()
            }
        });
        let resolving = tokio::spawn(async move {
            pause(after).await;
            resolver.resolve(&key, answer(number)).await.unwrap()
        });
        pairs.push((number, waiting, resolving));
    }
    for (number, waiting, resolving) in pairs {
        assert_eq!(resolving.await.unwrap(), Resolved::Accepted);
        let told = tokio::time::timeout(Duration::from_secs(30), waiting).await;
        assert_eq!(told.unwrap_or_else(|_| panic!("waiter {number} sleeps on")).unwrap(), answer(number));
    }
}

async fn pause(units: u64) {
    if units.is_multiple_of(3) {
        tokio::task::yield_now().await;
    } else {
        tokio::time::sleep(Duration::from_micros(units)).await;
    }
}

/// A resolution that falls between the store's answer to a waiter and the waiter's sleep wakes it, wherever it comes from.
pub async fn wake_up_is_not_lost_while_registering(fixture: &dyn HostFixture) {
    let Some(faults) = faults_of(fixture) else { return };
    let (host, other) = (fixture.host(), fixture.another().await);
    let scope = open(&host, turn("1")).await;
    // So that the ends of waits are followed already.
    host.resolve(&scope.wait_key("first").unwrap(), answer(0)).await.unwrap();
    scope.wait(&scope.wait_key("first").unwrap()).await.unwrap();
    for (name, resolver) in [("same instance", &host), ("another", &other)] {
        for moment in [Moment::Before, Moment::After] {
            let key = scope.wait_key(&format!("{name} {moment:?}")).unwrap();
            let hold = faults.hold_next(StoreCall::Register, moment);
            let resolving = async {
                hold.reached().await;
                assert_eq!(resolver.resolve(&key, answer(1)).await.unwrap(), Resolved::Accepted);
                // Whoever follows the list of ends has seen this one by now.
                a_moment().await;
                hold.release();
            };
            let waiting = tokio::time::timeout(Duration::from_secs(10), scope.wait(&key));
            let (told, ()) = tokio::join!(waiting, resolving);
            assert_eq!(told.expect("the waiter sleeps on").unwrap(), answer(1), "{name}, {moment:?}");
        }
    }
}

/// Waits that are parked cost the store nothing, however many there are and however long they last.
pub async fn parked_waits_do_no_store_calls(fixture: &dyn HostFixture) {
    let Some(faults) = faults_of(fixture) else { return };
    let (host, clock) = (fixture.host(), fixture.clock());
    let scope = open(&host, turn("1")).await;
    let keys: Vec<WaitKey> =
        (0..fixture.parked_waits()).map(|number| scope.wait_key(&format!("w{number}")).unwrap()).collect();
    let registered = faults.count(StoreCall::Register) + keys.len() as u64;
    let waits: futures::stream::FuturesUnordered<_> =
        keys.iter().map(|key| scope.wait_within(key, Duration::from_secs(3_600))).collect();
    let mut all = std::pin::pin!(async {
        use futures::StreamExt;
        waits.map(Result::unwrap).collect::<Vec<Resolution>>().await
    });
    tokio::select! {
        told = &mut all => panic!("{} were to be parked", told.len()),
        () = clock.asleep(keys.len()) => {}
    }
    assert_eq!(faults.count(StoreCall::Register), registered, "each registers once");
    // Whoever follows the ends of waits has looked where to begin.
    a_moment().await;
    let (calls, writes) = (faults.calls(), faults.writes());
    clock.advance(Duration::from_secs(1_800));
    tokio::select! {
        told = &mut all => panic!("{} were to be parked", told.len()),
        () = tokio::time::sleep(Duration::from_millis(1_200)) => {}
    }
    assert_eq!((faults.calls() - calls, faults.writes() - writes), (0, 0), "polls of the store, and writes");
    // And each is woken.
    assert_eq!(host.cancel_session("session-1").await.unwrap(), keys.len() as u64);
    let told = all.await;
    assert_eq!(told.len(), keys.len());
    assert!(told.iter().all(|told| *told == Resolution::Canceled));
}

/// A host that outlives the runtime in which it first waited wakes those who wait in the next one.
pub async fn wake_up_in_another_runtime(fixture: &dyn HostFixture) {
    let (host, other) = (fixture.host(), fixture.another().await);
    let key = |id: &str| host.wait_key(&turn("1"), id).unwrap();
    let scope = owned(&host, turn("1")).await;
    for name in ["first", "second", "third"] {
        let (scope, named) = (scope.clone(), key(name));
        let (parked, is_parked) = tokio::sync::oneshot::channel();
        let waiting = tokio::task::spawn_blocking(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let mut waiting = scope.wait(&named).boxed();
                tokio::select! {
                    biased;
                    told = &mut waiting => panic!("{told:?}"),
                    () = a_moment() => {}
                }
                parked.send(()).unwrap();
                tokio::time::timeout(Duration::from_secs(20), waiting).await
            })
        });
        is_parked.await.unwrap();
        other.resolve(&key(name), answer(name)).await.unwrap();
        assert_eq!(waiting.await.unwrap().expect("the waiter sleeps on").unwrap(), answer(name));
    }
}

/// Everybody who waits for one wait is told; whoever left is not missed.
pub async fn many_waiters_of_one_wait(fixture: &dyn HostFixture) {
    let (host, other) = (fixture.host(), fixture.another().await);
    let scope = open(&host, turn("1")).await;
    let key = scope.wait_key("w").unwrap();
    let mut waits: Vec<_> = (0..10).map(|_| scope.wait(&key).boxed()).collect();
    tokio::select! {
        biased;
        (told, ..) = futures::future::select_all(&mut waits) => panic!("{told:?}"),
        () = a_moment() => {}
    }
    waits.truncate(7);
    other.resolve(&key, answer(1)).await.unwrap();
    assert!(join_all(waits).await.into_iter().all(|told| told.unwrap() == answer(1)));
}

/// A write whose answer was lost makes the scope be read again. What other effects recorded while that reading went on is not taken
/// back by it: nothing of theirs runs twice.
pub async fn outcome_beside_a_read_is_kept(fixture: &dyn HostFixture) {
    let Some(faults) = faults_of(fixture) else { return };
    let host = fixture.host();
    let scope = open(&host, turn("1")).await;
    let executor = Executor::new([Act::Halt(json!("once"))]);
    let failing = Executor::new(vec![Act::Answer(json!(1)); 4]);
    let ask = |key: &str| {
        scope.effect(key, direct(1)).in_doubt(InDoubt::Rerun).run::<Value, _, _>(|call| failing.run(call)).boxed()
    };
    let beside = scope.effect("beside", direct(1)).in_doubt(InDoubt::Rerun);
    let mut beside = beside.run::<Value, _, _>(|call| executor.run(call)).boxed();
    tokio::select! {
        told = &mut beside => panic!("{told:?}"),
        () = executor.entered() => {}
    }
    faults.fail_next(StoreCall::Intend, Moment::Before);
    assert_eq!(code(ask("failing").await), "durable_store_failed");
    // The reading has its answer, and has not been taken in yet.
    let hold = faults.hold_next(StoreCall::Load, Moment::After);
    let ended = async {
        hold.reached().await;
        executor.release();
        assert_eq!((&mut beside).await.unwrap(), "once");
        hold.release();
    };
    let (told, ()) = tokio::join!(ask("failing"), ended);
    assert_eq!(told.unwrap(), json!(1));
    let told = scope.effect("beside", direct(1)).in_doubt(InDoubt::Rerun).run::<Value, _, _>(|call| executor.run(call));
    assert_eq!(told.await.unwrap(), "once");
    assert_eq!(executor.count(), 1, "an effect with a recorded outcome ran again");
}

/// And a write that fails while the reading goes on makes it be read once more.
pub async fn failure_beside_a_read_is_looked_into(fixture: &dyn HostFixture) {
    let Some(faults) = faults_of(fixture) else { return };
    let host = fixture.host();
    let scope = open(&host, turn("1")).await;
    let executor = Executor::new([Act::Halt(json!("once"))]);
    let other = Executor::new(vec![Act::Answer(json!(1)); 4]);
    let ask = |key: &str| {
        scope.effect(key, direct(1)).in_doubt(InDoubt::Rerun).run::<Value, _, _>(|call| other.run(call)).boxed()
    };
    let beside = scope.effect("beside", direct(1)).in_doubt(InDoubt::Rerun);
    let mut beside = beside.run::<Value, _, _>(|call| executor.run(call)).boxed();
    tokio::select! {
        told = &mut beside => panic!("{told:?}"),
        () = executor.entered() => {}
    }
    faults.fail_next(StoreCall::Intend, Moment::Before);
    assert_eq!(code(ask("failing").await), "durable_store_failed");
    let hold = faults.hold_next(StoreCall::Load, Moment::After);
    faults.fail_next(StoreCall::Change, Moment::After);
    let ended = async {
        hold.reached().await;
        executor.release();
        assert_eq!(code((&mut beside).await), "durable_store_failed");
        hold.release();
    };
    let (told, ()) = tokio::join!(ask("failing"), ended);
    assert_eq!(told.unwrap(), json!(1));
    let told = scope.effect("beside", direct(1)).in_doubt(InDoubt::Rerun).run::<Value, _, _>(|call| executor.run(call));
    assert_eq!(told.await.unwrap(), "once");
    assert_eq!(executor.count(), 1, "an effect with a recorded outcome ran again");
    assert!(matches!(record(&scope, "beside").await.unwrap().state.progress, Progress::Ended { .. }));
}
