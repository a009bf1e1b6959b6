//! The loop: feeds the machine with what happened, and does what comes out of it, in that order.
//!
//! The machine itself holds an effect back until the batch with its intent is committed; the loop has no
//! other way to get at one.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dalsegno_core::{
    Batch, Committed, CorruptJournal, Effect, EffectId, EffectRequest, Explanation, Failure, Input, Machine, Output,
    Query, QueryId, Signal, Timestamp,
};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::executor::{Executor, World};
use crate::live::LastSign;
use crate::ports::{AppendError, Journal, Loaded};
use crate::{crash, journal_log, policy_hash};

/// Inputs that wait for the machine, at most; who brings more waits.
const INBOX: usize = 1_024;
/// Outside requests that wait, at most.
const REQUESTS: usize = 256;
/// How often live agents' signs and the workflow file are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// The machine is asked at least this often.
const IDLE: Duration = Duration::from_secs(60);
/// A difference between two clocks that means a suspend or a jump.
const JUMP_MS: u64 = 5_000;

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
}

/// A question from outside the loop.
#[derive(Debug)]
enum Request {
    Explain { key: String, answer: oneshot::Sender<Option<Explanation>> },
    Refresh { answer: oneshot::Sender<bool> },
}

/// Reaches the loop from other tasks.
#[derive(Debug, Clone)]
pub struct DriverHandle {
    requests: mpsc::Sender<Request>,
    head: watch::Receiver<u64>,
    live: Arc<crate::live::Live>,
}

impl DriverHandle {
    /// Every rule of dispatch for an issue; `None` if it is unknown or the loop has ended.
    pub async fn explain(&self, key: &str) -> Option<Explanation> {
        let (answer, answered) = oneshot::channel();
        self.requests.send(Request::Explain { key: key.to_owned(), answer }).await.ok()?;
        answered.await.ok().flatten()
    }

    /// Wants the tracker read now. `true`: another such wish was waiting already. `None`: the loop has ended.
    pub async fn refresh(&self) -> Option<bool> {
        let (answer, answered) = oneshot::channel();
        self.requests.send(Request::Refresh { answer }).await.ok()?;
        answered.await.ok()
    }

    /// Sequence number of the last committed event; changes with every batch.
    #[must_use]
    pub fn head(&self) -> watch::Receiver<u64> {
        self.head.clone()
    }

    /// What a run's agent did last; `None` when no agent of that run is live.
    #[must_use]
    pub fn last_sign(&self, run: &str) -> Option<LastSign> {
        self.live.last_sign(run)
    }
}

/// The loop with everything that it owns.
pub struct Driver {
    machine: Machine,
    executor: Arc<Executor>,
    journal: Arc<dyn Journal>,
    options: DriverOptions,
    inbox: mpsc::Receiver<Input>,
    inbox_sender: mpsc::Sender<Input>,
    requests: mpsc::Receiver<Request>,
    head: watch::Sender<u64>,
    appended: mpsc::Receiver<Result<Committed, AppendError>>,
    appended_sender: mpsc::Sender<Result<Committed, AppendError>>,
    cancels: BTreeMap<EffectId, CancellationToken>,
    tasks: TaskTracker,
    refreshing: bool,
    draining: bool,
    next_epoch: u64,
    clocks: Clocks,
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
        let clocks = Clocks::new(&world);
        let executor = Arc::new(Executor::new(world, known));
        let handle = DriverHandle { requests: request_sender, head: head_receiver, live: Arc::clone(&executor.live) };
        let driver = Self {
            machine,
            executor,
            journal,
            options,
            inbox,
            inbox_sender,
            requests,
            head,
            appended,
            appended_sender,
            cancels: BTreeMap::new(),
            tasks: TaskTracker::new(),
            refreshing: false,
            draining: false,
            next_epoch,
            clocks,
        };
        Ok((driver, handle))
    }

    /// Runs until it is asked to end, or with `once` until nothing is left to do.
    ///
    /// # Errors
    /// [`DriverError::Append`] when the journal cannot be written; agents have been ended by then.
    pub async fn run(mut self, stop: CancellationToken, stop_now: CancellationToken) -> Result<DriverEnd, DriverError> {
        let version = self.options.version.clone();
        self.feed(Input::Started { epoch: self.next_epoch, version, pid: self.options.pid });
        self.load_workflow();
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut drain_until: Option<tokio::time::Instant> = None;
        let end = loop {
            let due = self.carry_out();
            if self.options.once && self.machine.is_quiet() && self.cancels.is_empty() {
                break DriverEnd::Quiet;
            }
            if self.draining && (self.cancels.is_empty() || stop_now.is_cancelled()) {
                break DriverEnd::Stopped;
            }
            let nap = self.until(due);
            tokio::select! {
                biased;
                Some(appended) = self.appended.recv() => match appended {
                    Ok(committed) => {
                        crash::point("append.after");
                        self.feed(Input::Committed(committed));
                        self.head.send_replace(self.machine.durable());
                    }
                    Err(error) => {
                        self.executor.end_agents().await;
                        return Err(error.into());
                    }
                },
                Some(input) = self.inbox.recv() => self.take(input),
                Some(request) = self.requests.recv() => self.answer(request),
                () = stop.cancelled(), if !self.draining => {
                    let limit_s = self.options.drain_limit.as_secs();
                    tracing::info!(
                        "ending: no new work; up to {limit_s} s for what is under way, or at once when asked again"
                    );
                    self.draining = true;
                    drain_until = Some(tokio::time::Instant::now() + self.options.drain_limit);
                    self.feed(Input::Drain);
                }
                () = stop_now.cancelled(), if self.draining => {}
                () = sleep_until(drain_until), if drain_until.is_some() => break DriverEnd::Stopped,
                _ = look.tick() => self.look(),
                () = tokio::time::sleep(nap) => self.feed(Input::Tick),
            }
        };
        self.finish(end).await?;
        Ok(end)
    }

    fn feed(&mut self, input: Input) {
        let now = self.executor.world().clock.now();
        self.machine.handle(input, now);
    }

    fn take(&mut self, input: Input) {
        if let Input::EffectEnded { id, .. } = &input {
            self.cancels.remove(id);
        }
        if matches!(input, Input::Answered { .. }) {
            self.refreshing = false;
        }
        self.feed(input);
    }

    /// Does everything that the machine wants done now; answers when it wants to be asked again.
    fn carry_out(&mut self) -> Option<Timestamp> {
        loop {
            match self.machine.poll_output() {
                Output::Append(batch) => self.append(batch),
                Output::Perform(request) => self.perform(*request),
                Output::Cancel(id) => {
                    if let Some(cancel) = self.cancels.get(&id) {
                        cancel.cancel();
                    }
                }
                Output::Ask(id, query) => self.ask(id, query),
                Output::Wait(due) => return due,
            }
        }
    }

    fn append(&mut self, batch: Batch) {
        let (journal, appended) = (Arc::clone(&self.journal), self.appended_sender.clone());
        let lines = journal_log::lines(&batch, self.machine.state());
        crash::point("append.before");
        self.tasks.spawn(async move {
            let answer = journal.append(batch).await;
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
        self.tasks.spawn(async move {
            let outcome = executor.perform(request, cancel).await;
            // The loop may have ended; then the effect is in doubt, and recovery settles it.
            let _ = inbox.send(Input::EffectEnded { id, outcome }).await;
        });
    }

    fn ask(&mut self, id: QueryId, query: Query) {
        let (executor, inbox) = (Arc::clone(&self.executor), self.inbox_sender.clone());
        self.tasks.spawn(async move {
            let answer = executor.answer(query).await;
            let _ = inbox.send(Input::Answered { id, answer }).await;
        });
    }

    fn answer(&mut self, request: Request) {
        match request {
            Request::Explain { key, answer } => {
                // Whoever asked may have gone away; then nobody needs the answer.
                let _ = answer.send(self.machine.explain(&key));
            }
            Request::Refresh { answer } => {
                let _ = answer.send(std::mem::replace(&mut self.refreshing, true));
                self.load_workflow_if_changed();
                self.feed(Input::Refresh);
            }
        }
    }

    /// Looks at what changes without telling: clocks, signs of agents, the workflow file.
    fn look(&mut self) {
        if self.clocks.jumped(self.executor.world()) {
            tracing::warn!("the machine was suspended or the clock was set; clocks that measure silence start over");
            self.feed(Input::ClockJumped);
        }
        for (run, usage) in self.executor.live.take() {
            let signal = usage.map_or(Signal::Activity, Signal::Usage);
            self.feed(Input::Signal { run, signal });
        }
        self.load_workflow_if_changed();
    }

    fn load_workflow_if_changed(&mut self) {
        if self.executor.world().workflow.changed() {
            self.load_workflow();
        }
    }

    fn load_workflow(&mut self) {
        match self.executor.world().workflow.load() {
            Ok(policy) => {
                let hash = policy_hash(&policy);
                self.feed(Input::PolicyLoaded { hash, policy: Box::new(policy) });
            }
            Err(failure) => {
                tracing::error!(
                    outcome = "rejected",
                    reason = failure_line(&failure),
                    "WORKFLOW.md is broken; the last good one stays in force, and nothing new starts"
                );
                self.feed(Input::PolicyRejected(failure));
            }
        }
    }

    /// Time until the machine wants to be asked again.
    fn until(&self, due: Option<Timestamp>) -> Duration {
        let now = self.executor.world().clock.now();
        due.map_or(IDLE, |due| Duration::from_millis(due.since_ms(now).max(1))).min(IDLE)
    }

    /// The last words of the journal, then the agents end; what was under way is left to recovery.
    async fn finish(mut self, end: DriverEnd) -> Result<(), DriverError> {
        let reason = match end {
            DriverEnd::Quiet => "nothing is eligible or running",
            DriverEnd::Stopped => "asked to end",
        };
        self.feed(Input::Stopping { reason: reason.to_owned() });
        let result = self.flush().await;
        self.executor.end_agents().await;
        self.inbox.close();
        for cancel in self.cancels.values() {
            cancel.cancel();
        }
        self.tasks.close();
        if tokio::time::timeout(Duration::from_secs(2), self.tasks.wait()).await.is_err() {
            tracing::warn!("something is still under way; the next daemon settles it");
        }
        result
    }

    /// Commits what is decided, and performs nothing more.
    async fn flush(&mut self) -> Result<(), DriverError> {
        loop {
            match self.machine.poll_output() {
                Output::Append(batch) => self.append(batch),
                Output::Perform(_) | Output::Cancel(_) | Output::Ask(..) => {}
                Output::Wait(_) if !self.machine.is_appending() => return Ok(()),
                Output::Wait(_) => match self.appended.recv().await {
                    Some(Ok(committed)) => {
                        self.feed(Input::Committed(committed));
                        self.head.send_replace(self.machine.durable());
                    }
                    Some(Err(error)) => return Err(error.into()),
                    None => return Ok(()),
                },
            }
        }
    }
}

async fn sleep_until(deadline: Option<tokio::time::Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// Three clocks whose difference tells of suspends and of set clocks.
struct Clocks {
    wall: Timestamp,
    boottime_ms: u64,
    monotonic: Instant,
}

impl Clocks {
    fn new(world: &World) -> Self {
        Self { wall: world.clock.now(), boottime_ms: world.clock.boottime_ms(), monotonic: Instant::now() }
    }

    fn jumped(&mut self, world: &World) -> bool {
        let last = std::mem::replace(self, Self::new(world));
        let boot = self.boottime_ms.saturating_sub(last.boottime_ms);
        let awake = u64::try_from(self.monotonic.duration_since(last.monotonic).as_millis()).unwrap_or(u64::MAX);
        let wall = self.wall.0.saturating_sub(last.wall.0);
        let wall_off = wall.abs_diff(i64::try_from(boot).unwrap_or(i64::MAX));
        boot.saturating_sub(awake) > JUMP_MS || wall_off > JUMP_MS
    }
}

/// A failure as one line for logs and errors.
#[must_use]
pub fn failure_line(failure: &Failure) -> String {
    match &failure.hint {
        Some(hint) => format!("{failure} (hint: {hint})"),
        None => failure.to_string(),
    }
}
