//! Kept files on the disk: under a name that counts for nothing, synced, renamed, and the directory synced.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::OFlag;
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

pub(super) fn sha256(content: &[u8]) -> String {
    hex::encode(Sha256::digest(content))
}

/// What the `number`th draft of a life is called: whoever finds it can tell what it is for, and its own life can tell that it is its own.
pub(super) fn draft_name(sha256: &str, life: &str, number: u64) -> String {
    format!("{sha256}-{life}-{number}{PART}")
}

fn is_of_life(draft: &str, life: &str) -> bool {
    draft.rsplit('-').nth(1) == Some(life)
}

/// Writes a draft: on disk, and of no account until it is renamed.
pub(super) fn draft(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(content)?;
    file.sync_all()
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
    let mut file = match open(path, entry.bytes)? {
        Opened::Gone => return Ok(None),
        Opened::Other => return Ok(Some(false)),
        Opened::File(file) => file,
    };
    let (mut hash, mut buffer) = (Sha256::new(), vec![0; 64 << 10]);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(Some(hex::encode(hash.finalize()) == entry.sha256)),
            length => hash.update(buffer.get(..length).unwrap_or_default()),
        }
    }
}

/// What was found under a name.
enum Opened {
    Gone,
    /// No file of this length.
    Other,
    File(File),
}

/// Opens a plain file. What is a link is another thing than what was written, and a pipe would be waited for.
fn open(path: &Path, bytes: u64) -> io::Result<Opened> {
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    let file = match OpenOptions::new().read(true).custom_flags(flags.bits()).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Opened::Gone),
        // A link, or a socket.
        Err(error) if [Errno::ELOOP, Errno::ENXIO].map(|code| Some(code as i32)).contains(&error.raw_os_error()) => {
            return Ok(Opened::Other);
        }
        Err(error) => return Err(error),
    };
    let meta = file.metadata()?;
    Ok(if meta.is_file() && meta.len() == bytes { Opened::File(file) } else { Opened::Other })
}

/// The content of a file, if it is what its entry says; `None`: it is not there.
pub(super) fn content(directory: &Path, entry: &Entry) -> io::Result<Option<Result<Vec<u8>, ()>>> {
    let file = match open(&directory.join(entry.file()), entry.bytes)? {
        Opened::Gone => return Ok(None),
        Opened::Other => return Ok(Some(Err(()))),
        Opened::File(file) => file,
    };
    let mut content = Vec::new();
    file.take(entry.bytes + 1).read_to_end(&mut content)?;
    let whole = content.len() as u64 == entry.bytes && sha256(&content) == entry.sha256;
    Ok(Some(if whole { Ok(content) } else { Err(()) }))
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

/// What is missing to a batch that nobody writes any more for all of it to be on disk: names for these drafts. `None`: more than that.
/// What the living `life` drafts is another batch's, whatever is in it.
pub(super) fn unnamed(
    directory: &Path,
    life: Option<&str>,
    entries: &[Entry],
) -> io::Result<Option<Vec<(PathBuf, String)>>> {
    let left = |name: &String| is_draft(name) && !life.is_some_and(|life| is_of_life(name, life));
    let mut drafts: Vec<String> = names(directory)?.into_iter().filter(left).collect();
    let mut unnamed = Vec::new();
    for entry in entries {
        match is_whole(directory, entry)? {
            Some(true) => continue,
            Some(false) => return Ok(None),
            None => {}
        }
        // Two files of a batch may have the same content: each needs a draft of its own.
        let Some(draft) = take_draft(directory, &mut drafts, entry)? else { return Ok(None) };
        unnamed.push((draft, entry.file()));
    }
    Ok((!entries.is_empty()).then_some(unnamed))
}

fn take_draft(directory: &Path, drafts: &mut Vec<String>, entry: &Entry) -> io::Result<Option<PathBuf>> {
    for at in 0..drafts.len() {
        let Some(name) = drafts.get(at).filter(|name| name.starts_with(&entry.sha256)) else { continue };
        let path = directory.join(name);
        if is(&path, entry)? == Some(true) {
            drafts.swap_remove(at);
            return Ok(Some(path));
        }
    }
    Ok(None)
}

/// Gives what is still [`unnamed`] its name, and syncs all of it.
pub(super) fn forward(directory: &Path, unnamed: &[(PathBuf, String)], entries: &[Entry]) -> io::Result<()> {
    name(directory, unnamed)?;
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

/// Removes the drafts of other lives, except those that an open batch may need. They are of no account: those lives are over.
pub(super) fn sweep_drafts(directory: &Path, life: &str, open: &[Entry]) -> io::Result<usize> {
    let mut removed = 0;
    for name in names(directory)?.iter().filter(|name| is_draft(name) && !is_of_life(name, life)) {
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may end at what it did not expect")]

    use dalsegno_core::RunId;

    use super::*;

    #[test]
    fn what_this_life_writes_is_no_draft_of_a_batch_that_another_one_left() {
        let dir = tempfile::tempdir().unwrap();
        let sha256 = sha256(b"the same words");
        let entry = Entry {
            batch: 7,
            place: 0,
            run: RunId::from("run-1"),
            state: "preparing".to_owned(),
            name: "check-1.log".to_owned(),
            sha256: sha256.clone(),
            bytes: 14,
            voided: None,
            known: true,
        };
        let entries = [entry];
        draft(&dir.path().join(draft_name(&sha256, "living", 0)), b"the same words").unwrap();
        assert_eq!(unnamed(dir.path(), Some("living"), &entries).unwrap(), None);
        let left = dir.path().join(draft_name(&sha256, "dead", 0));
        draft(&left, b"the same words").unwrap();
        let expected = vec![(left, "7-0-check-1.log".to_owned())];
        assert_eq!(unnamed(dir.path(), Some("living"), &entries).unwrap(), Some(expected));
    }
}
