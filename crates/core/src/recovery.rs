//! Recovery: what a new daemon does with what the dead one left open, and what a live one does when nobody
//! knows how an effect ended. Replay, then plan; the plan's steps are ordinary transitions.

use crate::effect::{Effect, Failure, InDoubtPolicy, Outcome, ProbeAnswer, Query};
use crate::event::Event;
use crate::ids::{EffectId, RunId};
use crate::machine::{Again, Machine, Purpose};
use crate::operate::Order;
use crate::policy::Hook;
use crate::run::{Ending, Phase, Run, RunOutcome, Then};
use crate::state::OpenEffect;
use crate::time::Timestamp;

/// The recovery step that kills what a run left running.
pub(crate) const SWEEP: &str = "sweep";
/// Code of a failure that is no more than not knowing.
pub(crate) const IN_DOUBT: &str = "in_doubt";
/// Code of a handoff of which nobody knows how far it is, also not after it was taken up again and again.
const HANDOFF_IN_DOUBT: &str = "handoff_in_doubt";
/// Times in one run that nobody knew while the daemon lived, before the run fails, or its handoff waits for an
/// operator.
const DOUBTS: u32 = 5;
/// Tries of an effect on an issue between runs before it is given up.
const ISSUE_EFFECT_TRIES: u32 = 5;
/// Probes of one effect that may tell nothing before it counts as failed.
const PROBE_TRIES: u32 = 30;
/// First wait before a probe is tried again; doubles up to the cap.
const PROBE_BASE_MS: u64 = 1_000;
const PROBE_CAP_MS: u64 = 60_000;

impl Machine {
    /// A new daemon takes over: what is open is in doubt, and everything is swept before anything goes on.
    pub(crate) fn recover(&mut self, epoch: u64, version: String, pid: u32) {
        self.emit(Event::DaemonStarted { epoch, version, pid });
        let open: Vec<(EffectId, OpenEffect)> =
            self.state.open_effects.iter().map(|(id, open)| (*id, open.clone())).collect();
        for (id, open) in &open {
            if !open.in_doubt {
                self.emit(Event::EffectInDoubt {
                    effect_id: *id,
                    issue: open.issue.clone(),
                    run: open.run.clone(),
                    reason: "the daemon ended before the outcome was recorded".to_owned(),
                });
            }
        }
        for (id, open) in &open {
            match open.run {
                None => self.issue_effect_again(*id, open),
                Some(_) if matches!(open.effect, Effect::Sweep) => self.abandon(*id, open),
                Some(_) => {}
            }
        }
        let runs: Vec<RunId> = self.state.runs.keys().cloned().collect();
        for run in runs {
            if self.state.runs.get(&run).is_some_and(|run| run.phase == Phase::Stopping) {
                self.abandon_doubts(&run);
            }
            self.sweep(&run);
        }
        self.recovers_until = self.state.effect_count;
        self.poll_soon();
    }

    fn sweep(&mut self, id: &RunId) {
        let Some(run) = self.state.runs.get(id) else { return };
        let issue = run.issue.clone();
        self.emit(Event::RecoveryStep { issue: issue.clone(), run: Some(id.clone()), step: SWEEP.to_owned() });
        let name = format!("sweep/{}", self.state.effect_count);
        self.intend(&issue, Some(id), &name, Effect::Sweep);
    }

    fn issue_effect_again(&mut self, id: EffectId, open: &OpenEffect) {
        // What may have been said once is not said into a turn a second time: it comes with the next prompt.
        let once =
            matches!(&open.effect, Effect::CarryOut { order: Order::Steer { .. } | Order::Reply { .. }, action: _ });
        if open.attempt < ISSUE_EFFECT_TRIES && !once {
            self.intend_again(id);
        } else {
            self.abandon(id, open);
            let reason = format!("{} never came to an end", open.effect.kind());
            let unknown = |reason| Err(Failure::permanent(IN_DOUBT, reason));
            match &open.effect {
                Effect::TellSaga { action_id, correlation_id, .. } => {
                    self.after_telling(&open.issue, (action_id, correlation_id), unknown(reason));
                }
                Effect::Notify { .. } => {
                    self.after_notify(&open.effect, Some(Failure::retryable(IN_DOUBT, reason)));
                }
                Effect::CarryOut { order, action } => self.after_order(&open.issue, order, action, unknown(reason)),
                Effect::Mend { mend } => {
                    self.after_mend(mend, unknown(reason));
                }
                Effect::RunHook { .. } | Effect::RemoveWorkspace { .. } => {
                    self.emit(Event::WorkspaceKept { issue: open.issue.clone(), reason });
                }
                Effect::PrepareWorkspace { .. }
                | Effect::MoveIssue { .. }
                | Effect::StartSession { .. }
                | Effect::Prompt { .. }
                | Effect::StopAgent
                | Effect::Sweep
                | Effect::CommitLeftovers
                | Effect::FetchCommit
                | Effect::RunCheck { .. }
                | Effect::HandOff { .. }
                | Effect::PushBranch { .. }
                | Effect::BringRemote
                | Effect::Comment { .. } => {}
            }
        }
    }

    /// Nobody knows how an effect ended, and the daemon lives: panic, deadline, no answer to a cancel.
    pub(crate) fn doubt(&mut self, id: EffectId, open: &OpenEffect, reason: String) {
        let (issue, run) = (open.issue.clone(), open.run.clone());
        self.emit(Event::EffectInDoubt { effect_id: id, issue, run, reason: reason.clone() });
        if let (Effect::Prompt { .. }, Some(run)) = (&open.effect, &open.run) {
            self.withdraw_question(run);
        }
        let Some(run) = open.run.as_ref().and_then(|run| self.state.runs.get(run)).cloned() else {
            self.issue_effect_again(id, open);
            return;
        };
        let unknown = Failure::retryable(IN_DOUBT, format!("{}: {reason}", open.effect.kind()));
        if matches!(open.effect, Effect::Sweep | Effect::StopAgent) {
            if open.attempt < DOUBTS {
                self.intend_again(id);
            } else {
                let failure = Failure::permanent("sweep_failed", reason);
                self.settle(id, open, Outcome::Failed { failure }, false);
            }
        } else if run.phase == Phase::Delivering && run.doubts < DOUBTS {
            // The saga is taken up again: what is known of it is recorded.
            self.intend_again(id);
        } else if run.phase == Phase::Delivering {
            // Given up, it would be nobody's, with what it did to the world: it stays in doubt until an operator has it taken up again.
            self.park_issue(&run.issue, Some(&run.id), HANDOFF_IN_DOUBT, unknown.message, None);
        } else if run.phase == Phase::Stopping || (run.phase == Phase::AfterRun && run.doubts >= DOUBTS) {
            self.settle(id, open, Outcome::Failed { failure: unknown }, false);
        } else if run.doubts >= DOUBTS {
            self.fail_run(&run.id, &unknown);
        } else {
            self.sweep(&run.id);
        }
    }

    /// What the run left running could not be ended: an operator has to look, before another agent starts. A
    /// handoff goes on all the same: what is pushed was fetched and checked before.
    pub(crate) fn sweep_failed(&mut self, run: &Run, failure: &Failure) {
        let id = run.id.clone();
        match run.phase {
            Phase::Delivering => self.resume(&id),
            Phase::AfterRun => {
                if run.ending.as_ref().is_some_and(|ending| ending.then != Then::HandedOff) {
                    let then = Then::Park { detail: failure.to_string(), limit: None };
                    let reason = "sweep_failed".to_owned();
                    let ending = Ending { outcome: RunOutcome::Failed, reason, then };
                    self.emit(Event::RunEnding { run: id.clone(), ending });
                }
                self.resume(&id);
            }
            Phase::Preparing
            | Phase::AfterCreate
            | Phase::Claiming
            | Phase::BeforeRun
            | Phase::Launching
            | Phase::Prompting
            | Phase::Assessing
            | Phase::Committing
            | Phase::Fetching
            | Phase::Checking { .. }
            | Phase::Closing
            | Phase::Bringing
            | Phase::Stopping
            | Phase::Ended => self.park_run(&id, "sweep_failed", failure.to_string()),
        }
    }

    /// The effects of this run whose outcome nobody knows, oldest first.
    pub(crate) fn doubts(&self, id: &RunId) -> Vec<(EffectId, OpenEffect)> {
        let open = self.state.open_effects.iter();
        open.filter(|(_, open)| open.in_doubt && open.run.as_ref() == Some(id))
            .map(|(effect, open)| (*effect, open.clone()))
            .collect()
    }

    /// The sweep is through: the run goes on from where the journal has it.
    pub(crate) fn resume(&mut self, id: &RunId) {
        let Some(run) = self.state.runs.get(id).cloned() else { return };
        let doubts = self.doubts(id);
        if self.end_restored(id) {
            return;
        }
        if run.phase == Phase::Assessing {
            self.assess(id);
            return;
        }
        if run.phase == Phase::Delivering {
            if !self.take_up_handoff(id) {
                self.abandon_doubts(id);
                self.end_outdated_handoff(&run);
            }
            return;
        }
        let asks = self.state.issues.get(&run.issue).is_some_and(|entry| entry.question.is_some());
        if run.phase == Phase::Prompting && asks {
            // The answer goes into the session with a next run.
            self.hold_for_answer(id);
            return;
        }
        let mut launch = matches!(run.phase, Phase::Prompting);
        for (effect, open) in &doubts {
            match open.effect.in_doubt() {
                InDoubtPolicy::Rerun => self.intend_again(*effect),
                InDoubtPolicy::Probe => self.probe(*effect),
                InDoubtPolicy::RemakeWorkspace => {
                    self.abandon(*effect, open);
                    self.remake_workspace(id);
                }
                InDoubtPolicy::History => {
                    launch = true;
                    if matches!(open.effect, Effect::StartSession { .. }) {
                        self.abandon(*effect, open);
                    }
                }
            }
        }
        if launch {
            self.launch(id);
        }
    }

    fn remake_workspace(&mut self, id: &RunId) {
        let Some(run) = self.state.runs.get(id) else { return };
        let issue = run.issue.clone();
        let hook = Hook::AfterCreate;
        let failure = Failure::retryable(IN_DOUBT, "the workspace is made anew");
        self.emit(Event::HookEnded { issue: issue.clone(), run: Some(id.clone()), hook, failure: Some(failure) });
        let name = format!("prepare/{}", self.state.effect_count);
        self.begin(id, Phase::Preparing, &name, Effect::PrepareWorkspace { fresh: true });
    }

    /// Asks the world whether an effect in doubt took place.
    fn probe(&mut self, id: EffectId) {
        match self.request(id) {
            Some(request) => self.ask(Purpose::Probe { effect: id }, Query::Probe { request: Box::new(request) }),
            None => self.probe_later(id),
        }
    }

    pub(crate) fn probe_later(&mut self, id: EffectId) {
        let tries = self.probe_again.get(&id).map_or(0, |again| again.tries) + 1;
        let wait = PROBE_BASE_MS.saturating_mul(1_u64 << tries.min(16)).min(PROBE_CAP_MS);
        self.probe_again.insert(id, Again { due_at: self.now.after_ms(wait), tries });
    }

    pub(crate) fn probed(&mut self, id: EffectId, answer: ProbeAnswer) {
        let Some(open) = self.state.open_effects.get(&id).filter(|open| open.in_doubt).cloned() else { return };
        match answer {
            ProbeAnswer::Applied(output) => {
                self.probe_again.remove(&id);
                self.settle(id, &open, Outcome::Done { output }, true);
            }
            ProbeAnswer::NotApplied => {
                self.probe_again.remove(&id);
                self.intend_again(id);
            }
            ProbeAnswer::Inconclusive(mut failure) => {
                self.probe_later(id);
                if self.probe_again.get(&id).is_some_and(|again| again.tries > PROBE_TRIES) {
                    self.probe_again.remove(&id);
                    failure.message = format!("whether it was applied could not be told: {}", failure.message);
                    failure.retryable = false;
                    self.settle(id, &open, Outcome::Failed { failure }, true);
                }
            }
        }
    }

    /// Looks again at what could not be told the last time.
    pub(crate) fn look_again(&mut self) {
        let due = |due_at: Timestamp, now: Timestamp| due_at <= now;
        let runs: Vec<RunId> = self
            .assess_again
            .iter()
            .filter(|(_, again)| due(again.due_at, self.now))
            .map(|(run, _)| run.clone())
            .collect();
        for run in runs {
            if self.state.runs.get(&run).is_none_or(|run| run.phase != Phase::Assessing) {
                self.assess_again.remove(&run);
                continue;
            }
            if let Some(again) = self.assess_again.get_mut(&run) {
                again.due_at = Timestamp(i64::MAX);
            }
            self.ask_assess(&run);
        }
        let effects: Vec<EffectId> =
            self.probe_again.iter().filter(|(_, again)| due(again.due_at, self.now)).map(|(id, _)| *id).collect();
        for id in effects {
            if !self.state.open_effects.contains_key(&id) {
                self.probe_again.remove(&id);
                continue;
            }
            if let Some(again) = self.probe_again.get_mut(&id) {
                again.due_at = Timestamp(i64::MAX);
            }
            self.probe(id);
        }
    }
}
