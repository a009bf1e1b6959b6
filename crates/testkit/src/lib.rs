//! What proves Dalsegno, and what proves an adapter or a host of somebody else's.

pub mod conformance;
pub mod crash;
pub mod doubles;
pub mod durable;
pub mod memory_reads;
pub mod model;
pub mod parts;
pub mod saga;
pub mod sim;
