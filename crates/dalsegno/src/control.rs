//! The gateway's way to the loop.

use dalsegno_api::code;
use dalsegno_core::{ActionRequest, BudgetLine, Explanation, Failure, Readiness, Receipt};
use dalsegno_engine::{DriverHandle, RateLimits};
use dalsegno_gateway::{Control, LiveRun, RefreshAnswer};
use futures::future::BoxFuture;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// The gateway's way to the loop.
pub(crate) struct DriverControl {
    handle: DriverHandle,
    /// The daemon is asked to end, and takes no new work.
    stop: CancellationToken,
}

impl DriverControl {
    pub(crate) fn new(handle: DriverHandle, stop: CancellationToken) -> Self {
        Self { handle, stop }
    }
}

impl Control for DriverControl {
    fn explain(&self, key: &str) -> BoxFuture<'static, Result<Option<Explanation>, Failure>> {
        let (handle, key) = (self.handle.clone(), key.to_owned());
        Box::pin(async move { handle.explain(&key).await.ok_or_else(ending) })
    }

    fn refresh(&self) -> BoxFuture<'static, Result<RefreshAnswer, Failure>> {
        let handle = self.handle.clone();
        Box::pin(async move {
            match handle.refresh().await {
                Some(coalesced) => Ok(RefreshAnswer { coalesced }),
                None => Err(ending()),
            }
        })
    }

    fn act(&self, request: ActionRequest) -> BoxFuture<'static, Result<Receipt, Failure>> {
        let handle = self.handle.clone();
        Box::pin(async move { handle.act(request).await.ok_or_else(ending) })
    }

    fn receipt(&self, action: &str) -> BoxFuture<'static, Result<Option<Receipt>, Failure>> {
        let (handle, action) = (self.handle.clone(), action.to_owned());
        Box::pin(async move { handle.receipt(&action).await.ok_or_else(ending) })
    }

    fn budgets(&self) -> BoxFuture<'static, Result<Vec<BudgetLine>, Failure>> {
        let handle = self.handle.clone();
        Box::pin(async move { handle.budgets().await.ok_or_else(ending) })
    }

    fn head(&self) -> watch::Receiver<u64> {
        self.handle.head()
    }

    fn live(&self, run: &str) -> Option<LiveRun> {
        let sign = self.handle.last_sign(run)?;
        Some(LiveRun { last_event: sign.what.to_owned(), last_event_at: sign.at?, last_message: sign.message })
    }

    fn rate_limits(&self) -> Option<RateLimits> {
        self.handle.rate_limits()
    }

    fn readiness(&self) -> Option<Readiness> {
        self.handle.readiness().filter(|_| !self.stop.is_cancelled())
    }
}

fn ending() -> Failure {
    Failure::retryable(code::ENGINE_UNAVAILABLE, "the daemon is ending").hint("start it again, and ask again")
}

#[cfg(test)]
#[path = "control/tests.rs"]
mod tests;
