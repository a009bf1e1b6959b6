//! A remote, a project that was cloned from it, and a daemon's workspaces.

use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use dalsegno_adapters::workspace::LocalWorkspaces;
use dalsegno_engine::core::{
    AgentKind, AgentPolicy, CommitId, Effect, EffectId, EffectRequest, Failure, HandoffPolicy, Issue, KnownBranch,
    Policy, RunId, Workspace, WorkspacePolicy, WorkspaceStrategy,
};
use dalsegno_engine::{Context, Workflow, Workspaces as _};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

/// Contexts that were made, over all tests.
static CALLS: AtomicU64 = AtomicU64::new(0);

thread_local! {
    /// Of the worlds that are made in this thread.
    static STRATEGY: Cell<WorkspaceStrategy> = const { Cell::new(WorkspaceStrategy::Clone) };
}

/// Runs a test in worlds whose workspaces are worktrees.
pub(crate) fn on_worktrees(test: impl FnOnce()) {
    STRATEGY.set(WorkspaceStrategy::Worktree);
    test();
}

/// Renders the one variable that the tests use.
struct PlainWorkflow;

impl Workflow for PlainWorkflow {
    fn load(&self) -> Result<Policy, Failure> {
        Err(Failure::permanent("missing_workflow_file", "the tests make their policies"))
    }

    fn changed(&self) -> bool {
        false
    }

    fn render(&self, template: &str, issue: &Issue, _attempt: Option<u32>) -> Result<String, Failure> {
        Ok(template.replace("{{ issue.identifier }}", &issue.identifier).replace("{{ issue.title }}", &issue.title))
    }
}

/// Runs git as a user would, and answers what it says.
pub(crate) fn git(dir: &Path, args: &[&str]) -> String {
    let output = Command::new("git")
        .args(["-c", "user.name=Ann", "-c", "user.email=ann@example.org", "-c", "protocol.file.allow=always"])
        .args(args)
        .current_dir(dir)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .output()
        .unwrap();
    assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}

/// What git calls `.git/<name>` in a workspace, wherever that is.
pub(crate) fn within(workspace: &Path, name: impl AsRef<Path>) -> PathBuf {
    let (dot_git, name) = (workspace.join(".git"), name.as_ref());
    if dot_git.is_dir() {
        return dot_git.join(name);
    }
    let git_dir = PathBuf::from(fs::read_to_string(dot_git).unwrap().trim().strip_prefix("gitdir: ").unwrap());
    let own = ["HEAD", "index", "index.lock", "HEAD.lock", "index.dalsegno", "MERGE_HEAD", "logs/HEAD"];
    if own.iter().any(|own| Path::new(own) == name) {
        return git_dir.join(name);
    }
    git_dir.ancestors().nth(2).unwrap().join(name)
}

/// Commits a file in a repository with a work tree; answers the commit.
pub(crate) fn commit_file(dir: &Path, name: &str, text: &str) -> CommitId {
    fs::write(dir.join(name), text).unwrap();
    git(dir, &["add", "-A"]);
    git(dir, &["commit", "-q", "-m", name]);
    CommitId(git(dir, &["rev-parse", "HEAD"]))
}

pub(crate) struct World {
    pub(crate) dir: TempDir,
    pub(crate) policy: Policy,
    pub(crate) issue: Issue,
    pub(crate) workspace: Option<Workspace>,
    pub(crate) known_branch: Option<KnownBranch>,
    pub(crate) workspaces: LocalWorkspaces,
    pub(crate) cancel: CancellationToken,
    pub(crate) run: String,
    /// Of the effect that is performed; `None`: another one each time.
    pub(crate) key: Option<String>,
}

impl World {
    /// A bare remote with one commit on `main`, and a project whose `origin` it is.
    pub(crate) fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let at = dir.path().canonicalize().unwrap();
        fs::create_dir(at.join("remote.git")).unwrap();
        git(&at.join("remote.git"), &["init", "-q", "--bare", "-b", "main"]);
        fs::create_dir(at.join("project")).unwrap();
        let project = at.join("project");
        git(&project, &["init", "-q", "-b", "main"]);
        git(&project, &["remote", "add", "origin", &at.join("remote.git").display().to_string()]);
        fs::write(project.join(".gitignore"), "*.ignored\n").unwrap();
        commit_file(&project, "a.txt", "one\n");
        git(&project, &["push", "-q", "origin", "main"]);
        let workspaces = LocalWorkspaces::new(at.join("state"), Arc::new(PlainWorkflow));
        let policy = policy(&at);
        let cancel = CancellationToken::new();
        Self {
            dir,
            policy,
            issue: issue("DS-1"),
            workspace: None,
            known_branch: None,
            workspaces,
            cancel,
            run: "run-1".to_owned(),
            key: None,
        }
    }

    /// The same machine after the daemon's process was replaced.
    pub(crate) fn restart(&mut self) {
        self.workspaces = LocalWorkspaces::new(self.at("state"), Arc::new(PlainWorkflow));
    }

    pub(crate) fn at(&self, name: &str) -> PathBuf {
        self.dir.path().canonicalize().unwrap().join(name)
    }

    pub(crate) fn remote(&self) -> PathBuf {
        self.at("remote.git")
    }

    pub(crate) fn bare(&self) -> PathBuf {
        let mut found: Vec<PathBuf> =
            fs::read_dir(self.at("state/repos")).unwrap().map(|e| e.unwrap().path()).collect();
        found.retain(|path| path.extension().is_some_and(|it| it == "git"));
        assert_eq!(found.len(), 1, "{found:?}");
        found.remove(0)
    }

    /// Another issue, of which nothing is known yet.
    pub(crate) fn turn_to(&mut self, identifier: &str) {
        self.issue = issue(identifier);
        self.workspace = None;
        self.known_branch = None;
        self.run = format!("run-{identifier}");
    }

    /// The commit of a branch on the remote.
    pub(crate) fn remote_branch(&self, name: &str) -> Option<CommitId> {
        let said = git(&self.remote(), &["for-each-ref", "--format=%(objectname)", &format!("refs/heads/{name}")]);
        Some(said).filter(|text| !text.is_empty()).map(CommitId)
    }

    /// Somebody else commits on a branch of the remote; answers the commit.
    pub(crate) fn somebody_pushes(&self, branch: &str, from: &str, file: &str) -> CommitId {
        let other = TempDir::new().unwrap();
        git(other.path(), &["clone", "-q", &self.remote().display().to_string(), "."]);
        git(other.path(), &["checkout", "-q", "-B", branch, from]);
        let commit = commit_file(other.path(), file, "theirs\n");
        git(other.path(), &["push", "-q", "origin", branch]);
        commit
    }

    pub(crate) fn context(&self) -> Context {
        Context {
            request: Arc::new(EffectRequest {
                id: EffectId(1),
                key: self.key.clone().unwrap_or_else(|| format!("key-{}", CALLS.fetch_add(1, Ordering::Relaxed))),
                attempt: 1,
                issue: self.issue.clone(),
                run: Some(RunId::from(self.run.as_str())),
                policy: Arc::new(self.policy.clone()),
                policy_hash: "policy".into(),
                workspace: self.workspace.clone(),
                known_branch: self.known_branch.clone(),
                restored: false,
                grants: Vec::new(),
                unwanted: false,
                effect: Effect::PrepareWorkspace { fresh: false },
            }),
            mark: format!("test-{}", self.dir.path().display()),
            secret_names: Vec::new(),
            cancel: self.cancel.clone(),
        }
    }

    /// Prepares and remembers as the journal does; answers the directory.
    pub(crate) async fn prepare(&mut self) -> PathBuf {
        let (workspace, _) = self.workspaces.prepare(&self.context(), false).await.unwrap();
        let path = PathBuf::from(&workspace.path);
        self.workspace = Some(workspace);
        path
    }

    /// A prepared workspace with one commit of the agent, fetched; answers directory and commit.
    pub(crate) async fn worked(&mut self) -> (PathBuf, CommitId) {
        let path = self.prepare().await;
        let commit = commit_file(&path, "work.txt", "done\n");
        assert_eq!(self.workspaces.fetch_commit(&self.context()).await.unwrap(), commit);
        (path, commit)
    }
}

pub(crate) fn issue(identifier: &str) -> Issue {
    Issue::new("id-1", identifier, "Make it work", "Todo")
}

fn policy(at: &Path) -> Policy {
    let text = |name: &str| at.join(name).display().to_string();
    let workspace =
        WorkspacePolicy { strategy: STRATEGY.get(), ..WorkspacePolicy::of(text("workspaces"), text("project")) };
    Policy {
        handoff: Some(HandoffPolicy { check_timeout_ms: 60_000, ..HandoffPolicy::default() }),
        ..Policy::of(text("project"), workspace, AgentPolicy::of(AgentKind::Scripted))
    }
}
