//! Doubles of the engine's ports: everything that a driver needs of the world, in memory and by script.
//!
//! A [`Stage`] holds one double of each port. Without a script every call succeeds; with one it answers, fails,
//! panics, hangs or answers late ([`Act`]). All calls go, in order, into one [`Record`], together with what the
//! journal had acknowledged by then, so that "intent before effect" can be judged ([`Record::unintended`]).
//! Waits use tokio's clock: with the paused one, tests take no time.
//!
//! [`MemoryReads`] is the double of the reading side, for what never drives: it is on no stage.

mod agents;
mod clock;
mod forge;
mod journal;
mod places;
mod reads;
mod record;
mod script;
mod tracker;

use std::path::PathBuf;
use std::sync::Arc;

use dalsegno_core::{AgentKind, AgentPolicy, HandoffPolicy, Issue, Policy, Timestamp, TrackerPolicy, WorkspacePolicy};
use dalsegno_durable::key::Secret;
use dalsegno_durable::{HostOptions, MemoryStore, StoredHost};
use dalsegno_engine::World;

pub use agents::ScriptedAgents;
pub use clock::TokioClock;
pub use forge::{DoubleForges, ForgeCall, ForgeFault, MemoryForge};
pub use journal::MemoryJournal;
pub use places::{
    BlobMemory, NoWebhooks, ScriptedInspector, ScriptedNotifier, ScriptedProcesses, ScriptedWorkflow,
    ScriptedWorkspaces, TranscriptMemory,
};
pub use reads::MemoryReads;
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
    /// The forge of all policies.
    pub forges: Arc<DoubleForges>,
    /// Workspaces.
    pub workspaces: Arc<ScriptedWorkspaces>,
    /// Agents.
    pub agents: Arc<ScriptedAgents>,
    /// Processes.
    pub processes: Arc<ScriptedProcesses>,
    /// What is outside the journal.
    pub inspector: Arc<ScriptedInspector>,
    /// Who tells people outside.
    pub notifier: Arc<ScriptedNotifier>,
    /// Transcripts.
    pub transcripts: Arc<TranscriptMemory>,
    /// Files with receipts.
    pub blobs: Arc<BlobMemory>,
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
            forges: Arc::default(),
            workspaces: Arc::new(ScriptedWorkspaces::new(Arc::clone(&record))),
            agents: Arc::new(ScriptedAgents::new(Arc::clone(&record))),
            processes: Arc::new(ScriptedProcesses::new(Arc::clone(&record))),
            inspector: Arc::new(ScriptedInspector::new(Arc::clone(&record))),
            notifier: Arc::new(ScriptedNotifier::new(Arc::clone(&record))),
            transcripts: Arc::default(),
            blobs: Arc::default(),
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
            forges: self.forges.clone(),
            inspector: self.inspector.clone(),
            notifier: self.notifier.clone(),
            webhooks: Arc::new(NoWebhooks),
            workspaces: self.workspaces.clone(),
            agents: self.agents.clone(),
            processes: self.processes.clone(),
            transcripts: self.transcripts.clone(),
            blobs: self.blobs.clone(),
            clock: self.clock.clone(),
            state_dir: PathBuf::from("/state"),
            journal_id: "journal".to_owned(),
            effects: StoredHost::with(Arc::new(self.effects.another()), options),
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
        tracker: TrackerPolicy { kind: "scripted".to_owned(), provider, ..TrackerPolicy::default() },
        handoff: Some(HandoffPolicy {
            checks: vec!["./test".to_owned()],
            check_timeout_ms: 60_000,
            state: Some("Human Review".to_owned()),
            comment: Some("Done.".to_owned()),
            ..HandoffPolicy::default()
        }),
        prompt_template: "Work.".to_owned(),
        ..Policy::of(
            "/project",
            WorkspacePolicy::of("/workspaces", "/project"),
            AgentPolicy { command: Some("agent".to_owned()), max_turns: 5, ..AgentPolicy::of(AgentKind::Acp) },
        )
    }
}

/// An issue in `Todo` whose id and identifier are `name`.
#[must_use]
pub fn issue(name: &str) -> Issue {
    Issue { created_at: Some(Timestamp(0)), ..Issue::new(name, name, format!("Title of {name}"), "Todo") }
}
