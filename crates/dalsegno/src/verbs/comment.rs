//! `dalsegno comment`

use dalsegno_api::Target;

use super::action::{act_through, said};
use crate::error::CliError;
use crate::settings::Settings;

/// Comment on an issue in its tracker, whichever that is; the daemon writes it, once
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Its identifier or id
    issue: String,
    /// What to say
    body: String,
}

pub(crate) fn run(args: Args, settings: &Settings) -> Result<(), CliError> {
    let target = Target { kind: "issue".to_owned(), id: args.issue };
    act_through("comment", target, said([("body", args.body)]), settings, "The issue has the comment.")
}
