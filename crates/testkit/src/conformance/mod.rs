//! Conformance suites: one for every port, run by every implementation and every double.

pub mod agent;
pub mod durable;
pub mod tracker;
