//! Adapters: trackers, agents, workspaces, workflow files.

pub mod tracker;
pub mod workflow;
