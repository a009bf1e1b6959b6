//! Why a saga does not go on.

use super::machine::Refused;
use super::plan::InvalidPlan;
use super::state::Damaged;
use crate::error::DurableError;

/// Why a saga does not go on in this process, or a request of it was not done.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SagaError {
    /// The plan does not keep the rules.
    #[error(transparent)]
    Plan(#[from] InvalidPlan),
    /// There is a saga of this id with another plan.
    #[error("saga {id} is there already, and is to do something else; give this one another id")]
    Exists {
        /// The id.
        id: String,
    },
    /// Nobody is registered for it.
    #[error("no executor knows {name} of version {version}; saga {id} stays as it is until one is registered")]
    UnknownVersion {
        /// The id.
        id: String,
        /// Name of its plan.
        name: String,
        /// Its version.
        version: u32,
    },
    /// What is recorded of it cannot be read.
    #[error("{0}; restore a backup, or ask whoever wrote it")]
    Damaged(#[from] Damaged),
    /// There is no such saga, or it ended long ago.
    #[error("there is no saga {id}, or it ended so long ago that nothing of it is kept")]
    Unknown {
        /// The id.
        id: String,
    },
    /// The request was refused; nothing changed.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// No such approval is waited for.
    #[error("step {step} of saga {id} waits for no approval of {fingerprint}; look at the saga again")]
    NoQuestion {
        /// The id.
        id: String,
        /// The step.
        step: String,
        /// What was to be approved.
        fingerprint: String,
    },
    /// Scope or store said no.
    #[error(transparent)]
    Durable(#[from] DurableError),
    /// The saga was let go of in this process. What is recorded of it stays, and whoever takes it up goes on from there.
    #[error("saga {id} stopped in this process: {why}; it goes on when it is taken up again")]
    Stopped {
        /// The id.
        id: String,
        /// Why.
        why: String,
    },
}

impl SagaError {
    /// The stable code.
    #[must_use]
    pub fn code(&self) -> &str {
        match self {
            Self::Plan(invalid) => invalid.rule.code(),
            Self::Exists { .. } => "saga_exists",
            Self::UnknownVersion { .. } => "saga_version_unknown",
            Self::Damaged(_) => "saga_damaged",
            Self::Unknown { .. } => "saga_unknown",
            Self::Refused(refused) => refused.code(),
            Self::NoQuestion { .. } => "approval_unknown",
            Self::Durable(error) => error.code(),
            Self::Stopped { .. } => "saga_stopped",
        }
    }
}
