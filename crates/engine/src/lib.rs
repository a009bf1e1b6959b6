//! The driver: a thin shell around the core's machine, and the ports to the outside world.

mod ports;

pub use dalsegno_core as core;
pub use ports::*;
