//! Views: what queries see of the nouns. Stored as projections beside the journal.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::effect::Failure;
use crate::ids::{CommitId, IssueId, PolicyHash, RunId, SessionId};
use crate::issue::{Issue, IssueEntry, IssueStatus, Workspace};
use crate::ledger::UsageRow;
use crate::question::Question;
use crate::rules::{ActionKind, Standing};
use crate::run::{Ending, Handoff, Phase, PullRequest, Run, RunOutcome};
use crate::state::State;
use crate::time::Timestamp;
use crate::usage::Usage;

/// A row of a projection, written in the same transaction as the events that changed it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "view", rename_all = "snake_case")]
pub enum View {
    /// An issue as it is now.
    Issue(Box<IssueView>),
    /// An issue that is not visible any more.
    IssueGone(IssueId),
    /// A run as it is now, or as it ended.
    Run(Box<RunView>),
    /// A row of the ledger.
    Usage(Box<UsageView>),
    /// Totals and health of the daemon.
    Daemon(Box<DaemonView>),
}

/// One issue.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct IssueView {
    /// The tracker's snapshot.
    pub issue: Arc<Issue>,
    /// Where it is in its life.
    pub status: IssueStatus,
    /// Why.
    pub reason: Option<String>,
    /// Retry count of the latest run.
    pub attempt: Option<u32>,
    /// When a waiting issue goes on.
    pub due_at: Option<Timestamp>,
    /// Its directory.
    pub workspace: Option<Workspace>,
    /// Its live run.
    pub current_run: Option<RunId>,
    /// The commit that was handed over last.
    pub handed_off: Option<CommitId>,
    /// The pull request that its work goes into.
    #[serde(default)]
    pub pull_request: Option<PullRequest>,
    /// What its agent asked and nobody has answered yet.
    #[serde(default)]
    pub question: Option<Question>,
    /// The actions that would be accepted on it.
    #[serde(default)]
    pub allowed_actions: Vec<ActionKind>,
    /// Tokens of all its runs.
    pub usage: Usage,
    /// When it was first seen.
    pub seen_at: Timestamp,
    /// When this view was made.
    pub changed_at: Timestamp,
}

/// One run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunView {
    /// Its name.
    pub id: RunId,
    /// Whose.
    pub issue: IssueId,
    /// The issue's identifier.
    pub identifier: String,
    /// Retry count.
    pub attempt: Option<u32>,
    /// Hash of the policy that it keeps.
    pub policy: PolicyHash,
    /// Where it is.
    pub phase: Phase,
    /// How it ended.
    pub outcome: Option<RunOutcome>,
    /// Why it ended, or is going to.
    pub reason: Option<String>,
    /// What shows that the work is right.
    pub evidence: Option<String>,
    /// The agent's session.
    pub session: Option<SessionId>,
    /// Turns so far, cut ones among them.
    pub turns: u32,
    /// Turns that were cut, or whose prompt was sent again: by a restart, or by the end of the agent.
    pub cut_turns: u32,
    /// The handoff.
    pub handoff: Option<Handoff>,
    /// Tokens.
    pub usage: Usage,
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
}

/// What one turn used of one model on one UTC day. Its key is `(run, turn, place)`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsageView {
    /// Whose turn.
    pub run: RunId,
    /// Number of the turn in its run.
    pub turn: u32,
    /// Number of the row in its turn.
    pub place: u32,
    /// The issue.
    pub issue: IssueId,
    /// The issue's identifier.
    pub identifier: String,
    /// The session that the turn was sent to.
    pub session: Option<SessionId>,
    /// The model, once it was named.
    pub model: Option<String>,
    /// The UTC day, counted from the epoch.
    pub day: i64,
    /// How much.
    pub usage: Usage,
    /// What that costs at the prices of the run's policy, in billionths of a US dollar; `None`: a price is not known.
    pub cost_nanousd: Option<u64>,
    /// The turn did not come to its end in order: it may have used more.
    pub incomplete: bool,
}

/// Totals and health.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DaemonView {
    /// Fencing number of the daemon that wrote this.
    pub epoch: u64,
    /// The policy for what starts from now on.
    pub policy: Option<PolicyHash>,
    /// WORKFLOW.md is broken since the last good load.
    pub workflow_failure: Option<Failure>,
    /// The tracker could not be read at the last attempt.
    pub tracker_failure: Option<Failure>,
    /// Tokens of all turns.
    pub usage: Usage,
    /// Milliseconds of all ended runs.
    pub run_ms: u64,
}

impl IssueView {
    pub(crate) fn of(state: &State, entry: &IssueEntry) -> Self {
        let IssueEntry {
            issue,
            status,
            reason,
            attempt,
            runs: _,
            current_run,
            last_run: _,
            due_at,
            workspace,
            workspace_whole: _,
            workspace_unsure: _,
            removal_unsure: _,
            unsure_move: _,
            workspace_kept: _,
            branch: _,
            handed_off,
            pull_request,
            settled: _,
            usage,
            models: _,
            turns: _,
            run_ms: _,
            limits: _,
            breaker: _,
            parked: _,
            question,
            messages: _,
            held: _,
            start: _,
            last_turns: _,
            unproved: _,
            seen_at,
        } = entry.clone();
        Self {
            issue,
            status,
            reason,
            attempt,
            due_at,
            workspace,
            current_run,
            handed_off,
            pull_request,
            question,
            // Whether a question has expired by now is no business of a row that is written once.
            allowed_actions: Standing::of(state, entry, Timestamp::default()).allowed(),
            usage,
            seen_at,
            changed_at: state.at,
        }
    }
}

/// How a run ended, and when.
#[derive(Debug)]
pub(crate) struct End<'a> {
    pub(crate) outcome: RunOutcome,
    pub(crate) reason: Option<&'a String>,
    pub(crate) evidence: Option<&'a String>,
    pub(crate) at: Timestamp,
}

impl RunView {
    /// The live run.
    pub(crate) fn of(run: &Run, identifier: &str) -> Self {
        let Run {
            id,
            issue,
            attempt,
            policy,
            phase,
            ending,
            evidence,
            prepared: _,
            session,
            attached: _,
            turn,
            counted_turns: _,
            turn_open: _,
            next_prompt: _,
            taken_over: _,
            grants: _,
            grants_of_turn: _,
            heard: _,
            stops: _,
            cut_turns,
            doubts: _,
            sweeping: _,
            restored: _,
            handoff,
            merges: _,
            usage,
            turn_usage: _,
            ledger: _,
            tool_digest: _,
            started_at,
        } = run.clone();
        Self {
            id,
            issue,
            identifier: identifier.to_owned(),
            attempt,
            policy,
            phase,
            outcome: None,
            reason: ending.map(|Ending { reason, .. }| reason),
            evidence,
            session,
            turns: turn,
            cut_turns,
            handoff,
            usage,
            started_at,
            ended_at: None,
        }
    }

    /// The run in the moment of its end.
    pub(crate) fn ended(run: &Run, identifier: &str, end: &End<'_>) -> Self {
        let live = Self::of(run, identifier);
        Self {
            phase: Phase::Ended,
            outcome: Some(end.outcome),
            reason: end.reason.cloned().or(live.reason),
            evidence: end.evidence.cloned(),
            ended_at: Some(end.at),
            ..live
        }
    }
}

impl UsageView {
    /// The rows of the run's latest turn.
    pub(crate) fn of(run: &Run, state: &State) -> Vec<Self> {
        let policy = state.policies.get(&run.policy);
        let identifier = state.issues.get(&run.issue).map_or("", |entry| &entry.issue.identifier);
        let rows = (0_u32..).zip(&run.ledger.rows).map(|(place, row)| {
            let UsageRow { day, model, usage, incomplete } = row.clone();
            let price = model.as_ref().zip(policy).and_then(|(model, policy)| policy.budget.prices.get(model));
            Self {
                run: run.id.clone(),
                turn: run.turn,
                place,
                issue: run.issue.clone(),
                identifier: identifier.to_owned(),
                session: run.ledger.session.clone(),
                model,
                day,
                usage,
                cost_nanousd: price.map(|price| usage.cost_nanousd(*price)),
                incomplete,
            }
        });
        rows.collect()
    }
}

impl DaemonView {
    pub(crate) fn of(state: &State) -> Self {
        Self {
            epoch: state.epoch,
            policy: state.policy.clone(),
            workflow_failure: state.workflow_failure.clone(),
            tracker_failure: state.tracker_failure.clone(),
            usage: state.usage,
            run_ms: state.run_ms,
        }
    }
}
