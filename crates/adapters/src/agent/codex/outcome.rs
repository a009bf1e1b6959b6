//! What the end of a turn means.

use dalsegno_engine::core::{Failure, Timestamp, TurnOutcome};
use serde_json::Value;

use super::listener::{Ended, Listener};
use crate::agent::text::clip;

/// Longest message taken over from Codex.
pub(super) const MAX_MESSAGE_BYTES: usize = 2 * 1024;
const LOG_IN: &str = "log in with `codex login` as the user of the daemon, or set the variable with the provider's key";

/// What a kind of error means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// The provider said that a limit is used up.
    Limited,
    /// The HTTP status, where there is one, decides; else it may pass.
    Http,
    /// It may pass.
    Passing(&'static str),
    /// It needs somebody's hand: the code and what to do.
    Lasting(&'static str, &'static str),
}

use Verdict::{Http, Lasting, Limited, Passing};

/// Every `codexErrorInfo` of the pinned version. A test compares it with the schema.
const KINDS: [(&str, Verdict); 23] = [
    (
        "contextWindowExceeded",
        Lasting(
            "context_window_exceeded",
            "the session is too long for the model: split the issue, or choose a model with a longer context",
        ),
    ),
    (
        "sessionBudgetExceeded",
        Lasting("session_budget_exceeded", "raise the budget in Codex's own configuration, or split the issue"),
    ),
    ("usageLimitExceeded", Limited),
    ("rateLimitExceeded", Limited),
    ("flexUnavailable", Passing("model_overloaded")),
    ("serverOverloaded", Passing("model_overloaded")),
    ("policyCapacityUnavailable", Passing("model_overloaded")),
    (
        "modelNotFound",
        Lasting(
            "model_not_found",
            "set agent.model, or `model` in Codex's configuration, to one that the provider has",
        ),
    ),
    ("cyberPolicy", Lasting("turn_refused", "read the transcript; reword the issue")),
    ("misalignmentPolicyViolation", Lasting("turn_refused", "read the transcript; reword the issue")),
    (
        "inferenceHookDenied",
        Lasting("turn_refused", "the hook of Codex's workspace denies the request: ask who runs it"),
    ),
    (
        "tooManyDenials",
        Lasting("turn_refused", "too many of its wishes were denied: read the transcript; see questions.auto_approve"),
    ),
    ("internalServerError", Passing("turn_failed")),
    ("unauthorized", Lasting("agent_auth_required", LOG_IN)),
    (
        "badRequest",
        Lasting(
            "model_bad_request",
            "the provider does not take what Codex sends: see Codex's configuration of the model and its provider",
        ),
    ),
    ("threadRollbackFailed", Passing("turn_failed")),
    (
        "sandboxError",
        Lasting(
            "agent_sandbox_failed",
            "Codex's sandbox needs user namespaces: allow them, or set agent.sandbox, or codex.thread_sandbox with codex.turn_sandbox_policy",
        ),
    ),
    ("other", Passing("turn_failed")),
    ("httpConnectionFailed", Http),
    ("responseStreamConnectionFailed", Http),
    ("responseStreamDisconnected", Http),
    ("responseTooManyFailedAttempts", Http),
    ("activeTurnNotSteerable", Passing("turn_failed")),
];

/// The turn as Codex reports it to have ended.
pub(super) fn of(ended: &Ended, listener: &Listener, now: Timestamp) -> TurnOutcome {
    match ended.status.as_str() {
        // We did not ask for it, or the caller would not look here.
        "interrupted" => TurnOutcome::Failed {
            failure: Failure::retryable(
                "turn_cancelled",
                "the agent ended the turn as interrupted, and nobody asked for that",
            ),
        },
        "failed" => of_error(&ended.error, listener, now),
        // Words of later versions: the work is looked at.
        _ => TurnOutcome::Completed,
    }
}

fn of_error(error: &Value, listener: &Listener, now: Timestamp) -> TurnOutcome {
    let (kind, status) = kind_of(error.get("codexErrorInfo").unwrap_or(&Value::Null));
    let said = error.get("message").and_then(Value::as_str).unwrap_or("an error without a message");
    let details = error.get("additionalDetails").and_then(Value::as_str).map(|text| format!(" ({text})"));
    let message = clip(&format!("codex reports {kind}: {said}{}", details.unwrap_or_default()), MAX_MESSAGE_BYTES);
    let verdict = KINDS.iter().find(|(name, _)| *name == kind).map_or(Passing("turn_failed"), |(_, verdict)| *verdict);
    let failure = match (verdict, status) {
        (Limited, _) => return TurnOutcome::RateLimited { reset_at: listener.reset_at(true, now) },
        (Http, Some(429)) => return TurnOutcome::RateLimited { reset_at: listener.reset_at(false, now) },
        (Http, Some(401 | 403)) => Failure::permanent("agent_auth_required", message).hint(LOG_IN),
        (Http, _) => Failure::retryable("model_unreachable", message),
        (Passing(code), _) => Failure::retryable(code, message),
        (Lasting(code, hint), _) => Failure::permanent(code, message).hint(hint),
    };
    TurnOutcome::Failed { failure }
}

/// A kind is a word, or an object with that word as its only key.
fn kind_of(info: &Value) -> (&str, Option<u64>) {
    match info {
        Value::String(kind) => (kind, None),
        Value::Object(map) => match map.iter().next() {
            Some((kind, about)) => (kind, about.get("httpStatusCode").and_then(Value::as_u64)),
            None => ("other", None),
        },
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) => ("other", None),
    }
}

#[cfg(test)]
pub(super) fn kinds() -> Vec<&'static str> {
    KINDS.iter().map(|(kind, _)| *kind).collect()
}
