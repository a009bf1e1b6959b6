//! Effects and waits on SQLite: [`dalsegno_durable::DurableStore`] over the writer that the journal has.
//!
//! A store is had in two ways. [`crate::Store::open`] gives the one that lives in a daemon's database, beside its journal: one writer,
//! one transaction, one sync for both. [`SqliteDurable::open`] gives one in a database of its own, which several processes may
//! share.
//!
//! # How it works
//! Everything that is asked goes through the writer's queue, reads too, so that each takes effect behind those before it. The
//! writer does as little as it can: JSON is written and understood by whoever asks.
//!
//! - **Tables** grow at their end, whatever the scopes: see [`tables`].
//! - **The fence.** Every write is checked against its scope's epoch, in its transaction. The writer remembers epochs, and believes them as long
//!   as `PRAGMA data_version` says that nobody else wrote.
//! - **No effect twice.** A replay key cannot be recorded twice in a scope: the writer remembers fingerprints of the keys of open
//!   scopes and looks closer when one comes again, and nobody else can write under the same epoch. A unique index would say the same at
//!   the cost of a page per effect. Whoever reads a scope checks it again.
//! - **Owners** are alive as long as they hold the lock of a file of their own: see [`owners`].
//! - **Ends of waits** are a numbered list; see [`ends`] for how other processes hear of them.

mod ends;
mod entries;
mod owners;
mod records;
mod request;
mod scopes;
pub(crate) mod tables;
mod waits;
mod writing;

pub(crate) use records::foreign as foreign_record;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use async_trait::async_trait;
use dalsegno_durable::key::Secret;
use dalsegno_durable::store::{
    Claim, DurableStore, Lease, LookedAt, OpenedScope, Place, StoreError as Refused, WaitChanges, Write,
};
use dalsegno_durable::wait::{Registered, Resolution, Resolved, Terminal, WaitAddress};
use dalsegno_durable::{ExecutionScope, Timestamp};
use tokio::sync::watch;

use crate::dir;
use crate::error::StoreError;
use crate::in_use::InUse;
use crate::journal::{Counters, QUEUE};
use crate::open::{connect, set_up};
use crate::queue::Queue;
use crate::schema::{self, EFFECTS_ALONE};
use crate::writer::{Job, Writer};

use ends::Follower;
pub(crate) use entries::{EntryRow, look};
pub(crate) use owners::Owner;
pub(crate) use request::Request;
use request::{Ask, EndsAfter, OpenScope, PruneBefore, Row, SagasAfter, ScopeKey, WaitName};
pub(crate) use writing::Durable;

/// A child that somebody is just starting has their lock until it becomes another program: looks, and the pause between them.
const OWNER_LOOKS: u32 = 4;
const OWNER_PAUSE: Duration = Duration::from_millis(10);
/// Pages that are kept in memory: so many KiB, which SQLite has as a negative number.
const CACHE_KIB: i32 = -4_096;
/// How long another process may be writing before what is asked meanwhile is refused, and the pause between two looks.
const BUSY_LOOKS: i32 = 20_000;
const BUSY_PAUSE: Duration = Duration::from_micros(500);

/// How a database of effects alone is kept.
#[derive(Debug, Clone)]
pub struct DurableOptions {
    /// Most pages of 8 KiB that the database may have; beyond, the disk counts as full. `None`: no limit.
    pub max_pages: Option<u32>,
    /// Copy the log into the database on a connection of its own, beside the writer. On by default, unlike in a daemon: many scopes write at
    /// once, and none of them should wait for the copy.
    pub apart_checkpoints: bool,
}

impl Default for DurableOptions {
    fn default() -> Self {
        Self { max_pages: None, apart_checkpoints: true }
    }
}

/// Effects and waits in a SQLite database.
///
/// ```
/// # use std::sync::Arc;
/// # use dalsegno_durable::{EffectError, EffectHost, ExecutionScope, StoredHost};
/// # use dalsegno_store::SqliteDurable;
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("effects.db");
/// let store = Arc::new(SqliteDurable::open(&path)?);
/// let host = StoredHost::new(store.clone());
/// let scope = host.scoped(ExecutionScope::process("import-7")).await?;
/// let rows: u64 = scope.step("count", "orders.csv", || async { Ok::<u64, EffectError>(1_204) }).await?;
/// # assert_eq!(rows, 1_204);
/// store.close();
///
/// // Another process, another day: what was recorded is told.
/// let host = StoredHost::new(Arc::new(SqliteDurable::open(&path)?));
/// let scope = host.scoped(ExecutionScope::process("import-7")).await?;
/// let rows: u64 = scope.step("count", "orders.csv", || async { Ok::<u64, EffectError>(0) }).await?;
/// assert_eq!(rows, 1_204);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct SqliteDurable {
    queue: Arc<Queue<Job>>,
    secret: Secret,
    changes: watch::Sender<u64>,
    /// Where others write, too. None: nobody else does.
    shared: Option<PathBuf>,
    running: Mutex<Running>,
}

/// What ends with the store.
#[derive(Debug, Default)]
struct Running {
    /// The writer, if it is this store's own.
    writer: Option<JoinHandle<()>>,
    /// Whoever hears of what other processes write.
    follower: Option<Follower>,
    closed: bool,
}

impl SqliteDurable {
    /// Opens the database at `path`, which holds effects and waits alone, and makes it if it is not there. Other processes may
    /// have it open at the same time. The folder `<path>.owners` beside it says who does.
    ///
    /// # Errors
    /// [`StoreError`]. A database that is refused is left as it is.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        Self::open_with(path, &DurableOptions::default())
    }

    /// [`SqliteDurable::open`] with options.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn open_with(path: &Path, options: &DurableOptions) -> Result<Self, StoreError> {
        let opening = owners::opening(path)?;
        schema::look(path, &EFFECTS_ALONE)?;
        owners::sweep(path);
        // It holds the secret: its owner alone reads it.
        dir::make_file(path)?;
        let in_use = InUse::of(path);
        let mut db = connect(path)?;
        db.busy_handler(Some(|looks| {
            std::thread::sleep(BUSY_PAUSE);
            looks < BUSY_LOOKS
        }))?;
        set_up(&db, path, options.max_pages)?;
        // What is written is at the end of its tables, and an open scope is read once.
        db.pragma_update(None, "cache_size", CACHE_KIB)?;
        schema::create(&mut db, path, &EFFECTS_ALONE)?;
        schema::migrate(&mut db, path, &EFFECTS_ALONE)?;
        let secret: [u8; 32] = db.query_row("SELECT value FROM meta WHERE key = 'secret'", [], |row| row.get(0))?;
        let checkpoints = options.apart_checkpoints.then(|| connect(path)).transpose()?;
        if checkpoints.is_some() {
            db.pragma_update_and_check(None, "wal_autocheckpoint", 0, |_| Ok(()))?;
        }
        let owner = Owner::shared(path)?;
        drop(opening);
        let changes = watch::Sender::new(0);
        let queue = Arc::new(Queue::new(QUEUE));
        let writer = Writer {
            in_use,
            db,
            checkpoints,
            queue: Arc::clone(&queue),
            counters: Arc::<Counters>::default(),
            journal: None,
            owner,
            ends: changes.clone(),
        };
        let thread = std::thread::Builder::new()
            .name("effects".to_owned())
            .spawn(move || writer.run())
            .map_err(|error| StoreError::Unavailable(format!("no thread for the writer: {error}")))?;
        Ok(Self {
            queue,
            secret: Secret::new(secret),
            changes,
            shared: Some(path.to_owned()),
            running: Mutex::new(Running { writer: Some(thread), ..Running::default() }),
        })
    }

    /// The one beside a journal, which ends with the journal's queue.
    pub(crate) fn beside(queue: Arc<Queue<Job>>, secret: Secret, changes: watch::Sender<u64>) -> Self {
        Self { queue, secret, changes, shared: None, running: Mutex::default() }
    }

    /// Writes what is queued, waits for that, and lets go of the scopes that it has. What is asked afterwards fails. Dropping the
    /// store does the same; this is for when somebody else may still have it.
    ///
    /// One beside a journal goes on as long as the journal does.
    pub fn close(&self) {
        let (writer, follower) = {
            let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
            running.closed = true;
            (running.writer.take(), running.follower.take())
        };
        drop(follower);
        if let Some(thread) = writer {
            self.queue.close();
            if thread.join().is_err() {
                tracing::error!("the writer of effects panicked");
            }
        }
    }

    /// Asks the writer, behind all that was asked before. The question is made when there is room for it, so that those who wait for
    /// room need little.
    async fn ask<Q, A>(
        &self,
        question: impl FnOnce() -> Result<Q, Refused>,
        wrap: impl FnOnce(Ask<Q, A>) -> Request,
    ) -> Result<A, Refused> {
        let closed = |_| Refused::Failed("the store was closed".to_owned());
        let room = self.queue.room().await.map_err(closed)?;
        let (ask, answer) = Ask::new(question()?);
        room.put(Job::Durable(wrap(ask))).map_err(closed)?;
        match answer.await {
            Ok((answer, _question)) => answer,
            Err(_) => Err(Refused::Failed("the writer ended without an answer".to_owned())),
        }
    }

    /// Begins to hear of what other processes write, once.
    fn follow(&self) {
        let Some(path) = &self.shared else { return };
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if running.follower.is_none() && !running.closed {
            running.follower = Follower::start(path, &self.changes);
        }
    }
}

impl Drop for SqliteDurable {
    fn drop(&mut self) {
        self.close();
    }
}

#[async_trait]
impl DurableStore for SqliteDurable {
    fn supports_durable_effects(&self) -> bool {
        true
    }

    fn secret(&self) -> &Secret {
        &self.secret
    }

    async fn open(&self, scope: &ExecutionScope, claim: Claim) -> Result<OpenedScope, Refused> {
        let mut looks = 1;
        loop {
            match self.ask(|| Ok(OpenScope::of(scope, claim)), Request::Open).await {
                Err(Refused::Owned) if looks < OWNER_LOOKS => {
                    looks += 1;
                    tokio::time::sleep(OWNER_PAUSE).await;
                }
                found => return records::understand(found?),
            }
        }
    }

    async fn load(&self, lease: Lease) -> Result<OpenedScope, Refused> {
        records::understand(self.ask(|| Ok(lease), Request::Load).await?)
    }

    async fn look(&self, scope: &ExecutionScope) -> Result<Option<LookedAt>, Refused> {
        let Some(raw) = self.ask(|| Ok(ScopeKey(scope.key())), Request::Look).await? else { return Ok(None) };
        let OpenedScope { ended, effects, .. } = records::understand(raw)?;
        Ok(Some(LookedAt { ended, effects }))
    }

    async fn open_sagas(&self, after: Option<&str>, limit: u32) -> Result<Vec<String>, Refused> {
        let key = after.map_or_else(|| scopes::SAGAS.to_owned(), |id| ExecutionScope::saga(id).key());
        self.ask(|| Ok(SagasAfter { key, limit }), Request::OpenSagas).await
    }

    async fn write(&self, lease: Lease, write: Write) -> Result<Place, Refused> {
        self.ask(|| Ok((lease, Row::of(write)?)), Request::Write).await
    }

    async fn end(&self, lease: Lease, now: Timestamp) -> Result<(), Refused> {
        self.ask(|| Ok((lease, now)), Request::End).await
    }

    async fn register(
        &self,
        address: &WaitAddress,
        deadline: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<Registered, Refused> {
        self.ask(|| Ok((WaitName::of(address), deadline, now)), Request::Register).await
    }

    async fn resolve(
        &self,
        address: &WaitAddress,
        resolution: Resolution,
        now: Timestamp,
    ) -> Result<Resolved, Refused> {
        self.ask(|| Ok((WaitName::of(address), resolution, now)), Request::Resolve).await
    }

    async fn peek(&self, address: &WaitAddress, now: Timestamp) -> Result<Option<Terminal>, Refused> {
        self.ask(|| Ok((WaitName::of(address), now)), Request::Peek).await
    }

    async fn cancel_session(&self, session: &str, now: Timestamp) -> Result<u64, Refused> {
        self.ask(|| Ok((session.to_owned(), now)), Request::Cancel).await
    }

    async fn revoke_session(&self, session: &str, remove: bool) -> Result<u64, Refused> {
        self.ask(|| Ok((session.to_owned(), remove)), Request::Revoke).await
    }

    async fn prune(&self, ended_before: Timestamp, scopes: u32) -> Result<u64, Refused> {
        let mut gone = 0;
        loop {
            // Portion by portion, so that others get in between.
            let question = || Ok(PruneBefore { ended_before, scopes: scopes - gone });
            let portion = self.ask(question, Request::Prune).await?;
            gone += portion.scopes;
            if !portion.more {
                return Ok(u64::from(gone));
            }
        }
    }

    fn wait_changes(&self) -> watch::Receiver<u64> {
        self.follow();
        self.changes.subscribe()
    }

    async fn waits_ended_after(&self, cursor: u64) -> Result<WaitChanges, Refused> {
        self.ask(|| Ok(EndsAfter(cursor)), Request::Ends).await
    }

    async fn wait_cursor(&self) -> Result<u64, Refused> {
        self.ask(|| Ok(()), Request::LastEnd).await
    }
}
