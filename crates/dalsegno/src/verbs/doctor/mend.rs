//! `--fix`: what can be mended without a decision of somebody's. Nothing is deleted that holds work: what is nobody's and holds some is
//! set aside. With a daemon, it is the daemon that does it.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use dalsegno_api::{Client, DAEMON_FILE, TOKEN_FILE};
use dalsegno_core::{LookFor, Machine, mends};
use dalsegno_engine::Inspector as _;
use dalsegno_store::{DATABASE_FILE, OpenOptions, Store, remove_half_written};

use super::{Finding, Patient};
use crate::error::CliError;
use crate::{offline, presence, tokens, verbs};

const CHECK: &str = "mended";
/// How often a daemon that was asked is looked at, and how long in between.
const LOOKS: u32 = 120;
const PAUSE: Duration = Duration::from_millis(250);

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
    match Client::discover(dir) {
        Ok(client) => done.extend(ask_daemon(&client)),
        Err(_) if dir.is_dir() => done.extend(by_hand(dir)),
        Err(_) => {}
    }
    done
}

/// A daemon looks again, and does what can be done. Waits until it has.
fn ask_daemon(client: &Client) -> Vec<Finding> {
    let looked_at = |client: &Client| client.readiness().ok().and_then(|found| found.looked_at);
    let before = looked_at(client);
    if let Err(error) = client.refresh() {
        return vec![not_done("the daemon could not be asked", &error.to_string())];
    }
    let doing = |action: &str| matches!(action, "reap" | "quarantine" | "recreate_workspace" | "fence_run");
    for _ in 0..LOOKS {
        std::thread::sleep(PAUSE);
        let Ok(found) = client.readiness() else { continue };
        let open = found.plan.iter().any(|step| {
            let of_files = matches!(step.surface.as_str(), "transcripts" | "blobs");
            doing(&step.action) || (of_files && step.action != "none" && step.action != "block")
        });
        if found.looked_at != before && !open {
            return vec![Finding::note(CHECK, "the daemon looked again, and did what could be done")];
        }
    }
    vec![Finding::note(CHECK, "the daemon is still at it")]
}

/// Without a daemon, under the lock of one: what it would do itself about what is nobody's.
fn by_hand(dir: &Path) -> Vec<Finding> {
    let mut done = Vec::new();
    match remove_half_written(dir) {
        Ok(removed) => done.extend(removed.iter().map(|path| {
            Finding::note(CHECK, format!("{} is removed: it was begun and never finished", path.display()))
        })),
        Err(error) => done.push(not_done("what was begun and not finished stays", &error.to_string())),
    }
    if Store::open_read_only(dir).is_err() {
        // There is none, or `state` says what is wrong with it.
        return done;
    }
    match nobodys(dir) {
        Ok(findings) => done.extend(findings),
        Err(error) => done.push(not_done("what is nobody's stays", &error.line())),
    }
    done
}

fn nobodys(dir: &Path) -> Result<Vec<Finding>, CliError> {
    let opened = Store::open(dir, OpenOptions::default())?;
    let machine = Machine::replay(opened.loaded.snapshot, opened.loaded.events)?;
    let state = machine.state();
    let Some(policy) = state.policy() else { return Ok(Vec::new()) };
    let inspector = offline::inspector(dir, opened.store, Some(opened.blobs));
    let runtime = verbs::runtime()?;
    Ok(runtime.block_on(async {
        let seen = inspector.inspect(&LookFor::of(state), &policy).await;
        let mut done = Vec::new();
        for mend in mends(state, &seen) {
            let what = format!("{} of {}", mend.surface().as_str(), mend.member());
            done.push(match inspector.put_right(&policy, &mend).await {
                Ok(words) => Finding::note(CHECK, format!("{what}: {words}")),
                Err(failure) => not_done(&what, &failure.to_string()),
            });
        }
        done
    }))
}

fn not_done(what: &str, why: &str) -> Finding {
    Finding::warning(CHECK, format!("not mended: {what}"), "it stays as it was", format!("see to it: {why}"))
}

fn said(done: io::Result<()>, what: String) -> Finding {
    match done {
        Ok(()) => Finding::note(CHECK, what),
        Err(error) => not_done(&what, &error.to_string()),
    }
}
