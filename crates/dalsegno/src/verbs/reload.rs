//! `dalsegno reload`

use dalsegno_api::Target;
use serde_json::Map;

use super::action::act;
use crate::error::CliError;
use crate::settings::Settings;

/// Take a change of WORKFLOW.md that is held, because it runs other code or loosens a rule while handoffs need an approval
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(crate) fn run(_: Args, settings: &Settings) -> Result<(), CliError> {
    let target = Target { kind: "daemon".to_owned(), id: String::new() };
    act("reload", target, Map::new(), settings, "WORKFLOW.md is in force as it is.")
}
