//! A store in memory: for tests, and for runtimes that need the rules and not the durability.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use async_trait::async_trait;
use tokio::sync::watch;

use crate::clock::Timestamp;
use crate::key::Secret;
use crate::record::EffectRecord;
use crate::scope::ExecutionScope;
use crate::store::{
    Claim, DurableStore, Lease, LookedAt, OpenedScope, Place, ScopeRow, StoreError, WaitChange, WaitChanges, Write,
};
use crate::wait::{Registered, Resolution, Resolved, Terminal, WaitAddress, WaitRecord};

/// Ends of waits that are kept for those who follow.
const ENDS: usize = 65_536;
/// Ends in one page.
const PAGE: usize = 1_024;

/// One owner's view of a database in memory. [`MemoryStore::another`] gives the view of another process.
#[derive(Debug)]
pub struct MemoryStore {
    shared: Arc<Shared>,
    /// Lives as long as this owner does.
    owner: Arc<()>,
    secret: Secret,
}

#[derive(Debug)]
struct Shared {
    database: Mutex<Database>,
    changed: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Database {
    scopes: BTreeMap<String, ScopeEntry>,
    rows: BTreeMap<ScopeRow, String>,
    tombstones: BTreeSet<String>,
    revoked: BTreeSet<String>,
    ends: BTreeMap<u64, WaitChange>,
    last_end: u64,
    last_row: i64,
    last_place: i64,
}

#[derive(Debug)]
struct ScopeEntry {
    row: ScopeRow,
    scope: ExecutionScope,
    epoch: u64,
    owner: Weak<()>,
    ended_at: Option<Timestamp>,
    effects: BTreeMap<Place, EffectRecord>,
    keys: BTreeSet<String>,
    waits: BTreeMap<String, WaitRecord>,
}

impl ScopeEntry {
    fn opened(&self) -> OpenedScope {
        OpenedScope {
            lease: Lease { row: self.row, epoch: self.epoch },
            ended: self.ended_at.is_some(),
            effects: self.effects.iter().map(|(place, record)| (*place, record.clone())).collect(),
        }
    }
}

impl MemoryStore {
    /// An empty database with this secret.
    #[must_use]
    pub fn new(secret: Secret) -> Self {
        let shared = Shared { database: Mutex::default(), changed: watch::Sender::new(0) };
        Self { shared: Arc::new(shared), owner: Arc::new(()), secret }
    }

    /// The same database for another owner.
    #[must_use]
    pub fn another(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), owner: Arc::new(()), secret: self.secret.clone() }
    }

    fn lock(&self) -> MutexGuard<'_, Database> {
        self.shared.database.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, database: &Database) {
        // Whoever follows looks at each change, so there is none without an end.
        self.shared.changed.send_if_modified(|told| std::mem::replace(told, database.last_end) != database.last_end);
    }
}

impl Database {
    fn leased(&mut self, lease: Lease) -> Result<&mut ScopeEntry, StoreError> {
        let key = self.rows.get(&lease.row).ok_or(StoreError::ScopeEnded)?;
        let entry = self.scopes.get_mut(key).ok_or(StoreError::ScopeEnded)?;
        if entry.epoch != lease.epoch {
            return Err(StoreError::LeaseLost { current: entry.epoch });
        }
        Ok(entry)
    }

    /// The scope of a wait that may be there.
    fn scope_of(&mut self, address: &WaitAddress) -> Result<&mut ScopeEntry, StoreError> {
        let session = address.scope.session();
        if session.is_some_and(|session| self.revoked.contains(session)) {
            return Err(StoreError::UnknownWait);
        }
        let entry = self.scopes.get_mut(&address.scope.key()).ok_or(StoreError::UnknownWait)?;
        if entry.ended_at.is_some() && !entry.waits.contains_key(&address.identity) {
            return Err(StoreError::UnknownWait);
        }
        Ok(entry)
    }

    fn has_wait(&mut self, address: &WaitAddress) -> Result<bool, StoreError> {
        Ok(self.scope_of(address)?.waits.contains_key(&address.identity))
    }

    /// The wait's record; none is made for one that may not be there.
    fn wait(&mut self, address: &WaitAddress) -> Result<&mut WaitRecord, StoreError> {
        Ok(self.scope_of(address)?.waits.entry(address.identity.clone()).or_default())
    }

    fn ended(&mut self, address: WaitAddress, terminal: Terminal) {
        self.last_end += 1;
        self.ends.insert(self.last_end, WaitChange { address, terminal });
        if self.ends.len() > ENDS {
            self.ends.pop_first();
        }
    }

    /// Does something to a wait, and notes it when that ended it.
    fn on_wait<T>(
        &mut self,
        address: &WaitAddress,
        change: impl FnOnce(&mut WaitRecord) -> T,
    ) -> Result<T, StoreError> {
        let wait = self.wait(address)?;
        let open = wait.terminal.is_none();
        let told = change(wait);
        if let Some(terminal) = wait.terminal.clone().filter(|_| open) {
            self.ended(address.clone(), terminal);
        }
        Ok(told)
    }

    /// Ends the open waits of the scopes that match; answers how many.
    fn close(&mut self, of: impl Fn(&ScopeEntry) -> bool, terminal: &Terminal, now: Timestamp) -> u64 {
        let mut closed = Vec::new();
        for entry in self.scopes.values_mut().filter(|entry| of(entry)) {
            for (identity, wait) in &mut entry.waits {
                if wait.close(terminal.clone(), now) {
                    closed.push(WaitAddress { scope: entry.scope.clone(), identity: identity.clone() });
                }
            }
        }
        let count = closed.len() as u64;
        for address in closed {
            self.ended(address, terminal.clone());
        }
        count
    }
}

#[async_trait]
impl DurableStore for MemoryStore {
    fn supports_durable_effects(&self) -> bool {
        false
    }

    fn secret(&self) -> &Secret {
        &self.secret
    }

    async fn open(&self, scope: &ExecutionScope, claim: Claim) -> Result<OpenedScope, StoreError> {
        let key = scope.key();
        let mut database = self.lock();
        if database.tombstones.contains(&key) {
            return Err(StoreError::ScopeEnded);
        }
        if let Some(entry) = database.scopes.get_mut(&key) {
            let theirs = entry.owner.upgrade().is_some_and(|owner| !Arc::ptr_eq(&owner, &self.owner));
            if entry.ended_at.is_none() {
                if theirs && claim == Claim::IfFree {
                    return Err(StoreError::Owned);
                }
                entry.epoch += 1;
                entry.owner = Arc::downgrade(&self.owner);
            }
            return Ok(entry.opened());
        }
        database.last_row += 1;
        let row = ScopeRow(database.last_row);
        let entry = ScopeEntry {
            row,
            scope: scope.clone(),
            epoch: 1,
            owner: Arc::downgrade(&self.owner),
            ended_at: None,
            effects: BTreeMap::new(),
            keys: BTreeSet::new(),
            waits: BTreeMap::new(),
        };
        let opened = entry.opened();
        database.rows.insert(row, key.clone());
        database.scopes.insert(key, entry);
        Ok(opened)
    }

    async fn look(&self, scope: &ExecutionScope) -> Result<Option<LookedAt>, StoreError> {
        let key = scope.key();
        let database = self.lock();
        if database.tombstones.contains(&key) {
            return Err(StoreError::ScopeEnded);
        }
        Ok(database.scopes.get(&key).map(|entry| {
            let OpenedScope { ended, effects, .. } = entry.opened();
            LookedAt { ended, effects }
        }))
    }

    async fn open_sagas(&self, after: Option<&str>, limit: u32) -> Result<Vec<String>, StoreError> {
        let database = self.lock();
        let open = database.scopes.values().filter(|entry| entry.ended_at.is_none());
        let mut ids: Vec<String> = open
            .filter_map(|entry| if let ExecutionScope::Saga { id } = &entry.scope { Some(id.clone()) } else { None })
            .filter(|id| after.is_none_or(|after| id.as_str() > after))
            .collect();
        ids.sort_unstable();
        ids.truncate(limit as usize);
        Ok(ids)
    }

    async fn load(&self, lease: Lease) -> Result<OpenedScope, StoreError> {
        self.lock().leased(lease).map(|entry| entry.opened())
    }

    async fn write(&self, lease: Lease, write: Write) -> Result<Place, StoreError> {
        let mut database = self.lock();
        let next = Place(database.last_place + 1);
        let entry = database.leased(lease)?;
        if entry.ended_at.is_some() {
            return Err(StoreError::ScopeEnded);
        }
        match write {
            Write::Intend(record) => {
                if !entry.keys.insert(record.replay_key.clone()) {
                    return Err(StoreError::Failed(format!("{} is recorded already", record.replay_key)));
                }
                entry.effects.insert(next, record);
                database.last_place = next.0;
                Ok(next)
            }
            Write::Change(place, state) => {
                let Some(record) = entry.effects.get_mut(&place) else {
                    return Err(StoreError::Failed("the record is gone".to_owned()));
                };
                record.state = state;
                Ok(place)
            }
        }
    }

    async fn end(&self, lease: Lease, now: Timestamp) -> Result<(), StoreError> {
        let mut database = self.lock();
        let entry = database.leased(lease)?;
        if entry.ended_at.is_none() {
            entry.ended_at = Some(now);
            database.close(|entry| entry.row == lease.row, &Terminal::ScopeEnded, now);
            self.tell(&database);
        }
        Ok(())
    }

    async fn register(
        &self,
        address: &WaitAddress,
        deadline: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<Registered, StoreError> {
        let mut database = self.lock();
        let told = database.on_wait(address, |wait| wait.register(deadline, now));
        self.tell(&database);
        told
    }

    async fn resolve(
        &self,
        address: &WaitAddress,
        resolution: Resolution,
        now: Timestamp,
    ) -> Result<Resolved, StoreError> {
        let mut database = self.lock();
        let told = database.on_wait(address, |wait| wait.resolve(resolution, now));
        self.tell(&database);
        told?.ok_or(StoreError::UnknownWait)
    }

    async fn peek(&self, address: &WaitAddress, now: Timestamp) -> Result<Option<Terminal>, StoreError> {
        let mut database = self.lock();
        // A look makes no row: what nobody waits for is none of the open waits.
        if !database.has_wait(address)? {
            return Ok(None);
        }
        let told = database.on_wait(address, |wait| {
            wait.expire(now);
            wait.terminal.clone()
        });
        self.tell(&database);
        told
    }

    async fn cancel_session(&self, session: &str, now: Timestamp) -> Result<u64, StoreError> {
        let mut database = self.lock();
        let terminal = Terminal::Resolved { resolution: Resolution::Canceled };
        let count = database.close(|entry| entry.scope.session() == Some(session), &terminal, now);
        self.tell(&database);
        Ok(count)
    }

    async fn revoke_session(&self, session: &str, remove: bool) -> Result<u64, StoreError> {
        let mut database = self.lock();
        // Deadlines that passed unnoticed are revoked with the others: there is nobody to tell.
        let count =
            database.close(|entry| entry.scope.session() == Some(session), &Terminal::Revoked, Timestamp(i64::MIN));
        database.revoked.insert(session.to_owned());
        if remove {
            for entry in database.scopes.values_mut().filter(|entry| entry.scope.session() == Some(session)) {
                entry.waits.clear();
            }
        }
        self.tell(&database);
        Ok(count)
    }

    async fn prune(&self, ended_before: Timestamp, scopes: u32) -> Result<u64, StoreError> {
        let mut database = self.lock();
        let old: Vec<(String, ScopeRow)> = database
            .scopes
            .iter()
            .filter(|(_, entry)| entry.ended_at.is_some_and(|at| at < ended_before))
            .take(usize::try_from(scopes).unwrap_or(usize::MAX))
            .map(|(key, entry)| (key.clone(), entry.row))
            .collect();
        let count = old.len() as u64;
        for (key, row) in old {
            database.scopes.remove(&key);
            database.rows.remove(&row);
            database.tombstones.insert(key);
        }
        Ok(count)
    }

    fn wait_changes(&self) -> watch::Receiver<u64> {
        self.shared.changed.subscribe()
    }

    async fn waits_ended_after(&self, cursor: u64) -> Result<WaitChanges, StoreError> {
        let database = self.lock();
        let oldest = database.ends.first_key_value().map_or(database.last_end + 1, |(number, _)| *number);
        let page: Vec<(u64, WaitChange)> = database
            .ends
            .range(cursor.saturating_add(1)..)
            .take(PAGE)
            .map(|(number, change)| (*number, change.clone()))
            .collect();
        Ok(WaitChanges {
            next: page.last().map_or(cursor, |(number, _)| *number),
            gap: cursor + 1 < oldest,
            changes: page.into_iter().map(|(_, change)| change).collect(),
        })
    }

    async fn wait_cursor(&self) -> Result<u64, StoreError> {
        Ok(self.lock().last_end)
    }
}
