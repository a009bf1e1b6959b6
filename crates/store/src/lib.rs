//! The journal on SQLite, and everything that is read from it; effects and waits beside it, or in a database of their own.
//!
//! One database per state directory, one writer thread per database. Batches, effects and waits that are in flight at the
//! same time share a transaction and one sync (group commit). What queries see are projections, written
//! in the same transaction as the events. Transcripts are plain files beside the database.
//!
//! # Invariants
//! - An answered append is on disk, synced (`synchronous=FULL`). One that was refused left nothing.
//! - After an append that failed on the disk the journal takes no more; opening it again recovers.
//! - Events follow each other without gaps, from the oldest kept one on; the oldest kept snapshot always
//!   has all events after it.
//! - A database of a newer version, of another program, or a damaged one is refused and left as it is.
//! - Readers never hold up the writer.

mod backup;
mod blobs;
mod checkpoints;
mod dir;
mod durable;
mod error;
pub mod foreign;
pub mod format;
mod fsck;
mod half_written;
mod in_use;
mod insert;
mod journal;
mod load;
mod open;
mod pool;
mod prune;
mod queue;
mod reads;
mod schema;
mod snapshots;
mod transcript_check;
mod transcripts;
mod walk;
mod writer;

pub use backup::{Made, Manifest, Restored, Source};
pub use blobs::{BlobCheck, BlobFiles};
pub use dir::DATABASE_FILE;
pub use durable::{DurableOptions, SqliteDurable};
pub use error::StoreError;
pub use fsck::{Checked, Cure, Fault};
pub use half_written::{half_written, remove_half_written};
pub use journal::{Counts, Pending, SqliteJournal};
pub use open::{OpenOptions, Opened, Store};
pub use schema::SCHEMA_VERSION;
pub use transcript_check::TranscriptCheck;
pub use transcripts::TranscriptFiles;
pub use walk::When;
