//! Integration tests of the adapters.
#![allow(clippy::unwrap_used, reason = "tests")]

mod tracker;
mod workflow;
