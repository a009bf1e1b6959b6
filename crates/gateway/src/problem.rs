//! Errors on their way to the client.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use dalsegno_api::{Cursor, ErrorBody, ErrorDetail, code};
use dalsegno_core::Failure;
use dalsegno_engine::ReadError;

/// An answer that is an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    status: StatusCode,
    detail: ErrorDetail,
    /// Seconds to wait before the next try.
    retry_after: Option<u64>,
}

/// Beside an answer that refuses a caller: the code, for the count of refused writes.
#[derive(Debug, Clone)]
pub(crate) struct Refusal(pub(crate) String);

impl Problem {
    pub(crate) fn new(status: StatusCode, code: &str, message: impl Into<String>, hint: &str) -> Self {
        let detail = ErrorDetail { hint: Some(hint.to_owned()), ..ErrorDetail::new(code, message) };
        Self { status, detail, retry_after: None }
    }

    pub(crate) fn status(&self) -> StatusCode {
        self.status
    }

    pub(crate) fn detail(&self) -> &ErrorDetail {
        &self.detail
    }

    /// The same, with how many seconds to wait.
    pub(crate) fn retry_after(self, seconds: u64) -> Self {
        Self { retry_after: Some(seconds), ..self }
    }

    pub(crate) fn store(error: &ReadError) -> Self {
        tracing::error!(%error, "a read failed");
        let hint = "try again; if it lasts, look at the daemon's log and at the disk";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, code::STORE_UNREADABLE, error.to_string(), hint)
    }

    pub(crate) fn internal() -> Self {
        let hint = "look at the daemon's log, and please report it";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, code::INTERNAL, "a bug of the daemon", hint)
    }

    pub(crate) fn engine(failure: Failure) -> Self {
        Self::failure(StatusCode::SERVICE_UNAVAILABLE, failure)
    }

    pub(crate) fn failure(status: StatusCode, failure: Failure) -> Self {
        let Failure { code, message, hint, retryable: _ } = failure;
        let detail = ErrorDetail { code, message, hint, oldest: None };
        Self { status, detail, retry_after: None }
    }

    pub(crate) fn parameter(name: &str, problem: &str, hint: &str) -> Self {
        let message = format!("the query parameter `{name}` {problem}");
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, code::INVALID_PARAMETER, message, hint)
    }

    pub(crate) fn issue_not_found(key: &str) -> Self {
        let message = format!("no issue has the identifier or id `{}`", shortened(key));
        Self::new(StatusCode::NOT_FOUND, code::ISSUE_NOT_FOUND, message, "list what is there: GET /api/v1/issues")
    }

    pub(crate) fn run_not_found(run: &str) -> Self {
        let message = format!("no run is named `{}`", shortened(run));
        Self::new(StatusCode::NOT_FOUND, code::RUN_NOT_FOUND, message, "list what is there: GET /api/v1/runs")
    }

    pub(crate) fn saga_not_found(saga: &str) -> Self {
        let message =
            format!("no saga has the id `{}`, or it ended so long ago that nothing of it is kept", shortened(saga));
        Self::new(StatusCode::NOT_FOUND, code::SAGA_NOT_FOUND, message, "a run names its own: GET /api/v1/runs/{id}")
    }

    pub(crate) fn file_not_found(run: &str, file: &str) -> Self {
        let message = format!("{} has no file `{}`", shortened(run), shortened(file));
        let hint = "list what is there: GET /api/v1/runs/{id}/files";
        Self::new(StatusCode::NOT_FOUND, code::FILE_NOT_FOUND, message, hint)
    }

    pub(crate) fn file_lost(name: &str, why: &str) -> Self {
        let message = format!("{name} was kept, and cannot be read any more: {why}");
        let hint = "what is left of it is in `blobs` of the state directory, or in `aside` there; how the check ended stands in the journal";
        Self::new(StatusCode::GONE, code::FILE_LOST, message, hint)
    }

    pub(crate) fn cursor_gone(why: &str, oldest: &Cursor) -> Self {
        let hint = "go on from the cursor in `oldest`, and read the state anew: what lies between is not told";
        let mut problem = Self::new(StatusCode::GONE, code::CURSOR_GONE, why, hint);
        problem.detail.oldest = Some(oldest.to_string());
        problem
    }

    pub(crate) fn invalid_cursor(why: impl std::fmt::Display) -> Self {
        let message = format!("the cursor cannot be read: {why}");
        let hint = "use a cursor as an answer gave it, or none to start at the oldest event";
        Self::new(StatusCode::BAD_REQUEST, code::INVALID_CURSOR, message, hint)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let Self { status, detail, retry_after } = self;
        let refusal = Refusal(detail.code.clone());
        let mut response = (status, Json(ErrorBody { error: detail })).into_response();
        if status == StatusCode::UNAUTHORIZED {
            // No token would help a webhook.
            let scheme = if refusal.0.starts_with("webhook_") { "Signature" } else { "Bearer" };
            let scheme = axum::http::HeaderValue::from_static(scheme);
            response.headers_mut().insert(axum::http::header::WWW_AUTHENTICATE, scheme);
        }
        if let Some(seconds) = retry_after {
            response.headers_mut().insert(axum::http::header::RETRY_AFTER, seconds.into());
        }
        let refuses = [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN, StatusCode::TOO_MANY_REQUESTS];
        if refuses.contains(&status) {
            response.extensions_mut().insert(refusal);
        }
        response
    }
}

/// Foreign text is quoted back only in part.
fn shortened(text: &str) -> String {
    text.chars().filter(|character| !character.is_control()).take(80).collect()
}
