//! `POST /api/v1/webhooks/{tracker}`: a service says that something changed.
//!
//! No token is asked for and no host is checked: the signature is the authority here, under whatever name a tunnel or a proxy
//! has the service reach the daemon. What it says is not believed beyond that; it has the tracker looked at.

use axum::Json;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use dalsegno_api::{WebhookTaken, code};
use dalsegno_core::Failure;
use dalsegno_engine::Delivery;
use futures::FutureExt as _;

use super::state;
use crate::app::App;
use crate::hooks::{ACCEPTED, DUPLICATE};
use crate::params::Key;
use crate::problem::Problem;

/// Largest body of a webhook, in bytes.
pub(crate) const MAX_BYTES: usize = 2 * 1024 * 1024;

/// Services add parameters to the URL as they like; nothing of it is read.
pub(crate) async fn take(
    State(app): State<App>,
    Key(service): Key,
    request: Request,
) -> Result<(StatusCode, Json<WebhookTaken>), Problem> {
    let taken = taken(&app, &service, request).await;
    let outcome = taken.as_ref().map_or_else(|problem| problem.detail().code.as_str(), |taken| taken.status.as_str());
    app.hooks.count(app.offers.webhooks, &service, outcome);
    let taken = taken?;
    let status = if taken.status == DUPLICATE { StatusCode::OK } else { StatusCode::ACCEPTED };
    Ok((status, Json(taken)))
}

async fn taken(app: &App, service: &str, request: Request) -> Result<WebhookTaken, Problem> {
    let _slot = app.hooks.slot().ok_or_else(busy)?;
    let headers = texts(request.headers());
    let body = state::body(app, request, MAX_BYTES).await?.into();
    let delivery = Delivery { service: service.to_owned(), headers, body };
    let heard = app.control.hear(delivery, app.clock.now());
    let heard = app.ask(heard.map(Ok).boxed()).await?.map_err(refused)?;
    if heard.id.as_ref().is_some_and(|id| app.hooks.knows(service, id)) {
        return Ok(WebhookTaken { status: DUPLICATE.to_owned(), looks_at: None, issue: None });
    }
    let issue = app.ask(app.control.webhook(heard.names)).await?;
    if let Some(id) = heard.id {
        app.hooks.remember(service, &id);
    }
    let looks_at = if issue.is_some() { "issue" } else { "tracker" };
    tracing::debug!(service, looks_at, issue, "a webhook has something looked at");
    Ok(WebhookTaken { status: ACCEPTED.to_owned(), looks_at: Some(looks_at.to_owned()), issue })
}

fn texts(headers: &HeaderMap) -> Vec<(String, String)> {
    let texts =
        headers.iter().filter_map(|(name, value)| Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned())));
    texts.collect()
}

fn refused(failure: Failure) -> Problem {
    let status = match failure.code.as_str() {
        code::WEBHOOK_NOT_CONFIGURED => StatusCode::NOT_FOUND,
        code::WEBHOOK_SIGNATURE | code::WEBHOOK_STALE => StatusCode::UNAUTHORIZED,
        code::INVALID_BODY => StatusCode::UNPROCESSABLE_ENTITY,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    };
    Problem::failure(status, failure)
}

fn busy() -> Problem {
    let message = "as many webhooks are being read as are at once";
    let hint = "send it again in a moment; the tracker is read from time to time anyway";
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, code::WEBHOOK_BUSY, message, hint).retry_after(1)
}
