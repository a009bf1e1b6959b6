//! The real binary with the real database, real git and real processes; only the agent's answers are scripted.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop where it is")]
#![allow(clippy::print_stdout, reason = "seeds and figures of walks are printed for people")]

mod access;
mod bad_input;
mod broken;
mod browser;
mod checks;
mod codex;
mod commands;
mod corpora;
mod crash;
mod disks;
mod every_action;
mod files;
mod forge;
mod four_ways;
mod governed;
mod handoff;
mod http;
mod judge;
mod life;
mod lifeboat;
mod notify;
mod operate;
mod outside;
mod project;
mod reads;
mod restored;
mod scheduling;
mod served;
mod setup;
mod symphony_agent;
mod symphony_dispatch;
mod symphony_workflow;
#[path = "../../../core/tests/core/table.rs"]
mod table;
mod terminal;
mod webhooks;
