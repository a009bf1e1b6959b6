//! Where the repository of a workspace is: in the workspace, or, with `workspace.strategy: worktree`, in one that the
//! workspaces of a root share.
//!
//! ```text
//! <root>/.dalsegno/shared/<key>.git                the shared repository; agents write it
//! <root>/.dalsegno/shared/<key>.git/worktrees/<k>  git directory of the workspace <k>
//! <root>/<k>/.git                                  a file that says so; agents need it, we do not believe it
//! ```

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use dalsegno_engine::core::{Failure, Policy, WorkspaceStrategy};

use super::git::{Caller, Reach, git};
use super::key::repository_key;
use super::links;
use super::place::{OURS, SHARED, blocking, remove_tree, sync_parent};

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
                Self { git_dir: common.join("worktrees").join(key), common }
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

    /// Whether the repository can be worked with; `Some(None)`: there is none, `Some(Some(_))`: why not.
    pub(super) fn refused(&self, path: &Path) -> io::Result<Option<Option<&'static str>>> {
        let dot_git = path.join(".git");
        match fs::symlink_metadata(&dot_git) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Some(None)),
            Err(error) => return Err(error),
            Ok(meta) if self.is_shared() => {
                let says = meta.is_file() && meta.len() < 16 * 1024;
                if !says || fs::read(&dot_git)? != self.pointer().as_bytes() {
                    return Ok(Some(Some(".git does not lead to the git directory that was made for it")));
                }
            }
            Ok(meta) if !meta.is_dir() => return Ok(Some(Some(".git is no directory"))),
            Ok(_) => {}
        }
        for dir in [&self.git_dir, &self.common, &self.common.join("objects")] {
            if !fs::symlink_metadata(dir).is_ok_and(|meta| meta.is_dir()) {
                return Ok(Some(Some("its git directory or its objects are no directory")));
            }
        }
        for (name, why) in [
            ("objects/info/alternates", "it borrows objects from another repository"),
            ("objects/info/http-alternates", "it borrows objects from another repository"),
            ("commondir", "its refs are in another repository"),
        ] {
            if fs::symlink_metadata(self.common.join(name)).is_ok() {
                return Ok(Some(Some(why)));
            }
        }
        if self.is_shared()
            && let Some(why) = links::refused(&self.git_dir)?
        {
            return Ok(Some(Some(why)));
        }
        Ok(links::refused(&self.common)?.map(Some))
    }

    /// Makes the shared repository if it is not there, and a git directory in it for a workspace that is being made in
    /// `dir` and will be at `path`.
    ///
    /// # Errors
    /// `workspace_unwritable`, `disk_full`.
    pub(super) async fn make(&self, caller: &Caller, dir: &Path, path: &Path, format: &str) -> Result<(), Failure> {
        let what = "the repository of the worktrees cannot be made";
        let (common, half) = (self.common.clone(), self.common.with_extension("new"));
        if !common.join("HEAD").exists() {
            let new = half.clone();
            blocking("workspace_unwritable", "the repository of the worktrees", move || {
                remove_tree(&new)?;
                fs::create_dir_all(&new)
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
            remove_tree(&layout.git_dir)?;
            fs::create_dir_all(&layout.git_dir)?;
            fs::write(layout.git_dir.join("commondir"), "../..\n")?;
            fs::write(layout.git_dir.join("gitdir"), format!("{}\n", path.join(".git").display()))?;
            fs::write(layout.git_dir.join("HEAD"), "ref: refs/heads/unborn\n")?;
            fs::write(dir.join(".git"), layout.pointer())
        })
        .await
    }

    /// Forgets the workspace's git directory; its branch goes with it.
    pub(super) async fn forget(&self, caller: &Caller, branch: Option<&str>) -> Result<(), Failure> {
        if !self.is_shared() {
            return Ok(());
        }
        let git_dir = self.git_dir.clone();
        blocking("workspace_remove_failed", "the workspace's git directory", move || remove_tree(&git_dir)).await?;
        if let Some(branch) = branch.filter(|_| self.common.is_dir()) {
            git(caller, Reach::Local, &self.common)
                .args(["--git-dir=.", "update-ref", "-d", &format!("refs/heads/{branch}")])
                .must("workspace_remove_failed", "the branch of the workspace cannot be removed")
                .await?;
        }
        Ok(())
    }

    /// Follows a workspace that was moved aside to `kept`. Its HEAD is the commit itself from now on: the branch is for
    /// the workspace that takes its place.
    pub(super) async fn move_aside(&self, head: Option<&str>, kept: &Path) -> Result<(), Failure> {
        let Some(name) = kept.file_name().filter(|_| self.is_shared() && self.git_dir.is_dir()) else { return Ok(()) };
        let (from, to) = (self.git_dir.clone(), self.git_dir.with_file_name(name));
        let moved = Self { git_dir: to.clone(), common: self.common.clone() };
        let (head, kept) = (head.map(str::to_owned), kept.to_owned());
        blocking("workspace_unwritable", "the git directory of a workspace that is kept", move || {
            remove_tree(&to)?;
            fs::rename(&from, &to)?;
            for (file, text) in [
                (to.join("gitdir"), Some(format!("{}\n", kept.join(".git").display()))),
                (to.join("HEAD"), head.map(|head| format!("{head}\n"))),
                (kept.join(".git"), Some(moved.pointer())),
            ] {
                let Some(text) = text else { continue };
                let half = file.with_extension("dalsegno");
                match fs::remove_file(&half) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    Ok(()) | Err(_) => {}
                }
                let mut new = fs::OpenOptions::new().write(true).create_new(true).open(&half)?;
                io::Write::write_all(&mut new, text.as_bytes())?;
                fs::rename(&half, &file)?;
            }
            Ok(())
        })
        .await
    }
}
