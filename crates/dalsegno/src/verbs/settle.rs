//! `dalsegno settle`

use clap::builder::PossibleValuesParser;

use super::action::{act_through, handoff_target, said};
use crate::error::CliError;
use crate::settings::Settings;

/// Say how a parked step of a handoff goes on
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The issue, or the id of the handoff's saga
    #[arg(value_name = "ISSUE|SAGA")]
    target: String,
    /// The step, as `dalsegno show` names it
    #[arg(value_parser = PossibleValuesParser::new(["look", "push", "open", "ready", "comment", "move"]))]
    step: String,
    /// `applied`: it took place. `not-applied`: it did not. `retry`: it is tried again. `undone`: it was undone by hand. `skip`: it is left as it is
    #[arg(value_parser = PossibleValuesParser::new(["applied", "not-applied", "retry", "undone", "skip"]))]
    verb: String,
    /// Why; it stays in the record
    #[arg(long, default_value = "")]
    why: String,
}

pub(crate) fn run(args: Args, settings: &Settings) -> Result<(), CliError> {
    let payload = said([("step", args.step), ("verb", args.verb.replace('-', "_")), ("why", args.why)]);
    act_through("settle", handoff_target(&args.target), payload, settings, "It is settled, and the handoff goes on.")
}
