//! Going back to a backup.

use std::fs;
use std::path::{Path, PathBuf};

use dalsegno_core::{Batch, Event, Recorded, State, Timestamp, apply_with_views};
use dalsegno_engine::{Reads as _, crash};
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use rusqlite::TransactionBehavior;

use super::make::{database_of, rename_new};
use super::manifest::Manifest;
use super::{PARTS, UNFINISHED, begin, beside, copy, finish, sync_parent};
use crate::blobs;
use crate::dir::{self, DirLock};
use crate::error::StoreError;
use crate::fsck::Cure;
use crate::in_use::InUse;
use crate::insert::{Encoded, Inserts, integer};
use crate::open::{Store, connect};
use crate::schema::{self, DAEMON};
use crate::walk;

/// Numbers of runs, effects and actions, and epochs, that are left out: the lost life may have used them.
const SKIPPED: u64 = 1_000_000;
/// State directories that were moved aside, at most.
const ASIDE: u32 = 1_000;

/// A backup whose files are what its manifest says.
#[derive(Debug, Clone)]
pub struct Source {
    path: PathBuf,
    manifest: Manifest,
}

/// What a restore came to.
#[derive(Debug, Clone)]
pub struct Restored {
    /// What it was restored from.
    pub manifest: Manifest,
    /// Identity of the journal from now on.
    pub journal_id: String,
    /// Where the state directory is that was there before.
    pub aside: Option<PathBuf>,
}

impl Source {
    /// Looks at a backup: every file is there and is what it was.
    ///
    /// # Errors
    /// [`StoreError::Missing`], [`StoreError::FutureSchema`], [`StoreError::Corrupt`].
    pub fn open(backup: &Path) -> Result<Self, StoreError> {
        let manifest = Manifest::read(backup)?;
        if manifest.schema > schema::SCHEMA_VERSION {
            let (found, known) = (manifest.schema, schema::SCHEMA_VERSION);
            return Err(StoreError::FutureSchema { what: "backup's database", found, known });
        }
        manifest.verify(backup)?;
        Ok(Self { path: backup.to_owned(), manifest })
    }

    /// Makes the state directory from the backup. What is there is moved aside, whole, and only when `force` says so. `sweep` is
    /// given the mark of everything that may still run of either life, and ends it.
    ///
    /// # Errors
    /// [`StoreError`]: `daemon_running`, always; `state_exists` without `force`. What was there is untouched then.
    pub fn restore(
        &self,
        state_dir: &Path,
        force: bool,
        now: Timestamp,
        sweep: &mut dyn FnMut(&str) -> Result<(), StoreError>,
    ) -> Result<Restored, StoreError> {
        // Held until the new one is in place: no daemon starts over the old one meanwhile.
        let lock = if state_dir.is_dir() { Some(DirLock::take(state_dir)?) } else { None };
        let has_data = dir::database(state_dir).symlink_metadata().is_ok();
        if has_data && !force {
            return Err(StoreError::HasData(format!("{} holds a store already", state_dir.display())));
        }
        let part = beside(state_dir, ".restoring");
        self.make_room(&part, state_dir)?;
        begin(&part)?;
        crash::point("restore.begun");
        copy::file(&database_of(&self.path), &dir::database(&part))?;
        crash::point("restore.database");
        for name in PARTS.into_iter().chain([blobs::DIRECTORY]) {
            let from = self.path.join(name);
            if from.is_dir() {
                copy::tree(&from, &part.join(name))?;
            }
            crash::point("restore.files");
        }
        let (journal_id, marks) = self.begin_life(&part, now)?;
        crash::point("restore.event");
        copy::sync_folders(&part)?;
        let others = if has_data { marks_of(state_dir) } else { Vec::new() };
        for mark in marks.iter().chain(&others) {
            sweep(mark)?;
        }
        finish(&part)?;
        crash::point("restore.whole");
        let aside = put_in_place(&part, state_dir)?;
        drop(lock);
        Ok(Restored { manifest: self.manifest.clone(), journal_id, aside })
    }

    /// What an earlier try left under the name that this one uses, if it is whole, is kept: it may be what was there before.
    fn make_room(&self, part: &Path, state_dir: &Path) -> Result<(), StoreError> {
        let is_empty = fs::read_dir(part).is_ok_and(|mut entries| entries.next().is_none());
        if part.symlink_metadata().is_err() || part.join(UNFINISHED).is_file() || is_empty {
            return Ok(());
        }
        let aside = aside_of(state_dir)?;
        rename_new(part, &aside)?;
        sync_parent(&aside)
    }

    /// Proves the copy, and gives its journal a new identity and its first event. Answers that, and the marks of the old life.
    fn begin_life(&self, part: &Path, now: Timestamp) -> Result<(String, Vec<String>), StoreError> {
        let path = dir::database(part);
        schema::look(&path, &DAEMON)?;
        let in_use = InUse::of(&path);
        schema::migrate(&mut connect(&path)?, &path, &DAEMON)?;
        let checked = Store::open_read_only(part)?.check()?;
        if let Some(fault) = checked.faults.iter().find(|fault| fault.cure > Cure::Look) {
            return Err(StoreError::Corrupt(format!("in the backup, {}: {}", fault.check, fault.found)));
        }
        let mut db = connect(&path)?;
        let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let (_, last) = walk::bounds(&tx)?;
        let newest: i64 = tx.query_row("SELECT coalesce(max(seq), 0) FROM snapshots", [], |row| row.get(0))?;
        let mut state = walk::state_at(&tx, last.max(newest.unsigned_abs()))?;
        let marks = marks(&self.manifest.journal_id, &state);
        let event = Event::JournalRestored {
            epoch: state.epoch.saturating_add(SKIPPED),
            journal: self.manifest.journal_id.clone(),
            backup_at: Timestamp(self.manifest.made_at),
            skipped: SKIPPED,
        };
        let recorded = Recorded { seq: state.seq + 1, at: now.max(state.at), event };
        let views =
            apply_with_views(&mut state, &recorded).map_err(|illegal| StoreError::Corrupt(illegal.to_string()))?;
        let batch = Batch { epoch: state.epoch, events: vec![recorded], views, snapshot: None };
        let unwritable = |error: serde_json::Error| StoreError::Unavailable(format!("cannot encode: {error}"));
        Inserts::prepare(&tx)?.batch(&batch, &Encoded::of(&batch).map_err(unwritable)?)?;
        let mut id = [0; 16];
        getrandom::fill(&mut id).map_err(|error| StoreError::Unavailable(format!("no random bytes: {error}")))?;
        let journal_id = hex::encode(id);
        tx.execute("UPDATE meta SET value = ?1 WHERE key = 'journal_id'", [&journal_id])?;
        tx.execute("UPDATE meta SET value = ?1 WHERE key = 'epoch'", [integer(state.epoch)])?;
        tx.commit()?;
        drop(db);
        drop(in_use);
        Ok((journal_id, marks))
    }
}

/// What processes of a journal carry that were started for what is not over.
fn marks(journal_id: &str, state: &State) -> Vec<String> {
    let runs = state.runs.keys().map(ToString::to_string);
    let issues =
        state.open_effects.values().filter(|open| open.run.is_none()).map(|open| format!("issue-{}", open.issue));
    runs.chain(issues).map(|owner| format!("{journal_id}/{owner}")).collect()
}

/// The same of a store that may be damaged: then nobody knows, and what it left is found by hand.
fn marks_of(state_dir: &Path) -> Vec<String> {
    let read = || -> Result<Vec<String>, StoreError> {
        let store = Store::open_read_only(state_dir)?;
        let (_, last) = store.at_once(walk::bounds)?;
        Ok(marks(store.journal_id(), &store.state_at(last)?))
    };
    read().unwrap_or_else(|error| {
        tracing::warn!(%error, "what the store that is moved aside has left running cannot be told");
        Vec::new()
    })
}

/// The first free name for what was there.
fn aside_of(state_dir: &Path) -> Result<PathBuf, StoreError> {
    let names = (1..=ASIDE).map(|number| beside(state_dir, &format!(".before-restore-{number}")));
    let free = names.into_iter().find(|name| name.symlink_metadata().is_err());
    free.ok_or_else(|| {
        StoreError::Exists(format!("{ASIDE} directories were moved aside already: remove those that nobody needs"))
    })
}

/// Puts the new directory in the place of the old one, in one step: there is one at every moment. Answers where the old one is.
fn put_in_place(part: &Path, state_dir: &Path) -> Result<Option<PathBuf>, StoreError> {
    if state_dir.symlink_metadata().is_err() {
        rename_new(part, state_dir)?;
        sync_parent(state_dir)?;
        crash::point("restore.placed");
        return Ok(None);
    }
    let aside = aside_of(state_dir)?;
    let io = |error: std::io::Error| StoreError::io(state_dir, &error);
    match renameat2(AT_FDCWD, part, AT_FDCWD, state_dir, RenameFlags::RENAME_EXCHANGE) {
        Ok(()) => {
            sync_parent(state_dir)?;
            crash::point("restore.exchanged");
            rename_new(part, &aside)?;
        }
        // The file system cannot exchange: a kill in between leaves both, under names that the next try knows.
        Err(nix::errno::Errno::EINVAL | nix::errno::Errno::ENOSYS) => {
            rename_new(state_dir, &aside)?;
            fs::rename(part, state_dir).map_err(io)?;
        }
        Err(error) => return Err(io(error.into())),
    }
    sync_parent(state_dir)?;
    crash::point("restore.placed");
    Ok(Some(aside))
}
