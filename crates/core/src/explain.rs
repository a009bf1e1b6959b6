//! Why an issue runs or does not: the rules of dispatch, each with what failing it means, and in words.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::breaker::held_until;
use crate::budget::{Excess, Moment, at_rest, runs_allowed};
use crate::guard::HELD as WORKFLOW_HELD;
use crate::ids::IssueId;
use crate::issue::{Issue, IssueEntry, IssueStatus, normalized_state, state_in};
use crate::ledger::next_day;
use crate::machine::Machine;
use crate::policy::Policy;
use crate::restored::UNPROVED;
use crate::schedule::Place;

/// One rule of dispatch, as it stands for one issue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// Stable name.
    pub rule: String,
    /// Whether it lets the issue through.
    pub pass: bool,
    /// What was found.
    pub detail: String,
    /// What would change it; only for rules that fail.
    pub remedy: Option<String>,
}

/// Every rule of dispatch for one issue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// The issue's identifier.
    pub identifier: String,
    /// Its status.
    pub status: IssueStatus,
    /// All rules, in the order in which they are asked.
    pub rules: Vec<Rule>,
}

/// A rule of dispatch (Symphony §8.2 and ours).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Check {
    WorkflowValid,
    NotDrained,
    StatusAllows,
    StateActive,
    Dispatchable,
    Labels,
    RunsLeft,
    BudgetLeft,
    WorkspaceFree,
    RetryDue,
    OutsideSeen,
    DiskRoom,
    Proved,
    DayBudget,
    AgentAvailable,
    Slot,
    StateSlot,
}

/// What is known of an issue that may be dispatched without asking all rules again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Candidate {
    /// It is queued for this reason, which is no reason of its own, and nothing of its own stands against it: while the reason holds, asking
    /// again changes nothing.
    pub(crate) rests: Option<&'static str>,
    /// Some of what it uses has no price, which stands against it while a limit of cost is set for the day.
    pub(crate) unpriced: bool,
}

/// How the issue stands among those that may be dispatched; `None`: dispatching does nothing about it. Follows from these two alone.
pub(crate) fn candidate(entry: &IssueEntry, policy: &Policy) -> Option<Candidate> {
    let wanted = status_allows(entry)
        && !waits_for_time(entry)
        && entry.issue.dispatchable
        && is_active(&entry.issue, policy)
        && has_labels(&entry.issue, policy);
    if !wanted && entry.status != IssueStatus::Queued {
        return None;
    }
    let (spent, unpriced) = at_rest(entry, policy);
    let rests = wanted
        && !spent
        && entry.status == IssueStatus::Queued
        && entry.due_at.is_none()
        && entry.unproved.is_none()
        && entry.runs < runs_allowed(entry, policy);
    let rests = entry.reason.as_deref().filter(|_| rests).and_then(|reason| {
        let common = Check::ALL.iter().filter(|check| **check != Check::Proved);
        common.filter_map(|check| check.failing().waits()).find(|why| *why == reason)
    });
    Some(Candidate { rests, unpriced })
}

fn status_allows(entry: &IssueEntry) -> bool {
    entry.current_run.is_none()
        && matches!(
            entry.status,
            IssueStatus::Idle | IssueStatus::Queued | IssueStatus::WaitingRetry | IssueStatus::WaitingQuota
        )
}

fn waits_for_time(entry: &IssueEntry) -> bool {
    matches!(entry.status, IssueStatus::WaitingRetry | IssueStatus::WaitingQuota)
}

/// The tracker's state of the issue is one that is worked on.
pub(crate) fn is_active(issue: &Issue, policy: &Policy) -> bool {
    state_in(&issue.state, &policy.tracker.active_states) && !state_in(&issue.state, &policy.tracker.terminal_states)
}

/// What it means for an issue that it fails a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failing {
    /// It is not to be worked on.
    Ineligible,
    /// It has used up what it may. If nothing else stands against it, it parks.
    Exhausted,
    /// It is eligible, and waits its turn, for this reason.
    Waits(&'static str),
}

impl Failing {
    /// What the issue waits for, if it waits.
    pub(crate) fn waits(self) -> Option<&'static str> {
        match self {
            Self::Waits(why) => Some(why),
            Self::Ineligible | Self::Exhausted => None,
        }
    }
}

impl Check {
    /// In the order in which they are asked.
    pub(crate) const ALL: [Self; 17] = [
        Self::WorkflowValid,
        Self::NotDrained,
        Self::StatusAllows,
        Self::StateActive,
        Self::Dispatchable,
        Self::Labels,
        Self::RunsLeft,
        Self::BudgetLeft,
        Self::WorkspaceFree,
        Self::RetryDue,
        Self::OutsideSeen,
        Self::DiskRoom,
        Self::Proved,
        Self::DayBudget,
        Self::AgentAvailable,
        Self::Slot,
        Self::StateSlot,
    ];

    /// Its stable name, and what failing it means.
    fn row(self) -> (&'static str, Failing) {
        match self {
            Self::WorkflowValid => ("workflow_valid", Failing::Ineligible),
            Self::NotDrained => ("not_drained", Failing::Ineligible),
            Self::StatusAllows => ("status_allows", Failing::Ineligible),
            Self::StateActive => ("state_active", Failing::Ineligible),
            Self::Dispatchable => ("dispatchable", Failing::Ineligible),
            Self::Labels => ("required_labels", Failing::Ineligible),
            Self::RunsLeft => ("runs_left", Failing::Exhausted),
            Self::BudgetLeft => ("issue_budget", Failing::Exhausted),
            Self::WorkspaceFree => ("workspace_free", Failing::Ineligible),
            Self::RetryDue => ("retry_due", Failing::Ineligible),
            Self::OutsideSeen => ("outside_seen", Failing::Waits("what is outside the journal could not be looked at")),
            Self::DiskRoom => ("disk_room", Failing::Waits("there is no room for workspaces on the disk")),
            Self::Proved => ("restore_probed", Failing::Waits(UNPROVED)),
            Self::DayBudget => ("day_budget", Failing::Waits("the budget of this UTC day is used up")),
            Self::AgentAvailable => ("agent_available", Failing::Waits("the agent's quota is used up")),
            Self::Slot => ("slot_free", Failing::Waits("no available orchestrator slots")),
            Self::StateSlot => ("state_slot_free", Failing::Waits("no available orchestrator slots")),
        }
    }

    /// What failing it means.
    pub(crate) fn failing(self) -> Failing {
        self.row().1
    }
}

/// What the rules ask of all issues together, looked up once for a decision: slots as they are taken now, and what stands against
/// some or all.
pub(crate) struct Slots {
    pub(crate) taken: usize,
    pub(crate) by_state: BTreeMap<String, usize>,
    /// Something is done to the workspaces of these.
    being_removed: BTreeSet<IssueId>,
    /// Something is done to directories that the workspaces of these identifiers would be in.
    mended: BTreeSet<String>,
    day_is_spent: bool,
    /// A limit of cost is set for this day.
    day_has_cost: bool,
}

impl Slots {
    /// Slots that are not taken.
    pub(crate) fn free(&self, policy: &Policy) -> usize {
        (policy.agent.max_concurrent_agents as usize).saturating_sub(self.taken)
    }

    /// Something of this moment stands against this issue alone.
    pub(crate) fn hold_up(&self, place: &Place, candidate: Candidate) -> bool {
        (candidate.unpriced && self.day_has_cost)
            || self.being_removed.contains(&place.id)
            || self.mended.contains(&place.identifier)
    }
}

impl Machine {
    /// The tracker wants the issue, and nothing stands against it but what it has used already.
    pub(crate) fn only_ceilings_fail(&self, entry: &IssueEntry, policy: &Policy, slots: &Slots) -> bool {
        Check::ALL
            .into_iter()
            .filter(|check| check.failing() == Failing::Ineligible)
            .all(|check| self.passes(check, entry, policy, slots))
    }

    /// The limit of its own that the issue has reached.
    pub(crate) fn spent(&self, entry: &IssueEntry, policy: &Policy) -> Option<Excess> {
        self.issue_excess(entry, policy, Moment::BeforeTurn)
            .or_else(|| self.unpriced(entry, policy, Moment::BeforeTurn))
    }

    pub(crate) fn slots(&self, policy: &Policy) -> Slots {
        let by_state = self.index.slots().clone();
        let open = || self.index.removals().filter_map(|id| self.state.open_effects.get(&id));
        let removed = open().filter(|open| open.removes_workspace()).map(|open| open.issue.clone());
        let mended = open().filter_map(|open| open.effect.mend()?.identifier()).map(str::to_owned);
        Slots {
            taken: by_state.values().sum(),
            by_state,
            being_removed: removed.collect(),
            mended: mended.collect(),
            day_is_spent: self.day_excess(policy).is_some(),
            day_has_cost: self.day_limits(policy).cost_nanousd.is_some(),
        }
    }

    /// Why every issue waits that may be dispatched, whichever it is; `None`: there are slots.
    pub(crate) fn all_wait(&self, policy: &Policy, slots: &Slots) -> Option<Check> {
        let common = |check: &Check| match check {
            Check::OutsideSeen => self.nothing_seen_outside().is_some(),
            Check::DiskRoom => self.without_room().is_some(),
            Check::DayBudget => slots.day_is_spent,
            Check::AgentAvailable => self.suspended_until(policy.agent.kind).is_some(),
            Check::Slot => slots.free(policy) == 0,
            Check::WorkflowValid
            | Check::NotDrained
            | Check::StatusAllows
            | Check::StateActive
            | Check::Dispatchable
            | Check::Labels
            | Check::RunsLeft
            | Check::BudgetLeft
            | Check::WorkspaceFree
            | Check::RetryDue
            | Check::Proved
            | Check::StateSlot => false,
        };
        Check::ALL.into_iter().find(common)
    }

    pub(crate) fn passes(&self, check: Check, entry: &IssueEntry, policy: &Policy, slots: &Slots) -> bool {
        match check {
            Check::WorkflowValid => self.state.workflow_failure.is_none(),
            Check::NotDrained => !self.draining && !self.state.drained,
            Check::StatusAllows => status_allows(entry),
            Check::StateActive => is_active(&entry.issue, policy),
            Check::Dispatchable => entry.issue.dispatchable,
            Check::Labels => has_labels(&entry.issue, policy),
            Check::RunsLeft => entry.runs < runs_allowed(entry, policy),
            Check::BudgetLeft => self.spent(entry, policy).is_none(),
            Check::Proved => entry.unproved.is_none(),
            Check::DayBudget => !slots.day_is_spent,
            Check::AgentAvailable => self.suspended_until(policy.agent.kind).is_none(),
            Check::WorkspaceFree => {
                !slots.being_removed.contains(&entry.issue.id) && !slots.mended.contains(&entry.issue.identifier)
            }
            Check::OutsideSeen => self.unseen_outside(entry).is_none(),
            Check::DiskRoom => self.without_room().is_none(),
            Check::RetryDue => !waits_for_time(entry),
            Check::Slot => slots.free(policy) > 0,
            Check::StateSlot if policy.agent.max_concurrent_agents_by_state.is_empty() => true,
            Check::StateSlot => {
                let state = normalized_state(&entry.issue.state);
                let taken = slots.by_state.get(&state).copied().unwrap_or(0);
                policy.agent.max_concurrent_agents_by_state.get(&state).is_none_or(|limit| taken < *limit as usize)
            }
        }
    }

    /// Every rule of dispatch for the issue with this identifier or id, ignoring case.
    #[must_use]
    pub fn explain(&self, key: &str) -> Option<Explanation> {
        let entry = self.state.issues.get(self.index.named(key)?)?;
        let identifier = entry.issue.identifier.clone();
        let Some(policy) = self.state.policy() else {
            return Some(Explanation { identifier, status: entry.status, rules: Vec::new() });
        };
        let slots = self.slots(&policy);
        let rules = Check::ALL
            .into_iter()
            .map(|check| {
                let pass = self.passes(check, entry, &policy, &slots);
                let (detail, remedy) = self.describe(check, entry, &policy, &slots);
                Rule { rule: check.row().0.to_owned(), pass, detail, remedy: (!pass).then_some(remedy) }
            })
            .collect();
        Some(Explanation { identifier, status: entry.status, rules })
    }

    fn describe(&self, check: Check, entry: &IssueEntry, policy: &Policy, slots: &Slots) -> (String, String) {
        let issue = &entry.issue;
        match check {
            Check::WorkflowValid => (
                self.state.workflow_failure.as_ref().map_or("WORKFLOW.md is valid".to_owned(), ToString::to_string),
                match &self.state.workflow_failure {
                    Some(failure) if failure.code == WORKFLOW_HELD => {
                        "`dalsegno reload`, or take the change back".to_owned()
                    }
                    Some(_) | None => "repair WORKFLOW.md; it is read again by itself".to_owned(),
                },
            ),
            Check::NotDrained => (
                if self.draining {
                    "the daemon is ending"
                } else if self.state.drained {
                    "an operator wants no new work to be taken"
                } else {
                    "the daemon takes new work"
                }
                .to_owned(),
                if self.state.drained { "`dalsegno undrain`" } else { "start the daemon again" }.to_owned(),
            ),
            Check::StatusAllows => (
                format!(
                    "status is {}{}",
                    entry.status.as_str(),
                    entry.reason.as_ref().map_or(String::new(), |why| format!(" ({why})"))
                ),
                match held_until(entry, self.now).filter(|_| entry.status == IssueStatus::Parked) {
                    Some(until) => format!(
                        "`dalsegno release`; changes in the tracker count in {} s",
                        until.since_ms(self.now) / 1_000
                    ),
                    None => status_remedy(entry.status).to_owned(),
                },
            ),
            Check::StateActive => (
                format!("state is {}; active states are {}", issue.state, listed(&policy.tracker.active_states)),
                "move the issue to an active state".to_owned(),
            ),
            Check::Dispatchable => (
                issue.undispatchable_reason.clone().unwrap_or_else(|| "the tracker lets it through".to_owned()),
                "see to what the tracker names".to_owned(),
            ),
            Check::Labels => (
                format!("labels: {}; required: {}", listed(&issue.labels), listed(&policy.tracker.required_labels)),
                "add the missing labels".to_owned(),
            ),
            Check::RunsLeft => (
                format!("{} of {} runs used", entry.runs, runs_allowed(entry, policy)),
                "change the issue's state, labels or description, or raise budget.issue.runs".to_owned(),
            ),
            Check::BudgetLeft => (
                self.spent(entry, policy).map_or("within its budget".to_owned(), |excess| excess.detail),
                "raise budget.issue, or `dalsegno budget ISSUE`".to_owned(),
            ),
            Check::OutsideSeen => (
                self.unseen_outside(entry).unwrap_or_else(|| "what is outside the journal was looked at".to_owned()),
                "`dalsegno doctor`; it is looked at again by itself".to_owned(),
            ),
            Check::DiskRoom => (
                self.without_room().unwrap_or_else(|| "there is room".to_owned()),
                "remove workspaces that nobody needs, free some space, or raise workspace.disk_limit_gb".to_owned(),
            ),
            Check::Proved => (
                match &entry.unproved {
                    None => "nothing was restored since it was last looked at".to_owned(),
                    Some(_) => format!("the journal was restored from a backup: {UNPROVED}"),
                },
                "wait until the remote answers: its branch is looked at first".to_owned(),
            ),
            Check::DayBudget => (
                self.day_excess(policy).map_or("within the day's budget".to_owned(), |excess| excess.detail),
                format!(
                    "wait {} s until the UTC day turns, or raise budget.day",
                    next_day(self.now).since_ms(self.now) / 1_000
                ),
            ),
            Check::AgentAvailable => {
                let kind = policy.agent.kind.as_str();
                (
                    self.suspended_until(policy.agent.kind).map_or(format!("{kind} is available"), |until| {
                        format!("the quota of {kind} is used up; it resets in {} s", until.since_ms(self.now) / 1_000)
                    }),
                    "wait until the quota resets, or change agent.kind".to_owned(),
                )
            }
            Check::WorkspaceFree => (
                if self.is_being_removed(&issue.id) || self.is_being_mended(entry) {
                    "its workspace is being removed"
                } else {
                    "nothing is done to its workspace"
                }
                .to_owned(),
                "wait until the removal is through".to_owned(),
            ),
            Check::RetryDue => (
                match entry.due_at {
                    Some(due) => format!("the next run is due in {} ms", due.since_ms(self.now)),
                    None => "no retry is pending".to_owned(),
                },
                "wait until the time is over".to_owned(),
            ),
            Check::Slot => (
                format!("{} of {} slots taken", slots.taken, policy.agent.max_concurrent_agents),
                "wait for a run to end, or raise agent.max_concurrent_agents".to_owned(),
            ),
            Check::StateSlot => {
                let state = normalized_state(&issue.state);
                let taken = slots.by_state.get(&state).copied().unwrap_or(0);
                let limit = policy.agent.max_concurrent_agents_by_state.get(&state);
                (
                    limit.map_or(format!("no limit for state {state:?}"), |limit| {
                        format!("{taken} of {limit} slots taken for state {state:?}")
                    }),
                    "wait for a run to end, or raise agent.max_concurrent_agents_by_state".to_owned(),
                )
            }
        }
    }
}

fn listed(words: &[String]) -> String {
    if words.is_empty() { "none".to_owned() } else { words.join(", ") }
}

pub(crate) fn has_labels(issue: &Issue, policy: &Policy) -> bool {
    policy.tracker.required_labels.iter().all(|label| {
        let label = label.trim().to_lowercase();
        !label.is_empty() && issue.labels.contains(&label)
    })
}

fn status_remedy(status: IssueStatus) -> &'static str {
    match status {
        IssueStatus::Idle | IssueStatus::Queued | IssueStatus::WaitingRetry => "nothing to do",
        IssueStatus::Running | IssueStatus::HandingOff => "it is being worked on",
        IssueStatus::Paused => "`dalsegno resume`",
        IssueStatus::WaitingQuota => "wait until the agent's quota resets",
        IssueStatus::WaitingQuestion | IssueStatus::WaitingApproval => "answer what is asked",
        IssueStatus::HandedOff
        | IssueStatus::Completed
        | IssueStatus::Failed
        | IssueStatus::Canceled
        | IssueStatus::Parked => "change the issue's state, labels or description in the tracker",
    }
}
