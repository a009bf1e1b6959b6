//! What verbs that send an action to the daemon share.

use std::time::Duration;

use dalsegno_api::{Action, Client, Completion, Receipt, Target, code};
use serde_json::{Map, Value};

use crate::error::CliError;
use crate::settings::{Settings, user};
use crate::text::clean;
use crate::{out, presence};

/// Looks at what became of an accepted action, at most.
const LOOKS: u32 = 300;
/// Wait between two of them.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Sends an action to the daemon and tells its answer; `done` says that it was accepted.
pub(super) fn act(
    kind: &str,
    target: Target,
    payload: Map<String, Value>,
    settings: &Settings,
    done: &str,
) -> Result<(), CliError> {
    let client = Client::discover(&settings.state_dir)?;
    send(&client, kind, target, payload, settings)?;
    if !settings.json {
        out::line(done);
    }
    Ok(())
}

/// Sends an action to the daemon and waits until it is carried out; `done` says that it was, and what came of it follows.
pub(super) fn act_through(
    kind: &str,
    target: Target,
    payload: Map<String, Value>,
    settings: &Settings,
    done: &str,
) -> Result<(), CliError> {
    let client = Client::discover(&settings.state_dir)?;
    let receipt = send(&client, kind, target, payload, settings)?;
    for _ in 0..LOOKS {
        match client.action(&receipt.action_id)?.completion {
            None => std::thread::sleep(LOOK_AGAIN),
            Some(Completion { code: Some(code), reason, .. }) => {
                return Err(CliError::new(&code, clean(&reason.unwrap_or_default())));
            }
            Some(Completion { result, .. }) => {
                if !settings.json {
                    out::line(&result.map_or_else(|| done.to_owned(), |result| format!("{done} {}", clean(&result))));
                }
                return Ok(());
            }
        }
    }
    let why = format!("{} is accepted and not carried out yet", receipt.action_id);
    Err(CliError::new("action_pending", why).hint("`dalsegno events` tells when it is; nothing has to be sent again"))
}

fn send(
    client: &Client,
    kind: &str,
    target: Target,
    payload: Map<String, Value>,
    settings: &Settings,
) -> Result<Receipt, CliError> {
    let key = settings.idempotency_key.clone().map_or_else(presence::random::<12>, Ok)?;
    let action = Action {
        schema_version: 1,
        action_kind: kind.to_owned(),
        target,
        correlation_id: None,
        idempotency_key: Some(key.clone()),
        on_duplicate: None,
        payload,
    };
    let receipt = client.act(&action).map_err(|error| {
        let unsure = error.detail.code == code::DAEMON_UNREACHABLE;
        let error = CliError::from(error);
        let hint = format!(
            "nobody knows whether it was accepted; the same with `--idempotency-key {key}` does it once at most"
        );
        if unsure { error.hint(hint) } else { error }
    })?;
    if settings.json {
        out::json(&receipt);
    }
    if receipt.status == "accepted" {
        return Ok(receipt);
    }
    let exit = receipt.exit_code();
    let Receipt { code, reason, .. } = receipt;
    Err(CliError::new(code.as_deref().unwrap_or("rejected"), clean(&reason.unwrap_or_default())).exit(exit))
}

/// The daemon itself.
pub(super) fn daemon() -> Target {
    Target { kind: "daemon".to_owned(), id: String::new() }
}

/// A handoff is named by its issue or by the id of its saga.
pub(super) fn handoff_target(name: &str) -> Target {
    let kind = if name.contains(".handoff") { "saga" } else { "issue" };
    Target { kind: kind.to_owned(), id: name.to_owned() }
}

/// The payload with these fields, and who says it.
pub(super) fn said<const FIELDS: usize>(fields: [(&str, String); FIELDS]) -> Map<String, Value> {
    let fields = fields.into_iter().chain([("by", user())]);
    fields.map(|(name, value)| (name.to_owned(), Value::from(value))).collect()
}
