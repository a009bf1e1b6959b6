//! Handoffs in the simulation: the real machine of sagas over a log that survives crashes. Its calls do what the effects of
//! their kinds do to the world, and may be told as badly.
#![allow(clippy::wildcard_enum_match_arm, reason = "a simulation looks at the cases that it needs")]

use dalsegno_core::{
    CommitId, Effect, EffectId, EffectOutput, EffectRequest, Failure, Input, Outcome, ProbeAnswer, SagaEnd, SagaStep,
    SagaWord, StepState,
};
use dalsegno_durable::Timestamp;
use dalsegno_durable::saga::event::Entry;
use dalsegno_durable::saga::machine::{Request, Unsaved};
use dalsegno_durable::saga::{self, Act, Found, Role, SagaEvent, SagaMachine, SagaState, StepAnswer};
use dalsegno_engine::{handoff_plan, handoff_progress, left_by_us};
use serde_json::{Value, json};

use super::Violation;
use super::acts::Fate;
use super::deed::Deed;
use super::drive::{Item, Sim};

/// A handoff that a living daemon carries out.
#[derive(Debug)]
pub(crate) struct Delivery {
    request: Box<EffectRequest>,
    machine: SagaMachine,
    saving: Option<Unsaved>,
    /// So many entries of its log were told.
    told: usize,
}

/// A call of a step on its way.
#[derive(Debug)]
pub(crate) struct Call {
    effect: EffectId,
    step: String,
    pub(super) act: Act,
    pub(super) deed: Deed,
    /// The handoff, under the key of the call.
    pub(super) request: Box<EffectRequest>,
    pub(super) fate: Fate,
}

/// What comes back of a call.
#[derive(Debug)]
pub(crate) enum Reply {
    Answered(StepAnswer),
    Found(Found),
}

/// Wishes that parked steps may bring about in one history, at most.
const WISHES: usize = 30;

impl Sim {
    fn saga_now(&self) -> Timestamp {
        Timestamp(self.now().0)
    }

    /// The saga begins, or is taken up from its log.
    pub(super) fn begin_saga(&mut self, request: Box<EffectRequest>) -> Result<(), Violation> {
        let Effect::HandOff { saga, commit, expected, from, pull_request } = &request.effect else { return Ok(()) };
        let broken = |why: String| Violation { rule: "saga", detail: why };
        let log = self.sagas.entry(saga.clone()).or_default();
        if log.is_empty() && request.unwanted {
            let failure = Failure::retryable("canceled", "given up before it began");
            self.schedule(0, Item::Outcome { request, outcome: Outcome::Failed { failure } });
            return Ok(());
        }
        let (epoch, log) = (self.store.fence, log.clone());
        let machine = if log.is_empty() {
            let Some(policy) = &request.policy.handoff else { return Ok(()) };
            let plan = handoff_plan(policy, commit, expected.as_ref(), from.as_deref(), *pull_request);
            let plan = plan.map_err(|invalid| broken(invalid.to_string()))?;
            SagaMachine::begin(saga.clone(), plan, epoch, self.saga_now())
                .map_err(|invalid| broken(invalid.to_string()))?
        } else {
            self.coverage.sagas_resumed += 1;
            SagaMachine::resume(saga.clone(), &log, epoch, self.saga_now())
                .map_err(|damaged| broken(damaged.to_string()))?
        };
        let (effect, unwanted) = (request.id, request.unwanted);
        self.deliveries.insert(effect, Delivery { request, machine, saving: None, told: 0 });
        if !log.is_empty() {
            self.tell_saga(effect)?;
            if self.saga_ends(effect) {
                return Ok(());
            }
        }
        if unwanted {
            self.cancel_saga(effect);
        }
        self.pump_saga(effect)
    }

    /// The end of the saga is on its way to the daemon's machine, if it has ended.
    fn saga_ends(&mut self, effect: EffectId) -> bool {
        let Some(end) = self.recorded(effect).and_then(|state| state.end()) else { return false };
        let end = match end {
            saga::SagaEnd::Committed => SagaEnd::Committed,
            saga::SagaEnd::Compensated => SagaEnd::Compensated,
            saga::SagaEnd::Abandoned => SagaEnd::Abandoned,
        };
        let restored = self.deliveries.get(&effect).is_some_and(|delivery| delivery.request.restored);
        // What the lost life of a backup did is not taken back.
        if end == SagaEnd::Compensated
            && !restored
            && let Some(left) = self.left_behind(effect)
        {
            self.world.object("undone", format!("a handoff that was undone left {left}"));
        }
        if let Some(delivery) = self.deliveries.remove(&effect) {
            let outcome = Outcome::Done { output: EffectOutput::HandedOff { end } };
            let after = self.times.between(0, 50);
            self.schedule(after, Item::Outcome { request: delivery.request, outcome });
        }
        true
    }

    /// What an undone handoff left in the world.
    fn left_behind(&self, effect: EffectId) -> Option<String> {
        let delivery = self.deliveries.get(&effect)?;
        let state = self.recorded(effect)?;
        let tip = state.step(SagaStep::Look.as_str()).and_then(|(_, look)| look.output.as_ref()?.get("tip"))?;
        let before = tip.as_str().map(CommitId::from);
        let Effect::HandOff { saga, commit, .. } = &delivery.request.effect else { return None };
        self.world.left_behind(&delivery.request, saga, commit, before.as_ref())
    }

    /// What the machine of a saga wants next is on its way: a batch, and the time at which it wakes.
    fn pump_saga(&mut self, effect: EffectId) -> Result<(), Violation> {
        let Some(delivery) = self.deliveries.get_mut(&effect) else { return Ok(()) };
        if let Some(why) = delivery.machine.broken() {
            return Err(Violation { rule: "saga", detail: why.to_owned() });
        }
        if delivery.saving.is_none()
            && let Some(batch) = delivery.machine.batch()
        {
            delivery.saving = Some(batch);
            let after = self.times.between(0, 5);
            self.schedule(after, Item::SagaSync { effect });
        }
        self.wake_saga(effect);
        Ok(())
    }

    fn wake_saga(&mut self, effect: EffectId) {
        let Some(due) = self.deliveries.get(&effect).and_then(|delivery| delivery.machine.due()) else { return };
        let after = due.0.saturating_sub(self.now().0).max(1);
        self.schedule(after, Item::SagaWake { effect });
    }

    /// A batch of the saga is on disk: its calls may be made.
    pub(super) fn saga_synced(&mut self, effect: EffectId) -> Result<(), Violation> {
        if self.disk_refuses_saga(effect) {
            return Ok(());
        }
        let Some(delivery) = self.deliveries.get_mut(&effect) else { return Ok(()) };
        let Some(batch) = delivery.saving.take() else { return Ok(()) };
        let id = delivery.machine.id().to_owned();
        if !batch.entry().events.is_empty() {
            let kinds: Vec<_> = batch.entry().events.iter().map(SagaEvent::kind).collect();
            let line = format!("saga {id}: {}", kinds.join(", "));
            if self.traced {
                self.trace.push(format!("{:>10}   {line}", self.clock));
            }
            self.sagas.entry(id).or_default().push(batch.entry().clone());
        }
        let calls = delivery.machine.calls(batch.saved());
        for call in calls {
            self.call_step(effect, call)?;
        }
        self.maybe_crash(false);
        self.tell_saga(effect)?;
        if self.saga_ends(effect) { Ok(()) } else { self.pump_saga(effect) }
    }

    /// The saga as its log has it: nobody hears of more.
    fn recorded(&self, effect: EffectId) -> Option<SagaState> {
        let delivery = self.deliveries.get(&effect)?;
        SagaState::replay(delivery.machine.id(), self.sagas.get(delivery.machine.id())?).ok()
    }

    /// The daemon's machine hears how far the saga is.
    fn tell_saga(&mut self, effect: EffectId) -> Result<(), Violation> {
        while let Some(delivery) = self.deliveries.get_mut(&effect) {
            let id = delivery.machine.id();
            let Some(entries) = self.sagas.get(id).and_then(|log| log.get(..=delivery.told)) else { break };
            let Ok(state) = SagaState::replay(id, entries) else { break };
            delivery.told += 1;
            let progress = handoff_progress(&state, delivery.told as u64);
            let parks = progress.steps.iter().any(|(_, state)| matches!(state, StepState::Parked { .. }));
            self.hand_in(Input::SagaMoved { effect, progress })?;
            if parks && !self.calm && self.plan.rates.refuse > 0 && self.wishes.len() < WISHES {
                let after = self.operators.between(1_000, 30_000);
                self.schedule(after, Item::Wish);
            }
        }
        Ok(())
    }

    fn call_step(&mut self, effect: EffectId, call: Request) -> Result<(), Violation> {
        let Some(delivery) = self.deliveries.get(&effect) else { return Ok(()) };
        let mut request = delivery.request.clone();
        let (Some(run), id) = (&request.run, delivery.machine.id()) else { return Ok(()) };
        request.key = format!("{run}/{}/{id}/{}", call.step, call.generation);
        request.attempt = call.attempt;
        let deed = Deed::of(&call).ok_or_else(|| {
            let detail = format!("{id} calls {}, which is no step of a handoff", call.step);
            Violation { rule: "saga", detail }
        })?;
        if let Act::Call(role) = call.act {
            self.judge_call(id, &call, role)?;
            self.coverage.around(deed.kind()).performed += 1;
        }
        let mut fate = self.fate(&request);
        if fate == Fate::Done && deed.may_be_refused() && self.fates.permille(self.plan.rates.refuse) {
            fate = Fate::FailsForGood;
        }
        self.note(|_| format!("call {:?} {} attempt {} ({fate:?})", call.act, request.key, request.attempt));
        let after = self.duration(&request.effect);
        let call = Call { effect, step: call.step, act: call.act, deed, request, fate };
        self.schedule(after, Item::SagaCall { call });
        Ok(())
    }

    /// No call before its intent, none after an outcome of the same generation, and nothing is undone after the pivot.
    fn judge_call(&self, id: &str, call: &Request, wanted: Role) -> Result<(), Violation> {
        let events = self.sagas.get(id).into_iter().flatten().flat_map(|entry: &Entry| &entry.events);
        let of_step = |name: &str| name == call.step;
        let intended = events.clone().any(|event| {
            matches!(event, SagaEvent::Intended { step, role, generation, attempt }
                if of_step(step) && *role == wanted && *generation == call.generation && *attempt == call.attempt)
        });
        let done = events
            .clone()
            .any(|event| matches!(event, SagaEvent::Done { step, role, .. } if of_step(step) && *role == wanted));
        let pivot = self.recorded_pivot(id);
        let passed = events
            .clone()
            .any(|event| matches!(event, SagaEvent::Done { step, role: Role::Do, .. } if Some(step) == pivot.as_ref()));
        let wrong = [
            (!intended, "intent_first", "without a recorded intent"),
            (done, "recorded_is_done", "after its outcome"),
            (wanted == Role::Undo && passed, "saga", "to undo it after the pivot"),
        ];
        match wrong.into_iter().find(|(wrong, ..)| *wrong) {
            Some((_, rule, how)) => Err(Violation { rule, detail: format!("{id} calls {} {how}", call.step) }),
            None => Ok(()),
        }
    }

    /// The step after which nothing of the saga is undone.
    fn recorded_pivot(&self, id: &str) -> Option<String> {
        let state = SagaState::replay(id, self.sagas.get(id)?).ok()?;
        state.plan().steps.iter().find(|step| step.kind == saga::Kind::Pivot).map(|step| step.name.clone())
    }

    /// The world changes, or is looked at; what comes of it is on its way.
    pub(super) fn saga_called(&mut self, call: Call) {
        let Call { effect, step, act, deed, request, fate } = call;
        let reply = match act {
            Act::Call(role) => {
                let answer = self.act(&request, &deed, role, fate);
                let pushed = matches!(deed, Deed::Push { .. }) && fate.applies();
                if pushed && !self.calm && self.fates.permille(self.plan.rates.built_on) {
                    let words = self.world.push_by_hand(&request.issue.id);
                    self.note(|_| format!("a person {words}"));
                }
                let around = self.coverage.around(deed.kind());
                match &answer {
                    StepAnswer::NotApplied { .. } => around.failed += 1,
                    StepAnswer::Unknown(_) => around.doubted += 1,
                    _ => {}
                }
                Reply::Answered(answer)
            }
            Act::Probe if self.fates.permille(self.plan.rates.query_fail) => {
                self.coverage.failed_queries += 1;
                Reply::Found(Found::Inconclusive { failure: saga::Failure::new("simulated", "no answer") })
            }
            Act::Probe => Reply::Found(match deed {
                Deed::Move { to, from } => self.where_it_is(request, to, from),
                deed => self.world.found(&request, &deed),
            }),
        };
        let slow = if self.times.permille(self.plan.rates.slow) { 100 } else { 1 };
        let after = slow * self.times.between(0, 100);
        self.schedule(after, Item::SagaReply { effect, step, act, reply });
    }

    /// What a call does to the world, as the executor of handoffs does it.
    pub(super) fn act(&mut self, request: &EffectRequest, deed: &Deed, role: Role, fate: Fate) -> StepAnswer {
        self.done_before(request, deed, role).unwrap_or_else(|| self.world.perform(request, deed, fate))
    }

    /// In a handoff of a backup each step is looked for before it is done, none is taken back, and no pull request is made of a branch that is
    /// not there any more.
    fn done_before(&mut self, request: &EffectRequest, deed: &Deed, role: Role) -> Option<StepAnswer> {
        if !request.restored {
            return None;
        }
        if role == Role::Undo {
            let failure = saga::Failure::new("restored_undo", "it may have been handed over since");
            return Some(StepAnswer::NotApplied { failure, retryable: false });
        }
        if let (Deed::Open { .. } | Deed::Ready { .. }, Effect::HandOff { commit, .. }) = (deed, &request.effect)
            && !self.world.is_pushed(request, commit)
        {
            let failure = saga::Failure::new("restored_push_missing", "the branch is not there any more");
            return Some(StepAnswer::NotApplied { failure, retryable: false });
        }
        let found = match deed {
            Deed::Move { to, from } => self.where_it_is(Box::new(request.clone()), to.clone(), from.clone()),
            deed => self.world.found(request, deed),
        };
        match found {
            Found::Applied { output } => Some(StepAnswer::Done(output)),
            Found::NotApplied => None,
            Found::Inconclusive { failure } => Some(StepAnswer::Unknown(failure)),
        }
    }

    /// Whether a move took place.
    fn where_it_is(&mut self, request: Box<EffectRequest>, to: String, from: Option<String>) -> Found {
        let move_issue = EffectRequest { effect: Effect::MoveIssue { to: to.clone(), from }, ..*request };
        let found = self.world.probe(&move_issue);
        if matches!(&found, ProbeAnswer::Applied(EffectOutput::Moved { state }) if *state != to) {
            self.world.moved_on.insert(move_issue.issue.id.clone());
        }
        match left_by_us(found, &to, &move_issue.policy.tracker.terminal_states) {
            ProbeAnswer::Applied(EffectOutput::Moved { state }) => Found::Applied { output: json!({"state": state}) },
            _ => Found::NotApplied,
        }
    }

    pub(super) fn saga_replied(
        &mut self,
        effect: EffectId,
        step: &str,
        act: Act,
        reply: Reply,
    ) -> Result<(), Violation> {
        let now = self.saga_now();
        let Some(delivery) = self.deliveries.get_mut(&effect) else { return Ok(()) };
        match (act, reply) {
            (Act::Call(role), Reply::Answered(answer)) => delivery.machine.answered(step, role, answer, now),
            (Act::Probe, Reply::Found(found)) => delivery.machine.probed(step, found, now),
            (Act::Call(_), Reply::Found(_)) | (Act::Probe, Reply::Answered(_)) => {}
        }
        self.pump_saga(effect)
    }

    pub(super) fn saga_wakes(&mut self, effect: EffectId) -> Result<(), Violation> {
        let now = self.saga_now();
        let Some(delivery) = self.deliveries.get_mut(&effect) else { return Ok(()) };
        delivery.machine.wake(now);
        self.pump_saga(effect)
    }

    /// An operator's word reaches the saga, as soon as there is one; its answer goes back when it is recorded.
    pub(super) fn tell_saga_word(&mut self, request: Box<EffectRequest>) -> Result<(), Violation> {
        let now = self.saga_now();
        if self.is_heard(&request.effect) {
            let outcome = Outcome::Done { output: EffectOutput::SagaTold };
            let after = self.times.between(0, 50);
            self.schedule(after, Item::Outcome { request, outcome });
            return Ok(());
        }
        let Effect::TellSaga { saga, step, word: SagaWord::Settle { verb }, action_id, why, .. } = &request.effect
        else {
            return Err(Violation { rule: "saga", detail: "an operator of the simulation only settles".to_owned() });
        };
        let held = self.deliveries.iter_mut().find(|(_, delivery)| delivery.machine.id() == saga);
        let Some((effect, delivery)) = held.filter(|(_, delivery)| delivery.saving.is_none()) else {
            let ended = self
                .sagas
                .get(saga)
                .is_some_and(|log| SagaState::replay(saga, log).is_ok_and(|state| state.end().is_some()));
            if ended {
                let failure = Failure::permanent("saga_ended", "it has ended");
                self.schedule(0, Item::Outcome { request, outcome: Outcome::Failed { failure } });
            } else {
                self.schedule(500, Item::SagaTell { request });
            }
            return Ok(());
        };
        let effect = *effect;
        let verb = saga::Verb::from_word(verb.as_str()).unwrap_or(saga::Verb::Retry);
        match delivery.machine.settle(step.as_str(), verb, (action_id, why), Value::Null, now) {
            Ok(()) => self.schedule(20, Item::SagaTell { request }),
            Err(refused) => {
                let failure = Failure::permanent(refused.code(), refused.to_string());
                self.schedule(0, Item::Outcome { request, outcome: Outcome::Failed { failure } });
            }
        }
        self.pump_saga(effect)
    }

    /// The saga has recorded what it was told.
    pub(super) fn is_heard(&self, effect: &Effect) -> bool {
        let Effect::TellSaga { saga, action_id, .. } = effect else { return false };
        let events = self.sagas.get(saga).into_iter().flatten().flat_map(|entry| &entry.events);
        events.into_iter().any(|event| matches!(event, SagaEvent::Settled { by, .. } if by == action_id))
    }

    /// The handoff is not wanted any more; answers whether there was one to tell.
    pub(super) fn cancel_saga(&mut self, effect: EffectId) -> bool {
        let now = self.saga_now();
        let Some(delivery) = self.deliveries.get_mut(&effect) else { return false };
        // Too late is as good: its end tells.
        let back = delivery.machine.cancel("dalsegno", "the run is going to end", now);
        self.note(|_| format!("cancel {effect}: its saga turns back: {back:?}"));
        self.schedule(0, Item::SagaWake { effect });
        true
    }

    /// The runner of a handoff gives up, because the store failed; what it was saving is kept or not. Answers its effect.
    pub(super) fn drop_saga(&mut self, effect: EffectId, kept: bool) -> Option<Box<EffectRequest>> {
        let mut delivery = self.deliveries.remove(&effect)?;
        let id = delivery.machine.id().to_owned();
        if let Some(batch) = delivery.saving.take().filter(|batch| kept && !batch.entry().events.is_empty()) {
            self.sagas.entry(id).or_default().push(batch.entry().clone());
        }
        Some(delivery.request)
    }

    /// The daemon died: of its sagas there is what is in their logs, and perhaps what was being written.
    pub(super) fn drop_sagas(&mut self) {
        for (_, mut delivery) in std::mem::take(&mut self.deliveries) {
            let log = self.sagas.entry(delivery.machine.id().to_owned()).or_default();
            let around = self.coverage.effects.entry(delivery.request.effect.kind()).or_default();
            if log.is_empty() {
                around.crashed_before += 1;
            } else {
                around.crashed_after += 1;
            }
            if let Some(batch) = delivery.saving.take().filter(|batch| !batch.entry().events.is_empty())
                && self.crashes.coin()
            {
                log.push(batch.entry().clone());
            }
        }
    }
}
