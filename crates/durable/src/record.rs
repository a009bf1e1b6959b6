//! What is recorded of an effect, and the rules by which it goes on. Pure: no clock, no store, no runtime.
//!
//! ```text
//!            ┌────────── again ───────────┐
//!            ▼                            │
//! (nothing) ─▶ open ──retryable──▶ resting┘        open, and nobody runs it = in doubt
//!               │ └──doubt, and nobody can tell──▶ parked ──settled──▶ ended, or open anew
//!               └──answer──▶ ended
//! ```

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::attempt::{Doubt, Ended};
use crate::canonical::ContentHash;
use crate::clock::Timestamp;
use crate::envelope::{EffectKind, Envelope, InDoubt};
use crate::error::{EffectError, ErrorClass};
use crate::mismatch::Mismatch;

/// Content of more bytes is not kept beside its hash; a mismatch then tells hashes alone.
pub const CONTENT_BYTES: usize = 16 << 10;
/// The largest recorded output, in bytes of JSON.
pub const OUTPUT_BYTES: usize = 4 << 20;
/// Failed attempts that are kept, the newest.
const FAILURES: usize = 16;
/// Times that nobody knew how an effect ended, before it is left to an operator.
pub const DOUBTS: u32 = 10;

/// One effect in a store.
#[derive(Debug, Clone, PartialEq)]
pub struct EffectRecord {
    /// Identity within its scope.
    pub replay_key: String,
    /// Its kind.
    pub kind: EffectKind,
    /// Hash of its content.
    pub hash: ContentHash,
    /// Its content, unless it is too large to be kept.
    pub content: Option<String>,
    /// Where it came from, as JSON: `caused_by` and the runtime's scope.
    pub provenance: Option<String>,
    /// How far it is.
    pub state: EffectState,
}

/// What changes of a record.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EffectState {
    /// Rises only when it was shown that the one before was not applied. Part of the idempotency key.
    pub generation: u32,
    /// Attempts that began, over all processes.
    pub attempt: u32,
    /// Times that nobody knew how an attempt ended.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub doubts: u32,
    /// Epoch of the owner that wrote last.
    pub epoch: u64,
    /// When it was first intended.
    pub began_at: Timestamp,
    /// When a sleep is over, or the next attempt may begin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due_at: Option<Timestamp>,
    /// Attempts that failed, newest last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failures: Vec<FailedAttempt>,
    /// How far it is.
    pub progress: Progress,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// An attempt that answered that it failed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FailedAttempt {
    /// Which, from 1.
    pub attempt: u32,
    /// When.
    pub at: Timestamp,
    /// Why.
    pub error: EffectError,
}

/// How far an effect is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum Progress {
    /// The intent is there, the outcome is not.
    Open,
    /// It did not take place, and is tried again when it is due.
    Resting,
    /// An operator has to say what became of it.
    Parked {
        /// Why.
        reason: String,
    },
    /// Its outcome is there, and stays.
    Ended {
        /// The outcome.
        outcome: Outcome,
        /// Who settled it, if an operator did.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        settled: Option<Settled>,
    },
}

impl Progress {
    /// The word for it.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Resting => "resting",
            Self::Parked { .. } => "parked",
            Self::Ended { .. } => "ended",
        }
    }
}

/// How an effect ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It took place.
    Done(Value),
    /// It failed for good.
    Failed(EffectError),
}

/// Who said what became of a parked effect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settled {
    /// Who.
    pub by: String,
    /// Why.
    pub why: String,
}

/// What an operator says of a parked effect.
#[derive(Debug, Clone, PartialEq)]
pub enum Settlement {
    /// It took place, with this output.
    Applied(Value),
    /// It did not; the next call does it under a new generation.
    NotApplied,
}

/// How retryable failures are tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// Attempts in all.
    pub attempts: u32,
    /// Wait before the second; doubles with each further one.
    pub base: Duration,
    /// Longest wait.
    pub cap: Duration,
}

impl Retry {
    /// One attempt.
    pub const NEVER: Self = Self { attempts: 1, base: Duration::ZERO, cap: Duration::ZERO };

    /// So many attempts, from 200 ms to 30 s apart.
    #[must_use]
    pub fn attempts(attempts: u32) -> Self {
        Self { attempts, base: Duration::from_millis(200), cap: Duration::from_secs(30) }
    }

    fn wait(&self, failed: u32) -> Duration {
        self.base.saturating_mul(1_u32 << failed.saturating_sub(1).min(20)).min(self.cap)
    }
}

/// What a call meets.
#[derive(Debug, Clone, PartialEq)]
pub enum Met {
    /// Nothing: its intent comes first.
    New,
    /// Its outcome.
    Recorded(Outcome),
    /// Something else under its key.
    Mismatch(Box<Mismatch>),
    /// An intent without outcome, and nobody who runs it.
    InDoubt,
    /// A failed attempt whose successor is due then.
    Resting(Timestamp),
    /// An effect that waits for an operator.
    Parked(String),
}

/// What becomes of an attempt that is over, or of a doubt that was looked into.
#[derive(Debug, Clone, PartialEq)]
pub enum Next {
    /// It is over.
    End(Outcome),
    /// It is tried again then.
    Rest {
        /// When.
        until: Timestamp,
        /// Why.
        error: EffectError,
    },
    /// Nobody knows.
    Doubt(String),
}

impl EffectRecord {
    /// The record of an effect whose first attempt is about to begin.
    #[must_use]
    pub fn intended(envelope: &Envelope, epoch: u64, now: Timestamp, due_at: Option<Timestamp>) -> Self {
        let invocation = envelope.invocation();
        let provenance = (invocation.caused_by.is_some() || invocation.runtime.is_some())
            .then(|| serde_json::json!({"caused_by": invocation.caused_by, "runtime": invocation.runtime}).to_string());
        Self {
            replay_key: invocation.replay_key.clone(),
            kind: invocation.kind,
            hash: envelope.hash(),
            content: (envelope.content().len() <= CONTENT_BYTES).then(|| envelope.content().to_owned()),
            provenance,
            state: EffectState {
                generation: 1,
                attempt: 1,
                doubts: 0,
                epoch,
                began_at: now,
                due_at,
                failures: Vec::new(),
                progress: Progress::Open,
            },
        }
    }
}

/// What a call of `envelope` meets when nobody is running it.
#[must_use]
pub fn meet(record: Option<&EffectRecord>, envelope: &Envelope) -> Met {
    let Some(record) = record else { return Met::New };
    if record.hash != envelope.hash() {
        let recorded = (record.hash, record.content.as_deref());
        let given = (envelope.hash(), envelope.content());
        return Met::Mismatch(Box::new(Mismatch::between(&record.replay_key, recorded, given)));
    }
    match &record.state.progress {
        Progress::Ended { outcome, .. } => Met::Recorded(outcome.clone()),
        Progress::Parked { reason } => Met::Parked(reason.clone()),
        Progress::Resting => Met::Resting(record.state.due_at.unwrap_or_default()),
        Progress::Open => Met::InDoubt,
    }
}

/// What follows an attempt that is over.
#[must_use]
pub fn ended(state: &EffectState, ended: Ended<Result<Value, EffectError>>, retry: &Retry, now: Timestamp) -> Next {
    match ended {
        Ended::Answered(Ok(output)) => Next::End(Outcome::Done(output)),
        Ended::Answered(Err(error)) if error.class == ErrorClass::Unknown => Next::Doubt(error.to_string()),
        Ended::Answered(Err(error)) if error.class == ErrorClass::Retryable => {
            // Attempts that ended in doubt took none of those that the policy gives to failures.
            let failed = state.attempt.saturating_sub(state.doubts);
            if failed < retry.attempts {
                Next::Rest { until: now.after(retry.wait(failed)), error }
            } else {
                Next::End(Outcome::Failed(EffectError { class: ErrorClass::Permanent, ..error }))
            }
        }
        Ended::Answered(Err(error)) => Next::End(Outcome::Failed(error)),
        Ended::InDoubt(doubt @ (Doubt::Deadline(_) | Doubt::Canceled | Doubt::Panic(_))) => {
            Next::Doubt(doubt.to_string())
        }
    }
}

/// What an effect in doubt needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settle {
    /// Another attempt under the same key.
    Again,
    /// The world is asked.
    Probe,
    /// An operator.
    Park,
}

/// How an effect in doubt is settled. One that nobody ever knows of is not tried without end.
#[must_use]
pub fn settle(state: &EffectState, policy: InDoubt) -> Settle {
    match policy {
        _ if state.doubts >= DOUBTS => Settle::Park,
        InDoubt::Rerun | InDoubt::SameKey => Settle::Again,
        InDoubt::Probe => Settle::Probe,
        InDoubt::Park => Settle::Park,
    }
}

impl EffectState {
    /// Another attempt of the same generation.
    pub fn again(&mut self, epoch: u64) {
        self.attempt += 1;
        self.epoch = epoch;
        self.due_at = None;
        self.progress = Progress::Open;
    }

    /// It was shown that this generation was not applied: a new one begins.
    pub fn not_applied(&mut self, epoch: u64) {
        self.generation += 1;
        self.again(epoch);
    }

    /// An attempt failed, and another one follows.
    pub fn rest(&mut self, epoch: u64, at: Timestamp, until: Timestamp, error: EffectError) {
        self.note(at, error);
        self.epoch = epoch;
        self.due_at = Some(until);
        self.progress = Progress::Resting;
    }

    /// It is over.
    pub fn end(&mut self, epoch: u64, at: Timestamp, outcome: Outcome, settled: Option<Settled>) {
        if let Outcome::Failed(error) = &outcome {
            self.note(at, error.clone());
        }
        self.epoch = epoch;
        self.due_at = None;
        self.progress = Progress::Ended { outcome, settled };
    }

    /// It waits for an operator.
    pub fn park(&mut self, epoch: u64, reason: String) {
        self.epoch = epoch;
        self.progress = Progress::Parked { reason };
    }

    fn note(&mut self, at: Timestamp, error: EffectError) {
        if self.failures.len() >= FAILURES {
            self.failures.remove(0);
        }
        self.failures.push(FailedAttempt { attempt: self.attempt, at, error });
    }
}

#[cfg(test)]
#[path = "record/tests.rs"]
mod tests;
