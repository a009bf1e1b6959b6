//! Which databases this process has open.
//!
//! SQLite holds POSIX locks, and of those the system lets go when the process closes any handle on the file, also one that has nothing to do
//! with SQLite. So a file that may be open is not opened beside SQLite.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A file, by device and number.
type Number = (u64, u64);

static OPEN: Mutex<BTreeMap<Number, usize>> = Mutex::new(BTreeMap::new());

/// Held as long as somebody may have connections to a database.
#[derive(Debug)]
pub(crate) struct InUse(Option<Number>);

impl InUse {
    /// Of a database that is there.
    pub(crate) fn of(path: &Path) -> Self {
        let number = number(path);
        if let Some(number) = number {
            *open().entry(number).or_default() += 1;
        }
        Self(number)
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        let Some(number) = self.0 else { return };
        let mut open = open();
        if let Some(count) = open.get_mut(&number) {
            *count -= 1;
            if *count == 0 {
                open.remove(&number);
            }
        }
    }
}

/// Whether somebody in this process may have connections to the database.
pub(crate) fn is_in_use(path: &Path) -> bool {
    number(path).is_some_and(|number| open().contains_key(&number))
}

fn number(path: &Path) -> Option<Number> {
    std::fs::metadata(path).ok().map(|file| (file.dev(), file.ino()))
}

fn open() -> MutexGuard<'static, BTreeMap<Number, usize>> {
    OPEN.lock().unwrap_or_else(PoisonError::into_inner)
}
