//! The driver of the simulation: hands inputs in, takes outputs out, and lets time pass between them.
#![allow(clippy::wildcard_enum_match_arm, reason = "a simulation looks at the cases that it needs")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use dalsegno_core::{
    Answer, Batch, Committed, Effect, EffectId, EffectRequest, Event, Input, Issue, IssueId, Machine, Outcome, Output,
    PolicyHash, Query, QueryId, Report, RunId, Signal, Timestamp,
};
use dalsegno_durable::saga::Act;
use dalsegno_durable::saga::event::Entry;

use super::acts::Fate;
use super::coverage::Coverage;
use super::dice::Dice;
use super::disk::Trouble;
use super::files::Files;
use super::handoff::{Call, Delivery, Reply};
use super::judge::Judge;
use super::keeping::{Keeping, live_owners};
use super::operator::Wish;
use super::plan::Plan;
use super::restore::Backup;
use super::store::{Refused, Store};
use super::turns::FORGETS;
use super::webhooks::Told;
use super::world::World;
use super::{Mutation, Violation};

/// Steps of the kind world before a history counts as stuck.
const CALM_STEPS: u64 = 100_000;
/// Simulated time of the kind world before a history counts as stuck.
const CALM_MS: i64 = 30 * 24 * 3_600_000;
/// Outputs after one input before the machine counts as flooding.
const OUTPUTS: u32 = 2_000;

/// Something that is going to happen.
#[derive(Debug)]
pub(super) enum Item {
    Apply { request: Box<EffectRequest>, fate: Fate },
    Outcome { request: Box<EffectRequest>, outcome: Outcome },
    Work { run: RunId, issue: IssueId, work: Work },
    Read { id: QueryId, query: Query },
    Answer { id: QueryId, answer: Answer },
    Sync { committed: Committed },
    Ack { committed: Committed },
    Signal { run: RunId, key: String, signal: Signal },
    Edit,
    Review { issue: IssueId },
    Webhook { names: Vec<String> },
    Wish,
    Send { wish: usize },
    SagaBegin { request: Box<EffectRequest> },
    SagaSync { effect: EffectId },
    SagaCall { call: Call },
    SagaReply { effect: EffectId, step: String, act: Act, reply: Reply },
    SagaWake { effect: EffectId },
    SagaTell { request: Box<EffectRequest> },
    Keep { keep: u64 },
    Restart { lost: bool },
    Zombie,
}

/// What an agent does to its workspace within a turn.
#[derive(Debug, Clone)]
pub(super) enum Work {
    Commit,
    CommitAndMess,
    Mess,
    MoveIssue(&'static str),
    Exit,
}

/// A cached reading of the tracker, for [`Mutation::StaleAnswers`].
pub(super) type Reading = (Vec<Issue>, Vec<Issue>);

/// An old daemon that does not know yet that another one took over: its machine, how its effects ended, what it was keeping.
pub(super) type Zombie = (Machine, Vec<(EffectId, Outcome)>, Vec<Keeping>);

/// One history under way.
#[derive(Debug)]
pub(crate) struct Sim {
    pub(super) plan: Plan,
    pub(super) hash: u64,
    pub(super) mutation: Option<Mutation>,
    pub(super) fates: Dice,
    pub(super) times: Dice,
    pub(super) crashes: Dice,
    pub(super) people: Dice,
    pub(super) operators: Dice,
    pub(super) service: Dice,
    pub(super) told: Told,
    /// What goes astray.
    pub(super) outside: Dice,
    /// Looks outside since the world is kind.
    pub(super) looks: u32,
    /// Disks and clocks.
    pub(super) hardware: Dice,
    pub(super) wishes: Vec<Wish>,
    /// What agents asked in their turns, by number, until it is answered: the turn, and how it ends then.
    pub(super) asked: Vec<Option<(EffectId, Outcome)>>,
    /// Simulated milliseconds since the beginning.
    pub(super) clock: i64,
    /// What the wall clock says beyond that.
    pub(super) wall: i64,
    /// The same of the daemon's time, which is never set back while it lives.
    pub(super) ahead: i64,
    pub(super) trouble: Trouble,
    pub(super) backup: Option<Backup>,
    pub(super) agenda: BTreeMap<(i64, u64), Item>,
    order: u64,
    /// When the daemon wants to be woken, in its own time.
    wake: Option<i64>,
    pub(super) machine: Option<Machine>,
    pub(super) zombie: Option<Zombie>,
    pub(super) world: World,
    pub(super) store: Store,
    /// Logs of sagas, as they are on disk.
    pub(super) sagas: BTreeMap<String, Vec<Entry>>,
    /// Handoffs that the living daemon carries out.
    pub(super) deliveries: BTreeMap<EffectId, Delivery>,
    /// Files beside the database.
    pub(super) files: Files,
    /// Who writes them, and what becomes of it.
    pub(super) kept: Dice,
    pub(super) keepings: BTreeMap<u64, Keeping>,
    pub(super) keep_count: u64,
    /// Runs of which a look that is on its way says that their receipts are another's.
    pub(super) stale: BTreeMap<QueryId, BTreeSet<RunId>>,
    pub(super) judge: Judge,
    pub(super) calm: bool,
    calm_since: (u64, i64),
    /// Polls that were answered well since the human is at rest.
    calm_polls: u32,
    pub(super) crashes_left: u32,
    pub(super) last_done: Option<Box<EffectRequest>>,
    pub(super) last_reading: Option<Reading>,
    early: BTreeSet<(EffectId, u32)>,
    pub(super) coverage: Coverage,
    /// This history is looked at more closely than most.
    sampled: bool,
    pub(super) traced: bool,
    pub(super) trace: Vec<String>,
}

impl Sim {
    pub(crate) fn new(seed: u64, plan: Plan, mutation: Option<Mutation>, traced: bool) -> Self {
        let mut world = World::new(&plan.issues);
        world.mutation = mutation;
        world.totals = plan.totals;
        let store = Store { mutation, ..Store::default() };
        let crashes_left = plan.rates.crashes;
        let trouble = Trouble::new(plan.rates.disk_faults);
        let mut sim = Self {
            plan,
            hash: 1,
            mutation,
            fates: Dice::new(seed, 2),
            times: Dice::new(seed, 3),
            crashes: Dice::new(seed, 4),
            people: Dice::new(seed, 5),
            operators: Dice::new(seed, 6),
            service: Dice::new(seed, 10),
            told: Told::new(),
            outside: Dice::new(seed, 9),
            looks: 0,
            hardware: Dice::new(seed, 11),
            wishes: Vec::new(),
            asked: Vec::new(),
            clock: 83_000_000,
            wall: 0,
            ahead: 0,
            trouble,
            backup: None,
            agenda: BTreeMap::new(),
            order: 0,
            wake: None,
            machine: None,
            zombie: None,
            world,
            store,
            sagas: BTreeMap::new(),
            deliveries: BTreeMap::new(),
            files: Files::new(mutation),
            kept: Dice::new(seed, 12),
            keepings: BTreeMap::new(),
            keep_count: 0,
            stale: BTreeMap::new(),
            judge: Judge::new(mutation.is_some_and(Mutation::forgets)),
            calm: false,
            calm_since: (0, 0),
            calm_polls: 0,
            crashes_left,
            last_done: None,
            last_reading: None,
            early: BTreeSet::new(),
            coverage: Coverage { histories: 1, ..Coverage::default() },
            sampled: seed.is_multiple_of(16),
            traced,
            trace: Vec::new(),
        };
        if sim.plan.astray {
            sim.world.go_astray(&mut sim.outside);
        }
        sim.schedule(0, Item::Restart { lost: false });
        let mut at = 0;
        for _ in 0..sim.plan.rates.edits {
            at += sim.people.between(0, 60_000);
            sim.schedule(at, Item::Edit);
        }
        for _ in 0..sim.plan.rates.wishes {
            let at = sim.operators.between(0, 300_000);
            sim.schedule(at, Item::Wish);
        }
        sim
    }

    pub(crate) fn finish(self) -> (Coverage, Vec<String>) {
        (self.coverage, self.trace)
    }

    pub(super) fn note(&mut self, line: impl FnOnce(&Self) -> String) {
        if self.traced {
            let line = format!("{:>10} {}", self.clock, line(self));
            self.trace.push(line);
        }
    }

    pub(super) fn schedule(&mut self, after: i64, item: Item) {
        self.order += 1;
        let shuffled = (self.times.below(4) << 60) | self.order;
        self.agenda.insert((self.clock + after.max(0), shuffled), item);
    }

    pub(super) fn now(&self) -> Timestamp {
        Timestamp(self.clock + self.ahead)
    }

    /// Runs to the end of the history, or to the first broken rule.
    pub(crate) fn run(&mut self) -> Result<(), Violation> {
        loop {
            self.coverage.steps += 1;
            if !self.calm && self.coverage.steps >= self.plan.rates.steps {
                self.calm_down();
            }
            if self.calm && self.is_over() {
                return self.end();
            }
            if self.calm
                && (self.coverage.steps - self.calm_since.0 > CALM_STEPS || self.clock - self.calm_since.1 > CALM_MS)
            {
                return Err(self.stuck("it never becomes quiet"));
            }
            self.step()?;
            self.tell_changes();
            if let Some(objection) = self.world.objection.take().or_else(|| self.files.objection.take()) {
                return Err(objection);
            }
            if !self.calm {
                self.back_up_or_restore()?;
            }
            self.maybe_crash(true);
        }
    }

    fn step(&mut self) -> Result<(), Violation> {
        let next = self.agenda.keys().next().copied();
        let wake = self.wake.filter(|_| self.machine.is_some()).map(|due| due.saturating_sub(self.ahead));
        let Some(at) = next.map(|(at, _)| at).into_iter().chain(wake).min() else {
            if !self.calm {
                self.calm_down();
                return Ok(());
            }
            return Err(self.stuck("it waits for nothing"));
        };
        self.clock = self.clock.max(at);
        match next {
            Some(key) if key.0 <= at => match self.agenda.remove(&key) {
                Some(item) => self.happen(item),
                None => Ok(()),
            },
            Some(_) | None => self.hand_in(Input::Tick),
        }
    }

    fn stuck(&self, how: &str) -> Violation {
        let Some(machine) = &self.machine else {
            return Violation { rule: "liveness", detail: format!("{how}: no daemon") };
        };
        let state = machine.state();
        let runs: Vec<String> = state
            .runs
            .values()
            .map(|run| format!("{} in {} (sweeping {})", run.id, run.phase.as_str(), run.sweeping))
            .collect();
        let effects: Vec<&str> = state.open_effects.values().map(|open| open.key.as_str()).collect();
        let issues: Vec<String> = state
            .issues
            .values()
            .map(|entry| format!("{} {} {:?}", entry.issue.id, entry.status.as_str(), entry.reason))
            .collect();
        Violation { rule: "liveness", detail: format!("{how}: runs {runs:?}, open {effects:?}, issues {issues:?}") }
    }

    fn calm_down(&mut self) {
        self.note(|_| "---- the world turns kind".to_owned());
        self.calm = true;
        self.calm_since = (self.coverage.steps, self.clock);
        self.agenda.retain(|_, item| !matches!(item, Item::Edit | Item::Review { .. } | Item::Wish));
        let rates = &mut self.plan.rates;
        (rates.fail, rates.permanent, rates.doubt, rates.query_fail) = (0, 0, 0, 0);
        (rates.slow, rates.bad_turn, rates.crash, rates.clock, rates.refuse) = (0, 0, 0, 0, 0);
        rates.no_draft = 0;
        self.trouble.end();
        self.undrain();
    }

    fn is_over(&self) -> bool {
        // The first may have been asked before.
        self.machine.as_ref().is_some_and(|machine| !machine.state().drained)
            && self.calm_polls >= 2
            && self.looks >= 2
            && !self.files.unseen
            && self.machine.as_ref().is_some_and(Machine::is_quiet)
            && self
                .agenda
                .values()
                .all(|item| matches!(item, Item::Signal { .. } | Item::Work { .. } | Item::SagaWake { .. }))
    }

    fn end(&mut self) -> Result<(), Violation> {
        self.note(|_| "---- quiet".to_owned());
        let Some(machine) = &self.machine else { return Ok(()) };
        self.coverage.events += machine.state().seq;
        for entry in machine.state().issues.values() {
            *self.coverage.ends.entry(entry.status.as_str()).or_default() += 1;
            if entry.status == dalsegno_core::IssueStatus::Parked {
                let reason = entry.reason.as_deref().unwrap_or_default();
                let code = reason.split(':').next().unwrap_or_default().to_owned();
                *self.coverage.parked.entry(code).or_default() += 1;
            }
        }
        self.judge.end(machine, &self.store, &self.world)?;
        let left = self.files.left(|run| self.store.rows.runs.contains_key(run));
        self.world.still_astray(machine, &left)?;
        self.files.whole()?;
        self.judge_wishes()?;
        let (snapshot, tail) = self.store.load();
        let again = Machine::replay(snapshot, tail)
            .map_err(|corrupt| Violation { rule: "replayable", detail: corrupt.to_string() })?;
        self.judge.ledger(&self.store, &self.world)?;
        self.judge.replayed(&self.store, &again, false)?;
        if self.sampled {
            let at = self.times.below(self.store.synced());
            self.judge.prefixes(&self.store, at)?;
        }
        Ok(())
    }

    fn happen(&mut self, item: Item) -> Result<(), Violation> {
        match item {
            Item::Apply { request, fate } => self.apply(request, fate),
            Item::Outcome { request, outcome } => self.outcome(request, outcome)?,
            Item::Work { run, issue, work } => self.work(&run, &issue, &work),
            Item::Read { id, query } => self.read(id, &query),
            Item::Answer { id, answer } => {
                let fresh = matches!(&answer, Answer::Poll { seen: Ok(_), .. });
                self.note(|_| format!("answer {} {}", id.0, told(&answer)));
                let stale = self.stale.remove(&id).unwrap_or_default();
                let stopped = self.judge.hear_stale(stale, self.machine.as_ref());
                self.hand_in_with(Input::Answered { id, answer }, fresh)?;
                self.judge.stopped(&stopped, self.machine.as_ref())?;
            }
            Item::Sync { committed } => {
                if self.disk_refuses(committed) {
                    return Ok(());
                }
                self.store.sync();
                if let Some(machine) = self.machine.as_ref().filter(|_| self.sampled)
                    && machine.state().seq == self.store.synced()
                {
                    self.judge.rows(&self.store.rows, machine)?;
                }
                if self.mutation != Some(Mutation::AcknowledgedBeforeSync) {
                    let after = self.times.between(0, 3);
                    self.schedule(after, Item::Ack { committed });
                }
            }
            Item::Ack { committed } => self.hand_in(Input::Committed(committed))?,
            Item::Signal { run, key, mut signal } => {
                // One that died in its turn says nothing in the turn of the next, which has the same session.
                let speaks = |session: &String| {
                    self.world.sessions.get(session).and_then(|prompts| prompts.last()).is_some_and(|last| *last == key)
                };
                let session = self.world.live_process(&run).map(|process| process.session.clone()).filter(speaks);
                if let Some(session) = session {
                    if let Signal::Usage(Report { usage, .. }) = &mut signal {
                        self.world.spend(&session, &key, usage.total_tokens);
                        if self.mutation == Some(Mutation::BudgetCountedTwice) {
                            *usage = dalsegno_core::Usage::new(self.world.session_total(&session), 0);
                        }
                    }
                    self.hand_in(Input::Signal { run, signal })?;
                }
            }
            Item::Edit => self.edit()?,
            Item::Review { issue } => {
                self.coverage.reviews += 1;
                let done = self.world.review(&issue, &mut self.people);
                self.note(|_| format!("a person {done}"));
            }
            Item::Webhook { names } => self.webhook(names)?,
            Item::Wish => self.wish()?,
            Item::Send { wish } => self.send(wish)?,
            Item::SagaBegin { request } => self.begin_saga(request)?,
            Item::SagaSync { effect } => self.saga_synced(effect)?,
            Item::SagaCall { call } => self.saga_called(call),
            Item::SagaReply { effect, step, act, reply } => self.saga_replied(effect, &step, act, reply)?,
            Item::SagaWake { effect } => self.saga_wakes(effect)?,
            Item::SagaTell { request } => self.tell_saga_word(request)?,
            Item::Keep { keep } => self.keep_on(keep),
            Item::Restart { lost } => self.restart(lost)?,
            Item::Zombie => self.step_zombie()?,
        }
        Ok(())
    }

    pub(super) fn hand_in(&mut self, input: Input) -> Result<(), Violation> {
        self.hand_in_with(input, false)
    }

    fn hand_in_with(&mut self, input: Input, fresh: bool) -> Result<(), Violation> {
        let now = self.now();
        let Some(machine) = &mut self.machine else { return Ok(()) };
        let ticked = matches!(input, Input::Tick);
        machine.handle(input, now);
        if fresh {
            self.calm_polls += u32::from(self.calm);
            if self.sampled || self.coverage.steps.is_multiple_of(16) {
                self.judge.explained(machine)?;
            }
        }
        self.drain(ticked)
    }

    /// Does what the machine wants; `ticked`: it was only told the time, and so must not want to be told it again at once.
    fn drain(&mut self, ticked: bool) -> Result<(), Violation> {
        let now = self.now();
        for _ in 0..OUTPUTS {
            let Some(machine) = &mut self.machine else { return Ok(()) };
            match machine.poll_output() {
                Output::Append(batch) => self.append(batch)?,
                Output::Perform(request) => {
                    if !self.early.remove(&(request.id, request.attempt)) {
                        self.perform(request)?;
                    }
                }
                Output::Reply { caller, answer } => self.replied(caller, answer)?,
                Output::Cancel(id) => self.cancel(id),
                Output::Ask(id, query) => self.ask(id, query),
                Output::Wait(due) if ticked && due.is_some_and(|due| due <= now) => {
                    let detail = format!("after a tick at {} it wants to wait until {due:?}", now.0);
                    return Err(Violation { rule: "no_spin", detail });
                }
                Output::Wait(due) => {
                    let lost = self.mutation == Some(Mutation::WakeUpLost) && self.fates.permille(200);
                    self.wake = due.filter(|_| !lost).map(|due| due.0);
                    return Ok(());
                }
            }
            self.maybe_crash(false);
        }
        Err(Violation { rule: "bounded", detail: "no end of outputs after one input".to_owned() })
    }

    fn append(&mut self, batch: Batch) -> Result<(), Violation> {
        if !self.calm {
            self.plan_reviews(&batch);
        }
        let Some(machine) = &self.machine else { return Ok(()) };
        if self.traced {
            for recorded in &batch.events {
                let line = format!("{:>10}   event {} {}", self.clock, recorded.seq, brief(&recorded.event));
                self.trace.push(line);
            }
        }
        let begins = |recorded: &dalsegno_core::Recorded| matches!(recorded.event, Event::SagaStarted { .. });
        if batch.events.iter().any(begins) {
            let stale = self.files.stale(&live_owners(machine));
            self.coverage.note_stale(&batch, &stale);
        }
        self.judge.append(&batch, machine.state(), &self.world, &self.files)?;
        self.coverage.note_looks(&batch);
        let early = match self.mutation {
            Some(Mutation::PerformedBeforeCommit) => intended(&batch, machine),
            _ => Vec::new(),
        };
        let committed = batch.committed();
        if let Err(refused) = self.store.append(batch) {
            return Err(Violation {
                rule: "one_owner",
                detail: format!("the owner's append was refused: {refused:?}"),
            });
        }
        let after = self.times.between(0, 5);
        if self.mutation == Some(Mutation::AcknowledgedBeforeSync) {
            self.schedule(0, Item::Ack { committed });
            self.schedule(after + 20, Item::Sync { committed });
        } else {
            self.schedule(after, Item::Sync { committed });
        }
        for request in early {
            self.early.insert((request.id, request.attempt));
            self.perform(request)?;
        }
        if self.mutation == Some(Mutation::AnsweredBeforeReceipt) { self.answer_early() } else { Ok(()) }
    }

    /// What is handed over lies there for a person to look at.
    fn plan_reviews(&mut self, batch: &Batch) {
        for recorded in &batch.events {
            if let Event::IssueStatus { issue, to: dalsegno_core::IssueStatus::HandedOff, .. } = &recorded.event
                && self.people.permille(self.plan.rates.reviews)
            {
                let after = self.people.between(0, 60_000);
                self.schedule(after, Item::Review { issue: issue.clone() });
            }
        }
    }

    pub(super) fn perform(&mut self, request: Box<EffectRequest>) -> Result<(), Violation> {
        self.judge.perform(&request, self.store.synced())?;
        if let Effect::HandOff { .. } = request.effect {
            self.note(|_| format!("hand off {} {} attempt {}", request.id, request.key, request.attempt));
            self.coverage.around(request.effect.kind()).performed += 1;
            let after = self.times.between(0, 20);
            self.schedule(after, Item::SagaBegin { request });
            return Ok(());
        }
        if let Effect::TellSaga { .. } = request.effect {
            self.note(|_| format!("tell a saga {} {} attempt {}", request.id, request.key, request.attempt));
            self.coverage.around(request.effect.kind()).performed += 1;
            let after = self.times.between(0, 500);
            self.schedule(after, Item::SagaTell { request });
            return Ok(());
        }
        let fate = self.fate(&request);
        self.note(|_| format!("perform {} {} attempt {} ({fate:?})", request.id, request.key, request.attempt));
        self.coverage.around(request.effect.kind()).performed += 1;
        let after = match request.effect {
            Effect::Prompt { .. } => self.times.between(1, 200),
            _ => self.duration(&request.effect),
        };
        self.schedule(after, Item::Apply { request, fate });
        Ok(())
    }

    fn outcome(&mut self, request: Box<EffectRequest>, outcome: Outcome) -> Result<(), Violation> {
        self.note(|_| format!("outcome {} {} {}", request.id, request.key, ended(&outcome)));
        let around = self.coverage.around(request.effect.kind());
        match &outcome {
            Outcome::Done { .. } => {}
            Outcome::Failed { .. } => around.failed += 1,
            Outcome::InDoubt { .. } => around.doubted += 1,
        }
        let id = request.id;
        self.spend_turn(&request, &outcome, 1_000);
        if matches!((&request.effect, &outcome), (Effect::Prompt { .. }, Outcome::Failed { failure }) if failure.code == "agent_exit")
        {
            self.coverage.deaths += 1;
            if self.fates.permille(FORGETS) {
                self.forget_prompt(&request.key);
            }
        }
        if matches!(outcome, Outcome::Done { .. }) {
            self.last_done = Some(request);
        }
        if self.mutation == Some(Mutation::OutcomeLost) && self.fates.permille(20) {
            return Ok(());
        }
        self.hand_in(Input::EffectEnded { id, outcome })
    }

    fn edit(&mut self) -> Result<(), Violation> {
        self.coverage.edits += 1;
        if self.people.permille(80) {
            self.hash += 1;
            self.plan.policy.agent.max_concurrent_agents = self.people.pick([1, 2, 3]);
            self.plan.policy.agent.max_turns = self.people.pick([1, 2, 8]);
            self.note(|_| "a person changes WORKFLOW.md".to_owned());
            return self.load_policy();
        }
        let done = self.world.edit(&mut self.people);
        self.note(|_| format!("a person {done}"));
        if self.people.permille(300) {
            return self.hand_in(Input::Refresh);
        }
        Ok(())
    }

    pub(super) fn load_policy(&mut self) -> Result<(), Violation> {
        let hash = PolicyHash(format!("p{}", self.hash));
        let policy = Box::new(self.plan.policy.clone());
        self.hand_in(Input::PolicyLoaded { hash, policy })
    }

    fn step_zombie(&mut self) -> Result<(), Violation> {
        if self.machine.is_none() {
            // It is the owner as long as nobody took over.
            return Ok(());
        }
        let now = Timestamp(self.now().0 + 3_600_000);
        let Some((mut machine, outcomes, keepings)) = self.zombie.take() else { return Ok(()) };
        self.note(|_| "the old daemon goes on for a while".to_owned());
        for keeping in &keepings {
            self.keep_late(keeping)?;
        }
        let inputs = outcomes.into_iter().map(|(id, outcome)| Input::EffectEnded { id, outcome });
        for input in inputs.chain([Input::Tick]) {
            machine.handle(input, now);
            for _ in 0..OUTPUTS {
                match machine.poll_output() {
                    Output::Append(batch) => match self.store.append(batch) {
                        Err(Refused::StaleEpoch) => self.coverage.refused_appends += 1,
                        Err(Refused::UnexpectedSequence) | Ok(()) => {
                            let detail = "an append of the old daemon got past its epoch".to_owned();
                            return Err(Violation { rule: "one_owner", detail });
                        }
                    },
                    Output::Perform(request) => {
                        let detail = format!("the old daemon performs {}", request.key);
                        return Err(Violation { rule: "one_owner", detail });
                    }
                    Output::Cancel(_) | Output::Ask(..) | Output::Reply { .. } => {}
                    Output::Wait(_) => break,
                }
            }
        }
        Ok(())
    }
}

#[allow(clippy::vec_box, reason = "they are handed on boxed")]
/// The requests of the effects that a batch intends, as the machine would make them.
fn intended(batch: &Batch, machine: &Machine) -> Vec<Box<EffectRequest>> {
    let state = machine.state();
    batch
        .events
        .iter()
        .filter_map(|recorded| match &recorded.event {
            Event::EffectIntended { effect_id, issue, run, key, attempt, effect } => {
                let entry = state.issues.get(issue)?;
                Some(Box::new(EffectRequest {
                    id: *effect_id,
                    key: key.clone(),
                    attempt: *attempt,
                    issue: (*entry.issue).clone(),
                    run: run.clone(),
                    policy: run.as_ref().map_or_else(|| state.policy(), |run| state.policy_of(run))?,
                    policy_hash: match run {
                        Some(run) => state.runs.get(run)?.policy.clone(),
                        None => state.policy.clone()?,
                    },
                    workspace: entry.workspace.clone(),
                    known_branch: None,
                    restored: false,
                    grants: Vec::new(),
                    unwanted: false,
                    effect: effect.clone(),
                }))
            }
            _ => None,
        })
        .collect()
}

fn brief(event: &Event) -> String {
    match event {
        Event::WorkflowLoaded { hash, .. } => format!("workflow_loaded {hash}"),
        Event::IssueSeen { issue } | Event::IssueChanged { issue } => format!(
            "{} {} {:?} v{:?} dispatchable {} labels {:?}",
            event.kind(),
            issue.id,
            issue.state,
            issue.updated_at.map(|at| at.0),
            issue.dispatchable,
            issue.labels
        ),
        _ => format!("{event:?}"),
    }
}

fn told(answer: &Answer) -> String {
    match answer {
        Answer::Poll { seen: Ok(seen), .. } => {
            let issue =
                |issue: &Arc<Issue>| format!("{} {} v{:?}", issue.id, issue.state, issue.updated_at.map(|at| at.0));
            format!("poll {:?}", seen.iter().map(issue).collect::<Vec<_>>())
        }
        Answer::Poll { .. } => "poll failed".to_owned(),
        Answer::Assess { issue, work } => format!(
            "assess {:?} {work:?}",
            issue.as_ref().map(|issue| issue.as_ref().map(|issue| (issue.state.clone(), issue.updated_at)))
        ),
        Answer::Look(seen) => format!(
            "look {:?}",
            seen.as_ref().map(|seen| seen.as_ref().map(|issue| (issue.state.clone(), issue.updated_at)))
        ),
        Answer::Inspect(seen) => format!("outside {seen:?}"),
        Answer::LostWork(tip) => format!("lost work {tip:?}"),
        Answer::Probe(answer) => format!("probe {answer:?}"),
    }
}

fn ended(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Done { output } => format!("{output:?}"),
        Outcome::Failed { failure } => format!("failed {}", failure.code),
        Outcome::InDoubt { .. } => "in doubt".to_owned(),
    }
}
