//! The parsed WORKFLOW.md: everything that it says, defaults filled in, paths resolved, secrets still references.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::notify::NotifyPolicy;

/// What a run is done under. Stored by hash; a run keeps the one it was started with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Policy {
    /// Absolute directory that holds WORKFLOW.md.
    pub project_dir: String,
    /// Where issues come from.
    pub tracker: TrackerPolicy,
    /// Milliseconds between two polls of the tracker.
    pub poll_interval_ms: u64,
    /// Where work is done.
    pub workspace: WorkspacePolicy,
    /// Scripts around a workspace and a run.
    pub hooks: HooksPolicy,
    /// Who does the work.
    pub agent: AgentPolicy,
    /// How a change is handed over; without it, issues run as the Symphony specification says.
    pub handoff: Option<HandoffPolicy>,
    /// Ceilings.
    pub budget: BudgetPolicy,
    /// What stops work that leads nowhere.
    #[serde(default)]
    pub breaker: BreakerPolicy,
    /// What happens when a provider's quota is used up.
    #[serde(default)]
    pub quota: QuotaPolicy,
    /// Which permission requests are answered without a person.
    pub auto_approve: AutoApprove,
    /// Questions that wait for a person.
    #[serde(default)]
    pub questions: QuestionPolicy,
    /// Who is told outside, and of what.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notify: Vec<NotifyPolicy>,
    /// Services whose webhooks are heard, by their words.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub webhooks: BTreeMap<String, WebhookPolicy>,
    /// Liquid template of the first prompt.
    pub prompt_template: String,
}

impl Policy {
    /// The defaults of WORKFLOW.md around what has none.
    #[must_use]
    pub fn of(project_dir: impl Into<String>, workspace: WorkspacePolicy, agent: AgentPolicy) -> Self {
        Self {
            project_dir: project_dir.into(),
            tracker: TrackerPolicy::default(),
            poll_interval_ms: 30_000,
            workspace,
            hooks: HooksPolicy::default(),
            agent,
            handoff: None,
            budget: BudgetPolicy::default(),
            breaker: BreakerPolicy::default(),
            quota: QuotaPolicy::default(),
            auto_approve: AutoApprove::default(),
            questions: QuestionPolicy::default(),
            notify: Vec::new(),
            webhooks: BTreeMap::new(),
            // What an empty body means (Symphony §5.4).
            prompt_template: "You are working on an issue from the configured tracker.".to_owned(),
        }
    }
}

/// `tracker:` of WORKFLOW.md.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrackerPolicy {
    /// Adapter name: `local`.
    pub kind: String,
    /// The adapter's own keys, kept as they are.
    pub provider: serde_json::Map<String, serde_json::Value>,
    /// Labels that an issue must carry; lowercase and trimmed. A blank one matches nothing.
    pub required_labels: Vec<String>,
    /// States that are worked on.
    pub active_states: Vec<String>,
    /// States that end an issue.
    pub terminal_states: Vec<String>,
}

impl Default for TrackerPolicy {
    /// The local tracker, with the states of its profile.
    fn default() -> Self {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Self {
            kind: "local".to_owned(),
            provider: serde_json::Map::new(),
            required_labels: Vec::new(),
            active_states: names(&["Todo", "In Progress", "Rework"]),
            terminal_states: names(&["Done", "Closed", "Canceled", "Duplicate"]),
        }
    }
}

/// An entry of `tracker.webhooks` of WORKFLOW.md.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WebhookPolicy {
    /// What they are signed with, as the reference to it (`$NAME`).
    pub secret: String,
}

/// `workspace:` of WORKFLOW.md.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkspacePolicy {
    /// Absolute directory that holds all workspaces.
    pub root: String,
    /// How a workspace is filled.
    pub strategy: WorkspaceStrategy,
    /// Absolute path or URL of the repository.
    pub repo: String,
    /// Branch or commit that work starts from; `None` takes the remote's default branch.
    pub base: Option<String>,
    /// Liquid template of the branch name.
    pub branch: String,
    /// Bytes that all workspaces together may take before no new run starts; `None`: as much as the disk has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_limit_bytes: Option<u64>,
}

impl WorkspacePolicy {
    /// The defaults of WORKFLOW.md for workspaces of this repository.
    #[must_use]
    pub fn of(root: impl Into<String>, repo: impl Into<String>) -> Self {
        Self {
            root: root.into(),
            strategy: WorkspaceStrategy::Clone,
            repo: repo.into(),
            base: None,
            branch: "dalsegno/{{ issue.identifier }}".to_owned(),
            disk_limit_bytes: None,
        }
    }
}

/// How a workspace is filled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WorkspaceStrategy {
    /// A clone from the daemon's own bare repository.
    Clone,
    /// A worktree of a repository that the daemon keeps for worktrees alone.
    Worktree,
    /// An empty directory; hooks fill it.
    Empty,
}

/// `hooks:` of WORKFLOW.md.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HooksPolicy {
    /// Once, in a new workspace; failure is fatal to it.
    pub after_create: Option<String>,
    /// Before each run; failure is fatal to the run.
    pub before_run: Option<String>,
    /// After each run; failure is recorded and ignored.
    pub after_run: Option<String>,
    /// Before a workspace is removed; failure is recorded and ignored.
    pub before_remove: Option<String>,
    /// Limit for each, in milliseconds.
    pub timeout_ms: u64,
}

impl Default for HooksPolicy {
    fn default() -> Self {
        Self { after_create: None, before_run: None, after_run: None, before_remove: None, timeout_ms: 60_000 }
    }
}

impl HooksPolicy {
    /// The script of `hook`, if there is one.
    #[must_use]
    pub fn script(&self, hook: Hook) -> Option<&str> {
        match hook {
            Hook::AfterCreate => self.after_create.as_deref(),
            Hook::BeforeRun => self.before_run.as_deref(),
            Hook::AfterRun => self.after_run.as_deref(),
            Hook::BeforeRemove => self.before_remove.as_deref(),
        }
    }
}

/// The moments at which a script of the project runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Hook {
    /// In a workspace that was just made.
    AfterCreate,
    /// Before the agent starts.
    BeforeRun,
    /// When a run is over.
    AfterRun,
    /// Before a workspace goes.
    BeforeRemove,
}

impl Hook {
    /// The key of WORKFLOW.md.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AfterCreate => "after_create",
            Self::BeforeRun => "before_run",
            Self::AfterRun => "after_run",
            Self::BeforeRemove => "before_remove",
        }
    }
}

/// `agent:` of WORKFLOW.md, with the timeouts of `codex:`, which hold for every kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentPolicy {
    /// Which adapter.
    pub kind: AgentKind,
    /// Shell command that starts the agent; not needed for `scripted`.
    pub command: Option<String>,
    /// Absolute path of the script of the `scripted` agent.
    pub script: Option<String>,
    /// Runs at once.
    pub max_concurrent_agents: u32,
    /// Turns in one run, cut ones not counted.
    pub max_turns: u32,
    /// Longest wait between two failed runs, in milliseconds.
    pub max_retry_backoff_ms: u64,
    /// Runs at once by normalised tracker state.
    pub max_concurrent_agents_by_state: BTreeMap<String, u32>,
    /// Longest silence while a turn streams, in milliseconds.
    pub turn_timeout_ms: u64,
    /// Longest wait for an answer during start and for short requests, in milliseconds.
    pub read_timeout_ms: u64,
    /// Longest time without any sign of life before a run counts as stalled, in milliseconds; zero or less: never.
    pub stall_timeout_ms: i64,
    /// The model to ask for; `None`: the agent's own choice.
    #[serde(default)]
    pub model: Option<String>,
    /// What contains the agent, the checks and git's upload side.
    #[serde(default)]
    pub sandbox: Sandbox,
    /// Who in the sandbox reaches the network.
    #[serde(default)]
    pub sandbox_network: SandboxNetwork,
    /// Absolute paths outside the workspace that the agent may write in the sandbox.
    #[serde(default)]
    pub sandbox_write: Vec<String>,
    /// What only Codex understands, passed through as it is (Symphony §5.3.6).
    #[serde(default)]
    pub codex: CodexPolicy,
}

impl AgentPolicy {
    /// The defaults of WORKFLOW.md for this kind.
    #[must_use]
    pub fn of(kind: AgentKind) -> Self {
        Self {
            kind,
            command: None,
            script: None,
            max_concurrent_agents: 10,
            max_turns: 20,
            max_retry_backoff_ms: 300_000,
            max_concurrent_agents_by_state: BTreeMap::new(),
            turn_timeout_ms: 3_600_000,
            read_timeout_ms: 5_000,
            stall_timeout_ms: 300_000,
            model: None,
            sandbox: Sandbox::None,
            sandbox_network: SandboxNetwork::All,
            sandbox_write: Vec::new(),
            codex: CodexPolicy::default(),
        }
    }
}

/// What contains an agent, the checks and git's upload side.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sandbox {
    /// Nothing: they run as the daemon's user, with all its rights.
    #[default]
    None,
    /// Bubblewrap: the workspace is writable, the rest read-only, the state directory hidden.
    Bubblewrap,
    /// A shell command that gets the program and its arguments as its own, and contains them.
    Command(String),
}

/// Who in the sandbox reaches the network. Without a sandbox everybody does; git's upload side never does in one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SandboxNetwork {
    /// The agent and the checks.
    #[default]
    All,
    /// The agent; checks do not.
    Agent,
    /// Nobody.
    None,
}

/// `codex:` of WORKFLOW.md without its timeouts; absent keys mean this program's own safe choice.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CodexPolicy {
    /// `approvalPolicy` of a thread and its turns.
    pub approval_policy: Option<serde_json::Value>,
    /// `sandbox` of a thread.
    pub thread_sandbox: Option<serde_json::Value>,
    /// `sandboxPolicy` of a turn.
    pub turn_sandbox_policy: Option<serde_json::Value>,
}

/// Which adapter drives the agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AgentKind {
    /// Codex, through its app-server.
    Codex,
    /// Any agent that speaks the Agent Client Protocol over stdio.
    Acp,
    /// The scripted agent inside this binary.
    Scripted,
}

/// `handoff:` of WORKFLOW.md.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HandoffPolicy {
    /// Name of the repository's remote to push to.
    pub remote: String,
    /// Shell commands that must all pass on a clean checkout.
    pub checks: Vec<String>,
    /// Limit for each check, in milliseconds.
    pub check_timeout_ms: u64,
    /// What happens with uncommitted files.
    pub commit: CommitMode,
    /// State that the issue is moved to when a run starts.
    pub claim_state: Option<String>,
    /// State that the issue is moved to when the branch is pushed.
    pub state: Option<String>,
    /// Liquid template of the comment; `None`: no comment.
    pub comment: Option<String>,
    /// An operator has to approve the handoff's pivot within so many milliseconds; `None`: nobody is asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval_ms: Option<u64>,
    /// Where a pull request is opened; `None`: the branch is pushed, and that is the handoff.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forge: Option<ForgePolicy>,
}

/// `handoff.forge` of WORKFLOW.md, for forges that have pull requests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForgePolicy {
    /// Adapter name: `github`.
    pub kind: String,
    /// The adapter's own keys, kept as they are.
    #[serde(default)]
    pub provider: serde_json::Map<String, serde_json::Value>,
}

impl Default for HandoffPolicy {
    fn default() -> Self {
        Self {
            remote: "origin".to_owned(),
            checks: Vec::new(),
            check_timeout_ms: 600_000,
            commit: CommitMode::default(),
            claim_state: None,
            state: None,
            comment: Some("{{ issue.identifier }} ({{ issue.title }}) is ready for review.".to_owned()),
            approval_ms: None,
            forge: None,
        }
    }
}

impl HandoffPolicy {
    /// How long an approval stays open, unless something else is said: a day.
    pub const APPROVAL_MS: u64 = 86_400_000;
}

/// What happens with files that the agent left uncommitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CommitMode {
    /// They are committed for it.
    #[default]
    Auto,
    /// The agent gets a turn to do it.
    Require,
}

impl AgentKind {
    /// The word of WORKFLOW.md.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Codex => "codex",
            Self::Acp => "acp",
            Self::Scripted => "scripted",
        }
    }
}

/// `budget:` of WORKFLOW.md. What is absent has no limit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BudgetPolicy {
    /// Runs on one issue before it parks.
    pub issue_runs: u32,
    /// What one issue may use.
    #[serde(default)]
    pub issue: Limits,
    /// What all issues together may use in one UTC day.
    #[serde(default)]
    pub day: Limits,
    /// What a token costs, by model.
    #[serde(default)]
    pub prices: BTreeMap<String, Price>,
}

impl Default for BudgetPolicy {
    fn default() -> Self {
        Self { issue_runs: 20, issue: Limits::default(), day: Limits::default(), prices: BTreeMap::new() }
    }
}

/// Limits of an issue or a day; `None`: no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Limits {
    /// Tokens in and out.
    pub tokens: Option<u64>,
    /// Cost, in billionths of a US dollar.
    pub cost_nanousd: Option<u64>,
    /// Turns. Not for a day.
    pub turns: Option<u32>,
    /// Time that runs took, in milliseconds. Not for a day.
    pub wall_clock_ms: Option<u64>,
}

/// What a token of a model costs, in billionths of a US dollar (a dollar for a million tokens is 1,000).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Price {
    /// A token that the model reads.
    pub input_nanousd: u64,
    /// A token that the model reads from its cache.
    pub cached_input_nanousd: u64,
    /// A token that the model writes.
    pub output_nanousd: u64,
}

/// `breaker:` of WORKFLOW.md.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BreakerPolicy {
    /// Runs in a row that fail the same way before the issue parks.
    pub same_failure: u32,
    /// Turns in a row without a commit, a change of the diff or a new tool result before the issue parks.
    pub no_progress_turns: u32,
    /// How long somebody else's change of the issue does not undo what a breaker parked, in milliseconds. An operator's
    /// action always does.
    pub cooldown_ms: u64,
}

impl Default for BreakerPolicy {
    fn default() -> Self {
        Self { same_failure: 3, no_progress_turns: 5, cooldown_ms: 1_800_000 }
    }
}

/// `quota:` of WORKFLOW.md.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuotaPolicy {
    /// A refusal with a reset time suspends that kind of agent until then; otherwise the issue parks.
    pub resume_at_reset: bool,
}

impl Default for QuotaPolicy {
    fn default() -> Self {
        Self { resume_at_reset: true }
    }
}

/// Which permission requests of an agent are granted without a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AutoApprove {
    /// None: the issue parks with the request.
    #[default]
    None,
    /// Those that the protocol ties to paths inside the workspace.
    Workspace,
    /// All.
    All,
}

/// `questions:` of WORKFLOW.md, but for what is answered without a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuestionPolicy {
    /// Milliseconds that a question waits for an answer before its issue parks.
    pub expire_ms: u64,
}

impl Default for QuestionPolicy {
    fn default() -> Self {
        Self { expire_ms: 24 * 3_600_000 }
    }
}
