//! The client side of the Agent Client Protocol, version 1.
//!
//! The protocol's own crate correlates requests and speaks its types. Between it and the child stands [`wire`]: it
//! bounds lines, tolerates what is no protocol, and handles session updates as they are read, so that a flood of them
//! slows the agent down instead of filling our memory.

mod fold;
mod link;
mod outcome;
mod permission;
mod session;
mod wire;

pub(crate) use wire::foreign;

use async_trait::async_trait;
use dalsegno_engine::core::{AgentPolicy, Failure};
use dalsegno_engine::{Agents, Launch, Started};
use tokio::process::Command;

use super::inside::workspace;
use crate::process::{Surroundings, shell};

/// Any agent that speaks the protocol, started by `agent.command` in a login shell.
#[derive(Debug, Clone, Copy, Default)]
pub struct AcpAgents;

#[async_trait]
impl Agents for AcpAgents {
    async fn preflight(&self, _policy: &AgentPolicy) -> Result<(), Failure> {
        // Whose program that is, and what it can be asked, only its own start tells.
        Ok(())
    }

    async fn start(&self, request: Launch) -> Result<Started, Failure> {
        let text = request.context.request.policy.agent.command.clone().unwrap_or_default();
        if text.trim().is_empty() {
            return Err(Failure::permanent("agent_not_found", "there is no command that starts the agent")
                .hint("set `agent.command` in WORKFLOW.md, for example `gemini --acp`"));
        }
        let command = shell(&text, &Surroundings::of_agent(&request)?);
        launch(command, request).await
    }
}

/// Starts `command` in the workspace and makes or resumes its session.
pub(super) async fn launch(mut command: Command, request: Launch) -> Result<Started, Failure> {
    let workspace = workspace(&request).await?;
    command.current_dir(&workspace);
    session::start(command, request, workspace).await
}
