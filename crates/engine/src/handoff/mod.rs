//! The handoff of a run as a saga of the library: [`plan`] says what is to be done, [`steps`] does it, and here it is carried out.

mod plan;
mod steps;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use dalsegno_core::{
    Effect, EffectOutput, EffectRequest, Failure, Outcome, SagaEnd, SagaProgress, SagaWord, SettleVerb,
};
use dalsegno_durable::saga::event::Entry;
use dalsegno_durable::saga::{self, Decision, Saga, SagaError, SagaEvent, SagaHost, SagaPlan, SagaState, Verb};
use serde_json::Value;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::executor::Executor;
use plan::{NAME, VERSION};
pub use plan::{handoff_plan, handoff_progress, left_by_us};
use steps::Steps;

/// Looks for an answer that was given before, until the saga must have recorded it.
const LOOKS: u32 = 10;
/// Wait for a saga to be carried out, before it is asked whether it has ended.
const LOOK_FOR_END: Duration = Duration::from_secs(5);
/// Wait between two of them.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

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
        let steps = Steps::new(Arc::clone(self), Arc::clone(&request));
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
        let (step, by) = (step.as_str(), format!("{by} ({action_id})"));
        let Some((host, saga)) = self.listed(id, &by).await? else {
            return Ok(EffectOutput::SagaTold);
        };
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

impl Executor {
    /// The saga, as soon as it is carried out; `None`: it knows already what this operator said. One that has ended meanwhile will
    /// never be there again.
    async fn listed(&self, id: &str, by: &str) -> Result<Option<(SagaHost, Saga)>, Failure> {
        let mut sagas = self.sagas.subscribe();
        let log = SagaHost::new(self.world().effects.clone());
        loop {
            let listed = sagas.wait_for(|sagas| sagas.contains_key(id));
            match tokio::time::timeout(LOOK_FOR_END, listed).await {
                Ok(Ok(sagas)) => return Ok(sagas.get(id).cloned()),
                Ok(Err(_)) => return Err(Failure::retryable("saga_stopped", "the daemon ends")),
                Err(_) => {}
            }
            let entries = log.entries(id).await.unwrap_or_default();
            if entries.iter().flat_map(|entry| &entry.events).any(|event| said_by(event, by)) {
                return Ok(None);
            }
            if SagaState::replay(id, &entries).is_ok_and(|state| state.end().is_some()) {
                return Err(Failure::permanent("saga_ended", format!("the saga {id} has ended meanwhile")));
            }
        }
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
    let Effect::HandOff { saga, commit, expected, from, pull_request } = &request.effect else {
        return Err(SagaError::Unknown { id: request.key.clone() });
    };
    let Some(policy) = &request.policy.handoff else {
        return Err(SagaError::Unknown { id: saga.clone() });
    };
    Ok(handoff_plan(policy, commit, expected.as_ref(), from.as_deref(), *pull_request)?)
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
