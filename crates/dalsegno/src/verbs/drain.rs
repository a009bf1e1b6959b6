//! `dalsegno drain`

use serde_json::Map;

use super::action::{act_through, daemon};
use crate::error::CliError;
use crate::settings::Settings;

/// Take no new work, also after a restart; what is under way goes on
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(crate) fn run(Args {}: Args, settings: &Settings) -> Result<(), CliError> {
    act_through("drain", daemon(), Map::new(), settings, "No new work is taken.")
}
