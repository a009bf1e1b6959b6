//! The driver: a thin shell around the core's machine, and the ports to the outside world.

mod policy_hash;
mod ports;

pub use dalsegno_core as core;
pub use policy_hash::policy_hash;
pub use ports::*;
