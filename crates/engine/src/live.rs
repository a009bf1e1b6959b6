//! What is known of live agents between two batches: the last sign of life and the latest usage report.
//! Kept as state, not as a queue: a flood of signs costs nothing and loses nothing that counts.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dalsegno_core::{Failure, Reply, Report, RunId, Signal, Timestamp, Usage, Wants};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use tokio::sync::oneshot;

use crate::ports::{AgentSink, Clock, RateWindow, Transcripts};
use crate::reads::{TranscriptEntry, TranscriptKind};

/// Longest text of one transcript entry, in bytes.
const ENTRY_BYTES: usize = 16 * 1024;
/// Longest last words that are kept for a look at a live run, in bytes.
const MESSAGE_BYTES: usize = 200;
/// Longest question, in bytes.
const QUESTION_BYTES: usize = 2 * 1024;
/// Quotas that are kept of one report.
const WINDOWS: usize = 8;

/// Signs of all live agents.
#[derive(Debug, Default)]
pub(crate) struct Live {
    runs: Mutex<BTreeMap<RunId, Signs>>,
    /// The latest word of any agent, and when it came.
    rate_limits: Mutex<Option<RateLimits>>,
    /// Questions so far; numbers the next.
    asks: std::sync::atomic::AtomicU64,
}

/// What a provider said of its quotas, and when. Not journaled.
#[derive(Debug, Clone, PartialEq)]
pub struct RateLimits {
    /// When it came.
    pub at: Timestamp,
    /// The quotas.
    pub windows: Vec<RateWindow>,
}

/// What a live agent did last. Not journaled.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LastSign {
    /// When; `None` before the first sign.
    pub at: Option<Timestamp>,
    /// A word for it: `activity`, `usage`, `message`, `tool`, …
    pub what: &'static str,
    /// The agent's last words, at most 200 bytes.
    pub message: String,
}

/// Signs of one agent.
#[derive(Debug, Default)]
struct Signs {
    last: LastSign,
    /// Something came since it was last looked at.
    fresh: bool,
    /// Usage of the open turn that was not told yet.
    usage: Option<Report>,
    /// Number of the latest turn.
    turn: u32,
    /// It is open; usage that comes outside a turn belongs to none.
    open: bool,
    /// What the agent asks, with its turn open for the answer. One at a time: the next one waits for this one's end.
    asking: Option<Asking>,
    turns_to_ask: Arc<tokio::sync::Mutex<()>>,
}

/// A question that an agent waits for the answer to.
#[derive(Debug)]
struct Asking {
    number: u64,
    question: String,
    wants: Wants,
    /// The loop has heard of it.
    told: bool,
    answer: oneshot::Sender<Reply>,
}

impl Live {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<RunId, Signs>> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What came since the last look.
    pub(crate) fn take(&self) -> Vec<(RunId, Signal)> {
        let mut taken = Vec::new();
        for (run, signs) in self.lock().iter_mut() {
            let usage = signs.usage.take();
            if std::mem::take(&mut signs.fresh) || usage.is_some() {
                taken.push((run.clone(), usage.map_or(Signal::Activity, Signal::Usage)));
            }
            if let Some(asking) = signs.asking.as_mut().filter(|asking| !asking.told) {
                asking.told = true;
                let (ask, question, wants) = (asking.number, asking.question.clone(), asking.wants);
                taken.push((run.clone(), Signal::Asked { ask, question, wants }));
            }
        }
        taken
    }

    /// Tells an agent that waits what was said to its question.
    ///
    /// # Errors
    /// `not_waiting`: it does not wait for that any more.
    pub(crate) fn reply(&self, run: &RunId, ask: u64, reply: Reply) -> Result<(), Failure> {
        let mut waiting = None;
        self.with(run, |signs| waiting = signs.asking.take_if(|asking| asking.number == ask));
        let told = waiting.is_some_and(|asking| asking.answer.send(reply).is_ok());
        told.then_some(())
            .ok_or_else(|| Failure::retryable("not_waiting", "the agent does not wait for the answer any more"))
    }

    /// Nobody answers what the run's agent asks: its turn is to end.
    pub(crate) fn hang_up(&self, run: &RunId) {
        self.with(run, |signs| signs.asking = None);
    }

    pub(crate) fn last_sign(&self, run: &str) -> Option<LastSign> {
        self.lock().get(&RunId(run.to_owned())).map(|signs| signs.last.clone())
    }

    pub(crate) fn rate_limits(&self) -> Option<RateLimits> {
        self.rate_limits.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Changes the signs of a run whose agent is known: what a dying one still says must not bring it back.
    fn with(&self, run: &RunId, change: impl FnOnce(&mut Signs)) {
        if let Some(signs) = self.lock().get_mut(run) {
            change(signs);
        }
    }

    /// An agent of the run is about to start.
    pub(crate) fn begin(&self, run: &RunId) {
        self.lock().entry(run.clone()).or_default();
    }

    pub(crate) fn begin_turn(&self, run: &RunId, turn: u32) {
        self.with(run, |signs| {
            signs.turn = turn;
            signs.open = true;
            signs.usage = None;
        });
    }

    /// What was reported of the turn is no business of the next one. An answer has the final figures; without one,
    /// what waits here is all that anybody will know of it, and is told at the next look.
    pub(crate) fn end_turn(&self, run: &RunId, answered: bool) {
        self.with(run, |signs| {
            signs.open = false;
            signs.asking = None;
            if answered {
                signs.usage = None;
            }
        });
    }

    pub(crate) fn forget(&self, run: &RunId) {
        self.lock().remove(run);
    }
}

/// One agent's sink.
pub(crate) struct Sink {
    pub(crate) run: RunId,
    pub(crate) live: Arc<Live>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) transcripts: Arc<dyn Transcripts>,
}

impl Signs {
    fn sign(&mut self, at: Timestamp, what: &'static str) {
        self.last.at = Some(at);
        self.last.what = what;
        self.fresh = true;
    }
}

impl AgentSink for Sink {
    fn activity(&self) {
        let at = self.clock.now();
        self.live.with(&self.run, |signs| signs.sign(at, "activity"));
    }

    fn usage(&self, usage: Usage, model: Option<&str>) {
        let at = self.clock.now();
        self.live.with(&self.run, |signs| {
            signs.sign(at, "usage");
            if signs.open {
                let before = signs.usage.take().unwrap_or_default();
                signs.usage = Some(before.and(Report { usage, model: model.map(str::to_owned) }));
            }
        });
    }

    fn ask(&self, question: &str, wants: Wants) -> BoxFuture<'static, Option<Reply>> {
        let (run, live, question) =
            (self.run.clone(), Arc::clone(&self.live), clip(question, QUESTION_BYTES).to_owned());
        let mut turns_to_ask = None;
        live.with(&run, |signs| turns_to_ask = Some(Arc::clone(&signs.turns_to_ask)));
        async move {
            // One question at a time.
            let _turn = turns_to_ask?.lock_owned().await;
            let (answer, answered) = oneshot::channel();
            let number = 1 + live.asks.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            live.with(&run, |signs| {
                if signs.open {
                    signs.asking = Some(Asking { number, question, wants, told: false, answer });
                }
            });
            answered.await.ok()
        }
        .boxed()
    }

    fn rate_limits(&self, windows: &[RateWindow]) {
        let limits = RateLimits { at: self.clock.now(), windows: windows.iter().take(WINDOWS).cloned().collect() };
        *self.live.rate_limits.lock().unwrap_or_else(PoisonError::into_inner) = Some(limits);
    }

    fn transcript(&self, kind: TranscriptKind, text: &str) {
        let at = self.clock.now();
        let mut turn = 0;
        self.live.with(&self.run, |signs| {
            turn = signs.turn;
            signs.last.what = kind.as_str();
            if kind == TranscriptKind::Message {
                clip(text.trim(), MESSAGE_BYTES).clone_into(&mut signs.last.message);
            }
        });
        let text = clip(text, ENTRY_BYTES).to_owned();
        self.transcripts.append(&self.run, TranscriptEntry { at, turn, kind, text });
    }
}

/// The beginning of `text`, at most `limit` bytes, cut between characters.
pub(crate) fn clip(text: &str, limit: usize) -> &str {
    let mut end = text.len().min(limit);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}
