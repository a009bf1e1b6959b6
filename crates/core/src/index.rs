//! What is looked up of the issues at every input, kept beside the state so that it costs the same with ten issues and ten thousand.
//!
//! Derived from the state and from nothing else: after each event the issue that it touched is looked at again, after a new policy all
//! of them, and so does a machine that is replayed.
//!
//! # Invariants
//! - The index is what a walk over the whole state finds. Builds with assertions take that walk at each input, and compare.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::budget::time_ends;
use crate::deadlines::Deadlines;
use crate::event::Event;
use crate::explain::{Candidate, candidate};
use crate::ids::{EffectId, IssueId, RunId};
use crate::issue::{IssueEntry, IssueStatus, normalized_state};
use crate::policy::Policy;
use crate::schedule::{Place, concerns};
use crate::state::State;
use crate::time::Timestamp;

/// Issues by what they wait for and by what they are called, and effects that are asked for together.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Index {
    /// When an issue is to be looked at again.
    dues: Deadlines<IssueId>,
    /// Identifiers in lower case: issues may have been given one that differs in case alone.
    identifiers: BTreeSet<(String, IssueId)>,
    /// Ids in lower case.
    ids: BTreeSet<(String, IssueId)>,
    /// Who may be dispatched, in that order.
    line: BTreeMap<Arc<Place>, Candidate>,
    /// Issues to which the tracker's word does something.
    concerned: BTreeSet<IssueId>,
    /// Completed, and without a workspace.
    completed: BTreeSet<IssueId>,
    /// Slots that are taken, by normalised state.
    slots: BTreeMap<String, usize>,
    /// As each issue stands in the others.
    known: BTreeMap<IssueId, Known>,
    /// When the time of a live run is used up.
    ends: Deadlines<RunId>,
    /// Open effects that take a workspace away, or mend one.
    removals: BTreeSet<EffectId>,
    /// Open effects that write to the tracker for operators.
    writes: BTreeSet<EffectId>,
}

#[derive(Debug, PartialEq)]
struct Known {
    identifier: String,
    line: Option<(Arc<Place>, Candidate)>,
    concerned: bool,
    completed: bool,
    slot: Option<String>,
}

impl Known {
    fn of(entry: &IssueEntry, policy: Option<&Policy>) -> Self {
        let candidate = policy.and_then(|policy| candidate(entry, policy));
        Self {
            identifier: entry.issue.identifier.to_ascii_lowercase(),
            line: candidate.map(|candidate| (Arc::new(Place::of(&entry.issue)), candidate)),
            concerned: policy.is_some_and(|policy| concerns(entry, policy)),
            completed: is_completed(entry),
            slot: entry.status.takes_slot().then(|| normalized_state(&entry.issue.state)),
        }
    }

    /// Whether an entry is known as it is. Asked after every event, and so it makes no copies.
    fn is_as(&self, entry: &IssueEntry, policy: Option<&Policy>) -> bool {
        let candidate = policy.and_then(|policy| candidate(entry, policy));
        let line = self.line.as_ref().map(|(place, candidate)| (place.is_of(&entry.issue), *candidate));
        let slot = entry.status.takes_slot().then_some(entry.issue.state.as_str());
        line == candidate.map(|candidate| (true, candidate))
            && self.concerned == policy.is_some_and(|policy| concerns(entry, policy))
            && self.completed == is_completed(entry)
            && match (&self.slot, slot) {
                (Some(known), Some(state)) => *known == normalized_state(state),
                (known, state) => known.is_none() && state.is_none(),
            }
            && self.identifier.eq_ignore_ascii_case(&entry.issue.identifier)
    }
}

impl Index {
    /// The index of a state.
    pub(crate) fn of(state: &State) -> Self {
        let mut index = Self::default();
        index.look_at_all(state);
        for id in state.open_effects.keys() {
            index.look_at_effect(state, *id);
        }
        index
    }

    /// Looks at what an event may have changed; `of_run`: the issue of its run, before it.
    pub(crate) fn follow(&mut self, state: &State, event: &Event, of_run: Option<&IssueId>) {
        for issue in event.issue().into_iter().chain(of_run) {
            self.look(state, issue);
            if let Some(run) = state.issues.get(issue).and_then(|entry| entry.current_run.as_ref()) {
                self.look_at_run(state, run);
            }
        }
        if let Some(run) = event.run() {
            self.look_at_run(state, run);
        }
        if let Event::EffectIntended { effect_id, .. } | Event::EffectEnded { effect_id, .. } = event {
            self.look_at_effect(state, *effect_id);
        } else if let Event::WorkflowLoaded { .. } = event {
            self.look_at_all(state);
        }
    }

    fn look_at_all(&mut self, state: &State) {
        for id in state.issues.keys() {
            self.look(state, id);
        }
        for run in state.runs.keys() {
            self.look_at_run(state, run);
        }
    }

    /// Looks at an issue that may have changed.
    fn look(&mut self, state: &State, id: &IssueId) {
        let Some(entry) = state.issues.get(id) else { return self.forget(id) };
        let policy = state.policy.as_ref().and_then(|hash| state.policies.get(hash)).map(Arc::as_ref);
        self.dues.set(id, due(entry));
        if self.known.get(id).is_some_and(|known| known.is_as(entry, policy)) {
            return;
        }
        self.drop_known(id);
        let known = Known::of(entry, policy);
        self.identifiers.insert((known.identifier.clone(), id.clone()));
        self.ids.insert((id.as_str().to_ascii_lowercase(), id.clone()));
        if let Some((place, candidate)) = &known.line {
            self.line.insert(Arc::clone(place), *candidate);
        }
        if known.concerned {
            self.concerned.insert(id.clone());
        }
        if known.completed {
            self.completed.insert(id.clone());
        }
        if let Some(state) = &known.slot {
            *self.slots.entry(state.clone()).or_default() += 1;
        }
        self.known.insert(id.clone(), known);
    }

    fn forget(&mut self, id: &IssueId) {
        self.dues.set(id, None);
        self.drop_known(id);
    }

    fn drop_known(&mut self, id: &IssueId) {
        let Some(Known { identifier, line, concerned, completed, slot }) = self.known.remove(id) else { return };
        self.identifiers.remove(&(identifier, id.clone()));
        self.ids.remove(&(id.as_str().to_ascii_lowercase(), id.clone()));
        if let Some((place, _)) = line {
            self.line.remove(&place);
        }
        if concerned {
            self.concerned.remove(id);
        }
        if completed {
            self.completed.remove(id);
        }
        if let Some(state) = slot
            && let Some(taken) = self.slots.get_mut(&state)
        {
            *taken -= 1;
            if *taken == 0 {
                self.slots.remove(&state);
            }
        }
    }

    fn look_at_run(&mut self, state: &State, id: &RunId) {
        self.ends.set(id, state.runs.get(id).and_then(|run| time_ends(state, run)));
    }

    fn look_at_effect(&mut self, state: &State, id: EffectId) {
        let open = state.open_effects.get(&id);
        keep(&mut self.removals, id, open.is_some_and(|open| open.removes_workspace() || open.effect.mend().is_some()));
        keep(&mut self.writes, id, open.is_some_and(|open| open.effect.is_operators_write()));
    }

    /// When the first of all issues is to be looked at again.
    pub(crate) fn next_due(&self) -> Option<Timestamp> {
        self.dues.first()
    }

    /// Issues that are to be looked at again by now, in the order of their ids.
    pub(crate) fn due(&self, now: Timestamp) -> Vec<IssueId> {
        self.dues.until(now)
    }

    /// When the time of the first of all runs is used up.
    pub(crate) fn next_end(&self) -> Option<Timestamp> {
        self.ends.first()
    }

    /// Runs whose time is used up by now, in the order of their ids.
    pub(crate) fn late(&self, now: Timestamp) -> Vec<RunId> {
        self.ends.until(now)
    }

    /// Who may be dispatched, in that order.
    pub(crate) fn line(&self) -> impl Iterator<Item = (&Place, Candidate)> {
        self.line.iter().map(|(place, candidate)| (place.as_ref(), *candidate))
    }

    /// The same for one issue.
    pub(crate) fn in_line(&self, id: &IssueId) -> Option<(&Place, Candidate)> {
        self.known.get(id)?.line.as_ref().map(|(place, candidate)| (place.as_ref(), *candidate))
    }

    /// Issues to which the tracker's word does something, in the order of their ids.
    pub(crate) fn concerned(&self) -> Vec<IssueId> {
        self.concerned.iter().cloned().collect()
    }

    /// Issues that are completed and have no workspace.
    pub(crate) fn completed(&self) -> usize {
        self.completed.len()
    }

    /// Slots that are taken, by normalised state.
    pub(crate) fn slots(&self) -> &BTreeMap<String, usize> {
        &self.slots
    }

    /// Open effects that take a workspace away, or mend one.
    pub(crate) fn removals(&self) -> impl Iterator<Item = EffectId> {
        self.removals.iter().copied()
    }

    /// Open effects that write to the tracker for operators.
    pub(crate) fn writes(&self) -> usize {
        self.writes.len()
    }

    /// The issue with this identifier, else with this id, ignoring case. Of several, the one with the lowest id.
    pub(crate) fn named(&self, key: &str) -> Option<&IssueId> {
        let key = key.to_ascii_lowercase();
        named(&self.identifiers, &key).or_else(|| named(&self.ids, &key))
    }
}

fn named<'a>(names: &'a BTreeSet<(String, IssueId)>, name: &str) -> Option<&'a IssueId> {
    let first = (name.to_owned(), IssueId::nobodys());
    names.range(first..).next().filter(|(found, _)| found == name).map(|(_, id)| id)
}

fn keep(effects: &mut BTreeSet<EffectId>, id: EffectId, is_one: bool) {
    if is_one {
        effects.insert(id);
    } else {
        effects.remove(&id);
    }
}

/// When an issue is to be looked at again: its wait or its hold is over, or nobody answered its question.
fn due(entry: &IssueEntry) -> Option<Timestamp> {
    let waits = matches!(entry.status, IssueStatus::WaitingRetry | IssueStatus::WaitingQuota);
    let due_at = entry.due_at.filter(|_| waits || entry.status.is_sticky());
    due_at.into_iter().chain(entry.question.as_ref().map(|question| question.expires_at)).min()
}

fn is_completed(entry: &IssueEntry) -> bool {
    entry.status == IssueStatus::Completed && entry.workspace.is_none()
}
