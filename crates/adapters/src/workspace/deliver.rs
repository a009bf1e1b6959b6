//! Taking a result out of a workspace, and pushing it.

use std::ffi::OsString;

use dalsegno_engine::Context;
use dalsegno_engine::core::{CommitId, EffectOutput, Failure, ProbeAnswer};

use super::LocalWorkspaces;
use super::git::{Caller, Git, redact};
use super::key::workspace_key;
use super::place::blocking;
use super::prepare::branch_in_use;
use super::repository::{Bare, Remote};

/// The remote side of a delivery.
struct Target {
    remote: Remote,
    bare: Bare,
    branch: String,
}

impl Target {
    fn branch_ref(&self) -> String {
        format!("refs/heads/{}", self.branch)
    }

    /// Where the branch is on the remote now.
    async fn there(&self, caller: &Caller) -> Result<Option<CommitId>, Failure> {
        let name = self.branch_ref();
        let refs = self.bare.ask(caller, &self.remote, std::slice::from_ref(&name)).await?;
        Ok(refs.get(&name).cloned())
    }

    /// The start of a push, which goes where the lease that follows allows.
    async fn push<'a>(&self, caller: &'a Caller) -> Result<Git<'a>, Failure> {
        let push = self.bare.remote(caller, &self.remote).await?;
        Ok(push.args(["push", "--porcelain", "--no-verify", "--no-follow-tags"]))
    }

    /// A branch of the remote below ours: where one is, git makes none of our name.
    async fn in_the_way(&self, caller: &Caller) -> Result<Option<String>, Failure> {
        let below = format!("{}/", self.branch_ref());
        let refs = self.bare.ask(caller, &self.remote, &[format!("{below}*")]).await?;
        Ok(refs.below(&below).map(str::to_owned))
    }

    /// Whether the remote's branch, which is at `there`, holds the commit.
    async fn holds(&self, caller: &Caller, there: &CommitId, commit: &CommitId) -> Result<bool, Failure> {
        if there == commit {
            return Ok(true);
        }
        // First: where our repository had to be made anew, only what is fetched brings the commit back.
        let seen = self.fetched(caller).await?;
        if self.bare.commit_at(caller, commit.as_str()).await?.is_none() {
            return Ok(false);
        }
        self.bare.contains(caller, &seen, commit).await
    }

    /// What the remote's branch is at, fetched.
    async fn fetched(&self, caller: &Caller) -> Result<CommitId, Failure> {
        let into = format!("refs/dalsegno/seen/{}", workspace_key(&self.branch));
        self.bare.fetch(caller, &self.remote, &self.branch_ref(), &into).await
    }
}

impl LocalWorkspaces {
    /// Fetches the workspace's head under a ref that carries the run's name.
    pub(super) async fn take(&self, context: &Context) -> Result<CommitId, Failure> {
        let caller = Caller::of(context);
        let (workspace, path) = self.workspace_dir(context).await?;
        let no_commit = || {
            Failure::permanent("no_commit", format!("there is no commit in {}", path.display()))
                .hint("the agent has to commit its work")
        };
        // Refuses borrowed objects: what is fetched has to be in the workspace itself.
        let inside = caller.shut_in(&context.request.policy, &self.state_dir, &path)?;
        let work = self.open(&inside, &context.request.policy, &workspace, &path).await?.ok_or_else(no_commit)?;
        let head = work.head().await?.ok_or_else(no_commit)?;
        let remote = Remote::of(&caller, &context.request.policy).await?;
        let bare = self.repositories.hold(&caller, &self.state_dir, &remote).await?;
        let run = context.request.run.as_ref().map_or(context.request.issue.id.as_str(), |run| run.as_str());
        let into = format!("refs/dalsegno/runs/{}", workspace_key(run));
        // A fetch that git takes for done although it left the ref alone must not pass for this one.
        bare.local(&caller)
            .args(["update-ref", "-d", &into])
            .must("repo_unusable", "the daemon's own repository cannot be written")
            .await?;
        let mut fetch = bare.local(&caller).allow_directories().args([
            "-c",
            "fetch.fsckObjects=true",
            "fetch",
            "--quiet",
            "--no-tags",
            "--no-write-fetch-head",
        ]);
        if let Some(cell) = &inside.surroundings.cell {
            let mut upload = OsString::from("--upload-pack=");
            upload.push(cell.shell_line(&["git", "upload-pack"]));
            fetch = fetch.arg(upload);
        }
        // The HEAD of a shared repository is nobody's.
        let (from, what) = match work.shared() {
            Some(shared) => (shared, head.as_str()),
            None => (path.as_path(), "HEAD"),
        };
        let said = fetch.arg("--").arg(from).arg(format!("+{what}:{into}")).run().await?;
        if !said.ok() {
            let failure = said.failure("fetch_failed", &format!("{head} cannot be fetched from {}", path.display()));
            // What git refuses to take, it refuses for ever.
            let retryable = failure.retryable && !said.err.contains("fsck error");
            return Err(Failure { retryable, ..failure }
                .hint("see whether the workspace's repository is sound with `git fsck`"));
        }
        bare.grew();
        // What git synced are files; that they are there is in their directories.
        let dirs = ["objects/pack", "refs/dalsegno/runs"].map(|name| bare.dir.join(name));
        blocking("repo_unusable", "the daemon's own repository", move || {
            dirs.iter().filter(|dir| dir.is_dir()).try_for_each(|dir| std::fs::File::open(dir)?.sync_all())
        })
        .await?;
        bare.commit_at(&caller, &into)
            .await?
            .ok_or_else(|| Failure::retryable("fetch_failed", format!("{head} did not arrive from {}", path.display())))
    }

    pub(super) async fn deliver(
        &self,
        context: &Context,
        commit: &CommitId,
        expected: Option<&CommitId>,
        seen: Option<Option<&CommitId>>,
    ) -> Result<(), Failure> {
        let caller = Caller::of(context);
        let target = self.target(context, &caller).await?;
        send(&caller, &target, commit, expected, seen).await?;
        target.bare.pushed(&caller, &target.branch, commit).await;
        Ok(())
    }

    /// Where the branch is on the remote, with all that is needed to put it back there.
    pub(super) async fn tip(&self, context: &Context) -> Result<Option<CommitId>, Failure> {
        let caller = Caller::of(context);
        let target = self.target(context, &caller).await?;
        let Some(there) = target.there(&caller).await? else { return Ok(None) };
        match target.bare.commit_at(&caller, there.as_str()).await? {
            Some(_) => Ok(Some(there)),
            None => target.fetched(&caller).await.map(Some),
        }
    }

    /// Puts the branch back to where it was before the push, as long as nothing but the push would be lost with that.
    pub(super) async fn take_back(
        &self,
        context: &Context,
        commit: &CommitId,
        before: Option<&CommitId>,
    ) -> Result<(), Failure> {
        let caller = Caller::of(context);
        let target = self.target(context, &caller).await?;
        if let Some(before) = before
            && target.bare.commit_at(&caller, before.as_str()).await?.is_some()
            && target.bare.contains(&caller, before, commit).await?
        {
            // It had the commit before: the push changed nothing.
            return Ok(());
        }
        let lost = |there: &CommitId| {
            let (branch, remote) = (&target.branch, target.remote.shown());
            let why = format!(
                "the branch {branch} of {remote} is at {there}: somebody went on with the {commit} that was pushed"
            );
            Err(Failure::permanent("branch_built_on", why).hint(
                "nothing of that was taken back; say that it is undone, or left as it is, with `dalsegno settle`",
            ))
        };
        match target.there(&caller).await? {
            Some(there) if &there == commit => {}
            Some(there) if target.holds(&caller, &there, commit).await? => return lost(&there),
            Some(_) | None => return Ok(()),
        }
        let name = target.branch_ref();
        let said = target
            .push(&caller)
            .await?
            .arg(format!("--force-with-lease={name}:{commit}"))
            .args(["--", &target.remote.url])
            .arg(format!("{}:{name}", before.map_or("", CommitId::as_str)))
            .run()
            .await?;
        if said.ok() {
            return Ok(());
        }
        // What the remote says now decides, not the words of the refusal.
        match target.there(&caller).await? {
            Some(there) if &there == commit => {
                let what = format!(
                    "{} refused to put {} back: {}",
                    target.remote.shown(),
                    target.branch,
                    redact(&rejection(&said.text()))
                );
                Err(said
                    .failure("push_failed", &what)
                    .hint("see whether the remote lets this user force or delete the branch"))
            }
            Some(there) if target.holds(&caller, &there, commit).await? => lost(&there),
            Some(_) | None => Ok(()),
        }
    }

    /// Brings what the remote's branch is at into the workspace.
    pub(super) async fn bring(&self, context: &Context) -> Result<CommitId, Failure> {
        let caller = Caller::of(context);
        let (workspace, path) = self.workspace_dir(context).await?;
        let target = self.target(context, &caller).await?;
        if target.there(&caller).await?.is_none() {
            return Err(branch_gone(&target));
        }
        let tip = target.fetched(&caller).await?;
        let inside = caller.shut_in(&context.request.policy, &self.state_dir, &path)?.reading(&target.bare.dir)?;
        let Some(work) = self.open(&inside, &context.request.policy, &workspace, &path).await? else {
            return Err(Failure::permanent("workspace_unreadable", format!("{} has no repository", path.display()))
                .hint("a new run makes it anew"));
        };
        let _alone = match work.shared() {
            Some(_) => Some(caller.patiently("the shared repository", self.sharing.lock()).await?),
            None => None,
        };
        work.bring(&target.bare.dir, &tip, &format!("refs/remotes/origin/{}", target.branch)).await?;
        Ok(tip)
    }

    pub(super) async fn probe(&self, context: &Context, commit: &CommitId) -> ProbeAnswer {
        let caller = Caller::probing(context);
        let look = async {
            let target = self.target(context, &caller).await?;
            match target.there(&caller).await? {
                None => Ok(false),
                Some(there) => target.holds(&caller, &there, commit).await,
            }
        };
        match look.await {
            Ok(true) => ProbeAnswer::Applied(EffectOutput::Pushed),
            Ok(false) => ProbeAnswer::NotApplied,
            Err(failure) => ProbeAnswer::Inconclusive(failure),
        }
    }

    async fn target(&self, context: &Context, caller: &Caller) -> Result<Target, Failure> {
        let request = &context.request;
        let Some(branch) = request.branch().map(str::to_owned) else {
            return Err(Failure::permanent(
                "push_failed",
                format!("{} has no branch to push", request.issue.identifier),
            )
            .hint("a handoff needs workspace.strategy: clone or worktree"));
        };
        let remote = Remote::of(caller, &request.policy).await?;
        let bare = self.repositories.hold(caller, &self.state_dir, &remote).await?;
        Ok(Target { remote, bare, branch })
    }
}

/// Pushes, unless the commit is there already.
async fn send(
    caller: &Caller,
    target: &Target,
    commit: &CommitId,
    expected: Option<&CommitId>,
    seen: Option<Option<&CommitId>>,
) -> Result<(), Failure> {
    if target.bare.commit_at(caller, commit.as_str()).await?.is_none() {
        return Err(Failure::permanent(
            "commit_missing",
            format!("the commit {commit} is not in the daemon's repository"),
        )
        .hint("it has to be fetched from the workspace first; retry the issue"));
    }
    let found = target.there(caller).await?;
    if let Some(seen) = seen
        && seen != found.as_ref()
    {
        return moved_since(caller, target, commit, expected, found.as_ref()).await;
    }
    match &found {
        // Nobody's work is overwritten where there is no branch.
        None => {}
        Some(there) if there == commit => return Ok(()),
        Some(there) if Some(there) == expected => {
            if target.bare.commit_at(caller, there.as_str()).await?.is_none() {
                target.fetched(caller).await?;
            }
            // The lease below lets git force; so this is where a rewritten history ends.
            if !target.bare.contains(caller, commit, there).await? {
                return Err(diverged(target, there));
            }
        }
        Some(there) if target.holds(caller, there, commit).await? => return Ok(()),
        // The branch is ours, somebody went on with it, and the agent merged that.
        Some(there) if expected.is_some() && target.bare.contains(caller, commit, there).await? => {}
        Some(there) => return Err(not_ours(target, expected, there)),
    }
    let name = target.branch_ref();
    // What was seen has to be there still: without a lease, a branch that somebody made just now, at a commit that
    // ours contains, would be moved on. An empty lease means that there is no such branch.
    let lease = found.as_ref().map_or("", CommitId::as_str);
    let said = target
        .push(caller)
        .await?
        .arg(format!("--force-with-lease={name}:{lease}"))
        .args(["--", &target.remote.url])
        .arg(format!("{commit}:{name}"))
        .run()
        .await?;
    if said.ok() {
        return Ok(());
    }
    // What the remote says now decides, not the words of the refusal.
    match target.there(caller).await? {
        Some(there) if &there == commit => Ok(()),
        // It arrived, and somebody went on with it.
        Some(there) if Some(&there) != expected && target.holds(caller, &there, commit).await? => Ok(()),
        Some(there) if Some(&there) != expected => Err(not_ours(target, expected, &there)),
        Some(there) if !target.bare.contains(caller, commit, &there).await? => Err(diverged(target, &there)),
        there => {
            if there.is_none()
                && let Some(other) = target.in_the_way(caller).await?
            {
                let why = format!("a branch {other} is in the way");
                return Err(branch_in_use(&target.branch, &target.remote, &why));
            }
            let what = format!("{} refused {commit}: {}", target.remote.shown(), redact(&rejection(&said.text())));
            Err(said.failure("push_failed", &what).hint("see whether the remote lets this user push the branch"))
        }
    }
}

/// The branch is not where it was seen: it has our commit already, or that could not be undone.
async fn moved_since(
    caller: &Caller,
    target: &Target,
    commit: &CommitId,
    expected: Option<&CommitId>,
    found: Option<&CommitId>,
) -> Result<(), Failure> {
    match found {
        Some(there) if target.holds(caller, there, commit).await? => Ok(()),
        Some(there) => Err(not_ours(target, expected, there)),
        None => Err(branch_gone(target)),
    }
}

/// The line in which `git push --porcelain` says why.
fn rejection(text: &str) -> String {
    text.lines().find_map(|line| line.strip_prefix("!\t")).unwrap_or("no reason was given").replace('\t', " ")
}

fn branch_gone(target: &Target) -> Failure {
    let message = format!("{} has no branch {} any more", target.remote.shown(), target.branch);
    Failure::permanent("branch_gone", message).hint("retry the issue: the branch is made again")
}

fn not_ours(target: &Target, expected: Option<&CommitId>, there: &CommitId) -> Failure {
    match expected {
        None => branch_in_use(&target.branch, &target.remote, &format!("it is at {there}, where we did not put it")),
        Some(_) => diverged(target, there),
    }
}

fn diverged(target: &Target, there: &CommitId) -> Failure {
    Failure::permanent(
        "branch_diverged",
        format!(
            "the branch {} of {} is at {there}, which our work does not contain",
            target.branch,
            target.remote.shown()
        ),
    )
    .hint("merge that commit into the workspace's branch, or remove it from the remote, and retry the issue")
}
