//! `dalsegno run`

use std::path::PathBuf;

use dalsegno_engine::DriverEnd;

use crate::daemon::{self, DaemonOptions};
use crate::error::CliError;
use crate::{logging, out};

/// Run the daemon: take issues from the tracker and drive agents through them until asked to end
///
/// The first SIGTERM or Ctrl-C takes no new work and waits up to 10 s for what is under way; a second one ends
/// at once. Whatever is left goes on at the next start.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct RunArgs {
    /// The workflow file; its directory holds the state in `.dalsegno/`
    #[arg(default_value = "WORKFLOW.md")]
    pub(crate) workflow: PathBuf,
    /// End when nothing is eligible or running
    #[arg(long)]
    pub(crate) once: bool,
    /// Show what would be dispatched now, and do nothing
    #[arg(long, conflicts_with = "once")]
    pub(crate) dry_run: bool,
    /// Port of the API on 127.0.0.1; 0 takes any free one [default: server.port, else 7272, else any free one]
    #[arg(long)]
    pub(crate) port: Option<u16>,
    /// Log lines as JSON
    #[arg(long)]
    pub(crate) log_json: bool,
}

pub(crate) fn run(args: RunArgs) -> Result<(), CliError> {
    let workflow = std::path::absolute(&args.workflow).map_err(|error| CliError::io("workflow_path", &error))?;
    let state_dir = daemon::default_state_dir(&workflow);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| CliError::io("runtime_unavailable", &error))?;
    if args.dry_run {
        return runtime.block_on(super::dry_run::run(&workflow, &state_dir));
    }
    let options = DaemonOptions { workflow, state_dir: state_dir.clone(), once: args.once, port: args.port };
    let _log = logging::start(&state_dir, args.log_json)?;
    let end = runtime.block_on(daemon::run(options))?;
    match end {
        DriverEnd::Quiet => out::line("Nothing is eligible or running any more."),
        DriverEnd::Stopped => out::line("Ended. What was under way goes on at the next start."),
    }
    Ok(())
}
