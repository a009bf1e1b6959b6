//! Actions: what an operator sends, the receipt, and how it ended.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::exit;

/// `POST /api/v1/actions`: what an operator wants.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Action {
    /// Version of this shape: 1.
    #[schema(minimum = 1, maximum = 1)]
    pub schema_version: u32,
    /// What is to be done: `pause`, `cancel`, `settle`, … (docs/actions.md).
    pub action_kind: String,
    /// To what.
    pub target: Target,
    /// Joins it with what the caller does elsewhere; made when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<String>,
    /// The same key is never executed twice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
    /// What happens with a key that is known: `replay` (the default) or `reject`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_duplicate: Option<String>,
    /// What the kind needs.
    #[serde(default)]
    pub payload: serde_json::Map<String, serde_json::Value>,
}

/// What an action is done to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Target {
    /// `issue`, `run`, `saga` or `daemon`.
    pub kind: String,
    /// Identifier or id, ignoring case.
    #[serde(default)]
    pub id: String,
}

/// The answer to an action.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Receipt {
    /// Version of this shape: 1.
    pub schema_version: u32,
    /// Its name in the journal.
    pub action_id: String,
    /// What it is joined with.
    pub correlation_id: String,
    /// What was wanted.
    pub action_kind: String,
    /// To what.
    pub target: Target,
    /// `accepted` or `rejected`.
    pub status: String,
    /// Why it was rejected: a stable code.
    pub code: Option<String>,
    /// Why, in words.
    pub reason: Option<String>,
    /// Who acted, as far as they are known: the name of their token, or on the daemon's machine the name that they gave (`local`
    /// without one).
    #[serde(default)]
    pub by: Option<String>,
    /// When it was decided.
    pub issued_at: String,
    /// Events that follow from it.
    pub expected_followups: Vec<String>,
    /// This is the answer to an earlier sending.
    pub replayed: bool,
}

impl Receipt {
    /// The HTTP status that goes with the answer: it follows the code.
    #[must_use]
    pub fn http_status(&self) -> u16 {
        match self.code.as_deref() {
            None if self.replayed => 200,
            None => 202,
            Some(code) => refusal_status(code),
        }
    }

    /// The exit code of the command line that goes with the answer, by its status.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        exit::of_status(self.http_status())
    }
}

/// The HTTP status of an action that is refused with this code, with a receipt or without.
#[must_use]
pub fn refusal_status(code: &str) -> u16 {
    match code {
        "not_found" => 404,
        "invalid_payload" | "unknown_action" | "unknown_state" => 422,
        "too_many_actions" => 503,
        _ => 409,
    }
}

/// `GET /api/v1/actions/{id}`: a receipt and what came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ActionState {
    /// The receipt.
    pub receipt: Receipt,
    /// How it ended, once it has.
    pub completion: Option<Completion>,
}

/// How an action ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Completion {
    /// `completed` or `failed`.
    pub status: String,
    /// When.
    pub at: String,
    /// Why it failed: a stable code.
    pub code: Option<String>,
    /// Why, in words.
    pub reason: Option<String>,
    /// What came of it, in a word: the identifier of an issue that was made.
    #[serde(default)]
    pub result: Option<String>,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn status_and_exit_code_of_a_receipt_follow_its_code() {
        for (code, replayed, status, exit) in [
            (None, false, 202, exit::OK),
            (None, true, 200, exit::OK),
            (Some("not_found"), false, 404, exit::NOT_FOUND),
            (Some("invalid_payload"), false, 422, exit::USAGE),
            (Some("unknown_action"), false, 422, exit::USAGE),
            (Some("too_many_actions"), false, 503, exit::of_status(503)),
            (Some("not_parked"), false, 409, exit::REFUSED),
            (Some("idempotency_conflict"), false, 409, exit::REFUSED),
            (Some("of_a_later_version"), false, 409, exit::REFUSED),
        ] {
            let receipt: Receipt = serde_json::from_value(serde_json::json!({
                "schema_version": 1, "action_id": "act-1", "correlation_id": "c", "action_kind": "x",
                "target": {"kind": "issue", "id": "DS-1"}, "status": "rejected", "code": code, "reason": null,
                "issued_at": "2026-01-01T00:00:00.000Z", "expected_followups": [], "replayed": replayed,
            }))
            .unwrap();
            assert_eq!((receipt.http_status(), receipt.exit_code()), (status, exit), "{code:?}");
        }
    }
}
