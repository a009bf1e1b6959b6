//! A journal in memory whose disk can be slow, hang or fail.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use dalsegno_core::{Batch, Committed, Recorded, Snapshot};
use dalsegno_durable::{EffectRecord, Entry, Progress};
use dalsegno_engine::{AppendError, Journal, Loaded};
use tokio::sync::watch;

/// Keeps what a store keeps, and refuses what a store refuses.
#[derive(Debug)]
pub struct MemoryJournal {
    inner: Mutex<Inner>,
    acknowledged: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Inner {
    events: Vec<Recorded>,
    snapshot: Option<Snapshot>,
    effects: BTreeMap<(String, String), EffectRecord>,
    ended_scopes: BTreeSet<String>,
    epoch: u64,
    appends: u64,
    wait: Duration,
    next: Option<Next>,
    poisoned: Option<String>,
}

impl Inner {
    /// Takes an entry, if it follows from those before.
    fn record(&mut self, entry: Entry) -> Result<(), String> {
        let open = |effects: &BTreeMap<(String, String), EffectRecord>, name: &(String, String)| {
            effects.get(name).is_some_and(|known| !matches!(known.state.progress, Progress::Ended { .. }))
        };
        match entry {
            Entry::Intended { scope, record } => {
                let name = (scope.key(), record.replay_key.clone());
                if self.ended_scopes.contains(&name.0) {
                    return Err(format!("{name:?} is intended after its scope ended"));
                }
                let again = self.effects.get(&name);
                if again.is_some_and(|known| known.hash != record.hash)
                    || (again.is_some() && !open(&self.effects, &name))
                {
                    return Err(format!("{name:?} is intended again as something else, or after its end"));
                }
                self.effects.insert(name, record);
            }
            Entry::Changed { scope, replay_key, state } => {
                let name = (scope.key(), replay_key);
                if !open(&self.effects, &name) {
                    return Err(format!("{name:?} changes and is not open"));
                }
                if let Some(known) = self.effects.get_mut(&name) {
                    known.state = state;
                }
            }
            Entry::Ended { scope, at: _ } => {
                self.ended_scopes.insert(scope.key());
            }
        }
        Ok(())
    }
}

/// What the next append meets.
#[derive(Debug)]
enum Next {
    Fail(AppendError),
    Panic,
    Hang,
}

impl Default for MemoryJournal {
    fn default() -> Self {
        Self { inner: Mutex::default(), acknowledged: watch::channel(0).0 }
    }
}

impl MemoryJournal {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on each append takes this long.
    pub fn slow(&self, wait: Duration) {
        self.inner().wait = wait;
    }

    /// The next append fails and leaves nothing; after [`AppendError::Storage`] all later ones do.
    pub fn fail_next(&self, error: AppendError) {
        self.inner().next = Some(Next::Fail(error));
    }

    /// The next append panics.
    pub fn panic_next(&self) {
        self.inner().next = Some(Next::Panic);
    }

    /// The next append never answers.
    pub fn hang_next(&self) {
        self.inner().next = Some(Next::Hang);
    }

    /// What was to become of the next append has become of one.
    #[must_use]
    pub fn took_next(&self) -> bool {
        self.inner().next.is_none()
    }

    /// All events that were acknowledged, oldest first.
    #[must_use]
    pub fn events(&self) -> Vec<Recorded> {
        self.inner().events.clone()
    }

    /// Their kinds.
    #[must_use]
    pub fn kinds(&self) -> Vec<&'static str> {
        self.inner().events.iter().map(|recorded| recorded.event.kind()).collect()
    }

    /// Sequence number of the last acknowledged event.
    #[must_use]
    pub fn acknowledged(&self) -> u64 {
        *self.acknowledged.borrow()
    }

    /// Appends that were asked for.
    #[must_use]
    pub fn appends(&self) -> u64 {
        self.inner().appends
    }

    /// Waits until so many acknowledged events are as `wanted` says.
    pub async fn count(&self, number: usize, wanted: impl Fn(&Recorded) -> bool) {
        let mut acknowledged = self.acknowledged.subscribe();
        while self.inner().events.iter().filter(|recorded| wanted(recorded)).count() < number {
            if acknowledged.changed().await.is_err() {
                return;
            }
        }
    }

    /// What the next daemon loads.
    #[must_use]
    pub fn load(&self) -> Loaded {
        let inner = self.inner();
        let after = inner.snapshot.as_ref().map_or(0, |snapshot| snapshot.state.seq);
        let events = inner.events.iter().filter(|recorded| recorded.seq > after).cloned().collect();
        Loaded { snapshot: inner.snapshot.clone(), events, epoch: inner.epoch }
    }

    /// Every effect that the machine's batches told of, by scope and replay key.
    #[must_use]
    pub fn effects(&self) -> BTreeMap<(String, String), EffectRecord> {
        self.inner().effects.clone()
    }

    fn take(&self, batch: &Batch, entries: Vec<Entry>) -> Result<Committed, AppendError> {
        let mut inner = self.inner();
        if let Some(why) = &inner.poisoned {
            return Err(AppendError::Poisoned(why.clone()));
        }
        if batch.epoch < inner.epoch {
            return Err(AppendError::StaleEpoch { ours: batch.epoch, current: inner.epoch });
        }
        let expected = inner.events.last().map_or(1, |recorded| recorded.seq + 1);
        if let Some(first) = batch.events.first()
            && first.seq != expected
        {
            return Err(AppendError::UnexpectedSequence { expected, found: first.seq });
        }
        for entry in entries {
            inner.record(entry).map_err(AppendError::Storage)?;
        }
        inner.epoch = batch.epoch;
        inner.events.extend(batch.events.iter().cloned());
        if let Some(snapshot) = &batch.snapshot {
            inner.snapshot = Some((**snapshot).clone());
        }
        let last = inner.events.last().map_or(0, |recorded| recorded.seq);
        drop(inner);
        self.acknowledged.send_replace(last);
        Ok(batch.committed())
    }
}

#[async_trait]
impl Journal for MemoryJournal {
    async fn append(&self, batch: Batch, entries: Vec<Entry>) -> Result<Committed, AppendError> {
        let (wait, next) = {
            let mut inner = self.inner();
            inner.appends += 1;
            (inner.wait, inner.next.take())
        };
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
        match next {
            None => self.take(&batch, entries),
            Some(Next::Fail(error)) => {
                if let AppendError::Storage(why) = &error {
                    self.inner().poisoned = Some(why.clone());
                }
                Err(error)
            }
            #[expect(clippy::panic, reason = "that is what was asked for")]
            Some(Next::Panic) => panic!("scripted panic of the journal"),
            Some(Next::Hang) => std::future::pending().await,
        }
    }
}
