//! The routes. One file per noun.

pub(crate) mod actions;
pub(crate) mod changes;
mod daemon;
mod events;
pub(crate) mod files;
pub(crate) mod issues;
mod login;
pub(crate) mod readiness;
pub(crate) mod runs;
pub(crate) mod sagas;
pub(crate) mod state;
mod stream;
mod tokens;
pub(crate) mod usage;
mod webhooks;

use axum::extract::DefaultBodyLimit;
use axum::http::{StatusCode, Uri};
use axum::routing::{MethodRouter, get, post};
use axum::{Router, middleware};
use dalsegno_api::code;

use crate::app::App;
use crate::guard::{LOGIN_PATH, guard};
use crate::metrics::count;
use crate::openapi::openapi;
use crate::pages;
use crate::problem::Problem;

pub(crate) use actions::{completion, foreign as foreign_action};
pub(crate) use events::MAX_EVENTS;
pub(crate) use issues::{MAX_ISSUES, MAX_RUNS};
pub(crate) use runs::{MAX_EFFECTS, MAX_ENTRIES};

/// The routes of the API. Fixed ones win over `/api/v1/{identifier}`. What each takes and answers is in `openapi.rs`.
pub(crate) fn api() -> Vec<(&'static str, MethodRouter<App>)> {
    vec![
        ("/healthz", get(daemon::healthz)),
        ("/readyz", get(daemon::readyz)),
        ("/metrics", get(daemon::metrics)),
        (LOGIN_PATH, get(login::log_in)),
        ("/api/v1/openapi.json", get(openapi)),
        ("/api/v1/capabilities", get(daemon::capabilities)),
        ("/api/v1/readiness", get(readiness::readiness)),
        ("/api/v1/login-links", post(login::make_link)),
        ("/api/v1/tokens", get(tokens::list)),
        ("/api/v1/state", get(state::state)),
        ("/api/v1/refresh", post(state::refresh)),
        ("/api/v1/issues", get(issues::list)),
        ("/api/v1/issues/{id}", get(issues::detail)),
        ("/api/v1/issues/{id}/explain", get(issues::explain)),
        ("/api/v1/issues/{id}/runs", get(issues::runs)),
        ("/api/v1/actions", post(actions::act)),
        ("/api/v1/actions/{id}", get(actions::receipt)),
        ("/api/v1/usage", get(usage::usage)),
        ("/api/v1/budget", get(usage::budget)),
        ("/api/v1/runs", get(runs::list)),
        ("/api/v1/runs/{id}", get(runs::one)),
        ("/api/v1/runs/{id}/transcript", get(runs::transcript)),
        ("/api/v1/runs/{id}/effects", get(runs::effects)),
        ("/api/v1/runs/{id}/diff", get(changes::diff)),
        ("/api/v1/runs/{id}/files", get(files::list)),
        ("/api/v1/runs/{id}/files/{file}", get(files::content)),
        ("/api/v1/sagas/{id}", get(sagas::one)),
        ("/api/v1/webhooks/{tracker}", post(webhooks::take).layer(DefaultBodyLimit::max(webhooks::MAX_BYTES))),
        ("/api/v1/events", get(events::page)),
        ("/api/v1/events/stream", get(stream::stream)),
        ("/api/v1/{identifier}", get(issues::detail)),
    ]
}

/// All routes over `app`: those of the API, and the pages.
pub fn router(app: App) -> Router {
    let routes = api().into_iter().fold(pages::routes(), |router, (path, methods)| router.route(path, methods));
    routes
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(DefaultBodyLimit::max(app.limits.body))
        .layer(middleware::from_fn_with_state(app.clone(), guard))
        .layer(middleware::from_fn_with_state(app.clone(), count))
        .with_state(app)
}

async fn not_found(uri: Uri) -> Problem {
    let path: String = uri.path().chars().take(120).collect();
    let message = format!("nothing is served under {path}");
    Problem::new(StatusCode::NOT_FOUND, code::ROUTE_NOT_FOUND, message, "the API begins at /api/v1/state")
}

async fn method_not_allowed(uri: Uri) -> Problem {
    let path: String = uri.path().chars().take(120).collect();
    let message = format!("{path} is not served with this method");
    Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        code::METHOD_NOT_ALLOWED,
        message,
        "the `Allow` header names the others",
    )
}
