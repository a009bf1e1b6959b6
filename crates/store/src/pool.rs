//! Connections for readers: a few, made when needed, each call a read transaction of its own.

use std::path::PathBuf;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags};

use crate::error::StoreError;
use crate::in_use::InUse;
use crate::schema::log_path;

/// Most connections; a further reader waits for one of them.
const CONNECTIONS: usize = 4;
/// How long a connection waits for a lock. Readers of a log only ever need one while it is recovered.
const BUSY: Duration = Duration::from_secs(5);

/// Connections that only read.
#[derive(Debug)]
pub(crate) struct Pool {
    path: PathBuf,
    /// Nobody else may be writing, so a directory that cannot be written is read without what readers and a writer share.
    for_a_look: bool,
    state: Mutex<State>,
    returned: Condvar,
    /// After the connections, so that it goes behind them.
    _in_use: InUse,
}

#[derive(Debug, Default)]
struct State {
    idle: Vec<Connection>,
    out: usize,
}

impl Pool {
    pub(crate) fn new(path: PathBuf, for_a_look: bool) -> Self {
        let in_use = InUse::of(&path);
        Self { path, for_a_look, state: Mutex::default(), returned: Condvar::new(), _in_use: in_use }
    }

    /// Runs `read` on a connection.
    pub(crate) fn with<T>(&self, read: impl FnOnce(&Connection) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let lease = self.lease()?;
        match &lease.db {
            Some(db) => read(db),
            None => Err(StoreError::Unavailable("a reader has no connection".to_owned())),
        }
    }

    fn lease(&self) -> Result<Lease<'_>, StoreError> {
        let mut state = self.state();
        while state.idle.is_empty() && state.out >= CONNECTIONS {
            state = self.returned.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.out += 1;
        // From here on, dropping the lease gives the place back.
        let mut lease = Lease { pool: self, db: state.idle.pop() };
        drop(state);
        if lease.db.is_none() {
            lease.db = Some(self.connect()?);
        }
        Ok(lease)
    }

    fn connect(&self) -> Result<Connection, StoreError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let db = Connection::open_with_flags(&self.path, flags)?;
        prepare(&db)?;
        match db.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get::<_, i64>(0)) {
            Ok(_) => Ok(db),
            Err(error) if self.for_a_look && cannot_make_log(&error) => self.connect_alone(),
            Err(error) => Err(error.into()),
        }
    }

    /// A database in a directory that cannot be written, where no daemon left the index of its log: nobody can be changing it.
    fn connect_alone(&self) -> Result<Connection, StoreError> {
        let path = self.path.to_string_lossy().replace('%', "%25").replace('?', "%3f").replace('#', "%23");
        let has_log = std::fs::metadata(log_path(&self.path)).is_ok_and(|log| log.len() > 0);
        // With a log that a crash left, its index is made in memory, which takes the locks of a sole owner: they are only noted.
        let how = if has_log { "vfs=unix-none" } else { "immutable=1" };
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
        let db = Connection::open_with_flags(format!("file:{path}?{how}"), flags)?;
        prepare(&db)?;
        if has_log {
            db.pragma_update_and_check(None, "locking_mode", "EXCLUSIVE", |_| Ok(()))?;
        }
        Ok(db)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // The lock is held for a push or a pop alone; a panic elsewhere leaves the list as it should be.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn prepare(db: &Connection) -> Result<(), StoreError> {
    db.busy_timeout(BUSY)?;
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    Ok(())
}

fn cannot_make_log(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly))
}

/// A connection that is out.
struct Lease<'pool> {
    pool: &'pool Pool,
    db: Option<Connection>,
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        let mut state = self.pool.state();
        state.out -= 1;
        state.idle.extend(self.db.take());
        drop(state);
        self.pool.returned.notify_one();
    }
}
