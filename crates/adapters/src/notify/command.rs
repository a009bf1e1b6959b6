//! A command of the user's that is told on its standard input.

use std::path::Path;
use std::time::Duration;

use dalsegno_core::Failure;
use dalsegno_engine::Context;

use crate::process::{self, Surroundings, run_bounded};

/// How long it may take.
const LIMIT: Duration = Duration::from_secs(60);
/// What is kept of its output.
const MAX_TAIL_BYTES: usize = 2 * 1024;

/// Runs it in the project's directory, as hooks are run.
pub(super) async fn tell(context: &Context, script: &str, document: String) -> Result<(), Failure> {
    let mut command = process::command("sh", &Surroundings::of(context));
    command.arg("-lc").arg(script).current_dir(Path::new(&context.request.policy.project_dir));
    let input = Some(format!("{document}\n").into_bytes());
    let finished = run_bounded(command, input, LIMIT, &context.cancel, MAX_TAIL_BYTES).await?;
    if finished.success() {
        return Ok(());
    }
    let how = if finished.timed_out {
        format!("took longer than {} s and was ended", LIMIT.as_secs())
    } else if finished.canceled {
        "was stopped on request".to_owned()
    } else {
        format!("ended with {}", finished.how())
    };
    let said = finished.tail.trim();
    let said = if said.is_empty() { "it said nothing" } else { said };
    Err(Failure::retryable("notify_failed", format!("a command of notify {how}: {said}")))
}
