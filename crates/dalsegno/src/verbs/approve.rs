//! `dalsegno approve` and `dalsegno deny`

use serde_json::Value;

use super::action::{act_through, handoff_target, said};
use crate::error::CliError;
use crate::settings::Settings;

/// Approve what an issue waits for: its handoff, or a permission that its agent asks for
#[derive(Debug, clap::Args)]
pub(crate) struct ApproveArgs {
    /// The issue, or the id of the handoff's saga
    #[arg(value_name = "ISSUE|SAGA")]
    target: String,
    /// What exactly is approved, as `dalsegno show` has it; without it, whatever is waited for now
    #[arg(long)]
    fingerprint: Option<String>,
}

/// Refuse what an issue waits for: its handoff, which is undone, or a permission that its agent asks for
#[derive(Debug, clap::Args)]
pub(crate) struct DenyArgs {
    /// The issue, or the id of the handoff's saga
    #[arg(value_name = "ISSUE|SAGA")]
    target: String,
    /// Why
    #[arg(long, default_value = "")]
    why: String,
    /// What exactly is refused, as `dalsegno show` has it; without it, whatever is waited for now
    #[arg(long)]
    fingerprint: Option<String>,
}

pub(crate) fn approve(args: ApproveArgs, settings: &Settings) -> Result<(), CliError> {
    decide("approve", &args.target, args.fingerprint, None, settings, "It is approved, and goes on.")
}

pub(crate) fn deny(args: DenyArgs, settings: &Settings) -> Result<(), CliError> {
    decide("deny", &args.target, args.fingerprint, Some(args.why), settings, "It is refused.")
}

fn decide(
    kind: &str,
    target: &str,
    fingerprint: Option<String>,
    why: Option<String>,
    settings: &Settings,
    done: &str,
) -> Result<(), CliError> {
    let mut payload = said([]);
    payload.extend(fingerprint.map(|fingerprint| ("fingerprint".to_owned(), Value::from(fingerprint))));
    payload.extend(why.map(|why| ("why".to_owned(), Value::from(why))));
    act_through(kind, handoff_target(target), payload, settings, done)
}
