//! One history of a saga: lives that are killed at points, over a log and a world that stay.

use std::collections::{BTreeMap, VecDeque};

use dalsegno_durable::Timestamp;
use dalsegno_durable::saga::event::Entry;
use dalsegno_durable::saga::machine::{Question, Request, Unsaved};
use dalsegno_durable::saga::{
    Act, Decision, Found, Role, SagaEnd, SagaEvent, SagaMachine, SagaState, Step, StepAnswer, StepState, Verb,
};
use serde_json::Value;

use super::judge::{Facts, Violation, violation};
use super::scenario::{Approver, Order, Scenario};
use super::world::{Behaviour, World};
use crate::sim::Dice;

/// Turns of the loop in one history for each step of its plan, before it counts as one that does not end.
const TURNS_PER_STEP: u64 = 150;
/// Things that an operator says, before the remotes are well again. A step of which so much was said is done by hand: nobody can call one
/// whose arguments are missing.
const OPERATIONS: u32 = 6;
const ID: &str = "saga-1";

/// A known bug, planted in what runs the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    /// A call is made before its intent is saved.
    CallsBeforeIntent,
    /// The attempt is part of the key.
    KeyWithAttempt,
    /// What was under way at a crash is called again at once.
    BlindRerun,
    /// What is done is undone when a step after the pivot fails.
    UndoAfterPivot,
    /// A step that failed is taken for not applied, and nobody asks the world.
    FailedStepNotProbed,
    /// A pivot that did not answer is taken for not done.
    UnknownPivotTakenForNotDone,
    /// A saga that ended goes on when it is taken up again.
    CallsAfterTheEnd,
}

impl Bug {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::CallsBeforeIntent,
        Self::KeyWithAttempt,
        Self::BlindRerun,
        Self::UndoAfterPivot,
        Self::FailedStepNotProbed,
        Self::UnknownPivotTakenForNotDone,
        Self::CallsAfterTheEnd,
    ];
}

/// What is played.
#[derive(Debug, Clone)]
pub struct History<'s> {
    /// Plan, remotes and operators.
    pub scenario: &'s Scenario,
    /// Points at which the process is killed, from 1, ascending.
    pub kills: Vec<u64>,
    /// A planted bug.
    pub bug: Option<Bug>,
}

/// What came of it.
#[derive(Debug, Clone)]
pub struct Played {
    /// Points that were passed.
    pub points: u64,
    /// Lives that ended by a kill.
    pub killed: usize,
    /// How the saga ended.
    pub end: Option<SagaEnd>,
    /// What was broken.
    pub violations: Vec<Violation>,
}

/// Plays a history to the end of its saga, and judges it.
#[must_use]
pub fn history(history: &History<'_>) -> Played {
    let seed = if let Order::Shuffled(seed) = history.scenario.order { seed } else { 0 };
    let mut stage = Stage {
        history,
        dice: Dice::new(seed, 0),
        log: Vec::new(),
        shadow: None,
        facts: Facts::default(),
        epoch: 0,
        now: Timestamp(1_000),
        world: World::default(),
        made: BTreeMap::new(),
        decided: BTreeMap::new(),
        asked: 0,
        operations: BTreeMap::new(),
        point: 0,
        turns: 0,
        killed: 0,
        violations: Vec::new(),
    };
    while stage.life().is_err() {
        stage.killed += 1;
    }
    stage.judge();
    let Stage { point, killed, facts, violations, .. } = stage;
    Played { points: point, killed, end: facts.end, violations }
}

/// Which pairs of kills are walked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pairs {
    /// None: single kills alone.
    None,
    /// Those whose first kill this number chooses.
    Chosen(u64),
    /// All.
    All,
}

/// Plays a scenario with every single kill, and with pairs of them; answers how many histories that were.
///
/// # Errors
/// The first history that broke something, with what it broke.
pub fn walk(scenario: &Scenario, bug: Option<Bug>, pairs: Pairs) -> Result<u64, String> {
    let mut histories = 0;
    let mut play = |kills: &[u64]| {
        histories += 1;
        let played = history(&History { scenario, kills: kills.to_vec(), bug });
        match played.violations.first() {
            None => Ok(played.points),
            Some(first) => Err(format!(
                "{}, killed at {kills:?} of {}: {}: {}",
                scenario.name, played.points, first.invariant, first.what
            )),
        }
    };
    let points = play(&[])?;
    for first in 1..=points {
        // A history that was killed once has other points behind that one.
        let through = play(&[first])?;
        let paired = match pairs {
            Pairs::None => false,
            Pairs::Chosen(number) => number.checked_rem(points) == Some(first - 1),
            Pairs::All => true,
        };
        if paired {
            for second in first + 1..=through {
                play(&[first, second])?;
            }
        }
    }
    Ok(histories)
}

/// The process was killed.
struct Killed;

/// An answer on its way.
enum Answer {
    Called(String, Role, StepAnswer),
    Probed(String, Found),
}

/// A batch on its way into the log.
struct Saving {
    batch: Unsaved,
    /// What the machine was like when it gave the batch, if it is further by now.
    state: Option<SagaState>,
}

struct Stage<'h> {
    history: &'h History<'h>,
    /// Chooses what comes first.
    dice: Dice,
    log: Vec<Entry>,
    /// The fold of the log, made entry by entry.
    shadow: Option<SagaState>,
    facts: Facts,
    epoch: u64,
    now: Timestamp,
    world: World,
    /// Calls of each kind that were made.
    made: BTreeMap<(String, Act), usize>,
    /// Answers of approvers, which are durable before anybody hears of them.
    decided: BTreeMap<Question, Decision>,
    asked: u32,
    operations: BTreeMap<String, u32>,
    point: u64,
    turns: u64,
    killed: usize,
    violations: Vec<Violation>,
}

impl Stage<'_> {
    fn pass(&mut self) -> Result<(), Killed> {
        self.point += 1;
        if self.history.kills.contains(&self.point) { Err(Killed) } else { Ok(()) }
    }

    fn bug(&self, bug: Bug) -> bool {
        self.history.bug == Some(bug)
    }

    fn broke(&mut self, invariant: &'static str, what: impl Into<String>) {
        self.violations.push(violation(invariant, what));
    }

    /// The machine as the log has it; `None`: the log cannot be read.
    fn taken_up(&mut self) -> Option<SagaMachine> {
        self.epoch += 1;
        if self.log.is_empty() {
            let plan = self.history.scenario.plan.clone();
            return match SagaMachine::begin(ID, plan, self.epoch, self.now) {
                Ok(machine) => Some(machine),
                Err(invalid) => panic!("{invalid}"),
            };
        }
        let resume = || SagaMachine::resume(ID, &self.log, self.epoch, self.now);
        match (resume(), resume()) {
            (Ok(machine), Ok(again)) => {
                if machine.state() != again.state() {
                    self.broke("recovering_twice_is_recovering_once", "two recoveries of one log differ");
                }
                Some(machine)
            }
            (Err(damaged), _) | (_, Err(damaged)) => {
                self.broke("the_fold_of_every_prefix_is_the_live_state", damaged.to_string());
                None
            }
        }
    }

    /// One life of the process. An error: it was killed.
    fn life(&mut self) -> Result<(), Killed> {
        let Some(mut machine) = self.taken_up() else { return Ok(()) };
        let mut answers: VecDeque<Answer> = VecDeque::new();
        if self.bug(Bug::BlindRerun) {
            self.run_again(&mut answers);
        }
        let mut saving: Option<Saving> = None;
        let turns = TURNS_PER_STEP * self.history.scenario.plan.steps.len() as u64;
        loop {
            self.turns += 1;
            if let Some(why) = machine.broken() {
                self.broke("the_fold_of_every_prefix_is_the_live_state", why);
                return Ok(());
            }
            if self.turns > turns {
                self.broke("it_ends_within_bounds", format!("{turns} turns, and it goes on"));
                return Ok(());
            }
            if saving.is_none() {
                saving = machine.batch().map(|batch| Saving { batch, state: None });
            }
            if self.meanwhile(&mut machine, &mut saving, &mut answers) {
            } else if let Some(saving) = saving.take() {
                self.save(&mut machine, saving, &mut answers)?;
            } else if self.cancel(&mut machine) {
            } else if let Some(answer) = self.next(&mut answers) {
                self.hear(&mut machine, answer);
            } else if self.decide(&mut machine)? {
            } else if machine.state().end().is_some() {
                return Ok(());
            } else if let Some(due) = machine.due() {
                self.now = self.now.max(due);
                machine.wake(self.now);
            } else if machine.state().is_resting() {
                self.judge_rest();
                self.operate(&mut machine);
            } else {
                self.broke("it_ends_within_bounds", "nothing of it moves, and it does not say so");
                return Ok(());
            }
        }
    }

    /// Where chance says what comes first: something happens while a batch is being saved and calls are under way.
    fn meanwhile(
        &mut self,
        machine: &mut SagaMachine,
        saving: &mut Option<Saving>,
        answers: &mut VecDeque<Answer>,
    ) -> bool {
        if !matches!(self.history.scenario.order, Order::Shuffled(_)) || self.dice.permille(600) {
            return false;
        }
        if let Some(saving) = saving {
            saving.state.get_or_insert_with(|| machine.state().clone());
        }
        if self.dice.permille(125) {
            let Some(due) = machine.due() else { return false };
            self.now = self.now.max(due);
            machine.wake(self.now);
            return true;
        }
        if self.cancel(machine) {
            return true;
        }
        let Some(answer) = self.next(answers) else { return false };
        self.hear(machine, answer);
        true
    }

    fn hear(&mut self, machine: &mut SagaMachine, answer: Answer) {
        match answer {
            Answer::Called(step, role, answer) => machine.answered(&step, role, answer, self.now),
            Answer::Probed(step, found) => machine.probed(&step, found, self.now),
        }
    }

    fn next(&mut self, answers: &mut VecDeque<Answer>) -> Option<Answer> {
        match self.history.scenario.order {
            Order::Oldest => answers.pop_front(),
            Order::Newest => answers.pop_back(),
            Order::Shuffled(_) => answers.remove(self.chosen(answers.len())),
        }
    }

    /// One of so many.
    fn chosen(&mut self, of: usize) -> usize {
        usize::try_from(self.dice.below(of as u64)).unwrap_or(0)
    }

    fn save(
        &mut self,
        machine: &mut SagaMachine,
        Saving { batch, state }: Saving,
        answers: &mut VecDeque<Answer>,
    ) -> Result<(), Killed> {
        let entry = batch.entry().clone();
        if self.bug(Bug::CallsBeforeIntent) {
            for event in &entry.events {
                if let SagaEvent::Intended { step, role, generation, .. } = event {
                    self.seen(step, *role, *generation, 1);
                }
            }
        }
        if !entry.events.is_empty() {
            self.pass()?;
            // The rest of what the kill interrupts: it is written, or it is not.
            self.log.push(entry.clone());
            let broken = self.facts.take(&self.history.scenario.plan, &entry);
            self.violations.extend(broken);
            self.fold(&entry, state.as_ref().unwrap_or(machine.state()));
            self.pass()?;
        }
        for request in machine.calls(batch.saved()) {
            self.pass()?;
            let answer = self.perform(&request);
            self.pass()?;
            answers.push_back(answer);
        }
        Ok(())
    }

    /// Takes the entry into a fold of its own, and compares.
    fn fold(&mut self, entry: &Entry, live: &SagaState) {
        let folded = match self.shadow.take() {
            None => SagaState::replay(ID, &self.log).map_err(|damaged| damaged.to_string()),
            Some(mut state) => entry.events.iter().try_for_each(|event| state.apply(event, entry.at)).map(|()| state),
        };
        match folded {
            Ok(state) => {
                if state != *live {
                    self.broke("the_fold_of_every_prefix_is_the_live_state", "they differ");
                }
                self.shadow = Some(state);
            }
            Err(why) => self.broke("the_fold_of_every_prefix_is_the_live_state", why),
        }
    }

    fn step(&self, name: &str) -> &Step {
        let found = self.history.scenario.plan.steps.iter().find(|step| step.name == name);
        found.unwrap_or_else(|| panic!("there is no step {name}"))
    }

    /// What the next call of this kind meets.
    fn meets(&mut self, step: &str, act: Act) -> Behaviour {
        let which = (step.to_owned(), act);
        let made = self.made.entry(which.clone()).or_default();
        *made += 1;
        if self.operations.values().sum::<u32>() >= OPERATIONS {
            return Behaviour::Done;
        }
        let scenario = self.history.scenario;
        let scripted = scenario.script.get(&which).and_then(|script| script.get(*made - 1));
        scripted.or_else(|| scenario.always.get(&which)).copied().unwrap_or(Behaviour::Done)
    }

    fn seen(&mut self, step: &str, role: Role, generation: u32, attempt: u32) {
        if self.facts.end.is_some() {
            self.broke("nothing_happens_after_the_end", format!("{step} is called"));
        }
        if !self.facts.intends(step, role, generation) {
            self.broke("every_call_has_an_earlier_intent", format!("{step} of generation {generation}"));
        }
        let mut key = format!("{step}/{}/{generation}", role.as_str());
        if self.bug(Bug::KeyWithAttempt) {
            key = format!("{key}/{attempt}");
        }
        self.world.saw(&key, (step, role, generation));
    }

    fn perform(&mut self, request: &Request) -> Answer {
        let how = self.meets(&request.step, request.act);
        let step = self.step(&request.step).clone();
        let name = request.step.clone();
        match request.act {
            Act::Call(role) => {
                self.seen(&name, role, request.generation, request.attempt);
                let answer = match role {
                    Role::Do => self.world.call(&step, request.generation, how),
                    Role::Undo => self.world.undo(&step, how),
                };
                let mistaken = role == Role::Do
                    && matches!(answer, StepAnswer::Unknown(_))
                    && ((self.bug(Bug::UnknownPivotTakenForNotDone)
                        && step.kind == dalsegno_durable::saga::Kind::Pivot)
                        || self.bug(Bug::FailedStepNotProbed));
                let answer = if mistaken { StepAnswer::refused("timeout", "it did not answer") } else { answer };
                if self.bug(Bug::UndoAfterPivot) && matches!(answer, StepAnswer::NotApplied { .. }) {
                    self.undo_all();
                }
                Answer::Called(name, role, answer)
            }
            Act::Probe => Answer::Probed(name.clone(), self.world.probe(&name, how)),
        }
    }

    /// Planted: everything that is done is undone, wherever the saga is.
    fn undo_all(&mut self) {
        for step in self.history.scenario.plan.steps.clone() {
            if step.undo.is_some() && self.world.stands(&step.name) {
                let event =
                    SagaEvent::Intended { step: step.name.clone(), role: Role::Undo, generation: 1, attempt: 1 };
                let entry = Entry { at: self.now, epoch: self.epoch, events: vec![event] };
                let broken = self.facts.clone().take(&self.history.scenario.plan, &entry);
                self.violations.extend(broken);
                self.world.undo_by_hand(&step.name);
            }
        }
    }

    /// Planted: calls whose outcome is not recorded are made again.
    fn run_again(&mut self, answers: &mut VecDeque<Answer>) {
        let Ok(state) = SagaState::replay(ID, &self.log) else { return };
        let open: Vec<(Step, u32)> = state
            .steps()
            .filter(|(_, record)| record.state == StepState::Open(Role::Do))
            .map(|(step, record)| (step.clone(), record.generation))
            .collect();
        for (step, generation) in open {
            let answer = self.world.call(&step, generation, Behaviour::Done);
            answers.push_back(Answer::Called(step.name, Role::Do, answer));
        }
    }

    /// Somebody wants it undone, and that is new.
    fn cancel(&mut self, machine: &mut SagaMachine) -> bool {
        let wanted = self.history.scenario.cancel_after.is_some_and(|after| self.turns > after) && !self.facts.back;
        wanted && machine.cancel("ann", "changed her mind", self.now).is_ok_and(|new| new)
    }

    /// Lets approvers answer. The answer is theirs, and stays, whatever happens to the process.
    fn decide(&mut self, machine: &mut SagaMachine) -> Result<bool, Killed> {
        for question in machine.questions() {
            if !self.decided.contains_key(&question) {
                self.asked += 1;
                let decision = match self.history.scenario.approver {
                    Approver::Approves => Decision::Approve { by: "ann".to_owned() },
                    Approver::Denies => Decision::Deny { by: "ann".to_owned(), why: "no".to_owned() },
                    Approver::Sleeps if self.asked == 1 => Decision::Expired,
                    Approver::Sleeps => Decision::Approve { by: "bob".to_owned() },
                };
                self.decided.insert(question.clone(), decision);
            }
            self.pass()?;
            match self.decided.get(&question).cloned() {
                // Nobody answers: its time passes.
                Some(Decision::Expired) | None => {}
                Some(decision) => {
                    machine.decided(&question.step, &question.fingerprint, decision, self.now);
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// An operator looks at the world, and says what is true.
    fn operate(&mut self, machine: &mut SagaMachine) {
        let names: Vec<String> = machine.state().steps().map(|(step, _)| step.name.clone()).collect();
        for step in names {
            // What was said of one before may have moved this one.
            let Some((_, record)) = machine.state().step(&step) else { continue };
            let StepState::Parked(role) = record.state else { continue };
            let (generation, doubtful) = (record.generation, record.doubtful);
            let said = self.operations.entry(step.clone()).or_default();
            *said += 1;
            if role == Role::Do && *said > OPERATIONS {
                self.world.do_by_hand(&step, generation);
            }
            let stands = self.world.stands(&step);
            let true_ones: &[Verb] = match role {
                Role::Undo => &[Verb::Undone, Verb::Applied, Verb::Retry, Verb::Skip],
                Role::Do if stands => &[Verb::Applied, Verb::Undone],
                Role::Do if doubtful => &[Verb::NotApplied, Verb::Retry],
                Role::Do => &[Verb::Retry, Verb::NotApplied, Verb::Undone, Verb::Skip],
            };
            let verb = self.says(true_ones, &machine.state().verbs(&step));
            let output = if verb == Verb::Applied { World::output(&step) } else { Value::Null };
            if verb == Verb::Undone || (role, verb) == (Role::Undo, Verb::Applied) {
                self.world.undo_by_hand(&step);
            }
            if let Err(refused) = machine.settle(&step, verb, ("ann", "looked"), output, self.now) {
                self.broke("it_ends_within_bounds", refused.to_string());
            }
        }
    }

    /// The first of what is true, or what chance chooses of that and may be said.
    fn says(&mut self, true_ones: &[Verb], allowed: &[Verb]) -> Verb {
        let first = true_ones.first().copied().unwrap_or(Verb::Retry);
        if !matches!(self.history.scenario.order, Order::Shuffled(_)) {
            return first;
        }
        let may: Vec<Verb> = true_ones.iter().copied().filter(|verb| allowed.contains(verb)).collect();
        may.get(self.chosen(may.len())).copied().unwrap_or(first)
    }

    fn judge_rest(&mut self) {
        let found = self.facts.at_rest(&self.history.scenario.plan, &self.world);
        self.violations.extend(found);
    }

    fn judge(&mut self) {
        self.judge_rest();
        self.violations.extend(Facts::generations(&self.log));
        if self.facts.end.is_some()
            && let Some(mut machine) = self.taken_up()
        {
            // Taken up again, it does nothing.
            let moves = machine.batch().is_some() || machine.due().is_some();
            if moves || self.bug(Bug::CallsAfterTheEnd) {
                let first = self.history.scenario.plan.steps.first().map_or_else(String::new, |step| step.name.clone());
                self.seen(&first, Role::Do, 1, 1);
            }
        }
    }
}
