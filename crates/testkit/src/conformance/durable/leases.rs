//! Who has a scope, and what becomes of those who lost it.

use std::time::Duration;

use dalsegno_durable::{EffectError, InDoubt, Outcome, Progress, Retry, Settled, Settlement};
use futures::FutureExt;
use serde_json::{Value, json};

use super::HostFixture;
use super::scene::{Act, Executor, code, direct, open, record, turn};

/// While an owner lives, nobody else is let in without force, and the owner is undisturbed.
pub async fn second_owner_refused(fixture: &dyn HostFixture) {
    let (host, other) = (fixture.host(), fixture.another().await);
    let scope = open(&host, turn("1")).await;
    assert_eq!(code(other.scoped(turn("1")).await), "scope_owned");
    assert_eq!(code(other.scoped_static(turn("1")).await), "scope_owned");
    assert_eq!(scope.step("s", &1, || async { Ok(1) }).await.unwrap(), 1);
    // Another scope is free.
    assert_eq!(open(&other, turn("2")).await.step("s", &1, || async { Ok(2) }).await.unwrap(), 2);
}

/// An owner that is gone holds nobody up; the next one has a higher epoch.
pub async fn lease_is_free_when_its_owner_is_gone(fixture: &dyn HostFixture) {
    let mut last = 0;
    for round in 0..3_u64 {
        {
            let host = fixture.host();
            let scope = open(&host, turn("1")).await;
            let epoch = scope.controller().epoch();
            assert!(epoch > last, "{epoch} after {last}");
            last = epoch;
            assert_eq!(scope.step("s", &1, || async move { Ok(round) }).await.unwrap(), 0);
        }
        fixture.reopen().await;
    }
}

/// Force takes it, with a higher epoch and with all that was recorded.
pub async fn take_over_raises_the_epoch(fixture: &dyn HostFixture) {
    let (host, other) = (fixture.host(), fixture.another().await);
    let scope = open(&host, turn("1")).await;
    scope.step("s", &1, || async { Ok(1) }).await.unwrap();
    let taken = other.take_over(turn("1")).await.unwrap();
    assert!(taken.controller().epoch() > scope.controller().epoch());
    assert_eq!(taken.step("s", &1, || async { Ok(2) }).await.unwrap(), 1);
    assert_eq!(taken.step("t", &1, || async { Ok(3) }).await.unwrap(), 3);
}

/// An owner that loses its scope while it executes records nothing: its caller hears `lease_lost`, and the record is the new owner's.
pub async fn lease_stolen_mid_effect_late_outcome_refused(fixture: &dyn HostFixture) {
    let (host, other) = (fixture.host(), fixture.another().await);
    let scope = open(&host, turn("1")).await;
    let (ours, theirs) = (Executor::new([Act::Halt(json!("late"))]), Executor::once("theirs"));
    let run = scope.effect("k", direct(1)).in_doubt(InDoubt::SameKey).run::<Value, _, _>(|call| ours.run(call));
    let stolen = async {
        ours.entered().await;
        let taken = other.take_over(turn("1")).await.unwrap();
        let told: Value = {
            let effect = taken.effect("k", direct(1)).in_doubt(InDoubt::SameKey);
            effect.run(|call| theirs.run(call)).await.unwrap()
        };
        assert_eq!(told, "theirs");
        ours.release();
        taken
    };
    let (told, taken) = tokio::join!(run, stolen);
    assert_eq!(code(told), "lease_lost");
    assert_eq!(ours.keys(), theirs.keys(), "the remote sees one effect");
    let (our_call, their_call) = (ours.calls().remove(0), theirs.calls().remove(0));
    assert!(their_call.epoch > our_call.epoch && their_call.attempt > our_call.attempt);
    let state = record(&taken, "k").await.unwrap().state;
    assert_eq!(state.progress, Progress::Ended { outcome: Outcome::Done(json!("theirs")), settled: None });
    assert_eq!(state.epoch, taken.controller().epoch());
    // Whoever lost it is told so from then on, whatever it asks.
    assert_eq!(code(scope.step("s", &1, || async { Ok(1) }).await), "lease_lost");
    assert_eq!(code(scope.controller().effects().await), "lease_lost");
    // The same host may take it back, and has it under yet a higher epoch.
    let back = host.take_over(turn("1")).await.unwrap();
    assert!(back.controller().epoch() > taken.controller().epoch());
    let executor = Executor::never();
    let told: Value = back.effect("k", direct(1)).run(|call| executor.run(call)).await.unwrap();
    assert_eq!(told, "theirs");
    assert_eq!(code(scope.step("s", &1, || async { Ok(1) }).await), "lease_lost", "and the old hold stays lost");
}

/// An intent that comes late is refused, and its executor does not run.
pub async fn late_intent_refused(fixture: &dyn HostFixture) {
    let (host, other) = (fixture.host(), fixture.another().await);
    let scope = open(&host, turn("1")).await;
    let taken = other.take_over(turn("1")).await.unwrap();
    let executor = Executor::never();
    let told = scope.effect("k", direct(1)).run::<Value, _, _>(|call| executor.run(call)).await;
    assert_eq!(code(told), "lease_lost");
    assert_eq!((executor.count(), record(&taken, "k").await), (0, None));
}

/// A retry that comes due late is not made.
pub async fn late_retry_refused(fixture: &dyn HostFixture) {
    let (host, other, clock) = (fixture.host(), fixture.another().await, fixture.clock());
    let scope = open(&host, turn("1")).await;
    let executor = Executor::new([Act::Fail(EffectError::retryable("busy", "try again"))]);
    let retry = Retry { attempts: 3, base: Duration::from_secs(1), cap: Duration::from_secs(1) };
    let run = scope.effect("k", direct(1)).retry(retry).run::<Value, _, _>(|call| executor.run(call));
    let stolen = async {
        clock.asleep(1).await;
        let taken = other.take_over(turn("1")).await.unwrap();
        clock.advance(Duration::from_secs(2));
        taken
    };
    let (told, taken) = tokio::join!(run, stolen);
    assert_eq!(code(told), "lease_lost");
    assert_eq!(executor.count(), 1);
    assert_eq!(record(&taken, "k").await.unwrap().state.progress, Progress::Resting);
}

/// An operator's word to an owner that lost the scope is not taken.
pub async fn late_settlement_refused(fixture: &dyn HostFixture) {
    let (host, other) = (fixture.host(), fixture.another().await);
    let scope = open(&host, turn("1")).await;
    let executor = Executor::new([Act::Panic]);
    let effect = scope.effect("k", direct(1)).in_doubt(InDoubt::Park);
    assert_eq!(code(effect.run::<Value, _, _>(|call| executor.run(call)).await), "in_doubt");
    let taken = other.take_over(turn("1")).await.unwrap();
    let who = Settled { by: "somebody".into(), why: "thinks so".into() };
    let settled = scope.controller().settle("k", Settlement::Applied(json!(1)), who).await;
    assert_eq!(code(settled), "lease_lost");
    assert!(matches!(record(&taken, "k").await.unwrap().state.progress, Progress::Parked { .. }));
}

/// A sleep that is over late is not recorded as over by whoever lost the scope; whoever has it sleeps the rest.
pub async fn late_sleep_refused(fixture: &dyn HostFixture) {
    let (host, other, clock) = (fixture.host(), fixture.another().await, fixture.clock());
    let scope = open(&host, turn("1")).await;
    let stolen = async {
        clock.asleep(1).await;
        let taken = other.take_over(turn("1")).await.unwrap();
        clock.advance(Duration::from_secs(10));
        taken
    };
    let (slept, taken) = tokio::join!(scope.sleep("nap", Duration::from_secs(10)), stolen);
    assert_eq!(code(slept), "lease_lost");
    assert_eq!(record(&taken, "nap").await.unwrap().state.progress, Progress::Open);
    taken.sleep("nap", Duration::from_secs(10)).await.unwrap();
}

/// Whoever lost a scope does not end it.
pub async fn late_end_refused(fixture: &dyn HostFixture) {
    let (host, other) = (fixture.host(), fixture.another().await);
    let scope = open(&host, turn("1")).await;
    let taken = other.take_over(turn("1")).await.unwrap();
    assert_eq!(code(scope.end().await), "lease_lost");
    assert_eq!(taken.step("s", &1, || async { Ok(1) }).await.unwrap(), 1);
}

/// Once an owner knows that it lost the scope, what it still executes is told to give up.
pub async fn lost_scope_cancels_its_executors(fixture: &dyn HostFixture) {
    let (host, other) = (fixture.host(), fixture.another().await);
    let scope = open(&host, turn("1")).await;
    let run = scope.effect("k", direct(1)).in_doubt(InDoubt::Rerun).run::<Value, _, _>(|call| {
        async move {
            call.cancel.cancelled().await;
            Ok(json!("gave up"))
        }
        .boxed()
    });
    let stolen = async {
        // The intent is there before the scope is taken.
        while record(&scope, "k").await.is_none() {
            tokio::task::yield_now().await;
        }
        let taken = other.take_over(turn("1")).await.unwrap();
        assert_eq!(code(scope.step("s", &1, || async { Ok(1) }).await), "lease_lost");
        taken
    };
    let (told, taken) = tokio::join!(run, stolen);
    assert_eq!(code(told), "lease_lost");
    assert_eq!(record(&taken, "k").await.unwrap().state.progress, Progress::Open);
}

/// A scope that another owner ended meanwhile takes nothing any more from the one that lost it.
pub async fn ended_under_another_owner(fixture: &dyn HostFixture) {
    let (host, other) = (fixture.host(), fixture.another().await);
    let scope = open(&host, turn("1")).await;
    let executor = Executor::new([Act::Halt(json!("late"))]);
    let run = scope.effect("k", direct(1)).run::<Value, _, _>(|call| executor.run(call));
    let ended = async {
        executor.entered().await;
        other.take_over(turn("1")).await.unwrap().end().await.unwrap();
        executor.release();
    };
    let (told, ()) = tokio::join!(run, ended);
    let refusal = code(told);
    assert!(["lease_lost", "scope_ended"].contains(&refusal.as_str()), "{refusal}");
    let seen = open(&other, turn("1")).await;
    assert_eq!(record(&seen, "k").await.unwrap().state.progress, Progress::Open);
}
