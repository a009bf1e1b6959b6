//! What verbs that send an action to the daemon share.

use dalsegno_api::{Action, Client, Receipt, Target};
use serde_json::{Map, Value};

use crate::error::CliError;
use crate::out;
use crate::settings::Settings;
use crate::text::clean;

/// Sends an action to the daemon and tells its answer; `done` says that it was accepted.
pub(super) fn act(
    kind: &str,
    target: Target,
    payload: Map<String, Value>,
    settings: &Settings,
    done: &str,
) -> Result<(), CliError> {
    let client = Client::discover(&settings.state_dir)?;
    let receipt = client.act(&Action {
        schema_version: 1,
        action_kind: kind.to_owned(),
        target,
        correlation_id: None,
        idempotency_key: None,
        on_duplicate: None,
        payload,
    })?;
    if settings.json {
        out::json(&receipt);
    }
    let exit = receipt.exit_code();
    let Receipt { status, code, reason, .. } = receipt;
    if status == "accepted" {
        if !settings.json {
            out::line(done);
        }
        return Ok(());
    }
    Err(CliError::new(code.as_deref().unwrap_or("rejected"), clean(&reason.unwrap_or_default())).exit(exit))
}
