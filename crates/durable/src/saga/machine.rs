//! What follows: the pure machine of one saga. Answers and time go in, entries for the store and calls come out.
//!
//! A call comes out only of a batch that was saved ([`Unsaved::saved`]): its intent is in that batch. Where the outcome of one step leads to the
//! intent of the next, both are in one batch, and so share a sync.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::event::{Entry, Failure, Found, Role, SagaEnd, SagaEvent, Verb};
use super::plan::{Dedup, InvalidPlan, Kind, PLAN_BYTES, SagaPlan, Step};
use super::state::{Damaged, SagaState, StepRecord, StepState, is_approved};
use crate::canonical::{ContentHash, canonical};
use crate::clock::Timestamp;

/// Times that nobody knew how a call of a step ended, before the step fails or is left to an operator.
pub const DOUBTS: u32 = 10;
/// Looks of a probe at one doubt that may tell nothing.
pub const PROBES: u32 = 5;
/// Largest output, in bytes of JSON.
pub const OUTPUT_BYTES: usize = 256 << 10;
/// Longest message of a failure that is kept, in bytes.
const MESSAGE_BYTES: usize = 2 << 10;

/// What is asked of an executor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Act {
    /// Do the step, or undo it.
    Call(Role),
    /// Look whether it took place.
    Probe,
}

/// One call, as the machine asks for it.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// The step.
    pub step: String,
    /// What is asked.
    pub act: Act,
    /// Part of the key.
    pub generation: u32,
    /// Which call of its role, from 1, over all processes. Of a probe: which look at this doubt.
    pub attempt: u32,
    /// What it is called with, from the record. A probe is called with what the step was called with.
    pub args: Value,
    /// The longest it may take; `None`: it is a saga, whose steps have limits of their own.
    pub limit: Option<Duration>,
}

/// What an executor answers.
#[derive(Debug, Clone, PartialEq)]
pub enum StepAnswer {
    /// It took place.
    Done(Value),
    /// It certainly did not.
    NotApplied {
        /// Why.
        failure: Failure,
        /// It may the next time.
        retryable: bool,
    },
    /// Nobody knows.
    Unknown(Failure),
    /// Nobody knows, and only an operator can find out.
    NeedsOperator(Failure),
}

impl StepAnswer {
    /// It certainly did not take place, and may the next time.
    #[must_use]
    pub fn retry(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self::NotApplied { failure: Failure::new(code, message), retryable: true }
    }

    /// It certainly did not take place, and never will.
    #[must_use]
    pub fn refused(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self::NotApplied { failure: Failure::new(code, message), retryable: false }
    }

    /// Nobody knows whether it took place.
    #[must_use]
    pub fn unknown(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Unknown(Failure::new(code, message))
    }
}

/// What an approval was answered with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Yes.
    Approve {
        /// Who.
        by: String,
    },
    /// No: the saga turns backward.
    Deny {
        /// Who.
        by: String,
        /// Why.
        why: String,
    },
    /// Nobody answered in time.
    Expired,
}

/// An approval that is waited for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Question {
    /// The step.
    pub step: String,
    /// What is to be approved.
    pub fingerprint: String,
    /// Until when.
    pub expires_at: Timestamp,
}

/// Why a request of an operator was refused. It changed nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The pivot's intent is recorded.
    #[error("it is too late: {pivot} has begun, and from there on the saga only goes forward")]
    TooLate {
        /// The pivot.
        pivot: String,
    },
    /// The saga is over.
    #[error("the saga has ended as {}", end.as_str())]
    Ended {
        /// How.
        end: SagaEnd,
    },
    /// There is no such step.
    #[error("the saga has no step {step}")]
    UnknownStep {
        /// Its name.
        step: String,
    },
    /// The step does not wait for an operator.
    #[error("{step} is {state} and not parked, so there is nothing to settle")]
    NotParked {
        /// Its name.
        step: String,
        /// Where it is.
        state: &'static str,
    },
    /// The step is parked, and this cannot be said of it.
    #[error("{} cannot be said of {step} now; one of these can: {allowed}", verb.as_str())]
    NotAllowed {
        /// Its name.
        step: String,
        /// What was said.
        verb: Verb,
        /// What could be.
        allowed: String,
    },
}

impl Refused {
    /// The stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::TooLate { .. } => "too_late",
            Self::Ended { .. } => "saga_ended",
            Self::UnknownStep { .. } => "saga_step_unknown",
            Self::NotParked { .. } => "not_parked",
            Self::NotAllowed { .. } => "settlement_not_allowed",
        }
    }
}

/// A batch that has to be saved before its calls are made.
#[derive(Debug)]
#[must_use = "what is not saved did not happen"]
pub struct Unsaved {
    entry: Entry,
    calls: Vec<(usize, Act)>,
}

/// Proof that a batch is in the store.
#[derive(Debug)]
pub struct Saved {
    calls: Vec<(usize, Act)>,
}

impl Unsaved {
    /// What is to be saved.
    #[must_use]
    pub fn entry(&self) -> &Entry {
        &self.entry
    }

    /// To be called when the store has answered that the entry is there, and not before.
    #[must_use]
    pub fn saved(self) -> Saved {
        Saved { calls: self.calls }
    }
}

/// One saga: its state, and what is under way in this process.
#[derive(Debug)]
pub struct SagaMachine {
    id: String,
    epoch: u64,
    state: SagaState,
    flights: BTreeSet<(usize, Act)>,
    /// Events that are not in a batch yet, and calls that come of them.
    pending: Vec<SagaEvent>,
    calls: Vec<(usize, Act)>,
    now: Timestamp,
    /// When the first of those events was: the time that is recorded, and that their fold goes by.
    at: Timestamp,
    broken: Option<String>,
}

impl SagaMachine {
    /// A saga that begins.
    ///
    /// # Errors
    /// [`InvalidPlan`].
    pub fn begin(id: impl Into<String>, plan: SagaPlan, epoch: u64, now: Timestamp) -> Result<Self, InvalidPlan> {
        let deadline = plan.deadline_ms.map(|ms| now.after(Duration::from_millis(ms)));
        let plan = plan.checked()?;
        let event = SagaEvent::Begun { plan: Box::new(plan.clone()), deadline };
        let state = SagaState::begun(plan, deadline).map_err(|message| InvalidPlan {
            step: None,
            rule: super::plan::Rule::TooLarge,
            message,
        })?;
        let mut machine = Self::over(id.into(), state, epoch, now);
        machine.pending.push(event);
        machine.advance(now);
        Ok(machine)
    }

    /// A saga as it is recorded. What was under way is in doubt, and what can go on does.
    ///
    /// # Errors
    /// [`Damaged`].
    pub fn resume(id: impl Into<String>, entries: &[Entry], epoch: u64, now: Timestamp) -> Result<Self, Damaged> {
        let id = id.into();
        let state = SagaState::replay(&id, entries)?;
        let mut machine = Self::over(id, state, epoch, now);
        machine.now = entries.last().map_or(now, |entry| entry.at.max(now));
        machine.take_up();
        Ok(machine)
    }

    fn over(id: String, state: SagaState, epoch: u64, now: Timestamp) -> Self {
        let flights = BTreeSet::new();
        Self { id, epoch, state, flights, pending: Vec::new(), calls: Vec::new(), now, at: now, broken: None }
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// As far as the machine is; ahead of the store by what is not saved.
    #[must_use]
    pub fn state(&self) -> &SagaState {
        &self.state
    }

    /// What is to be saved next, if anything is.
    pub fn batch(&mut self) -> Option<Unsaved> {
        if self.pending.is_empty() && self.calls.is_empty() {
            return None;
        }
        let events = std::mem::take(&mut self.pending);
        let entry = Entry { at: self.at, epoch: self.epoch, events };
        Some(Unsaved { entry, calls: std::mem::take(&mut self.calls) })
    }

    /// The calls of a batch that is in the store.
    pub fn calls(&mut self, saved: Saved) -> Vec<Request> {
        let mut calls = Vec::with_capacity(saved.calls.len());
        for (at, act) in saved.calls {
            let Some((step, record)) = self.state.steps().nth(at) else { continue };
            let (role, attempt) = match act {
                Act::Call(Role::Do) => (Role::Do, record.attempts),
                Act::Call(Role::Undo) => (Role::Undo, record.undo_attempts),
                Act::Probe => (Role::Do, record.probes + 1),
            };
            // A saga within has limits of its own.
            let limited = step.saga.is_none() || act != Act::Call(Role::Do);
            calls.push(Request {
                step: step.name.clone(),
                act,
                generation: record.generation,
                attempt,
                // They were there when the call was intended.
                args: self.state.args(at, role).unwrap_or_default(),
                limit: limited.then(|| Duration::from_millis(step.limit_ms)),
            });
        }
        calls
    }

    /// Why nothing of it goes on in this process, if something is wrong with the machine itself.
    #[must_use]
    pub fn broken(&self) -> Option<&str> {
        self.broken.as_deref()
    }

    /// What approvals are waited for.
    pub fn questions(&self) -> Vec<Question> {
        let asked = self.state.steps().filter_map(|(step, record)| {
            let StepState::AwaitingApproval { fingerprint, expires_at } = &record.state else { return None };
            Some(Question { step: step.name.clone(), fingerprint: fingerprint.clone(), expires_at: *expires_at })
        });
        asked.collect()
    }

    /// When something happens by itself.
    #[must_use]
    pub fn due(&self) -> Option<Timestamp> {
        if self.state.end().is_some() {
            return None;
        }
        let steps = self.state.steps().enumerate();
        let steps = steps.filter(|(at, _)| !self.flights.contains(&(*at, Act::Probe)));
        let steps = steps.filter_map(|(_, (_, record))| record.state.due());
        let deadline = self.state.deadline().filter(|_| self.may_turn_back());
        steps.chain(deadline).filter(|due| *due > self.now).min()
    }

    /// Time has passed.
    pub fn wake(&mut self, now: Timestamp) {
        self.advance(now);
    }

    /// An executor has answered a call.
    pub fn answered(&mut self, step: &str, role: Role, answer: StepAnswer, now: Timestamp) {
        let Some(at) = self.state.plan().position(step) else { return };
        if !self.flights.remove(&(at, Act::Call(role))) {
            return;
        }
        self.now = self.now.max(now);
        let Some((plan, record)) = self.state.steps().nth(at) else { return };
        let event = self.on_answer(plan, record, role, bounded(answer));
        self.record(event);
        self.advance(now);
    }

    /// An executor has looked whether a step took place.
    pub fn probed(&mut self, step: &str, found: Found, now: Timestamp) {
        let Some(at) = self.state.plan().position(step) else { return };
        if !self.flights.remove(&(at, Act::Probe)) {
            return;
        }
        self.now = self.now.max(now);
        let Some((plan, record)) = self.state.steps().nth(at) else { return };
        // The saga may have turned meanwhile, and its undo may be under way; or it was a read, of which the end does not wait to hear.
        if self.state.end().is_none() && matches!(record.state, StepState::InDoubt(Role::Do, _)) {
            let found = match found {
                Found::Applied { output } => match too_large(&output) {
                    Some(failure) => Found::Inconclusive { failure },
                    None => Found::Applied { output },
                },
                Found::Inconclusive { failure } => Found::Inconclusive { failure: short(failure) },
                Found::NotApplied => Found::NotApplied,
            };
            let due_at = match found {
                Found::Applied { .. } => None,
                Found::NotApplied => self.next_try(plan, record),
                Found::Inconclusive { .. } => Some(self.now.after(plan.tries.pause(record.probes + 1))),
            };
            self.record(SagaEvent::Probed { step: step.to_owned(), found, due_at });
        }
        self.advance(now);
    }

    /// An approval was answered.
    pub fn decided(&mut self, step: &str, fingerprint: &str, decision: Decision, now: Timestamp) {
        self.now = self.now.max(now);
        let waits = self.state.step(step).is_some_and(|(_, record)| {
            matches!(&record.state, StepState::AwaitingApproval { fingerprint: asked, .. } if asked == fingerprint)
        });
        if waits {
            let step = step.to_owned();
            self.record(match decision {
                Decision::Approve { by } => SagaEvent::Approved { step, fingerprint: fingerprint.to_owned(), by },
                Decision::Deny { by, why } => SagaEvent::Denied { step, by, why },
                Decision::Expired => SagaEvent::ApprovalExpired { step },
            });
        }
        self.advance(now);
    }

    /// Somebody wants it undone. Answers whether that changed anything.
    ///
    /// # Errors
    /// [`Refused::TooLate`], [`Refused::Ended`].
    pub fn cancel(&mut self, by: &str, why: &str, now: Timestamp) -> Result<bool, Refused> {
        if let Some(end) = self.state.end() {
            return Err(Refused::Ended { end });
        }
        if self.state.turned_back().is_some() {
            return Ok(false);
        }
        if !self.may_turn_back() {
            let pivot = self.state.plan().steps.iter().find(|step| step.kind == Kind::Pivot);
            return Err(Refused::TooLate { pivot: pivot.map_or_else(String::new, |pivot| pivot.name.clone()) });
        }
        self.now = self.now.max(now);
        self.record(SagaEvent::TurnedBack { failure: Failure::new("canceled", format!("{by}: {why}")) });
        self.advance(now);
        Ok(true)
    }

    /// An operator says how a parked step goes on.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn settle(
        &mut self,
        step: &str,
        verb: Verb,
        (by, why): (&str, &str),
        output: Value,
        now: Timestamp,
    ) -> Result<(), Refused> {
        if let Some(end) = self.state.end() {
            return Err(Refused::Ended { end });
        }
        let Some((_, record)) = self.state.step(step) else {
            return Err(Refused::UnknownStep { step: step.to_owned() });
        };
        let step = step.to_owned();
        if !matches!(record.state, StepState::Parked(_)) {
            return Err(Refused::NotParked { step, state: record.state.as_str() });
        }
        let allowed = self.state.verbs(&step);
        if !allowed.contains(&verb) {
            let allowed = allowed.iter().map(|verb| verb.as_str()).collect::<Vec<_>>().join(", ");
            return Err(Refused::NotAllowed { step, verb, allowed });
        }
        self.now = self.now.max(now);
        self.record(SagaEvent::Settled { step, verb, by: by.to_owned(), why: why.to_owned(), output });
        self.advance(now);
        Ok(())
    }

    /// Another process was at it: what it had under way is in doubt.
    fn take_up(&mut self) {
        let open: Vec<(String, Role)> =
            self.state
                .steps()
                .filter_map(|(step, record)| {
                    if let StepState::Open(role) = record.state { Some((step.name.clone(), role)) } else { None }
                })
                .collect();
        for (step, role) in open {
            let failure = Failure::new("interrupted", "the process ended before the outcome was recorded");
            self.record(SagaEvent::InDoubt { step, role, failure, due_at: self.now });
        }
        self.advance(self.now);
    }

    fn may_turn_back(&self) -> bool {
        self.state.turned_back().is_none() && !self.state.pivot_begun()
    }

    /// Takes one event in, and has it saved. That it follows is for the callers to know; [`SagaState::apply`] makes sure.
    fn record(&mut self, event: SagaEvent) {
        let call = if let SagaEvent::Intended { step, role, .. } = &event {
            self.state.plan().position(step).map(|at| (at, Act::Call(*role)))
        } else {
            None
        };
        if self.pending.is_empty() {
            self.at = self.now;
        }
        match self.state.apply(&event, self.at) {
            Ok(()) => {
                self.pending.push(event);
                if let Some(call) = call {
                    self.flights.insert(call);
                    self.calls.push(call);
                }
            }
            Err(why) => {
                debug_assert!(false, "saga {}: {why}", self.id);
                self.broken = Some(why);
            }
        }
    }

    /// Lets follow what follows, until nothing more does.
    fn advance(&mut self, now: Timestamp) {
        self.now = self.now.max(now);
        while self.broken.is_none()
            && let Some(event) = self.follows()
        {
            self.record(event);
        }
        for at in 0..self.state.plan().steps.len() {
            if self.wants_probe(at) && self.flights.insert((at, Act::Probe)) {
                self.calls.push((at, Act::Probe));
            }
        }
    }

    fn wants_probe(&self, at: usize) -> bool {
        let Some((step, record)) = self.state.steps().nth(at) else { return false };
        let due = matches!(record.state, StepState::InDoubt(Role::Do, due) if due <= self.now);
        due && step.probe && record.probes < PROBES && self.state.end().is_none()
    }

    /// The next event that follows from where the saga is.
    fn follows(&self) -> Option<SagaEvent> {
        let state = &self.state;
        if state.end().is_some() {
            return None;
        }
        if let Some(failure) = self.turns_back() {
            return Some(SagaEvent::TurnedBack { failure });
        }
        let steps = state.steps().enumerate();
        let next = if state.turned_back().is_some() {
            steps.into_iter().find_map(|(at, (step, record))| self.backward(at, step, record))
        } else {
            steps.into_iter().find_map(|(at, (step, record))| self.forward(at, step, record))
        };
        if next.is_some() {
            return next;
        }
        if let Some(end) = state.ending() {
            return Some(SagaEvent::Ended { end });
        }
        let moves = |(at, (_, record)): (usize, (&Step, &StepRecord))| {
            // On the way back, what a step that only looks came to is all the same.
            let matters = state.turned_back().is_none() || !state.is_settled(at);
            matches!(record.state, StepState::Open(_)) || (record.state.due().is_some() && matters)
        };
        let rests = self.flights.is_empty() && !state.steps().enumerate().any(moves);
        (rests && !state.is_resting()).then_some(SagaEvent::Rested)
    }

    /// Why it turns backward now, if it does.
    fn turns_back(&self) -> Option<Failure> {
        if !self.may_turn_back() {
            return None;
        }
        if self.state.deadline().is_some_and(|deadline| deadline <= self.now) {
            return Some(Failure::new("deadline", "its time was over before the pivot had begun"));
        }
        let (step, record) = self.state.steps().find(|(step, record)| match record.state {
            StepState::NotApplied | StepState::Undone => true,
            // Nobody knows, and it is not tried again: what it may have done is looked for on the way back.
            StepState::InDoubt(..) => step.kind != Kind::Pivot && is_given_up(step, record),
            StepState::Pending
            | StepState::AwaitingApproval { .. }
            | StepState::Open(_)
            | StepState::Resting(..)
            | StepState::Done
            | StepState::Skipped
            | StepState::Parked(_) => false,
        })?;
        let why = record.failure.clone().unwrap_or_else(|| Failure::new("step_failed", "it was undone by hand"));
        Some(Failure::new(why.code, format!("{}: {}", step.name, why.message)))
    }

    fn forward(&self, at: usize, step: &Step, record: &StepRecord) -> Option<SagaEvent> {
        if record.state.due().is_some_and(|due| due > self.now) {
            return None;
        }
        match &record.state {
            StepState::Pending => self.state.may_start(at).then(|| self.start(at, step, record)).flatten(),
            StepState::Resting(..) => self.start(at, step, record),
            StepState::AwaitingApproval { .. } => Some(SagaEvent::ApprovalExpired { step: step.name.clone() }),
            StepState::InDoubt(..) => self.in_doubt(at, step, record),
            // The saga cannot turn back any more: an operator says.
            StepState::NotApplied if self.state.pivot_done() => {
                let failure =
                    record.failure.clone().unwrap_or_else(|| Failure::new("step_failed", "it was not applied"));
                Some(SagaEvent::Parked { step: step.name.clone(), role: Role::Do, failure })
            }
            StepState::Open(_)
            | StepState::Done
            | StepState::NotApplied
            | StepState::Undone
            | StepState::Skipped
            | StepState::Parked(_) => None,
        }
    }

    /// Calls a step that is known not to be under way, or asks for the approval that it needs.
    fn start(&self, at: usize, step: &Step, record: &StepRecord) -> Option<SagaEvent> {
        let name = step.name.clone();
        let args = match self.state.args(at, Role::Do) {
            Ok(args) => args,
            Err(why) => {
                let failure = Failure::new("arguments_missing", why);
                return Some(SagaEvent::NotApplied { step: name, role: Role::Do, failure, due_at: None });
            }
        };
        if let Some(ms) = step.approval_ms {
            let fingerprint = self.fingerprint(step, &args);
            match &record.approved {
                Some((approved, _)) if *approved == fingerprint && is_approved(record, self.now) => {}
                Some(_) => return Some(SagaEvent::ApprovalExpired { step: name }),
                None => {
                    let expires_at = self.now.after(Duration::from_millis(ms));
                    return Some(SagaEvent::ApprovalAsked { step: name, fingerprint, expires_at });
                }
            }
        }
        Some(intended(step, record, Role::Do))
    }

    /// What an approval is for: this step of this saga with these arguments.
    fn fingerprint(&self, step: &Step, args: &Value) -> String {
        let what = serde_json::json!([self.id, step.name, args]);
        let mut text = ContentHash::of(&canonical(&what)).to_string();
        text.truncate(32);
        text
    }

    /// What becomes of a step when nobody knows whether it took place, and the saga goes forward.
    fn in_doubt(&self, at: usize, step: &Step, record: &StepRecord) -> Option<SagaEvent> {
        if self.wants_probe(at) || self.flights.contains(&(at, Act::Probe)) {
            return None;
        }
        if may_call_again(step, record) {
            // An approval that ran out is no reason to leave a doubt: the key is that of the call that was approved.
            let approved = step.approval_ms.is_none() || is_approved(record, self.now);
            if approved {
                return Some(intended(step, record, Role::Do));
            }
        }
        let failure = record.failure.clone().unwrap_or_else(|| Failure::new("in_doubt", "nobody knows"));
        Some(SagaEvent::Parked { step: step.name.clone(), role: Role::Do, failure })
    }

    fn backward(&self, at: usize, step: &Step, record: &StepRecord) -> Option<SagaEvent> {
        if step.kind == Kind::Read || record.state.due().is_some_and(|due| due > self.now) {
            return None;
        }
        let undo = match &record.state {
            StepState::Done | StepState::Resting(Role::Undo, _) | StepState::InDoubt(Role::Undo, _) => true,
            // What it did is asked first, where that can be asked; else its undo puts up with whatever it finds.
            StepState::InDoubt(Role::Do, _) => !self.wants_probe(at) && !self.flights.contains(&(at, Act::Probe)),
            StepState::Pending
            | StepState::AwaitingApproval { .. }
            | StepState::Open(_)
            | StepState::Resting(Role::Do, _)
            | StepState::NotApplied
            | StepState::Undone
            | StepState::Skipped
            | StepState::Parked(_) => false,
        };
        if !undo || !self.state.may_be_undone(at) {
            return None;
        }
        if let StepState::InDoubt(Role::Undo, _) = record.state
            && record.doubts >= DOUBTS
        {
            let failure = record.failure.clone().unwrap_or_else(|| Failure::new("in_doubt", "nobody knows"));
            return Some(SagaEvent::Parked { step: step.name.clone(), role: Role::Undo, failure });
        }
        Some(match self.state.args(at, Role::Undo) {
            Ok(_) => intended(step, record, Role::Undo),
            Err(why) => SagaEvent::Parked {
                step: step.name.clone(),
                role: Role::Undo,
                failure: Failure::new("arguments_missing", why),
            },
        })
    }

    fn on_answer(&self, step: &Step, record: &StepRecord, role: Role, answer: StepAnswer) -> SagaEvent {
        let name = step.name.clone();
        let back = self.state.turned_back().is_some();
        match answer {
            StepAnswer::Done(output) => SagaEvent::Done { step: name, role, output },
            StepAnswer::NeedsOperator(failure) if !(back && role == Role::Do) => {
                SagaEvent::Parked { step: name, role, failure }
            }
            // On the way back nobody is asked what it did: its undo finds out.
            StepAnswer::Unknown(failure) | StepAnswer::NeedsOperator(failure) => {
                let doubts = record.doubts + 1;
                let tries = if role == Role::Do { &step.tries } else { &step.undo_tries };
                // The first look is at once.
                let pause = if doubts == 1 { Duration::ZERO } else { tries.pause(doubts - 1) };
                SagaEvent::InDoubt { step: name, role, failure, due_at: self.now.after(pause) }
            }
            StepAnswer::NotApplied { failure, retryable } => match role {
                Role::Do => {
                    let due_at = if retryable { self.next_try(step, record) } else { None };
                    SagaEvent::NotApplied { step: name, role, failure, due_at }
                }
                Role::Undo => {
                    let failed = record.undo_failures + 1;
                    if retryable && failed < step.undo_tries.attempts {
                        let due_at = Some(self.now.after(step.undo_tries.pause(failed)));
                        SagaEvent::NotApplied { step: name, role, failure, due_at }
                    } else {
                        SagaEvent::Parked { step: name, role, failure }
                    }
                }
            },
        }
    }

    /// When a step that was not applied is tried again, if it is.
    fn next_try(&self, step: &Step, record: &StepRecord) -> Option<Timestamp> {
        let failed = record.failures + 1;
        (failed < step.tries.attempts).then(|| self.now.after(step.tries.pause(failed)))
    }
}

/// Whether a doubt is past what calls and probes can find out, and no operator was asked for.
fn is_given_up(step: &Step, record: &StepRecord) -> bool {
    let asks = step.probe && record.probes < PROBES;
    !asks && !may_call_again(step, record) && !step.operator
}

/// Whether a call whose outcome nobody knows may be made again under its key.
fn may_call_again(step: &Step, record: &StepRecord) -> bool {
    let harmless = step.dedup != Dedup::None || step.kind == Kind::Read;
    harmless && !record.exhausted && record.doubts < DOUBTS
}

fn intended(step: &Step, record: &StepRecord, role: Role) -> SagaEvent {
    let before = match role {
        Role::Do => record.attempts,
        Role::Undo => record.undo_attempts,
    };
    SagaEvent::Intended { step: step.name.clone(), role, generation: record.generation, attempt: before + 1 }
}

/// An answer that can be recorded.
fn bounded(answer: StepAnswer) -> StepAnswer {
    match answer {
        StepAnswer::Done(output) => match too_large(&output) {
            Some(failure) => StepAnswer::NeedsOperator(failure),
            None => StepAnswer::Done(output),
        },
        StepAnswer::NotApplied { failure, retryable } => StepAnswer::NotApplied { failure: short(failure), retryable },
        StepAnswer::Unknown(failure) => StepAnswer::Unknown(short(failure)),
        StepAnswer::NeedsOperator(failure) => StepAnswer::NeedsOperator(short(failure)),
    }
}

fn too_large(output: &Value) -> Option<Failure> {
    const { assert!(OUTPUT_BYTES <= PLAN_BYTES, "an entry has room for an output") };
    let bytes = crate::canonical::json_bytes(output);
    (bytes > OUTPUT_BYTES).then(|| {
        let message = format!("it took place, and its output has {bytes} bytes of JSON; {OUTPUT_BYTES} are allowed");
        Failure::new("output_too_large", message)
    })
}

fn short(mut failure: Failure) -> Failure {
    for text in [&mut failure.code, &mut failure.message] {
        if text.len() > MESSAGE_BYTES {
            let end = (0..=MESSAGE_BYTES).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
            text.truncate(end);
        }
    }
    failure
}

#[cfg(test)]
#[path = "machine/tests.rs"]
mod tests;
