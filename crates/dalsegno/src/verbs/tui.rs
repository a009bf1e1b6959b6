//! `dalsegno tui`

use crate::error::CliError;
use crate::settings::Settings;
use crate::tui;

/// Watch and steer the issues in the terminal: what needs you first, live; `?` shows the keys
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(crate) fn run(_: Args, settings: &Settings) -> Result<(), CliError> {
    tui::run(settings)
}
