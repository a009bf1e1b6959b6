//! Workspaces on this machine: a directory for each issue, and the daemon's own bare repository for each remote.
//!
//! An agent may write anything into its workspace, the git configuration included, and git runs much of what is
//! configured: it is hostile ground. So:
//! - A workspace is a repository of its own, with copied objects and without a remote.
//! - No call on a workspace has credentials, reads the user's configuration, or may fetch anything.
//! - Calls on the work tree do not read the workspace's configuration either (`work.rs`).
//! - Results are fetched into the bare repository; checks and pushes start from there.
//! - With `agent.sandbox`, git in a workspace and the upload side of a fetch from it run in a sandbox, and so do checks.
//!   The project's own scripts (hooks) do not.

mod change;
mod check;
mod deliver;
mod digest;
mod git;
mod held;
mod hook;
mod key;
mod layout;
mod links;
mod locks;
mod patch;
mod place;
mod prepare;
mod repository;
mod survey;
mod upkeep;
mod work;

pub(crate) use patch::foreign;
pub(crate) use repository::foreign as foreign_refs;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use dalsegno_engine::core::{CommitId, Failure, Hook, Policy, ProbeAnswer, Workspace, WorkspaceStrategy};
use dalsegno_engine::{Checked, Context, Workflow, Workspaces};
use tokio::sync::{Mutex, OnceCell};

pub use key::{branch_name, workspace_key};
pub use survey::bytes_on_disk;

/// Below the root: the repositories of worktrees, which agents write.
pub(crate) const SHARED_REPOSITORIES: &str = ".dalsegno/shared";

use crate::process::ready;
use git::Caller;
use layout::Layout;
use locks::remove_locks;
use place::{Found, Marker, Place, blocking, contained, remove_tree, resolved_root};
use repository::{Remote, Repositories};
use upkeep::smells_of_damage;
use work::Work;

/// What is kept of the output of a script.
const MAX_TAIL_BYTES: usize = 4 * 1024;
/// A title is one line; what is longer than this is cut where it goes into a commit or an environment.
const MAX_TITLE_BYTES: usize = 4 * 1024;

/// URL or path of the remote that a run's work goes to.
///
/// # Errors
/// `repo_not_found`, `remote_not_found`.
pub(crate) async fn remote_url(context: &Context) -> Result<String, Failure> {
    Ok(Remote::of(&Caller::of(context), &context.request.policy).await?.url)
}

/// Directories that issues own, below the policy's root on this machine.
pub struct LocalWorkspaces {
    state_dir: PathBuf,
    workflow: Arc<dyn Workflow>,
    repositories: Repositories,
    tidied: OnceCell<()>,
    /// For what we bring into repositories that worktrees share: git waits for no lock of a ref that another call holds.
    sharing: Mutex<()>,
}

impl LocalWorkspaces {
    /// Keeps its repositories in `<state_dir>/repos`, and what it needs for a while in `checks` and `scratch` beside it.
    /// Nothing is touched before the first call. Templates of branch names are rendered by `workflow`.
    #[must_use]
    pub fn new(state_dir: impl Into<PathBuf>, workflow: Arc<dyn Workflow>) -> Self {
        Self {
            state_dir: state_dir.into(),
            workflow,
            repositories: Repositories::default(),
            tidied: OnceCell::new(),
            sharing: Mutex::new(()),
        }
    }

    fn scratch(&self) -> PathBuf {
        self.state_dir.join("scratch")
    }

    /// Removes what a dead daemon left half-done; once in a process's life, before anything new is put there.
    async fn tidy(&self) -> Result<(), Failure> {
        self.tidied
            .get_or_try_init(|| {
                let dirs = [self.scratch(), self.state_dir.join("checks")];
                blocking("state_dir_unusable", "the state directory", move || {
                    dirs.iter().try_for_each(|dir| remove_tree(dir))
                })
            })
            .await
            .copied()
    }

    /// Whether what failed is worth another try at once: our own repository was damaged, and is whole again. Others'
    /// commits are not held up by one that a power cut took the objects of.
    ///
    /// # Errors
    /// `repo_unusable`.
    async fn mended(&self, context: &Context, failed: Option<&Failure>) -> Result<bool, Failure> {
        if !failed.is_some_and(smells_of_damage) {
            return Ok(false);
        }
        let caller = Caller::of(context);
        let remote = Remote::of(&caller, &context.request.policy).await?;
        self.repositories.mend(&caller, &self.state_dir, &remote).await
    }

    /// The run's own commit may be what was lost; the workspace has it still. If not, what needs it says so.
    async fn take_again(&self, context: &Context) {
        if let Err(failure) = self.take(context).await {
            tracing::warn!(%failure, "the commit of the run could not be fetched again");
        }
    }

    async fn workspace_dir(&self, context: &Context) -> Result<(Workspace, PathBuf), Failure> {
        let Some(workspace) = context.request.workspace.clone() else {
            let identifier = &context.request.issue.identifier;
            return Err(Failure::permanent(
                "workspace_missing",
                format!("the journal knows no workspace of {identifier}"),
            )
            .hint("a new run makes one"));
        };
        let path = contained(&context.request.policy, &workspace.path).await?;
        Ok((workspace, path))
    }

    async fn open<'a>(
        &self,
        caller: &'a Caller,
        policy: &Policy,
        workspace: &Workspace,
        path: &Path,
    ) -> Result<Option<Work<'a>>, Failure> {
        let work = Work::open(caller, policy, path, &self.scratch()).await?;
        if work.is_none() && workspace.branch.is_some() {
            return Err(Failure::permanent(
                "workspace_unreadable",
                format!("{} has no git repository any more", path.display()),
            )
            .hint("save what is of use in it, remove it and let a new run make it anew"));
        }
        Ok(work)
    }
}

#[async_trait]
impl Workspaces for LocalWorkspaces {
    async fn preflight(&self, policy: &Policy) -> Result<(), Failure> {
        resolved_root(policy).await?;
        ready(policy).await?;
        match policy.workspace.strategy {
            WorkspaceStrategy::Empty => Ok(()),
            WorkspaceStrategy::Clone | WorkspaceStrategy::Worktree => {
                Remote::of(&Caller::look(), policy).await.map(drop)
            }
        }
    }

    async fn prepare(&self, context: &Context, fresh: bool) -> Result<(Workspace, bool), Failure> {
        self.tidy().await?;
        let made = self.prepare_workspace(context, fresh).await;
        if self.mended(context, made.as_ref().err()).await? {
            self.prepare_workspace(context, fresh).await
        } else {
            made
        }
    }

    async fn run_hook(&self, context: &Context, hook: Hook) -> Result<String, Failure> {
        let (_, path) = self.workspace_dir(context).await?;
        hook::run(context, &path, hook).await
    }

    async fn commit_leftovers(&self, context: &Context) -> Result<bool, Failure> {
        self.tidy().await?;
        let caller = Caller::of(context);
        let (workspace, path) = self.workspace_dir(context).await?;
        let request = &context.request;
        let inside = caller.shut_in(&request.policy, &self.state_dir, &path)?;
        let Some(work) = self.open(&inside, &request.policy, &workspace, &path).await? else { return Ok(false) };
        let identity = prepare::identity(&caller, Path::new(&request.policy.workspace.repo)).await?;
        let message = format!("{}: {}", one_line(&request.issue.identifier), one_line(&request.issue.title));
        work.commit_all(&message, &identity).await
    }

    async fn fetch_commit(&self, context: &Context) -> Result<CommitId, Failure> {
        self.tidy().await?;
        let taken = self.take(context).await;
        if self.mended(context, taken.as_ref().err()).await? { self.take(context).await } else { taken }
    }

    async fn run_check(&self, context: &Context, commit: &CommitId, command: &str) -> Result<Checked, Failure> {
        self.tidy().await?;
        let ended = self.check(context, commit, command).await;
        if self.mended(context, ended.as_ref().err()).await? {
            self.take_again(context).await;
            self.check(context, commit, command).await
        } else {
            ended
        }
    }

    async fn remote_tip(&self, context: &Context) -> Result<Option<CommitId>, Failure> {
        let tip = self.tip(context).await;
        if self.mended(context, tip.as_ref().err()).await? { self.tip(context).await } else { tip }
    }

    async fn branch_tip(&self, context: &Context) -> Result<Option<CommitId>, Failure> {
        self.branch_there(context).await
    }

    async fn push(
        &self,
        context: &Context,
        commit: &CommitId,
        expected: Option<&CommitId>,
        seen: Option<Option<&CommitId>>,
    ) -> Result<(), Failure> {
        let pushed = self.deliver(context, commit, expected, seen).await;
        if self.mended(context, pushed.as_ref().err()).await? {
            self.take_again(context).await;
            self.deliver(context, commit, expected, seen).await
        } else {
            pushed
        }
    }

    async fn undo_push(&self, context: &Context, commit: &CommitId, before: Option<&CommitId>) -> Result<(), Failure> {
        let undone = self.take_back(context, commit, before).await;
        if self.mended(context, undone.as_ref().err()).await? {
            self.take_again(context).await;
            self.take_back(context, commit, before).await
        } else {
            undone
        }
    }

    async fn bring_remote(&self, context: &Context) -> Result<CommitId, Failure> {
        self.tidy().await?;
        let brought = self.bring(context).await;
        if self.mended(context, brought.as_ref().err()).await? { self.bring(context).await } else { brought }
    }

    async fn probe_push(&self, context: &Context, commit: &CommitId) -> ProbeAnswer {
        self.probe(context, commit).await
    }

    async fn remove(&self, context: &Context, handed_off: Option<&CommitId>) -> Result<Option<String>, Failure> {
        self.tidy().await?;
        let request = &context.request;
        let place = match &request.workspace {
            Some(workspace) => Place::known(&request.policy, &workspace.path).await?,
            None => Place::of(&request.policy, &request.issue.identifier).await?,
        };
        let marker = place.marker(&request.issue.identifier).await;
        if place.look().await? != Found::Nothing
            && let Some(loss) = self.loss(context, &place, &marker, handed_off).await
        {
            return Ok(Some(loss));
        }
        let layout = Layout::of(&request.policy, &place.path());
        place.remove().await?;
        if layout.is_shared() && layout.common.is_dir() {
            layout.forget().await?;
            let inside = Caller::of(context).shut_in(&request.policy, &self.state_dir, &layout.common)?;
            if let Some(branch) = request.workspace.as_ref().and_then(|workspace| workspace.branch.as_deref()) {
                let shared = Work::beginning(&inside, layout.of_shared(), &layout.common, &self.scratch()).await?;
                let _alone = inside.patiently("the shared repository", self.sharing.lock()).await?;
                let known = handed_over(context, marker.as_ref().ok().and_then(Option::as_ref), handed_off);
                shared.drop_branch(branch, &known).await?;
            }
        }
        Ok(None)
    }

    async fn unlock(&self, policy: &Policy, workspace: &Workspace) -> Result<(), Failure> {
        let path = contained(policy, &workspace.path).await?;
        let layout = Layout::of(policy, &path);
        // In a shared repository others may be at work: only what is this workspace's alone is touched.
        let branch = workspace.branch.clone().filter(|_| layout.is_shared());
        blocking("workspace_unwritable", "lock files in the workspace's repository", move || {
            remove_locks(&layout, branch.as_deref())
        })
        .await
    }

    async fn inspect(
        &self,
        policy: &Policy,
        workspace: &Workspace,
        since: Option<&CommitId>,
    ) -> Result<dalsegno_engine::core::Work, Failure> {
        self.tidy().await?;
        let path = contained(policy, &workspace.path).await?;
        let caller = Caller::look().shut_in(policy, &self.state_dir, &path)?;
        let Some(work) = self.open(&caller, policy, workspace, &path).await? else {
            let diff_digest =
                blocking("workspace_unreadable", "the workspace", move || Ok(digest::of_directory(&path))).await?;
            let nothing =
                dalsegno_engine::core::Work { head: None, has_commits: false, uncommitted: Vec::new(), diff_digest };
            return Ok(nothing);
        };
        let head = work.head().await?;
        // A branch that was made anew need not hold `since`; then the base is what counts.
        let known: Vec<&str> = since.into_iter().chain(&workspace.base_commit).map(CommitId::as_str).collect();
        let has_commits = head.is_some() && work.beyond(&["HEAD"], &known).await?.is_some();
        let (uncommitted, diff_digest) = work.changes().await?;
        Ok(dalsegno_engine::core::Work { head, has_commits, uncommitted, diff_digest })
    }
}

impl LocalWorkspaces {
    /// What would be lost if the directory went, in words. What cannot be read may hold anything.
    async fn loss(
        &self,
        context: &Context,
        place: &Place,
        marker: &Result<Option<Marker>, Failure>,
        handed_off: Option<&CommitId>,
    ) -> Option<String> {
        let request = &context.request;
        let marker = match marker {
            Ok(marker) => marker.as_ref(),
            Err(failure) => return Some(failure.to_string()),
        };
        let workspace = request.workspace.as_ref();
        let ours = marker.and_then(|marker| marker.branch.as_ref()).or(workspace.and_then(|it| it.branch.as_ref()));
        let mut known = handed_over(context, marker, handed_off);
        let caller = match Caller::of(context).shut_in(&request.policy, &self.state_dir, &place.path()) {
            Ok(caller) => caller,
            Err(failure) => return Some(failure.to_string()),
        };
        match Work::open(&caller, &request.policy, &place.path(), &self.scratch()).await {
            Ok(Some(work)) => {
                if ours.is_none() {
                    // A hook cloned it; what its remotes have is not lost.
                    known.push("--remotes");
                }
                work.loss(&known, ours.map(String::as_str)).await.unwrap_or_else(|failure| Some(failure.to_string()))
            }
            Ok(None) if ours.is_some() => {
                Some("its git repository is gone, and nobody knows what the files are".to_owned())
            }
            Ok(None) => None,
            Err(failure) => Some(failure.to_string()),
        }
    }
}

/// Commits that nobody loses with the workspace.
fn handed_over<'a>(context: &'a Context, marker: Option<&'a Marker>, handed_off: Option<&'a CommitId>) -> Vec<&'a str> {
    let request = &context.request;
    let base = marker.and_then(|marker| marker.base_commit.as_ref());
    let base = base.or(request.workspace.as_ref().and_then(|it| it.base_commit.as_ref()));
    let pushed = request.known_branch.as_ref().and_then(|known| known.commit.as_ref());
    base.into_iter().chain(handed_off).chain(pushed).map(CommitId::as_str).collect()
}

/// Other people's text as one line of bounded length.
fn one_line(text: &str) -> String {
    let mut line = String::new();
    for word in text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty()) {
        if line.len() + word.len() > MAX_TITLE_BYTES {
            line.push_str(" …");
            break;
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    line
}

/// Whether a script that complains of a full disk is right.
async fn disk_is_full(dir: &Path, output: &str) -> bool {
    if !git::is_disk_full(output) {
        return false;
    }
    let dir = dir.to_owned();
    let room = tokio::task::spawn_blocking(move || nix::sys::statvfs::statvfs(&dir)).await;
    match room {
        Ok(Ok(room)) => {
            let free = room.blocks_available().saturating_mul(room.fragment_size());
            free < MIN_FREE_BYTES || room.files_available() == 0
        }
        Ok(Err(_)) | Err(_) => false,
    }
}

/// With less room than this, a script's complaint of a full disk is believed.
const MIN_FREE_BYTES: u64 = 64 * 1024 * 1024;
