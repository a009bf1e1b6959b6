//! The life of a run: from its workspace to its end. Each function is one transition; what follows an
//! effect is decided in [`Machine::effect_ended`] and the `after_…` functions that it calls.

use std::sync::Arc;

use crate::blob::FileReceipt;
use crate::effect::{Effect, EffectOutput, Failure, Missing, Outcome, PromptSpec, Query, TurnOutcome, Work};
use crate::event::Event;
use crate::ids::{CommitId, EffectId, IssueId, RunId};
use crate::issue::{Issue, IssueStatus, Workspace, normalized_state, state_in};
use crate::machine::{Again, Machine, Purpose};
use crate::policy::{CommitMode, Hook, Policy};
use crate::run::{Ending, Phase, Run, RunOutcome, Then};
use crate::state::OpenEffect;
use crate::usage::Report;

/// Looks at the work of one turn that may tell nothing before the run fails.
const ASSESS_TRIES: u32 = 10;
/// Wait before such a look is tried again.
const ASSESS_AGAIN_MS: u64 = 2_000;

impl Machine {
    /// Begins a run of an eligible issue.
    pub(crate) fn start_run(&mut self, id: &IssueId) {
        let Some(entry) = self.state.issues.get(id) else { return };
        let Some(policy) = self.state.policy.clone() else { return };
        let fresh = entry.workspace.is_some() && !entry.workspace_whole;
        let attempt = entry.attempt;
        let run = RunId(format!("run-{}", self.state.run_count + 1));
        self.emit(Event::RunStarted { run: run.clone(), issue: id.clone(), attempt, policy });
        self.set_status(id, IssueStatus::Running, None, None);
        self.intend(id, Some(&run), "prepare", Effect::PrepareWorkspace { fresh });
    }

    /// An effect's outcome is known, or it is known that nobody knows.
    pub(crate) fn effect_ended(&mut self, id: EffectId, outcome: Outcome) {
        let Some(open) = self.state.open_effects.get(&id).cloned() else { return };
        if open.in_doubt {
            // Too late: it was declared in doubt, and is settled by its policy alone.
            return;
        }
        if let Outcome::InDoubt { reason } = outcome {
            self.doubt(id, &open, reason);
            return;
        }
        if let Outcome::Failed { failure } = &outcome
            && self.may_return(&open, failure)
        {
            // How far the agent came with the prompt is in its session's history, as after a death of our own.
            self.doubt(id, &open, failure.to_string());
            return;
        }
        self.settle(id, &open, outcome, false);
    }

    /// Records the outcome and goes on from there.
    pub(crate) fn settle(&mut self, id: EffectId, open: &OpenEffect, outcome: Outcome, probed: bool) {
        self.emit(Event::EffectEnded {
            effect_id: id,
            issue: open.issue.clone(),
            run: open.run.clone(),
            outcome: outcome.clone(),
            probed,
        });
        let result = match outcome {
            Outcome::Done { output } => Ok(output),
            Outcome::Failed { failure } => Err(failure),
            Outcome::InDoubt { .. } => return,
        };
        let Some(run) = open.run.as_ref().and_then(|run| self.state.runs.get(run)).cloned() else {
            self.after_issue_effect(&open.issue, &open.effect, result);
            return;
        };
        if run.phase == Phase::Stopping {
            self.after_stopping(&run, &open.effect, result);
        } else {
            self.after_run_effect(&run, &open.effect, result);
        }
    }

    /// What follows an effect of a run. Closed over all effects, so that a new one has to be given its place.
    fn after_run_effect(&mut self, run: &Run, effect: &Effect, result: Result<EffectOutput, Failure>) {
        if matches!(effect, Effect::HandOff { .. }) {
            self.after_handoff(run, result);
            return;
        }
        let output = match result {
            Ok(output) => output,
            Err(failure) => {
                self.after_failure(run, effect, failure);
                return;
            }
        };
        match effect {
            Effect::PrepareWorkspace { .. } => {
                if let EffectOutput::WorkspaceReady { workspace, created } = output {
                    return self.after_prepare(run, workspace, created);
                }
            }
            Effect::RunHook { hook } => return self.after_hook(run, *hook, None),
            Effect::MoveIssue { .. } => {
                if let (Phase::Claiming, EffectOutput::Moved { state }) = (run.phase, output) {
                    self.note_own_move(&run.issue, state);
                    return self.after_claim(run);
                }
            }
            Effect::StartSession { .. } => {
                if let EffectOutput::SessionStarted { session, how, usage } = output {
                    return self.after_launch(run, session, how, usage);
                }
            }
            Effect::Prompt { .. } => {
                if let EffectOutput::TurnEnded { turn, usage, summary, model, tool_digest: _ } = output {
                    return self.after_turn(run, turn, Report { usage, model }, summary);
                }
            }
            Effect::CommitLeftovers => {
                if let EffectOutput::LeftoversCommitted { .. } = output {
                    return self.fetch_commit(run);
                }
            }
            Effect::FetchCommit => {
                if let EffectOutput::CommitFetched { commit } = output {
                    return self.after_fetch(run, commit);
                }
            }
            Effect::RunCheck { commit, index } => {
                if let EffectOutput::CheckEnded { passed, output_tail, kept } = output {
                    return self.after_check(run, commit, *index, passed, (output_tail, kept));
                }
            }
            Effect::BringRemote => {
                if let EffectOutput::RemoteBrought { commit } = output {
                    return self.after_bring(run, commit);
                }
            }
            Effect::StopAgent => {
                if run.phase == Phase::Closing {
                    return self.deliver(&run.id);
                }
            }
            Effect::Sweep => return self.resume(&run.id),
            // They have their place elsewhere: at the end of a run, in journals of older versions, and between runs.
            Effect::HandOff { .. }
            | Effect::TellSaga { .. }
            | Effect::CarryOut { .. }
            | Effect::PushBranch { .. }
            | Effect::Comment { .. }
            | Effect::Notify { .. }
            | Effect::Mend { .. }
            | Effect::RemoveWorkspace { .. } => {}
        }
        self.fail_run(&run.id, &wrong_output(effect));
    }

    fn after_failure(&mut self, run: &Run, effect: &Effect, failure: Failure) {
        match effect {
            Effect::RunHook { hook } => self.after_hook(run, *hook, Some(failure)),
            Effect::Prompt { .. } => {
                let turn = TurnOutcome::Failed { failure: failure.clone() };
                self.end_turn(run, turn, Report::default(), String::new(), false);
                self.fail_run(&run.id, &failure);
            }
            Effect::Sweep => self.sweep_failed(run, &failure),
            Effect::PrepareWorkspace { .. }
            | Effect::MoveIssue { .. }
            | Effect::StartSession { .. }
            | Effect::StopAgent
            | Effect::CommitLeftovers
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
            | Effect::RemoveWorkspace { .. } => self.fail_run(&run.id, &failure),
        }
    }

    fn after_prepare(&mut self, run: &Run, workspace: Workspace, created: bool) {
        self.emit(Event::WorkspaceReady { issue: run.issue.clone(), run: run.id.clone(), workspace, created });
        let whole = self.state.issues.get(&run.issue).is_some_and(|entry| entry.workspace_whole);
        if whole {
            self.claim(run);
        } else {
            let name = format!("after_create/{}", self.state.effect_count);
            self.begin(&run.id, Phase::AfterCreate, &name, Effect::RunHook { hook: Hook::AfterCreate });
        }
    }

    fn after_hook(&mut self, run: &Run, hook: Hook, failure: Option<Failure>) {
        let (issue, id) = (run.issue.clone(), Some(run.id.clone()));
        self.emit(Event::HookEnded { issue, run: id, hook, failure: failure.clone() });
        match (hook, failure) {
            (Hook::AfterCreate, None) => self.claim(run),
            (Hook::BeforeRun, None) => self.launch(&run.id),
            (Hook::AfterCreate | Hook::BeforeRun, Some(failure)) => self.fail_run(&run.id, &failure),
            (Hook::AfterRun | Hook::BeforeRemove, _) => self.finish(&run.id),
        }
    }

    fn claim(&mut self, run: &Run) {
        let Some(policy) = self.state.policy_of(&run.id) else { return };
        let state = self.state.issues.get(&run.issue).map(|entry| normalized_state(&entry.issue.state));
        let wanted = policy.handoff.as_ref().and_then(|handoff| handoff.claim_state.clone());
        match wanted {
            Some(to) if state.as_deref() != Some(&normalized_state(&to)) => {
                let from = self.state_of(&run.issue);
                self.begin(&run.id, Phase::Claiming, "claim", Effect::MoveIssue { to, from });
            }
            Some(_) | None => self.before_run(run),
        }
    }

    fn after_claim(&mut self, run: &Run) {
        let Some(policy) = self.state.policy_of(&run.id) else { return };
        let terminal = self
            .state
            .issues
            .get(&run.issue)
            .is_some_and(|entry| state_in(&entry.issue.state, &policy.tracker.terminal_states));
        if terminal {
            let then = Then::Release { clean_up: true };
            let reason = "issue_terminal: the tracker says terminal".to_owned();
            self.stop_run(&run.id, Ending { outcome: RunOutcome::Canceled, reason, then });
        } else {
            self.before_run(run);
        }
    }

    fn before_run(&mut self, run: &Run) {
        let Some(policy) = self.state.policy_of(&run.id) else { return };
        if policy.hooks.script(Hook::BeforeRun).is_some() {
            self.begin(&run.id, Phase::BeforeRun, "before_run", Effect::RunHook { hook: Hook::BeforeRun });
        } else {
            self.launch(&run.id);
        }
    }

    /// Records how an effect in doubt was settled by other means than a probe, without following it.
    pub(crate) fn conclude(&mut self, effect: EffectId, open: &OpenEffect, outcome: Outcome) {
        let (issue, run) = (open.issue.clone(), open.run.clone());
        self.emit(Event::EffectEnded { effect_id: effect, issue, run, outcome, probed: true });
    }

    /// Looks at the issue and at the work.
    pub(crate) fn assess(&mut self, id: &RunId) {
        self.enter(id, Phase::Assessing);
        self.assess_again.remove(id);
        self.ask_assess(id);
    }

    pub(crate) fn ask_assess(&mut self, id: &RunId) {
        let Some(run) = self.state.runs.get(id) else { return };
        let Some(entry) = self.state.issues.get(&run.issue) else { return };
        let (Some(workspace), Some(policy)) = (entry.workspace.clone(), self.state.policy_of(id)) else { return };
        let since = entry.handed_off.clone().or_else(|| workspace.base_commit.clone());
        let issue = (*entry.issue).clone();
        self.ask(
            Purpose::Assess { run: id.clone(), polls: self.polls_answered() },
            Query::Assess { issue, workspace, since, policy },
        );
    }

    /// The issue as the look saw it, unless a poll was answered since the look was asked for: that may be newer.
    pub(crate) fn newest(
        &self,
        id: &RunId,
        polls: u64,
        seen: Result<Option<Issue>, Failure>,
    ) -> Result<Option<Issue>, Failure> {
        if polls == self.polls_answered() {
            return seen;
        }
        let known = self.state.runs.get(id).and_then(|run| self.state.issues.get(&run.issue));
        known.map_or(seen, |entry| Ok(Some((*entry.issue).clone())))
    }

    pub(crate) fn assess_later(&mut self, id: &RunId) {
        let tries = self.assess_again.get(id).map_or(0, |again| again.tries) + 1;
        self.assess_again.insert(id.clone(), Again { due_at: self.now.after_ms(ASSESS_AGAIN_MS), tries });
    }

    /// Whether the run is done; asked after each turn.
    pub(crate) fn assessed(&mut self, id: &RunId, issue: Result<Option<Issue>, Failure>, work: Result<Work, Failure>) {
        let Some(run) = self.state.runs.get(id).filter(|run| run.phase == Phase::Assessing).cloned() else { return };
        let Some(policy) = self.state.policy_of(id) else { return };
        let issue = match issue {
            Ok(issue) => issue,
            Err(failure) => {
                self.assess_later(id);
                if self.assess_again.get(id).is_some_and(|again| again.tries > ASSESS_TRIES) {
                    self.fail_run(id, &failure);
                }
                return;
            }
        };
        self.assess_again.remove(id);
        let Some(issue) = issue else {
            self.end_in_order(
                id,
                "issue_gone: the issue is not visible in the tracker any more",
                Then::Release { clean_up: false },
            );
            return;
        };
        let terminal = state_in(&issue.state, &policy.tracker.terminal_states);
        let active = !terminal && state_in(&issue.state, &policy.tracker.active_states);
        let routable = issue.dispatchable;
        // A poll that is under way may be older than this look.
        self.own_write(&issue.id);
        self.note_snapshot(Arc::new(issue), &policy);
        if !active || !routable {
            if let Ok(work) = &work {
                self.note_progress(id, work, true);
            }
            let reason = if terminal {
                "issue_terminal: the tracker says terminal"
            } else {
                "issue_inactive: the issue left the active states"
            };
            self.end_in_order(id, reason, Then::Release { clean_up: terminal });
            return;
        }
        match work {
            Ok(work) => {
                self.note_progress(id, &work, false);
                self.judge(&run, &policy, work);
            }
            Err(failure) => self.fail_run(id, &failure),
        }
    }

    fn judge(&mut self, run: &Run, policy: &Policy, work: Work) {
        let Some(handoff) = &policy.handoff else {
            self.go_on(run, policy, Missing::StillActive);
            return;
        };
        if self.has_messages(&run.issue) {
            self.go_on(run, policy, Missing::Messages);
            return;
        }
        let dirty = !work.uncommitted.is_empty();
        if !work.has_commits {
            self.go_on(run, policy, Missing::NoCommit);
        } else if dirty && handoff.commit == CommitMode::Require {
            self.go_on(run, policy, Missing::Uncommitted { files: work.uncommitted });
        } else if dirty {
            self.begin(&run.id, Phase::Committing, &format!("commit/{}", run.turn), Effect::CommitLeftovers);
        } else {
            self.fetch_commit(run);
        }
    }

    fn fetch_commit(&mut self, run: &Run) {
        self.begin(&run.id, Phase::Fetching, &format!("fetch/{}", run.turn), Effect::FetchCommit);
    }

    fn after_fetch(&mut self, run: &Run, commit: CommitId) {
        self.check(run, commit, 0);
    }

    fn check(&mut self, run: &Run, commit: CommitId, index: u32) {
        let Some(policy) = self.state.policy_of(&run.id) else { return };
        let checks = policy.handoff.as_ref().map_or(&[][..], |handoff| &handoff.checks);
        if checks.get(index as usize).is_some() {
            let name = format!("check/{}/{index}", run.turn);
            self.begin(&run.id, Phase::Checking { index }, &name, Effect::RunCheck { commit, index });
        } else {
            let evidence = match checks.len() {
                0 => "no evidence: no checks are configured".to_owned(),
                _ => format!("passed on {commit}: {}", checks.join("; ")),
            };
            self.begin_handoff(run, commit, evidence);
        }
    }

    fn after_check(
        &mut self,
        run: &Run,
        commit: &CommitId,
        index: u32,
        passed: bool,
        (output_tail, kept): (String, Option<FileReceipt>),
    ) {
        let Some(policy) = self.state.policy_of(&run.id) else { return };
        let checks = policy.handoff.as_ref().map_or(&[][..], |handoff| &handoff.checks);
        let command = checks.get(index as usize).cloned().unwrap_or_default();
        let (run_id, commit_id) = (run.id.clone(), commit.clone());
        self.emit(Event::CheckEnded { run: run_id, commit: commit_id, command: command.clone(), passed, kept });
        if passed {
            self.check(run, commit.clone(), index + 1);
        } else {
            self.go_on(run, &policy, Missing::CheckFailed { command, output_tail });
        }
    }

    /// The same session goes on, unless the run had all its turns.
    pub(crate) fn go_on(&mut self, run: &Run, policy: &Policy, missing: Missing) {
        let turns = self.state.runs.get(&run.id).map_or(0, |run| run.counted_turns);
        if self.stop_without_progress(&run.id, policy, &missing_text(&missing)) {
            return;
        }
        if turns < policy.agent.max_turns {
            self.emit(Event::HandoffMissing { run: run.id.clone(), missing: missing.clone() });
            self.next_turn(&run.id, PromptSpec::Continue { missing });
        } else if policy.handoff.is_some() {
            let detail = format!("{turns} turns, and still: {}", missing_text(&missing));
            self.park_run(&run.id, "max_turns_reached", detail);
        } else {
            self.end_in_order(&run.id, "max_turns_reached: the issue is still active", Then::Continue);
        }
    }

    fn after_issue_effect(&mut self, issue: &IssueId, effect: &Effect, result: Result<EffectOutput, Failure>) {
        match (effect, result) {
            (Effect::TellSaga { action_id, correlation_id, .. }, result) => {
                self.after_telling(issue, (action_id, correlation_id), result);
            }
            (Effect::CarryOut { order, action }, result) => self.after_order(issue, order, action, result),
            (Effect::Mend { mend }, result) => return self.after_mend(mend, result),
            (Effect::Notify { .. }, result) => return self.after_notify(effect, result.err()),
            (Effect::RunHook { hook }, result) => {
                let failure = result.err();
                self.emit(Event::HookEnded { issue: issue.clone(), run: None, hook: *hook, failure });
                let Some(entry) = self.state.issues.get(issue) else { return };
                let handed_off = entry.handed_off.clone();
                let name = format!("remove/{}", self.state.effect_count);
                self.intend(issue, None, &name, Effect::RemoveWorkspace { handed_off });
            }
            (_, Ok(EffectOutput::WorkspaceRemoved)) => self.emit(Event::WorkspaceRemoved { issue: issue.clone() }),
            (_, Ok(EffectOutput::WorkspaceKept { reason })) => {
                self.emit(Event::WorkspaceKept { issue: issue.clone(), reason });
            }
            (_, Err(failure)) => {
                self.emit(Event::WorkspaceKept { issue: issue.clone(), reason: failure.to_string() });
            }
            (_, Ok(_)) => {}
        }
        self.poll_soon();
    }

    /// The issue's state, as far as the journal knows.
    pub(crate) fn state_of(&self, issue: &IssueId) -> Option<String> {
        self.state.issues.get(issue).map(|entry| entry.issue.state.clone())
    }

    /// The issue is in this state now, by our own hand or because it was terminal already.
    pub(crate) fn note_own_move(&mut self, id: &IssueId, state: String) {
        self.own_write(id);
        let Some(entry) = self.state.issues.get(id) else { return };
        if entry.issue.state != state {
            let mut issue = (*entry.issue).clone();
            issue.state = state;
            self.emit(Event::IssueChanged { issue: Arc::new(issue) });
        }
    }

    pub(crate) fn enter(&mut self, id: &RunId, phase: Phase) {
        if self.state.runs.get(id).is_some_and(|run| run.phase != phase) {
            self.emit(Event::RunPhase { run: id.clone(), phase });
        }
    }
}

/// An effect answered something that is no answer to it.
pub(crate) fn wrong_output(effect: &Effect) -> Failure {
    Failure::retryable("wrong_output", format!("{} answered something else", effect.kind()))
}

fn missing_text(missing: &Missing) -> String {
    match missing {
        Missing::NoCommit => "nothing was committed".to_owned(),
        Missing::Uncommitted { files } => format!("{} uncommitted files", files.len()),
        Missing::CheckFailed { command, output_tail } => format!("the check `{command}` fails: {output_tail}"),
        Missing::Diverged { remote } => format!("the remote's branch is at {remote}, which is not merged"),
        Missing::StillActive => "the issue is active".to_owned(),
        Missing::Messages => "words of an operator wait for the agent".to_owned(),
    }
}
