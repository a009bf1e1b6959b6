//! Effects, waits and sagas: the records of the machine's effects are those of its events, chains hold together, logs of sagas replay.

use std::collections::{BTreeMap, BTreeSet};

use dalsegno_core::{Batch, Recorded, State};
use dalsegno_durable::key::Secret;
use dalsegno_durable::saga::SagaView;
use dalsegno_durable::{EffectRecord, Entry, ExecutionScope};
use dalsegno_engine::Entries;
use rusqlite::Connection;

use super::shadow::is_start;
use super::{Checked, Cure};
use crate::durable::look;
use crate::error::StoreError;

/// A record that is not what the events say, as it should be.
pub(super) struct Mend {
    place: i64,
    record: EffectRecord,
}

impl Mend {
    pub(super) fn write(&self, main: &Connection) -> Result<(), StoreError> {
        let EffectRecord { replay_key: _, kind, hash, content, provenance, state } = &self.record;
        let unwritable = |error: serde_json::Error| StoreError::Corrupt(format!("a record cannot be written: {error}"));
        let text = serde_json::to_string(state).map_err(unwritable)?;
        main.prepare_cached("UPDATE effects SET kind = ?2, hash = ?3, content = ?4, provenance = ?5 WHERE place = ?1")?
            .execute((self.place, kind.as_str(), &hash.0[..], content.as_deref(), provenance.as_deref()))?;
        main.prepare_cached("INSERT OR REPLACE INTO outcomes (place, progress, state) VALUES (?1, ?2, ?3)")?
            .execute((self.place, state.progress.as_str(), text))?;
        Ok(())
    }
}

/// Records as the events say them.
pub(super) struct Effects {
    entries: Entries,
    scopes: BTreeMap<String, (ExecutionScope, BTreeMap<String, EffectRecord>)>,
    /// Scopes that began before the fold does: what of their records is older cannot be told.
    older: BTreeSet<String>,
    mends: Vec<Mend>,
}

impl Effects {
    pub(super) fn of(state: &State) -> Self {
        let runs = state.runs.keys().map(|run| ExecutionScope::process(run.as_str()).key());
        Self { entries: Entries::of(state), scopes: BTreeMap::new(), older: runs.collect(), mends: Vec::new() }
    }

    /// A new daemon knows of open effects what the state says of them.
    pub(super) fn before(&mut self, state: &State, recorded: &Recorded) {
        if is_start(&recorded.event) {
            self.entries = Entries::of(state);
        }
    }

    pub(super) fn after(
        &mut self,
        main: &Connection,
        state: &State,
        recorded: Recorded,
        checked: &mut Checked,
    ) -> Result<(), StoreError> {
        let batch = Batch { epoch: state.epoch, events: vec![recorded], views: Vec::new(), snapshot: None };
        for entry in self.entries.of_batch(&batch) {
            match entry {
                Entry::Intended { scope, record } => {
                    let (_, records) = self.scopes.entry(scope.key()).or_insert_with(|| (scope, BTreeMap::new()));
                    match records.get_mut(&record.replay_key) {
                        Some(known) => known.state = record.state,
                        None => drop(records.insert(record.replay_key.clone(), record)),
                    }
                }
                Entry::Changed { scope, replay_key, state } => {
                    let records = self.scopes.get_mut(&scope.key());
                    if let Some(known) = records.and_then(|(_, records)| records.get_mut(&replay_key)) {
                        known.state = state;
                    }
                }
                Entry::Ended { scope, at: _ } => {
                    if let Some((scope, records)) = self.scopes.remove(&scope.key()) {
                        self.compare(main, &scope, &records, true, checked)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Compares what is left, and what the live handoffs need; answers what has to be written again.
    pub(super) fn finish(
        mut self,
        main: &Connection,
        state: &State,
        checked: &mut Checked,
    ) -> Result<Vec<Mend>, StoreError> {
        for (scope, records) in std::mem::take(&mut self.scopes).into_values() {
            self.compare(main, &scope, &records, false, checked)?;
        }
        for run in state.runs.values() {
            let Some(handoff) = run.handoff.as_ref().filter(|handoff| handoff.heard > 0) else { continue };
            let Some(saga) = &handoff.saga else { continue };
            let looked = look(main, &ExecutionScope::saga(saga), 0, usize::MAX);
            if checked.take("sagas", looked)?.is_some_and(|records| records.is_empty()) {
                let found = format!("the log of the saga {saga} is gone, and its run {} is not over", run.id);
                checked.fault("sagas", Cure::Restore, found);
            }
        }
        Ok(self.mends)
    }

    fn compare(
        &mut self,
        main: &Connection,
        scope: &ExecutionScope,
        records: &BTreeMap<String, EffectRecord>,
        ended: bool,
        checked: &mut Checked,
    ) -> Result<(), StoreError> {
        let key = scope.key();
        if self.older.contains(&key) {
            return Ok(());
        }
        let there: bool = main
            .prepare_cached("SELECT EXISTS (SELECT 1 FROM scopes WHERE key = ?1)")?
            .query_row([&key], |row| row.get(0))?;
        // Retention takes what has ended; tables of an older version had no records.
        if !there && ended {
            return Ok(());
        }
        let Some(found) = checked.take("effects", look(main, scope, 0, usize::MAX))? else { return Ok(()) };
        for (name, should) in records {
            checked.rows += 1;
            match found.iter().find(|(_, record)| record.replay_key == *name) {
                Some((_, is)) if is == should => {}
                Some((place, is)) => {
                    let what = if is.state == should.state { "its intent" } else { "what became of it" };
                    checked.fault("effects", Cure::Rebuild, format!("{name}: {what} is not what the events say"));
                    self.mends.push(Mend { place: *place, record: should.clone() });
                }
                None => checked.fault("effects", Cure::Look, format!("{name}: it has no record beside its events")),
            }
        }
        Ok(())
    }
}

/// Rows that belong to nothing.
pub(super) fn foreign(main: &Connection, checked: &mut Checked) -> Result<(), StoreError> {
    let lost = "NOT IN (SELECT id FROM scopes UNION ALL SELECT scope FROM pruned)";
    for (check, what, sql) in [
        ("effects", "belongs to no scope", format!("SELECT place FROM effects WHERE scope {lost} LIMIT 20")),
        (
            "effects",
            "comes before its predecessor",
            "SELECT place FROM effects WHERE previous >= place LIMIT 20".to_owned(),
        ),
        (
            "outcomes",
            "is the outcome of no effect",
            "SELECT place FROM outcomes WHERE place NOT IN (SELECT place FROM effects) LIMIT 20".to_owned(),
        ),
        (
            "waits",
            "waits in no scope",
            "SELECT scope FROM waits WHERE scope NOT IN (SELECT id FROM scopes) LIMIT 20".to_owned(),
        ),
    ] {
        let mut query = main.prepare(&sql)?;
        let found: Vec<i64> = query.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
        for place in found {
            checked.fault(check, Cure::Restore, format!("the row at {place} {what}"));
        }
    }
    Ok(())
}

/// Every chain of records can be read, and every log of a saga replays.
pub(super) fn scopes(main: &Connection, checked: &mut Checked) -> Result<(), StoreError> {
    let secret: Vec<u8> = main.query_row("SELECT value FROM meta WHERE key = 'secret'", [], |row| row.get(0))?;
    let Ok(secret) = <[u8; 32]>::try_from(secret) else {
        checked.fault("meta", Cure::Restore, "the secret is not as long as secrets are");
        return Ok(());
    };
    let secret = Secret::new(secret);
    let mut query = main.prepare("SELECT key FROM scopes ORDER BY id")?;
    let mut rows = query.query([])?;
    while let Some(row) = rows.next()? {
        let key: String = row.get(0)?;
        let Some(scope) = ExecutionScope::from_key(&key) else {
            checked.fault("scopes", Cure::Restore, format!("{key} names no scope"));
            continue;
        };
        let saga = if let ExecutionScope::Saga { id } = &scope { Some(id.clone()) } else { None };
        let check = if saga.is_some() { "sagas" } else { "effects" };
        let Some(records) = checked.take(check, look(main, &scope, 0, usize::MAX))? else { continue };
        checked.rows += records.len() as u64;
        let records = records.iter().map(|(_, record)| record);
        if let Some(Err(damaged)) = saga.map(|id| SagaView::of_records(&id, records, &secret)) {
            checked.fault("sagas", Cure::Restore, damaged.to_string());
        }
    }
    Ok(())
}
