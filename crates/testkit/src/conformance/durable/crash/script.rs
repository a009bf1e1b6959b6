//! What is played.

use std::sync::Arc;
use std::time::Duration;

use dalsegno_durable::{
    Call, Command, DurableError, EffectError, EffectHost, ExecutionScope, InDoubt, Probed, Resolution, Resolved, Retry,
    Scope, Settled, Settlement,
};
use futures::FutureExt;
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::world::{Line, World};

/// Everything that a whole play is told; the judge looks for each.
pub(super) const TOLD: [&str; 30] = [
    "plan",
    "pay",
    "pay again",
    "pay of session-2",
    "mail",
    "launch",
    "refused",
    "busy",
    "together a",
    "together b",
    "together c",
    "nap",
    "resolved early",
    "resolved elsewhere",
    "deadline",
    "canceled",
    "asked",
    "first look",
    "second look",
    "session canceled",
    "usable afterwards",
    "revoked",
    "stolen",
    "drain",
    "import 1",
    "import 2",
    "import 3",
    "import ended",
    "import is gone",
    "ended",
];

/// Plays the script from its beginning. `host` and `other` are two owners of one database, and `sweeper` a third, which keeps nothing
/// that has ended.
///
/// # Panics
/// When something is told that may not be.
pub async fn play(world: &World, host: &Arc<dyn EffectHost>, other: &Arc<dyn EffectHost>, sweeper: &dyn EffectHost) {
    let play = Play { world, host, other };
    play.import(sweeper).await;
    let scope = play.open(ExecutionScope::turn("session-1", "1")).await;
    play.effects(&scope).await;
    play.operator(&scope).await;
    play.time(&scope).await;
    play.waits(&scope).await;
    play.sessions().await;
    play.theft().await;
    scope.end().await.unwrap();
    play.told("ended", json!(true));
    if !world.is_frozen() {
        world.note(&Line::Ended);
    }
}

struct Play<'p> {
    world: &'p World,
    host: &'p Arc<dyn EffectHost>,
    other: &'p Arc<dyn EffectHost>,
}

fn external(request: &str) -> Command {
    Command::External { system: "remote".into(), request: json!(request) }
}

fn answered(payload: &str) -> Resolution {
    Resolution::Answered { payload: json!(payload) }
}

fn as_told(told: Result<Value, DurableError>) -> Value {
    match told {
        Ok(output) => json!({"output": output}),
        Err(error) => json!({"error": error.code()}),
    }
}

fn as_waited(told: Result<Resolution, DurableError>) -> Value {
    as_told(told.map(|resolution| json!(resolution)))
}

impl Play<'_> {
    /// The owner that was killed holds nothing up.
    async fn open(&self, scope: ExecutionScope) -> Scope<'_> {
        self.host.scoped(scope).await.unwrap()
    }

    fn told(&self, what: &str, value: Value) {
        if self.world.is_frozen() {
            assert_eq!(self.world.told(what), Some(value), "{what} is told otherwise than it was");
            return;
        }
        self.world.note(&Line::Told { what: what.to_owned(), value });
        self.world.point("told");
    }

    /// One effect at a remote; what it answers is told.
    async fn at_remote(&self, scope: &Scope<'_>, key: &str, policy: InDoubt) -> Result<Value, DurableError> {
        let effect = scope.effect(key, external(key)).in_doubt(policy);
        let effect = if policy == InDoubt::Probe {
            effect.probe(|call| {
                let found = self.world.applied(&call.idempotency_key);
                self.world.note(&Line::Probed { idempotency_key: call.idempotency_key, found: found.is_some() });
                self.world.point("probed");
                std::future::ready(found.map_or(Probed::NotApplied, Probed::Applied))
            })
        } else {
            effect
        };
        let run = |call: Call| {
            self.world.enter(scope.scope(), key, &call);
            let told = self.world.apply(key, &call, policy == InDoubt::SameKey);
            async move {
                tokio::task::yield_now().await;
                told
            }
        };
        effect.run(run).await
    }

    async fn effects(&self, scope: &Scope<'_>) {
        let world = self.world;
        let plan = Command::DurableStep { name: "plan".into(), input: json!({"for": "the turn"}) };
        let run = |call: Call| {
            world.enter(scope.scope(), "plan", &call);
            std::future::ready(Ok(json!(["pay", "mail", call.attempt])))
        };
        self.told("plan", as_told(scope.effect("plan", plan).run(run).await));
        self.told("pay", as_told(self.at_remote(scope, "pay", InDoubt::SameKey).await));
        self.told("pay again", as_told(self.at_remote(scope, "pay", InDoubt::SameKey).await));
        let two = self.open(ExecutionScope::turn("session-2", "1")).await;
        self.told("pay of session-2", as_told(self.at_remote(&two, "pay", InDoubt::SameKey).await));
        self.told("mail", as_told(self.at_remote(scope, "mail", InDoubt::Probe).await));
        let run = |call: Call| {
            world.enter(scope.scope(), "refused", &call);
            std::future::ready(Err::<Value, _>(EffectError::permanent("refused_by_remote", "not for you")))
        };
        let refused = scope.effect("refused", external("refused")).in_doubt(InDoubt::Rerun).run(run).await;
        self.told("refused", as_told(refused));
        let (a, b, c) = tokio::join!(
            self.at_remote(scope, "together a", InDoubt::SameKey),
            self.at_remote(scope, "together b", InDoubt::SameKey),
            self.at_remote(scope, "together c", InDoubt::Probe),
        );
        for (what, told) in [("together a", a), ("together b", b), ("together c", c)] {
            self.told(what, as_told(told));
        }
        let drain = self.open(ExecutionScope::QueueDrain { session: "session-1".into(), drain: "1".into() }).await;
        self.told("drain", as_told(self.at_remote(&drain, "pay", InDoubt::SameKey).await));
    }

    /// An effect that nobody but an operator can settle; the operator looks at the ledger.
    async fn operator(&self, scope: &Scope<'_>) {
        let mut told = self.at_remote(scope, "launch", InDoubt::Park).await;
        if matches!(told, Err(DurableError::InDoubt { .. })) {
            let key = self.world.last_key("launch");
            let applied = key.and_then(|key| self.world.applied(&key));
            let settlement = applied.map_or(Settlement::NotApplied, Settlement::Applied);
            self.world.point("settling");
            let who = Settled { by: "an operator".into(), why: "looked at the ledger".into() };
            scope.controller().settle("launch", settlement, who).await.unwrap();
            told = self.at_remote(scope, "launch", InDoubt::Park).await;
        }
        self.told("launch", as_told(told));
    }

    /// Notes when something is over, by its record, as soon as the record says so.
    async fn note_due(&self, scope: &Scope<'_>, key: &str) {
        loop {
            let records = scope.controller().effects().await.unwrap();
            if let Some(at) = records.into_iter().find(|record| record.replay_key == key).and_then(|it| it.state.due_at)
            {
                if !self.world.is_frozen() {
                    self.world.note(&Line::Due { what: key.to_owned(), at: at.0 });
                    self.world.point("waiting");
                }
                return std::future::pending().await;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    async fn time(&self, scope: &Scope<'_>) {
        let slept = tokio::select! {
            slept = scope.sleep("nap", Duration::from_millis(40)) => slept,
            () = self.note_due(scope, "nap") => unreachable!("it never ends"),
        };
        self.told("nap", as_told(slept.map(|()| Value::Null)));
        let retry = Retry { attempts: 3, base: Duration::from_millis(8), cap: Duration::from_secs(1) };
        let run = |call: Call| {
            self.world.enter(scope.scope(), "busy", &call);
            let answer = if call.attempt < 3 {
                Err(EffectError::retryable("busy", "try again"))
            } else {
                self.world.apply("busy", &call, true)
            };
            std::future::ready(answer)
        };
        let busy =
            scope.effect("busy", external("busy")).in_doubt(InDoubt::SameKey).retry(retry).run::<Value, _, _>(run);
        self.told("busy", as_told(busy.await));
    }

    /// Resolves; that it was the first is told once at most.
    async fn resolve(&self, host: &Arc<dyn EffectHost>, scope: &Scope<'_>, identity: &str) {
        let key = scope.wait_key(identity).unwrap();
        let resolved = host.resolve(&key, answered(identity)).await.unwrap();
        match resolved {
            Resolved::Accepted if self.world.is_frozen() => panic!("{identity} was resolved long ago"),
            Resolved::Accepted => {
                let what = format!("accepted {identity}");
                self.world.note(&Line::Told { what, value: json!(answered(identity)) });
                self.world.point("resolved");
            }
            Resolved::AlreadyResolved { terminal } => assert_eq!(terminal, answered(identity)),
        }
    }

    async fn waits(&self, scope: &Scope<'_>) {
        let key = |identity: &str| scope.wait_key(identity).unwrap();
        self.resolve(self.host, scope, "early").await;
        self.told("resolved early", as_waited(scope.wait(&key("early")).await));
        let elsewhere = key("elsewhere");
        let (told, ()) = tokio::join!(scope.wait(&elsewhere), self.resolve(self.other, scope, "elsewhere"));
        self.told("resolved elsewhere", as_waited(told));
        self.told("deadline", as_waited(scope.wait_within(&key("deadline"), Duration::from_millis(15)).await));
        let cancel = CancellationToken::new();
        cancel.cancel();
        self.told("canceled", as_waited(scope.controller().wait(&key("canceled"), &cancel, None).await));
        let look = scope.peek("first look", "asked").await.map(|seen| json!(seen));
        self.told("first look", as_told(look));
        let (told, ()) =
            tokio::join!(scope.await_event("asked", "asked", None), self.resolve(self.other, scope, "asked"));
        self.told("asked", as_waited(told));
        self.told("second look", as_told(scope.peek("second look", "asked").await.map(|seen| json!(seen))));
    }

    async fn sessions(&self) {
        let three = self.open(ExecutionScope::turn("session-3", "1")).await;
        let key = three.wait_key("outstanding").unwrap();
        // Registered before it is canceled, in whichever process.
        let waiting = three.wait(&key).boxed();
        let cancel = async {
            loop {
                tokio::time::sleep(Duration::from_millis(2)).await;
                self.host.cancel_session("session-3").await.unwrap();
            }
        };
        let told = tokio::select! {
            told = waiting => told,
            () = cancel => unreachable!("it never ends"),
        };
        self.told("session canceled", as_waited(told));
        self.resolve(self.host, &three, "usable").await;
        self.told("usable afterwards", as_waited(three.wait(&three.wait_key("usable").unwrap()).await));
        let four = self.open(ExecutionScope::turn("session-4", "1")).await;
        let key = four.wait_key("w").unwrap();
        let waiting = four.wait(&key);
        let revoke = async {
            tokio::time::sleep(Duration::from_millis(2)).await;
            self.other.revoke_session("session-4").await.unwrap();
        };
        let (told, ()) = tokio::join!(waiting, revoke);
        self.told("revoked", as_waited(told));
        assert_eq!(
            as_told(self.host.resolve(&key, answered("late")).await.map(|_| Value::Null))["error"],
            "await_event_unknown_or_revoked"
        );
    }

    /// An owner that loses its scope in the middle of an effect.
    async fn theft(&self) {
        let scope_of = || ExecutionScope::turn("session-5", "1");
        let scope = self.host.take_over(scope_of()).await.unwrap();
        let (entered, release) = (Notify::new(), Notify::new());
        let (halted, free) = (&entered, &release);
        let run = |call: Call| {
            self.world.enter(scope.scope(), "stolen", &call);
            let told = self.world.apply("stolen", &call, true);
            async move {
                halted.notify_one();
                free.notified().await;
                told
            }
        };
        let mut ours =
            scope.effect("stolen", external("stolen")).in_doubt(InDoubt::SameKey).run::<Value, _, _>(run).boxed();
        let told = tokio::select! {
            told = &mut ours => told,
            () = entered.notified() => {
                let taken = self.other.take_over(scope_of()).await.unwrap();
                let told = self.at_remote(&taken, "stolen", InDoubt::SameKey).await;
                release.notify_one();
                assert_eq!(as_told(ours.await)["error"], "lease_lost");
                told
            }
        };
        self.told("stolen", as_told(told));
    }

    /// A scope that ends, and is pruned.
    async fn import(&self, sweeper: &dyn EffectHost) {
        let scope_of = || ExecutionScope::process("import");
        match self.host.scoped(scope_of()).await {
            Ok(scope) => {
                for number in 1..=3 {
                    let key = format!("import {number}");
                    self.told(&key, as_told(self.at_remote(&scope, &key, InDoubt::SameKey).await));
                }
                scope.end().await.unwrap();
                self.told("import ended", json!(true));
                self.world.point("ended");
                // What ended in this very millisecond is not old yet.
                tokio::time::sleep(Duration::from_millis(2)).await;
                // Only what has ended by now is swept: nothing else ends before the script does.
                assert!(sweeper.prune().await.unwrap() <= 1);
            }
            Err(error) => {
                assert_eq!(error.code(), "scope_ended");
                assert!(self.world.told("import ended").is_some(), "it is gone, and nobody ended it");
            }
        }
        let late = self.host.wait_key(&scope_of(), "late").unwrap();
        let late = as_told(self.host.resolve(&late, answered("late")).await.map(|_| Value::Null));
        let opened = self.host.scoped(scope_of()).await.map(|_| Value::Null);
        self.told("import is gone", json!([late, as_told(opened)]));
    }
}
