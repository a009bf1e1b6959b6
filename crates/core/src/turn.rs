//! Sessions and turns of a run: the agent's start, what becomes of a prompt whose outcome nobody knows, the next turn, and
//! a turn's end.
//!
//! # Turns that were cut
//! A restart of ours cuts a turn, and so does the death of its agent: how far the agent came with the prompt is in its
//! session's history, so both go the same way, through the sweep and the resume. Neither counts towards `max_turns`, as
//! nobody looked at the work; what it used counts. Each run takes [`CUT_TURNS`] of both together, and [`AGENT_DEATHS`] of
//! its agent's; the next death fails the run, and is counted by breakers and the ceiling of runs.

use crate::effect::{Effect, EffectOutput, Failure, Outcome, PromptSpec, SessionStart, TurnOutcome};
use crate::event::Event;
use crate::ids::{EffectId, RunId, SessionId};
use crate::machine::Machine;
use crate::question::Message;
use crate::run::{Phase, Run};
use crate::state::OpenEffect;
use crate::usage::{Report, Usage};

/// Turns of one run that may be cut or repeated before the issue parks.
const CUT_TURNS: u32 = 50;
/// Deaths of its agent that a run takes, each time going on in the same session; then it fails. What else ended in doubt
/// while the daemon lived counts among them.
const AGENT_DEATHS: u32 = 2;

impl Machine {
    /// The agent died in a turn, and its session may live on in another process of the same run.
    pub(crate) fn may_return(&self, open: &OpenEffect, failure: &Failure) -> bool {
        let run = open.run.as_ref().and_then(|run| self.state.runs.get(run));
        failure.code == "agent_exit"
            && matches!(open.effect, Effect::Prompt { .. })
            && run.is_some_and(|run| run.phase == Phase::Prompting && run.doubts < AGENT_DEATHS)
    }

    /// Starts the agent: a new session, or the run's own; when a prompt is out, its marker is sought.
    pub(crate) fn launch(&mut self, id: &RunId) {
        let Some(run) = self.state.runs.get(id) else { return };
        let resume = run.session.clone();
        let seek = self.prompt_in_doubt(id).map(|(_, open)| open.key);
        let name = format!("session/{}", self.state.effect_count);
        self.begin(id, Phase::Launching, &name, Effect::StartSession { resume, seek });
    }

    /// The prompt of the run whose outcome is unknown.
    pub(crate) fn prompt_in_doubt(&self, run: &RunId) -> Option<(EffectId, OpenEffect)> {
        self.state
            .open_effects
            .iter()
            .find(|(_, open)| open.run.as_ref() == Some(run) && matches!(open.effect, Effect::Prompt { .. }))
            .map(|(id, open)| (*id, open.clone()))
    }

    pub(crate) fn after_launch(&mut self, run: &Run, session: SessionId, how: SessionStart, total: Option<Usage>) {
        let id = run.id.clone();
        // A report that still waits is of the session that was, not of the one that comes.
        self.count_waiting(&id);
        let prompt = self.prompt_in_doubt(&id);
        self.queue_heard(run, how);
        match how {
            SessionStart::New => self.emit(Event::SessionStarted { run: id.clone(), session }),
            SessionStart::Gone => self.emit(Event::SessionRehydrated { run: id.clone(), session }),
            SessionStart::Resumed | SessionStart::ResumedPromptFound | SessionStart::ResumedPromptMissing => {
                self.emit(Event::SessionResumed { run: id.clone(), session });
                if let Some(total) = total {
                    self.settle_session(&id, total);
                }
            }
        }
        let turns = run.taken_over.saturating_add(run.turn);
        match (prompt, how) {
            (Some((effect, open)), SessionStart::ResumedPromptMissing) => self.repeat_prompt(&id, effect, &open),
            (Some((effect, open)), SessionStart::ResumedPromptFound) => {
                let output = EffectOutput::TurnEnded {
                    turn: TurnOutcome::Interrupted,
                    usage: Usage::default(),
                    summary: String::new(),
                    model: None,
                    tool_digest: None,
                };
                self.conclude(effect, &open, Outcome::Done { output });
                self.end_turn(run, TurnOutcome::Interrupted, Report::default(), String::new(), true);
                self.next_turn(&id, PromptSpec::AfterCut);
            }
            (Some((effect, open)), SessionStart::New | SessionStart::Resumed | SessionStart::Gone) => {
                let failure = Failure::retryable("session_gone", "the session that the prompt was sent to is gone");
                self.conclude(effect, &open, Outcome::Failed { failure });
                self.end_turn(run, TurnOutcome::Interrupted, Report::default(), String::new(), true);
                self.next_turn(&id, PromptSpec::Rehydrate { attempt: run.attempt, turns });
            }
            (None, SessionStart::Gone) if turns > 0 => {
                self.next_turn(&id, PromptSpec::Rehydrate { attempt: run.attempt, turns });
            }
            (None, _) => {
                let prompt = run.next_prompt.clone().unwrap_or(match run.turn {
                    0 => PromptSpec::First { attempt: run.attempt },
                    _ => PromptSpec::AfterCut,
                });
                self.next_turn(&id, prompt);
            }
        }
    }

    /// Words that the agent took in a turn that is lost are said again.
    fn queue_heard(&mut self, run: &Run, how: SessionStart) {
        let lost = match how {
            SessionStart::New | SessionStart::Gone | SessionStart::ResumedPromptMissing => true,
            SessionStart::Resumed | SessionStart::ResumedPromptFound => false,
        };
        for message in run.heard.iter().filter(|_| lost) {
            let message = Message { unsure: true, ..message.clone() };
            self.emit(Event::MessageQueued { issue: run.issue.clone(), message });
        }
    }

    /// A resumed session knows what it used in all: what the journal does not have of that was used by the turn that
    /// was cut. A total that is less than what was reported counts something else (not what sub-agents took, say): what
    /// it has beyond the journal was used for certain, and whether that is all it cannot tell.
    fn settle_session(&mut self, id: &RunId, total: Usage) {
        let Some(run) = self.state.runs.get(id).filter(|run| run.turn > 0) else { return };
        let reported = run.ledger.session_total;
        let unknown = total.growth_over(reported);
        let settled = total.covers(reported);
        if unknown != Usage::default() || (run.turn_open && settled) {
            let (turn, usage) = (run.turn, run.turn_usage.plus(unknown));
            self.emit(Event::Usage { run: id.clone(), turn, usage, model: None, settled });
        }
    }

    fn repeat_prompt(&mut self, run: &RunId, effect: EffectId, open: &OpenEffect) {
        let Some(live) = self.state.runs.get(run) else { return };
        let turn = live.turn;
        // A report of the first sending that still waits must not count on top of it, as one of the second does.
        self.count_waiting(run);
        if self.too_many_cuts(run) || !self.within_budget(run) {
            return;
        }
        self.silent_until_prompt(run);
        self.emit(Event::TurnStarted { run: run.clone(), turn, repeated: true });
        self.enter(run, Phase::Prompting);
        debug_assert!(open.in_doubt, "only a prompt in doubt is sent again");
        self.intend_again(effect);
    }

    fn too_many_cuts(&mut self, run: &RunId) -> bool {
        let cuts = self.state.runs.get(run).map_or(0, |run| run.cut_turns);
        if cuts < CUT_TURNS {
            return false;
        }
        self.park_run(
            run,
            "cut_turns_exhausted",
            format!("{cuts} turns of this run were cut by restarts or by the end of the agent"),
        );
        true
    }

    /// Opens the next turn, if the run may have one and the agent is there; starts the agent first if it is not.
    pub(crate) fn next_turn(&mut self, id: &RunId, prompt: PromptSpec) {
        if self.too_many_cuts(id) {
            return;
        }
        let Some(run) = self.state.runs.get(id) else { return };
        if !run.attached {
            self.launch(id);
            return;
        }
        if !self.within_budget(id) {
            return;
        }
        let Some(run) = self.state.runs.get(id) else { return };
        let (turn, issue) = (run.turn + 1, run.issue.clone());
        self.silent_until_prompt(id);
        self.emit(Event::TurnStarted { run: id.clone(), turn, repeated: false });
        let messages = self.state.issues.get(&issue).map_or_else(Vec::new, |entry| entry.messages.clone());
        self.begin(id, Phase::Prompting, &format!("prompt/{turn}"), Effect::Prompt { turn, prompt, messages });
    }

    pub(crate) fn after_turn(&mut self, run: &Run, turn: TurnOutcome, report: Report, summary: String) {
        self.end_turn(run, turn.clone(), report, summary, false);
        match turn {
            TurnOutcome::Completed => {
                if self.usage_counted(&run.id) {
                    self.assess(&run.id);
                }
            }
            TurnOutcome::Failed { failure } => self.fail_run(&run.id, &failure),
            TurnOutcome::RateLimited { reset_at } => self.refused(&run.id, reset_at),
            TurnOutcome::Asked { question, wants } => self.asked_with_the_end(&run.id, question, wants),
            TurnOutcome::Interrupted => {
                let failure = Failure::retryable("turn_interrupted", "the agent ended its turn without being through");
                self.fail_run(&run.id, &failure);
            }
        }
    }

    pub(crate) fn end_turn(
        &mut self,
        run: &Run,
        turn_outcome: TurnOutcome,
        report: Report,
        summary: String,
        cut: bool,
    ) {
        self.withdraw_question(&run.id);
        let waiting = self.usage_waits.remove(&run.id).unwrap_or_default();
        let Some(live) = self.state.runs.get(&run.id).filter(|live| live.turn_open) else { return };
        let (turn, Report { usage, model }) = (live.turn, waiting.and(report));
        let usage = live.turn_usage.max(live.ledger.before.plus(usage));
        let unnamed = model.is_some() && live.ledger.rows.iter().any(|row| row.model.is_none());
        if usage != live.turn_usage || unnamed {
            self.emit(Event::Usage { run: run.id.clone(), turn, usage, model, settled: false });
        }
        self.emit(Event::TurnEnded { run: run.id.clone(), turn, turn_outcome, summary, cut });
    }
}
