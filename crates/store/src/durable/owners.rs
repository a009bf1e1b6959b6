//! Who has scopes, and whether they are alive.
//!
//! An owner is one opened store. Where several processes share a database, each owner holds the lock of a small file of its own beside
//! it, as long as it lives: the operating system lets go of the lock when the process is gone, whatever ended it. So an owner that was killed
//! has nothing from that moment on, and nobody waits for a time to pass.

use std::fs::{File, TryLockError};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::dir;
use crate::error::StoreError;

/// Held while a database is made or brought up to date.
const OPENING: &str = "opening";

/// This owner, and how it knows of others.
#[derive(Debug)]
pub(crate) struct Owner {
    id: String,
    shared: Option<Shared>,
}

#[derive(Debug)]
struct Shared {
    dir: PathBuf,
    _lock: File,
}

impl Owner {
    /// Of a database that nobody else can have: the state directory is locked, so every other owner is gone.
    pub(crate) fn sole() -> Result<Self, StoreError> {
        Ok(Self { id: random()?, shared: None })
    }

    /// Of a database that several processes share.
    pub(super) fn shared(database: &Path) -> Result<Self, StoreError> {
        let dir = folder(database);
        loop {
            let id = random()?;
            let path = dir.join(&id);
            let lock = dir::touch(&path)?;
            lock.lock().map_err(|error| StoreError::io(&path, &error))?;
            // Somebody may have taken it for a dead one's before it was locked.
            let there =
                std::fs::metadata(&path).is_ok_and(|there| lock.metadata().is_ok_and(|ours| ours.ino() == there.ino()));
            if there {
                return Ok(Self { id, shared: Some(Shared { dir, _lock: lock }) });
            }
        }
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// Whether that one is another owner, and is alive.
    pub(super) fn is_alive(&self, other: &str) -> bool {
        let Some(Shared { dir, .. }) = &self.shared else { return false };
        let is_id = other.len() == self.id.len() && other.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_id && other != self.id && is_held(&dir.join(other))
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        if let Some(Shared { dir, .. }) = &self.shared {
            forget(&dir.join(&self.id));
        }
    }
}

/// The hold on a shared database while it is made; waits for whoever has it.
pub(super) fn opening(database: &Path) -> Result<File, StoreError> {
    let dir = folder(database);
    dir::make(&dir)?;
    let path = dir.join(OPENING);
    let lock = dir::touch(&path)?;
    lock.lock().map_err(|error| StoreError::io(&path, &error))?;
    Ok(lock)
}

/// Removes files of owners that are gone. To be called by whoever has [`opening`].
pub(super) fn sweep(database: &Path) {
    let Ok(entries) = std::fs::read_dir(folder(database)) else { return };
    for entry in entries.flatten() {
        if entry.file_name() != OPENING {
            is_held(&entry.path());
        }
    }
}

fn folder(database: &Path) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push(".owners");
    name.into()
}

/// Whether somebody holds the lock of this file; one that nobody holds is removed.
fn is_held(path: &Path) -> bool {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return false,
        Err(error) => {
            tracing::warn!(%error, "whether an owner of scopes is alive cannot be seen; it is taken for alive");
            return true;
        }
    };
    // Shared, so that two who look do not take each other for the owner.
    match file.try_lock_shared() {
        Ok(()) => {
            forget(path);
            false
        }
        Err(TryLockError::WouldBlock) => true,
        Err(TryLockError::Error(error)) => {
            tracing::warn!(%error, "whether an owner of scopes is alive cannot be seen; it is taken for alive");
            true
        }
    }
}

fn forget(path: &Path) {
    if let Err(error) = dir::remove(path) {
        tracing::warn!(%error, "the file of an owner that is gone cannot be removed");
    }
}

fn random() -> Result<String, StoreError> {
    let mut id = [0; 16];
    getrandom::fill(&mut id).map_err(|error| StoreError::Unavailable(format!("no random bytes: {error}")))?;
    Ok(hex::encode(id))
}
