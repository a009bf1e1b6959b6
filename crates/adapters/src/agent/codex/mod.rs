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

pub(crate) use wire::foreign;

#[cfg(test)]
mod schema;

use std::ffi::OsString;
use std::time::Duration;

use async_trait::async_trait;
use dalsegno_engine::core::{AgentPolicy, Failure};
use dalsegno_engine::{Agents, Launch, Started};
use tokio_util::sync::CancellationToken;

use super::inside::workspace;
use crate::process::{Surroundings, run_bounded, shell};

/// What starts Codex when `agent.command` does not say it (Symphony §5.3.6).
const DEFAULT_COMMAND: &str = "codex app-server";
/// Keeps it from calling home: no catalogue of plugins, no look for a newer version. Only behind our own command.
const QUIET: &str = " --disable plugins -c check_for_update_on_startup=false";

/// Longest look for the program at the start.
const LOOK_LIMIT: Duration = Duration::from_secs(10);

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
    /// Whether the program that the command begins with is there, as far as a login shell can tell.
    async fn preflight(&self, policy: &AgentPolicy) -> Result<(), Failure> {
        let script = script(policy.command.as_deref());
        // A first word with more than a name in it, or one that sets a variable, is the shell's to read.
        let plain = |word: &str| word.chars().all(|c| c.is_ascii_alphanumeric() || "._-/+".contains(c));
        let Some(program) = script.split_whitespace().next().filter(|word| plain(word)) else { return Ok(()) };
        let surroundings = Surroundings { mark: "preflight".to_owned(), secret_names: Vec::new(), cell: None };
        let look = shell(&format!("command -v {program}"), &surroundings);
        let looked = run_bounded(look, None, LOOK_LIMIT, &CancellationToken::new(), 1024).await?;
        // A shell that could not be asked says nothing about the program.
        if looked.success() || looked.timed_out {
            return Ok(());
        }
        Err(Failure::permanent("agent_not_found", format!("`{program}`, which starts the agent, is not there"))
            .hint("install Codex (`npm install -g @openai/codex`), or set agent.command in WORKFLOW.md; it runs in a login shell (`bash -lc`)"))
    }

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
