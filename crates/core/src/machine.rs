//! The machine: what happened goes in, what is to be done comes out.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::effect::{Answer, EffectRequest, Failure, Outcome, Query};
use crate::event::Recorded;
use crate::ids::{EffectId, IssueId, PolicyHash, RunId};
use crate::policy::Policy;
use crate::state::{IllegalEvent, Snapshot, State};
use crate::time::Timestamp;
use crate::usage::Usage;
use crate::view::View;

/// What happened.
#[derive(Debug)]
pub enum Input {
    /// The daemon holds the journal. The first input of its life.
    Started {
        /// Higher than every epoch before.
        epoch: u64,
        /// Version of the program.
        version: String,
        /// Process id.
        pid: u32,
    },
    /// WORKFLOW.md was read.
    PolicyLoaded {
        /// SHA-256 of the policy.
        hash: PolicyHash,
        /// The policy.
        policy: Box<Policy>,
    },
    /// WORKFLOW.md is broken.
    PolicyRejected(Failure),
    /// A batch is on disk, synced.
    Committed(Committed),
    /// An effect is over, or nobody knows.
    EffectEnded {
        /// Which.
        id: EffectId,
        /// How.
        outcome: Outcome,
    },
    /// A query was answered.
    Answered {
        /// Which.
        id: QueryId,
        /// The answer.
        answer: Answer,
    },
    /// An agent gave a sign.
    Signal {
        /// Whose.
        run: RunId,
        /// What.
        signal: Signal,
    },
    /// Somebody wants the tracker read now.
    Refresh,
    /// The machine was suspended, or the clock jumped: clocks that measure silence start over.
    ClockJumped,
    /// No new work from now on; what is under way may end.
    Drain,
    /// The daemon is about to end in good order.
    Stopping {
        /// Why.
        reason: String,
    },
    /// Time passed.
    Tick,
}

/// What an agent lets us know while a turn is open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Signal {
    /// It is alive.
    Activity,
    /// Tokens of the turn so far.
    Usage(Usage),
}

/// What is to be done.
#[derive(Debug)]
pub enum Output {
    /// Put the batch on disk and sync it; answer with [`Input::Committed`].
    Append(Batch),
    /// Perform the effect; answer with [`Input::EffectEnded`]. Its intent is on disk.
    Perform(Box<EffectRequest>),
    /// Give up the effect as soon as possible; it still ends with [`Input::EffectEnded`].
    Cancel(EffectId),
    /// Look something up; answer with [`Input::Answered`].
    Ask(QueryId, Query),
    /// Nothing more until the next input, or until this time.
    Wait(Option<Timestamp>),
}

/// A query of this daemon's life; not journaled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueryId(pub u64);

/// Facts that go to disk together, with everything that is written in the same transaction.
#[derive(Debug, Clone)]
pub struct Batch {
    /// Epoch of the writer; a store refuses a lower one than it has seen.
    pub epoch: u64,
    /// The events, without gaps; the first one's `seq` is what the store must expect.
    pub events: Vec<Recorded>,
    /// Rows of projections that these events changed.
    pub views: Vec<View>,
    /// The state after the last event, when one is due.
    pub snapshot: Option<Snapshot>,
}

impl Batch {
    /// To be called by whoever has put the batch on disk and synced it, and by nobody else.
    #[must_use]
    pub fn committed(&self) -> Committed {
        Committed { through: self.events.last().map_or(0, |recorded| recorded.seq) }
    }
}

/// The word that a batch is durable. Can only be had from the batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Committed {
    pub(crate) through: u64,
}

/// The journal cannot be replayed.
#[derive(Debug, thiserror::Error)]
pub enum CorruptJournal {
    /// An event does not follow from those before it.
    #[error("the journal is damaged: {0}")]
    Illegal(#[from] IllegalEvent),
    /// The snapshot was written by a newer version.
    #[error("the snapshot has format {found}, and this version reads up to {known}")]
    FutureSnapshot {
        /// Format of the snapshot.
        found: u32,
        /// Newest format that can be read.
        known: u32,
    },
}
