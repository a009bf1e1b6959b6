//! The handoff of a run to a plain git remote: push (the pivot), then comment and move, which hang on the
//! push and not on each other. Each step is an effect with intent, outcome, key and probe.

use crate::effect::{Effect, EffectOutput, Failure, Missing, PromptSpec};
use crate::event::Event;
use crate::ids::{CommitId, RunId};
use crate::issue::IssueStatus;
use crate::machine::Machine;
use crate::policy::HandoffPolicy;
use crate::run::{Ending, Handoff, Phase, Run, RunOutcome, SagaStep, StepState, Then};
use crate::time::Timestamp;

/// Failures of one step before it parks.
const STEP_FAILURES: u32 = 8;
/// Turns in a run to merge what somebody else pushed to the branch.
const MERGE_TURNS: u32 = 1;
/// First wait after a failed step; doubles with each further one.
const STEP_BASE_MS: u64 = 1_000;
/// Longest wait between two tries of a step.
const STEP_CAP_MS: u64 = 60_000;

impl Machine {
    /// The evidence is there: the agent is ended, then the steps run.
    pub(crate) fn begin_handoff(&mut self, run: &Run, commit: CommitId, evidence: String) {
        self.emit(Event::SagaStarted { run: run.id.clone(), commit, evidence });
        self.set_status(&run.issue, IssueStatus::HandingOff, None, None);
        self.begin(&run.id, Phase::Closing, &named("close", run.merges), Effect::StopAgent);
    }

    /// The agent is gone: the pivot is intended.
    pub(crate) fn deliver(&mut self, id: &RunId) {
        self.enter(id, Phase::Delivering);
        self.intend_step(id, SagaStep::Push);
    }

    fn intend_step(&mut self, id: &RunId, step: SagaStep) {
        let Some(run) = self.state.runs.get(id) else { return };
        let (Some(handoff), Some(policy)) = (&run.handoff, self.state.policy_of(id)) else { return };
        let Some(plan) = &policy.handoff else { return };
        let issue = run.issue.clone();
        let commit = handoff.commit.clone();
        let effect = match step {
            SagaStep::Push => {
                let expected = self.state.issues.get(&issue).and_then(|entry| entry.handed_off.clone());
                Effect::PushBranch { commit, expected }
            }
            SagaStep::Comment => Effect::Comment { commit, checks: plan.checks.clone() },
            SagaStep::Move => match &plan.state {
                Some(to) => Effect::MoveIssue { to: to.clone(), from: self.state_of(&issue) },
                None => return,
            },
        };
        let name = named(step.as_str(), run.merges);
        self.emit(Event::SagaStep { run: id.clone(), step, state: StepState::Intended });
        self.intend(&issue, Some(id), &name, effect);
    }

    /// A step's effect is settled.
    pub(crate) fn after_step(&mut self, run: &Run, step: SagaStep, result: Result<EffectOutput, Failure>) {
        match result {
            Ok(output) if is_output_of(step, &output) => {
                if let EffectOutput::Moved { state } = &output {
                    self.note_own_move(&run.issue, state.clone());
                } else {
                    self.own_write(&run.issue);
                }
                self.emit(Event::SagaStep { run: run.id.clone(), step, state: StepState::Done });
            }
            // Its outcome is recorded as done, so it must not be tried again.
            Ok(_) => {
                let failure = Failure::permanent("wrong_output", format!("{} answered something else", step.as_str()));
                self.step_failed(run, step, &failure);
            }
            Err(failure) => self.step_failed(run, step, &failure),
        }
        self.advance(&run.id);
    }

    /// Something failed past the pivot that is no step's own outcome: nothing is taken back, steps that nobody performs do
    /// not start, and the issue parks when those under way have ended.
    pub(crate) fn fail_past_pivot(&mut self, id: &RunId, failure: &Failure) {
        let Some(run) = self.state.runs.get(id) else { return };
        let (phase, steps) = (run.phase, run.handoff.clone().map_or_else(Vec::new, |handoff| handoff.steps));
        let ours = self.state.open_effects.values().filter(|open| open.run.as_ref() == Some(id));
        let under_way: Vec<SagaStep> = ours.clone().filter_map(|open| step_of(&open.effect)).collect();
        let idle = ours.count() == 0;
        if phase == Phase::Delivering {
            let (code, detail) = (failure.code.clone(), failure.to_string());
            let then = Then::Park { detail, limit: None };
            let ending = Ending { outcome: RunOutcome::Failed, reason: code, then };
            self.emit(Event::RunEnding { run: id.clone(), ending });
            for (step, state) in steps {
                let stands = state == StepState::Intended && !under_way.contains(&step);
                if stands || state == StepState::Pending {
                    let state = StepState::Parked { reason: failure.to_string() };
                    self.emit(Event::SagaStep { run: id.clone(), step, state });
                }
            }
            self.advance(id);
        } else if phase == Phase::AfterRun && idle {
            self.finish(id);
        }
    }

    fn step_failed(&mut self, run: &Run, step: SagaStep, failure: &Failure) {
        let failures = run.handoff.as_ref().map_or(0, |handoff| failures_of(handoff, step)) + 1;
        let state = if failure.retryable && failures < STEP_FAILURES {
            let wait = STEP_BASE_MS.saturating_mul(1_u64 << failures.min(16)).min(STEP_CAP_MS);
            StepState::Waiting { failures, due_at: self.now.after_ms(wait) }
        } else {
            StepState::Parked { reason: failure.to_string() }
        };
        self.emit(Event::SagaStep { run: run.id.clone(), step, state });
    }

    /// Starts what can start; ends the handoff when nothing can move any more.
    pub(crate) fn advance(&mut self, id: &RunId) {
        let Some(run) = self.state.runs.get(id).filter(|run| run.phase == Phase::Delivering) else { return };
        let Some(handoff) = run.handoff.clone() else { return };
        if handoff.steps.iter().any(|(_, state)| matches!(state, StepState::Intended | StepState::Waiting { .. })) {
            // Independent steps go on side by side; the pivot has to be done before any of them starts.
            return;
        }
        if let Some(reason) = pivot_parked(&handoff) {
            if self.merge_first(&run.id.clone(), &reason) {
                return;
            }
            self.end_handoff(id, RunOutcome::Interrupted, code_of(&reason), Then::Park { detail: reason, limit: None });
            return;
        }
        let pending: Vec<SagaStep> =
            handoff.steps.iter().filter(|(_, state)| *state == StepState::Pending).map(|(step, _)| *step).collect();
        if !pending.is_empty() {
            for step in pending {
                self.intend_step(id, step);
            }
            return;
        }
        let parked: Vec<String> = handoff
            .steps
            .iter()
            .filter_map(|(step, state)| match state {
                StepState::Parked { reason } => Some(format!("{}: {reason}", step.as_str())),
                StepState::Pending | StepState::Intended | StepState::Waiting { .. } | StepState::Done => None,
            })
            .collect();
        if parked.is_empty() {
            self.end_handoff(id, RunOutcome::Completed, "handed_off".to_owned(), Then::HandedOff);
        } else {
            let detail = format!("the branch is pushed, but {}", parked.join("; "));
            let then = Then::Park { detail, limit: None };
            self.end_handoff(id, RunOutcome::Interrupted, "handoff_step_failed".to_owned(), then);
        }
    }

    /// Somebody else went on with our branch, and the push was refused for certain: nothing was delivered. Once in a
    /// run, the agent gets a turn to merge that; tells whether it does.
    fn merge_first(&mut self, id: &RunId, reason: &str) -> bool {
        let Some(run) = self.state.runs.get(id) else { return false };
        let Some(policy) = self.state.policy_of(id) else { return false };
        let turns_left = run.counted_turns < policy.agent.max_turns;
        if code_of(reason) != "branch_diverged" || run.merges >= MERGE_TURNS || !turns_left {
            return false;
        }
        let (issue, turn) = (run.issue.clone(), run.turn);
        self.emit(Event::SagaEnded { run: id.clone(), committed: false });
        self.set_status(&issue, IssueStatus::Running, None, None);
        self.begin(id, Phase::Bringing, &format!("bring/{turn}"), Effect::BringRemote);
        true
    }

    /// The remote's commits are in the workspace: the agent merges them.
    pub(crate) fn after_bring(&mut self, run: &Run, remote: CommitId) {
        self.emit(Event::BranchDiverged { run: run.id.clone(), remote: remote.clone() });
        let missing = Missing::Diverged { remote };
        self.emit(Event::HandoffMissing { run: run.id.clone(), missing: missing.clone() });
        self.next_turn(&run.id, PromptSpec::Continue { missing });
    }

    fn end_handoff(&mut self, id: &RunId, outcome: RunOutcome, reason: String, then: Then) {
        // One that failed beside its steps has its ending already.
        let decided = self.state.runs.get(id).and_then(|run| run.ending.clone());
        let ending = decided.clone().unwrap_or(Ending { outcome, reason, then });
        self.emit(Event::SagaEnded { run: id.clone(), committed: ending.then == Then::HandedOff });
        if decided.is_none() {
            self.emit(Event::RunEnding { run: id.clone(), ending });
        }
        self.after_run(id);
    }

    /// Steps whose wait is over are tried again, under the same key.
    pub(crate) fn due_steps(&mut self) {
        let due: Vec<(RunId, SagaStep)> = self
            .waiting_steps()
            .filter(|(_, _, due_at)| *due_at <= self.now)
            .map(|(run, step, _)| (run.clone(), step))
            .collect();
        for (run, step) in due {
            self.intend_step(&run, step);
        }
    }

    pub(crate) fn steps_due(&self) -> Option<Timestamp> {
        self.waiting_steps().map(|(_, _, due_at)| due_at).min()
    }

    fn waiting_steps(&self) -> impl Iterator<Item = (&RunId, SagaStep, Timestamp)> {
        self.state.runs.values().filter(|run| run.phase == Phase::Delivering && !run.sweeping).flat_map(|run| {
            run.handoff.iter().flat_map(|handoff| &handoff.steps).filter_map(|(step, state)| match state {
                StepState::Waiting { due_at, .. } => Some((&run.id, *step, *due_at)),
                StepState::Pending | StepState::Intended | StepState::Done | StepState::Parked { .. } => None,
            })
        })
    }
}

/// Whether a policy wants the step. The order is that of [`SagaStep::ALL`].
pub(crate) fn is_planned(step: SagaStep, plan: &HandoffPolicy) -> bool {
    match step {
        SagaStep::Push => true,
        SagaStep::Comment => plan.comment.is_some(),
        SagaStep::Move => plan.state.is_some(),
    }
}

/// Whether this can come of the step's effect.
fn is_output_of(step: SagaStep, output: &EffectOutput) -> bool {
    match step {
        SagaStep::Push => *output == EffectOutput::Pushed,
        SagaStep::Comment => *output == EffectOutput::Commented,
        SagaStep::Move => matches!(output, EffectOutput::Moved { .. }),
    }
}

/// The step that an effect belongs to.
pub(crate) fn step_of(effect: &Effect) -> Option<SagaStep> {
    match effect {
        Effect::PushBranch { .. } => Some(SagaStep::Push),
        Effect::Comment { .. } => Some(SagaStep::Comment),
        Effect::MoveIssue { .. } => Some(SagaStep::Move),
        Effect::PrepareWorkspace { .. }
        | Effect::RunHook { .. }
        | Effect::StartSession { .. }
        | Effect::Prompt { .. }
        | Effect::StopAgent
        | Effect::Sweep
        | Effect::CommitLeftovers
        | Effect::FetchCommit
        | Effect::RunCheck { .. }
        | Effect::BringRemote
        | Effect::RemoveWorkspace { .. } => None,
    }
}

/// The name of an effect of a handoff. The one after a merge is another one.
fn named(what: &str, merges: u32) -> String {
    match merges {
        0 => what.to_owned(),
        merges => format!("{what}/{merges}"),
    }
}

fn failures_of(handoff: &Handoff, step: SagaStep) -> u32 {
    handoff.failures.iter().find(|(name, _)| *name == step).map_or(0, |(_, failures)| *failures)
}

fn pivot_parked(handoff: &Handoff) -> Option<String> {
    handoff.steps.iter().find_map(|(step, state)| match (step, state) {
        (SagaStep::Push, StepState::Parked { reason }) => Some(reason.clone()),
        _ => None,
    })
}

fn code_of(reason: &str) -> String {
    reason.split(':').next().unwrap_or(reason).to_owned()
}
