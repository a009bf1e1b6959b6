//! Tests of the testkit itself.
#![allow(clippy::unwrap_used, reason = "tests say what they expect by failing")]

mod durable_crash;
mod durable_memory;
mod durable_recording;
mod forge;
mod model;
mod saga;
mod sim;
