//! A saga for people: where each step is, and why.

use serde::{Deserialize, Serialize};

use super::event::{Failure, Role};
use super::host::key;
use super::log::read;
use super::machine::Question;
use super::state::{Damaged, SagaState, StepState};
use crate::clock::Timestamp;
use crate::key::Secret;
use crate::record::EffectRecord;
use crate::scope::ExecutionScope;

/// A saga for people.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SagaView {
    /// Its id.
    pub id: String,
    /// What it is.
    pub name: String,
    /// Version of the code that it was made for.
    pub version: u32,
    /// `forward`, `backward`, `parked`, or how it ended.
    pub state: String,
    /// Why it is being undone, or was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub turned_back: Option<Failure>,
    /// Its steps, each behind those that it comes after.
    pub steps: Vec<StepView>,
}

/// A step for people.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepView {
    /// Its name.
    pub name: String,
    /// Its kind.
    pub kind: String,
    /// Steps that it comes after.
    pub after: Vec<String>,
    /// Where it is.
    pub state: String,
    /// Part of the keys.
    pub generation: u32,
    /// Calls to do it.
    pub attempts: u32,
    /// Calls to undo it.
    pub undo_attempts: u32,
    /// The idempotency key that it has or had.
    pub key: String,
    /// What the last probe found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probe: Option<String>,
    /// What went wrong last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// When it goes on by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due_at: Option<Timestamp>,
    /// The approval that it waits for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<Question>,
    /// What an operator may say of it now.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub verbs: Vec<String>,
    /// The saga that does it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub saga: Option<String>,
}

impl SagaView {
    /// Of the records in its scope, oldest first, for whoever reads a store beside its host; nothing without any.
    ///
    /// # Errors
    /// [`Damaged`].
    pub fn of_records<'a>(
        id: &str,
        records: impl Iterator<Item = &'a EffectRecord>,
        secret: &Secret,
    ) -> Result<Option<Self>, Damaged> {
        let entries = read(id, records)?;
        if entries.is_empty() {
            return Ok(None);
        }
        Ok(Some(Self::with_keys(id, &SagaState::replay(id, &entries)?, secret)))
    }

    /// Of a state, with the keys that the store's secret gives.
    pub(super) fn with_keys(id: &str, state: &SagaState, secret: &Secret) -> Self {
        let scope = ExecutionScope::saga(id).key();
        Self::of(id, state, |step, role, generation| key(secret, &scope, step, role, generation))
    }

    /// Of a state; `key` makes the idempotency key of a step in a generation.
    #[must_use]
    pub fn of(id: &str, state: &SagaState, key: impl Fn(&str, Role, u32) -> String) -> Self {
        let steps = state.steps().map(|(step, record)| {
            let (due_at, approval, role) = match &record.state {
                StepState::Resting(role, due) | StepState::InDoubt(role, due) => (Some(*due), None, *role),
                StepState::AwaitingApproval { fingerprint, expires_at } => {
                    let (step, fingerprint) = (step.name.clone(), fingerprint.clone());
                    (None, Some(Question { step, fingerprint, expires_at: *expires_at }), Role::Do)
                }
                StepState::Open(role) | StepState::Parked(role) => (None, None, *role),
                StepState::Undone => (None, None, Role::Undo),
                StepState::Pending | StepState::Done | StepState::NotApplied | StepState::Skipped => {
                    (None, None, Role::Do)
                }
            };
            StepView {
                name: step.name.clone(),
                kind: step.kind.as_str().to_owned(),
                after: step.after.clone(),
                state: record.state.as_str().to_owned(),
                generation: record.generation,
                attempts: record.attempts,
                undo_attempts: record.undo_attempts,
                key: key(&step.name, role, record.generation),
                probe: record.found.map(str::to_owned),
                failure: record.failure.clone(),
                due_at,
                approval,
                verbs: state.verbs(&step.name).into_iter().map(|verb| verb.as_str().to_owned()).collect(),
                saga: step.saga.as_ref().map(|_| super::host::child_id(id, &step.name, record.generation)),
            }
        });
        let word = match (state.end(), state.is_resting(), state.turned_back()) {
            (Some(end), ..) => end.as_str(),
            (None, true, _) => "parked",
            (None, false, Some(_)) => "backward",
            (None, false, None) => "forward",
        };
        Self {
            id: id.to_owned(),
            name: state.plan().name.clone(),
            version: state.plan().version,
            state: word.to_owned(),
            turned_back: state.turned_back().cloned(),
            steps: steps.collect(),
        }
    }

    /// Steps that wait for an operator, and why: `step: code: message`.
    #[must_use]
    pub fn parked(&self) -> Vec<String> {
        let parked = self.steps.iter().filter(|step| step.state == "parked");
        parked
            .map(|step| {
                let why = step.failure.as_ref().map_or_else(String::new, ToString::to_string);
                format!("{}: {why}", step.name)
            })
            .collect()
    }
}
