//! The project's scripts around a workspace (Symphony §9.4).

use std::path::Path;
use std::time::Duration;

use dalsegno_engine::Context;
use dalsegno_engine::core::{Failure, Hook};

use super::git::{POINTING, disk_full};
use super::{MAX_TAIL_BYTES, disk_is_full, one_line};
use crate::process::{self, Surroundings, run_bounded};

/// Runs a hook in the workspace; without a script for it there is nothing to do.
///
/// The issue's text reaches the script by its environment only.
///
/// # Errors
/// `hook_failed`, `hook_timeout`, `disk_full`, `canceled`.
pub(super) async fn run(context: &Context, path: &Path, hook: Hook) -> Result<String, Failure> {
    let request = &context.request;
    let hooks = &request.policy.hooks;
    let Some(script) = hooks.script(hook) else { return Ok(String::new()) };
    let name = hook.as_str();
    let mut command = process::command("sh", &Surroundings::of(context));
    command.arg("-lc").arg(script).current_dir(path);
    // A daemon that was itself started from a git hook must not point the script's git at that repository.
    for name in POINTING {
        command.env_remove(name);
    }
    command
        .env("DALSEGNO_ISSUE_ID", plain(request.issue.id.as_str()))
        .env("DALSEGNO_ISSUE_IDENTIFIER", plain(&request.issue.identifier))
        .env("DALSEGNO_ISSUE_TITLE", one_line(&request.issue.title))
        .env("DALSEGNO_WORKSPACE", path)
        .env("DALSEGNO_HOOK", name)
        .env("DALSEGNO_ATTEMPT", request.attempt.to_string());
    let issue = request.issue.identifier.as_str();
    tracing::info!(issue_identifier = issue, hook = name, "a hook starts");
    let limit = Duration::from_millis(hooks.timeout_ms);
    let finished = run_bounded(command, None, limit, &context.cancel, MAX_TAIL_BYTES).await?;
    if finished.success() {
        return Ok(finished.tail);
    }
    let said = finished.tail.trim();
    let said = if said.is_empty() { "it said nothing" } else { said };
    let failure = if finished.timed_out {
        Failure::retryable(
            "hook_timeout",
            format!("hooks.{name} took longer than {} ms and was ended: {said}", hooks.timeout_ms),
        )
        .hint("make the script faster, or set hooks.timeout_ms")
    } else if finished.canceled {
        Failure::retryable("canceled", format!("hooks.{name} was stopped on request"))
    } else if disk_is_full(path, said).await {
        disk_full(&format!("hooks.{name} found no room: {said}"))
    } else {
        Failure::retryable("hook_failed", format!("hooks.{name} ended with {}: {said}", finished.how()))
            .hint(format!("see the output; the script is hooks.{name} of WORKFLOW.md"))
    };
    tracing::warn!(issue_identifier = issue, hook = name, code = %failure.code, "a hook failed");
    Err(failure)
}

/// An environment holds no NUL.
fn plain(text: &str) -> String {
    text.chars().filter(|c| *c != '\0').collect()
}
