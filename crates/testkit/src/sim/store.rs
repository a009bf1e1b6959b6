//! The simulated store: what is synced, what is only written, and who may write.

use std::collections::BTreeMap;

use dalsegno_core::{Batch, IssueId, Recorded, RunId, Snapshot, View};

use super::Mutation;

/// Rows of the projections.
#[derive(Debug, Clone, Default)]
pub(crate) struct Rows {
    pub(crate) issues: BTreeMap<IssueId, View>,
    pub(crate) runs: BTreeMap<RunId, View>,
    pub(crate) usage: BTreeMap<(RunId, u32, u32), View>,
    pub(crate) daemon: Option<View>,
}

impl Rows {
    pub(crate) fn put_all(&mut self, views: Vec<View>) {
        views.into_iter().for_each(|view| self.put(view));
    }

    fn put(&mut self, view: View) {
        match &view {
            View::Issue(issue) => {
                self.issues.insert(issue.issue.id.clone(), view);
            }
            View::IssueGone(issue) => {
                self.issues.remove(issue);
            }
            View::Run(run) => {
                self.runs.insert(run.id.clone(), view);
            }
            View::Usage(row) => {
                self.usage.insert((row.run.clone(), row.turn, row.place), view);
            }
            View::Daemon(_) => self.daemon = Some(view),
        }
    }
}

/// Why an append was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    StaleEpoch,
    UnexpectedSequence,
}

/// Journal and projections of one database.
#[derive(Debug, Default)]
pub(crate) struct Store {
    /// Synced events, all of them.
    pub(crate) events: Vec<Recorded>,
    /// Rows as of the last synced event.
    pub(crate) rows: Rows,
    /// The latest snapshot.
    pub(crate) snapshot: Option<Snapshot>,
    /// Written and not synced yet.
    pub(crate) unsynced: Option<Batch>,
    /// The epoch that holds the journal.
    pub(crate) fence: u64,
    pub(crate) mutation: Option<Mutation>,
}

impl Store {
    /// A new owner takes the journal.
    pub(crate) fn take_over(&mut self) -> u64 {
        self.fence += 1;
        self.fence
    }

    /// Last synced sequence number.
    pub(crate) fn synced(&self) -> u64 {
        self.events.last().map_or(0, |recorded| recorded.seq)
    }

    /// Writes a batch; it is durable after [`Store::sync`].
    pub(crate) fn append(&mut self, batch: Batch) -> Result<(), Refused> {
        if batch.epoch < self.fence && self.mutation != Some(Mutation::EpochUnchecked) {
            return Err(Refused::StaleEpoch);
        }
        let expected =
            self.unsynced.as_ref().and_then(|batch| batch.events.last()).map_or(self.synced(), |last| last.seq);
        if batch.events.first().is_none_or(|first| first.seq != expected + 1) {
            return Err(Refused::UnexpectedSequence);
        }
        if let Some(earlier) = self.unsynced.take() {
            self.keep(earlier);
        }
        self.unsynced = Some(batch);
        Ok(())
    }

    /// What was written is durable now.
    pub(crate) fn sync(&mut self) {
        if let Some(batch) = self.unsynced.take() {
            self.keep(batch);
        }
    }

    /// The machine stopped: of what was not synced so many frames reached the disk, one for each event, and then the word
    /// that the batch is whole. Without that word it counts for nothing. Answers whether it is there, if there was one.
    pub(crate) fn lose_unsynced(&mut self, reached: u64) -> Option<bool> {
        let mut batch = self.unsynced.take()?;
        let frames = batch.events.len();
        let reached = usize::try_from(reached).unwrap_or(usize::MAX);
        let whole = reached > frames;
        if whole {
            self.keep(batch);
        } else if self.mutation == Some(Mutation::TornBatch) {
            batch.events.truncate(reached);
            self.keep(batch);
        }
        Some(whole)
    }

    fn keep(&mut self, batch: Batch) {
        self.events.extend(batch.events);
        for view in batch.views {
            self.rows.put(view);
        }
        if let Some(snapshot) = batch.snapshot {
            self.snapshot = Some(*snapshot);
        }
    }

    /// What a new daemon reads: the snapshot, and the events after it.
    pub(crate) fn load(&self) -> (Option<Snapshot>, Vec<Recorded>) {
        let from = self.snapshot.as_ref().map_or(0, |snapshot| snapshot.state.seq);
        let tail = self.events.iter().filter(|recorded| recorded.seq > from).cloned().collect();
        (self.snapshot.clone(), tail)
    }
}
