//! Reads without a daemon: the same routes, over the store, inside this process.

use std::io::BufRead;
use std::path::Path;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::Request as HttpRequest;
use dalsegno_api::{Client, ClientError, Reply, Request, Transport, code};
use dalsegno_core::{Explanation, Failure, Timestamp};
use dalsegno_engine::{Clock, Reads};
use dalsegno_gateway::{Access, App, Control, LiveRun, RefreshAnswer, router};
use futures::future::BoxFuture;
use tokio::sync::watch;
use tower::ServiceExt;

use crate::error::CliError;

/// Largest answer that is read.
const MAX_ANSWER: usize = 64 * 1024 * 1024;

/// A client of the store in the state directory.
///
/// # Errors
/// `daemon_not_running` when no daemon ever ran here.
pub(crate) fn client(state_dir: &Path) -> Result<Client, CliError> {
    Ok(Client::over(InProcess::new(reads(state_dir)?)?))
}

/// The store's reading side.
fn reads(state_dir: &Path) -> Result<Arc<dyn Reads>, CliError> {
    Err(ClientError::not_running(state_dir).into())
}

/// Hands requests to the routes without a socket. Who can open the store is trusted with what is in it.
struct InProcess {
    router: Router,
    runtime: tokio::runtime::Runtime,
}

impl InProcess {
    fn new(reads: Arc<dyn Reads>) -> Result<Self, CliError> {
        let app = App::new(reads, Arc::new(Nobody), Arc::new(Wall), Access::Everybody, env!("CARGO_PKG_VERSION"));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .map_err(|error| CliError::io("runtime_unavailable", &error))?;
        Ok(Self { router: router(app), runtime })
    }
}

impl Transport for InProcess {
    fn send(&self, request: &Request) -> Result<Reply, ClientError> {
        let broken = |why: String| ClientError::local(code::INVALID_ANSWER, why);
        let request = HttpRequest::builder().method(request.method).uri(&request.target).header("host", "localhost");
        let request = request.body(Body::empty()).map_err(|error| broken(error.to_string()))?;
        self.runtime.block_on(async {
            let Ok(response) = self.router.clone().oneshot(request).await;
            let status = response.status().as_u16();
            let body = to_bytes(response.into_body(), MAX_ANSWER).await.map_err(|error| broken(error.to_string()))?;
            Ok(Reply { status, body: body.to_vec() })
        })
    }

    fn open(&self, _: &str, _: Option<&str>) -> Result<Box<dyn BufRead + Send>, ClientError> {
        Err(ClientError::local(code::DAEMON_NOT_RUNNING, "nothing new comes without a daemon")
            .hint("start one with `dalsegno run`"))
    }
}

/// What answers where a live daemon would have to.
struct Nobody;

impl Nobody {
    fn failure() -> Failure {
        Failure::permanent(code::DAEMON_NOT_RUNNING, "only a running daemon can tell")
            .hint("start one with `dalsegno run`")
    }
}

impl Control for Nobody {
    fn explain(&self, _: &str) -> BoxFuture<'static, Result<Option<Explanation>, Failure>> {
        Box::pin(async { Err(Self::failure()) })
    }

    fn refresh(&self) -> BoxFuture<'static, Result<RefreshAnswer, Failure>> {
        Box::pin(async { Err(Self::failure()) })
    }

    fn head(&self) -> watch::Receiver<u64> {
        watch::channel(0).1
    }

    fn live(&self, _: &str) -> Option<LiveRun> {
        None
    }

    fn ready(&self) -> bool {
        false
    }
}

struct Wall;

impl Clock for Wall {
    fn now(&self) -> Timestamp {
        Timestamp(jiff::Timestamp::now().as_millisecond())
    }

    fn boottime_ms(&self) -> u64 {
        0
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use dalsegno_api::exit;
    use dalsegno_testkit::memory_reads::MemoryReads;

    use super::*;

    #[test]
    fn the_store_answers_through_the_routes_of_the_daemon() {
        let reads = MemoryReads::new("journal-a");
        reads.push(Timestamp(0), "daemon_started", None, None, serde_json::json!({"version": "1"}));
        let client = Client::over(InProcess::new(Arc::new(reads)).unwrap());
        assert!(!client.state().unwrap().ready);
        assert_eq!(client.events(&dalsegno_api::EventQuery::default()).unwrap().events[0].kind, "daemon_started");
        assert_eq!(client.issue("DS-1").unwrap_err().exit_code(), exit::NOT_FOUND);
        assert_eq!(client.explain("DS-1").unwrap_err().exit_code(), exit::NO_DAEMON);
        assert_eq!(client.refresh().unwrap_err().exit_code(), exit::NO_DAEMON);
        let query = dalsegno_api::EventQuery::default();
        assert_eq!(client.stream(&query).next().unwrap().unwrap_err().exit_code(), exit::NO_DAEMON);
    }
}
