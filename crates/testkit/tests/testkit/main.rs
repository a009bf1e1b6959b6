//! Tests of the testkit itself.

mod durable_crash;
mod durable_memory;
mod durable_recording;
mod model;
mod sim;
