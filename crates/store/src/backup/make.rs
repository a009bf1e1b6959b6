//! Making a backup, with a daemon at work or without one.

use std::path::{Path, PathBuf};

use dalsegno_core::Timestamp;
use dalsegno_engine::{Reads as _, crash};
use rusqlite::Connection;

use super::{PARTS, begin, beside, copy, finish, manifest, sync, sync_parent};
use crate::blobs;
use crate::dir::{self, DATABASE_FILE};
use crate::error::StoreError;
use crate::fsck::Cure;
use crate::open::{Store, connect};
use crate::walk;

/// A backup that was made.
#[derive(Debug, Clone)]
pub struct Made {
    /// Where it is.
    pub path: PathBuf,
    /// What it is of.
    pub manifest: manifest::Manifest,
    /// Rows that were compared when it was read back.
    pub rows: u64,
}

impl Store {
    /// Makes a backup at `path`, which must not be there. The copy of the database is of one moment; transcripts and repositories are as
    /// they are met. It is read back before it gets its name.
    ///
    /// # Errors
    /// [`StoreError::Exists`], [`StoreError::NoPlace`]; [`StoreError::Corrupt`] when what was copied does not hold: `fsck` says what.
    pub fn back_up(&self, path: &Path, program: &str, now: Timestamp) -> Result<Made, StoreError> {
        // The state directory is only read.
        self.copy_to(path, program, now)
            .map_err(|error| if let StoreError::ReadOnly(why) = error { StoreError::NoPlace(why) } else { error })
    }

    fn copy_to(&self, path: &Path, program: &str, now: Timestamp) -> Result<Made, StoreError> {
        // One that ends in a slash has its place beside itself, too.
        let path: PathBuf = path.components().collect();
        let free = |path: &Path| match path.symlink_metadata() {
            Ok(_) => Err(StoreError::Exists(format!("{} is there already", path.display()))),
            Err(_) => Ok(()),
        };
        free(&path)?;
        let part = beside(&path, ".part");
        begin(&part)
            .map_err(|error| if let StoreError::Unavailable(why) = error { StoreError::NoPlace(why) } else { error })?;
        crash::point("backup.begun");
        let database = dir::database(&part);
        self.copy_database(&database)?;
        crash::point("backup.database");
        for name in PARTS {
            copy::tree(&self.state_dir.join(name), &part.join(name))?;
            crash::point("backup.files");
        }
        self.copy_blobs(&part)?;
        crash::point("backup.files");
        let (mut manifest, rows) = read_back(&part)?;
        manifest.program = program.to_owned();
        manifest.made_at = now.0;
        let text = serde_json::to_vec_pretty(&manifest)
            .map_err(|error| StoreError::Unavailable(format!("the manifest cannot be written: {error}")))?;
        let file = part.join(manifest::FILE);
        dir::make_file(&file)?;
        std::fs::write(&file, text)
            .and_then(|()| std::fs::File::open(&file)?.sync_all())
            .map_err(|error| StoreError::io(&file, &error))?;
        copy::sync_folders(&part)?;
        crash::point("backup.whole");
        free(&path)?;
        rename_new(&part, &path)?;
        sync_parent(&path)?;
        crash::point("backup.named");
        finish(&path)?;
        sync(&path)?;
        Ok(Made { path, manifest, rows })
    }

    /// The files that the copy of the database has receipts for: what came since would have none.
    fn copy_blobs(&self, part: &Path) -> Result<(), StoreError> {
        let (from, to) = (self.state_dir.join(blobs::DIRECTORY), part.join(blobs::DIRECTORY));
        dir::make(&to)?;
        let names = Store::open_read_only(part)?.pool.with(|db| Ok(blobs::files(db)?))?;
        for name in names {
            copy::file(&from.join(&name), &to.join(&name))?;
        }
        Ok(())
    }

    /// The database as it is at one moment, in one file.
    fn copy_database(&self, to: &Path) -> Result<(), StoreError> {
        // It holds the secret of markers: its owner alone reads it, from the first byte on.
        drop(dir::touch(to)?);
        self.pool.with(|db| Ok(db.execute("VACUUM INTO ?1", [to.to_string_lossy()]).map(|_| ())?))?;
        // Whoever only reads it makes no files beside it.
        let copy = connect(to)?;
        copy.pragma_update_and_check(None, "journal_mode", "DELETE", |_| Ok(()))?;
        drop(copy);
        std::fs::File::open(to).and_then(|file| file.sync_all()).map_err(|error| StoreError::io(to, &error))
    }
}

/// Proves what was copied, and hashes it.
fn read_back(part: &Path) -> Result<(manifest::Manifest, u64), StoreError> {
    let copied = Store::open_read_only(part)?;
    let checked = copied.check()?;
    if let Some(fault) = checked.faults.iter().find(|fault| fault.cure > Cure::Look) {
        return Err(StoreError::Corrupt(format!(
            "{}: {}; nothing was backed up. `dalsegno fsck` says what mends it",
            fault.check, fault.found
        )));
    }
    let (_, through) = copied.at_once(walk::bounds)?;
    let epoch = copied.at_once(epoch)?;
    let journal_id = copied.journal_id().to_owned();
    drop(copied);
    let mut manifest = manifest::Manifest::new("", 0, manifest::hashes(part)?);
    (manifest.journal_id, manifest.through, manifest.epoch) = (journal_id, through, epoch);
    Ok((manifest, checked.rows))
}

pub(super) fn epoch(db: &Connection) -> Result<u64, StoreError> {
    let epoch: i64 = db.query_row("SELECT value FROM meta WHERE key = 'epoch'", [], |row| row.get(0))?;
    Ok(epoch.unsigned_abs())
}

/// Gives a directory its name, unless somebody has that by now.
pub(super) fn rename_new(from: &Path, to: &Path) -> Result<(), StoreError> {
    use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
    match renameat2(AT_FDCWD, from, AT_FDCWD, to, RenameFlags::RENAME_NOREPLACE) {
        Ok(()) => Ok(()),
        Err(nix::errno::Errno::EEXIST) => Err(StoreError::Exists(format!("{} is there already", to.display()))),
        // The file system does not know how to look: a directory goes only over an empty one.
        Err(nix::errno::Errno::EINVAL | nix::errno::Errno::ENOSYS) => {
            std::fs::rename(from, to).map_err(|error| StoreError::io(to, &error))
        }
        Err(error) => Err(StoreError::io(to, &error.into())),
    }
}

/// The database of a backup.
pub(super) fn database_of(backup: &Path) -> PathBuf {
    backup.join(DATABASE_FILE)
}
