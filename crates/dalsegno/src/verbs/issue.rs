//! `dalsegno issue`

use super::{issues, show};
use crate::error::CliError;
use crate::settings::Settings;

/// Look at issues
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: IssueVerb,
}

#[derive(Debug, clap::Subcommand)]
enum IssueVerb {
    /// Show one issue
    Show(show::IssueArgs),
    /// List the issues that the daemon knows
    List(issues::Args),
}

pub(crate) fn run(args: Args, settings: &Settings) -> Result<(), CliError> {
    match args.verb {
        IssueVerb::Show(args) => show::issue(&args.issue, settings),
        IssueVerb::List(args) => issues::run(args, settings),
    }
}
