//! `dalsegno agent scripted`: the scripted agent, started by the daemon as a child process.

use std::path::PathBuf;

use dalsegno_adapters::agent::scripted::{Options, serve};

use crate::error::CliError;

/// Agents inside this program
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    agent: AgentKind,
}

#[derive(Debug, Clone, clap::Subcommand)]
enum AgentKind {
    /// Speak the Agent Client Protocol on standard input and output, and do what a script says
    Scripted {
        /// File with the turns
        #[arg(long)]
        script: PathBuf,
        /// Identifier of the issue; chooses the list of turns
        #[arg(long)]
        issue: String,
        /// State directory of the daemon; sessions are kept below it
        #[arg(long)]
        state_dir: PathBuf,
    },
}

pub(crate) fn run(args: Args) -> Result<(), CliError> {
    let AgentKind::Scripted { script, issue, state_dir } = args.agent;
    let runtime = super::runtime()?;
    let options = Options { script, issue, state_dir };
    let served = runtime.block_on(serve(tokio::io::stdin(), tokio::io::stdout(), options));
    // A read of standard input may hang in its thread for ever; nothing waits for it.
    runtime.shutdown_background();
    match served {
        Ok(0) => Ok(()),
        Ok(code) => std::process::exit(i32::from(code)),
        Err(failure) => Err(failure.into()),
    }
}
