//! What is kept and what goes: old events, in small portions, and old rows of ended runs.

use dalsegno_engine::Kept;
use rusqlite::Connection;

use crate::blobs;
use crate::insert::{integer, key};

/// Events and rows go in portions of at least this many.
const PORTION: u64 = 256;
const DAY_MS: i64 = 86_400_000;

/// What nothing speaks of any more, and whose files may go.
#[derive(Debug, Default)]
pub(crate) struct Forgotten {
    /// Runs: their transcripts.
    pub(crate) runs: Vec<String>,
    /// Files that were kept for them.
    pub(crate) files: Vec<String>,
}

/// The writer's account of what may go.
pub(crate) struct Pruning {
    kept: Kept,
    /// The oldest event that is there.
    first: u64,
    /// Events that came since the age of the oldest was looked at.
    unlooked: u64,
    /// Ended runs that came since they were last counted.
    ended: u64,
}

impl Pruning {
    pub(crate) fn new(db: &Connection, kept: Kept) -> rusqlite::Result<Self> {
        let first: i64 = db.query_row("SELECT coalesce(min(seq), 1) FROM events", [], |row| row.get(0))?;
        Ok(Self { kept, first: first.unsigned_abs(), unlooked: PORTION, ended: PORTION })
    }

    /// Removes a portion of old events, never one that comes after the oldest kept snapshot, and never the last.
    pub(crate) fn events(&mut self, db: &Connection, last: u64, inserted: u64) -> rusqlite::Result<()> {
        let aged = self.aged(db, last, inserted)?;
        let too_old = last.saturating_sub(self.kept.events.max(1)).max(aged);
        if too_old < self.first.saturating_add(PORTION - 1) {
            return Ok(());
        }
        let snapshot: Option<i64> = db.query_row("SELECT min(seq) FROM snapshots", [], |row| row.get(0))?;
        let Some(snapshot) = snapshot else { return Ok(()) };
        let portion = self.first + PORTION.max(inserted.saturating_mul(2)) - 1;
        let portion = portion.max(aged);
        let through = too_old.min(snapshot.unsigned_abs()).min(portion);
        if through < self.first {
            return Ok(());
        }
        let bounds = (integer(self.first), integer(through));
        let mut gone: Vec<(String, Option<String>)> = Vec::new();
        {
            let mut query = db.prepare_cached(
                "SELECT issue_id, identifier FROM events WHERE seq BETWEEN ?1 AND ?2 AND kind = 'issue_gone'",
            )?;
            let mut rows = query.query(bounds)?;
            while let Some(row) = rows.next()? {
                gone.push((row.get(0)?, row.get(1)?));
            }
        }
        db.prepare_cached("DELETE FROM events WHERE seq BETWEEN ?1 AND ?2")?.execute(bounds)?;
        for (issue, identifier) in gone {
            forget_names(db, &issue, identifier.as_deref())?;
        }
        self.first = through + 1;
        Ok(())
    }

    /// The last event of a portion of the oldest, when all of it is older than what is kept; else 0. The store has no clock: the age of
    /// an event is counted to the newest one. The portion is twice what came since the last look, so that old ones run out.
    fn aged(&mut self, db: &Connection, last: u64, inserted: u64) -> rusqlite::Result<u64> {
        self.unlooked += inserted;
        if self.unlooked < PORTION {
            return Ok(0);
        }
        let through = self.first + self.unlooked.saturating_mul(2) - 1;
        self.unlooked = 0;
        let age = i64::from(self.kept.event_days).saturating_mul(DAY_MS);
        let old: bool = db
            .prepare_cached(
                "SELECT EXISTS (SELECT 1 FROM events WHERE seq = ?1 AND at < (SELECT at FROM events WHERE seq = ?2) - ?3)",
            )?
            .query_row((integer(through), integer(last), age), |row| row.get(0))?;
        Ok(if old { through } else { 0 })
    }

    /// Removes the oldest rows of ended runs beyond those that are kept, with theirs of the ledger and of kept files; answers whose.
    pub(crate) fn runs(&mut self, db: &Connection, ended: u64) -> rusqlite::Result<Forgotten> {
        self.ended += ended;
        if self.ended < PORTION {
            return Ok(Forgotten::default());
        }
        let count = "SELECT count(*) FROM runs WHERE ended_at IS NOT NULL";
        let rows: i64 = db.prepare_cached(count)?.query_row([], |row| row.get(0))?;
        let excess = rows.unsigned_abs().saturating_sub(self.kept.ended_runs);
        let portion = excess.min(self.ended.saturating_mul(2));
        self.ended = 0;
        if portion == 0 {
            return Ok(Forgotten::default());
        }
        let mut delete = db.prepare_cached(
            "DELETE FROM runs WHERE id IN
             (SELECT id FROM runs WHERE ended_at IS NOT NULL ORDER BY ended_at, rowid LIMIT ?1) RETURNING id",
        )?;
        let runs: Vec<String> =
            delete.query_map([integer(portion)], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
        let mut rows = db.prepare_cached("DELETE FROM usage WHERE run = ?1")?;
        let mut files = Vec::new();
        for run in &runs {
            rows.execute([run])?;
            files.extend(blobs::forget(db, run)?);
        }
        Ok(Forgotten { runs, files })
    }
}

/// Forgets what an issue was called when nothing speaks of it any more.
fn forget_names(db: &Connection, issue: &str, identifier: Option<&str>) -> rusqlite::Result<()> {
    let spoken_of: bool = db
        .prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM events WHERE issue_id = ?1) OR EXISTS (SELECT 1 FROM issues WHERE id = ?1)",
        )?
        .query_row([issue], |row| row.get(0))?;
    if spoken_of {
        return Ok(());
    }
    let mut delete = db.prepare_cached("DELETE FROM names WHERE key = ?1 AND issue_id = ?2")?;
    for name in [Some(issue), identifier].into_iter().flatten() {
        delete.execute((key(name), issue))?;
    }
    Ok(())
}
