//! Kept files on the disk: under a name that counts for nothing, synced, renamed, and the directory synced.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use sha2::{Digest as _, Sha256};

use super::rows::Entry;
use crate::dir;
use crate::error::StoreError;

/// Directory of kept files in the state directory.
pub(crate) const DIRECTORY: &str = "blobs";
/// Directory in it of what was set aside.
pub(crate) const ASIDE: &str = "aside";
/// What the name of a draft ends with.
const PART: &str = ".part";
/// Copies of one name that are set aside before somebody has to look.
const COPIES: u32 = 100;

static DRAFTS: AtomicU64 = AtomicU64::new(0);

pub(super) fn sha256(content: &[u8]) -> String {
    hex::encode(Sha256::digest(content))
}

/// Writes a draft: on disk, and of no account until it is renamed.
pub(super) fn draft(directory: &Path, sha256: &str, content: &[u8]) -> io::Result<PathBuf> {
    let path = directory.join(format!("{sha256}-{}{PART}", DRAFTS.fetch_add(1, Ordering::Relaxed)));
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path)?;
    file.write_all(content)?;
    file.sync_all()?;
    Ok(path)
}

/// Gives drafts their names, and has those survive a power failure.
pub(super) fn name(directory: &Path, drafts: &[(PathBuf, String)]) -> io::Result<()> {
    for (draft, file) in drafts {
        fs::rename(draft, directory.join(file))?;
    }
    File::open(directory)?.sync_all()
}

/// Whether the entry's file is there, and is what was intended.
pub(super) fn is_whole(directory: &Path, entry: &Entry) -> io::Result<Option<bool>> {
    is(&directory.join(entry.file()), entry)
}

/// `None`: it is not there.
fn is(path: &Path, entry: &Entry) -> io::Result<Option<bool>> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let meta = file.metadata()?;
    if !meta.is_file() || meta.len() != entry.bytes {
        return Ok(Some(false));
    }
    let (mut hash, mut buffer) = (Sha256::new(), vec![0; 64 << 10]);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(Some(hex::encode(hash.finalize()) == entry.sha256)),
            length => hash.update(buffer.get(..length).unwrap_or_default()),
        }
    }
}

/// The names below, without what was set aside.
pub(super) fn names(directory: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let names = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    names.filter(|name| name.as_ref().map_or(true, |name| name != ASIDE)).collect()
}

pub(super) fn is_draft(name: &str) -> bool {
    name.ends_with(PART)
}

/// A draft with the entry's content, if there is one.
fn draft_of(directory: &Path, names: &[String], entry: &Entry) -> io::Result<Option<PathBuf>> {
    for name in names.iter().filter(|name| is_draft(name) && name.starts_with(&entry.sha256)) {
        let path = directory.join(name);
        if is(&path, entry)? == Some(true) {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

/// Whether every file of a batch is on disk, under its name or as a draft.
pub(super) fn has_all(directory: &Path, entries: &[Entry]) -> io::Result<bool> {
    let names = names(directory)?;
    for entry in entries {
        match is_whole(directory, entry)? {
            Some(true) => {}
            Some(false) => return Ok(false),
            None if draft_of(directory, &names, entry)?.is_some() => {}
            None => return Ok(false),
        }
    }
    Ok(!entries.is_empty())
}

/// Gives what is still a draft its name, and syncs all of it. Only after [`has_all`].
pub(super) fn forward(directory: &Path, entries: &[Entry]) -> io::Result<()> {
    let names = names(directory)?;
    let mut drafts = Vec::new();
    for entry in entries {
        if is_whole(directory, entry)?.is_none()
            && let Some(draft) = draft_of(directory, &names, entry)?
        {
            drafts.push((draft, entry.file()));
        }
    }
    name(directory, &drafts)?;
    // Whoever was killed may have been killed before its sync.
    for entry in entries {
        File::open(directory.join(entry.file()))?.sync_all()?;
    }
    Ok(())
}

/// Removes what a batch has on disk.
pub(super) fn back(directory: &Path, entries: &[Entry]) -> io::Result<()> {
    for entry in entries {
        dir::remove(&directory.join(entry.file()))?;
    }
    if directory.is_dir() { File::open(directory)?.sync_all() } else { Ok(()) }
}

/// Removes drafts, except those that an open batch may need. They are of no account, and nobody else has any.
pub(super) fn sweep_drafts(directory: &Path, open: &[Entry]) -> io::Result<usize> {
    let mut removed = 0;
    for name in names(directory)?.iter().filter(|name| is_draft(name)) {
        if !open.iter().any(|entry| name.starts_with(&entry.sha256)) {
            dir::remove(&directory.join(name))?;
            removed += 1;
        }
    }
    Ok(removed)
}

/// Moves a file aside, content kept; answers where it is, or `None` when it is not there.
pub(super) fn set_aside(directory: &Path, file: &str) -> Result<Option<PathBuf>, StoreError> {
    let path = directory.join(file);
    if path.symlink_metadata().is_err() {
        return Ok(None);
    }
    let aside = directory.join(ASIDE);
    dir::make(&aside)?;
    let copies = (1..=COPIES).map(|copy| match copy {
        1 => aside.join(file),
        copy => aside.join(format!("{file}.{copy}")),
    });
    let free = copies.into_iter().find(|to| to.symlink_metadata().is_err());
    let to = free.ok_or_else(|| StoreError::Exists(format!("{file} has {COPIES} copies in {}", aside.display())))?;
    fs::rename(&path, &to).map_err(|error| StoreError::io(&path, &error))?;
    for moved in [&path, &to] {
        dir::sync_parent(moved).map_err(|error| StoreError::io(moved, &error))?;
    }
    Ok(Some(to))
}

/// Removes the files of runs that are forgotten. What cannot be removed is found later: it has no receipt any more.
pub(crate) fn forget(state_dir: &Path, files: &[String]) {
    for file in files {
        let path = state_dir.join(DIRECTORY).join(file);
        if let Err(error) = dir::remove(&path) {
            tracing::warn!(%error, path = %path.display(), "a kept file of a forgotten run stays");
        }
    }
}
