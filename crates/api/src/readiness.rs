//! How ready the daemon is: the surfaces, and the plan that brings them back in line.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// `GET /api/v1/readiness`: how ready the daemon is, and what is left to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Readiness {
    /// As [`Ready::status`](crate::Ready::status).
    pub status: String,
    /// Why, in stable words: `runtime_store_manifest_valid`, `runtime_store_rebuild_in_progress`,
    /// `runtime_store_recovery_required`.
    pub reason: String,
    /// It takes work: all of it, or all but what a block holds up.
    pub takes_work: bool,
    /// Steps that are to be done.
    pub remaining: u64,
    /// The steps, at most 200; then one `none` for each surface that is as it should be.
    pub plan: Vec<PlanStep>,
    /// Everything that is inspected.
    pub surfaces: Vec<Surface>,
    /// When what is outside the journal was looked at last; none before the first look, and without a daemon.
    #[serde(default)]
    pub looked_at: Option<String>,
    /// How the disk is used, as the last look found it.
    #[serde(default)]
    pub disk: Option<DiskUse>,
}

/// How the disk is used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DiskUse {
    /// Bytes that are free where workspaces and the state directory are: the lower figure.
    pub free_bytes: u64,
    /// Bytes that the state directory takes: journal, transcripts, log, the repository from which branches are pushed; null when it was not
    /// measured.
    #[serde(default)]
    pub state_bytes: Option<u64>,
    /// Bytes that all workspaces take, as far as they were measured.
    pub used_bytes: u64,
    /// Bytes that they may take (`workspace.disk_limit_gb`).
    pub limit_bytes: Option<u64>,
    /// The workspaces, the largest first, at most 200.
    pub workspaces: Vec<WorkspaceUse>,
}

/// What a workspace takes on the disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WorkspaceUse {
    /// Identifier of the issue that owns it; none: nobody does.
    pub issue: Option<String>,
    /// Where it is; withheld from callers without a token.
    pub path: Option<String>,
    /// What it takes.
    pub bytes: u64,
}

/// A step of a recovery plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PlanStep {
    /// Name of the surface.
    pub surface: String,
    /// What is done: `none`, `roll_forward`, `verify_destination`, `reap`, `block`, …
    pub action: String,
    /// Why, in stable words.
    pub reason: String,
    /// About which run, issue, effect or path; empty for `none`.
    pub member: String,
    /// What stands still meanwhile: `run`, `project` or `system`.
    pub scope: String,
    /// In words; withheld from callers without a token.
    pub detail: Option<String>,
}

/// Formats from the oldest to the newest. What is older is brought up, what is newer is refused and left as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SchemaRange {
    /// The oldest that can be read.
    pub oldest: u32,
    /// The one that is written.
    pub newest: u32,
}

/// Something that holds state and is inspected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Surface {
    /// Its name.
    pub name: String,
    /// `run`, `project` or `system`.
    pub scope: String,
    /// Who is right when it and the journal disagree.
    pub authority: String,
    /// `readiness_blocking`, `rebuildable_from_provider`, `rebuildable_from_destination` or `diagnostic_only`.
    pub criticality: String,
    /// Its formats that can be read; null when it has none of ours.
    pub schema: Option<SchemaRange>,
    /// How it is brought back in line.
    pub strategy: String,
}
