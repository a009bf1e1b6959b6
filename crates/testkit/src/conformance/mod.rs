//! Conformance suites for trackers, forges, agents and durable hosts, each run by every implementation.

pub mod agent;
pub mod durable;
pub mod forge;
pub mod sagas;
pub mod tracker;
