//! Files from one place to another, private and on disk.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use crate::error::StoreError;

/// What of a repository names commits. It is copied before the commits are: a name never points at what is not there.
const NAMES_FIRST: [&str; 3] = ["packed-refs", "refs", "HEAD"];

/// Copies a directory with all that is below it. What goes away meanwhile is left out: a daemon works on. Answers how many files.
pub(super) fn tree(from: &Path, to: &Path) -> Result<u64, StoreError> {
    let io = |error: io::Error| StoreError::io(to, &error);
    let mut copied = 0;
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        let target = to.join(&folder);
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&target).map_err(io)?;
        let mut names: Vec<_> = match fs::read_dir(from.join(&folder)) {
            Ok(entries) => entries.filter_map(Result::ok).map(|entry| entry.file_name()).collect(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(StoreError::io(&from.join(&folder), &error)),
        };
        // The folders that are taken up first are those that are pushed last.
        names.sort_by_key(|name| NAMES_FIRST.iter().position(|first| name == first).map_or(0, |at| at + 1));
        for name in names {
            let path = folder.join(&name);
            let source = from.join(&path);
            let Ok(kind) = source.symlink_metadata().map(|found| found.file_type()) else { continue };
            if kind.is_dir() {
                folders.push(path);
            } else if kind.is_file() && !name.to_string_lossy().ends_with(".lock") {
                copied += u64::from(file(&source, &to.join(&path))?);
            }
        }
    }
    Ok(copied)
}

/// Copies a file; answers whether it was there.
pub(super) fn file(from: &Path, to: &Path) -> Result<bool, StoreError> {
    let mut source = match File::open(from) {
        Ok(source) => source,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(StoreError::io(from, &error)),
    };
    let runs = source.metadata().is_ok_and(|found| found.permissions().mode() & 0o100 != 0);
    let mode = if runs { 0o700 } else { 0o600 };
    let copied = OpenOptions::new().write(true).create_new(true).mode(mode).open(to).and_then(|mut target| {
        io::copy(&mut source, &mut target)?;
        target.sync_all()
    });
    copied.map_err(|error| StoreError::io(to, &error))?;
    Ok(true)
}

/// Syncs every directory below.
pub(super) fn sync_folders(dir: &Path) -> Result<(), StoreError> {
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).map_err(|error| StoreError::io(&folder, &error))?.flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                folders.push(entry.path());
            }
        }
        super::sync(&folder)?;
    }
    Ok(())
}
