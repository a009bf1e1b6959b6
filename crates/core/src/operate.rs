//! What accepted actions do to an issue: stop its work or hold it, begin it again, speak to its agent, write to its tracker.
//!
//! # Transitions
//! - `cancel`: what is under way is given up as for any other end of a run, a handoff that is not past its pivot is undone, and the issue is
//!   `canceled`. `pause`: the same, but the session is held, and the issue is `paused`.
//! - `resume`: the issue is queued; its next run goes on in the session that is held, as the same attempt.
//! - `retry`, `rehydrate`: counts start over as with a release, and the next run begins with a new session; with an account of the last one
//!   for `rehydrate`. An issue that its tracker does not call active is moved to the first active state before.
//! - `steer`: told to the agent in its open turn where it takes words there, else with its next prompt.
//! - `comment`, `transition_issue`, `create_followup`: written to the tracker.
//!
//! # Invariants
//! - Each accepted action ends once, with `action_completed` or `action_failed`: at once, with the end of the effect that carries it out, or
//!   with the end of the run that it stops.
//! - Words that were accepted are heard: no run hands its work over while some wait.

use serde::{Deserialize, Serialize};

use crate::action::{Refusal, refusal};
use crate::effect::{Effect, EffectOutput, Failure};
use crate::event::Event;
use crate::ids::{IssueId, RunId};
use crate::issue::{IssueStatus, state_in};
use crate::machine::Machine;
use crate::question::{Message, Reply, Start};
use crate::recovery::IN_DOUBT;
use crate::run::{Ending, Run, RunOutcome, Then};

/// Words that wait for an agent.
pub(crate) const MESSAGES: usize = 20;
/// Accepted actions that wait for the end of one run.
const STOPS: usize = 256;
/// Accepted writes to the tracker that are not over: each holds its words in memory until it is.
pub const WRITES: usize = 256;
/// Writes to the tracker for operators that are performed at once.
pub const WRITES_AT_ONCE: usize = 16;

/// How an operator stops a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stop {
    /// The work is held.
    Pause,
    /// The work is over.
    Cancel,
}

/// An action that waits for the end of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StopWish {
    /// What is wanted.
    pub stop: Stop,
    /// The action.
    pub action: ActionRef,
}

/// An action, as far as its completion needs it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActionRef {
    /// Its name in the journal.
    pub action_id: String,
    /// What it is joined with.
    pub correlation_id: String,
}

/// What of an action has to be carried out in the world.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "order", rename_all = "snake_case")]
pub enum Order {
    /// Comment on the issue.
    Comment {
        /// What to say.
        body: String,
        /// Who says it.
        by: String,
    },
    /// Move the issue to a state of its tracker, whatever it is in now.
    Transition {
        /// As the tracker spells it.
        to: String,
        /// The issue is worked on again afterwards, beginning so.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        then: Option<Start>,
    },
    /// Make another issue.
    Followup {
        /// Its title.
        title: String,
        /// Its description.
        description: String,
    },
    /// Say something into the open turn of a run.
    Steer {
        /// Whose.
        run: RunId,
        /// What.
        message: Message,
    },
    /// Tell an agent that waits what was said to its question.
    Reply {
        /// Whose.
        run: RunId,
        /// Number of the question.
        ask: u64,
        /// What was asked.
        question: String,
        /// What is said.
        reply: Reply,
        /// Who says it.
        by: String,
    },
}

impl Order {
    /// The word for the effect.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Comment { .. } => "comment_issue",
            Self::Transition { .. } => "transition_issue",
            Self::Followup { .. } => "create_issue",
            Self::Steer { .. } => "steer_turn",
            Self::Reply { .. } => "answer_agent",
        }
    }

    /// It is written to the tracker, and not said to an agent.
    pub(crate) fn writes(&self) -> bool {
        match self {
            Self::Comment { .. } | Self::Transition { .. } | Self::Followup { .. } => true,
            Self::Steer { .. } | Self::Reply { .. } => false,
        }
    }
}

impl Effect {
    /// It writes to the tracker because an operator wants it, and as often as operators want it.
    pub(crate) fn is_operators_write(&self) -> bool {
        matches!(self, Self::CarryOut { order, action: _ } if order.writes())
    }
}

impl Machine {
    /// No more writes to the tracker are accepted while so many are not over.
    pub(crate) fn may_write(&self) -> Result<(), Refusal> {
        let open = self.index.writes();
        if open < WRITES {
            return Ok(());
        }
        Err(refusal("too_many_actions", format!("{open} accepted writes to the tracker are not done yet")))
    }

    /// No more wishes to stop a run are accepted while so many wait for its end.
    pub(crate) fn may_stop(&self, id: &IssueId) -> Result<(), Refusal> {
        let run = self.state.issues.get(id).and_then(|entry| self.state.runs.get(entry.current_run.as_ref()?));
        let waiting = run.map_or(0, |run| run.stops.len());
        if waiting < STOPS {
            return Ok(());
        }
        Err(refusal("too_many_actions", format!("{waiting} accepted actions wait for the end of this run already")))
    }

    pub(crate) fn completed(&mut self, action: &ActionRef, issue: Option<&IssueId>) {
        let ActionRef { action_id, correlation_id } = action.clone();
        self.emit(Event::ActionCompleted { action_id, correlation_id, issue: issue.cloned(), note: None });
    }

    pub(crate) fn failed(&mut self, action: &ActionRef, issue: Option<&IssueId>, failure: Failure) {
        let ActionRef { action_id, correlation_id } = action.clone();
        self.emit(Event::ActionFailed { action_id, correlation_id, issue: issue.cloned(), failure });
    }

    /// The work on the issue is stopped. With a live run the action ends with that.
    pub(crate) fn stop_work(&mut self, id: &IssueId, stop: Stop, action: &ActionRef) {
        let run = self.state.issues.get(id).and_then(|entry| entry.current_run.clone());
        let Some(run) = run else {
            self.set_status(id, IssueStatus::Canceled, Some(CANCELED_BY), None);
            return self.completed(action, Some(id));
        };
        self.emit(Event::StopAsked { run: run.clone(), wish: StopWish { stop, action: action.clone() } });
        let (outcome, reason, then) = match stop {
            Stop::Pause => (RunOutcome::Interrupted, PAUSED_BY, Then::Pause),
            Stop::Cancel => (RunOutcome::Canceled, CANCELED_BY, Then::Cancel),
        };
        self.stop_run(&run, Ending { outcome, reason: reason.to_owned(), then });
    }

    /// The run is over: what operators wanted of it has come true, or can come true now, or cannot any more.
    pub(crate) fn end_stops(&mut self, run: &Run) {
        let id = &run.issue;
        for StopWish { stop, action } in &run.stops {
            let Some(status) = self.state.issues.get(id).map(|entry| entry.status) else { continue };
            let (wanted, words) = match stop {
                Stop::Pause => (IssueStatus::Paused, PAUSED_BY),
                Stop::Cancel => (IssueStatus::Canceled, CANCELED_BY),
            };
            let goes_on = matches!(
                status,
                IssueStatus::Queued
                    | IssueStatus::WaitingRetry
                    | IssueStatus::WaitingQuota
                    | IssueStatus::WaitingQuestion
            );
            let can_stop = match stop {
                Stop::Pause => goes_on,
                Stop::Cancel => {
                    goes_on || matches!(status, IssueStatus::Paused | IssueStatus::Parked | IssueStatus::Idle)
                }
            };
            if status != wanted && can_stop {
                self.set_status(id, wanted, Some(words), None);
            }
            if status == wanted || can_stop {
                self.completed(action, Some(id));
            } else {
                let why = format!("the run ended otherwise before: the issue is {}", status.as_str());
                self.failed(action, Some(id), Failure::permanent("overtaken", why));
            }
        }
    }

    /// Work on the issue begins again. `to`: the state to which the tracker has to be moved first.
    pub(crate) fn work_again(&mut self, id: &IssueId, start: Start, to: Option<String>, action: &ActionRef) {
        match to {
            Some(to) => self.order(id, Order::Transition { to, then: Some(start) }, action),
            None => {
                self.begin_again(id, start, action);
                self.completed(action, Some(id));
            }
        }
    }

    fn begin_again(&mut self, id: &IssueId, start: Start, action: &ActionRef) {
        self.emit(Event::Released { issue: id.clone(), action_id: action.action_id.clone() });
        self.emit(Event::StartPlanned { issue: id.clone(), start });
        self.set_status(id, IssueStatus::Idle, Some("wanted again by an operator"), None);
        self.poll_soon();
    }

    /// The state to which the issue has to be moved before it is worked on; `None`: it is in an active one.
    pub(crate) fn state_to_work_in(&self, id: &IssueId) -> Option<String> {
        let (entry, policy) = (self.state.issues.get(id)?, self.state.policy()?);
        let active = state_in(&entry.issue.state, &policy.tracker.active_states)
            && !state_in(&entry.issue.state, &policy.tracker.terminal_states);
        if active { None } else { policy.tracker.active_states.first().cloned() }
    }

    /// A paused issue, or one whose question is answered, goes on in its session.
    pub(crate) fn go_on_in_session(&mut self, id: &IssueId, reason: &str) {
        self.emit(Event::StartPlanned { issue: id.clone(), start: Start::Resume });
        self.set_status(id, IssueStatus::Queued, Some(reason), None);
        self.poll_soon();
    }

    /// Words of an operator go into the open turn, or wait for the next prompt.
    pub(crate) fn steer(&mut self, id: &IssueId, message: Message, action: &ActionRef) {
        let run = self.state.issues.get(id).and_then(|entry| self.state.runs.get(entry.current_run.as_ref()?));
        match run.filter(|run| run.turn_open && run.ending.is_none()).map(|run| run.id.clone()) {
            Some(run) => self.order(id, Order::Steer { run, message }, action),
            None => {
                self.emit(Event::MessageQueued { issue: id.clone(), message });
                self.completed(action, Some(id));
            }
        }
    }

    /// What has to be carried out in the world; the action ends with it.
    pub(crate) fn order(&mut self, id: &IssueId, order: Order, action: &ActionRef) {
        let name = action.action_id.clone();
        self.intend(id, None, &name, Effect::CarryOut { order, action: action.clone() });
    }

    /// An order was carried out, or cannot be.
    pub(crate) fn after_order(
        &mut self,
        id: &IssueId,
        order: &Order,
        action: &ActionRef,
        result: Result<EffectOutput, Failure>,
    ) {
        match (order, result) {
            (Order::Comment { .. }, Ok(_)) => {
                self.own_write(id);
                self.completed(action, Some(id));
            }
            (Order::Transition { then, to: _ }, Ok(EffectOutput::Moved { state })) => {
                if let Some(start) = then {
                    self.note_own_move(id, state);
                    self.begin_again(id, *start, action);
                }
                // What was read before it may be a move of our own that nobody was sure of, and is nobody else's change.
                self.own_write(id);
                self.completed(action, Some(id));
            }
            (Order::Followup { .. }, Ok(EffectOutput::IssueMade { identifier })) => {
                let ActionRef { action_id, correlation_id } = action.clone();
                let (issue, note) = (Some(id.clone()), Some(identifier));
                self.emit(Event::ActionCompleted { action_id, correlation_id, issue, note });
            }
            (Order::Steer { run, message }, Ok(_)) => {
                let heard = self.state.runs.get(run).is_some_and(|run| run.turn_open);
                if heard {
                    self.emit(Event::MessageHeard { run: run.clone(), message: message.clone() });
                }
                self.completed(action, Some(id));
            }
            (Order::Steer { run: _, message }, Err(failure)) => {
                let message = Message { unsure: failure.code == IN_DOUBT, ..message.clone() };
                self.emit(Event::MessageQueued { issue: id.clone(), message });
                self.completed(action, Some(id));
            }
            (Order::Reply { .. }, Ok(_)) => self.completed(action, Some(id)),
            (Order::Reply { run: _, ask: _, question, reply, by }, Err(failure)) => {
                let unsure = failure.code == IN_DOUBT;
                let message = Message { unsure, ..answer_to(question, reply, by, action) };
                self.emit(Event::MessageQueued { issue: id.clone(), message });
                self.completed(action, Some(id));
            }
            (Order::Comment { .. } | Order::Transition { .. } | Order::Followup { .. }, Err(failure)) => {
                self.failed(action, Some(id), failure);
            }
            (Order::Transition { .. } | Order::Followup { .. }, Ok(_)) => {
                let failure = Failure::permanent("wrong_output", format!("{} answered something else", order.kind()));
                self.failed(action, Some(id), failure);
            }
        }
    }

    /// Words of operators wait for the agent of the issue.
    pub(crate) fn has_messages(&self, id: &IssueId) -> bool {
        self.state.issues.get(id).is_some_and(|entry| !entry.messages.is_empty())
    }
}

/// The answer to a question, as the agent hears it with its next prompt.
pub(crate) fn answer_to(question: &str, reply: &Reply, by: &str, action: &ActionRef) -> Message {
    let text = match reply {
        Reply::Text { text } => text.clone(),
        Reply::Granted => "The permission is given.".to_owned(),
        Reply::Denied { why } if why.is_empty() => "The permission is not given.".to_owned(),
        Reply::Denied { why } => format!("The permission is not given: {why}"),
    };
    let (action_id, by, question) = (action.action_id.clone(), by.to_owned(), Some(question.to_owned()));
    Message { action_id, by, text, question, unsure: false }
}

const PAUSED_BY: &str = "paused by an operator";
const CANCELED_BY: &str = "canceled by an operator";
