//! The world outside: what was done to it, whatever the saga believes.

use std::collections::BTreeMap;

use dalsegno_durable::saga::{Dedup, Failure, Found, Role, Step, StepAnswer};
use serde_json::{Value, json};

/// What a remote does with one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Behaviour {
    /// It applies it and says so.
    Done,
    /// It does not, says so, and may the next time.
    Retry,
    /// It does not, says so, and never will.
    Refuse,
    /// It applies it, and the answer is lost.
    AppliedUnknown,
    /// It does not apply it, and the answer is lost.
    NotAppliedUnknown,
    /// It applies it, and says that only an operator can tell.
    AppliedAsks,
    /// It does not apply it, and says that only an operator can tell.
    NotAppliedAsks,
    /// A probe that cannot tell.
    Inconclusive,
}

impl Behaviour {
    /// Everything that a call may meet, but for a plain success and for asking an operator. A panic, a timeout and a dropped call are
    /// unknown.
    pub const FAULTS: [Self; 4] = [Self::Retry, Self::Refuse, Self::AppliedUnknown, Self::NotAppliedUnknown];

    fn applies(self) -> bool {
        matches!(self, Self::Done | Self::AppliedUnknown | Self::AppliedAsks)
    }

    /// Nobody hears of what it did.
    fn is_unknown(self) -> bool {
        matches!(self, Self::AppliedUnknown | Self::NotAppliedUnknown | Self::AppliedAsks | Self::NotAppliedAsks)
    }

    fn answer(self, output: Value) -> StepAnswer {
        match self {
            Self::Done => StepAnswer::Done(output),
            Self::Retry => StepAnswer::retry("busy", "come again"),
            Self::Refuse => StepAnswer::refused("no", "never"),
            Self::AppliedUnknown | Self::NotAppliedUnknown | Self::Inconclusive => {
                StepAnswer::unknown("lost", "no answer")
            }
            Self::AppliedAsks | Self::NotAppliedAsks => {
                StepAnswer::NeedsOperator(Failure::new("unclear", "look yourself"))
            }
        }
    }
}

/// What a remote did for a step in one generation.
#[derive(Debug, Clone, Default)]
pub(super) struct Effect {
    /// Times that it took place.
    pub(super) applied: u32,
    /// It is there now.
    pub(super) stands: bool,
    /// Calls of which nobody heard.
    pub(super) unknown: u32,
}

/// Remotes, and everything that they saw.
#[derive(Debug, Clone, Default)]
pub(super) struct World {
    pub(super) effects: BTreeMap<(String, u32), Effect>,
    /// Which call every key was for: step, role and generation.
    pub(super) keys: BTreeMap<String, (String, Role, u32)>,
    /// Keys that stood for two different calls.
    pub(super) clashes: Vec<String>,
}

impl World {
    fn effect(&mut self, step: &str, generation: u32) -> &mut Effect {
        self.effects.entry((step.to_owned(), generation)).or_default()
    }

    pub(super) fn saw(&mut self, key: &str, call: (&str, Role, u32)) {
        let call = (call.0.to_owned(), call.1, call.2);
        let known = self.keys.iter().find(|(_, known)| **known == call).map(|(key, _)| key.clone());
        if known.is_some_and(|known| known != key) || self.keys.get(key).is_some_and(|other| *other != call) {
            self.clashes.push(format!("{} {} of generation {}", call.1.as_str(), call.0, call.2));
        }
        self.keys.insert(key.to_owned(), call);
    }

    /// A step's own output, the same for every call of it that is applied.
    pub(super) fn output(step: &str) -> Value {
        json!({"id": format!("id-of-{step}")})
    }

    pub(super) fn call(&mut self, step: &Step, generation: u32, how: Behaviour) -> StepAnswer {
        let effect = self.effect(&step.name, generation);
        effect.unknown += u32::from(how.is_unknown());
        if how.applies() {
            // One that deduplicates sees that it is there, and one that is idempotent by nature changes nothing.
            if step.dedup == Dedup::None || !effect.stands {
                effect.applied += 1;
            }
            effect.stands = true;
        }
        how.answer(Self::output(&step.name))
    }

    pub(super) fn undo(&mut self, step: &Step, how: Behaviour) -> StepAnswer {
        if how.applies() {
            self.undo_by_hand(&step.name);
        }
        how.answer(Value::Null)
    }

    pub(super) fn do_by_hand(&mut self, step: &str, generation: u32) {
        self.effect(step, generation).stands = true;
    }

    pub(super) fn undo_by_hand(&mut self, step: &str) {
        for ((name, _), effect) in &mut self.effects {
            if name == step {
                effect.stands = false;
            }
        }
    }

    /// Whether the step's effect is there.
    pub(super) fn stands(&self, step: &str) -> bool {
        self.effects.iter().any(|((name, _), effect)| name == step && effect.stands)
    }

    pub(super) fn probe(&self, step: &str, how: Behaviour) -> Found {
        if how == Behaviour::Inconclusive {
            return Found::Inconclusive { failure: Failure::new("blind", "it cannot be seen") };
        }
        if self.stands(step) { Found::Applied { output: Self::output(step) } } else { Found::NotApplied }
    }
}
