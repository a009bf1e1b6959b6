//! Memory stores, conformance suites, crash harness, simulator.

pub mod conformance;
