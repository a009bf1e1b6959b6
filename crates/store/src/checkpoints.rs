//! Copies of the log into the database: beside the writer, or by its commits. A log that grows and grows, because the database takes no pages, is
//! a failure in either case: commits alone would say nothing of it.

use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;

use rusqlite::Connection;

/// How many transactions, or how many bytes of JSON, may pass between two looks at the size of the log.
const LOOK_COMMITS: u32 = 64;
const LOOK_BYTES: usize = 256 << 10;
/// The log is copied into the database when this many of its pages are not.
const COPY_PAGES: i64 = 512;
/// A log of this many pages begins anew as soon as only a few are left to copy: writing over an old
/// log is faster than making a longer one.
const LOG_PAGES: i64 = 1024;
/// So few pages the writer copies itself, because only it can see to it that none come after.
const FEW_PAGES: i64 = 128;
/// A log of so many pages the writer copies in any case; nobody can outrun it, and what keeps it from being copied is told.
const LONGEST_LOG_PAGES: i64 = 4096;

/// Sees to the length of the log. With a connection for it, the log is copied on a thread of its own, so that commits need not.
pub(crate) struct Checkpoints {
    /// Commits copy nothing.
    is_apart: bool,
    wake: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
    /// Transactions, and bytes in them, since the log was last looked at.
    commits: u32,
    written: usize,
}

impl Checkpoints {
    pub(crate) fn start(db: Option<Connection>) -> Self {
        let Some(db) = db else {
            return Self { is_apart: false, wake: None, thread: None, commits: 0, written: 0 };
        };
        let (wake, woken) = sync_channel::<()>(1);
        let work = move || {
            for () in woken {
                if let Err(error) = copy_log(&db) {
                    tracing::warn!(%error, "the journal's log could not be copied into the database");
                }
            }
        };
        let thread = std::thread::Builder::new().name("checkpoints".to_owned()).spawn(work);
        match thread {
            Ok(thread) => Self { is_apart: true, wake: Some(wake), thread: Some(thread), commits: 0, written: 0 },
            Err(error) => {
                tracing::warn!(%error, "no thread for checkpoints; the writer does them");
                Self { is_apart: true, wake: None, thread: None, commits: 0, written: 0 }
            }
        }
    }

    /// To be called by the writer after each transaction: keeps the log short.
    pub(crate) fn committed(&mut self, db: &Connection, bytes: usize) -> rusqlite::Result<()> {
        self.commits += 1;
        self.written += bytes;
        if self.written < LOOK_BYTES && self.commits < LOOK_COMMITS {
            return Ok(());
        }
        (self.commits, self.written) = (0, 0);
        self.see_to(db)
    }

    fn see_to(&self, db: &Connection) -> rusqlite::Result<()> {
        let mut look = db.prepare_cached("PRAGMA wal_checkpoint(NOOP)")?;
        let (log, copied): (i64, i64) = look.query_row([], |row| Ok((row.get(1)?, row.get(2)?)))?;
        let left = log - copied;
        if log >= LONGEST_LOG_PAGES || (self.is_apart && log >= LOG_PAGES && left <= FEW_PAGES) {
            // The log begins anew only when all of it is copied and nobody writes: now.
            return copy_log(db);
        }
        if self.is_apart && left >= COPY_PAGES {
            match &self.wake {
                // A full channel means that it is under way.
                Some(wake) => drop(wake.try_send(())),
                None => copy_log(db)?,
            }
        }
        Ok(())
    }
}

impl Drop for Checkpoints {
    fn drop(&mut self) {
        drop(self.wake.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread for checkpoints panicked");
        }
    }
}

/// Copies as much of the log as readers allow.
fn copy_log(db: &Connection) -> rusqlite::Result<()> {
    db.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))
}
