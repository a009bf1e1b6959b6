//! `POST /act`: an action from a form of a page. It goes the way of every action, and leads back to the issue with its receipt.

use axum::extract::{Extension, Request, State};
use axum::http::StatusCode;
use axum::http::header::LOCATION;
use axum::response::{IntoResponse, Response};
use dalsegno_api as api;
use serde_json::{Map, Value};

use super::Sorry;
use super::board::encoded;
use crate::app::App;
use crate::guard::{Caller, Identity};
use crate::params::pairs_of;
use crate::problem::Problem;
use crate::routes::{actions, state};

/// Fields of forms that are no part of the payload.
const OURS: [&str; 2] = ["kind", "issue"];

pub(super) async fn act(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Extension(identity): Extension<Identity>,
    request: Request,
) -> Response {
    match sent(&app, caller, &identity, request).await {
        Ok(to) => (StatusCode::SEE_OTHER, [(LOCATION, to)]).into_response(),
        Err(problem) => Sorry(problem, caller).into_response(),
    }
}

async fn sent(app: &App, caller: Caller, identity: &Identity, request: Request) -> Result<String, Problem> {
    caller.must_operate()?;
    let body = state::body(app, request).await?;
    let fields = pairs_of(&body)?;
    let field = |name: &str| fields.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
    let issue = field("issue").unwrap_or_default();
    let mut payload: Map<String, Value> = fields
        .iter()
        .filter(|(name, value)| !OURS.contains(&name.as_str()) && !value.trim().is_empty())
        // Browsers end the lines of a form with two characters.
        .map(|(name, value)| (name.clone(), Value::from(value.replace("\r\n", "\n"))))
        .collect();
    payload.insert("by".to_owned(), Value::from(identity.name.as_ref()));
    let action = api::Action {
        schema_version: 1,
        action_kind: field("kind").unwrap_or_default(),
        target: api::Target { kind: "issue".to_owned(), id: issue.clone() },
        correlation_id: None,
        idempotency_key: None,
        on_duplicate: None,
        payload,
    };
    let receipt = actions::decide(app, identity, action).await?;
    if receipt.status != "accepted" {
        let status = StatusCode::from_u16(receipt.http_status()).unwrap_or(StatusCode::CONFLICT);
        let reason = receipt.reason.unwrap_or_default();
        return Err(Problem::new(
            status,
            receipt.code.as_deref().unwrap_or("rejected"),
            reason,
            "go back, and look again",
        ));
    }
    Ok(format!("/issues/{}?receipt={}", encoded(&issue), encoded(&receipt.action_id)))
}
