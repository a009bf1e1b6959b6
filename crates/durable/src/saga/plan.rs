//! What a saga is to do: steps, their kinds, and the rules that a plan must keep.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::scope::NAME_BYTES;

/// Most steps of a plan, without those of nested ones.
pub const STEPS: usize = 256;
/// Plans within plans.
pub const NESTING: usize = 8;
/// Largest plan, in bytes of JSON.
pub const PLAN_BYTES: usize = 1 << 20;
/// Name of the only member of an object that stands for an output of another step.
const REFERENCE: &str = "$output";

/// What a step does to the world, and what follows from that for its place in the plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Nothing: it looks.
    Read,
    /// Something that can be undone; before the pivot.
    Compensatable,
    /// The point of no return, at most one.
    Pivot,
    /// Something that must succeed in the end; after the pivot.
    Retriable,
}

impl Kind {
    /// The word in stores and on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Compensatable => "compensatable",
            Self::Pivot => "pivot",
            Self::Retriable => "retriable",
        }
    }
}

/// What keeps a second call from having a second effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Dedup {
    /// The remote deduplicates on the idempotency key.
    RemoteKey,
    /// It is idempotent by nature.
    Natural,
    /// Nothing.
    #[default]
    None,
}

/// How a step is tried again when it was not applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tries {
    /// Calls that may answer *not applied* before it counts as failed.
    pub attempts: u32,
    /// Milliseconds before the second call; doubles with each further one.
    pub base_ms: u64,
    /// The longest pause, in milliseconds.
    pub cap_ms: u64,
}

impl Tries {
    /// So many calls, from 200 ms to 30 s apart.
    #[must_use]
    pub const fn of(attempts: u32) -> Self {
        Self { attempts, base_ms: 200, cap_ms: 30_000 }
    }

    /// The pause after so many calls that failed.
    #[must_use]
    pub fn pause(&self, failed: u32) -> Duration {
        let doubled = self.base_ms.saturating_mul(1_u64 << failed.saturating_sub(1).min(20));
        Duration::from_millis(doubled.min(self.cap_ms))
    }
}

/// One step of a plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// Its name, unique in the plan.
    pub name: String,
    /// Its kind.
    pub kind: Kind,
    /// Steps that have to be done before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<String>,
    /// What it is called with; may hold [`output`]s of its ancestors.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub args: Value,
    /// What its undo is called with; may hold [`output`]s of its ancestors and of itself. `None`: it cannot be undone.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    pub undo: Option<Value>,
    /// What keeps a second call from having a second effect.
    #[serde(default)]
    pub dedup: Dedup,
    /// The executor can tell whether it took place.
    #[serde(default)]
    pub probe: bool,
    /// When nobody knows whether it took place, an operator says.
    #[serde(default)]
    pub operator: bool,
    /// A read after the pivot that verifies what was done.
    #[serde(default)]
    pub verify: bool,
    /// Somebody has to approve it before; the question expires after so many milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval_ms: Option<u64>,
    /// How it is tried again.
    pub tries: Tries,
    /// How its undo is tried again before it parks.
    pub undo_tries: Tries,
    /// The longest call, in milliseconds.
    pub limit_ms: u64,
    /// A saga of its own: the step is done when that one is committed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub saga: Option<Box<SagaPlan>>,
}

impl Step {
    fn new(name: impl Into<String>, kind: Kind) -> Self {
        Self {
            name: name.into(),
            kind,
            after: Vec::new(),
            args: Value::Null,
            undo: None,
            dedup: Dedup::None,
            probe: false,
            operator: false,
            verify: false,
            approval_ms: None,
            tries: Tries::of(if kind == Kind::Retriable { 20 } else { 3 }),
            undo_tries: Tries::of(8),
            limit_ms: 60_000,
            saga: None,
        }
    }

    /// A step that looks, and changes nothing. It may be called any number of times.
    #[must_use]
    pub fn read(name: impl Into<String>) -> Self {
        Self::new(name, Kind::Read)
    }

    /// A look after the pivot, which verifies what was done.
    #[must_use]
    pub fn verify(name: impl Into<String>) -> Self {
        Self { verify: true, ..Self::new(name, Kind::Read) }
    }

    /// A step that can be undone; give it an [`Step::undo`].
    #[must_use]
    pub fn compensatable(name: impl Into<String>) -> Self {
        Self::new(name, Kind::Compensatable)
    }

    /// The step after which nothing is undone.
    #[must_use]
    pub fn pivot(name: impl Into<String>) -> Self {
        Self::new(name, Kind::Pivot)
    }

    /// A step after the pivot, which must succeed in the end.
    #[must_use]
    pub fn retriable(name: impl Into<String>) -> Self {
        Self::new(name, Kind::Retriable)
    }

    /// It starts after this one. Without any, it starts at once (in a sequence: after the one before).
    #[must_use]
    pub fn after(mut self, step: impl Into<String>) -> Self {
        self.after.push(step.into());
        self
    }

    /// What it is called with.
    #[must_use]
    pub fn args(mut self, args: Value) -> Self {
        self.args = args;
        self
    }

    /// What its undo is called with. The undo is called under one key, perhaps several times, and perhaps though the step itself had no effect
    /// or a part of it: it must put up with finding nothing to undo.
    #[must_use]
    pub fn undo(mut self, args: Value) -> Self {
        self.undo = Some(args);
        self
    }

    /// What keeps a second call from having a second effect.
    #[must_use]
    pub fn dedup(mut self, dedup: Dedup) -> Self {
        self.dedup = dedup;
        self
    }

    /// The executor can tell whether it took place.
    #[must_use]
    pub fn probe(mut self) -> Self {
        self.probe = true;
        self
    }

    /// When nobody knows whether it took place, an operator says.
    #[must_use]
    pub fn in_doubt_operator(mut self) -> Self {
        self.operator = true;
        self
    }

    /// Somebody has to approve it before it is called, within this time.
    #[must_use]
    pub fn approval(mut self, expires: Duration) -> Self {
        self.approval_ms = Some(millis(expires));
        self
    }

    /// How it is tried again.
    #[must_use]
    pub fn tries(mut self, tries: Tries) -> Self {
        self.tries = tries;
        self
    }

    /// How its undo is tried again before it parks.
    #[must_use]
    pub fn undo_tries(mut self, tries: Tries) -> Self {
        self.undo_tries = tries;
        self
    }

    /// The longest call. One that takes longer is in doubt.
    #[must_use]
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit_ms = millis(limit);
        self
    }

    /// It is done by a saga of its own, of which there is one for each generation of this step. It needs no dedup and no probe.
    #[must_use]
    pub fn saga(mut self, plan: SagaPlan) -> Self {
        self.saga = Some(Box::new(plan));
        self.dedup = Dedup::Natural;
        self
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// An undo that is called with nothing is an undo.
fn present<'de, D: serde::Deserializer<'de>>(value: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(value).map(Some)
}

/// What stands in arguments for a part of another step's output, named by a JSON pointer (`""` is all of it).
#[must_use]
pub fn output(step: &str, at: &str) -> Value {
    json!({REFERENCE: {"step": step, "at": at}})
}

/// A saga that is to be done: a graph of steps that keeps the rules.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SagaPlan {
    /// What it is; executors are registered under this name.
    pub name: String,
    /// Version of the executor's code that it was made for.
    pub version: u32,
    /// Milliseconds from its start after which it turns backward, if its pivot has not begun by then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_ms: Option<u64>,
    /// Its steps; each comes after those that it waits for.
    pub steps: Vec<Step>,
}

/// Steps of a plan, counted by kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(missing_docs, reason = "each is named after its kind")]
pub struct Counts {
    pub read: usize,
    pub compensatable: usize,
    pub pivot: usize,
    pub retriable: usize,
}

/// A rule that a plan does not keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// A saga has a step.
    Empty,
    /// A saga has at most [`STEPS`] steps, [`NESTING`] sagas in each other, and [`PLAN_BYTES`].
    TooLarge,
    /// A name has 1 to [`NAME_BYTES`] bytes, and no slash.
    Name,
    /// Names of steps are unique.
    DuplicateStep,
    /// A step comes after steps of the same plan.
    UnknownStep,
    /// Steps do not wait for each other.
    Cycle,
    /// A compensatable step has an undo.
    UndoMissing,
    /// No other step has one.
    UndoNotPossible,
    /// There is at most one pivot.
    SecondPivot,
    /// A compensatable step is an ancestor of the pivot.
    CompensatableNotBeforePivot,
    /// A retriable step is a descendant of the pivot.
    RetriableNotAfterPivot,
    /// A read after the pivot verifies; one before it does not.
    ReadAfterPivot,
    /// What touches the world has a dedup or a probe, or leaves the doubt to an operator.
    InDoubtUndeclared,
    /// Arguments refer to ancestors; arguments of an undo to the step itself as well.
    Reference,
}

impl Rule {
    /// The stable code.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Empty => "saga_empty",
            Self::TooLarge => "saga_too_large",
            Self::Name => "saga_name_invalid",
            Self::DuplicateStep => "saga_step_duplicate",
            Self::UnknownStep => "saga_step_unknown",
            Self::Cycle => "saga_cycle",
            Self::UndoMissing => "saga_undo_missing",
            Self::UndoNotPossible => "saga_undo_not_possible",
            Self::SecondPivot => "saga_second_pivot",
            Self::CompensatableNotBeforePivot => "saga_compensatable_not_before_pivot",
            Self::RetriableNotAfterPivot => "saga_retriable_not_after_pivot",
            Self::ReadAfterPivot => "saga_read_after_pivot",
            Self::InDoubtUndeclared => "saga_in_doubt_undeclared",
            Self::Reference => "saga_reference_invalid",
        }
    }
}

/// A plan that does not keep a rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct InvalidPlan {
    /// The step, where it is one.
    pub step: Option<String>,
    /// The rule.
    pub rule: Rule,
    /// What is wrong, and what to do.
    pub message: String,
}

impl InvalidPlan {
    fn of(step: &str, rule: Rule, message: impl std::fmt::Display) -> Self {
        Self { step: Some(step.to_owned()), rule, message: format!("step {step} {message}") }
    }

    fn whole(rule: Rule, message: String) -> Self {
        Self { step: None, rule, message }
    }
}

impl SagaPlan {
    /// Steps one after the other. Those that name what they come after keep that.
    ///
    /// # Errors
    /// [`InvalidPlan`] with the step and the rule.
    pub fn sequence(
        name: impl Into<String>,
        version: u32,
        steps: impl IntoIterator<Item = Step>,
    ) -> Result<Self, InvalidPlan> {
        let mut chained: Vec<Step> = Vec::new();
        for mut step in steps {
            if let Some(before) = chained.last()
                && step.after.is_empty()
            {
                step.after.push(before.name.clone());
            }
            chained.push(step);
        }
        Self::graph(name, version, chained)
    }

    /// Steps that start when those are done that they come [`Step::after`], in whatever order they are given.
    ///
    /// # Errors
    /// [`InvalidPlan`] with the step and the rule.
    pub fn graph(
        name: impl Into<String>,
        version: u32,
        steps: impl IntoIterator<Item = Step>,
    ) -> Result<Self, InvalidPlan> {
        let plan = Self { name: name.into(), version, deadline_ms: None, steps: steps.into_iter().collect() };
        plan.in_order()?.checked()
    }

    /// Turns backward when the pivot has not begun after this time.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline_ms = Some(millis(deadline));
        self
    }

    /// How many steps there are of each kind.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for step in &self.steps {
            match step.kind {
                Kind::Read => counts.read += 1,
                Kind::Compensatable => counts.compensatable += 1,
                Kind::Pivot => counts.pivot += 1,
                Kind::Retriable => counts.retriable += 1,
            }
        }
        counts
    }

    /// The position of a step.
    #[must_use]
    pub fn position(&self, step: &str) -> Option<usize> {
        self.steps.iter().position(|other| other.name == step)
    }

    /// The position of the pivot.
    #[must_use]
    pub fn pivot(&self) -> Option<usize> {
        self.steps.iter().position(|step| step.kind == Kind::Pivot)
    }

    /// Puts each step behind those that it waits for; otherwise as they were given.
    fn in_order(mut self) -> Result<Self, InvalidPlan> {
        let mut names = BTreeSet::new();
        for step in &self.steps {
            check_name(&step.name)?;
            if !names.insert(step.name.clone()) {
                let message = "has the name of another one; name each step differently";
                return Err(InvalidPlan::of(&step.name, Rule::DuplicateStep, message));
            }
        }
        for step in &self.steps {
            if let Some(unknown) = step.after.iter().find(|before| !names.contains(*before)) {
                let message = format!("comes after {unknown}, and there is no such step");
                return Err(InvalidPlan::of(&step.name, Rule::UnknownStep, message));
            }
        }
        let mut placed: BTreeSet<String> = BTreeSet::new();
        let mut ordered = Vec::with_capacity(self.steps.len());
        while !self.steps.is_empty() {
            let ready = self.steps.iter().position(|step| step.after.iter().all(|before| placed.contains(before)));
            let Some(ready) = ready else {
                let name = self.steps.first().map_or("", |step| step.name.as_str());
                return Err(InvalidPlan::of(name, Rule::Cycle, "waits for itself, over the steps that it comes after"));
            };
            let step = self.steps.remove(ready);
            placed.insert(step.name.clone());
            ordered.push(step);
        }
        self.steps = ordered;
        Ok(self)
    }

    /// Checks the rules. A plan that was read from somewhere else has to pass as well.
    ///
    /// # Errors
    /// [`InvalidPlan`].
    pub fn checked(self) -> Result<Self, InvalidPlan> {
        self.check()?;
        let bytes = serde_json::to_vec(&self).map_or(usize::MAX, |text| text.len());
        if bytes > PLAN_BYTES {
            let message = format!("the saga has {bytes} bytes of JSON, and {PLAN_BYTES} are allowed");
            return Err(InvalidPlan::whole(Rule::TooLarge, message));
        }
        Ok(self)
    }

    /// The rules of its structure.
    pub(super) fn check(&self) -> Result<(), InvalidPlan> {
        self.check_within(0)
    }

    fn check_within(&self, depth: usize) -> Result<(), InvalidPlan> {
        check_name(&self.name)?;
        if self.steps.is_empty() {
            return Err(InvalidPlan::whole(Rule::Empty, format!("saga {} has no step; give it one", self.name)));
        }
        if self.steps.len() > STEPS || depth >= NESTING {
            let message =
                format!("saga {} is too large: {STEPS} steps and {NESTING} sagas in each other are allowed", self.name);
            return Err(InvalidPlan::whole(Rule::TooLarge, message));
        }
        let ancestors = Ancestors::of(self)?;
        let pivot = self.pivot();
        for (at, step) in self.steps.iter().enumerate() {
            check_name(&step.name)?;
            self.check_kind(at, step, pivot, &ancestors)?;
            check_doubt(step)?;
            check_references(step, &step.args, |name| ancestors.is(self.position(name), at))?;
            if let Some(undo) = &step.undo {
                check_references(step, undo, |name| name == step.name || ancestors.is(self.position(name), at))?;
            }
            if let Some(saga) = &step.saga {
                saga.check_within(depth + 1)?;
            }
        }
        Ok(())
    }

    fn check_kind(
        &self,
        at: usize,
        step: &Step,
        pivot: Option<usize>,
        ancestors: &Ancestors,
    ) -> Result<(), InvalidPlan> {
        let invalid = |rule, message: &str| Err(InvalidPlan::of(&step.name, rule, message));
        let after_pivot = ancestors.is(pivot, at);
        match step.kind {
            Kind::Compensatable if step.undo.is_none() => {
                invalid(Rule::UndoMissing, "is compensatable and has no undo; give it one, or make it another kind")
            }
            Kind::Compensatable if pivot.is_some_and(|pivot| !ancestors.is(Some(at), pivot)) => invalid(
                Rule::CompensatableNotBeforePivot,
                "is compensatable and no ancestor of the pivot; let the pivot come after it, or make it retriable",
            ),
            Kind::Read | Kind::Pivot | Kind::Retriable if step.undo.is_some() => {
                invalid(Rule::UndoNotPossible, "has an undo and is not compensatable; nobody would ever call it")
            }
            Kind::Pivot if pivot != Some(at) => {
                invalid(Rule::SecondPivot, "is a second pivot; a saga has one point of no return")
            }
            Kind::Retriable if !after_pivot => invalid(
                Rule::RetriableNotAfterPivot,
                "is retriable and no descendant of the pivot; let it come after the pivot, or make it compensatable",
            ),
            Kind::Read if after_pivot && !step.verify => invalid(
                Rule::ReadAfterPivot,
                "reads after the pivot; only a step that verifies may, because the saga cannot turn back on what it reads",
            ),
            Kind::Read if step.verify && !after_pivot => {
                invalid(Rule::ReadAfterPivot, "verifies and is no descendant of the pivot; make it a plain read")
            }
            Kind::Read | Kind::Compensatable | Kind::Pivot | Kind::Retriable => Ok(()),
        }
    }
}

fn check_name(name: &str) -> Result<(), InvalidPlan> {
    // A slash parts the names of a nested saga.
    if name.is_empty() || name.len() > NAME_BYTES / NESTING || name.contains('/') {
        let most = NAME_BYTES / NESTING;
        let message = format!("{name:?} is no name for a saga or a step: 1 to {most} bytes are, without a slash");
        return Err(InvalidPlan::whole(Rule::Name, message));
    }
    Ok(())
}

fn check_doubt(step: &Step) -> Result<(), InvalidPlan> {
    if step.kind != Kind::Read && step.dedup == Dedup::None && !step.probe && !step.operator {
        let message =
            "touches the world and has neither dedup nor probe; give it one, or leave the doubt to an operator";
        return Err(InvalidPlan::of(&step.name, Rule::InDoubtUndeclared, message));
    }
    Ok(())
}

fn check_references(step: &Step, args: &Value, may: impl Fn(&str) -> bool) -> Result<(), InvalidPlan> {
    let mut wrong = None;
    visit(args, &mut |reference| {
        let problem = match reference {
            Some((name, _)) if may(name) => return,
            Some((name, _)) => format!("refers to the output of {name}, which is no step that it comes after"),
            None => format!("has a {REFERENCE} that is not {{\"step\": name, \"at\": pointer}}"),
        };
        wrong.get_or_insert(problem);
    });
    wrong.map_or(Ok(()), |message| Err(InvalidPlan::of(&step.name, Rule::Reference, message)))
}

/// Shows every reference; `None` for one that cannot be understood.
fn visit<'v>(value: &'v Value, seen: &mut impl FnMut(Option<(&'v str, &'v str)>)) {
    match value {
        Value::Object(members) if members.contains_key(REFERENCE) => seen(as_reference(value)),
        Value::Object(members) => members.values().for_each(|value| visit(value, seen)),
        Value::Array(items) => items.iter().for_each(|value| visit(value, seen)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn as_reference(value: &Value) -> Option<(&str, &str)> {
    let members = value.as_object().filter(|members| members.len() == 1)?;
    let reference = members.get(REFERENCE)?.as_object().filter(|reference| reference.len() == 2)?;
    Some((reference.get("step")?.as_str()?, reference.get("at")?.as_str()?))
}

/// Puts outputs in the place of the references to them.
///
/// # Errors
/// What is missing.
pub(super) fn resolve<'o>(args: &Value, find: &impl Fn(&str) -> Option<&'o Value>) -> Result<Value, String> {
    match args {
        Value::Object(members) if members.contains_key(REFERENCE) => {
            let (step, at) = as_reference(args).ok_or_else(|| format!("a {REFERENCE} cannot be understood"))?;
            let output = find(step).ok_or_else(|| format!("the output of {step} is not known"))?;
            output.pointer(at).cloned().ok_or_else(|| format!("the output of {step} has nothing at {at:?}"))
        }
        Value::Object(members) => {
            let resolved = members.iter().map(|(name, value)| Ok((name.clone(), resolve(value, find)?)));
            resolved.collect::<Result<_, _>>().map(Value::Object)
        }
        Value::Array(items) => {
            items.iter().map(|value| resolve(value, find)).collect::<Result<_, _>>().map(Value::Array)
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Ok(args.clone()),
    }
}

/// Which step comes after which, over any number of others.
#[derive(Debug, Clone, Default)]
pub(super) struct Ancestors(Vec<BTreeSet<usize>>);

impl Ancestors {
    pub(super) fn of(plan: &SagaPlan) -> Result<Self, InvalidPlan> {
        let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
        let mut all: Vec<BTreeSet<usize>> = Vec::with_capacity(plan.steps.len());
        for (at, step) in plan.steps.iter().enumerate() {
            let mut ours = BTreeSet::new();
            for before in &step.after {
                let Some(&other) = seen.get(before.as_str()) else {
                    let message = format!("comes after {before}, which does not stand before it in the plan");
                    return Err(InvalidPlan::of(&step.name, Rule::UnknownStep, message));
                };
                ours.insert(other);
                ours.extend(all.get(other).into_iter().flatten());
            }
            if seen.insert(&step.name, at).is_some() {
                let message = "has the name of another one; name each step differently";
                return Err(InvalidPlan::of(&step.name, Rule::DuplicateStep, message));
            }
            all.push(ours);
        }
        Ok(Self(all))
    }

    /// Whether the first is an ancestor of the second.
    pub(super) fn is(&self, ancestor: Option<usize>, of: usize) -> bool {
        ancestor.is_some_and(|ancestor| self.0.get(of).is_some_and(|all| all.contains(&ancestor)))
    }
}

#[cfg(test)]
#[path = "plan/tests.rs"]
mod tests;
