//! The routes without a socket, for whoever reads a store in its own process.

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::Request;
use tower::ServiceExt;

use crate::app::App;
use crate::routes::router;

/// Largest answer that is read.
const MAX_ANSWER: usize = 64 * 1024 * 1024;

/// Answers requests that never leave the process.
#[derive(Debug, Clone)]
pub struct Inside {
    router: Router,
}

impl Inside {
    /// The routes over `app`.
    #[must_use]
    pub fn new(app: App) -> Self {
        Self { router: router(app) }
    }

    /// Status and body of the answer to a request; `target` is path and query, `body` the JSON that goes with it.
    ///
    /// # Errors
    /// In words, when the request is none, or the answer is larger than 64 MiB.
    pub async fn answer(&self, method: &str, target: &str, body: Option<Vec<u8>>) -> Result<(u16, Vec<u8>), String> {
        let body = body.map_or_else(Body::empty, Body::from);
        let request = Request::builder().method(method).uri(target).header("host", "localhost").body(body);
        let request = request.map_err(|error| error.to_string())?;
        let Ok(response) = self.router.clone().oneshot(request).await;
        let status = response.status().as_u16();
        let body = to_bytes(response.into_body(), MAX_ANSWER).await.map_err(|error| error.to_string())?;
        Ok((status, body.to_vec()))
    }
}
