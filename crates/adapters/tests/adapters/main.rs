//! Adapters against real files, real git and real processes.
#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

mod workspace;
mod workspace_deliver;
mod workspace_hostile;
mod workspace_prepare;
mod workspace_remove;
mod workspace_scripts;
