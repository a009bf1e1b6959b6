//! Tests of the testkit itself.

mod durable_memory;
mod model;
mod sim;
