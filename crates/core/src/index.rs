//! What is looked up of the issues at every input, kept beside the state so that it costs the same with ten issues and ten thousand.
//!
//! Derived from the state and from nothing else: after each event the issue that it touched is looked at again, and a machine
//! that is replayed looks at all of them.
//!
//! # Invariants
//! - [`Index::next_due`] is what a walk over all issues finds. Builds with assertions take that walk too, and compare.

use std::collections::{BTreeMap, BTreeSet};

use crate::ids::IssueId;
use crate::issue::{IssueEntry, IssueStatus};
use crate::state::State;
use crate::time::Timestamp;

/// Issues by what they wait for and by what they are called.
#[derive(Debug, Default)]
pub(crate) struct Index {
    dues: BTreeSet<(Timestamp, IssueId)>,
    /// Identifiers in lower case: issues may have been given one that differs in case alone.
    identifiers: BTreeMap<String, BTreeSet<IssueId>>,
    /// Ids in lower case.
    ids: BTreeMap<String, BTreeSet<IssueId>>,
    /// As each issue stands in the others.
    known: BTreeMap<IssueId, Known>,
}

#[derive(Debug, PartialEq, Eq)]
struct Known {
    due: Option<Timestamp>,
    identifier: String,
}

impl Index {
    /// The index of a state.
    pub(crate) fn of(state: &State) -> Self {
        let mut index = Self::default();
        for id in state.issues.keys() {
            index.look(state, id);
        }
        index
    }

    /// Looks at an issue that may have changed.
    pub(crate) fn look(&mut self, state: &State, id: &IssueId) {
        let entry = state.issues.get(id);
        let same = |known: &Known, entry: &IssueEntry| {
            known.due == due(entry) && known.identifier.eq_ignore_ascii_case(&entry.issue.identifier)
        };
        match (self.known.get(id), entry) {
            (Some(known), Some(entry)) if same(known, entry) => return,
            (None, None) => return,
            (Some(_), _) | (None, Some(_)) => self.forget(id),
        }
        let Some(entry) = entry else { return };
        let known = Known { due: due(entry), identifier: entry.issue.identifier.to_ascii_lowercase() };
        if let Some(due) = known.due {
            self.dues.insert((due, id.clone()));
        }
        self.identifiers.entry(known.identifier.clone()).or_default().insert(id.clone());
        self.ids.entry(id.as_str().to_ascii_lowercase()).or_default().insert(id.clone());
        self.known.insert(id.clone(), known);
    }

    fn forget(&mut self, id: &IssueId) {
        let Some(Known { due, identifier }) = self.known.remove(id) else { return };
        if let Some(due) = due {
            self.dues.remove(&(due, id.clone()));
        }
        remove(&mut self.identifiers, &identifier, id);
        remove(&mut self.ids, &id.as_str().to_ascii_lowercase(), id);
    }

    /// When the first of all issues is to be looked at again.
    pub(crate) fn next_due(&self) -> Option<Timestamp> {
        self.dues.first().map(|(due, _)| *due)
    }

    /// The issue with this identifier, else with this id, ignoring case. Of several, the one with the lowest id.
    pub(crate) fn named(&self, key: &str) -> Option<&IssueId> {
        let key = key.to_ascii_lowercase();
        self.identifiers.get(&key).or_else(|| self.ids.get(&key)).and_then(BTreeSet::first)
    }
}

fn remove(names: &mut BTreeMap<String, BTreeSet<IssueId>>, name: &str, id: &IssueId) {
    if let Some(named) = names.get_mut(name) {
        named.remove(id);
        if named.is_empty() {
            names.remove(name);
        }
    }
}

/// When an issue is to be looked at again: its wait or its hold is over, or nobody answered its question.
pub(crate) fn due(entry: &IssueEntry) -> Option<Timestamp> {
    let waits = matches!(entry.status, IssueStatus::WaitingRetry | IssueStatus::WaitingQuota);
    let due_at = entry.due_at.filter(|_| waits || entry.status.is_sticky());
    due_at.into_iter().chain(entry.question.as_ref().map(|question| question.expires_at)).min()
}
