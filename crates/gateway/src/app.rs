//! What the routes need: the ports, the limits, and who is trusted.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use dalsegno_core::{
    ActionAnswer, ActionRequest, BudgetLine, Explanation, Failure, PolicyHash, Readiness, Receipt, Timestamp,
};
use dalsegno_engine::{Change, ChangeWanted, Clock, Delivery, Heard, RateLimits, ReadError, Reads};
use futures::future::BoxFuture;
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;

use crate::access::Gate;
use crate::hooks::Hooks;
use crate::looks::Looks;
use crate::metrics::Requests;
use crate::problem::Problem;
use crate::tails::Tails;

/// What only a live daemon knows or does. Calls never block.
pub trait Control: Send + Sync + 'static {
    /// Every rule of dispatch for the issue with this identifier or id (ignoring case); `None` if it is unknown.
    ///
    /// # Errors
    /// When the engine cannot be asked (any more).
    fn explain(&self, key: &str) -> BoxFuture<'static, Result<Option<Explanation>, Failure>>;

    /// Asks for a poll of the tracker now.
    ///
    /// # Errors
    /// When the engine cannot be asked (any more).
    fn refresh(&self) -> BoxFuture<'static, Result<RefreshAnswer, Failure>>;

    /// Verifies a webhook that came at `now`, and says what it names. Bounded in time, and off the runtime's threads.
    ///
    /// # Errors
    /// As of [`dalsegno_engine::Webhooks::read`], and when the engine cannot be asked (any more).
    fn hear(&self, delivery: Delivery, now: Timestamp) -> BoxFuture<'static, Result<Heard, Failure>>;

    /// Has something looked at for a webhook that was verified, with names of its issue: the issue of this identifier alone; `None`: the
    /// tracker is read.
    ///
    /// # Errors
    /// When the engine cannot be asked (any more).
    fn webhook(&self, names: Vec<String>) -> BoxFuture<'static, Result<Option<String>, Failure>>;

    /// Decides an action; its receipt is durable when it comes. One that is refused as one of too many has none.
    ///
    /// # Errors
    /// When the engine cannot be asked (any more).
    fn act(&self, request: ActionRequest) -> BoxFuture<'static, Result<ActionAnswer, Failure>>;

    /// The receipt of an action; `None` if it is not remembered.
    ///
    /// # Errors
    /// When the engine cannot be asked (any more).
    fn receipt(&self, action: &str) -> BoxFuture<'static, Result<Option<Receipt>, Failure>>;

    /// Use and limits: of the day, then of the issues.
    ///
    /// # Errors
    /// When the engine cannot be asked (any more).
    fn budgets(&self) -> BoxFuture<'static, Result<Vec<BudgetLine>, Failure>>;

    /// Has it journaled that so many writes were refused to their callers in the last minute, by code.
    ///
    /// # Errors
    /// When the engine cannot be asked (any more).
    fn writes_refused(&self, counts: BTreeMap<String, u64>) -> BoxFuture<'static, Result<(), Failure>>;

    /// What a run changed, under the policy of this hash. Bounded in time.
    ///
    /// # Errors
    /// As of [`dalsegno_engine::Changes::change`], and when the engine cannot be asked (any more).
    fn change(&self, policy: &PolicyHash, wanted: ChangeWanted) -> BoxFuture<'static, Result<Change, Failure>>;

    /// Sequence number of the newest event; changes on every commit.
    fn head(&self) -> watch::Receiver<u64>;

    /// What a live run did last; not journaled. `None` when the run is not live.
    fn live(&self, run: &str) -> Option<LiveRun>;

    /// What an agent's provider last said of its quotas; not journaled.
    fn rate_limits(&self) -> Option<RateLimits>;

    /// How ready the daemon is, and what is left to do. `None`: it is ending.
    fn readiness(&self) -> Option<Readiness>;

    /// The daemon has recovered and takes work.
    fn ready(&self) -> bool {
        self.readiness().is_some_and(|readiness| readiness.takes_work())
    }
}

/// The answer to a request for a poll.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RefreshAnswer {
    /// An earlier request is still waiting and serves this one too.
    pub coalesced: bool,
}

/// What a live run did last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveRun {
    /// A word for it: `message`, `tool`, `usage`, …
    pub last_event: String,
    /// When.
    pub last_event_at: Timestamp,
    /// The agent's last words.
    pub last_message: String,
}

/// Who is trusted with contents and writes.
#[derive(Debug)]
pub enum Access {
    /// Whoever this gate knows, as far as their role goes.
    Guarded(Box<Gate>),
    /// Everybody. For calls inside one process, never for a socket.
    Everybody,
}

impl Access {
    /// Whoever this gate knows.
    #[must_use]
    pub fn guarded(gate: Gate) -> Self {
        Self::Guarded(Box::new(gate))
    }
}

/// Ceilings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Event streams at once.
    pub streams: usize,
    /// Connections at once; more wait to be accepted.
    pub connections: usize,
    /// Events in one page of a stream.
    pub stream_page: usize,
    /// Silence on a stream before a comment is sent.
    pub heartbeat: Duration,
    /// Longest wait for the engine, for a connection's first byte, or for a request's body.
    pub patience: Duration,
    /// Largest body of a request, in bytes.
    pub body: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            streams: 256,
            connections: 1024,
            stream_page: 100,
            heartbeat: Duration::from_secs(15),
            patience: Duration::from_secs(5),
            body: 64 * 1024,
        }
    }
}

/// The kinds of adapters that the program has, by their words in WORKFLOW.md.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Offers {
    /// `agent.kind`.
    pub agents: &'static [&'static str],
    /// `tracker.kind`.
    pub trackers: &'static [&'static str],
    /// `handoff.forge`.
    pub forges: &'static [&'static str],
    /// `tracker.webhooks`.
    pub webhooks: &'static [&'static str],
}

/// What the routes need. Cheap to clone: each request does so several times.
#[derive(Clone)]
pub struct App(Arc<Parts>);

/// What an [`App`] is made of; for the routes alone.
#[derive(Clone)]
pub struct Parts {
    pub(crate) reads: Arc<dyn Reads>,
    pub(crate) control: Arc<dyn Control>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) access: Arc<Access>,
    pub(crate) limits: Limits,
    pub(crate) version: Arc<str>,
    pub(crate) streams: Arc<Semaphore>,
    pub(crate) offers: Offers,
    pub(crate) requests: Arc<Requests>,
    pub(crate) looks: Arc<Looks>,
    pub(crate) hooks: Arc<Hooks>,
    pub(crate) tails: Arc<Tails>,
    /// Ends the streams, so that a shutdown need not wait for their readers.
    pub(crate) closing: CancellationToken,
}

impl App {
    /// An app over these ports. `version` is what `/healthz` says.
    pub fn new(
        reads: Arc<dyn Reads>,
        control: Arc<dyn Control>,
        clock: Arc<dyn Clock>,
        access: Access,
        version: &str,
    ) -> Self {
        let limits = Limits::default();
        Self(Arc::new(Parts {
            reads,
            control,
            clock,
            access: Arc::new(access),
            streams: Arc::new(Semaphore::new(limits.streams)),
            limits,
            version: version.into(),
            offers: Offers::default(),
            requests: Arc::default(),
            looks: Arc::default(),
            hooks: Arc::default(),
            tails: Arc::new(Tails::new()),
            closing: CancellationToken::new(),
        }))
    }

    /// The same app, of a program that has these.
    #[must_use]
    pub fn offers(mut self, offers: Offers) -> Self {
        Arc::make_mut(&mut self.0).offers = offers;
        self
    }

    /// The same app with other limits.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        let parts = Arc::make_mut(&mut self.0);
        parts.streams = Arc::new(Semaphore::new(limits.streams));
        parts.limits = limits;
        self
    }

    /// Runs a read on the blocking pool.
    pub(crate) async fn read<T, F>(&self, read: F) -> Result<T, Problem>
    where
        T: Send + 'static,
        F: FnOnce(&dyn Reads) -> Result<T, ReadError> + Send + 'static,
    {
        let reads = Arc::clone(&self.reads);
        match tokio::task::spawn_blocking(move || read(&*reads)).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err(Problem::store(&error)),
            Err(error) => {
                tracing::error!(%error, "a read did not come to its end");
                Err(Problem::internal())
            }
        }
    }

    /// Waits for an answer of the engine, as long as patience lasts.
    pub(crate) async fn ask<T>(&self, answer: BoxFuture<'static, Result<T, Failure>>) -> Result<T, Problem> {
        match tokio::time::timeout(self.limits.patience, answer).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(failure)) => Err(Problem::engine(failure)),
            Err(_) => Err(Problem::engine(
                Failure::retryable(dalsegno_api::code::ENGINE_UNAVAILABLE, "the engine did not answer in time")
                    .hint("try again; if it lasts, look at the daemon's log"),
            )),
        }
    }
}

impl std::ops::Deref for App {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

impl fmt::Debug for App {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("App").field("access", &self.access).field("limits", &self.limits).finish_non_exhaustive()
    }
}
