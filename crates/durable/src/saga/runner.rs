//! One saga that is run: performs what its machine asks for, and saves before it performs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::future::{BoxFuture, FutureExt as _, OptionFuture};
use futures::stream::FuturesUnordered;
use serde_json::Value;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::error::SagaError;
use super::event::{Failure, Found, Role, SagaEnd, SagaEvent};
use super::executor::{StepCall, StepExecutor};
use super::hold::{Command, Saga, Told};
use super::host::{Inner, child_id, identity, key};
use super::log::record;
use super::machine::{Act, Decision, Question, Request, SagaMachine, StepAnswer, Unsaved};
use super::plan::SagaPlan;
use super::state::SagaState;
use super::view::SagaView;
use crate::attempt::{Ended, attempt};
use crate::error::DurableError;
use crate::scope::ExecutionScope;
use crate::store::{Lease, StoreError, Write};
use crate::stored::scope_error;
use crate::wait::{Resolution, WaitAddress};

/// What ended of what was under way.
enum Happened {
    Answered {
        step: String,
        role: Role,
        answer: StepAnswer,
    },
    Probed {
        step: String,
        found: Found,
    },
    Decided {
        question: Question,
        decision: Decision,
    },
    /// The wait for an approval cannot go on.
    Lost(DurableError),
}

/// The reply to an operator, for when what was asked is recorded.
type Reply = Box<dyn FnOnce() + Send>;

/// Requests of operators to one saga that wait for their turn.
const COMMANDS: usize = 64;

/// One saga that is run.
pub(super) struct Runner {
    inner: Arc<Inner>,
    scope: ExecutionScope,
    key: String,
    lease: Lease,
    /// Entries in the store.
    written: u64,
    executor: Arc<dyn StepExecutor>,
    machine: SagaMachine,
    asked: mpsc::Receiver<Command>,
    /// For when what is pending is saved.
    replies: Vec<Reply>,
    tell: watch::Sender<Told>,
    under_way: FuturesUnordered<BoxFuture<'static, Happened>>,
    tokens: BTreeMap<(String, Act), CancellationToken>,
    questions: BTreeSet<Question>,
    saving: Option<Saving>,
}

/// A batch on its way into the store.
struct Saving {
    batch: Unsaved,
    end: Option<SagaEnd>,
    rests: bool,
    replies: Vec<Reply>,
    written: BoxFuture<'static, Result<(), StoreError>>,
}

impl Runner {
    /// With a hold for those who started it.
    pub(super) fn new(
        inner: Arc<Inner>,
        machine: SagaMachine,
        scope: ExecutionScope,
        lease: Lease,
        written: u64,
        executor: Arc<dyn StepExecutor>,
    ) -> (Saga, Self) {
        let (commands, asked) = mpsc::channel(COMMANDS);
        let (tell, told) = watch::channel(Told::default());
        let saga = Saga { id: machine.id().to_owned(), commands, told };
        let runner = Self {
            inner,
            key: scope.key(),
            scope,
            lease,
            written,
            executor,
            machine,
            asked,
            replies: Vec::new(),
            tell,
            under_way: FuturesUnordered::new(),
            tokens: BTreeMap::new(),
            questions: BTreeSet::new(),
            saving: None,
        };
        (saga, runner)
    }

    /// Saves what there is to save, so that the saga is recorded when it is answered for.
    pub(super) async fn begin(&mut self) -> Result<(), SagaError> {
        self.save();
        let Some(saving) = &mut self.saving else { return Ok(()) };
        let written = (&mut saving.written).await;
        self.finish(written)
    }

    /// Whoever asks from now on finds a closed door, and takes it up again.
    pub(super) fn close(&mut self, stopped: Option<SagaError>, wanted: bool) {
        self.asked.close();
        if let Some(error) = stopped {
            if !wanted {
                tracing::warn!(saga = self.machine.id(), code = error.code(), %error, "a saga stopped in this process");
            }
            self.tell.send_modify(|told| told.stopped = Some(Arc::new(error)));
        }
    }

    /// Runs it to its end.
    pub(super) async fn go(&mut self) -> Result<(), SagaError> {
        let clock = self.inner.host.clock();
        loop {
            self.save();
            if self.tell.borrow().end.is_some() {
                return Ok(());
            }
            self.ask_questions();
            let due = self.machine.due().map(|due| clock.until(due));
            tokio::select! {
                biased;
                written = OptionFuture::from(self.saving.as_mut().map(|saving| &mut saving.written)), if self.saving.is_some() => {
                    self.finish(written.unwrap_or(Ok(())))?;
                }
                Some(happened) = self.under_way.next(), if !self.under_way.is_empty() => {
                    self.happened(happened)?;
                    // Whatever else is there by now shares the batch.
                    while let Some(Some(happened)) = self.under_way.next().now_or_never() {
                        self.happened(happened)?;
                    }
                }
                Some(command) = self.asked.recv() => self.command(command),
                Some(()) = OptionFuture::from(due) => self.machine.wake(self.inner.host.now()),
            }
            if let Some(why) = self.machine.broken() {
                return Err(SagaError::Stopped { id: self.machine.id().to_owned(), why: why.to_owned() });
            }
        }
    }

    /// Begins to save what is new, if nothing is being saved.
    fn save(&mut self) {
        if self.saving.is_some() {
            return;
        }
        let Some(batch) = self.machine.batch() else {
            // What was asked changed nothing.
            self.replies.drain(..).for_each(|reply| reply());
            return;
        };
        let state = self.machine.state();
        let (end, rests) = (state.end(), state.is_resting());
        let store = Arc::clone(self.inner.store());
        let (lease, now) = (self.lease, self.inner.host.now());
        let written: BoxFuture<'static, Result<(), StoreError>> = if batch.entry().events.is_empty() {
            std::future::ready(Ok(())).boxed()
        } else {
            match record(self.written + 1, batch.entry()) {
                Ok(record) => async move {
                    let write = store.write(lease, Write::Intend(record));
                    if end.is_some() {
                        // The store does the second after the first, and one sync is enough for both.
                        let (written, ended) = futures::join!(write, store.end(lease, now));
                        return written.and(ended);
                    }
                    write.await.map(|_| ())
                }
                .boxed(),
                Err(error) => std::future::ready(Err(StoreError::Failed(error.to_string()))).boxed(),
            }
        };
        let replies = std::mem::take(&mut self.replies);
        self.saving = Some(Saving { batch, end, rests, replies, written });
    }

    /// The batch is in the store, or nobody knows: then nothing more is called.
    fn finish(&mut self, written: Result<(), StoreError>) -> Result<(), SagaError> {
        let Some(saving) = self.saving.take() else { return Ok(()) };
        if let Err(error) = written {
            self.tokens.values().for_each(CancellationToken::cancel);
            return Err(scope_error(&self.scope, error).into());
        }
        let entry = saving.batch.entry();
        if !entry.events.is_empty() {
            self.written += 1;
            if let Some(observer) = &self.inner.observer {
                observer(self.machine.id(), entry);
            }
            if entry.events.iter().any(|event| matches!(event, SagaEvent::TurnedBack { .. })) {
                // Nothing of what is still being done is wanted any more.
                let doing = self.tokens.iter().filter(|((_, act), _)| *act == Act::Call(Role::Do));
                doing.for_each(|(_, token)| token.cancel());
            }
        }
        for request in self.machine.calls(saving.batch.saved()) {
            self.perform(request);
        }
        saving.replies.into_iter().for_each(|reply| reply());
        self.tell.send_if_modified(|told| {
            let changed = (told.end, told.rests) != (saving.end, saving.rests);
            (told.end, told.rests) = (saving.end, saving.rests);
            changed
        });
        Ok(())
    }

    fn happened(&mut self, happened: Happened) -> Result<(), SagaError> {
        let now = self.inner.host.now();
        match happened {
            Happened::Answered { step, role, answer } => {
                self.machine.answered(&step, role, answer, now);
                self.tokens.remove(&(step, Act::Call(role)));
            }
            Happened::Probed { step, found } => {
                self.machine.probed(&step, found, now);
                self.tokens.remove(&(step, Act::Probe));
            }
            Happened::Decided { question, decision } => {
                self.machine.decided(&question.step, &question.fingerprint, decision, now);
            }
            Happened::Lost(error) => return Err(error.into()),
        }
        Ok(())
    }

    fn command(&mut self, command: Command) {
        let now = self.inner.host.now();
        match command {
            Command::Cancel { by, why, reply } => {
                let answer = self.machine.cancel(&by, &why, now).map_err(SagaError::from);
                self.reply(reply, answer);
            }
            Command::Settle { step, verb, by, why, output, reply } => {
                let answer = self.machine.settle(&step, verb, (&by, &why), output, now).map_err(SagaError::from);
                self.reply(reply, answer);
            }
            Command::View { reply } => {
                let secret = self.inner.store().secret();
                let view = SagaView::with_keys(self.machine.id(), self.machine.state(), secret);
                self.reply(reply, view);
            }
        }
    }

    /// Nobody hears of a change before it is recorded.
    fn reply<T: Send + 'static>(&mut self, reply: oneshot::Sender<T>, answer: T) {
        self.replies.push(Box::new(move || {
            // Whoever asked may have gone.
            let _ = reply.send(answer);
        }));
    }

    fn ask_questions(&mut self) {
        // Not before it is recorded that they are asked.
        if self.saving.is_some() {
            return;
        }
        for question in self.machine.questions() {
            if self.questions.insert(question.clone()) {
                self.under_way.push(Self::wait_for(Arc::clone(&self.inner), self.scope.clone(), question));
            }
        }
    }

    fn wait_for(inner: Arc<Inner>, scope: ExecutionScope, question: Question) -> BoxFuture<'static, Happened> {
        async move {
            let address = WaitAddress { scope, identity: identity(&question) };
            let ended = inner.host.wait_at(&address, question.expires_at).await;
            let decision = match ended {
                Ok(Resolution::Answered { payload }) => decision_of(&payload),
                Ok(Resolution::Timeout | Resolution::Canceled) => Decision::Expired,
                Err(error) => return Happened::Lost(error),
            };
            Happened::Decided { question, decision }
        }
        .boxed()
    }

    fn perform(&mut self, request: Request) {
        let Request { step, act, generation, attempt, args, limit } = request;
        let role = if let Act::Call(role) = act { role } else { Role::Do };
        let cancel = CancellationToken::new();
        self.tokens.insert((step.clone(), act), cancel.clone());
        let plan = self.machine.state().step(&step).and_then(|(step, _)| step.saga.clone());
        if let (Some(plan), Act::Call(Role::Do)) = (plan, act) {
            let id = child_id(self.machine.id(), &step, generation);
            let child = child(Arc::clone(&self.inner), id, *plan, cancel);
            self.under_way.push(async move { Happened::Answered { step, role, answer: child.await } }.boxed());
            return;
        }
        let call = StepCall {
            saga: self.machine.id().to_owned(),
            step: step.clone(),
            generation,
            attempt,
            args,
            idempotency_key: key(self.inner.store().secret(), &self.key, &step, role, generation),
            deadline: limit.map(|limit| self.inner.host.now().after(limit)),
            epoch: self.lease.epoch,
            cancel: cancel.clone(),
        };
        let executor = Arc::clone(&self.executor);
        self.under_way.push(
            async move {
                match act {
                    Act::Call(role) => {
                        let tried = async {
                            match role {
                                Role::Do => executor.act(call).await,
                                Role::Undo => executor.undo(call).await,
                            }
                        };
                        let answer = match attempt_call(tried, limit, &cancel).await {
                            Ok(answer) => answer,
                            Err(failure) => StepAnswer::Unknown(failure),
                        };
                        Happened::Answered { step, role, answer }
                    }
                    Act::Probe => {
                        let looked = async { executor.probe(call).await };
                        let found = match attempt_call(looked, limit, &cancel).await {
                            Ok(found) => found,
                            Err(failure) => Found::Inconclusive { failure },
                        };
                        Happened::Probed { step, found }
                    }
                }
            }
            .boxed(),
        );
    }
}

async fn attempt_call<T>(
    tried: impl Future<Output = T>,
    limit: Option<Duration>,
    cancel: &CancellationToken,
) -> Result<T, Failure> {
    match attempt(tried, limit, cancel).await {
        Ended::Answered(answer) => Ok(answer),
        Ended::InDoubt(doubt) => Err(Failure::new("no_answer", doubt.to_string())),
    }
}

/// The saga that does a step.
async fn child(inner: Arc<Inner>, id: String, plan: SagaPlan, cancel: CancellationToken) -> StepAnswer {
    let saga = match inner.clone().take(id.clone(), Some(plan)).await {
        Ok(saga) => saga,
        Err(SagaError::Durable(error)) => return StepAnswer::unknown(error.code(), error.to_string()),
        Err(error @ SagaError::Stopped { .. }) => return StepAnswer::unknown(error.code(), error.to_string()),
        Err(error) => return StepAnswer::NeedsOperator(Failure::new(error.code(), error.to_string())),
    };
    let end = tokio::select! {
        biased;
        end = saga.ended() => end,
        () = cancel.cancelled() => {
            // Too late is as good: its end tells.
            let asked = saga.cancel("parent", "the saga that it belongs to turned backward").await;
            if let Err(error) = asked && !matches!(error, SagaError::Refused(_)) {
                return StepAnswer::unknown(error.code(), error.to_string());
            }
            saga.ended().await
        }
    };
    match end {
        Ok(SagaEnd::Committed) => {
            match inner.look(&id).await.and_then(|(_, entries)| Ok(SagaState::replay(&id, &entries)?)) {
                Ok(state) => {
                    let outputs =
                        state.steps().filter_map(|(step, record)| Some((step.name.clone(), record.output.clone()?)));
                    StepAnswer::Done(Value::Object(outputs.collect()))
                }
                Err(error) => StepAnswer::unknown(error.code(), error.to_string()),
            }
        }
        Ok(SagaEnd::Compensated) => StepAnswer::refused("saga_compensated", format!("saga {id} was undone")),
        Ok(SagaEnd::Abandoned) => {
            StepAnswer::NeedsOperator(Failure::new("saga_abandoned", format!("saga {id} was left as it is")))
        }
        Err(error) => StepAnswer::unknown(error.code(), error.to_string()),
    }
}

fn decision_of(payload: &Value) -> Decision {
    let text = |name: &str| payload.get(name).and_then(Value::as_str).unwrap_or("somebody").to_owned();
    match payload.get("decision").and_then(Value::as_str) {
        Some("approve") => Decision::Approve { by: text("by") },
        // An answer that cannot be understood is no approval.
        _ => Decision::Deny { by: text("by"), why: text("why") },
    }
}
