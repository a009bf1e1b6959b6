//! What a run changed, on the wire.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// `GET /api/v1/runs/{id}/diff`: what a run changed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct RunDiff {
    /// Name of the run.
    pub run: String,
    /// The commit that it is compared with; null where there is none, and every file is new.
    pub base: Option<String>,
    /// The newest commit in it; null before the first.
    pub head: Option<String>,
    /// `workspace`: as it stands, with what is not committed. `commit`: what was handed over, for the workspace is gone or has
    /// gone on.
    pub source: String,
    /// When it was looked at.
    pub taken_at: String,
    /// How many files there are.
    pub total_files: u64,
    /// Lines that came, in the files below.
    pub additions: u64,
    /// Lines that went, in the files below.
    pub deletions: u64,
    /// Files, or the patches of some, were left out or cut.
    pub truncated: bool,
    /// At most 2,000, in the order of git. Together they have at most 1 MiB of patches.
    pub files: Vec<FileDiff>,
}

/// What became of one file.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct FileDiff {
    /// Where it is, or was; bytes that are no UTF-8 are U+FFFD, here and in `patch`.
    pub path: String,
    /// Where it was before it was renamed.
    pub old_path: Option<String>,
    /// `added`, `deleted`, `modified`, `renamed`, `type_changed`.
    pub status: String,
    /// Lines that came; null for what has no lines.
    pub additions: Option<u64>,
    /// Lines that went.
    pub deletions: Option<u64>,
    /// It is no text.
    pub binary: bool,
    /// Its patch was left out or cut: the file is larger than 2 MiB, or its patch than 128 KiB, or there is too much before it.
    pub truncated: bool,
    /// The patch, as `git diff` writes it; null when there is none to show.
    pub patch: Option<String>,
}
