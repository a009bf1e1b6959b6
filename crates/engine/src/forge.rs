//! The port to a forge: the host of the code, where pull requests (merge requests) are.

use std::sync::Arc;

use async_trait::async_trait;
use dalsegno_core::{Failure, HandoffPolicy, PullRequest};

use crate::ports::Context;

/// What a pull request is opened with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    /// Branch with the work, in the forge's own repository.
    pub head: String,
    /// Branch that it is to go into; `None`: the repository's default branch.
    pub base: Option<String>,
    /// One line. Longer than the forge takes, it is cut.
    pub title: String,
    /// Markdown, without a marker. People and agents may have written parts of it: what looks like a marker in it is made visible.
    pub body: String,
    /// What it is found by later, in hexadecimal.
    pub marker: String,
}

/// A pull request, as the forge has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pull {
    /// Its number and where people find it.
    pub id: PullRequest,
    /// How far it is.
    pub state: PullState,
    /// Branch with the work, if that is in the forge's own repository.
    pub head: Option<String>,
    /// The account that this forge speaks with opened it.
    pub ours: bool,
}

/// How far a pull request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PullState {
    /// Open, and not yet to be reviewed.
    Draft,
    /// Open, and ready for review.
    Open,
    /// Its work is in the base.
    Merged,
    /// Closed without that.
    Closed,
}

impl PullState {
    /// The word for people.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Draft => "draft",
            Self::Open => "open",
            Self::Merged => "merged",
            Self::Closed => "closed",
        }
    }
}

/// Why a call that writes did not give what was asked for, and what became of the forge.
///
/// The codes are the same for every forge: `forge_request`, `forge_no_answer`, `forge_response`, `forge_denied`, `forge_not_found`,
/// `forge_refused`, `forge_rate_limited`, `missing_forge_secret`, `pull_request_exists`, `pull_request_not_ours`,
/// `pull_request_closed`, `pull_request_merged`; `docs/errors.md` says what they mean.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ForgeError {
    /// This call changed nothing for certain; the failure says whether it may go through the next time.
    #[error("{0}")]
    NotApplied(Failure),
    /// Nobody knows whether this call changed anything: it has to be looked up.
    #[error("{0}")]
    Unknown(Failure),
}

impl From<Failure> for ForgeError {
    /// A failure that changed nothing.
    fn from(failure: Failure) -> Self {
        Self::NotApplied(failure)
    }
}

/// The pull requests of one repository.
///
/// # What holds
/// - A [`Forge`] is of one repository, and speaks with one account.
/// - What it writes carries a marker, invisibly. A pull request is *ours* only when our account opened it: a marker can be copied by
///   anybody who sees it, an author cannot.
/// - A call that failed says whether it changed anything ([`ForgeError`]). What was sent and not answered is unknown; nothing is guessed.
/// - Nothing is tried again in here, and no call waits for a rate limit to pass: when to call again is the caller's choice.
#[async_trait]
pub trait Forge: Send + Sync + 'static {
    /// Opens a draft. It does not look whether there is one already.
    ///
    /// # Errors
    /// [`ForgeError`]; `pull_request_exists` when one is open for this head and base.
    async fn open_draft(&self, draft: &Draft) -> Result<Pull, ForgeError>;

    /// Our pull request with this head and marker, in any state: the probe of [`Forge::open_draft`]. The newest, if there are several.
    ///
    /// # Errors
    /// When it cannot be told; never `None` then.
    async fn find(&self, head: &str, marker: &str) -> Result<Option<Pull>, Failure>;

    /// The pull request with this number, whosever it is; `None`: there is none.
    ///
    /// # Errors
    /// When it cannot be told; never `None` then.
    async fn look(&self, number: u64) -> Result<Option<Pull>, Failure>;

    /// Marks a draft of ours as ready for review, and sees that it is. Leaves as it is what is open or merged already.
    ///
    /// # Errors
    /// [`ForgeError`]; `forge_not_found`, `pull_request_not_ours`, `pull_request_closed`.
    async fn mark_ready(&self, number: u64) -> Result<Pull, ForgeError>;

    /// Closes a pull request of ours, and sees that it is. Leaves as it is what is closed already, and is content when there is none.
    ///
    /// # Errors
    /// [`ForgeError`]; `pull_request_not_ours`, `pull_request_merged`.
    async fn close(&self, number: u64) -> Result<(), ForgeError>;
}

/// Finds the forge of a policy.
#[async_trait]
pub trait Forges: Send + Sync + 'static {
    /// Whether the policy's forge can be used, as far as that can be told without the network. Asked before a policy is taken.
    ///
    /// # Errors
    /// `invalid_config`, `missing_forge_secret`.
    fn preflight(&self, handoff: &HandoffPolicy) -> Result<(), Failure>;

    /// The forge of the handoff's remote.
    ///
    /// # Errors
    /// As [`Forges::preflight`]; `remote_not_found`, `forge_unknown_repository` when the remote's URL names no repository of the forge.
    async fn open(&self, context: &Context) -> Result<Arc<dyn Forge>, Failure>;

    /// Environment variables that hold the forge's secrets; removed from every child's environment.
    fn secret_environment_names(&self, handoff: &HandoffPolicy) -> Vec<String>;
}
