//! `dalsegno answer`

use dalsegno_api::Target;

use super::action::{act_through, said};
use crate::error::CliError;
use crate::settings::Settings;

/// Answer what the agent of an issue asked
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Its identifier or id
    issue: String,
    /// What to say
    text: String,
}

pub(crate) fn run(args: Args, settings: &Settings) -> Result<(), CliError> {
    let target = Target { kind: "issue".to_owned(), id: args.issue };
    act_through("answer", target, said([("text", args.text)]), settings, "It is answered.")
}
