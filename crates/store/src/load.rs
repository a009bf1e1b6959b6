//! What a daemon starts from: the newest good snapshot and every event after it.

use dalsegno_core::{Recorded, Snapshot, Timestamp};
use dalsegno_engine::Loaded;
use rusqlite::Connection;

use crate::error::StoreError;
use crate::format::{checksum, decode_event, decode_snapshot};
use crate::insert::integer;

/// Reads it all in one read transaction.
pub(crate) fn load(db: &Connection) -> Result<Loaded, StoreError> {
    let tx = db.unchecked_transaction()?;
    let epoch: i64 = tx.query_row("SELECT value FROM meta WHERE key = 'epoch'", [], |row| row.get(0))?;
    let snapshot = newest_good_snapshot(&tx)?;
    let through = snapshot.as_ref().map_or(0, |snapshot| snapshot.state.seq);
    let events = events_after(&tx, through)?;
    tx.commit()?;
    Ok(Loaded { snapshot, events, epoch: epoch.unsigned_abs() })
}

/// What the kept snapshots say of one position. Damaged ones do not count.
pub(crate) struct GoodSnapshots {
    /// The newest one at or before it.
    pub(crate) nearest: Option<Snapshot>,
    /// Position of the oldest one.
    pub(crate) oldest: Option<u64>,
    /// Position of the newest one.
    pub(crate) newest: Option<u64>,
}

/// Looks through the snapshots, of which there are a few.
pub(crate) fn good_snapshots(db: &Connection, at: u64) -> Result<GoodSnapshots, StoreError> {
    let mut query = db.prepare("SELECT seq, format, sha256, data FROM snapshots ORDER BY seq")?;
    let mut rows = query.query([])?;
    let mut good = GoodSnapshots { nearest: None, oldest: None, newest: None };
    while let Some(row) = rows.next()? {
        let seq = row.get::<_, i64>(0)?.unsigned_abs();
        let data = row.get_ref(3)?.as_bytes().map_err(|error| StoreError::Corrupt(error.to_string()))?;
        if checksum(data) != row.get::<_, String>(2)? {
            continue;
        }
        good.oldest = good.oldest.or(Some(seq));
        good.newest = Some(seq);
        if seq <= at {
            good.nearest = Some(decode_snapshot(row.get(1)?, data)?);
        }
    }
    Ok(good)
}

fn newest_good_snapshot(db: &Connection) -> Result<Option<Snapshot>, StoreError> {
    let mut query = db.prepare("SELECT seq, format, sha256, data FROM snapshots ORDER BY seq DESC")?;
    let mut rows = query.query([])?;
    let mut damaged = 0_u32;
    while let Some(row) = rows.next()? {
        let seq = row.get::<_, i64>(0)?.unsigned_abs();
        let format: u32 = row.get(1)?;
        let expected: String = row.get(2)?;
        let data = row.get_ref(3)?.as_bytes().map_err(|error| StoreError::Corrupt(error.to_string()))?;
        if checksum(data) != expected {
            damaged += 1;
            tracing::warn!(seq, "a snapshot is damaged: its checksum does not hold; an older one is taken");
            continue;
        }
        match decode_snapshot(format, data) {
            Ok(snapshot) if snapshot.state.seq == seq => return Ok(Some(snapshot)),
            Ok(snapshot) => {
                let problem = format!("snapshot {seq} holds the state after event {}", snapshot.state.seq);
                return Err(StoreError::Corrupt(problem));
            }
            Err(error) => return Err(error),
        }
    }
    if damaged > 0 {
        tracing::warn!(damaged, "no snapshot is undamaged; the state is folded from the first event on");
    }
    Ok(None)
}

fn events_after(db: &Connection, through: u64) -> Result<Vec<Recorded>, StoreError> {
    let mut query = db.prepare("SELECT seq, at, format, data FROM events WHERE seq > ?1 ORDER BY seq")?;
    let mut rows = query.query([integer(through)])?;
    let mut events = Vec::new();
    let mut expected = through + 1;
    while let Some(row) = rows.next()? {
        let seq = row.get::<_, i64>(0)?.unsigned_abs();
        if seq != expected && expected == 1 {
            let problem = format!("no snapshot is undamaged, and the events before {seq} are gone");
            return Err(StoreError::Corrupt(problem));
        }
        if seq != expected {
            return Err(StoreError::Corrupt(format!("event {expected} is missing; the next one is {seq}")));
        }
        let data = row.get_ref(3)?.as_str().map_err(|error| StoreError::Corrupt(error.to_string()))?;
        let event = decode_event(row.get(2)?, data)?;
        events.push(Recorded { seq, at: Timestamp(row.get(1)?), event });
        expected = seq + 1;
    }
    Ok(events)
}
