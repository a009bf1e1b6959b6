//! The one thread that writes: it takes what is queued, and commits it with one sync.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;

use dalsegno_core::Batch;
use dalsegno_engine::AppendError;
use rusqlite::{Connection, Statement};
use tokio::sync::mpsc;

use crate::error::StoreError;
use crate::insert::{Inserts, integer};
use crate::journal::{Counters, Job};
use crate::prune::{Kept, Pruning};
use crate::transcripts;

/// Most batches in one transaction.
const GROUP_BATCHES: usize = 1024;
/// A transaction takes no further batch beyond this many bytes of JSON.
const GROUP_BYTES: usize = 8 << 20;
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
/// A log of so many pages the writer copies in any case; nobody can outrun it.
const LONGEST_LOG_PAGES: i64 = 4096;

/// Everything that the writer needs.
pub(crate) struct Writer {
    pub(crate) db: Connection,
    /// Copies the log into the database beside the writer; without it, commits do it themselves.
    pub(crate) checkpoints: Option<Connection>,
    pub(crate) queue: mpsc::Receiver<Job>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) kept: Kept,
    pub(crate) state_dir: PathBuf,
}

/// Where the journal stands inside a transaction.
struct Position {
    expected: u64,
    epoch: u64,
}

impl Position {
    /// Checks that the batch follows, and moves on behind it.
    fn admit(&mut self, batch: &Batch) -> Result<(), AppendError> {
        if batch.epoch < self.epoch {
            return Err(AppendError::StaleEpoch { ours: batch.epoch, current: self.epoch });
        }
        let mut next = self.expected;
        for recorded in &batch.events {
            if recorded.seq != next {
                return Err(AppendError::UnexpectedSequence { expected: next, found: recorded.seq });
            }
            next += 1;
        }
        if let Some(snapshot) = &batch.snapshot
            && snapshot.state.seq + 1 != next
        {
            return Err(AppendError::UnexpectedSequence { expected: next, found: snapshot.state.seq + 1 });
        }
        self.expected = next;
        self.epoch = batch.epoch;
        Ok(())
    }
}

/// The writer's statements around a transaction.
struct Frame<'db> {
    begin: Statement<'db>,
    commit: Statement<'db>,
    position: Statement<'db>,
    epoch: Statement<'db>,
}

impl<'db> Frame<'db> {
    fn prepare(db: &'db Connection) -> rusqlite::Result<Self> {
        Ok(Self {
            begin: db.prepare("BEGIN IMMEDIATE")?,
            commit: db.prepare("COMMIT")?,
            position: db.prepare(
                "SELECT max(coalesce((SELECT max(seq) FROM events), 0), coalesce((SELECT max(seq) FROM snapshots), 0)),
                 (SELECT value FROM meta WHERE key = 'epoch')",
            )?,
            epoch: db.prepare("UPDATE meta SET value = ?1 WHERE key = 'epoch'")?,
        })
    }

    fn position(&mut self) -> rusqlite::Result<Position> {
        self.position.query_row([], |row| {
            let (last, epoch): (i64, i64) = (row.get(0)?, row.get(1)?);
            Ok(Position { expected: last.unsigned_abs() + 1, epoch: epoch.unsigned_abs() })
        })
    }
}

impl Writer {
    /// Writes until the queue ends.
    pub(crate) fn run(mut self) {
        let reason = self.write().map_or_else(|error| StoreError::from(error).to_string(), |()| String::new());
        if reason.is_empty() {
            return;
        }
        tracing::error!(reason, "the journal takes no more events; restart to recover");
        // Until the last sender is gone, everybody is told.
        while let Some(job) = self.queue.blocking_recv() {
            let _ = job.answer.send(Err(AppendError::Poisoned(reason.clone())));
        }
    }

    fn write(&mut self) -> rusqlite::Result<()> {
        let checkpoints = self.checkpoints.take().map(Checkpoints::start);
        let mut frame = Frame::prepare(&self.db)?;
        let mut inserts = Inserts::prepare(&self.db)?;
        let mut pruning = Pruning::new(&self.db, self.kept)?;
        let mut group = Vec::new();
        let (mut written, mut commits) = (0, 0);
        while let Some(job) = self.queue.blocking_recv() {
            let mut bytes = job.encoded.size();
            group.push(job);
            while group.len() < GROUP_BATCHES
                && bytes < GROUP_BYTES
                && let Ok(job) = self.queue.try_recv()
            {
                bytes += job.encoded.size();
                group.push(job);
            }
            match commit(&self.db, &mut frame, &mut inserts, &mut pruning, &group) {
                Ok(done) => {
                    self.counters.commits.fetch_add(u64::from(done.committed), Ordering::Relaxed);
                    answer(&mut group, done.refused, &self.counters);
                    transcripts::forget(&self.state_dir, &done.forgotten_runs);
                }
                Err(error) => {
                    take_back(&self.db);
                    fail(&mut group, &error);
                    return Err(error);
                }
            }
            written += bytes;
            commits += 1;
            if let Some(checkpoints) = &checkpoints
                && (written >= LOOK_BYTES || commits >= LOOK_COMMITS)
            {
                (written, commits) = (0, 0);
                checkpoints.see_to(&self.db)?;
            }
        }
        Ok(())
    }
}

/// What came of a group.
struct Done {
    committed: bool,
    /// One per batch of the group.
    refused: Vec<Option<AppendError>>,
    forgotten_runs: Vec<String>,
}

fn commit(
    db: &Connection,
    frame: &mut Frame<'_>,
    inserts: &mut Inserts<'_>,
    pruning: &mut Pruning,
    group: &[Job],
) -> rusqlite::Result<Done> {
    frame.begin.execute([])?;
    let mut position = frame.position()?;
    let epoch = position.epoch;
    let before = position.expected;
    let mut refused = Vec::with_capacity(group.len());
    for job in group {
        let verdict = position.admit(&job.batch).err();
        if verdict.is_none() {
            inserts.batch(&job.batch, &job.encoded)?;
        }
        refused.push(verdict);
    }
    if refused.iter().all(Option::is_some) {
        db.execute_batch("ROLLBACK")?;
        return Ok(Done { committed: false, refused, forgotten_runs: Vec::new() });
    }
    if position.epoch > epoch {
        frame.epoch.execute([integer(position.epoch)])?;
    }
    pruning.events(db, position.expected - 1, position.expected - before)?;
    let forgotten_runs = pruning.runs(db, inserts.take_ended_runs())?;
    frame.commit.execute([])?;
    Ok(Done { committed: true, refused, forgotten_runs })
}

fn answer(group: &mut Vec<Job>, refused: Vec<Option<AppendError>>, counters: &Counters) {
    for (job, refused) in group.drain(..).zip(refused) {
        let answer = match refused {
            Some(error) => Err(error),
            None => {
                counters.batches.fetch_add(1, Ordering::Relaxed);
                Ok(job.batch.committed())
            }
        };
        // Whoever asked may have stopped waiting; the batch is there all the same.
        let _ = job.answer.send(answer);
    }
}

/// Ends a transaction that failed. Whether a commit that failed is in the log, nobody knows until it is opened again.
fn take_back(db: &Connection) {
    if !db.is_autocommit()
        && let Err(error) = db.execute_batch("ROLLBACK")
    {
        tracing::warn!(%error, "the transaction that failed ends with its connection");
    }
}

fn fail(group: &mut Vec<Job>, error: &rusqlite::Error) {
    let text = match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::DiskFull) => format!("disk_full: {error}"),
        _ => error.to_string(),
    };
    for job in group.drain(..) {
        let _ = job.answer.send(Err(AppendError::Storage(text.clone())));
    }
}

/// Copies the log into the database on a thread and a connection of its own, so that commits need not.
struct Checkpoints {
    wake: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Checkpoints {
    fn start(db: Connection) -> Self {
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
            Ok(thread) => Self { wake: Some(wake), thread: Some(thread) },
            Err(error) => {
                tracing::warn!(%error, "no thread for checkpoints; the writer does them");
                Self { wake: None, thread: None }
            }
        }
    }

    /// To be called by the writer between transactions: keeps the log short.
    fn see_to(&self, db: &Connection) -> rusqlite::Result<()> {
        let mut look = db.prepare_cached("PRAGMA wal_checkpoint(NOOP)")?;
        let (log, copied): (i64, i64) = look.query_row([], |row| Ok((row.get(1)?, row.get(2)?)))?;
        let left = log - copied;
        if log >= LONGEST_LOG_PAGES || (log >= LOG_PAGES && left <= FEW_PAGES) {
            // The log begins anew only when all of it is copied and nobody writes: now.
            return copy_log(db);
        }
        if left >= COPY_PAGES {
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
