//! The gateway's way to the loop, and what tells whether the daemon is ready.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use dalsegno_api::code;
use dalsegno_core::{
    ActionRequest, Batch, BudgetLine, Committed, Effect, EffectId, Event, Explanation, Failure, PolicyHash, Receipt,
};
use dalsegno_durable::Entry;
use dalsegno_engine::{AppendError, Change, ChangeWanted, Changes, DriverHandle, Journal, RateLimits};
use dalsegno_gateway::{Control, LiveRun, RefreshAnswer};
use futures::future::BoxFuture;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// How far a daemon is, as its journal shows it.
#[derive(Debug, Default)]
enum Stage {
    /// Nothing of this life is recorded.
    #[default]
    Starting,
    /// It took over; these sweeps of what the last daemon left running are still under way.
    Recovering(BTreeSet<EffectId>),
    /// Nothing is recorded any more: an append failed, or its end was not waited for.
    Closed,
}

/// Whether a daemon has recovered and can record what it does.
#[derive(Debug, Default)]
pub(crate) struct Readiness(Mutex<Stage>);

impl Readiness {
    fn is_ready(&self) -> bool {
        match &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            Stage::Recovering(sweeps) => sweeps.is_empty(),
            Stage::Starting | Stage::Closed => false,
        }
    }

    fn close(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Stage::Closed;
    }

    fn committed(&self, Marks { started, sweeps, ended }: Marks) {
        let mut stage = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if started && matches!(*stage, Stage::Starting) {
            // All sweeps of a recovery are intended together with the takeover.
            *stage = Stage::Recovering(sweeps);
        }
        if let Stage::Recovering(left) = &mut *stage {
            left.retain(|id| !ended.contains(id));
        }
    }
}

/// What a batch says of a recovery.
struct Marks {
    started: bool,
    sweeps: BTreeSet<EffectId>,
    ended: Vec<EffectId>,
}

impl Marks {
    fn of(batch: &Batch) -> Self {
        let mut marks = Self { started: false, sweeps: BTreeSet::new(), ended: Vec::new() };
        for recorded in &batch.events {
            if let Event::DaemonStarted { .. } = recorded.event {
                marks.started = true;
            } else if let Event::EffectIntended { effect_id, effect: Effect::Sweep, .. } = recorded.event {
                marks.sweeps.insert(effect_id);
            } else if let Event::EffectEnded { effect_id, .. } = recorded.event {
                marks.ended.push(effect_id);
            }
        }
        marks
    }
}

/// A journal that tells a [`Readiness`] what became of each append.
pub(crate) struct WatchedJournal {
    journal: Arc<dyn Journal>,
    readiness: Arc<Readiness>,
}

impl WatchedJournal {
    pub(crate) fn new(journal: Arc<dyn Journal>, readiness: Arc<Readiness>) -> Self {
        Self { journal, readiness }
    }
}

/// Closes a readiness, unless its append came to a good end: it may fail, panic or be cut off.
struct Unsure<'a>(Option<&'a Readiness>);

impl Drop for Unsure<'_> {
    fn drop(&mut self) {
        self.0.iter().for_each(|readiness| readiness.close());
    }
}

#[async_trait]
impl Journal for WatchedJournal {
    async fn append(&self, batch: Batch, entries: Vec<Entry>) -> Result<Committed, AppendError> {
        let marks = Marks::of(&batch);
        let mut unsure = Unsure(Some(&self.readiness));
        let committed = self.journal.append(batch, entries).await?;
        unsure.0 = None;
        self.readiness.committed(marks);
        Ok(committed)
    }
}

/// The gateway's way to the loop.
pub(crate) struct DriverControl {
    handle: DriverHandle,
    readiness: Arc<Readiness>,
    changes: Arc<dyn Changes>,
    /// The daemon is asked to end, and takes no new work.
    stop: CancellationToken,
}

impl DriverControl {
    pub(crate) fn new(
        handle: DriverHandle,
        readiness: Arc<Readiness>,
        changes: Arc<dyn Changes>,
        stop: CancellationToken,
    ) -> Self {
        Self { handle, readiness, changes, stop }
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

    fn writes_refused(&self, counts: BTreeMap<String, u64>) -> BoxFuture<'static, Result<(), Failure>> {
        let handle = self.handle.clone();
        Box::pin(async move { handle.writes_refused(counts).await.ok_or_else(ending) })
    }

    fn change(&self, policy: &PolicyHash, wanted: ChangeWanted) -> BoxFuture<'static, Result<Change, Failure>> {
        let (handle, changes, hash) = (self.handle.clone(), Arc::clone(&self.changes), policy.clone());
        Box::pin(async move {
            let none = || Failure::retryable(code::ENGINE_UNAVAILABLE, "no policy is loaded yet").hint("try again");
            let policy = handle.policy(&hash).await.ok_or_else(ending)?.ok_or_else(none)?;
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

    fn ready(&self) -> bool {
        // The loop holds the other end of the head as long as it lives.
        let alive = self.handle.head().has_changed().is_ok();
        alive && !self.stop.is_cancelled() && self.readiness.is_ready()
    }
}

fn ending() -> Failure {
    Failure::retryable(code::ENGINE_UNAVAILABLE, "the daemon is ending").hint("start it again, and ask again")
}

#[cfg(test)]
#[path = "control/tests.rs"]
mod tests;
