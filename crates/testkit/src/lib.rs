//! What tests need: conformance suites that every implementation of a port passes.

pub mod conformance;
