//! `dalsegno steer`

use dalsegno_api::Target;
use serde_json::{Map, Value};

use super::action::{act_through, who};
use crate::error::CliError;
use crate::settings::Settings;

/// Say something to the agent of a running or paused issue: at once where it takes words in its turn, else with its next prompt
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Its identifier or id
    issue: String,
    /// What to say
    text: String,
}

pub(crate) fn run(args: Args, settings: &Settings) -> Result<(), CliError> {
    let target = Target { kind: "issue".to_owned(), id: args.issue };
    let payload = [("text", args.text), ("by", who())];
    let payload = Map::from_iter(payload.map(|(name, value)| (name.to_owned(), Value::from(value))));
    act_through("steer", target, payload, settings, "The agent hears it.")
}
