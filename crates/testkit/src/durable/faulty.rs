//! A durable store that fails, or halts, where the test wants it.

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use dalsegno_durable::key::Secret;
use dalsegno_durable::store::{Lease, LookedAt, OpenedScope, Place, WaitChanges, Write};
use dalsegno_durable::wait::{Registered, Terminal, WaitAddress};
use dalsegno_durable::{Claim, DurableStore, ExecutionScope, Resolution, Resolved, StoreError, Timestamp};
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::{CancellationToken, DropGuard};

/// The calls of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs, reason = "each is the method of that name; a write is told apart by what it writes")]
pub enum StoreCall {
    Open,
    Load,
    Look,
    OpenSagas,
    Intend,
    Change,
    End,
    Register,
    Resolve,
    Peek,
    CancelSession,
    RevokeSession,
    Prune,
    EndedAfter,
    Cursor,
}

impl StoreCall {
    /// Whether such a call may change the database.
    #[must_use]
    pub fn changes_something(self) -> bool {
        match self {
            Self::Load | Self::Look | Self::OpenSagas | Self::EndedAfter | Self::Cursor => false,
            Self::Open
            | Self::Intend
            | Self::Change
            | Self::End
            | Self::Register
            | Self::Resolve
            | Self::Peek
            | Self::CancelSession
            | Self::RevokeSession
            | Self::Prune => true,
        }
    }
}

/// Where in a call something happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// Before the store has done it: it is not done.
    Before,
    /// After the store has done it, and before the caller knows: the answer is lost, or late.
    After,
}

#[derive(Debug)]
enum Plan {
    Fail(Moment),
    Hold(Moment, Arc<Gate>),
}

#[derive(Debug)]
struct Gate {
    reached: Semaphore,
    open: Semaphore,
}

impl Gate {
    async fn pass(&self) {
        self.reached.add_permits(1);
        // Nobody closes it.
        if let Ok(permit) = self.open.acquire().await {
            permit.forget();
        }
    }
}

/// A call that was made to halt. Dropped, it lets the call go on.
#[derive(Debug)]
pub struct Hold {
    gate: Arc<Gate>,
}

impl Hold {
    /// Waits until the call has come there.
    pub async fn reached(&self) {
        if let Ok(permit) = self.gate.reached.acquire().await {
            permit.forget();
        }
    }

    /// Lets it go on.
    pub fn release(self) {
        drop(self);
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.gate.open.add_permits(1);
    }
}

/// What the test orders from the [`FaultyStore`]s of one database, and what it is told of them.
#[derive(Debug, Default)]
pub struct Faults {
    state: Mutex<State>,
    point: Option<fn(&str)>,
}

#[derive(Debug, Default)]
struct State {
    counts: BTreeMap<StoreCall, u64>,
    plans: BTreeMap<StoreCall, VecDeque<Plan>>,
    gaps: u32,
}

impl Faults {
    /// Passes a point before and after each call that may change something; for the crash suite.
    #[must_use]
    pub fn with_points(point: fn(&str)) -> Self {
        Self { point: Some(point), ..Self::default() }
    }

    /// The next call of this kind fails; further orders for the same kind stand in line.
    pub fn fail_next(&self, call: StoreCall, moment: Moment) {
        self.order(call, Plan::Fail(moment));
    }

    /// The next call of this kind halts there, until it is released.
    #[must_use = "dropped at once, it holds nothing up"]
    pub fn hold_next(&self, call: StoreCall, moment: Moment) -> Hold {
        let gate = Arc::new(Gate { reached: Semaphore::new(0), open: Semaphore::new(0) });
        self.order(call, Plan::Hold(moment, Arc::clone(&gate)));
        Hold { gate }
    }

    /// The next page of ends that has any is told as a gap: as if whoever asks were so far behind that they are not kept any more.
    pub fn lose_next_ends(&self) {
        self.lock().gaps += 1;
    }

    /// Takes a page's ends out of it, if that was ordered.
    fn with_gap(&self, page: WaitChanges) -> WaitChanges {
        let mut state = self.lock();
        if state.gaps == 0 || page.changes.is_empty() {
            return page;
        }
        state.gaps -= 1;
        WaitChanges { changes: Vec::new(), next: page.next, gap: true }
    }

    /// Calls of this kind so far, over all stores.
    #[must_use]
    pub fn count(&self, call: StoreCall) -> u64 {
        self.lock().counts.get(&call).copied().unwrap_or(0)
    }

    /// Calls of every kind so far.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.lock().counts.values().sum()
    }

    /// Calls so far that may have changed something.
    #[must_use]
    pub fn writes(&self) -> u64 {
        self.lock().counts.iter().filter(|(call, _)| call.changes_something()).map(|(_, count)| count).sum()
    }

    fn order(&self, call: StoreCall, plan: Plan) {
        self.lock().plans.entry(call).or_default().push_back(plan);
    }

    /// Counts a call, and takes what was ordered for it.
    fn begin(&self, call: StoreCall) -> Option<Plan> {
        let mut state = self.lock();
        *state.counts.entry(call).or_default() += 1;
        state.plans.get_mut(&call)?.pop_front()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A store around another one, with [`Faults`].
#[derive(Debug)]
pub struct FaultyStore {
    inner: Arc<dyn DurableStore>,
    faults: Arc<Faults>,
    /// Behind the store, so that it is dropped when that is.
    gone: DropGuard,
}

impl FaultyStore {
    /// Around `inner`. Several stores of one database may share their faults.
    #[must_use]
    pub fn new(inner: Arc<dyn DurableStore>, faults: Arc<Faults>) -> Self {
        Self { inner, faults, gone: CancellationToken::new().drop_guard() }
    }

    /// Fires when this store was dropped, and the inner one with it if nobody else has that.
    #[must_use]
    pub fn gone(&self) -> CancellationToken {
        self.gone.token().clone()
    }

    async fn through<T>(
        &self,
        call: StoreCall,
        doing: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        let failed = || Err(StoreError::Failed(format!("{call:?} was made to fail")));
        let point = self.faults.point.filter(|_| call.changes_something());
        let doing = async {
            if let Some(point) = point {
                point("before the store");
            }
            let told = doing.await;
            if let Some(point) = point {
                point("after the store");
            }
            told
        };
        match self.faults.begin(call) {
            None => doing.await,
            Some(Plan::Fail(Moment::Before)) => failed(),
            Some(Plan::Fail(Moment::After)) => {
                doing.await?;
                failed()
            }
            Some(Plan::Hold(Moment::Before, gate)) => {
                gate.pass().await;
                doing.await
            }
            Some(Plan::Hold(Moment::After, gate)) => {
                let told = doing.await;
                gate.pass().await;
                told
            }
        }
    }
}

#[async_trait]
impl DurableStore for FaultyStore {
    fn supports_durable_effects(&self) -> bool {
        self.inner.supports_durable_effects()
    }

    fn secret(&self) -> &Secret {
        self.inner.secret()
    }

    async fn open(&self, scope: &ExecutionScope, claim: Claim) -> Result<OpenedScope, StoreError> {
        self.through(StoreCall::Open, self.inner.open(scope, claim)).await
    }

    async fn look(&self, scope: &ExecutionScope) -> Result<Option<LookedAt>, StoreError> {
        self.through(StoreCall::Look, self.inner.look(scope)).await
    }

    async fn open_sagas(&self, after: Option<&str>, limit: u32) -> Result<Vec<String>, StoreError> {
        self.through(StoreCall::OpenSagas, self.inner.open_sagas(after, limit)).await
    }

    async fn load(&self, lease: Lease) -> Result<OpenedScope, StoreError> {
        self.through(StoreCall::Load, self.inner.load(lease)).await
    }

    async fn write(&self, lease: Lease, write: Write) -> Result<Place, StoreError> {
        let call = match write {
            Write::Intend(_) => StoreCall::Intend,
            Write::Change(..) => StoreCall::Change,
        };
        self.through(call, self.inner.write(lease, write)).await
    }

    async fn end(&self, lease: Lease, now: Timestamp) -> Result<(), StoreError> {
        self.through(StoreCall::End, self.inner.end(lease, now)).await
    }

    async fn register(
        &self,
        address: &WaitAddress,
        deadline: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<Registered, StoreError> {
        self.through(StoreCall::Register, self.inner.register(address, deadline, now)).await
    }

    async fn resolve(
        &self,
        address: &WaitAddress,
        resolution: Resolution,
        now: Timestamp,
    ) -> Result<Resolved, StoreError> {
        self.through(StoreCall::Resolve, self.inner.resolve(address, resolution, now)).await
    }

    async fn peek(&self, address: &WaitAddress, now: Timestamp) -> Result<Option<Terminal>, StoreError> {
        self.through(StoreCall::Peek, self.inner.peek(address, now)).await
    }

    async fn cancel_session(&self, session: &str, now: Timestamp) -> Result<u64, StoreError> {
        self.through(StoreCall::CancelSession, self.inner.cancel_session(session, now)).await
    }

    async fn revoke_session(&self, session: &str, remove: bool) -> Result<u64, StoreError> {
        self.through(StoreCall::RevokeSession, self.inner.revoke_session(session, remove)).await
    }

    async fn prune(&self, ended_before: Timestamp, scopes: u32) -> Result<u64, StoreError> {
        self.through(StoreCall::Prune, self.inner.prune(ended_before, scopes)).await
    }

    fn wait_changes(&self) -> watch::Receiver<u64> {
        self.inner.wait_changes()
    }

    async fn waits_ended_after(&self, cursor: u64) -> Result<WaitChanges, StoreError> {
        let page = self.through(StoreCall::EndedAfter, self.inner.waits_ended_after(cursor)).await?;
        Ok(self.faults.with_gap(page))
    }

    async fn wait_cursor(&self) -> Result<u64, StoreError> {
        self.through(StoreCall::Cursor, self.inner.wait_cursor()).await
    }
}

#[cfg(test)]
mod tests {
    use dalsegno_durable::MemoryStore;

    use super::*;

    fn store() -> (Arc<FaultyStore>, Arc<Faults>) {
        let faults = Arc::<Faults>::default();
        let memory = Arc::new(MemoryStore::new(Secret::new([1; 32])));
        (Arc::new(FaultyStore::new(memory, Arc::clone(&faults))), faults)
    }

    #[tokio::test]
    async fn a_call_fails_before_or_after_it_was_done() {
        let (store, faults) = store();
        let open =
            async |id: &str| store.open(&ExecutionScope::process(id), Claim::IfFree).await.map(|it| it.lease.epoch);
        faults.fail_next(StoreCall::Open, Moment::Before);
        assert!(matches!(open("a").await, Err(StoreError::Failed(_))));
        assert_eq!(open("a").await, Ok(1));
        faults.fail_next(StoreCall::Open, Moment::After);
        assert!(matches!(open("b").await, Err(StoreError::Failed(_))));
        assert_eq!(open("b").await, Ok(2));
        assert_eq!((faults.count(StoreCall::Open), faults.calls(), faults.writes()), (4, 4, 4));
    }

    #[tokio::test]
    async fn a_held_call_goes_on_when_it_is_released() {
        let (store, faults) = store();
        let hold = faults.hold_next(StoreCall::Cursor, Moment::Before);
        let call = tokio::spawn({
            let store = Arc::clone(&store);
            async move { store.wait_cursor().await }
        });
        hold.reached().await;
        assert!(!call.is_finished());
        hold.release();
        assert!(matches!(call.await, Ok(Ok(0))));
    }
}
