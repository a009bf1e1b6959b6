//! Events in order, as they are kept: for whoever takes the journal along, folds it again, or proves it.

use std::io;

use dalsegno_core::{Recorded, State, Timestamp};
use rusqlite::{Connection, OptionalExtension as _};

use crate::error::StoreError;
use crate::format::{decode_event, encode_event};
use crate::insert::integer;
use crate::load::{GoodSnapshots, good_snapshots};
use crate::open::Store;

/// Most events of a page of an export. Each page is read at one moment: a slow reader of the output holds up nobody.
const PAGE: usize = 500;

/// An event as it lies in its row.
pub(crate) struct Row<'a> {
    pub(crate) seq: u64,
    pub(crate) at: i64,
    pub(crate) kind: &'a str,
    pub(crate) issue: Option<&'a str>,
    pub(crate) identifier: Option<&'a str>,
    pub(crate) run: Option<&'a str>,
    pub(crate) format: u32,
    pub(crate) data: &'a str,
}

impl Row<'_> {
    /// The event.
    pub(crate) fn recorded(&self) -> Result<Recorded, StoreError> {
        let event = match decode_event(self.format, self.data) {
            Err(StoreError::Corrupt(why)) => return Err(StoreError::Corrupt(format!("event {}: {why}", self.seq))),
            event => event?,
        };
        Ok(Recorded { seq: self.seq, at: Timestamp(self.at), event })
    }
}

/// Visits the events behind `after`, through `through`, in order and without a gap.
///
/// # Errors
/// What `visit` says; [`StoreError::Corrupt`] where an event is missing.
pub(crate) fn walk(
    db: &Connection,
    after: u64,
    through: u64,
    mut visit: impl FnMut(&Row<'_>) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let sql = "SELECT seq, at, kind, issue_id, identifier, run, format, data FROM events
               WHERE seq > ?1 AND seq <= ?2 ORDER BY seq";
    let mut query = db.prepare(sql)?;
    let mut rows = query.query((integer(after), integer(through)))?;
    let mut expected = after + 1;
    while let Some(row) = rows.next()? {
        let seq = row.get::<_, i64>(0)?.unsigned_abs();
        if seq != expected {
            return Err(StoreError::Corrupt(format!("event {expected} is missing; the next one is {seq}")));
        }
        let damaged = |error: rusqlite::types::FromSqlError| StoreError::Corrupt(format!("event {seq}: {error}"));
        visit(&Row {
            seq,
            at: row.get(1)?,
            kind: row.get_ref(2)?.as_str().map_err(damaged)?,
            issue: row.get_ref(3)?.as_str_or_null().map_err(damaged)?,
            identifier: row.get_ref(4)?.as_str_or_null().map_err(damaged)?,
            run: row.get_ref(5)?.as_str_or_null().map_err(damaged)?,
            format: row.get(6)?,
            data: row.get_ref(7)?.as_str().map_err(damaged)?,
        })?;
        expected = seq + 1;
    }
    if expected <= through {
        return Err(StoreError::Corrupt(format!("event {expected} is missing; the journal ends before it")));
    }
    Ok(())
}

/// The oldest and the newest event that are kept; `(1, 0)` when there is none.
pub(crate) fn bounds(db: &Connection) -> Result<(u64, u64), StoreError> {
    let sql = "SELECT (SELECT min(seq) FROM events), (SELECT max(seq) FROM events)";
    let (first, last): (Option<i64>, Option<i64>) = db.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok((first.unwrap_or(1).unsigned_abs(), last.unwrap_or(0).unsigned_abs()))
}

/// The state right after event `seq`, from the nearest good snapshot at or before it.
///
/// # Errors
/// [`StoreError::NotKept`] when neither a snapshot nor the first event reaches back that far, or the journal ends before.
pub(crate) fn state_at(db: &Connection, seq: u64) -> Result<State, StoreError> {
    let (first, last) = bounds(db)?;
    let GoodSnapshots { nearest, oldest, newest } = good_snapshots(db, seq)?;
    let oldest = if first == 1 { 0 } else { oldest.unwrap_or(last) };
    let not_kept = || StoreError::NotKept { asked: seq, oldest, newest: last.max(newest.unwrap_or(0)) };
    if seq > last.max(newest.unwrap_or(0)) {
        return Err(not_kept());
    }
    let mut state = match nearest {
        Some(snapshot) => snapshot.state,
        None if first == 1 => State::default(),
        None => return Err(not_kept()),
    };
    walk(db, state.seq, seq, |row| fold(&mut state, &row.recorded()?))?;
    Ok(state)
}

/// Adds an event to the fold.
pub(crate) fn fold(state: &mut State, recorded: &Recorded) -> Result<(), StoreError> {
    state.apply(recorded).map_err(|illegal| StoreError::Corrupt(illegal.to_string()))
}

/// On which side of an event a state is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// The event is not in it yet.
    Before,
    /// The event is in it.
    After,
}

impl Store {
    /// Writes the events behind `after`, through `through`, one JSON object per line: `seq`, `at` in milliseconds, `format`, and
    /// the event as it was recorded. Reads page by page, each at one moment, and keeps no more than a page.
    ///
    /// # Errors
    /// [`StoreError`]; what `out` refuses comes as `Ok(Err(_))`. `not_kept` when retention overtakes the reader.
    pub fn export(&self, mut after: u64, through: u64, out: &mut dyn io::Write) -> Result<io::Result<u64>, StoreError> {
        let mut written = 0;
        while after < through {
            let end = through.min(after + PAGE as u64);
            let lines = self.pool.with(|db| page(db, after, end))?;
            if let Err(error) = out.write_all(&lines) {
                return Ok(Err(error));
            }
            written += end - after;
            after = end;
        }
        Ok(out.flush().map(|()| written))
    }

    /// The state as it was right after event `seq`, from the journal alone.
    ///
    /// # Errors
    /// [`StoreError::NotKept`] when that is before what is kept, or beyond the end; else as when it is opened.
    pub fn state_at(&self, seq: u64) -> Result<State, StoreError> {
        self.at_once(|db| state_at(db, seq))
    }

    /// The first and the last event that speak of a run; `None` when no kept one does.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn span_of(&self, run: &str) -> Result<Option<(u64, u64)>, StoreError> {
        let sql = "SELECT min(seq), max(seq) FROM events WHERE run = ?1 HAVING min(seq) IS NOT NULL";
        self.at_once(|db| {
            let read = |row: &rusqlite::Row<'_>| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?));
            let found = db.query_row(sql, [run], read).optional()?;
            Ok(found.map(|(first, last)| (first.unsigned_abs(), last.unsigned_abs())))
        })
    }

    /// Folds from right after event `after` through `through`, and shows the state before and after each event.
    ///
    /// # Errors
    /// As for [`Store::state_at`].
    pub fn fold(
        &self,
        after: u64,
        through: u64,
        mut visit: impl FnMut(When, &Recorded, &State),
    ) -> Result<(), StoreError> {
        self.at_once(|db| {
            let (_, newest) = bounds(db)?;
            if through > newest {
                return Err(StoreError::NotKept { asked: through, oldest: after, newest });
            }
            let mut state = state_at(db, after)?;
            walk(db, after, through, |row| {
                let recorded = row.recorded()?;
                visit(When::Before, &recorded, &state);
                fold(&mut state, &recorded)?;
                visit(When::After, &recorded, &state);
                Ok(())
            })
        })
    }

    /// Reads at one moment.
    pub(crate) fn at_once<T>(&self, read: impl FnOnce(&Connection) -> Result<T, StoreError>) -> Result<T, StoreError> {
        self.pool.with(|db| {
            let tx = db.unchecked_transaction()?;
            let answer = read(&tx)?;
            tx.commit()?;
            Ok(answer)
        })
    }
}

/// Events as lines.
fn page(db: &Connection, after: u64, through: u64) -> Result<Vec<u8>, StoreError> {
    let tx = db.unchecked_transaction()?;
    let (first, last) = bounds(&tx)?;
    if after + 1 < first {
        return Err(StoreError::NotKept { asked: after + 1, oldest: first, newest: last });
    }
    let mut lines = Vec::new();
    walk(&tx, after, through, |row| {
        // Read for the proof that it can be read.
        let recorded = row.recorded()?;
        let head = format!("{{\"seq\":{},\"at\":{},\"format\":{},\"event\":", row.seq, row.at, row.format);
        lines.extend_from_slice(head.as_bytes());
        if row.data.contains('\n') {
            // JSON may lie over several lines; an event here may not.
            let unwritable = |error: serde_json::Error| StoreError::Corrupt(format!("event {}: {error}", row.seq));
            encode_event(&recorded.event, &mut lines).map_err(unwritable)?;
        } else {
            lines.extend_from_slice(row.data.as_bytes());
        }
        lines.extend_from_slice(b"}\n");
        Ok(())
    })?;
    tx.commit()?;
    Ok(lines)
}
