//! `dalsegno run`

use std::path::PathBuf;
use std::time::Duration;

use dalsegno_adapters::workflow::WorkflowFile;
use dalsegno_engine::DriverEnd;

use crate::cli::Common;
use crate::daemon::{self, DaemonOptions};
use crate::error::CliError;
use crate::{crash, logging, out, settings};

/// Longest wait for threads that are still busy when everything else has ended.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(3);

/// Run the daemon: take issues from the tracker and drive agents through them until asked to end
///
/// The first SIGTERM or Ctrl-C takes no new work and waits up to 10 s for what is under way; a second one ends
/// at once. Whatever is left goes on at the next start.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Args {
    /// The workflow file; its directory holds the state in `.dalsegno/` [default: WORKFLOW.md]
    #[arg(value_name = "WORKFLOW.md")]
    pub(crate) file: Option<PathBuf>,
    /// End when nothing is eligible or running
    #[arg(long)]
    pub(crate) once: bool,
    /// Show what would be dispatched now, and do nothing
    #[arg(long, conflicts_with = "once")]
    pub(crate) dry_run: bool,
    /// Port of the API; 0 takes any free one [default: server.port, else 7272, else any free one]
    #[arg(long)]
    pub(crate) port: Option<u16>,
}

pub(crate) fn run(args: Args, common: &Common) -> Result<(), CliError> {
    let workflow = settings::workflow_file(args.file.as_deref(), common)?;
    let state_dir = settings::state_dir_of(&workflow);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| CliError::io("runtime_unavailable", &error))?;
    if args.dry_run {
        return runtime.block_on(super::dry_run::run(&workflow, &state_dir));
    }
    // A start that is refused for its workflow leaves nothing behind, not even a log.
    let loaded = WorkflowFile::new(&workflow).load_full()?;
    let options = DaemonOptions { workflow, loaded, state_dir: state_dir.clone(), once: args.once, port: args.port };
    let _log = logging::start(&state_dir, common.json)?;
    let end = runtime.block_on(daemon::run(options));
    // A blocked thread (a hung disk) is left behind; what it was doing is in doubt, and the next start settles it.
    runtime.shutdown_timeout(SHUTDOWN_LIMIT);
    let end = end?;
    crash::count();
    let words = match end {
        DriverEnd::Quiet => "Nothing is eligible or running any more.",
        DriverEnd::Stopped => "Ended. What was under way goes on at the next start.",
    };
    out::patiently(|| out::line(words));
    Ok(())
}
