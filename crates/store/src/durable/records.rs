//! Records of effects: rows as they stand in the tables, and what they mean. Nothing of their content gets into an error.

use std::collections::HashSet;

use dalsegno_durable::store::{OpenedScope, Place, StoreError as Refused};
use dalsegno_durable::{ContentHash, EffectKind, EffectRecord, EffectState, Progress, Timestamp};
use rusqlite::{Connection, OptionalExtension, Row};

use super::request::{RawScope, Trouble};

/// A record as its rows say it. Read by the writer, understood by whoever asked for it.
#[derive(Debug)]
pub(crate) struct RawRecord {
    pub(super) place: i64,
    pub(super) replay_key: String,
    kind: String,
    hash: Vec<u8>,
    content: Option<String>,
    provenance: Option<String>,
    epoch: i64,
    began_at: i64,
    due_at: Option<i64>,
    state: Option<String>,
}

/// Walks a scope's chain from its head, newest first.
pub(super) fn chain(db: &Connection, scope: i64, head: i64) -> Result<Vec<RawRecord>, Trouble> {
    let mut found = Vec::new();
    let mut next = head;
    let mut query = db.prepare_cached(
        "SELECT e.previous, e.scope, e.replay_key, e.kind, e.hash, e.content, e.provenance, e.epoch, e.began_at, e.due_at, o.state
         FROM effects AS e LEFT JOIN outcomes AS o ON o.place = e.place WHERE e.place = ?1",
    )?;
    while next > 0 {
        let place = next;
        let record = query.query_row([place], |row| {
            next = row.get(0)?;
            Ok((row.get::<_, i64>(1)?, read(row, place)?))
        });
        match record.optional()? {
            Some((owner, record)) if owner == scope && next < place => found.push(record),
            Some(_) | None => return Err(damaged(place, "it is not where its scope has it").into()),
        }
    }
    Ok(found)
}

fn read(row: &Row<'_>, place: i64) -> rusqlite::Result<RawRecord> {
    Ok(RawRecord {
        place,
        replay_key: row.get(2)?,
        kind: row.get(3)?,
        hash: row.get(4)?,
        content: row.get(5)?,
        provenance: row.get(6)?,
        epoch: row.get(7)?,
        began_at: row.get(8)?,
        due_at: row.get(9)?,
        state: row.get(10)?,
    })
}

/// What the rows of a scope mean, in the order of its intents.
pub(super) fn understand(scope: RawScope) -> Result<OpenedScope, Refused> {
    let RawScope { lease, ended, records } = scope;
    let mut effects = Vec::with_capacity(records.len());
    for raw in records.into_iter().rev() {
        let place = Place(raw.place);
        effects.push((place, record(raw)?));
    }
    let mut keys = HashSet::with_capacity(effects.len());
    for (place, record) in &effects {
        if !keys.insert(record.replay_key.as_str()) {
            return Err(damaged(place.0, "another one has its replay key"));
        }
    }
    Ok(OpenedScope { lease, ended, effects })
}

fn record(raw: RawRecord) -> Result<EffectRecord, Refused> {
    let RawRecord { place, replay_key, kind, hash, content, provenance, epoch, began_at, due_at, state } = raw;
    let kind = EffectKind::from_word(&kind).ok_or_else(|| damaged(place, "its kind is unknown"))?;
    let hash = ContentHash(hash.try_into().map_err(|_| damaged(place, "its hash is not as long as hashes are"))?);
    let state = match state {
        // The error of the parser may quote what it read, and that is nobody's business.
        Some(text) => serde_json::from_str(&text).map_err(|error| {
            damaged(place, &format!("its state is unreadable at line {}, column {}", error.line(), error.column()))
        })?,
        None => EffectState {
            generation: 1,
            attempt: 1,
            doubts: 0,
            epoch: epoch.unsigned_abs(),
            began_at: Timestamp(began_at),
            due_at: due_at.map(Timestamp),
            failures: Vec::new(),
            progress: Progress::Open,
        },
    };
    Ok(EffectRecord { replay_key, kind, hash, content, provenance, state })
}

fn damaged(place: i64, how: &str) -> Refused {
    Refused::Failed(format!("the record at place {place} is damaged: {how}; restore a backup, or end the scope"))
}

/// Reads what passes for the row of a record: its kind, its content and its state, a line each.
pub(crate) fn foreign(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let mut lines = text.splitn(3, '\n').map(str::to_owned);
    let raw = RawRecord {
        place: 1,
        replay_key: "a".to_owned(),
        kind: lines.next().unwrap_or_default(),
        hash: vec![0; 32],
        content: lines.next(),
        provenance: None,
        epoch: 1,
        began_at: 0,
        due_at: None,
        state: lines.next(),
    };
    drop(record(raw));
}
