//! Durable promises: keys, resolutions, deadlines, revocation.

use std::sync::Arc;
use std::time::Duration;

use dalsegno_durable::key::Secret;
use dalsegno_durable::record::DOUBTS;
use dalsegno_durable::wait::WaitAddress;
use dalsegno_durable::{DurableError, EffectHost, ExecutionScope, Resolution, Resolved, Scope, Timestamp, WaitKey};
use tokio_util::sync::CancellationToken;

use super::HostFixture;
use super::scene::{a_moment, already, answer, code, faults_of, open, turn};
use crate::durable::{Moment, StoreCall};

const UNKNOWN: &str = "await_event_unknown_or_revoked";

async fn wait(scope: &Scope<'_>, key: &WaitKey, deadline: Option<Timestamp>) -> Result<Resolution, DurableError> {
    scope.controller().wait(key, &CancellationToken::new(), deadline).await
}

/// Polls it until it is parked, and gives it back.
async fn parked<F: Future<Output = Result<Resolution, DurableError>> + Unpin>(mut waiting: F) -> F {
    tokio::select! {
        biased;
        told = &mut waiting => panic!("it was to wait: {told:?}"),
        () = a_moment() => waiting,
    }
}

/// One identity has one key: from the host, from the scope, from another instance, again and again.
pub async fn key_stable(fixture: &dyn HostFixture) {
    let host = fixture.host();
    let key = host.wait_key(&turn("1"), "w").unwrap();
    assert_eq!(host.wait_key(&turn("1"), "w").unwrap(), key);
    assert_eq!(fixture.another().await.wait_key(&turn("1"), "w").unwrap(), key);
    let scope = open(&host, turn("1")).await;
    assert_eq!(scope.wait_key("w").unwrap(), key);
    assert_ne!(scope.wait_key("v").unwrap(), key);
    assert_eq!(WaitKey::from_text(key.as_str()), key, "it survives being written down");
    assert!(!format!("{key:?}").contains(key.as_str()), "it is a password, and is not printed");
}

/// A resolution that comes before anybody waits is kept.
pub async fn early_resolution(fixture: &dyn HostFixture) {
    let host = fixture.host();
    let scope = open(&host, turn("1")).await;
    let key = scope.wait_key("w").unwrap();
    assert_eq!(scope.controller().peek(&key).await.unwrap(), None);
    assert_eq!(host.resolve(&key, answer("yes")).await.unwrap(), Resolved::Accepted);
    assert_eq!(scope.wait(&key).await.unwrap(), answer("yes"));
    assert_eq!(scope.wait(&key).await.unwrap(), answer("yes"), "and told to whoever asks later");
    assert_eq!(scope.controller().peek(&key).await.unwrap(), Some(answer("yes")));
}

/// One that comes later wakes whoever waits.
pub async fn resolution_wakes_the_waiter(fixture: &dyn HostFixture) {
    let host = fixture.host();
    let scope = open(&host, turn("1")).await;
    let key = scope.wait_key("w").unwrap();
    let waiting = parked(Box::pin(scope.wait(&key))).await;
    assert_eq!(host.resolve(&key, answer(1)).await.unwrap(), Resolved::Accepted);
    assert_eq!(waiting.await.unwrap(), answer(1));
}

/// The first one stays; each later one is told it.
pub async fn duplicate_resolution(fixture: &dyn HostFixture) {
    let host = fixture.host();
    let scope = open(&host, turn("1")).await;
    let key = scope.wait_key("w").unwrap();
    assert_eq!(host.resolve(&key, answer(1)).await.unwrap(), Resolved::Accepted);
    assert_eq!(host.resolve(&key, answer(2)).await.unwrap(), already(answer(1)));
    assert_eq!(host.resolve(&key, answer(1)).await.unwrap(), already(answer(1)), "the same again is no first one");
    assert_eq!(host.resolve(&key, Resolution::Canceled).await.unwrap(), already(answer(1)));
    assert_eq!(scope.wait(&key).await.unwrap(), answer(1));
}

/// A cancel is a resolution, written like any other.
pub async fn cancel_terminal(fixture: &dyn HostFixture) {
    let host = fixture.host();
    let scope = open(&host, turn("1")).await;
    let key = scope.wait_key("w").unwrap();
    let cancel = CancellationToken::new();
    let waiting = parked(Box::pin(scope.controller().wait(&key, &cancel, None))).await;
    cancel.cancel();
    assert_eq!(waiting.await.unwrap(), Resolution::Canceled);
    assert_eq!(scope.wait(&key).await.unwrap(), Resolution::Canceled, "it stays");
}

/// So is a deadline.
pub async fn timeout_terminal(fixture: &dyn HostFixture) {
    let (host, clock) = (fixture.host(), fixture.clock());
    let scope = open(&host, turn("1")).await;
    let key = scope.wait_key("w").unwrap();
    let waiting = scope.wait_within(&key, Duration::from_secs(10));
    let passes = async {
        clock.asleep(1).await;
        clock.advance(Duration::from_secs(9));
        a_moment().await;
        assert_eq!(clock.sleepers(), 1, "not before its time");
        clock.advance(Duration::from_secs(1));
    };
    let (told, ()) = tokio::join!(waiting, passes);
    assert_eq!(told.unwrap(), Resolution::Timeout);
    assert_eq!(scope.wait(&key).await.unwrap(), Resolution::Timeout, "it stays");
    assert_eq!(host.resolve(&key, answer(1)).await.unwrap(), already(Resolution::Timeout));
    // It holds also when nobody was there to note that it passed.
    let key = scope.wait_key("unattended").unwrap();
    drop(parked(Box::pin(scope.wait_within(&key, Duration::from_secs(10)))).await);
    clock.advance(Duration::from_secs(11));
    assert_eq!(host.resolve(&key, answer(1)).await.unwrap(), already(Resolution::Timeout));
}

/// A deadline that is over when the wait begins answers at once; what was resolved before is told all the same.
pub async fn deadline_that_is_over_answers_at_once(fixture: &dyn HostFixture) {
    let host = fixture.host();
    let scope = open(&host, turn("1")).await;
    let over = Timestamp(scope.controller().now().0 - 1);
    let key = scope.wait_key("w").unwrap();
    assert_eq!(wait(&scope, &key, Some(over)).await.unwrap(), Resolution::Timeout);
    assert_eq!(host.resolve(&key, answer(1)).await.unwrap(), already(Resolution::Timeout));
    let key = scope.wait_key("resolved").unwrap();
    host.resolve(&key, answer(1)).await.unwrap();
    assert_eq!(wait(&scope, &key, Some(over)).await.unwrap(), answer(1));
}

/// Who waits again, with another deadline, waits until the first one.
pub async fn first_deadline_stays(fixture: &dyn HostFixture) {
    let (host, clock) = (fixture.host(), fixture.clock());
    let scope = open(&host, turn("1")).await;
    let key = scope.wait_key("w").unwrap();
    let due = scope.controller().now().after(Duration::from_secs(10));
    drop(parked(Box::pin(wait(&scope, &key, Some(due)))).await);
    clock.advance(Duration::from_secs(6));
    for later in [Some(due.after(Duration::from_secs(60))), None] {
        drop(parked(Box::pin(wait(&scope, &key, later))).await);
    }
    clock.advance(Duration::from_secs(4));
    let told = wait(&scope, &key, Some(due.after(Duration::from_secs(60)))).await;
    assert_eq!(told.unwrap(), Resolution::Timeout);
}

/// Whoever answers after the cancel is told so.
pub async fn late_resolve_after_cancel(fixture: &dyn HostFixture) {
    let host = fixture.host();
    let scope = open(&host, turn("1")).await;
    let key = scope.wait_key("w").unwrap();
    let cancel = CancellationToken::new();
    cancel.cancel();
    assert_eq!(scope.controller().wait(&key, &cancel, None).await.unwrap(), Resolution::Canceled);
    assert_eq!(host.resolve(&key, answer(1)).await.unwrap(), already(Resolution::Canceled));
}

/// A revoked session's waits are unknown: to whoever is parked, to whoever resolves, to whoever waits later.
pub async fn session_revoked(fixture: &dyn HostFixture) {
    let host = fixture.host();
    let (scope, other) = (open(&host, turn("1")).await, open(&host, ExecutionScope::turn("session-2", "1")).await);
    let (key, others, early) =
        (scope.wait_key("w").unwrap(), other.wait_key("w").unwrap(), scope.wait_key("early").unwrap());
    host.resolve(&early, answer(1)).await.unwrap();
    let waiting = parked(Box::pin(scope.wait(&key))).await;
    let unconcerned = parked(Box::pin(other.wait(&others))).await;
    assert_eq!(host.revoke_session("session-1").await.unwrap(), 1);
    assert_eq!(code(waiting.await), UNKNOWN);
    assert_eq!(code(scope.wait(&key).await), UNKNOWN);
    assert_eq!(code(host.resolve(&key, answer(1)).await), UNKNOWN);
    assert_eq!(code(scope.controller().peek(&key).await), UNKNOWN);
    assert_eq!(code(scope.wait(&early).await), UNKNOWN, "also one that was resolved");
    assert_eq!(host.revoke_session("session-1").await.unwrap(), 0);
    // Turns that begin later are of the same session.
    let later = open(&host, turn("2")).await;
    assert_eq!(code(later.wait(&later.wait_key("w").unwrap()).await), UNKNOWN);
    // And nobody else's are touched.
    assert_eq!(host.resolve(&others, answer(2)).await.unwrap(), Resolved::Accepted);
    assert_eq!(unconcerned.await.unwrap(), answer(2));
}

/// A session that cancels: what is outstanding is resolved as canceled, what was resolved stays, and what is new works.
pub async fn session_cancel_resolves_outstanding_and_keeps_the_session_usable(fixture: &dyn HostFixture) {
    let host = fixture.host();
    let drain = ExecutionScope::QueueDrain { session: "session-1".into(), drain: "1".into() };
    let (scope, drain) = (open(&host, turn("1")).await, open(&host, drain).await);
    let other = open(&host, ExecutionScope::turn("session-2", "1")).await;
    let (key, drained, others) =
        (scope.wait_key("w").unwrap(), drain.wait_key("w").unwrap(), other.wait_key("w").unwrap());
    let early = scope.wait_key("early").unwrap();
    host.resolve(&early, answer(1)).await.unwrap();
    let (one, two, three) = (
        parked(Box::pin(scope.wait(&key))).await,
        parked(Box::pin(drain.wait(&drained))).await,
        parked(Box::pin(other.wait(&others))).await,
    );
    assert_eq!(host.cancel_session("session-1").await.unwrap(), 2);
    assert_eq!((one.await.unwrap(), two.await.unwrap()), (Resolution::Canceled, Resolution::Canceled));
    assert_eq!(host.resolve(&key, answer(1)).await.unwrap(), already(Resolution::Canceled));
    assert_eq!(scope.wait(&early).await.unwrap(), answer(1));
    let key = scope.wait_key("new").unwrap();
    let waiting = parked(Box::pin(scope.wait(&key))).await;
    assert_eq!(host.resolve(&key, answer(2)).await.unwrap(), Resolved::Accepted);
    assert_eq!(waiting.await.unwrap(), answer(2));
    assert_eq!(host.resolve(&others, answer(3)).await.unwrap(), Resolved::Accepted);
    assert_eq!(three.await.unwrap(), answer(3));
}

/// Deleting a session revokes its waits, and removes them.
pub async fn session_deleted(fixture: &dyn HostFixture) {
    let host = fixture.host();
    let scope = open(&host, turn("1")).await;
    let key = scope.wait_key("w").unwrap();
    let waiting = parked(Box::pin(scope.wait(&key))).await;
    assert_eq!(host.delete_session("session-1").await.unwrap(), 1);
    assert_eq!(code(waiting.await), UNKNOWN);
    assert_eq!(code(host.resolve(&key, answer(1)).await), UNKNOWN);
    assert_eq!(host.delete_session("session-1").await.unwrap(), 0);
    assert_eq!(code(scope.wait(&key).await), UNKNOWN);
}

/// A key whose scope, session or identity was exchanged, whose signature was changed, or any of whose characters differs, is
/// refused alike by resolving, waiting and looking, without the store being asked.
pub async fn tampered_in_each_field(fixture: &dyn HostFixture) {
    let host = fixture.host();
    let scope = open(&host, turn("1")).await;
    let key = scope.wait_key("w").unwrap();
    let of = |scope: ExecutionScope, identity: &str| host.wait_key(&scope, identity).unwrap().as_str().to_owned();
    let neighbours = [
        ("identity", of(turn("1"), "v")),
        ("turn", of(turn("2"), "w")),
        ("session", of(ExecutionScope::turn("session-2", "1"), "w")),
        ("kind", of(ExecutionScope::QueueDrain { session: "session-1".into(), drain: "1".into() }, "w")),
    ];
    let mut forged = Vec::new();
    let parts: Vec<&str> = key.as_str().split('.').collect();
    for (field, neighbour) in &neighbours {
        let others: Vec<&str> = neighbour.split('.').collect();
        assert_eq!(parts.len(), others.len());
        for at in 0..parts.len() {
            let mut grafted = parts.clone();
            if grafted[at] != others[at] {
                grafted[at] = others[at];
                forged.push((format!("{field}, part {at}"), grafted.join(".")));
            }
        }
    }
    for at in 0..key.as_str().len() {
        let mut bytes = key.as_str().as_bytes().to_vec();
        bytes[at] = if bytes[at] == b'0' { b'1' } else { b'0' };
        forged.push((format!("character {at}"), String::from_utf8(bytes).unwrap()));
    }
    let text = key.as_str();
    for (what, changed) in [
        ("longer", format!("{text}0")),
        ("shorter", text[..text.len() - 1].to_owned()),
        ("in capitals", text.to_uppercase().replacen("DW", "dw", 1)),
        ("unsigned", parts[..parts.len() - 1].join(".")),
        ("empty", String::new()),
    ] {
        forged.push((what.to_owned(), changed));
    }
    let before = fixture.faults().map(|faults| faults.calls());
    for (what, text) in forged {
        let forged = WaitKey::from_text(text);
        assert_eq!(code(host.resolve(&forged, answer(1)).await), UNKNOWN, "{what}");
        assert_eq!(code(scope.wait(&forged).await), UNKNOWN, "{what}");
        assert_eq!(code(scope.controller().peek(&forged).await), UNKNOWN, "{what}");
    }
    assert_eq!(fixture.faults().map(|faults| faults.calls()), before, "the store is not asked for a forged key");
    assert_eq!(host.resolve(&key, answer(1)).await.unwrap(), Resolved::Accepted, "and the wait is untouched");
}

/// A key that another store signed is worth nothing here.
pub async fn foreign_key_refused(fixture: &dyn HostFixture) {
    let host = fixture.host();
    let scope = open(&host, turn("1")).await;
    let address = WaitAddress { scope: turn("1"), identity: "w".into() };
    for byte in [0, 1, 0x5a] {
        let foreign = WaitKey::sign(&Secret::new([byte; 32]), &address).unwrap();
        assert_eq!(code(host.resolve(&foreign, answer(1)).await), UNKNOWN);
        assert_eq!(code(scope.wait(&foreign).await), UNKNOWN);
    }
}

/// A key of a scope that was never opened, however well signed, meets nothing and leaves nothing.
pub async fn unknown_wait_leaves_no_row(fixture: &dyn HostFixture) {
    let host = fixture.host();
    let scope = open(&host, turn("1")).await;
    let key = host.wait_key(&turn("never opened"), "w").unwrap();
    assert_eq!(code(host.resolve(&key, answer(1)).await), UNKNOWN);
    assert_eq!(code(scope.controller().peek(&key).await), UNKNOWN);
    assert_eq!(code(wait(&scope, &key, Some(scope.controller().now())).await), UNKNOWN);
    assert_eq!(host.cancel_session("session-1").await.unwrap(), 0, "there is nothing to cancel");
    let opened = open(&host, turn("never opened")).await;
    assert_eq!(opened.controller().peek(&key).await.unwrap(), None);
    assert_eq!(host.cancel_session("session-1").await.unwrap(), 0, "a look leaves nothing either");
    assert_eq!(host.resolve(&key, answer(2)).await.unwrap(), Resolved::Accepted);
}

/// Whoever stops to wait takes nothing along: the wait stays open for the next one.
pub async fn dropped_waiter_leaves_nothing(fixture: &dyn HostFixture) {
    let host = fixture.host();
    let scope = open(&host, turn("1")).await;
    let key = scope.wait_key("w").unwrap();
    for _ in 0..3 {
        drop(parked(Box::pin(scope.wait(&key))).await);
    }
    let cancel = CancellationToken::new();
    drop(parked(Box::pin(scope.controller().wait(&key, &cancel, None))).await);
    cancel.cancel();
    a_moment().await;
    assert_eq!(scope.controller().peek(&key).await.unwrap(), None, "no dropped waiter resolves it");
    assert_eq!(fixture.clock().sleepers(), 0);
    let waiting = parked(Box::pin(scope.wait(&key))).await;
    assert_eq!(host.resolve(&key, answer(1)).await.unwrap(), Resolved::Accepted);
    assert_eq!(waiting.await.unwrap(), answer(1));
}

/// A key that was sent to somebody is good after a restart, byte for byte.
pub async fn key_bytes_survive_reopen(fixture: &dyn HostFixture) {
    let of = async || {
        let host = fixture.host();
        let scope = open(&host, turn("1")).await;
        scope.wait_key("w").unwrap().as_str().to_owned()
    };
    let sent = of().await;
    fixture.reopen().await;
    assert_eq!(of().await, sent);
    let host = fixture.host();
    let scope = open(&host, turn("1")).await;
    let key = WaitKey::from_text(sent);
    assert_eq!(host.resolve(&key, answer(1)).await.unwrap(), Resolved::Accepted);
    assert_eq!(scope.wait(&key).await.unwrap(), answer(1));
}

/// What was accepted is there after a restart.
pub async fn resolution_survives_reopen(fixture: &dyn HostFixture) {
    {
        let host = fixture.host();
        let scope = open(&host, turn("1")).await;
        host.resolve(&scope.wait_key("w").unwrap(), answer("kept")).await.unwrap();
        let cancel = CancellationToken::new();
        cancel.cancel();
        scope.controller().wait(&scope.wait_key("canceled").unwrap(), &cancel, None).await.unwrap();
    }
    fixture.reopen().await;
    let host = fixture.host();
    // The host's own key is enough to be told, before anybody opened the scope again.
    let key = host.wait_key(&turn("1"), "w").unwrap();
    assert_eq!(host.resolve(&key, answer(2)).await.unwrap(), already(answer("kept")));
    let scope = open(&host, turn("1")).await;
    assert_eq!(scope.wait(&key).await.unwrap(), answer("kept"));
    assert_eq!(scope.wait(&scope.wait_key("canceled").unwrap()).await.unwrap(), Resolution::Canceled);
}

/// So is a revocation.
pub async fn revocation_survives_reopen(fixture: &dyn HostFixture) {
    for (session, delete) in [("session-1", false), ("session-2", true)] {
        let scope_of = |turn: &str| ExecutionScope::turn(session, turn);
        {
            let host = fixture.host();
            let scope = open(&host, scope_of("1")).await;
            drop(parked(Box::pin(scope.wait(&scope.wait_key("w").unwrap()))).await);
            let revoked = if delete { host.delete_session(session).await } else { host.revoke_session(session).await };
            assert_eq!(revoked.unwrap(), 1);
        }
        fixture.reopen().await;
        let host = fixture.host();
        let scope = open(&host, scope_of("1")).await;
        for key in [scope.wait_key("w").unwrap(), scope.wait_key("new").unwrap()] {
            assert_eq!(code(host.resolve(&key, answer(1)).await), UNKNOWN);
            assert_eq!(code(scope.wait(&key).await), UNKNOWN);
        }
        let later = open(&host, scope_of("2")).await;
        assert_eq!(code(later.wait(&later.wait_key("w").unwrap()).await), UNKNOWN);
    }
}

/// So is a deadline: it is not counted anew.
pub async fn deadline_survives_reopen(fixture: &dyn HostFixture) {
    let clock = fixture.clock();
    let limit = Duration::from_secs(10);
    {
        let host = fixture.host();
        let scope = open(&host, turn("1")).await;
        for name in ["w", "passed"] {
            drop(parked(Box::pin(scope.wait_within(&scope.wait_key(name).unwrap(), limit))).await);
        }
    }
    clock.advance(Duration::from_secs(7));
    fixture.reopen().await;
    {
        let host = fixture.host();
        let scope = open(&host, turn("1")).await;
        let key = scope.wait_key("w").unwrap();
        let passes = async {
            clock.asleep(1).await;
            clock.advance(Duration::from_secs(2));
            a_moment().await;
            assert_eq!(clock.sleepers(), 1, "not before its time");
            clock.advance(Duration::from_secs(1));
        };
        let (told, ()) = tokio::join!(scope.wait_within(&key, limit), passes);
        assert_eq!(told.unwrap(), Resolution::Timeout, "ten seconds from the first wait, not from the second");
    }
    // One that passed while nobody was there.
    fixture.reopen().await;
    let host = fixture.host();
    let scope = open(&host, turn("1")).await;
    let key = scope.wait_key("passed").unwrap();
    assert_eq!(scope.wait_within(&key, limit).await.unwrap(), Resolution::Timeout);
    assert_eq!(host.resolve(&key, answer(1)).await.unwrap(), already(Resolution::Timeout));
}

/// Whoever is parked in one process is woken by a resolution in another one, which does not have the scope.
pub async fn resolve_from_another_instance(fixture: &dyn HostFixture) {
    let (host, other) = (fixture.host(), fixture.another().await);
    let scope = open(&host, turn("1")).await;
    let key = scope.wait_key("w").unwrap();
    let waiting = parked(Box::pin(scope.wait(&key))).await;
    assert_eq!(other.resolve(&key, answer("from afar")).await.unwrap(), Resolved::Accepted);
    assert_eq!(waiting.await.unwrap(), answer("from afar"));
    assert_eq!(host.resolve(&key, answer(2)).await.unwrap(), already(answer("from afar")));
}

/// And by a cancel or a revocation there.
pub async fn cancel_from_another_instance(fixture: &dyn HostFixture) {
    let (host, other) = (fixture.host(), fixture.another().await);
    let scope = open(&host, turn("1")).await;
    let key = scope.wait_key("w").unwrap();
    let waiting = parked(Box::pin(scope.wait(&key))).await;
    assert_eq!(other.cancel_session("session-1").await.unwrap(), 1);
    assert_eq!(waiting.await.unwrap(), Resolution::Canceled);
    let key = scope.wait_key("revoked").unwrap();
    let waiting = parked(Box::pin(scope.wait(&key))).await;
    assert_eq!(other.revoke_session("session-1").await.unwrap(), 1);
    assert_eq!(code(waiting.await), UNKNOWN);
}

/// A look is an effect: a replay sees what was seen, though more has happened since.
pub async fn what_was_seen_is_replayed(fixture: &dyn HostFixture) {
    {
        let host = fixture.host();
        let scope = open(&host, turn("1")).await;
        assert_eq!(scope.peek("first look", "w").await.unwrap(), None);
        host.resolve(&scope.wait_key("w").unwrap(), answer(1)).await.unwrap();
        assert_eq!(scope.peek("second look", "w").await.unwrap(), Some(answer(1)));
    }
    fixture.reopen().await;
    let host = fixture.host();
    let scope = open(&host, turn("1")).await;
    assert_eq!(scope.peek("first look", "w").await.unwrap(), None);
    assert_eq!(scope.peek("second look", "w").await.unwrap(), Some(answer(1)));
    assert_eq!(scope.peek("third look", "w").await.unwrap(), Some(answer(1)));
}

/// So is a wait: one that was cut off goes on, one that ended is told.
pub async fn awaited_event_is_replayed(fixture: &dyn HostFixture) {
    {
        let host = fixture.host();
        let scope = open(&host, turn("1")).await;
        drop(parked(Box::pin(scope.await_event("asked", "w", None))).await);
    }
    fixture.reopen().await;
    {
        let host = fixture.host();
        let scope = open(&host, turn("1")).await;
        let waiting = parked(Box::pin(scope.await_event("asked", "w", None))).await;
        host.resolve(&scope.wait_key("w").unwrap(), answer(1)).await.unwrap();
        assert_eq!(waiting.await.unwrap(), answer(1));
    }
    fixture.reopen().await;
    let host = fixture.host();
    let scope = open(&host, turn("1")).await;
    let before = fixture.faults().map(|faults| faults.count(StoreCall::Register));
    assert_eq!(scope.await_event("asked", "w", None).await.unwrap(), answer(1));
    assert_eq!(fixture.faults().map(|faults| faults.count(StoreCall::Register)), before, "nobody waits again");
}

/// A wait that is cut off again and again goes on: it is never left to an operator, and its restarts cost no write.
pub async fn awaited_event_outlives_many_restarts(fixture: &dyn HostFixture) {
    for _ in 0..DOUBTS * 2 {
        {
            let host = fixture.host();
            let scope = open(&host, turn("1")).await;
            drop(parked(Box::pin(scope.await_event("asked", "w", None))).await);
        }
        fixture.reopen().await;
    }
    let host = fixture.host();
    let scope = open(&host, turn("1")).await;
    let changes = fixture.faults().map(|faults| faults.count(StoreCall::Change));
    let waiting = parked(Box::pin(scope.await_event("asked", "w", None))).await;
    assert_eq!(fixture.faults().map(|faults| faults.count(StoreCall::Change)), changes);
    host.resolve(&scope.wait_key("w").unwrap(), answer(1)).await.unwrap();
    assert_eq!(waiting.await.unwrap(), answer(1));
}

/// A store that fails ends no wait: the caller hears of the store, and asks again. A resolution whose answer was lost is there.
pub async fn store_error_is_no_end_of_a_wait(fixture: &dyn HostFixture) {
    let Some(faults) = faults_of(fixture) else { return };
    let host: Arc<dyn EffectHost> = fixture.host();
    let scope = open(&host, turn("1")).await;
    for (name, moment, then) in
        [("before", Moment::Before, Resolved::Accepted), ("after", Moment::After, already(answer(1)))]
    {
        let key = scope.wait_key(name).unwrap();
        faults.fail_next(StoreCall::Register, moment);
        assert_eq!(code(scope.wait(&key).await), "durable_store_failed");
        let waiting = parked(Box::pin(scope.wait(&key))).await;
        faults.fail_next(StoreCall::Resolve, moment);
        assert_eq!(code(host.resolve(&key, answer(1)).await), "durable_store_failed");
        assert_eq!(host.resolve(&key, answer(1)).await.unwrap(), then);
        assert_eq!(waiting.await.unwrap(), answer(1), "{name}");
        // Whoever follows the ends of waits is told of them though the list could not be read at first.
        let key = scope.wait_key(&format!("{name}, unread")).unwrap();
        let other = fixture.another().await;
        let waiting = parked(Box::pin(scope.wait(&key))).await;
        faults.fail_next(StoreCall::EndedAfter, moment);
        other.resolve(&key, answer(3)).await.unwrap();
        assert_eq!(waiting.await.unwrap(), answer(3));
    }
}
