//! `dalsegno reload`

use serde_json::Map;

use super::action::{act, daemon};
use crate::error::CliError;
use crate::settings::Settings;

/// Take a change of WORKFLOW.md that is held, because it runs other code or loosens a rule while handoffs need an approval
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(crate) fn run(Args {}: Args, settings: &Settings) -> Result<(), CliError> {
    act("reload", daemon(), Map::new(), settings, "WORKFLOW.md is in force as it is.")
}
