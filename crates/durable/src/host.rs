//! Hosts: what executes effects and keeps waits. The traits, and the calls that people make on a scope.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::FutureExt;
use futures::future::BoxFuture;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::clock::Timestamp;
use crate::envelope::{Command, Envelope, InDoubt, Invocation};
use crate::error::{DurableError, EffectError};
use crate::record::{EffectRecord, Retry, Settled, Settlement};
use crate::scope::{ExecutionScope, RuntimeScope};
use crate::store::Claim;
use crate::wait::{Resolution, Resolved, WaitKey};

/// An attempt may take this long unless its call says otherwise.
pub const ATTEMPT_LIMIT: Duration = Duration::from_secs(15 * 60);

/// What an executor is told.
#[derive(Debug, Clone)]
pub struct Call {
    /// The key for a remote that deduplicates: the same for every attempt of a generation, in every process.
    pub idempotency_key: String,
    /// Which attempt this is, from 1, over all processes.
    pub attempt: u32,
    /// When nobody waits for it any more.
    pub deadline: Option<Timestamp>,
    /// Fires when the call is given up, or the scope is lost.
    pub cancel: CancellationToken,
    /// Epoch of the owner, for remotes that take one.
    pub epoch: u64,
}

/// What a probe found in the world.
#[derive(Debug, Clone, PartialEq)]
pub enum Probed<T = Value> {
    /// The effect took place, with this output.
    Applied(T),
    /// It did not.
    NotApplied,
    /// It cannot be told.
    Inconclusive(EffectError),
}

/// Does an effect once.
pub type Executor<'p> = dyn Fn(Call) -> BoxFuture<'p, Result<Value, EffectError>> + Send + Sync + 'p;
/// Asks whether an effect took place.
pub type Prober<'p> = dyn Fn(Call) -> BoxFuture<'p, Probed> + Send + Sync + 'p;

/// An effect with everything that its execution needs.
pub struct EffectPlan<'p> {
    /// The effect.
    pub envelope: Envelope,
    /// How it is settled when nobody knows.
    pub in_doubt: InDoubt,
    /// How retryable failures are tried again.
    pub retry: Retry,
    /// Longest attempt; `None`: as long as it takes.
    pub limit: Option<Duration>,
    /// Does it.
    pub executor: &'p Executor<'p>,
    /// Looks whether it was done.
    pub probe: Option<&'p Prober<'p>>,
}

/// A hold on one scope: executes its effects and waits in it.
#[async_trait]
pub trait ScopeController: Send + Sync {
    /// The scope, as it was opened.
    fn scope(&self) -> &ExecutionScope;

    /// The owner's fencing number.
    fn epoch(&self) -> u64;

    /// Executes an effect once, whoever asks and however often: see [`crate`].
    ///
    /// # Errors
    /// [`DurableError`].
    async fn execute(&self, plan: EffectPlan<'_>) -> Result<Value, DurableError>;

    /// Says what became of a parked effect.
    ///
    /// # Errors
    /// [`DurableError::Invalid`] with `not_parked`, and those of the store.
    async fn settle(&self, replay_key: &str, settlement: Settlement, who: Settled) -> Result<(), DurableError>;

    /// Everything recorded of the scope's effects, in the order of their intents.
    ///
    /// # Errors
    /// Those of the store.
    async fn effects(&self) -> Result<Vec<EffectRecord>, DurableError>;

    /// The key of a wait in this scope.
    ///
    /// # Errors
    /// As [`WaitKey::sign`].
    fn wait_key(&self, identity: &str) -> Result<WaitKey, DurableError>;

    /// Waits for the resolution. Cancel and deadline are resolutions, too: the first one stays. The deadline of the first
    /// call stays as well, over restarts.
    ///
    /// # Errors
    /// [`DurableError::WaitUnknownOrRevoked`], [`DurableError::ScopeEnded`], those of the store.
    async fn wait(
        &self,
        key: &WaitKey,
        cancel: &CancellationToken,
        deadline: Option<Timestamp>,
    ) -> Result<Resolution, DurableError>;

    /// The resolution, if there is one by now.
    ///
    /// # Errors
    /// As [`ScopeController::wait`].
    async fn peek(&self, key: &WaitKey) -> Result<Option<Resolution>, DurableError>;

    /// Ends the scope: nothing of it is executed any more. What was recorded is told until it is pruned.
    ///
    /// # Errors
    /// Those of the store.
    async fn end(&self) -> Result<(), DurableError>;

    /// Now, by the host's clock.
    fn now(&self) -> Timestamp;
}

/// What executes effects and keeps waits.
#[async_trait]
pub trait EffectHost: Send + Sync + 'static {
    /// Whether what it recorded survives the process.
    fn supports_durable_effects(&self) -> bool;

    /// Opens a scope for as long as the host is borrowed.
    ///
    /// # Errors
    /// [`DurableError::MissingExecutionScopeId`], [`DurableError::ScopeOwned`], [`DurableError::ScopeEnded`], those of the store.
    async fn controller<'h>(
        &'h self,
        scope: ExecutionScope,
        claim: Claim,
    ) -> Result<Arc<dyn ScopeController + 'h>, DurableError>;

    /// Opens a scope for a task of its own; `None` where the host cannot.
    ///
    /// # Errors
    /// As [`EffectHost::controller`].
    async fn static_controller(
        &self,
        scope: ExecutionScope,
        claim: Claim,
    ) -> Result<Option<Arc<dyn ScopeController>>, DurableError>;

    /// The key of a wait.
    ///
    /// # Errors
    /// As [`WaitKey::sign`].
    fn wait_key(&self, scope: &ExecutionScope, identity: &str) -> Result<WaitKey, DurableError>;

    /// Resolves a wait with an answer: the first one stays.
    ///
    /// # Errors
    /// [`DurableError::WaitUnknownOrRevoked`] for a key that is tampered with, foreign or revoked; it leaves nothing.
    async fn resolve(&self, key: &WaitKey, resolution: Resolution) -> Result<Resolved, DurableError>;

    /// Resolves all open waits of a session as canceled, and leaves the session usable; answers how many.
    ///
    /// # Errors
    /// Those of the store.
    async fn cancel_session(&self, session: &str) -> Result<u64, DurableError>;

    /// Revokes all waits of a session for ever; answers how many were open.
    ///
    /// # Errors
    /// Those of the store.
    async fn revoke_session(&self, session: &str) -> Result<u64, DurableError>;

    /// Revokes all waits of a session and removes them.
    ///
    /// # Errors
    /// Those of the store.
    async fn delete_session(&self, session: &str) -> Result<u64, DurableError>;

    /// Removes what ended longer ago than the retention; answers how many scopes went. Hosts do this by themselves, too.
    ///
    /// # Errors
    /// Those of the store.
    async fn prune(&self) -> Result<u64, DurableError>;

    /// Opens a scope; [`EffectHost::controller`] with the calls that people make.
    ///
    /// # Errors
    /// As [`EffectHost::controller`].
    async fn scoped<'h>(&'h self, scope: ExecutionScope) -> Result<Scope<'h>, DurableError> {
        Ok(Scope { controller: self.controller(scope, Claim::IfFree).await? })
    }

    /// Opens a scope for a task of its own; `None` where the host cannot.
    ///
    /// # Errors
    /// As [`EffectHost::controller`].
    async fn scoped_static(&self, scope: ExecutionScope) -> Result<Option<Scope<'static>>, DurableError> {
        Ok(self.static_controller(scope, Claim::IfFree).await?.map(|controller| Scope { controller }))
    }

    /// Takes a scope from whoever has it. Only for when that owner is known to be gone or not to act any more.
    ///
    /// # Errors
    /// As [`EffectHost::controller`].
    async fn take_over<'h>(&'h self, scope: ExecutionScope) -> Result<Scope<'h>, DurableError> {
        Ok(Scope { controller: self.controller(scope, Claim::TakeOver).await? })
    }
}

/// An opened scope.
#[derive(Clone)]
pub struct Scope<'h> {
    controller: Arc<dyn ScopeController + 'h>,
}

impl std::fmt::Debug for Scope<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Scope").field(self.scope()).finish()
    }
}

impl<'h> Scope<'h> {
    /// Over a controller.
    #[must_use]
    pub fn new(controller: Arc<dyn ScopeController + 'h>) -> Self {
        Self { controller }
    }

    /// The scope, as it was opened.
    #[must_use]
    pub fn scope(&self) -> &ExecutionScope {
        self.controller.scope()
    }

    /// The id of the turn, drain, process, deletion or operation.
    #[must_use]
    pub fn scope_id(&self) -> &str {
        self.scope().scope_id()
    }

    /// The turn's id, of a turn alone.
    #[must_use]
    pub fn turn_id(&self) -> Option<&str> {
        self.scope().turn_id()
    }

    /// The controller itself.
    #[must_use]
    pub fn controller(&self) -> &Arc<dyn ScopeController + 'h> {
        &self.controller
    }

    /// One piece of the caller's own code, named within the scope. It runs once; when the process dies in it, it runs again (use
    /// [`Scope::effect`] for what must not). A value that was recorded is returned without running it, and another input under the same name is
    /// refused.
    ///
    /// # Errors
    /// [`DurableError`]; what the closure fails with is recorded as [`DurableError::Effect`].
    pub async fn step<T, I, F, Fut>(&self, name: &str, input: &I, run: F) -> Result<T, DurableError>
    where
        T: Serialize + DeserializeOwned,
        I: Serialize + ?Sized + Sync,
        F: Fn() -> Fut + Send + Sync,
        Fut: Future<Output = Result<T, EffectError>> + Send,
    {
        let input = serde_json::to_value(input).map_err(|error| DurableError::Invalid {
            code: "command_unreadable",
            message: format!("the input of step {name} cannot be written as JSON: {error}"),
        })?;
        self.effect(name, Command::DurableStep { name: name.to_owned(), input }).run(|_| run()).await
    }

    /// Sleeps. The end is recorded: after a restart the rest is waited, not the whole.
    ///
    /// # Errors
    /// [`DurableError`].
    pub async fn sleep(&self, name: &str, duration: Duration) -> Result<(), DurableError> {
        let duration_ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        // Hosts wait by the record's own time, and never call this.
        self.effect(name, Command::Sleep { duration_ms }).run(|_| async { Ok(()) }).await
    }

    /// An effect under this replay key.
    pub fn effect(&self, replay_key: &str, command: Command) -> Effect<'_> {
        Effect {
            in_doubt: command.kind().default_in_doubt(),
            controller: &*self.controller,
            replay_key: replay_key.to_owned(),
            effect_id: None,
            command,
            caused_by: None,
            runtime: None,
            retry: Retry::NEVER,
            limit: Some(ATTEMPT_LIMIT),
            probe: None,
        }
    }

    /// The key of a wait in this scope: the same at each call, in each process. Whoever gets it can resolve the wait.
    ///
    /// # Errors
    /// As [`WaitKey::sign`].
    pub fn wait_key(&self, identity: &str) -> Result<WaitKey, DurableError> {
        self.controller.wait_key(identity)
    }

    /// Waits for a resolution, as long as it takes.
    ///
    /// # Errors
    /// As [`ScopeController::wait`].
    pub async fn wait(&self, key: &WaitKey) -> Result<Resolution, DurableError> {
        self.controller.wait(key, never(), None).await
    }

    /// Waits for a resolution until the deadline, which is counted from the first time that this wait was waited for.
    ///
    /// # Errors
    /// As [`ScopeController::wait`].
    pub async fn wait_within(&self, key: &WaitKey, limit: Duration) -> Result<Resolution, DurableError> {
        let deadline = self.controller.now().after(limit);
        self.controller.wait(key, never(), Some(deadline)).await
    }

    /// Looks whether a wait has been resolved, and records what was seen: a replay sees the same.
    ///
    /// # Errors
    /// As [`ScopeController::wait`].
    pub async fn peek(&self, replay_key: &str, identity: &str) -> Result<Option<Resolution>, DurableError> {
        let key = &self.wait_key(identity)?;
        let seen = async || self.controller.peek(key).await;
        let command = Command::PeekEvent { wait: identity.to_owned() };
        self.effect(replay_key, command).run(|_| seen().map(|seen| seen.map_err(passing))).await
    }

    /// Waits for a wait of this scope as an effect of its own.
    ///
    /// # Errors
    /// As [`ScopeController::wait`].
    pub async fn await_event(
        &self,
        replay_key: &str,
        identity: &str,
        deadline: Option<Timestamp>,
    ) -> Result<Resolution, DurableError> {
        let key = &self.wait_key(identity)?;
        let ended = async |cancel: CancellationToken| self.controller.wait(key, &cancel, deadline).await;
        let command = Command::AwaitEvent { wait: identity.to_owned() };
        let effect = self.effect(replay_key, command).unlimited();
        effect.run(|call| ended(call.cancel).map(|ended| ended.map_err(passing))).await
    }

    /// Ends the scope.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn end(&self) -> Result<(), DurableError> {
        self.controller.end().await
    }
}

/// What nobody cancels. One for all, because there may be very many waits.
fn never() -> &'static CancellationToken {
    static NEVER: std::sync::LazyLock<CancellationToken> = std::sync::LazyLock::new(CancellationToken::new);
    &NEVER
}

/// A failure inside an effect that waits. What the store could not tell is no failure of the effect.
fn passing(error: DurableError) -> EffectError {
    if matches!(error, DurableError::Store(_) | DurableError::LeaseLost { .. }) {
        EffectError::unknown(error.code(), error.to_string())
    } else {
        EffectError::permanent(error.code(), error.to_string())
    }
}

/// An effect that is being put together; [`Effect::run`] executes it.
#[must_use = "nothing is executed before it is run"]
pub struct Effect<'s> {
    controller: &'s (dyn ScopeController + 's),
    replay_key: String,
    effect_id: Option<String>,
    command: Command,
    caused_by: Option<String>,
    runtime: Option<RuntimeScope>,
    in_doubt: Option<InDoubt>,
    retry: Retry,
    limit: Option<Duration>,
    probe: Option<Box<Prober<'s>>>,
}

impl<'s> Effect<'s> {
    /// A name for people and logs, instead of the replay key. Part of the hash.
    pub fn named(mut self, effect_id: impl Into<String>) -> Self {
        self.effect_id = Some(effect_id.into());
        self
    }

    /// The effect that led to this one. No part of the hash.
    pub fn caused_by(mut self, effect_id: impl Into<String>) -> Self {
        self.caused_by = Some(effect_id.into());
        self
    }

    /// Where in the runtime it comes from. No part of the hash.
    pub fn from_runtime(mut self, runtime: RuntimeScope) -> Self {
        self.runtime = Some(runtime);
        self
    }

    /// How it is settled when nobody knows whether it took place. External effects must say.
    pub fn in_doubt(mut self, policy: InDoubt) -> Self {
        self.in_doubt = Some(policy);
        self
    }

    /// How to look whether it took place; sets the policy to [`InDoubt::Probe`].
    pub fn probe<T, F, Fut>(mut self, look: F) -> Self
    where
        T: Serialize + 's,
        F: Fn(Call) -> Fut + Send + Sync + 's,
        Fut: Future<Output = Probed<T>> + Send + 's,
    {
        self.in_doubt = Some(InDoubt::Probe);
        self.probe = Some(Box::new(move |call| look(call).map(written).boxed()));
        self
    }

    /// How retryable failures are tried again. Each attempt is recorded, and the pauses survive restarts.
    pub fn retry(mut self, retry: Retry) -> Self {
        self.retry = retry;
        self
    }

    /// The longest that an attempt may take.
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = Some(limit);
        self
    }

    /// An attempt may take as long as it takes.
    pub fn unlimited(mut self) -> Self {
        self.limit = None;
        self
    }

    /// Executes it: once, whoever asks and however often.
    ///
    /// # Errors
    /// [`DurableError`]; with `in_doubt_undeclared` or `probe_missing` nothing was executed.
    pub async fn run<T, F, Fut>(self, run: F) -> Result<T, DurableError>
    where
        T: Serialize + DeserializeOwned,
        F: Fn(Call) -> Fut + Send + Sync,
        Fut: Future<Output = Result<T, EffectError>> + Send,
    {
        let Self { controller, replay_key, effect_id, command, caused_by, runtime, in_doubt, retry, limit, probe } =
            self;
        let Some(in_doubt) = in_doubt else {
            return Err(DurableError::Invalid {
                code: "in_doubt_undeclared",
                message: format!(
                    "{replay_key} writes to somebody else's system: say how it is settled when nobody knows"
                ),
            });
        };
        if in_doubt == InDoubt::Probe && probe.is_none() {
            return Err(DurableError::Invalid {
                code: "probe_missing",
                message: format!("{replay_key} is settled by a probe, and has none"),
            });
        }
        let invocation = Invocation {
            scope: controller.scope().clone(),
            effect_id: effect_id.unwrap_or_else(|| replay_key.clone()),
            kind: command.kind(),
            replay_key,
            caused_by,
            runtime,
        };
        let envelope = Envelope::new(invocation, command)?;
        let what = envelope.replay_key().to_owned();
        let executor = |call: Call| -> BoxFuture<'_, Result<Value, EffectError>> {
            run(call).map(|answer| answer.and_then(|output| Ok(serde_json::to_value(output)?))).boxed()
        };
        let prober = probe.as_ref().map(|look| move |call: Call| -> BoxFuture<'_, Probed> { look(call) });
        let probe = prober.as_ref().map(|look| look as &Prober<'_>);
        let plan = EffectPlan { envelope, in_doubt, retry, limit, executor: &executor, probe };
        let output = controller.execute(plan).await?;
        serde_json::from_value(output).map_err(|error| DurableError::Unreadable { what, reason: error.to_string() })
    }
}

fn written<T: Serialize>(probed: Probed<T>) -> Probed {
    match probed {
        Probed::Applied(output) => match serde_json::to_value(output) {
            Ok(output) => Probed::Applied(output),
            Err(error) => Probed::Inconclusive(error.into()),
        },
        Probed::NotApplied => Probed::NotApplied,
        Probed::Inconclusive(error) => Probed::Inconclusive(error),
    }
}
