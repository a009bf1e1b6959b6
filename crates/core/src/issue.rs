//! Issues: what a tracker says of them, and what the orchestrator makes of it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::breaker::{Breaker, held_until};
use crate::budget::{BudgetLimit, BudgetOverride};
use crate::ids::{CommitId, IssueId, RunId};
use crate::ledger::ByModel;
use crate::question::{Held, Message, Question, Start};
use crate::restored::Unproved;
use crate::run::PullRequest;
use crate::time::Timestamp;
use crate::usage::Usage;

/// A work item of a tracker, normalised (Symphony §4.1.1 and §11.3).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Issue {
    /// Stable identity within the tracker's scope.
    pub id: IssueId,
    /// Non-secret provider identifiers for provider-native tools; opaque.
    pub native_ref: Option<serde_json::Value>,
    /// What people call it (`DS-1`); unique in the tracker's scope, ignoring case.
    pub identifier: String,
    /// One line.
    pub title: String,
    /// The body; never includes comments.
    pub description: Option<String>,
    /// `1` (most urgent) to `4`; anything else sorts last.
    pub priority: Option<i64>,
    /// The tracker's own name of the state, as spelled there.
    pub state: String,
    /// Branch name that the tracker suggests.
    pub branch_name: Option<String>,
    /// Where a person can look at it.
    pub url: Option<String>,
    /// Who it is assigned to.
    pub assignee_id: Option<String>,
    /// Lowercase, trimmed, without blanks and repeats.
    pub labels: Vec<String>,
    /// Issues that must be terminal first.
    pub blocked_by: Vec<BlockerRef>,
    /// Identifier of the parent issue, where the tracker has a hierarchy.
    pub parent: Option<String>,
    /// The adapter's verdict on rules that only the provider knows (blockers, open children, assignment).
    pub dispatchable: bool,
    /// Why `dispatchable` is false, in words for `explain`.
    pub undispatchable_reason: Option<String>,
    /// When it was made.
    pub created_at: Option<Timestamp>,
    /// When it was last changed.
    pub updated_at: Option<Timestamp>,
}

/// Best-effort reference to a blocking issue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockerRef {
    /// Identity, when known.
    pub id: Option<IssueId>,
    /// Identifier, when known.
    pub identifier: Option<String>,
    /// State, when known.
    pub state: Option<String>,
}

/// State names compare trimmed and lowercased (Symphony §4.2).
#[must_use]
pub fn normalized_state(name: &str) -> String {
    name.trim().to_lowercase()
}

/// Whether two names of states are the same as states are compared. Asked for every issue at every look at the tracker, so it
/// makes no copies of names that are plain ASCII.
fn is_same_state(one: &str, other: &str) -> bool {
    if one.is_ascii() && other.is_ascii() {
        // Of ASCII, `trim` takes what is white space.
        one.trim().eq_ignore_ascii_case(other.trim())
    } else {
        normalized_state(one) == normalized_state(other)
    }
}

/// Whether `state` is one of `names`, compared as states are.
#[must_use]
pub fn state_in(state: &str, names: &[String]) -> bool {
    names.iter().any(|name| is_same_state(state, name))
}

impl Issue {
    /// An issue of which no more is known than this, and that its adapter has nothing against.
    #[must_use]
    pub fn new(
        id: impl Into<IssueId>,
        identifier: impl Into<String>,
        title: impl Into<String>,
        state: impl Into<String>,
    ) -> Self {
        Self {
            id: id.into(),
            native_ref: None,
            identifier: identifier.into(),
            title: title.into(),
            description: None,
            priority: None,
            state: state.into(),
            branch_name: None,
            url: None,
            assignee_id: None,
            labels: Vec::new(),
            blocked_by: Vec::new(),
            parent: None,
            dispatchable: true,
            undispatchable_reason: None,
            created_at: None,
            updated_at: None,
        }
    }

    /// What makes a finished issue eligible again when somebody else changes it: state, labels, description.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        let mut labels = self.labels.clone();
        labels.sort();
        Fingerprint { state: normalized_state(&self.state), labels, description: self.description.clone() }
    }
}

/// The part of an issue whose change by somebody else ends stickiness.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint {
    /// Normalised state.
    pub state: String,
    /// Sorted labels.
    pub labels: Vec<String>,
    /// Description without comments.
    pub description: Option<String>,
}

/// The one status of an issue, the same words in code, API and UI.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IssueStatus {
    /// Seen, not eligible.
    Idle,
    /// Eligible; waits for a slot.
    Queued,
    /// A run works on it.
    Running,
    /// Held by an operator.
    Paused,
    /// A run failed or ended; the next one has a due time.
    WaitingRetry,
    /// The agent's quota resets at a known time.
    WaitingQuota,
    /// The agent asked something.
    WaitingQuestion,
    /// The handoff waits for an approval.
    WaitingApproval,
    /// Evidence is there; the handoff is under way.
    HandingOff,
    /// The handoff is committed; people have it.
    HandedOff,
    /// The tracker says terminal after a handoff.
    Completed,
    /// Ended without a handoff; nothing more is tried by itself.
    Failed,
    /// Stopped on request.
    Canceled,
    /// Waits for an operator, with a reason.
    Parked,
}

impl IssueStatus {
    /// All statuses, in the order of their life.
    pub const ALL: [Self; 14] = [
        Self::Idle,
        Self::Queued,
        Self::Running,
        Self::Paused,
        Self::WaitingRetry,
        Self::WaitingQuota,
        Self::WaitingQuestion,
        Self::WaitingApproval,
        Self::HandingOff,
        Self::HandedOff,
        Self::Completed,
        Self::Failed,
        Self::Canceled,
        Self::Parked,
    ];

    /// The word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::WaitingRetry => "waiting_retry",
            Self::WaitingQuota => "waiting_quota",
            Self::WaitingQuestion => "waiting_question",
            Self::WaitingApproval => "waiting_approval",
            Self::HandingOff => "handing_off",
            Self::HandedOff => "handed_off",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Canceled => "canceled",
            Self::Parked => "parked",
        }
    }

    /// A run is live on the issue and takes a slot.
    #[must_use]
    pub fn takes_slot(self) -> bool {
        matches!(self, Self::Running | Self::HandingOff)
    }

    /// Stays although the tracker's state may be active; only an action or somebody else's change ends it.
    #[must_use]
    pub fn is_sticky(self) -> bool {
        matches!(self, Self::HandedOff | Self::Completed | Self::Failed | Self::Canceled | Self::Parked)
    }
}

/// A directory that one issue owns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Workspace {
    /// Absolute path.
    pub path: String,
    /// Branch that is handed over; absent with `strategy: empty`.
    pub branch: Option<String>,
    /// Commit of the base that the branch started from.
    pub base_commit: Option<CommitId>,
    /// Key of the effect that made it; `None`: by an older version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub made_by: Option<String>,
}

impl Workspace {
    /// It is another one than `before`, as far as both say who made them: somebody removed that, and it was made again.
    #[must_use]
    pub(crate) fn replaces(&self, before: &Self) -> bool {
        matches!((&self.made_by, &before.made_by), (Some(now), Some(then)) if now != then)
    }
}

/// What the orchestrator knows of one issue.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct IssueEntry {
    /// Latest snapshot from the tracker.
    pub issue: Arc<Issue>,
    /// Where it is in its life.
    pub status: IssueStatus,
    /// Why it has that status, a stable code with words.
    pub reason: Option<String>,
    /// Template variable of the live or the next run: `None` for a first one, 1 after a clean end, one more after
    /// each failure (Symphony §8.4).
    pub attempt: Option<u32>,
    /// Runs since the issue last became eligible by somebody's hand.
    pub runs: u32,
    /// The live run.
    pub current_run: Option<RunId>,
    /// The latest run, live or ended.
    pub last_run: Option<RunId>,
    /// When a waiting issue goes on.
    pub due_at: Option<Timestamp>,
    /// Its directory, while there is one.
    pub workspace: Option<Workspace>,
    /// The directory is through `after_create`; otherwise the next run makes it anew.
    pub workspace_whole: bool,
    /// Its making ended without an answer: the directory may be there, with `after_create` still due.
    pub workspace_unsure: bool,
    /// Its removal ended without an answer: the directory may be gone, and another one with `after_create` still due.
    #[serde(default)]
    pub removal_unsure: bool,
    /// The directory holds work that would be lost; it is not removed until a next run was in it.
    pub workspace_kept: bool,
    /// A branch that outlived its directory; a new workspace adopts it.
    pub branch: Option<String>,
    /// The commit that we pushed last; a new run needs commits beyond it.
    pub handed_off: Option<CommitId>,
    /// The pull request that its work goes into.
    #[serde(default)]
    pub pull_request: Option<PullRequest>,
    /// A state that we may have moved the issue to: the move's outcome stayed unknown. Finding it there is no
    /// change by somebody else.
    pub unsure_move: Option<String>,
    /// What the issue looked like when it became sticky, after our own writes.
    pub settled: Option<Fingerprint>,
    /// Tokens of all its runs.
    pub usage: Usage,
    /// The same by model.
    #[serde(default)]
    pub models: ByModel,
    /// Turns of all its runs that came to an end; cut ones not counted.
    #[serde(default)]
    pub turns: u32,
    /// Milliseconds of all its ended runs.
    #[serde(default)]
    pub run_ms: u64,
    /// What an operator allowed it, over the policy.
    #[serde(default)]
    pub limits: BudgetOverride,
    /// What its breakers know.
    #[serde(default)]
    pub breaker: Breaker,
    /// Why it was parked last.
    #[serde(default)]
    pub parked: Option<Parking>,
    /// What its agent asked and nobody has answered yet.
    #[serde(default)]
    pub question: Option<Question>,
    /// Words of operators that its agent hears with its next prompt, oldest first.
    #[serde(default)]
    pub messages: Vec<Message>,
    /// The session that its next run can go on in.
    #[serde(default)]
    pub held: Option<Held>,
    /// How its next run begins.
    #[serde(default)]
    pub start: Start,
    /// Turns of its latest run, once that is over.
    #[serde(default)]
    pub last_turns: u32,
    /// The journal was restored from a backup, and nobody has looked yet what was done for the issue since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unproved: Option<Unproved>,
    /// When it was first seen.
    pub seen_at: Timestamp,
}

/// Why an issue was parked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parking {
    /// Stable code.
    pub code: String,
    /// The limit that was reached, if it was one.
    pub limit: Option<BudgetLimit>,
    /// When.
    pub at: Timestamp,
    /// Until when changes by others do not reopen it, if a breaker parked it.
    pub held_until: Option<Timestamp>,
}

impl IssueEntry {
    /// The issue is visible again: what is known of its workspace and branch still holds, and so does a status that
    /// only somebody else's change ends.
    #[must_use]
    pub(crate) fn come_back(mut self, issue: &Arc<Issue>, at: Timestamp) -> Self {
        let unchanged = self.settled.as_ref() == Some(&issue.fingerprint());
        let held = held_until(&self, at).filter(|_| self.status.is_sticky() && !unchanged);
        if self.status == IssueStatus::Paused {
            // Nobody but an operator resumes it.
        } else if !(self.status.is_sticky() && unchanged) && held.is_none() {
            self.status = IssueStatus::Idle;
            self.reason = None;
            self.question = None;
            self.settled = None;
            self.attempt = None;
            if self.runs > 0 {
                self.breaker.wanted_again(at);
            }
            self.runs = 0;
        }
        self.due_at = held;
        self.issue = Arc::clone(issue);
        self
    }
}
