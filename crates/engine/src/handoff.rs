//! The handoff of a run as a saga of the library: its plan, what does its steps, and what of its state the machine is told.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use dalsegno_core::{
    CommitId, Effect, EffectOutput, EffectRequest, Failure, HandoffPolicy, Outcome, ProbeAnswer, SagaEnd, SagaProgress,
    SagaStep, SagaWord, SettleVerb, StepState, Timestamp, state_in,
};
use dalsegno_durable::key::marker;
use dalsegno_durable::saga::event::Entry;
use dalsegno_durable::saga::plan::Tries;
use dalsegno_durable::saga::{
    self, Decision, Dedup, Found, InvalidPlan, Role, Saga, SagaError, SagaEvent, SagaHost, SagaPlan, SagaState, Step,
    StepAnswer, StepCall, StepExecutor, Verb,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::crash;
use crate::executor::Executor;

/// Name of the plans of handoffs.
const NAME: &str = "handoff";
/// Version of the plans that are made now. A step's meaning changes with a new one alone.
const VERSION: u32 = 1;
/// Calls of a step that may not be applied, before it fails or parks: some three minutes.
const TRIES: Tries = Tries { attempts: 8, base_ms: 2_000, cap_ms: 60_000 };
/// Longest push.
const PUSH_LIMIT: Duration = Duration::from_secs(15 * 60);
/// Looks for an answer that was given before, until the saga must have recorded it.
const LOOKS: u32 = 10;
/// Wait between two of them.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// Longest write to the tracker.
const TRACKER_LIMIT: Duration = Duration::from_secs(2 * 60);

/// What is pushed, and from where.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Push {
    commit: CommitId,
    expected: Option<CommitId>,
}

/// What is commented.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Comment {
    commit: CommitId,
    checks: Vec<String>,
}

/// Where the issue is moved.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Move {
    to: String,
    from: Option<String>,
}

/// What the saga of a handoff is to do. The push is the pivot; comment and move hang on it, and not on each other.
///
/// # Errors
/// [`InvalidPlan`] when what is to be handed over does not fit into a plan.
pub fn handoff_plan(
    policy: &HandoffPolicy,
    commit: &CommitId,
    expected: Option<&CommitId>,
    from: Option<&str>,
) -> Result<SagaPlan, InvalidPlan> {
    let push = SagaStep::Push.as_str();
    let tracked = |step: SagaStep, dedup, args| {
        let step = Step::retriable(step.as_str()).after(push).dedup(dedup).probe();
        step.tries(TRIES).limit(TRACKER_LIMIT).args(args)
    };
    let pushed = Push { commit: commit.clone(), expected: expected.cloned() };
    let pivot = Step::pivot(push).dedup(Dedup::Natural).probe().tries(TRIES).limit(PUSH_LIMIT).args(json!(pushed));
    let mut steps = vec![match policy.approval_ms {
        Some(expires) => pivot.approval(Duration::from_millis(expires)),
        None => pivot,
    }];
    if policy.comment.is_some() {
        let args = Comment { commit: commit.clone(), checks: policy.checks.clone() };
        steps.push(tracked(SagaStep::Comment, Dedup::None, json!(args)));
    }
    if let Some(to) = &policy.state {
        let args = Move { to: to.clone(), from: from.map(str::to_owned) };
        steps.push(tracked(SagaStep::Move, Dedup::Natural, json!(args)));
    }
    SagaPlan::graph(NAME, VERSION, steps)
}

/// What the machine is told of a saga whose log has so many entries.
#[must_use]
pub fn handoff_progress(state: &SagaState, entry: u64) -> SagaProgress {
    let steps = state.steps().filter_map(|(step, record)| {
        let named = SagaStep::ALL.into_iter().find(|known| known.as_str() == step.name)?;
        let why = || record.failure.as_ref().map_or_else(String::new, ToString::to_string);
        let at = |at: &dalsegno_durable::Timestamp| Timestamp(at.0);
        Some((
            named,
            match &record.state {
                saga::StepState::Pending => StepState::Pending,
                saga::StepState::AwaitingApproval { fingerprint, expires_at } => {
                    StepState::AwaitingApproval { fingerprint: fingerprint.clone(), expires_at: at(expires_at) }
                }
                saga::StepState::Open(Role::Do) => StepState::Intended,
                saga::StepState::Resting(Role::Do, due) => {
                    StepState::Waiting { failures: record.failures, due_at: at(due) }
                }
                saga::StepState::InDoubt(Role::Do, due) => StepState::InDoubt { due_at: at(due) },
                saga::StepState::Open(Role::Undo)
                | saga::StepState::Resting(Role::Undo, _)
                | saga::StepState::InDoubt(Role::Undo, _) => StepState::Undoing,
                saga::StepState::Done => StepState::Done,
                saga::StepState::NotApplied => StepState::NotApplied { reason: why() },
                saga::StepState::Undone => StepState::Undone,
                saga::StepState::Skipped => StepState::Skipped,
                saga::StepState::Parked(_) => StepState::Parked { reason: why() },
            },
        ))
    });
    let moved = state.step(SagaStep::Move.as_str()).and_then(|(_, record)| {
        let output = record.output.as_ref()?;
        output.get("state").and_then(Value::as_str).map(str::to_owned)
    });
    let turned_back = state.turned_back().map(|failure| Failure::permanent(&failure.code, failure.message.as_str()));
    SagaProgress { entry, steps: steps.collect(), turned_back, moved }
}

/// Tells the machine how far a handoff is.
pub(crate) type Tell<'a> = &'a (dyn Fn(SagaProgress) -> futures::future::BoxFuture<'a, ()> + Send + Sync);

/// Whoever tells the saga something finds it here, as long as it is carried out.
struct Listed<'a>(&'a Executor, &'a str);

impl<'a> Listed<'a> {
    fn new(executor: &'a Executor, id: &'a str, host: &SagaHost, saga: &Saga) -> Self {
        let entry = (host.clone(), saga.clone());
        executor.sagas.send_modify(|sagas| drop(sagas.insert(id.to_owned(), entry)));
        Self(executor, id)
    }
}

impl Drop for Listed<'_> {
    fn drop(&mut self) {
        self.0.sagas.send_modify(|sagas| drop(sagas.remove(self.1)));
    }
}

/// Lets go of the saga when its handoff is not waited for any more: what of it is under way is in doubt, as after a crash.
struct LetGo(SagaHost);

impl Drop for LetGo {
    fn drop(&mut self) {
        self.0.let_go();
    }
}

/// One handoff under way.
struct Delivery<'a> {
    saga: Saga,
    log: Arc<Log>,
    /// So many entries were told to the machine.
    told: usize,
    tell: Tell<'a>,
}

/// All that is recorded of a saga. The tries of its steps are bounded, and so is this.
#[derive(Default)]
struct Log {
    entries: Mutex<Vec<Entry>>,
    length: watch::Sender<usize>,
}

impl Log {
    fn push(&self, entry: Entry) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.push(entry);
        self.length.send_replace(entries.len());
    }

    /// The first so many, if there are as many.
    fn first(&self, length: usize) -> Option<Vec<Entry>> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.get(..length).map(<[Entry]>::to_vec)
    }
}

impl Executor {
    /// Runs the saga of a handoff to its end: from the beginning, or from where it is recorded to be. `cancel` turns it back, if it
    /// still can be; `leave` lets go of it.
    pub(crate) async fn hand_off(
        self: &Arc<Self>,
        request: Arc<EffectRequest>,
        cancel: &CancellationToken,
        leave: &CancellationToken,
        tell: Tell<'_>,
    ) -> Outcome {
        let Effect::HandOff { saga: id, .. } = &request.effect else {
            return failed(Failure::permanent("no_handoff", "this effect is no handoff"));
        };
        let log = Arc::new(Log::default());
        let recorded = Arc::clone(&log);
        let host = SagaHost::observed(self.world().effects.clone(), move |_, entry| recorded.push(entry.clone()));
        let steps = Steps { executor: Arc::clone(self), request: Arc::clone(&request), body: Mutex::default() };
        host.register(NAME, 1..=VERSION, Arc::new(steps));
        let let_go = LetGo(host);
        let host = &let_go.0;
        let taken_up = async {
            // Before it is taken up: what is recorded from then on is heard.
            match host.entries(id).await {
                Err(SagaError::Unknown { .. }) => {}
                entries => entries?.into_iter().for_each(|entry| log.push(entry)),
            }
            let saga = match host.resume(id.as_str()).await {
                Err(SagaError::Unknown { .. }) if request.unwanted || cancel.is_cancelled() => return Ok(None),
                Err(SagaError::Unknown { .. }) => host.start(id.as_str(), plan_of(&request)?).await?,
                saga => saga?,
            };
            Ok(Some(saga))
        };
        let outcome = match taken_up.await {
            Ok(Some(saga)) => {
                let _listed = Listed::new(self, id, host, &saga);
                let mut delivery = Delivery { saga, log: Arc::clone(&log), told: 0, tell };
                tokio::select! {
                    biased;
                    () = leave.cancelled() => Outcome::InDoubt { reason: "the daemon ends".to_owned() },
                    outcome = delivery.go(cancel) => outcome,
                }
            }
            Ok(None) => failed(Failure::retryable("canceled", "given up before it began")),
            Err(error) => not_run(&error),
        };
        host.stop().await;
        outcome
    }
}

impl Executor {
    /// Tells the saga of a handoff what an operator says. Told again after a crash, it is found to know.
    pub(crate) async fn tell_saga(&self, effect: &Effect) -> Result<EffectOutput, Failure> {
        let Effect::TellSaga { saga: id, step, word, by, why, action_id, correlation_id: _ } = effect else {
            return Err(Failure::permanent("no_saga", "this effect tells no saga"));
        };
        let mut sagas = self.sagas.subscribe();
        let held = sagas.wait_for(|sagas| sagas.contains_key(id)).await;
        let held = held.ok().and_then(|sagas| sagas.get(id).cloned());
        let Some((host, saga)) = held else {
            return Err(Failure::retryable("saga_stopped", "the daemon ends"));
        };
        let (step, by) = (step.as_str(), format!("{by} ({action_id})"));
        let told = match word {
            SagaWord::Approve { fingerprint } => {
                host.decide(id, step, fingerprint, &Decision::Approve { by: by.clone() }).await
            }
            SagaWord::Deny { fingerprint } => {
                let decision = Decision::Deny { by: by.clone(), why: why.clone() };
                host.decide(id, step, fingerprint, &decision).await
            }
            SagaWord::Settle { verb } => saga.settle(step, verb_of(*verb), &by, why, Value::Null).await.map(|()| true),
        };
        // Told before a crash, or somebody else was faster.
        let failure = match told {
            Ok(true) => return Ok(EffectOutput::SagaTold),
            Ok(false) => Failure::permanent("no_open_question", "somebody else answered first"),
            Err(error) => Failure::permanent(error.code(), error.to_string()),
        };
        for _ in 0..LOOKS {
            let entries = host.entries(id).await.unwrap_or_default();
            if entries.iter().flat_map(|entry| &entry.events).any(|event| said_by(event, &by)) {
                return Ok(EffectOutput::SagaTold);
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        Err(failure)
    }
}

fn verb_of(verb: SettleVerb) -> Verb {
    match verb {
        SettleVerb::Applied => Verb::Applied,
        SettleVerb::NotApplied => Verb::NotApplied,
        SettleVerb::Retry => Verb::Retry,
        SettleVerb::Undone => Verb::Undone,
        SettleVerb::Skip => Verb::Skip,
    }
}

/// Whether the event is what this operator said.
fn said_by(event: &SagaEvent, operator: &str) -> bool {
    match event {
        SagaEvent::Approved { by, .. } | SagaEvent::Denied { by, .. } | SagaEvent::Settled { by, .. } => by == operator,
        SagaEvent::Begun { .. }
        | SagaEvent::ApprovalAsked { .. }
        | SagaEvent::ApprovalExpired { .. }
        | SagaEvent::Intended { .. }
        | SagaEvent::Done { .. }
        | SagaEvent::NotApplied { .. }
        | SagaEvent::InDoubt { .. }
        | SagaEvent::Probed { .. }
        | SagaEvent::Parked { .. }
        | SagaEvent::TurnedBack { .. }
        | SagaEvent::Rested
        | SagaEvent::Ended { .. } => false,
    }
}

impl Delivery<'_> {
    async fn go(&mut self, cancel: &CancellationToken) -> Outcome {
        let mut canceled = false;
        let mut length = self.log.length.subscribe();
        loop {
            if let Err(error) = self.catch_up().await {
                return not_run(&error);
            }
            let told = self.told;
            let step = tokio::select! {
                biased;
                () = grows(&mut length, told) => Ok(()),
                () = cancel.cancelled(), if !canceled => {
                    canceled = true;
                    match self.saga.cancel("dalsegno", "the run is going to end").await {
                        // Too late: the saga goes on, and its end tells.
                        Ok(_) | Err(SagaError::Refused(_)) => Ok(()),
                        Err(error) => Err(error),
                    }
                }
                end = self.saga.ended() => match end {
                    // Nobody writes after the end: what is there is all.
                    Ok(end) => match self.catch_up().await {
                        Ok(()) => return Outcome::Done { output: EffectOutput::HandedOff { end: end_of(end) } },
                        Err(error) => Err(error),
                    },
                    Err(error) => Err(error),
                },
            };
            if let Err(error) = step {
                return not_run(&error);
            }
        }
    }

    /// Tells what was not told yet, one entry after the other; from the first on, when it is taken up: what was heard before, the
    /// machine knows by its number.
    async fn catch_up(&mut self) -> Result<(), SagaError> {
        while let Some(entries) = self.log.first(self.told + 1) {
            let state = SagaState::replay(self.saga.id(), &entries)?;
            self.told += 1;
            (self.tell)(handoff_progress(&state, self.told as u64)).await;
        }
        Ok(())
    }
}

/// Waits until there are more than these. The sender is the log's, which outlives the wait.
async fn grows(length: &mut watch::Receiver<usize>, than: usize) {
    let _ = length.wait_for(|length| *length > than).await;
}

fn plan_of(request: &EffectRequest) -> Result<SagaPlan, SagaError> {
    let Effect::HandOff { saga, commit, expected, from } = &request.effect else {
        return Err(SagaError::Unknown { id: request.key.clone() });
    };
    let Some(policy) = &request.policy.handoff else {
        return Err(SagaError::Unknown { id: saga.clone() });
    };
    Ok(handoff_plan(policy, commit, expected.as_ref(), from.as_deref())?)
}

fn failed(failure: Failure) -> Outcome {
    Outcome::Failed { failure }
}

/// A saga that does not go on here. What the store did not tell is not known; anything else needs somebody.
fn not_run(error: &SagaError) -> Outcome {
    match error {
        SagaError::Durable(_) | SagaError::Stopped { .. } => Outcome::InDoubt { reason: error.to_string() },
        SagaError::Plan(_)
        | SagaError::Exists { .. }
        | SagaError::UnknownVersion { .. }
        | SagaError::Damaged(_)
        | SagaError::Unknown { .. }
        | SagaError::Refused(_)
        | SagaError::NoQuestion { .. } => failed(Failure::permanent(error.code(), error.to_string())),
    }
}

fn end_of(end: saga::SagaEnd) -> SagaEnd {
    match end {
        saga::SagaEnd::Committed => SagaEnd::Committed,
        saga::SagaEnd::Compensated => SagaEnd::Compensated,
        saga::SagaEnd::Abandoned => SagaEnd::Abandoned,
    }
}

/// Does the steps of one handoff.
struct Steps {
    executor: Arc<Executor>,
    request: Arc<EffectRequest>,
    /// The comment, rendered once.
    body: Mutex<Option<String>>,
}

#[async_trait]
impl StepExecutor for Steps {
    async fn act(&self, call: StepCall) -> StepAnswer {
        crash::point(&format!("handoff.{}.before", call.step));
        let answer = self.try_step(&call).await.unwrap_or_else(|failure| refused(&failure));
        crash::point(&format!("handoff.{}.after", call.step));
        answer
    }

    async fn probe(&self, call: StepCall) -> Found {
        self.look(&call).await.unwrap_or_else(|failure| Found::Inconclusive { failure: told(&failure) })
    }
}

impl Steps {
    /// Does a step. An error: it certainly did not take place, and never will.
    async fn try_step(&self, call: &StepCall) -> Result<StepAnswer, Failure> {
        match step_of(call)? {
            SagaStep::Push => {
                let Push { commit, expected } = args_of(call)?;
                let context = self.executor.context(&self.request, &call.cancel)?;
                let pushed = self.executor.world().workspaces.push(&context, &commit, expected.as_ref()).await;
                // A push that was cut may have arrived.
                Ok(done_or(pushed.map(|()| Value::Null), |failure| StepAnswer::Unknown(told(failure))))
            }
            SagaStep::Comment => {
                let Comment { commit, checks } = args_of(call)?;
                let body = self.body(&commit, &checks)?;
                let tracker = self.executor.tracker(&self.request.policy)?;
                let mark = marker(&self.executor.world().secret, &call.idempotency_key);
                let issue = &self.request.issue.id;
                let Err(failure) = tracker.comment(issue, &body, &mark).await else {
                    return Ok(StepAnswer::Done(Value::Null));
                };
                // A tracker says `retryable` when it wrote nothing for certain; anything else has to be looked at.
                Ok(match failure.retryable {
                    true => retried(&failure),
                    false => match tracker.has_comment(issue, &mark).await {
                        Ok(true) => StepAnswer::Done(Value::Null),
                        Ok(false) => refused(&failure),
                        Err(_) => StepAnswer::Unknown(told(&failure)),
                    },
                })
            }
            SagaStep::Move => {
                let Move { to, from: _ } = args_of(call)?;
                let terminal = &self.request.policy.tracker.terminal_states;
                let tracker = self.executor.tracker(&self.request.policy)?;
                let moved = tracker.transition(&self.request.issue.id, &to, terminal).await;
                Ok(done_or(moved.map(|state| json!({"state": state})), retried))
            }
        }
    }

    async fn look(&self, call: &StepCall) -> Result<Found, Failure> {
        let found = match step_of(call)? {
            SagaStep::Push => {
                let Push { commit, .. } = args_of(call)?;
                let context = self.executor.context(&self.request, &call.cancel)?;
                self.executor.world().workspaces.probe_push(&context, &commit).await
            }
            SagaStep::Comment => {
                let mark = marker(&self.executor.world().secret, &call.idempotency_key);
                let tracker = self.executor.tracker(&self.request.policy)?;
                match tracker.has_comment(&self.request.issue.id, &mark).await? {
                    true => return Ok(Found::Applied { output: Value::Null }),
                    false => ProbeAnswer::NotApplied,
                }
            }
            SagaStep::Move => {
                let Move { to, from } = args_of(call)?;
                let found = self.executor.probe_move(&self.request, &to, from.as_deref()).await?;
                left_by_us(found, &to, &self.request.policy.tracker.terminal_states)
            }
        };
        Ok(match found {
            ProbeAnswer::Applied(EffectOutput::Moved { state }) => Found::Applied { output: json!({"state": state}) },
            ProbeAnswer::Applied(_) => Found::Applied { output: Value::Null },
            ProbeAnswer::NotApplied => Found::NotApplied,
            ProbeAnswer::Inconclusive(failure) => Found::Inconclusive { failure: told(&failure) },
        })
    }

    fn body(&self, commit: &CommitId, checks: &[String]) -> Result<String, Failure> {
        let mut body = self.body.lock().unwrap_or_else(PoisonError::into_inner);
        if body.is_none() {
            *body = Some(self.executor.comment_body(&self.request, commit, checks)?);
        }
        Ok(body.clone().unwrap_or_default())
    }
}

/// A move in doubt whose issue is somewhere else now took place, or never will: somebody went on with it. Ours is the state that we
/// moved it to, and what the tracker says beyond that is somebody else's change, which the next poll takes in.
#[must_use]
pub fn left_by_us(found: ProbeAnswer, to: &str, terminal: &[String]) -> ProbeAnswer {
    match found {
        ProbeAnswer::Applied(EffectOutput::Moved { state }) if !state_in(&state, terminal) => {
            ProbeAnswer::Applied(EffectOutput::Moved { state: to.to_owned() })
        }
        found @ (ProbeAnswer::Applied(_) | ProbeAnswer::NotApplied | ProbeAnswer::Inconclusive(_)) => found,
    }
}

fn step_of(call: &StepCall) -> Result<SagaStep, Failure> {
    let known = SagaStep::ALL.into_iter().find(|step| step.as_str() == call.step);
    known.ok_or_else(|| Failure::permanent("unknown_step", format!("a handoff has no step {}", call.step)))
}

fn args_of<T: serde::de::DeserializeOwned>(call: &StepCall) -> Result<T, Failure> {
    T::deserialize(&call.args).map_err(|error| {
        let why = format!("what {} is called with cannot be understood: {error}", call.step);
        Failure::permanent("step_arguments", why)
    })
}

fn done_or(result: Result<Value, Failure>, retryable: impl Fn(&Failure) -> StepAnswer) -> StepAnswer {
    match result {
        Ok(output) => StepAnswer::Done(output),
        Err(failure) if failure.retryable => retryable(&failure),
        Err(failure) => refused(&failure),
    }
}

fn retried(failure: &Failure) -> StepAnswer {
    StepAnswer::NotApplied { failure: told(failure), retryable: true }
}

fn refused(failure: &Failure) -> StepAnswer {
    StepAnswer::NotApplied { failure: told(failure), retryable: false }
}

/// A failure for the record, with what to do about it.
fn told(failure: &Failure) -> saga::Failure {
    let hint = failure.hint.as_ref().map_or_else(String::new, |hint| format!(" ({hint})"));
    saga::Failure::new(failure.code.clone(), format!("{}{hint}", failure.message))
}
