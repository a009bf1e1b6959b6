//! Which action is accepted when: one table. What an accepted one does is in [`crate::action`], [`crate::operate`] and [`crate::settle`].

use serde::{Deserialize, Serialize};

use crate::action::{Refusal, refusal};
use crate::issue::{IssueEntry, IssueStatus};
use crate::question::Wants;
use crate::run::{Run, StepState};
use crate::settle::approval;
use crate::state::State;
use crate::time::Timestamp;

/// What an operator can want.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ActionKind {
    /// Stop the work on an issue.
    Cancel,
    /// Work on an issue again, in a new session.
    Retry,
    /// Work on an issue again, in a new session that is told what the last one did.
    Rehydrate,
    /// Hold the work on an issue: its agent is ended, its session kept.
    Pause,
    /// Go on with a paused issue, in its session.
    Resume,
    /// Say something to the agent.
    Steer,
    /// Comment on an issue.
    Comment,
    /// Move an issue to another state of the tracker.
    TransitionIssue,
    /// Make another issue that follows from one.
    CreateFollowup,
    /// Allow what is asked for: the pivot of a handoff, or a permission that an agent wants.
    Approve,
    /// Refuse it.
    Deny,
    /// Answer what an agent asked.
    Answer,
    /// Say how a parked step of a handoff goes on.
    Settle,
    /// Set limits over the policy's.
    SetBudget,
    /// Let a parked issue run again.
    Release,
    /// Read the tracker now.
    Refresh,
    /// Take no new work.
    Drain,
    /// Take new work again.
    Undrain,
    /// Take a WORKFLOW.md that is held.
    Reload,
}

impl ActionKind {
    /// All kinds, in the order in which they are told.
    pub const ALL: [Self; 19] = [
        Self::Cancel,
        Self::Retry,
        Self::Rehydrate,
        Self::Pause,
        Self::Resume,
        Self::Steer,
        Self::Comment,
        Self::TransitionIssue,
        Self::CreateFollowup,
        Self::Approve,
        Self::Deny,
        Self::Answer,
        Self::Settle,
        Self::SetBudget,
        Self::Release,
        Self::Refresh,
        Self::Drain,
        Self::Undrain,
        Self::Reload,
    ];

    /// The word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cancel => "cancel",
            Self::Retry => "retry",
            Self::Rehydrate => "rehydrate",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Steer => "steer",
            Self::Comment => "comment",
            Self::TransitionIssue => "transition_issue",
            Self::CreateFollowup => "create_followup",
            Self::Approve => "approve",
            Self::Deny => "deny",
            Self::Answer => "answer",
            Self::Settle => "settle",
            Self::SetBudget => "set_budget",
            Self::Release => "release",
            Self::Refresh => "refresh",
            Self::Drain => "drain",
            Self::Undrain => "undrain",
            Self::Reload => "reload",
        }
    }

    /// The kind with this word.
    #[must_use]
    pub fn named(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word)
    }

    /// What kinds of things it can be done to: words of `target.kind`.
    #[must_use]
    pub fn targets(self) -> &'static [&'static str] {
        match self {
            Self::Cancel | Self::Pause | Self::Steer | Self::Answer => &["issue", "run"],
            Self::Approve | Self::Deny | Self::Settle => &["issue", "run", "saga"],
            Self::Retry
            | Self::Rehydrate
            | Self::Resume
            | Self::Comment
            | Self::TransitionIssue
            | Self::CreateFollowup
            | Self::Release => &["issue"],
            Self::SetBudget => &["issue", "daemon"],
            Self::Refresh | Self::Drain | Self::Undrain | Self::Reload => &["daemon"],
        }
    }

    /// What an accepted one is followed by, besides its completion: kinds of things that change.
    #[must_use]
    pub fn followups(self) -> &'static [&'static str] {
        match self {
            Self::Cancel | Self::Retry | Self::Rehydrate | Self::Pause | Self::Resume => {
                &["run_lifecycle", "state_transition"]
            }
            Self::Steer
            | Self::Comment
            | Self::CreateFollowup
            | Self::Refresh
            | Self::Drain
            | Self::Undrain
            | Self::Reload => &["journal_update"],
            Self::TransitionIssue => &["state_transition", "journal_update"],
            Self::Approve | Self::Deny | Self::Answer | Self::Settle | Self::SetBudget | Self::Release => {
                &["state_transition"]
            }
        }
    }
}

/// What of an issue decides which actions are accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Its status.
    pub status: IssueStatus,
    /// A run of it is live.
    pub live: bool,
    /// The live run's handoff is past its pivot.
    pub past_pivot: bool,
    /// It had a run, and that is over.
    pub had_run: bool,
    /// A step of its handoff is parked.
    pub parked_step: bool,
    /// One of them is, and nobody has said yet how it goes on.
    pub unsettled: bool,
    /// The pivot of its handoff waits for an approval, and nobody has answered yet.
    pub approval: bool,
    /// What the agent waits for.
    pub asked: Option<Wants>,
}

impl Standing {
    /// How the issue stands at that time.
    #[must_use]
    pub fn of(state: &State, entry: &IssueEntry, at: Timestamp) -> Self {
        let run = entry.current_run.as_ref().and_then(|run| state.runs.get(run));
        let handoff = run.and_then(|run| run.handoff.as_ref());
        let told = |step| state.word_on_its_way(&entry.issue.id, step).is_some();
        Self {
            status: entry.status,
            live: run.is_some(),
            past_pivot: run.is_some_and(Run::past_pivot),
            had_run: run.is_none() && entry.last_run.is_some(),
            parked_step: handoff.is_some_and(|handoff| !handoff.parked().is_empty()),
            unsettled: handoff.is_some_and(|handoff| {
                let parked = handoff.steps.iter().filter(|(_, state)| matches!(state, StepState::Parked { .. }));
                parked.into_iter().any(|(step, _)| !told(*step))
            }),
            approval: handoff.and_then(approval).is_some_and(|(step, _, expires_at)| expires_at > at && !told(step)),
            asked: entry.question.as_ref().filter(|question| question.is_open(at)).map(|question| question.wants),
        }
    }

    /// The actions on the issue that would be accepted now, given a fitting payload.
    #[must_use]
    pub fn allowed(self) -> Vec<ActionKind> {
        let of_issue = ActionKind::ALL.into_iter().filter(|kind| kind.targets().contains(&"issue"));
        of_issue.filter(|kind| verdict(*kind, self).is_ok()).collect()
    }
}

/// Whether an action on an issue is accepted. The whole table.
pub(crate) fn verdict(kind: ActionKind, standing: Standing) -> Result<(), Refusal> {
    use IssueStatus as S;
    let Standing { status, live, past_pivot, had_run, parked_step, unsettled, approval, asked } = standing;
    let named = status.as_str();
    let refuse = |code, reason: String| Err(refusal(code, reason));
    match kind {
        ActionKind::Comment
        | ActionKind::TransitionIssue
        | ActionKind::CreateFollowup
        | ActionKind::SetBudget
        | ActionKind::Refresh
        | ActionKind::Drain
        | ActionKind::Undrain
        | ActionKind::Reload => Ok(()),
        ActionKind::Cancel => match status {
            S::HandingOff | S::Parked if past_pivot => {
                refuse("not_cancelable", "the handoff is past its pivot and only goes forward".to_owned())
            }
            S::Queued
            | S::Running
            | S::Paused
            | S::WaitingRetry
            | S::WaitingQuota
            | S::WaitingQuestion
            | S::WaitingApproval
            | S::HandingOff
            | S::Parked => Ok(()),
            S::Idle | S::HandedOff | S::Completed | S::Failed | S::Canceled => {
                refuse("not_cancelable", format!("the issue is {named}: nothing of it is under way, and nothing waits"))
            }
        },
        ActionKind::Retry => match status {
            S::Parked if live => refuse("handoff_parked", UNDER_WAY.to_owned()),
            S::HandedOff | S::Completed | S::Failed | S::Canceled | S::Parked => Ok(()),
            S::Idle => refuse("not_eligible", "the issue is idle: there is nothing to try again".to_owned()),
            S::Queued
            | S::Running
            | S::Paused
            | S::WaitingRetry
            | S::WaitingQuota
            | S::WaitingQuestion
            | S::WaitingApproval
            | S::HandingOff => refuse("already_active", format!("already active: the issue is {named}")),
        },
        ActionKind::Rehydrate => match status {
            S::Parked if live => refuse("handoff_parked", UNDER_WAY.to_owned()),
            S::HandedOff | S::Completed | S::Failed | S::Canceled | S::Parked if had_run => Ok(()),
            S::HandedOff | S::Completed | S::Failed | S::Canceled | S::Parked => {
                refuse("not_terminal", "Rehydrate is only available after a run: the issue has had none".to_owned())
            }
            S::Idle
            | S::Queued
            | S::Running
            | S::Paused
            | S::WaitingRetry
            | S::WaitingQuota
            | S::WaitingQuestion
            | S::WaitingApproval
            | S::HandingOff => refuse(
                "not_terminal",
                format!("Rehydrate is only available when the work has ended: the issue is {named}"),
            ),
        },
        ActionKind::Pause if status == S::Running => Ok(()),
        ActionKind::Pause => refuse("not_running", format!("pause only valid on a running issue: this one is {named}")),
        ActionKind::Resume if status == S::Paused => Ok(()),
        ActionKind::Resume => refuse("not_paused", format!("resume only valid on a paused issue: this one is {named}")),
        ActionKind::Steer if matches!(status, S::Running | S::Paused) => Ok(()),
        ActionKind::Steer => {
            refuse("not_running", format!("steer only valid on a running or paused issue: this one is {named}"))
        }
        ActionKind::Approve | ActionKind::Deny if approval || asked == Some(Wants::Permission) => Ok(()),
        ActionKind::Approve | ActionKind::Deny => {
            refuse("no_open_question", "no approval and no permission is waited for".to_owned())
        }
        ActionKind::Answer if asked == Some(Wants::Input) => Ok(()),
        ActionKind::Answer if asked == Some(Wants::Permission) => {
            refuse("no_open_question", "a permission is waited for: approve or deny it".to_owned())
        }
        ActionKind::Answer => refuse("no_open_question", "the agent asks nothing".to_owned()),
        ActionKind::Settle if unsettled => Ok(()),
        ActionKind::Settle if parked_step => {
            refuse("not_parked", "the handoff is being told already how its parked step goes on".to_owned())
        }
        ActionKind::Settle => refuse("not_parked", "no step of a handoff of the issue is parked".to_owned()),
        ActionKind::Release if parked_step => refuse("handoff_parked", PARKED_STEP.to_owned()),
        ActionKind::Release if status == S::Parked => Ok(()),
        ActionKind::Release => refuse("not_parked", format!("the issue is {named}, not parked")),
    }
}

const UNDER_WAY: &str =
    "its handoff is still under way: settle its parked step, or release it where nobody knows how far it is";
const PARKED_STEP: &str = "a step of its handoff is parked: say how that goes on (settle), and the rest follows";
