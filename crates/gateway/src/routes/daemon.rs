//! What is asked of the daemon itself: `GET /healthz`, `/readyz`, `/metrics` and `/api/v1/capabilities`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use dalsegno_api::{self as api, Cursor, Health};
use dalsegno_core::{ACTIONS_KEPT, ActionKind, IssueStatus, Readiness};
use dalsegno_engine::Kept;

use crate::app::App;
use crate::metrics;
use crate::params::Params;
use crate::problem::Problem;

/// Of a daemon that takes no work any more.
const ENDING: &str = "ending";
/// The text format of Prometheus.
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";

pub(crate) async fn healthz(State(app): State<App>) -> Json<Health> {
    Json(Health { status: "ok".to_owned(), version: app.version.to_string(), pid: std::process::id() })
}

pub(crate) async fn readyz(State(app): State<App>) -> (StatusCode, Json<api::Ready>) {
    let readiness = app.control.readiness();
    let ready = readiness.as_ref().is_some_and(Readiness::takes_work);
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(api::Ready { status: readiness.map_or(ENDING, |readiness| readiness.state.as_str()).to_owned() }))
}

pub(crate) async fn metrics(State(app): State<App>, params: Params) -> Result<impl IntoResponse, Problem> {
    params.done()?;
    let streams = app.limits.streams.saturating_sub(app.streams.available_permits());
    let (control, requests, webhooks) = (Arc::clone(&app.control), Arc::clone(&app.requests), app.hooks.counts());
    let version = app.version.clone();
    let text =
        app.read(move |reads| metrics::render(reads, &*control, &requests, &webhooks, &version, streams)).await?;
    Ok(([(CONTENT_TYPE, PROMETHEUS)], text))
}

pub(crate) async fn capabilities(State(app): State<App>, params: Params) -> Result<Json<api::Capabilities>, Problem> {
    params.done()?;
    let (kept, oldest) = app
        .read(|reads| {
            let (oldest, _) = reads.bounds()?;
            let oldest = Cursor::event(reads.journal_id(), oldest.saturating_sub(1)).to_string();
            Ok((reads.kept(), oldest))
        })
        .await?;
    let Kept { events, event_days, ended_runs } = kept;
    let actions_kept = u64::try_from(ACTIONS_KEPT).unwrap_or(u64::MAX);
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    Ok(Json(api::Capabilities {
        version: app.version.to_string(),
        api: 1,
        agents: words(app.offers.agents),
        trackers: words(app.offers.trackers),
        forges: words(app.offers.forges),
        webhooks: words(app.offers.webhooks),
        statuses: IssueStatus::ALL.into_iter().map(|status| status.as_str().to_owned()).collect(),
        actions: ActionKind::ALL
            .into_iter()
            .map(|kind| api::ActionCapability { kind: kind.as_str().to_owned(), targets: words(kind.targets()) })
            .collect(),
        retention: api::Retention {
            events,
            event_days,
            oldest,
            ended_runs,
            receipts: actions_kept,
            idempotency_keys: actions_kept,
        },
    }))
}
