//! What a run changed: its workspace compared with what it began with, or in our own repository the commit that was
//! handed over.
//!
//! A look. It runs no program but git, in the sandbox of git and without the configuration of the workspace; it writes
//! neither into the index nor the objects of the workspace; and it is bounded. Files that are larger than [`MAX_FILE_BYTES`] are named
//! and not read, nor are those beyond [`MAX_READ_BYTES`] altogether.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use dalsegno_engine::core::{CommitId, Failure, Policy, Workspace};
use dalsegno_engine::{Change, ChangeWanted, Changes, FileStatus, MAX_CHANGED_FILES};

use super::LocalWorkspaces;
use super::git::{Caller, Git};
use super::patch;
use super::place::{blocking, contained};
use super::repository::{Bare, Remote};
use super::work::{Shadow, Work};

/// For all of one look.
const LOOK_LIMIT: Duration = Duration::from_secs(30);
/// A file that is larger is named and not read.
const MAX_FILE_BYTES: u64 = 2 * 1024 * 1024;
/// Of all files together so much is read.
const MAX_READ_BYTES: u64 = 64 * 1024 * 1024;
/// Names that are given to one call of git, in bytes.
const MAX_NAMES_BYTES: usize = 512 * 1024;
/// Of the patch so much is looked at.
const MAX_PATCH_BYTES: usize = 1024 * 1024;
/// What cannot be compared.
const WHAT: &str = "the change cannot be looked at";

#[async_trait]
impl Changes for LocalWorkspaces {
    async fn change(&self, policy: &Policy, wanted: &ChangeWanted) -> Result<Change, Failure> {
        self.tidy().await?;
        // Dropped, a call ends its git, and the place for the look goes with it.
        match tokio::time::timeout(LOOK_LIMIT, self.look_at(policy, wanted)).await {
            Ok(change) => change,
            Err(_) => Err(Failure::retryable(
                "git_timeout",
                format!(
                    "a look at what {} changed took longer than {} s and was ended",
                    wanted.run,
                    LOOK_LIMIT.as_secs()
                ),
            )
            .hint("look in the workspace itself with `git diff`")),
        }
    }
}

impl LocalWorkspaces {
    async fn look_at(&self, policy: &Policy, wanted: &ChangeWanted) -> Result<Change, Failure> {
        let gone = match &wanted.workspace {
            Some(workspace) => match self.of_workspace(policy, workspace).await {
                Err(failure) if failure.code == "workspace_missing" && wanted.commit.is_some() => Some(failure),
                looked => return looked,
            },
            None => None,
        };
        match (&wanted.commit, gone) {
            (Some(commit), _) => self.of_commit(policy, wanted.base.as_ref(), commit).await,
            (None, Some(failure)) => Err(failure),
            (None, None) => Err(Failure::permanent(
                "workspace_missing",
                format!("the workspace of {} is gone, and nothing was handed over", wanted.run),
            )),
        }
    }

    async fn of_workspace(&self, policy: &Policy, workspace: &Workspace) -> Result<Change, Failure> {
        let path = contained(policy, &workspace.path).await?;
        let caller = Caller::look().shut_in(policy, &self.state_dir, &path)?;
        let Some(work) = self.open(&caller, policy, workspace, &path).await? else {
            return Err(Failure::permanent("no_repository", format!("{} is no git repository", path.display()))
                .hint("there is nothing to compare it with; look into the directory itself"));
        };
        let head = work.head().await?;
        let base = workspace.base_commit.clone().or_else(|| head.clone());
        if let Some(base) = &base
            && !work.has(base.as_str()).await?
        {
            return Err(Failure::permanent(
                "base_missing",
                format!("the commit {base}, which the work began with, is not in the workspace any more"),
            )
            .hint("its history was rewritten; look into the workspace itself"));
        }
        let shadow = work.shadow().await?;
        let tree = match &base {
            Some(base) => base.to_string(),
            None => shadow.empty_tree(&work).await?,
        };
        let of = Of::Work { work: &work, shadow: &shadow, tree };
        of.name_unknown_files().await?;
        Ok(Change { base, head, from_workspace: true, ..of.change().await? })
    }

    async fn of_commit(&self, policy: &Policy, base: Option<&CommitId>, commit: &CommitId) -> Result<Change, Failure> {
        let caller = Caller::look();
        let remote = Remote::of(&caller, policy).await?;
        let bare = self.repositories.hold(&caller, &self.state_dir, &remote).await?;
        let lost = |what: &str, code: &str| {
            Failure::permanent(code, format!("{what} is not in the daemon's own repository any more"))
                .hint("the workspace is gone too; look at the branch on the remote")
        };
        let Some(base) = base else { return Err(lost("the commit that the work began with", "base_missing")) };
        for (commit, code) in [(base, "base_missing"), (commit, "commit_missing")] {
            if bare.commit_at(&caller, commit.as_str()).await?.as_ref() != Some(commit) {
                return Err(lost(&format!("the commit {commit}"), code));
            }
        }
        let of = Of::Bare { bare: &bare, caller: &caller, base, commit };
        Ok(Change { base: Some(base.clone()), head: Some(commit.clone()), ..of.change().await? })
    }
}

/// What is compared.
enum Of<'a> {
    /// A work tree with a tree of its repository.
    Work { work: &'a Work<'a>, shadow: &'a Shadow, tree: String },
    /// Two commits of our own repository.
    Bare { bare: &'a Bare, caller: &'a Caller, base: &'a CommitId, commit: &'a CommitId },
}

impl Of<'_> {
    fn call(&self) -> Git<'_> {
        let call = match self {
            Self::Work { work, shadow, .. } => shadow.look(work),
            Self::Bare { bare, caller, .. } => bare.local(caller),
        };
        // What is written is gone with the look; what is large is not read; and names are names.
        let big = format!("core.bigFileThreshold={MAX_FILE_BYTES}");
        call.args(["-c", "core.fsync=none", "-c", &big, "--literal-pathspecs"]).limit(LOOK_LIMIT)
    }

    /// Files that git does not know go into our copy of the index, by their names alone.
    async fn name_unknown_files(&self) -> Result<(), Failure> {
        let list = ["ls-files", "--others", "--exclude-standard", "-z"];
        let unknown = self.call().args(list).must("workspace_unreadable", WHAT).await?.out;
        if unknown.is_empty() {
            return Ok(());
        }
        let name = ["add", "--intent-to-add", "--pathspec-from-file=-", "--pathspec-file-nul"];
        self.call().args(name).stdin(unknown).must("workspace_unreadable", WHAT).await.map(drop)
    }

    /// A comparison, with these options, of these files or of all.
    fn compare(&self, options: &[&str], names: Option<&[Vec<u8>]>) -> Git<'_> {
        let fixed = ["--no-ext-diff", "--no-textconv", "--no-color", "--ignore-submodules=dirty", "--submodule=short"];
        let (verb, trees): (&[&str], [Option<&str>; 2]) = match self {
            Self::Work { tree, .. } => (&["diff-index"], [Some(tree), None]),
            Self::Bare { base, commit, .. } => (&["diff-tree", "-r"], [Some(base.as_str()), Some(commit.as_str())]),
        };
        let call = self.call().args(verb).args(fixed).args(options).args(trees.into_iter().flatten()).arg("--");
        match names {
            Some(names) => call.args(names.iter().map(|name| OsString::from_vec(name.clone()))),
            None => call,
        }
    }

    async fn change(&self) -> Result<Change, Failure> {
        let options = ["--name-status", "-z", "--no-renames"];
        let named = patch::named(&self.compare(&options, None).must("workspace_unreadable", WHAT).await?.out);
        let total = named.len();
        let (read, left) = self.weigh(named).await?;
        let wanted = (read.len() < total).then_some(read.as_slice());
        let (listed, patch) = if read.is_empty() {
            (Vec::new(), (Vec::new(), false))
        } else {
            let listed = self.compare(&["--raw", "--numstat", "-z", "-M", "-l200"], wanted);
            let listed = listed.must("workspace_unreadable", WHAT).await?.out;
            let said = self.compare(&["-p", "-M", "-l200"], wanted).enough(MAX_PATCH_BYTES).run().await?;
            if !said.ok() && !said.cut {
                return Err(said.failure("workspace_unreadable", WHAT));
            }
            (listed, (said.out, said.cut))
        };
        let mut files = patch::files(&listed, &patch.0, patch.1);
        let unread = total.saturating_sub(read.len() + left.len());
        files.extend(left.iter().map(|(name, status)| patch::unread(name, *status)));
        // A rename is one file of two names, and one that only looked changed is none.
        let total = files.len() + unread;
        files.truncate(MAX_CHANGED_FILES);
        let truncated = total > files.len() || files.iter().any(|file| file.truncated);
        Ok(Change { files, total, truncated, ..Change::default() })
    }

    /// What is read, and what is only named because it is too large; the rest is not even named.
    async fn weigh(&self, named: Vec<(Vec<u8>, FileStatus)>) -> Result<Weighed, Failure> {
        let top = match self {
            Self::Work { work, .. } => Some(work.path().to_owned()),
            // There git knows how large a thing is without reading it.
            Self::Bare { .. } => None,
        };
        let weigh = move || Ok(weigh(top.as_deref(), named));
        blocking("workspace_unreadable", "the files of the workspace", weigh).await
    }
}

/// Names of what is read, and of what is not, with what became of it.
type Weighed = (Vec<Vec<u8>>, Vec<(Vec<u8>, FileStatus)>);

fn weigh(top: Option<&Path>, named: Vec<(Vec<u8>, FileStatus)>) -> Weighed {
    let (mut read, mut left) = (Vec::new(), Vec::new());
    let (mut bytes, mut length) = (0_u64, 0_usize);
    for (name, status) in named.into_iter().take(MAX_CHANGED_FILES) {
        let meta = top.and_then(|top| fs::symlink_metadata(top.join(OsStr::from_bytes(&name))).ok());
        let size = meta.filter(fs::Metadata::is_file).map_or(0, |meta| meta.len());
        length += name.len() + 1;
        let room = MAX_READ_BYTES.saturating_sub(bytes);
        if size > MAX_FILE_BYTES.min(room) || length > MAX_NAMES_BYTES {
            left.push((name, status));
        } else {
            bytes += size;
            read.push(name);
        }
    }
    (read, left)
}
