//! A host that writes down what it is asked for, and executes nothing but sleeps and steps.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use dalsegno_durable::key::Secret;
use dalsegno_durable::{
    Call, Claim, ContentHash, DurableError, EffectError, EffectHost, EffectKind, EffectPlan, EffectRecord,
    ExecutionScope, InDoubt, MemoryStore, Resolution, Resolved, ScopeController, Settled, Settlement, StoredHost,
    Timestamp, WaitKey,
};
use futures::FutureExt;
use futures::future::BoxFuture;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

/// A scope that was opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selected {
    /// Which.
    pub scope: ExecutionScope,
    /// For a task of its own, and not for as long as the host is borrowed.
    pub owned: bool,
}

/// An effect that was asked for; each call is one, replays as well.
#[derive(Debug, Clone, PartialEq)]
pub struct Asked {
    /// The scope that it was asked of.
    pub scope: ExecutionScope,
    /// Its name for people.
    pub effect_id: String,
    /// Its identity in the scope.
    pub replay_key: String,
    /// Its kind.
    pub kind: EffectKind,
    /// The hash of its content.
    pub hash: ContentHash,
    /// How it would be settled.
    pub in_doubt: InDoubt,
}

/// A host around another one, for tests of runtimes: which scopes do they select, and which effects do they ask for?
///
/// Sleeps and steps are executed. Every other effect is answered by what [`RecordingHost::answer`] was given for its replay key, and
/// without that it fails for good with the code `not_executed`. The rules hold all the same: what was answered is recorded, replayed, and
/// refused to another content. Waits are real.
///
/// ```
/// # use dalsegno_durable::{Command, EffectHost, EffectKind, ExecutionScope};
/// # use dalsegno_testkit::durable::RecordingHost;
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), dalsegno_durable::DurableError> {
/// let host = RecordingHost::new();
/// host.answer("ask", "42");
/// let scope = host.scoped(ExecutionScope::turn("session-1", "turn-1")).await?;
/// let ask = Command::LlmCall { request: "what is six times seven?".into() };
/// let said: String = scope.effect("ask", ask).run(|_| async { unreachable!("nothing is executed") }).await?;
/// assert_eq!(said, "42");
/// assert_eq!(host.selected()[0].scope.turn_id(), Some("turn-1"));
/// assert_eq!(host.asked()[0].kind, EffectKind::LlmCall);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct RecordingHost {
    inner: Arc<dyn EffectHost>,
    notes: Arc<Notes>,
}

impl std::fmt::Debug for RecordingHost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RecordingHost").field("notes", &self.notes).finish_non_exhaustive()
    }
}

impl Default for RecordingHost {
    fn default() -> Self {
        Self::new()
    }
}

#[derive(Debug, Default)]
struct Notes {
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    selected: Vec<Selected>,
    asked: Vec<Asked>,
    answers: BTreeMap<String, Value>,
}

impl Notes {
    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RecordingHost {
    /// Over a host in memory.
    #[must_use]
    pub fn new() -> Self {
        Self::around(Arc::new(StoredHost::new(Arc::new(MemoryStore::new(Secret::new([0; 32]))))))
    }

    /// Over a host that keeps the records.
    #[must_use]
    pub fn around(inner: Arc<dyn EffectHost>) -> Self {
        Self { inner, notes: Arc::default() }
    }

    /// What the effects under this replay key are answered with, in every scope.
    pub fn answer(&self, replay_key: &str, output: impl Into<Value>) {
        self.notes.lock().answers.insert(replay_key.to_owned(), output.into());
    }

    /// The scopes that were selected, in order.
    #[must_use]
    pub fn selected(&self) -> Vec<Selected> {
        self.notes.lock().selected.clone()
    }

    /// The effects that were asked for, in order.
    #[must_use]
    pub fn asked(&self) -> Vec<Asked> {
        self.notes.lock().asked.clone()
    }

    fn select(&self, scope: &ExecutionScope, owned: bool) {
        self.notes.lock().selected.push(Selected { scope: scope.clone(), owned });
    }
}

#[async_trait]
impl EffectHost for RecordingHost {
    fn supports_durable_effects(&self) -> bool {
        self.inner.supports_durable_effects()
    }

    async fn controller<'h>(
        &'h self,
        scope: ExecutionScope,
        claim: Claim,
    ) -> Result<Arc<dyn ScopeController + 'h>, DurableError> {
        self.select(&scope, false);
        let inner = self.inner.controller(scope, claim).await?;
        Ok(Arc::new(RecordingController { inner, notes: Arc::clone(&self.notes) }))
    }

    async fn static_controller(
        &self,
        scope: ExecutionScope,
        claim: Claim,
    ) -> Result<Option<Arc<dyn ScopeController>>, DurableError> {
        self.select(&scope, true);
        let inner = self.inner.static_controller(scope, claim).await?;
        Ok(inner.map(|inner| {
            Arc::new(RecordingController { inner, notes: Arc::clone(&self.notes) }) as Arc<dyn ScopeController>
        }))
    }

    fn wait_key(&self, scope: &ExecutionScope, identity: &str) -> Result<WaitKey, DurableError> {
        self.inner.wait_key(scope, identity)
    }

    async fn resolve(&self, key: &WaitKey, resolution: Resolution) -> Result<Resolved, DurableError> {
        self.inner.resolve(key, resolution).await
    }

    async fn cancel_session(&self, session: &str) -> Result<u64, DurableError> {
        self.inner.cancel_session(session).await
    }

    async fn revoke_session(&self, session: &str) -> Result<u64, DurableError> {
        self.inner.revoke_session(session).await
    }

    async fn delete_session(&self, session: &str) -> Result<u64, DurableError> {
        self.inner.delete_session(session).await
    }

    async fn prune(&self) -> Result<u64, DurableError> {
        self.inner.prune().await
    }
}

struct RecordingController<'h> {
    inner: Arc<dyn ScopeController + 'h>,
    notes: Arc<Notes>,
}

#[async_trait]
impl ScopeController for RecordingController<'_> {
    fn scope(&self) -> &ExecutionScope {
        self.inner.scope()
    }

    fn epoch(&self) -> u64 {
        self.inner.epoch()
    }

    async fn execute(&self, plan: EffectPlan<'_>) -> Result<Value, DurableError> {
        let invocation = plan.envelope.invocation();
        let replay_key = invocation.replay_key.clone();
        let answer = {
            let mut taken = self.notes.lock();
            taken.asked.push(Asked {
                scope: invocation.scope.clone(),
                effect_id: invocation.effect_id.clone(),
                replay_key: replay_key.clone(),
                kind: invocation.kind,
                hash: plan.envelope.hash(),
                in_doubt: plan.in_doubt,
            });
            taken.answers.get(&replay_key).cloned()
        };
        if matches!(invocation.kind, EffectKind::Sleep | EffectKind::DurableStep) {
            return self.inner.execute(plan).await;
        }
        let told = move || {
            let refusal = || {
                let message = format!("a recording host executes nothing; give it an answer for {replay_key}");
                EffectError::permanent("not_executed", message)
            };
            answer.clone().ok_or_else(refusal)
        };
        let executor =
            move |_: Call| -> BoxFuture<'_, Result<Value, EffectError>> { std::future::ready(told()).boxed() };
        // An answer touches nothing, so a doubt about it is settled by giving it again, without the caller's probe.
        let EffectPlan { envelope, in_doubt: _, retry, limit, executor: _, probe: _ } = plan;
        let in_doubt = InDoubt::Rerun;
        self.inner.execute(EffectPlan { envelope, in_doubt, retry, limit, executor: &executor, probe: None }).await
    }

    async fn settle(&self, replay_key: &str, settlement: Settlement, who: Settled) -> Result<(), DurableError> {
        self.inner.settle(replay_key, settlement, who).await
    }

    async fn effects(&self) -> Result<Vec<EffectRecord>, DurableError> {
        self.inner.effects().await
    }

    fn wait_key(&self, identity: &str) -> Result<WaitKey, DurableError> {
        self.inner.wait_key(identity)
    }

    async fn wait(
        &self,
        key: &WaitKey,
        cancel: &CancellationToken,
        deadline: Option<Timestamp>,
    ) -> Result<Resolution, DurableError> {
        self.inner.wait(key, cancel, deadline).await
    }

    async fn peek(&self, key: &WaitKey) -> Result<Option<Resolution>, DurableError> {
        self.inner.peek(key).await
    }

    async fn end(&self) -> Result<(), DurableError> {
        self.inner.end().await
    }

    fn now(&self) -> Timestamp {
        self.inner.now()
    }
}
