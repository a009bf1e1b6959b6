//! The driver over doubles of all ports, on tokio's paused clock: waits of minutes take no time.
#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]
#![allow(clippy::wildcard_enum_match_arm, reason = "a test looks for the events that it names")]
#![allow(clippy::type_complexity, reason = "a table of cases is a list of tuples")]

mod doubt;
mod ending;
mod flood;
mod forge;
mod handoff;
mod intents;
mod looks;
mod records;
mod restored;
mod storage;
mod support;
mod time;
mod tools;
