//! Ports: what the driver needs of the outside world, as traits. Adapters, the store and the
//! testkit's doubles implement them.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use dalsegno_core::{
    AgentPolicy, Batch, CommitId, Committed, EffectRequest, Failure, FileReceipt, Hook, Inspection, Issue, IssueId,
    LookFor, Mend, Notice, Policy, PolicyHash, ProbeAnswer, Receiver, Reply, RunId, SessionId, SessionStart, Snapshot,
    Timestamp, TurnOutcome, Usage, Wants, Work, Workspace,
};
use dalsegno_durable::Entry;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use tokio_util::sync::CancellationToken;

use crate::reads::{TranscriptEntry, TranscriptKind};

/// The journal's writing side. One per database.
#[async_trait]
pub trait Journal: Send + Sync + 'static {
    /// Puts the batch on disk, synced, or says why not; `entries` are what it says of effects, as records of the library of
    /// durable effects, and go with it in one transaction. Batches take effect in the order of the calls.
    ///
    /// # Errors
    /// [`AppendError`]. A batch that is refused for its epoch or its place leaves nothing and no mark. After
    /// [`AppendError::Storage`] the journal is poisoned and every later append fails.
    async fn append(&self, batch: Batch, entries: Vec<Entry>) -> Result<Committed, AppendError>;
}

/// Why an append did not happen, or may not have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// Another owner took over: this one may record nothing any more.
    #[error("the journal belongs to epoch {current}, and this daemon has epoch {ours}")]
    StaleEpoch {
        /// Epoch of the batch.
        ours: u64,
        /// Epoch of the journal.
        current: u64,
    },
    /// The batch does not follow the last event.
    #[error("the journal expects event {expected}, and the batch begins with {found}")]
    UnexpectedSequence {
        /// What would follow.
        expected: u64,
        /// What came.
        found: u64,
    },
    /// The disk or the database refused; nobody knows whether the batch is there.
    #[error("the journal cannot be written: {0}")]
    Storage(String),
    /// An earlier append failed.
    #[error("the journal is closed after an earlier failure: {0}")]
    Poisoned(String),
}

/// What a store hands over when it is opened.
#[derive(Debug)]
pub struct Loaded {
    /// The newest snapshot, if there is one.
    pub snapshot: Option<Snapshot>,
    /// All events after it.
    pub events: Vec<dalsegno_core::Recorded>,
    /// The highest epoch that ever wrote.
    pub epoch: u64,
}

/// Where transcripts go. Bounded: a full queue makes the caller wait, and loses nothing.
pub trait Transcripts: Send + Sync + 'static {
    /// Appends one entry to the run's transcript. A failing disk is reported once and never stops the daemon.
    fn append(&self, run: &RunId, entry: TranscriptEntry);
}

/// Whose files are kept, and under what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileOwner {
    /// The run.
    pub run: RunId,
    /// The policy that it was started under.
    pub policy: PolicyHash,
    /// The kind of its agent.
    pub agent: String,
}

/// A file that is to be kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewFile {
    /// What it is, at most 64 of `a-z`, `0-9`, `.`, `_` and `-`.
    pub name: String,
    /// What is in it, at most 16 MiB.
    pub content: Vec<u8>,
}

/// Files beside the database, each with a receipt.
#[async_trait]
pub trait Blobs: Send + Sync + 'static {
    /// Keeps all of the files, at most 64, or none. When this answers, they and their receipts are on disk; when it fails, or is not
    /// waited for, it is found out by a look outside whether they are.
    ///
    /// # Errors
    /// `blob_unwritten` (retryable: the disk, or the journal), `blob_refused`, `stale_epoch`.
    async fn keep(&self, owner: FileOwner, files: Vec<NewFile>) -> Result<Vec<FileReceipt>, Failure>;
}

/// Reads WORKFLOW.md and renders templates.
pub trait Workflow: Send + Sync + 'static {
    /// The policy as the file stands now.
    ///
    /// # Errors
    /// A failure with the specification's code (`missing_workflow_file`, `workflow_parse_error`, …).
    fn load(&self) -> Result<Policy, Failure>;

    /// Whether the file may have changed since the last [`Workflow::load`]; cheap.
    fn changed(&self) -> bool;

    /// Renders a strict Liquid template with `issue` and `attempt`.
    ///
    /// # Errors
    /// `template_parse_error` or `template_render_error`.
    fn render(&self, template: &str, issue: &Issue, attempt: Option<u32>) -> Result<String, Failure>;
}

/// An issue tracker. Errors carry the specification's categories (`tracker_request`, `tracker_response`, …).
#[async_trait]
pub trait Tracker: Send + Sync + 'static {
    /// Tells what the journal knows, so that an issue keeps its id when its source lost it. Called once, before the first fetch.
    fn remember(&self, known: &[(IssueId, String)]);

    /// Issues in these states; none without a look when there are no names (Symphony §11.1).
    ///
    /// # Errors
    /// The whole call fails, or none of it.
    async fn fetch_issues_by_states(&self, states: &[String]) -> Result<Vec<Issue>, Failure>;

    /// Current snapshots of these issues; those that are not visible any more are left out.
    ///
    /// # Errors
    /// Also when a requested issue is there and malformed.
    async fn fetch_issues_by_ids(&self, ids: &[IssueId]) -> Result<Vec<Issue>, Failure>;

    /// Adds a comment that carries `marker` invisibly. Does nothing if one with that marker is there.
    ///
    /// # Errors
    /// `retryable` when nothing was written for certain.
    async fn comment(&self, issue: &IssueId, body: &str, marker: &str) -> Result<(), Failure>;

    /// Whether a comment of ours with this marker is there.
    ///
    /// # Errors
    /// When it cannot be told.
    async fn has_comment(&self, issue: &IssueId, marker: &str) -> Result<bool, Failure>;

    /// Moves the issue to the state `to`, unless it is in one of `unless` now. Answers the state that it is in afterwards.
    ///
    /// # Errors
    /// `retryable` when nothing was written for certain.
    async fn transition(&self, issue: &IssueId, to: &str, unless: &[String]) -> Result<String, Failure>;

    /// Makes an issue that carries `marker` invisibly, in the first active state, and answers its identifier. Does nothing but that if one
    /// with the marker is there.
    ///
    /// # Errors
    /// `retryable` when nothing was written for certain.
    async fn create(&self, title: &str, description: &str, marker: &str) -> Result<String, Failure>;

    /// Environment variables that hold the tracker's secrets; removed from every child's environment.
    fn secret_environment_names(&self) -> Vec<String>;
}

/// Makes trackers from policies.
pub trait Trackers: Send + Sync + 'static {
    /// The tracker that the policy names.
    ///
    /// # Errors
    /// `unsupported_tracker_kind`, `invalid_tracker_config`, `missing_tracker_secret`.
    fn open(&self, policy: &Policy) -> Result<Arc<dyn Tracker>, Failure>;
}

/// What every call on a workspace or a process of a run needs.
#[derive(Debug, Clone)]
pub struct Context {
    /// The effect, with issue, run, policy and workspace.
    pub request: Arc<EffectRequest>,
    /// Set in the environment of every child as `DALSEGNO_RUN`: what the sweep looks for.
    pub mark: String,
    /// Environment variables that no child gets.
    pub secret_names: Vec<String>,
    /// Gives up as soon as possible when canceled.
    pub cancel: CancellationToken,
}

/// How a check ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Checked {
    /// Exit code 0.
    pub passed: bool,
    /// What it said, in order: all of it, or a line that tells how much is left out and the last [`CHECK_OUTPUT_BYTES`].
    pub output: String,
}

/// Bytes of a check's output that are kept, at most.
pub const CHECK_OUTPUT_BYTES: usize = 1 << 20;

/// Directories that issues own, and the daemon's own repositories.
#[async_trait]
pub trait Workspaces: Send + Sync + 'static {
    /// Whether workspaces can be made under this policy, as far as that can be told without the network. Asked before a policy is
    /// taken.
    ///
    /// # Errors
    /// `repo_not_found`, `remote_not_found`, `workspace_root_unusable`, `git_not_found`, `sandbox_unavailable`.
    async fn preflight(&self, policy: &Policy) -> Result<(), Failure>;

    /// Makes the workspace, or finds it as it was; `fresh` makes a half-made one anew. `true` in the answer: made now.
    ///
    /// # Errors
    /// `workspace_*`, `branch_in_use`, `base_not_found`, `repo_unreachable`, `disk_full`.
    async fn prepare(&self, context: &Context, fresh: bool) -> Result<(Workspace, bool), Failure>;

    /// Runs one of the project's scripts in the workspace; answers the end of its output.
    ///
    /// # Errors
    /// `hook_failed`, `hook_timeout` (background children of the script included).
    async fn run_hook(&self, context: &Context, hook: Hook) -> Result<String, Failure>;

    /// Commits what is uncommitted; `false`: there was nothing.
    ///
    /// # Errors
    /// `commit_failed`.
    async fn commit_leftovers(&self, context: &Context) -> Result<bool, Failure>;

    /// Fetches the workspace's head into the daemon's own repository.
    ///
    /// # Errors
    /// `fetch_failed`, `no_commit`.
    async fn fetch_commit(&self, context: &Context) -> Result<CommitId, Failure>;

    /// Runs the check on a clean checkout of the commit.
    ///
    /// # Errors
    /// Only when it could not be run to its end; a timeout is a check that did not pass.
    async fn run_check(&self, context: &Context, commit: &CommitId, command: &str) -> Result<Checked, Failure>;

    /// Where the branch of the workspace is on the remote; `None`: nowhere. What is there can be put back later.
    ///
    /// # Errors
    /// `repo_unreachable`, `fetch_failed` (retryable), `push_failed` when there is no branch.
    async fn remote_tip(&self, context: &Context) -> Result<Option<CommitId>, Failure>;

    /// Where the branch of the issue is on the remote, also before the issue has a workspace; `None`: nowhere, or its policy has none.
    ///
    /// # Errors
    /// `repo_unreachable`, `repo_unusable` (retryable), `template_render_error`.
    async fn branch_tip(&self, context: &Context) -> Result<Option<CommitId>, Failure>;

    /// Pushes the commit to the branch of the workspace. Never forces. With `seen`, only while the remote's branch is there (or nowhere,
    /// for an inner `None`), or has the commit already.
    ///
    /// # Errors
    /// `branch_diverged`, `branch_in_use` (permanent), `push_failed`, `repo_unreachable` (retryable).
    async fn push(
        &self,
        context: &Context,
        commit: &CommitId,
        expected: Option<&CommitId>,
        seen: Option<Option<&CommitId>>,
    ) -> Result<(), Failure>;

    /// Puts the remote's branch back from `commit` to where it was before, or deletes it if it was nowhere. Does nothing where the branch
    /// does not have the commit.
    ///
    /// # Errors
    /// `branch_built_on` (permanent) when somebody went on with the commit, `push_failed`, `repo_unreachable` (retryable).
    async fn undo_push(&self, context: &Context, commit: &CommitId, before: Option<&CommitId>) -> Result<(), Failure>;

    /// Puts the remote's tip of the workspace's branch into the workspace, as `refs/remotes/origin/<branch>`, so that the
    /// agent can merge it; answers the commit. For a branch that diverged.
    ///
    /// # Errors
    /// `branch_gone` (permanent) when the remote has no such branch any more, `repo_unreachable`, `workspace_*`,
    /// `disk_full`.
    async fn bring_remote(&self, context: &Context) -> Result<CommitId, Failure>;

    /// Whether the remote branch holds the commit.
    async fn probe_push(&self, context: &Context, commit: &CommitId) -> ProbeAnswer;

    /// Removes the workspace; answers what would be lost when it stays.
    ///
    /// # Errors
    /// `workspace_remove_failed`.
    async fn remove(&self, context: &Context, handed_off: Option<&CommitId>) -> Result<Option<String>, Failure>;

    /// Removes lock files that a killed git left in the workspace's repository. Only after a sweep: nothing of the
    /// run's runs any more.
    ///
    /// # Errors
    /// `workspace_*` when the workspace cannot be looked at.
    async fn unlock(&self, policy: &Policy, workspace: &Workspace) -> Result<(), Failure>;

    /// State of the work; commits beyond `since` count.
    ///
    /// # Errors
    /// `workspace_missing`, `workspace_unreadable`.
    async fn inspect(&self, policy: &Policy, workspace: &Workspace, since: Option<&CommitId>) -> Result<Work, Failure>;
}

/// While an agent that starts still says something (a long history is replayed), an adapter waits for one answer at most so
/// many times its limit (`agent.read_timeout_ms`). The driver's own deadline is beyond that.
pub const START_PATIENCE: u32 = 60;

/// Starts agents. One implementation per agent kind, behind one that looks at the policy.
#[async_trait]
pub trait Agents: Send + Sync + 'static {
    /// Whether the agent's program is there, for kinds that have one of their own. Asked before a policy is taken.
    ///
    /// # Errors
    /// `agent_not_found`.
    async fn preflight(&self, policy: &AgentPolicy) -> Result<(), Failure>;

    /// Starts the agent in the workspace and makes or resumes its session.
    ///
    /// # Errors
    /// `agent_not_found`, `agent_start_failed`, `response_timeout`, `agent_exit`, `agent_protocol`. A failed start leaves no process.
    async fn start(&self, launch: Launch) -> Result<Started, Failure>;
}

/// What an agent is started with.
#[derive(Clone)]
pub struct Launch {
    /// Issue, run, policy, workspace, mark, cancel.
    pub context: Context,
    /// Session to resume.
    pub resume: Option<SessionId>,
    /// Marker of the prompt that is sought in the session's history.
    pub seek: Option<String>,
    /// Where signs of life, usage and the transcript go.
    pub sink: Arc<dyn AgentSink>,
    /// Tools that the agent may call, executed by the daemon.
    pub tools: Arc<dyn Toolbox>,
    /// State directory of the daemon; an agent that needs a place for its own sessions gets one below it.
    pub state_dir: PathBuf,
}

/// A running agent.
pub struct Started {
    /// Its session.
    pub session: SessionId,
    /// How the session came about.
    pub how: SessionStart,
    /// Tokens of the whole session by its own count, for one that was resumed and says so.
    pub usage: Option<Usage>,
    /// The agent.
    pub agent: Box<dyn AgentSession>,
}

/// A running agent with a session.
#[async_trait]
pub trait AgentSession: Send {
    /// Notes the prompt in the transcript, sends it and waits for the end of the turn. Canceled: interrupts the turn and answers `Interrupted` soon.
    ///
    /// # Errors
    /// `agent_exit`, `agent_protocol`, `response_timeout`, `turn_timeout`: the agent is of no use any more.
    async fn prompt(&mut self, turn: u32, text: &str, cancel: &CancellationToken) -> Result<TurnEnd, Failure>;

    /// Ends the agent's process and everything that hangs on it. Never fails; what is left the sweep takes.
    async fn close(self: Box<Self>);

    /// A way to speak into the turn that is under way, where the protocol has one.
    fn steering(&self) -> Option<Arc<dyn Steering>> {
        None
    }
}

/// Speaks into a turn that is under way.
#[async_trait]
pub trait Steering: Send + Sync {
    /// Adds the text to the open turn.
    ///
    /// # Errors
    /// `no_turn` when none is open: the text belongs into the next prompt. Else as for [`AgentSession::prompt`].
    async fn steer(&self, text: &str) -> Result<(), Failure>;
}

/// Tools that an agent may call and the daemon executes.
#[async_trait]
pub trait Toolbox: Send + Sync {
    /// What there is, in a fixed order.
    fn tools(&self) -> Vec<ToolSpec>;

    /// Executes one call. Never fails: what went wrong is told to the agent. A call that is delivered again under the same id is
    /// answered from the record, if it wrote anything.
    async fn call(&self, call: ToolCall) -> ToolAnswer;
}

/// What an agent wants of a tool.
#[derive(Debug, Clone, PartialEq)]
pub struct ToolCall {
    /// The agent's own name for the call, the same when it is delivered again; unique in its run.
    pub id: String,
    /// The tool.
    pub name: String,
    /// What it is given.
    pub arguments: serde_json::Value,
}

/// A tool, as an agent is told of it.
#[derive(Debug, Clone, PartialEq)]
pub struct ToolSpec {
    /// Stable name.
    pub name: String,
    /// What it does, for the model.
    pub description: String,
    /// JSON schema of its arguments, an object.
    pub input_schema: serde_json::Value,
}

/// What a tool call came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolAnswer {
    /// For the model, at most 16 KiB.
    pub text: String,
    /// It did what it is for.
    pub success: bool,
}

/// How a turn ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TurnEnd {
    /// How.
    pub turn: TurnOutcome,
    /// Tokens, as far as reported.
    pub usage: Usage,
    /// The agent's last words, at most 2 KiB.
    pub summary: String,
    /// The model that was asked, as far as known.
    pub model: Option<String>,
    /// Hash over all tool results of the turn; `None` when there were none.
    pub tool_digest: Option<String>,
}

/// Where an agent's signs go. Calls may wait when the daemon is behind, and lose nothing.
pub trait AgentSink: Send + Sync {
    /// It is alive.
    fn activity(&self);
    /// Tokens of the turn so far, and the model that was asked, as far as known.
    fn usage(&self, usage: Usage, model: Option<&str>);
    /// A line for the transcript.
    fn transcript(&self, kind: TranscriptKind, text: &str);
    /// Asks an operator, while the turn stays open. Ends without an answer when nobody is to answer it any more: then the turn has to end
    /// with the question ([`TurnOutcome::Asked`]).
    fn ask(&self, _question: &str, _wants: Wants) -> BoxFuture<'static, Option<Reply>> {
        std::future::ready(None).boxed()
    }
    /// How much of the provider's quota is used, for agents whose protocol tells it. For people to see.
    fn rate_limits(&self, _windows: &[RateWindow]) {}
}

/// How much of a quota is used in its window of time.
#[derive(Debug, Clone, PartialEq)]
pub struct RateWindow {
    /// Which quota.
    pub name: String,
    /// From 0 to 100.
    pub used_percent: f64,
    /// Length of the window.
    pub window_minutes: Option<u64>,
    /// When it begins anew.
    pub resets_at: Option<Timestamp>,
}

/// Tells people outside.
#[async_trait]
pub trait Notifier: Send + Sync + 'static {
    /// Whether all addresses and secrets that the policy names are there. Asked before a policy is taken.
    ///
    /// # Errors
    /// `missing_notify_secret`, `invalid_config`.
    fn preflight(&self, policy: &Policy) -> Result<(), Failure>;

    /// Tells one receiver. It may hear a message twice, and knows it by its id.
    ///
    /// # Errors
    /// `notify_failed` (retryable), `notify_refused`, and those of [`Notifier::preflight`].
    async fn notify(&self, context: &Context, receiver: &Receiver, message: &Notification) -> Result<(), Failure>;

    /// Environment variables that hold addresses and secrets of receivers; removed from every child's environment.
    fn secret_environment_names(&self, policy: &Policy) -> Vec<String>;
}

/// What a receiver is told at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notification {
    /// The same whenever it is told again; unique among all journals.
    pub id: String,
    /// From one to a hundred.
    pub notices: Vec<Notice>,
    /// Notices that were not kept since the last message.
    pub missed: u64,
}

/// What services send when something changed there.
pub trait Webhooks: Send + Sync + 'static {
    /// Whether all secrets that the policy names are there. Asked before a policy is taken.
    ///
    /// # Errors
    /// `missing_webhook_secret`.
    fn preflight(&self, policy: &Policy) -> Result<(), Failure>;

    /// Verifies a delivery that came at `now`, and says what it names. Computes only, for as long as the body is large.
    ///
    /// # Errors
    /// `webhook_not_configured`, `webhook_signature`, `webhook_stale`, `invalid_body`, and those of [`Webhooks::preflight`].
    fn read(&self, policy: &Policy, delivery: &Delivery, now: Timestamp) -> Result<Heard, Failure>;

    /// Environment variables that hold their secrets; removed from every child's environment.
    fn secret_environment_names(&self, policy: &Policy) -> Vec<String>;
}

/// A webhook as it came: nothing of it is verified.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// Of which service it says to be.
    pub service: String,
    /// Names in lowercase, with their values; those that are no text are left out.
    pub headers: Vec<(String, String)>,
    /// The bytes.
    pub body: Vec<u8>,
}

impl Delivery {
    /// The header of this name, in lowercase; `None` also when there are several.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut found = self.headers.iter().filter(|(known, _)| known == name).map(|(_, value)| value.as_str());
        found.next().filter(|_| found.next().is_none())
    }
}

/// What a webhook says that was verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heard {
    /// Its name, the same for each try to deliver it; `None`: the service gives none.
    pub id: Option<String>,
    /// Names of the issue, any of which may be its identifier or id. Empty where none is named, or the service is not the
    /// tracker's own.
    pub names: Vec<String>,
}

/// Finds and ends processes by their mark.
#[async_trait]
pub trait Processes: Send + Sync + 'static {
    /// Kills every process that carries the mark `DALSEGNO_RUN=<mark>`, and their descendants, until there are none. Answers how many.
    ///
    /// # Errors
    /// `sweep_failed` when some outlived it.
    async fn sweep(&self, mark: &str) -> Result<u32, Failure>;
}

/// Looks at what lies outside the journal, and puts right what the machine says of it.
#[async_trait]
pub trait Inspector: Send + Sync + 'static {
    /// Looks at everything. Changes nothing; bounded in what it reads. What cannot be looked at is told as that, in its place.
    async fn inspect(&self, wanted: &LookFor, policy: &Policy) -> Inspection;

    /// Does it, and answers in words what was done. Looks before it acts: what is not as it was any more is left alone. Nothing that
    /// holds somebody's work is removed.
    ///
    /// # Errors
    /// `sweep_failed`, `workspace_*`, `transcript_unmoved`.
    async fn mend(&self, context: &Context, mend: &Mend) -> Result<String, Failure>;
}

/// Wall-clock time.
pub trait Clock: Send + Sync + 'static {
    /// Now.
    fn now(&self) -> Timestamp;
    /// Milliseconds on a clock that never jumps and counts suspend.
    fn boottime_ms(&self) -> u64;
}
