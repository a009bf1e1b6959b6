//! What Codex says, folded into transcript lines, usage, tool results and the turn's end.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dalsegno_engine::core::{Timestamp, Usage};
use dalsegno_engine::{AgentSink, TranscriptKind};
use serde_json::Value;
use tokio::sync::watch;

use super::items::{self, Digest};
use super::limits::Limits;
use super::tokens::Tokens;
use crate::agent::ear::Ear;
use crate::agent::text::{MAX_LINE_BYTES, clip};

/// Items in progress that are remembered; what comes beyond is not known to be work.
const MAX_ITEMS: usize = 256;
/// Ends of turns that are remembered until somebody looks.
const MAX_ENDED: usize = 8;

/// How a turn ended, as Codex says it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Ended {
    turn: String,
    /// `completed`, `interrupted` or `failed`.
    pub(super) status: String,
    /// `TurnError`, or null.
    pub(super) error: Value,
}

/// A turn that is over, without how it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) usage: Usage,
    pub(super) summary: String,
    pub(super) model: Option<String>,
    pub(super) digest: Option<String>,
}

/// Hears everything that comes from the agent; shared by the reader, the session and the answers to requests.
pub(super) struct Listener {
    pub(super) ear: Arc<Ear>,
    fold: Mutex<Fold>,
    /// Changes with every message that changes the fold.
    heard: watch::Sender<u64>,
}

impl Deref for Listener {
    type Target = Ear;

    fn deref(&self) -> &Ear {
        &self.ear
    }
}

/// State of the thread and of its turn.
#[derive(Default)]
struct Fold {
    thread: Option<String>,
    model: Option<String>,
    /// A prompt is under way.
    open: bool,
    turn: Option<String>,
    ended: Vec<Ended>,
    /// Tools that are at work, by item.
    working: BTreeMap<String, &'static str>,
    /// Paths of file changes that are under way, by item.
    changes: BTreeMap<String, Vec<String>>,
    /// The message that is being streamed.
    streamed: Option<String>,
    /// The last error that Codex did not try again after.
    error: Value,
    tokens: Tokens,
    limits: Limits,
    digest: Digest,
}

impl Listener {
    pub(super) fn new(sink: Arc<dyn AgentSink>) -> Self {
        let remedy = "see that `agent.command` starts `codex app-server`, and that nothing else writes to its output";
        Self { ear: Arc::new(Ear::new(sink, remedy)), fold: Mutex::new(Fold::default()), heard: watch::Sender::new(0) }
    }

    /// The state stays whole when a holder panics: every change is a plain assignment.
    fn fold(&self) -> MutexGuard<'_, Fold> {
        self.fold.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn changed(&self) {
        self.heard.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Waits until `look` finds something in what was heard; looks again after each message.
    async fn until<T>(&self, look: impl Fn(&Self) -> Option<T>) -> T {
        let mut heard = self.heard.subscribe();
        loop {
            heard.borrow_and_update();
            if let Some(found) = look(self) {
                return found;
            }
            if heard.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// The session is this thread, with this model.
    pub(super) fn begin_session(&self, thread: &str, model: Option<&str>) {
        let mut fold = self.fold();
        fold.thread = Some(thread.to_owned());
        fold.model = model.map(str::to_owned);
    }

    /// Tokens of a thread by its own count, once it told them.
    pub(super) async fn total(&self, thread: &str) -> Usage {
        self.until(|listener| listener.fold().tokens.total(thread)).await
    }

    /// A turn begins with this prompt.
    pub(super) fn begin_turn(&self, prompt: &str) {
        {
            let mut fold = self.fold();
            fold.open = true;
            fold.turn = None;
            fold.ended.clear();
            fold.working.clear();
            fold.changes.clear();
            fold.streamed = None;
            fold.error = Value::Null;
            fold.digest = Digest::default();
        }
        self.ear.begin_turn(prompt);
    }

    /// Codex says that this is the turn of the prompt.
    pub(super) fn name_turn(&self, turn: &str) {
        self.fold().turn = Some(turn.to_owned());
        self.changed();
    }

    /// The turn that is under way, with its thread.
    pub(super) fn open_turn(&self) -> Option<(String, String)> {
        let fold = self.fold();
        let turn = fold.turn.clone().filter(|turn| fold.open && !fold.ended.iter().any(|ended| ended.turn == *turn))?;
        Some((fold.thread.clone()?, turn))
    }

    /// Waits for the end of the turn that was named.
    pub(super) async fn turn_ended(&self) -> Ended {
        self.until(|listener| {
            let fold = listener.fold();
            let turn = fold.turn.as_ref()?;
            let mut ended = fold.ended.iter().find(|ended| ended.turn == *turn)?.clone();
            if ended.error.is_null() {
                ended.error = fold.error.clone();
            }
            Some(ended)
        })
        .await
    }

    /// Whether a tool of the turn is at work.
    pub(super) fn at_work(&self) -> bool {
        !self.fold().working.is_empty()
    }

    /// Waits until no command of the turn runs any more.
    pub(super) async fn commands_ended(&self) {
        self.until(|listener| (!listener.fold().working.values().any(|kind| *kind == items::COMMAND)).then_some(()))
            .await;
    }

    /// The item was not permitted, and does not run.
    pub(super) fn not_run(&self, item: &str) {
        self.fold().working.remove(item);
        self.changed();
    }

    /// When the exhausted limit begins anew.
    pub(super) fn reset_at(&self, exhausted: bool, now: Timestamp) -> Option<Timestamp> {
        self.fold().limits.reset_at(exhausted, now)
    }

    /// Paths of a file change that is under way.
    pub(super) fn changes(&self, item: &str) -> Option<Vec<String>> {
        self.fold().changes.get(item).cloned()
    }

    /// The turn is over, however it ended.
    pub(super) fn end_turn(&self) -> Told {
        let (usage, model, digest) = {
            let mut fold = self.fold();
            fold.open = false;
            fold.working.clear();
            (fold.tokens.end_turn(), fold.model.clone(), std::mem::take(&mut fold.digest).finish())
        };
        let summary = self.ear.end_turn();
        if usage != Usage::default() {
            self.ear.usage(usage, model.as_deref());
        }
        Told { usage, summary, model, digest }
    }

    /// A notification came.
    pub(super) fn hear(&self, method: &str, params: &Value) {
        let text = |name: &str| params.get(name).and_then(Value::as_str).unwrap_or_default();
        let ours = self.fold().thread.as_deref().is_some_and(|thread| thread == text("threadId"));
        match method {
            "thread/tokenUsage/updated" => self.tokens(params),
            "account/rateLimits/updated" => self.rate_limits(params),
            "warning" | "guardianWarning" => self.note(&format!("codex warns: {}", text("message"))),
            "configWarning" | "deprecationNotice" => self.note(&format!("codex warns: {}", text("summary"))),
            // Threads of sub-agents are signs of life, and cost tokens; their words are told by the agent that asked.
            _ if !ours => {}
            "item/agentMessage/delta" => self.message(text("itemId"), text("delta")),
            "item/reasoning/summaryTextDelta" | "item/reasoning/textDelta" => {
                self.say(TranscriptKind::Thought, text("delta"));
            }
            "item/started" => self.item_started(params.get("item").unwrap_or(&Value::Null)),
            "item/completed" => self.item_completed(params.get("item").unwrap_or(&Value::Null)),
            "turn/plan/updated" => self.line(TranscriptKind::Thought, &items::plan_line(params)),
            "turn/started" => self.turn_started(params),
            "turn/completed" => self.turn_completed(params.get("turn").unwrap_or(&Value::Null)),
            "model/rerouted" => {
                self.note(&format!("model {} instead of {}", text("toModel"), text("fromModel")));
                self.fold().model = Some(clip(text("toModel"), 256));
            }
            "thread/settings/updated" => {
                if let Some(model) = params.pointer("/threadSettings/model").and_then(Value::as_str) {
                    self.fold().model = Some(clip(model, 256));
                }
            }
            "error" => self.failed(params),
            // The rest, and what later versions add: a sign of life and no more.
            _ => {}
        }
        self.changed();
    }

    fn tokens(&self, params: &Value) {
        let (told, absurd) = {
            let mut fold = self.fold();
            let open = fold.open;
            // A total that belongs to another turn is history: it is told after a resume.
            let ours = params.get("threadId").and_then(Value::as_str) == fold.thread.as_deref();
            let now = !ours || params.get("turnId").and_then(Value::as_str) == fold.turn.as_deref();
            let absurd = fold.tokens.update(params, open && now).err();
            ((open && now).then(|| (fold.tokens.turn(), fold.model.clone())), absurd)
        };
        if let Some(absurd) = absurd {
            // Said, and no more.
            let _ = self.ear.believed(absurd);
        }
        if let Some((usage, model)) = told {
            self.ear.usage(usage, model.as_deref());
        }
    }

    fn rate_limits(&self, params: &Value) {
        let windows = {
            let mut fold = self.fold();
            fold.limits.merge(params.get("rateLimits").unwrap_or(&Value::Null));
            fold.limits.windows()
        };
        if !windows.is_empty() {
            self.ear.rate_limits(&windows);
        }
    }

    fn message(&self, item: &str, delta: &str) {
        self.fold().streamed = Some(clip(item, 256));
        self.say(TranscriptKind::Message, delta);
    }

    fn turn_started(&self, params: &Value) {
        let Some(turn) = params.pointer("/turn/id").and_then(Value::as_str) else { return };
        let mut fold = self.fold();
        if fold.open && fold.turn.is_none() {
            fold.turn = Some(turn.to_owned());
        }
    }

    fn turn_completed(&self, turn: &Value) {
        let text = |name: &str| turn.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let ended =
            Ended { turn: text("id"), status: text("status"), error: turn.get("error").cloned().unwrap_or_default() };
        let mut fold = self.fold();
        if fold.ended.len() >= MAX_ENDED {
            fold.ended.remove(0);
        }
        fold.ended.push(ended);
    }

    fn item_started(&self, item: &Value) {
        let id = item.get("id").and_then(Value::as_str).unwrap_or_default();
        let kind = item.get("type").and_then(Value::as_str).unwrap_or_default();
        if kind == "agentMessage" {
            // Each message begins a line of its own, and the last one is the summary.
            self.flush();
        }
        let mut fold = self.fold();
        if let Some(kind) = items::tool(kind)
            && fold.working.len() < MAX_ITEMS
        {
            fold.working.insert(clip(id, 256), kind);
        }
        if kind == "fileChange" && fold.changes.len() < MAX_ITEMS {
            fold.changes.insert(clip(id, 256), items::paths(item));
        }
        drop(fold);
        if let Some(line) = items::begin_line(item) {
            self.line(TranscriptKind::Tool, &line);
        }
    }

    fn item_completed(&self, item: &Value) {
        let id = item.get("id").and_then(Value::as_str).unwrap_or_default();
        let streamed = {
            let mut fold = self.fold();
            fold.working.remove(id);
            fold.changes.remove(id);
            fold.digest.add(item);
            fold.streamed.as_deref() == Some(id)
        };
        match item.get("type").and_then(Value::as_str).unwrap_or_default() {
            "agentMessage" => {
                if !streamed && let Some(text) = item.get("text").and_then(Value::as_str) {
                    self.say(TranscriptKind::Message, text);
                }
                self.flush();
            }
            "plan" => self.line(TranscriptKind::Thought, item.get("text").and_then(Value::as_str).unwrap_or_default()),
            _ => {
                if let Some(line) = items::end_line(item) {
                    self.line(TranscriptKind::Tool, &line);
                }
            }
        }
    }

    fn failed(&self, params: &Value) {
        let error = params.get("error").unwrap_or(&Value::Null);
        let message = error.get("message").and_then(Value::as_str).unwrap_or("an error without a message");
        let details = error.get("additionalDetails").and_then(Value::as_str).map(|text| format!(" ({text})"));
        let retries = params.get("willRetry").and_then(Value::as_bool).unwrap_or(false);
        let word = if retries { "codex tries again" } else { "codex reports" };
        self.note(&clip(&format!("{word}: {message}{}", details.unwrap_or_default()), MAX_LINE_BYTES));
        if !retries {
            self.fold().error = error.clone();
        }
    }
}
