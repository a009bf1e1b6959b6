//! Sagas: effects on other people's systems that end together, done or undone, whatever happens in between.
//!
//! A [`SagaPlan`] is a graph of [`Step`]s. Steps before the *pivot* can be undone; from the pivot on, the saga only goes forward. A
//! [`SagaHost`] runs plans, and goes on with them after a crash, from what is recorded and nothing else.
//!
//! ```
//! # use std::sync::Arc;
//! # use dalsegno_durable::{MemoryStore, StoredHost, key::Secret};
//! # use dalsegno_durable::saga::{Dedup, SagaEnd, SagaHost, SagaPlan, Step, StepAnswer, StepCall, StepExecutor, output};
//! # use serde_json::{Value, json};
//! struct Shop;
//!
//! #[async_trait::async_trait]
//! impl StepExecutor for Shop {
//!     async fn act(&self, call: StepCall) -> StepAnswer {
//!         match call.step.as_str() {
//!             "reserve" => StepAnswer::Done(json!({"reservation": 17})),
//!             _ => StepAnswer::Done(Value::Null),
//!         }
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let plan = SagaPlan::sequence("order", 1, [
//!     Step::compensatable("reserve").dedup(Dedup::RemoteKey).undo(output("reserve", "/reservation")),
//!     Step::pivot("pay").dedup(Dedup::RemoteKey),
//!     Step::retriable("ship").dedup(Dedup::Natural).args(json!({"reservation": output("reserve", "/reservation")})),
//! ])?;
//! let host = SagaHost::new(StoredHost::new(Arc::new(MemoryStore::new(Secret::new([7; 32])))));
//! host.register("order", 1..=1, Arc::new(Shop));
//! let saga = host.start("order-17", plan).await?;
//! assert_eq!(saga.ended().await?, SagaEnd::Committed);
//! # Ok(())
//! # }
//! ```
//!
//! # The life of a step
//!
//! ```text
//!                   ┌───────────── due ────────────┐
//!                   ▼                              │
//! pending ──▶ awaiting approval ──▶ open ──not applied, retryable──▶ resting
//!    │              │                │ ├──not applied, for good──▶ not_applied      (turns the saga, or parks)
//!    └──────────────┴──────▶ open    │ ├──done──▶ done ──backward──▶ undo_open ⇄ undo_resting ──▶ undone
//!                                    │ └──unknown──▶ in_doubt ──probe or same key──▶ done, pending, open
//!                                    └── nobody can tell ──▶ parked ──settled──▶ as the operator says
//! ```
//!
//! # Invariants
//! - No call before its intent is recorded; no dependant starts, and nobody hears of an outcome, before that is recorded.
//! - The key of a call is made of saga, step, generation, and whether it does or undoes. The generation rises only after the step was
//!   undone or shown not to have been applied.
//! - Unknown becomes *not applied* by a probe or an operator, and by nothing else.
//! - Nothing is undone once the pivot is done; while it is in doubt, the saga moves in neither direction.
//! - After the end there is no call and no record.
//!
//! The parts: [`plan`] has what a saga is to do, [`event`] what is recorded, [`state`] the fold over that, [`machine`] what follows; they are
//! pure. [`host`] takes sagas up, and a runner performs each.

mod error;
pub mod event;
mod executor;
mod hold;
pub mod host;
mod log;
pub mod machine;
pub mod plan;
mod runner;
pub mod state;
mod view;

pub use error::SagaError;
pub use event::{Failure, Found, Role, SagaEnd, SagaEvent, Verb};
pub use executor::{StepCall, StepExecutor};
pub use hold::{Rest, Saga};
pub use host::{Resumed, SagaHost};
pub use machine::{Act, Decision, SagaMachine, StepAnswer};
pub use plan::{Counts, Dedup, InvalidPlan, Kind, Rule, SagaPlan, Step, output};
pub use state::{SagaState, StepState};
pub use view::{SagaView, StepView};
