//! `POST /act`: an action from a form of a page. It goes the way of every action, and leads back to the page with its receipt.

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
const OURS: [&str; 3] = ["kind", "issue", "back"];
/// Fields that are numbers: a form has texts alone.
const NUMBERS: [&str; 5] = ["tokens", "cost_usd", "turns", "runs", "wall_clock_ms"];

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
    let body = state::body(app, request, app.limits.body).await?;
    let fields = pairs_of(&body)?;
    let receipt = actions::decide(app, identity, wanted(&fields, &identity.name)).await?;
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
    let back = match (field(&fields, "back"), field(&fields, "issue")) {
        (Some("board"), _) => "/".to_owned(),
        (_, Some(issue)) => format!("/issues/{}", encoded(issue)),
        (_, None) => "/daemon".to_owned(),
    };
    Ok(format!("{back}?receipt={}", encoded(&receipt.action_id)))
}

/// The action that a form asks for.
fn wanted(fields: &[(String, String)], by: &str) -> api::Action {
    let kind = field(fields, "kind").unwrap_or_default();
    let target = match field(fields, "issue") {
        Some(issue) => api::Target { kind: "issue".to_owned(), id: issue.to_owned() },
        None => api::Target { kind: "daemon".to_owned(), id: String::new() },
    };
    api::Action {
        schema_version: 1,
        action_kind: kind.to_owned(),
        payload: payload(kind, fields, by),
        target,
        correlation_id: None,
        idempotency_key: None,
        on_duplicate: None,
    }
}

fn field<'a>(fields: &'a [(String, String)], name: &str) -> Option<&'a str> {
    fields.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
}

fn payload(kind: &str, fields: &[(String, String)], by: &str) -> Map<String, Value> {
    let given = fields.iter().filter(|(name, value)| !OURS.contains(&name.as_str()) && !value.trim().is_empty());
    let mut payload: Map<String, Value> = given
        .map(|(name, value)| {
            let number = NUMBERS.contains(&name.as_str()).then(|| serde_json::from_str(value.trim()).ok()).flatten();
            // Browsers end the lines of a form with two characters.
            (name.clone(), number.unwrap_or_else(|| Value::from(value.replace("\r\n", "\n"))))
        })
        .collect();
    // Limits are all that a budget takes.
    if kind != "set_budget" {
        payload.insert("by".to_owned(), Value::from(by));
    }
    payload
}

/// Makes an action of what passes for the fields of a form.
pub(crate) fn foreign(fields: &[(String, String)]) {
    drop(wanted(fields, "ada"));
}
