//! The store on a real disk: what it keeps, what it refuses, and what is left after it was killed.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::wildcard_enum_match_arm,
    missing_docs,
    reason = "tests say what they expect by failing"
)]

mod append;
mod blobs;
mod blobs_backup;
mod blobs_kill;
mod blobs_late;
mod broken;
mod durable_kill;
mod durable_suite;
mod effects;
mod fsck;
mod golden;
mod history;
mod kill;
mod migrate;
mod migrate_kill;
mod open;
mod poison;
mod prune;
mod reads;
mod samples;
mod samples_audited;
mod samples_kept;
mod samples_operated;
mod samples_outside;
mod samples_restored;
mod support;
mod transcripts;
