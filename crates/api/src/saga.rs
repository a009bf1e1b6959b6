//! Wire types of sagas.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::types::EffectError;

/// `GET /api/v1/sagas/{id}`: effects that end together, done or undone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Saga {
    /// Its id.
    pub id: String,
    /// What it is: `handoff`.
    pub name: String,
    /// Version of what does its steps.
    pub version: u32,
    /// `forward`, `backward`, `parked`, `committed`, `compensated`, `abandoned`.
    pub state: String,
    /// Why it is being undone, or was.
    pub turned_back: Option<EffectError>,
    /// Its steps, each behind those that it comes after.
    pub steps: Vec<SagaStep>,
}

/// A step of a saga.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SagaStep {
    /// Its name.
    pub name: String,
    /// `read`, `compensatable`, `pivot`, `retriable`.
    pub kind: String,
    /// Steps that it comes after.
    pub after: Vec<String>,
    /// `pending`, `awaiting_approval`, `doing`, `resting`, `in_doubt`, `done`, `not_applied`, `undoing`, `undone`, `skipped`, `parked`.
    pub state: String,
    /// Rises when it was shown that the step had not been applied; part of the key.
    pub generation: u32,
    /// Calls to do it.
    pub attempts: u32,
    /// Calls to undo it.
    pub undo_attempts: u32,
    /// The idempotency key of its calls.
    pub key: String,
    /// What the last probe found: `applied`, `not_applied`, `inconclusive`.
    pub probe: Option<String>,
    /// What went wrong last.
    pub failure: Option<EffectError>,
    /// When it goes on by itself.
    pub due_at: Option<String>,
    /// The approval that it waits for.
    pub approval: Option<Approval>,
    /// What an operator may say of it now, with `settle`.
    pub verbs: Vec<String>,
    /// The saga that does it, if it is one.
    pub saga: Option<String>,
}

/// An approval that a step waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Approval {
    /// Of what is to be done; an answer is for this and nothing else.
    pub fingerprint: String,
    /// Until when.
    pub expires_at: String,
}
