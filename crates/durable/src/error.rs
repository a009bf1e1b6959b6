//! What can go wrong, each with a stable code.

use serde::{Deserialize, Serialize};

use crate::mismatch::Mismatch;
use crate::store::StoreError;

/// The failure that an executor answered. Recorded, and answered again as it is.
///
/// Like `anyhow::Error` it is no [`std::error::Error`] itself, so that `?` takes any error into it: as a permanent one
/// with the code `error`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EffectError {
    /// Stable word of the executor's.
    pub code: String,
    /// What went wrong, for people.
    pub message: String,
    /// What follows from it.
    #[serde(default)]
    pub class: ErrorClass,
}

/// What follows from an executor's failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorClass {
    /// It failed for good: recorded as the outcome.
    #[default]
    Permanent,
    /// It did not take place, and may the next time: tried again under the effect's policy.
    Retryable,
    /// The executor does not know whether it took place: in doubt, and settled as such.
    Unknown,
}

impl EffectError {
    /// A failure that stays.
    #[must_use]
    pub fn permanent(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self { code: code.into(), message: message.into(), class: ErrorClass::Permanent }
    }

    /// It did not take place, and may the next time.
    #[must_use]
    pub fn retryable(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self { code: code.into(), message: message.into(), class: ErrorClass::Retryable }
    }

    /// Nobody knows whether it took place: the remote did not answer, say.
    #[must_use]
    pub fn unknown(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self { code: code.into(), message: message.into(), class: ErrorClass::Unknown }
    }
}

impl std::fmt::Display for EffectError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

impl<E: std::error::Error> From<E> for EffectError {
    fn from(error: E) -> Self {
        let mut message = error.to_string();
        let mut cause = error.source();
        while let Some(deeper) = cause {
            message.push_str(": ");
            message.push_str(&deeper.to_string());
            cause = deeper.source();
        }
        Self::permanent("error", message)
    }
}

/// Why a durable call has no result.
#[derive(Debug, Clone, thiserror::Error)]
pub enum DurableError {
    /// A scope without an id.
    #[error("an execution scope needs an id, and its {what} is empty; name the turn, process, drain or operation")]
    MissingExecutionScopeId {
        /// Which part.
        what: &'static str,
    },
    /// An envelope, key or payload that cannot be taken.
    #[error("{message}")]
    Invalid {
        /// Stable code.
        code: &'static str,
        /// What is wrong, and what to do.
        message: String,
    },
    /// The effect was recorded with other content.
    #[error("{0}")]
    ReplayMismatch(Box<Mismatch>),
    /// The effect's executor failed; recorded.
    #[error("{0}")]
    Effect(EffectError),
    /// Nobody knows whether the effect took place; it waits for an operator.
    #[error("whether {replay_key} took place is unknown ({reason}); settle it as applied or not applied")]
    InDoubt {
        /// The effect.
        replay_key: String,
        /// Why.
        reason: String,
    },
    /// The scope is over: nothing of it is executed any more.
    #[error("{scope} has ended; nothing of it is executed any more")]
    ScopeEnded {
        /// Which, for people.
        scope: String,
    },
    /// Somebody else lives and has the scope.
    #[error("{scope} belongs to another owner that is alive; end that one, or take the scope over")]
    ScopeOwned {
        /// Which, for people.
        scope: String,
    },
    /// Somebody else took the scope over: this owner may record nothing any more.
    #[error("{scope} was taken over by another owner; nothing is recorded for this one any more")]
    LeaseLost {
        /// Which, for people.
        scope: String,
    },
    /// The wait's key is not ours, was tampered with, or its wait was revoked or pruned.
    #[error("this wait is unknown or was revoked")]
    WaitUnknownOrRevoked,
    /// What was recorded cannot be read as what the caller wants.
    #[error("what was recorded of {what} is not what the caller expects: {reason}")]
    Unreadable {
        /// The effect.
        what: String,
        /// Why.
        reason: String,
    },
    /// The store failed. Says nothing of the effect: what was recorded stays, and the next call looks.
    #[error(transparent)]
    Store(StoreError),
}

impl DurableError {
    /// The stable code.
    #[must_use]
    pub fn code(&self) -> &str {
        match self {
            Self::MissingExecutionScopeId { .. } => "missing_execution_scope_id",
            Self::Invalid { code, .. } => code,
            Self::ReplayMismatch(_) => "replay_mismatch",
            Self::Effect(error) => &error.code,
            Self::InDoubt { .. } => "in_doubt",
            Self::ScopeEnded { .. } => "scope_ended",
            Self::ScopeOwned { .. } => "scope_owned",
            Self::LeaseLost { .. } => "lease_lost",
            Self::WaitUnknownOrRevoked => "await_event_unknown_or_revoked",
            Self::Unreadable { .. } => "recorded_outcome_unreadable",
            Self::Store(_) => "durable_store_failed",
        }
    }
}
