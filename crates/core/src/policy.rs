//! The parsed WORKFLOW.md: everything that it says, defaults filled in, paths resolved, secrets still references.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

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
    /// Which permission requests are answered without a person.
    pub auto_approve: AutoApprove,
    /// Liquid template of the first prompt.
    pub prompt_template: String,
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
}

/// How a workspace is filled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WorkspaceStrategy {
    /// A clone from the daemon's own bare repository.
    Clone,
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
}

/// Which adapter drives the agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AgentKind {
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
}

/// What happens with files that the agent left uncommitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CommitMode {
    /// They are committed for it.
    Auto,
    /// The agent gets a turn to do it.
    Require,
}

/// `budget:` of WORKFLOW.md, as far as it is enforced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BudgetPolicy {
    /// Runs on one issue before it parks.
    pub issue_runs: u32,
}

/// Which permission requests of an agent are granted without a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AutoApprove {
    /// None: the issue parks with the request.
    None,
    /// Those that the protocol ties to paths inside the workspace.
    Workspace,
    /// All.
    All,
}
