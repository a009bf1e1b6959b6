//! Doubles of the engine's ports: everything that a driver needs of the world, in memory and by script.
//!
//! A [`Stage`] holds one double of each port. Without a script every call succeeds; with one it answers, fails,
//! panics, hangs or answers late ([`Act`]). All calls go, in order, into one [`Record`], together with what the
//! journal had acknowledged by then, so that "intent before effect" can be judged ([`Record::unintended`]).
//! Waits use tokio's clock: with the paused one, tests take no time.

mod agents;
mod clock;
mod journal;
mod places;
mod record;
mod script;
mod tracker;

use std::path::PathBuf;
use std::sync::Arc;

use dalsegno_core::{
    AgentKind, AgentPolicy, AutoApprove, BreakerPolicy, BudgetPolicy, CommitMode, HandoffPolicy, HooksPolicy, Issue,
    IssueId, Policy, QuotaPolicy, Timestamp, TrackerPolicy, WorkspacePolicy, WorkspaceStrategy,
};
use dalsegno_durable::key::Secret;
use dalsegno_durable::{HostOptions, MemoryStore, StoredHost};
use dalsegno_engine::World;

pub use agents::ScriptedAgents;
pub use clock::TokioClock;
pub use journal::MemoryJournal;
pub use places::{ScriptedProcesses, ScriptedWorkflow, ScriptedWorkspaces, TranscriptMemory};
pub use record::{Call, Record};
pub use script::{Act, Script};
pub use tracker::{ScriptedTracker, ScriptedTrackers};

/// One double of each port, and the record that they share.
pub struct Stage {
    /// Every call.
    pub record: Arc<Record>,
    /// The journal.
    pub journal: Arc<MemoryJournal>,
    /// The tracker of [`policy`]; others are made as policies name them.
    pub trackers: Arc<ScriptedTrackers>,
    /// Workspaces.
    pub workspaces: Arc<ScriptedWorkspaces>,
    /// Agents.
    pub agents: Arc<ScriptedAgents>,
    /// Processes.
    pub processes: Arc<ScriptedProcesses>,
    /// Transcripts.
    pub transcripts: Arc<TranscriptMemory>,
    /// WORKFLOW.md.
    pub workflow: Arc<ScriptedWorkflow>,
    /// Effects that agents ask for; each world is another owner of them.
    pub effects: MemoryStore,
    /// Time.
    pub clock: Arc<TokioClock>,
}

impl Default for Stage {
    fn default() -> Self {
        Self::new(policy())
    }
}

impl Stage {
    /// A stage under this policy, without issues.
    #[must_use]
    pub fn new(policy: Policy) -> Self {
        let journal = Arc::new(MemoryJournal::default());
        let record = Arc::new(Record::new(Arc::clone(&journal)));
        Self {
            trackers: Arc::new(ScriptedTrackers::new(Arc::clone(&record))),
            workspaces: Arc::new(ScriptedWorkspaces::new(Arc::clone(&record))),
            agents: Arc::new(ScriptedAgents::new(Arc::clone(&record))),
            processes: Arc::new(ScriptedProcesses::new(Arc::clone(&record))),
            transcripts: Arc::default(),
            workflow: Arc::new(ScriptedWorkflow::new(policy)),
            effects: MemoryStore::new(Secret::new([7; 32])),
            clock: Arc::default(),
            record,
            journal,
        }
    }

    /// The tracker of [`policy`].
    #[must_use]
    pub fn tracker(&self) -> Arc<ScriptedTracker> {
        self.trackers.named("main")
    }

    /// The doubles as the driver takes them.
    #[must_use]
    pub fn world(&self) -> World {
        let options = HostOptions { clock: self.clock.clone(), ..HostOptions::default() };
        World {
            workflow: self.workflow.clone(),
            trackers: self.trackers.clone(),
            workspaces: self.workspaces.clone(),
            agents: self.agents.clone(),
            processes: self.processes.clone(),
            transcripts: self.transcripts.clone(),
            clock: self.clock.clone(),
            state_dir: PathBuf::from("/state"),
            journal_id: "journal".to_owned(),
            effects: Arc::new(StoredHost::with(Arc::new(self.effects.another()), options)),
            secret: Secret::new([7; 32]),
        }
    }
}

/// A policy with a handoff: one check, a comment, and the state `Human Review` at the end; ten agents at once.
/// Its tracker is named `main` (key `name` of the provider).
#[must_use]
pub fn policy() -> Policy {
    let mut provider = serde_json::Map::new();
    provider.insert("name".to_owned(), "main".into());
    Policy {
        project_dir: "/project".to_owned(),
        tracker: TrackerPolicy {
            kind: "scripted".to_owned(),
            provider,
            required_labels: Vec::new(),
            active_states: vec!["Todo".to_owned(), "In Progress".to_owned()],
            terminal_states: vec!["Done".to_owned()],
        },
        poll_interval_ms: 30_000,
        workspace: WorkspacePolicy {
            root: "/workspaces".to_owned(),
            strategy: WorkspaceStrategy::Clone,
            repo: "/project".to_owned(),
            base: None,
            branch: "dalsegno/{{ issue.identifier }}".to_owned(),
        },
        hooks: HooksPolicy {
            after_create: None,
            before_run: None,
            after_run: None,
            before_remove: None,
            timeout_ms: 60_000,
        },
        agent: AgentPolicy { command: Some("agent".to_owned()), max_turns: 5, ..AgentPolicy::of(AgentKind::Acp) },
        handoff: Some(HandoffPolicy {
            remote: "origin".to_owned(),
            checks: vec!["./test".to_owned()],
            check_timeout_ms: 60_000,
            commit: CommitMode::Auto,
            claim_state: None,
            state: Some("Human Review".to_owned()),
            comment: Some("Done.".to_owned()),
        }),
        budget: BudgetPolicy::default(),
        breaker: BreakerPolicy::default(),
        quota: QuotaPolicy::default(),
        auto_approve: AutoApprove::None,
        prompt_template: "Work.".to_owned(),
    }
}

/// An issue in `Todo` whose id and identifier are `name`.
#[must_use]
pub fn issue(name: &str) -> Issue {
    Issue {
        id: IssueId::from(name),
        native_ref: None,
        identifier: name.to_owned(),
        title: format!("Title of {name}"),
        description: None,
        priority: None,
        state: "Todo".to_owned(),
        branch_name: None,
        url: None,
        assignee_id: None,
        labels: Vec::new(),
        blocked_by: Vec::new(),
        parent: None,
        dispatchable: true,
        undispatchable_reason: None,
        created_at: Some(Timestamp(0)),
        updated_at: None,
    }
}
