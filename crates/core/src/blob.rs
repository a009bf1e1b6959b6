//! Files beside the database, each with a receipt: what they are told as, and what a look at them finds.
//!
//! They are written in batches. The intent of a batch is durable before a file of it has its name, its receipts when every file is on
//! disk: `preparing` → `committed`, or `failed` when it is taken back. Who writes them is `crates/store/src/blobs`.

use serde::{Deserialize, Serialize};

use crate::effect::Failure;
use crate::ids::{PolicyHash, RunId};
use crate::inspection::Mend;
use crate::surface::{Condition, Finding, Remedy, Scope, Surface, Verdict};

/// A file that is kept beside the database, and what it was when it was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileReceipt {
    /// Its name among the files that are kept; no other file ever has it.
    pub file: String,
    /// SHA-256 of its content, in hex.
    pub sha256: String,
    /// Its length in bytes.
    pub bytes: u64,
}

/// Something about the kept files that a look has to tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FoundFile {
    /// A batch whose writer is gone.
    OpenBatch {
        /// Its name: `batch-<number>`.
        batch: String,
        /// Whose.
        run: RunId,
        /// All of it is on disk as it was intended.
        whole: bool,
    },
    /// A receipt that does not hold.
    Broken {
        /// The file.
        file: String,
        /// Whose.
        run: RunId,
        /// How.
        how: Broken,
    },
    /// A file without a receipt.
    Unreceipted {
        /// Its name.
        file: String,
    },
    /// What the receipts of a live run say that it was started under.
    Under {
        /// Whose.
        run: RunId,
        /// The policy.
        policy: PolicyHash,
        /// The kind of agent.
        agent: String,
    },
    /// A file that cannot be read.
    Unreadable {
        /// Its name.
        file: String,
        /// Why.
        failure: Failure,
    },
}

/// How a receipt does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Broken {
    /// Its file is not there.
    Missing,
    /// Its file is another one.
    Differs,
    /// Its run is none that the journal knows.
    UnknownRun,
}

impl Broken {
    /// Why it is set aside, in the stable words of a plan.
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Differs => "corrupt",
            Self::UnknownRun => "stale run id",
        }
    }

    /// What is done about it, in the words of a plan.
    pub(crate) fn remedy(self) -> Remedy {
        match self {
            Self::Missing | Self::Differs => Remedy::RebuildFromProvider,
            Self::UnknownRun => Remedy::Quarantine,
        }
    }

    fn condition(self) -> Condition {
        match self {
            Self::Missing => Condition::Missing,
            Self::Differs => Condition::Corrupt,
            Self::UnknownRun => Condition::StaleRun,
        }
    }
}

impl FoundFile {
    /// What can be done about it without a decision of somebody's.
    pub(crate) fn mend(&self) -> Option<Mend> {
        Some(match self {
            Self::OpenBatch { batch, run: _, whole } => Mend::SettleBatch { batch: batch.clone(), whole: *whole },
            Self::Broken { file, run: _, how } => Mend::VoidReceipt { file: file.clone(), how: *how },
            Self::Unreceipted { file } => Mend::SetFileAside { file: file.clone() },
            Self::Under { .. } | Self::Unreadable { .. } => return None,
        })
    }

    /// The finding, for what is one whatever the fold says.
    pub(crate) fn finding(&self) -> Option<Finding> {
        let of = |condition, member: &str, detail| Finding::of(Surface::Blobs, condition, member, detail);
        let found = match self {
            Self::OpenBatch { batch, run, whole } => {
                let detail = match whole {
                    true => format!("{batch} of run {run} was not ended, and all of its files are there"),
                    false => format!("{batch} of run {run} was not ended, and not all of its files are there"),
                };
                of(Condition::IntentOpen, batch, detail)
            }
            Self::Broken { file, run, how } => {
                let detail = match how {
                    Broken::Missing => format!("{file} of run {run} has a receipt, and is not there"),
                    Broken::Differs => format!("{file} of run {run} is not what its receipt says"),
                    Broken::UnknownRun => format!("{file} has a receipt of run {run}, and there is no such run"),
                };
                of(how.condition(), file, detail)
            }
            Self::Unreceipted { file } => of(Condition::Orphan, file, format!("{file} has no receipt")),
            Self::Unreadable { file, failure } => of(Condition::IoError, file, failure.to_string()),
            Self::Under { .. } => return None,
        };
        let Some(mend) = self.mend() else { return Some(found) };
        Some(found.with(Verdict { action: mend.remedy(), reason: mend.reason(), scope: Scope::Run }))
    }

    /// Whether a mend of this member settles it.
    pub(crate) fn is(&self, member: &str) -> bool {
        match self {
            Self::OpenBatch { batch, .. } => batch == member,
            Self::Broken { file, .. } | Self::Unreceipted { file } | Self::Unreadable { file, .. } => file == member,
            Self::Under { .. } => false,
        }
    }
}
