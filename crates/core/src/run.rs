//! Runs: one attempt to work on an issue.

use serde::{Deserialize, Serialize};

use crate::budget::BudgetLimit;
use crate::effect::{Failure, PromptSpec};
use crate::ids::{CommitId, IssueId, PolicyHash, RunId, SessionId};
use crate::ledger::TurnLedger;
use crate::operate::StopWish;
use crate::policy::AgentKind;
use crate::question::{Held, Message};
use crate::time::Timestamp;
use crate::usage::Usage;

/// One attempt to work on an issue: workspace, session, turns, handoff.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// Its name.
    pub id: RunId,
    /// Whose.
    pub issue: IssueId,
    /// `None` for the first run of an issue, else 1-based (Symphony §4.1.5).
    pub attempt: Option<u32>,
    /// The policy that it keeps for its whole life.
    pub policy: PolicyHash,
    /// Where it is.
    pub phase: Phase,
    /// How it is going to end, once that is decided.
    pub ending: Option<Ending>,
    /// What shows that the work is right: the checks that passed, or "no evidence".
    pub evidence: Option<String>,
    /// Its workspace stands: made or found by this very run.
    #[serde(default = "was_prepared")]
    pub prepared: bool,
    /// The agent's session, once it has one.
    pub session: Option<SessionId>,
    /// This daemon's life has the session's process attached.
    pub attached: bool,
    /// Number of the latest turn; 0 before the first.
    pub turn: u32,
    /// Turns that ended and count towards `max_turns`.
    pub counted_turns: u32,
    /// A turn is open.
    pub turn_open: bool,
    /// What the next prompt says, when that was decided before the agent was there to hear it.
    pub next_prompt: Option<PromptSpec>,
    /// Turns that its session had in an earlier run.
    #[serde(default)]
    pub taken_over: u32,
    /// Permissions that operators gave in its session, in the words in which they were asked for.
    #[serde(default)]
    pub grants: Vec<String>,
    /// Permissions that operators gave in its open turn. They go with the turn; one that was cut is asked for them again, and an operator is not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub grants_of_turn: Vec<String>,
    /// Words of operators that the agent took in its open turn.
    #[serde(default)]
    pub heard: Vec<Message>,
    /// How operators want it stopped, in the order in which they said so.
    #[serde(default)]
    pub stops: Vec<StopWish>,
    /// Turns that were cut, or whose prompt was sent again: by our own restart, or by the end of the agent.
    pub cut_turns: u32,
    /// Times that the outcome of something was unknown while the daemon lived.
    pub doubts: u32,
    /// The restart's sweep for this run is not through yet.
    pub sweeping: bool,
    /// It was live in a backup that was restored: what was done for it since is looked for.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub restored: bool,
    /// The handoff, once it has begun.
    pub handoff: Option<Handoff>,
    /// Turns that the agent got to merge what somebody else pushed to the branch.
    #[serde(default)]
    pub merges: u32,
    /// Tokens of all turns.
    pub usage: Usage,
    /// Tokens of the latest turn, as far as they are known.
    pub turn_usage: Usage,
    /// The ledger's rows of the latest turn.
    #[serde(default)]
    pub ledger: TurnLedger,
    /// Hash over the tool results of the latest turn, once it ended.
    #[serde(default)]
    pub tool_digest: Option<String>,
    /// When it began.
    pub started_at: Timestamp,
}

impl Run {
    /// A run that has just begun.
    pub(crate) fn new(
        id: RunId,
        issue: IssueId,
        attempt: Option<u32>,
        policy: PolicyHash,
        started_at: Timestamp,
    ) -> Self {
        Self {
            id,
            issue,
            attempt,
            policy,
            phase: Phase::Preparing,
            ending: None,
            evidence: None,
            prepared: false,
            session: None,
            attached: false,
            turn: 0,
            counted_turns: 0,
            turn_open: false,
            next_prompt: None,
            taken_over: 0,
            grants: Vec::new(),
            grants_of_turn: Vec::new(),
            heard: Vec::new(),
            stops: Vec::new(),
            cut_turns: 0,
            doubts: 0,
            sweeping: false,
            restored: false,
            handoff: None,
            merges: 0,
            usage: Usage::default(),
            turn_usage: Usage::default(),
            ledger: TurnLedger::default(),
            tool_digest: None,
            started_at,
        }
    }
}

impl Run {
    /// It goes on in a session of an earlier run.
    pub(crate) fn take_over(&mut self, held: Held) {
        let Held { session, agent: _, turns, counted_turns, session_total, grants } = held;
        self.session = Some(session);
        self.taken_over = turns;
        self.counted_turns = counted_turns;
        self.ledger.session_total = session_total;
        self.grants = grants;
        self.next_prompt = Some(PromptSpec::Resumed);
    }

    /// Its session, for a later run.
    pub(crate) fn held(&self, agent: AgentKind) -> Option<Held> {
        Some(Held {
            session: self.session.clone()?,
            agent,
            turns: self.taken_over.saturating_add(self.turn),
            counted_turns: self.counted_turns,
            session_total: self.ledger.session_total,
            grants: self.grants.clone(),
        })
    }

    /// From the pivot's intent on, reconciliation leaves the run alone.
    #[must_use]
    pub fn past_pivot(&self) -> bool {
        let delivered = || self.handoff.as_ref().is_some_and(Handoff::past_pivot);
        matches!(self.phase, Phase::AfterRun | Phase::Ended) || (self.phase == Phase::Delivering && delivered())
    }

    /// Nothing of it moves before somebody says how its handoff goes on.
    #[must_use]
    pub fn rests(&self) -> bool {
        self.phase == Phase::Delivering && !self.sweeping && self.handoff.as_ref().is_some_and(Handoff::rests)
    }
}

/// Older snapshots do not say; there a run's workspace counted as standing when its issue had one.
fn was_prepared() -> bool {
    true
}

/// Where a live run is. Each phase but the last has exactly one thing under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "snake_case")]
pub enum Phase {
    /// The workspace is made or found.
    Preparing,
    /// The script for new workspaces runs.
    AfterCreate,
    /// The issue is moved to the claim state.
    Claiming,
    /// The script before the agent runs.
    BeforeRun,
    /// The agent starts, its session is made or resumed.
    Launching,
    /// A turn is open.
    Prompting,
    /// The work of a turn is looked at.
    Assessing,
    /// What the agent left uncommitted is committed.
    Committing,
    /// The commit is fetched into the daemon's repository.
    Fetching,
    /// A check runs on a clean checkout.
    Checking {
        /// Position in `handoff.checks`, from 0.
        index: u32,
    },
    /// The evidence is there; the agent is ended before the handoff.
    Closing,
    /// The handoff's steps run.
    Delivering,
    /// What somebody else pushed to the branch is brought into the workspace.
    Bringing,
    /// The run is going to end; the agent is being ended.
    Stopping,
    /// The script after the run runs.
    AfterRun,
    /// Over.
    Ended,
}

impl Phase {
    /// All phases, in the order of a run's life; of the checks the first.
    pub const ALL: [Self; 16] = [
        Self::Preparing,
        Self::AfterCreate,
        Self::Claiming,
        Self::BeforeRun,
        Self::Launching,
        Self::Prompting,
        Self::Assessing,
        Self::Committing,
        Self::Fetching,
        Self::Checking { index: 0 },
        Self::Closing,
        Self::Delivering,
        Self::Bringing,
        Self::Stopping,
        Self::AfterRun,
        Self::Ended,
    ];

    /// The word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Preparing => "preparing",
            Self::AfterCreate => "after_create",
            Self::Claiming => "claiming",
            Self::BeforeRun => "before_run",
            Self::Launching => "launching",
            Self::Prompting => "prompting",
            Self::Assessing => "assessing",
            Self::Committing => "committing",
            Self::Fetching => "fetching",
            Self::Checking { .. } => "checking",
            Self::Closing => "closing",
            Self::Delivering => "delivering",
            Self::Bringing => "bringing",
            Self::Stopping => "stopping",
            Self::AfterRun => "after_run",
            Self::Ended => "ended",
        }
    }
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunOutcome {
    /// It did what it was for: handed over, or without a handoff ended in good order.
    Completed,
    /// It failed.
    Failed,
    /// It was stopped on request: an operator, or the issue left the active states.
    Canceled,
    /// It was stopped for another reason and is parked or waits.
    Interrupted,
}

impl RunOutcome {
    /// The word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Canceled => "canceled",
            Self::Interrupted => "interrupted",
        }
    }
}

/// How a run is going to end, decided before the agent is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ending {
    /// The run's outcome.
    pub outcome: RunOutcome,
    /// Stable code with words.
    pub reason: String,
    /// What becomes of the issue.
    pub then: Then,
}

/// What becomes of an issue when its run is over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "then", rename_all = "snake_case")]
pub enum Then {
    /// A next run after a failure, with backoff, not before `not_before`.
    RetryAfterFailure {
        /// The provider's reset time.
        not_before: Option<Timestamp>,
    },
    /// A next run when the agent's quota resets.
    WaitQuota {
        /// When that is.
        until: Timestamp,
    },
    /// A next run after a clean end without a handoff.
    Continue,
    /// Held by an operator; its session is kept.
    Pause,
    /// Stopped by an operator.
    Cancel,
    /// Its question waits for an answer; its session is kept.
    Ask,
    /// Nothing; the tracker decides.
    Release {
        /// The issue is terminal: its workspace goes if nothing would be lost.
        clean_up: bool,
    },
    /// An operator is needed.
    Park {
        /// Evidence and figures.
        detail: String,
        /// The limit that was reached, if it was one.
        #[serde(default)]
        limit: Option<BudgetLimit>,
    },
    /// Handed over.
    HandedOff,
}

/// The handoff of a run, as far as its saga told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handoff {
    /// What is handed over.
    pub commit: CommitId,
    /// Id of its saga; `None`: an older version began it.
    #[serde(default)]
    pub saga: Option<String>,
    /// Steps, in the order of the plan.
    pub steps: Vec<(SagaStep, StepState)>,
    /// Why it is being undone, if it is.
    #[serde(default)]
    pub turned_back: Option<Failure>,
    /// Entries of the saga's log that were heard, as far as they changed a step.
    #[serde(default)]
    pub heard: u64,
    /// What was handed over before it; so it is again when the push is undone.
    #[serde(default)]
    pub before: Option<CommitId>,
    /// The pull request that it opened, or found open.
    #[serde(default)]
    pub pull_request: Option<PullRequest>,
}

impl Handoff {
    /// Where a step is; `None`: the plan has no such step.
    #[must_use]
    pub fn step(&self, step: SagaStep) -> Option<&StepState> {
        self.steps.iter().find(|(name, _)| *name == step).map(|(_, state)| state)
    }

    /// The step after which nothing is undone.
    #[must_use]
    pub fn pivot(&self) -> SagaStep {
        match self.step(SagaStep::Ready) {
            Some(_) => SagaStep::Ready,
            None => SagaStep::Push,
        }
    }

    /// The pivot is under way or done, as far as is known: the saga only goes forward.
    #[must_use]
    pub fn past_pivot(&self) -> bool {
        self.step(self.pivot()).is_some_and(|state| match state {
            StepState::Intended | StepState::InDoubt { .. } | StepState::Done | StepState::Skipped => true,
            StepState::Pending
            | StepState::AwaitingApproval { .. }
            | StepState::Waiting { .. }
            | StepState::NotApplied { .. }
            | StepState::Undoing
            | StepState::Undone
            | StepState::Parked { .. } => false,
        })
    }

    /// Nothing of it moves before somebody says how.
    #[must_use]
    pub fn rests(&self) -> bool {
        let mut waits = false;
        self.steps.iter().all(|(_, state)| match state {
            StepState::Parked { .. } | StepState::AwaitingApproval { .. } => {
                waits = true;
                true
            }
            StepState::Pending
            | StepState::Done
            | StepState::NotApplied { .. }
            | StepState::Undone
            | StepState::Skipped => true,
            StepState::Intended | StepState::Waiting { .. } | StepState::InDoubt { .. } | StepState::Undoing => false,
        }) && waits
    }

    /// The parked steps, each with why.
    #[must_use]
    pub fn parked(&self) -> Vec<String> {
        let parked = self.steps.iter().filter_map(|(step, state)| match state {
            StepState::Parked { reason } => Some(format!("{}: {reason}", step.as_str())),
            StepState::Pending
            | StepState::AwaitingApproval { .. }
            | StepState::Intended
            | StepState::Waiting { .. }
            | StepState::InDoubt { .. }
            | StepState::Done
            | StepState::NotApplied { .. }
            | StepState::Undoing
            | StepState::Undone
            | StepState::Skipped => None,
        });
        parked.collect()
    }
}

/// A pull request (merge request) on the forge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PullRequest {
    /// What people call it.
    pub number: u64,
    /// Where people find it.
    pub url: String,
}

/// How far the saga of a handoff is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SagaProgress {
    /// Number of the entry of its log that brought it here, from 1.
    pub entry: u64,
    /// Where each step is.
    pub steps: Vec<(SagaStep, StepState)>,
    /// Why it is being undone, if it is.
    pub turned_back: Option<Failure>,
    /// The state that the tracker has the issue in since it was moved.
    pub moved: Option<String>,
    /// The pull request, once there is one.
    pub pull_request: Option<PullRequest>,
}

/// The steps of a handoff. Those that are about a pull request are planned where the policy names a forge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SagaStep {
    /// Look where the branch is on the remote, so that the push can be undone.
    Look,
    /// Push the branch.
    Push,
    /// Open a pull request as a draft, or go on with the issue's open one.
    Open,
    /// Mark the pull request as ready for review.
    Ready,
    /// Comment on the issue.
    Comment,
    /// Move the issue to the handoff state.
    Move,
}

impl SagaStep {
    /// All steps, in the order of a handoff.
    pub const ALL: [Self; 6] = [Self::Look, Self::Push, Self::Open, Self::Ready, Self::Comment, Self::Move];

    /// The word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Look => "look",
            Self::Push => "push",
            Self::Open => "open",
            Self::Ready => "ready",
            Self::Comment => "comment",
            Self::Move => "move",
        }
    }
}

/// Where a step is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum StepState {
    /// Not begun.
    Pending,
    /// Intended; the outcome is not known yet.
    Intended,
    /// Somebody has to approve it.
    AwaitingApproval {
        /// Of what is to be done; an answer is for this and nothing else.
        fingerprint: String,
        /// Until when.
        expires_at: Timestamp,
    },
    /// It was not applied, and is tried again.
    Waiting {
        /// Failures so far.
        failures: u32,
        /// When.
        due_at: Timestamp,
    },
    /// Nobody knows whether it was applied.
    InDoubt {
        /// When that is looked into.
        due_at: Timestamp,
    },
    /// Done.
    Done,
    /// It was not applied, and is not tried again.
    NotApplied {
        /// Why.
        reason: String,
    },
    /// It is being undone.
    Undoing,
    /// Done, and undone.
    Undone,
    /// An operator left it as it is.
    Skipped,
    /// It needs an operator.
    Parked {
        /// Why.
        reason: String,
    },
}

impl StepState {
    /// The word on the wire.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Intended => "intended",
            Self::AwaitingApproval { .. } => "awaiting_approval",
            Self::Waiting { .. } => "waiting",
            Self::InDoubt { .. } => "in_doubt",
            Self::Done => "done",
            Self::NotApplied { .. } => "not_applied",
            Self::Undoing => "undoing",
            Self::Undone => "undone",
            Self::Skipped => "skipped",
            Self::Parked { .. } => "parked",
        }
    }
}
