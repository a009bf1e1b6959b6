//! Effects: every way in which the daemon touches the outside world, as one closed enum, and what comes back.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::blob::FileReceipt;
use crate::ids::{CommitId, EffectId, IssueId, PolicyHash, RunId, SessionId};
use crate::inspection::{Inspection, LookFor, Mend};
use crate::issue::{Issue, Workspace};
use crate::notify::{Notice, Receiver};
use crate::operate::{ActionRef, Order};
use crate::policy::{Hook, Policy};
use crate::question::{Message, Wants};
use crate::run::SagaStep;
use crate::settle::SagaWord;
use crate::time::Timestamp;
use crate::usage::Usage;

/// One interaction with the outside world. Journaled as intent before it is performed, and as outcome after.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Effect {
    /// Make the workspace, or find it as it was. `fresh`: whatever half-made one is there is made anew.
    PrepareWorkspace {
        /// Make it anew although a directory is there; used when `after_create` is in doubt.
        fresh: bool,
    },
    /// Run one of the project's scripts in the workspace.
    RunHook {
        /// Which.
        hook: Hook,
    },
    /// Move the issue in the tracker to `to`, unless it is terminal by then.
    MoveIssue {
        /// Target state, as the tracker spells it.
        to: String,
        /// The state that it was in when this was decided; `None` in older journals. Found in neither of the two, it was
        /// moved on by somebody else.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        from: Option<String>,
    },
    /// Start the agent and its session, or resume one.
    StartSession {
        /// Session to resume; `None` makes a new one.
        resume: Option<SessionId>,
        /// Key of the prompt whose marker is sought in the session's history.
        seek: Option<String>,
    },
    /// Send a prompt and wait for the end of the turn.
    Prompt {
        /// Number of the turn in its run, from 1.
        turn: u32,
        /// What to say.
        prompt: PromptSpec,
        /// What operators say with it.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        messages: Vec<Message>,
    },
    /// End the agent of the run, its session's process and every process that it started.
    StopAgent,
    /// Kill what a dead daemon's run left running. Same means as [`Effect::StopAgent`], but nothing is attached.
    Sweep,
    /// Commit what the agent left uncommitted.
    CommitLeftovers,
    /// Fetch the workspace's head into the daemon's own repository.
    FetchCommit,
    /// Run one check on a clean checkout of `commit`.
    RunCheck {
        /// The commit that is to be handed over.
        commit: CommitId,
        /// Position in `handoff.checks`, from 0.
        index: u32,
    },
    /// Hand the work over: a saga of push, pull request, comment and move, from its intent to its end.
    HandOff {
        /// Id of the saga.
        saga: String,
        /// What is handed over.
        commit: CommitId,
        /// Where the remote branch is known to be; `None`: it must not exist, or already hold `commit`.
        expected: Option<CommitId>,
        /// The state that the issue was in when this was decided. Found in neither this nor the target state, it was moved
        /// on by somebody else.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        from: Option<String>,
        /// Number of the pull request of an earlier handoff of the issue: while that is open, it is gone on with.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pull_request: Option<u64>,
    },
    /// Tell the saga of a handoff what an operator says of it.
    TellSaga {
        /// Id of the saga.
        saga: String,
        /// The step that it is about.
        step: SagaStep,
        /// What is said.
        word: SagaWord,
        /// Who says it.
        by: String,
        /// Why.
        why: String,
        /// The action that it carries out.
        action_id: String,
        /// What the action is joined with.
        correlation_id: String,
    },
    /// Carry an operator's action out: on the tracker, or in the agent's open turn.
    CarryOut {
        /// What.
        order: Order,
        /// The action.
        action: ActionRef,
    },
    /// Push `commit` to the branch on the remote. Of older versions: see [`Effect::HandOff`].
    PushBranch {
        /// What to push.
        commit: CommitId,
        /// Where the remote branch is known to be; `None`: it must not exist, or already hold `commit`.
        expected: Option<CommitId>,
    },
    /// Bring what the remote's branch is at into the workspace, so that the agent can merge it.
    BringRemote,
    /// Comment on the issue. Of older versions: see [`Effect::HandOff`].
    Comment {
        /// The commit that the comment speaks of.
        commit: CommitId,
        /// Checks that passed on it.
        checks: Vec<String>,
    },
    /// Remove the issue's workspace if nothing would be lost with it, else keep it and say so.
    RemoveWorkspace {
        /// The last commit that was handed over; commits beyond it are work that would be lost.
        handed_off: Option<CommitId>,
    },
    /// Tell somebody outside. Sent again under the same id when nobody knows whether it arrived.
    Notify {
        /// Whom.
        receiver: Receiver,
        /// What, at most 100; the number of the first is the message's id in this journal.
        notices: Vec<Notice>,
        /// Notices that were not kept since the last message.
        missed: u64,
    },
    /// Something outside that no issue owns is put right. Belongs to no issue.
    Mend {
        /// What.
        mend: Mend,
    },
}

/// How an effect whose outcome is unknown is settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InDoubtPolicy {
    /// It is idempotent by nature: do it again.
    Rerun,
    /// Ask the world whether it was applied.
    Probe,
    /// The agent is gone; its session's history tells about the prompt.
    History,
    /// Make the workspace anew before going on.
    RemakeWorkspace,
}

impl Effect {
    /// What it puts right outside the journal, if it does that.
    pub(crate) fn mend(&self) -> Option<&Mend> {
        if let Self::Mend { mend } = self { Some(mend) } else { None }
    }

    /// The words of all kinds, as [`Effect::kind`] says them.
    pub const KINDS: [&str; 23] = [
        "prepare_workspace",
        "run_hook",
        "move_issue",
        "start_session",
        "prompt",
        "stop_agent",
        "sweep",
        "commit_leftovers",
        "fetch_commit",
        "run_check",
        "hand_off",
        "tell_saga",
        "comment_issue",
        "transition_issue",
        "create_issue",
        "steer_turn",
        "answer_agent",
        "push_branch",
        "bring_remote",
        "comment",
        "remove_workspace",
        "notify",
        "mend",
    ];

    /// The word on the wire.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::PrepareWorkspace { .. } => "prepare_workspace",
            Self::RunHook { .. } => "run_hook",
            Self::MoveIssue { .. } => "move_issue",
            Self::StartSession { .. } => "start_session",
            Self::Prompt { .. } => "prompt",
            Self::StopAgent => "stop_agent",
            Self::Sweep => "sweep",
            Self::CommitLeftovers => "commit_leftovers",
            Self::FetchCommit => "fetch_commit",
            Self::RunCheck { .. } => "run_check",
            Self::HandOff { .. } => "hand_off",
            Self::TellSaga { .. } => "tell_saga",
            Self::CarryOut { order, .. } => order.kind(),
            Self::PushBranch { .. } => "push_branch",
            Self::BringRemote => "bring_remote",
            Self::Comment { .. } => "comment",
            Self::RemoveWorkspace { .. } => "remove_workspace",
            Self::Notify { .. } => "notify",
            Self::Mend { .. } => "mend",
        }
    }

    /// What happens when nobody knows whether it took place. No effect is without an answer.
    #[must_use]
    pub fn in_doubt(&self) -> InDoubtPolicy {
        match self {
            Self::RunHook { hook: Hook::AfterCreate } => InDoubtPolicy::RemakeWorkspace,
            Self::StartSession { .. } | Self::Prompt { .. } => InDoubtPolicy::History,
            Self::PushBranch { .. } | Self::Comment { .. } | Self::MoveIssue { .. } => InDoubtPolicy::Probe,
            Self::PrepareWorkspace { .. }
            | Self::RunHook { hook: Hook::BeforeRun | Hook::AfterRun | Hook::BeforeRemove }
            | Self::StopAgent
            | Self::Sweep
            | Self::CommitLeftovers
            | Self::FetchCommit
            | Self::RunCheck { .. }
            | Self::HandOff { .. }
            | Self::TellSaga { .. }
            | Self::CarryOut { .. }
            | Self::BringRemote
            | Self::Notify { .. }
            | Self::Mend { .. }
            | Self::RemoveWorkspace { .. } => InDoubtPolicy::Rerun,
        }
    }
}

/// What a prompt says; the text is rendered when it is performed, from this and the run's policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum PromptSpec {
    /// The workflow's template, for a new session.
    First {
        /// Template variable `attempt`.
        attempt: Option<u32>,
    },
    /// The same session goes on.
    Continue {
        /// What stands between the work and its handoff.
        missing: Missing,
    },
    /// The same session goes on after a turn that was cut.
    AfterCut,
    /// The same session goes on after it was held: by an operator, or for an answer.
    Resumed,
    /// A new session takes over from one that is gone: the template, and an account of what was done.
    Rehydrate {
        /// Template variable `attempt`.
        attempt: Option<u32>,
        /// Turns that the lost session had.
        turns: u32,
    },
}

/// What stands between the work and its handoff.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum Missing {
    /// Nothing was committed over the base.
    NoCommit,
    /// Files are uncommitted, and the policy wants the agent to commit them.
    Uncommitted {
        /// Paths, at most 50.
        files: Vec<String>,
    },
    /// A check failed.
    CheckFailed {
        /// The command.
        command: String,
        /// End of its output, at most 4 KiB.
        output_tail: String,
    },
    /// The branch on the remote has commits that the work does not contain.
    Diverged {
        /// What it is at; in the workspace as the branch's remote-tracking ref.
        remote: CommitId,
    },
    /// There is no handoff; the issue is still active in the tracker.
    StillActive,
    /// Words of operators wait for the agent; they come with the prompt.
    Messages,
}

/// An effect with everything that its performer needs; leaves the machine only when the intent is durable.
#[derive(Debug, Clone)]
pub struct EffectRequest {
    /// Its number in the journal.
    pub id: EffectId,
    /// Stable across attempts: the remote's idempotency key and the seed of markers.
    pub key: String,
    /// 1 for the first try of this key.
    pub attempt: u32,
    /// The issue as last seen.
    pub issue: Issue,
    /// The run that it belongs to; none for work on an issue between runs.
    pub run: Option<RunId>,
    /// The policy that it is done under.
    pub policy: Arc<Policy>,
    /// Its name in the journal. What a later version would name it is another matter.
    pub policy_hash: PolicyHash,
    /// The issue's workspace, once there is one.
    pub workspace: Option<Workspace>,
    /// Branch that the journal knows for the issue, and the commit that we put there.
    pub known_branch: Option<KnownBranch>,
    /// Its run was live in a backup that was restored: it may have been done since.
    pub restored: bool,
    /// Permissions that operators gave in the run's session, in the words in which they were asked for.
    pub grants: Vec<String>,
    /// Nobody wants it any more: what of it has begun is undone as far as that goes, and nothing is begun.
    pub unwanted: bool,
    /// What to do.
    pub effect: Effect,
}

impl EffectRequest {
    /// The branch of the issue's work, if there is one.
    #[must_use]
    pub fn branch(&self) -> Option<&str> {
        let of_workspace = self.workspace.as_ref().and_then(|workspace| workspace.branch.as_deref());
        of_workspace.or_else(|| self.known_branch.as_ref().map(|known| known.name.as_str()))
    }
}

/// A branch of ours on the remote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownBranch {
    /// Its name.
    pub name: String,
    /// The commit that we last pushed; `None` when we never pushed.
    pub commit: Option<CommitId>,
}

/// How an effect ended, as far as the journal is concerned.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "result", rename_all = "snake_case")]
pub enum Outcome {
    /// It took place.
    Done {
        /// What came of it.
        output: EffectOutput,
    },
    /// It is known that it did not take place, or that it failed.
    Failed {
        /// Why.
        failure: Failure,
    },
    /// Nobody knows: timeout, panic, dropped, cut.
    InDoubt {
        /// Why nobody knows.
        reason: String,
    },
}

/// Why something failed: stable code, words, remedy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{code}: {message}")]
pub struct Failure {
    /// Stable code, `snake_case`.
    pub code: String,
    /// What happened and why.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// Whether trying again may help.
    pub retryable: bool,
}

impl Failure {
    /// A failure that may pass when tried again.
    #[must_use]
    pub fn retryable(code: &str, message: impl Into<String>) -> Self {
        Self { code: code.to_owned(), message: message.into(), hint: None, retryable: true }
    }

    /// A failure that needs somebody's hand.
    #[must_use]
    pub fn permanent(code: &str, message: impl Into<String>) -> Self {
        Self { code: code.to_owned(), message: message.into(), hint: None, retryable: false }
    }

    /// The same failure with a remedy.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// What came of an effect that took place; one variant or more per effect kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "output", rename_all = "snake_case")]
pub enum EffectOutput {
    /// The workspace stands.
    WorkspaceReady {
        /// Where, and on which branch.
        workspace: Workspace,
        /// It was made now, so `after_create` is due.
        created: bool,
    },
    /// The script ended with success.
    HookEnded {
        /// End of its output, at most 4 KiB.
        output_tail: String,
    },
    /// The issue is in this state now (ours, or a terminal one that somebody else chose).
    Moved {
        /// State as the tracker spells it.
        state: String,
    },
    /// The agent runs and has a session.
    SessionStarted {
        /// Its id.
        session: SessionId,
        /// How it came about.
        how: SessionStart,
        /// Tokens of the whole session by its own count, for one that was resumed and says so.
        #[serde(default)]
        usage: Option<Usage>,
    },
    /// The turn is over.
    TurnEnded {
        /// How.
        turn: TurnOutcome,
        /// Tokens of the turn, as far as they were reported.
        usage: Usage,
        /// The agent's last words, at most 2 KiB.
        summary: String,
        /// The model that was asked, as far as known.
        #[serde(default)]
        model: Option<String>,
        /// Hash over all tool results of the turn; `None` when there were none.
        #[serde(default)]
        tool_digest: Option<String>,
    },
    /// Nothing of the run's runs any more.
    Swept {
        /// Processes that had to be killed.
        killed: u32,
    },
    /// Nothing is uncommitted now.
    LeftoversCommitted {
        /// Whether there was anything to commit.
        committed: bool,
    },
    /// The commit is in the daemon's own repository.
    CommitFetched {
        /// Which.
        commit: CommitId,
    },
    /// The check ran to its end.
    CheckEnded {
        /// Exit code 0.
        passed: bool,
        /// End of its output, at most 4 KiB.
        output_tail: String,
        /// Where what it said is kept; `None`: nowhere.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        kept: Option<FileReceipt>,
    },
    /// The saga of the handoff is over.
    HandedOff {
        /// How.
        end: SagaEnd,
    },
    /// The saga has recorded what it was told.
    SagaTold,
    /// The agent was told.
    AgentTold,
    /// The issue was made, or was there already.
    IssueMade {
        /// Its identifier.
        identifier: String,
    },
    /// The remote branch holds the commit. Of older versions.
    Pushed,
    /// What the remote's branch is at is in the workspace.
    RemoteBrought {
        /// Its commit.
        commit: CommitId,
    },
    /// The comment is on the issue. Of older versions.
    Commented,
    /// The directory is gone.
    WorkspaceRemoved,
    /// Of [`Effect::Notify`].
    Notified,
    /// Of [`Effect::Mend`].
    Mended {
        /// What was done, in words.
        done: String,
    },
    /// The directory stays, because work would be lost with it.
    WorkspaceKept {
        /// What would be lost.
        reason: String,
    },
}

/// How the saga of a handoff ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SagaEnd {
    /// Every step is done.
    Committed,
    /// What was done is undone.
    Compensated,
    /// An operator left something as it is.
    Abandoned,
}

/// How a session came about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SessionStart {
    /// A new one.
    New,
    /// The old one; no prompt was sought.
    Resumed,
    /// The old one, and the sought prompt is in its history.
    ResumedPromptFound,
    /// The old one, and the sought prompt never arrived.
    ResumedPromptMissing,
    /// The old one is gone; this is a new one.
    Gone,
}

/// How a turn ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum TurnOutcome {
    /// The agent says that it is through. That is not success: the work is looked at.
    Completed,
    /// The agent or its model failed.
    Failed {
        /// Why.
        failure: Failure,
    },
    /// The model's provider refuses for a while.
    RateLimited {
        /// When it takes requests again, if it says so.
        reset_at: Option<Timestamp>,
    },
    /// The agent asked something that nobody may answer for the operator.
    Asked {
        /// The question or the permission that it wants, at most 2 KiB.
        question: String,
        /// What it waits for.
        #[serde(default)]
        wants: Wants,
    },
    /// We ended it.
    Interrupted,
}

impl TurnOutcome {
    /// The word on the wire.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Failed { .. } => "failed",
            Self::RateLimited { .. } => "rate_limited",
            Self::Asked { .. } => "asked",
            Self::Interrupted => "interrupted",
        }
    }
}

/// A look at the world that changes nothing in it; not journaled, and simply asked again after a crash.
#[derive(Debug, Clone)]
#[allow(clippy::large_enum_variant, reason = "it is handed over once and never kept")]
pub enum Query {
    /// Issues in these states, and the current snapshots of these issues.
    Poll {
        /// State names, as the tracker spells them.
        states: Vec<String>,
        /// Issues that are known and may have changed or gone.
        ids: Vec<IssueId>,
        /// The policy that names the tracker.
        policy: Arc<Policy>,
    },
    /// After a turn: the issue as it is now, and the state of the work.
    Assess {
        /// The issue as last seen.
        issue: Issue,
        /// Where the work is.
        workspace: Workspace,
        /// Commits beyond this one count as work: the last handed-off commit, else the base.
        since: Option<CommitId>,
        /// The run's policy.
        policy: Arc<Policy>,
    },
    /// What is this issue now? Asked when its service says that it changed.
    Look {
        /// The issue.
        issue: IssueId,
        /// The policy that names the tracker.
        policy: Arc<Policy>,
    },
    /// What is outside the journal: workspaces, processes, transcripts, the database's pages, the disk?
    Inspect {
        /// What the fold knows.
        wanted: LookFor,
        /// The policy that says where workspaces are.
        policy: Arc<Policy>,
    },
    /// Where is the branch of an issue on the remote, after a restore?
    LostWork {
        /// The issue, in the form of what would be done for it first.
        request: Box<EffectRequest>,
    },
    /// Did this effect take place?
    Probe {
        /// The effect in doubt, with its context.
        request: Box<EffectRequest>,
    },
}

/// The answer to a [`Query`].
#[derive(Debug, Clone)]
#[allow(clippy::large_enum_variant, reason = "it is handed over once and never kept")]
pub enum Answer {
    /// To [`Query::Poll`].
    Poll {
        /// Issues in the asked states, and snapshots of the asked issues; those that are not visible any more are left out.
        seen: Result<SeenIssues, Failure>,
        /// Asked issues that are there and cannot be read now; what was known of them stays.
        unreadable: Vec<IssueId>,
    },
    /// To [`Query::Assess`].
    Assess {
        /// The issue now; `None` when it is not visible any more.
        issue: Result<Option<Issue>, Failure>,
        /// The work.
        work: Result<Work, Failure>,
    },
    /// To [`Query::Look`]; `None` when it is not visible any more.
    Look(Result<Option<Issue>, Failure>),
    /// To [`Query::Inspect`].
    Inspect(Box<Inspection>),
    /// To [`Query::LostWork`]: the commit, if the branch is there.
    LostWork(Result<Option<CommitId>, Failure>),
    /// To [`Query::Probe`].
    Probe(ProbeAnswer),
}

impl Answer {
    /// To [`Query::Poll`], of the two answers that trackers give. Whoever looked does this, and not the machine's loop, which takes one
    /// thing at a time.
    #[must_use]
    pub fn poll(
        by_states: Result<Vec<Issue>, Failure>,
        by_ids: Result<Vec<Issue>, Failure>,
        unreadable: Vec<IssueId>,
    ) -> Self {
        let seen = by_states.and_then(|active| Ok(SeenIssues::of(by_ids?, active)));
        Self::Poll { seen, unreadable }
    }
}

/// Issues as a tracker showed them: each once, in the order of their ids. A clone is the same list: whoever holds the last one gives many
/// issues back to the allocator.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SeenIssues(Arc<Vec<Arc<Issue>>>);

impl SeenIssues {
    /// Issues of two answers; of an issue that is there more than once, what came last.
    #[must_use]
    pub fn of(earlier: Vec<Issue>, later: Vec<Issue>) -> Self {
        // Most are in both, and are not to be in memory longer than they have to.
        let mut issues = sorted(later.into_iter().map(Arc::new).collect());
        let is_new = |issue: &Issue| issues.binary_search_by(|seen| seen.id.cmp(&issue.id)).is_err();
        let rest: Vec<Arc<Issue>> = earlier.into_iter().filter(is_new).map(Arc::new).collect();
        if !rest.is_empty() {
            issues.extend(rest);
            issues = sorted(issues);
        }
        Self(Arc::new(issues))
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// In the order of their ids.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Issue>> {
        self.0.iter()
    }
}

fn sorted(mut issues: Vec<Arc<Issue>>) -> Vec<Arc<Issue>> {
    issues.sort_by(|one, other| one.id.cmp(&other.id));
    // The sort has kept their order.
    issues.dedup_by(|later, kept| {
        let again = later.id == kept.id;
        if again {
            std::mem::swap(later, kept);
        }
        again
    });
    issues
}

/// State of the work in a workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Work {
    /// Head commit; `None` in a directory without git or without commits.
    pub head: Option<CommitId>,
    /// There are commits beyond the point that was asked for.
    pub has_commits: bool,
    /// Uncommitted paths, at most 50.
    pub uncommitted: Vec<String>,
    /// Hash over what is uncommitted, paths and content; without git over all files; `None` when there is nothing.
    pub diff_digest: Option<String>,
}

/// What the world says of an effect in doubt.
#[derive(Debug, Clone, PartialEq)]
pub enum ProbeAnswer {
    /// It took place.
    Applied(EffectOutput),
    /// It did not.
    NotApplied,
    /// It cannot be told (the remote does not answer).
    Inconclusive(Failure),
}
