//! What every store of durable effects must do for sagas, and what an executor may count on.
//!
//! ```
//! mod memory {
//!     use dalsegno_durable::{MemoryStore, key::Secret};
//!
//!     dalsegno_testkit::saga_conformance!(MemoryStore::new(Secret::new([7; 32])));
//! }
//! ```
#![allow(clippy::unwrap_used, clippy::panic, reason = "a conformance suite fails by panicking")]

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use dalsegno_durable::saga::plan::Tries;
use dalsegno_durable::saga::{
    Decision, Dedup, Failure, Found, Rest, SagaEnd, SagaError, SagaEvent, SagaHost, SagaPlan, Step, StepAnswer,
    StepCall, StepExecutor, Verb, output,
};
use dalsegno_durable::store::{Claim, Write};
use dalsegno_durable::{DurableStore, EffectRecord, ExecutionScope, StoredHost};
use futures::future::BoxFuture;
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::durable::Stores;
use crate::durable::{Faults, FaultyStore, Moment, StoreCall};

/// Makes every case a test: `saga_conformance!(expression_that_makes_stores)`, on an empty database each.
#[macro_export]
macro_rules! saga_conformance {
    ($make:expr) => {
        $crate::saga_conformance!(@ $make;
            committed_with_outputs_of_earlier_steps,
            started_once_whoever_asks,
            outcome_is_durable_before_it_is_told,
            nothing_is_called_after_a_failed_append,
            taken_up_while_it_stops_it_is_run_once,
            stale_owner_neither_records_nor_calls,
            panics_and_endless_calls_are_unknown,
            independent_steps_run_side_by_side,
            keys_are_the_same_in_every_process,
            approval_survives_a_crash,
            denied_it_turns_backward,
            nested_saga_is_one_for_a_step_and_generation,
            nested_saga_is_undone_with_its_parent,
            bad_sagas_hold_up_no_other,
            failing_undo_parks_and_is_settled,
            canceled_before_the_pivot_and_not_after,
        );
    };
    (@ $make:expr; $($case:ident),+ $(,)?) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                let scene = $crate::conformance::sagas::Scene::new($make);
                let case = $crate::conformance::sagas::$case(&scene);
                $crate::conformance::durable::within(stringify!($case), case).await;
            }
        )+
    };
}

/// A database, and hosts over it.
pub struct Scene<S> {
    stores: S,
    faults: Arc<Faults>,
    /// For every store that was opened: fires when it is gone.
    opened: Mutex<Vec<CancellationToken>>,
}

impl<S: Stores> Scene<S> {
    /// On the database that `stores` opens.
    pub fn new(stores: S) -> Self {
        Self { stores, faults: Arc::default(), opened: Mutex::default() }
    }

    async fn store(&self) -> Arc<dyn DurableStore> {
        let store = Arc::new(FaultyStore::new(self.stores.open().await, Arc::clone(&self.faults)));
        self.opened.lock().unwrap_or_else(PoisonError::into_inner).push(store.gone());
        store
    }

    /// The end of a process: nothing of it is left, and what it had is free.
    async fn kill(&self, host: SagaHost) {
        host.stop().await;
        drop(host);
        let opened = std::mem::take(&mut *self.opened.lock().unwrap_or_else(PoisonError::into_inner));
        for store in opened {
            store.cancelled().await;
        }
    }

    /// A host as in a process of its own.
    async fn host(&self, shop: &Arc<Shop>) -> SagaHost {
        let host = SagaHost::new(StoredHost::new(self.store().await));
        let shop: Arc<dyn StepExecutor> = Arc::clone(shop) as _;
        host.register("order", 1..=1, shop);
        host
    }
}

/// What was called, in order: `do reserve`, `undo reserve`, `probe reserve`, with generation, attempt and key.
type Called = (String, u32, u32, String);
type Reaction = dyn Fn(&str, StepCall) -> Option<BoxFuture<'static, StepAnswer>> + Send + Sync;

/// An executor that does everything well, but what it was told to do otherwise.
struct Shop {
    calls: Mutex<Vec<Called>>,
    reaction: Box<Reaction>,
    stands: Mutex<Vec<String>>,
}

impl Shop {
    fn well() -> Arc<Self> {
        Self::with(|_, _| None)
    }

    fn with(
        reaction: impl Fn(&str, StepCall) -> Option<BoxFuture<'static, StepAnswer>> + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self { calls: Mutex::default(), reaction: Box::new(reaction), stands: Mutex::default() })
    }

    fn note(&self, what: &str, call: &StepCall) {
        let called = (what.to_owned(), call.generation, call.attempt, call.idempotency_key.clone());
        self.calls.lock().unwrap_or_else(PoisonError::into_inner).push(called);
    }

    fn calls(&self) -> Vec<Called> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn names(&self) -> Vec<String> {
        self.calls().into_iter().map(|(name, ..)| name).collect()
    }

    fn stands(&self) -> std::sync::MutexGuard<'_, Vec<String>> {
        self.stands.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl StepExecutor for Shop {
    async fn act(&self, call: StepCall) -> StepAnswer {
        let what = format!("do {}", call.step);
        self.note(&what, &call);
        if let Some(told) = (self.reaction)(&what, call.clone()) {
            return told.await;
        }
        self.stands().push(call.step.clone());
        StepAnswer::Done(json!({"id": format!("{}-id", call.step), "args": call.args}))
    }

    async fn undo(&self, call: StepCall) -> StepAnswer {
        let what = format!("undo {}", call.step);
        self.note(&what, &call);
        if let Some(told) = (self.reaction)(&what, call.clone()) {
            return told.await;
        }
        self.stands().retain(|step| *step != call.step);
        StepAnswer::Done(Value::Null)
    }

    async fn probe(&self, call: StepCall) -> Found {
        self.note(&format!("probe {}", call.step), &call);
        if self.stands().contains(&call.step) {
            return Found::Applied { output: json!({"id": format!("{}-id", call.step)}) };
        }
        Found::NotApplied
    }
}

fn quick() -> Tries {
    Tries { attempts: 2, base_ms: 1, cap_ms: 1 }
}

fn reserve(name: &str) -> Step {
    Step::compensatable(name).dedup(Dedup::RemoteKey).undo(json!({"what": name})).tries(quick()).undo_tries(quick())
}

fn pay() -> Step {
    Step::pivot("pay").dedup(Dedup::RemoteKey).tries(quick())
}

fn ship() -> Step {
    Step::retriable("ship").dedup(Dedup::Natural).tries(quick())
}

fn order() -> SagaPlan {
    let pay = pay().args(json!({"for": output("reserve", "/id")}));
    SagaPlan::sequence("order", 1, [reserve("reserve"), pay, ship()]).unwrap()
}

fn refuse(code: &'static str) -> Option<BoxFuture<'static, StepAnswer>> {
    Some(Box::pin(async move { StepAnswer::refused(code, "no") }))
}

fn hang() -> Option<BoxFuture<'static, StepAnswer>> {
    Some(Box::pin(std::future::pending()))
}

fn code<T: std::fmt::Debug>(told: Result<T, SagaError>) -> String {
    told.unwrap_err().code().to_owned()
}

/// All steps are done in their order, with the outputs that they refer to.
pub async fn committed_with_outputs_of_earlier_steps<S: Stores>(scene: &Scene<S>) {
    let shop = Shop::well();
    let host = scene.host(&shop).await;
    let saga = host.start("o", order()).await.unwrap();
    assert_eq!(saga.ended().await.unwrap(), SagaEnd::Committed);
    assert_eq!(shop.names(), ["do reserve", "do pay", "do ship"]);
    let entries = host.entries("o").await.unwrap();
    let mut done = entries.iter().flat_map(|entry| &entry.events);
    let paid = done.find_map(|event| {
        if let SagaEvent::Done { step, output, .. } = event { (step == "pay").then(|| output.clone()) } else { None }
    });
    assert_eq!(paid.unwrap()["args"], json!({"for": "reserve-id"}));
    assert_eq!(host.view("o").await.unwrap().state, "committed");
}

/// A second start of the same is the same saga, also when it is over; of something else, it is refused.
pub async fn started_once_whoever_asks<S: Stores>(scene: &Scene<S>) {
    let shop = Shop::well();
    let host = scene.host(&shop).await;
    let (one, two) = tokio::join!(host.start("o", order()), host.start("o", order()));
    assert_eq!(one.unwrap().ended().await.unwrap(), SagaEnd::Committed);
    assert_eq!(two.unwrap().ended().await.unwrap(), SagaEnd::Committed);
    assert_eq!(host.start("o", order()).await.unwrap().ended().await.unwrap(), SagaEnd::Committed);
    assert_eq!(shop.calls().len(), 3);
    let other = SagaPlan::sequence("order", 1, [pay()]).unwrap();
    assert_eq!(code(host.start("o", other).await), "saga_exists");
    assert_eq!(code(host.resume("never").await), "saga_unknown");
    assert_eq!(code(host.start("o", order()).await.unwrap().cancel("ann", "late").await), "saga_ended");
}

/// Whoever waits hears of the end when it is recorded.
pub async fn outcome_is_durable_before_it_is_told<S: Stores>(scene: &Scene<S>) {
    let shop = Shop::well();
    let host = scene.host(&shop).await;
    let hold = scene.faults.hold_next(StoreCall::End, Moment::Before);
    let saga = host.start("o", order()).await.unwrap();
    hold.reached().await;
    assert!(futures::FutureExt::now_or_never(saga.ended()).is_none());
    hold.release();
    assert_eq!(saga.ended().await.unwrap(), SagaEnd::Committed);
}

/// An append that failed, or whose answer was lost, is the last thing that happens: nothing is called until the saga is taken up again.
pub async fn nothing_is_called_after_a_failed_append<S: Stores>(scene: &Scene<S>) {
    for (round, moment) in [Moment::Before, Moment::After].into_iter().enumerate() {
        let shop = Shop::well();
        let host = scene.host(&shop).await;
        let id = format!("first-{round}");
        scene.faults.fail_next(StoreCall::Intend, moment);
        assert_eq!(code(host.start(&id, order()).await), "durable_store_failed");
        assert_eq!(shop.calls().len(), 0);
        assert_eq!(host.start(&id, order()).await.unwrap().ended().await.unwrap(), SagaEnd::Committed);
        scene.kill(host).await;

        // The answer of the second step cannot be recorded: the third is not called.
        let faults = Arc::clone(&scene.faults);
        let shop = Shop::with(move |what, _| {
            if what == "do pay" {
                faults.fail_next(StoreCall::Intend, moment);
            }
            None
        });
        let host = scene.host(&shop).await;
        let id = format!("second-{round}");
        let saga = host.start(&id, order()).await.unwrap();
        assert_eq!(code(saga.ended().await), "durable_store_failed");
        assert_eq!(shop.names(), ["do reserve", "do pay"]);
        scene.kill(host).await;
        let shop = Shop::well();
        let host = scene.host(&shop).await;
        assert_eq!(host.resume(&id).await.unwrap().ended().await.unwrap(), SagaEnd::Committed);
        let again = if moment == Moment::Before { vec!["do pay", "do ship"] } else { vec!["do ship"] };
        assert_eq!(shop.names(), again, "{moment:?}");
        scene.kill(host).await;
    }
}

/// Whoever takes a saga up at the moment at which it stops never runs it beside somebody else: nobody loses it.
pub async fn taken_up_while_it_stops_it_is_run_once<S: Stores>(scene: &Scene<S>) {
    for round in 0..20 {
        let faults = Arc::clone(&scene.faults);
        let stops = Mutex::new(5);
        let shop = Shop::with(move |what, _| {
            let mut stops = stops.lock().unwrap();
            if what == "do pay" && *stops > 0 {
                *stops -= 1;
                faults.fail_next(StoreCall::Intend, Moment::Before);
            }
            None
        });
        let host = scene.host(&shop).await;
        let id = format!("o-{round}");
        host.start(&id, order()).await.unwrap();
        let eager = (0..8).map(|_| {
            let (host, id) = (host.clone(), id.clone());
            tokio::spawn(async move {
                loop {
                    let ended = match host.resume(&id).await {
                        Ok(saga) => saga.ended().await,
                        Err(error) => Err(error),
                    };
                    match ended {
                        Ok(end) => break end,
                        Err(error) => assert_eq!(error.code(), "durable_store_failed", "{error}"),
                    }
                }
            })
        });
        for ended in futures::future::join_all(eager).await {
            assert_eq!(ended.unwrap(), SagaEnd::Committed);
        }
        let names = shop.names();
        assert_eq!((names.len(), names.last().map(String::as_str)), (8, Some("do ship")), "{names:?}");
        scene.kill(host).await;
    }
}

/// An owner from which the saga was taken records nothing, and calls nothing more.
pub async fn stale_owner_neither_records_nor_calls<S: Stores>(scene: &Scene<S>) {
    let gate = Arc::new((Semaphore::new(0), Semaphore::new(0)));
    let held = Arc::clone(&gate);
    let shop = Shop::with(move |what, _| {
        let held = Arc::clone(&held);
        (what == "do reserve").then(|| -> BoxFuture<'static, StepAnswer> {
            Box::pin(async move {
                held.0.add_permits(1);
                let _ = held.1.acquire().await;
                StepAnswer::Done(json!({"id": 1}))
            })
        })
    });
    let host = scene.host(&shop).await;
    let saga = host.start("o", order()).await.unwrap();
    gate.0.acquire().await.unwrap().forget();
    let other = scene.store().await;
    let taken = other.open(&ExecutionScope::saga("o"), Claim::TakeOver).await.unwrap();
    gate.1.add_permits(1);
    assert_eq!(code(saga.ended().await), "lease_lost");
    assert_eq!(shop.names(), ["do reserve"]);
    let now = other.load(taken.lease).await.unwrap();
    assert_eq!(now.effects.len(), taken.effects.len());
}

/// Neither hangs: the world is asked, and what it says is recorded.
pub async fn panics_and_endless_calls_are_unknown<S: Stores>(scene: &Scene<S>) {
    let shop = Shop::with(|what, call| match (what, call.attempt) {
        ("do reserve", 1) => Some(Box::pin(async { panic!("planted") })),
        ("do pay", 1) => hang(),
        _ => None,
    });
    let host = scene.host(&shop).await;
    let steps = [reserve("reserve").dedup(Dedup::None).probe(), pay().limit(Duration::from_millis(20)), ship()];
    let saga = host.start("o", SagaPlan::sequence("order", 1, steps).unwrap()).await.unwrap();
    assert_eq!(saga.ended().await.unwrap(), SagaEnd::Committed);
    let calls: Vec<(String, u32, u32)> =
        shop.calls().into_iter().map(|(name, generation, attempt, _)| (name, generation, attempt)).collect();
    let expected = [
        ("do reserve", 1, 1),
        ("probe reserve", 1, 1),
        // Shown not to have been applied: another generation.
        ("do reserve", 2, 2),
        ("do pay", 1, 1),
        ("do pay", 1, 2),
        ("do ship", 1, 1),
    ];
    assert_eq!(calls, expected.map(|(name, generation, attempt)| (name.to_owned(), generation, attempt)));
}

/// Steps that do not wait for each other are under way at once.
pub async fn independent_steps_run_side_by_side<S: Stores>(scene: &Scene<S>) {
    let both = Arc::new(tokio::sync::Barrier::new(2));
    let shop = Shop::with(move |what, _| {
        let both = Arc::clone(&both);
        (what == "do left" || what == "do right").then(|| -> BoxFuture<'static, StepAnswer> {
            Box::pin(async move {
                both.wait().await;
                StepAnswer::Done(Value::Null)
            })
        })
    });
    let host = scene.host(&shop).await;
    let plan = SagaPlan::graph("order", 1, [reserve("left"), reserve("right"), pay().after("left").after("right")]);
    assert_eq!(host.start("o", plan.unwrap()).await.unwrap().ended().await.unwrap(), SagaEnd::Committed);
}

/// A call that a crash cut off is made again under its key; the other step's and the undo's are others.
pub async fn keys_are_the_same_in_every_process<S: Stores>(scene: &Scene<S>) {
    let first = Shop::with(|what, _| if what == "do pay" { hang() } else { None });
    let host = scene.host(&first).await;
    host.start("o", order()).await.unwrap();
    while first.calls().len() < 2 {
        tokio::task::yield_now().await;
    }
    scene.kill(host).await;
    let second = Shop::with(|what, _| if what == "do pay" { refuse("broke") } else { None });
    let host = scene.host(&second).await;
    let saga = host.resume("o").await.unwrap();
    // The first call of it may have been applied, and nothing says that it was not.
    assert_eq!(saga.rest().await.unwrap(), Rest::Parked);
    saga.settle("pay", Verb::NotApplied, "ann", "looked", Value::Null).await.unwrap();
    assert_eq!(saga.ended().await.unwrap(), SagaEnd::Compensated);
    let (first, second) = (first.calls(), second.calls());
    let names: Vec<&str> = second.iter().map(|(name, ..)| name.as_str()).collect();
    assert_eq!(names, ["do pay", "do pay", "undo reserve"]);
    assert_eq!(first[1].3, second[0].3, "one generation, one key");
    let mut keys: Vec<&String> = [&first[0], &second[0], &second[1], &second[2]].map(|call| &call.3).to_vec();
    keys.sort_unstable();
    keys.dedup();
    assert_eq!(keys.len(), 4, "every other call has another one");
}

fn approved() -> SagaPlan {
    SagaPlan::sequence("order", 1, [reserve("reserve"), pay().approval(Duration::from_secs(3_600)), ship()]).unwrap()
}

async fn asked(host: &SagaHost) -> String {
    loop {
        let view = host.view("o").await.unwrap();
        let question = view.steps.into_iter().find_map(|step| step.approval);
        if let Some(question) = question {
            return question.fingerprint;
        }
        tokio::task::yield_now().await;
    }
}

/// An approval that was given while nobody ran the saga counts, and one for something else does not.
pub async fn approval_survives_a_crash<S: Stores>(scene: &Scene<S>) {
    let shop = Shop::well();
    let host = scene.host(&shop).await;
    host.start("o", approved()).await.unwrap();
    let fingerprint = asked(&host).await;
    scene.kill(host).await;
    let host = scene.host(&shop).await;
    let yes = Decision::Approve { by: "ann".to_owned() };
    assert_eq!(code(host.decide("o", "pay", "something else", &yes).await), "approval_unknown");
    assert!(host.decide("o", "pay", &fingerprint, &yes).await.unwrap());
    assert!(!host.decide("o", "pay", &fingerprint, &yes).await.unwrap(), "the first answer stays");
    assert_eq!(shop.names(), ["do reserve"]);
    scene.kill(host).await;
    let host = scene.host(&shop).await;
    assert_eq!(host.resume("o").await.unwrap().ended().await.unwrap(), SagaEnd::Committed);
    assert_eq!(shop.names(), ["do reserve", "do pay", "do ship"]);
}

/// A refusal undoes what was done.
pub async fn denied_it_turns_backward<S: Stores>(scene: &Scene<S>) {
    let shop = Shop::well();
    let host = scene.host(&shop).await;
    let saga = host.start("o", approved()).await.unwrap();
    let fingerprint = asked(&host).await;
    let no = Decision::Deny { by: "ann".to_owned(), why: "too dear".to_owned() };
    assert!(host.decide("o", "pay", &fingerprint, &no).await.unwrap());
    assert_eq!(saga.ended().await.unwrap(), SagaEnd::Compensated);
    assert_eq!(shop.names(), ["do reserve", "undo reserve"]);
    let why = host.view("o").await.unwrap().turned_back.unwrap();
    assert_eq!(why.code, "approval_denied");
    assert!(why.message.contains("too dear"), "{why}");
}

fn parent(child: SagaPlan) -> SagaPlan {
    let within = Step::compensatable("within").saga(child).undo(Value::Null).tries(quick()).undo_tries(quick());
    SagaPlan::sequence("order", 1, [within, pay()]).unwrap()
}

/// A crash in the middle of it finds the same child again.
pub async fn nested_saga_is_one_for_a_step_and_generation<S: Stores>(scene: &Scene<S>) {
    let child = SagaPlan::sequence("order", 1, [reserve("one"), reserve("two")]).unwrap();
    let shop = Shop::with(|what, _| if what == "do two" { hang() } else { None });
    let host = scene.host(&shop).await;
    host.start("o", parent(child.clone())).await.unwrap();
    while !shop.names().contains(&"do two".to_owned()) {
        tokio::task::yield_now().await;
    }
    scene.kill(host).await;
    let second = Shop::well();
    let host = scene.host(&second).await;
    let resumed = host.resume_all().await.unwrap();
    let mut ids: Vec<&str> = resumed.iter().map(|resumed| resumed.id.as_str()).collect();
    ids.sort_unstable();
    assert_eq!(ids, ["o", "o/within/1"]);
    assert_eq!(host.start("o", parent(child)).await.unwrap().ended().await.unwrap(), SagaEnd::Committed);
    assert_eq!(second.names(), ["do two", "do pay"]);
    assert_eq!(host.view("o/within/1").await.unwrap().state, "committed");
    assert_eq!(host.view("o").await.unwrap().steps[0].saga.as_deref(), Some("o/within/1"));
}

/// A child that cannot go on is undone, and its parent with it.
pub async fn nested_saga_is_undone_with_its_parent<S: Stores>(scene: &Scene<S>) {
    let child = SagaPlan::sequence("order", 1, [reserve("one"), reserve("two")]).unwrap();
    let shop = Shop::with(|what, _| if what == "do two" { refuse("sold_out") } else { None });
    let host = scene.host(&shop).await;
    let saga = host.start("o", parent(child)).await.unwrap();
    assert_eq!(saga.ended().await.unwrap(), SagaEnd::Compensated);
    assert_eq!(shop.names(), ["do one", "do two", "undo one"]);
    assert_eq!(host.view("o/within/1").await.unwrap().state, "compensated");
}

/// Damaged, of a version that nobody knows, parked: the others go on.
pub async fn bad_sagas_hold_up_no_other<S: Stores>(scene: &Scene<S>) {
    let stuck = Shop::with(|what, _| if what == "do reserve" { hang() } else { None });
    let host = scene.host(&stuck).await;
    let shop: Arc<dyn StepExecutor> = Arc::clone(&stuck) as _;
    host.register("old", 7..=7, shop);
    for id in ["damaged", "good-1", "good-2", "parked"] {
        let plan = if id == "parked" {
            let steps = [reserve("reserve").dedup(Dedup::None).in_doubt_operator(), pay()];
            SagaPlan::sequence("order", 1, steps).unwrap()
        } else {
            order()
        };
        host.start(id, plan).await.unwrap();
    }
    let old = SagaPlan { name: "old".to_owned(), version: 7, ..order() };
    host.start("of-old", old).await.unwrap();
    while stuck.calls().len() < 5 {
        tokio::task::yield_now().await;
    }
    scene.kill(host).await;
    {
        let store = scene.store().await;
        let opened = store.open(&ExecutionScope::saga("damaged"), Claim::IfFree).await.unwrap();
        let (_, first) = opened.effects.into_iter().next().unwrap();
        let forged = EffectRecord { replay_key: "00000009".to_owned(), ..first };
        store.write(opened.lease, Write::Intend(forged)).await.unwrap();
    }
    let shop = Shop::well();
    let host = scene.host(&shop).await;
    let mut told = Vec::new();
    for resumed in host.resume_all().await.unwrap() {
        let what = match resumed.saga {
            Ok(saga) => match saga.rest().await.unwrap() {
                Rest::Ended(end) => end.as_str().to_owned(),
                Rest::Parked => "parked".to_owned(),
            },
            Err(error) => error.code().to_owned(),
        };
        told.push((resumed.id, what));
    }
    told.sort_unstable();
    let expected = [
        ("damaged", "saga_damaged"),
        ("good-1", "committed"),
        ("good-2", "committed"),
        ("of-old", "saga_version_unknown"),
        ("parked", "parked"),
    ];
    assert_eq!(told, expected.map(|(id, what)| (id.to_owned(), what.to_owned())));
    assert_eq!(code(host.view("damaged").await), "saga_damaged");
}

/// It parks its step, what does not depend on it goes on, and an operator ends it.
pub async fn failing_undo_parks_and_is_settled<S: Stores>(scene: &Scene<S>) {
    let shop = Shop::with(|what, _| match what {
        "do pay" => refuse("broke"),
        "undo left" => Some(Box::pin(async { StepAnswer::retry("busy", "later") })),
        _ => None,
    });
    let host = scene.host(&shop).await;
    let plan = SagaPlan::graph("order", 1, [reserve("left"), reserve("right"), pay().after("left").after("right")]);
    let saga = host.start("o", plan.unwrap()).await.unwrap();
    assert_eq!(saga.rest().await.unwrap(), Rest::Parked);
    let view = saga.view().await.unwrap();
    let states: Vec<(&str, &str)> = view.steps.iter().map(|step| (step.name.as_str(), step.state.as_str())).collect();
    assert_eq!(states, [("left", "parked"), ("right", "undone"), ("pay", "not_applied")]);
    assert_eq!(view.parked(), ["left: busy: later"]);
    assert_eq!(shop.names().iter().filter(|name| *name == "undo left").count(), 2, "as often as its tries");
    assert_eq!(code(saga.settle("right", Verb::Undone, "ann", "x", Value::Null).await), "not_parked");
    saga.settle("left", Verb::Undone, "ann", "by hand", Value::Null).await.unwrap();
    assert_eq!(saga.ended().await.unwrap(), SagaEnd::Compensated);
}

/// Before the pivot's intent a cancel undoes it; afterwards it is too late, and is told so.
pub async fn canceled_before_the_pivot_and_not_after<S: Stores>(scene: &Scene<S>) {
    let shop = Shop::with(|what, call| {
        (what == "do reserve").then(|| -> BoxFuture<'static, StepAnswer> {
            Box::pin(async move {
                call.cancel.cancelled().await;
                StepAnswer::Unknown(Failure::new("interrupted", "it was told to stop"))
            })
        })
    });
    let host = scene.host(&shop).await;
    let saga = host.start("o", order()).await.unwrap();
    assert!(saga.cancel("ann", "changed her mind").await.unwrap());
    assert_eq!(saga.ended().await.unwrap(), SagaEnd::Compensated);
    // Nobody knows what it did: its undo finds out.
    assert_eq!(shop.names(), ["do reserve", "undo reserve"]);
    scene.kill(host).await;
    let late = Shop::with(|what, _| if what == "do pay" { hang() } else { None });
    let host = scene.host(&late).await;
    let saga = host.start("p", order()).await.unwrap();
    while late.calls().len() < 2 {
        tokio::task::yield_now().await;
    }
    assert_eq!(code(saga.cancel("ann", "too late").await), "too_late");
    scene.kill(host).await;
}
