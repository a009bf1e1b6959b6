//! The driver: a thin shell around the core's machine, and the ports to the outside world.
//!
//! # Invariants
//! - Nothing is performed before its intent is committed: the machine releases effects only then.
//! - A failed append ends the daemon before anything else is performed.
//! - Every effect ends: outcome or in doubt. One failing effect never holds up another.
//! - Every look ends: answer or failure, and is made again.
//! - No task outlives the loop, and the loop's end is bounded.
//! - Every channel is bounded; whoever brings more waits.

mod allocator;
mod changes;
mod clocks;
pub mod crash;
mod driver;
mod entries;
mod executor;
mod forge;
mod handoff;
mod journal_log;
mod live;
mod policy_hash;
mod ports;
mod prompt;
mod reads;
mod toolbox;

pub use changes::*;
pub use dalsegno_core as core;
pub use dalsegno_durable::attempt::CANCEL_GRACE;
pub use driver::{Driver, DriverEnd, DriverError, DriverHandle, DriverOptions};
pub use entries::Entries;
pub use executor::World;
pub use forge::*;
pub use handoff::{handoff_plan, handoff_progress, left_by_us};
pub use live::{LastSign, RateLimits};
pub use policy_hash::{content_hash, policy_hash};
pub use ports::*;
pub use reads::*;
