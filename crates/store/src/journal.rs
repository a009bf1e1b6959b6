//! The journal's writing side as callers see it: a bounded queue to the writer thread.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;

use async_trait::async_trait;
use dalsegno_core::{Batch, Committed};
use dalsegno_durable::Entry;
use dalsegno_engine::{AppendError, Journal};
use tokio::sync::oneshot;

use crate::durable::EntryRow;
use crate::insert::Encoded;
use crate::queue::Queue;
use crate::writer::Job;

/// Batches and questions that may wait for the writer; more make their callers wait.
pub(crate) const QUEUE: usize = 1024;

/// A batch on its way to the disk, and where the answer goes.
pub(crate) struct Append {
    pub(crate) batch: Batch,
    pub(crate) encoded: Encoded,
    pub(crate) entries: Vec<EntryRow>,
    pub(crate) answer: oneshot::Sender<Result<Committed, AppendError>>,
}

/// What the writer did since it was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Transactions, and thereby syncs.
    pub commits: u64,
    /// Batches in them.
    pub batches: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) commits: AtomicU64,
    pub(crate) batches: AtomicU64,
}

/// The journal on SQLite. Dropping it writes what is queued, and waits for that.
#[derive(Debug)]
pub struct SqliteJournal {
    queue: Arc<Queue<Job>>,
    writer: Option<JoinHandle<()>>,
    counters: Arc<Counters>,
}

/// A batch that is queued. Resolves to its answer; dropping it takes nothing back.
#[derive(Debug)]
#[must_use = "a batch is on disk only when this says so"]
pub struct Pending(oneshot::Receiver<Result<Committed, AppendError>>);

impl SqliteJournal {
    pub(crate) fn new(queue: Arc<Queue<Job>>, writer: JoinHandle<()>, counters: Arc<Counters>) -> Self {
        Self { queue, writer: Some(writer), counters }
    }

    /// Queues the batch: when this returns, its place among all batches is taken. So several batches may be
    /// on their way, in order, and share a sync.
    ///
    /// # Errors
    /// [`AppendError::Poisoned`] when the writer is gone, [`AppendError::Storage`] when the batch cannot be encoded.
    pub async fn submit(&self, batch: Batch) -> Result<Pending, AppendError> {
        self.submit_with(batch, Vec::new()).await
    }

    /// [`SqliteJournal::submit`] with what the batch says of effects.
    ///
    /// # Errors
    /// As there.
    pub async fn submit_with(&self, batch: Batch, entries: Vec<Entry>) -> Result<Pending, AppendError> {
        let unwritable = |why: String| AppendError::Storage(format!("cannot encode: {why}"));
        let encoded = Encoded::of(&batch).map_err(|error| unwritable(error.to_string()))?;
        let entries = entries.into_iter().map(EntryRow::of).collect::<Result<_, _>>().map_err(unwritable)?;
        let (answer, pending) = oneshot::channel();
        let gone = || AppendError::Poisoned("the writer has ended".to_owned());
        let room = self.queue.room().await.map_err(|_| gone())?;
        room.put(Job::Append(Box::new(Append { batch, encoded, entries, answer }))).map_err(|_| gone())?;
        Ok(Pending(pending))
    }

    /// What the writer did so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        Counts {
            commits: self.counters.commits.load(Ordering::Relaxed),
            batches: self.counters.batches.load(Ordering::Relaxed),
        }
    }
}

impl Future for Pending {
    type Output = Result<Committed, AppendError>;

    fn poll(mut self: std::pin::Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> std::task::Poll<Self::Output> {
        std::pin::Pin::new(&mut self.0).poll(cx).map(|answer| {
            answer.unwrap_or_else(|_| Err(AppendError::Storage("the writer ended without an answer".to_owned())))
        })
    }
}

#[async_trait]
impl Journal for SqliteJournal {
    async fn append(&self, batch: Batch, entries: Vec<Entry>) -> Result<Committed, AppendError> {
        self.submit_with(batch, entries).await?.await
    }
}

impl Drop for SqliteJournal {
    fn drop(&mut self) {
        self.queue.close();
        if let Some(writer) = self.writer.take()
            && writer.join().is_err()
        {
            tracing::error!("the journal's writer panicked");
        }
    }
}
