//! Executors: what does the steps of sagas.

use async_trait::async_trait;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::event::{Failure, Found, Role};
use super::host::key;
use super::machine::StepAnswer;
use crate::clock::Timestamp;
use crate::key::Secret;
use crate::scope::ExecutionScope;

/// What an executor is told.
#[derive(Debug, Clone)]
pub struct StepCall {
    /// The saga.
    pub saga: String,
    /// The step.
    pub step: String,
    /// Rises only after the step was undone or shown not to have been applied.
    pub generation: u32,
    /// Which call of its kind, from 1, over all processes.
    pub attempt: u32,
    /// What it is called with.
    pub args: Value,
    /// The key for a remote that deduplicates: the same for all calls that do (or undo) one generation of a step, in every process. A
    /// probe has that of the call in doubt.
    pub idempotency_key: String,
    /// When nobody waits for it any more.
    pub deadline: Option<Timestamp>,
    /// Epoch of the owner, for remotes that take one.
    pub epoch: u64,
    /// Fires when the call is given up, the saga turns backward, or the saga is lost.
    pub cancel: CancellationToken,
}

impl StepCall {
    /// The key that the calls of another generation of this step have that do it. `secret`: that of the saga's store.
    #[must_use]
    pub fn key_of_generation(&self, secret: &Secret, generation: u32) -> String {
        key(secret, &ExecutionScope::saga(self.saga.as_str()).key(), &self.step, Role::Do, generation)
    }
}

/// Does the steps of a saga. A panic and a call past its limit are answers, too: *unknown*.
#[async_trait]
pub trait StepExecutor: Send + Sync + 'static {
    /// Does a step.
    async fn act(&self, call: StepCall) -> StepAnswer;

    /// Undoes a step. It has to put up with finding nothing to undo.
    async fn undo(&self, call: StepCall) -> StepAnswer {
        StepAnswer::NeedsOperator(Failure::new("undo_missing", format!("the executor cannot undo {}", call.step)))
    }

    /// Looks whether a step took place.
    async fn probe(&self, call: StepCall) -> Found {
        Found::Inconclusive {
            failure: Failure::new("probe_missing", format!("the executor cannot probe {}", call.step)),
        }
    }
}
