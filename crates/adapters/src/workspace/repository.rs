//! The daemon's own bare repository for a remote: what is fetched, taken from workspaces and pushed goes through it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex as StdMutex, PoisonError};
use std::time::Duration;

use dalsegno_engine::Processes as _;
use dalsegno_engine::core::{CommitId, Failure, Policy};
use tokio::sync::{Mutex, OwnedRwLockReadGuard, RwLock};

use super::git::{Caller, Git, Reach, git, io_failure, redact};
use super::key::{repository_key, workspace_key};
use super::place::{blocking, remove_tree};
use super::upkeep::{self, Upkeep, is_damaged, make_anew};
use crate::process::Sweeper;
use crate::workflow::paths::is_url;

/// The remote when the policy does not name one.
const DEFAULT_REMOTE: &str = "origin";
/// How long others may go on in a repository that has to be made anew.
const OTHERS_LIMIT: Duration = Duration::from_secs(30);

/// Where work comes from and goes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Remote {
    /// URL or absolute path.
    pub(super) url: String,
    /// The project's own repository, where it is a directory.
    pub(super) project: Option<PathBuf>,
}

impl Remote {
    /// Finds the remote that the policy means.
    ///
    /// # Errors
    /// `repo_not_found`, `remote_not_found`.
    pub(super) async fn of(caller: &Caller, policy: &Policy) -> Result<Self, Failure> {
        let repo = policy.workspace.repo.as_str();
        let dir = Path::new(repo);
        if !dir.is_dir() {
            if is_url(repo) && !repo.starts_with('-') {
                return Ok(Self { url: repo.to_owned(), project: None });
            }
            return Err(repo_not_found(repo, "there is no such directory"));
        }
        let top = top_of(caller, dir).await?;
        let name = policy.handoff.as_ref().map_or(DEFAULT_REMOTE, |handoff| handoff.remote.as_str());
        let said =
            git(caller, Reach::Remote, &top).args(["config", "--get", &format!("remote.{name}.url")]).run().await?;
        let url = said.text();
        if !said.ok() || url.is_empty() {
            if name != DEFAULT_REMOTE {
                return Err(Failure::permanent(
                    "remote_not_found",
                    format!("the repository {repo} has no remote {name}"),
                )
                .hint("set handoff.remote to a name that `git remote` lists"));
            }
            return Ok(Self { url: top.to_string_lossy().into_owned(), project: Some(top) });
        }
        if url.starts_with('-') {
            return Err(repo_not_found(repo, "the URL of its remote begins with a dash"));
        }
        let url = if is_url(&url) || Path::new(&url).is_absolute() {
            url
        } else {
            // Git takes a relative path from the top of the work tree.
            let path = top.join(&url);
            path.canonicalize().unwrap_or(path).to_string_lossy().into_owned()
        };
        Ok(Self { url, project: Some(top) })
    }

    /// The URL without a password.
    pub(super) fn shown(&self) -> String {
        redact(&self.url)
    }
}

// The project's own repository is the user's: whether it is trusted (`safe.directory`) is in the user's configuration.

/// The top of the work tree around `dir`, or the bare repository that it is.
async fn top_of(caller: &Caller, dir: &Path) -> Result<PathBuf, Failure> {
    let said =
        git(caller, Reach::Remote, dir).args(["rev-parse", "--is-bare-repository", "--absolute-git-dir"]).run().await?;
    if !said.ok() {
        return Err(repo_not_found(&dir.display().to_string(), said.err.trim()));
    }
    let text = said.text();
    if let Some(git_dir) = text.strip_prefix("true\n") {
        return Ok(PathBuf::from(git_dir));
    }
    let said = git(caller, Reach::Remote, dir).args(["rev-parse", "--show-toplevel"]).run().await?;
    if said.ok() {
        Ok(PathBuf::from(said.text()))
    } else {
        Err(repo_not_found(&dir.display().to_string(), said.err.trim()))
    }
}

fn repo_not_found(repo: &str, why: &str) -> Failure {
    Failure::permanent("repo_not_found", format!("{} is not a git repository: {}", redact(repo), redact(why)))
        .hint("set workspace.repo, or workspace.strategy: empty")
}

/// All bare repositories of this process.
///
/// Who may do what at the same time: git itself puts objects in place whole, and takes a lock for each ref that it
/// writes, for which the others wait (`upkeep::IN_BARE`). Refs of runs belong to their run. What is shared, the refs of the
/// remote, is written by one fetch at a time, and who needs what such a ref was at takes the commit and not the name.
/// So nobody waits for another's remote, and local work for no remote at all.
#[derive(Debug, Default)]
pub(super) struct Repositories {
    open: StdMutex<BTreeMap<PathBuf, Arc<Slot>>>,
}

/// What this process knows of a repository, and who waits for whom in it.
#[derive(Debug, Default)]
pub(super) struct Slot {
    /// Whether it was looked at in this process's life.
    ready: Mutex<bool>,
    /// Shared by who uses it, and had alone by who puts another in its place.
    users: Arc<RwLock<()>>,
    /// For fetches from the remote: what one brings the next needs not bring again.
    fetching: Mutex<()>,
    upkeep: Upkeep,
    /// How often it was made anew.
    generation: AtomicU32,
}

/// A bare repository that stays in its place while it is used.
#[derive(Debug)]
pub(super) struct Bare {
    pub(super) dir: PathBuf,
    slot: Arc<Slot>,
    _used: OwnedRwLockReadGuard<()>,
}

/// The refs that a remote has, by full name, and the target of its HEAD.
#[derive(Debug, Default)]
pub(super) struct RemoteRefs {
    pub(super) head: Option<String>,
    refs: BTreeMap<String, CommitId>,
}

impl RemoteRefs {
    pub(super) fn get(&self, name: &str) -> Option<&CommitId> {
        self.refs.get(name)
    }

    /// A ref whose name begins so.
    pub(super) fn below(&self, start: &str) -> Option<&str> {
        self.refs.keys().map(String::as_str).find(|name| name.starts_with(start))
    }

    fn parse(text: &str) -> Self {
        let mut found = Self::default();
        for line in text.lines() {
            let Some((value, name)) = line.split_once('\t') else { continue };
            match value.strip_prefix("ref: ") {
                Some(target) if name == "HEAD" => found.head = Some(target.to_owned()),
                Some(_) => {}
                None => {
                    found.refs.insert(name.to_owned(), CommitId(value.to_owned()));
                }
            }
        }
        found
    }
}

impl Repositories {
    fn slot(&self, state_dir: &Path, remote: &Remote) -> (PathBuf, Arc<Slot>) {
        let dir = state_dir.join("repos").join(format!("{}.git", repository_key(&remote.url)));
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = Arc::clone(open.entry(dir.clone()).or_default());
        (dir, slot)
    }

    /// The repository of the remote; makes it when it is not there, and removes the locks that a dead daemon's git left
    /// in it.
    pub(super) async fn hold(&self, caller: &Caller, state_dir: &Path, remote: &Remote) -> Result<Bare, Failure> {
        let (dir, slot) = self.slot(state_dir, remote);
        let used = caller.patiently("the repository", Arc::clone(&slot.users).read_owned()).await?;
        let mut ready = caller.patiently("the repository", slot.ready.lock()).await?;
        if !*ready || !dir.join("HEAD").is_file() {
            let was_there = make(caller, &dir).await?;
            *ready = true;
            if was_there {
                // A repository that nobody tidies grows for ever; but nobody waits for that.
                slot.upkeep.begin(&dir);
            }
        }
        drop(ready);
        Ok(Bare { dir, slot, _used: used })
    }

    /// Looks whether the repository of the remote lost something (a power cut, a bad disk), and if so puts one in its
    /// place that holds all that is whole. Answers whether it did.
    ///
    /// # Errors
    /// `repo_unusable` when it is damaged and in use by others.
    pub(super) async fn mend(&self, caller: &Caller, state_dir: &Path, remote: &Remote) -> Result<bool, Failure> {
        let (dir, slot) = self.slot(state_dir, remote);
        let before = slot.generation.load(Ordering::SeqCst);
        match is_damaged(caller, &dir).await {
            Ok(true) => {}
            Ok(false) => return Ok(false),
            Err(failure) => {
                // Then what failed before is what there is to say.
                tracing::warn!(repository = %dir.display(), %failure, "the repository could not be looked through");
                return Ok(false);
            }
        }
        let alone = tokio::time::timeout(OTHERS_LIMIT, Arc::clone(&slot.users).write_owned());
        let Ok(_alone) = caller.patiently("the repository", alone).await? else {
            return Err(Failure::retryable(
                "repo_unusable",
                format!("the daemon's own repository {} is damaged, and others are at work in it", dir.display()),
            )
            .hint("it is made anew as soon as nobody uses it"));
        };
        if slot.generation.load(Ordering::SeqCst) == before {
            make_anew(caller, &dir).await?;
            slot.generation.fetch_add(1, Ordering::SeqCst);
        }
        Ok(true)
    }
}

/// Makes the bare repository under another name and renames it, so that a half-made one is never used. Answers whether
/// there was one.
async fn make(caller: &Caller, dir: &Path) -> Result<bool, Failure> {
    if dir.join("HEAD").is_file() {
        // What a killed daemon left at work on it holds locks.
        Sweeper.sweep(&upkeep::mark(dir)).await?;
        let path = dir.to_owned();
        blocking("repo_unusable", "the daemon's own repository", move || remove_locks(&path, 0)).await?;
        return Ok(true);
    }
    let half = init(caller, dir).await?;
    std::fs::rename(&half, dir)
        .map_err(|error| io_failure("repo_unusable", &format!("{} cannot be made", dir.display()), &error))?;
    Ok(false)
}

/// An empty repository beside `dir`, to be renamed to it.
pub(super) async fn init(caller: &Caller, dir: &Path) -> Result<PathBuf, Failure> {
    let half = dir.with_extension("new");
    let path = half.clone();
    blocking("repo_unusable", "the daemon's own repository", move || {
        remove_tree(&path)?;
        std::fs::create_dir_all(&path)
    })
    .await?;
    git(caller, Reach::Local, &half)
        .args(["init", "--quiet", "--bare", "--template=", "."])
        .must("repo_unusable", "the daemon's own repository cannot be made")
        .await?;
    // A check and a workspace take commits by their id.
    git(caller, Reach::Local, &half)
        .args(["config", "uploadpack.allowAnySHA1InWant", "true"])
        .must("repo_unusable", "the daemon's own repository cannot be set up")
        .await?;
    Ok(half)
}

/// Removes `*.lock` below a bare repository; the directories of single objects hold none.
fn remove_locks(dir: &Path, depth: usize) -> std::io::Result<()> {
    if depth > 40 {
        return Ok(());
    }
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if kind.is_dir() {
            let objects = name.len() == 2 && name.bytes().all(|b| b.is_ascii_hexdigit()) && dir.ends_with("objects");
            if !objects {
                remove_locks(&entry.path(), depth + 1)?;
            }
        } else if name.ends_with(".lock") {
            tracing::warn!(path = %entry.path().display(), "a lock file that a dead process left is removed");
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

impl Bare {
    /// A call in the bare repository, without credentials.
    pub(super) fn local<'a>(&self, caller: &'a Caller) -> Git<'a> {
        upkeep::local(caller, &self.dir)
    }

    /// A call in the bare repository that may talk to the remote.
    pub(super) async fn remote<'a>(&self, caller: &'a Caller, remote: &Remote) -> Result<Git<'a>, Failure> {
        let call = || git(caller, Reach::Remote, &self.dir).args(upkeep::IN_BARE);
        if !is_url(&remote.url) || ["GIT_SSH", "GIT_SSH_COMMAND"].iter().any(|name| std::env::var_os(name).is_some()) {
            return Ok(call());
        }
        let own = call().args(["config", "--get", "core.sshCommand"]).run().await?;
        Ok(if own.ok() { call() } else { call().impatient_ssh() })
    }

    /// Asks the remote for these refs (full names) and its HEAD.
    ///
    /// # Errors
    /// `repo_unreachable`.
    pub(super) async fn ask(&self, caller: &Caller, remote: &Remote, names: &[String]) -> Result<RemoteRefs, Failure> {
        let call = self.remote(caller, remote).await?;
        let said = call.args(["ls-remote", "--symref", "--", &remote.url, "HEAD"]).args(names).run().await?;
        if !said.ok() {
            return Err(unreachable(remote, &said.failure("repo_unreachable", "git ls-remote")));
        }
        Ok(RemoteRefs::parse(&String::from_utf8_lossy(&said.out)))
    }

    /// Fetches one ref or commit of the remote into a ref of ours; answers the commit.
    ///
    /// # Errors
    /// `repo_unreachable`, `disk_full`.
    pub(super) async fn fetch(
        &self,
        caller: &Caller,
        remote: &Remote,
        from: &str,
        into: &str,
    ) -> Result<CommitId, Failure> {
        let turn = tokio::time::timeout_at(caller.until, self.slot.fetching.lock());
        let Ok(_turn) = caller.patiently("another fetch", turn).await? else {
            let message = format!("another fetch from {} does not come to its end", remote.shown());
            return Err(Failure::retryable("repo_unreachable", message).hint("see whether the remote answers"));
        };
        let said = self
            .remote(caller, remote)
            .await?
            .args(["fetch", "--quiet", "--no-write-fetch-head", "--", &remote.url, &format!("+{from}:{into}")])
            .run()
            .await?;
        if !said.ok() {
            return Err(unreachable(remote, &said.failure("repo_unreachable", "git fetch")));
        }
        self.slot.upkeep.fetched(&self.dir);
        let Some(commit) = self.commit_at(caller, into).await? else {
            let message = format!("{from} of {} is no commit", remote.shown());
            return Err(Failure::permanent("base_not_found", message)
                .hint("set workspace.base to a branch, tag or commit of the remote"));
        };
        if from.starts_with("refs/tags/") {
            // An annotated tag is an object of its own; branches are made from what it names.
            self.local(caller)
                .args(["update-ref", into, commit.as_str()])
                .must("repo_unusable", "the daemon's own repository cannot be written")
                .await?;
        }
        Ok(commit)
    }

    /// The commit is on the remote: refs that only kept it, or what it was made from, go. What does not go now goes with
    /// the next upkeep.
    pub(super) async fn pushed(&self, caller: &Caller, branch: &str, commit: &CommitId) {
        let seen = format!("refs/dalsegno/seen/{}", workspace_key(branch));
        let noted = self.local(caller).args(["update-ref", &seen, commit.as_str()]).run().await;
        let left = match noted {
            Ok(_) => upkeep::forget_runs(caller, &self.dir, &[commit.as_str()]).await,
            Err(failure) => Err(failure),
        };
        if let Err(failure) = left {
            tracing::debug!(reason = %failure.message, "refs of runs that were pushed go with the next upkeep");
        }
    }

    /// Objects came in without a fetch from the remote.
    pub(super) fn grew(&self) {
        self.slot.upkeep.fetched(&self.dir);
    }

    /// The commit that a name leads to.
    pub(super) async fn commit_at(&self, caller: &Caller, name: &str) -> Result<Option<CommitId>, Failure> {
        let said = self
            .local(caller)
            .args(["rev-parse", "--verify", "--quiet", "--end-of-options", &format!("{name}^{{commit}}")])
            .run()
            .await?;
        Ok(said.ok().then(|| CommitId(said.text())))
    }

    /// Whether `old` is `new` or one of its ancestors. Both must be here.
    pub(super) async fn contains(&self, caller: &Caller, new: &CommitId, old: &CommitId) -> Result<bool, Failure> {
        let said = self.local(caller).args(["merge-base", "--is-ancestor", old.as_str(), new.as_str()]).run().await?;
        match said.code {
            Some(0) => Ok(true),
            Some(1) => Ok(false),
            Some(_) | None => Err(said.failure("repo_unusable", "the history cannot be read")),
        }
    }

    /// Where two histories parted.
    pub(super) async fn fork_point(
        &self,
        caller: &Caller,
        one: &CommitId,
        other: &CommitId,
    ) -> Result<Option<CommitId>, Failure> {
        let said = self.local(caller).args(["merge-base", one.as_str(), other.as_str()]).run().await?;
        Ok(said.ok().then(|| CommitId(said.text().lines().next().unwrap_or_default().to_owned())))
    }
}

fn unreachable(remote: &Remote, failure: &Failure) -> Failure {
    if failure.code != "repo_unreachable" {
        return failure.clone();
    }
    let message = format!("the remote {} does not answer as it should: {}", remote.shown(), failure.message);
    Failure::retryable("repo_unreachable", message)
        .hint("see that the URL is right and that git can reach it without asking for a password")
}

/// Reads what passes for the refs of a remote.
pub(crate) fn foreign(bytes: &[u8]) {
    let refs = RemoteRefs::parse(&String::from_utf8_lossy(bytes));
    let _ = (refs.get("refs/heads/main"), refs.below("refs/heads/"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_told_from_paths() {
        for url in ["https://h/x.git", "ssh://h/x", "git@host:x/y.git", "file:///a", "host:x"] {
            assert!(is_url(url), "{url}");
        }
        for path in ["/a/b", "../x.git", "./a:b", "a/b:c", "x"] {
            assert!(!is_url(path), "{path}");
        }
    }

    #[test]
    fn the_answer_of_ls_remote_is_read() {
        let refs = RemoteRefs::parse("ref: refs/heads/main\tHEAD\naaa\tHEAD\naaa\trefs/heads/main\nnoise\n");
        assert_eq!(refs.head.as_deref(), Some("refs/heads/main"));
        assert_eq!(refs.get("refs/heads/main"), Some(&CommitId::from("aaa")));
        assert!(refs.get("refs/heads/none").is_none());
    }
}
