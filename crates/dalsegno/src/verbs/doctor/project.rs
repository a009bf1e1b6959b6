//! The project: its file, its repository, its tracker, its state directory.

use std::path::Path;
use std::sync::Arc;

use dalsegno_adapters::forge::LocalForges;
use dalsegno_adapters::notify::LocalNotifier;
use dalsegno_adapters::tracker::LocalTrackers;
use dalsegno_adapters::webhook::LocalWebhooks;
use dalsegno_adapters::workflow::WorkflowFile;
use dalsegno_adapters::workspace::LocalWorkspaces;
use dalsegno_api::Client;
use dalsegno_core::{Failure, WorkspaceStrategy};
use dalsegno_engine::{Forges as _, Notifier as _, Trackers as _, Webhooks as _, Workspaces as _};
use dalsegno_store::{DATABASE_FILE, Store, StoreError, half_written};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags};
use nix::unistd::{AccessFlags, faccessat};

use super::{Finding, Patient, mend};
use crate::survey;

const NO_START: &str = "the daemon does not start; one that runs keeps the last good WORKFLOW.md";
const UNTIL_MENDED: &str = "nothing is dispatched until it is mended";

fn remedy(failure: &Failure) -> String {
    failure.hint.clone().unwrap_or_else(|| format!("see {} in docs/errors.md", failure.code))
}

pub(super) fn workflow(patient: &Patient, broken: Option<&Failure>) -> Vec<Finding> {
    let Some(loaded) = &patient.loaded else {
        let Some(failure) = broken else { return Vec::new() };
        let remedy = if failure.code == "missing_workflow_file" { "dalsegno init".to_owned() } else { remedy(failure) };
        return vec![Finding::error("workflow", failure.to_string(), UNTIL_MENDED, remedy)];
    };
    let mut findings: Vec<Finding> = loaded
        .template_problems
        .iter()
        .map(|failure| Finding::error("workflow", failure.to_string(), "each run that meets it fails", remedy(failure)))
        .collect();
    if findings.is_empty() {
        findings.push(Finding::ok("workflow", format!("{} is valid", patient.workflow.display())));
    }
    findings.extend(loaded.unknown_keys.iter().map(|key| {
        let meant = key.nearest.as_ref().map_or("remove it".to_owned(), |nearest| format!("write `{nearest}`"));
        Finding::warning("workflow", format!("nothing reads the key `{}`", key.path), "it has no effect", meant)
    }));
    findings
}

pub(super) async fn repository(patient: &Patient) -> Vec<Finding> {
    let Some(loaded) = &patient.loaded else { return Vec::new() };
    let policy = &loaded.policy;
    let workflow = std::sync::Arc::new(WorkflowFile::new(&patient.workflow));
    if let Err(failure) = LocalWorkspaces::new(&patient.state_dir, workflow).preflight(policy).await {
        return vec![Finding::error("workspace", failure.to_string(), "no workspace can be made", remedy(&failure))];
    }
    let mut findings = vec![Finding::ok("workspace", format!("workspaces are below {}", policy.workspace.root))];
    if policy.workspace.strategy == WorkspaceStrategy::Empty {
        return findings;
    }
    if patient.offline {
        findings.push(Finding::note("remote", "not asked (--offline)"));
        return findings;
    }
    let remote = policy.handoff.as_ref().map_or("origin", |handoff| handoff.remote.as_str());
    let repo = policy.workspace.repo.as_str();
    let (dir, remote) = match Path::new(repo) {
        dir if dir.is_dir() => (dir, remote),
        _ => (patient.project.as_path(), repo),
    };
    let known = survey::git(dir, &["remote"]).await;
    let remote = if dir.as_os_str() == repo && !known.text.lines().any(|name| name == remote) { "." } else { remote };
    let said = survey::git(dir, &["ls-remote", "--symref", "--", remote]).await;
    if !said.ok {
        findings.push(Finding::error(
            "remote",
            format!("the remote {} does not answer: {}", shown(remote), said.text),
            "no workspace can be made and nothing can be handed over",
            "check the URL, the network, and the credentials that git uses here",
        ));
        return findings;
    }
    findings.push(Finding::ok("remote", format!("the remote {} answers", shown(remote))));
    if let Some(base) = &policy.workspace.base
        && !said.text.lines().any(|line| line.ends_with(&format!("/{base}")) || line.starts_with(base.as_str()))
    {
        findings.push(Finding::warning(
            "base",
            format!("no branch or tip of the remote is {base}, which workspace.base names"),
            "a workspace can only be made if it is a commit that some branch holds",
            "correct workspace.base",
        ));
    }
    findings
}

/// A remote without what may be secret in a URL.
fn shown(remote: &str) -> String {
    match (remote.split_once("://"), remote) {
        (_, ".") => "(this repository itself)".to_owned(),
        (Some((scheme, rest)), _) => match rest.rsplit_once('@') {
            Some((_, host)) => format!("{scheme}://…@{host}"),
            None => remote.to_owned(),
        },
        (None, remote) => remote.to_owned(),
    }
}

pub(super) fn tracker(patient: &Patient) -> Vec<Finding> {
    let Some(loaded) = &patient.loaded else { return Vec::new() };
    let tracker = &loaded.policy.tracker;
    match LocalTrackers::new().open(&loaded.policy) {
        Err(failure) => {
            vec![Finding::error("tracker", failure.to_string(), "no issue is seen", remedy(&failure))]
        }
        Ok(opened) => {
            let missing: Vec<String> = opened
                .secret_environment_names()
                .into_iter()
                .filter(|name| survey::set_variables(&[name.as_str()]).is_empty())
                .collect();
            let folder = tracker.provider.get("path").and_then(|path| path.as_str()).unwrap_or("issues");
            let folder = patient.project.join(folder);
            if !missing.is_empty() {
                return vec![Finding::error(
                    "tracker",
                    format!("{} is not set", missing.join(", ")),
                    "the tracker refuses to answer",
                    "set it in the daemon's environment",
                )];
            }
            if tracker.kind == "local" && !folder.is_dir() {
                return vec![Finding::warning(
                    "tracker",
                    format!("there is no folder {}", folder.display()),
                    "there is nothing to do",
                    "dalsegno issue new \"…\"",
                )];
            }
            vec![Finding::ok("tracker", format!("{} in {}", tracker.kind, folder.display()))]
        }
    }
}

/// Whether what the other services are reached or verified with is there, as a start asks.
pub(super) fn services(patient: &Patient) -> Vec<Finding> {
    let Some(loaded) = &patient.loaded else { return Vec::new() };
    let policy = &loaded.policy;
    let found = |check, asked: Result<(), Failure>, words: String| match asked {
        Err(failure) => Finding::error(check, failure.to_string(), NO_START, remedy(&failure)),
        Ok(()) => Finding::ok(check, words),
    };
    let mut findings = Vec::new();
    if let Some(handoff) = &policy.handoff
        && let Some(forge) = &handoff.forge
    {
        findings.push(found("forge", LocalForges::new().preflight(handoff), format!("{} has its token", forge.kind)));
    }
    if !policy.notify.is_empty() {
        let words = format!("{} receivers are told", policy.notify.len());
        findings.push(found("notify", LocalNotifier::new().preflight(policy), words));
    }
    if !policy.webhooks.is_empty() {
        let services: Vec<&str> = policy.webhooks.keys().map(String::as_str).collect();
        let words = format!("those of {} are heard", services.join(", "));
        findings.push(found("webhooks", LocalWebhooks::new().preflight(policy), words));
    }
    findings
}

/// A small database is read through, as a daemon does before it uses one.
fn read_through(store: Arc<Store>) -> Result<Arc<Store>, StoreError> {
    if store.is_small() {
        store.read_through()?;
    }
    Ok(store)
}

/// Whether a daemon could write what it keeps. Asked of the system, so that nothing is written.
fn unwritable(dir: &Path) -> Option<Finding> {
    let asked = [dir.to_owned(), dir.join(DATABASE_FILE)].into_iter().find_map(|path| {
        let refused = faccessat(AT_FDCWD, &path, AccessFlags::W_OK, AtFlags::AT_EACCESS).err()?;
        (refused != Errno::ENOENT).then(|| format!("{} cannot be written: {}", path.display(), refused.desc()))
    });
    let consequence = "no daemon can start, and one that runs ends when it next has something to record";
    let remedy = "see whether its disk is mounted read-only (the system's log says why), and who may write it";
    asked.map(|found| Finding::error("state", found, consequence, remedy))
}

pub(super) fn state(patient: &Patient) -> Vec<Finding> {
    let dir = &patient.state_dir;
    let meta = match std::fs::symlink_metadata(dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return vec![Finding::note("state", format!("no daemon ever ran here: there is no {}", dir.display()))];
        }
        Err(error) => {
            let found = format!("{} cannot be looked at: {error}", dir.display());
            return vec![Finding::error("state", found, "no daemon can start", "see to its permissions")];
        }
        Ok(meta) => meta,
    };
    let mut findings = Vec::new();
    if !meta.is_dir() {
        let found = format!("{} is no directory", dir.display());
        return vec![Finding::error("state", found, "no daemon can start", "move it away")];
    }
    findings.extend(unwritable(dir));
    findings.extend(mend::too_open(dir).into_iter().map(|(path, mode)| {
        Finding::warning(
            "state",
            format!("others may read {}", path.display()),
            "other users of this machine can look into the journal, the transcripts or the tokens",
            format!("dalsegno doctor --fix, or chmod {mode:o} {}", path.display()),
        )
    }));
    findings.extend(half_written(dir).into_iter().map(|path| {
        Finding::warning(
            "state",
            format!("{} was begun and never finished", path.display()),
            "it counts for nothing, and takes room",
            "dalsegno doctor --fix",
        )
    }));
    if dir.join(DATABASE_FILE).metadata().is_ok_and(|file| file.len() == 0) && dir.join("transcripts").is_dir() {
        findings.push(Finding::error(
            "state",
            format!("{} is empty, and runs have left transcripts beside it", dir.join(DATABASE_FILE).display()),
            "the next daemon begins with nothing, and knows none of what was done",
            "`dalsegno restore` a backup",
        ));
    }
    findings.push(match Store::open_read_only(dir).and_then(read_through) {
        Ok(store) => match dalsegno_engine::Reads::bounds(store.as_ref()) {
            Ok((oldest, newest)) => Finding::ok("state", format!("the journal holds the events {oldest} to {newest}")),
            Err(error) => Finding::error("state", error.to_string(), "no daemon can start", "see docs/recovery.md"),
        },
        Err(StoreError::Missing(_)) => Finding::note("state", "there is no journal yet"),
        Err(error) => {
            let failure = error.failure();
            Finding::error("state", failure.to_string(), "no daemon can start; nothing was changed", remedy(&failure))
        }
    });
    findings.push(match Client::discover(dir) {
        Ok(_) => match dalsegno_api::Daemon::read(dir) {
            Ok(Some(daemon)) => Finding::ok(
                "daemon",
                format!("version {} runs as process {} at {}", daemon.version, daemon.pid, daemon.url),
            ),
            Ok(None) | Err(_) => Finding::note("daemon", "none runs"),
        },
        Err(_) => Finding::note("daemon", "none runs"),
    });
    findings
}
