//! The log of a saga: its entries as records of its scope, under their numbers as replay keys.

use super::event::Entry;
use super::state::Damaged;
use crate::canonical::ContentHash;
use crate::envelope::EffectKind;
use crate::record::{EffectRecord, EffectState, Progress};

/// The record of an entry.
pub(super) fn record(number: u64, entry: &Entry) -> serde_json::Result<EffectRecord> {
    let content = serde_json::to_string(entry)?;
    Ok(EffectRecord {
        replay_key: format!("{number:08}"),
        kind: EffectKind::Checkpoint,
        hash: ContentHash::of(&content),
        content: Some(content),
        provenance: None,
        state: EffectState {
            generation: 1,
            attempt: 1,
            doubts: 0,
            epoch: entry.epoch,
            began_at: entry.at,
            due_at: None,
            failures: Vec::new(),
            progress: Progress::Open,
        },
    })
}

/// The entries of a saga's records.
pub(super) fn read<'a>(id: &str, records: impl Iterator<Item = &'a EffectRecord>) -> Result<Vec<Entry>, Damaged> {
    let mut entries = Vec::new();
    for (record, number) in records.zip(1_u64..) {
        let damaged = |why: &str| Damaged { saga: id.to_owned(), entry: number, why: why.to_owned() };
        if record.replay_key != format!("{number:08}") {
            return Err(damaged("an entry is missing"));
        }
        let content = record.content.as_deref().ok_or_else(|| damaged("it is empty"))?;
        if ContentHash::of(content) != record.hash {
            return Err(damaged("its content is not what was written"));
        }
        let entry = serde_json::from_str(content).map_err(|error| {
            // What the parser quotes is nobody's business.
            damaged(&format!("it cannot be understood at line {}, column {}", error.line(), error.column()))
        })?;
        entries.push(entry);
    }
    Ok(entries)
}
