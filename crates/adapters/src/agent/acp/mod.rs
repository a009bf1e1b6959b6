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

use async_trait::async_trait;
use dalsegno_engine::core::Failure;
use dalsegno_engine::{Agents, Launch, Started};
use tokio::process::Command;

use crate::process::{Surroundings, shell};

/// Any agent that speaks the protocol, started by `agent.command` in a login shell.
#[derive(Debug, Clone, Copy, Default)]
pub struct AcpAgents;

#[async_trait]
impl Agents for AcpAgents {
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
    let Some(workspace) = request.context.request.workspace.as_ref().map(|workspace| workspace.path.clone()) else {
        return Err(Failure::permanent("agent_start_failed", "the run has no workspace to start its agent in"));
    };
    contained(&request.context.request.policy.workspace.root, &workspace).await?;
    command.current_dir(&workspace);
    session::start(command, request, workspace).await
}

/// A plain directory below the root, symbolic links resolved. Looked at before each start: a resumed run does not make
/// its workspace again, and its agent could have put a link there.
async fn contained(root: &str, workspace: &str) -> Result<(), Failure> {
    let there = tokio::fs::symlink_metadata(workspace).await.is_ok_and(|meta| meta.is_dir() || meta.is_symlink());
    if !there {
        return Err(Failure::retryable("agent_start_failed", format!("the workspace {workspace} is not there"))
            .hint("it is made anew by the next run"));
    }
    let resolved = (tokio::fs::canonicalize(root).await, tokio::fs::canonicalize(workspace).await);
    let plain = tokio::fs::symlink_metadata(workspace).await.is_ok_and(|meta| meta.is_dir());
    match resolved {
        (Ok(root), Ok(path)) if plain && path != root && path.starts_with(&root) => Ok(()),
        _ => Err(Failure::permanent(
            "workspace_outside_root",
            format!("{workspace} is not a plain directory below the workspace root {root}"),
        )
        .hint("remove the symbolic link, or set workspace.root to where the workspaces are")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

    use std::path::Path;

    use super::*;

    #[tokio::test]
    async fn an_agent_starts_in_a_plain_directory_below_the_root_and_nowhere_else() {
        let dir = tempfile::tempdir().unwrap();
        let (root, outside) = (dir.path().join("root"), dir.path().join("outside"));
        for made in [&root, &outside, &root.join("DS-1")] {
            std::fs::create_dir(made).unwrap();
        }
        std::os::unix::fs::symlink(&outside, root.join("DS-2")).unwrap();
        std::fs::write(root.join("DS-3"), "a file").unwrap();
        let verdict = async |workspace: &Path| {
            contained(root.to_str().unwrap(), workspace.to_str().unwrap()).await.map_err(|failure| failure.code)
        };
        assert_eq!(verdict(&root.join("DS-1")).await, Ok(()));
        for escape in [root.join("DS-2"), outside.clone(), root.clone(), root.join("DS-1/../../outside")] {
            assert_eq!(verdict(&escape).await, Err("workspace_outside_root".to_owned()), "{}", escape.display());
        }
        for gone in [root.join("DS-3"), root.join("DS-4")] {
            assert_eq!(verdict(&gone).await, Err("agent_start_failed".to_owned()), "{}", gone.display());
        }
    }
}
