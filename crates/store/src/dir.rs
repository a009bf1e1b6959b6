//! The state directory: made for its owner alone, and held by one daemon at a time.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::StoreError;

/// Name of the database in the state directory.
const DATABASE: &str = "dalsegno.db";
/// Name of the file that the lock is on. The file stays; only the lock means something.
const LOCK: &str = "lock";
/// A holder writes its process id just after it has the lock; how often that is waited for, 10 ms each.
const PID_LOOKS: u32 = 20;

/// Where the database is.
pub(crate) fn database(state_dir: &Path) -> PathBuf {
    state_dir.join(DATABASE)
}

/// Makes the directory, readable by its owner alone, if it is not there.
pub(crate) fn make(dir: &Path) -> Result<(), StoreError> {
    if dir.is_dir() {
        return Ok(());
    }
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|error| StoreError::io(dir, &error))
}

/// Makes an empty file that its owner alone can read, if it is not there.
pub(crate) fn touch(path: &Path) -> Result<File, StoreError> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(|error| StoreError::io(path, &error))
}

/// Makes an empty file that its owner alone can read, and does not open one that is there.
///
/// For databases: SQLite holds locks that the system lets go of when any handle of the process on the file is closed.
pub(crate) fn make_file(path: &Path) -> Result<(), StoreError> {
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(StoreError::io(path, &error)),
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Tries to take the hold before somebody else is believed to have it.
const LOCK_TRIES: u32 = 10;
/// Pause between two of them.
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// The exclusive hold on a state directory. The operating system ends it with the process, and children
/// do not inherit it.
#[derive(Debug)]
pub(crate) struct DirLock {
    _file: File,
}

impl DirLock {
    /// Takes the hold, or says who has it.
    pub(crate) fn take(state_dir: &Path) -> Result<Self, StoreError> {
        let path = state_dir.join(LOCK);
        let mut file = touch(&path)?;
        // A child that a dead holder was just starting has the lock until it becomes another program.
        for tries_left in (0..LOCK_TRIES).rev() {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if tries_left == 0 => {
                    return Err(StoreError::DaemonRunning { pid: holder(&path) });
                }
                Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_PAUSE),
                Err(TryLockError::Error(error)) => return Err(StoreError::io(&path, &error)),
            }
        }
        let write = |file: &mut File| {
            file.set_len(0)?;
            file.rewind()?;
            writeln!(file, "{}", std::process::id())
        };
        write(&mut file).map_err(|error| StoreError::io(&path, &error))?;
        Ok(Self { _file: file })
    }
}

fn holder(path: &Path) -> Option<u32> {
    for _ in 0..PID_LOOKS {
        let mut text = String::new();
        let read = File::open(path).and_then(|file| file.take(32).read_to_string(&mut text));
        if read.is_ok()
            && text.ends_with('\n')
            && let Ok(pid) = text.trim().parse()
        {
            return Some(pid);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    None
}

/// Removes a file; that it is not there is fine.
pub(crate) fn remove(path: &Path) -> std::io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
