//! The adapters against the suites and against the real world: processes, files, repositories.
#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

mod agent;
mod codex;
mod codex_cases;
mod forge;
mod sandbox;
mod symphony_tracker;
mod tracker;
mod workflow;
mod workspace;
mod workspace_bare;
mod workspace_change;
mod workspace_deliver;
mod workspace_diverged;
mod workspace_hostile;
mod workspace_plants;
mod workspace_prepare;
mod workspace_remove;
mod workspace_scripts;
mod worktree;
