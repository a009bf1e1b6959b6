//! The runner: a host over any [`DurableStore`].
//!
//! A scope that is open is held in memory whole; reads and replays never touch the store. What changes is written first, and
//! becomes part of that memory when the store has answered. When it did not, what is there is unknown, and the next call reads it again.

mod doubt;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use async_trait::async_trait;
use futures::future::{BoxFuture, OptionFuture};
use serde_json::Value;
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;

use crate::attempt::attempt;
use crate::canonical::json_bytes;
use crate::clock::{Clock, SystemClock, Timestamp};
use crate::envelope::{Command, InDoubt};
use crate::error::{DurableError, EffectError};
use crate::host::{Call, EffectHost, EffectPlan, ScopeController};
use crate::key::idempotency_key;
use crate::record::{self, EffectRecord, EffectState, Met, Next, OUTPUT_BYTES, Outcome, Progress, Settled, Settlement};
use crate::scope::ExecutionScope;
use crate::store::{Claim, DurableStore, Lease, Place, StoreError, Write};
use crate::wait::{RESOLUTION_BYTES, Registered, Resolution, Resolved, Terminal, WaitAddress, WaitKey};
use crate::waiters::{self, Waiters, Woken};

/// Most scopes that one look for old ones removes.
const PRUNED_AT_ONCE: u32 = 256;
/// Time between two looks for old scopes.
const PRUNE_EVERY: Duration = Duration::from_secs(1);
/// Waits that are begun at the same time; more have to wait for their turn.
const BEGIN_AT_ONCE: usize = 1_024;
/// Most effects of one scope.
const EFFECTS: usize = 200_000;

/// How a host works.
#[derive(Debug, Clone)]
pub struct HostOptions {
    /// Outcomes of a scope that ended are kept so long.
    pub retention: Duration,
    /// The clock.
    pub clock: Arc<dyn Clock>,
}

impl Default for HostOptions {
    fn default() -> Self {
        Self { retention: Duration::from_secs(7 * 24 * 3_600), clock: Arc::new(SystemClock) }
    }
}

/// A host over a store.
#[derive(Debug, Clone)]
pub struct StoredHost {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    store: Arc<dyn DurableStore>,
    options: HostOptions,
    /// One slot for each scope that is open or being opened, so that it is opened once.
    slots: Mutex<BTreeMap<String, Arc<Slot>>>,
    waiters: Arc<Waiters>,
    /// Those who begin to wait do it so many at a time.
    begin_turns: Semaphore,
    pruned_at: AtomicI64,
}

type Slot = tokio::sync::Mutex<Weak<Cell>>;

/// An open scope.
struct Cell {
    shared: Arc<Shared>,
    scope: ExecutionScope,
    key: String,
    lease: Lease,
    /// Fires when another owner took over.
    lost: CancellationToken,
    state: Mutex<CellState>,
    /// Held by whoever reads the records again.
    reading: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct CellState {
    effects: BTreeMap<String, (Place, EffectRecord)>,
    /// Effects that somebody runs. Dropping one tells those who wait for it; the first of them makes what they wait on.
    flights: BTreeMap<String, Option<watch::Sender<()>>>,
    ended: bool,
    /// Writes that have no answer, and how many of them a reading has covered: when there are more, what is there has to be read.
    unanswered: u64,
    covered: u64,
    /// While the records are read: effects that changed since that began, which the reading may not have seen.
    changed: Option<BTreeSet<String>>,
}

impl CellState {
    fn note_change(&mut self, key: &str) {
        if let Some(changed) = &mut self.changed {
            changed.insert(key.to_owned());
        }
    }
}

/// The right to run one effect; whoever else asks for it waits until this is dropped.
struct Flight<'c> {
    cell: &'c Cell,
    key: String,
    /// A write is out.
    writing: bool,
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        let mut state = self.cell.lock();
        state.flights.remove(&self.key);
        state.unanswered += u64::from(self.writing);
    }
}

impl StoredHost {
    /// A host over a store, with the usual options.
    #[must_use]
    pub fn new(store: Arc<dyn DurableStore>) -> Self {
        Self::with(store, HostOptions::default())
    }

    /// A host over a store.
    #[must_use]
    pub fn with(store: Arc<dyn DurableStore>, options: HostOptions) -> Self {
        let shared = Shared {
            store,
            options,
            slots: Mutex::default(),
            waiters: Arc::default(),
            begin_turns: Semaphore::new(BEGIN_AT_ONCE),
            pruned_at: AtomicI64::new(i64::MIN),
        };
        Self { shared: Arc::new(shared) }
    }

    pub(crate) fn store(&self) -> &Arc<dyn DurableStore> {
        &self.shared.store
    }

    pub(crate) fn clock(&self) -> Arc<dyn Clock> {
        Arc::clone(&self.shared.options.clock)
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.shared.now()
    }

    /// Waits in a scope that is opened elsewhere.
    pub(crate) async fn wait_at(&self, address: &WaitAddress, deadline: Timestamp) -> Result<Resolution, DurableError> {
        let key = WaitKey::sign(self.shared.store.secret(), address)?;
        self.shared.wait(&key, &CancellationToken::new(), Some(deadline)).await
    }

    /// Resolves a wait of a scope that is opened elsewhere.
    pub(crate) async fn resolve_at(
        &self,
        address: &WaitAddress,
        resolution: Resolution,
    ) -> Result<Resolved, DurableError> {
        self.shared.resolve(address, resolution).await
    }

    async fn open(&self, scope: ExecutionScope, claim: Claim) -> Result<Arc<dyn ScopeController>, DurableError> {
        scope.check()?;
        let key = scope.key();
        let slot = Arc::clone(self.shared.slots().entry(key.clone()).or_default());
        let mut held = slot.lock().await;
        if let Some(cell) = held.upgrade()
            && !cell.lost.is_cancelled()
        {
            return Ok(cell);
        }
        let opened = match self.shared.store.open(&scope, claim).await {
            Ok(opened) => opened,
            Err(error) => {
                drop(held);
                drop(slot);
                self.shared.forget(&key);
                return Err(scope_error(&scope, error));
            }
        };
        let state = CellState { effects: by_key(opened.effects), ended: opened.ended, ..CellState::default() };
        let cell = Arc::new(Cell {
            shared: Arc::clone(&self.shared),
            scope,
            key,
            lease: opened.lease,
            lost: CancellationToken::new(),
            state: Mutex::new(state),
            reading: tokio::sync::Mutex::default(),
        });
        *held = Arc::downgrade(&cell);
        Ok(cell)
    }
}

fn by_key(effects: Vec<(Place, EffectRecord)>) -> BTreeMap<String, (Place, EffectRecord)> {
    effects.into_iter().map(|(place, record)| (record.replay_key.clone(), (place, record))).collect()
}

pub(crate) fn scope_error(scope: &ExecutionScope, error: StoreError) -> DurableError {
    let scope = scope.to_string();
    match error {
        StoreError::ScopeEnded => DurableError::ScopeEnded { scope },
        StoreError::Owned => DurableError::ScopeOwned { scope },
        StoreError::LeaseLost { .. } => DurableError::LeaseLost { scope },
        StoreError::UnknownWait => DurableError::WaitUnknownOrRevoked,
        StoreError::Failed(_) => DurableError::Store(error),
    }
}

fn wait_error(error: StoreError) -> DurableError {
    match error {
        StoreError::UnknownWait | StoreError::ScopeEnded => DurableError::WaitUnknownOrRevoked,
        StoreError::Owned | StoreError::LeaseLost { .. } | StoreError::Failed(_) => DurableError::Store(error),
    }
}

impl Shared {
    fn slots(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Slot>>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The slot goes with the last hold on its scope, unless somebody is opening it again.
    fn forget(&self, key: &str) {
        let mut slots = self.slots();
        if slots.get(key).is_some_and(|slot| Arc::strong_count(slot) == 1) {
            slots.remove(key);
        }
    }

    fn now(&self) -> Timestamp {
        self.options.clock.now()
    }

    async fn prune(&self) -> Result<u64, StoreError> {
        let retention = i64::try_from(self.options.retention.as_millis()).unwrap_or(i64::MAX);
        let before = Timestamp(self.now().0.saturating_sub(retention));
        self.store.prune(before, PRUNED_AT_ONCE).await
    }

    /// Looks for old scopes now and then, so that the store stays as large as what lives and what is retained.
    async fn prune_sometimes(&self) {
        let now = self.now();
        let last = self.pruned_at.load(Ordering::Relaxed);
        let due = Timestamp(last).after(PRUNE_EVERY) <= now;
        if due && self.pruned_at.compare_exchange(last, now.0, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            loop {
                match self.prune().await {
                    Ok(gone) if gone >= u64::from(PRUNED_AT_ONCE) => {}
                    Ok(_) => return,
                    Err(error) => {
                        tracing::warn!(%error, "records of old scopes could not be removed; they go the next time");
                        return;
                    }
                }
            }
        }
    }

    fn sign(&self, scope: &ExecutionScope, identity: &str) -> Result<WaitKey, DurableError> {
        WaitKey::sign(self.store.secret(), &WaitAddress { scope: scope.clone(), identity: identity.to_owned() })
    }

    /// There may be very many of these: what is there for a moment is in boxes of its own, and a block takes what it is given as it is
    /// where a function would take it twice.
    #[allow(clippy::manual_async_fn, reason = "a block is smaller")]
    fn wait<'w>(
        &'w self,
        key: &'w WaitKey,
        cancel: &'w CancellationToken,
        deadline: Option<Timestamp>,
    ) -> impl Future<Output = Result<Resolution, DurableError>> + Send + 'w {
        async move {
            let ours = loop {
                let (mut place, deadline) = {
                    // Nobody closes it.
                    let _turn = self.begin_turns.acquire().await;
                    match Box::pin(self.begin_to_wait(key, deadline)).await? {
                        Begun::Ended(resolution) => return Ok(resolution),
                        Begun::Parked(place, deadline) => (place, deadline),
                    }
                };
                let passed = OptionFuture::from(deadline.map(|deadline| self.options.clock.until(deadline)));
                tokio::select! {
                    biased;
                    woken = place.woken() => match woken {
                        Woken::Ended(terminal) => return resolution(&key.verify(self.store.secret())?, terminal),
                        Woken::Look => {}
                    },
                    () = cancel.cancelled() => break Resolution::Canceled,
                    Some(()) = passed => break Resolution::Timeout,
                }
            };
            Box::pin(self.end_wait(key, ours)).await
        }
    }

    /// Looks whether the wait has ended, and takes a place among those who are told if it has not.
    async fn begin_to_wait(&self, key: &WaitKey, deadline: Option<Timestamp>) -> Result<Begun<'_>, DurableError> {
        let address = key.verify(self.store.secret())?;
        self.waiters.follow(&self.store).await.map_err(wait_error)?;
        // In the list before the store is read: an end that comes in between is not lost.
        let place = self.waiters.park(&address);
        match self.store.register(&address, deadline, self.now()).await.map_err(wait_error)? {
            Registered::Ended(terminal) => resolution(&address, terminal).map(Begun::Ended),
            Registered::Open { deadline } => Ok(Begun::Parked(place, deadline)),
        }
    }

    /// Ends a wait by what its waiter saw, unless somebody was first.
    async fn end_wait(&self, key: &WaitKey, ours: Resolution) -> Result<Resolution, DurableError> {
        let address = key.verify(self.store.secret())?;
        self.resolve(&address, ours.clone()).await.map(|resolved| match resolved {
            Resolved::Accepted => ours,
            Resolved::AlreadyResolved { terminal } => terminal,
        })
    }

    async fn resolve(&self, address: &WaitAddress, resolution: Resolution) -> Result<Resolved, DurableError> {
        if let Resolution::Answered { payload } = &resolution
            && json_bytes(payload) > RESOLUTION_BYTES
        {
            let message = format!("a resolution may have {RESOLUTION_BYTES} bytes of JSON, and this one has more");
            return Err(DurableError::Invalid { code: "resolution_too_large", message });
        }
        let resolved = self.store.resolve(address, resolution.clone(), self.now()).await.map_err(wait_error)?;
        if resolved == Resolved::Accepted {
            self.waiters.wake(address, &Terminal::Resolved { resolution });
        }
        Ok(resolved)
    }

    async fn peek(&self, key: &WaitKey) -> Result<Option<Resolution>, DurableError> {
        let address = key.verify(self.store.secret())?;
        let terminal = self.store.peek(&address, self.now()).await.map_err(wait_error)?;
        terminal.map(|terminal| resolution(&address, terminal)).transpose()
    }
}

/// What whoever is going to wait meets.
enum Begun<'w> {
    /// It is over.
    Ended(Resolution),
    /// Nothing yet; the deadline that is in force.
    Parked(waiters::Place<'w>, Option<Timestamp>),
}

fn resolution(address: &WaitAddress, terminal: Terminal) -> Result<Resolution, DurableError> {
    match terminal {
        Terminal::Resolved { resolution } => Ok(resolution),
        Terminal::Revoked => Err(DurableError::WaitUnknownOrRevoked),
        Terminal::ScopeEnded => Err(DurableError::ScopeEnded { scope: address.scope.to_string() }),
    }
}

#[async_trait]
impl EffectHost for StoredHost {
    fn supports_durable_effects(&self) -> bool {
        self.shared.store.supports_durable_effects()
    }

    async fn controller<'h>(
        &'h self,
        scope: ExecutionScope,
        claim: Claim,
    ) -> Result<Arc<dyn ScopeController + 'h>, DurableError> {
        Ok(self.open(scope, claim).await?)
    }

    async fn static_controller(
        &self,
        scope: ExecutionScope,
        claim: Claim,
    ) -> Result<Option<Arc<dyn ScopeController>>, DurableError> {
        Ok(Some(self.open(scope, claim).await?))
    }

    fn wait_key(&self, scope: &ExecutionScope, identity: &str) -> Result<WaitKey, DurableError> {
        self.shared.sign(scope, identity)
    }

    async fn resolve(&self, key: &WaitKey, resolution: Resolution) -> Result<Resolved, DurableError> {
        let address = key.verify(self.shared.store.secret())?;
        self.shared.resolve(&address, resolution).await
    }

    async fn cancel_session(&self, session: &str) -> Result<u64, DurableError> {
        self.shared.store.cancel_session(session, self.shared.now()).await.map_err(wait_error)
    }

    async fn revoke_session(&self, session: &str) -> Result<u64, DurableError> {
        self.shared.store.revoke_session(session, false).await.map_err(wait_error)
    }

    async fn delete_session(&self, session: &str) -> Result<u64, DurableError> {
        self.shared.store.revoke_session(session, true).await.map_err(wait_error)
    }

    async fn prune(&self) -> Result<u64, DurableError> {
        self.shared.prune().await.map_err(DurableError::Store)
    }
}

/// What a call finds when it comes in.
enum Entered<'c> {
    /// Somebody runs it.
    Busy(watch::Receiver<()>),
    /// It is over.
    Over(Outcome),
    /// It is the caller's to run.
    Ours(Start, Flight<'c>),
}

/// Where an effect is to be taken up.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Start {
    New,
    InDoubt,
    Resting(Timestamp),
}

impl Cell {
    fn lock(&self) -> MutexGuard<'_, CellState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn check_lease(&self) -> Result<(), DurableError> {
        if self.lost.is_cancelled() {
            return Err(DurableError::LeaseLost { scope: self.scope.to_string() });
        }
        Ok(())
    }

    /// Takes note of what a failure means for the scope.
    fn failed(&self, error: StoreError) -> DurableError {
        match &error {
            StoreError::LeaseLost { .. } => self.lost.cancel(),
            StoreError::ScopeEnded => self.lock().ended = true,
            StoreError::Failed(_) => self.lock().unanswered += 1,
            StoreError::Owned | StoreError::UnknownWait => {}
        }
        scope_error(&self.scope, error)
    }

    /// Reads the records again if a write had no answer.
    async fn refresh(&self) -> Result<(), DurableError> {
        self.check_lease()?;
        if !self.is_stale() {
            return Ok(());
        }
        // One reading at a time; what comes meanwhile needs it as well.
        let _reading = self.reading.lock().await;
        while self.is_stale() {
            let covers = {
                let mut state = self.lock();
                state.changed = Some(BTreeSet::new());
                state.unanswered
            };
            let opened = self.shared.store.load(self.lease).await.map_err(|error| self.failed(error))?;
            let mut state = self.lock();
            let changed = state.changed.take().unwrap_or_default();
            let CellState { effects, flights, .. } = &mut *state;
            // Whoever runs an effect, or ran it since the reading began, knows it better.
            let known = |key: &String| flights.contains_key(key) || changed.contains(key);
            let mut read = by_key(opened.effects);
            read.retain(|key, _| !known(key));
            effects.retain(|key, _| known(key));
            effects.append(&mut read);
            state.ended |= opened.ended;
            state.covered = covers;
        }
        Ok(())
    }

    fn is_stale(&self) -> bool {
        let state = self.lock();
        state.covered < state.unanswered
    }

    fn enter(&self, plan: &EffectPlan<'_>) -> Result<Entered<'_>, DurableError> {
        let key = plan.envelope.replay_key();
        let mut state = self.lock();
        if let Some(flight) = state.flights.get_mut(key) {
            return Ok(Entered::Busy(flight.get_or_insert_default().subscribe()));
        }
        let start = match record::meet(state.effects.get(key).map(|(_, record)| record), &plan.envelope) {
            Met::Recorded(outcome) => return Ok(Entered::Over(outcome)),
            Met::Mismatch(mismatch) => return Err(DurableError::ReplayMismatch(mismatch)),
            _ if state.ended => return Err(DurableError::ScopeEnded { scope: self.scope.to_string() }),
            Met::Parked(reason) => return Err(DurableError::InDoubt { replay_key: key.to_owned(), reason }),
            Met::New => Start::New,
            Met::InDoubt => Start::InDoubt,
            Met::Resting(until) => Start::Resting(until),
        };
        if start == Start::New && state.effects.len() + state.flights.len() >= EFFECTS {
            let message =
                format!("{} has {EFFECTS} effects, and no more are taken; end it and open another", self.scope);
            return Err(DurableError::Invalid { code: "scope_full", message });
        }
        state.flights.insert(key.to_owned(), None);
        drop(state);
        Ok(Entered::Ours(start, Flight { cell: self, key: key.to_owned(), writing: false }))
    }

    async fn write(&self, flight: &mut Flight<'_>, write: Write) -> Result<Place, DurableError> {
        self.check_lease()?;
        flight.writing = true;
        let written = self.shared.store.write(self.lease, write).await;
        flight.writing = false;
        written.map_err(|error| self.failed(error))
    }

    /// Writes another state of the effect, and takes it into memory.
    async fn change(&self, flight: &mut Flight<'_>, at: &mut Held, state: EffectState) -> Result<(), DurableError> {
        self.write(flight, Write::Change(at.place, state.clone())).await?;
        let mut held = self.lock();
        if let Some((_, record)) = held.effects.get_mut(&flight.key) {
            record.state.clone_from(&state);
        }
        held.note_change(&flight.key);
        drop(held);
        at.state = state;
        Ok(())
    }

    fn call(&self, replay_key: &str, state: &EffectState, deadline: Option<Timestamp>) -> Call {
        Call {
            idempotency_key: idempotency_key(self.shared.store.secret(), &self.key, replay_key, state.generation),
            attempt: state.attempt,
            deadline,
            cancel: self.lost.child_token(),
            epoch: self.lease.epoch,
        }
    }

    /// Carries an effect from what was met to its end.
    async fn drive(&self, plan: &EffectPlan<'_>, mut flight: Flight<'_>, start: Start) -> Result<Value, DurableError> {
        let clock = &self.shared.options.clock;
        let sleep = if let Command::Sleep { duration_ms } = plan.envelope.command() {
            Some(Duration::from_millis(*duration_ms))
        } else {
            None
        };
        let mut at = match start {
            Start::New => self.intend(&mut flight, plan, sleep).await?,
            Start::InDoubt | Start::Resting(_) => self.held(&flight.key).ok_or_else(|| self.vanished(&flight.key))?,
        };
        if sleep.is_some() {
            clock.until(at.state.due_at.unwrap_or_default()).await;
            return self.end(&mut flight, &mut at, Outcome::Done(Value::Null)).await;
        }
        match start {
            Start::New => {}
            // Waiting does nothing to the world: however often it is cut off, it goes on, and that is no doubt to be counted.
            Start::InDoubt if waits(plan) => {}
            Start::InDoubt => {
                let reason = "the process ended before the outcome was recorded".to_owned();
                if let Some(outcome) = self.settle_doubt(&mut flight, &mut at, plan, reason).await? {
                    return self.end(&mut flight, &mut at, outcome).await;
                }
            }
            Start::Resting(until) => self.try_again_at(&mut flight, &mut at, until).await?,
        }
        loop {
            let deadline = plan.limit.map(|limit| clock.now().after(limit));
            let call = self.call(&flight.key, &at.state, deadline);
            let cancel = call.cancel.clone();
            // Called within the try, so that a closure that panics before it has a future ends the try as well.
            let tried = async { (plan.executor)(call).await };
            let ended = attempt(tried, plan.limit, &cancel).await;
            match record::ended(&at.state, ended, &plan.retry, clock.now()) {
                Next::End(outcome) => return self.end(&mut flight, &mut at, outcome).await,
                Next::Rest { until, error } => {
                    let mut state = at.state.clone();
                    state.rest(self.lease.epoch, clock.now(), until, error);
                    self.change(&mut flight, &mut at, state).await?;
                    self.try_again_at(&mut flight, &mut at, until).await?;
                }
                Next::Doubt(reason) => {
                    self.check_lease()?;
                    if let Some(outcome) = self.settle_doubt(&mut flight, &mut at, plan, reason).await? {
                        return self.end(&mut flight, &mut at, outcome).await;
                    }
                }
            }
        }
    }

    async fn intend(
        &self,
        flight: &mut Flight<'_>,
        plan: &EffectPlan<'_>,
        sleep: Option<Duration>,
    ) -> Result<Held, DurableError> {
        let now = self.shared.now();
        let due_at = sleep.map(|duration| now.after(duration));
        let record = EffectRecord::intended(&plan.envelope, self.lease.epoch, now, due_at);
        let place = self.write(flight, Write::Intend(record.clone())).await?;
        let state = record.state.clone();
        let mut held = self.lock();
        held.effects.insert(flight.key.clone(), (place, record));
        held.note_change(&flight.key);
        drop(held);
        Ok(Held { place, state })
    }

    fn held(&self, key: &str) -> Option<Held> {
        let state = self.lock();
        state.effects.get(key).map(|(place, record)| Held { place: *place, state: record.state.clone() })
    }

    fn vanished(&self, key: &str) -> DurableError {
        DurableError::Store(StoreError::Failed(format!("the record of {key} in {} is gone", self.scope)))
    }

    async fn try_again_at(&self, flight: &mut Flight<'_>, at: &mut Held, until: Timestamp) -> Result<(), DurableError> {
        self.shared.options.clock.until(until).await;
        let mut state = at.state.clone();
        state.again(self.lease.epoch);
        self.change(flight, at, state).await
    }

    async fn end(&self, flight: &mut Flight<'_>, at: &mut Held, outcome: Outcome) -> Result<Value, DurableError> {
        let outcome = match outcome {
            Outcome::Done(ref output) if json_bytes(output) > OUTPUT_BYTES => {
                let message = format!("it took place, and its output has more than {OUTPUT_BYTES} bytes of JSON");
                Outcome::Failed(EffectError::permanent("output_too_large", message))
            }
            Outcome::Done(_) | Outcome::Failed(_) => outcome,
        };
        let mut state = at.state.clone();
        state.end(self.lease.epoch, self.shared.now(), outcome.clone(), None);
        self.change(flight, at, state).await?;
        answer(outcome)
    }
}

/// The effect that a flight runs.
struct Held {
    place: Place,
    state: EffectState,
}

/// Whether the effect does nothing but wait.
fn waits(plan: &EffectPlan<'_>) -> bool {
    matches!(plan.envelope.command(), Command::AwaitEvent { .. }) && plan.in_doubt == InDoubt::Rerun
}

fn answer(outcome: Outcome) -> Result<Value, DurableError> {
    match outcome {
        Outcome::Done(output) => Ok(output),
        Outcome::Failed(error) => Err(DurableError::Effect(error)),
    }
}

#[async_trait]
impl ScopeController for Cell {
    fn scope(&self) -> &ExecutionScope {
        &self.scope
    }

    fn epoch(&self) -> u64 {
        self.lease.epoch
    }

    async fn execute(&self, plan: EffectPlan<'_>) -> Result<Value, DurableError> {
        if plan.envelope.invocation().scope != self.scope {
            let message = format!("{} is of another scope than {}", plan.envelope.replay_key(), self.scope);
            return Err(DurableError::Invalid { code: "foreign_scope", message });
        }
        loop {
            self.refresh().await?;
            match self.enter(&plan)? {
                // An error means that whoever ran it is through: that is what is waited for.
                Entered::Busy(mut flight) => while flight.changed().await.is_ok() {},
                Entered::Over(outcome) => return answer(outcome),
                Entered::Ours(start, flight) => return self.drive(&plan, flight, start).await,
            }
        }
    }

    async fn settle(&self, replay_key: &str, settlement: Settlement, who: Settled) -> Result<(), DurableError> {
        self.refresh().await?;
        let mut at = {
            let mut state = self.lock();
            let parked = state.effects.get(replay_key).filter(|(_, record)| {
                matches!(record.state.progress, Progress::Parked { .. }) && !state.flights.contains_key(replay_key)
            });
            let Some((place, record)) = parked else {
                let message = format!("{replay_key} in {} is not parked, so there is nothing to settle", self.scope);
                return Err(DurableError::Invalid { code: "not_parked", message });
            };
            let at = Held { place: *place, state: record.state.clone() };
            state.flights.insert(replay_key.to_owned(), None);
            at
        };
        let mut flight = Flight { cell: self, key: replay_key.to_owned(), writing: false };
        let mut state = at.state.clone();
        let (epoch, now) = (self.lease.epoch, self.shared.now());
        match settlement {
            Settlement::Applied(output) => state.end(epoch, now, Outcome::Done(output), Some(who)),
            Settlement::NotApplied => {
                let error = EffectError::permanent("settled_not_applied", format!("{}: {}", who.by, who.why));
                // The next call begins a new generation, at once. The doubts stay: their attempts take no retries.
                state.rest(epoch, now, now, error);
                state.generation += 1;
            }
        }
        self.change(&mut flight, &mut at, state).await
    }

    async fn effects(&self) -> Result<Vec<EffectRecord>, DurableError> {
        self.refresh().await?;
        let state = self.lock();
        let mut effects: Vec<&(Place, EffectRecord)> = state.effects.values().collect();
        effects.sort_by_key(|(place, _)| *place);
        Ok(effects.into_iter().map(|(_, record)| record.clone()).collect())
    }

    fn wait_key(&self, identity: &str) -> Result<WaitKey, DurableError> {
        self.shared.sign(&self.scope, identity)
    }

    // As the macro would write it, but for the second future around the first.
    fn wait<'s, 'k, 'c, 'async_trait>(
        &'s self,
        key: &'k WaitKey,
        cancel: &'c CancellationToken,
        deadline: Option<Timestamp>,
    ) -> BoxFuture<'async_trait, Result<Resolution, DurableError>>
    where
        's: 'async_trait,
        'k: 'async_trait,
        'c: 'async_trait,
        Self: 'async_trait,
    {
        Box::pin(self.shared.wait(key, cancel, deadline))
    }

    async fn peek(&self, key: &WaitKey) -> Result<Option<Resolution>, DurableError> {
        self.shared.peek(key).await
    }

    async fn end(&self) -> Result<(), DurableError> {
        self.check_lease()?;
        match self.shared.store.end(self.lease, self.shared.now()).await {
            Ok(()) | Err(StoreError::ScopeEnded) => self.lock().ended = true,
            Err(error) => return Err(self.failed(error)),
        }
        self.shared.prune_sometimes().await;
        Ok(())
    }

    fn now(&self) -> Timestamp {
        self.shared.now()
    }
}

impl Drop for Cell {
    fn drop(&mut self) {
        self.shared.forget(&self.key);
    }
}
