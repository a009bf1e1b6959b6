//! The routes. One file per noun.

mod actions;
mod events;
mod issues;
mod login;
mod runs;
mod sagas;
mod state;
mod stream;
mod tokens;
mod usage;

use axum::extract::{DefaultBodyLimit, State};
use axum::http::{StatusCode, Uri};
use axum::routing::{get, post};
use axum::{Json, Router, middleware};
use dalsegno_api::{Health, code};

use crate::app::App;
use crate::guard::{LOGIN_PATH, guard};
use crate::problem::Problem;

/// All routes over `app`. Fixed ones win over `/api/v1/{identifier}`.
pub fn router(app: App) -> Router {
    Router::new()
        .route("/healthz", get(healthz))
        .route(LOGIN_PATH, get(login::log_in))
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
        .route("/api/v1/sagas/{id}", get(sagas::one))
        .route("/api/v1/events", get(events::page))
        .route("/api/v1/events/stream", get(stream::stream))
        .route("/api/v1/{identifier}", get(issues::detail))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(DefaultBodyLimit::max(app.limits.body))
        .layer(middleware::from_fn_with_state(app.clone(), guard))
        .with_state(app)
}

async fn healthz(State(app): State<App>) -> Json<Health> {
    Json(Health { status: "ok".to_owned(), version: app.version.to_string(), pid: std::process::id() })
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
