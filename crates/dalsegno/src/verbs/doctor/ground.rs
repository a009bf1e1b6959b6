//! The ground that a daemon stands on: git, containment, processes, disk, clock.

use std::path::Path;

use dalsegno_adapters::process::{probe as probe_sandbox, ready as sandbox_ready};
use dalsegno_core::Sandbox;
use dalsegno_engine::Reads as _;
use dalsegno_store::Store;

use super::{Finding, Patient};
use crate::survey;

/// Oldest git that does everything that is asked of it.
const OLDEST_GIT: (u32, u32) = (2, 32);
/// Free space below which a daemon soon cannot write.
const LITTLE_BYTES: u64 = 200 * 1024 * 1024;
/// Free space below which a few workspaces fill the disk.
const SCARCE_BYTES: u64 = 2 * 1024 * 1024 * 1024;
/// No clock can be before this program was written: 2026-01-01.
const EARLIEST_MS: i64 = 1_767_225_600_000;

pub(super) async fn git() -> Vec<Finding> {
    let remedy = format!("install git {}.{} or newer", OLDEST_GIT.0, OLDEST_GIT.1);
    let consequence = "no repository can be cloned and nothing handed over";
    let said = survey::version(Path::new("git")).await;
    let numbers = said.text.strip_prefix("git version ").and_then(|version| {
        let mut parts = version.split('.');
        Some((parts.next()?.parse::<u32>().ok()?, parts.next()?.parse::<u32>().ok()?))
    });
    vec![match numbers {
        Some(version) if said.ok && version >= OLDEST_GIT => Finding::ok("git", said.text),
        Some(_) if said.ok => Finding::error("git", format!("{} is too old", said.text), consequence, remedy),
        Some(_) | None => Finding::error("git", format!("git cannot be asked: {}", said.text), consequence, remedy),
    }]
}

/// What keeps an agent from the rest of the machine.
pub(super) async fn containment(patient: &Patient) -> Vec<Finding> {
    let Some(loaded) = &patient.loaded else { return Vec::new() };
    let sandbox = &loaded.policy.agent.sandbox;
    if let Err(failure) = sandbox_ready(&loaded.policy).await {
        let remedy = failure.hint.clone().unwrap_or_default();
        return vec![Finding::error("sandbox", failure.to_string(), "a daemon refuses to start", remedy)];
    }
    vec![match sandbox {
        Sandbox::Bubblewrap => Finding::ok(
            "sandbox",
            "agents, checks and git in a workspace are contained by bubblewrap: they write the workspace, and no more",
        ),
        Sandbox::Command(_) => Finding::note(
            "sandbox",
            "agents are contained by your own command; what it keeps from them is not examined",
        ),
        Sandbox::None => Finding::warning(
            "sandbox",
            "agent.sandbox is none",
            "an agent, a check or a repository's own code can read and write all that you can: your keys, other projects, this daemon's token",
            match probe_sandbox().await.verdict() {
                Ok(()) => "set agent.sandbox to bubblewrap; it works here".to_owned(),
                Err(failure) => survey::to_contain(failure.hint.as_deref().unwrap_or(&failure.message)),
            },
        ),
    }]
}

/// Whether what a run left running can be found.
pub(super) fn processes() -> Vec<Finding> {
    let own = std::fs::read("/proc/self/environ").is_ok();
    let others = std::fs::read_dir("/proc").is_ok_and(|entries| {
        entries.flatten().filter(|entry| entry.file_name().to_string_lossy().parse::<u32>().is_ok()).take(2).count() > 0
    });
    vec![if own && others {
        Finding::ok("processes", "what agents leave running is found by its mark in /proc and ended")
    } else {
        Finding::error(
            "processes",
            "/proc cannot be read",
            "commands that an agent left running after a crash are not found, and may disturb the next run",
            "mount /proc where the daemon runs",
        )
    }]
}

pub(super) fn disk(patient: &Patient) -> Vec<Finding> {
    let mut places = vec![("the state directory", patient.state_dir.clone())];
    if let Some(loaded) = &patient.loaded {
        places.push(("workspaces", Path::new(&loaded.policy.workspace.root).to_owned()));
    }
    let mut findings: Vec<Finding> = places
        .into_iter()
        .filter_map(|(what, path)| {
            // What is not there yet will be made on the disk of its nearest ancestor.
            let there = path.ancestors().find(|path| path.exists())?;
            Some(match nix::sys::statvfs::statvfs(there) {
                Ok(stat) => space(what, stat.blocks_available().saturating_mul(stat.fragment_size())),
                Err(error) => Finding::note("disk", format!("the disk of {what} cannot be asked: {error}")),
            })
        })
        .collect();
    findings.dedup_by(|a, b| a.severity == b.severity && a.remedy == b.remedy && a.finding == b.finding);
    findings
}

fn space(what: &str, free: u64) -> Finding {
    let found = format!("{} MiB are free for {what}", free / (1024 * 1024));
    match free {
        0..LITTLE_BYTES => {
            Finding::error("disk", found, "the daemon ends when its journal cannot be written", "free some space")
        }
        LITTLE_BYTES..SCARCE_BYTES => {
            Finding::warning("disk", found, "a few workspaces may fill it", "free some space")
        }
        _ => Finding::ok("disk", found),
    }
}

pub(super) fn clock(patient: &Patient) -> Vec<Finding> {
    let now = jiff::Timestamp::now();
    let wrong = |found: String| {
        let consequence = "retries, limits of a day and waits for a quota are measured by it";
        vec![Finding::warning("clock", found, consequence, "set the clock, for example by `timedatectl set-ntp true`")]
    };
    if now.as_millisecond() < EARLIEST_MS {
        return wrong(format!("it is {now} by this machine's clock"));
    }
    let last = Store::open_read_only(&patient.state_dir).ok().and_then(|store| {
        let (_, newest) = store.bounds().ok()?;
        let page = store.events(newest.saturating_sub(1), 1, &dalsegno_engine::EventFilter::default()).ok()?;
        page.events.first().map(|event| event.at)
    });
    match last {
        Some(last) if last.0 > now.as_millisecond() + 60_000 => wrong(format!(
            "it is {now} by this machine's clock, and the journal's last event is {} s younger",
            (last.0 - now.as_millisecond()) / 1_000
        )),
        Some(_) | None => vec![Finding::ok("clock", format!("{}", now.round(jiff::Unit::Second).unwrap_or(now)))],
    }
}

#[cfg(test)]
mod tests {
    use super::super::Severity;
    use super::*;

    #[test]
    fn little_space_is_an_error_before_it_is_none() {
        assert_eq!(space("x", 10).severity, Severity::Error);
        assert_eq!(space("x", LITTLE_BYTES).severity, Severity::Warning);
        assert_eq!(space("x", SCARCE_BYTES).severity, Severity::Ok);
    }
}
