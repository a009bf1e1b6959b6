//! Batches and receipts as rows. What is asked of the writer for them shares its transactions, and its sync, with everything else.

use dalsegno_core::{FileReceipt, PolicyHash, RunId};
use dalsegno_engine::FileOwner;
use rusqlite::{Connection, OptionalExtension as _, Row};
use tokio::sync::oneshot;

use crate::insert::integer;

/// Number of a batch; none is used twice.
pub(super) type Number = i64;

/// What the writer is asked to do.
pub(super) enum Deed {
    /// A batch is going to be written: its intent, with what its files will be.
    Begin { owner: FileOwner, files: Vec<Planned> },
    /// All files of a batch that this life began are on disk.
    Commit { batch: Number },
    /// A batch whose writer is gone, or could not go on.
    Settle { batch: Number, forward: bool, why: String },
    /// A receipt does not hold.
    Void { batch: Number, place: u32, why: String },
}

/// A file as it will be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Planned {
    pub(super) name: String,
    pub(super) sha256: String,
    pub(super) bytes: u64,
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Granted {
    Begun(Number),
    Done,
}

/// Why nothing came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refused {
    /// Another daemon has taken over, now or since the batch was begun.
    StaleEpoch { ours: u64, current: u64 },
    /// The batch is ended, and not as its writer wanted.
    Ended(String),
    /// The store takes nothing.
    Failed(String),
}

/// Something that is asked of the writer, and where the answer goes: only when it is on disk.
pub(crate) struct Errand {
    deed: Deed,
    held: Option<Result<Granted, Refused>>,
    asker: oneshot::Sender<Result<Granted, Refused>>,
}

impl Errand {
    pub(super) fn new(deed: Deed) -> (Self, oneshot::Receiver<Result<Granted, Refused>>) {
        let (asker, answer) = oneshot::channel();
        (Self { deed, held: None, asker }, answer)
    }

    pub(crate) fn bytes(&self) -> usize {
        match &self.deed {
            Deed::Begin { files, .. } => 256 + 128 * files.len(),
            Deed::Commit { .. } | Deed::Settle { .. } | Deed::Void { .. } => 128,
        }
    }

    /// Does it, within the writer's transaction. `ours` is the epoch of this life.
    pub(crate) fn carry_out(&mut self, db: &Connection, ours: u64) -> rusqlite::Result<()> {
        self.held = Some(carry_out(db, &self.deed, ours)?);
        Ok(())
    }

    pub(crate) fn tell(self) {
        let answer = self.held.unwrap_or_else(|| Err(Refused::Failed("the writer left it out".to_owned())));
        // Whoever asked may have stopped waiting; what was done is there all the same.
        let _ = self.asker.send(answer);
    }

    pub(crate) fn fail(self, reason: &str) {
        let _ = self.asker.send(Err(Refused::Failed(reason.to_owned())));
    }
}

fn carry_out(db: &Connection, deed: &Deed, ours: u64) -> rusqlite::Result<Result<Granted, Refused>> {
    let current: i64 =
        db.prepare_cached("SELECT value FROM meta WHERE key = 'epoch'")?.query_row([], |row| row.get(0))?;
    let current = current.unsigned_abs();
    if ours != current {
        return Ok(Err(Refused::StaleEpoch { ours, current }));
    }
    match deed {
        Deed::Begin { owner, files } => begin(db, owner, current, files).map(Ok),
        Deed::Commit { batch } => {
            let mut find = db.prepare_cached("SELECT state, epoch, why FROM file_batches WHERE id = ?1")?;
            let found: Option<(String, i64, Option<String>)> =
                find.query_row([batch], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).optional()?;
            let Some((state, epoch, why)) = found else {
                return Ok(Err(Refused::Ended("it is not known any more".to_owned())));
            };
            let begun = epoch.unsigned_abs();
            match state.as_str() {
                "committed" => Ok(Ok(Granted::Done)),
                "preparing" if begun == current => commit(db, *batch).map(Ok),
                "preparing" => Ok(Err(Refused::StaleEpoch { ours: begun, current })),
                _ => Ok(Err(Refused::Ended(why.unwrap_or_default()))),
            }
        }
        Deed::Settle { batch, forward, why } => {
            let mut find = db.prepare_cached("SELECT state FROM file_batches WHERE id = ?1")?;
            let state: Option<String> = find.query_row([batch], |row| row.get(0)).optional()?;
            match state.as_deref() {
                Some("preparing") if *forward => commit(db, *batch).map(Ok),
                Some("preparing") => {
                    let fail = "UPDATE file_batches SET state = 'failed', why = ?2 WHERE id = ?1";
                    db.prepare_cached(fail)?.execute((batch, why))?;
                    Ok(Ok(Granted::Done))
                }
                Some("committed") if !*forward => Ok(Err(Refused::Ended("it is committed".to_owned()))),
                // Settled before, in the same way; or forgotten with its run.
                Some(_) | None => Ok(Ok(Granted::Done)),
            }
        }
        Deed::Void { batch, place, why } => {
            let void = "UPDATE file_receipts SET voided = ?3 WHERE batch = ?1 AND place = ?2 AND voided IS NULL";
            db.prepare_cached(void)?.execute((batch, place, why))?;
            Ok(Ok(Granted::Done))
        }
    }
}

fn begin(db: &Connection, owner: &FileOwner, epoch: u64, files: &[Planned]) -> rusqlite::Result<Granted> {
    let FileOwner { run, policy, agent } = owner;
    db.prepare_cached(
        "INSERT INTO file_batches (run, policy, agent, epoch, state) VALUES (?1, ?2, ?3, ?4, 'preparing')",
    )?
    .execute((run.as_str(), policy.as_str(), agent, integer(epoch)))?;
    let batch = db.last_insert_rowid();
    let mut insert =
        db.prepare_cached("INSERT INTO file_receipts (batch, place, name, sha256, bytes) VALUES (?1, ?2, ?3, ?4, ?5)")?;
    for (place, Planned { name, sha256, bytes }) in (0_u32..).zip(files) {
        insert.execute((batch, place, name, sha256, integer(*bytes)))?;
    }
    Ok(Granted::Begun(batch))
}

/// The watermark counts the batches that were committed: each gets the next number.
fn commit(db: &Connection, batch: Number) -> rusqlite::Result<Granted> {
    let up = "UPDATE meta SET value = value + 1 WHERE key = 'file_watermark' RETURNING value";
    let watermark: i64 = db.prepare_cached(up)?.query_row([], |row| row.get(0))?;
    db.prepare_cached("UPDATE file_batches SET state = 'committed', watermark = ?2 WHERE id = ?1")?
        .execute((batch, watermark))?;
    Ok(Granted::Done)
}

/// A file of a batch, as its rows say it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(super) batch: Number,
    pub(super) place: u32,
    pub(super) run: RunId,
    /// `preparing`, `committed` or `failed`.
    pub(super) state: String,
    /// What it is, without its batch.
    pub(crate) name: String,
    pub(super) sha256: String,
    pub(super) bytes: u64,
    /// Why the receipt was taken back.
    pub(crate) voided: Option<String>,
    /// The journal knows its run.
    pub(super) known: bool,
}

impl Entry {
    /// What its file is called: no other one ever is.
    pub(crate) fn file(&self) -> String {
        file_of(self.batch, self.place, &self.name)
    }

    pub(super) fn is_committed(&self) -> bool {
        self.state == "committed"
    }

    /// It has a receipt that should hold.
    pub(super) fn holds(&self) -> bool {
        self.is_committed() && self.voided.is_none()
    }

    pub(super) fn is_open(&self) -> bool {
        self.state == "preparing"
    }

    pub(crate) fn receipt(&self) -> FileReceipt {
        FileReceipt { file: self.file(), sha256: self.sha256.clone(), bytes: self.bytes }
    }

    fn of(row: &Row<'_>) -> rusqlite::Result<Self> {
        let bytes: i64 = row.get(6)?;
        Ok(Self {
            batch: row.get(0)?,
            place: row.get(1)?,
            run: RunId(row.get(2)?),
            state: row.get(3)?,
            name: row.get(4)?,
            sha256: row.get(5)?,
            bytes: bytes.unsigned_abs(),
            voided: row.get(7)?,
            known: row.get(8)?,
        })
    }
}

pub(super) fn file_of(batch: Number, place: u32, name: &str) -> String {
    format!("{batch}-{place}-{name}")
}

/// The names of all files that the database knows: those of open batches, and those with a receipt that should hold.
pub(crate) fn files(db: &Connection) -> rusqlite::Result<Vec<String>> {
    let all = entries(db, 0, u32::MAX)?;
    Ok(all.iter().filter(|entry| entry.holds() || entry.is_open()).map(Entry::file).collect())
}

/// Batch and place of the file of this name, if it could be one of ours.
pub(super) fn place_of(file: &str) -> Option<(Number, u32)> {
    let (batch, rest) = file.split_once('-')?;
    let (place, _) = rest.split_once('-')?;
    Some((batch.parse().ok()?, place.parse().ok()?))
}

const ENTRIES: &str = "SELECT b.id, r.place, b.run, b.state, r.name, r.sha256, r.bytes, r.voided,
    EXISTS (SELECT 1 FROM runs WHERE id = b.run) FROM file_batches b JOIN file_receipts r ON r.batch = b.id";

/// Whether there can be any: not in a database of an older version, which is only looked at.
pub(super) fn are_there(db: &Connection) -> rusqlite::Result<bool> {
    let there = "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = 'file_batches')";
    db.prepare_cached(there)?.query_row([], |row| row.get(0))
}

/// The entries of batches above `after`, oldest first, at most so many.
pub(super) fn entries(db: &Connection, after: Number, most: u32) -> rusqlite::Result<Vec<Entry>> {
    if !are_there(db)? {
        return Ok(Vec::new());
    }
    let mut query = db.prepare_cached(&format!("{ENTRIES} WHERE b.id > ?1 ORDER BY b.id, r.place LIMIT ?2"))?;
    query.query_map((after, most), Entry::of)?.collect()
}

/// The entries of batches that are not ended.
pub(crate) fn open_entries(db: &Connection) -> rusqlite::Result<Vec<Entry>> {
    let mut query = db.prepare(&format!("{ENTRIES} WHERE b.state = 'preparing' ORDER BY b.id, r.place"))?;
    query.query_map([], Entry::of)?.collect()
}

/// The entries of a run, in order, at most so many.
pub(super) fn entries_of_run(db: &Connection, run: &str, most: u32) -> rusqlite::Result<Vec<Entry>> {
    if !are_there(db)? {
        return Ok(Vec::new());
    }
    let mut query = db.prepare_cached(&format!("{ENTRIES} WHERE b.run = ?1 ORDER BY b.id, r.place LIMIT ?2"))?;
    query.query_map((run, most), Entry::of)?.collect()
}

/// The entry of the file of this name.
pub(super) fn entry(db: &Connection, file: &str) -> rusqlite::Result<Option<Entry>> {
    let Some((batch, place)) = place_of(file) else { return Ok(None) };
    if !are_there(db)? {
        return Ok(None);
    }
    let mut query = db.prepare_cached(&format!("{ENTRIES} WHERE b.id = ?1 AND r.place = ?2"))?;
    let found = query.query_row((batch, place), Entry::of).optional()?;
    Ok(found.filter(|entry| entry.file() == file))
}

/// What the batches of a run say that it was started under.
pub(super) fn owners(db: &Connection, run: &str) -> rusqlite::Result<Vec<FileOwner>> {
    if !are_there(db)? {
        return Ok(Vec::new());
    }
    let mut query = db.prepare_cached("SELECT DISTINCT run, policy, agent FROM file_batches WHERE run = ?1")?;
    let owner =
        |row: &Row<'_>| Ok(FileOwner { run: RunId(row.get(0)?), policy: PolicyHash(row.get(1)?), agent: row.get(2)? });
    query.query_map([run], owner)?.collect()
}

/// Forgets the batches of a run; answers the names of their files.
pub(crate) fn forget(db: &Connection, run: &str) -> rusqlite::Result<Vec<String>> {
    let mut find = db.prepare_cached(
        "SELECT b.id, r.place, r.name FROM file_batches b JOIN file_receipts r ON r.batch = b.id WHERE b.run = ?1",
    )?;
    let name = |row: &Row<'_>| Ok(file_of(row.get(0)?, row.get(1)?, &row.get::<_, String>(2)?));
    let files: Vec<String> = find.query_map([run], name)?.collect::<rusqlite::Result<_>>()?;
    if !files.is_empty() {
        db.prepare_cached("DELETE FROM file_receipts WHERE batch IN (SELECT id FROM file_batches WHERE run = ?1)")?
            .execute([run])?;
        db.prepare_cached("DELETE FROM file_batches WHERE run = ?1")?.execute([run])?;
    }
    Ok(files)
}
