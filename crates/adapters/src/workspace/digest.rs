//! A hash over what is uncommitted, or over a directory without git: whether a turn changed anything at all.
//!
//! Bounded: of files beyond the limits only size and time of change count, and past the last limit nothing does.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::fs::{self, Metadata};
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use sha2::{Digest as _, Sha256};

/// Bytes of content that one look reads.
const MAX_BYTES: u64 = 16 * 1024 * 1024;
/// Files and directories that one look counts.
const MAX_FILES: usize = 20_000;

/// Hash over the entries of `git status --porcelain -z` and the content of what they name; `None`: there are none.
pub(super) fn of_status(top: &Path, status: &[u8]) -> Option<String> {
    let entries: Vec<&[u8]> = status.split(|byte| *byte == 0).filter(|entry| entry.len() > 3).collect();
    if entries.is_empty() {
        return None;
    }
    let mut sum = Sum::new(top);
    for entry in entries {
        sum.word(entry);
        let path = entry.get(3..).unwrap_or_default();
        sum.tree(PathBuf::from(OsStr::from_bytes(path.strip_suffix(b"/").unwrap_or(path))));
    }
    Some(sum.end())
}

/// Hash over all files of a directory; `None`: there are none.
pub(super) fn of_directory(top: &Path) -> Option<String> {
    let mut sum = Sum::new(top);
    sum.tree(PathBuf::new());
    (sum.files > 1).then(|| sum.end())
}

struct Sum<'a> {
    top: &'a Path,
    hash: Sha256,
    bytes: u64,
    files: usize,
}

impl<'a> Sum<'a> {
    fn new(top: &'a Path) -> Self {
        Self { top, hash: Sha256::new(), bytes: 0, files: 0 }
    }

    fn end(self) -> String {
        hex::encode(self.hash.finalize())
    }

    /// With its length, so that two words are not one.
    fn word(&mut self, word: &[u8]) {
        self.hash.update(u64::try_from(word.len()).unwrap_or(u64::MAX).to_le_bytes());
        self.hash.update(word);
    }

    /// What is at the path, with all below it, in a fixed order. Follows no link.
    fn tree(&mut self, path: PathBuf) {
        let mut open = VecDeque::from([path]);
        while let Some(path) = open.pop_front() {
            self.files += 1;
            if self.files > MAX_FILES {
                return;
            }
            self.word(path.as_os_str().as_bytes());
            let full = self.top.join(&path);
            let Ok(meta) = fs::symlink_metadata(&full) else {
                self.word(b"gone");
                continue;
            };
            if meta.is_dir() {
                let entries = fs::read_dir(&full).into_iter().flatten().flatten();
                let mut below: Vec<PathBuf> =
                    entries.take(MAX_FILES).map(|entry| path.join(entry.file_name())).collect();
                below.sort();
                open.extend(below);
            } else if meta.is_symlink() {
                let target = fs::read_link(&full).unwrap_or_default();
                self.word(target.as_os_str().as_bytes());
            } else {
                self.file(&full, &meta);
            }
        }
    }

    fn file(&mut self, path: &Path, meta: &Metadata) {
        self.word(&(meta.mode() & 0o7777).to_le_bytes());
        let room = MAX_BYTES.saturating_sub(self.bytes);
        if meta.is_file() && meta.len() <= room && self.content(path, room).is_ok() {
            return;
        }
        self.word(&meta.len().to_le_bytes());
        self.word(&meta.mtime().to_le_bytes());
        self.word(&meta.mtime_nsec().to_le_bytes());
    }

    /// A file that grows meanwhile is read no further than there is room; one that became a pipe is not waited for.
    fn content(&mut self, path: &Path, room: u64) -> io::Result<()> {
        let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
        let file = fs::OpenOptions::new().read(true).custom_flags(flags.bits()).open(path)?;
        let mut file = file.take(room);
        let mut buffer = vec![0_u8; 64 * 1024];
        loop {
            let got = file.read(&mut buffer)?;
            if got == 0 {
                return Ok(());
            }
            self.bytes += u64::try_from(got).unwrap_or(u64::MAX);
            self.word(buffer.get(..got).unwrap_or_default());
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn every_change_shows_and_no_change_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path();
        assert_eq!(of_directory(top), None);
        fs::create_dir(top.join("d")).unwrap();
        let mut seen = vec![of_directory(top).unwrap()];
        let changes: [&dyn Fn(); 6] = [
            &|| fs::write(top.join("d/a"), "one").unwrap(),
            &|| fs::write(top.join("d/a"), "two").unwrap(),
            &|| fs::rename(top.join("d/a"), top.join("d/b")).unwrap(),
            &|| symlink("/etc/passwd", top.join("link")).unwrap(),
            &|| fs::File::create(top.join("huge")).unwrap().set_len(MAX_BYTES + 1).unwrap(),
            &|| fs::File::options().write(true).open(top.join("huge")).unwrap().set_len(MAX_BYTES + 2).unwrap(),
        ];
        for change in changes {
            change();
            let now = of_directory(top).unwrap();
            assert_eq!(of_directory(top).unwrap(), now);
            assert!(!seen.contains(&now));
            seen.push(now);
        }
    }

    #[test]
    fn a_pipe_is_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        nix::unistd::mkfifo(&dir.path().join("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(of_directory(dir.path()).is_some());
    }
}
