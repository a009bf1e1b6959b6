//! The loop: feeds the machine with what happened, and does what comes out of it, in that order.
//!
//! The machine itself holds an effect back until the batch with its intent is committed; the loop has no
//! other way to get at one.

use std::collections::{BTreeMap, VecDeque};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use dalsegno_core::{
    ActionAnswer, ActionRequest, Answer, Batch, BudgetLine, Committed, CorruptJournal, Effect, EffectId, EffectRequest,
    Explanation, Failure, Input, Machine, Outcome, Output, Policy, PolicyHash, Query, QueryId, Readiness, Receipt,
    SeenIssues, Timestamp,
};
use dalsegno_durable::EffectHost as _;
use dalsegno_durable::attempt::panic_text;
use futures::FutureExt;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::clocks::Clocks;
use crate::entries::Entries;
use crate::executor::{Executor, World};
use crate::live::{LastSign, RateLimits};
use crate::ports::{AppendError, Journal, Loaded, Workflow};
use crate::{allocator, crash, journal_log, policy_hash};

/// Inputs that wait for the machine, at most; who brings more waits.
const INBOX: usize = 1_024;
/// Outside requests that wait, at most.
const REQUESTS: usize = 256;
/// Receipts that wait for a sync.
const RECEIPTS: usize = 1_024;
/// How often live agents' signs and the workflow file are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How often records of scopes that ended long ago are removed.
const PRUNE_EVERY: Duration = Duration::from_secs(600);
/// The machine is asked at least this often.
const IDLE: Duration = Duration::from_secs(60);
/// Longest wait for the last words to reach the disk.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// Longest wait for canceled effects at the end.
const TASKS_END: Duration = Duration::from_secs(2);

/// What the loop is told at its start.
#[derive(Debug, Clone)]
pub struct DriverOptions {
    /// End when nothing is eligible or running.
    pub once: bool,
    /// Longest wait for what is under way when the daemon is asked to end.
    pub drain_limit: Duration,
    /// Version of the program, for the journal.
    pub version: String,
    /// Process id, for the journal.
    pub pid: u32,
}

/// Why the loop ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DriverEnd {
    /// Nothing was eligible or running any more (`once`).
    Quiet,
    /// It was asked to end.
    Stopped,
}

/// Why the loop cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum DriverError {
    /// The journal cannot be replayed.
    #[error(transparent)]
    Corrupt(#[from] CorruptJournal),
    /// An append failed: nothing may be performed any more. A restart recovers.
    #[error("the journal could not be written, so the daemon ends before it does anything unrecorded: {0}")]
    Append(#[from] AppendError),
    /// The machine broke a rule of its own: nothing more may be decided. The journal is as good as its last batch.
    #[error("a decision failed, so the daemon ends before it does anything that cannot be replayed: {0}")]
    Decision(String),
}

/// What comes to the loop from its own tasks.
#[derive(Debug)]
enum Inward {
    /// Something for the machine.
    Input(Box<Input>),
    /// WORKFLOW.md was looked at; nothing: it is as it was.
    Workflow(Option<Box<Result<Policy, Failure>>>),
    /// The same, for an operator who wants it taken.
    Reload { read: Option<Box<Result<Policy, Failure>>>, caller: u64, request: Box<ActionRequest> },
}

/// A question from outside the loop.
#[derive(Debug)]
enum Request {
    Explain { key: String, answer: oneshot::Sender<Option<Explanation>> },
    Refresh { answer: oneshot::Sender<bool> },
    Act { request: Box<ActionRequest>, answer: oneshot::Sender<ActionAnswer> },
    Receipt { action: String, answer: oneshot::Sender<Option<Receipt>> },
    Budgets { answer: oneshot::Sender<Vec<BudgetLine>> },
    WritesRefused(BTreeMap<String, u64>),
    Policy { hash: Option<PolicyHash>, answer: oneshot::Sender<Option<Arc<Policy>>> },
    Webhook { names: Vec<String>, answer: oneshot::Sender<Option<String>> },
}

/// Reaches the loop from other tasks.
#[derive(Debug, Clone)]
pub struct DriverHandle {
    requests: mpsc::Sender<Request>,
    head: watch::Receiver<u64>,
    readiness: watch::Receiver<Readiness>,
    live: Arc<crate::live::Live>,
}

impl DriverHandle {
    /// Every rule of dispatch for an issue; `None` inside: no issue has this identifier or id. `None` outside: the loop has
    /// ended, and nobody knows.
    pub async fn explain(&self, key: &str) -> Option<Option<Explanation>> {
        let (answer, answered) = oneshot::channel();
        self.requests.send(Request::Explain { key: key.to_owned(), answer }).await.ok()?;
        answered.await.ok()
    }

    /// Wants the tracker read now. `true`: another such wish was waiting already. `None`: the loop has ended.
    pub async fn refresh(&self) -> Option<bool> {
        let (answer, answered) = oneshot::channel();
        self.requests.send(Request::Refresh { answer }).await.ok()?;
        answered.await.ok()
    }

    /// Decides an action; the answer comes when it is durable. `None`: the loop has ended, and nobody knows whether it
    /// was decided before.
    pub async fn act(&self, request: ActionRequest) -> Option<ActionAnswer> {
        let (answer, answered) = oneshot::channel();
        self.requests.send(Request::Act { request: Box::new(request), answer }).await.ok()?;
        answered.await.ok()
    }

    /// The receipt of an action, as long as it is remembered. `None` outside: the loop has ended.
    pub async fn receipt(&self, action: &str) -> Option<Option<Receipt>> {
        let (answer, answered) = oneshot::channel();
        self.requests.send(Request::Receipt { action: action.to_owned(), answer }).await.ok()?;
        answered.await.ok()
    }

    /// Use and limits of the day and the issues. `None`: the loop has ended.
    pub async fn budgets(&self) -> Option<Vec<BudgetLine>> {
        let (answer, answered) = oneshot::channel();
        self.requests.send(Request::Budgets { answer }).await.ok()?;
        answered.await.ok()
    }

    /// Has it journaled that so many writes were refused, by code; nothing when there are none. `None`: the loop has ended.
    pub async fn writes_refused(&self, counts: BTreeMap<String, u64>) -> Option<()> {
        self.requests.send(Request::WritesRefused(counts)).await.ok()
    }

    /// The policy of this hash while a run keeps it, else the one in force; `None` inside: none was loaded. `None` outside: the
    /// loop has ended.
    pub async fn policy(&self, hash: &PolicyHash) -> Option<Option<Arc<Policy>>> {
        self.ask_policy(Some(hash.clone())).await
    }

    /// The policy in force; `None` inside: none was loaded. `None` outside: the loop has ended.
    pub async fn policy_in_force(&self) -> Option<Option<Arc<Policy>>> {
        self.ask_policy(None).await
    }

    async fn ask_policy(&self, hash: Option<PolicyHash>) -> Option<Option<Arc<Policy>>> {
        let (answer, answered) = oneshot::channel();
        self.requests.send(Request::Policy { hash, answer }).await.ok()?;
        answered.await.ok()
    }

    /// Tells of a webhook that was verified, with names of its issue. Answers the identifier of the issue that is looked at alone; `None`
    /// inside: the tracker is read. `None` outside: the loop has ended.
    pub async fn webhook(&self, names: Vec<String>) -> Option<Option<String>> {
        let (answer, answered) = oneshot::channel();
        self.requests.send(Request::Webhook { names, answer }).await.ok()?;
        answered.await.ok()
    }

    /// Sequence number of the last committed event; changes with every batch.
    #[must_use]
    pub fn head(&self) -> watch::Receiver<u64> {
        self.head.clone()
    }

    /// How ready the daemon is, as of the last batch, or the last look outside that changed nothing in the journal; `None`: the loop has ended.
    #[must_use]
    pub fn readiness(&self) -> Option<Readiness> {
        self.readiness.has_changed().is_ok().then(|| self.readiness.borrow().clone())
    }

    /// What a run's agent did last; `None` when no agent of that run is live.
    #[must_use]
    pub fn last_sign(&self, run: &str) -> Option<LastSign> {
        self.live.last_sign(run)
    }

    /// What an agent's provider last said of its quotas.
    #[must_use]
    pub fn rate_limits(&self) -> Option<RateLimits> {
        self.live.rate_limits()
    }
}

/// The loop with everything that it owns.
pub struct Driver {
    machine: Machine,
    /// The machine's open effects, as they are recorded.
    entries: Entries,
    executor: Arc<Executor>,
    journal: Arc<dyn Journal>,
    options: DriverOptions,
    inbox: mpsc::Receiver<Inward>,
    inbox_sender: mpsc::Sender<Inward>,
    requests: mpsc::Receiver<Request>,
    head: watch::Sender<u64>,
    readiness: watch::Sender<Readiness>,
    /// Answers that wait until all is durable that was decided when they were asked for: up to which event.
    receipts: VecDeque<(u64, Option<Receipt>, oneshot::Sender<Option<Receipt>>)>,
    appended: mpsc::Receiver<Result<Committed, AppendError>>,
    appended_sender: mpsc::Sender<Result<Committed, AppendError>>,
    cancels: BTreeMap<EffectId, CancellationToken>,
    /// Who waits for the answer to an action, by caller.
    callers: BTreeMap<u64, oneshot::Sender<ActionAnswer>>,
    last_caller: u64,
    tasks: TaskTracker,
    /// Canceled when the daemon is about to end: handoffs are let go of, and the next daemon takes them up.
    leave: CancellationToken,
    /// Canceled when the loop is no more, whatever ended it: no task outlives it.
    over: CancellationToken,
    _over: DropGuard,
    /// A wish to read the tracker waits for its poll.
    refreshing: bool,
    /// A wish to read the tracker waits for the look at WORKFLOW.md.
    refresh_next: bool,
    /// WORKFLOW.md is being looked at.
    reading: bool,
    draining: bool,
    drain_until: Option<tokio::time::Instant>,
    next_epoch: u64,
    clocks: Clocks,
    /// What the last look at the tracker showed, until it is given back.
    seen: Option<SeenIssues>,
}

impl Driver {
    /// Replays the journal; performs nothing yet.
    ///
    /// # Errors
    /// [`DriverError::Corrupt`] if the journal cannot be replayed.
    pub fn new(
        loaded: Loaded,
        journal: Arc<dyn Journal>,
        world: World,
        options: DriverOptions,
    ) -> Result<(Self, DriverHandle), DriverError> {
        let machine = Machine::replay(loaded.snapshot, loaded.events)?;
        let state = machine.state();
        let known =
            state.issues.values().map(|entry| (entry.issue.id.clone(), entry.issue.identifier.clone())).collect();
        let next_epoch = loaded.epoch.max(state.epoch) + 1;
        let (inbox_sender, inbox) = mpsc::channel(INBOX);
        let (request_sender, requests) = mpsc::channel(REQUESTS);
        let (appended_sender, appended) = mpsc::channel(1);
        let (head, head_receiver) = watch::channel(state.seq);
        let (readiness, readiness_receiver) = watch::channel(machine.readiness().clone());
        let clocks = Clocks::new(Arc::clone(&world.clock), state.at);
        let over = CancellationToken::new();
        let executor = Arc::new(Executor::new(world, known));
        let handle = DriverHandle {
            requests: request_sender,
            head: head_receiver,
            readiness: readiness_receiver,
            live: Arc::clone(&executor.live),
        };
        let entries = Entries::of(machine.state());
        let driver = Self {
            machine,
            entries,
            executor,
            journal,
            options,
            inbox,
            inbox_sender,
            requests,
            head,
            readiness,
            receipts: VecDeque::new(),
            appended,
            appended_sender,
            cancels: BTreeMap::new(),
            callers: BTreeMap::new(),
            last_caller: 0,
            tasks: TaskTracker::new(),
            leave: CancellationToken::new(),
            _over: over.clone().drop_guard(),
            over,
            refreshing: false,
            refresh_next: false,
            reading: false,
            draining: false,
            drain_until: None,
            next_epoch,
            clocks,
            seen: None,
        };
        Ok((driver, handle))
    }

    /// Runs until it is asked to end, or with `once` until nothing is left to do.
    ///
    /// `stop` asks for an end in good order: no new work, and what is under way may end within the limit. `stop_now`
    /// ends without that wait. Either way the agents are ended, and what is under way is left to recovery.
    ///
    /// # Errors
    /// [`DriverError::Append`] when the journal cannot be written, [`DriverError::Decision`] when the machine fails.
    /// Agents have been ended by then.
    pub async fn run(mut self, stop: CancellationToken, stop_now: CancellationToken) -> Result<DriverEnd, DriverError> {
        let result = match self.turn_over(&stop, &stop_now).await {
            Ok(end) => self.last_words(end).await.map(|()| end),
            Err(error) => Err(error),
        };
        self.end_everything().await;
        result
    }

    async fn turn_over(
        &mut self,
        stop: &CancellationToken,
        stop_now: &CancellationToken,
    ) -> Result<DriverEnd, DriverError> {
        // The policy comes before the first look at the tracker, which is judged by it.
        let policy = read_workflow(Arc::clone(&self.executor.world().workflow), false).await;
        let version = self.options.version.clone();
        self.feed(Input::Started { epoch: self.next_epoch, version, pid: self.options.pid })?;
        self.take(Inward::Workflow(policy))?;
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut prune = tokio::time::interval(PRUNE_EVERY);
        prune.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let due = self.carry_out()?;
            let resting = self.cancels.keys().all(|id| self.machine.is_resting(*id));
            if self.options.once && self.machine.is_quiet() && resting {
                if !self.machine.agents_wait() {
                    return Ok(DriverEnd::Quiet);
                }
                self.feed(Input::NobodyAnswers)?;
                continue;
            }
            // While an append is out, the next effect may be about to be performed.
            let idle = resting && !self.machine.is_appending();
            if stop_now.is_cancelled() || (self.draining && idle) {
                return Ok(DriverEnd::Stopped);
            }
            let nap = self.until(due);
            // In this order, because what is rare must not wait for what may come in a flood.
            tokio::select! {
                biased;
                () = stop_now.cancelled() => {}
                () = stop.cancelled(), if !self.draining => {
                    let limit_s = self.options.drain_limit.as_secs();
                    tracing::info!(
                        "ending: no new work; up to {limit_s} s for what is under way, or at once when asked again"
                    );
                    self.draining = true;
                    self.drain_until = Some(tokio::time::Instant::now() + self.options.drain_limit);
                    self.feed(Input::Drain)?;
                }
                () = sleep_until(self.drain_until) => return Ok(DriverEnd::Stopped),
                _ = look.tick() => self.look()?,
                _ = prune.tick() => self.prune(),
                Some(appended) = self.appended.recv() => {
                    crash::point("append.after");
                    self.committed(appended?)?;
                }
                outside = outside(&mut self.inbox, &mut self.requests) => match outside {
                    Outside::Inward(inward) => self.take(inward)?,
                    Outside::Request(request) => self.answer(request)?,
                },
                () = tokio::time::sleep(nap) => self.feed(Input::Tick)?,
            }
        }
    }

    fn feed(&mut self, input: Input) -> Result<(), DriverError> {
        let now = self.clocks.now();
        decide(|| self.machine.handle(input, now))
    }

    fn committed(&mut self, committed: Committed) -> Result<(), DriverError> {
        self.feed(Input::Committed(committed))?;
        let durable = self.machine.durable();
        self.head.send_replace(durable);
        while self.receipts.front().is_some_and(|(decided, _, _)| *decided <= durable) {
            if let Some((_, receipt, answer)) = self.receipts.pop_front() {
                let _ = answer.send(receipt);
            }
        }
        self.tell_readiness();
        Ok(())
    }

    fn tell_readiness(&self) {
        self.readiness.send_if_modified(|told| {
            let changed = *told != *self.machine.readiness();
            if changed {
                told.clone_from(self.machine.readiness());
            }
            changed
        });
    }

    fn take(&mut self, inward: Inward) -> Result<(), DriverError> {
        match inward {
            Inward::Input(input) => {
                if let Input::EffectEnded { id, outcome } = &*input {
                    self.cancels.remove(id);
                    if !matches!(outcome, Outcome::Done { .. }) {
                        // An agent that died in its turn answered no figures; what it had reported comes first.
                        self.look_at_agents()?;
                    }
                }
                if let Input::Answered { answer: Answer::Poll { seen, .. }, .. } = &*input {
                    self.refreshing = false;
                    self.seen = seen.as_ref().ok().cloned();
                }
                let looked = matches!(*input, Input::Answered { answer: Answer::Inspect(_), .. });
                self.feed(*input)?;
                if looked && self.machine.durable() == self.machine.state().seq {
                    // Nothing of it is journaled, so no batch tells it.
                    self.tell_readiness();
                }
                Ok(())
            }
            Inward::Reload { read, caller, request } => {
                self.workflow_read(read)?;
                self.feed(Input::Action { caller, request })
            }
            Inward::Workflow(read) => {
                self.reading = false;
                self.workflow_read(read)?;
                if std::mem::take(&mut self.refresh_next) { self.feed(Input::Refresh) } else { Ok(()) }
            }
        }
    }

    fn workflow_read(&mut self, read: Option<Box<Result<Policy, Failure>>>) -> Result<(), DriverError> {
        match read.map(|read| *read) {
            Some(Ok(policy)) => {
                let hash = policy_hash(&policy);
                self.feed(Input::PolicyLoaded { hash, policy: Box::new(policy) })
            }
            Some(Err(failure)) => {
                tracing::error!(
                    outcome = "rejected",
                    reason = failure_line(&failure),
                    "WORKFLOW.md is broken; the last good one stays in force, and nothing new starts"
                );
                self.feed(Input::PolicyRejected(failure))
            }
            None => Ok(()),
        }
    }

    /// Does everything that the machine wants done now; answers when it wants to be asked again.
    fn carry_out(&mut self) -> Result<Option<Timestamp>, DriverError> {
        loop {
            match decide(|| self.machine.poll_output())? {
                Output::Append(batch) => self.append(batch),
                Output::Perform(request) => self.perform(*request),
                Output::Cancel(id) => {
                    if let Some(cancel) = self.cancels.get(&id) {
                        cancel.cancel();
                    }
                }
                Output::Ask(id, query) => self.ask(id, query),
                Output::Reply { caller, answer } => self.reply(caller, answer),
                Output::Wait(due) => {
                    // When all is written that followed from them.
                    if let Some(seen) = self.seen.take_if(|_| !self.machine.is_appending()) {
                        self.tasks.spawn_blocking(move || allocator::give_back(seen));
                    }
                    return Ok(due);
                }
            }
        }
    }

    /// Starts a task that ends with the loop at the latest.
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let over = self.over.clone();
        self.tasks.spawn(async move {
            // Cut off, its effect is in doubt, as after a crash.
            over.run_until_cancelled(task).await;
        });
    }

    fn append(&mut self, batch: Batch) {
        let entries = self.entries.of_batch(&batch);
        let (journal, appended) = (Arc::clone(&self.journal), self.appended_sender.clone());
        let lines = journal_log::lines(&batch, self.machine.state());
        crash::point("append.before");
        self.spawn(async move {
            let answer = AssertUnwindSafe(journal.append(batch, entries)).catch_unwind().await;
            let answer = answer.unwrap_or_else(|panic| {
                Err(AppendError::Storage(format!("the journal panicked: {}", panic_text(&*panic))))
            });
            if answer.is_ok() {
                lines.iter().for_each(journal_log::Line::log);
            }
            // The loop may have ended; then nobody waits for this answer.
            let _ = appended.send(answer).await;
        });
    }

    fn perform(&mut self, request: EffectRequest) {
        let begins_work = matches!(
            request.effect,
            Effect::Prompt { .. } | Effect::StartSession { .. } | Effect::PrepareWorkspace { .. }
        );
        if self.draining && begins_work {
            // Its intent is journaled; the next daemon finds that it never happened and performs it.
            return;
        }
        let (id, cancel) = (request.id, CancellationToken::new());
        self.cancels.insert(id, cancel.clone());
        let (executor, inbox) = (Arc::clone(&self.executor), self.inbox_sender.clone());
        let leave = self.leave.clone();
        self.spawn(async move {
            let tell = |progress| {
                let moved = Inward::Input(Box::new(Input::SagaMoved { effect: id, progress }));
                // As for the outcome.
                inbox.send(moved).map(|_| ()).boxed()
            };
            let outcome = executor.perform(request, cancel, &leave, &tell).await;
            // The loop may have ended; then the effect is in doubt, and recovery settles it.
            let _ = inbox.send(Inward::Input(Box::new(Input::EffectEnded { id, outcome }))).await;
        });
    }

    /// Whoever asked may have gone away; the answer is in the journal all the same.
    fn reply(&mut self, caller: u64, answer: ActionAnswer) {
        if let Some(waiting) = self.callers.remove(&caller) {
            let _ = waiting.send(answer);
        }
    }

    fn ask(&self, id: QueryId, query: Query) {
        let (executor, inbox) = (Arc::clone(&self.executor), self.inbox_sender.clone());
        self.spawn(async move {
            let answer = executor.answer(query).await;
            let _ = inbox.send(Inward::Input(Box::new(Input::Answered { id, answer }))).await;
        });
    }

    fn answer(&mut self, request: Request) -> Result<(), DriverError> {
        match request {
            Request::Explain { key, answer } => {
                let explanation = decide(|| self.machine.explain(&key))?;
                // Whoever asked may have gone away; then nobody needs the answer.
                let _ = answer.send(explanation);
            }
            Request::Act { request, answer } => {
                self.last_caller += 1;
                self.callers.insert(self.last_caller, answer);
                if request.kind == "reload" {
                    self.reload(self.last_caller, request);
                } else {
                    self.feed(Input::Action { caller: self.last_caller, request })?;
                }
            }
            Request::Receipt { action, answer } => {
                let receipt = decide(|| self.machine.receipt(&action))?;
                // How it ended may be decided, and not durable yet: nobody hears of it before it is.
                let decided = self.machine.state().seq;
                if self.machine.durable() >= decided {
                    let _ = answer.send(receipt);
                } else if self.receipts.len() < RECEIPTS {
                    self.receipts.push_back((decided, receipt, answer));
                }
            }
            Request::Budgets { answer } => {
                let now = self.clocks.now();
                let _ = answer.send(decide(|| self.machine.budgets(now))?);
            }
            Request::WritesRefused(counts) => self.feed(Input::WritesRefused(counts))?,
            Request::Policy { hash, answer } => {
                let state = self.machine.state();
                let kept = hash.and_then(|hash| state.policies.get(&hash).cloned());
                let _ = answer.send(kept.or_else(|| state.policy()));
            }
            Request::Webhook { names, answer } => {
                let looks_at = decide(|| self.machine.looks_at(&names))?;
                self.feed(Input::Webhook { names })?;
                let _ = answer.send(looks_at);
            }
            Request::Refresh { answer } => {
                let _ = answer.send(std::mem::replace(&mut self.refreshing, true));
                // The tracker is read under the workflow as it stands now.
                self.refresh_next = true;
                self.look_at_workflow();
            }
        }
        Ok(())
    }

    fn prune(&self) {
        let effects = self.executor.world().effects.clone();
        self.spawn(async move {
            if let Err(error) = effects.prune().await {
                tracing::warn!(%error, "records of old effects could not be removed; they go the next time");
            }
        });
    }

    /// Looks at what changes without telling: clocks, signs of agents, the workflow file.
    fn look(&mut self) -> Result<(), DriverError> {
        if self.clocks.jumped() {
            tracing::warn!(
                "the machine or this process stood still, or the clock was set; clocks that measure silence start over"
            );
            self.feed(Input::ClockJumped)?;
        }
        self.look_at_agents()?;
        self.look_at_workflow();
        Ok(())
    }

    fn look_at_agents(&mut self) -> Result<(), DriverError> {
        for (run, signal) in self.executor.live.take() {
            self.feed(Input::Signal { run, signal })?;
        }
        Ok(())
    }

    /// One look at a time: a file system that hangs costs one thread.
    fn look_at_workflow(&mut self) {
        if std::mem::replace(&mut self.reading, true) {
            return;
        }
        let (world, inbox) = (self.executor.world().clone(), self.inbox_sender.clone());
        self.spawn(async move {
            let read = read_usable(&world, true).await;
            let _ = inbox.send(Inward::Workflow(read)).await;
        });
    }

    /// An operator means the file as it stands now, whether it was looked at since or not.
    fn reload(&self, caller: u64, request: Box<ActionRequest>) {
        let (world, inbox) = (self.executor.world().clone(), self.inbox_sender.clone());
        self.spawn(async move {
            let read = read_usable(&world, false).await;
            let _ = inbox.send(Inward::Reload { read, caller, request }).await;
        });
    }

    /// Time until the machine wants to be asked again.
    fn until(&mut self, due: Option<Timestamp>) -> Duration {
        let now = self.clocks.now();
        due.map_or(IDLE, |due| Duration::from_millis(due.since_ms(now).max(1))).min(IDLE)
    }

    /// The last words of the journal: what is decided, and why this daemon ends.
    async fn last_words(&mut self, end: DriverEnd) -> Result<(), DriverError> {
        let reason = match end {
            DriverEnd::Quiet => "nothing is eligible or running",
            DriverEnd::Stopped => "asked to end",
        };
        self.feed(Input::Stopping { reason: reason.to_owned() })?;
        let late = || AppendError::Storage(format!("no answer within {LAST_WORDS:?}"));
        tokio::time::timeout(LAST_WORDS, self.flush()).await.unwrap_or_else(|_| Err(late().into()))
    }

    /// Commits what is decided, and performs nothing more.
    async fn flush(&mut self) -> Result<(), DriverError> {
        loop {
            match decide(|| self.machine.poll_output())? {
                Output::Append(batch) => self.append(batch),
                Output::Perform(_) | Output::Cancel(_) | Output::Ask(..) => {}
                Output::Reply { caller, answer } => self.reply(caller, answer),
                Output::Wait(_) if !self.machine.is_appending() => return Ok(()),
                Output::Wait(_) => match self.appended.recv().await {
                    Some(appended) => self.committed(appended?)?,
                    None => return Ok(()),
                },
            }
        }
    }

    /// Cancels what is under way, ends the agents, and sees that no task is left. Bounded. Nothing that comes of it
    /// is recorded: the next daemon settles it.
    async fn end_everything(&mut self) {
        self.inbox.close();
        self.leave.cancel();
        // A handoff is let go of, and not turned back.
        for (_, cancel) in self.cancels.iter().filter(|(id, _)| !self.machine.is_handoff(**id)) {
            cancel.cancel();
        }
        self.executor.end_agents().await;
        self.tasks.close();
        if tokio::time::timeout(TASKS_END, self.tasks.wait()).await.is_err() {
            tracing::warn!("something is still under way; the next daemon settles it");
        }
        self.over.cancel();
        if tokio::time::timeout(TASKS_END, self.tasks.wait()).await.is_err() {
            tracing::warn!("a task of this daemon does not let go");
        }
    }
}

/// What came first.
enum Outside {
    Inward(Inward),
    Request(Request),
}

/// Neither side starves the other. Cancel-safe.
async fn outside(inbox: &mut mpsc::Receiver<Inward>, requests: &mut mpsc::Receiver<Request>) -> Outside {
    tokio::select! {
        Some(inward) = inbox.recv() => Outside::Inward(inward),
        Some(request) = requests.recv() => Outside::Request(request),
        // Nobody is left to ask, and nothing is under way.
        else => std::future::pending().await,
    }
}

/// Asks the machine. It is never touched again after a panic: what it holds then follows from no journal.
fn decide<T>(what: impl FnOnce() -> T) -> Result<T, DriverError> {
    std::panic::catch_unwind(AssertUnwindSafe(what)).map_err(|panic| DriverError::Decision(panic_text(&*panic)))
}

/// Reads WORKFLOW.md away from the async threads: it may lie on a file system that hangs.
async fn read_workflow(workflow: Arc<dyn Workflow>, only_if_changed: bool) -> Option<Box<Result<Policy, Failure>>> {
    let look = move || (!only_if_changed || workflow.changed()).then(|| Box::new(workflow.load()));
    tokio::task::spawn_blocking(look).await.unwrap_or_else(|error| {
        let why = format!("WORKFLOW.md could not be read: {error}");
        let failure = Failure::permanent("workflow_unreadable", why).hint("this is a defect of the daemon; report it");
        Some(Box::new(Err(failure)))
    })
}

/// The same; what would not start a daemon does not replace a policy that works.
async fn read_usable(world: &World, only_if_changed: bool) -> Option<Box<Result<Policy, Failure>>> {
    let read = read_workflow(Arc::clone(&world.workflow), only_if_changed).await;
    if let Some(Ok(policy)) = read.as_deref()
        && let Err(failure) = world.preflight(policy).await
    {
        return Some(Box::new(Err(failure)));
    }
    read
}

async fn sleep_until(deadline: Option<tokio::time::Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// A failure as one line for the log.
fn failure_line(failure: &Failure) -> String {
    match &failure.hint {
        Some(hint) => format!("{failure} (hint: {hint})"),
        None => failure.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_of_the_machine_is_an_error_with_its_words() {
        let failed: Result<(), DriverError> = decide(|| panic!("illegal decision"));
        assert!(matches!(failed, Err(DriverError::Decision(why)) if why == "illegal decision"));
    }
}
