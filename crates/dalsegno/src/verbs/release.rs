//! `dalsegno release`

use dalsegno_api::Target;
use serde_json::Map;

use super::action::act;
use crate::error::CliError;
use crate::settings::Settings;

/// Let a parked issue run again: its breakers and its count of runs start over
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Its identifier or id
    issue: String,
}

pub(crate) fn run(args: Args, settings: &Settings) -> Result<(), CliError> {
    let target = Target { kind: "issue".to_owned(), id: args.issue };
    act("release", target, Map::new(), settings, "It is released, and may run again.")
}
