//! The contract's invariants, each by its name. They are read off the log and the world, and never off the machine's own state.

use std::collections::{BTreeMap, BTreeSet};

use dalsegno_durable::Timestamp;
use dalsegno_durable::saga::event::Entry;
use dalsegno_durable::saga::{Dedup, Found, Kind, Role, SagaEnd, SagaEvent, SagaPlan, Verb};

use super::world::World;

/// The names of all invariants that the walk checks.
pub const INVARIANTS: [&str; 13] = [
    "every_call_has_an_earlier_intent",
    "one_effect_per_step_and_generation",
    "nothing_is_left_unaccounted_for",
    "unknown_becomes_not_applied_by_probe_or_operator_alone",
    "a_step_starts_after_its_ancestors_and_an_undo_after_its_descendants",
    "nothing_is_undone_after_the_pivot",
    "no_pivot_before_approval_and_compensatables",
    "nothing_is_done_before_its_approval",
    "the_fold_of_every_prefix_is_the_live_state",
    "nothing_happens_after_the_end",
    "keys_are_stable_and_distinct",
    "it_ends_within_bounds",
    "recovering_twice_is_recovering_once",
];

/// A breach.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The invariant.
    pub invariant: &'static str,
    /// What was seen.
    pub what: String,
}

pub(super) fn violation(invariant: &'static str, what: impl Into<String>) -> Violation {
    debug_assert!(INVARIANTS.contains(&invariant), "{invariant} is not in the list");
    Violation { invariant, what: what.into() }
}

/// What the log says of a step.
#[derive(Debug, Clone, Default)]
struct StepFacts {
    intents: BTreeSet<(Role, u32)>,
    called: bool,
    open: bool,
    done: bool,
    undone: bool,
    skipped: bool,
    /// What cannot go on without an operator.
    parked: Option<Role>,
    /// Nobody knows of a call of this generation.
    doubtful: bool,
    /// What is asked, and until when.
    asked: Option<(String, Timestamp)>,
    approved_until: Option<Timestamp>,
    retries: u32,
}

/// What the log says.
#[derive(Debug, Clone, Default)]
pub(super) struct Facts {
    steps: BTreeMap<String, StepFacts>,
    pub(super) back: bool,
    pub(super) end: Option<SagaEnd>,
}

impl Facts {
    fn step(&mut self, name: &str) -> &mut StepFacts {
        self.steps.entry(name.to_owned()).or_default()
    }

    fn of(&self, name: &str) -> StepFacts {
        self.steps.get(name).cloned().unwrap_or_default()
    }

    /// Whether a call is intended.
    pub(super) fn intends(&self, step: &str, role: Role, generation: u32) -> bool {
        self.steps.get(step).is_some_and(|facts| facts.intents.contains(&(role, generation)))
    }

    /// Takes an entry in, and tells what it breaks.
    pub(super) fn take(&mut self, plan: &SagaPlan, entry: &Entry) -> Vec<Violation> {
        let mut found = Vec::new();
        for event in &entry.events {
            if self.end.is_some() {
                found.push(violation("nothing_happens_after_the_end", event.kind()));
            }
            self.check(plan, event, entry.at, &mut found);
            self.fold(event);
        }
        found
    }

    fn check(&self, plan: &SagaPlan, event: &SagaEvent, at: Timestamp, found: &mut Vec<Violation>) {
        let SagaEvent::Intended { step, role, .. } = event else { return };
        let Some(here) = plan.position(step) else { return };
        let pivot = plan.steps.iter().find(|step| step.kind == Kind::Pivot);
        match role {
            Role::Do => {
                for before in ancestors(plan, here) {
                    let facts = self.of(before);
                    if !(facts.done || facts.skipped) || facts.undone {
                        let what = format!("{step} is called and {before} is not done");
                        found.push(violation(
                            "a_step_starts_after_its_ancestors_and_an_undo_after_its_descendants",
                            what,
                        ));
                    }
                }
                let asks = plan.steps.get(here).is_some_and(|step| step.approval_ms.is_some());
                let approved = self.of(step).approved_until.is_some_and(|until| at < until);
                if asks && !approved {
                    found.push(violation("nothing_is_done_before_its_approval", format!("{step} is intended")));
                }
                if pivot.is_some_and(|pivot| pivot.name == *step) {
                    let open = plan.steps.iter().filter(|step| step.kind == Kind::Compensatable);
                    let open: Vec<&str> =
                        open.filter(|step| !self.of(&step.name).done).map(|step| step.name.as_str()).collect();
                    if !open.is_empty() || (asks && !approved) {
                        let what = format!("{step} is intended; not done: {open:?}, approved: {approved}");
                        found.push(violation("no_pivot_before_approval_and_compensatables", what));
                    }
                }
            }
            Role::Undo => {
                if pivot.is_some_and(|pivot| {
                    let facts = self.of(&pivot.name);
                    facts.done || facts.open || facts.doubtful
                }) {
                    found.push(violation("nothing_is_undone_after_the_pivot", format!("{step} is undone")));
                }
                for (after, other) in plan.steps.iter().enumerate() {
                    let facts = self.of(&other.name);
                    let settled = !facts.called
                        || facts.undone
                        || facts.skipped
                        || !(facts.done || facts.open || facts.doubtful || facts.parked.is_some());
                    if ancestors(plan, after).contains(&step.as_str()) && other.kind != Kind::Read && !settled {
                        let what = format!("{step} is undone and {} is not", other.name);
                        found.push(violation(
                            "a_step_starts_after_its_ancestors_and_an_undo_after_its_descendants",
                            what,
                        ));
                    }
                }
            }
        }
    }

    fn fold(&mut self, event: &SagaEvent) {
        match event {
            SagaEvent::Intended { step, role, generation, .. } => {
                let facts = self.step(step);
                facts.intents.insert((*role, *generation));
                facts.called = true;
                facts.open = true;
                facts.parked = None;
            }
            SagaEvent::Done { step, role, .. } => {
                let facts = self.step(step);
                facts.open = false;
                match role {
                    Role::Do => (facts.done, facts.doubtful) = (true, false),
                    Role::Undo => (facts.undone, facts.doubtful) = (true, false),
                }
            }
            SagaEvent::NotApplied { step, .. } => self.step(step).open = false,
            SagaEvent::InDoubt { step, role, .. } => {
                let facts = self.step(step);
                facts.open = false;
                facts.doubtful |= *role == Role::Do;
            }
            SagaEvent::Probed { step, found, .. } => {
                let facts = self.step(step);
                match found {
                    Found::Applied { .. } => (facts.done, facts.doubtful) = (true, false),
                    Found::NotApplied => facts.doubtful = false,
                    Found::Inconclusive { .. } => {}
                }
            }
            SagaEvent::Parked { step, role, .. } => {
                let facts = self.step(step);
                facts.doubtful |= facts.open && *role == Role::Do;
                (facts.open, facts.parked) = (false, Some(*role));
            }
            SagaEvent::ApprovalAsked { step, fingerprint, expires_at } => {
                self.step(step).asked = Some((fingerprint.clone(), *expires_at));
            }
            SagaEvent::Approved { step, fingerprint, .. } => {
                let facts = self.step(step);
                facts.approved_until =
                    facts.asked.take().filter(|(asked, _)| asked == fingerprint).map(|(_, until)| until);
            }
            SagaEvent::ApprovalExpired { step } => {
                let facts = self.step(step);
                (facts.asked, facts.approved_until, facts.parked) = (None, None, Some(Role::Do));
            }
            SagaEvent::Denied { step, .. } => {
                let facts = self.step(step);
                (facts.asked, facts.approved_until) = (None, None);
            }
            SagaEvent::Settled { step, verb, .. } => {
                let facts = self.step(step);
                match verb {
                    Verb::Applied if facts.parked == Some(Role::Undo) => {
                        (facts.undone, facts.doubtful) = (true, false);
                    }
                    Verb::Applied => (facts.done, facts.doubtful) = (true, false),
                    // Of an undo that was not applied, the doubt is as it was.
                    Verb::NotApplied if facts.parked == Some(Role::Undo) => {}
                    Verb::NotApplied => facts.doubtful = false,
                    Verb::Retry => facts.retries += 1,
                    Verb::Undone => (facts.undone, facts.doubtful) = (true, false),
                    Verb::Skip => facts.skipped = true,
                }
                facts.parked = None;
            }
            SagaEvent::TurnedBack { .. } => {
                self.back = true;
                // What an operator would have said of doing them, their undos find out.
                self.steps.values_mut().for_each(|facts| facts.parked = None);
            }
            SagaEvent::Ended { end } => self.end = Some(*end),
            SagaEvent::Begun { .. } | SagaEvent::Rested => {}
        }
    }

    /// What the world has to be like when nothing moves.
    pub(super) fn at_rest(&self, plan: &SagaPlan, world: &World) -> Vec<Violation> {
        let mut found = Vec::new();
        // What only looks has nothing that stands.
        for step in plan.steps.iter().filter(|step| step.kind != Kind::Read) {
            let facts = self.of(&step.name);
            let stands = world.stands(&step.name);
            let accounted = if stands {
                let committed = facts.done && !facts.undone && self.end != Some(SagaEnd::Compensated);
                committed || facts.parked.is_some() || facts.skipped
            } else {
                // A commit without the effect is no commit.
                self.end != Some(SagaEnd::Committed)
            };
            if !accounted {
                let what = format!("{} stands: {stands}, and the saga says {facts:?}, {:?}", step.name, self.end);
                found.push(violation("nothing_is_left_unaccounted_for", what));
            }
            if self.end == Some(SagaEnd::Compensated) && facts.doubtful {
                let what = format!("{} was in doubt, and nobody looked or undid it", step.name);
                found.push(violation("unknown_becomes_not_applied_by_probe_or_operator_alone", what));
            }
        }
        for ((name, generation), effect) in &world.effects {
            let Some(at) = plan.position(name) else { continue };
            let step = plan.steps.get(at);
            let read = step.is_none_or(|step| step.kind == Kind::Read);
            let retries = self.of(name).retries;
            if !read && effect.applied > 1 + retries {
                let what = format!("{name} of generation {generation} took place {} times", effect.applied);
                found.push(violation("one_effect_per_step_and_generation", what));
            }
            let blind = step.is_some_and(|step| step.dedup == Dedup::None && !step.probe);
            if !read && blind && effect.unknown > 1 + retries {
                let what = format!("{name} of generation {generation} was called {} times unseen", effect.unknown);
                found.push(violation("one_effect_per_step_and_generation", what));
            }
        }
        for clash in &world.clashes {
            found.push(violation("keys_are_stable_and_distinct", clash.clone()));
        }
        found
    }

    /// A generation that nobody knew of is left by a probe or an operator alone.
    pub(super) fn generations(entries: &[Entry]) -> Vec<Violation> {
        let mut found = Vec::new();
        let mut doubtful: BTreeMap<&str, u32> = BTreeMap::new();
        for event in entries.iter().flat_map(|entry| &entry.events) {
            match event {
                SagaEvent::InDoubt { step, role: Role::Do, .. } => {
                    doubtful.entry(step).or_insert(0);
                }
                SagaEvent::Intended { step, role: Role::Do, generation, .. } => {
                    let known = doubtful.get_mut(step.as_str());
                    if let Some(of) = known {
                        if *of != 0 && *generation > *of {
                            let what = format!("{step} went on to generation {generation}");
                            found.push(violation("unknown_becomes_not_applied_by_probe_or_operator_alone", what));
                        }
                        *of = *generation;
                    }
                }
                SagaEvent::Probed { step, found: Found::Applied { .. } | Found::NotApplied, .. }
                | SagaEvent::Done { step, role: Role::Do, .. }
                | SagaEvent::Settled { step, .. } => {
                    doubtful.remove(step.as_str());
                }
                SagaEvent::Begun { .. }
                | SagaEvent::ApprovalAsked { .. }
                | SagaEvent::Approved { .. }
                | SagaEvent::Denied { .. }
                | SagaEvent::ApprovalExpired { .. }
                | SagaEvent::Intended { .. }
                | SagaEvent::Done { .. }
                | SagaEvent::NotApplied { .. }
                | SagaEvent::InDoubt { .. }
                | SagaEvent::Probed { .. }
                | SagaEvent::Parked { .. }
                | SagaEvent::TurnedBack { .. }
                | SagaEvent::Rested
                | SagaEvent::Ended { .. } => {}
            }
        }
        found
    }
}

fn ancestors(plan: &SagaPlan, of: usize) -> BTreeSet<&str> {
    let mut all = BTreeSet::new();
    let mut left: Vec<&str> = plan.steps.get(of).into_iter().flat_map(|step| &step.after).map(String::as_str).collect();
    while let Some(name) = left.pop() {
        if all.insert(name) {
            let step = plan.steps.iter().find(|step| step.name == name);
            left.extend(step.into_iter().flat_map(|step| &step.after).map(String::as_str));
        }
    }
    all
}
