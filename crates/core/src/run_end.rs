//! The end of a run: what is under way is given up, the agent is ended, and the issue waits, parks, or is let go of.

use crate::breaker::is_breaker;
use crate::budget::{BudgetLimit, runs_allowed};
use crate::effect::{Effect, EffectOutput, Failure, Outcome, TurnOutcome};
use crate::event::Event;
use crate::ids::{EffectId, IssueId, RunId};
use crate::issue::{IssueStatus, state_in};
use crate::machine::Machine;
use crate::policy::Hook;
use crate::question::{Question, asked};
use crate::recovery::IN_DOUBT;
use crate::run::{Ending, Phase, Run, RunOutcome, Then};
use crate::state::OpenEffect;
use crate::time::Timestamp;
use crate::usage::Report;

/// First wait after a failed run; doubles with each further one (Symphony §8.4).
const RETRY_BASE_MS: u64 = 10_000;
/// Wait after a clean end without a handoff (Symphony §8.4).
const CONTINUATION_MS: u64 = 1_000;

impl Machine {
    pub(crate) fn end_in_order(&mut self, id: &RunId, reason: &str, then: Then) {
        self.stop_run(id, Ending { outcome: RunOutcome::Completed, reason: reason.to_owned(), then });
    }

    pub(crate) fn park_run(&mut self, id: &RunId, reason: &str, detail: String) {
        self.park_run_for(id, reason, detail, None);
    }

    pub(crate) fn park_run_for(&mut self, id: &RunId, reason: &str, detail: String, limit: Option<BudgetLimit>) {
        let then = Then::Park { detail, limit };
        self.stop_run(id, Ending { outcome: RunOutcome::Interrupted, reason: reason.to_owned(), then });
    }

    /// The run failed: tried again with backoff, or parked when trying again cannot help, or would deliver again.
    pub(crate) fn fail_run(&mut self, id: &RunId, failure: &Failure) {
        if self.state.runs.get(id).is_some_and(Run::past_pivot) {
            // What is delivered stays delivered.
            let idle = !self.state.open_effects.values().any(|open| open.run.as_ref() == Some(id));
            if idle && self.state.runs.get(id).is_some_and(|run| run.phase == Phase::AfterRun) {
                self.finish(id);
            }
            return;
        }
        let then = if failure.retryable {
            Then::RetryAfterFailure { not_before: None }
        } else {
            let hint = failure.hint.as_ref().map_or(String::new(), |hint| format!(" ({hint})"));
            Then::Park { detail: format!("{failure}{hint}"), limit: None }
        };
        let reason = if failure.retryable { failure.to_string() } else { failure.code.clone() };
        self.stop_run(id, Ending { outcome: RunOutcome::Failed, reason, then });
    }

    /// The run is going to end: gives up what is under way and ends the agent. Without effect past the pivot.
    pub(crate) fn stop_run(&mut self, id: &RunId, ending: Ending) {
        let Some(run) = self.state.runs.get(id) else { return };
        if run.past_pivot() || run.phase == Phase::Stopping {
            return;
        }
        if run.phase == Phase::Delivering {
            // The saga turns back if it still can, and its end is the run's.
            if run.ending.is_none() {
                let in_doubt = self.is_handoff_in_doubt(id);
                self.emit(Event::RunEnding { run: id.clone(), ending });
                self.cancel_effects(id);
                if in_doubt {
                    self.take_up_handoff(id);
                }
            }
            return;
        }
        let issue = run.issue.clone();
        // While the remote's commits are brought, the handoff has ended already.
        if run.handoff.is_some() && run.phase != Phase::Bringing {
            self.emit(Event::SagaEnded { run: id.clone(), committed: false });
        }
        self.emit(Event::RunEnding { run: id.clone(), ending });
        self.enter(id, Phase::Stopping);
        self.cancel_effects(id);
        self.abandon_doubts(id);
        let name = format!("stop/{}", self.state.effect_count);
        self.intend(&issue, Some(id), &name, Effect::StopAgent);
    }

    /// Nothing depends any more on the outcome of what is in doubt in this run.
    pub(crate) fn abandon_doubts(&mut self, id: &RunId) {
        for (effect, open) in self.doubts(id) {
            self.abandon(effect, &open);
        }
    }

    pub(crate) fn abandon(&mut self, effect: EffectId, open: &OpenEffect) {
        let failure = Failure::permanent("abandoned", "the outcome stayed unknown, and nothing depends on it any more");
        self.conclude(effect, open, Outcome::Failed { failure });
        if let (Effect::Prompt { .. }, Some(run)) =
            (&open.effect, open.run.as_ref().and_then(|run| self.state.runs.get(run)).cloned())
        {
            self.end_turn(&run, TurnOutcome::Interrupted, Report::default(), String::new(), true);
        }
    }

    /// Something of a run that is ending came to its end.
    pub(crate) fn after_stopping(&mut self, run: &Run, effect: &Effect, result: Result<EffectOutput, Failure>) {
        let failed = result.as_ref().err().cloned();
        match effect {
            Effect::Prompt { .. } => {
                let (turn, report, summary) = match result {
                    Ok(EffectOutput::TurnEnded { turn, usage, summary, model, tool_digest: _ }) => {
                        (turn, Report { usage, model }, summary)
                    }
                    _ => (TurnOutcome::Interrupted, Report::default(), String::new()),
                };
                self.end_turn(run, turn, report, summary, false);
            }
            Effect::RunHook { hook } => {
                let (issue, id) = (run.issue.clone(), Some(run.id.clone()));
                self.emit(Event::HookEnded { issue, run: id, hook: *hook, failure: failed });
            }
            Effect::MoveIssue { .. } => {
                if let Ok(EffectOutput::Moved { state }) = result {
                    self.note_own_move(&run.issue, state);
                }
            }
            Effect::StartSession { .. } => {
                if failed.is_none_or(|failure| failure.code == IN_DOUBT) {
                    self.stop_again(run);
                }
            }
            Effect::StopAgent | Effect::Sweep => {
                if let Some(failure) = failed {
                    // What could not be killed may still write: only an operator can tell.
                    let then = Then::Park { detail: failure.to_string(), limit: None };
                    let ending = Ending { outcome: RunOutcome::Failed, reason: "sweep_failed".to_owned(), then };
                    self.emit(Event::RunEnding { run: run.id.clone(), ending });
                }
            }
            Effect::PrepareWorkspace { .. } => {
                if let Ok(EffectOutput::WorkspaceReady { workspace, created }) = result {
                    let (issue, id) = (run.issue.clone(), run.id.clone());
                    self.emit(Event::WorkspaceReady { issue, run: id, workspace, created });
                }
            }
            Effect::CommitLeftovers
            | Effect::FetchCommit
            | Effect::RunCheck { .. }
            | Effect::HandOff { .. }
            | Effect::TellSaga { .. }
            | Effect::CarryOut { .. }
            | Effect::PushBranch { .. }
            | Effect::BringRemote
            | Effect::Comment { .. }
            | Effect::Notify { .. }
            | Effect::Mend { .. }
            | Effect::RemoveWorkspace { .. } => {}
        }
        let busy = self.state.open_effects.values().any(|open| open.run.as_ref() == Some(&run.id));
        if !busy {
            self.after_run(&run.id);
        }
    }

    /// The agent came up after it was told to end: whether it is gone is not known.
    fn stop_again(&mut self, run: &Run) {
        let name = format!("stop/{}", self.state.effect_count);
        self.intend(&run.issue, Some(&run.id), &name, Effect::StopAgent);
    }

    /// The script after the run, then the end.
    pub(crate) fn after_run(&mut self, id: &RunId) {
        let Some(run) = self.state.runs.get(id) else { return };
        let issue = run.issue.clone();
        let prepared = run.prepared;
        let has_workspace = self
            .state
            .issues
            .get(&issue)
            .is_some_and(|entry| prepared && entry.workspace.is_some() && entry.workspace_whole);
        let has_hook = self.state.policy_of(id).is_some_and(|policy| policy.hooks.script(Hook::AfterRun).is_some());
        self.enter(id, Phase::AfterRun);
        if has_workspace && has_hook {
            self.intend(&issue, Some(id), "after_run", Effect::RunHook { hook: Hook::AfterRun });
        } else {
            self.finish(id);
        }
    }

    /// The run is over; what becomes of the issue was decided with its ending.
    pub(crate) fn finish(&mut self, id: &RunId) {
        let Some(run) = self.state.runs.get(id).cloned() else { return };
        let Some(ending) = run.ending.clone() else { return };
        self.emit(Event::RunEnded {
            run: id.clone(),
            outcome: ending.outcome,
            reason: Some(ending.reason.clone()),
            evidence: run.evidence.clone(),
        });
        self.poll_soon();
        self.let_go(&run, &ending);
        self.end_stops(&run);
    }

    /// What becomes of the issue of a run that is over.
    fn let_go(&mut self, run: &Run, ending: &Ending) {
        let (id, issue) = (&run.id, &run.issue);
        match ending.then.clone() {
            Then::HandedOff => {
                self.set_status(issue, IssueStatus::HandedOff, Some("the branch is handed over"), None);
                self.complete_if_terminal(issue);
            }
            Then::Park { detail, limit } => self.park_issue(issue, Some(id), &ending.reason, detail, limit),
            Then::Pause => self.set_status(issue, IssueStatus::Paused, Some(&ending.reason), None),
            Then::Cancel => self.set_status(issue, IssueStatus::Canceled, Some(&ending.reason), None),
            Then::Ask => {
                let question = self.state.issues.get(issue).and_then(|entry| entry.question.clone());
                match question {
                    Some(Question { text, expires_at, .. }) => {
                        self.set_status(issue, IssueStatus::WaitingQuestion, Some(&asked(&text)), Some(expires_at));
                    }
                    None if self.has_messages(issue) => self.go_on_in_session(issue, "answered"),
                    None => {
                        let due = self.now.after_ms(CONTINUATION_MS);
                        self.wait_or_park(issue, id, due, &ending.reason, IssueStatus::WaitingRetry);
                    }
                }
            }
            Then::Continue => {
                let due = self.now.after_ms(CONTINUATION_MS);
                self.wait_or_park(issue, id, due, &ending.reason, IssueStatus::WaitingRetry);
            }
            Then::WaitQuota { until } => self.wait_or_park(issue, id, until, &ending.reason, IssueStatus::WaitingQuota),
            Then::RetryAfterFailure { not_before } => {
                if ending.outcome == RunOutcome::Failed && self.stop_same_failure(issue, id) {
                    return;
                }
                let due = self.backoff(issue, run).max(not_before.unwrap_or_default());
                self.wait_or_park(issue, id, due, &ending.reason, IssueStatus::WaitingRetry);
            }
            Then::Release { clean_up } => {
                self.set_status(issue, IssueStatus::Idle, Some(&ending.reason), None);
                if clean_up {
                    self.clean_up(issue);
                }
            }
        }
    }

    /// A handed-off issue is completed when the tracker says terminal, even if that was known before the end.
    fn complete_if_terminal(&mut self, id: &IssueId) {
        let (Some(entry), Some(policy)) = (self.state.issues.get(id), self.state.policy()) else { return };
        if state_in(&entry.issue.state, &policy.tracker.terminal_states) {
            self.set_status(id, IssueStatus::Completed, Some("the tracker says terminal"), None);
        }
    }

    fn backoff(&self, issue: &IssueId, run: &Run) -> Timestamp {
        let attempt = self.state.issues.get(issue).and_then(|entry| entry.attempt).unwrap_or(1);
        let cap = self.state.policies.get(&run.policy).or_else(|| self.state.policies.get(self.state.policy.as_ref()?));
        let cap = cap.map_or(RETRY_BASE_MS, |policy| policy.agent.max_retry_backoff_ms);
        let doublings = attempt.saturating_sub(1).min(32);
        self.now.after_ms(RETRY_BASE_MS.saturating_mul(1_u64 << doublings).min(cap))
    }

    fn wait_or_park(&mut self, issue: &IssueId, run: &RunId, due: Timestamp, reason: &str, wait: IssueStatus) {
        let entry = self.state.issues.get(issue);
        let ceiling = self.state.policy().zip(entry).map_or(u32::MAX, |(policy, entry)| runs_allowed(entry, &policy));
        let runs = entry.map_or(0, |entry| entry.runs);
        if runs >= ceiling {
            let detail = format!("{runs} of {ceiling} runs used; the last one ended with: {reason}");
            self.park_issue(issue, Some(run), "runs_exhausted", detail, Some(BudgetLimit::IssueRuns));
        } else {
            self.set_status(issue, wait, Some(reason), Some(due));
        }
    }

    pub(crate) fn park_issue(
        &mut self,
        issue: &IssueId,
        run: Option<&RunId>,
        reason: &str,
        detail: String,
        limit: Option<BudgetLimit>,
    ) {
        let cooldown = self.state.policy().map_or(0, |policy| policy.breaker.cooldown_ms);
        let held_until = is_breaker(reason).then(|| self.now.after_ms(cooldown));
        // The words of a failure begin with its code already.
        let coded = detail.strip_prefix(reason).is_some_and(|rest| rest.starts_with(':'));
        let text = if coded { detail.clone() } else { format!("{reason}: {detail}") };
        let (run, reason) = (run.cloned(), reason.to_owned());
        self.emit(Event::Parked { issue: issue.clone(), run, reason, detail, limit, held_until });
        self.set_status(issue, IssueStatus::Parked, Some(&text), None);
    }
}
