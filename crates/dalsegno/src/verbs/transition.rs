//! `dalsegno transition`

use dalsegno_api::Target;

use super::action::{act_through, said};
use crate::error::CliError;
use crate::settings::Settings;

/// Move an issue to another state of its tracker, whichever that is, and whatever state it is in
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Its identifier or id
    issue: String,
    /// The state, as the tracker spells it
    state: String,
}

pub(crate) fn run(args: Args, settings: &Settings) -> Result<(), CliError> {
    let target = Target { kind: "issue".to_owned(), id: args.issue };
    act_through("transition_issue", target, said([("state", args.state)]), settings, "It is moved.")
}
