//! Where reads come from: the daemon, or without one the store itself, through the same routes.

use std::path::Path;

use dalsegno_api::{Client, ClientError, Daemon, code};

use crate::error::CliError;
use crate::offline;

/// A client, and the daemon behind it; `None` when the store itself answers.
///
/// # Errors
/// `daemon_not_running` when there is neither daemon nor store, or what the store says.
pub(crate) fn find(state_dir: &Path) -> Result<(Client, Option<Daemon>), CliError> {
    match Client::discover(state_dir) {
        Ok(client) => Ok((client, Daemon::read(state_dir)?)),
        Err(error) if no_daemon(&error) => Ok((offline::client(state_dir)?, None)),
        Err(error) => Err(error.into()),
    }
}

/// The same, for who does not care who answers.
///
/// # Errors
/// As for [`find`].
pub(crate) fn open(state_dir: &Path) -> Result<Client, CliError> {
    find(state_dir).map(|(client, _)| client)
}

/// `daemon.json` outlives a daemon that was killed; then nobody answers there.
fn no_daemon(error: &ClientError) -> bool {
    matches!(error.code(), code::DAEMON_NOT_RUNNING | code::DAEMON_UNREACHABLE)
}
