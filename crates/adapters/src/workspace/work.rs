//! What is in an agent's work tree, looked at and committed without running anything that the agent put there.
//!
//! Filters, monitors, hooks and drivers are named in a repository's configuration. So calls that read or write the
//! work tree get a git directory of ours (a [`Shadow`]) with a configuration of ours; only the objects are the
//! workspace's, and the index is a copy. Calls on the workspace's own git directory read and move refs, nothing else.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dalsegno_engine::core::{CommitId, Failure, Policy};
use tempfile::TempDir;

use super::digest;
use super::git::{Caller, Git, Reach, git, io_failure};
use super::held::Held;
use super::key::KEPT;
use super::layout::{Layout, Opened};
use super::place::{MAX_KEPT, blocking};

/// Paths that are named when something is uncommitted.
const MAX_PATHS: usize = 50;
/// An exclude or attribute file that is larger is not one.
const MAX_SMALL_FILE_BYTES: u64 = 1024 * 1024;
/// What [`Work::bring`] could not do.
const BRING: &str = "the remote's commits cannot be put into the workspace";

/// Who a commit is by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) name: String,
    pub(super) email: String,
}

/// The git repository in a workspace.
pub(super) struct Work<'a> {
    caller: &'a Caller,
    path: PathBuf,
    layout: Layout,
    /// What was judged, and what is written: an agent that is still at work may put something else in its place.
    opened: Arc<Opened>,
    scratch: PathBuf,
}

impl<'a> Work<'a> {
    /// Opens the repository at `path`; `None`: there is no git directory at all.
    ///
    /// # Errors
    /// `workspace_unreadable` when the git directory is not a plain one of its own.
    pub(super) async fn open(
        caller: &'a Caller,
        policy: &Policy,
        path: &Path,
        scratch: &Path,
    ) -> Result<Option<Self>, Failure> {
        let layout = Layout::of(policy, path);
        let (shown, top, look) = (path.display().to_string(), path.to_owned(), layout.clone());
        let looked = blocking("workspace_unreadable", "the workspace's git directory", move || {
            let opened = look.hold();
            let verdict = look.refused(&top, opened.as_ref().ok())?;
            if verdict.is_some() { Ok(Err(verdict.flatten())) } else { opened.map(Ok) }
        });
        match looked.await? {
            Ok(opened) => Ok(Some(Self {
                caller,
                path: path.to_owned(),
                layout,
                opened: Arc::new(opened),
                scratch: scratch.to_owned(),
            })),
            Err(None) => Ok(None),
            Err(Some(why)) => {
                Err(Failure::permanent("workspace_unreadable", format!("the repository in {shown} is refused: {why}"))
                    .hint("save what is of use in it, remove the workspace and let a new run make it anew"))
            }
        }
    }

    /// The repository of a workspace that is being made in `path`, or a shared one by itself.
    ///
    /// # Errors
    /// `workspace_unwritable`.
    pub(super) async fn beginning(
        caller: &'a Caller,
        layout: Layout,
        path: &Path,
        scratch: &Path,
    ) -> Result<Self, Failure> {
        let look = layout.clone();
        let opened = blocking("workspace_unwritable", "the workspace's git directory", move || look.hold()).await?;
        Ok(Self { caller, path: path.to_owned(), layout, opened: Arc::new(opened), scratch: scratch.to_owned() })
    }

    /// What leads a child to the very directory that was opened. In a sandbox there is no way there but the name, and
    /// nothing else that could be written.
    fn place(&self, held: &Held, name: &Path) -> PathBuf {
        if self.caller.surroundings.cell.is_some() { name.to_owned() } else { held.path() }
    }

    fn common(&self) -> PathBuf {
        self.place(&self.opened.common, &self.layout.common)
    }

    /// A call on the workspace's own git directory: for refs and history only.
    fn refs(&self) -> Git<'a> {
        let mut option = OsString::from("--git-dir=");
        option.push(self.place(&self.opened.git_dir, &self.layout.git_dir));
        let call = git(self.caller, Reach::Local, &self.path).arg(option);
        if self.layout.is_shared() { call.env("GIT_COMMON_DIR", self.common()) } else { call }
    }

    /// The head commit; `None` before the first.
    pub(super) async fn head(&self) -> Result<Option<CommitId>, Failure> {
        let said = self.refs().args(["rev-parse", "--verify", "--quiet", "HEAD^{commit}"]).run().await?;
        match said.code {
            Some(0) => Ok(Some(CommitId(said.text()))),
            Some(1) => Ok(None),
            Some(_) | None => Err(said.failure("workspace_unreadable", "the head of the workspace cannot be read")),
        }
    }

    /// Whether this commit is here.
    pub(super) async fn has(&self, commit: &str) -> Result<bool, Failure> {
        Ok(self.refs().args(["cat-file", "-e", &format!("{commit}^{{commit}}")]).run().await?.ok())
    }

    /// A place from which the work tree is compared, without writing anything into the workspace.
    pub(super) async fn shadow(&self) -> Result<Shadow, Failure> {
        Shadow::make(self).await
    }

    /// Where its files are.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Newest commit of `from` (revisions or options of rev-list) that is in none of `known`.
    pub(super) async fn beyond(&self, from: &[&str], known: &[&str]) -> Result<Option<CommitId>, Failure> {
        let mut here = Vec::new();
        for name in known {
            // A commit that is not here cannot be excluded, and excludes nothing.
            if name.starts_with("--") || self.has(name).await? {
                here.push(*name);
            }
        }
        let said = self
            .refs()
            .args(["rev-list", "--max-count=1"])
            .args(from)
            .arg("--not")
            .args(here)
            .must("workspace_unreadable", "the history of the workspace cannot be read")
            .await?;
        Ok(Some(said.text()).filter(|text| !text.is_empty()).map(CommitId))
    }

    /// Uncommitted paths, ignored ones left out, at most 50, and a hash over all of them with their content.
    pub(super) async fn changes(&self) -> Result<(Vec<String>, Option<String>), Failure> {
        let status = self.status().await?;
        let named = paths(&status);
        let top = self.path.clone();
        let look = move || Ok(digest::of_status(&top, &status));
        Ok((named, blocking("workspace_unreadable", "the state of the workspace", look).await?))
    }

    async fn status(&self) -> Result<Vec<u8>, Failure> {
        let shadow = Shadow::make(self).await?;
        let said = shadow
            .git(self)
            .args([
                "status",
                "--porcelain",
                "-z",
                "--no-renames",
                "--ignore-submodules=dirty",
                "--untracked-files=normal",
            ])
            .must("workspace_unreadable", "the state of the workspace cannot be read")
            .await?;
        Ok(said.out)
    }

    /// Puts a commit of the bare repository at `bare` here, under `name`. The workspace's configuration has no part in
    /// it: the objects are fetched through a git directory of ours.
    ///
    /// # Errors
    /// `workspace_unwritable`, `disk_full`.
    pub(super) async fn bring(&self, bare: &Path, commit: &CommitId, name: &str) -> Result<(), Failure> {
        let mut updates = self.bring_objects(bare, commit).await?;
        updates.extend_from_slice(format!("update {name} {commit}\n").as_bytes());
        self.update(updates, BRING).await
    }

    /// Brings the commit that the branch of a new workspace begins with, and makes the branch there. One of that name
    /// that has commits which are in none of `known` is somebody's work: it stays as `<branch>.kept-<n>`.
    ///
    /// # Errors
    /// `workspace_unwritable`, `workspace_too_many_kept`, `disk_full`.
    pub(super) async fn begin_branch(
        &self,
        bare: &Path,
        start: &CommitId,
        branch: &str,
        known: &[&str],
    ) -> Result<(), Failure> {
        let mut updates = self.bring_objects(bare, start).await?;
        let name = format!("refs/heads/{branch}");
        let tip = self.tip(&name).await?;
        let zero = "0".repeat(start.as_str().len());
        let old = tip.as_ref().map_or(zero.as_str(), CommitId::as_str);
        if let Some(tip) = &tip
            && self.beyond(&[tip.as_str()], known).await?.is_some()
        {
            let kept = self.free_name(&name).await?;
            tracing::warn!(%kept, %tip, "a branch with commits that were not handed over is kept");
            updates.extend_from_slice(format!("create {kept} {tip}\n").as_bytes());
        }
        updates.extend_from_slice(format!("update {name} {start} {old}\n").as_bytes());
        self.update(updates, BRING).await
    }

    async fn free_name(&self, name: &str) -> Result<String, Failure> {
        for n in 1..=MAX_KEPT {
            let kept = format!("{name}{KEPT}{n}");
            if self.tip(&kept).await?.is_none() {
                return Ok(kept);
            }
        }
        Err(Failure::permanent("workspace_too_many_kept", format!("{name} has {MAX_KEPT} copies that were kept"))
            .hint("look through the branches with .kept- in their names and delete those that nobody needs"))
    }

    /// Removes the branch of a workspace that is gone, unless it has commits that are in none of `known`.
    ///
    /// # Errors
    /// `workspace_remove_failed`, also when somebody moves the branch just now.
    pub(super) async fn drop_branch(&self, branch: &str, known: &[&str]) -> Result<(), Failure> {
        let name = format!("refs/heads/{branch}");
        let Some(tip) = self.tip(&name).await? else { return Ok(()) };
        if let Some(commit) = self.beyond(&[tip.as_str()], known).await? {
            tracing::warn!(branch, %commit, "the branch stays: it has commits that were not handed over");
            return Ok(());
        }
        self.refs()
            .args(["update-ref", "-d", &name, tip.as_str()])
            .must("workspace_remove_failed", "the branch of the workspace cannot be removed")
            .await
            .map(drop)
    }

    /// What a ref names; `None`: there is none.
    async fn tip(&self, name: &str) -> Result<Option<CommitId>, Failure> {
        let said = self.refs().args(["rev-parse", "--verify", "--quiet", name]).run().await?;
        match said.code {
            Some(0) => Ok(Some(CommitId(said.text()))),
            Some(1) => Ok(None),
            Some(_) | None => Err(said.failure("workspace_unreadable", &format!("{name} cannot be read"))),
        }
    }

    async fn update(&self, updates: Vec<u8>, what: &str) -> Result<(), Failure> {
        self.refs()
            .args(["update-ref", "--no-deref", "--stdin"])
            .stdin(updates)
            .must("workspace_unwritable", what)
            .await
            .map(drop)
    }

    /// Fetches the commit, and answers the updates of tags that come along, as with a clone.
    async fn bring_objects(&self, bare: &Path, commit: &CommitId) -> Result<Vec<u8>, Failure> {
        let shadow = Shadow::make(self).await?;
        shadow
            .git(self)
            .allow_directories()
            .args(["fetch", "--quiet", "--no-write-fetch-head", "--"])
            .arg(bare)
            .arg(format!("{commit}:refs/dalsegno/brought"))
            .must("workspace_unwritable", BRING)
            .await?;
        let tags = ["for-each-ref", "--format=update %(refname) %(objectname)", "refs/tags"];
        Ok(shadow.git(self).args(tags).must("workspace_unwritable", BRING).await?.out)
    }

    /// Fills the empty work tree with the commit, and makes it the head of `branch`.
    ///
    /// # Errors
    /// `workspace_unwritable`, `disk_full`.
    pub(super) async fn fill(&self, branch: &str) -> Result<(), Failure> {
        let what = "the new workspace cannot be filled";
        let name = format!("refs/heads/{branch}");
        self.refs().args(["symbolic-ref", "HEAD", &name]).must("workspace_unwritable", what).await?;
        let shadow = Shadow::make(self).await?;
        shadow.git(self).args(["reset", "--quiet", "--hard"]).must("workspace_unwritable", what).await?;
        shadow.install_index(self).await
    }

    /// Where its objects, refs and configuration are, when others have them too.
    pub(super) fn shared(&self) -> Option<&Path> {
        self.layout.is_shared().then_some(self.layout.common.as_path())
    }

    /// What of this workspace, whose branch is `own`, is in none of `known`, in words.
    pub(super) async fn loss(&self, known: &[&str], own: Option<&str>) -> Result<Option<String>, Failure> {
        let files = paths(&self.status().await?);
        if !files.is_empty() {
            let more = if files.len() == MAX_PATHS { " or more" } else { "" };
            let named: Vec<&str> = files.iter().take(5).map(String::as_str).collect();
            return Ok(Some(format!("{}{more} uncommitted paths: {}", files.len(), named.join(", "))));
        }
        // The branches of a shared repository stay when a workspace goes, but for its own: HEAD need not be on it.
        let tip = match own {
            Some(own) if self.layout.is_shared() => self.tip(&format!("refs/heads/{own}")).await?,
            Some(_) | None => None,
        };
        let mut from = if self.layout.is_shared() { Vec::new() } else { vec!["--branches", "--glob=refs/stash*"] };
        from.extend(tip.as_ref().map(CommitId::as_str));
        if self.head().await?.is_some() {
            from.push("HEAD");
        }
        if from.is_empty() {
            return Ok(None);
        }
        let commit = self.beyond(&from, known).await?;
        Ok(commit.map(|commit| format!("commits that were not handed over, the newest is {commit}")))
    }

    /// Commits everything that is not ignored; `false`: there was nothing.
    ///
    /// # Errors
    /// `commit_failed`, `disk_full`.
    pub(super) async fn commit_all(&self, message: &str, identity: &Identity) -> Result<bool, Failure> {
        if let Some(what) = self.under_way() {
            return Err(Failure::permanent("commit_failed", format!("a {what} is under way in the workspace"))
                .hint("the agent has to finish or abort it"));
        }
        let head = self.head().await?;
        let merged = self.merge_head().await?;
        let shadow = Shadow::make(self).await?;
        let unmerged = shadow.must(self, &["ls-files", "--unmerged", "-z"]).await?;
        if !unmerged.is_empty() {
            return Err(Failure::permanent("commit_failed", "a merge with conflicts is under way in the workspace")
                .hint("the agent has to resolve the conflicts or abort the merge"));
        }
        let links_before = shadow.new_links(self, head.as_ref()).await?;
        shadow.must(self, &["add", "--all", "--", "."]).await?;
        let links_after = shadow.new_links(self, head.as_ref()).await?;
        if let Some(link) = links_after.iter().find(|link| !links_before.contains(link)) {
            return Err(Failure::permanent(
                "commit_failed",
                format!("{link} is a git repository inside the workspace"),
            )
            .hint("the agent has to remove it, ignore it or add it as a submodule"));
        }
        let tree = shadow.must(self, &["write-tree"]).await?;
        let before = match &head {
            Some(head) => shadow.must(self, &["rev-parse", "--verify", &format!("{head}^{{tree}}")]).await?,
            None => shadow.empty_tree(self).await?,
        };
        if tree == before && merged.is_none() {
            return Ok(false);
        }
        let commit = shadow.commit_tree(self, &tree, head.as_ref(), merged.as_ref(), message, identity).await?;
        // First the index, then the branch: cut between the two, everything is staged, and the next try commits it.
        shadow.install_index(self).await?;
        let zero = "0".repeat(commit.as_str().len());
        let old = head.as_ref().map_or(zero.as_str(), CommitId::as_str);
        self.refs()
            .args(["update-ref", "-m", "commit: leftovers", "HEAD", commit.as_str(), old])
            .must("commit_failed", "the branch of the workspace cannot be moved")
            .await?;
        if merged.is_some() {
            self.forget_merge().await?;
        }
        Ok(true)
    }

    /// A sequence of commits that the agent began and did not end.
    fn under_way(&self) -> Option<&'static str> {
        [("rebase-merge", "rebase"), ("rebase-apply", "rebase"), ("sequencer", "cherry-pick or revert")]
            .into_iter()
            .find(|(name, _)| self.opened.git_dir.has(name))
            .map(|(_, what)| what)
    }

    /// The other side of a merge that only needs its commit.
    async fn merge_head(&self) -> Result<Option<CommitId>, Failure> {
        if !self.opened.git_dir.has("MERGE_HEAD") {
            return Ok(None);
        }
        let said = self
            .refs()
            .args(["rev-parse", "--verify", "--quiet", "MERGE_HEAD^{commit}"])
            .must("commit_failed", "the merge in the workspace cannot be read")
            .await?;
        Ok(Some(CommitId(said.text())))
    }

    async fn forget_merge(&self) -> Result<(), Failure> {
        let opened = Arc::clone(&self.opened);
        blocking("commit_failed", "the merge in the workspace", move || {
            ["MERGE_HEAD", "MERGE_MSG", "MERGE_MODE", "AUTO_MERGE"]
                .iter()
                .try_for_each(|name| opened.git_dir.remove(name))
        })
        .await
    }
}

/// A git directory of ours over the objects and a copy of the index of a workspace.
pub(super) struct Shadow {
    dir: TempDir,
}

impl Shadow {
    async fn make(work: &Work<'_>) -> Result<Self, Failure> {
        let head = work.head().await?;
        let (opened, scratch) = (Arc::clone(&work.opened), work.scratch.clone());
        blocking("workspace_unreadable", "the place for a look at the workspace", move || {
            fs::create_dir_all(&scratch)?;
            let dir = tempfile::Builder::new().prefix("look-").tempdir_in(&scratch)?;
            let at = dir.path();
            for name in ["refs", "objects", "info"] {
                fs::create_dir(at.join(name))?;
            }
            let sha256 = head.as_ref().is_some_and(|head| head.as_str().len() == 64);
            let (version, extension) = if sha256 { (1, "[extensions]\n\tobjectFormat = sha256\n") } else { (0, "") };
            fs::write(
                at.join("config"),
                format!(
                    "[core]\n\trepositoryFormatVersion = {version}\n\tbare = false\n\tsplitIndex = false\n{extension}"
                ),
            )?;
            let head = head.map_or_else(|| "ref: refs/heads/unborn\n".to_owned(), |head| format!("{head}\n"));
            fs::write(at.join("HEAD"), head)?;
            if let Ok(info) = opened.common.sub("info") {
                for name in ["exclude", "attributes"] {
                    info.copy_out(name, &at.join("info").join(name), MAX_SMALL_FILE_BYTES)?;
                }
            }
            opened.git_dir.copy_index("index", &at.join("index"))?;
            for entry in fs::read_dir(opened.git_dir.path())? {
                let name = entry?.file_name();
                if name.to_string_lossy().starts_with("sharedindex.") {
                    opened.git_dir.copy_index(&name, &at.join(&name))?;
                }
            }
            Ok(Self { dir })
        })
        .await
    }

    fn git<'a>(&self, work: &Work<'a>) -> Git<'a> {
        git(work.caller, Reach::Local, &work.path)
            .env("GIT_DIR", self.dir.path())
            .env("GIT_WORK_TREE", &work.path)
            .env("GIT_INDEX_FILE", self.dir.path().join("index"))
            .env("GIT_OBJECT_DIRECTORY", work.common().join("objects"))
    }

    /// A call that only looks: what git writes meanwhile goes into our own directory.
    pub(super) fn look<'a>(&self, work: &Work<'a>) -> Git<'a> {
        self.git(work)
            .env("GIT_OBJECT_DIRECTORY", self.dir.path().join("objects"))
            .env("GIT_ALTERNATE_OBJECT_DIRECTORIES", listed(&work.common().join("objects")))
    }

    async fn must(&self, work: &Work<'_>, args: &[&str]) -> Result<String, Failure> {
        let said = self.git(work).args(args).must("commit_failed", "the work cannot be committed").await?;
        Ok(said.text())
    }

    pub(super) async fn empty_tree(&self, work: &Work<'_>) -> Result<String, Failure> {
        let said = self
            .git(work)
            .args(["hash-object", "-t", "tree", "--stdin"])
            .stdin(Vec::new())
            .must("commit_failed", "the work cannot be committed")
            .await?;
        Ok(said.text())
    }

    /// Paths that became links to other repositories since `head`.
    async fn new_links(&self, work: &Work<'_>, head: Option<&CommitId>) -> Result<Vec<String>, Failure> {
        let Some(head) = head else {
            let staged = self.must(work, &["ls-files", "--stage", "-z"]).await?;
            let links = staged.split('\0').filter(|entry| entry.starts_with("160000 "));
            return Ok(links.filter_map(|entry| entry.split_once('\t')).map(|(_, path)| path.to_owned()).collect());
        };
        let raw = self
            .must(work, &["diff-index", "--cached", "--raw", "-z", "--no-renames", "--diff-filter=A", head.as_str()])
            .await?;
        let mut fields = raw.split('\0');
        let mut links = Vec::new();
        while let (Some(what), Some(path)) = (fields.next(), fields.next()) {
            if what.starts_with(":000000 160000 ") {
                links.push(path.to_owned());
            }
        }
        Ok(links)
    }

    async fn commit_tree(
        &self,
        work: &Work<'_>,
        tree: &str,
        head: Option<&CommitId>,
        merged: Option<&CommitId>,
        message: &str,
        identity: &Identity,
    ) -> Result<CommitId, Failure> {
        let mut call = self.git(work).args(["commit-tree", tree]);
        for parent in head.into_iter().chain(merged) {
            call = call.args(["-p", parent.as_str()]);
        }
        let said = call
            .args(["-F", "-"])
            .stdin(format!("{message}\n").into_bytes())
            .env("GIT_AUTHOR_NAME", &identity.name)
            .env("GIT_AUTHOR_EMAIL", &identity.email)
            .env("GIT_COMMITTER_NAME", &identity.name)
            .env("GIT_COMMITTER_EMAIL", &identity.email)
            .must("commit_failed", "the work cannot be committed")
            .await?;
        Ok(CommitId(said.text()))
    }

    /// Puts our index in the place of the workspace's.
    async fn install_index(&self, work: &Work<'_>) -> Result<(), Failure> {
        let (from, opened) = (self.dir.path().join("index"), Arc::clone(&work.opened));
        tokio::task::spawn_blocking(move || {
            opened.git_dir.replace("index", |new| {
                let mut index = fs::File::open(&from)?;
                io::copy(&mut index, new)?;
                new.set_modified(index.metadata()?.modified()?)
            })
        })
        .await
        .map_err(io::Error::other)
        .flatten()
        .map_err(|error| io_failure("commit_failed", "the index of the workspace cannot be written", &error))
    }
}

/// A path as a list of paths has it, in which colons stand between them.
fn listed(path: &Path) -> OsString {
    let bytes = path.as_os_str().as_bytes();
    if !bytes.contains(&b':') && !bytes.starts_with(b"\"") {
        return path.as_os_str().to_owned();
    }
    let mut quoted = vec![b'"'];
    for byte in bytes {
        if matches!(byte, b'"' | b'\\') {
            quoted.push(b'\\');
        }
        quoted.push(*byte);
    }
    quoted.push(b'"');
    OsString::from_vec(quoted)
}

/// The paths of `git status --porcelain -z`, at most 50.
fn paths(status: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(status);
    text.split('\0').filter_map(|entry| entry.get(3..)).map(str::to_owned).take(MAX_PATHS).collect()
}
