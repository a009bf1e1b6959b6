//! The tracker's service, which tells what changed: soon or late, once or several times, in any order, of issues that nobody knows, or
//! of none. Whoever made the change, the daemon among them, it is told.

use std::collections::BTreeMap;

use dalsegno_core::{Input, Issue, IssueId};

use super::Violation;
use super::dice::Dice;
use super::drive::{Item, Sim};
use super::world::Tracked;

/// What the service last told of each issue; none for one that is deleted.
pub(super) type Told = BTreeMap<IssueId, Option<Issue>>;

impl Sim {
    /// Sends webhooks of what changed in the tracker since the last call.
    pub(super) fn tell_changes(&mut self) {
        if self.plan.rates.webhooks == 0 {
            return;
        }
        let tracked = self.world.tracked.iter();
        let changed: Vec<IssueId> = tracked
            .filter(|(id, tracked)| self.told.get(*id).map(Option::as_ref) != Some(shown(tracked)))
            .map(|(id, _)| id.clone())
            .collect();
        for id in changed {
            let told = self.world.tracked.get(&id).and_then(shown).cloned();
            self.told.insert(id.clone(), told);
            if !self.service.permille(self.plan.rates.webhooks) {
                continue;
            }
            let names = names(&id, &mut self.service);
            for _ in 0..self.service.pick([1, 1, 2, 3]) {
                let limit = self.service.pick([50, 500, 60_000]);
                let after = self.service.between(0, limit);
                self.schedule(after, Item::Webhook { names: names.clone() });
            }
        }
    }

    pub(super) fn webhook(&mut self, names: Vec<String>) -> Result<(), Violation> {
        let Some(machine) = &self.machine else { return Ok(()) };
        let looks_at = machine.looks_at(&names);
        self.note(|_| format!("a webhook of {names:?}, for which {looks_at:?} is looked at"));
        match looks_at {
            Some(_) => self.coverage.named_webhooks += 1,
            None => self.coverage.other_webhooks += 1,
        }
        self.hand_in(Input::Webhook { names })
    }
}

/// What the service has to tell of an issue; nothing of one that is deleted.
fn shown(tracked: &Tracked) -> Option<&Issue> {
    (!tracked.deleted).then_some(&tracked.issue)
}

fn names(id: &IssueId, dice: &mut Dice) -> Vec<String> {
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    match dice.below(8) {
        0 => Vec::new(),
        1 => owned(&["DS-999"]),
        2 => owned(&["no-such", &id.as_str().to_uppercase()]),
        _ => owned(&[id.as_str()]),
    }
}
