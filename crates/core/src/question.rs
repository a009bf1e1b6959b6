//! Questions of agents: what is asked, and what an operator says to it.
//!
//! # States
//! An issue has no question, or one that is open until it is answered, withdrawn or expires.
//!
//! # Transitions
//! - Asked while the turn stays open ([`Signal::Asked`]): the issue waits (`waiting_question`), the slot is free, the agent is kept. The
//!   answer is told to it, and the turn goes on.
//! - Asked with the turn's end ([`TurnOutcome::Asked`]), or the agent is gone when a daemon takes over: the run ends, its session is held.
//!   The answer goes into that session with a next run, as a new turn.
//! - The turn ends although something is asked: the question is withdrawn.
//! - The time is over (`questions.expire`): the issue parks with `question_expired`.
//!
//! # Invariants
//! - A question is answered once: what is answered is not open any more, and a second answer is refused.
//! - An answer that was accepted is heard: live, or in the next prompt.
//!
//! [`Signal::Asked`]: crate::Signal::Asked
//! [`TurnOutcome::Asked`]: crate::TurnOutcome::Asked

use serde::{Deserialize, Serialize};

use crate::effect::Effect;
use crate::event::Event;
use crate::ids::{IssueId, RunId, SessionId};
use crate::issue::IssueStatus;
use crate::machine::Machine;
use crate::operate::{ActionRef, Order, answer_to};
use crate::policy::AgentKind;
use crate::run::{Ending, Phase, Run, RunOutcome, Then};
use crate::time::Timestamp;
use crate::usage::Usage;

/// What an agent waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Wants {
    /// An answer in words.
    #[default]
    Input,
    /// The permission to do something.
    Permission,
}

impl Wants {
    /// The word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Input => "input",
            Self::Permission => "permission",
        }
    }
}

/// What an agent asked and nobody has answered yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    /// Its words, at most 2 KiB.
    pub text: String,
    /// What is waited for.
    pub wants: Wants,
    /// Number of the question in this life of the agent, while its turn waits for the answer; `None`: nobody waits any more, and the answer
    /// goes into a next turn.
    pub live: Option<u64>,
    /// When it was asked.
    pub asked_at: Timestamp,
    /// When it expires.
    pub expires_at: Timestamp,
}

impl Question {
    /// It can be answered.
    #[must_use]
    pub fn is_open(&self, at: Timestamp) -> bool {
        self.expires_at > at
    }
}

/// What an operator says to a question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum Reply {
    /// The answer, in words.
    Text {
        /// At most 8 KiB.
        text: String,
    },
    /// The permission is given.
    Granted,
    /// It is not.
    Denied {
        /// Why.
        why: String,
    },
}

/// Words of an operator that the agent hears with its next prompt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// The action that brought it.
    pub action_id: String,
    /// Who says it.
    pub by: String,
    /// What is said.
    pub text: String,
    /// The question that it answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub question: Option<String>,
    /// The agent may have heard it already.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unsure: bool,
}

/// A session that a next run of the issue can go on in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// The session.
    pub session: SessionId,
    /// The kind of agent that has it.
    pub agent: AgentKind,
    /// Turns that it has had in the run that was held.
    pub turns: u32,
    /// Those of them that count towards `agent.max_turns`.
    pub counted_turns: u32,
    /// Tokens that it has told of so far.
    #[serde(default)]
    pub session_total: Usage,
    /// Permissions that operators gave in it, in the words in which they were asked for; the latest 50.
    #[serde(default)]
    pub grants: Vec<String>,
}

/// Permissions that are remembered for a session.
const GRANTS: usize = 50;

/// Remembers a permission that a person gave, and no more of them than are kept.
pub(crate) fn grant(grants: &mut Vec<String>, permission: String) {
    grants.push(permission);
    let over = grants.len().saturating_sub(GRANTS);
    grants.drain(..over);
}

/// How the next run of an issue begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Start {
    /// With a new session.
    #[default]
    New,
    /// In the session that is held, if there is one.
    Resume,
    /// With a new session that is told what the last run did.
    Rehydrate,
}

impl Machine {
    /// An agent asks, and keeps its turn open for the answer.
    pub(crate) fn asked_live(&mut self, run: &RunId, ask: u64, text: &str, wants: Wants) {
        let Some(live) = self.state.runs.get(run).filter(|run| run.phase == Phase::Prompting && run.turn_open) else {
            return;
        };
        let issue = live.issue.clone();
        let Some(expires_at) = self.note_question(run, Some(ask), text, wants) else { return };
        self.set_status(&issue, IssueStatus::WaitingQuestion, Some(&asked(text)), Some(expires_at));
    }

    /// The agent ended its turn with a question.
    pub(crate) fn asked_with_the_end(&mut self, run: &RunId, text: String, wants: Wants) {
        // An answer that came too late for the turn is the answer all the same.
        if !self.is_answered(run, &text) {
            self.note_question(run, None, &text, wants);
        }
        self.hold_for_answer(run);
    }

    /// The run ends, and its session is held until the question is answered.
    pub(crate) fn hold_for_answer(&mut self, run: &RunId) {
        let (outcome, reason) = (RunOutcome::Interrupted, "question_asked".to_owned());
        self.stop_run(run, Ending { outcome, reason, then: Then::Ask });
    }

    /// What an operator said to this question is on its way, or waits for the next prompt.
    fn is_answered(&self, run: &RunId, text: &str) -> bool {
        let Some(run) = self.state.runs.get(run) else { return false };
        let on_its_way = |effect: &Effect| matches!(effect, Effect::CarryOut { order: Order::Reply { question, .. }, action: _ } if question == text);
        let entry = self.state.issues.get(&run.issue);
        entry.is_some_and(|entry| entry.messages.iter().any(|said| said.question.as_deref() == Some(text)))
            || self.state.open_effects.values().any(|open| open.issue == run.issue && on_its_way(&open.effect))
    }

    fn note_question(&mut self, run: &RunId, live: Option<u64>, text: &str, wants: Wants) -> Option<Timestamp> {
        let expires_at = self.now.after_ms(self.state.policy_of(run)?.questions.expire_ms);
        let question = text.to_owned();
        self.emit(Event::QuestionAsked { run: run.clone(), question, wants, live, expires_at: Some(expires_at) });
        Some(expires_at)
    }

    /// The turn does not wait for its answer any more.
    pub(crate) fn withdraw_question(&mut self, run: &RunId) {
        let Some(issue) = self.state.runs.get(run).map(|run| run.issue.clone()) else { return };
        let open = self.state.issues.get(&issue).and_then(|entry| entry.question.as_ref());
        if open.is_none_or(|question| question.live.is_none()) {
            return;
        }
        self.emit(Event::QuestionWithdrawn { run: run.clone() });
        if self.state.issues.get(&issue).is_some_and(|entry| entry.status == IssueStatus::WaitingQuestion) {
            self.set_status(&issue, IssueStatus::Running, Some("the agent does not wait for an answer any more"), None);
        }
    }

    /// An operator answers.
    pub(crate) fn reply_to_question(&mut self, id: &IssueId, reply: Reply, by: String, action: &ActionRef) {
        let Some(entry) = self.state.issues.get(id) else { return };
        let (Some(Question { text, live, .. }), status) = (entry.question.clone(), entry.status) else { return };
        let run = entry.current_run.clone();
        self.emit(Event::QuestionAnswered {
            issue: id.clone(),
            reply: reply.clone(),
            by: by.clone(),
            action_id: action.action_id.clone(),
        });
        match run.zip(live) {
            Some((run, ask)) => {
                // It has heard nothing while it waited; from now on its silence counts.
                self.sign_of_life(&run);
                self.set_status(id, IssueStatus::Running, Some("answered"), None);
                self.order(id, Order::Reply { run, ask, question: text, reply, by }, action);
            }
            None => {
                let message = answer_to(&text, &reply, &by, action);
                self.emit(Event::MessageQueued { issue: id.clone(), message });
                if status == IssueStatus::WaitingQuestion {
                    self.go_on_in_session(id, "answered");
                }
                self.completed(action, Some(id));
            }
        }
    }

    /// The daemon is about to end: what agents wait for is held, and answered in a next turn.
    pub(crate) fn hold_questions(&mut self) {
        let waiting: Vec<RunId> =
            self.state.runs.values().filter(|run| self.waits_for_answer(run)).map(|run| run.id.clone()).collect();
        for run in waiting {
            self.hold_for_answer(&run);
        }
    }

    /// Agents are there that wait for answers.
    #[must_use]
    pub fn agents_wait(&self) -> bool {
        self.state.runs.values().any(|run| self.waits_for_answer(run))
    }

    /// Parks issues whose question nobody answered in time.
    pub(crate) fn expire_questions(&mut self) {
        let over: Vec<IssueId> = self
            .issues_due()
            .filter(|entry| entry.question.as_ref().is_some_and(|question| !question.is_open(self.now)))
            .map(|entry| entry.issue.id.clone())
            .collect();
        for id in over {
            let Some(entry) = self.state.issues.get(&id) else { continue };
            let (run, text) =
                (entry.current_run.clone(), entry.question.as_ref().map(|question| question.text.clone()));
            let detail = format!("nobody answered in time: {}", text.unwrap_or_default());
            self.emit(Event::QuestionExpired { issue: id.clone() });
            match run {
                Some(run) => self.park_run(&run, "question_expired", detail),
                None => self.park_issue(&id, None, "question_expired", detail, None),
            }
        }
    }

    /// The run waits for an answer, and for nothing else.
    #[must_use]
    pub(crate) fn waits_for_answer(&self, run: &Run) -> bool {
        let entry = self.state.issues.get(&run.issue);
        run.phase == Phase::Prompting && run.turn_open && entry.is_some_and(|entry| entry.question.is_some())
    }
}

/// Why an issue waits.
pub(crate) fn asked(question: &str) -> String {
    format!("question_asked: {question}")
}
