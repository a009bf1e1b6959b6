//! HTTP: routes, event streams, and who may read what.
//!
//! The gateway holds no state of its own but links, sessions and counts (`access.rs`). It asks two ports: [`engine::Reads`](dalsegno_engine::Reads)
//! for what the journal and its projections say, and [`Control`] for what only a live daemon knows.
//!
//! # Invariants
//! - Every answer that is an error is the envelope of `dalsegno-api`, with a stable code. No input makes a 500.
//! - A read blocks a thread of the blocking pool, never the runtime, and never the writer.
//! - A stream reads pages from the store: a slow reader costs one page of memory and misses nothing.
//! - Text that people, agents or programs wrote reaches only callers with a token, titles excepted; of a reason others
//!   see its code. Only an operator or an admin writes.

mod access;
mod app;
mod convert;
mod costs;
pub mod foreign;
mod guard;
mod hooks;
mod inside;
mod listen;
mod looks;
mod metrics;
mod openapi;
mod pages;
mod params;
mod problem;
mod routes;
mod tails;
mod withhold;

pub use access::{Gate, Hash, Rate, Role, Token, Tokens, hash_of};
pub use app::{Access, App, Control, Limits, LiveRun, Offers, RefreshAnswer};
pub use inside::Inside;
pub use listen::serve;
pub use routes::router;
