//! Backups: a directory with a whole copy of the database, the transcripts and the daemon's repositories, and a manifest with the hash of each file.
//!
//! # States
//! A backup is made under another name and gets its own when it is whole, read back and on disk; a restored state directory likewise. A kill at any
//! moment leaves the old or the new, and what is left under the other name is removed or kept aside by the next try.
//!
//! # Invariants
//! - Nothing is written over: neither by a backup nor by a restore, which moves what was there aside.
//! - What is restored was checked before anything is touched: hashes, pages, and that its projections are what its journal says.
//! - A restored journal has another identity and a higher epoch; its first event says that it was restored.

mod copy;
mod make;
mod manifest;
mod restore;

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use crate::error::StoreError;

pub use make::Made;
pub use manifest::Manifest;
pub use restore::{Restored, Source};

/// Directories of the state directory that are part of a backup. Tokens, locks, logs and where the daemon is are not.
const PARTS: [&str; 2] = [crate::transcripts::DIRECTORY, "repos"];
/// In a directory of ours that is not whole yet: it may be removed.
pub(crate) const UNFINISHED: &str = "unfinished";

/// The name under which something is made.
fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

/// Makes a directory of ours for something that is not whole yet; one that an earlier try left is removed first.
fn begin(path: &Path) -> Result<(), StoreError> {
    let io = |error: io::Error| StoreError::io(path, &error);
    // One that is empty was cut before its mark was there, or after that was gone.
    if path.symlink_metadata().is_ok() && fs::remove_dir(path).is_err() {
        if !path.join(UNFINISHED).is_file() {
            return Err(StoreError::Exists(format!(
                "{} is there, and nothing that was left unfinished here",
                path.display()
            )));
        }
        // The mark goes last: what is cut here is still known for what it is.
        for entry in fs::read_dir(path).map_err(io)? {
            let entry = entry.map_err(io)?;
            if entry.file_name() != UNFINISHED {
                remove(&entry.path()).map_err(io)?;
            }
        }
        fs::remove_dir_all(path).map_err(io)?;
    }
    fs::DirBuilder::new().mode(0o700).create(path).map_err(io)?;
    crate::dir::touch(&path.join(UNFINISHED))?.sync_all().map_err(io)?;
    sync(path)
}

/// It is whole: takes the mark away.
fn finish(path: &Path) -> Result<(), StoreError> {
    fs::remove_file(path.join(UNFINISHED)).map_err(|error| StoreError::io(path, &error))?;
    sync(path)
}

fn remove(path: &Path) -> io::Result<()> {
    if path.symlink_metadata()?.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }
}

/// Makes sure that the names in a directory survive a power failure.
fn sync(dir: &Path) -> Result<(), StoreError> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(|error| StoreError::io(dir, &error))
}

fn sync_parent(path: &Path) -> Result<(), StoreError> {
    crate::dir::sync_parent(path).map_err(|error| StoreError::io(path, &error))
}
