//! Surfaces: what holds state beside the journal and can disagree with it. They are inspected, what is found becomes a
//! plan, and what is left of the plan says how ready the daemon is.
//!
//! ```text
//! state, world ──▶ findings ──▶ plan: one step per finding, exactly one `none` per healthy surface ──▶ readiness
//! ```
//!
//! Nothing here acts: a plan's steps are the ordinary transitions of `recovery.rs` and of the run's life, told in the words
//! of recovery. So a step is done when its finding is gone, and recovering twice is recovering once.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::effect::{Effect, InDoubtPolicy};
use crate::event::{EVENT_FORMAT, Event};
use crate::ids::{EffectId, IssueId, RunId};
use crate::inspection::{DiskUse, Inspection};
use crate::issue::IssueStatus;
use crate::machine::Machine;
use crate::outside::inspect_outside;
use crate::run::{Phase, StepState};
use crate::state::{OpenEffect, State};
use crate::time::Timestamp;

/// Something that holds state and can be inspected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Surface {
    /// The database file.
    #[serde(rename = "db.main")]
    Database,
    /// The events in it.
    Journal,
    /// What agents said.
    Transcripts,
    /// Files with receipts: what checks said.
    Blobs,
    /// The directories that issues own.
    Workspace,
    /// Branches and pull requests.
    VcsRef,
    /// The agents' own conversations.
    AgentSession,
    /// What runs on the machine for a run.
    AgentProcess,
    /// Questions and permissions that agents wait for.
    Permissions,
    /// Intents without an outcome.
    Effects,
    /// Handoffs.
    Sagas,
    /// The issues' home.
    Tracker,
    /// The workflow and configuration that runs were started under.
    Policy,
    /// Who owns the journal.
    Leases,
    /// What agents can do.
    Capability,
    /// Room for workspaces and for the state directory.
    Disk,
}

/// Whose business a surface, or a block, is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// The whole daemon's.
    System,
    /// The project's.
    Project,
    /// One run's, or one issue's between runs.
    Run,
}

/// What follows when a surface cannot be used as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Criticality {
    /// What hangs on it stands still.
    ReadinessBlocking,
    /// It is asked for again where it comes from.
    RebuildableFromProvider,
    /// Where its effects went is looked at.
    RebuildableFromDestination,
    /// It is missed by people alone.
    DiagnosticOnly,
}

impl Scope {
    /// The word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::Project => "project",
            Self::Run => "run",
        }
    }
}

impl Criticality {
    /// The word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ReadinessBlocking => "readiness_blocking",
            Self::RebuildableFromProvider => "rebuildable_from_provider",
            Self::RebuildableFromDestination => "rebuildable_from_destination",
            Self::DiagnosticOnly => "diagnostic_only",
        }
    }
}

/// What is to be known of a surface before it is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Descriptor {
    /// Whose it is.
    pub scope: Scope,
    /// Who is right when it and the journal disagree.
    pub authority: &'static str,
    /// What follows.
    pub criticality: Criticality,
    /// Its formats that can be read, from the oldest to the newest; what is older than that one is brought up, what is newer is refused.
    /// `None`: it has no format of ours.
    pub schema: Option<(u32, u32)>,
    /// How it is brought back in line.
    pub strategy: &'static str,
}

/// Version of the database's tables. The store has them, and proves that this is it.
pub const DATABASE_SCHEMA: u32 = 4;

impl Surface {
    /// All of them, in the order in which they are told.
    pub const ALL: [Self; 16] = [
        Self::Database,
        Self::Journal,
        Self::Leases,
        Self::Policy,
        Self::Effects,
        Self::Sagas,
        Self::AgentProcess,
        Self::AgentSession,
        Self::Permissions,
        Self::Workspace,
        Self::VcsRef,
        Self::Tracker,
        Self::Capability,
        Self::Blobs,
        Self::Transcripts,
        Self::Disk,
    ];

    /// The word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Database => "db.main",
            Self::Journal => "journal",
            Self::Transcripts => "transcripts",
            Self::Blobs => "blobs",
            Self::Workspace => "workspace",
            Self::VcsRef => "vcs_ref",
            Self::AgentSession => "agent_session",
            Self::AgentProcess => "agent_process",
            Self::Permissions => "permissions",
            Self::Effects => "effects",
            Self::Sagas => "sagas",
            Self::Tracker => "tracker",
            Self::Policy => "policy",
            Self::Leases => "leases",
            Self::Capability => "capability",
            Self::Disk => "disk",
        }
    }

    /// What hangs on it stands still while nobody can look at it.
    pub(crate) fn stands_still(self) -> bool {
        self.descriptor().criticality == Criticality::ReadinessBlocking
    }

    /// What is to be known of it.
    #[must_use]
    pub fn descriptor(self) -> Descriptor {
        let newest = [(Self::Database, DATABASE_SCHEMA), (Self::Journal, EVENT_FORMAT)];
        let schema = newest.into_iter().find(|(surface, _)| *surface == self).map(|(_, newest)| (1, newest));
        let of =
            |scope, authority, criticality, strategy| Descriptor { scope, authority, criticality, schema, strategy };
        use Criticality as C;
        match self {
            Self::Database => of(Scope::System, "itself", C::ReadinessBlocking, "restored from a backup"),
            Self::Journal => of(Scope::System, "itself", C::ReadinessBlocking, "replayed; restored from a backup"),
            Self::Leases => of(Scope::System, "the operating system's lock", C::ReadinessBlocking, "waited for"),
            Self::Policy => {
                of(Scope::Project, "the journal", C::ReadinessBlocking, "runs keep theirs; the next one is adopted")
            }
            Self::Effects => {
                of(Scope::Run, "the destination", C::RebuildableFromDestination, "probed, or run again under its key")
            }
            Self::Sagas => of(Scope::Run, "the saga's log", C::RebuildableFromDestination, "taken up from its log"),
            Self::AgentProcess => of(Scope::Run, "the journal", C::ReadinessBlocking, "found by its mark and ended"),
            Self::AgentSession => of(Scope::Run, "the agent", C::RebuildableFromProvider, "resumed, or rehydrated"),
            Self::Permissions => of(Scope::Run, "the journal", C::ReadinessBlocking, "asked again"),
            Self::Workspace => of(Scope::Run, "the journal", C::ReadinessBlocking, "found as it was, or made anew"),
            Self::VcsRef => {
                of(Scope::Run, "the remote", C::RebuildableFromDestination, "looked at before it is written")
            }
            Self::Tracker => of(Scope::Project, "the tracker", C::RebuildableFromProvider, "read again"),
            Self::Capability => {
                of(Scope::Run, "the agent", C::RebuildableFromProvider, "a new session is told of the old one")
            }
            Self::Blobs => of(
                Scope::Run,
                "the receipt",
                C::RebuildableFromProvider,
                "open batches go forward or are taken back; what is not as its receipt says is set aside",
            ),
            Self::Transcripts => of(
                Scope::Run,
                "the agent's own session",
                C::RebuildableFromProvider,
                "cut at the last whole entry; what cannot be read is set aside",
            ),
            Self::Disk => of(Scope::Project, "the disk", C::ReadinessBlocking, "waited for, until there is room"),
        }
    }
}

/// What an inspection found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "the words are those of the recovery contract")]
pub enum Condition {
    Healthy,
    Missing,
    Corrupt,
    OlderSchema,
    FutureSchema,
    Drifted,
    IntentOpen,
    UnknownOutcome,
    StaleRun,
    StaleCapability,
    StalePolicy,
    Orphan,
    Unreachable,
    IoError,
}

/// What a plan does about a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Remedy {
    /// Nothing: it is as it should be.
    None,
    /// Do what was intended, again.
    RollForward,
    /// Take an intent back of which nothing happened.
    VoidIntent,
    /// Bring an older format up.
    Migrate,
    /// Look whether it took place.
    VerifyDestination,
    /// Read it anew where it comes from.
    RebuildFromProvider,
    /// Ask the agent again what it can do.
    RediscoverCapability,
    /// Make the workspace anew; work in it is kept aside.
    RecreateWorkspace,
    /// Take what is there as ours.
    Adopt,
    /// End it.
    Reap,
    /// Move it aside once, content kept.
    Quarantine,
    /// Let nothing of that run be recorded any more.
    FenceRun,
    /// Nothing but a backup helps.
    RestoreBackup,
    /// What hangs on it stands still until somebody looks.
    Block,
}

impl Remedy {
    /// The word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::RollForward => "roll_forward",
            Self::VoidIntent => "void_intent",
            Self::Migrate => "migrate",
            Self::VerifyDestination => "verify_destination",
            Self::RebuildFromProvider => "rebuild_from_provider",
            Self::RediscoverCapability => "rediscover_capability",
            Self::RecreateWorkspace => "recreate_workspace",
            Self::Adopt => "adopt",
            Self::Reap => "reap",
            Self::Quarantine => "quarantine",
            Self::FenceRun => "fence_run",
            Self::RestoreBackup => "restore_backup",
            Self::Block => "block",
        }
    }
}

/// What was found of one member of a surface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Where.
    pub surface: Surface,
    /// What.
    pub condition: Condition,
    /// Which member: a run, an issue, an effect, a path.
    pub member: String,
    /// In words.
    pub detail: String,
    /// What follows, where surface and condition alone do not say it.
    pub verdict: Option<Verdict>,
}

/// What follows from a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// What is done.
    pub action: Remedy,
    /// Why: stable words.
    pub reason: &'static str,
    /// What stands still meanwhile.
    pub scope: Scope,
}

impl Finding {
    /// A finding from which follows what its surface and condition say.
    #[must_use]
    pub fn of(surface: Surface, condition: Condition, member: impl Into<String>, detail: String) -> Self {
        Self { surface, condition, member: member.into(), detail, verdict: None }
    }

    /// The same, and this follows.
    #[must_use]
    pub fn with(self, verdict: Verdict) -> Self {
        Self { verdict: Some(verdict), ..self }
    }
}

/// One step of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Step {
    /// Where.
    pub surface: Surface,
    /// What is done.
    pub action: Remedy,
    /// Why: stable words.
    pub reason: &'static str,
    /// About which member; empty for a healthy surface.
    pub member: String,
    /// What stands still meanwhile.
    pub scope: Scope,
    /// In words.
    pub detail: String,
}

/// How ready the daemon is, in a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReadyState {
    /// Everything is in line.
    #[default]
    Ready,
    /// It works; something is being brought back, or cannot be reached.
    Degraded,
    /// What the last daemon left is not settled yet.
    Recovering,
    /// What hangs on some surfaces stands still until somebody looks; everything else works.
    Blocked,
}

impl ReadyState {
    /// The word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Degraded => "degraded",
            Self::Recovering => "recovering",
            Self::Blocked => "blocked",
        }
    }
}

/// How ready the daemon is, and what is left to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Readiness {
    /// In a word.
    pub state: ReadyState,
    /// Why, in stable words.
    pub reason: &'static str,
    /// The plan: what is to be done first, then one `none` for each healthy surface. At most [`STEPS`] are to be done.
    pub steps: Vec<Step>,
    /// Steps that are to be done, those beyond the limit among them.
    pub remaining: usize,
    /// When what is outside was looked at last; `None`: not yet.
    pub looked_at: Option<Timestamp>,
    /// How the disk is used, as far as that is known.
    pub disk: Option<DiskUse>,
}

/// Steps of a plan that are told.
pub const STEPS: usize = 200;
/// Of [`Readiness::reason`]: all is well.
pub const MANIFEST_VALID: &str = "runtime_store_manifest_valid";
/// Something is being brought back.
pub const REBUILDING: &str = "runtime_store_rebuild_in_progress";
/// Something has to be settled, or seen to.
pub const RECOVERY_REQUIRED: &str = "runtime_store_recovery_required";

/// The plan for what was found: a step for each finding, and exactly one `none` for each surface without any.
#[must_use]
pub fn plan(findings: &[Finding]) -> Vec<Step> {
    let mut steps: Vec<Step> =
        findings.iter().filter(|found| found.condition != Condition::Healthy).map(step).collect();
    steps.sort_by(|a, b| (a.surface_rank(), &a.member).cmp(&(b.surface_rank(), &b.member)));
    let ill: BTreeSet<Surface> = steps.iter().map(|step| step.surface).collect();
    steps.extend(Surface::ALL.into_iter().filter(|surface| !ill.contains(surface)).map(|surface| Step {
        surface,
        action: Remedy::None,
        reason: "healthy",
        member: String::new(),
        scope: surface.descriptor().scope,
        detail: String::new(),
    }));
    steps
}

impl Step {
    fn surface_rank(&self) -> usize {
        Surface::ALL.iter().position(|surface| *surface == self.surface).unwrap_or(usize::MAX)
    }
}

fn step(found: &Finding) -> Step {
    use Condition as C;
    let Finding { surface, condition, member, detail, verdict } = found;
    let Descriptor { scope, criticality, .. } = surface.descriptor();
    let lost = match criticality {
        Criticality::ReadinessBlocking => Remedy::Block,
        Criticality::RebuildableFromProvider => Remedy::RebuildFromProvider,
        Criticality::RebuildableFromDestination => Remedy::VerifyDestination,
        Criticality::DiagnosticOnly => Remedy::RollForward,
    };
    let (action, reason) = match (condition, surface) {
        (C::Healthy, _) => (Remedy::None, "healthy"),
        (C::IntentOpen, _) => (Remedy::RollForward, "open intent"),
        (C::UnknownOutcome, Surface::Workspace) => (Remedy::RecreateWorkspace, "unknown outcome"),
        (C::UnknownOutcome, _) => (Remedy::VerifyDestination, "unknown outcome"),
        (C::Orphan, Surface::AgentProcess) => (Remedy::Reap, "orphan"),
        (C::Orphan, _) => (Remedy::Adopt, "orphan"),
        (C::Drifted, Surface::Policy) => (Remedy::Adopt, "drifted"),
        (C::Drifted, _) => (Remedy::Block, "drifted"),
        (C::Missing, Surface::Workspace) => (Remedy::RecreateWorkspace, "missing"),
        (C::Missing, _) => (lost, "missing"),
        (C::Corrupt, Surface::Database | Surface::Journal) => (Remedy::RestoreBackup, "corrupt_database"),
        (C::Corrupt, _) => (lost, "corrupt"),
        (C::OlderSchema, _) => (Remedy::Migrate, "older_schema"),
        (C::FutureSchema, _) => (Remedy::Quarantine, "future_schema"),
        (C::StaleRun, _) => (Remedy::Block, "stale run id"),
        (C::StaleCapability, _) => (Remedy::Block, "stale capability snapshot"),
        (C::StalePolicy, _) => (Remedy::Block, "stale behavior fingerprint"),
        (C::Unreachable, _) => (lost, "unreachable"),
        (C::IoError, _) => (lost, "io_error"),
    };
    // What a run was started under is the run's own, whosever the surface is.
    let stale = matches!(condition, C::StaleRun | C::StaleCapability | C::StalePolicy);
    let scope = if stale { Scope::Run } else { scope };
    let Verdict { action, reason, scope } = verdict.unwrap_or(Verdict { action, reason, scope });
    Step { surface: *surface, action, reason, member: member.clone(), scope, detail: detail.clone() }
}

/// How ready a daemon with this plan is; `recovering`: the plan of its start is not through.
#[must_use]
pub fn readiness(mut steps: Vec<Step>, recovering: bool) -> Readiness {
    let open = |step: &&Step| step.action != Remedy::None;
    let remaining = steps.iter().filter(open).count();
    // What is set aside once, content kept, holds up nobody; what a newer version wrote does.
    let blocks = |step: &Step| {
        matches!(step.action, Remedy::Block | Remedy::RestoreBackup)
            || (step.action == Remedy::Quarantine && step.reason == "future_schema")
    };
    let (state, reason) = if recovering {
        (ReadyState::Recovering, RECOVERY_REQUIRED)
    } else if steps.iter().any(blocks) {
        (ReadyState::Blocked, RECOVERY_REQUIRED)
    } else if remaining > 0 {
        (ReadyState::Degraded, REBUILDING)
    } else {
        (ReadyState::Ready, MANIFEST_VALID)
    };
    let mut told = 0;
    steps.retain(|step| {
        told += usize::from(step.action != Remedy::None);
        step.action == Remedy::None || told <= STEPS
    });
    Readiness { state, reason, steps, remaining, looked_at: None, disk: None }
}

/// How ready the next daemon will find itself: the fold, and what is outside as somebody saw it.
#[must_use]
pub fn readiness_of(state: &State, seen: &Inspection) -> Readiness {
    let mut found = inspect(state);
    found.extend(inspect_outside(state, seen));
    Readiness { disk: DiskUse::of(state, seen), ..readiness(plan(&found), true) }
}

impl Readiness {
    /// Whether the daemon takes work: all of it, or all but what a scoped block holds up.
    #[must_use]
    pub fn takes_work(&self) -> bool {
        let system = |step: &Step| {
            step.scope == Scope::System && !matches!(step.action, Remedy::None | Remedy::RollForward | Remedy::Migrate)
        };
        match self.state {
            ReadyState::Recovering => false,
            ReadyState::Ready | ReadyState::Degraded | ReadyState::Blocked => !self.steps.iter().any(system),
        }
    }

    /// The surfaces with something to be done, in their order.
    #[must_use]
    pub fn surfaces(&self) -> Vec<Surface> {
        let open: BTreeSet<Surface> =
            self.steps.iter().filter(|step| step.action != Remedy::None).map(|step| step.surface).collect();
        Surface::ALL.into_iter().filter(|surface| open.contains(surface)).collect()
    }
}

/// What is told of readiness when it changes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Told {
    /// In a word.
    pub state: ReadyState,
    /// Where something is to be done.
    pub surfaces: Vec<Surface>,
}

/// What the fold shows of the surfaces. In a fixed order.
#[must_use]
pub fn inspect(state: &State) -> Vec<Finding> {
    let mut found = Vec::new();
    for (id, open) in &state.open_effects {
        found.extend(open_effect(state, *id, open));
    }
    found.extend(state.issues.iter().filter_map(|(id, entry)| {
        let parked = entry.parked.as_ref().filter(|_| entry.status == IssueStatus::Parked)?;
        let surface = of_parking(&parked.code)?;
        let detail = entry.reason.clone().unwrap_or_else(|| parked.code.clone());
        Some(Finding::of(surface, Condition::Drifted, name(state, id), detail))
    }));
    if let Some(failure) = &state.tracker_failure {
        found.push(Finding::of(Surface::Tracker, Condition::Unreachable, "tracker", failure.to_string()));
    }
    if let Some(failure) = &state.workflow_failure {
        found.push(Finding::of(Surface::Policy, Condition::Drifted, "WORKFLOW.md", failure.to_string()));
    }
    found.extend(other_agents(state));
    found.extend(violations(state));
    found
}

/// Sessions that are held for a next run, of another kind of agent than the policy in force has: what the one could do, the other
/// has to be asked anew.
fn other_agents(state: &State) -> Vec<Finding> {
    let Some(policy) = state.policy() else { return Vec::new() };
    let kind = policy.agent.kind;
    let held = state.issues.values().filter_map(|entry| {
        let held = entry.held.as_ref().filter(|held| held.agent != kind)?;
        let detail = format!("its session is one of {}, and agent.kind is {}", held.agent.as_str(), kind.as_str());
        let verdict =
            Verdict { action: Remedy::RediscoverCapability, reason: "stale capability snapshot", scope: Scope::Run };
        let member = entry.issue.identifier.clone();
        Some(Finding::of(Surface::Capability, Condition::StaleCapability, member, detail).with(verdict))
    });
    held.collect()
}

fn open_effect(state: &State, id: EffectId, open: &OpenEffect) -> Option<Finding> {
    let kind = open.effect.kind();
    let member = open.run.as_ref().map_or_else(|| format!("{id}"), |run| format!("{run}/{id}"));
    if matches!(open.effect, Effect::Sweep) {
        let detail = "what the run left running is looked for and ended".to_owned();
        return Some(Finding::of(Surface::AgentProcess, Condition::Orphan, member, detail));
    }
    if !open.in_doubt {
        return None;
    }
    let condition = match open.effect.in_doubt() {
        InDoubtPolicy::Rerun => Condition::IntentOpen,
        InDoubtPolicy::Probe | InDoubtPolicy::History | InDoubtPolicy::RemakeWorkspace => Condition::UnknownOutcome,
    };
    let surface = match &open.effect {
        Effect::PrepareWorkspace { .. }
        | Effect::RunHook { .. }
        | Effect::CommitLeftovers
        | Effect::RemoveWorkspace { .. } => Surface::Workspace,
        Effect::FetchCommit | Effect::PushBranch { .. } | Effect::BringRemote => Surface::VcsRef,
        Effect::StartSession { .. } | Effect::Prompt { .. } => Surface::AgentSession,
        Effect::StopAgent | Effect::Sweep => Surface::AgentProcess,
        Effect::HandOff { .. } | Effect::TellSaga { .. } => Surface::Sagas,
        Effect::MoveIssue { .. } | Effect::Comment { .. } => Surface::Tracker,
        Effect::RunCheck { .. } | Effect::CarryOut { .. } | Effect::Notify { .. } => Surface::Effects,
        Effect::Mend { mend } => mend.surface(),
    };
    let found = Finding::of(surface, condition, member, format!("the outcome of {kind} is not known"));
    let stopping =
        open.run.as_ref().and_then(|run| state.runs.get(run)).is_some_and(|run| run.phase == Phase::Stopping);
    // An agent is started anew, and of a run that is ending nothing is done again: what was intended is taken back.
    let voided = matches!(open.effect, Effect::StartSession { .. }) || stopping;
    let verdict = Verdict { action: Remedy::VoidIntent, reason: "open intent", scope: Scope::Run };
    Some(if voided { found.with(verdict) } else { found })
}

/// The surface that an operator has to look at for an issue that is parked with this code; `None`: it waits for something
/// else.
fn of_parking(code: &str) -> Option<Surface> {
    match code {
        "sweep_failed" => Some(Surface::AgentProcess),
        "handoff_in_doubt" | "handoff_step_failed" => Some(Surface::Sagas),
        "branch_in_use" | "branch_diverged" | "branch_built_on" => Some(Surface::VcsRef),
        "repo_unusable" => Some(Surface::VcsRef),
        "stale_receipt" => Some(Surface::Blobs),
        code if code.starts_with("workspace_") => Some(Surface::Workspace),
        _ => None,
    }
}

fn name(state: &State, issue: &IssueId) -> String {
    state.issues.get(issue).map_or_else(|| issue.to_string(), |entry| entry.issue.identifier.clone())
}

/// What must hold across surfaces and does not. Everything that is wrong is told, in a fixed order.
#[must_use]
pub fn violations(state: &State) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut tell = |surface, condition, member: String, detail: String| {
        found.push(Finding::of(surface, condition, member, detail));
    };
    for run in state.runs.values() {
        if run.turn_open && run.session.is_none() {
            let detail = format!("run {} has an open turn, and no record of its session", run.id);
            tell(Surface::AgentSession, Condition::Missing, run.id.to_string(), detail);
        }
    }
    for run in state.runs.values().filter(|run| !state.policies.contains_key(&run.policy)) {
        let detail = format!("run {} was started under policy {}, and that is not kept", run.id, run.policy);
        tell(Surface::Policy, Condition::StalePolicy, run.id.to_string(), detail);
    }
    for (id, entry) in &state.issues {
        let live = |run: &RunId| state.runs.get(run).is_some_and(|run| run.issue == *id);
        if let Some(run) = entry.current_run.as_ref().filter(|run| !live(run)) {
            let detail = format!("{} names run {run} as its live one, and there is none", entry.issue.identifier);
            tell(Surface::Journal, Condition::StaleRun, entry.issue.identifier.clone(), detail);
        }
        let asks = entry.question.as_ref().is_some_and(|question| question.live.is_some());
        if asks && entry.current_run.is_none() {
            let detail = format!("{} has a question of an open turn, and no live run", entry.issue.identifier);
            tell(Surface::Permissions, Condition::StaleRun, entry.issue.identifier.clone(), detail);
        }
    }
    let mut attempts: BTreeMap<&IssueId, &RunId> = BTreeMap::new();
    for run in state.runs.values() {
        if let Some(other) = attempts.insert(&run.issue, &run.id) {
            let detail = format!("{} has two live runs, {other} and {}", name(state, &run.issue), run.id);
            tell(Surface::Journal, Condition::StaleRun, run.id.to_string(), detail);
        }
    }
    let mut owners: BTreeMap<&str, &IssueId> = BTreeMap::new();
    for (id, entry) in &state.issues {
        let Some(workspace) = &entry.workspace else { continue };
        if let Some(other) = owners.insert(&workspace.path, id) {
            let (one, two) = (name(state, other), &entry.issue.identifier);
            let detail = format!("{} belongs to {one} and to {two}", workspace.path);
            tell(Surface::Workspace, Condition::Drifted, workspace.path.clone(), detail);
        }
    }
    for run in state.runs.values() {
        let Some(handoff) = &run.handoff else { continue };
        let delivered = handoff.steps.iter().any(|(_, step)| *step == StepState::Done);
        if delivered && run.evidence.is_none() {
            let detail = format!("run {} hands over without evidence", run.id);
            tell(Surface::Sagas, Condition::Drifted, run.id.to_string(), detail);
        }
    }
    for (id, open) in &state.open_effects {
        if let Some(run) = open.run.as_ref().filter(|run| !state.runs.contains_key(run)) {
            let detail = format!("{id} ({}) is open, and its run {run} is not live", open.effect.kind());
            tell(Surface::Effects, Condition::StaleRun, id.to_string(), detail);
        }
    }
    found
}

impl Machine {
    /// How ready the daemon is, as of the last input.
    #[must_use]
    pub fn readiness(&self) -> &Readiness {
        &self.readiness
    }

    /// Whether the surfaces may look different after the event. What ordinary work emits most is not among them.
    pub(crate) fn shows_on_surfaces(&self, event: &Event) -> bool {
        if let Event::EffectEnded { effect_id, .. } | Event::EffectIntended { effect_id, .. } = event {
            let open = self.state.open_effects.get(effect_id);
            return open.is_some_and(|open| open_effect(&self.state, *effect_id, open).is_some());
        }
        matches!(
            event,
            Event::DaemonStarted { .. }
                | Event::WorkflowLoaded { .. }
                | Event::WorkflowRejected { .. }
                | Event::TrackerHealth { .. }
                | Event::EffectInDoubt { .. }
                | Event::RecoveryStep { .. }
                | Event::Parked { .. }
                | Event::Released { .. }
                | Event::IssueGone { .. }
                | Event::IssueStatus { from: IssueStatus::Parked, .. }
                | Event::IssueStatus { to: IssueStatus::Parked, .. }
                | Event::IssueStatus { from: IssueStatus::Paused, .. }
                | Event::IssueStatus { to: IssueStatus::Paused, .. }
                | Event::RunStarted { .. }
                | Event::RunEnded { .. }
        )
    }

    /// Looks at the surfaces again, and journals what has become of readiness.
    pub(crate) fn look_at_surfaces(&mut self) {
        self.surfaces_stale = false;
        let begun = self.recovers_until;
        // Other doubts hold up no more than their run, and may last as long as a remote is away.
        let sweeps = |(id, open): (&EffectId, &OpenEffect)| id.0 <= begun && matches!(open.effect, Effect::Sweep);
        let recovering = self.state.open_effects.iter().any(sweeps);
        let mut found = inspect(&self.state);
        found.extend(self.found_outside());
        let looked = self.has_looked_outside();
        self.readiness = Readiness {
            looked_at: self.looked_outside_at(),
            disk: self.disk_use(),
            ..readiness(plan(&found), recovering || !looked)
        };
        if !looked && !recovering {
            // A start with nothing to recover says nothing before it has looked.
            return;
        }
        let told = Told { state: self.readiness.state, surfaces: self.readiness.surfaces() };
        if told != self.state.told {
            let remaining = u64::try_from(self.readiness.remaining).unwrap_or(u64::MAX);
            self.emit(Event::Readiness { told, remaining });
        }
    }
}
