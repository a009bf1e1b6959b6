//! What a run changed, as a query: nothing of it is journaled, and nothing is changed by looking.

use async_trait::async_trait;
use dalsegno_core::{CommitId, Failure, Policy, RunId, Workspace};

/// Shows what runs changed.
#[async_trait]
pub trait Changes: Send + Sync + 'static {
    /// The change that was wanted: of the workspace as it stands now, or where that is gone, of the commit that was handed
    /// over. Bounded in time and size.
    ///
    /// # Errors
    /// `workspace_missing` (there is nothing left to look at), `workspace_*`, `base_not_found`, `commit_missing`,
    /// `git_timeout`, `sandbox_unavailable`.
    async fn change(&self, policy: &Policy, wanted: &ChangeWanted) -> Result<Change, Failure>;
}

/// Which change is wanted. At least one of `workspace` and `commit` is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangeWanted {
    /// Whose.
    pub run: RunId,
    /// The workspace, if the run is the last that worked in it.
    pub workspace: Option<Workspace>,
    /// What the work began with, as far as the journal says.
    pub base: Option<CommitId>,
    /// What was handed over.
    pub commit: Option<CommitId>,
}

/// What was changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Change {
    /// What it is compared with; `None`: nothing at all, every file is new.
    pub base: Option<CommitId>,
    /// The newest commit in it; `None` before the first.
    pub head: Option<CommitId>,
    /// It is that of the workspace, with what is not committed; else that of `head` alone.
    pub from_workspace: bool,
    /// In the order of git; at most [`MAX_CHANGED_FILES`].
    pub files: Vec<FileChange>,
    /// How many files there are.
    pub total: usize,
    /// Files, or the text of some, were left out or cut.
    pub truncated: bool,
}

/// Files of a change that are named.
pub const MAX_CHANGED_FILES: usize = 2_000;

/// One changed file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileChange {
    /// Where it is, or was; bytes that are no UTF-8 are U+FFFD.
    pub path: String,
    /// Where it was before it was renamed.
    pub old_path: Option<String>,
    /// What became of it.
    pub status: FileStatus,
    /// Lines that came; `None` for what has no lines.
    pub additions: Option<u64>,
    /// Lines that went.
    pub deletions: Option<u64>,
    /// It is no text, or too large to be looked at.
    pub binary: bool,
    /// Its patch was left out or cut.
    pub truncated: bool,
    /// The patch as git writes it; bytes that are no UTF-8 are U+FFFD. `None` when there is none to show.
    pub patch: Option<String>,
}

/// What became of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileStatus {
    /// It is new.
    Added,
    /// It is gone.
    Deleted,
    /// Its content or its mode changed.
    Modified,
    /// It has another name, and perhaps another content.
    Renamed,
    /// A file became a link or a submodule, or the other way round.
    TypeChanged,
}

impl FileStatus {
    /// The word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Deleted => "deleted",
            Self::Modified => "modified",
            Self::Renamed => "renamed",
            Self::TypeChanged => "type_changed",
        }
    }
}
