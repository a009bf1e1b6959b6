//! `--fix`: what can be mended without a decision of somebody's. Nothing is deleted but the address of a daemon that is gone.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use dalsegno_api::{Client, DAEMON_FILE, TOKEN_FILE};
use dalsegno_store::DATABASE_FILE;

use super::{Finding, Patient};
use crate::{presence, tokens};

const CHECK: &str = "mended";

/// What of the state directory others may not read.
fn private(state_dir: &Path) -> Vec<(PathBuf, u32)> {
    let files = [DATABASE_FILE, TOKEN_FILE, tokens::TOKENS_FILE].map(|name| (state_dir.join(name), 0o600));
    [(state_dir.to_owned(), 0o700)].into_iter().chain(files).collect()
}

/// Files of the state directory whose mode lets others in, with the mode that they should have.
pub(super) fn too_open(state_dir: &Path) -> Vec<(PathBuf, u32)> {
    let open = |(path, _): &(PathBuf, u32)| fs::symlink_metadata(path).is_ok_and(|meta| meta.mode() & 0o077 != 0);
    private(state_dir).into_iter().filter(open).collect()
}

/// Mends what can be, and says what was done.
pub(super) fn mend(patient: &Patient) -> Vec<Finding> {
    let dir = &patient.state_dir;
    let mut done = Vec::new();
    for (path, mode) in too_open(dir) {
        let set = fs::set_permissions(&path, Permissions::from_mode(mode));
        done.push(said(set, format!("{} is yours alone again", path.display())));
    }
    if dir.join(DAEMON_FILE).exists() && Client::discover(dir).is_err() {
        presence::withdraw(dir);
        done.push(Finding::note(CHECK, "the address of a daemon that is gone is forgotten"));
    }
    done
}

fn said(done: io::Result<()>, what: String) -> Finding {
    match done {
        Ok(()) => Finding::note(CHECK, what),
        Err(error) => {
            Finding::warning(CHECK, format!("not mended: {what}"), "it stays as it was", format!("see to it: {error}"))
        }
    }
}
