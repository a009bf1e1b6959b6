//! Entries of the journal's batches: effects of a machine that decides by its events, as records like everybody's.
//!
//! They are written with the batch, under the journal's epoch: no lease is asked for, and none is taken. The events are the truth; a record
//! that does not fit them (because a row is damaged, say) is told of and left out, and never holds up the journal.

use std::collections::HashMap;

use dalsegno_durable::store::{Lease, Place, ScopeRow, StoreError as Refused, Write};
use dalsegno_durable::{Claim, EffectRecord, EffectState, Entry, ExecutionScope, Timestamp};
use rusqlite::{Connection, OptionalExtension};

use super::records;
use super::request::{OpenScope, Row, Trouble, fingerprint};
use super::writing::Durable;
use crate::error::StoreError;

/// Places of effects that are open, which are remembered at most; a forgotten one is looked up.
const REMEMBERED: usize = 20_000;

/// An entry whose JSON is written, so that the writer does not have to.
pub(crate) enum EntryRow {
    Intended { scope: OpenScope, replay_key: String, intent: Box<Row>, again: Change },
    Changed { scope: OpenScope, replay_key: String, change: Change },
    Ended { scope: OpenScope, at: Timestamp },
}

/// What a record is from now on.
pub(crate) struct Change {
    progress: &'static str,
    state: String,
}

impl Change {
    fn of(state: &EffectState) -> serde_json::Result<Self> {
        Ok(Self { progress: state.progress.as_str(), state: serde_json::to_string(state)? })
    }

    fn row(&self, place: i64) -> Row {
        Row::Change { place: Place(place), progress: self.progress, state: self.state.clone() }
    }
}

impl EntryRow {
    pub(crate) fn of(entry: Entry) -> Result<Self, String> {
        let unwritable = |error: serde_json::Error| error.to_string();
        let named = |scope: &ExecutionScope| OpenScope::of(scope, Claim::IfFree);
        Ok(match entry {
            Entry::Intended { scope, record } => Self::Intended {
                scope: named(&scope),
                replay_key: record.replay_key.clone(),
                again: Change::of(&record.state).map_err(unwritable)?,
                intent: Box::new(Row::of(Write::Intend(record)).map_err(|error| error.to_string())?),
            },
            Entry::Changed { scope, replay_key, state } => {
                Self::Changed { scope: named(&scope), replay_key, change: Change::of(&state).map_err(unwritable)? }
            }
            Entry::Ended { scope, at } => Self::Ended { scope: named(&scope), at },
        })
    }

    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Intended { intent, again, .. } => intent.bytes() + again.state.len(),
            Self::Changed { change, .. } => change.state.len(),
            Self::Ended { .. } => 0,
        }
    }
}

/// Where open effects of the journal are.
pub(super) type Places = HashMap<(i64, String), i64>;

impl Durable<'_> {
    /// Writes an entry of a batch that was admitted.
    pub(crate) fn entry(&mut self, entry: &EntryRow) -> rusqlite::Result<()> {
        match self.record(entry) {
            Ok(()) => Ok(()),
            Err(Trouble::Database(error)) => Err(error),
            Err(Trouble::Refused(why)) => {
                tracing::error!(%why, "an effect of the journal has no record of its own; its events are as they are");
                Ok(())
            }
        }
    }

    fn record(&mut self, entry: &EntryRow) -> Result<(), Trouble> {
        match entry {
            EntryRow::Intended { scope, replay_key, intent, again } => {
                let lease = match self.lease_in_force(&scope.key)? {
                    Some(lease) => lease,
                    None => self.make(&scope.key, scope.session.as_deref())?.lease,
                };
                let place = match self.place(lease, replay_key)? {
                    Some(place) => self.write(lease, &again.row(place))?,
                    None => self.write(lease, intent)?,
                };
                if self.places.len() >= REMEMBERED {
                    self.places.clear();
                }
                self.places.insert((lease.row.0, replay_key.clone()), place.0);
            }
            EntryRow::Changed { scope, replay_key, change } => {
                let lease = self.lease_in_force(&scope.key)?.ok_or(Refused::ScopeEnded)?;
                let gone = || Refused::Failed(format!("there is no record of {replay_key}"));
                let place = self.place(lease, replay_key)?.ok_or_else(gone)?;
                self.write(lease, &change.row(place))?;
                self.places.remove(&(lease.row.0, replay_key.clone()));
            }
            EntryRow::Ended { scope, at } => {
                // A scope without effects was never opened.
                if let Some(lease) = self.lease_in_force(&scope.key)? {
                    self.end(lease, *at)?;
                }
            }
        }
        Ok(())
    }

    /// The scope's lease, whoever has it: the journal's epoch is what fences its batches.
    fn lease_in_force(&mut self, key: &str) -> Result<Option<Lease>, Trouble> {
        let mut query = self.db.prepare_cached("SELECT id, epoch FROM scopes WHERE key = ?1")?;
        let read = |row: &rusqlite::Row<'_>| {
            Ok(Lease { row: ScopeRow(row.get(0)?), epoch: row.get::<_, i64>(1)?.unsigned_abs() })
        };
        Ok(query.query_row([key], read).optional()?)
    }

    fn place(&mut self, lease: Lease, replay_key: &str) -> Result<Option<i64>, Trouble> {
        if let Some(place) = self.places.get(&(lease.row.0, replay_key.to_owned())) {
            return Ok(Some(*place));
        }
        let known = self.leased(lease)?;
        // Most are new, and of a new one nothing is to be found: a look at every record for each would be quadratic.
        if !known.has(fingerprint(replay_key)) {
            return Ok(None);
        }
        let head = known.head;
        let chain = records::chain(self.db, lease.row.0, head)?;
        Ok(chain.iter().find(|record| record.replay_key == replay_key).map(|record| record.place))
    }
}

/// What is recorded of a scope, for a look: in the order of the intents, those after `after`, at most `limit`.
pub(crate) fn look(
    db: &Connection,
    scope: &ExecutionScope,
    after: i64,
    limit: usize,
) -> Result<Vec<(i64, EffectRecord)>, StoreError> {
    let corrupt = |why: Refused| StoreError::Corrupt(why.to_string());
    let sql = "SELECT s.id, s.epoch, max(s.head, coalesce((SELECT max(e.place) FROM effects AS e
         WHERE e.scope = s.id AND e.place > (SELECT value FROM meta WHERE key = 'heads_through')), 0))
         FROM scopes AS s WHERE s.key = ?1";
    let read = |row: &rusqlite::Row<'_>| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?));
    let Some((id, epoch, head)) = db.prepare_cached(sql)?.query_row([scope.key()], read).optional()? else {
        return Ok(Vec::new());
    };
    let lease = Lease { row: ScopeRow(id), epoch: epoch.unsigned_abs() };
    let records = match records::chain(db, id, head) {
        Ok(records) => records,
        Err(Trouble::Refused(why)) => return Err(corrupt(why)),
        Err(Trouble::Database(error)) => return Err(error.into()),
    };
    let raw = super::request::RawScope { lease, ended: false, records };
    let effects = records::understand(raw).map_err(corrupt)?.effects;
    Ok(effects
        .into_iter()
        .map(|(place, record)| (place.0, record))
        .filter(|(place, _)| *place > after)
        .take(limit)
        .collect())
}
