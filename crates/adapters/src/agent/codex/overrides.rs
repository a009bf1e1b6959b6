//! What a thread and its turns run under: resent with every start, resume and turn, because a Codex that was killed may
//! have lost it.

use std::path::{Path, PathBuf};

use dalsegno_engine::core::{AgentPolicy, Sandbox, SandboxNetwork};
use serde_json::{Map, Value, json};

/// Parameters that come of the policy.
#[derive(Debug, Clone)]
pub(super) struct Overrides {
    workspace: PathBuf,
    policy: AgentPolicy,
}

impl Overrides {
    pub(super) fn new(workspace: &str, policy: &AgentPolicy) -> Self {
        Self { workspace: PathBuf::from(workspace), policy: policy.clone() }
    }

    /// Those of `thread/start` and `thread/resume`.
    pub(super) fn thread(&self) -> Map<String, Value> {
        let mut params = self.both();
        let sandbox =
            self.policy.codex.thread_sandbox.clone().unwrap_or_else(|| {
                Value::from(if self.contained() { "danger-full-access" } else { "workspace-write" })
            });
        params.insert("sandbox".to_owned(), sandbox);
        params
    }

    /// Those of `turn/start`. The repository is looked at each time: it may have been made since.
    pub(super) async fn turn(&self) -> Map<String, Value> {
        let mut params = self.both();
        let codex = &self.policy.codex;
        let sandbox = match (&codex.turn_sandbox_policy, &codex.thread_sandbox) {
            (Some(policy), _) => Some(policy.clone()),
            // The user chose for the thread; what we would choose for the turn would take it back.
            (None, Some(_)) => None,
            (None, None) if self.contained() => Some(json!({"type": "externalSandbox", "networkAccess": "enabled"})),
            (None, None) => {
                let workspace = self.workspace.clone();
                let roots = tokio::task::spawn_blocking(move || repository(&workspace)).await.unwrap_or_default();
                let roots: Vec<String> = roots.iter().filter_map(|path| path.to_str().map(str::to_owned)).collect();
                // The sandbox knows all or nothing; commands and the agent are not told apart.
                let network = self.policy.sandbox_network == SandboxNetwork::All;
                Some(json!({"type": "workspaceWrite", "writableRoots": roots, "networkAccess": network}))
            }
        };
        params.extend(sandbox.map(|sandbox| ("sandboxPolicy".to_owned(), sandbox)));
        params
    }

    fn both(&self) -> Map<String, Value> {
        let mut params = Map::new();
        params.insert("cwd".to_owned(), Value::from(self.workspace.to_string_lossy().into_owned()));
        let approval = self.policy.codex.approval_policy.clone().unwrap_or_else(|| Value::from("on-request"));
        params.insert("approvalPolicy".to_owned(), approval);
        if let Some(model) = &self.policy.model {
            params.insert("model".to_owned(), Value::from(model.clone()));
        }
        params
    }

    /// Something of ours contains the agent already.
    fn contained(&self) -> bool {
        match self.policy.sandbox {
            Sandbox::None => false,
            Sandbox::Bubblewrap | Sandbox::Command(_) => true,
        }
    }
}

/// What a commit in the workspace writes: its `.git`, or, for a worktree, the repository and the worktree's place in
/// it. Codex's sandbox makes them read-only unless they are named.
///
/// An agent can write `.git`, so it is not believed: a place outside the workspace counts only when it names this
/// workspace as its worktree and is where a repository has its worktrees.
fn repository(workspace: &Path) -> Vec<PathBuf> {
    let Ok(workspace) = workspace.canonicalize() else { return Vec::new() };
    let git = workspace.join(".git");
    let Ok(meta) = git.symlink_metadata() else { return Vec::new() };
    if meta.is_dir() {
        return vec![git];
    }
    if !meta.is_file() || meta.len() > 4096 {
        return Vec::new();
    }
    worktree(&workspace, &git).unwrap_or_default()
}

fn worktree(workspace: &Path, git: &Path) -> Option<Vec<PathBuf>> {
    let named = std::fs::read_to_string(git).ok()?;
    let place = workspace.join(named.strip_prefix("gitdir:")?.trim()).canonicalize().ok()?;
    let back = place.join("gitdir");
    if back.symlink_metadata().ok().is_none_or(|meta| !meta.is_file() || meta.len() > 4096) {
        return None;
    }
    let back = place.join(std::fs::read_to_string(back).ok()?.trim()).canonicalize().ok()?;
    let worktrees = place.parent().filter(|path| path.file_name().is_some_and(|name| name == "worktrees"))?;
    let common = worktrees.parent()?;
    let repository = common.join("objects").is_dir() && common.join("HEAD").is_file();
    (back == git && repository).then(|| vec![common.to_owned(), place.clone()])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

    use std::process::Command;

    use dalsegno_engine::core::AgentKind;

    use super::*;

    fn git(dir: &Path, args: &[&str]) {
        let done = Command::new("git")
            .current_dir(dir)
            .args(["-c", "user.name=a", "-c", "user.email=a@b"])
            .args(args)
            .env("HOME", dir)
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .output()
            .unwrap();
        assert!(done.status.success(), "{done:?}");
    }

    #[test]
    fn a_clone_has_its_git_and_a_worktree_the_repository_too() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let (main, tree) = (root.join("main"), root.join("tree"));
        std::fs::create_dir(&main).unwrap();
        git(&main, &["init", "-q"]);
        git(&main, &["commit", "-q", "--allow-empty", "-m", "x"]);
        git(&main, &["worktree", "add", "-q", tree.to_str().unwrap()]);
        assert_eq!(repository(&main), [main.join(".git")]);
        assert_eq!(repository(&tree), [main.join(".git"), main.join(".git/worktrees/tree")]);
        assert!(repository(&root).is_empty(), "no repository");
    }

    #[test]
    fn what_an_agent_wrote_into_git_opens_nothing_outside() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let (workspace, home) = (root.join("workspace"), root.join("home"));
        for made in [&workspace, &home, &home.join("worktrees/x"), &home.join("objects")] {
            std::fs::create_dir_all(made).unwrap();
        }
        std::fs::write(home.join("HEAD"), "x").unwrap();
        let place = home.join("worktrees/x");
        std::fs::write(workspace.join(".git"), format!("gitdir: {}\n", place.display())).unwrap();
        assert!(repository(&workspace).is_empty(), "the place does not name the workspace");
        std::fs::write(place.join("gitdir"), format!("{}\n", root.join("elsewhere/.git").display())).unwrap();
        assert!(repository(&workspace).is_empty(), "the place names another workspace");
        std::fs::remove_file(workspace.join(".git")).unwrap();
        std::os::unix::fs::symlink(&home, workspace.join(".git")).unwrap();
        assert!(repository(&workspace).is_empty(), "a link");
    }

    #[tokio::test]
    async fn the_users_own_keys_win() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().to_str().unwrap();
        std::fs::create_dir(dir.path().join(".git")).unwrap();
        let mut policy = AgentPolicy::of(AgentKind::Codex);
        let ours = Overrides::new(path, &policy);
        assert_eq!(ours.thread().get("sandbox"), Some(&json!("workspace-write")));
        let turn = ours.turn().await;
        let sandbox = turn.get("sandboxPolicy").unwrap();
        assert_eq!(sandbox.get("writableRoots").unwrap().as_array().unwrap().len(), 1);
        assert_eq!(turn.get("approvalPolicy"), Some(&json!("on-request")));
        assert!(!turn.contains_key("model"));

        policy.sandbox = Sandbox::Bubblewrap;
        policy.model = Some("m".to_owned());
        let contained = Overrides::new(path, &policy);
        assert_eq!(contained.thread().get("sandbox"), Some(&json!("danger-full-access")));
        assert_eq!(contained.turn().await.get("sandboxPolicy").unwrap().get("type"), Some(&json!("externalSandbox")));
        assert_eq!(contained.turn().await.get("model"), Some(&json!("m")));

        policy.codex.thread_sandbox = Some(json!("read-only"));
        policy.codex.approval_policy = Some(json!("untrusted"));
        let thread = Overrides::new(path, &policy);
        assert_eq!(thread.thread().get("sandbox"), Some(&json!("read-only")));
        assert_eq!(thread.turn().await.get("sandboxPolicy"), None);
        assert_eq!(thread.turn().await.get("approvalPolicy"), Some(&json!("untrusted")));

        policy.codex.turn_sandbox_policy = Some(json!({"type": "readOnly"}));
        let turn = Overrides::new(path, &policy);
        assert_eq!(turn.turn().await.get("sandboxPolicy"), Some(&json!({"type": "readOnly"})));
    }
}
