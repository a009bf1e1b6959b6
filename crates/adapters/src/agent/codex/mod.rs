//! Codex, through its app-server: JSON-RPC in lines over standard input and output.
//!
//! [`wire`] correlates and bounds, [`listener`] folds what is told as it is read, [`asks`] answers what Codex asks,
//! [`session`] starts, resumes, prompts, interrupts. What we send and read is checked against the schema that the
//! pinned version prints of itself.

mod asks;
mod calls;
mod handshake;
mod history;
mod items;
mod limits;
mod listener;
mod outcome;
mod overrides;
mod session;
mod tokens;
mod wire;

use std::ffi::OsString;

use async_trait::async_trait;
use dalsegno_engine::core::Failure;
use dalsegno_engine::{Agents, Launch, Started};

use super::inside::workspace;
use crate::process::{Surroundings, shell};

/// What starts Codex when `agent.command` does not say it (Symphony §5.3.6).
const DEFAULT_COMMAND: &str = "codex app-server";
/// Keeps it from calling home: no catalogue of plugins, no look for a newer version. Only behind our own command.
const QUIET: &str = " --disable plugins -c check_for_update_on_startup=false";

/// Codex, started by `agent.command` in a login shell.
#[derive(Debug, Clone, Default)]
pub struct CodexAgents {
    variables: Vec<(OsString, OsString)>,
}

impl CodexAgents {
    /// Further variables of the environment that Codex is started in; for tests, which have a home of their own.
    #[must_use]
    pub fn with_variables(variables: Vec<(OsString, OsString)>) -> Self {
        Self { variables }
    }
}

#[async_trait]
impl Agents for CodexAgents {
    async fn start(&self, request: Launch) -> Result<Started, Failure> {
        let text = script(request.context.request.policy.agent.command.as_deref());
        let workspace = workspace(&request).await?;
        let mut command = shell(&text, &Surroundings::of_agent(&request)?);
        command.current_dir(&workspace).envs(self.variables.iter().map(|(name, value)| (name, value)));
        session::start(command, request, workspace).await
    }
}

/// The shell command that is run.
fn script(command: Option<&str>) -> String {
    match command.map(str::trim).filter(|command| !command.is_empty()) {
        Some(command) if command != DEFAULT_COMMAND => command.to_owned(),
        Some(_) | None => format!("{DEFAULT_COMMAND}{QUIET}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_command_gets_switches() {
        let quiet = "codex app-server --disable plugins -c check_for_update_on_startup=false";
        for ours in [None, Some(""), Some(" codex app-server ")] {
            assert_eq!(script(ours), quiet);
        }
        assert_eq!(script(Some("codex -p work app-server")), "codex -p work app-server");
    }
}
