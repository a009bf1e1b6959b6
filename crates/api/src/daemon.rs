//! How a running daemon is found: by files in its state directory, and by its hold on it.

use std::fs::{File, TryLockError};
use std::io::{self, Read};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::client::ClientError;
use crate::error::code;

/// Name of the state directory, beside WORKFLOW.md.
pub const STATE_DIR: &str = ".dalsegno";
/// Says where the daemon listens.
pub const DAEMON_FILE: &str = "daemon.json";
/// Holds the operator token, readable by the owner alone.
pub const TOKEN_FILE: &str = "token";
/// What the daemon holds a lock on as long as it lives, with its process id in it.
pub const LOCK_FILE: &str = "lock";

/// These files are far smaller.
const MAX_FILE: u64 = 64 * 1024;

/// What `daemon.json` says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Daemon {
    /// Process id.
    pub pid: u32,
    /// Base of the API, `http://127.0.0.1:7272`.
    pub url: String,
    /// When it began to serve.
    pub started_at: String,
    /// Its version.
    pub version: String,
}

impl Daemon {
    /// Reads `daemon.json`; `None` when there is none. The daemon may be dead all the same.
    ///
    /// # Errors
    /// `daemon_file_invalid` when the file cannot be read or understood.
    pub fn read(state_dir: &Path) -> Result<Option<Self>, ClientError> {
        let path = state_dir.join(DAEMON_FILE);
        let Some(text) = read_small(&path)? else { return Ok(None) };
        serde_json::from_str(&text)
            .map(Some)
            .map_err(|error| invalid(&path, &error).hint("remove the file if no daemon runs, and start one"))
    }

    /// Whether this very process holds the state directory now. The operating system ends the hold with the process; so
    /// what `daemon.json` says is then said by the living.
    #[must_use]
    pub fn holds(&self, state_dir: &Path) -> bool {
        let path = state_dir.join(LOCK_FILE);
        let Ok(file) = File::open(&path) else { return false };
        // Shared, so that looks do not meet each other. A daemon that meets one at its start tries again.
        if !matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)) {
            return false;
        }
        let holder = read_small(&path).ok().flatten().and_then(|text| text.trim().parse::<u32>().ok());
        // What a process was just starting when it died has its lock for a moment.
        let processes = Path::new("/proc");
        let alive = !processes.join("self").exists() || processes.join(self.pid.to_string()).exists();
        holder == Some(self.pid) && alive
    }
}

/// Reads the operator token; `None` when there is none.
///
/// # Errors
/// `daemon_file_invalid` when the file cannot be read.
pub(crate) fn read_token(state_dir: &Path) -> Result<Option<String>, ClientError> {
    let path = state_dir.join(TOKEN_FILE);
    let token = read_small(&path)?.map(|text| text.trim().to_owned()).filter(|token| !token.is_empty());
    match token {
        Some(token) if token.bytes().all(|byte| byte.is_ascii_graphic()) => Ok(Some(token)),
        Some(_) => Err(invalid(&path, &"it holds characters that no token has")),
        None => Ok(None),
    }
}

fn read_small(path: &Path) -> Result<Option<String>, ClientError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(invalid(path, &error)),
    };
    let mut text = String::new();
    file.take(MAX_FILE).read_to_string(&mut text).map_err(|error| invalid(path, &error))?;
    Ok(Some(text))
}

fn invalid(path: &Path, why: &dyn std::fmt::Display) -> ClientError {
    ClientError::local(code::DAEMON_FILE_INVALID, format!("{} cannot be read: {why}", path.display()))
}
