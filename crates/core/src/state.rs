//! State: the fold of the journal, and [`State::apply`], its only writer.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::action::{ActionRecord, Receipt};
use crate::breaker::{Breaker, Seen};
use crate::budget::{BudgetOverride, DayUse};
use crate::effect::{Effect, EffectOutput, Failure, Outcome, PromptSpec, TurnOutcome};
use crate::event::{Event, Recorded};
use crate::handoff::is_planned;
use crate::ids::{EffectId, IssueId, PolicyHash, RunId};
use crate::issue::{IssueEntry, IssueStatus, Parking, normalized_state};
use crate::ledger::{Booked, ByModel, book, day_of};
use crate::notify::Outbox;
use crate::policy::{AgentKind, Hook, Policy};
use crate::question::{Question, Reply, Start, grant};
use crate::restored::Restored;
use crate::run::{Handoff, Phase, Run, RunOutcome, SagaStep, StepState, Then};
use crate::surface::Told;
use crate::time::Timestamp;
use crate::usage::Usage;

/// Version of the snapshot format; a reader refuses newer ones.
pub const SNAPSHOT_FORMAT: u32 = 3;

/// Issues that are not visible any more and remembered.
const GONE_KEPT: usize = 10_000;

/// The orchestrator's whole memory.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct State {
    /// Sequence number of the last event in it.
    pub seq: u64,
    /// Time of the last event; later ones never come before it.
    pub at: Timestamp,
    /// Fencing number of the daemon that writes.
    pub epoch: u64,
    /// The policy for what starts from now on.
    pub policy: Option<PolicyHash>,
    /// Policies in use, by hash.
    pub policies: BTreeMap<PolicyHash, Arc<Policy>>,
    /// WORKFLOW.md is broken since the last good load.
    pub workflow_failure: Option<Failure>,
    /// The tracker could not be read at the last attempt.
    pub tracker_failure: Option<Failure>,
    /// Every issue that is visible or has a life of its own. A copy of the state shares those that do not change after it.
    pub issues: BTreeMap<IssueId, Arc<IssueEntry>>,
    /// What is remembered of issues that are not visible any more, in case they come back.
    #[serde(default)]
    pub gone: BTreeMap<IssueId, Arc<IssueEntry>>,
    /// Live runs.
    pub runs: BTreeMap<RunId, Run>,
    /// Effects whose outcome is not known.
    pub open_effects: BTreeMap<EffectId, OpenEffect>,
    /// Runs so far; numbers the next.
    pub run_count: u64,
    /// Effects so far; numbers the next.
    pub effect_count: u64,
    /// Tokens of all turns.
    pub usage: Usage,
    /// Milliseconds of all ended runs.
    pub run_ms: u64,
    /// What was used on the latest day with any use.
    #[serde(default)]
    pub day: DayUse,
    /// Actions so far; numbers the next.
    #[serde(default)]
    pub action_count: u64,
    /// The last accepted actions, oldest first.
    #[serde(default)]
    pub actions: VecDeque<ActionRecord>,
    /// The last refused ones.
    #[serde(default)]
    pub refusals: VecDeque<Receipt>,
    /// An operator wants no new work to be taken.
    #[serde(default)]
    pub drained: bool,
    /// Until when no run of these kinds of agents starts.
    #[serde(default)]
    pub suspended: BTreeMap<AgentKind, Timestamp>,
    /// What waits to be told to people.
    #[serde(default)]
    pub outbox: Outbox,
    /// What was told last of how ready the daemon is.
    #[serde(default)]
    pub told: Told,
    /// The journal was restored from a backup: the last time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restored: Option<Restored>,
}

/// An effect whose intent is journaled and whose outcome is not.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OpenEffect {
    /// Whose.
    pub issue: IssueId,
    /// In which run.
    pub run: Option<RunId>,
    /// Stable across attempts.
    pub key: String,
    /// From 1.
    pub attempt: u32,
    /// What.
    pub effect: Effect,
    /// Its outcome is unknown; it is not being performed.
    pub in_doubt: bool,
}

impl OpenEffect {
    /// It takes the issue's workspace away, between two runs.
    pub(crate) fn removes_workspace(&self) -> bool {
        self.run.is_none() && matches!(self.effect, Effect::RunHook { .. } | Effect::RemoveWorkspace { .. })
    }
}

/// State at a position of the journal, as it is kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// [`SNAPSHOT_FORMAT`] of the writer.
    pub format: u32,
    /// The state; its `seq` is the position.
    pub state: State,
}

/// An event that cannot follow the ones before it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("event {seq} ({kind}) cannot follow: {problem}")]
pub struct IllegalEvent {
    /// Its position.
    pub seq: u64,
    /// Its kind.
    pub kind: &'static str,
    /// Which rule it breaks.
    pub problem: String,
}

impl State {
    /// Adds one fact. The only writer of state.
    ///
    /// # Errors
    /// [`IllegalEvent`] if the event does not follow from the journal so far; the state is then of no use.
    pub fn apply(&mut self, recorded: &Recorded) -> Result<(), IllegalEvent> {
        let illegal = |problem: String| IllegalEvent { seq: recorded.seq, kind: recorded.event.kind(), problem };
        if recorded.seq != self.seq + 1 {
            return Err(illegal(format!("expected event {}", self.seq + 1)));
        }
        if recorded.at < self.at {
            return Err(illegal("its time is before that of its predecessor".to_owned()));
        }
        self.fold(&recorded.event, recorded.at).map_err(illegal)?;
        self.seq = recorded.seq;
        self.at = recorded.at;
        Ok(())
    }

    fn fold(&mut self, event: &Event, at: Timestamp) -> Result<(), String> {
        match event {
            Event::DaemonStarted { epoch, version: _, pid: _ } => self.take_over(*epoch)?,
            Event::DaemonStopped { .. }
            | Event::CheckEnded { .. }
            | Event::RateLimited { .. }
            | Event::SagaEnded { .. } => {}
            Event::QuestionAsked { run, question, wants, live, expires_at } => {
                let issue = self.run(run)?.issue.clone();
                // Older versions parked with it at once.
                if let Some(expires_at) = *expires_at {
                    let (text, wants, live) = (question.clone(), *wants, *live);
                    self.entry(&issue)?.question = Some(Question { text, wants, live, asked_at: at, expires_at });
                }
            }
            Event::QuestionWithdrawn { run } => {
                let issue = self.run(run)?.issue.clone();
                self.entry(&issue)?.question = None;
            }
            Event::QuestionExpired { issue } => self.entry(issue)?.question = None,
            Event::QuestionAnswered { issue, reply, by: _, action_id: _ } => {
                let entry = self.issues.get_mut(issue).map(Arc::make_mut);
                let Some((question, entry)) = entry.and_then(|entry| Some((entry.question.take()?, entry))) else {
                    return Err(format!("issue {issue} has no question"));
                };
                let live = question.live.and(entry.current_run.as_ref());
                let grants = match live.and_then(|run| self.runs.get_mut(run)) {
                    Some(run) => Some(&mut run.grants_of_turn),
                    None => entry.held.as_mut().map(|held| &mut held.grants),
                };
                if let Some(grants) = grants.filter(|_| *reply == Reply::Granted) {
                    grant(grants, question.text);
                }
            }
            Event::MessageQueued { issue, message } => self.entry(issue)?.messages.push(message.clone()),
            Event::MessageHeard { run, message } => self.run(run)?.heard.push(message.clone()),
            Event::StopAsked { run, wish } => self.run(run)?.stops.push(wish.clone()),
            Event::StartPlanned { issue, start } => self.entry(issue)?.start = *start,
            Event::Drained { on, action_id: _ } => self.drained = *on,
            Event::NoticeQueued { receiver, notice } => self.outbox.queued(receiver, notice),
            Event::NoticesDropped { receiver, all, .. } => self.outbox.dropped(receiver, *all, at),
            Event::Readiness { told, remaining: _ } => self.told.clone_from(told),
            Event::BranchDiverged { run, remote: _ } => {
                let run = self.run(run)?;
                run.handoff = None;
                run.evidence = None;
                run.merges += 1;
            }
            Event::Parked { issue, run: _, reason, detail: _, limit, held_until } => {
                let parked = Parking { code: reason.clone(), limit: *limit, at, held_until: *held_until };
                self.entry(issue)?.parked = Some(parked);
            }
            Event::AgentSuspended { agent, until, run: _ } => {
                self.suspended.insert(*agent, *until);
            }
            Event::AgentResumed { agent } => {
                self.suspended.remove(agent);
            }
            Event::ActionAccepted { .. }
            | Event::ActionRejected { .. }
            | Event::ActionCompleted { .. }
            | Event::ActionFailed { .. } => {
                self.fold_action(event, at);
            }
            // For whoever reads the journal.
            Event::WritesRefused { counts: _ } | Event::Recovered { .. } => {}
            Event::BudgetSet { issue: Some(issue), day: _, limits, action_id: _ } => {
                let entry = self.entry(issue)?;
                entry.limits = entry.limits.and(*limits);
            }
            Event::BudgetSet { issue: None, day, limits, action_id: _ } => {
                let day = self.day.turn_to(day.unwrap_or_else(|| day_of(at)));
                day.limits = day.limits.and(*limits);
            }
            Event::Released { issue, action_id: _ } => {
                let entry = self.entry(issue)?;
                entry.runs = 0;
                entry.attempt = None;
                entry.settled = None;
                entry.parked = None;
                entry.breaker = Breaker { seen: entry.breaker.seen.take(), ..Breaker::default() };
                let run = entry.current_run.clone();
                if let Some(run) = live(&mut self.runs, run.as_ref()) {
                    run.doubts = 0;
                }
            }
            Event::Progress { run, turn, progressed, head, diff_digest, tool_digest } => {
                let issue = self.run(run)?.issue.clone();
                let seen = Seen { head: head.clone(), diff_digest: diff_digest.clone() };
                self.entry(&issue)?.breaker.looked((run, *turn), seen, tool_digest.as_ref(), *progressed);
            }
            Event::HookEnded { issue, run: _, hook, failure } => {
                if *hook == Hook::AfterCreate && failure.is_none() {
                    self.entry(issue)?.workspace_whole = true;
                }
            }
            Event::HandoffMissing { run, missing } => {
                self.run(run)?.next_prompt = Some(PromptSpec::Continue { missing: missing.clone() });
            }
            Event::WorkflowLoaded { hash, policy } => {
                self.policies.insert(hash.clone(), Arc::new((**policy).clone()));
                self.policy = Some(hash.clone());
                self.workflow_failure = None;
                self.drop_unused_policies();
            }
            Event::WorkflowRejected { failure } => self.workflow_failure = Some(failure.clone()),
            Event::TrackerHealth { failure } => self.tracker_failure.clone_from(failure),
            Event::JournalRestored { epoch, journal, backup_at, skipped } => {
                self.take_over(*epoch)?;
                self.restore(journal, *backup_at, *skipped, at);
            }
            Event::RestoreProbed { issue, tip: _, found: _ } => self.entry(issue)?.unproved = None,
            Event::IssueSeen { issue } => {
                let unproved = self.unproved_if_older(issue.created_at);
                let workspace_unsure = unproved.is_some();
                let new = IssueEntry {
                    issue: Arc::clone(issue),
                    status: IssueStatus::Idle,
                    reason: None,
                    attempt: None,
                    runs: 0,
                    current_run: None,
                    last_run: None,
                    due_at: None,
                    workspace: None,
                    workspace_whole: false,
                    workspace_unsure,
                    removal_unsure: false,
                    unsure_move: None,
                    workspace_kept: false,
                    branch: None,
                    handed_off: None,
                    pull_request: None,
                    settled: None,
                    usage: Usage::default(),
                    models: ByModel::default(),
                    turns: 0,
                    run_ms: 0,
                    limits: BudgetOverride::default(),
                    breaker: Breaker::default(),
                    parked: None,
                    question: None,
                    messages: Vec::new(),
                    held: None,
                    start: Start::New,
                    last_turns: 0,
                    unproved,
                    seen_at: at,
                };
                let entry = match self.gone.remove(&issue.id) {
                    Some(known) => Arc::unwrap_or_clone(known).come_back(issue, at),
                    None => new,
                };
                if self.issues.insert(issue.id.clone(), Arc::new(entry)).is_some() {
                    return Err(format!("issue {} was seen before", issue.id));
                }
            }
            Event::IssueChanged { issue } => self.entry(&issue.id)?.issue = Arc::clone(issue),
            Event::IssueGone { issue } => {
                let Some(entry) = self.issues.remove(issue) else {
                    return Err(format!("issue {issue} is unknown"));
                };
                self.remember_gone(entry);
            }
            Event::IssueStatus { issue, from, to, reason, due_at } => {
                let entry = self.entry(issue)?;
                if entry.status != *from {
                    return Err(format!("issue {issue} is {}, not {}", entry.status.as_str(), from.as_str()));
                }
                entry.status = *to;
                entry.reason.clone_from(reason);
                entry.due_at = *due_at;
                if !matches!(to, IssueStatus::WaitingQuestion | IssueStatus::Running) {
                    entry.question = None;
                }
                // A settled issue that is only told a time stays settled as it was.
                if to.is_sticky() && from != to {
                    entry.settled = Some(entry.issue.fingerprint());
                }
            }
            Event::IssueReopened { issue } => {
                let entry = self.entry(issue)?;
                entry.runs = 0;
                entry.attempt = None;
                entry.settled = None;
                if entry.status.is_sticky() {
                    entry.breaker.reopened(at);
                } else {
                    entry.breaker.wanted_again(at);
                }
            }
            Event::RunStarted { run, issue, attempt, policy } => self.start_run(run, issue, *attempt, policy, at)?,
            Event::RunPhase { run, phase } => {
                let run = self.run(run)?;
                if run.phase == Phase::Ended {
                    return Err(format!("run {} is over", run.id));
                }
                run.phase = *phase;
            }
            Event::RunEnding { run, ending } => {
                let run = self.run(run)?;
                run.ending = Some(ending.clone());
                let issue = run.issue.clone();
                if ending.then == Then::Ask
                    && let Some(question) = &mut self.entry(&issue)?.question
                {
                    // The answer goes into a next turn.
                    question.live = None;
                }
            }
            Event::RunEnded { run, outcome: _, reason: _, evidence: _ } => self.end_run(run, at)?,
            Event::WorkspaceReady { issue, run, workspace, created } => {
                let has_hook = self.policy_of(run).is_some_and(|policy| policy.hooks.after_create.is_some());
                if let Some(run) = live(&mut self.runs, Some(run)) {
                    run.prepared = true;
                }
                let entry = self.entry(issue)?;
                // Also where nobody heard of the making: the effect that made it was cut, and failed in the end.
                let is_new = *created || entry.workspace.as_ref().is_some_and(|before| workspace.replaces(before));
                entry.workspace = Some(workspace.clone());
                entry.workspace_whole = !((is_new || entry.workspace_unsure) && has_hook);
                entry.workspace_unsure = false;
                entry.removal_unsure = false;
                entry.workspace_kept = false;
                entry.branch.clone_from(&workspace.branch);
            }
            Event::WorkspaceKept { issue, reason: _ } => self.entry(issue)?.workspace_kept = true,
            Event::WorkspaceRemoved { issue } => {
                let entry = self.entry(issue)?;
                entry.workspace = None;
                entry.workspace_whole = false;
                entry.workspace_unsure = false;
            }
            Event::SessionStarted { run, session }
            | Event::SessionRehydrated { run, session }
            | Event::SessionResumed { run, session } => {
                let run = self.run(run)?;
                if run.session.as_ref() != Some(session) {
                    run.ledger.session_total = Usage::default();
                }
                run.session = Some(session.clone());
                run.attached = true;
            }
            Event::TurnStarted { run, turn, repeated } => {
                let run = self.run(run)?;
                run.turn = *turn;
                run.turn_open = true;
                run.next_prompt = None;
                run.heard.clear();
                run.tool_digest = None;
                run.cut_turns += u32::from(*repeated);
                run.ledger.started(run.session.clone(), *repeated, day_of(at), run.turn_usage);
                if !*repeated {
                    run.turn_usage = Usage::default();
                }
            }
            Event::TurnEnded { run, turn: _, turn_outcome, summary: _, cut } => {
                let run = self.run(run)?;
                run.turn_open = false;
                run.heard.clear();
                if !*cut {
                    run.grants_of_turn.clear();
                }
                let whole = match turn_outcome {
                    TurnOutcome::Completed | TurnOutcome::RateLimited { .. } | TurnOutcome::Asked { .. } => true,
                    TurnOutcome::Failed { .. } | TurnOutcome::Interrupted => false,
                };
                if (*cut || !whole) && !run.ledger.settled {
                    run.ledger.leave_open(day_of(at));
                }
                run.cut_turns += u32::from(*cut);
                run.counted_turns += u32::from(!*cut);
                let issue = run.issue.clone();
                let entry = self.entry(&issue)?;
                entry.turns = entry.turns.saturating_add(u32::from(!*cut));
            }
            Event::Usage { run, turn: _, usage, model, settled } => {
                self.count_usage(run, *usage, model.as_deref(), *settled, at)?;
            }
            Event::SagaStarted { run, commit, evidence, saga } => {
                let steps = self.planned_steps(run)?;
                let issue = self.run(run)?.issue.clone();
                let before = self.entry(&issue)?.handed_off.clone();
                let run = self.run(run)?;
                run.evidence = Some(evidence.clone());
                run.handoff = Some(Handoff {
                    commit: commit.clone(),
                    saga: saga.clone(),
                    steps,
                    turned_back: None,
                    heard: 0,
                    before,
                    pull_request: None,
                });
            }
            Event::SagaStep { run, step, state, entry } => self.set_step(run, *step, state, *entry)?,
            Event::PullRequestLinked { run, pull_request } => {
                let run = self.run(run)?;
                let issue = run.issue.clone();
                if let Some(handoff) = &mut run.handoff {
                    handoff.pull_request = Some(pull_request.clone());
                }
                self.entry(&issue)?.pull_request = Some(pull_request.clone());
            }
            Event::SagaTurnedBack { run, failure } => {
                if let Some(handoff) = &mut self.run(run)?.handoff {
                    handoff.turned_back = Some(failure.clone());
                }
            }
            Event::EffectIntended { effect_id, issue, run, key, attempt, effect } => {
                self.intend(*effect_id, issue, run.as_ref(), key, *attempt, effect)?;
            }
            Event::EffectEnded { effect_id, issue: _, run, outcome, probed: _ } => {
                let Some(open) = self.open_effects.remove(effect_id) else {
                    return Err(format!("effect {effect_id} is not open"));
                };
                self.outbox.ended(&open.effect, matches!(outcome, Outcome::Done { .. }), at);
                if matches!(open.effect, Effect::StopAgent | Effect::Sweep)
                    && let Some(run) = live(&mut self.runs, run.as_ref())
                {
                    run.attached = false;
                    run.sweeping = false;
                }
                if matches!(outcome, Outcome::Done { output: EffectOutput::Moved { .. } })
                    && let Some(entry) = self.issues.get_mut(&open.issue).map(Arc::make_mut)
                {
                    entry.unsure_move = None;
                }
                if let (Effect::Prompt { messages, .. }, Outcome::Failed { .. }) = (&open.effect, outcome)
                    && let Some(entry) = self.issues.get_mut(&open.issue).map(Arc::make_mut)
                {
                    // Nobody heard them, as far as is known.
                    entry.messages.splice(0..0, messages.iter().cloned());
                }
                match outcome {
                    Outcome::InDoubt { .. } => return Err(format!("effect {effect_id} cannot end in doubt")),
                    Outcome::Done { output: EffectOutput::TurnEnded { tool_digest, .. } } => {
                        if let Some(run) = live(&mut self.runs, run.as_ref()) {
                            run.tool_digest.clone_from(tool_digest);
                        }
                    }
                    Outcome::Done { output: EffectOutput::WorkspaceRemoved | EffectOutput::WorkspaceKept { .. } } => {
                        if let Some(entry) = self.issues.get_mut(&open.issue).map(Arc::make_mut) {
                            entry.removal_unsure = false;
                        }
                    }
                    Outcome::Done { .. } | Outcome::Failed { .. } => {}
                }
            }
            Event::EffectInDoubt { effect_id, issue, run, reason: _ } => {
                let Some(open) = self.open_effects.get_mut(effect_id) else {
                    return Err(format!("effect {effect_id} is not open"));
                };
                open.in_doubt = true;
                let open = open.clone();
                if matches!(open.effect, Effect::PrepareWorkspace { .. }) {
                    let entry = self.entry(issue)?;
                    entry.workspace_unsure |= !entry.workspace_whole || entry.removal_unsure;
                }
                if matches!(open.effect, Effect::RemoveWorkspace { .. })
                    && let Some(entry) = self.issues.get_mut(issue).map(Arc::make_mut)
                {
                    entry.removal_unsure = true;
                }
                if let Effect::MoveIssue { to, from: _ } = &open.effect {
                    let to = normalized_state(to);
                    self.entry(issue)?.unsure_move = Some(to);
                }
                if let Some(run) = live(&mut self.runs, run.as_ref()) {
                    run.doubts += u32::from(!run.sweeping);
                }
            }
            Event::RecoveryStep { issue: _, run, step } => {
                if step == crate::recovery::SWEEP
                    && let Some(run) = live(&mut self.runs, run.as_ref())
                {
                    run.sweeping = true;
                    run.attached = false;
                }
            }
        }
        Ok(())
    }

    fn take_over(&mut self, epoch: u64) -> Result<(), String> {
        if epoch <= self.epoch {
            return Err(format!("epoch {epoch} does not follow {}", self.epoch));
        }
        self.epoch = epoch;
        // Whoever waited for an answer is gone.
        for entry in self.issues.values_mut().filter(|entry| entry.question.is_some()) {
            if let Some(question) = &mut Arc::make_mut(entry).question {
                question.live = None;
            }
        }
        for run in self.runs.values_mut() {
            run.attached = false;
            run.sweeping = true;
        }
        Ok(())
    }

    fn start_run(
        &mut self,
        run: &RunId,
        issue: &IssueId,
        attempt: Option<u32>,
        policy: &PolicyHash,
        at: Timestamp,
    ) -> Result<(), String> {
        if !self.policies.contains_key(policy) {
            return Err(format!("policy {policy} is unknown"));
        }
        self.run_count += 1;
        let agent = self.policies.get(policy).map(|policy| policy.agent.kind);
        let entry = self.entry(issue)?;
        if let Some(live) = &entry.current_run {
            return Err(format!("issue {issue} has the live run {live}"));
        }
        entry.current_run = Some(run.clone());
        entry.last_run = Some(run.clone());
        entry.attempt = attempt;
        let mut new = Run::new(run.clone(), issue.clone(), attempt, policy.clone(), at);
        let held = entry.held.take();
        match (std::mem::take(&mut entry.start), held) {
            (Start::Resume, Some(held)) if Some(held.agent) == agent => new.take_over(held),
            (Start::Resume, Some(held)) => {
                new.next_prompt = Some(PromptSpec::Rehydrate { attempt, turns: held.turns });
                entry.runs += 1;
            }
            (Start::Rehydrate, _) => {
                new.next_prompt = Some(PromptSpec::Rehydrate { attempt, turns: entry.last_turns });
                entry.runs += 1;
            }
            (Start::New, _) | (Start::Resume, None) => entry.runs += 1,
        }
        if self.runs.insert(run.clone(), new).is_some() {
            return Err(format!("run {run} started before"));
        }
        Ok(())
    }

    fn end_run(&mut self, run: &RunId, at: Timestamp) -> Result<(), String> {
        let Some(run) = self.runs.remove(run) else {
            return Err(format!("run {run} is not live"));
        };
        if let Some(effect) = self.open_effects.iter().find(|(_, open)| open.run.as_ref() == Some(&run.id)) {
            return Err(format!("effect {} of run {} is open", effect.0, run.id));
        }
        self.run_ms = self.run_ms.saturating_add(at.since_ms(run.started_at));
        let agent = self.policies.get(&run.policy).map(|policy| policy.agent.kind);
        let entry = self.entry(&run.issue)?;
        entry.current_run = None;
        entry.last_turns = run.taken_over.saturating_add(run.turn);
        entry.run_ms = entry.run_ms.saturating_add(at.since_ms(run.started_at));
        if let Some(ending) = &run.ending {
            match (ending.outcome, &ending.then) {
                (RunOutcome::Failed, Then::RetryAfterFailure { .. }) => entry.breaker.failed(&run.id, &ending.reason),
                (_, Then::HandedOff) => entry.breaker = Breaker::default(),
                (RunOutcome::Completed, _) => entry.breaker.failures.clear(),
                (RunOutcome::Failed | RunOutcome::Canceled | RunOutcome::Interrupted, _) => {}
            }
        }
        match run.ending.as_ref().map(|ending| &ending.then) {
            Some(Then::RetryAfterFailure { .. }) => entry.attempt = Some(run.attempt.unwrap_or(0) + 1),
            Some(Then::WaitQuota { .. }) => entry.attempt = Some(run.attempt.unwrap_or(0).max(1)),
            Some(Then::Continue) => entry.attempt = Some(1),
            Some(Then::Pause | Then::Ask) => entry.held = agent.and_then(|agent| run.held(agent)),
            Some(Then::HandedOff | Then::Release { .. } | Then::Park { .. } | Then::Cancel) => {}
            None => return Err(format!("run {} ends without a reason", run.id)),
        }
        self.drop_unused_policies();
        Ok(())
    }

    fn count_usage(
        &mut self,
        run: &RunId,
        usage: Usage,
        model: Option<&str>,
        settled: bool,
        at: Timestamp,
    ) -> Result<(), String> {
        let today = day_of(at);
        let run = self.run(run)?;
        let Booked { growth, model, named } = book(run, usage, model, settled, today);
        let issue = run.issue.clone();
        self.usage = self.usage.plus(growth);
        self.day.turn_to(today).models.add(&model, growth);
        for (_, usage) in named.iter().filter(|(day, _)| *day == today) {
            self.day.models.name(&model, *usage);
        }
        let entry = self.entry(&issue)?;
        for (_, usage) in &named {
            entry.models.name(&model, *usage);
        }
        entry.models.add(&model, growth);
        entry.usage = entry.usage.plus(growth);
        Ok(())
    }

    fn planned_steps(&mut self, run: &RunId) -> Result<Vec<(SagaStep, StepState)>, String> {
        let policy = self.run(run)?.policy.clone();
        let Some(handoff) = self.policies.get(&policy).and_then(|policy| policy.handoff.as_ref()) else {
            return Err(format!("run {run} has no handoff policy"));
        };
        let planned = SagaStep::ALL.into_iter().filter(|step| is_planned(*step, handoff));
        Ok(planned.map(|step| (step, StepState::Pending)).collect())
    }

    fn set_step(&mut self, run: &RunId, step: SagaStep, state: &StepState, entry: u64) -> Result<(), String> {
        let run = self.run(run)?;
        let id = run.id.clone();
        let Some(handoff) = &mut run.handoff else {
            return Err(format!("run {id} has no handoff"));
        };
        let Some(slot) = handoff.steps.iter_mut().find(|(name, _)| *name == step) else {
            return Err(format!("the handoff of run {id} has no step {}", step.as_str()));
        };
        slot.1 = state.clone();
        handoff.heard = handoff.heard.max(entry);
        if step == SagaStep::Push {
            let (issue, commit, before) = (run.issue.clone(), handoff.commit.clone(), handoff.before.clone());
            let entry = self.entry(&issue)?;
            if *state == StepState::Done {
                entry.handed_off = Some(commit);
                entry.breaker.reopened.clear();
            } else if *state == StepState::Undone {
                entry.handed_off = before;
            }
        }
        Ok(())
    }

    fn intend(
        &mut self,
        id: EffectId,
        issue: &IssueId,
        run: Option<&RunId>,
        key: &str,
        attempt: u32,
        effect: &Effect,
    ) -> Result<(), String> {
        if id.0 <= self.effect_count && !self.open_effects.contains_key(&id) {
            return Err(format!("effect {id} was used before"));
        }
        self.effect_count = self.effect_count.max(id.0);
        self.outbox.intended(id, effect);
        let open = OpenEffect {
            issue: issue.clone(),
            run: run.cloned(),
            key: key.to_owned(),
            attempt,
            effect: effect.clone(),
            in_doubt: false,
        };
        if let (Effect::Prompt { messages, .. }, 1) = (effect, attempt) {
            let heard: Vec<&str> = messages.iter().map(|message| message.action_id.as_str()).collect();
            self.entry(issue)?.messages.retain(|message| !heard.contains(&message.action_id.as_str()));
        }
        self.open_effects.insert(id, open);
        Ok(())
    }

    fn remember_gone(&mut self, entry: Arc<IssueEntry>) {
        if entry.runs == 0 && entry.workspace.is_none() && entry.branch.is_none() && !entry.status.is_sticky() {
            return;
        }
        self.gone.insert(entry.issue.id.clone(), entry);
        if self.gone.len() > GONE_KEPT {
            let oldest = self.gone.values().min_by_key(|entry| entry.seen_at).map(|entry| entry.issue.id.clone());
            oldest.and_then(|issue| self.gone.remove(&issue));
        }
    }

    fn drop_unused_policies(&mut self) {
        let current = self.policy.clone();
        let runs = &self.runs;
        self.policies.retain(|hash, _| Some(hash) == current.as_ref() || runs.values().any(|run| run.policy == *hash));
    }

    fn entry(&mut self, issue: &IssueId) -> Result<&mut IssueEntry, String> {
        self.issues.get_mut(issue).map(Arc::make_mut).ok_or_else(|| format!("issue {issue} is unknown"))
    }

    fn run(&mut self, run: &RunId) -> Result<&mut Run, String> {
        self.runs.get_mut(run).ok_or_else(|| format!("run {run} is not live"))
    }

    /// The policy in force: for work between runs, and for runs that begin.
    #[must_use]
    pub fn policy(&self) -> Option<Arc<Policy>> {
        self.policy.as_ref().and_then(|hash| self.policies.get(hash)).cloned()
    }

    /// The policy that a live run keeps.
    #[must_use]
    pub fn policy_of(&self, run: &RunId) -> Option<Arc<Policy>> {
        self.policies.get(&self.runs.get(run)?.policy).cloned()
    }
}

fn live<'a>(runs: &'a mut BTreeMap<RunId, Run>, run: Option<&RunId>) -> Option<&'a mut Run> {
    run.and_then(|run| runs.get_mut(run))
}
