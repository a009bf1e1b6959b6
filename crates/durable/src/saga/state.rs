//! The fold: what is recorded of a saga, as the state it is in. [`SagaState::apply`] is its only writer, and refuses what cannot follow.

use std::collections::BTreeMap;

use serde_json::Value;

use super::event::{Entry, Failure, Found, Role, SagaEnd, SagaEvent, Verb};
use super::plan::{Ancestors, Kind, SagaPlan, Step, resolve};
use crate::clock::Timestamp;

/// Where a step is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StepState {
    /// Not begun, or shown not to have been applied and about to begin again.
    Pending,
    /// Somebody has to approve it.
    AwaitingApproval {
        /// What is to be approved.
        fingerprint: String,
        /// Until when.
        expires_at: Timestamp,
    },
    /// Its intent is recorded, its outcome is not.
    Open(Role),
    /// It was not applied, and is tried again then.
    Resting(Role, Timestamp),
    /// Nobody knows whether it was applied; that is looked into then.
    InDoubt(Role, Timestamp),
    /// Done.
    Done,
    /// Not applied, and not tried again.
    NotApplied,
    /// Done, and undone.
    Undone,
    /// An operator left it as it is.
    Skipped,
    /// An operator has to say how it goes on.
    Parked(Role),
}

impl StepState {
    /// When something happens to it by itself.
    #[must_use]
    pub fn due(&self) -> Option<Timestamp> {
        match self {
            Self::AwaitingApproval { expires_at: due, .. } | Self::Resting(_, due) | Self::InDoubt(_, due) => {
                Some(*due)
            }
            Self::Pending
            | Self::Open(_)
            | Self::Done
            | Self::NotApplied
            | Self::Undone
            | Self::Skipped
            | Self::Parked(_) => None,
        }
    }

    /// The word on the wire.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::AwaitingApproval { .. } => "awaiting_approval",
            Self::Open(Role::Do) => "doing",
            Self::Open(Role::Undo) => "undoing",
            Self::Resting(..) => "resting",
            Self::InDoubt(..) => "in_doubt",
            Self::Done => "done",
            Self::NotApplied => "not_applied",
            Self::Undone => "undone",
            Self::Skipped => "skipped",
            Self::Parked(_) => "parked",
        }
    }
}

/// What is known of a step.
#[derive(Debug, Clone, PartialEq)]
pub struct StepRecord {
    /// Where it is.
    pub state: StepState,
    /// Rises when it was shown that the one before was not applied. Part of the keys.
    pub generation: u32,
    /// Calls that were to do it, over all processes.
    pub attempts: u32,
    /// Calls that were to undo it.
    pub undo_attempts: u32,
    /// Calls to do it that were not applied, since an operator last spoke.
    pub failures: u32,
    /// Calls to undo it that were not applied, since an operator last spoke.
    pub undo_failures: u32,
    /// Times that nobody knew, since an operator last spoke.
    pub doubts: u32,
    /// Looks at the present doubt that told nothing.
    pub probes: u32,
    /// A call of this generation may have been applied, though nothing says so.
    pub doubtful: bool,
    /// It is not called again to do it.
    pub exhausted: bool,
    /// What came of it.
    pub output: Option<Value>,
    /// What was approved, and how long that holds.
    pub approved: Option<(String, Timestamp)>,
    /// What went wrong last.
    pub failure: Option<Failure>,
    /// What the last probe found.
    pub found: Option<&'static str>,
}

impl StepRecord {
    fn new() -> Self {
        Self {
            state: StepState::Pending,
            generation: 1,
            attempts: 0,
            undo_attempts: 0,
            failures: 0,
            undo_failures: 0,
            doubts: 0,
            probes: 0,
            doubtful: false,
            exhausted: false,
            output: None,
            approved: None,
            failure: None,
            found: None,
        }
    }

    /// The generation before was not applied.
    fn next_generation(&mut self) {
        self.generation += 1;
        self.doubtful = false;
        self.probes = 0;
    }

    fn start_over(&mut self) {
        (self.failures, self.undo_failures, self.doubts, self.probes) = (0, 0, 0, 0);
        self.exhausted = false;
    }
}

/// An event that cannot follow: the record is damaged, or of a version that this one does not know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("saga {saga} cannot be read from entry {entry} on: {why}")]
pub struct Damaged {
    /// The saga.
    pub saga: String,
    /// Number of the entry, from 1.
    pub entry: u64,
    /// What is wrong.
    pub why: String,
}

/// A saga as its events have it.
#[derive(Debug, Clone, PartialEq)]
pub struct SagaState {
    plan: SagaPlan,
    ancestors: Ancestors,
    names: BTreeMap<String, usize>,
    steps: Vec<StepRecord>,
    deadline: Option<Timestamp>,
    back: Option<Failure>,
    rested: bool,
    end: Option<SagaEnd>,
}

impl PartialEq for Ancestors {
    fn eq(&self, _: &Self) -> bool {
        // They follow from the plan.
        true
    }
}

impl SagaState {
    /// The state after the first event.
    ///
    /// # Errors
    /// What is wrong with the plan.
    pub fn begun(plan: SagaPlan, deadline: Option<Timestamp>) -> Result<Self, String> {
        plan.check().map_err(|invalid| invalid.to_string())?;
        let ancestors = Ancestors::of(&plan).map_err(|invalid| invalid.to_string())?;
        let names = plan.steps.iter().enumerate().map(|(at, step)| (step.name.clone(), at)).collect();
        let steps = plan.steps.iter().map(|_| StepRecord::new()).collect();
        Ok(Self { plan, ancestors, names, steps, deadline, back: None, rested: false, end: None })
    }

    /// The fold of everything that is recorded.
    ///
    /// # Errors
    /// [`Damaged`].
    pub fn replay(saga: &str, entries: &[Entry]) -> Result<Self, Damaged> {
        let mut state: Option<Self> = None;
        for (at, entry) in entries.iter().enumerate() {
            for event in &entry.events {
                let applied = match (&mut state, event) {
                    (None, SagaEvent::Begun { plan, deadline }) => {
                        Self::begun((**plan).clone(), *deadline).map(|begun| state = Some(begun))
                    }
                    (None, _) => Err("it does not begin with its plan".to_owned()),
                    (Some(state), event) => state.apply(event, entry.at),
                };
                applied.map_err(|why| Damaged { saga: saga.to_owned(), entry: at as u64 + 1, why })?;
            }
        }
        state.ok_or_else(|| Damaged { saga: saga.to_owned(), entry: 1, why: "nothing is recorded".to_owned() })
    }

    /// What it is to do.
    #[must_use]
    pub fn plan(&self) -> &SagaPlan {
        &self.plan
    }

    /// How it ended.
    #[must_use]
    pub fn end(&self) -> Option<SagaEnd> {
        self.end
    }

    /// Why it is being undone, if it is.
    #[must_use]
    pub fn turned_back(&self) -> Option<&Failure> {
        self.back.as_ref()
    }

    /// Nothing of it moves before an operator says how.
    #[must_use]
    pub fn is_resting(&self) -> bool {
        self.rested
    }

    /// When it turns backward, if its pivot has not begun by then.
    #[must_use]
    pub fn deadline(&self) -> Option<Timestamp> {
        self.deadline
    }

    /// A step with what is known of it.
    #[must_use]
    pub fn step(&self, name: &str) -> Option<(&Step, &StepRecord)> {
        let at = *self.names.get(name)?;
        Some((self.plan.steps.get(at)?, self.steps.get(at)?))
    }

    /// All steps, in the order of the plan.
    pub fn steps(&self) -> impl Iterator<Item = (&Step, &StepRecord)> {
        self.plan.steps.iter().zip(&self.steps)
    }

    /// The pivot's intent is recorded, and it was not shown that it was not applied.
    #[must_use]
    pub fn pivot_begun(&self) -> bool {
        let pivot = self.plan.pivot().and_then(|at| self.steps.get(at));
        pivot.is_some_and(|pivot| match pivot.state {
            StepState::Open(_) | StepState::InDoubt(..) | StepState::Done | StepState::Skipped => true,
            StepState::Pending
            | StepState::AwaitingApproval { .. }
            | StepState::Resting(..)
            | StepState::Parked(_)
            | StepState::NotApplied => pivot.doubtful,
            StepState::Undone => false,
        })
    }

    /// It only goes forward.
    #[must_use]
    pub fn pivot_done(&self) -> bool {
        let pivot = self.plan.pivot().and_then(|at| self.steps.get(at));
        pivot.is_some_and(|pivot| matches!(pivot.state, StepState::Done | StepState::Skipped))
    }

    /// Every ancestor is done.
    pub(super) fn may_start(&self, at: usize) -> bool {
        let through = |other: usize| {
            self.steps.get(other).is_some_and(|step| matches!(step.state, StepState::Done | StepState::Skipped))
        };
        (0..self.steps.len()).filter(|other| self.ancestors.is(Some(*other), at)).all(through)
    }

    /// Every descendant that was called is undone, or was not applied, or left as it is.
    pub(super) fn may_be_undone(&self, at: usize) -> bool {
        (0..self.steps.len()).filter(|other| self.ancestors.is(Some(at), *other)).all(|other| self.is_settled(other))
    }

    /// Nothing of the step has to be undone any more.
    pub(super) fn is_settled(&self, at: usize) -> bool {
        let (Some(step), Some(record)) = (self.plan.steps.get(at), self.steps.get(at)) else { return true };
        match record.state {
            StepState::Pending | StepState::NotApplied | StepState::Undone | StepState::Skipped => true,
            StepState::Open(_) => false,
            StepState::AwaitingApproval { .. }
            | StepState::Resting(..)
            | StepState::InDoubt(..)
            | StepState::Done
            | StepState::Parked(_) => step.kind == Kind::Read,
        }
    }

    /// Arguments of a call, with outputs in the place of references.
    pub(super) fn args(&self, at: usize, role: Role) -> Result<Value, String> {
        let step = self.plan.steps.get(at).ok_or("there is no such step")?;
        let args = match role {
            Role::Do => &step.args,
            Role::Undo => step.undo.as_ref().ok_or("it has no undo")?,
        };
        let find = |name: &str| {
            let record = self.names.get(name).and_then(|at| self.steps.get(*at))?;
            record.output.as_ref()
        };
        resolve(args, &find)
    }

    /// What an operator may say of this step now.
    #[must_use]
    pub fn verbs(&self, name: &str) -> Vec<Verb> {
        let Some((step, record)) = self.step(name) else { return Vec::new() };
        let after_pivot = self.pivot_done() && step.kind != Kind::Pivot;
        Verb::ALL
            .into_iter()
            .filter(|verb| match (&record.state, verb) {
                (StepState::Parked(Role::Undo), _) => true,
                (StepState::Parked(Role::Do), Verb::Applied | Verb::NotApplied | Verb::Retry) => true,
                (StepState::Parked(Role::Do), Verb::Undone) => step.kind == Kind::Compensatable,
                (StepState::Parked(Role::Do), Verb::Skip) => after_pivot,
                _ => false,
            })
            .collect()
    }

    /// Takes one event in.
    ///
    /// # Errors
    /// Why it cannot follow. The state is then as it was.
    pub fn apply(&mut self, event: &SagaEvent, at: Timestamp) -> Result<(), String> {
        if self.end.is_some() {
            return Err(format!("{} comes after the end", event.kind()));
        }
        match event {
            SagaEvent::Begun { .. } => return Err("it begins a second time".to_owned()),
            SagaEvent::TurnedBack { failure } => self.turn_back(failure, at)?,
            SagaEvent::Rested => self.rested = true,
            SagaEvent::Ended { end } => self.finish(*end)?,
            SagaEvent::ApprovalAsked { .. }
            | SagaEvent::Approved { .. }
            | SagaEvent::Denied { .. }
            | SagaEvent::ApprovalExpired { .. }
            | SagaEvent::Intended { .. }
            | SagaEvent::Done { .. }
            | SagaEvent::NotApplied { .. }
            | SagaEvent::InDoubt { .. }
            | SagaEvent::Probed { .. }
            | SagaEvent::Parked { .. }
            | SagaEvent::Settled { .. } => {
                let name = event.step().unwrap_or_default();
                let index = *self.names.get(name).ok_or_else(|| format!("there is no step {name}"))?;
                let cannot = |state: &StepState| {
                    format!("{} of step {name} cannot follow while it is {}", event.kind(), state.as_str())
                };
                let next = self.next(index, event, at).map_err(|why| match why {
                    Illegal::Here(state) => cannot(&state),
                    Illegal::Because(why) => format!("{} of step {name}: {why}", event.kind()),
                })?;
                if let Some(record) = self.steps.get_mut(index) {
                    *record = next;
                }
                self.rested = false;
            }
        }
        Ok(())
    }

    fn turn_back(&mut self, failure: &Failure, at: Timestamp) -> Result<(), String> {
        if self.back.is_some() {
            return Err("it turns backward a second time".to_owned());
        }
        if self.pivot_begun() {
            return Err("it turns backward after the pivot began".to_owned());
        }
        self.back = Some(failure.clone());
        self.rested = false;
        for record in &mut self.steps {
            // Also one that counted as failed: another call of it may have been applied.
            record.state = match &record.state {
                StepState::Pending
                | StepState::AwaitingApproval { .. }
                | StepState::Resting(..)
                | StepState::Parked(_)
                | StepState::NotApplied
                    if record.doubtful =>
                {
                    StepState::InDoubt(Role::Do, at)
                }
                StepState::AwaitingApproval { .. } => StepState::Pending,
                StepState::Resting(..) | StepState::Parked(_) => StepState::NotApplied,
                state @ (StepState::Pending
                | StepState::Open(_)
                | StepState::InDoubt(..)
                | StepState::Done
                | StepState::NotApplied
                | StepState::Undone
                | StepState::Skipped) => state.clone(),
            };
        }
        Ok(())
    }

    fn finish(&mut self, end: SagaEnd) -> Result<(), String> {
        if self.ending() == Some(end) {
            self.end = Some(end);
            self.rested = false;
            return Ok(());
        }
        Err(format!("it is not {}", end.as_str()))
    }

    /// How it ends, when there is nothing left to do.
    pub(super) fn ending(&self) -> Option<SagaEnd> {
        let skipped = self.steps.iter().any(|step| step.state == StepState::Skipped);
        let through = if self.back.is_some() {
            (0..self.steps.len()).all(|at| self.is_settled(at)).then_some(SagaEnd::Compensated)
        } else {
            let done = |step: &StepRecord| matches!(step.state, StepState::Done | StepState::Skipped);
            self.steps.iter().all(done).then_some(SagaEnd::Committed)
        };
        through.map(|end| if skipped { SagaEnd::Abandoned } else { end })
    }

    /// The step's record after the event.
    fn next(&self, index: usize, event: &SagaEvent, at: Timestamp) -> Result<StepRecord, Illegal> {
        let (Some(step), Some(record)) = (self.plan.steps.get(index), self.steps.get(index)) else {
            return Err(Illegal::Because("there is no such step".to_owned()));
        };
        let mut next = record.clone();
        let forward = self.back.is_none();
        let state = &record.state;
        next.state = match (event, state) {
            (SagaEvent::ApprovalAsked { fingerprint, expires_at, .. }, StepState::Pending | StepState::Resting(..))
                if forward && step.approval_ms.is_some() =>
            {
                StepState::AwaitingApproval { fingerprint: fingerprint.clone(), expires_at: *expires_at }
            }
            (
                SagaEvent::Approved { fingerprint, .. },
                StepState::AwaitingApproval { fingerprint: asked, expires_at },
            ) if fingerprint == asked => {
                next.approved = Some((fingerprint.clone(), *expires_at));
                StepState::Pending
            }
            (SagaEvent::Denied { by, why, .. }, StepState::AwaitingApproval { .. }) => {
                next.failure = Some(Failure::new("approval_denied", format!("{by} refused it: {why}")));
                self.after_failure(&mut next, None, at)
            }
            (
                SagaEvent::ApprovalExpired { .. },
                StepState::AwaitingApproval { .. } | StepState::Pending | StepState::Resting(..),
            ) => {
                next.approved = None;
                next.failure = Some(Failure::new("approval_expired", "nobody approved it in time"));
                StepState::Parked(Role::Do)
            }
            (SagaEvent::Intended { role, generation, attempt, .. }, _) => {
                self.check_intent(index, *role, at)?;
                let attempts = match role {
                    Role::Do => &mut next.attempts,
                    Role::Undo => &mut next.undo_attempts,
                };
                *attempts += 1;
                if (*generation, *attempt) != (record.generation, *attempts) {
                    return Err(Illegal::Because(format!("it is of generation {generation}, attempt {attempt}")));
                }
                StepState::Open(*role)
            }
            (SagaEvent::Done { role, output, .. }, StepState::Open(open)) if role == open => {
                next.failure = None;
                match role {
                    Role::Do => {
                        (next.output, next.doubtful) = (Some(output.clone()), false);
                        StepState::Done
                    }
                    Role::Undo => StepState::Undone,
                }
            }
            (
                SagaEvent::NotApplied { role: Role::Do, failure, due_at, .. },
                StepState::Pending | StepState::Resting(Role::Do, _) | StepState::Open(Role::Do),
            ) => {
                next.failure = Some(failure.clone());
                next.failures += 1;
                self.after_failure(&mut next, *due_at, at)
            }
            (
                SagaEvent::NotApplied { role: Role::Undo, failure, due_at: Some(due), .. },
                StepState::Open(Role::Undo),
            ) => {
                next.failure = Some(failure.clone());
                next.undo_failures += 1;
                StepState::Resting(Role::Undo, *due)
            }
            (SagaEvent::InDoubt { role, failure, due_at, .. }, StepState::Open(open)) if role == open => {
                next.failure = Some(failure.clone());
                next.doubts += 1;
                next.doubtful |= *role == Role::Do;
                StepState::InDoubt(*role, *due_at)
            }
            (SagaEvent::Probed { found, due_at, .. }, StepState::InDoubt(Role::Do, _)) => {
                next.found = Some(found.as_str());
                match found {
                    Found::Applied { output } => {
                        (next.output, next.doubtful, next.failure) = (Some(output.clone()), false, None);
                        StepState::Done
                    }
                    Found::NotApplied => {
                        next.next_generation();
                        next.failures += 1;
                        self.after_failure(&mut next, *due_at, at)
                    }
                    Found::Inconclusive { failure } => {
                        next.failure = Some(failure.clone());
                        next.probes += 1;
                        StepState::InDoubt(Role::Do, due_at.unwrap_or(at))
                    }
                }
            }
            (SagaEvent::Parked { role, failure, .. }, _) if parks(state, *role) => {
                next.failure = Some(failure.clone());
                next.doubtful |= *state == StepState::Open(Role::Do);
                StepState::Parked(*role)
            }
            (SagaEvent::Settled { verb, output, .. }, StepState::Parked(role)) => {
                if !self.verbs(&step.name).contains(verb) {
                    return Err(Illegal::Because(format!("{} is not among what may be said of it", verb.as_str())));
                }
                next.start_over();
                if !is_approved(record, at) {
                    next.approved = None;
                }
                match (role, verb) {
                    (Role::Do, Verb::Applied) => {
                        (next.output, next.doubtful) = (Some(output.clone()), false);
                        StepState::Done
                    }
                    (Role::Do, Verb::NotApplied) => {
                        next.next_generation();
                        if forward { StepState::Pending } else { StepState::NotApplied }
                    }
                    (Role::Do, Verb::Retry) if forward => StepState::Resting(Role::Do, at),
                    (Role::Do, Verb::Retry) => StepState::InDoubt(Role::Do, at),
                    (Role::Undo, Verb::NotApplied | Verb::Retry) => StepState::Resting(Role::Undo, at),
                    (Role::Do | Role::Undo, Verb::Undone) | (Role::Undo, Verb::Applied) => StepState::Undone,
                    (Role::Do | Role::Undo, Verb::Skip) => StepState::Skipped,
                }
            }
            (_, state) => return Err(Illegal::Here(state.clone())),
        };
        Ok(next)
    }

    /// Where a step is that was not applied.
    fn after_failure(&self, next: &mut StepRecord, due_at: Option<Timestamp>, at: Timestamp) -> StepState {
        next.exhausted |= due_at.is_none();
        match due_at {
            Some(due_at) if self.back.is_none() => StepState::Resting(Role::Do, due_at),
            // This call was not applied, but one before may have been.
            Some(_) | None if next.doubtful => StepState::InDoubt(Role::Do, at),
            Some(_) | None => StepState::NotApplied,
        }
    }

    /// Whether a call may begin.
    fn check_intent(&self, index: usize, role: Role, now: Timestamp) -> Result<(), Illegal> {
        let (Some(step), Some(record)) = (self.plan.steps.get(index), self.steps.get(index)) else { return Ok(()) };
        let refuse = |why: &str| Err(Illegal::Because(why.to_owned()));
        let from = matches!(
            (role, &record.state),
            (Role::Do, StepState::Pending | StepState::Resting(Role::Do, _) | StepState::InDoubt(Role::Do, _))
                | (Role::Undo, StepState::Done | StepState::Resting(Role::Undo, _) | StepState::InDoubt(..))
        );
        match role {
            _ if !from => Err(Illegal::Here(record.state.clone())),
            Role::Do if self.back.is_some() => refuse("nothing is done while it is being undone"),
            Role::Do if !self.may_start(index) => refuse("a step that it comes after is not done"),
            Role::Do if step.approval_ms.is_some() && !is_approved(record, now) => refuse("it is not approved"),
            Role::Undo if self.back.is_none() || self.pivot_begun() => refuse("it is not being undone"),
            Role::Undo if step.undo.is_none() => refuse("it has no undo"),
            Role::Undo if !self.may_be_undone(index) => refuse("a step that comes after it is not undone"),
            Role::Do | Role::Undo => Ok(()),
        }
    }
}

/// Somebody approved it, and that still holds. What was approved is checked when it is asked.
pub(super) fn is_approved(record: &StepRecord, now: Timestamp) -> bool {
    record.approved.as_ref().is_some_and(|(_, expires_at)| now < *expires_at)
}

/// Whether a step in this state can be left to an operator.
fn parks(state: &StepState, role: Role) -> bool {
    matches!(
        (role, state),
        (Role::Do, StepState::Open(Role::Do) | StepState::InDoubt(Role::Do, _) | StepState::NotApplied)
            | (
                Role::Undo,
                StepState::Open(Role::Undo)
                    | StepState::InDoubt(..)
                    | StepState::Resting(Role::Undo, _)
                    | StepState::Done
            )
    )
}

enum Illegal {
    Here(StepState),
    Because(String),
}
