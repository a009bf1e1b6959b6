//! Every call of every double, in order.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dalsegno_core::{Effect, Event, IssueId};

use super::journal::MemoryJournal;

/// One call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// Kind of the effect that it performs (`push_branch`); else `port.call` (`tracker.fetch_issues_by_ids`).
    pub what: String,
    /// Issue, mark or whatever it is about.
    pub about: String,
    /// The last event that the journal had acknowledged when it came.
    pub acknowledged: u64,
    /// It changes the world, and so needs an intent.
    pub effect: bool,
}

/// All calls.
#[derive(Debug)]
pub struct Record {
    journal: Arc<MemoryJournal>,
    calls: Mutex<Vec<Call>>,
}

impl Record {
    pub(super) fn new(journal: Arc<MemoryJournal>) -> Self {
        Self { journal, calls: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Call>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn effect(&self, what: &str, issue: &IssueId) {
        self.note(what, issue.as_str(), true);
    }

    pub(super) fn look(&self, what: &str, about: &str) {
        self.note(what, about, false);
    }

    fn note(&self, what: &str, about: &str, effect: bool) {
        let acknowledged = self.journal.acknowledged();
        self.lock().push(Call { what: what.to_owned(), about: about.to_owned(), acknowledged, effect });
    }

    /// All calls so far, in order.
    #[must_use]
    pub fn calls(&self) -> Vec<Call> {
        self.lock().clone()
    }

    /// How often this was called.
    #[must_use]
    pub fn count(&self, what: &str) -> usize {
        self.lock().iter().filter(|call| call.what == what).count()
    }

    /// How often this was called about this.
    #[must_use]
    pub fn count_of(&self, what: &str, about: &str) -> usize {
        self.lock().iter().filter(|call| call.what == what && call.about == about).count()
    }

    /// Effects that were performed more often than the journal had acknowledged intents for them: must be none. What a handoff
    /// does to the world is intended with it; how often, its saga says.
    #[must_use]
    pub fn unintended(&self) -> Vec<Call> {
        let events = self.journal.events();
        let mut performed: BTreeMap<(String, String), usize> = BTreeMap::new();
        let mut unintended = Vec::new();
        for call in self.lock().iter().filter(|call| call.effect) {
            let times = performed.entry((call.what.clone(), call.about.clone())).or_default();
            *times += 1;
            let intended = events.iter().filter(|recorded| recorded.seq <= call.acknowledged);
            let intended = intended.filter(|recorded| {
                matches!(&recorded.event, Event::EffectIntended { issue, effect, .. }
                    if issue.as_str() == call.about && effect.kind() == call.what)
            });
            let intended = intended.count();
            let in_a_saga = ["push", "undo_push", "comment", "move_issue"].contains(&call.what.as_str());
            if intended < *times && !(in_a_saga && self.hands_off(call)) {
                unintended.push(call.clone());
            }
        }
        unintended
    }

    /// Whether a handoff of the call's issue was intended before it.
    fn hands_off(&self, call: &Call) -> bool {
        let before = self.journal.events().into_iter().filter(|recorded| recorded.seq <= call.acknowledged);
        before.into_iter().any(|recorded| {
            matches!(recorded.event, Event::EffectIntended { issue, effect: Effect::HandOff { .. }, .. }
                if issue.as_str() == call.about)
        })
    }
}
