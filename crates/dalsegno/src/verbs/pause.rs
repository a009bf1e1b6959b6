//! `dalsegno pause`

use dalsegno_api::Target;
use serde_json::Map;

use super::action::act_through;
use crate::error::CliError;
use crate::settings::Settings;

/// Hold the work on a running issue: its agent is ended, its session kept, its slot free
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Its identifier or id
    issue: String,
}

pub(crate) fn run(args: Args, settings: &Settings) -> Result<(), CliError> {
    let target = Target { kind: "issue".to_owned(), id: args.issue };
    act_through("pause", target, Map::new(), settings, "It is paused.")
}
