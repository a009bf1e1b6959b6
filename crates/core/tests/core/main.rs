//! Tests of the machine through its public face: inputs in, outputs out.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![allow(clippy::wildcard_enum_match_arm, reason = "tests look at the cases that they need")]

mod action;
mod blobs;
mod breaker;
mod budget;
mod ceilings;
mod desk;
mod dispatch;
mod handoff;
mod ledger;
mod many;
mod names;
mod notify;
mod operate;
mod outside;
mod properties;
mod quota;
mod recovery;
mod restored;
mod retry;
mod sticky;
mod surface;
mod table;
mod turns;
mod webhook;
