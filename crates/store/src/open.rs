//! Opening a store: for the one daemon that writes, or for a look.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use dalsegno_durable::key::Secret;
use dalsegno_engine::{Kept, Loaded};
use rusqlite::{Connection, OpenFlags};
use tokio::sync::watch;

use crate::blobs::{self, BlobFiles};
use crate::dir::{self, DirLock};
use crate::durable::{Owner, SqliteDurable};
use crate::error::StoreError;
use crate::in_use::InUse;
use crate::journal::{Counters, QUEUE, SqliteJournal};
use crate::load;
use crate::pool::Pool;
use crate::queue::Queue;
use crate::schema::{self, DAEMON, Found};
use crate::writer::{JournalKept, Writer};

/// How long a connection waits for another one; only the few steps that exclude each other ever do.
const BUSY: Duration = Duration::from_secs(5);
/// Bytes of a database page.
const PAGE_BYTES: u32 = 8192;
/// Statements of the writer that are kept prepared.
const STATEMENTS: usize = 64;
/// The log is cut back to this size when it begins anew.
const LOG_BYTES: u32 = 64 << 20;

/// A database up to this size is read through before it is used; a larger one meanwhile.
const READ_THROUGH_BYTES: u64 = 64 << 20;

/// How a store is kept.
#[derive(Debug, Clone)]
pub struct OpenOptions {
    /// Newest events that are kept; older ones go when a snapshot covers them.
    pub keep_events: u64,
    /// Days that events are kept, counted back from the newest; older ones go when a snapshot covers them.
    pub keep_event_days: u32,
    /// Newest ended runs whose rows and transcripts are kept.
    pub keep_ended_runs: u64,
    /// Copy the log into the database on a connection of its own, beside the writer: the slowest of many appends
    /// at once get faster, and appends one by one slower. Off by default, because a daemon appends one by one.
    pub apart_checkpoints: bool,
    /// Most pages of 8 KiB that the database may have; beyond, the disk counts as full. `None`: no limit.
    pub max_pages: Option<u32>,
}

impl OpenOptions {
    fn kept(&self) -> Kept {
        Kept { events: self.keep_events, event_days: self.keep_event_days, ended_runs: self.keep_ended_runs }
    }
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self {
            keep_events: 1_000_000,
            keep_event_days: 90,
            keep_ended_runs: 100_000,
            apart_checkpoints: false,
            max_pages: None,
        }
    }
}

/// A store that this process holds.
#[derive(Debug)]
pub struct Opened {
    /// Its reading side.
    pub store: Arc<Store>,
    /// Its writing side.
    pub journal: SqliteJournal,
    /// What the machine is replayed from.
    pub loaded: Loaded,
    /// Effects and waits in the same database, by the same writer. Ends with `journal`: what is asked afterwards fails.
    pub durable: SqliteDurable,
    /// Files beside the database, by the same writer. Ends with `journal`, too.
    pub blobs: BlobFiles,
    /// The secret that markers are made with. Random, made once, kept in the database.
    pub secret: Secret,
    /// Identity of the journal. Random, made once; part of every cursor.
    pub journal_id: String,
}

/// The reading side of a store. Reads go on while the journal is written, and after it was poisoned.
#[derive(Debug)]
pub struct Store {
    pub(crate) state_dir: PathBuf,
    pub(crate) journal_id: String,
    pub(crate) pool: Pool,
    pub(crate) kept: Kept,
    /// Its pages were read through when it was opened.
    read_through: bool,
    /// The hold on the directory; none when it was opened for a look.
    _lock: Option<Arc<DirLock>>,
}

impl Store {
    /// Takes the state directory for this process and opens its database; makes both if they are not there.
    ///
    /// # Errors
    /// [`StoreError`]. A database that is refused is left as it is.
    #[expect(clippy::needless_pass_by_value, reason = "options are made for one call")]
    pub fn open(state_dir: &Path, options: OpenOptions) -> Result<Opened, StoreError> {
        dir::make(state_dir)?;
        let lock = Arc::new(DirLock::take(state_dir)?);
        let path = dir::database(state_dir);
        schema::look(&path, &DAEMON)?;
        dir::make_file(&path)?;
        let in_use = InUse::of(&path);
        let mut db = connect(&path)?;
        set_up(&db, &path, options.max_pages)?;
        let read_through = is_small(&path);
        if read_through {
            // Before anything is written into it.
            sound(&db)?;
        }
        schema::create(&mut db, &path, &DAEMON)?;
        schema::migrate(&mut db, &path, &DAEMON)?;
        let (journal_id, secret) = identity(&db)?;
        let loaded = load::load(&db)?;
        let open_files = blobs::open_entries(&db)?;

        let checkpoints = options.apart_checkpoints.then(|| connect(&path)).transpose()?;
        if checkpoints.is_some() {
            db.pragma_update_and_check(None, "wal_autocheckpoint", 0, |_| Ok(()))?;
        }
        let queue = Arc::new(Queue::new(QUEUE));
        let counters = Arc::new(Counters::default());
        let ends = watch::Sender::new(0);
        let blobs = BlobFiles::open(state_dir, Arc::clone(&queue), &open_files)?;
        let durable = SqliteDurable::beside(Arc::clone(&queue), secret.clone(), ends.clone());
        let writer = Writer {
            in_use,
            db,
            checkpoints,
            queue: Arc::clone(&queue),
            counters: Arc::clone(&counters),
            journal: Some(JournalKept { kept: options.kept(), state_dir: state_dir.to_owned(), epoch: loaded.epoch }),
            owner: Owner::sole()?,
            ends,
        };
        let held = Arc::clone(&lock);
        let work = move || {
            writer.run();
            drop(held);
        };
        let thread = std::thread::Builder::new()
            .name("journal".to_owned())
            .spawn(work)
            .map_err(|error| StoreError::Unavailable(format!("no thread for the journal: {error}")))?;
        let store = Self {
            state_dir: state_dir.to_owned(),
            journal_id: journal_id.clone(),
            pool: Pool::new(path, false),
            kept: options.kept(),
            read_through,
            _lock: Some(lock),
        };
        Ok(Opened {
            store: Arc::new(store),
            journal: SqliteJournal::new(queue, thread, counters),
            loaded,
            durable,
            blobs,
            secret,
            journal_id,
        })
    }

    /// Opens a store for a look, beside a daemon or without one: no lock, and nothing of it is changed.
    ///
    /// # Errors
    /// [`StoreError`]; `store_missing` when no daemon ever ran here.
    pub fn open_read_only(state_dir: &Path) -> Result<Arc<Self>, StoreError> {
        let path = dir::database(state_dir);
        let missing = || StoreError::Missing(format!("no daemon ever ran with {}", state_dir.display()));
        match schema::look(&path, &DAEMON) {
            Ok(Found::Nothing) => return Err(missing()),
            Ok(Found::Older(_) | Found::Tables) => {}
            // A log that a crash left where nothing can be written has no index; the pool knows how to do without.
            Err(StoreError::ReadOnly(_) | StoreError::Unavailable(_)) => {}
            Err(error) => return Err(error),
        }
        let pool = Pool::new(path.clone(), true);
        let journal_id = pool.with(|db| match schema::versions(db, &path, &DAEMON)? {
            Found::Nothing => Err(missing()),
            Found::Older(_) | Found::Tables => Ok(identity(db)?.0),
        })?;
        // What a daemon would keep: it has no other options.
        let kept = OpenOptions::default().kept();
        Ok(Arc::new(Self { state_dir: state_dir.to_owned(), journal_id, pool, kept, read_through: false, _lock: None }))
    }

    /// Whether its pages were read through when it was opened; a large database is left for later.
    #[must_use]
    pub fn was_read_through(&self) -> bool {
        self.read_through
    }

    /// Whether its database is so small that it is read through at once.
    #[must_use]
    pub fn is_small(&self) -> bool {
        is_small(&dir::database(&self.state_dir))
    }

    /// Reads every page of the database, which takes a while.
    ///
    /// # Errors
    /// `corrupt_database` when something is wrong with them.
    pub fn read_through(&self) -> Result<(), StoreError> {
        self.pool.with(sound)
    }

    /// The newest good snapshot and every event after it, as they are now.
    ///
    /// # Errors
    /// [`StoreError`], as when it is opened.
    pub fn load(&self) -> Result<Loaded, StoreError> {
        self.pool.with(load::load)
    }
}

/// Settings of the connection that writes.
pub(crate) fn set_up(db: &Connection, path: &Path, max_pages: Option<u32>) -> Result<(), StoreError> {
    if let Some(pages) = max_pages {
        db.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(()))?;
    }
    db.pragma_update(None, "page_size", PAGE_BYTES)?;
    let mode: String = db.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))?;
    if mode != "wal" {
        let text = format!("{} cannot keep a write-ahead log; it is in mode {mode}", path.display());
        return Err(StoreError::Unavailable(text));
    }
    db.pragma_update(None, "synchronous", "FULL")?;
    db.pragma_update_and_check(None, "journal_size_limit", LOG_BYTES, |_| Ok(()))?;
    db.pragma_update(None, "cache_size", -16_384)?;
    db.set_prepared_statement_cache_capacity(STATEMENTS);
    Ok(())
}

pub(crate) fn connect(path: &Path) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(path, flags)?;
    db.busy_timeout(BUSY)?;
    Ok(db)
}

fn is_small(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|file| file.len() < READ_THROUGH_BYTES)
}

/// SQLite's own check of every page, index and constraint.
fn sound(db: &Connection) -> Result<(), StoreError> {
    let said: String = db.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
    if said == "ok" {
        Ok(())
    } else {
        Err(StoreError::Corrupt(format!("the database's pages do not fit together: {said}")))
    }
}

fn identity(db: &Connection) -> Result<(String, Secret), StoreError> {
    let mut query = db.prepare("SELECT value FROM meta WHERE key = ?1")?;
    let id = query.query_row(["journal_id"], |row| row.get(0))?;
    let secret: [u8; 32] = query.query_row(["secret"], |row| row.get(0))?;
    Ok((id, Secret::new(secret)))
}
