//! `dalsegno retry`

use dalsegno_api::Target;
use serde_json::Map;

use super::action::act_through;
use crate::error::CliError;
use crate::settings::Settings;

/// Work on an issue again, in a new session; one that its tracker calls done is moved to an active state before
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Its identifier or id
    issue: String,
}

pub(crate) fn run(args: Args, settings: &Settings) -> Result<(), CliError> {
    let target = Target { kind: "issue".to_owned(), id: args.issue };
    act_through("retry", target, Map::new(), settings, "It runs again as soon as a slot is free.")
}
