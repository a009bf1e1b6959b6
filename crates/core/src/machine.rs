//! The machine: what happened goes in, what is to be done comes out.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::action::{ActionAnswer, ActionRequest};
use crate::effect::{Answer, Effect, EffectRequest, Failure, KnownBranch, Outcome, Query};
use crate::event::{Event, Recorded};
use crate::fold::{Touched, views};
use crate::handoff::CANCELED;
use crate::ids::{EffectId, IssueId, PolicyHash, RunId};
use crate::index::Index;
use crate::issue::{Issue, IssueEntry};
use crate::operate::WRITES_AT_ONCE;
use crate::outside::Outside;
use crate::policy::Policy;
use crate::question::Wants;
use crate::run::{Phase, SagaProgress};
use crate::schedule::Poll;
use crate::silence::Silence;
use crate::state::{IllegalEvent, OpenEffect, SNAPSHOT_FORMAT, Snapshot, State};
use crate::surface::{Readiness, readiness};
use crate::time::Timestamp;
use crate::usage::Report;
use crate::view::View;
use crate::webhook::Looks;

/// Events between two snapshots, at the least.
pub const SNAPSHOT_EVERY: u64 = 2_000;
/// Events between two snapshots for each issue that is in them: a snapshot of many issues costs as much as many events, and so
/// does its reading at a start. So what snapshots cost for each event is bounded, and so is what a start has to fold.
const SNAPSHOT_EVENTS_PER_ISSUE: u64 = 8;

/// A batch is cut off at the next issue when it has so many events: what is written at once, and held in memory in all its forms, is bounded
/// however many issues one look at the tracker tells of.
const BATCH_EVENTS: usize = 512;

/// What happened.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "inputs are handed in once and never kept")]
pub enum Input {
    /// The daemon holds the journal. The first input of its life.
    Started {
        /// Higher than every epoch before.
        epoch: u64,
        /// Version of the program.
        version: String,
        /// Process id.
        pid: u32,
    },
    /// WORKFLOW.md was read.
    PolicyLoaded {
        /// SHA-256 of the policy.
        hash: PolicyHash,
        /// The policy.
        policy: Box<Policy>,
    },
    /// WORKFLOW.md is broken.
    PolicyRejected(Failure),
    /// A batch is on disk, synced.
    Committed(Committed),
    /// An effect is over, or nobody knows.
    EffectEnded {
        /// Which.
        id: EffectId,
        /// How.
        outcome: Outcome,
    },
    /// A query was answered.
    Answered {
        /// Which.
        id: QueryId,
        /// The answer.
        answer: Answer,
    },
    /// The saga of a handoff moved. Comes before its effect's end.
    SagaMoved {
        /// The effect.
        effect: EffectId,
        /// Where the saga is now.
        progress: SagaProgress,
    },
    /// An agent gave a sign.
    Signal {
        /// Whose.
        run: RunId,
        /// What.
        signal: Signal,
    },
    /// Somebody wants the tracker read now.
    Refresh,
    /// A service says that something changed, and was believed. What of it is looked at, [`Machine::looks_at`] tells.
    Webhook {
        /// Where it is the tracker's own service that spoke: names of the issue, any of which may be its identifier or id. Empty
        /// when it named none, or another service spoke.
        names: Vec<String>,
    },
    /// The machine was suspended, or the clock jumped: clocks that measure silence start over.
    ClockJumped,
    /// An operator wants something; answered with [`Output::Reply`] under the same caller.
    Action {
        /// Names the answer.
        caller: u64,
        /// What is wanted.
        request: Box<ActionRequest>,
    },
    /// So many writes were refused to their callers since this was last said, by code. Said once a minute.
    WritesRefused(BTreeMap<String, u64>),
    /// Nobody will answer for long: agents that wait for an answer are ended, and their sessions held.
    NobodyAnswers,
    /// No new work from now on; what is under way may end.
    Drain,
    /// The daemon is about to end in good order.
    Stopping {
        /// Why.
        reason: String,
    },
    /// Time passed.
    Tick,
}

/// What an agent lets us know while a turn is open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Signal {
    /// It is alive.
    Activity,
    /// Tokens of the turn so far.
    Usage(Report),
    /// It asks, and keeps its turn open for the answer.
    Asked {
        /// Number of the question in this life of the daemon.
        ask: u64,
        /// What it asks, at most 2 KiB.
        question: String,
        /// What it waits for.
        wants: Wants,
    },
}

/// What is to be done.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "outputs are handed out once and never kept")]
pub enum Output {
    /// Put the batch on disk and sync it; answer with [`Input::Committed`].
    Append(Batch),
    /// Perform the effect; answer with [`Input::EffectEnded`]. Its intent is on disk.
    Perform(Box<EffectRequest>),
    /// Give up the effect as soon as possible; why is on disk. It still ends with [`Input::EffectEnded`].
    Cancel(EffectId),
    /// Look something up; answer with [`Input::Answered`].
    Ask(QueryId, Query),
    /// The answer to an action; what it decided is on disk.
    Reply {
        /// Of the input.
        caller: u64,
        /// The answer.
        answer: ActionAnswer,
    },
    /// Nothing more until the next input, or until this time.
    Wait(Option<Timestamp>),
}

/// A query of this daemon's life; not journaled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueryId(pub u64);

/// Facts that go to disk together, with what is written in the same transaction: the rows, and not the snapshot.
#[derive(Debug, Clone)]
pub struct Batch {
    /// Epoch of the writer; a store refuses a lower one than it has seen.
    pub epoch: u64,
    /// The events, without gaps; the first one's `seq` is what the store must expect.
    pub events: Vec<Recorded>,
    /// Rows of projections that these events changed.
    pub views: Vec<View>,
    /// The state after the last event, when one is due. It is worth keeping once the batch is on disk, and need not be: it spares the
    /// next daemon events to fold.
    pub snapshot: Option<Box<Snapshot>>,
}

impl Batch {
    /// To be called by whoever has put the batch on disk and synced it, and by nobody else.
    #[must_use]
    pub fn committed(&self) -> Committed {
        Committed { through: self.events.last().map_or(0, |recorded| recorded.seq) }
    }
}

/// The word that a batch is durable. Can only be had from the batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Committed {
    pub(crate) through: u64,
}

/// The journal cannot be replayed.
#[derive(Debug, thiserror::Error)]
pub enum CorruptJournal {
    /// An event does not follow from those before it.
    #[error("the journal is damaged: {0}")]
    Illegal(#[from] IllegalEvent),
    /// The snapshot was written by a newer version.
    #[error("the snapshot has format {found}, and this version reads up to {known}")]
    FutureSnapshot {
        /// Format of the snapshot.
        found: u32,
        /// Newest format that can be read.
        known: u32,
    },
}

/// What a query was asked for.
#[derive(Debug, Clone)]
pub(crate) enum Purpose {
    Poll { number: u64 },
    Assess { run: RunId, polls: u64 },
    Probe { effect: EffectId },
    LostWork { issue: IssueId },
    Look,
    Inspect,
}

/// A look that is due again, because the last one told nothing.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Again {
    pub(crate) due_at: Timestamp,
    pub(crate) tries: u32,
}

/// The orchestrator. State is a fold of the journal; everything else here belongs to this daemon's life and
/// is rebuilt after a crash by asking the world again.
#[derive(Debug)]
pub struct Machine {
    pub(crate) state: State,
    /// Of the state's issues.
    pub(crate) index: Index,
    pub(crate) now: Timestamp,
    pub(crate) outputs: VecDeque<Output>,
    pub(crate) queries: BTreeMap<QueryId, Purpose>,
    pub(crate) poll: Poll,
    pub(crate) looks: Looks,
    pub(crate) assess_again: BTreeMap<RunId, Again>,
    pub(crate) probe_again: BTreeMap<EffectId, Again>,
    /// Issues that are looked at after a restore.
    pub(crate) looking: BTreeSet<IssueId>,
    /// Of agents.
    pub(crate) silence: Silence,
    /// Last journaled usage report of each run.
    pub(crate) usage_at: BTreeMap<RunId, Timestamp>,
    /// Reports that came too soon after it.
    pub(crate) usage_waits: BTreeMap<RunId, Report>,
    /// The day whose budget held up a dispatch.
    pub(crate) held_day: Option<i64>,
    /// What WORKFLOW.md says, and an operator has to take.
    pub(crate) held_policy: Option<(PolicyHash, Box<Policy>)>,
    /// WORKFLOW.md was looked at in this process.
    pub(crate) looked_at_workflow: bool,
    pub(crate) draining: bool,
    /// What was seen outside the journal.
    pub(crate) outside: Outside,
    /// How ready the daemon is, as of the last look at the surfaces.
    pub(crate) readiness: Readiness,
    /// Something changed that the surfaces may show.
    pub(crate) surfaces_stale: bool,
    /// The newest effect of the takeover; what it left open is the plan of the start.
    pub(crate) recovers_until: u64,
    started: bool,
    pending: Vec<Recorded>,
    touched: Touched,
    /// Batches that come before what is pending.
    cut_off: VecDeque<Batch>,
    /// Intents that wait for their batch, by the sequence number of the intent.
    held: VecDeque<(u64, EffectId)>,
    /// Answers that wait for what they tell to be durable, by the last event that it hangs on.
    replies: VecDeque<(u64, u64, ActionAnswer)>,
    /// Effects under way that are to be given up once the reason is durable, by the last event that it hangs on: also a word to an agent that
    /// it should stop is a touch of the world.
    giving_up: VecDeque<(u64, EffectId)>,
    performing: BTreeSet<EffectId>,
    /// Writes to the tracker that operators want, whose intent is durable, and which wait for their turn; at most [`crate::operate::WRITES`].
    writes: VecDeque<EffectId>,
    /// Those of them that are being performed; at most [`crate::operate::WRITES_AT_ONCE`].
    writing: BTreeSet<EffectId>,
    unwanted: BTreeSet<EffectId>,
    in_flight: Option<u64>,
    durable: u64,
    snapshot_seq: u64,
    query_count: u64,
}

impl Machine {
    /// The machine as the journal left it.
    ///
    /// # Errors
    /// [`CorruptJournal`] if the events do not follow from each other, or the snapshot is from a newer version.
    pub fn replay(
        snapshot: Option<Snapshot>,
        events: impl IntoIterator<Item = Recorded>,
    ) -> Result<Self, CorruptJournal> {
        let mut state = State::default();
        if let Some(Snapshot { format, state: kept }) = snapshot {
            if format > SNAPSHOT_FORMAT {
                return Err(CorruptJournal::FutureSnapshot { found: format, known: SNAPSHOT_FORMAT });
            }
            state = kept;
        }
        let snapshot_seq = state.seq;
        for recorded in events {
            state.apply(&recorded)?;
        }
        Ok(Self {
            now: state.at,
            durable: state.seq,
            snapshot_seq,
            index: Index::of(&state),
            state,
            outputs: VecDeque::new(),
            queries: BTreeMap::new(),
            poll: Poll::default(),
            looks: Looks::default(),
            assess_again: BTreeMap::new(),
            probe_again: BTreeMap::new(),
            looking: BTreeSet::new(),
            silence: Silence::default(),
            usage_at: BTreeMap::new(),
            usage_waits: BTreeMap::new(),
            held_day: None,
            held_policy: None,
            looked_at_workflow: false,
            draining: false,
            outside: Outside::default(),
            readiness: readiness(Vec::new(), true),
            surfaces_stale: true,
            recovers_until: 0,
            started: false,
            pending: Vec::new(),
            touched: Touched::default(),
            cut_off: VecDeque::new(),
            held: VecDeque::new(),
            replies: VecDeque::new(),
            giving_up: VecDeque::new(),
            performing: BTreeSet::new(),
            writes: VecDeque::new(),
            writing: BTreeSet::new(),
            unwanted: BTreeSet::new(),
            in_flight: None,
            query_count: 0,
        })
    }

    /// The fold of the journal, uncommitted events included.
    #[must_use]
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Every row of the projections, from the fold alone.
    #[must_use]
    pub fn views(&self) -> Vec<View> {
        views(&self.state)
    }

    /// Takes in what happened. Total: never fails, never blocks. `now` is clamped to never go back.
    pub fn handle(&mut self, input: Input, now: Timestamp) {
        self.now = self.now.max(now);
        match input {
            Input::Started { epoch, version, pid } => {
                self.started = true;
                self.recover(epoch, version, pid);
            }
            Input::PolicyLoaded { hash, policy } => self.policy_loaded(hash, policy),
            Input::PolicyRejected(failure) => self.policy_rejected(failure),
            Input::Committed(Committed { through }) => {
                self.durable = self.durable.max(through);
                self.in_flight = None;
            }
            Input::EffectEnded { id, outcome } => {
                // Only what is under way can end: an outcome that comes twice belongs to no later attempt.
                if self.performing.remove(&id) {
                    self.writing.remove(&id);
                    self.effect_ended(id, outcome);
                }
            }
            Input::Answered { id, answer } => {
                if let Some(purpose) = self.queries.remove(&id) {
                    // What is over by now is over for what this answer dispatches.
                    self.end_holds();
                    self.answered(purpose, answer);
                }
            }
            Input::SagaMoved { effect, progress } => {
                if self.performing.contains(&effect) {
                    self.saga_moved(effect, &progress);
                }
            }
            Input::Signal { run, signal } => self.signal(&run, &signal),
            Input::Refresh => {
                self.poll_soon();
                self.look_outside_soon();
            }
            Input::Webhook { names } => self.webhook(&names),
            Input::WritesRefused(counts) => self.note_refused_writes(counts),
            Input::ClockJumped => self.silences_start_over(),
            Input::Action { caller, request } => self.act(caller, &request),
            Input::NobodyAnswers => self.hold_questions(),
            Input::Drain => {
                self.draining = true;
                self.hold_questions();
            }
            Input::Stopping { reason } => self.emit(Event::DaemonStopped { reason }),
            Input::Tick => {}
        }
        if self.started {
            self.timers();
            if self.surfaces_stale {
                self.look_at_surfaces();
            }
        }
    }

    /// What is to be done next. Drain until [`Output::Wait`].
    pub fn poll_output(&mut self) -> Output {
        if let Some(batch) = self.next_batch() {
            return Output::Append(batch);
        }
        if let Some(output) = self.outputs.pop_front() {
            return output;
        }
        if self.replies.front().is_some_and(|(seq, _, _)| *seq <= self.durable)
            && let Some((_, caller, answer)) = self.replies.pop_front()
        {
            return Output::Reply { caller, answer };
        }
        while let Some((seq, id)) = self.giving_up.front().copied() {
            if seq > self.durable {
                break;
            }
            self.giving_up.pop_front();
            if self.performing.contains(&id) {
                return Output::Cancel(id);
            }
        }
        while let Some(id) = self.next_to_perform() {
            if let Some(request) = self.release(id) {
                return Output::Perform(Box::new(request));
            }
            if let Some(batch) = self.next_batch() {
                return Output::Append(batch);
            }
        }
        Output::Wait(self.next_due())
    }

    /// Nothing runs, nothing is eligible, nothing waits for a time, and the tracker was read since the last change. What
    /// waits for an operator does not count.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.pending.is_empty()
            && self.cut_off.is_empty()
            && self.in_flight.is_none()
            && self.state.runs.values().all(|run| self.rests(run))
            && self.state.open_effects.keys().all(|effect| self.is_resting(*effect))
            && self.state.tracker_failure.is_none()
            && self.poll.is_fresh()
            && self.looks.are_done()
            && !self.has_fresh_notices()
            && !self.state.issues.values().any(|entry| self.is_waiting(entry))
    }

    /// Sequence number of the last event that is known to be on disk.
    #[must_use]
    pub fn durable(&self) -> u64 {
        self.durable
    }

    /// A batch is out and was not answered yet.
    #[must_use]
    pub fn is_appending(&self) -> bool {
        self.in_flight.is_some()
    }

    /// What goes to disk next, one batch at a time.
    fn next_batch(&mut self) -> Option<Batch> {
        if self.in_flight.is_some() {
            return None;
        }
        let batch = self.cut_off.pop_front().or_else(|| (!self.pending.is_empty()).then(|| self.batch()))?;
        self.in_flight = Some(batch.committed().through);
        Some(batch)
    }

    /// Said between two issues, where nothing that is decided of one hangs on the other: what is decided so far may go to disk by itself. A
    /// crash right after it leaves the rest to the next look at the tracker, which decides it from the state alone.
    pub(crate) fn may_cut_off(&mut self) {
        if self.pending.len() >= BATCH_EVENTS {
            let batch = self.batch();
            self.cut_off.push_back(batch);
        }
    }

    /// What is pending, with its rows as they are after its last event.
    fn batch(&mut self) -> Batch {
        let events = std::mem::take(&mut self.pending);
        let touched = std::mem::take(&mut self.touched);
        let views = touched.views(&self.state);
        let issues = u64::try_from(self.state.issues.len() + self.state.gone.len()).unwrap_or(u64::MAX);
        let every = issues.saturating_mul(SNAPSHOT_EVENTS_PER_ISSUE).max(SNAPSHOT_EVERY);
        let snapshot = (self.state.seq - self.snapshot_seq >= every).then(|| {
            self.snapshot_seq = self.state.seq;
            Box::new(Snapshot { format: SNAPSHOT_FORMAT, state: self.state.clone() })
        });
        Batch { epoch: self.state.epoch, events, views, snapshot }
    }

    /// Decides a fact: it becomes part of the state at once, and of the journal with the next batch.
    pub(crate) fn emit(&mut self, event: Event) {
        if let Event::EffectIntended { effect_id, .. } = &event {
            self.held.push_back((self.state.seq + 1, *effect_id));
        }
        if let Event::WorkspaceReady { workspace, .. } = &event {
            self.made_workspace(&workspace.path);
        }
        self.surfaces_stale |= self.shows_on_surfaces(&event);
        let recorded = Recorded { seq: self.state.seq + 1, at: self.now, event };
        self.touched.before(&self.state, &recorded);
        let of_run = recorded.event.run().and_then(|run| self.state.runs.get(run)).map(|run| run.issue.clone());
        if let Err(illegal) = self.state.apply(&recorded) {
            // The machine's own decision broke the machine's own rule: going on would write a journal that cannot
            // be replayed. The process ends here, and the journal is as good as its last batch.
            #[expect(clippy::panic, reason = "a decision that cannot be replayed must not reach the disk")]
            {
                panic!("illegal decision: {illegal}");
            }
        }
        self.index.follow(&self.state, &recorded.event, of_run.as_ref());
        self.follow_run(&recorded.event, of_run.as_ref());
        let notices = self.notices_of(&recorded.event);
        self.touched.after(&self.state, &recorded.event);
        self.pending.push(recorded);
        notices.into_iter().for_each(|notice| self.emit(notice));
    }

    /// What this daemon's life knows of runs follows an event; `of_run`: the issue of its run, before it.
    fn follow_run(&mut self, event: &Event, of_run: Option<&IssueId>) {
        let live = |issue: &IssueId| self.state.issues.get(issue)?.current_run.clone();
        let touched: Vec<RunId> = if let Event::WorkflowLoaded { .. } = event {
            self.state.runs.keys().cloned().collect()
        } else {
            event.run().cloned().into_iter().chain(event.issue().or(of_run).and_then(live)).collect()
        };
        for run in touched {
            self.look_at_silence(&run);
        }
        if let Event::RunEnded { run, .. } = event {
            self.usage_at.remove(run);
            self.usage_waits.remove(run);
        }
    }

    /// Answers an action when everything that is decided so far is durable.
    pub(crate) fn reply(&mut self, caller: u64, answer: ActionAnswer) {
        self.replies.push_back((self.state.seq, caller, answer));
    }

    /// A run enters a phase with the effect that is under way in it.
    pub(crate) fn begin(&mut self, run: &RunId, phase: Phase, name: &str, effect: Effect) {
        let Some(issue) = self.state.runs.get(run).map(|run| run.issue.clone()) else { return };
        self.enter(run, phase);
        self.intend(&issue, Some(run), name, effect);
    }

    /// Intends a new effect; it is performed when the intent is durable.
    pub(crate) fn intend(&mut self, issue: &IssueId, run: Option<&RunId>, name: &str, effect: Effect) {
        let key = match run {
            Some(run) => format!("{run}/{name}"),
            None => format!("issue/{issue}/{name}"),
        };
        self.intend_under(key, issue, run, effect);
    }

    /// The same under this key.
    pub(crate) fn intend_under(&mut self, key: String, issue: &IssueId, run: Option<&RunId>, effect: Effect) {
        self.emit(Event::EffectIntended {
            effect_id: EffectId(self.state.effect_count + 1),
            issue: issue.clone(),
            run: run.cloned(),
            key,
            attempt: 1,
            effect,
        });
    }

    /// Intends an effect in doubt again, under the same id and key.
    pub(crate) fn intend_again(&mut self, id: EffectId) {
        let Some(open) = self.state.open_effects.get(&id).cloned() else { return };
        self.emit(Event::EffectIntended {
            effect_id: id,
            issue: open.issue,
            run: open.run,
            key: open.key,
            attempt: open.attempt.saturating_add(1),
            effect: open.effect,
        });
    }

    /// Gives up every effect of the run that is being performed or is about to be.
    pub(crate) fn cancel_effects(&mut self, run: &RunId) {
        let ids: Vec<EffectId> = self
            .state
            .open_effects
            .iter()
            .filter(|(_, open)| open.run.as_ref() == Some(run))
            .filter(|(_, open)| !matches!(open.effect, Effect::StopAgent | Effect::Sweep))
            .map(|(id, _)| *id)
            .collect();
        for id in ids {
            if self.performing.contains(&id) {
                self.giving_up.push_back((self.state.seq, id));
            } else if self.held.iter().any(|(_, held)| *held == id) {
                self.unwanted.insert(id);
            }
        }
    }

    /// The next effect whose intent is durable and whose turn it is. Writes to the tracker for operators take turns, in the order in which they
    /// were accepted, so that a flood of them is no flood of tasks; nothing else waits behind them.
    fn next_to_perform(&mut self) -> Option<EffectId> {
        while let Some((_, id)) = self.held.front().copied().filter(|(seq, _)| *seq <= self.durable) {
            self.held.pop_front();
            if !self.state.open_effects.get(&id).is_some_and(|open| open.effect.is_operators_write()) {
                return Some(id);
            }
            self.writes.push_back(id);
        }
        if self.writing.len() >= WRITES_AT_ONCE {
            return None;
        }
        self.writes.pop_front()
    }

    fn release(&mut self, id: EffectId) -> Option<EffectRequest> {
        // Of a handoff there may be a saga that has to be undone: its performer sees to that.
        if self.unwanted.remove(&id) && !self.is_handoff(id) {
            let failure = Failure::retryable(CANCELED, "given up before it was performed");
            self.effect_ended(id, Outcome::Failed { failure });
            return None;
        }
        let request = self.request(id);
        match &request {
            Some(request) => {
                self.performing.insert(id);
                if request.effect.is_operators_write() {
                    self.writing.insert(id);
                }
                if let (Effect::Prompt { .. }, Some(run)) = (&request.effect, &request.run) {
                    self.sign_of_life(run);
                }
                if request.unwanted {
                    self.outputs.push_back(Output::Cancel(id));
                }
            }
            None if self.state.open_effects.contains_key(&id) => {
                let failure = Failure::permanent("context_lost", "the issue or its policy is not known any more");
                self.effect_ended(id, Outcome::Failed { failure });
            }
            None => {}
        }
        request
    }

    /// An effect beside all runs, for an issue that need not be known any more: with its words alone.
    pub(crate) fn request_beside(&self, id: EffectId, open: &OpenEffect, issue: Issue) -> Option<EffectRequest> {
        Some(EffectRequest {
            id,
            key: open.key.clone(),
            attempt: open.attempt,
            issue,
            run: None,
            policy: self.state.policy()?,
            policy_hash: self.state.policy.clone()?,
            workspace: None,
            known_branch: None,
            grants: Vec::new(),
            restored: false,
            unwanted: false,
            effect: open.effect.clone(),
        })
    }

    /// The effect with all that its performer needs.
    pub(crate) fn request(&self, id: EffectId) -> Option<EffectRequest> {
        let open = self.state.open_effects.get(&id).filter(|open| !open.in_doubt || self.probing(id))?;
        if let Effect::Notify { notices, .. } = &open.effect {
            return self.notify_request(id, open, notices.first()?);
        }
        if let Effect::Mend { mend } = &open.effect {
            return self.mend_request(id, open, mend);
        }
        let entry = self.state.issues.get(&open.issue)?;
        let policy_hash = match &open.run {
            Some(run) => self.state.runs.get(run)?.policy.clone(),
            None => self.state.policy.clone()?,
        };
        Some(EffectRequest {
            id,
            key: open.key.clone(),
            attempt: open.attempt,
            issue: (*entry.issue).clone(),
            run: open.run.clone(),
            policy: self.state.policies.get(&policy_hash).cloned()?,
            policy_hash,
            workspace: entry.workspace.clone(),
            known_branch: known_branch(entry),
            grants: open
                .run
                .as_ref()
                .and_then(|run| self.state.runs.get(run))
                .map_or_else(Vec::new, |run| [run.grants.as_slice(), &run.grants_of_turn].concat()),
            unwanted: self.is_unwanted(open),
            restored: open.run.as_ref().and_then(|run| self.state.runs.get(run)).is_some_and(|run| run.restored),
            effect: open.effect.clone(),
        })
    }

    /// A handoff that is taken up only to be undone.
    fn is_unwanted(&self, open: &OpenEffect) -> bool {
        let run = open.run.as_ref().and_then(|run| self.state.runs.get(run));
        matches!(open.effect, Effect::HandOff { .. }) && run.is_some_and(|run| run.ending.is_some())
    }

    fn probing(&self, id: EffectId) -> bool {
        self.state
            .open_effects
            .get(&id)
            .is_some_and(|open| open.in_doubt && open.effect.in_doubt() == crate::effect::InDoubtPolicy::Probe)
    }

    pub(crate) fn ask(&mut self, purpose: Purpose, query: Query) {
        self.query_count += 1;
        let id = QueryId(self.query_count);
        self.queries.insert(id, purpose);
        self.outputs.push_back(Output::Ask(id, query));
    }

    fn answered(&mut self, purpose: Purpose, answer: Answer) {
        match (purpose, answer) {
            (Purpose::Poll { number }, Answer::Poll { seen, unreadable }) => self.polled(number, seen, &unreadable),
            (Purpose::Assess { run, polls }, Answer::Assess { issue, work }) => {
                let issue = self.newest(&run, polls, issue);
                self.assessed(&run, issue, work);
            }
            (Purpose::Probe { effect }, Answer::Probe(answer)) => self.probed(effect, answer),
            (Purpose::LostWork { issue }, Answer::LostWork(tip)) => self.looked_for_lost_work(&issue, tip),
            (Purpose::Look, Answer::Look(seen)) => self.looked(seen),
            (Purpose::Inspect, Answer::Inspect(seen)) => self.looked_outside(*seen),
            // An answer of another kind than its question tells nothing; the question's own timer asks again.
            (Purpose::Poll { .. }, _) => self.poll.failed(self.now),
            (Purpose::Assess { run, .. }, _) => self.assess_later(&run),
            (Purpose::Probe { effect }, _) => self.probe_later(effect),
            (Purpose::Inspect, _) => self.look_outside_later(),
            (Purpose::LostWork { issue }, _) => drop(self.looking.remove(&issue)),
            (Purpose::Look, _) => self.look_failed(),
        }
    }

    /// The tracker is read as soon as it can be.
    pub(crate) fn poll_at_once(&mut self) {
        self.poll.due_at = self.now;
    }
}

pub(crate) fn known_branch(entry: &IssueEntry) -> Option<KnownBranch> {
    entry.branch.as_ref().map(|name| KnownBranch { name: name.clone(), commit: entry.handed_off.clone() })
}
