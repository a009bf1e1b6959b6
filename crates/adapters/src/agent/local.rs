//! Agents that run as processes of this machine, chosen by the policy.

use std::path::PathBuf;

use async_trait::async_trait;
use dalsegno_engine::core::{AgentKind, AgentPolicy, Failure};
use dalsegno_engine::{Agents, Launch, Started};

use super::acp::launch;
use super::{AcpAgents, CodexAgents};
use crate::process::{Surroundings, command};

/// Looks at `agent.kind` and starts what it names.
#[derive(Debug, Clone)]
pub struct LocalAgents {
    program: PathBuf,
}

impl LocalAgents {
    /// `program` is the executable that understands `agent scripted …`: this one, except in tests.
    #[must_use]
    pub fn new(program: PathBuf) -> Self {
        Self { program }
    }

    async fn scripted(&self, request: Launch) -> Result<Started, Failure> {
        let policy = &request.context.request.policy;
        let Some(script) = policy.agent.script.clone() else {
            return Err(Failure::permanent("agent_start_failed", "the scripted agent has no script")
                .hint("set `agent.script` in WORKFLOW.md to a YAML file with its turns"));
        };
        let mut command = command(&self.program, &Surroundings::of_agent(&request)?);
        command.args(["agent", "scripted", "--script"]).arg(script);
        // One argument: an identifier that begins with a dash is no option.
        command.arg(format!("--issue={}", request.context.request.issue.identifier));
        command.arg("--state-dir").arg(&request.state_dir);
        launch(command, request).await
    }
}

#[async_trait]
impl Agents for LocalAgents {
    async fn preflight(&self, policy: &AgentPolicy) -> Result<(), Failure> {
        match policy.kind {
            AgentKind::Codex => CodexAgents::default().preflight(policy).await,
            AgentKind::Acp => AcpAgents.preflight(policy).await,
            AgentKind::Scripted => Ok(()),
        }
    }

    async fn start(&self, launch: Launch) -> Result<Started, Failure> {
        match launch.context.request.policy.agent.kind {
            AgentKind::Codex => CodexAgents::default().start(launch).await,
            AgentKind::Acp => AcpAgents.start(launch).await,
            AgentKind::Scripted => self.scripted(launch).await,
        }
    }
}
