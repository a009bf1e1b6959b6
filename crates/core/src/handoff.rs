//! The handoff of a run: a saga of the library of durable effects, performed as one effect. The machine says what is handed over, and
//! when it is no longer wanted; the saga says how far it is, and that becomes events here.
//!
//! # States
//! The run is in [`Phase::Delivering`] from the saga's intent to its end, also while a step of it is parked or waits for an approval: then
//! nothing of the run moves, and it takes no slot.
//!
//! # Transitions
//! - committed: the branch is handed over, whatever the run was to end with.
//! - compensated: the run ends as was decided, or the issue parks with what turned the saga back. A branch that somebody else went on with
//!   gives the agent a turn to merge it, once in a run, and not in one that was restored from a backup.
//! - abandoned: an operator left a step as it is. Handed over if the pivot is done, else parked.
//! - the saga cannot be run at all: the issue parks.
//! - nobody knows how far the saga is, again and again: the issue parks with its run, and `release` has the saga taken up again.

use crate::effect::{Effect, EffectOutput, Failure, Missing, PromptSpec, SagaEnd};
use crate::event::Event;
use crate::ids::{CommitId, EffectId, RunId};
use crate::issue::IssueStatus;
use crate::machine::Machine;
use crate::policy::HandoffPolicy;
use crate::run::{Ending, Handoff, Phase, Run, RunOutcome, SagaProgress, SagaStep, StepState, Then};

/// Turns in a run to merge what somebody else pushed to the branch.
const MERGE_TURNS: u32 = 1;

impl Machine {
    /// The evidence is there: the agent is ended, then the saga runs.
    pub(crate) fn begin_handoff(&mut self, run: &Run, commit: CommitId, evidence: String) {
        if self.has_messages(&run.issue) {
            let Some(policy) = self.state.policy_of(&run.id) else { return };
            return self.go_on(run, &policy, Missing::Messages);
        }
        let saga = Some(named(&format!("{}.handoff", run.id), '.', run.merges));
        self.emit(Event::SagaStarted { run: run.id.clone(), commit, evidence, saga });
        self.set_status(&run.issue, IssueStatus::HandingOff, None, None);
        self.begin(&run.id, Phase::Closing, &named("close", '/', run.merges), Effect::StopAgent);
    }

    /// The agent is gone: the saga begins.
    pub(crate) fn deliver(&mut self, id: &RunId) {
        let Some(run) = self.state.runs.get(id) else { return };
        let (issue, name) = (run.issue.clone(), named("handoff", '/', run.merges));
        let Some(Handoff { commit, saga: Some(saga), .. }) = run.handoff.clone() else { return };
        let Some(entry) = self.state.issues.get(&issue) else { return };
        let (expected, from) = (entry.handed_off.clone(), self.state_of(&issue));
        let pull_request = entry.pull_request.as_ref().map(|pull_request| pull_request.number);
        self.begin(id, Phase::Delivering, &name, Effect::HandOff { saga, commit, expected, from, pull_request });
    }

    /// The saga moved: what is new becomes events.
    pub(crate) fn saga_moved(&mut self, effect: EffectId, progress: &SagaProgress) {
        let run = self.state.open_effects.get(&effect).and_then(|open| open.run.clone());
        let Some(run) = run.and_then(|run| self.state.runs.get(&run)).cloned() else { return };
        let Some(handoff) = run.handoff.as_ref().filter(|handoff| handoff.heard < progress.entry) else { return };
        if let Some(failure) = &progress.turned_back
            && handoff.turned_back.is_none()
        {
            self.emit(Event::SagaTurnedBack { run: run.id.clone(), failure: failure.clone() });
        }
        if let Some(pull_request) = &progress.pull_request
            && handoff.pull_request.as_ref() != Some(pull_request)
        {
            let (run, pull_request) = (run.id.clone(), pull_request.clone());
            self.emit(Event::PullRequestLinked { run, pull_request });
        }
        for (step, state) in &progress.steps {
            if handoff.step(*step).is_some_and(|known| known != state) {
                let (id, entry) = (run.id.clone(), progress.entry);
                self.emit(Event::SagaStep { run: id, step: *step, state: state.clone(), entry });
                if *state == StepState::Done {
                    self.note_done(&run, *step, progress.moved.as_ref());
                }
            }
        }
        self.note_rest(&run.id);
    }

    /// What we did to the issue is not news when the tracker is read the next time.
    fn note_done(&mut self, run: &Run, step: SagaStep, moved: Option<&String>) {
        match moved.filter(|_| step == SagaStep::Move) {
            Some(to) => self.note_own_move(&run.issue, to.clone()),
            None => self.own_write(&run.issue),
        }
    }

    /// A handoff that is in doubt is taken up again. Answers whether there is one.
    pub(crate) fn take_up_handoff(&mut self, id: &RunId) -> bool {
        let doubts = self.doubts(id);
        let Some((effect, _)) = doubts.iter().find(|(_, open)| matches!(open.effect, Effect::HandOff { .. })) else {
            return false;
        };
        self.intend_again(*effect);
        self.note_rest(id);
        true
    }

    /// The issue waits for whom the saga waits for.
    fn note_rest(&mut self, id: &RunId) {
        let Some(run) = self.state.runs.get(id).filter(|run| run.phase == Phase::Delivering) else { return };
        let (issue, Some(handoff)) = (run.issue.clone(), run.handoff.clone()) else { return };
        let status = self.state.issues.get(&issue).map(|entry| entry.status);
        if !handoff.rests() {
            if status != Some(IssueStatus::HandingOff) {
                self.set_status(&issue, IssueStatus::HandingOff, None, None);
            }
            return;
        }
        let parked = handoff.parked();
        if parked.is_empty() {
            let reason = "its handoff waits for an approval";
            self.set_status(&issue, IssueStatus::WaitingApproval, Some(reason), None);
        } else if status != Some(IssueStatus::Parked) {
            let pushed = handoff.step(SagaStep::Push) == Some(&StepState::Done);
            let detail = format!("{}{}", if pushed { "the branch is pushed, but " } else { "" }, parked.join("; "));
            self.park_issue(&issue, Some(id), "handoff_step_failed", detail, None);
        }
    }

    /// The saga is over, or cannot be run.
    pub(crate) fn after_handoff(&mut self, run: &Run, result: Result<EffectOutput, Failure>) {
        let Some(handoff) = self.state.runs.get(&run.id).and_then(|run| run.handoff.clone()) else { return };
        let pushed = handoff.step(handoff.pivot()) == Some(&StepState::Done);
        let interrupted = |reason: &str, detail: String| Ending {
            outcome: RunOutcome::Interrupted,
            reason: reason.to_owned(),
            then: Then::Park { detail, limit: None },
        };
        let handed_off =
            Ending { outcome: RunOutcome::Completed, reason: "handed_off".to_owned(), then: Then::HandedOff };
        let decided = run.ending.clone();
        match result {
            Ok(EffectOutput::HandedOff { end: SagaEnd::Committed }) => self.end_handoff(run, true, handed_off),
            Ok(EffectOutput::HandedOff { end: SagaEnd::Abandoned }) if pushed => {
                self.end_handoff(run, false, handed_off);
            }
            Ok(EffectOutput::HandedOff { end: SagaEnd::Abandoned }) => {
                let detail = "an operator left a step of the handoff as it is".to_owned();
                self.end_handoff(run, false, interrupted("handoff_abandoned", detail));
            }
            Ok(EffectOutput::HandedOff { end: SagaEnd::Compensated }) => {
                let why = handoff
                    .turned_back
                    .clone()
                    .unwrap_or_else(|| Failure::permanent("handoff_undone", "the handoff was undone"));
                // In a restored run the lost life may have given its agent that turn already.
                let to_merge = decided.is_none() && !run.restored && self.may_merge(run, &why);
                if to_merge {
                    return self.merge_first(run);
                }
                let ending = decided.unwrap_or_else(|| interrupted(&why.code, why.to_string()));
                self.end_handoff(run, false, ending);
            }
            Ok(_) => {
                let failure = Failure::permanent("wrong_output", "hand_off answered something else");
                self.end_handoff(run, false, interrupted(&failure.code, failure.to_string()));
            }
            // It was not begun, and nobody wants it any more.
            Err(failure) => {
                let ending = decided.filter(|_| failure.code == CANCELED);
                let ending = ending.unwrap_or_else(|| interrupted(&failure.code, failure.to_string()));
                self.end_handoff(run, false, ending);
            }
        }
    }

    /// Whether the agent gets a turn to merge what somebody else pushed.
    fn may_merge(&self, run: &Run, why: &Failure) -> bool {
        let turns = self.state.policy_of(&run.id).map_or(0, |policy| policy.agent.max_turns);
        why.code == "branch_diverged" && run.merges < MERGE_TURNS && run.counted_turns < turns
    }

    fn merge_first(&mut self, run: &Run) {
        self.emit(Event::SagaEnded { run: run.id.clone(), committed: false });
        self.set_status(&run.issue, IssueStatus::Running, None, None);
        self.begin(&run.id, Phase::Bringing, &format!("bring/{}", run.turn), Effect::BringRemote);
    }

    /// The remote's commits are in the workspace: the agent merges them.
    pub(crate) fn after_bring(&mut self, run: &Run, remote: CommitId) {
        self.emit(Event::BranchDiverged { run: run.id.clone(), remote: remote.clone() });
        let missing = Missing::Diverged { remote };
        self.emit(Event::HandoffMissing { run: run.id.clone(), missing: missing.clone() });
        self.next_turn(&run.id, PromptSpec::Continue { missing });
    }

    fn end_handoff(&mut self, run: &Run, committed: bool, ending: Ending) {
        self.emit(Event::SagaEnded { run: run.id.clone(), committed });
        if run.ending.as_ref() != Some(&ending) {
            self.emit(Event::RunEnding { run: run.id.clone(), ending });
        }
        self.after_run(&run.id);
    }

    /// A handoff that an older version began has no saga: what of it took place has to be looked at.
    pub(crate) fn end_outdated_handoff(&mut self, run: &Run) {
        let detail =
            "the handoff was begun by an older version; look at branch, comment and state, then release the issue";
        let then = Then::Park { detail: detail.to_owned(), limit: None };
        let reason = "handoff_outdated".to_owned();
        self.end_handoff(run, false, Ending { outcome: RunOutcome::Interrupted, reason, then });
    }

    /// It is a handoff: not to be cut, but to be let go of.
    #[must_use]
    pub fn is_handoff(&self, effect: EffectId) -> bool {
        self.state.open_effects.get(&effect).is_some_and(|open| matches!(open.effect, Effect::HandOff { .. }))
    }

    /// Nothing of the effect moves before somebody says how: it holds up no end of the daemon.
    #[must_use]
    pub fn is_resting(&self, effect: EffectId) -> bool {
        let run = self.state.open_effects.get(&effect).and_then(|open| self.state.runs.get(open.run.as_ref()?));
        run.is_some_and(|run| self.rests(run))
    }

    /// Nothing of the run moves before an operator says how its handoff goes on, has it taken up again, or answers its agent.
    pub(crate) fn rests(&self, run: &Run) -> bool {
        run.rests() || self.is_handoff_in_doubt(&run.id) || self.waits_for_answer(run)
    }

    /// Nobody takes the run's handoff up by himself: it was in doubt too often.
    pub(crate) fn is_handoff_in_doubt(&self, id: &RunId) -> bool {
        let settled = self.state.runs.get(id).is_some_and(|run| run.phase == Phase::Delivering && !run.sweeping);
        settled && self.doubts(id).iter().any(|(_, open)| matches!(open.effect, Effect::HandOff { .. }))
    }
}

/// Code of what was given up before it began.
pub(crate) const CANCELED: &str = "canceled";

/// Whether a policy wants the step. The order is that of [`SagaStep::ALL`].
pub(crate) fn is_planned(step: SagaStep, plan: &HandoffPolicy) -> bool {
    match step {
        SagaStep::Push => true,
        SagaStep::Look | SagaStep::Open | SagaStep::Ready => plan.forge.is_some(),
        SagaStep::Comment => plan.comment.is_some(),
        SagaStep::Move => plan.state.is_some(),
    }
}

/// The name of something of a handoff. The one after a merge is another one.
fn named(what: &str, between: char, merges: u32) -> String {
    match merges {
        0 => what.to_owned(),
        merges => format!("{what}{between}{merges}"),
    }
}
