//! Where the repository of a workspace is: in the workspace, or, with `workspace.strategy: worktree`, in one that the
//! workspaces of a root share.
//!
//! ```text
//! <root>/.dalsegno/shared/<key>.git                the shared repository; agents write it
//! <root>/.dalsegno/shared/<key>.git/worktrees/<k>  git directory of the workspace <k>
//! <root>/<k>/.git                                  a file that says so; agents need it, we do not believe it
//! ```

use std::ffi::OsStr;
use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use dalsegno_engine::core::{Failure, Policy, WorkspaceStrategy};

use super::git::{Caller, Reach, git};
use super::held::Held;
use super::key::repository_key;
use super::links;
use super::place::{OURS, SHARED, blocking, kept_copies, remove_tree, sync_parent};

/// Where git keeps what belongs to one worktree.
const WORKTREES: &str = "worktrees";
const KEPT_ALONG: &str = "the git directory of a workspace that is kept";

/// The directories of a workspace's repository, held open.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) git_dir: Held,
    pub(super) common: Held,
}

/// The directories of a workspace's repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Layout {
    /// Where HEAD and index are.
    pub(super) git_dir: PathBuf,
    /// Where objects, refs and configuration are.
    pub(super) common: PathBuf,
}

impl Layout {
    /// Of the workspace at `path`, directly below its resolved root.
    pub(super) fn of(policy: &Policy, path: &Path) -> Self {
        match (policy.workspace.strategy, path.parent(), path.file_name()) {
            (WorkspaceStrategy::Worktree, Some(root), Some(key)) => {
                let remote = policy.handoff.as_ref().map_or("", |handoff| handoff.remote.as_str());
                let key_of = repository_key(&format!("{}#{remote}", policy.workspace.repo));
                let common = root.join(OURS).join(SHARED).join(format!("{key_of}.git"));
                Self { git_dir: common.join(WORKTREES).join(key), common }
            }
            (WorkspaceStrategy::Clone | WorkspaceStrategy::Empty, ..) | (WorkspaceStrategy::Worktree, ..) => {
                Self { git_dir: path.join(".git"), common: path.join(".git") }
            }
        }
    }

    /// Whether others have the same repository.
    pub(super) fn is_shared(&self) -> bool {
        self.git_dir != self.common
    }

    /// What the file `.git` of a workspace says.
    pub(super) fn pointer(&self) -> String {
        format!("gitdir: {}\n", self.git_dir.display())
    }

    /// Opens the directories, by no link. Of the shared repository everything may be replaced by who shares it; of a
    /// workspace all that is in it.
    pub(super) fn hold(&self) -> io::Result<Opened> {
        let common = self.hold_common()?;
        let git_dir = match self.git_dir.file_name() {
            Some(key) if self.is_shared() => common.sub(WORKTREES)?.sub(key)?,
            Some(_) | None => self.hold_common()?,
        };
        Ok(Opened { git_dir, common })
    }

    fn hold_common(&self) -> io::Result<Held> {
        match (self.common.parent(), self.common.file_name()) {
            (Some(parent), Some(name)) => Held::open(parent)?.sub(name),
            (Some(_), None) | (None, _) => Err(io::Error::from(io::ErrorKind::InvalidInput)),
        }
    }

    /// The name of the workspace among the worktrees of the shared repository.
    fn key(&self) -> io::Result<&OsStr> {
        self.git_dir.file_name().ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))
    }

    /// Whether the repository can be worked with; `Some(None)`: there is none, `Some(Some(_))`: why not. What is
    /// `opened` is looked at as it was opened.
    pub(super) fn refused(&self, path: &Path, opened: Option<&Opened>) -> io::Result<Option<Option<&'static str>>> {
        let dot_git = path.join(".git");
        match fs::symlink_metadata(&dot_git) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Some(None)),
            Err(error) => return Err(error),
            Ok(meta) if self.is_shared() => {
                let says = meta.is_file() && meta.len() < 16 * 1024;
                let said = if says { Held::open(path)?.file(".git")? } else { None };
                let mut text = String::new();
                if let Some(file) = said {
                    file.take(16 * 1024).read_to_string(&mut text)?;
                }
                if text != self.pointer() {
                    return Ok(Some(Some(".git does not lead to the git directory that was made for it")));
                }
            }
            Ok(meta) if !meta.is_dir() => return Ok(Some(Some(".git is no directory"))),
            Ok(_) => {}
        }
        let (git_dir, common) = match opened {
            Some(opened) => (opened.git_dir.path(), opened.common.path()),
            None => (self.git_dir.clone(), self.common.clone()),
        };
        let is_directory = |path: &Path| fs::symlink_metadata(path).is_ok_and(|meta| meta.is_dir());
        if opened.is_none() && !(is_directory(&git_dir) && is_directory(&common))
            || !is_directory(&common.join("objects"))
        {
            return Ok(Some(Some("its git directory or its objects are no directory")));
        }
        for (name, why) in [
            ("objects/info/alternates", "it borrows objects from another repository"),
            ("objects/info/http-alternates", "it borrows objects from another repository"),
            ("commondir", "its refs are in another repository"),
        ] {
            if fs::symlink_metadata(common.join(name)).is_ok() {
                return Ok(Some(Some(why)));
            }
        }
        if self.is_shared()
            && let Some(why) = links::refused(&git_dir)?
        {
            return Ok(Some(Some(why)));
        }
        Ok(links::refused(&common)?.map(Some))
    }

    /// Makes the shared repository if it is not there, and a git directory in it for a workspace that is being made in
    /// `dir` and will be at `path`.
    ///
    /// # Errors
    /// `workspace_unwritable`, `disk_full`.
    pub(super) async fn make(&self, caller: &Caller, dir: &Path, path: &Path, format: &str) -> Result<(), Failure> {
        let what = "the repository of the worktrees cannot be made";
        // Beside the directory where it will be: there agents can write.
        let (Some(shared), Some(name)) = (self.common.parent(), self.common.file_name()) else {
            return Err(Failure::permanent("workspace_unwritable", what));
        };
        let half = shared.with_file_name(name).with_extension("new");
        if !self.common.join("HEAD").exists() {
            let (new, shared) = (half.clone(), shared.to_owned());
            blocking("workspace_unwritable", "the repository of the worktrees", move || {
                remove_tree(&new)?;
                fs::create_dir_all(&new)?;
                fs::create_dir_all(shared)
            })
            .await?;
            git(caller, Reach::Local, &half)
                .args(["init", "--quiet", "--bare", "--template=", &format!("--object-format={format}"), "."])
                .must("workspace_unwritable", what)
                .await?;
        }
        let (layout, dir, path) = (self.clone(), dir.to_owned(), path.to_owned());
        blocking("workspace_unwritable", "the repository of the worktrees", move || {
            if !layout.common.join("HEAD").exists() {
                fs::rename(&half, &layout.common)?;
                sync_parent(&layout.common)?;
            }
            let (worktrees, key) = (layout.hold_common()?.make(WORKTREES)?, layout.key()?);
            if let Some(kept) = layout.left_behind(&path)? {
                layout.follow(&kept)?;
            }
            remove_tree(&worktrees.path().join(key))?;
            let git_dir = worktrees.make(key)?;
            git_dir.write("commondir", "../..\n")?;
            git_dir.write("gitdir", &format!("{}\n", path.join(".git").display()))?;
            git_dir.write("HEAD", "ref: refs/heads/unborn\n")?;
            fs::write(dir.join(".git"), layout.pointer())
        })
        .await
    }

    /// Forgets the workspace's git directory; its branch is another matter.
    ///
    /// # Errors
    /// `workspace_remove_failed`.
    pub(super) async fn forget(&self) -> Result<(), Failure> {
        if !self.is_shared() {
            return Ok(());
        }
        let layout = self.clone();
        blocking("workspace_remove_failed", "the workspace's git directory", move || {
            match layout.hold_common().and_then(|common| common.sub(WORKTREES)) {
                Ok(worktrees) => remove_tree(&worktrees.path().join(layout.key()?)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                Err(error) => Err(error),
            }
        })
        .await
    }

    /// Has HEAD be this commit itself, before a workspace is moved aside: the branch is for the one that takes its place.
    pub(super) async fn detach(&self, head: &str) -> Result<(), Failure> {
        let (layout, head) = (self.clone(), head.to_owned());
        blocking("workspace_unwritable", KEPT_ALONG, move || layout.hold()?.git_dir.write("HEAD", &format!("{head}\n")))
            .await
    }

    /// Follows a workspace that was moved aside to `kept`. Cut off before that, the next [`Layout::make`] does it.
    pub(super) async fn move_aside(&self, kept: &Path) -> Result<(), Failure> {
        if !(self.is_shared() && self.git_dir.is_dir()) {
            return Ok(());
        }
        let (layout, kept) = (self.clone(), kept.to_owned());
        blocking("workspace_unwritable", KEPT_ALONG, move || layout.follow(&kept)).await
    }

    fn follow(&self, kept: &Path) -> io::Result<()> {
        let name = kept.file_name().ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        let moved = Self { git_dir: self.git_dir.with_file_name(name), common: self.common.clone() };
        let worktrees = self.hold_common()?.sub(WORKTREES)?;
        remove_tree(&worktrees.path().join(name))?;
        worktrees.rename(self.key()?, &worktrees, name)?;
        worktrees.sub(name)?.write("gitdir", &format!("{}\n", kept.join(".git").display()))?;
        Held::open(kept)?.write(".git", &moved.pointer())
    }

    /// Of the workspace at `path`: a kept copy that was moved aside, and its git directory was not yet.
    fn left_behind(&self, path: &Path) -> io::Result<Option<PathBuf>> {
        let (Some(root), false) = (path.parent(), fs::symlink_metadata(path).is_ok()) else { return Ok(None) };
        for kept in kept_copies(root, self.key()?) {
            match fs::symlink_metadata(&kept) {
                Ok(meta) if meta.is_dir() && self.refused(&kept, None)?.is_none() => return Ok(Some(kept)),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// The shared repository by itself, apart from any worktree.
    pub(super) fn of_shared(&self) -> Self {
        Self { git_dir: self.common.clone(), common: self.common.clone() }
    }
}
