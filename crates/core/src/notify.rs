//! Notices: what people are told outside the daemon. What needs somebody, and what came of the work.
//!
//! ```text
//! fact ──▶ queued for each receiver that wants it ──▶ one message with all that waits ──▶ told
//!                                                        ▲      │ not told: later, the same message under the same id
//!                                                        └──────┤
//!                                                               └ given up, with an event that says so
//! ```
//!
//! # Invariants
//! - A notice is queued in the batch of its fact, and a message is an effect: intent before it is sent.
//! - Each notice is told at least once to its receiver, or an event says that it was given up. A message that may have
//!   arrived is sent again under the same id, with the same notices.
//! - One message at a time for each receiver, and no more than one a second; a receiver that is away holds up no other.
//! - A queue is bounded; what does not fit is counted, and the next message tells the count.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::effect::{Effect, EffectRequest, Failure};
use crate::event::Event;
use crate::ids::{EffectId, IssueId};
use crate::issue::{Issue, IssueStatus};
use crate::machine::Machine;
use crate::run::StepState;
use crate::state::{OpenEffect, State};
use crate::time::Timestamp;

/// Notices that wait for one receiver.
const WAITING: usize = 1_000;
/// Notices in one message.
const IN_ONE: usize = 100;
/// Wait after a message before the next one to the same receiver.
const SPACING_MS: u64 = 1_000;
/// Tries of one message.
const TRIES: u32 = 8;
/// Wait after the first try that failed; doubles up to the cap.
const BASE_MS: u64 = 10_000;
const CAP_MS: u64 = 1_800_000;
/// Characters of a title, and of a text.
const TITLE: usize = 200;
const TEXT: usize = 500;

/// What a notice is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Topic {
    /// An agent asks something, or for a permission.
    Question,
    /// A handoff waits for an approval.
    Approval,
    /// An issue waits for an operator.
    Parked,
    /// An issue waits for an operator, because a limit was reached.
    Budget,
    /// An issue is done: handed off, or completed.
    Done,
    /// An issue failed for good.
    Failed,
}

impl Topic {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::Question, Self::Approval, Self::Parked, Self::Budget, Self::Done, Self::Failed];
    /// Those that need somebody.
    pub const NEEDS_SOMEBODY: [Self; 4] = [Self::Question, Self::Approval, Self::Parked, Self::Budget];

    /// The word in WORKFLOW.md and on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Question => "question",
            Self::Approval => "approval",
            Self::Parked => "parked",
            Self::Budget => "budget",
            Self::Done => "done",
            Self::Failed => "failed",
        }
    }
}

/// Who is told. Addresses are as WORKFLOW.md has them: `$NAME` stays `$NAME`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Receiver {
    /// JSON is posted there.
    Webhook {
        /// URL.
        address: String,
        /// `$NAME` of the secret that signs.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        secret: Option<String>,
    },
    /// An incoming webhook of Slack.
    Slack {
        /// `$NAME` of its URL.
        address: String,
    },
    /// JSON is written to its standard input.
    Command {
        /// A shell command.
        command: String,
    },
}

impl Receiver {
    /// The word for its kind.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Webhook { .. } => "webhook",
            Self::Slack { .. } => "slack",
            Self::Command { .. } => "command",
        }
    }
}

/// One entry of `notify:` in WORKFLOW.md.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotifyPolicy {
    /// Who is told.
    pub receiver: Receiver,
    /// Of what.
    pub on: Vec<Topic>,
}

/// Something to be told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// Its number in the journal, from 1.
    pub number: u64,
    /// What it is about.
    pub topic: Topic,
    /// Of which issue.
    pub issue: IssueId,
    /// What people call the issue.
    pub identifier: String,
    /// Its title, at most 200 characters.
    pub title: String,
    /// What happened, at most 500 characters.
    pub text: String,
    /// Where a person can look at it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// When.
    pub at: Timestamp,
}

/// What waits for one receiver.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Queue {
    /// Whom.
    pub receiver: Receiver,
    /// Oldest first.
    pub waiting: VecDeque<Notice>,
    /// What did not fit since the last message that counted it.
    pub missed: u64,
    /// The first of them are one message by now, and stay it.
    pub composed: usize,
    /// How many of the missed that message counts.
    pub counted: u64,
    /// The message is under way.
    pub effect: Option<EffectId>,
    /// Tries of the message that failed.
    pub tries: u32,
    /// No message before.
    pub not_before: Timestamp,
}

/// What waits to be told.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Outbox {
    /// Notices so far; numbers the next.
    pub count: u64,
    /// One for each receiver that something waits for, or that heard something a moment ago.
    pub queues: Vec<Queue>,
}

impl Outbox {
    fn of(&mut self, receiver: &Receiver) -> Option<&mut Queue> {
        self.queues.iter_mut().find(|queue| queue.receiver == *receiver)
    }

    pub(crate) fn queued(&mut self, receiver: &Receiver, notice: &Notice) {
        self.count = self.count.max(notice.number);
        if self.of(receiver).is_none() {
            self.queues.push(Queue {
                receiver: receiver.clone(),
                waiting: VecDeque::new(),
                missed: 0,
                composed: 0,
                counted: 0,
                effect: None,
                tries: 0,
                not_before: notice.at,
            });
        }
        let Some(queue) = self.of(receiver) else { return };
        if queue.waiting.len() < WAITING {
            queue.waiting.push_back(notice.clone());
        } else {
            queue.missed += 1;
        }
    }

    pub(crate) fn intended(&mut self, id: EffectId, effect: &Effect) {
        let Effect::Notify { receiver, notices, missed } = effect else { return };
        if let Some(queue) = self.of(receiver) {
            (queue.effect, queue.composed, queue.counted) = (Some(id), notices.len(), *missed);
        }
    }

    pub(crate) fn ended(&mut self, effect: &Effect, told: bool, at: Timestamp) {
        let Effect::Notify { receiver, .. } = effect else { return };
        let Some(queue) = self.of(receiver) else { return };
        queue.effect = None;
        if told {
            queue.drop_message(at);
        } else {
            queue.tries += 1;
            let wait = BASE_MS.saturating_mul(1_u64 << (queue.tries - 1).min(16)).min(CAP_MS);
            queue.not_before = at.after_ms(wait);
        }
    }

    pub(crate) fn dropped(&mut self, receiver: &Receiver, all: bool, at: Timestamp) {
        if all {
            self.queues.retain(|queue| queue.receiver != *receiver);
        } else if let Some(queue) = self.of(receiver) {
            queue.drop_message(at);
        }
    }
}

impl Queue {
    fn drop_message(&mut self, at: Timestamp) {
        self.waiting.drain(..self.composed.min(self.waiting.len()));
        self.missed = self.missed.saturating_sub(self.counted);
        (self.composed, self.counted, self.tries) = (0, 0, 0);
        self.not_before = at.after_ms(SPACING_MS);
    }

    fn is_due(&self, now: Timestamp) -> bool {
        self.effect.is_none() && !self.waiting.is_empty() && self.not_before <= now
    }
}

impl Machine {
    /// What this event, which was just folded, tells people.
    pub(crate) fn notices_of(&self, event: &Event) -> Vec<Event> {
        let Some(policy) = self.state.policy().filter(|policy| !policy.notify.is_empty()) else { return Vec::new() };
        let Some((topic, issue, text)) = told(&self.state, event) else { return Vec::new() };
        let Some(entry) = self.state.issues.get(&issue) else { return Vec::new() };
        let of_pull_request = entry.pull_request.as_ref().map(|pull_request| pull_request.url.clone());
        let notice = Notice {
            number: self.state.outbox.count,
            topic,
            issue,
            identifier: entry.issue.identifier.clone(),
            title: clipped(&entry.issue.title, TITLE),
            text: clipped(&text, TEXT),
            url: of_pull_request.or_else(|| entry.issue.url.clone()),
            at: self.now,
        };
        // A limit that was reached parks the issue as well.
        let wants = |on: &[Topic]| on.contains(&topic) || (topic == Topic::Budget && on.contains(&Topic::Parked));
        let receivers = policy.notify.iter().filter(|entry| wants(&entry.on)).map(|entry| entry.receiver.clone());
        let numbered = receivers.zip(notice.number + 1..);
        numbered
            .map(|(receiver, number)| Event::NoticeQueued { receiver, notice: Notice { number, ..notice.clone() } })
            .collect()
    }

    /// Something that was not sent yet waits to be.
    pub(crate) fn has_fresh_notices(&self) -> bool {
        self.state.outbox.queues.iter().any(|queue| queue.tries == 0 && !queue.waiting.is_empty())
    }

    /// Sends what is due, and gives up what nobody takes.
    pub(crate) fn send_notices(&mut self) {
        if self.state.outbox.queues.is_empty() {
            return;
        }
        let Some(policy) = self.state.policy() else { return };
        let queues: Vec<Queue> =
            self.state.outbox.queues.iter().filter(|queue| queue.is_due(self.now)).cloned().collect();
        for queue in queues {
            let known = policy.notify.iter().any(|entry| entry.receiver == queue.receiver);
            if !known {
                let failure = Failure::permanent("receiver_gone", "WORKFLOW.md does not name this receiver any more");
                self.drop_notices(&queue, true, failure);
                continue;
            }
            if self.draining {
                continue;
            }
            let (many, missed) = match queue.composed {
                0 => (queue.waiting.len().min(IN_ONE), queue.missed),
                composed => (composed, queue.counted),
            };
            let notices: Vec<Notice> = queue.waiting.iter().take(many).cloned().collect();
            let Some((issue, number)) = notices.first().map(|first| (first.issue.clone(), first.number)) else {
                continue;
            };
            let name = format!("notify/{number}/{}", queue.tries + 1);
            self.intend(&issue, None, &name, Effect::Notify { receiver: queue.receiver, notices, missed });
        }
    }

    /// The issue may be gone by now; what is told of it is in the notice.
    pub(crate) fn notify_request(&self, id: EffectId, open: &OpenEffect, first: &Notice) -> Option<EffectRequest> {
        self.request_beside(id, open, Issue::new(first.issue.clone(), &first.identifier, &first.title, ""))
    }

    /// A message was told, or was not.
    pub(crate) fn after_notify(&mut self, effect: &Effect, failure: Option<Failure>) {
        let (Effect::Notify { receiver, .. }, Some(failure)) = (effect, failure) else { return };
        let queue = self.state.outbox.queues.iter().find(|queue| queue.receiver == *receiver).cloned();
        if let Some(queue) = queue.filter(|queue| queue.tries >= TRIES || !failure.retryable) {
            self.drop_notices(&queue, false, failure);
        }
    }

    fn drop_notices(&mut self, queue: &Queue, all: bool, failure: Failure) {
        let count = if all { queue.waiting.len() } else { queue.composed };
        let first = queue.waiting.front().map_or(0, |notice| notice.number);
        let missed = if all { queue.missed } else { queue.counted };
        let count = u64::try_from(count).unwrap_or(u64::MAX).saturating_add(missed);
        self.emit(Event::NoticesDropped { receiver: queue.receiver.clone(), first, count, all, failure });
    }

    /// When the next message is due.
    pub(crate) fn notices_due(&self) -> Option<Timestamp> {
        if self.draining {
            return None;
        }
        let waiting =
            self.state.outbox.queues.iter().filter(|queue| queue.effect.is_none() && !queue.waiting.is_empty());
        waiting.map(|queue| queue.not_before).min()
    }
}

/// What an event tells people, and of which issue.
#[expect(clippy::wildcard_enum_match_arm, reason = "most events are for the journal's readers alone")]
fn told(state: &State, event: &Event) -> Option<(Topic, IssueId, String)> {
    let issue_of = |run| state.runs.get(run).map(|run| run.issue.clone());
    match event {
        Event::QuestionAsked { run, question, .. } => Some((Topic::Question, issue_of(run)?, question.clone())),
        Event::SagaStep { run, step, state: StepState::AwaitingApproval { .. }, entry: _ } => {
            let text = format!("the handoff waits for an approval before `{}`", step.as_str());
            Some((Topic::Approval, issue_of(run)?, text))
        }
        Event::Parked { issue, reason, detail, limit, .. } => {
            let topic = if limit.is_some() { Topic::Budget } else { Topic::Parked };
            let text = if detail.is_empty() || detail.starts_with(reason.as_str()) {
                detail
            } else {
                &format!("{reason}: {detail}")
            };
            Some((topic, issue.clone(), if text.is_empty() { reason.clone() } else { text.clone() }))
        }
        Event::IssueStatus { issue, from, to, reason, .. } if from != to => {
            let topic = match to {
                IssueStatus::HandedOff | IssueStatus::Completed => Topic::Done,
                IssueStatus::Failed => Topic::Failed,
                _ => return None,
            };
            Some((topic, issue.clone(), reason.clone().unwrap_or_else(|| to.as_str().replace('_', " "))))
        }
        _ => None,
    }
}

fn clipped(text: &str, most: usize) -> String {
    let mut clipped: String = text.chars().take(most).collect();
    if text.chars().nth(most).is_some() {
        clipped.push('…');
    }
    clipped
}
