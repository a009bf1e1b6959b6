//! `dalsegno followup`

use dalsegno_api::Target;

use super::action::{act_through, said};
use crate::error::CliError;
use crate::settings::Settings;

/// Make another issue in the tracker that follows from one; the daemon writes it, once
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Identifier or id of the one that it follows from
    issue: String,
    /// Its title
    title: String,
    /// Its description
    #[arg(long)]
    description: Option<String>,
}

pub(crate) fn run(args: Args, settings: &Settings) -> Result<(), CliError> {
    let target = Target { kind: "issue".to_owned(), id: args.issue };
    let mut payload = said([("title", args.title)]);
    payload.extend(args.description.map(|description| ("description".to_owned(), description.into())));
    act_through("create_followup", target, payload, settings, "It is made:")
}
