//! What a version that was brought up, or a restore, began to write and did not finish. It counts for nothing, and takes room.

use std::fs;
use std::path::{Path, PathBuf};

use crate::backup::UNFINISHED;
use crate::dir::{self, DATABASE_FILE, DirLock};
use crate::error::StoreError;

/// What begins the name of the copy of an older database, and ends it while it is not whole.
const COPY: &str = ".v";
const PART: &str = ".part";

/// Files and directories that were begun and not finished, in the state directory and beside it.
#[must_use]
pub fn half_written(state_dir: &Path) -> Vec<PathBuf> {
    let names = fs::read_dir(state_dir).into_iter().flatten().flatten().map(|entry| entry.path());
    let begins = format!("{DATABASE_FILE}{COPY}");
    let mut found: Vec<PathBuf> = names
        .filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with(&begins) && name.ends_with(PART)
        })
        .collect();
    let mut restoring = state_dir.as_os_str().to_owned();
    restoring.push(".restoring");
    let restoring = PathBuf::from(restoring);
    if restoring.join(UNFINISHED).is_file() {
        found.push(restoring);
    }
    found.sort();
    found
}

/// Removes them. Answers what was removed.
///
/// # Errors
/// `daemon_running` while somebody holds the state directory, and what the operating system says.
pub fn remove_half_written(state_dir: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let found = half_written(state_dir);
    if found.is_empty() {
        return Ok(found);
    }
    let _held = DirLock::take(state_dir)?;
    for path in &found {
        let removed = if path.is_dir() { fs::remove_dir_all(path) } else { dir::remove(path) };
        removed.map_err(|error| StoreError::io(path, &error))?;
    }
    Ok(found)
}
