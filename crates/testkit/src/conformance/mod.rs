//! One suite per port. A suite is a set of cases; an implementation brings a fixture and runs them all.

pub mod agent;
