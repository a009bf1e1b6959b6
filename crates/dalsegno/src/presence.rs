//! The files by which a running daemon is found.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use dalsegno_api::{DAEMON_FILE, Daemon, TOKEN_FILE};

use crate::error::CliError;

/// The operator token of this daemon, readable for its owner alone. Each start makes another one: what an earlier one
/// showed to somebody opens nothing any more.
pub(crate) fn token(state_dir: &Path) -> Result<String, CliError> {
    let token = random::<24>()?;
    let path = state_dir.join(TOKEN_FILE);
    write(&path, token.as_bytes()).map_err(|error| CliError::unwritable("token_unwritable", &path, &error))?;
    Ok(token)
}

/// So many random bytes, in hexadecimal.
pub(crate) fn random<const BYTES: usize>() -> Result<String, CliError> {
    let mut bytes = [0_u8; BYTES];
    getrandom::fill(&mut bytes).map_err(|error| CliError::new("no_randomness", error.to_string()))?;
    Ok(hex::encode(bytes))
}

/// Says where the daemon is. Its port is open and its token is written by then.
pub(crate) fn announce(state_dir: &Path, url: &str, version: &str) -> Result<(), CliError> {
    let daemon = Daemon {
        pid: std::process::id(),
        url: url.to_owned(),
        started_at: jiff::Timestamp::now().to_string(),
        version: version.to_owned(),
    };
    let json = serde_json::to_vec_pretty(&daemon).map_err(|error| CliError::new("daemon_json", error.to_string()))?;
    let path = state_dir.join(DAEMON_FILE);
    write(&path, &json).map_err(|error| CliError::unwritable("daemon_json_unwritable", &path, &error))
}

/// Nobody is here any more, or not yet. Best effort: a file that stays names a process that does not hold the directory.
pub(crate) fn withdraw(state_dir: &Path) {
    match fs::remove_file(state_dir.join(DAEMON_FILE)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(%error, "{DAEMON_FILE} of a daemon that is gone stays behind");
        }
        _ => {}
    }
}

/// Writes a private file so that a reader sees the old content or the new one, and a power cut brings the old one not back.
pub(crate) fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("new");
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    path.parent().map_or(Ok(()), |dir| fs::File::open(dir)?.sync_all())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn each_start_has_a_token_of_its_own_that_others_cannot_read() {
        let dir = tempfile::tempdir().unwrap();
        let first = token(dir.path()).unwrap();
        let second = token(dir.path()).unwrap();
        assert!(first.len() >= 32 && first != second);
        let file = dir.path().join(TOKEN_FILE);
        assert_eq!(fs::read_to_string(&file).unwrap(), second);
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn what_is_withdrawn_is_gone_and_that_nothing_was_there_is_fine() {
        let dir = tempfile::tempdir().unwrap();
        announce(dir.path(), "http://127.0.0.1:1", "1").unwrap();
        assert_eq!(Daemon::read(dir.path()).unwrap().unwrap().pid, std::process::id());
        withdraw(dir.path());
        withdraw(dir.path());
        assert_eq!(Daemon::read(dir.path()).unwrap(), None);
    }
}
