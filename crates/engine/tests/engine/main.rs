//! The driver over doubles of all ports, on tokio's paused clock: waits of minutes take no time.
#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

mod doubt;
mod ending;
mod flood;
mod intents;
mod looks;
mod storage;
mod support;
mod time;
