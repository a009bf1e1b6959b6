//! Scheduling: which issue runs next, and what the tracker's word does to issues and runs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::breaker::reopened_too_often;
use crate::budget::BudgetLimit;
use crate::effect::{Effect, Failure, Query};
use crate::event::Event;
use crate::explain::{Check, Failing, has_labels};
use crate::ids::{IssueId, RunId};
use crate::issue::{Issue, IssueEntry, IssueStatus, normalized_state, state_in};
use crate::ledger::{day_of, next_day};
use crate::machine::{Machine, Purpose};
use crate::policy::{Hook, Policy};
use crate::run::{Ending, Phase, RunOutcome, Then};
use crate::state::OpenEffect;
use crate::time::Timestamp;

/// Issues that ended well and are remembered, so that somebody's change of them is noticed.
const COMPLETED_KEPT: usize = 10_000;
/// Wait after a poll that failed, at the least; the policy's interval if that is shorter.
const POLL_RETRY_MS: u64 = 5_000;

/// When the tracker is read. Belongs to this daemon's life: after a restart it is read at once.
#[derive(Debug, Default)]
pub(crate) struct Poll {
    pub(crate) due_at: Timestamp,
    /// When the tracker was last asked.
    asked_at: Timestamp,
    in_flight: Option<u64>,
    count: u64,
    /// The number of the last poll that was answered well.
    answered: u64,
    /// Our own write on an issue ended while this poll was the latest: its answer may be older than the write.
    writes: BTreeMap<IssueId, u64>,
    /// Something ended since the last poll was asked.
    stale: bool,
}

impl Poll {
    pub(crate) fn is_fresh(&self) -> bool {
        self.answered > 0 && self.in_flight.is_none() && !self.stale
    }

    pub(crate) fn failed(&mut self, now: Timestamp) {
        self.in_flight = None;
        self.due_at = now.after_ms(POLL_RETRY_MS);
    }
}

impl Machine {
    /// Reads the tracker if it is time; sees to everything else that is due.
    pub(crate) fn timers(&mut self) {
        self.release_due_waits();
        self.count_reports();
        self.end_suspensions();
        self.end_holds();
        self.end_late_runs();
        self.expire_questions();
        if self.held_day.is_some_and(|day| day < day_of(self.now)) {
            self.held_day = None;
            self.poll_soon();
        }
        self.stalls();
        self.look_again();
        self.send_notices();
        self.look_outside();
        self.mend_outside();
        // Nothing is dispatched before this daemon knows what is outside.
        if self.has_looked_outside() {
            self.look_at_named();
        }
        if self.has_looked_outside() && self.poll.in_flight.is_none() && self.now >= self.poll.due_at && !self.draining
        {
            self.ask_tracker();
        }
    }

    /// The time of some issue has come. Otherwise there is nothing to look for among them, however many there are.
    pub(crate) fn issues_due(&self) -> bool {
        debug_assert_eq!(
            self.index.next_due(),
            self.state.issues.values().filter_map(|entry| crate::index::due(entry)).min(),
            "the index of deadlines is what a walk finds"
        );
        self.index.next_due().is_some_and(|due| due <= self.now)
    }

    /// The next time at which something is due.
    pub(crate) fn next_due(&self) -> Option<Timestamp> {
        let polls = self.has_looked_outside() && self.poll.in_flight.is_none();
        let poll = (polls && self.state.policy.is_some() && !self.draining).then_some(self.poll.due_at);
        let again = self.assess_again.values().chain(self.probe_again.values()).map(|again| again.due_at);
        let day = self.held_day.map(|_| next_day(self.now));
        let governed = [
            self.index.next_due(),
            self.reports_due(),
            self.suspensions_due(),
            self.budget_due(),
            self.notices_due(),
            self.looks_due().filter(|_| self.has_looked_outside()),
            self.outside_due(),
            day,
        ];
        let dues = poll.into_iter().chain(again).chain(self.stall_due());
        dues.chain(governed.into_iter().flatten()).min()
    }

    fn ask_tracker(&mut self) {
        let Some(policy) = self.state.policy() else { return };
        self.poll.count += 1;
        self.poll.asked_at = self.now;
        // The answer says when it is due again; or whoever wants that sooner.
        self.poll.due_at = Timestamp(i64::MAX);
        self.poll.in_flight = Some(self.poll.count);
        self.poll.stale = false;
        let ids = self
            .state
            .issues
            .values()
            .filter(|entry| entry.status != IssueStatus::Completed)
            .map(|entry| entry.issue.id.clone())
            .collect();
        let states = policy.tracker.active_states.clone();
        self.ask(Purpose::Poll { number: self.poll.count }, Query::Poll { states, ids, policy });
    }

    /// The tracker should be read soon: something ended, and the next decision wants fresh issues.
    pub(crate) fn poll_soon(&mut self) {
        self.poll.stale = true;
        self.poll.due_at = self.poll.due_at.min(self.now);
    }

    /// The same, but no sooner than so many milliseconds after the last poll; and a tracker that fails is not asked any sooner
    /// than it is anyway.
    pub(crate) fn poll_early(&mut self, after_ms: u64) {
        if self.state.tracker_failure.is_none() || self.poll.in_flight.is_some() {
            self.poll.stale = true;
            self.poll.due_at = self.poll.due_at.min(self.now.max(self.poll.asked_at.after_ms(after_ms)));
        }
    }

    /// Polls that were answered well.
    pub(crate) fn polls_answered(&self) -> u64 {
        self.poll.answered
    }

    /// We wrote to the issue, or looked at it: what a poll that is under way says of it may be older than that.
    pub(crate) fn own_write(&mut self, issue: &IssueId) {
        self.poll.writes.insert(issue.clone(), self.poll.count);
        self.looks.written(issue);
    }

    pub(crate) fn polled(
        &mut self,
        number: u64,
        by_states: Result<Vec<Issue>, Failure>,
        by_ids: Result<Vec<Issue>, Failure>,
        unreadable: &[IssueId],
    ) {
        let Some(policy) = self.state.policy() else { return };
        self.poll.in_flight = None;
        let (active, known) = match (by_states, by_ids) {
            (Ok(active), Ok(known)) => (active, known),
            (Err(failure), _) | (_, Err(failure)) => {
                self.poll.failed(self.now);
                self.poll.due_at = self.now.after_ms(policy.poll_interval_ms.min(POLL_RETRY_MS));
                if self.state.tracker_failure.as_ref() != Some(&failure) {
                    self.emit(Event::TrackerHealth { failure: Some(failure) });
                }
                return;
            }
        };
        if self.state.tracker_failure.is_some() {
            self.emit(Event::TrackerHealth { failure: None });
        }
        self.poll.answered = number;
        if !self.poll.stale {
            self.poll.due_at = self.next_poll(&policy);
        }
        let seen: BTreeMap<IssueId, Issue> =
            known.into_iter().chain(active).map(|issue| (issue.id.clone(), issue)).collect();
        self.take_snapshots(number, seen, unreadable, &policy);
        self.poll.writes.retain(|_, written| *written > number);
        self.reconcile(&policy);
        self.forget_completed();
        self.release_due_waits();
        self.dispatch(&policy, None);
    }

    fn take_snapshots(&mut self, number: u64, seen: BTreeMap<IssueId, Issue>, unreadable: &[IssueId], policy: &Policy) {
        let missing: Vec<IssueId> = self
            .state
            .issues
            .iter()
            .filter(|(id, entry)| entry.status != IssueStatus::Completed && !seen.contains_key(*id))
            .filter(|(id, _)| !self.is_own_write(id, number) && !unreadable.contains(id))
            .map(|(id, _)| id.clone())
            .collect();
        for (id, issue) in seen {
            if !self.is_own_write(&id, number) {
                self.note_snapshot(issue, policy);
            }
        }
        for id in missing {
            self.issue_gone(&id);
        }
    }

    fn is_own_write(&self, issue: &IssueId, number: u64) -> bool {
        self.poll.writes.get(issue).is_some_and(|written| *written >= number)
    }

    /// Notes what an issue looks like now.
    pub(crate) fn note_snapshot(&mut self, issue: Issue, policy: &Policy) {
        let id = issue.id.clone();
        let active = state_in(&issue.state, &policy.tracker.active_states)
            && !state_in(&issue.state, &policy.tracker.terminal_states);
        let Some(entry) = self.state.issues.get(&id) else {
            let returned = self.state.gone.get(&id).filter(|known| known.runs > 0);
            let often = returned.and_then(|known| reopened_too_often(known, policy, self.now));
            if state_in(&issue.state, &policy.tracker.active_states) {
                self.emit(Event::IssueSeen { issue: Box::new(issue) });
                self.park_if_idle(&id, often.filter(|_| active));
            }
            return;
        };
        if entry.issue == issue {
            return;
        }
        let by_somebody_else = entry.settled.as_ref().is_some_and(|settled| {
            let mut now = issue.fingerprint();
            if entry.unsure_move.as_ref() == Some(&now.state) {
                now.state.clone_from(&settled.state);
            }
            *settled != now
        });
        let status = entry.status;
        // Runs start over with the change that makes the issue wanted: on the way there none is dispatched.
        let fresh_start =
            status == IssueStatus::Idle && entry.runs > 0 && active && entry.issue.fingerprint() != issue.fingerprint();
        let often = reopened_too_often(entry, policy, self.now).filter(|_| fresh_start);
        self.emit(Event::IssueChanged { issue: Box::new(issue.clone()) });
        if often.is_some() {
            self.park_if_idle(&id, often);
        } else if fresh_start {
            self.emit(Event::IssueReopened { issue: id.clone() });
        }
        if !status.is_sticky() || !by_somebody_else {
            return;
        }
        if status == IssueStatus::HandedOff && state_in(&issue.state, &policy.tracker.terminal_states) {
            self.set_status(&id, IssueStatus::Completed, Some("the tracker says terminal"), None);
        } else if self.state.issues.get(&id).is_some_and(|entry| entry.current_run.is_none())
            && self.may_reopen(&id, policy)
        {
            self.reopen(&id, "changed by somebody else");
        }
    }

    fn park_if_idle(&mut self, id: &IssueId, often: Option<String>) {
        let idle = self.state.issues.get(id).is_some_and(|entry| entry.status == IssueStatus::Idle);
        if let Some(detail) = often.filter(|_| idle) {
            self.park_redispatched(id, detail);
        }
    }

    /// A settled issue may run again.
    pub(crate) fn reopen(&mut self, id: &IssueId, reason: &str) {
        self.emit(Event::IssueReopened { issue: id.clone() });
        self.set_status(id, IssueStatus::Idle, Some(reason), None);
    }

    pub(crate) fn issue_gone(&mut self, id: &IssueId) {
        let Some(entry) = self.state.issues.get(id) else { return };
        match entry.current_run.clone() {
            Some(run) => {
                let ending = released("issue_gone: the issue is not visible in the tracker any more", false);
                self.stop_run(&run, ending);
            }
            None if self.has_issue_effect(id) => {}
            None => self.emit(Event::IssueGone { issue: id.clone() }),
        }
    }

    /// What the tracker's word does to live runs and to issues that wait (Symphony §8.5 B).
    fn reconcile(&mut self, policy: &Policy) {
        // Of a long list most are wanted as they are, or rest: nothing is done to them.
        let concerned = |entry: &&Arc<IssueEntry>| {
            let terminal = state_in(&entry.issue.state, &policy.tracker.terminal_states);
            let active = state_in(&entry.issue.state, &policy.tracker.active_states);
            let wanted = active && entry.issue.dispatchable && has_labels(&entry.issue, policy);
            terminal || (!wanted && (entry.current_run.is_some() || entry.status != IssueStatus::Idle))
        };
        let ids: Vec<IssueId> =
            self.state.issues.values().filter(concerned).map(|entry| entry.issue.id.clone()).collect();
        for id in ids {
            self.reconcile_issue(&id, policy);
        }
    }

    pub(crate) fn reconcile_issue(&mut self, id: &IssueId, policy: &Policy) {
        let Some(entry) = self.state.issues.get(id) else { return };
        let terminal = state_in(&entry.issue.state, &policy.tracker.terminal_states);
        let active = !terminal && state_in(&entry.issue.state, &policy.tracker.active_states);
        let routable = entry.issue.dispatchable && has_labels(&entry.issue, policy);
        match entry.current_run.clone() {
            Some(run) if terminal => {
                self.stop_run(&run, released("issue_terminal: the tracker says terminal", true));
            }
            Some(run) if !active => {
                self.stop_run(&run, released("issue_inactive: the issue left the active states", false));
            }
            Some(run) if !routable => {
                self.stop_run(&run, released("issue_not_routable: labels or dispatchability changed", false));
            }
            Some(_) => {}
            None => self.reconcile_waiting(id, terminal, active && routable),
        }
    }

    fn reconcile_waiting(&mut self, id: &IssueId, terminal: bool, wanted: bool) {
        let Some(entry) = self.state.issues.get(id) else { return };
        let waits = matches!(
            entry.status,
            IssueStatus::Queued | IssueStatus::WaitingRetry | IssueStatus::WaitingQuota | IssueStatus::WaitingQuestion
        );
        // What an operator holds stays held, unless there is nothing left to do.
        let waits = waits || (terminal && entry.status == IssueStatus::Paused);
        if waits && !wanted {
            let reason = if terminal { "the tracker says terminal" } else { "not wanted by the tracker" };
            self.set_status(id, IssueStatus::Idle, Some(reason), None);
        }
        if terminal {
            self.clean_up(id);
        }
    }

    /// Removes the issue's workspace if nothing would be lost; keeps it otherwise.
    pub(crate) fn clean_up(&mut self, id: &IssueId) {
        let Some(entry) = self.state.issues.get(id) else { return };
        if entry.workspace.is_none() || entry.workspace_kept || self.is_being_removed(id) {
            return;
        }
        let Some(policy) = self.state.policy() else { return };
        let handed_off = entry.handed_off.clone();
        let round = self.state.effect_count;
        if policy.hooks.script(Hook::BeforeRemove).is_some() {
            self.intend(id, None, &format!("before_remove/{round}"), Effect::RunHook { hook: Hook::BeforeRemove });
        } else {
            self.intend(id, None, &format!("remove/{round}"), Effect::RemoveWorkspace { handed_off });
        }
    }

    /// Something is done to the issue's workspace.
    pub(crate) fn is_being_removed(&self, id: &IssueId) -> bool {
        self.state.open_effects.values().any(|open| open.issue == *id && open.removes_workspace())
    }

    /// Something is done for the issue between its runs.
    pub(crate) fn has_issue_effect(&self, id: &IssueId) -> bool {
        let of_it = |open: &OpenEffect| {
            open.issue == *id && open.run.is_none() && !matches!(open.effect, Effect::Notify { .. })
        };
        self.state.open_effects.values().any(of_it)
    }

    fn forget_completed(&mut self) {
        let completed: Vec<(Timestamp, IssueId)> = self
            .state
            .issues
            .values()
            .filter(|entry| entry.status == IssueStatus::Completed && entry.workspace.is_none())
            .filter(|entry| !self.has_issue_effect(&entry.issue.id))
            .map(|entry| (entry.seen_at, entry.issue.id.clone()))
            .collect();
        if completed.len() > COMPLETED_KEPT {
            let mut oldest = completed;
            oldest.sort();
            oldest.truncate(oldest.len() - COMPLETED_KEPT);
            for (_, issue) in oldest {
                self.emit(Event::IssueGone { issue });
            }
        }
    }

    fn release_due_waits(&mut self) {
        if !self.issues_due() {
            return;
        }
        let waits = |status| matches!(status, IssueStatus::WaitingRetry | IssueStatus::WaitingQuota);
        let due: Vec<(IssueId, IssueStatus)> = self
            .state
            .issues
            .values()
            .filter(|entry| waits(entry.status) && entry.due_at.is_some_and(|due| due <= self.now))
            .map(|entry| (entry.issue.id.clone(), entry.status))
            .collect();
        for (id, waited) in due {
            let reason = if waited == IssueStatus::WaitingQuota { "the quota resets" } else { "retry is due" };
            self.set_status(&id, IssueStatus::Queued, Some(reason), None);
            self.poll_soon();
        }
    }

    /// Starts runs for eligible issues, best first, while there are slots (Symphony §8.2, §8.3); of all issues, or of one alone.
    pub(crate) fn dispatch(&mut self, policy: &Policy, alone: Option<&IssueId>) {
        let mut slots = self.slots(policy);
        let mut eligible: Vec<&IssueEntry> = Vec::new();
        let mut dropped: Vec<IssueId> = Vec::new();
        let mut exhausted: Vec<(IssueId, Check)> = Vec::new();
        let asked = self.state.issues.iter().filter(|(id, _)| alone.is_none_or(|alone| alone == *id));
        for (id, entry) in asked {
            let stands = |check: &Check| !matches!(check.failing(), Failing::Waits(_));
            let failing =
                Check::ALL.into_iter().filter(stands).find(|check| !self.passes(*check, entry, policy, &slots));
            match failing {
                None => eligible.push(entry),
                Some(check)
                    if check.failing() == Failing::Exhausted && self.only_ceilings_fail(entry, policy, &slots) =>
                {
                    exhausted.push((id.clone(), check));
                }
                Some(_) if entry.status == IssueStatus::Queued => dropped.push(id.clone()),
                Some(_) => {}
            }
        }
        eligible.sort_unstable_by(|one, other| order(&one.issue).cmp(&order(&other.issue)));
        let eligible: Vec<IssueId> = eligible.into_iter().map(|entry| entry.issue.id.clone()).collect();
        for id in dropped {
            let held = self.draining || self.state.drained || self.state.workflow_failure.is_some();
            if !held {
                self.set_status(&id, IssueStatus::Idle, Some("not eligible any more"), None);
            }
        }
        for (id, check) in exhausted {
            let Some(entry) = self.state.issues.get(&id) else { continue };
            if let Some(excess) = self.spent(entry, policy).filter(|_| check == Check::BudgetLeft) {
                self.park_issue(&id, None, excess.code, excess.detail, excess.limit);
            } else {
                let detail = format!("{} of {} runs used", entry.runs, self.runs_allowed(&id, policy));
                self.park_issue(&id, None, "runs_exhausted", detail, Some(BudgetLimit::IssueRuns));
            }
        }
        for id in eligible {
            let Some(entry) = self.state.issues.get(&id) else { continue };
            let waits = Check::ALL.into_iter().find_map(|check| match check.failing() {
                Failing::Waits(why) => (!self.passes(check, entry, policy, &slots)).then_some((check, why)),
                Failing::Ineligible | Failing::Exhausted => None,
            });
            if waits.is_some_and(|(check, _)| check == Check::DayBudget) {
                self.held_day = Some(day_of(self.now));
            }
            let Some((check, why)) = waits else {
                let state = normalized_state(&entry.issue.state);
                slots.taken += 1;
                *slots.by_state.entry(state).or_default() += 1;
                self.start_run(&id);
                continue;
            };
            let queued = entry.status == IssueStatus::Queued;
            if check == Check::Proved {
                self.look_for_lost_work(&id);
                if queued {
                    // It says why the last look told nothing.
                    continue;
                }
            }
            self.set_status(&id, IssueStatus::Queued, Some(why), None);
        }
    }

    /// Whether the issue will go on by itself: queued, or waiting for a time.
    pub(crate) fn is_waiting(&self, entry: &IssueEntry) -> bool {
        matches!(
            entry.status,
            IssueStatus::Queued
                | IssueStatus::Running
                | IssueStatus::HandingOff
                | IssueStatus::WaitingRetry
                | IssueStatus::WaitingQuota
        ) && !((self.draining || self.state.drained) && entry.status == IssueStatus::Queued)
    }

    pub(crate) fn set_status(
        &mut self,
        id: &IssueId,
        to: IssueStatus,
        reason: Option<&str>,
        due_at: Option<Timestamp>,
    ) {
        let Some(entry) = self.state.issues.get(id) else { return };
        let from = entry.status;
        if from != to || entry.due_at != due_at || entry.reason.as_deref() != reason {
            self.emit(Event::IssueStatus { issue: id.clone(), from, to, reason: reason.map(str::to_owned), due_at });
        }
    }

    fn stalls(&mut self) {
        let stalled: Vec<(RunId, u64)> = self
            .state
            .runs
            .values()
            .filter(|run| run.phase == Phase::Prompting && !self.waits_for_answer(run))
            .filter_map(|run| {
                let limit = self.stall_limit(&run.id)?;
                let silent = self.now.since_ms(*self.activity.get(&run.id)?);
                (silent > limit).then(|| (run.id.clone(), silent))
            })
            .collect();
        for (run, silent) in stalled {
            let reason = format!("stalled: no sign of the agent for {} s", silent / 1_000);
            let then = Then::RetryAfterFailure { not_before: None };
            self.stop_run(&run, Ending { outcome: RunOutcome::Failed, reason, then });
        }
        let live: BTreeSet<RunId> = self.state.runs.keys().cloned().collect();
        self.activity.retain(|run, _| live.contains(run));
        self.usage_at.retain(|run, _| live.contains(run));
        self.usage_waits.retain(|run, _| live.contains(run));
    }

    fn stall_limit(&self, run: &RunId) -> Option<u64> {
        let limit = self.state.policy_of(run)?.agent.stall_timeout_ms;
        u64::try_from(limit).ok().filter(|limit| *limit > 0)
    }

    fn stall_due(&self) -> Option<Timestamp> {
        self.state
            .runs
            .values()
            .filter(|run| run.phase == Phase::Prompting && !self.waits_for_answer(run))
            .filter_map(|run| Some(self.activity.get(&run.id)?.after_ms(self.stall_limit(&run.id)? + 1)))
            .min()
    }
}

fn released(reason: &str, clean_up: bool) -> Ending {
    Ending { outcome: RunOutcome::Canceled, reason: reason.to_owned(), then: Then::Release { clean_up } }
}

/// Symphony §8.2: priorities 1 to 4, then the rest; oldest first; identifier.
fn order(issue: &Issue) -> (i64, Timestamp, &str) {
    let priority = issue.priority.filter(|priority| (1..=4).contains(priority)).unwrap_or(5);
    (priority, issue.created_at.unwrap_or(Timestamp(i64::MAX)), &issue.identifier)
}
