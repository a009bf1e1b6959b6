//! `dalsegno refresh`

use serde_json::Map;

use super::action::{act_through, daemon};
use crate::error::CliError;
use crate::settings::Settings;

/// Read the tracker now
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(crate) fn run(Args {}: Args, settings: &Settings) -> Result<(), CliError> {
    act_through("refresh", daemon(), Map::new(), settings, "The tracker is being read.")
}
