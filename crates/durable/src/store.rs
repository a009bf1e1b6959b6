//! What a durable host needs of a database. One trait; memory, SQLite and others implement it, and the runner
//! ([`crate::StoredHost`]) is the same over all of them.

use async_trait::async_trait;
use tokio::sync::watch;

use crate::clock::Timestamp;
use crate::key::Secret;
use crate::record::{EffectRecord, EffectState};
use crate::scope::ExecutionScope;
use crate::wait::{Registered, Resolution, Resolved, Terminal, WaitAddress};

/// A store's name for an opened scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ScopeRow(pub i64);

/// A store's name for a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place(pub i64);

/// The hold on a scope. Writes carry it; one whose epoch is not the scope's any more is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// The scope.
    pub row: ScopeRow,
    /// The fencing number: higher than that of every owner before.
    pub epoch: u64,
}

/// How a scope is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    /// Unless another owner is alive and has it.
    IfFree,
    /// In any case: whoever has it can record nothing from then on.
    TakeOver,
}

/// A scope that was taken, with everything that is recorded of it.
#[derive(Debug)]
pub struct OpenedScope {
    /// The hold on it.
    pub lease: Lease,
    /// It has ended: its outcomes are told until they are pruned, and nothing is added.
    pub ended: bool,
    /// Its effects, in the order of their intents.
    pub effects: Vec<(Place, EffectRecord)>,
}

/// What is recorded of a scope, for somebody who only looks.
#[derive(Debug)]
pub struct LookedAt {
    /// It has ended.
    pub ended: bool,
    /// Its effects, in the order of their intents.
    pub effects: Vec<(Place, EffectRecord)>,
}

/// One change of one record.
#[derive(Debug)]
pub enum Write {
    /// A new effect.
    Intend(EffectRecord),
    /// What became of one.
    Change(Place, EffectState),
}

/// What a runtime that decides by a journal of its own records of an effect: written in the same transaction as the facts of its
/// journal, under that journal's epoch and not under a lease. Such a runtime has one intent and one outcome with the
/// journal's syncs, and the same records as everybody else.
#[derive(Debug, Clone, PartialEq)]
pub enum Entry {
    /// An attempt of an effect is about to begin: the first one, or a further one. Opens the scope, if it is not open.
    Intended {
        /// Where it lives.
        scope: ExecutionScope,
        /// The effect, as it is from now on.
        record: EffectRecord,
    },
    /// Something became of an effect.
    Changed {
        /// Where it lives.
        scope: ExecutionScope,
        /// Which.
        replay_key: String,
        /// How it is from now on.
        state: EffectState,
    },
    /// The scope is over.
    Ended {
        /// Which.
        scope: ExecutionScope,
        /// When.
        at: Timestamp,
    },
}

/// Why a store did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The scope has ended, and what was recorded of it is gone or may not be added to.
    #[error("the scope has ended")]
    ScopeEnded,
    /// Another owner is alive.
    #[error("another owner is alive and has the scope")]
    Owned,
    /// Another owner took over.
    #[error("another owner took the scope over under epoch {current}")]
    LeaseLost {
        /// Its epoch.
        current: u64,
    },
    /// The session of the wait was revoked, or its scope is not open: there is no such wait.
    #[error("the wait is unknown or was revoked")]
    UnknownWait,
    /// The database failed. Whether what was asked for is there nobody knows, until it is read again.
    #[error("the durable store failed: {0}; what was recorded stays, and the next call looks again")]
    Failed(String),
}

/// What became of a wait, for whoever is parked on it.
#[derive(Debug, Clone, PartialEq)]
pub struct WaitChange {
    /// The wait.
    pub address: WaitAddress,
    /// Its end.
    pub terminal: Terminal,
}

/// A page of waits that ended.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct WaitChanges {
    /// Oldest first; empty: there are no more by now.
    pub changes: Vec<WaitChange>,
    /// The cursor behind them.
    pub next: u64,
    /// Ends between the asked cursor and the first of these are not kept any more: whoever is parked has to look.
    pub gap: bool,
}

/// A database of effects and waits.
///
/// # Contract
/// - When a call answers, what it did is as durable as the store ever makes it, and everybody who shares the store sees it.
/// - Calls of one caller take effect in the order in which they are made, also when their answers are not awaited.
/// - A refused call changes nothing.
#[async_trait]
pub trait DurableStore: std::fmt::Debug + Send + Sync + 'static {
    /// Whether what was answered survives the process.
    fn supports_durable_effects(&self) -> bool;

    /// The store's secret: random, made once, never shown.
    fn secret(&self) -> &Secret;

    /// Takes a scope under a higher epoch, or looks into one that has ended.
    ///
    /// # Errors
    /// [`StoreError::Owned`], [`StoreError::ScopeEnded`] when only a tombstone is left, [`StoreError::Failed`].
    async fn open(&self, scope: &ExecutionScope, claim: Claim) -> Result<OpenedScope, StoreError>;

    /// Reads a scope's records again, after every earlier call of this caller took effect.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn load(&self, lease: Lease) -> Result<OpenedScope, StoreError>;

    /// Looks into a scope and takes nothing of it. `None`: it was never opened.
    ///
    /// # Errors
    /// [`StoreError::ScopeEnded`] when only a tombstone is left, [`StoreError::Failed`].
    async fn look(&self, scope: &ExecutionScope) -> Result<Option<LookedAt>, StoreError>;

    /// Ids of sagas whose scope has not ended, in their order, those behind `after`, at most `limit`.
    ///
    /// # Errors
    /// [`StoreError::Failed`].
    async fn open_sagas(&self, after: Option<&str>, limit: u32) -> Result<Vec<String>, StoreError>;

    /// Records one change.
    ///
    /// # Errors
    /// [`StoreError::LeaseLost`], [`StoreError::ScopeEnded`], [`StoreError::Failed`].
    async fn write(&self, lease: Lease, write: Write) -> Result<Place, StoreError>;

    /// Ends a scope. Its waits that are open end with it.
    ///
    /// # Errors
    /// As [`DurableStore::write`].
    async fn end(&self, lease: Lease, now: Timestamp) -> Result<(), StoreError>;

    /// Notes that somebody is going to be parked on the wait; the first deadline stays.
    ///
    /// # Errors
    /// [`StoreError::UnknownWait`], [`StoreError::Failed`].
    async fn register(
        &self,
        address: &WaitAddress,
        deadline: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<Registered, StoreError>;

    /// Resolves a wait, or tells what it was resolved with before.
    ///
    /// # Errors
    /// [`StoreError::UnknownWait`], [`StoreError::Failed`].
    async fn resolve(
        &self,
        address: &WaitAddress,
        resolution: Resolution,
        now: Timestamp,
    ) -> Result<Resolved, StoreError>;

    /// The end of a wait, if it has one.
    ///
    /// # Errors
    /// [`StoreError::UnknownWait`], [`StoreError::Failed`].
    async fn peek(&self, address: &WaitAddress, now: Timestamp) -> Result<Option<Terminal>, StoreError>;

    /// Resolves all open waits of a session as canceled; answers how many. The session stays usable.
    ///
    /// # Errors
    /// [`StoreError::Failed`].
    async fn cancel_session(&self, session: &str, now: Timestamp) -> Result<u64, StoreError>;

    /// Revokes all waits of a session, now and for ever; answers how many were open. With `remove` their rows go, too.
    ///
    /// # Errors
    /// [`StoreError::Failed`].
    async fn revoke_session(&self, session: &str, remove: bool) -> Result<u64, StoreError>;

    /// Removes records of scopes that ended before `ended_before`, at most `scopes` of them; their tombstones stay. Answers how
    /// many went.
    ///
    /// # Errors
    /// [`StoreError::Failed`].
    async fn prune(&self, ended_before: Timestamp, scopes: u32) -> Result<u64, StoreError>;

    /// Changes whenever some wait may have ended, in this process or another one.
    fn wait_changes(&self) -> watch::Receiver<u64>;

    /// Waits that ended after `cursor`, oldest first, at most a page of them.
    ///
    /// # Errors
    /// [`StoreError::Failed`].
    async fn waits_ended_after(&self, cursor: u64) -> Result<WaitChanges, StoreError>;

    /// The cursor behind every wait that has ended by now.
    ///
    /// # Errors
    /// [`StoreError::Failed`].
    async fn wait_cursor(&self) -> Result<u64, StoreError>;
}
