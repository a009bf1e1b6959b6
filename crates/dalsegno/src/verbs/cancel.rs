//! `dalsegno cancel`

use dalsegno_api::Target;
use serde_json::Map;

use super::action::act_through;
use crate::error::CliError;
use crate::settings::Settings;

/// Stop the work on an issue: its agent is ended, and a handoff that can still be undone is undone
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Its identifier or id
    issue: String,
}

pub(crate) fn run(args: Args, settings: &Settings) -> Result<(), CliError> {
    let target = Target { kind: "issue".to_owned(), id: args.issue };
    act_through("cancel", target, Map::new(), settings, "It is canceled.")
}
