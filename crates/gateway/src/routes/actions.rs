//! `POST /api/v1/actions` and `GET /api/v1/actions/{id}`.

use axum::Json;
use axum::extract::{Extension, Request, State};
use axum::http::header::RETRY_AFTER;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use dalsegno_api::{self as api, code};
use dalsegno_core::{ActionAnswer, ActionKind, ActionRequest, Failure, Receipt};
use dalsegno_engine::content_hash;

use super::state::body;
use crate::access::Owner;
use crate::app::{Access, App};
use crate::convert;
use crate::guard::{Caller, Identity};
use crate::params::{Key, Params};
use crate::problem::Problem;

/// Whoever acts with the token of the state directory and gives no name.
const LOCAL: &str = "local";
/// Longest name that somebody gives themselves, in bytes.
const MAX_BY: usize = 100;
/// When somebody is to come again who was refused because too much waits, in seconds.
const BUSY_SECONDS: u64 = 1;
/// Longest kind, id or key of an action, in bytes.
const MAX_NAME: usize = 256;

pub(crate) async fn act(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Extension(identity): Extension<Identity>,
    params: Params,
    request: Request,
) -> Result<Response, Problem> {
    caller.must_operate()?;
    params.done()?;
    let body = body(&app, request, app.limits.body).await?;
    let action: api::Action = serde_json::from_slice(&body).map_err(|error| invalid(&error.to_string()))?;
    let receipt = decide(&app, &identity, action).await?;
    let status = StatusCode::from_u16(receipt.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = (status, Json(receipt)).into_response();
    if status == StatusCode::SERVICE_UNAVAILABLE {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(BUSY_SECONDS));
    }
    Ok(response)
}

/// Has an action decided; whoever calls has seen to it that the caller may act.
pub(crate) async fn decide(app: &App, identity: &Identity, action: api::Action) -> Result<api::Receipt, Problem> {
    let by = named(identity, &action);
    let request = ActionRequest { by: Some(by.clone()), ..checked(action)? };
    let receipt = match app.ask(app.control.act(request)).await? {
        ActionAnswer::Decided(receipt) => wire(*receipt),
        ActionAnswer::Unrecorded(failure) => return Err(unrecorded(&app.access, failure)),
    };
    let by_cookie = identity.by_cookie;
    let (id, kind, status) = (&receipt.action_id, &receipt.action_kind, &receipt.status);
    tracing::info!(action = id, by, by_cookie, "{id} ({kind}) is {status}, asked for by {by}");
    Ok(receipt)
}

/// A refused action without a receipt: the answer has the status and the code that the receipt would have, and it is one of the refused
/// writes that are told once a minute.
fn unrecorded(access: &Access, failure: Failure) -> Problem {
    if let Access::Guarded(gate) = access {
        gate.refused_write(&failure.code);
    }
    let status = StatusCode::from_u16(api::refusal_status(&failure.code)).unwrap_or(StatusCode::CONFLICT);
    let problem = Problem::failure(status, failure);
    if status == StatusCode::SERVICE_UNAVAILABLE { problem.retry_after(BUSY_SECONDS) } else { problem }
}

/// Who acts, for the journal: the name of the token, which is known; beside it, or on this machine in its place, who the
/// sender says they are.
fn named(identity: &Identity, action: &api::Action) -> String {
    let said = action.payload.get("by").and_then(serde_json::Value::as_str).map(str::trim);
    let said = said.filter(|said| !said.is_empty() && said.len() <= MAX_BY && !said.contains(char::is_control));
    match (&identity.owner, said) {
        (Some(Owner::Token(_)), Some(said)) if said != &*identity.name => format!("{said} ({})", identity.name),
        (Some(Owner::Token(_)), _) => identity.name.to_string(),
        (Some(Owner::Daemon) | None, Some(said)) => said.to_owned(),
        (Some(Owner::Daemon) | None, None) => LOCAL.to_owned(),
    }
}

pub(crate) async fn receipt(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Key(id): Key,
    params: Params,
) -> Result<Json<api::ActionState>, Problem> {
    caller.must_read()?;
    params.done()?;
    let Some(receipt) = app.ask(app.control.receipt(&id)).await? else {
        let hint = "the last 1,000 are remembered; events tell of older ones";
        let message = "no action of this name is remembered";
        return Err(Problem::new(StatusCode::NOT_FOUND, code::ACTION_NOT_FOUND, message, hint));
    };
    let completion = completion(&receipt);
    Ok(Json(api::ActionState { receipt: wire(receipt), completion }))
}

/// How an action ended, once it has.
pub(crate) fn completion(receipt: &Receipt) -> Option<api::Completion> {
    receipt.completed_at.map(|at| api::Completion {
        status: if receipt.failure.is_some() { "failed" } else { "completed" }.to_owned(),
        at: convert::time(at),
        code: receipt.failure.as_ref().map(|failure| failure.code.clone()),
        reason: receipt.failure.as_ref().map(|failure| failure.message.clone()),
        result: receipt.note.clone(),
    })
}

fn invalid(why: &str) -> Problem {
    let message = format!("the body is no action: {why}");
    let hint =
        "send schema_version, action_kind, target and payload (see docs/errors.md under Actions); no other fields";
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, code::INVALID_BODY, message, hint)
}

fn checked(action: api::Action) -> Result<ActionRequest, Problem> {
    let api::Action { schema_version, action_kind, target, correlation_id, idempotency_key, on_duplicate, payload } =
        action;
    if schema_version != 1 {
        return Err(invalid("schema_version is not 1"));
    }
    let names =
        [Some(&action_kind), Some(&target.kind), Some(&target.id), correlation_id.as_ref(), idempotency_key.as_ref()];
    if names.into_iter().flatten().any(|name| name.len() > MAX_NAME || name.contains(char::is_control)) {
        return Err(invalid("a name is too long or holds control characters"));
    }
    let reject_duplicate = match on_duplicate.as_deref() {
        None | Some("replay") => false,
        Some("reject") => true,
        Some(_) => return Err(invalid("on_duplicate is neither replay nor reject")),
    };
    let payload = serde_json::Value::Object(payload);
    let content = content_hash(&serde_json::json!([action_kind, target.kind, target.id.to_lowercase(), payload]));
    Ok(ActionRequest {
        kind: action_kind,
        target_kind: target.kind,
        target_id: target.id,
        correlation_id,
        idempotency_key,
        reject_duplicate,
        by: None,
        content,
        payload,
    })
}

fn wire(receipt: Receipt) -> api::Receipt {
    let Receipt {
        action_id,
        correlation_id,
        action_kind,
        target_kind,
        target_id,
        accepted,
        code,
        reason,
        by,
        issued_at,
        completed_at: _,
        failure: _,
        note: _,
        replayed,
    } = receipt;
    let kind = ActionKind::named(&action_kind).filter(|_| accepted);
    let followups = kind.map_or_else(Vec::new, |kind| [&["action_completion"], kind.followups()].concat());
    api::Receipt {
        schema_version: 1,
        action_id,
        correlation_id,
        action_kind,
        target: api::Target { kind: target_kind, id: target_id },
        status: if accepted { "accepted" } else { "rejected" }.to_owned(),
        code,
        reason,
        by,
        issued_at: convert::time(issued_at),
        expected_followups: followups.into_iter().map(str::to_owned).collect(),
        replayed,
    }
}

/// Reads what passes for the body of an action.
pub(crate) fn foreign(bytes: &[u8]) {
    if let Ok(action) = serde_json::from_slice::<api::Action>(bytes) {
        drop(checked(action));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::Gate;

    #[test]
    fn a_refusal_without_a_receipt_has_the_status_of_one_and_is_counted() {
        let access = Access::guarded(Gate::new("t"));
        for (code, status, again) in
            [("not_found", 404, None), ("not_parked", 409, None), ("too_many_actions", 503, Some("1"))]
        {
            let answer = unrecorded(&access, Failure::permanent(code, "no")).into_response();
            let header = answer.headers().get(RETRY_AFTER).and_then(|seconds| seconds.to_str().ok());
            assert_eq!((answer.status().as_u16(), header), (status, again), "{code}");
        }
        let Access::Guarded(gate) = &access else { panic!("it is guarded") };
        let counted = ["not_found", "not_parked", "too_many_actions"].map(|code| (code.to_owned(), 1));
        assert_eq!(gate.take_refused(), counted.into());
    }
}
