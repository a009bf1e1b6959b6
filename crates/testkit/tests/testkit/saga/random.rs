//! Random plans of five to ten steps, in a random world, killed at random points.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::time::Duration;

use dalsegno_durable::saga::plan::Tries;
use dalsegno_durable::saga::{Act, Dedup, Role, SagaEnd, SagaPlan, Step, output};
use dalsegno_testkit::saga::{Approver, Behaviour, History, Order, Played, Scenario, history};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};
use serde_json::{Value, json};

/// In the environment: how many plans, and from which seed, as `<plans>:<seed>`.
const PLANS_VARIABLE: &str = "DALSEGNO_SAGA_PLANS";
/// Without it.
const PLANS: (u32, u64) = (600, 20_261);

/// What was played.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Tally {
    pub(super) histories: u64,
    pub(super) killed: u64,
    pub(super) committed: u64,
    pub(super) compensated: u64,
    pub(super) abandoned: u64,
}

impl Tally {
    fn count(mut self, played: &Played) -> Self {
        self.histories += 1;
        self.killed += u64::from(played.killed > 0);
        match played.end {
            Some(SagaEnd::Committed) => self.committed += 1,
            Some(SagaEnd::Compensated) => self.compensated += 1,
            Some(SagaEnd::Abandoned) => self.abandoned += 1,
            None => {}
        }
        self
    }
}

/// What calls of one kind meet: these, and from then on all is well, or always the same.
#[derive(Debug, Clone)]
struct Meets {
    first: Vec<Behaviour>,
    always: Option<Behaviour>,
}

#[derive(Debug, Clone, Copy)]
enum Refers {
    Nowhere,
    /// To what a step that it comes after answered.
    Before,
    /// To something that is not in that answer.
    Missing,
}

#[derive(Debug, Clone)]
struct StepDraft {
    /// It only looks.
    reads: bool,
    /// It only looks, and the pivot does not wait for it.
    aside: bool,
    /// Bits choose among the steps before it.
    after: u16,
    dedup: Dedup,
    probe: bool,
    operator: bool,
    approval_ms: Option<u64>,
    tries: u32,
    refers: Refers,
    undo_refers_to_itself: bool,
    does: Meets,
    undoes: Meets,
    probes: Meets,
}

/// A history, so that it can be made smaller when it fails.
#[derive(Debug, Clone)]
struct Draft {
    steps: Vec<StepDraft>,
    /// Chooses the pivot among the steps.
    pivot: Option<usize>,
    deadline_ms: Option<u64>,
    approver: Approver,
    cancel_after: Option<u64>,
    order: Order,
    /// Each chooses a point behind the one before.
    kills: Vec<u64>,
}

/// Plays so many random histories from this seed.
///
/// # Errors
/// The smallest one that was found to break something.
pub(super) fn play((plans, seed): (u32, u64)) -> Result<Tally, String> {
    let mut bytes = [0; 32];
    for (into, from) in bytes.iter_mut().zip(seed.to_le_bytes()) {
        *into = from;
    }
    let config = Config { cases: plans, failure_persistence: None, max_shrink_iters: 4_000, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
    let tally = Cell::new(Tally::default());
    let played = runner.run(&draft(), |draft| {
        let scenario = draft.scenario();
        let mut kills = Vec::new();
        let mut points = judged(&scenario, &kills, &tally)?;
        for kill in &draft.kills {
            // A history that was killed has other points behind that one.
            let from = kills.last().copied().unwrap_or(0);
            let Some(chosen) = kill.checked_rem(points.saturating_sub(from)) else { break };
            kills.push(from + 1 + chosen);
            points = judged(&scenario, &kills, &tally)?;
        }
        Ok(())
    });
    let again = format!("again with {PLANS_VARIABLE}={plans}:{seed}");
    played.map_err(|failed| match failed {
        TestError::Fail(why, draft) => format!("{why}\n{draft:?}\n{again}"),
        TestError::Abort(why) => format!("{why}; {again}"),
    })?;
    Ok(tally.get())
}

/// The plans and the seed that the environment asks for.
pub(super) fn from_environment() -> (u32, u64) {
    let Ok(text) = std::env::var(PLANS_VARIABLE) else { return PLANS };
    let numbers = text.split_once(':').and_then(|(plans, seed)| Some((plans.parse().ok()?, seed.parse().ok()?)));
    numbers.unwrap_or_else(|| panic!("{PLANS_VARIABLE}={text}: expected `<plans>:<seed>`"))
}

/// Plays one history; answers how many points it has.
fn judged(scenario: &Scenario, kills: &[u64], tally: &Cell<Tally>) -> Result<u64, TestCaseError> {
    let played = history(&History { scenario, kills: kills.to_vec(), bug: None });
    tally.set(tally.get().count(&played));
    let Some(first) = played.violations.first() else { return Ok(played.points) };
    let plan = serde_json::to_string(&scenario.plan).unwrap();
    let said = format!("killed at {kills:?} of {}: {}: {}\n{plan}", played.points, first.invariant, first.what);
    Err(TestCaseError::fail(said))
}

impl Draft {
    fn scenario(&self) -> Scenario {
        let mut scenario = Scenario {
            name: "random".to_owned(),
            plan: self.plan(),
            script: BTreeMap::new(),
            always: BTreeMap::new(),
            approver: self.approver,
            cancel_after: self.cancel_after,
            order: self.order,
        };
        for (at, step) in self.steps.iter().enumerate() {
            let met =
                [(Act::Call(Role::Do), &step.does), (Act::Call(Role::Undo), &step.undoes), (Act::Probe, &step.probes)];
            for (act, meets) in met {
                scenario.script.insert((name(at), act), meets.first.clone());
                if let Some(always) = meets.always {
                    scenario.always.insert((name(at), act), always);
                }
            }
        }
        scenario
    }

    fn plan(&self) -> SagaPlan {
        let pivot = self.pivot.map(|pivot| pivot % self.steps.len());
        let section = pivot.unwrap_or(self.steps.len());
        let after = |at: usize, from: usize| -> Vec<usize> {
            (from..at).filter(|other| self.steps[at].after >> (other - from) & 1 == 1).collect()
        };
        let awaited = |at: usize| !(self.steps[at].reads && self.steps[at].aside);
        let steps = self.steps.iter().enumerate().map(|(at, draft)| {
            let (step, after) = if Some(at) == pivot {
                // Behind everything that it waits for and nothing else of that waits for.
                let last =
                    |one: &usize| !(one + 1..section).any(|other| awaited(other) && after(other, 0).contains(one));
                (Step::pivot(name(at)), (0..section).filter(|one| awaited(*one)).filter(last).collect())
            } else if at < section {
                let step =
                    if draft.reads { Step::read(name(at)) } else { draft.undo(Step::compensatable(name(at)), at) };
                (step, after(at, 0))
            } else {
                let step = if draft.reads { Step::verify(name(at)) } else { Step::retriable(name(at)) };
                let after = after(at, section + 1);
                (step, if after.is_empty() { vec![section] } else { after })
            };
            let args = match (draft.refers, after.first()) {
                (Refers::Before, Some(before)) => json!({"of": output(&name(*before), "/id")}),
                (Refers::Missing, Some(before)) => output(&name(*before), "/nothing"),
                (Refers::Nowhere, _) | (_, None) => Value::Null,
            };
            after.into_iter().fold(draft.kept(step).args(args), |step, before| step.after(name(before)))
        });
        let plan = SagaPlan::graph("random", 1, steps).unwrap();
        self.deadline_ms.into_iter().fold(plan, |plan, ms| plan.deadline(Duration::from_millis(ms)))
    }
}

impl StepDraft {
    fn undo(&self, step: Step, at: usize) -> Step {
        step.undo(if self.undo_refers_to_itself { output(&name(at), "/id") } else { Value::Null })
    }

    fn kept(&self, step: Step) -> Step {
        let tries = Tries { attempts: self.tries, base_ms: 10, cap_ms: 100 };
        let step = step.tries(tries).undo_tries(tries).dedup(self.dedup);
        Step {
            probe: self.probe,
            operator: self.operator || (self.dedup == Dedup::None && !self.probe),
            approval_ms: self.approval_ms,
            ..step
        }
    }
}

fn name(at: usize) -> String {
    format!("s{at}")
}

fn draft() -> impl Strategy<Value = Draft> {
    let approver = prop_oneof![4 => Just(Approver::Approves), 1 => Just(Approver::Denies), 2 => Just(Approver::Sleeps)];
    let order = prop_oneof![
        1 => Just(Order::Oldest),
        1 => Just(Order::Newest),
        6 => any::<u64>().prop_map(Order::Shuffled),
    ];
    (
        prop::collection::vec(step(), 5..=10),
        prop::option::weighted(0.8, 0..10_usize),
        prop::option::weighted(0.2, 5..500_u64),
        approver,
        prop::option::weighted(0.2, 0..80_u64),
        order,
        prop::collection::vec(0..1_000_u64, 0..=3),
    )
        .prop_map(|(steps, pivot, deadline_ms, approver, cancel_after, order, kills)| Draft {
            steps,
            pivot,
            deadline_ms,
            approver,
            cancel_after,
            order,
            kills,
        })
}

fn step() -> impl Strategy<Value = StepDraft> {
    let dedup = prop_oneof![Just(Dedup::None), Just(Dedup::RemoteKey), Just(Dedup::Natural)];
    let refers = prop_oneof![5 => Just(Refers::Nowhere), 4 => Just(Refers::Before), 1 => Just(Refers::Missing)];
    let place = (prop::bool::weighted(0.25), any::<bool>(), any::<u16>(), refers, any::<bool>());
    // Some expire between the answer and the call.
    let approval = prop::option::weighted(0.15, prop_oneof![Just(50_u64), Just(60_000)]);
    let keeps = (dedup, any::<bool>(), prop::bool::weighted(0.3), approval, 1..=3_u32);
    let looks = prop_oneof![4 => Just(Behaviour::Done), 1 => Just(Behaviour::Inconclusive)].boxed();
    (place, keeps, meets(call()), meets(call()), meets(looks)).prop_map(
        |(
            (reads, aside, after, refers, undo_refers_to_itself),
            (dedup, probe, operator, approval_ms, tries),
            does,
            undoes,
            probes,
        )| StepDraft {
            reads,
            aside,
            after,
            dedup,
            probe,
            operator,
            approval_ms,
            tries,
            refers,
            undo_refers_to_itself,
            does,
            undoes,
            probes,
        },
    )
}

/// What one call meets. A panic and a timeout are unknown.
fn call() -> BoxedStrategy<Behaviour> {
    prop_oneof![
        6 => Just(Behaviour::Done),
        2 => Just(Behaviour::Retry),
        1 => Just(Behaviour::Refuse),
        2 => Just(Behaviour::AppliedUnknown),
        2 => Just(Behaviour::NotAppliedUnknown),
        1 => Just(Behaviour::AppliedAsks),
        1 => Just(Behaviour::NotAppliedAsks),
    ]
    .boxed()
}

fn meets(one: BoxedStrategy<Behaviour>) -> impl Strategy<Value = Meets> {
    let first = prop_oneof![2 => Just(Vec::new()), 1 => prop::collection::vec(one.clone(), 1..=3)];
    (first, prop::option::weighted(0.05, one)).prop_map(|(first, always)| Meets { first, always })
}
