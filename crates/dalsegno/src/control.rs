//! The gateway's way to the loop.

use std::collections::BTreeMap;
use std::sync::Arc;

use dalsegno_api::code;
use dalsegno_core::{
    ActionAnswer, ActionRequest, BudgetLine, Explanation, Failure, PolicyHash, Readiness, Receipt, Timestamp,
};
use dalsegno_engine::{Change, ChangeWanted, Changes, Delivery, DriverHandle, Heard, RateLimits, Webhooks};
use dalsegno_gateway::{Control, LiveRun, RefreshAnswer};
use futures::future::BoxFuture;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// The gateway's way to the loop.
pub(crate) struct DriverControl {
    handle: DriverHandle,
    changes: Arc<dyn Changes>,
    webhooks: Arc<dyn Webhooks>,
    /// The daemon is asked to end, and takes no new work.
    stop: CancellationToken,
}

impl DriverControl {
    pub(crate) fn new(
        handle: DriverHandle,
        changes: Arc<dyn Changes>,
        webhooks: Arc<dyn Webhooks>,
        stop: CancellationToken,
    ) -> Self {
        Self { handle, changes, webhooks, stop }
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

    fn hear(&self, delivery: Delivery, now: Timestamp) -> BoxFuture<'static, Result<Heard, Failure>> {
        let (handle, webhooks) = (self.handle.clone(), Arc::clone(&self.webhooks));
        Box::pin(async move {
            let policy = handle.policy_in_force().await.ok_or_else(ending)?.ok_or_else(no_policy)?;
            // Large bodies take their time.
            let read = tokio::task::spawn_blocking(move || webhooks.read(&policy, &delivery, now)).await;
            read.unwrap_or_else(|error| Err(Failure::retryable(code::INTERNAL, error.to_string())))
        })
    }

    fn webhook(&self, names: Vec<String>) -> BoxFuture<'static, Result<Option<String>, Failure>> {
        let handle = self.handle.clone();
        Box::pin(async move { handle.webhook(names).await.ok_or_else(ending) })
    }

    fn act(&self, request: ActionRequest) -> BoxFuture<'static, Result<ActionAnswer, Failure>> {
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

    fn writes_refused(&self, counts: BTreeMap<String, u64>) -> BoxFuture<'static, Result<(), Failure>> {
        let handle = self.handle.clone();
        Box::pin(async move { handle.writes_refused(counts).await.ok_or_else(ending) })
    }

    fn change(&self, policy: &PolicyHash, wanted: ChangeWanted) -> BoxFuture<'static, Result<Change, Failure>> {
        let (handle, changes, hash) = (self.handle.clone(), Arc::clone(&self.changes), policy.clone());
        Box::pin(async move {
            let policy = handle.policy(&hash).await.ok_or_else(ending)?.ok_or_else(no_policy)?;
            changes.change(&policy, &wanted).await
        })
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

fn no_policy() -> Failure {
    Failure::retryable(code::ENGINE_UNAVAILABLE, "no policy is loaded yet").hint("try again")
}

fn ending() -> Failure {
    Failure::retryable(code::ENGINE_UNAVAILABLE, "the daemon is ending").hint("start it again, and ask again")
}

#[cfg(test)]
#[path = "control/tests.rs"]
mod tests;
