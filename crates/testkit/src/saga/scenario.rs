//! What is played: a plan, and what its remotes do with which call.

use std::collections::BTreeMap;
use std::time::Duration;

use dalsegno_durable::saga::plan::Tries;
use dalsegno_durable::saga::{Act, Dedup, Role, SagaPlan, Step, output};
use serde_json::json;

use super::world::Behaviour;

/// How often the answer to an approval comes, and what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Approver {
    /// Yes.
    Approves,
    /// No.
    Denies,
    /// Nothing, the first time; yes when it is asked again.
    Sleeps,
}

/// What comes first where several things may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Each batch is saved at once; of several answers that are there, the oldest comes first.
    Oldest,
    /// The same, and the newest comes first.
    Newest,
    /// This number chooses: answers come in any order, and while a batch is being saved; time passes while calls are under way; and an
    /// operator says any of what is true.
    Shuffled(u64),
}

/// One scenario.
#[derive(Debug, Clone)]
pub struct Scenario {
    /// Its name, for messages.
    pub name: String,
    /// What the saga is to do.
    pub plan: SagaPlan,
    /// What a call meets, by step and what is asked, the first one first; afterwards all is well.
    pub script: BTreeMap<(String, Act), Vec<Behaviour>>,
    /// These meet the same for ever.
    pub always: BTreeMap<(String, Act), Behaviour>,
    /// Who answers approvals.
    pub approver: Approver,
    /// After so many turns of the loop somebody cancels it.
    pub cancel_after: Option<u64>,
    /// What comes first.
    pub order: Order,
}

impl Scenario {
    fn new(name: impl Into<String>, plan: SagaPlan) -> Self {
        Self {
            name: name.into(),
            plan,
            script: BTreeMap::new(),
            always: BTreeMap::new(),
            approver: Approver::Approves,
            cancel_after: None,
            order: Order::Oldest,
        }
    }

    fn meets(mut self, step: &str, act: Act, behaviours: &[Behaviour]) -> Self {
        self.name = format!("{}, {step} {act:?} {behaviours:?}", self.name);
        self.script.insert((step.to_owned(), act), behaviours.to_vec());
        self
    }

    fn always(mut self, step: &str, act: Act, behaviour: Behaviour) -> Self {
        self.name = format!("{}, {step} {act:?} always {behaviour:?}", self.name);
        self.always.insert((step.to_owned(), act), behaviour);
        self
    }
}

const DO: Act = Act::Call(Role::Do);
const UNDO: Act = Act::Call(Role::Undo);

fn quick(attempts: u32) -> Tries {
    Tries { attempts, base_ms: 10, cap_ms: 100 }
}

/// What keeps a step's effect from being there twice.
#[derive(Debug, Clone, Copy)]
enum By {
    Key,
    Nature,
    Probe,
    Operator,
}

const KEPT: [By; 4] = [By::Key, By::Nature, By::Probe, By::Operator];

fn kept(step: Step, by: By) -> Step {
    let step = step.tries(quick(3)).undo_tries(quick(3));
    match by {
        By::Key => step.dedup(Dedup::RemoteKey),
        By::Nature => step.dedup(Dedup::Natural),
        By::Probe => step.probe(),
        By::Operator => step.in_doubt_operator(),
    }
}

fn comp(name: &str, how: By) -> Step {
    kept(Step::compensatable(name), how).undo(json!({"what": name}))
}

/// A look, something that can be undone, the pivot, something that follows.
fn line(how: By) -> SagaPlan {
    plan(SagaPlan::sequence(
        "line",
        1,
        [
            Step::read("look"),
            comp("open", how),
            kept(Step::pivot("publish"), how).args(json!({"of": output("open", "/id")})),
            kept(Step::retriable("tell"), how),
        ],
    ))
}

/// Two that do not wait for each other on either side of the pivot.
fn diamond(how: By) -> SagaPlan {
    plan(SagaPlan::graph(
        "diamond",
        1,
        [
            comp("left", how),
            comp("right", how),
            kept(Step::pivot("publish"), how).after("left").after("right"),
            kept(Step::retriable("tell"), how).after("publish"),
        ],
    ))
}

/// Two that can be undone, one after the other, and no pivot.
fn reversible() -> SagaPlan {
    plan(SagaPlan::sequence(
        "reversible",
        1,
        [
            comp("first", By::Key),
            // Closes what it opened, and so needs to know what that was.
            kept(Step::compensatable("second"), By::Probe).undo(output("second", "/id")),
            comp("third", By::Nature),
        ],
    ))
}

fn approved(how: By) -> SagaPlan {
    plan(SagaPlan::sequence(
        "approved",
        1,
        [
            comp("open", how),
            kept(Step::pivot("publish"), how).approval(Duration::from_secs(60)),
            kept(Step::retriable("tell"), how),
        ],
    ))
}

fn plan(plan: Result<SagaPlan, dalsegno_durable::saga::InvalidPlan>) -> SagaPlan {
    match plan {
        Ok(plan) => plan,
        Err(invalid) => panic!("a plan of the test kit breaks a rule: {invalid}"),
    }
}

/// All scenarios of the walk.
#[must_use]
pub fn scenarios() -> Vec<Scenario> {
    let mut all = Vec::new();
    for how in KEPT {
        let named = |shape: &str| format!("{shape} {how:?}");
        all.push(Scenario::new(named("line"), line(how)));
        all.push(Scenario::new(named("diamond"), diamond(how)));
        for fault in Behaviour::FAULTS {
            for step in ["look", "open", "publish", "tell"] {
                all.push(Scenario::new(named("line"), line(how)).meets(step, DO, &[fault]));
            }
            for step in ["left", "publish"] {
                all.push(Scenario::new(named("diamond"), diamond(how)).meets(step, DO, &[fault]));
            }
            // The other one fails, and this one has to be undone.
            all.push(Scenario::new(named("diamond"), diamond(how)).always("right", DO, Behaviour::Refuse).meets(
                "left",
                DO,
                &[fault],
            ));
            all.push(Scenario::new(named("line"), line(how)).always("publish", DO, Behaviour::Refuse).meets(
                "open",
                UNDO,
                &[fault],
            ));
        }
        for always in [Behaviour::Retry, Behaviour::NotAppliedUnknown, Behaviour::AppliedUnknown] {
            for step in ["open", "publish", "tell"] {
                all.push(Scenario::new(named("line"), line(how)).always(step, DO, always));
            }
        }
        for approver in [Approver::Approves, Approver::Denies, Approver::Sleeps] {
            let name = format!("{}, {approver:?}", named("approved"));
            all.push(Scenario { approver, ..Scenario::new(name, approved(how)) });
        }
        for after in 0..12 {
            let name = format!("{}, canceled after {after}", named("line"));
            all.push(Scenario { cancel_after: Some(after), ..Scenario::new(name, line(how)) });
        }
        let unsure = Scenario::new(named("line"), line(how)).meets("publish", DO, &[Behaviour::AppliedUnknown]);
        all.push(unsure.meets("publish", Act::Probe, &[Behaviour::Inconclusive, Behaviour::Inconclusive]));
        let blind = Scenario::new(named("line"), line(how)).meets("open", DO, &[Behaviour::AppliedUnknown]);
        all.push(blind.always("open", Act::Probe, Behaviour::Inconclusive));
    }
    for step in ["first", "second", "third"] {
        for fault in Behaviour::FAULTS {
            all.push(Scenario::new("reversible", reversible()).meets(step, DO, &[fault]));
        }
        // Its undo never works: an operator has to.
        all.push(Scenario::new("reversible", reversible()).always("third", DO, Behaviour::Refuse).always(
            step,
            UNDO,
            Behaviour::Retry,
        ));
    }
    // Nobody can call what follows the pivot: its arguments are missing.
    let missing = SagaPlan::sequence(
        "missing",
        1,
        [
            kept(Step::pivot("publish"), By::Key),
            kept(Step::retriable("tell"), By::Key).args(output("publish", "/nothing")),
        ],
    );
    all.push(Scenario::new("missing", plan(missing)));
    // A read that was interrupted is looked for, and the saga may end before that tells anything.
    let probed = SagaPlan::sequence("probed", 1, [Step::read("look").probe(), comp("open", By::Key)]);
    all.push(Scenario { cancel_after: Some(0), ..Scenario::new("probed, canceled", plan(probed)) });
    let newest = all.iter().map(|scenario| Scenario {
        order: Order::Newest,
        name: format!("{}, newest first", scenario.name),
        ..scenario.clone()
    });
    let newest: Vec<Scenario> = newest.filter(|scenario| scenario.plan.name == "diamond").collect();
    all.extend(newest);
    all
}
