//! Durable effects and waits.
//!
//! An *effect* is one interaction with the outside world. Its intent is recorded before it is executed, its outcome after; an effect whose
//! outcome is recorded is never executed again, whoever asks. A *wait* is a promise that is resolved once, by whoever has its
//! key. Both live in a *scope*, which is opened and ended.
//!
//! ```
//! # use std::sync::Arc;
//! # use dalsegno_durable::{EffectError, EffectHost, ExecutionScope, MemoryStore, StoredHost, key::Secret};
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), dalsegno_durable::DurableError> {
//! let host = StoredHost::new(Arc::new(MemoryStore::new(Secret::new([7; 32]))));
//! let scope = host.scoped(ExecutionScope::turn("session-1", "turn-1")).await?;
//! let words = "the quick brown fox";
//! let count = || async { Ok::<u64, EffectError>(words.split(' ').count() as u64) };
//! assert_eq!(scope.step("count", words, count).await?, 4);
//! // The second time it is not run: what was recorded is told.
//! assert_eq!(scope.step("count", words, || async { Ok::<u64, EffectError>(0) }).await?, 4);
//! # Ok(())
//! # }
//! ```
//!
//! # What a call meets
//!
//! | in the store | what happens |
//! |---|---|
//! | nothing | the intent is recorded, the executor runs, the outcome is recorded and returned |
//! | an outcome | it is returned; nothing runs |
//! | an intent or outcome with another hash | [`DurableError::ReplayMismatch`]; nothing runs |
//! | an intent that somebody is executing | that one's outcome, when it is there |
//! | an intent that nobody is executing | *in doubt*: [`InDoubt`] says how it is settled |
//! | a failed attempt whose successor is not due | it is waited for, then tried again |
//! | a tombstone | [`DurableError::ScopeEnded`] |
//!
//! # Invariants
//! - No executor runs before its intent is recorded; no caller hears an outcome before it is recorded.
//! - The idempotency key is the same for every attempt of a generation. A generation ends only when it was shown not to have been applied.
//! - A failing store is no failing effect: what it could not answer is unknown, and is read again.
//! - Whoever lost a scope records nothing in it any more.
//! - A wait has one end, the first. Its deadline is counted once, over all processes.
//! - Rules ([`record`], [`wait`], [`canonical`]) are pure; time enters them as an argument, and nothing iterates over an unordered map.
//!
//! The parts: [`host`] has the traits and the calls; [`StoredHost`] is the runner over any [`store::DurableStore`];
//! [`MemoryStore`] is one of those. [`attempt`](mod@attempt) makes sure that a try always ends, and [`key`] makes keys and markers.

pub mod attempt;
pub mod canonical;
pub mod clock;
pub mod envelope;
mod error;
pub mod foreign;
pub mod host;
pub mod key;
mod memory;
pub mod mismatch;
pub mod record;
pub mod saga;
mod scope;
pub mod store;
mod stored;
pub mod wait;
mod waiters;

pub use canonical::ContentHash;
pub use clock::{Clock, SystemClock, Timestamp};
pub use envelope::{Command, EffectKind, Envelope, Fingerprint, InDoubt, Invocation, ToolRequest};
pub use error::{DurableError, EffectError, ErrorClass};
pub use host::{Call, Effect, EffectHost, EffectPlan, Probed, Scope, ScopeController};
pub use memory::MemoryStore;
pub use mismatch::Mismatch;
pub use record::{EffectRecord, EffectState, Outcome, Progress, Retry, Settled, Settlement};
pub use scope::{ExecutionScope, NAME_BYTES, RuntimeScope};
pub use store::{Claim, DurableStore, Entry, StoreError};
pub use stored::{HostOptions, StoredHost};
pub use wait::{Resolution, Resolved, WaitKey};
