//! Why a store cannot be opened or read: a stable code, what, why, and what to do.

use std::io;
use std::path::Path;

use dalsegno_core::Failure;
use dalsegno_engine::ReadError;
use rusqlite::ErrorCode;

/// A store cannot be opened or read. [`StoreError::failure`] has it in the form that everything else shows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Another daemon holds the state directory.
    #[error("daemon_running: {}", .pid.map_or_else(
        || "another daemon holds the state directory".to_owned(),
        |pid| format!("a daemon with process id {pid} holds the state directory"),
    ))]
    DaemonRunning {
        /// Its process id, when it could be read.
        pid: Option<u32>,
    },
    /// The database, an event or a snapshot was written by a newer version. Nothing was changed.
    #[error("future_schema: the {what} has version {found}, and this program knows versions up to {known}")]
    FutureSchema {
        /// What has a version: `database`, `event`, `snapshot`.
        what: &'static str,
        /// Version that was found.
        found: u32,
        /// Newest version that this program reads.
        known: u32,
    },
    /// The file is no database of ours, or is damaged.
    #[error("corrupt_database: {0}")]
    Corrupt(String),
    /// The state directory, or something in it, cannot be written.
    #[error("state_dir_read_only: {0}")]
    ReadOnly(String),
    /// There is no room left.
    #[error("disk_full: {0}")]
    DiskFull(String),
    /// There is no store to read.
    #[error("store_missing: {0}")]
    Missing(String),
    /// Something is in the way, and nothing is written over.
    #[error("output_exists: {0}")]
    Exists(String),
    /// Nothing can be made where a backup is to be.
    #[error("output_failed: {0}")]
    NoPlace(String),
    /// A restore would replace a store.
    #[error("state_exists: {0}")]
    HasData(String),
    /// The position is before what is kept, or beyond the end.
    #[error("not_kept: event {asked} is not kept: the journal reaches from {oldest} to {newest}")]
    NotKept {
        /// The position that was asked for.
        asked: u64,
        /// The first one that can be told of.
        oldest: u64,
        /// The last one.
        newest: u64,
    },
    /// The operating system refused something else.
    #[error("store_unavailable: {0}")]
    Unavailable(String),
}

impl StoreError {
    /// The stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::DaemonRunning { .. } => "daemon_running",
            Self::FutureSchema { .. } => "future_schema",
            Self::Corrupt(_) => "corrupt_database",
            Self::ReadOnly(_) => "state_dir_read_only",
            Self::DiskFull(_) => "disk_full",
            Self::Missing(_) => "store_missing",
            Self::Exists(_) => "output_exists",
            Self::NoPlace(_) => "output_failed",
            Self::HasData(_) => "state_exists",
            Self::NotKept { .. } => "not_kept",
            Self::Unavailable(_) => "store_unavailable",
        }
    }

    /// The same error with its remedy.
    #[must_use]
    pub fn failure(&self) -> Failure {
        let words = self.to_string();
        let message = words.strip_prefix(self.code()).and_then(|rest| rest.strip_prefix(": ")).unwrap_or(&words);
        let failure = match self {
            Self::DiskFull(_) | Self::Unavailable(_) => Failure::retryable(self.code(), message),
            Self::DaemonRunning { .. }
            | Self::FutureSchema { .. }
            | Self::Corrupt(_)
            | Self::ReadOnly(_)
            | Self::Missing(_)
            | Self::Exists(_)
            | Self::NoPlace(_)
            | Self::HasData(_)
            | Self::NotKept { .. } => Failure::permanent(self.code(), message),
        };
        failure.hint(self.remedy())
    }

    fn remedy(&self) -> &'static str {
        match self {
            Self::DaemonRunning { .. } => "stop that daemon first, or use another state directory",
            Self::FutureSchema { .. } => "use the newer version of dalsegno that wrote it; nothing was changed",
            Self::Corrupt(_) => "`dalsegno restore` a backup, or move the state directory away and start anew",
            Self::ReadOnly(_) => {
                "see whether its disk is mounted read-only (a disk with errors becomes so by itself: the system's log says why), and who may write it"
            }
            Self::DiskFull(_) => "free some disk space and start again; nothing acknowledged was lost",
            Self::Missing(_) => "start the daemon once, or name the right state directory",
            Self::Exists(_) => "name another path, or move it away: nothing is written over",
            Self::NoPlace(_) => "name a path on a disk that can be written, in a directory that is there",
            Self::HasData(_) => "`--force` moves it aside, whole, and restores the backup in its place",
            Self::NotKept { .. } => "name a position within what is kept; older ones may be in a backup or an export",
            Self::Unavailable(_) => "check the state directory and its disk, then start again",
        }
    }

    /// What the operating system said about `path`.
    pub(crate) fn io(path: &Path, error: &io::Error) -> Self {
        let kind = error.kind();
        let refused = if kind == io::ErrorKind::ReadOnlyFilesystem { " cannot be written" } else { "" };
        let text = format!("{}{refused}: {error}", path.display());
        if matches!(kind, io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied) {
            Self::ReadOnly(text)
        } else if matches!(kind, io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
            Self::DiskFull(text)
        } else {
            Self::Unavailable(text)
        }
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        let text = error.to_string();
        if let rusqlite::Error::FromSqlConversionFailure(..)
        | rusqlite::Error::IntegralValueOutOfRange(..)
        | rusqlite::Error::InvalidColumnType(..) = error
        {
            return Self::Corrupt(text);
        }
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Self::Corrupt(text),
            Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => Self::ReadOnly(text),
            Some(ErrorCode::DiskFull) => Self::DiskFull(text),
            // A table or column that is not there says so with a plain error: the schema is not ours.
            Some(ErrorCode::Unknown) if text.contains("no such") => Self::Corrupt(text),
            _ => Self::Unavailable(text),
        }
    }
}

impl From<StoreError> for ReadError {
    fn from(error: StoreError) -> Self {
        Self(error.to_string())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test")]
mod tests {
    use super::*;

    #[test]
    fn the_operating_systems_refusals_have_codes() {
        let code = |raw: i32| StoreError::io(Path::new("x"), &io::Error::from_raw_os_error(raw)).code();
        assert_eq!(code(30), "state_dir_read_only", "EROFS");
        assert_eq!(code(13), "state_dir_read_only", "EACCES");
        assert_eq!(code(28), "disk_full", "ENOSPC");
        assert_eq!(code(122), "disk_full", "EDQUOT");
        assert_eq!(code(5), "store_unavailable", "EIO");
    }

    #[test]
    fn a_failure_repeats_its_code_once_and_has_a_remedy() {
        let failure = StoreError::DaemonRunning { pid: Some(7) }.failure();
        assert_eq!(failure.code, "daemon_running");
        assert_eq!(failure.message, "a daemon with process id 7 holds the state directory");
        assert!(failure.hint.unwrap().contains("stop that daemon"));
    }
}
