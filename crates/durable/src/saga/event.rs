//! What is recorded of a saga: every transition, one event.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::plan::SagaPlan;
use crate::clock::Timestamp;

/// Whether a call does a step or undoes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// It does it.
    Do,
    /// It undoes it.
    Undo,
}

impl Role {
    /// The word in keys, stores and on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Do => "do",
            Self::Undo => "undo",
        }
    }
}

/// Why a call did not do what it was for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// A stable word.
    pub code: String,
    /// What went wrong, for people.
    pub message: String,
}

impl Failure {
    /// A code and words for people.
    #[must_use]
    pub fn new(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self { code: code.into(), message: message.into() }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

/// What a probe found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "found", rename_all = "snake_case")]
pub enum Found {
    /// It took place.
    Applied {
        /// With this output.
        output: Value,
    },
    /// It did not.
    NotApplied,
    /// It cannot be told.
    Inconclusive {
        /// Why.
        failure: Failure,
    },
}

impl Found {
    /// The word on the wire.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Applied { .. } => "applied",
            Self::NotApplied => "not_applied",
            Self::Inconclusive { .. } => "inconclusive",
        }
    }
}

/// What an operator says of a parked step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verb {
    /// What was called took place.
    Applied,
    /// It did not.
    NotApplied,
    /// It is to be tried again, under the same key.
    Retry,
    /// The step was undone by hand.
    Undone,
    /// It is left as it is: the saga ends without it, and says so.
    Skip,
}

impl Verb {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Applied, Self::NotApplied, Self::Retry, Self::Undone, Self::Skip];

    /// The word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::NotApplied => "not_applied",
            Self::Retry => "retry",
            Self::Undone => "undone",
            Self::Skip => "skip",
        }
    }

    /// The verb that this word names.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|verb| verb.as_str() == word)
    }
}

/// How a saga ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SagaEnd {
    /// Every step is done.
    Committed,
    /// Every step that was done is undone.
    Compensated,
    /// An operator left something as it is.
    Abandoned,
}

impl SagaEnd {
    /// The word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Committed => "committed",
            Self::Compensated => "compensated",
            Self::Abandoned => "abandoned",
        }
    }
}

/// Something that happened to a saga.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum SagaEvent {
    /// It began. The first event.
    Begun {
        /// What it is to do.
        plan: Box<SagaPlan>,
        /// From then on it turns backward.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        deadline: Option<Timestamp>,
    },
    /// Somebody has to approve the step.
    ApprovalAsked {
        /// Which step.
        step: String,
        /// Of what is to be done; an answer is for this and nothing else.
        fingerprint: String,
        /// Until when.
        expires_at: Timestamp,
    },
    /// Somebody did.
    Approved {
        /// Which step.
        step: String,
        /// What was approved.
        fingerprint: String,
        /// Who.
        by: String,
    },
    /// Somebody refused.
    Denied {
        /// Which step.
        step: String,
        /// Who.
        by: String,
        /// Why.
        why: String,
    },
    /// Nobody answered in time, or the step was not called in time after the answer.
    ApprovalExpired {
        /// Which step.
        step: String,
    },
    /// The step is going to be called.
    Intended {
        /// Which step.
        step: String,
        /// To do it or to undo it.
        role: Role,
        /// Of the step.
        generation: u32,
        /// Which call of this role, from 1, over all processes.
        attempt: u32,
    },
    /// It answered that it is done.
    Done {
        /// Which step.
        step: String,
        /// What was asked of it.
        role: Role,
        /// What came of it.
        #[serde(default, skip_serializing_if = "Value::is_null")]
        output: Value,
    },
    /// It was not applied.
    NotApplied {
        /// Which step.
        step: String,
        /// What was asked of it.
        role: Role,
        /// Why not.
        failure: Failure,
        /// When it is tried again; `None`: not at all.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        due_at: Option<Timestamp>,
    },
    /// Nobody knows whether it was applied.
    InDoubt {
        /// Which step.
        step: String,
        /// What was asked of it.
        role: Role,
        /// Why nobody knows.
        failure: Failure,
        /// When that is looked into.
        due_at: Timestamp,
    },
    /// The world was asked whether it was applied.
    Probed {
        /// Which step.
        step: String,
        /// What was found.
        #[serde(flatten)]
        found: Found,
        /// When the next look is, if this one told nothing.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        due_at: Option<Timestamp>,
    },
    /// An operator has to say how it goes on.
    Parked {
        /// Which step.
        step: String,
        /// What cannot go on: doing or undoing.
        role: Role,
        /// Why.
        failure: Failure,
    },
    /// An operator said so.
    Settled {
        /// Which step.
        step: String,
        /// What.
        verb: Verb,
        /// Who.
        by: String,
        /// Why.
        why: String,
        /// With [`Verb::Applied`]: what came of it.
        #[serde(default, skip_serializing_if = "Value::is_null")]
        output: Value,
    },
    /// From now on it is undone.
    TurnedBack {
        /// Why.
        failure: Failure,
    },
    /// Nothing of it moves before an operator says how.
    Rested,
    /// It is over. The last event.
    Ended {
        /// How.
        end: SagaEnd,
    },
}

impl SagaEvent {
    /// The word in stores and on the wire.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Begun { .. } => "begun",
            Self::ApprovalAsked { .. } => "approval_asked",
            Self::Approved { .. } => "approved",
            Self::Denied { .. } => "denied",
            Self::ApprovalExpired { .. } => "approval_expired",
            Self::Intended { .. } => "intended",
            Self::Done { .. } => "done",
            Self::NotApplied { .. } => "not_applied",
            Self::InDoubt { .. } => "in_doubt",
            Self::Probed { .. } => "probed",
            Self::Parked { .. } => "parked",
            Self::Settled { .. } => "settled",
            Self::TurnedBack { .. } => "turned_back",
            Self::Rested => "rested",
            Self::Ended { .. } => "ended",
        }
    }

    /// The step that it is about.
    #[must_use]
    pub fn step(&self) -> Option<&str> {
        match self {
            Self::Begun { .. } | Self::TurnedBack { .. } | Self::Rested | Self::Ended { .. } => None,
            Self::ApprovalAsked { step, .. }
            | Self::Approved { step, .. }
            | Self::Denied { step, .. }
            | Self::ApprovalExpired { step }
            | Self::Intended { step, .. }
            | Self::Done { step, .. }
            | Self::NotApplied { step, .. }
            | Self::InDoubt { step, .. }
            | Self::Probed { step, .. }
            | Self::Parked { step, .. }
            | Self::Settled { step, .. } => Some(step),
        }
    }
}

/// Events that were recorded together, as they stand in the store.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// When.
    pub at: Timestamp,
    /// Epoch of the owner that wrote them.
    pub epoch: u64,
    /// In their order.
    pub events: Vec<SagaEvent>,
}
