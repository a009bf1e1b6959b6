//! Scheduling: which issue runs next, and what the tracker's word does to issues and runs.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::breaker::reopened_too_often;
use crate::budget::{BudgetLimit, runs_allowed};
use crate::effect::{Effect, Failure, Query, SeenIssues};
use crate::event::Event;
use crate::explain::{Check, Failing, Slots, has_labels, is_active};
use crate::ids::IssueId;
use crate::index::Index;
use crate::issue::{Issue, IssueEntry, IssueStatus, normalized_state, state_in};
use crate::ledger::{day_of, next_day};
use crate::machine::{Machine, Purpose};
use crate::policy::{Hook, Policy};
use crate::run::{Ending, RunOutcome, Then};
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
        debug_assert_eq!(self.index, Index::of(&self.state), "the index is what a walk over the state finds");
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

    /// Issues whose time has come, in the order of their ids.
    pub(crate) fn issues_due(&self) -> impl Iterator<Item = &IssueEntry> {
        self.index.due(self.now).into_iter().filter_map(|id| self.state.issues.get(&id).map(Arc::as_ref))
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
            self.index.next_end(),
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

    pub(crate) fn polled(&mut self, number: u64, seen: Result<SeenIssues, Failure>, unreadable: &[IssueId]) {
        let Some(policy) = self.state.policy() else { return };
        self.poll.in_flight = None;
        let seen = match seen {
            Ok(seen) => seen,
            Err(failure) => {
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
        self.take_snapshots(number, &seen, unreadable, &policy);
        self.poll.writes.retain(|_, written| *written > number);
        self.reconcile(&policy);
        self.forget_completed();
        self.release_due_waits();
        self.dispatch(&policy, None);
    }

    fn take_snapshots(&mut self, number: u64, seen: &SeenIssues, unreadable: &[IssueId], policy: &Policy) {
        let (mut changed, mut missing) = (Vec::new(), Vec::new());
        // Both are in the order of ids, and most issues are in both, as they were.
        let mut known = self.state.issues.iter().peekable();
        let mut pass = |until: Option<&IssueId>| {
            while let Some((id, entry)) = known.next_if(|(id, _)| until.is_none_or(|until| *id < until)) {
                if entry.status != IssueStatus::Completed && !unreadable.contains(id) && !self.is_own_write(id, number)
                {
                    missing.push(id.clone());
                }
            }
            known.next_if(|(id, _)| Some(*id) == until).map(|(_, entry)| &entry.issue)
        };
        for issue in seen.iter() {
            let as_it_was = pass(Some(&issue.id)) == Some(issue);
            if !as_it_was && !self.is_own_write(&issue.id, number) {
                changed.push(Arc::clone(issue));
            }
        }
        pass(None);
        for issue in changed {
            self.note_snapshot(issue, policy);
            self.may_cut_off();
        }
        for id in missing {
            self.issue_gone(&id);
            self.may_cut_off();
        }
    }

    fn is_own_write(&self, issue: &IssueId, number: u64) -> bool {
        self.poll.writes.get(issue).is_some_and(|written| *written >= number)
    }

    /// Notes what an issue looks like now.
    pub(crate) fn note_snapshot(&mut self, issue: Arc<Issue>, policy: &Policy) {
        let id = issue.id.clone();
        let active = is_active(&issue, policy);
        let Some(entry) = self.state.issues.get(&id) else {
            let returned = self.state.gone.get(&id).filter(|known| known.runs > 0);
            let often = returned.and_then(|known| reopened_too_often(known, policy, self.now));
            if state_in(&issue.state, &policy.tracker.active_states) {
                self.emit(Event::IssueSeen { issue });
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
        self.emit(Event::IssueChanged { issue: Arc::clone(&issue) });
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
        for id in self.index.concerned() {
            self.reconcile_issue(&id, policy);
            self.may_cut_off();
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
        if waits(entry, terminal) && !wanted {
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
        if !may_be_removed(entry) || self.is_being_removed(id) {
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
        if self.index.completed() <= COMPLETED_KEPT {
            return;
        }
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
        let waits = |status| matches!(status, IssueStatus::WaitingRetry | IssueStatus::WaitingQuota);
        let due: Vec<(IssueId, IssueStatus)> = self
            .issues_due()
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
        if self.draining || self.state.drained || self.state.workflow_failure.is_some() {
            // Nobody is begun, and nobody loses a place for that.
            return;
        }
        let mut slots = self.slots(policy);
        let Sorted { eligible, dropped, exhausted } = self.sort_out(policy, &slots, alone);
        for id in dropped {
            self.set_status(&id, IssueStatus::Idle, Some("not eligible any more"), None);
            self.may_cut_off();
        }
        for (id, check) in exhausted {
            let Some(entry) = self.state.issues.get(&id) else { continue };
            if let Some(excess) = self.spent(entry, policy).filter(|_| check == Check::BudgetLeft) {
                self.park_issue(&id, None, excess.code, excess.detail, excess.limit);
            } else {
                let detail = format!("{} of {} runs used", entry.runs, runs_allowed(entry, policy));
                self.park_issue(&id, None, "runs_exhausted", detail, Some(BudgetLimit::IssueRuns));
            }
        }
        for id in eligible {
            self.may_cut_off();
            let Some(entry) = self.state.issues.get(&id) else { continue };
            let waits = Check::ALL.into_iter().find_map(|check| {
                let why = check.failing().waits()?;
                (!self.passes(check, entry, policy, &slots)).then_some((check, why))
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

    /// What there is to do about those that may be dispatched, as things stand. Whoever waits in line for what still is so is passed over.
    fn sort_out(&mut self, policy: &Policy, slots: &Slots, alone: Option<&IssueId>) -> Sorted {
        let mut sorted = Sorted::default();
        let all_wait = self.all_wait(policy, slots);
        let why = all_wait.and_then(|check| check.failing().waits());
        let no_slot = Check::Slot.failing().waits();
        let alike = policy.agent.max_concurrent_agents_by_state.is_empty();
        let (all_seen, mut room) = (!self.has_unreadable(), slots.free(policy));
        let line = self.index.line().take(if alone.is_some() { 0 } else { usize::MAX });
        for (place, candidate) in alone.and_then(|alone| self.index.in_line(alone)).into_iter().chain(line) {
            let rests = candidate.rests.filter(|_| all_seen && !slots.hold_up(place, candidate));
            // Where states have no limits of their own, whoever waits for a slot takes one when its turn comes: so many are asked.
            let is_next = rests == no_slot && why.is_none() && room > 0;
            let passed_over =
                rests.is_some() && (rests == why || (rests == no_slot && why.is_none() && alike && !is_next));
            if passed_over {
                debug_assert_eq!(self.first_failing(place, policy, slots), all_wait, "{} is passed over", place.id);
                if all_wait == Some(Check::DayBudget) {
                    self.held_day = Some(day_of(self.now));
                }
                continue;
            }
            room -= usize::from(is_next);
            let Some(entry) = self.state.issues.get(&place.id) else { continue };
            let stands = |check: &Check| check.failing().waits().is_none();
            let failing =
                Check::ALL.into_iter().filter(stands).find(|check| !self.passes(*check, entry, policy, slots));
            match failing {
                None => sorted.eligible.push(place.id.clone()),
                Some(check)
                    if check.failing() == Failing::Exhausted && self.only_ceilings_fail(entry, policy, slots) =>
                {
                    sorted.exhausted.push((place.id.clone(), check));
                }
                Some(_) if entry.status == IssueStatus::Queued => sorted.dropped.push(place.id.clone()),
                Some(_) => {}
            }
        }
        sorted.dropped.sort_unstable();
        sorted.exhausted.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        sorted
    }

    /// The rule that is in the way of an issue, asked of all.
    fn first_failing(&self, place: &Place, policy: &Policy, slots: &Slots) -> Option<Check> {
        let entry = self.state.issues.get(&place.id)?;
        Check::ALL.into_iter().find(|check| !self.passes(*check, entry, policy, slots))
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
}

fn released(reason: &str, clean_up: bool) -> Ending {
    Ending { outcome: RunOutcome::Canceled, reason: reason.to_owned(), then: Then::Release { clean_up } }
}

/// Where an issue is in line (Symphony §8.2): priorities 1 to 4, then the rest; oldest first; identifier.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    priority: i64,
    created_at: Timestamp,
    pub(crate) identifier: String,
    pub(crate) id: IssueId,
}

impl Place {
    pub(crate) fn of(issue: &Issue) -> Self {
        let (priority, created_at) = order(issue);
        Self { priority, created_at, identifier: issue.identifier.clone(), id: issue.id.clone() }
    }

    /// Whether the issue is in this place.
    pub(crate) fn is_of(&self, issue: &Issue) -> bool {
        (self.priority, self.created_at) == order(issue) && self.identifier == issue.identifier
    }
}

fn order(issue: &Issue) -> (i64, Timestamp) {
    let priority = issue.priority.filter(|priority| (1..=4).contains(priority)).unwrap_or(5);
    (priority, issue.created_at.unwrap_or(Timestamp(i64::MAX)))
}

/// What there is to do about those that may be dispatched.
#[derive(Default)]
struct Sorted {
    /// Whose turn it may be, in that order.
    eligible: Vec<IssueId>,
    /// Who loses the place in line, in the order of ids.
    dropped: Vec<IssueId>,
    /// Who has used up what it may, in the order of ids.
    exhausted: Vec<(IssueId, Check)>,
}

/// The tracker's word does something to the issue: what [`Machine::reconcile_issue`] does nothing about is not concerned. Follows from
/// these two alone.
pub(crate) fn concerns(entry: &IssueEntry, policy: &Policy) -> bool {
    let terminal = state_in(&entry.issue.state, &policy.tracker.terminal_states);
    let wanted = || is_active(&entry.issue, policy) && entry.issue.dispatchable && has_labels(&entry.issue, policy);
    match &entry.current_run {
        Some(_) => !wanted(),
        None => (terminal && may_be_removed(entry)) || (waits(entry, terminal) && !wanted()),
    }
}

/// It waits for something that makes no sense any more once the tracker does not want it.
fn waits(entry: &IssueEntry, terminal: bool) -> bool {
    let waits = matches!(
        entry.status,
        IssueStatus::Queued | IssueStatus::WaitingRetry | IssueStatus::WaitingQuota | IssueStatus::WaitingQuestion
    );
    // What an operator holds stays held, unless there is nothing left to do.
    waits || (terminal && entry.status == IssueStatus::Paused)
}

fn may_be_removed(entry: &IssueEntry) -> bool {
    entry.workspace.is_some() && !entry.workspace_kept
}
