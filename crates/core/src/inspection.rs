//! What a look outside the journal is told, sees, and leads to: the words of `outside.rs`.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::blob::{Broken, FoundFile};
use crate::effect::Failure;
use crate::ids::RunId;
use crate::issue::IssueEntry;
use crate::run::{Phase, Run};
use crate::state::State;
use crate::surface::{Remedy, Surface};

/// Workspaces whose use of the disk is told, the largest first.
pub const USES_TOLD: usize = 200;
/// With less free than this, no workspace is begun.
pub const MIN_FREE_BYTES: u64 = 256 * 1024 * 1024;

/// What was seen outside. A surface that could not be looked at says why: it does not count as healthy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inspection {
    /// Directories below the workspaces' root, and those that the fold knows elsewhere.
    pub workspaces: Result<Vec<FoundWorkspace>, Failure>,
    /// Processes that carry a mark of this journal, by the mark.
    pub processes: Result<Vec<FoundProcess>, Failure>,
    /// Transcripts that are not as they should be, of those that were read through.
    pub transcripts: Result<Vec<FoundTranscript>, Failure>,
    /// Kept files and their receipts, where something is to be told of them.
    pub blobs: Result<Vec<FoundFile>, Failure>,
    /// The pages of the database.
    pub database: Soundness,
    /// Free bytes where workspaces and state are: the lower figure.
    pub free_bytes: Result<u64, Failure>,
    /// What the state directory takes; `None`: not measured.
    pub state_bytes: Option<u64>,
}

impl Inspection {
    /// Nothing could be looked at.
    #[must_use]
    pub fn failed(failure: &Failure) -> Self {
        Self {
            workspaces: Err(failure.clone()),
            processes: Err(failure.clone()),
            transcripts: Err(failure.clone()),
            blobs: Err(failure.clone()),
            database: Soundness::Unread(failure.clone()),
            free_bytes: Err(failure.clone()),
            state_bytes: None,
        }
    }

    /// Nothing is there, and nothing is wrong; so many bytes are free.
    #[must_use]
    pub fn clear(free_bytes: u64) -> Self {
        Self {
            workspaces: Ok(Vec::new()),
            processes: Ok(Vec::new()),
            transcripts: Ok(Vec::new()),
            blobs: Ok(Vec::new()),
            database: Soundness::Sound,
            free_bytes: Ok(free_bytes),
            state_bytes: None,
        }
    }
}

/// A directory that is, or should be, a workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundWorkspace {
    /// Its path, as the fold spells it for one that it knows.
    pub path: String,
    /// The issue that its marker names.
    pub identifier: Option<String>,
    /// What it is.
    pub standing: Standing,
    /// What it takes on the disk; `None`: not measured.
    pub bytes: Option<u64>,
}

/// What a directory that was found is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// The fold knew it when the look was asked for, and it is there.
    Known,
    /// The fold knew it, and it is not there.
    Missing,
    /// Ours by its marker, and nothing would be lost with it.
    Clean,
    /// Ours by its marker, and this would be lost.
    Holds(String),
    /// Kept aside, somebody else's, or of an older version without a mark: never touched.
    Foreign,
    /// It cannot be looked at.
    Unreadable(Failure),
}

/// What carries one mark.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundProcess {
    /// What follows the journal's identity in the mark: a run's id, `issue-<id>`, `notice-<number>`.
    pub owner: String,
    /// Process ids.
    pub pids: Vec<i32>,
}

/// A transcript that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundTranscript {
    /// Whose.
    pub run: RunId,
    /// What is wrong with its content, in words; or why it cannot be read.
    pub wrong: Result<String, Failure>,
}

/// What a full check of the database's pages says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Soundness {
    /// All of it is whole.
    Sound,
    /// A large one is still being read through.
    Checking,
    /// It is damaged, in words.
    Damaged(String),
    /// It could not be checked.
    Unread(Failure),
}

/// What a look has to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LookFor {
    /// Paths of the workspaces that the fold knows.
    pub workspaces: Vec<String>,
    /// Live runs: their transcripts are read first.
    pub runs: Vec<RunId>,
    /// The identity that the journal had before it was restored: what carries it is ours.
    pub formerly: Option<String>,
}

impl LookFor {
    /// What the fold knows.
    #[must_use]
    pub fn of(state: &State) -> Self {
        let run = |entry: &IssueEntry| entry.current_run.as_ref().and_then(|run| state.runs.get(run));
        // Of one that is being made or removed nobody can say whether it should be there.
        let stands = |entry: &&Arc<IssueEntry>| run(entry).is_none_or(needs_workspace);
        let entries = state.issues.values().chain(state.gone.values()).filter(stands);
        let workspaces = entries.filter_map(|entry| Some(entry.workspace.as_ref()?.path.clone())).collect();
        let formerly = state.restored.as_ref().map(|restored| restored.journal.clone());
        Self { workspaces, runs: state.runs.keys().cloned().collect(), formerly }
    }
}

/// What is done about something outside. Idempotent: it looks before it acts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "mend", rename_all = "snake_case")]
pub enum Mend {
    /// Remove a workspace that nobody owns, unless something would be lost with it.
    RemoveWorkspace {
        /// Where.
        path: String,
        /// Of which issue its marker says that it is.
        identifier: String,
    },
    /// Move a workspace that nobody owns and that holds work aside, once.
    KeepWorkspace {
        /// Where.
        path: String,
        /// Of which issue its marker says that it is.
        identifier: String,
    },
    /// End what carries a mark that nobody owns.
    EndProcesses {
        /// The mark, after the journal's identity.
        owner: String,
    },
    /// Move a transcript that cannot be read aside, once.
    SetTranscriptAside {
        /// Whose.
        run: RunId,
    },
    /// End a batch of kept files whose writer is gone: forward when all of it is on disk, else back.
    SettleBatch {
        /// Its name.
        batch: String,
        /// All of it was there when it was looked at.
        whole: bool,
    },
    /// Take a receipt back that does not hold, and move its file aside if there is one.
    VoidReceipt {
        /// The file.
        file: String,
        /// How it does not hold.
        how: Broken,
    },
    /// Move a file without a receipt aside, once.
    SetFileAside {
        /// Its name.
        file: String,
    },
}

impl Mend {
    /// Where.
    #[must_use]
    pub fn surface(&self) -> Surface {
        match self {
            Self::RemoveWorkspace { .. } | Self::KeepWorkspace { .. } => Surface::Workspace,
            Self::EndProcesses { .. } => Surface::AgentProcess,
            Self::SetTranscriptAside { .. } => Surface::Transcripts,
            Self::SettleBatch { .. } | Self::VoidReceipt { .. } | Self::SetFileAside { .. } => Surface::Blobs,
        }
    }

    /// In the words of a plan.
    #[must_use]
    pub fn remedy(&self) -> Remedy {
        match self {
            Self::RemoveWorkspace { .. } | Self::EndProcesses { .. } => Remedy::Reap,
            Self::KeepWorkspace { .. } | Self::SetFileAside { .. } => Remedy::Quarantine,
            Self::SetTranscriptAside { .. } => Remedy::RebuildFromProvider,
            Self::SettleBatch { whole: true, .. } => Remedy::RollForward,
            Self::SettleBatch { whole: false, .. } => Remedy::VoidIntent,
            Self::VoidReceipt { how, .. } => how.remedy(),
        }
    }

    /// About what.
    #[must_use]
    pub fn member(&self) -> &str {
        match self {
            Self::RemoveWorkspace { path, .. } | Self::KeepWorkspace { path, .. } => path,
            Self::EndProcesses { owner } => owner,
            Self::SetTranscriptAside { run } => run.as_str(),
            Self::SettleBatch { batch, .. } => batch,
            Self::VoidReceipt { file, .. } | Self::SetFileAside { file } => file,
        }
    }

    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::RemoveWorkspace { .. }
            | Self::KeepWorkspace { .. }
            | Self::EndProcesses { .. }
            | Self::SetFileAside { .. } => "orphan",
            Self::SetTranscriptAside { .. } => "corrupt",
            Self::SettleBatch { .. } => "open intent",
            Self::VoidReceipt { how, .. } => how.reason(),
        }
    }

    pub(crate) fn identifier(&self) -> Option<&str> {
        match self {
            Self::RemoveWorkspace { identifier, .. } | Self::KeepWorkspace { identifier, .. } => Some(identifier),
            Self::EndProcesses { .. }
            | Self::SetTranscriptAside { .. }
            | Self::SettleBatch { .. }
            | Self::VoidReceipt { .. }
            | Self::SetFileAside { .. } => None,
        }
    }
}

/// How the disk is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskUse {
    /// Free bytes.
    pub free: u64,
    /// What the state directory takes; `None`: not measured.
    pub state: Option<u64>,
    /// What all workspaces take, as far as they were measured.
    pub used: u64,
    /// What they may take, by the policy.
    pub limit: Option<u64>,
    /// Each workspace, the largest first, at most [`USES_TOLD`].
    pub workspaces: Vec<WorkspaceUse>,
}

/// What one workspace takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkspaceUse {
    /// Where it is.
    pub path: String,
    /// Identifier of the issue that owns it.
    pub issue: Option<String>,
    /// What it takes.
    pub bytes: u64,
}

impl DiskUse {
    /// What was measured, or nothing when the disk could not be asked.
    #[must_use]
    pub fn of(state: &State, seen: &Inspection) -> Option<Self> {
        let found = seen.workspaces.as_ref().ok()?;
        let (Room { free, used }, limit) = (Room::of(seen)?, limit_of(state));
        let owners = Owners::of(state);
        let mut workspaces: Vec<WorkspaceUse> = found
            .iter()
            .filter_map(|workspace| {
                let issue = owners.owner(workspace).map(|entry| entry.issue.identifier.clone());
                Some(WorkspaceUse { path: workspace.path.clone(), issue, bytes: workspace.bytes? })
            })
            .collect();
        workspaces.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.path.cmp(&b.path)));
        workspaces.truncate(USES_TOLD);
        Some(Self { free, state: seen.state_bytes, used, limit, workspaces })
    }
}

/// How full the disk is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Room {
    free: u64,
    used: u64,
}

impl Room {
    pub(crate) fn of(seen: &Inspection) -> Option<Self> {
        let found = seen.workspaces.as_ref().ok()?;
        let used = found.iter().filter_map(|workspace| workspace.bytes).fold(0_u64, u64::saturating_add);
        Some(Self { free: *seen.free_bytes.as_ref().ok()?, used })
    }

    /// Why no workspace is begun, in words.
    pub(crate) fn lacking(self, limit: Option<u64>) -> Option<String> {
        let mib = |bytes: u64| bytes / (1024 * 1024);
        if self.free < MIN_FREE_BYTES {
            return Some(format!(
                "{} MiB are free on the disk, and {} MiB are needed",
                mib(self.free),
                mib(MIN_FREE_BYTES)
            ));
        }
        let limit = limit.filter(|limit| self.used >= *limit)?;
        Some(format!("workspaces take {} MiB, and workspace.disk_limit_gb allows {} MiB", mib(self.used), mib(limit)))
    }
}

pub(crate) fn limit_of(state: &State) -> Option<u64> {
    state.policy().and_then(|policy| policy.workspace.disk_limit_bytes)
}

/// Which issue owns which directory: by its path, or by the name on its marker. Also one that is not visible any more.
pub(crate) struct Owners<'a> {
    by_path: BTreeMap<&'a str, &'a IssueEntry>,
    by_name: BTreeMap<&'a str, &'a IssueEntry>,
}

impl<'a> Owners<'a> {
    pub(crate) fn of(state: &'a State) -> Self {
        let entries = || state.gone.values().chain(state.issues.values()).map(Arc::as_ref);
        let by_path = entries().filter_map(|entry| Some((entry.workspace.as_ref()?.path.as_str(), entry)));
        let by_name = entries().map(|entry| (entry.issue.identifier.as_str(), entry));
        Self { by_path: by_path.collect(), by_name: by_name.collect() }
    }

    pub(crate) fn owner(&self, found: &FoundWorkspace) -> Option<&'a IssueEntry> {
        let by_name = || found.identifier.as_ref().and_then(|identifier| self.by_name.get(identifier.as_str()));
        self.by_path.get(found.path.as_str()).or_else(by_name).copied()
    }
}

/// A live run that stands or falls with its workspace.
pub(crate) fn needs_workspace(run: &Run) -> bool {
    match run.phase {
        Phase::AfterCreate
        | Phase::Claiming
        | Phase::BeforeRun
        | Phase::Launching
        | Phase::Prompting
        | Phase::Assessing
        | Phase::Committing
        | Phase::Fetching
        | Phase::Checking { .. }
        | Phase::Bringing => true,
        // It makes one, needs none any more, or is ending.
        Phase::Preparing | Phase::Closing | Phase::Delivering | Phase::AfterRun | Phase::Stopping | Phase::Ended => {
            false
        }
    }
}
