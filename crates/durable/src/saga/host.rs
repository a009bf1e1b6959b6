//! Hosts: where sagas are started, taken up, and told something.
//!
//! A saga is a scope. Each entry of its log is a record of that scope, so that nobody writes one twice, a stale owner writes none, and
//! the content's hash tells when one was damaged. One task runs one saga: a saga that hangs, is parked, or cannot be read holds up no other.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::StreamExt as _;
use futures::future::{BoxFuture, FutureExt as _};
use serde_json::json;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::error::SagaError;
use super::event::{Entry, Role};
use super::executor::StepExecutor;
use super::hold::{Saga, over};
use super::log::read;
use super::machine::{Decision, Question, SagaMachine};
use super::plan::SagaPlan;
use super::runner::Runner;
use super::state::SagaState;
use super::view::SagaView;
use crate::error::DurableError;
use crate::key::idempotency_key;
use crate::scope::{ExecutionScope, check_length};
use crate::store::{Claim, DurableStore, Lease, StoreError};
use crate::stored::{StoredHost, scope_error};
use crate::wait::{Resolution, Resolved, WaitAddress};

/// Sagas that are taken up at the same time at a start.
const TAKEN_UP_AT_ONCE: usize = 64;
/// Ids of open sagas that are asked of the store at once.
const PAGE: u32 = 1_024;

/// Is told every entry when it is recorded, in order for each saga. What was recorded before a saga was taken up is not told again.
pub type Observer = dyn Fn(&str, &Entry) + Send + Sync;

/// A saga that was taken up at a start, or why not.
#[derive(Debug)]
pub struct Resumed {
    /// Its id.
    pub id: String,
    /// It goes on, or why it does not.
    pub saga: Result<Saga, SagaError>,
}

/// Runs sagas over a durable store.
#[derive(Clone)]
pub struct SagaHost {
    inner: Arc<Inner>,
}

impl std::fmt::Debug for SagaHost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SagaHost").field("host", &self.inner.host).finish_non_exhaustive()
    }
}

pub(super) struct Inner {
    pub(super) host: StoredHost,
    executors: Mutex<BTreeMap<String, Registered>>,
    /// One slot for each saga that is run or being taken up.
    slots: Mutex<BTreeMap<String, Arc<Slot>>>,
    pub(super) observer: Option<Box<Observer>>,
    /// Fires when no saga is to be run here any more.
    stopping: CancellationToken,
    /// Sagas that are run.
    running: watch::Sender<usize>,
}

type Slot = tokio::sync::Mutex<Option<Saga>>;

#[derive(Clone)]
struct Registered {
    versions: RangeInclusive<u32>,
    executor: Arc<dyn StepExecutor>,
}

/// The id of the saga that does a step in one generation.
pub(super) fn child_id(saga: &str, step: &str, generation: u32) -> String {
    format!("{saga}/{step}/{generation}")
}

/// The identity of the wait for an approval.
pub(super) fn identity(question: &Question) -> String {
    // Asked again later, it is another question.
    format!("approval/{}/{}/{}", question.step, question.fingerprint, question.expires_at.0)
}

impl SagaHost {
    /// Over a host of effects and waits.
    #[must_use]
    pub fn new(host: StoredHost) -> Self {
        Self::build(host, None)
    }

    /// With somebody who is told of everything that is recorded.
    #[must_use]
    pub fn observed(host: StoredHost, observer: impl Fn(&str, &Entry) + Send + Sync + 'static) -> Self {
        Self::build(host, Some(Box::new(observer)))
    }

    fn build(host: StoredHost, observer: Option<Box<Observer>>) -> Self {
        let inner = Inner {
            host,
            executors: Mutex::default(),
            slots: Mutex::default(),
            observer,
            stopping: CancellationToken::new(),
            running: watch::Sender::new(0),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Says who does the steps of the plans of this name, in these versions.
    pub fn register(&self, name: impl Into<String>, versions: RangeInclusive<u32>, executor: Arc<dyn StepExecutor>) {
        let mut executors = self.inner.executors.lock().unwrap_or_else(PoisonError::into_inner);
        executors.insert(name.into(), Registered { versions, executor });
    }

    /// Starts a saga, or takes up the one that is there under this id. When this returns, it is recorded.
    ///
    /// # Errors
    /// [`SagaError`].
    pub async fn start(&self, id: impl Into<String>, plan: SagaPlan) -> Result<Saga, SagaError> {
        self.inner.clone().take(id.into(), Some(plan)).await
    }

    /// Takes up the saga that is there under this id.
    ///
    /// # Errors
    /// [`SagaError`].
    pub async fn resume(&self, id: impl Into<String>) -> Result<Saga, SagaError> {
        self.inner.clone().take(id.into(), None).await
    }

    /// Takes up every saga that is open and nobody else's. One that cannot go on holds up no other.
    ///
    /// # Errors
    /// When the store cannot tell which there are.
    pub async fn resume_all(&self) -> Result<Vec<Resumed>, SagaError> {
        let store = self.inner.store();
        let mut ids = Vec::new();
        let mut after = None;
        loop {
            let page = store.open_sagas(after.as_deref(), PAGE).await.map_err(DurableError::Store)?;
            after = page.last().cloned();
            let more = page.len() >= PAGE as usize;
            ids.extend(page);
            if !more {
                break;
            }
        }
        let taken = ids.into_iter().map(|id| async move {
            let saga = self.resume(id.clone()).await;
            Resumed { id, saga }
        });
        Ok(futures::stream::iter(taken).buffer_unordered(TAKEN_UP_AT_ONCE).collect().await)
    }

    /// Lets go of every saga, and does not wait for that. No saga is run by this host afterwards.
    pub fn let_go(&self) {
        self.inner.stopping.cancel();
    }

    /// Lets go of every saga, and waits until nothing of them is under way here. Calls that were are in doubt for whoever takes them up, as
    /// after a crash. No saga is run by this host afterwards.
    pub async fn stop(&self) {
        self.let_go();
        // The sender is borrowed by the host, so it cannot be gone.
        let _ = self.inner.running.subscribe().wait_for(|running| *running == 0).await;
    }

    /// A saga for people, whoever runs it.
    ///
    /// # Errors
    /// [`SagaError::Unknown`], [`SagaError::Damaged`].
    pub async fn view(&self, id: &str) -> Result<SagaView, SagaError> {
        let (_, entries) = self.inner.look(id).await?;
        Ok(SagaView::with_keys(id, &SagaState::replay(id, &entries)?, self.inner.store().secret()))
    }

    /// Everything that is recorded of a saga, oldest first.
    ///
    /// # Errors
    /// [`SagaError::Unknown`], [`SagaError::Damaged`].
    pub async fn entries(&self, id: &str) -> Result<Vec<Entry>, SagaError> {
        Ok(self.inner.look(id).await?.1)
    }

    /// Answers the approval that a step waits for, whoever runs the saga: the first answer stays. Answers whether this is it.
    ///
    /// # Errors
    /// [`SagaError::NoQuestion`], [`SagaError::Unknown`].
    pub async fn decide(
        &self,
        id: &str,
        step: &str,
        fingerprint: &str,
        decision: &Decision,
    ) -> Result<bool, SagaError> {
        let view = self.view(id).await?;
        let asked = view.steps.into_iter().find(|other| other.name == step).and_then(|step| step.approval);
        let Some(question) = asked.filter(|question| question.fingerprint == fingerprint) else {
            let (id, step, fingerprint) = (id.to_owned(), step.to_owned(), fingerprint.to_owned());
            return Err(SagaError::NoQuestion { id, step, fingerprint });
        };
        let payload = match decision {
            Decision::Approve { by } => json!({"decision": "approve", "by": by}),
            Decision::Deny { by, why } => json!({"decision": "deny", "by": by, "why": why}),
            Decision::Expired => return Ok(false),
        };
        let address = WaitAddress { scope: ExecutionScope::saga(id), identity: identity(&question) };
        let resolved = self.inner.host.resolve_at(&address, Resolution::Answered { payload }).await?;
        Ok(resolved == Resolved::Accepted)
    }
}

/// The idempotency key of a step's calls.
pub(super) fn key(secret: &crate::key::Secret, scope: &str, step: &str, role: Role, generation: u32) -> String {
    idempotency_key(secret, scope, &format!("{step}/{}", role.as_str()), generation)
}

impl Inner {
    pub(super) fn store(&self) -> &Arc<dyn DurableStore> {
        self.host.store()
    }

    fn slots(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Slot>>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn executor(&self, id: &str, plan: &SagaPlan) -> Result<Arc<dyn StepExecutor>, SagaError> {
        let executors = self.executors.lock().unwrap_or_else(PoisonError::into_inner);
        let registered = executors.get(&plan.name).filter(|registered| registered.versions.contains(&plan.version));
        registered.map(|registered| Arc::clone(&registered.executor)).ok_or_else(|| SagaError::UnknownVersion {
            id: id.to_owned(),
            name: plan.name.clone(),
            version: plan.version,
        })
    }

    pub(super) async fn look(&self, id: &str) -> Result<(bool, Vec<Entry>), SagaError> {
        let unknown = || SagaError::Unknown { id: id.to_owned() };
        let looked = match self.store().look(&ExecutionScope::saga(id)).await {
            Ok(looked) => looked.ok_or_else(unknown)?,
            Err(StoreError::ScopeEnded) => return Err(unknown()),
            Err(error) => return Err(DurableError::Store(error).into()),
        };
        Ok((looked.ended, read(id, looked.effects.iter().map(|(_, record)| record))?))
    }

    /// Boxed, because a saga may take up another one.
    pub(super) fn take(
        self: Arc<Self>,
        id: String,
        plan: Option<SagaPlan>,
    ) -> BoxFuture<'static, Result<Saga, SagaError>> {
        async move {
            check_length("saga", &id)?;
            if self.stopping.is_cancelled() {
                return Err(SagaError::Stopped { id, why: "the host stopped".to_owned() });
            }
            let slot = Arc::clone(self.slots().entry(id.clone()).or_default());
            let mut held = slot.lock().await;
            if let Some(saga) = &*held
                && saga.told.borrow().stopped.is_none()
                && !saga.commands.is_closed()
            {
                let saga = saga.clone();
                drop(held);
                return self.same(saga, plan).await;
            }
            let taken = self.clone().open(id.clone(), plan).await;
            match &taken {
                Ok(saga) if !saga.commands.is_closed() => *held = Some(saga.clone()),
                Ok(_) | Err(_) => {
                    drop(held);
                    drop(slot);
                    self.forget(&id);
                }
            }
            taken
        }
        .boxed()
    }

    /// The saga that runs already, if it is to do the same.
    async fn same(&self, saga: Saga, plan: Option<SagaPlan>) -> Result<Saga, SagaError> {
        if let Some(plan) = plan {
            let (_, entries) = self.look(&saga.id).await?;
            check_same(&saga.id, &SagaState::replay(&saga.id, &entries)?, plan)?;
        }
        Ok(saga)
    }

    fn forget(&self, id: &str) {
        let mut slots = self.slots();
        if slots.get(id).is_some_and(|slot| Arc::strong_count(slot) == 1) {
            slots.remove(id);
        }
    }

    async fn open(self: Arc<Self>, id: String, plan: Option<SagaPlan>) -> Result<Saga, SagaError> {
        let scope = ExecutionScope::saga(&id);
        scope.check()?;
        // What cannot be run here is not taken from where it is.
        match (&plan, self.look(&id).await) {
            (_, Ok((ended, entries))) if !entries.is_empty() => {
                let state = SagaState::replay(&id, &entries)?;
                if let Some(plan) = plan {
                    check_same(&id, &state, plan)?;
                }
                if let Some(end) = state.end() {
                    return Ok(over(id, end));
                }
                if ended {
                    return Err(SagaError::Unknown { id });
                }
                self.executor(&id, state.plan())?;
            }
            (Some(plan), Ok(_) | Err(SagaError::Unknown { .. })) => {
                self.executor(&id, plan)?;
                return self.begin(id, scope, plan.clone()).await;
            }
            (None, Ok(_)) => return Err(SagaError::Unknown { id }),
            (_, Err(error)) => return Err(error),
        }
        let opened = self.store().open(&scope, Claim::IfFree).await.map_err(|error| scope_error(&scope, error))?;
        let entries = read(&id, opened.effects.iter().map(|(_, record)| record))?;
        let machine = SagaMachine::resume(&id, &entries, opened.lease.epoch, self.host.now())?;
        if let Some(end) = machine.state().end() {
            return Ok(over(id, end));
        }
        let executor = self.executor(&id, machine.state().plan())?;
        self.run(machine, scope, opened.lease, entries.len() as u64, executor).await
    }

    async fn begin(self: Arc<Self>, id: String, scope: ExecutionScope, plan: SagaPlan) -> Result<Saga, SagaError> {
        let executor = self.executor(&id, &plan)?;
        // Before anything is recorded of it.
        let plan = plan.checked()?;
        let opened = self.store().open(&scope, Claim::IfFree).await.map_err(|error| scope_error(&scope, error))?;
        if !opened.effects.is_empty() {
            // Somebody else was first: the next look finds it.
            return Err(SagaError::Exists { id });
        }
        let machine = SagaMachine::begin(id, plan, opened.lease.epoch, self.host.now())?;
        self.run(machine, scope, opened.lease, 0, executor).await
    }

    /// Saves what there is to save, so that the saga is recorded when it is answered for, and lets it go on in a task of its own.
    async fn run(
        self: Arc<Self>,
        machine: SagaMachine,
        scope: ExecutionScope,
        lease: Lease,
        written: u64,
        executor: Arc<dyn StepExecutor>,
    ) -> Result<Saga, SagaError> {
        let id = machine.id().to_owned();
        let (saga, mut runner) = Runner::new(Arc::clone(&self), machine, scope, lease, written, executor);
        runner.begin().await?;
        self.running.send_modify(|running| *running += 1);
        tokio::spawn(async move {
            let stopping = self.stopping.clone();
            let stopped = tokio::select! {
                biased;
                () = stopping.cancelled() => Some(SagaError::Stopped { id: id.clone(), why: "the host stopped".to_owned() }),
                ended = runner.go() => ended.err(),
            };
            // Under the lock of its slot, so that whoever takes the saga up meets it as it was, or finds nothing; and the slot stays with
            // those who wait for it, so that two of them never take it up beside each other.
            let slot = Arc::clone(self.slots().entry(id.clone()).or_default());
            let mut held = slot.lock().await;
            runner.close(stopped, stopping.is_cancelled());
            *held = None;
            drop(runner);
            drop(held);
            drop(slot);
            self.forget(&id);
            // Whoever waits for it may open the store again: what this task has of it is dropped before.
            let running = self.running.clone();
            drop(self);
            running.send_modify(|running| *running -= 1);
        });
        Ok(saga)
    }
}

fn check_same(id: &str, state: &SagaState, plan: SagaPlan) -> Result<(), SagaError> {
    // As it was recorded: with the outputs of defaults.
    if *state.plan() == plan.checked()? { Ok(()) } else { Err(SagaError::Exists { id: id.to_owned() }) }
}
