//! `dalsegno steer`

use dalsegno_api::Target;

use super::action::{act_through, said};
use crate::error::CliError;
use crate::settings::Settings;

/// Say something to the agent of a running or paused issue: at once where it takes words in its turn, else with its next prompt
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Its identifier or id
    issue: String,
    /// What to say
    text: String,
}

pub(crate) fn run(args: Args, settings: &Settings) -> Result<(), CliError> {
    let target = Target { kind: "issue".to_owned(), id: args.issue };
    act_through("steer", target, said([("text", args.text)]), settings, "The agent hears it.")
}
