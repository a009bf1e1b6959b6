//! Tests of the testkit itself.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod durable_memory;
mod durable_recording;
mod model;
mod sim;
