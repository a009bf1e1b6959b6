//! The crash suite: a script of what a durable host promises, played in a process of its own, killed at a point, played again to its
//! end, and judged from another process.
//!
//! For hosts that claim durability. A test gives the hosts and a way to look at the database from beside ([`World::new`]); the
//! child calls [`play`], the parent walks the points with [`crate::crash::walk`] and calls [`judge`] on each scene. The script's executors write
//! to a ledger that is synced line by line, as the world outside keeps what was done to it: what the host recorded is compared with that.

mod judge;
mod script;
mod world;

pub use judge::judge;
pub use script::play;
pub use world::{Recorded, World};
