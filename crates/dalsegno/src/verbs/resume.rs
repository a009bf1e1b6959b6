//! `dalsegno resume`

use dalsegno_api::Target;
use serde_json::Map;

use super::action::act_through;
use crate::error::CliError;
use crate::settings::Settings;

/// Go on with a paused issue, in its session
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Its identifier or id
    issue: String,
}

pub(crate) fn run(args: Args, settings: &Settings) -> Result<(), CliError> {
    let target = Target { kind: "issue".to_owned(), id: args.issue };
    act_through("resume", target, Map::new(), settings, "It goes on as soon as a slot is free.")
}
