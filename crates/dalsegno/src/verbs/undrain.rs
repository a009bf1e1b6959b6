//! `dalsegno undrain`

use serde_json::Map;

use super::action::{act_through, daemon};
use crate::error::CliError;
use crate::settings::Settings;

/// Take new work again
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(crate) fn run(Args {}: Args, settings: &Settings) -> Result<(), CliError> {
    act_through("undrain", daemon(), Map::new(), settings, "New work is taken again.")
}
