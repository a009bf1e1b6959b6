//! Directories that are held open.
//!
//! What an agent can write it can also swap, between the look that found a directory in order and the write: a name then
//! leads to whatever the agent chose, such as the user's own repository, which the sandbox keeps it from and not us. So
//! a directory is opened once, never through a link, and from then on it is worked in that very directory.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat, renameat};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{UnlinkatFlags, unlinkat};

/// More than the index of any repository: a million files make about a tenth of it.
const MAX_INDEX_BYTES: u64 = 1024 * 1024 * 1024;
/// How a directory is opened: itself, or not at all.
const DIRECTORY: OFlag = OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

/// A directory, whatever its name leads to by now.
#[derive(Debug)]
pub(super) struct Held {
    fd: OwnedFd,
}

impl Held {
    /// A directory whose parents no agent can change; no link.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { fd: open(path, DIRECTORY, Mode::empty())? })
    }

    /// A directory in it, by one name; no link.
    pub(super) fn sub(&self, name: impl AsRef<OsStr>) -> io::Result<Self> {
        Ok(Self { fd: openat(&self.fd, one(name.as_ref())?, DIRECTORY, Mode::empty())? })
    }

    /// The same, made if it is not there.
    pub(super) fn make(&self, name: impl AsRef<OsStr>) -> io::Result<Self> {
        match mkdirat(&self.fd, one(name.as_ref())?, Mode::from_bits_truncate(0o755)) {
            Ok(()) | Err(Errno::EEXIST) => self.sub(name),
            Err(error) => Err(error.into()),
        }
    }

    /// A path to this very directory, for this process and for children that see its `/proc`.
    pub(super) fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), self.fd.as_raw_fd()))
    }

    /// Whether there is anything by this name.
    pub(super) fn has(&self, name: &str) -> bool {
        fs::symlink_metadata(self.path().join(name)).is_ok()
    }

    /// A plain file in it; links, pipes and whatever else is in its place do not count.
    pub(super) fn file(&self, name: impl AsRef<OsStr>) -> io::Result<Option<File>> {
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        match openat(&self.fd, one(name.as_ref())?, flags, Mode::empty()) {
            Ok(fd) => {
                let file = File::from(fd);
                Ok(file.metadata()?.is_file().then_some(file))
            }
            Err(Errno::ENOENT | Errno::ELOOP | Errno::ENXIO) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Copies a plain file of bounded size out of it, with its time of change.
    pub(super) fn copy_out(&self, name: impl AsRef<OsStr>, to: &Path, max: u64) -> io::Result<()> {
        match self.file(name)? {
            Some(file) if file.metadata()?.len() <= max => copy(file, to, max),
            Some(_) | None => Ok(()),
        }
    }

    /// Copies an index, or a part of one, if there is one by this name.
    ///
    /// # Errors
    /// `FileTooLarge` beyond 1 GiB.
    pub(super) fn copy_index(&self, name: impl AsRef<OsStr>, to: &Path) -> io::Result<()> {
        match self.file(name)? {
            Some(file) if file.metadata()?.len() > MAX_INDEX_BYTES => {
                Err(io::Error::new(io::ErrorKind::FileTooLarge, "the index is larger than 1 GiB"))
            }
            Some(file) => copy(file, to, MAX_INDEX_BYTES),
            None => Ok(()),
        }
    }

    /// Puts a file into it, whole or not at all; what was there by its name is replaced, and a link is not followed.
    pub(super) fn replace(&self, name: &str, fill: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
        let half = format!("{name}.dalsegno");
        self.remove(&half)?;
        // Made anew: what an agent left under this name is not written through.
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let mut file = File::from(openat(&self.fd, one(half.as_ref())?, flags, Mode::from_bits_truncate(0o644))?);
        fill(&mut file)?;
        file.sync_all()?;
        self.rename(&half, self, name)
    }

    /// The same with a text.
    pub(super) fn write(&self, name: &str, text: &str) -> io::Result<()> {
        self.replace(name, |file| file.write_all(text.as_bytes()))
    }

    /// Moves an entry into a directory of the same file system, possibly this one.
    pub(super) fn rename(&self, from: impl AsRef<OsStr>, into: &Self, to: impl AsRef<OsStr>) -> io::Result<()> {
        Ok(renameat(&self.fd, one(from.as_ref())?, &into.fd, one(to.as_ref())?)?)
    }

    /// Removes a file or link; gone is fine.
    pub(super) fn remove(&self, name: impl AsRef<OsStr>) -> io::Result<()> {
        match unlinkat(&self.fd, one(name.as_ref())?, UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

fn copy(file: File, to: &Path, max: u64) -> io::Result<()> {
    let changed = file.metadata()?.modified()?;
    let mut copy = File::create(to)?;
    io::copy(&mut file.take(max), &mut copy)?;
    // By the time of an index git knows which files may have changed in the very moment it was written.
    copy.set_modified(changed)
}

/// One name: no way up, and none through others.
fn one(name: &OsStr) -> io::Result<&OsStr> {
    if name.is_empty() || name == "." || name == ".." || name.as_encoded_bytes().contains(&b'/') {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "a name of one entry was expected"));
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn it_is_the_same_directory_whatever_its_name_leads_to() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir(at("ours")).unwrap();
        fs::create_dir(at("theirs")).unwrap();
        fs::write(at("theirs/index"), "precious").unwrap();
        let held = Held::open(dir.path()).unwrap().sub("ours").unwrap();
        fs::rename(at("ours"), at("moved")).unwrap();
        symlink(at("theirs"), at("ours")).unwrap();
        held.write("index", "new").unwrap();
        held.write("gone", "x").unwrap();
        held.remove("gone").unwrap();
        held.remove("gone").unwrap();
        assert_eq!(fs::read_to_string(at("moved/index")).unwrap(), "new");
        assert_eq!(fs::read_to_string(held.path().join("index")).unwrap(), "new");
        assert_eq!(fs::read_to_string(at("theirs/index")).unwrap(), "precious");
        assert!(Held::open(dir.path()).unwrap().sub("ours").is_err());
    }

    #[test]
    fn links_and_pipes_are_no_files_and_ways_no_names() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let held = Held::open(dir.path()).unwrap();
        fs::write(at("precious"), "x").unwrap();
        symlink(at("precious"), at("link")).unwrap();
        symlink(at("precious"), at("link.dalsegno")).unwrap();
        nix::unistd::mkfifo(&at("pipe"), Mode::S_IRWXU).unwrap();
        assert!(held.file("link").unwrap().is_none() && held.file("pipe").unwrap().is_none());
        held.copy_out("link", &at("copy"), 100).unwrap();
        held.copy_out("precious", &at("copy"), 0).unwrap();
        assert!(!at("copy").exists());
        held.write("link", "new").unwrap();
        assert_eq!(fs::read_to_string(at("precious")).unwrap(), "x");
        assert_eq!(fs::read_to_string(at("link")).unwrap(), "new");
        for name in ["", ".", "..", "a/b", "/"] {
            assert!(held.sub(name).is_err() && held.remove(name).is_err(), "{name}");
        }
    }
}
