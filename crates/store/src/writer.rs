//! The one thread that writes: it takes what is queued, and commits it with one sync.
//!
//! What is queued are batches of the journal, and what hosts of effects and waits ask for. Both share a transaction. One that is refused
//! is looked into before anything of it is written, so it leaves nothing, and the others of its group are none the wiser.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use dalsegno_core::Batch;
use dalsegno_engine::{AppendError, Kept, crash};
use rusqlite::{Connection, ErrorCode, Statement};
use tokio::sync::watch;

use crate::blobs::{self, Errand};
use crate::checkpoints::Checkpoints;
use crate::durable::{Durable, EntryRow, Owner, Request};
use crate::error::StoreError;
use crate::in_use::InUse;
use crate::insert::{Inserts, integer};
use crate::journal::{Append, Counters};
use crate::prune::{Forgotten, Pruning};
use crate::queue::Queue;
use crate::snapshots::{Snapshots, Written};
use crate::transcripts;

/// Most jobs in one transaction.
const GROUP_JOBS: usize = 1024;
/// A transaction takes no further job beyond this many bytes of JSON.
const GROUP_BYTES: usize = 8 << 20;
/// After a group of so many bytes, the pages that are held in memory are let go of.
const MUCH_BYTES: usize = 256 << 10;

/// What is queued.
#[allow(
    clippy::large_enum_variant,
    reason = "questions are the most, and a box for each costs more than the room in the queue"
)]
pub(crate) enum Job {
    /// A batch of the journal.
    Append(Box<Append>),
    /// A question about effects or waits.
    Durable(Request),
    /// Something about files that are kept.
    Files(Box<Errand>),
}

impl Job {
    fn bytes(job: &Self) -> usize {
        match job {
            Self::Append(append) => append.encoded.size() + append.entries.iter().map(EntryRow::bytes).sum::<usize>(),
            Self::Durable(request) => request.bytes(),
            Self::Files(errand) => errand.bytes(),
        }
    }
}

/// What the writer keeps of a journal.
pub(crate) struct JournalKept {
    pub(crate) kept: Kept,
    pub(crate) state_dir: PathBuf,
    /// As it was found.
    pub(crate) epoch: u64,
}

/// Everything that the writer needs.
pub(crate) struct Writer {
    pub(crate) in_use: InUse,
    pub(crate) db: Connection,
    /// Copies the log into the database beside the writer; without it, commits do it themselves.
    pub(crate) checkpoints: Option<Connection>,
    pub(crate) queue: Arc<Queue<Job>>,
    pub(crate) counters: Arc<Counters>,
    /// None: there is no journal in the database.
    pub(crate) journal: Option<JournalKept>,
    pub(crate) owner: Owner,
    /// Tells those who follow the ends of waits.
    pub(crate) ends: watch::Sender<u64>,
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

/// The journal's side of a transaction.
struct JournalSide<'db> {
    position: Statement<'db>,
    epoch: Statement<'db>,
    inserts: Inserts<'db>,
    pruning: Pruning,
    state_dir: PathBuf,
    /// The epoch of this life: that of its last batch, and before the first the one that it found.
    ours: u64,
}

impl<'db> JournalSide<'db> {
    fn prepare(db: &'db Connection, journal: JournalKept) -> rusqlite::Result<Self> {
        Ok(Self {
            position: db.prepare(
                "SELECT max(coalesce((SELECT max(seq) FROM events), 0), coalesce((SELECT max(seq) FROM snapshots), 0)),
                 (SELECT value FROM meta WHERE key = 'epoch')",
            )?,
            epoch: db.prepare("UPDATE meta SET value = ?1 WHERE key = 'epoch'")?,
            inserts: Inserts::prepare(db)?,
            pruning: Pruning::new(db, journal.kept)?,
            state_dir: journal.state_dir,
            ours: journal.epoch,
        })
    }

    fn position(&mut self) -> rusqlite::Result<Position> {
        self.position.query_row([], |row| {
            let (last, epoch): (i64, i64) = (row.get(0)?, row.get(1)?);
            Ok(Position { expected: last.unsigned_abs() + 1, epoch: epoch.unsigned_abs() })
        })
    }

    /// Writes what follows from the batches of a transaction; answers whose files may go.
    fn finish(&mut self, db: &Connection, before: &Position, after: &Position) -> rusqlite::Result<Forgotten> {
        if after.epoch > before.epoch {
            self.epoch.execute([integer(after.epoch)])?;
        }
        self.ours = after.epoch;
        self.pruning.events(db, after.expected - 1, after.expected - before.expected)?;
        self.pruning.runs(db, self.inserts.take_ended_runs())
    }
}

/// Everything that takes part in a transaction.
struct Sides<'db> {
    db: &'db Connection,
    begin: Statement<'db>,
    commit: Statement<'db>,
    journal: Option<JournalSide<'db>>,
    durable: Durable<'db>,
    /// There was no room for the last snapshot, and that was said.
    lacks_room: bool,
}

/// A job of a group, and whether it was refused.
enum Done {
    Append(Box<Append>, Option<AppendError>),
    Durable(Request),
    Files(Box<Errand>),
}

/// What came of a group.
enum Group {
    /// It is on disk, as far as something was to be written.
    Through { jobs: Vec<Done>, committed: bool, forgotten: Forgotten },
    /// Another process was writing for too long. Nothing of it was begun.
    Busy(Vec<Job>, rusqlite::Error),
}

impl Writer {
    /// Writes until the queue ends.
    pub(crate) fn run(self) {
        // Dropped last.
        let Self { in_use: _in_use, db, checkpoints, queue, counters, journal, owner, ends } = self;
        let _gone = Gone(&queue);
        let written = write(&db, checkpoints, &queue, &counters, journal, owner, ends);
        let Err(error) = written else {
            // Readers may still have it open, and they cannot: so that whoever finds the database has all of it in one file.
            if let Err(error) = db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())) {
                tracing::debug!(%error, "the log stays beside the database");
            }
            return;
        };
        let reason = StoreError::from(error).to_string();
        tracing::error!(reason, "the store takes nothing more; open it again to recover");
        // Until the queue is closed, everybody is told.
        let mut group = Vec::new();
        while queue.take(&mut group, GROUP_JOBS, GROUP_BYTES, Job::bytes) {
            for job in group.drain(..) {
                match job {
                    Job::Append(append) => drop(append.answer.send(Err(AppendError::Poisoned(reason.clone())))),
                    Job::Durable(request) => request.fail(&reason),
                    Job::Files(errand) => errand.fail(&reason),
                }
            }
        }
    }
}

/// However the writer ends, nobody waits for it any more.
struct Gone<'q>(&'q Queue<Job>);

impl Drop for Gone<'_> {
    fn drop(&mut self) {
        self.0.abandon();
    }
}

fn write(
    db: &Connection,
    checkpoints: Option<Connection>,
    queue: &Arc<Queue<Job>>,
    counters: &Counters,
    journal: Option<JournalKept>,
    owner: Owner,
    ends: watch::Sender<u64>,
) -> rusqlite::Result<()> {
    let mut checkpoints = Checkpoints::start(checkpoints);
    let mut sides = Sides {
        db,
        begin: db.prepare("BEGIN IMMEDIATE")?,
        commit: db.prepare("COMMIT")?,
        journal: journal.map(|journal| JournalSide::prepare(db, journal)).transpose()?,
        durable: Durable::prepare(db, owner, ends)?,
        lacks_room: false,
    };
    let mut snapshots = sides.journal.is_some().then(|| Snapshots::start(Arc::clone(queue)));
    let mut group = Vec::new();
    while queue.take(&mut group, GROUP_JOBS, GROUP_BYTES, Job::bytes) {
        let mut bytes: usize = group.iter().map(Job::bytes).sum();
        match sides.carry_out(std::mem::take(&mut group))? {
            Group::Through { jobs, committed, forgotten } => {
                counters.commits.fetch_add(u64::from(committed), Ordering::Relaxed);
                answer(jobs, counters, &mut snapshots);
                if let Some(journal) = &sides.journal {
                    transcripts::forget(&journal.state_dir, &forgotten.runs);
                    blobs::forget_files(&journal.state_dir, &forgotten.files);
                }
            }
            Group::Busy(group, error) => {
                tracing::warn!(%error, "another process was writing all the time; what was asked meanwhile is refused");
                fail(group, &error);
            }
        }
        // When everybody of the group has their answer.
        if let Some(snapshot) = snapshots.as_mut().and_then(Snapshots::ready) {
            bytes += snapshot.data.len();
            sides.keep(&snapshot)?;
        }
        checkpoints.committed(db, bytes)?;
        if bytes >= MUCH_BYTES {
            // The pages that a long write went through are not those that the next ones need.
            db.execute_batch("PRAGMA shrink_memory")?;
        }
    }
    match snapshots.and_then(Snapshots::finish) {
        Some(snapshot) => sides.keep(&snapshot),
        None => Ok(()),
    }
}

impl Sides<'_> {
    /// Carries out a group. When it fails, everybody in it was told, and nothing more is to be tried.
    fn carry_out(&mut self, mut group: Vec<Job>) -> rusqlite::Result<Group> {
        if group.is_empty() {
            return Ok(Group::Through { jobs: Vec::new(), committed: false, forgotten: Forgotten::default() });
        }
        let records = group.iter().any(|job| matches!(job, Job::Durable(request) if request.records()));
        let passing = |point| {
            if records {
                crash::point(point);
            }
        };
        passing("durable.begin");
        if let Err(error) = self.begin.execute([]) {
            if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) && self.journal.is_none() {
                return Ok(Group::Busy(group, error));
            }
            fail(group, &error);
            return Err(error);
        }
        let mut refused = Vec::new();
        let carried = self.statements(&mut group, &mut refused).and_then(|(wrote, forgotten)| {
            passing("durable.commit");
            if wrote {
                self.commit.execute([])?
            } else {
                self.db.execute_batch("ROLLBACK").map(|()| 0)?
            };
            Ok((wrote, forgotten))
        });
        match carried {
            Ok((committed, forgotten)) => {
                passing("durable.answer");
                self.durable.committed();
                let mut refused = refused.into_iter();
                let done = |job| match job {
                    Job::Append(append) => Done::Append(append, refused.next().flatten()),
                    Job::Durable(request) => Done::Durable(request),
                    Job::Files(errand) => Done::Files(errand),
                };
                Ok(Group::Through { jobs: group.into_iter().map(done).collect(), committed, forgotten })
            }
            Err(error) => {
                take_back(self.db);
                fail(group, &error);
                Err(error)
            }
        }
    }

    /// Keeps a snapshot, if there is room for it: without, the next start folds more events, and that is all. A snapshot takes far more room than
    /// most batches do, and the next one is tried again. Any other failure is that of any write: nothing more is to be tried.
    fn keep(&mut self, snapshot: &Written) -> rusqlite::Result<()> {
        match self.snapshot(snapshot) {
            Ok(()) => self.lacks_room = false,
            // What was begun is taken back: the disk was full, and not broken.
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::DiskFull) && self.db.is_autocommit() => {
                if !std::mem::replace(&mut self.lacks_room, true) {
                    let seq = snapshot.seq;
                    tracing::warn!(%error, seq, "no room for a snapshot; the next start folds more events, unless there is room again for a later one");
                }
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Writes a snapshot in a transaction of its own.
    fn snapshot(&mut self, snapshot: &Written) -> rusqlite::Result<()> {
        let Some(journal) = &mut self.journal else { return Ok(()) };
        self.begin.execute([])?;
        let written = journal.inserts.snapshot(snapshot).and_then(|()| self.commit.execute([]));
        written.map(|_| ()).inspect_err(|_| take_back(self.db))
    }

    /// Everything between begin and commit. Answers whether there is something to commit.
    fn statements(
        &mut self,
        group: &mut [Job],
        refused: &mut Vec<Option<AppendError>>,
    ) -> rusqlite::Result<(bool, Forgotten)> {
        let changes = self.db.total_changes();
        let has = |what: fn(&Job) -> bool| group.iter().any(what);
        let has_questions = has(|job| match job {
            Job::Durable(_) => true,
            Job::Append(append) => !append.entries.is_empty(),
            Job::Files(_) => false,
        });
        let mut forgotten = Forgotten::default();
        if has_questions {
            self.durable.begin()?;
        }
        let mut positions = match &mut self.journal {
            Some(journal) if has(|job| matches!(job, Job::Append(_))) => {
                Some((journal.position()?, journal.position()?))
            }
            Some(_) | None => None,
        };
        for job in group {
            match job {
                Job::Append(append) => {
                    let (Some(journal), Some((_, position))) = (&mut self.journal, &mut positions) else {
                        refused.push(Some(AppendError::Poisoned("there is no journal here".to_owned())));
                        continue;
                    };
                    let verdict = position.admit(&append.batch).err();
                    if verdict.is_none() {
                        journal.inserts.batch(&append.batch, &append.encoded)?;
                        for entry in &append.entries {
                            self.durable.entry(entry)?;
                        }
                    }
                    refused.push(verdict);
                }
                Job::Durable(request) => self.durable.answer(request)?,
                Job::Files(errand) => {
                    // Left as it is, it says so itself.
                    if let Some(journal) = &self.journal {
                        errand.carry_out(self.db, journal.ours)?;
                    }
                }
            }
        }
        if let (Some(journal), Some((before, after))) = (&mut self.journal, &positions)
            && refused.iter().any(Option::is_none)
        {
            forgotten = journal.finish(self.db, before, after)?;
        }
        if has_questions {
            self.durable.finish()?;
        }
        Ok((self.db.total_changes() != changes, forgotten))
    }
}

fn answer(jobs: Vec<Done>, counters: &Counters, snapshots: &mut Option<Snapshots>) {
    for job in jobs {
        match job {
            Done::Append(mut append, refused) => {
                let answer = match refused {
                    Some(error) => Err(error),
                    None => {
                        counters.batches.fetch_add(1, Ordering::Relaxed);
                        if let (Some(snapshot), Some(snapshots)) = (append.batch.snapshot.take(), snapshots.as_mut()) {
                            snapshots.offer(snapshot);
                        }
                        Ok(append.batch.committed())
                    }
                };
                // Whoever asked may have stopped waiting; the batch is there all the same.
                let _ = append.answer.send(answer);
            }
            Done::Durable(request) => request.tell(),
            Done::Files(errand) => errand.tell(),
        }
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

fn fail(group: Vec<Job>, error: &rusqlite::Error) {
    let text = match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => format!("disk_full: {error}"),
        _ => error.to_string(),
    };
    for job in group {
        match job {
            Job::Append(append) => drop(append.answer.send(Err(AppendError::Storage(text.clone())))),
            Job::Durable(request) => request.fail(&text),
            Job::Files(errand) => errand.fail(&text),
        }
    }
}
