//! The routes. One file per noun.

pub(crate) mod actions;
pub(crate) mod changes;
mod daemon;
mod events;
pub(crate) mod issues;
mod login;
pub(crate) mod runs;
mod sagas;
pub(crate) mod state;
mod stream;
mod tokens;
pub(crate) mod usage;

use axum::extract::DefaultBodyLimit;
use axum::http::{StatusCode, Uri};
use axum::routing::{get, post};
use axum::{Router, middleware};
use dalsegno_api::code;

use crate::app::App;
use crate::guard::{LOGIN_PATH, guard};
use crate::metrics::count;
use crate::pages;
use crate::problem::Problem;

pub(crate) use actions::completion;

/// All routes over `app`. Fixed ones win over `/api/v1/{identifier}`.
pub fn router(app: App) -> Router {
    Router::new()
        .route("/healthz", get(daemon::healthz))
        .route("/readyz", get(daemon::readyz))
        .route("/metrics", get(daemon::metrics))
        .route("/api/v1/capabilities", get(daemon::capabilities))
        .route(LOGIN_PATH, get(login::log_in))
        .merge(pages::routes())
        .route("/api/v1/login-links", post(login::make_link))
        .route("/api/v1/tokens", get(tokens::list))
        .route("/api/v1/state", get(state::state))
        .route("/api/v1/refresh", post(state::refresh))
        .route("/api/v1/issues", get(issues::list))
        .route("/api/v1/issues/{id}", get(issues::detail))
        .route("/api/v1/issues/{id}/explain", get(issues::explain))
        .route("/api/v1/issues/{id}/runs", get(issues::runs))
        .route("/api/v1/actions", post(actions::act))
        .route("/api/v1/actions/{id}", get(actions::receipt))
        .route("/api/v1/usage", get(usage::usage))
        .route("/api/v1/budget", get(usage::budget))
        .route("/api/v1/runs", get(runs::list))
        .route("/api/v1/runs/{id}", get(runs::one))
        .route("/api/v1/runs/{id}/transcript", get(runs::transcript))
        .route("/api/v1/runs/{id}/effects", get(runs::effects))
        .route("/api/v1/runs/{id}/diff", get(changes::diff))
        .route("/api/v1/sagas/{id}", get(sagas::one))
        .route("/api/v1/events", get(events::page))
        .route("/api/v1/events/stream", get(stream::stream))
        .route("/api/v1/{identifier}", get(issues::detail))
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
