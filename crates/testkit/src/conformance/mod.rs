//! Conformance suites for trackers, agents and durable hosts, each run by every implementation.

pub mod agent;
pub mod durable;
pub mod sagas;
pub mod tracker;
