//! Making a workspace, or finding it as it was.

use std::path::{Path, PathBuf};

use dalsegno_engine::Context;
use dalsegno_engine::core::{CommitId, EffectRequest, Failure, KnownBranch, Policy, Workspace, WorkspaceStrategy};

use super::LocalWorkspaces;
use super::git::{Caller, Reach, git};
use super::key::{branch_name, workspace_key};
use super::layout::Layout;
use super::place::{Found, Marker, Place, blocking};
use super::repository::{Bare, Remote, RemoteRefs};
use super::work::{Identity, Work};

/// Used when neither the user nor the repository says who commits.
const FALLBACK_IDENTITY: (&str, &str) = ("Dalsegno", "dalsegno@localhost");

/// The journal that a mark begins with.
fn owner(context: &Context) -> Option<String> {
    context.mark.split_once('/').map(|(journal, _)| journal.to_owned())
}

/// What a new clone is made from.
struct Source {
    branch: String,
    /// Name of the base on the remote, if it is a branch.
    base_branch: Option<String>,
    /// What the base is at, and what the branch begins with; in the bare repository. Its refs others may move on.
    base: CommitId,
    start: CommitId,
    /// Where the branch left the base.
    base_commit: CommitId,
}

impl LocalWorkspaces {
    pub(super) async fn prepare_workspace(&self, context: &Context, fresh: bool) -> Result<(Workspace, bool), Failure> {
        let caller = Caller::of(context);
        let request = &context.request;
        let (policy, identifier) = (&request.policy, request.issue.identifier.as_str());
        let place = Place::of(policy, identifier).await?;
        let found = place.look().await?;
        let marker = place.marker(identifier).await?;
        if found != Found::Nothing && !fresh {
            let known = request.workspace.as_ref().filter(|known| same_path(&known.path, &place.path()));
            if let Some(whole) = whole(policy, &place, marker.as_ref(), known, identifier)? {
                let whole = Marker { owner: owner(context), ..whole };
                if marker.as_ref() != Some(&whole) {
                    place.write_marker(&whole).await?;
                }
                // Made by this very effect, which was cut before it could say so: what follows a making is still to come.
                let created = whole.made_by.as_deref() == Some(request.key.as_str());
                return Ok((workspace(&place, &whole), created));
            }
        }
        let mut kept = None;
        if found == Found::Directory {
            kept =
                self.make_room(&caller, policy, &place, marker.as_ref(), fresh, request.known_branch.as_ref()).await?;
        }
        let mut marker = match policy.workspace.strategy {
            WorkspaceStrategy::Empty => {
                place.begin().await?;
                Marker::new(identifier, None, None)
            }
            WorkspaceStrategy::Clone | WorkspaceStrategy::Worktree => {
                self.clone_into(context, &caller, &place, kept.as_ref()).await?
            }
        };
        marker.made_by = Some(request.key.clone());
        marker.owner = owner(context);
        place.finish(&marker).await?;
        Ok((workspace(&place, &marker), true))
    }

    /// Gets a directory that is no whole workspace, or is not wanted any more, out of the way; work in it is kept. Answers
    /// the commit that a kept worktree holds on to.
    pub(super) async fn make_room(
        &self,
        caller: &Caller,
        policy: &Policy,
        place: &Place,
        marker: Option<&Marker>,
        fresh: bool,
        known: Option<&KnownBranch>,
    ) -> Result<Option<CommitId>, Failure> {
        let path = place.path();
        let loss = if fresh && marker.is_some() && policy.workspace.strategy != WorkspaceStrategy::Empty {
            let base = marker.and_then(|marker| marker.base_commit.as_ref()).map(CommitId::as_str);
            let pushed = known.and_then(|known| known.commit.as_ref()).map(CommitId::as_str);
            let safe: Vec<&str> = base.into_iter().chain(pushed).collect();
            let own = marker.and_then(|marker| marker.branch.as_deref());
            let caller = caller.shut_in(policy, &self.state_dir, &path)?;
            match Work::open(&caller, policy, &path, &self.scratch()).await {
                Ok(Some(work)) => work.loss(&safe, own).await.unwrap_or_else(|failure| Some(failure.to_string())),
                Ok(None) => Some("files without a repository".to_owned()),
                Err(failure) => Some(failure.to_string()),
            }
        } else {
            Some("nobody knows what it is".to_owned())
        };
        match loss {
            None => place.remove().await.map(|()| None),
            Some(loss) => {
                let layout = Layout::of(policy, &path);
                let head = match (layout.is_shared(), caller.shut_in(policy, &self.state_dir, &path)) {
                    (true, Ok(caller)) => match Work::open(&caller, policy, &path, &self.scratch()).await {
                        Ok(Some(work)) => work.head().await.ok().flatten(),
                        Ok(None) | Err(_) => None,
                    },
                    (true, Err(_)) | (false, _) => None,
                };
                if let Some(head) = &head {
                    layout.detach(head.as_str()).await?;
                }
                let kept = place.move_aside().await?;
                layout.move_aside(&kept).await?;
                tracing::warn!(workspace = %path.display(), kept = %kept.display(), %loss, "a workspace was moved aside");
                Ok(head)
            }
        }
    }

    /// A worktree in `dir`, which will be at `path`, of the repository that all worktrees of the root share.
    async fn populate_worktree(
        &self,
        caller: &Caller,
        policy: &Policy,
        bare: &Bare,
        (dir, path): (&Path, &Path),
        source: &Source,
        known: &[&str],
    ) -> Result<(), Failure> {
        let what = "the new workspace cannot be filled";
        let format =
            bare.local(caller).args(["rev-parse", "--show-object-format"]).must("workspace_unwritable", what).await?;
        let layout = Layout::of(policy, path);
        let _alone = caller.patiently("the shared repository", self.sharing.lock()).await?;
        layout.make(caller, dir, path, &format.text()).await?;
        let inside = caller.shut_in(policy, &self.state_dir, dir)?.reading(&bare.dir)?;
        let work = Work::beginning(&inside, layout, dir, &self.scratch()).await?;
        if let Some(base) = &source.base_branch {
            work.bring(&bare.dir, &source.base, &format!("refs/remotes/origin/{base}")).await?;
        }
        work.begin_branch(&bare.dir, &source.start, &source.branch, known).await?;
        work.fill(&source.branch).await
    }

    /// The branch that the issue's workspace has, or is going to have.
    fn branch_of(&self, request: &EffectRequest) -> Result<String, Failure> {
        match request.branch() {
            Some(known) => Ok(branch_name(known)),
            None => Ok(branch_name(&self.workflow.render(&request.policy.workspace.branch, &request.issue, None)?)),
        }
    }

    /// Where that branch is on the remote.
    pub(super) async fn branch_there(&self, context: &Context) -> Result<Option<CommitId>, Failure> {
        let request = &context.request;
        if request.policy.workspace.strategy == WorkspaceStrategy::Empty {
            return Ok(None);
        }
        let caller = Caller::of(context);
        let name = format!("refs/heads/{}", self.branch_of(request)?);
        let remote = Remote::of(&caller, &request.policy).await?;
        let bare = self.repositories.hold(&caller, &self.state_dir, &remote).await?;
        let refs = bare.ask(&caller, &remote, std::slice::from_ref(&name)).await?;
        Ok(refs.get(&name).cloned())
    }

    async fn clone_into(
        &self,
        context: &Context,
        caller: &Caller,
        place: &Place,
        kept: Option<&CommitId>,
    ) -> Result<Marker, Failure> {
        let request = &context.request;
        let policy = &request.policy;
        let branch = self.branch_of(request)?;
        let remote = Remote::of(caller, policy).await?;
        let bare = self.repositories.hold(caller, &self.state_dir, &remote).await?;
        let source = fetch_source(caller, &bare, &remote, policy, branch, request.known_branch.as_ref()).await?;
        let dir = place.begin().await?;
        let layout = Layout::of(policy, &place.path());
        let config = if layout.is_shared() {
            let pushed = request.known_branch.as_ref().and_then(|known| known.commit.as_ref());
            let known = [&source.start, &source.base, &source.base_commit].into_iter().chain(pushed).chain(kept);
            let known: Vec<&str> = known.map(CommitId::as_str).collect();
            self.populate_worktree(caller, policy, &bare, (&dir, &place.path()), &source, &known).await?;
            layout.common
        } else {
            populate(caller, &bare, &dir, &source).await?;
            dir.join(".git")
        };
        drop(bare);
        if let Some(identity) = own_identity(caller, &remote).await? {
            for (name, value) in [("user.name", &identity.name), ("user.email", &identity.email)] {
                git(caller, Reach::Local, &config)
                    .args(["--git-dir=.", "config", name, value])
                    .must("workspace_unwritable", "the new workspace cannot be set up")
                    .await?;
            }
        }
        let top = dir.clone();
        // The marker is synced; what it vouches for has to be on disk before it.
        blocking("workspace_unwritable", "the new workspace", move || {
            nix::unistd::syncfs(std::fs::File::open(top)?).map_err(std::io::Error::from)
        })
        .await?;
        Ok(Marker::new(&request.issue.identifier, Some(source.branch), Some(source.base_commit)))
    }
}

/// The marker of a workspace that is used as it is.
fn whole(
    policy: &Policy,
    place: &Place,
    marker: Option<&Marker>,
    known: Option<&Workspace>,
    identifier: &str,
) -> Result<Option<Marker>, Failure> {
    // What the journal has was whole: it is recorded only then.
    let from_journal = known.map(|known| Marker {
        made_by: known.made_by.clone(),
        ..Marker::new(identifier, known.branch.clone(), known.base_commit.clone())
    });
    let candidate = marker.cloned().or(from_journal);
    Ok(match policy.workspace.strategy {
        // Symphony §9.2: a directory that is there is reused.
        WorkspaceStrategy::Empty => Some(candidate.unwrap_or_else(|| Marker::new(identifier, None, None))),
        WorkspaceStrategy::Clone | WorkspaceStrategy::Worktree => {
            candidate.filter(|it| it.branch.is_some() && place.path().join(".git").exists())
        }
    })
}

fn workspace(place: &Place, marker: &Marker) -> Workspace {
    Workspace {
        path: place.path().to_string_lossy().into_owned(),
        branch: marker.branch.clone(),
        base_commit: marker.base_commit.clone(),
        made_by: marker.made_by.clone(),
    }
}

fn same_path(known: &str, place: &Path) -> bool {
    Path::new(known) == place || Path::new(known).canonicalize().is_ok_and(|known| known == place)
}

/// Fetches the base, and the branch where it is ours already.
async fn fetch_source(
    caller: &Caller,
    bare: &Bare,
    remote: &Remote,
    policy: &Policy,
    branch: String,
    known: Option<&KnownBranch>,
) -> Result<Source, Failure> {
    let branch_ref = format!("refs/heads/{branch}");
    let mut names = vec![branch_ref.clone()];
    if let Some(base) = &policy.workspace.base {
        names.extend([base.clone(), format!("refs/heads/{base}"), format!("refs/tags/{base}")]);
    }
    let parents: Vec<String> = branch
        .match_indices('/')
        .filter_map(|(at, _)| branch.get(..at))
        .map(|name| format!("refs/heads/{name}"))
        .collect();
    names.extend(parents.iter().cloned());
    let children = format!("{branch_ref}/");
    names.push(format!("{children}*"));
    let refs = bare.ask(caller, remote, &names).await?;
    if let Some(parent) = parents.iter().find(|parent| refs.get(parent).is_some()) {
        return Err(branch_in_use(&branch, remote, &format!("a branch {parent} is in the way")));
    }
    if let Some(child) = refs.below(&children) {
        return Err(branch_in_use(&branch, remote, &format!("a branch {child} is in the way")));
    }
    let (from, base_branch) = resolve_base(remote, policy, &refs)?;
    let base_ref = format!("refs/dalsegno/base/{}", workspace_key(&from));
    let base = bare.fetch(caller, remote, &from, &base_ref).await.map_err(|failure| match &policy.workspace.base {
        Some(base) if refs.get(&from).is_none() && failure.code == "repo_unreachable" => base_not_found(base, remote),
        Some(_) | None => failure,
    })?;
    let Some(there) = refs.get(&branch_ref) else {
        return Ok(Source { branch, base_branch, start: base.clone(), base_commit: base.clone(), base });
    };
    let ours = known.and_then(|known| known.commit.as_ref());
    if ours != Some(there) {
        return Err(branch_in_use(&branch, remote, &format!("it is at {there}, where we did not put it")));
    }
    let start_ref = format!("refs/dalsegno/branch/{}", workspace_key(&branch));
    let start = bare.fetch(caller, remote, &branch_ref, &start_ref).await?;
    if ours != Some(&start) {
        return Err(branch_in_use(&branch, remote, "somebody moved it just now"));
    }
    let base_commit = bare.fork_point(caller, &base, &start).await?.unwrap_or_else(|| base.clone());
    Ok(Source { branch, base_branch, base, start, base_commit })
}

/// What of the remote is the base, and its name as a branch.
fn resolve_base(remote: &Remote, policy: &Policy, refs: &RemoteRefs) -> Result<(String, Option<String>), Failure> {
    let Some(base) = &policy.workspace.base else {
        let head = refs.head.clone().filter(|head| refs.get("HEAD").is_some() && head.starts_with("refs/heads/"));
        let Some(head) = head else {
            return Err(Failure::permanent("base_not_found", format!("{} has no default branch", remote.shown()))
                .hint("set workspace.base, or push a first commit"));
        };
        let name = head.strip_prefix("refs/heads/").map(str::to_owned);
        return Ok((head, name));
    };
    let branch = format!("refs/heads/{base}");
    if refs.get(&branch).is_some() {
        return Ok((branch, Some(base.clone())));
    }
    let tag = format!("refs/tags/{base}");
    if refs.get(&tag).is_some() {
        return Ok((tag, None));
    }
    if base.starts_with("refs/") && refs.get(base).is_some() {
        return Ok((base.clone(), base.strip_prefix("refs/heads/").map(str::to_owned)));
    }
    let is_id = matches!(base.len(), 40 | 64) && base.bytes().all(|b| b.is_ascii_hexdigit());
    if is_id { Ok((base.to_ascii_lowercase(), None)) } else { Err(base_not_found(base, remote)) }
}

fn base_not_found(base: &str, remote: &Remote) -> Failure {
    Failure::permanent("base_not_found", format!("{} has no branch, tag or commit {base}", remote.shown()))
        .hint("set workspace.base to a branch, tag or full commit id of the remote")
}

pub(super) fn branch_in_use(branch: &str, remote: &Remote, why: &str) -> Failure {
    Failure::permanent("branch_in_use", format!("the branch {branch} of {} is somebody else's: {why}", remote.shown()))
        .hint("remove or rename that branch, or change workspace.branch")
}

/// A repository of its own in `dir`: objects copied, no remote, the branch checked out.
async fn populate(caller: &Caller, bare: &Bare, dir: &Path, source: &Source) -> Result<(), Failure> {
    let here = || git(caller, Reach::Local, dir);
    let what = "the new workspace cannot be filled";
    let format =
        bare.local(caller).args(["rev-parse", "--show-object-format"]).must("workspace_unwritable", what).await?;
    here()
        .args(["init", "--quiet", "--template=", &format!("--object-format={}", format.text()), "."])
        .must("workspace_unwritable", what)
        .await?;
    let branch = &source.branch;
    let mut fetch = here()
        .allow_directories()
        .args(["fetch", "--quiet", "--no-write-fetch-head", "--update-head-ok", "--"])
        .arg(&bare.dir)
        .arg(format!("+{}:refs/heads/{branch}", source.start));
    if let Some(base) = &source.base_branch {
        fetch = fetch.arg(format!("+{}:refs/remotes/origin/{base}", source.base));
    }
    fetch.must("workspace_unwritable", what).await?;
    here().args(["symbolic-ref", "HEAD", &format!("refs/heads/{branch}")]).must("workspace_unwritable", what).await?;
    here().args(["reset", "--quiet", "--hard"]).must("workspace_unwritable", what).await?;
    Ok(())
}

/// The identity that a workspace's own configuration needs; `None` when one is inherited.
async fn own_identity(caller: &Caller, remote: &Remote) -> Result<Option<Identity>, Failure> {
    if inherited_identity(caller, &std::env::temp_dir()).await?.is_some() {
        return Ok(None);
    }
    Ok(Some(project_identity(caller, remote.project.as_deref()).await?))
}

/// Who commits for us: the inherited identity, else the repository's, else a fixed one.
pub(super) async fn identity(caller: &Caller, project: &Path) -> Result<Identity, Failure> {
    match inherited_identity(caller, &std::env::temp_dir()).await? {
        Some(identity) => Ok(identity),
        None => project_identity(caller, project.is_dir().then_some(project)).await,
    }
}

/// From the environment, else from the user's or the machine's configuration.
async fn inherited_identity(caller: &Caller, dir: &Path) -> Result<Option<Identity>, Failure> {
    let mut values = Vec::new();
    for (variable, key) in [("GIT_AUTHOR_NAME", "user.name"), ("GIT_AUTHOR_EMAIL", "user.email")] {
        let from_environment = std::env::var(variable).ok().filter(|value| !value.is_empty());
        let value = match from_environment {
            Some(value) => Some(value),
            None => {
                let mut found = None;
                for scope in ["--global", "--system"] {
                    if found.is_none() {
                        let said = git(caller, Reach::Remote, dir)
                            .args(["config", scope, "--includes", "--get", key])
                            .run()
                            .await?;
                        found = Some(said.text()).filter(|value| said.ok() && !value.is_empty());
                    }
                }
                found
            }
        };
        values.push(value);
    }
    Ok(match values.as_slice() {
        [Some(name), Some(email)] => Some(Identity { name: name.clone(), email: email.clone() }),
        _ => None,
    })
}

async fn project_identity(caller: &Caller, project: Option<&Path>) -> Result<Identity, Failure> {
    let project: Option<PathBuf> = project.map(Path::to_owned);
    let mut values = Vec::new();
    if let Some(project) = project {
        for key in ["user.name", "user.email"] {
            let said = git(caller, Reach::Remote, &project)
                .args(["config", "--local", "--includes", "--get", key])
                .run()
                .await?;
            values.push(Some(said.text()).filter(|value| said.ok() && !value.is_empty()));
        }
    }
    Ok(match values.as_slice() {
        [Some(name), Some(email)] => Identity { name: name.clone(), email: email.clone() },
        _ => Identity { name: FALLBACK_IDENTITY.0.to_owned(), email: FALLBACK_IDENTITY.1.to_owned() },
    })
}
