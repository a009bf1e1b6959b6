//! The simulator: the real machine over a simulated store, tracker, agents, workspaces and remote, in one thread,
//! from one seed. It crashes at any write, effect or answer, and a judge watches.
//!
//! One history is a small project that is worked on in an unkind world for a while and in a kind one until nothing
//! moves any more. The same seed gives the same history, always.

mod acts;
mod box_time;
mod coverage;
mod deed;
mod dice;
mod disk;
mod drive;
mod faults;
mod files;
mod governed;
mod handoff;
mod judge;
mod keeping;
mod operator;
mod orders;
mod outside;
mod plan;
mod restore;
mod store;
mod turns;
mod webhooks;
mod world;

pub use box_time::{Found, shrink, walk};
pub use coverage::{Around, Coverage};
pub(crate) use dice::Dice;

use std::panic::{AssertUnwindSafe, catch_unwind};

use drive::Sim;
use plan::Plan;

/// A rule that was broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Which rule.
    pub rule: &'static str,
    /// How.
    pub detail: String,
}

/// What makes a history unkind; switched off one by one to find out what a failure needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Knobs {
    /// The daemon dies.
    pub crashes: bool,
    /// Old daemons go on for a while.
    pub zombies: bool,
    /// A person edits the tracker and the workflow, and operators want something.
    pub human: bool,
    /// Effects and queries fail or end in doubt, turns go wrong.
    pub faults: bool,
    /// Some things take very long.
    pub slow: bool,
    /// The clock jumps.
    pub clock: bool,
    /// The disk fills up, fails, or may not be written.
    pub disk: bool,
    /// The store is lost, and a backup of it restored.
    pub restore: bool,
}

impl Knobs {
    /// The unkindness that is switched on, in words.
    #[must_use]
    pub fn needs(self) -> String {
        let names = [
            (self.crashes, "crashes"),
            (self.zombies, "zombies"),
            (self.human, "human"),
            (self.faults, "faults"),
            (self.slow, "slow"),
            (self.clock, "clock"),
            (self.disk, "disk"),
            (self.restore, "restore"),
        ];
        let on: Vec<&str> = names.into_iter().filter(|(on, _)| *on).map(|(_, name)| name).collect();
        if on.is_empty() { "nothing".to_owned() } else { on.join(", ") }
    }
}

impl Default for Knobs {
    fn default() -> Self {
        Self {
            crashes: true,
            zombies: true,
            human: true,
            faults: true,
            slow: true,
            clock: true,
            disk: true,
            restore: true,
        }
    }
}

/// A bug that is planted in the parts around the core, to see that the judge finds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutation {
    /// Effects are performed when their batch is handed out, not when it is synced.
    PerformedBeforeCommit,
    /// The store says that a batch is synced before it is.
    AcknowledgedBeforeSync,
    /// The store lets every owner write.
    EpochUnchecked,
    /// A crash keeps a part of a batch.
    TornBatch,
    /// A restart performs once more what it did last, although the outcome is recorded.
    RecordedPerformedAgain,
    /// The agent's history is not searched for the prompt.
    PromptSentBlindly,
    /// The sweep says that it swept and kills nothing.
    SweepSkipped,
    /// Comments are added without looking for their marker, and the probe never finds any.
    CommentWithoutMarker,
    /// A workspace is removed although work would be lost.
    DirtyWorkspaceRemoved,
    /// A poll answers what an earlier one saw.
    StaleAnswers,
    /// An outcome gets lost on its way to the machine.
    OutcomeLost,
    /// An agent reports what its session used in all as what its turn used: the budget is counted twice.
    BudgetCountedTwice,
    /// A prompt is sent a second time while its turn is under way.
    PromptSentTwice,
    /// A restart forgets until when an issue waits.
    RetryForgets,
    /// A restart forgets what breakers counted, and that they parked.
    BreakerForgets,
    /// A restart forgets that a kind of agent is suspended.
    QuotaForgets,
    /// What is sent again has lost its key.
    KeyDropped,
    /// A restart forgets the keys of what it was asked.
    KeyForgets,
    /// What a handoff did is said to be undone, and is not.
    UndoForgotten,
    /// An undo of a push puts the branch back whatever is on it now.
    BlindUndo,
    /// A workspace that nobody owns and that holds work is removed instead of kept.
    OrphanThrownAway,
    /// An operator is answered before the receipt is on disk.
    AnsweredBeforeReceipt,
    /// The driver forgets when the machine wants to be woken.
    WakeUpLost,
    /// A message to a receiver is said to be told, and went nowhere.
    NoticeSwallowed,
    /// A message that is told once more has under its old id what else waits by then.
    MessageGrows,
    /// The driver takes an append that failed for one that was synced.
    FailedAppendIgnored,
    /// Whoever looks for lost work after a restore says that the branch is where the backup knows it.
    LostWorkUnseen,
    /// A backup is copied back, and its journal goes on as if nothing had been lost.
    CopiedBack,
    /// Receipts of kept files are committed before the files have their names.
    ReceiptBeforeFile,
    /// A batch that nobody writes any more is said to be ended, and is not.
    BatchNeverSettled,
    /// A batch goes forward although not all of it is on disk.
    ForwardThoughTorn,
    /// A kept file that is what its receipt says is taken for another, and set aside.
    GoodFileSetAside,
    /// Nobody tells that the receipts of a run are those of another policy or agent.
    StaleReceiptsUntold,
}

impl Mutation {
    /// All of them that have to be caught.
    pub const ALL: [Self; 33] = [
        Self::PerformedBeforeCommit,
        Self::AcknowledgedBeforeSync,
        Self::EpochUnchecked,
        Self::TornBatch,
        Self::RecordedPerformedAgain,
        Self::PromptSentBlindly,
        Self::SweepSkipped,
        Self::CommentWithoutMarker,
        Self::DirtyWorkspaceRemoved,
        Self::StaleAnswers,
        Self::OutcomeLost,
        Self::BudgetCountedTwice,
        Self::PromptSentTwice,
        Self::RetryForgets,
        Self::BreakerForgets,
        Self::QuotaForgets,
        Self::KeyDropped,
        Self::KeyForgets,
        Self::UndoForgotten,
        Self::BlindUndo,
        Self::OrphanThrownAway,
        Self::AnsweredBeforeReceipt,
        Self::WakeUpLost,
        Self::NoticeSwallowed,
        Self::MessageGrows,
        Self::FailedAppendIgnored,
        Self::LostWorkUnseen,
        Self::CopiedBack,
        Self::ReceiptBeforeFile,
        Self::BatchNeverSettled,
        Self::ForwardThoughTorn,
        Self::GoodFileSetAside,
        Self::StaleReceiptsUntold,
    ];

    /// The journal is kept, and what the machine makes of it after a restart is not: only what it does shows that.
    pub(crate) fn forgets(self) -> bool {
        matches!(self, Self::RetryForgets | Self::BreakerForgets | Self::QuotaForgets | Self::KeyForgets)
    }
}

/// One history, from beginning to end.
#[derive(Debug)]
pub struct History {
    /// Its seed.
    pub seed: u64,
    /// What it walked over.
    pub coverage: Coverage,
    /// The rule that it broke.
    pub violation: Option<Violation>,
    /// What happened, line by line; only when asked for.
    pub trace: Vec<String>,
}

/// Runs the history of a seed.
#[must_use]
pub fn run(seed: u64, knobs: Knobs, mutation: Option<Mutation>, traced: bool) -> History {
    let mut sim = Sim::new(seed, Plan::new(seed, knobs), mutation, traced);
    let ended = catch_unwind(AssertUnwindSafe(|| sim.run()));
    let violation = match ended {
        Ok(result) => result.err(),
        Err(panic) => {
            let detail = panic
                .downcast_ref::<String>()
                .cloned()
                .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
                .unwrap_or_default();
            Some(Violation { rule: "never_panics", detail })
        }
    };
    let (coverage, trace) = sim.finish();
    History { seed, coverage, violation, trace }
}
