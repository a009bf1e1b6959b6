//! The written forms of events and snapshots, by version.
//!
//! Writers write the newest form. Readers know every form that was ever released and refuse newer
//! ones, so that a database that is opened by an older program is left alone.

use dalsegno_core::{EVENT_FORMAT, Event, SNAPSHOT_FORMAT, Snapshot};
use sha2::{Digest, Sha256};

use crate::error::StoreError;

/// Reads an event in the form `format`.
///
/// # Errors
/// [`StoreError::FutureSchema`] for a form that is newer than [`EVENT_FORMAT`], [`StoreError::Corrupt`] for
/// data that is not in that form.
pub fn decode_event(format: u32, data: &str) -> Result<Event, StoreError> {
    match format {
        1..=3 => {
            serde_json::from_str(data).map_err(|error| StoreError::Corrupt(format!("an event is unreadable: {error}")))
        }
        0 => Err(StoreError::Corrupt("an event has no format".to_owned())),
        found => Err(StoreError::FutureSchema { what: "event", found, known: EVENT_FORMAT }),
    }
}

/// Writes an event in the newest form at the end of `buffer`.
///
/// # Errors
/// When the event cannot be said in JSON.
pub fn encode_event(event: &Event, buffer: &mut Vec<u8>) -> serde_json::Result<()> {
    serde_json::to_writer(buffer, event)
}

/// Reads a snapshot in the form `format`.
///
/// # Errors
/// As for [`decode_event`], with [`SNAPSHOT_FORMAT`].
pub fn decode_snapshot(format: u32, data: &[u8]) -> Result<Snapshot, StoreError> {
    match format {
        1..=3 => serde_json::from_slice(data)
            .map_err(|error| StoreError::Corrupt(format!("a snapshot is unreadable: {error}"))),
        0 => Err(StoreError::Corrupt("a snapshot has no format".to_owned())),
        found => Err(StoreError::FutureSchema { what: "snapshot", found, known: SNAPSHOT_FORMAT }),
    }
}

/// Writes a snapshot; its own `format` says in which form.
///
/// # Errors
/// When it cannot be said in JSON.
pub fn encode_snapshot(snapshot: &Snapshot) -> serde_json::Result<Vec<u8>> {
    serde_json::to_vec(snapshot)
}

/// SHA-256 of a snapshot's bytes, in hexadecimal.
pub(crate) fn checksum(data: &[u8]) -> String {
    hex::encode(Sha256::digest(data))
}
