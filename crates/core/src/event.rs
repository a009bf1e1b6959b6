//! Events: the facts of the journal. State is a fold of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::blob::FileReceipt;
use crate::budget::{BudgetLimit, BudgetOverride};
use crate::effect::{Effect, Failure, Missing, Outcome, TurnOutcome};
use crate::ids::{CommitId, EffectId, IssueId, PolicyHash, RunId, SessionId};
use crate::issue::{Issue, IssueStatus, Workspace};
use crate::notify::{Notice, Receiver};
use crate::operate::StopWish;
use crate::policy::{AgentKind, Hook, Policy};
use crate::question::{Message, Reply, Start, Wants};
use crate::run::{Ending, Phase, PullRequest, RunOutcome, SagaStep, StepState};
use crate::surface::{Remedy, Surface, Told};
use crate::time::Timestamp;
use crate::usage::Usage;

/// Version of the event format; a reader refuses newer ones.
pub const EVENT_FORMAT: u32 = 3;

/// An event at its place in the journal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Recorded {
    /// Position, from 1, without gaps.
    pub seq: u64,
    /// When it was decided; never goes back.
    pub at: Timestamp,
    /// The fact.
    pub event: Event,
}

/// Every fact that the journal holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[allow(missing_docs, reason = "field names are the glossary's words; each variant says what it means")]
pub enum Event {
    /// A daemon took over the journal under a new epoch. Everything attached to the old one is gone.
    DaemonStarted { epoch: u64, version: String, pid: u32 },
    /// The daemon ended in good order.
    DaemonStopped { reason: String },
    /// A policy is in force for what starts from now on.
    WorkflowLoaded { hash: PolicyHash, policy: Box<Policy> },
    /// WORKFLOW.md is broken; the last good one stays in force.
    WorkflowRejected {
        #[serde(flatten)]
        failure: Failure,
    },
    /// The tracker cannot be read (`failing`), or can be read again.
    TrackerHealth { failure: Option<Failure> },
    /// An issue was seen for the first time.
    IssueSeen { issue: Arc<Issue> },
    /// An issue looks different from before.
    IssueChanged { issue: Arc<Issue> },
    /// An issue is not visible any more.
    IssueGone { issue: IssueId },
    /// An issue's status changed.
    IssueStatus {
        issue: IssueId,
        from: IssueStatus,
        to: IssueStatus,
        reason: Option<String>,
        due_at: Option<Timestamp>,
    },
    /// Somebody else changed a sticky issue, or an idle one that had runs: counts start over.
    IssueReopened { issue: IssueId },
    /// A run began.
    RunStarted { run: RunId, issue: IssueId, attempt: Option<u32>, policy: PolicyHash },
    /// A run entered a phase.
    RunPhase { run: RunId, phase: Phase },
    /// A run is going to end, and how is decided.
    RunEnding { run: RunId, ending: Ending },
    /// A run ended.
    RunEnded { run: RunId, outcome: RunOutcome, reason: Option<String>, evidence: Option<String> },
    /// The workspace stands.
    WorkspaceReady { issue: IssueId, run: RunId, workspace: Workspace, created: bool },
    /// The workspace was removed.
    WorkspaceRemoved { issue: IssueId },
    /// The workspace stays, because work would be lost with it.
    WorkspaceKept { issue: IssueId, reason: String },
    /// A script of the project ended.
    HookEnded { issue: IssueId, run: Option<RunId>, hook: Hook, failure: Option<Failure> },
    /// The agent has a new session.
    SessionStarted { run: RunId, session: SessionId },
    /// The agent goes on in its old session.
    SessionResumed { run: RunId, session: SessionId },
    /// The old session is gone; a new one takes over with an account of it.
    SessionRehydrated { run: RunId, session: SessionId },
    /// A prompt is about to be sent.
    TurnStarted { run: RunId, turn: u32, repeated: bool },
    /// A turn is over. `cut`: by our own restart, or by the end of its agent that the run goes on after.
    TurnEnded {
        run: RunId,
        turn: u32,
        #[serde(flatten)]
        turn_outcome: TurnOutcome,
        summary: String,
        cut: bool,
    },
    /// Tokens of a turn so far; the largest report of a turn counts. `settled`: by the session's own total after a resume.
    Usage {
        run: RunId,
        turn: u32,
        usage: Usage,
        #[serde(default)]
        model: Option<String>,
        #[serde(default)]
        settled: bool,
    },
    /// The work was looked at after a turn: something was done since the last look, or not.
    Progress {
        run: RunId,
        turn: u32,
        progressed: bool,
        head: Option<CommitId>,
        diff_digest: Option<String>,
        tool_digest: Option<String>,
    },
    /// The model's provider refuses for a while.
    RateLimited { run: RunId, reset_at: Option<Timestamp> },
    /// No run of this kind of agent starts until then: its quota is used up.
    AgentSuspended { agent: AgentKind, until: Timestamp, run: RunId },
    /// The quota of this kind of agent has been reset.
    AgentResumed { agent: AgentKind },
    /// The agent asked something. `live`: its turn stays open for the answer to this question.
    QuestionAsked {
        run: RunId,
        question: String,
        #[serde(default)]
        wants: Wants,
        #[serde(default)]
        live: Option<u64>,
        #[serde(default)]
        expires_at: Option<Timestamp>,
    },
    /// The agent does not wait for the answer any more.
    QuestionWithdrawn { run: RunId },
    /// Nobody answered in time.
    QuestionExpired { issue: IssueId },
    /// An operator answered.
    QuestionAnswered { issue: IssueId, reply: Reply, by: String, action_id: String },
    /// Words of an operator wait for the agent's next prompt.
    MessageQueued { issue: IssueId, message: Message },
    /// The agent took words of an operator in its open turn.
    MessageHeard { run: RunId, message: Message },
    /// An operator wants the run stopped.
    StopAsked { run: RunId, wish: StopWish },
    /// How the next run of the issue begins.
    StartPlanned { issue: IssueId, start: Start },
    /// From now on no new work is taken, or it is again.
    Drained { on: bool, action_id: String },
    /// A check ran to its end. Where what it said is kept, if anywhere.
    CheckEnded {
        run: RunId,
        commit: CommitId,
        command: String,
        passed: bool,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        kept: Option<FileReceipt>,
    },
    /// What stands between a turn's work and its handoff.
    HandoffMissing { run: RunId, missing: Missing },
    /// The handoff began, with evidence for `commit`.
    SagaStarted {
        run: RunId,
        commit: CommitId,
        evidence: String,
        /// Its id; none in journals of older versions.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        saga: Option<String>,
    },
    /// A step of the handoff changed.
    SagaStep {
        run: RunId,
        step: SagaStep,
        state: StepState,
        /// Number of the entry of the saga's log that says so; 0 in journals of older versions.
        #[serde(default)]
        entry: u64,
    },
    /// The issue has this pull request.
    PullRequestLinked { run: RunId, pull_request: PullRequest },
    /// From now on the handoff is undone.
    SagaTurnedBack { run: RunId, failure: Failure },
    /// The push was refused, because the remote's branch has commits that ours does not contain; they are in the
    /// workspace now. The handoff is off until the agent merged them.
    BranchDiverged { run: RunId, remote: CommitId },
    /// The handoff ended.
    SagaEnded { run: RunId, committed: bool },
    /// An effect is about to be performed.
    EffectIntended {
        effect_id: EffectId,
        issue: IssueId,
        run: Option<RunId>,
        key: String,
        attempt: u32,
        effect: Effect,
    },
    /// An effect's outcome is known.
    EffectEnded { effect_id: EffectId, issue: IssueId, run: Option<RunId>, outcome: Outcome, probed: bool },
    /// An effect's outcome is unknown.
    EffectInDoubt { effect_id: EffectId, issue: IssueId, run: Option<RunId>, reason: String },
    /// Something of a restart's recovery was done.
    RecoveryStep { issue: IssueId, run: Option<RunId>, step: String },
    /// An issue waits for an operator. `limit`: the limit that was reached. `held_until`: no change by others reopens it before.
    Parked {
        issue: IssueId,
        run: Option<RunId>,
        reason: String,
        detail: String,
        #[serde(default)]
        limit: Option<BudgetLimit>,
        #[serde(default)]
        held_until: Option<Timestamp>,
    },
    /// An operator's action is taken on. `content`: hash over kind, target and payload.
    ActionAccepted {
        action_id: String,
        correlation_id: String,
        action_kind: String,
        target_kind: String,
        target_id: String,
        issue: Option<IssueId>,
        idempotency_key: Option<String>,
        content: String,
        /// Who acted, as far as they are known; none in journals of older versions.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<String>,
    },
    /// An operator's action is refused.
    ActionRejected {
        action_id: String,
        correlation_id: String,
        action_kind: String,
        target_kind: String,
        target_id: String,
        code: String,
        reason: String,
        /// Who acted, as for an accepted one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<String>,
    },
    /// An accepted action has done what it is for.
    ActionCompleted {
        action_id: String,
        correlation_id: String,
        issue: Option<IssueId>,
        /// What came of it, in a word: the identifier of an issue that was made.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        note: Option<String>,
    },
    /// An accepted action could not do what it is for.
    ActionFailed { action_id: String, correlation_id: String, issue: Option<IssueId>, failure: Failure },
    /// An operator set limits over the policy's: of an issue, or of a UTC day.
    BudgetSet { issue: Option<IssueId>, day: Option<i64>, limits: BudgetOverride, action_id: String },
    /// An operator released a parked issue: breakers and the count of runs start over.
    Released { issue: IssueId, action_id: String },
    /// Something is to be told to a receiver of the policy.
    NoticeQueued { receiver: Receiver, notice: Notice },
    /// Notices were given up: `count` of them, from the one with the number `first` on. `all`: everything that waited for the receiver.
    NoticesDropped { receiver: Receiver, first: u64, count: u64, all: bool, failure: Failure },
    /// How ready the daemon is has changed. `remaining`: steps of the plan that are to be done.
    Readiness {
        #[serde(flatten)]
        told: Told,
        remaining: u64,
    },
    /// A step of a recovery plan about something outside the journal was carried out, or could not be.
    Recovered {
        surface: Surface,
        action: Remedy,
        /// Why, in stable words.
        reason: String,
        /// About which path, run or issue.
        member: String,
        /// What was done, in words.
        done: String,
        failure: Option<Failure>,
    },
    /// So many writes were refused to their callers since the last such event, by code; at most one event a minute.
    WritesRefused { counts: BTreeMap<String, u64> },
    /// The journal was restored from a backup of `journal`, under a new identity. What was done since `backup_at` is unknown, and so many
    /// numbers of runs, effects and actions are left out, which may have been used since.
    JournalRestored { epoch: u64, journal: String, backup_at: Timestamp, skipped: u64 },
    /// It was looked for what was done for an issue since the backup. `found`: why it is not dispatched.
    RestoreProbed { issue: IssueId, tip: Option<CommitId>, found: Option<String> },
}

impl Event {
    /// The word on the wire.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::DaemonStarted { .. } => "daemon_started",
            Self::DaemonStopped { .. } => "daemon_stopped",
            Self::WorkflowLoaded { .. } => "workflow_loaded",
            Self::WorkflowRejected { .. } => "workflow_rejected",
            Self::TrackerHealth { .. } => "tracker_health",
            Self::IssueSeen { .. } => "issue_seen",
            Self::IssueChanged { .. } => "issue_changed",
            Self::IssueGone { .. } => "issue_gone",
            Self::IssueStatus { .. } => "issue_status",
            Self::IssueReopened { .. } => "issue_reopened",
            Self::RunStarted { .. } => "run_started",
            Self::RunPhase { .. } => "run_phase",
            Self::RunEnding { .. } => "run_ending",
            Self::RunEnded { .. } => "run_ended",
            Self::WorkspaceReady { .. } => "workspace_ready",
            Self::WorkspaceRemoved { .. } => "workspace_removed",
            Self::WorkspaceKept { .. } => "workspace_kept",
            Self::HookEnded { .. } => "hook_ended",
            Self::SessionStarted { .. } => "session_started",
            Self::SessionResumed { .. } => "session_resumed",
            Self::SessionRehydrated { .. } => "session_rehydrated",
            Self::TurnStarted { .. } => "turn_started",
            Self::TurnEnded { .. } => "turn_ended",
            Self::Usage { .. } => "usage",
            Self::Progress { .. } => "progress",
            Self::RateLimited { .. } => "rate_limited",
            Self::AgentSuspended { .. } => "agent_suspended",
            Self::AgentResumed { .. } => "agent_resumed",
            Self::QuestionAsked { .. } => "question_asked",
            Self::QuestionWithdrawn { .. } => "question_withdrawn",
            Self::QuestionExpired { .. } => "question_expired",
            Self::QuestionAnswered { .. } => "question_answered",
            Self::MessageQueued { .. } => "message_queued",
            Self::MessageHeard { .. } => "message_heard",
            Self::StopAsked { .. } => "stop_asked",
            Self::StartPlanned { .. } => "start_planned",
            Self::Drained { .. } => "drained",
            Self::CheckEnded { .. } => "check_ended",
            Self::HandoffMissing { .. } => "handoff_missing",
            Self::SagaStarted { .. } => "saga_started",
            Self::SagaStep { .. } => "saga_step",
            Self::PullRequestLinked { .. } => "pull_request_linked",
            Self::SagaTurnedBack { .. } => "saga_turned_back",
            Self::BranchDiverged { .. } => "branch_diverged",
            Self::SagaEnded { .. } => "saga_ended",
            Self::EffectIntended { .. } => "effect_intended",
            Self::EffectEnded { .. } => "effect_ended",
            Self::EffectInDoubt { .. } => "effect_in_doubt",
            Self::RecoveryStep { .. } => "recovery_step",
            Self::Parked { .. } => "parked",
            Self::ActionAccepted { .. } => "action_accepted",
            Self::ActionRejected { .. } => "action_rejected",
            Self::ActionCompleted { .. } => "action_completed",
            Self::ActionFailed { .. } => "action_failed",
            Self::BudgetSet { .. } => "budget_set",
            Self::Released { .. } => "released",
            Self::NoticeQueued { .. } => "notice_queued",
            Self::NoticesDropped { .. } => "notices_dropped",
            Self::Readiness { .. } => "readiness",
            Self::Recovered { .. } => "recovered",
            Self::WritesRefused { .. } => "writes_refused",
            Self::JournalRestored { .. } => "journal_restored",
            Self::RestoreProbed { .. } => "restore_probed",
        }
    }

    /// The issue that the event names itself; events of a run find theirs through the run.
    #[must_use]
    pub fn issue(&self) -> Option<&IssueId> {
        match self {
            Self::IssueSeen { issue } | Self::IssueChanged { issue } => Some(&issue.id),
            Self::IssueGone { issue }
            | Self::IssueStatus { issue, .. }
            | Self::IssueReopened { issue }
            | Self::RunStarted { issue, .. }
            | Self::WorkspaceReady { issue, .. }
            | Self::WorkspaceRemoved { issue }
            | Self::WorkspaceKept { issue, .. }
            | Self::HookEnded { issue, .. }
            | Self::EffectIntended { issue, .. }
            | Self::EffectEnded { issue, .. }
            | Self::EffectInDoubt { issue, .. }
            | Self::RecoveryStep { issue, .. }
            | Self::Released { issue, .. }
            | Self::QuestionExpired { issue }
            | Self::QuestionAnswered { issue, .. }
            | Self::MessageQueued { issue, .. }
            | Self::StartPlanned { issue, .. }
            | Self::NoticeQueued { notice: Notice { issue, .. }, .. }
            | Self::Parked { issue, .. }
            | Self::RestoreProbed { issue, .. } => Some(issue).filter(|issue| !issue.is_nobodys()),
            Self::ActionAccepted { issue, .. }
            | Self::ActionCompleted { issue, .. }
            | Self::ActionFailed { issue, .. }
            | Self::BudgetSet { issue, .. } => issue.as_ref(),
            Self::DaemonStarted { .. }
            | Self::WritesRefused { .. }
            | Self::ActionRejected { .. }
            | Self::DaemonStopped { .. }
            | Self::WorkflowLoaded { .. }
            | Self::WorkflowRejected { .. }
            | Self::TrackerHealth { .. }
            | Self::RunPhase { .. }
            | Self::RunEnding { .. }
            | Self::RunEnded { .. }
            | Self::SessionStarted { .. }
            | Self::SessionResumed { .. }
            | Self::SessionRehydrated { .. }
            | Self::TurnStarted { .. }
            | Self::TurnEnded { .. }
            | Self::Usage { .. }
            | Self::Progress { .. }
            | Self::AgentSuspended { .. }
            | Self::AgentResumed { .. }
            | Self::RateLimited { .. }
            | Self::QuestionAsked { .. }
            | Self::QuestionWithdrawn { .. }
            | Self::MessageHeard { .. }
            | Self::StopAsked { .. }
            | Self::Drained { .. }
            | Self::CheckEnded { .. }
            | Self::HandoffMissing { .. }
            | Self::SagaStarted { .. }
            | Self::SagaStep { .. }
            | Self::PullRequestLinked { .. }
            | Self::SagaTurnedBack { .. }
            | Self::BranchDiverged { .. }
            | Self::NoticesDropped { .. }
            | Self::Readiness { .. }
            | Self::Recovered { .. }
            | Self::SagaEnded { .. }
            | Self::JournalRestored { .. } => None,
        }
    }

    /// The run that the event speaks of.
    #[must_use]
    pub fn run(&self) -> Option<&RunId> {
        match self {
            Self::RunStarted { run, .. }
            | Self::RunPhase { run, .. }
            | Self::RunEnding { run, .. }
            | Self::RunEnded { run, .. }
            | Self::WorkspaceReady { run, .. }
            | Self::SessionStarted { run, .. }
            | Self::SessionResumed { run, .. }
            | Self::SessionRehydrated { run, .. }
            | Self::TurnStarted { run, .. }
            | Self::TurnEnded { run, .. }
            | Self::Usage { run, .. }
            | Self::Progress { run, .. }
            | Self::AgentSuspended { run, .. }
            | Self::RateLimited { run, .. }
            | Self::QuestionAsked { run, .. }
            | Self::QuestionWithdrawn { run }
            | Self::MessageHeard { run, .. }
            | Self::StopAsked { run, .. }
            | Self::CheckEnded { run, .. }
            | Self::HandoffMissing { run, .. }
            | Self::SagaStarted { run, .. }
            | Self::SagaStep { run, .. }
            | Self::PullRequestLinked { run, .. }
            | Self::SagaTurnedBack { run, .. }
            | Self::BranchDiverged { run, .. }
            | Self::SagaEnded { run, .. } => Some(run),
            Self::HookEnded { run, .. }
            | Self::EffectIntended { run, .. }
            | Self::EffectEnded { run, .. }
            | Self::EffectInDoubt { run, .. }
            | Self::RecoveryStep { run, .. }
            | Self::Parked { run, .. } => run.as_ref(),
            Self::DaemonStarted { .. }
            | Self::DaemonStopped { .. }
            | Self::WorkflowLoaded { .. }
            | Self::WorkflowRejected { .. }
            | Self::AgentResumed { .. }
            | Self::ActionAccepted { .. }
            | Self::ActionRejected { .. }
            | Self::ActionCompleted { .. }
            | Self::ActionFailed { .. }
            | Self::BudgetSet { .. }
            | Self::Released { .. }
            | Self::WritesRefused { .. }
            | Self::QuestionExpired { .. }
            | Self::QuestionAnswered { .. }
            | Self::MessageQueued { .. }
            | Self::StartPlanned { .. }
            | Self::Drained { .. }
            | Self::TrackerHealth { .. }
            | Self::IssueSeen { .. }
            | Self::IssueChanged { .. }
            | Self::IssueGone { .. }
            | Self::IssueStatus { .. }
            | Self::IssueReopened { .. }
            | Self::WorkspaceRemoved { .. }
            | Self::NoticeQueued { .. }
            | Self::NoticesDropped { .. }
            | Self::Readiness { .. }
            | Self::Recovered { .. }
            | Self::WorkspaceKept { .. }
            | Self::JournalRestored { .. }
            | Self::RestoreProbed { .. } => None,
        }
    }
}
