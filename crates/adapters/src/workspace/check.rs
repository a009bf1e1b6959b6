//! Checks on a clean checkout of the commit that is to be handed over.

use std::path::Path;
use std::time::Duration;

use dalsegno_engine::core::{CommitId, Failure};
use dalsegno_engine::{CHECK_OUTPUT_BYTES, Checked, Context};
use tempfile::TempDir;

use super::git::{Caller, POINTING, Reach, disk_full, git};
use super::place::{blocking, remove_tree};
use super::repository::{Bare, Remote};
use super::{LocalWorkspaces, disk_is_full, one_line};
use crate::process::{self, Surroundings, run_bounded};

impl LocalWorkspaces {
    pub(super) async fn check(&self, context: &Context, commit: &CommitId, command: &str) -> Result<Checked, Failure> {
        let caller = Caller::of(context);
        let policy = &context.request.policy;
        let checks = self.state_dir.join("checks");
        let dir = blocking("check_not_run", "the place for a check", move || {
            std::fs::create_dir_all(&checks)?;
            tempfile::Builder::new().prefix("check-").tempdir_in(&checks)
        })
        .await?;
        let remote = Remote::of(&caller, policy).await?;
        let bare = self.repositories.hold(&caller, &self.state_dir, &remote).await?;
        let filled = check_out(&caller, &bare, dir.path(), commit).await;
        drop(bare);
        let ran = match filled {
            Ok(()) => run(context, &self.state_dir, dir.path(), command).await,
            Err(failure) => Err(failure),
        };
        remove(dir).await;
        ran
    }
}

/// The directory goes whatever came of the check; what does not go now goes at the next start.
async fn remove(dir: TempDir) {
    let path = dir.keep();
    let gone = blocking("check_not_run", "the place of a check", move || remove_tree(&path)).await;
    if let Err(failure) = gone {
        tracing::warn!(reason = %failure.message, "the checkout of a check could not be removed");
    }
}

async fn check_out(caller: &Caller, bare: &Bare, dir: &Path, commit: &CommitId) -> Result<(), Failure> {
    let what = "the commit cannot be checked out for a check";
    let here = || git(caller, Reach::Local, dir);
    let format = bare.local(caller).args(["rev-parse", "--show-object-format"]).must("check_not_run", what).await?;
    here()
        .args(["init", "--quiet", "--template=", &format!("--object-format={}", format.text()), "."])
        .must("check_not_run", what)
        .await?;
    here()
        .allow_directories()
        .args(["fetch", "--quiet", "--no-write-fetch-head", "--"])
        .arg(&bare.dir)
        .arg(format!("{commit}:refs/dalsegno/check"))
        .must("check_not_run", what)
        .await?;
    here().args(["checkout", "--quiet", "--detach", commit.as_str()]).must("check_not_run", what).await?;
    Ok(())
}

async fn run(context: &Context, state_dir: &Path, dir: &Path, script: &str) -> Result<Checked, Failure> {
    let policy = &context.request.policy;
    let limit_ms = policy.handoff.as_ref().map_or(0, |handoff| handoff.check_timeout_ms);
    let mut command = process::command("sh", &Surroundings::of_check(context, state_dir, dir)?);
    for name in POINTING {
        command.env_remove(name);
    }
    command
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_TERMINAL_PROMPT", "0")
        .arg("-c")
        .arg(script)
        .current_dir(dir);
    let finished =
        run_bounded(command, None, Duration::from_millis(limit_ms), &context.cancel, CHECK_OUTPUT_BYTES).await?;
    if finished.canceled {
        return Err(Failure::retryable("canceled", "the check was stopped on request"));
    }
    let (passed, how) = (finished.success(), finished.how());
    let mut output = match finished.left_out {
        0 => finished.tail,
        // Said where it is read, whoever shows it.
        bytes => format!("[the first {bytes} bytes of what the check said are left out]\n{}", finished.tail),
    };
    if finished.timed_out {
        output.push_str(&format!("\nthe check took longer than {limit_ms} ms and was ended"));
        return Ok(Checked { passed: false, output });
    }
    if !passed && disk_is_full(dir, &output).await {
        return Err(disk_full(&format!("the check found no room: {}", one_line(&output))));
    }
    if !passed && output.trim().is_empty() {
        output = format!("the check said nothing and ended with {how}");
    }
    Ok(Checked { passed, output })
}
