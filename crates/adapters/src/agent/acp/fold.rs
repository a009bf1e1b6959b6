//! What an agent says, folded into transcript lines, usage and last words.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dalsegno_engine::core::{Failure, Usage};
use dalsegno_engine::{AgentSink, TranscriptKind};
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::Instant;

/// Longest text of one transcript line.
const MAX_LINE_BYTES: usize = 16 * 1024;
/// Chunks of a message are gathered up to here.
const GATHER_BYTES: usize = 4 * 1024;
/// Longest summary of a turn.
const MAX_WORDS_BYTES: usize = 2 * 1024;
/// Longest shown piece of something that is no protocol.
const MAX_MALFORMED_BYTES: usize = 512;
/// Malformed lines that one turn may have.
const MAX_MALFORMED: u32 = 100;

type Line = (TranscriptKind, String);

/// Hears everything that comes from the agent; shared by the reader and the session.
pub(super) struct Listener {
    sink: Arc<dyn AgentSink>,
    fold: Mutex<Fold>,
    began: Instant,
    /// Milliseconds after `began` of the last sign of life.
    last_ms: AtomicU64,
    /// What the agent wants of a person, in this turn.
    pub(super) asked: watch::Sender<Option<String>>,
    /// Why the stream is of no use any more, when it is our verdict.
    broken: Mutex<Option<Failure>>,
}

impl Listener {
    pub(super) fn new(sink: Arc<dyn AgentSink>) -> Self {
        Self {
            sink,
            fold: Mutex::new(Fold::default()),
            began: Instant::now(),
            last_ms: AtomicU64::new(0),
            asked: watch::Sender::new(None),
            broken: Mutex::new(None),
        }
    }

    /// The state stays whole when a holder panics: every change is a plain assignment.
    fn fold(&self) -> MutexGuard<'_, Fold> {
        self.fold.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A line came.
    pub(super) fn activity(&self) {
        let now = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last_ms.store(now, Ordering::Relaxed);
        self.sink.activity();
    }

    /// The clock of silence starts over.
    fn touch(&self) {
        let now = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last_ms.store(now, Ordering::Relaxed);
    }

    /// When the last line came.
    pub(super) fn last(&self) -> Instant {
        self.began + Duration::from_millis(self.last_ms.load(Ordering::Relaxed))
    }

    pub(super) fn note(&self, text: &str) {
        self.write(vec![(TranscriptKind::Note, clip(text, MAX_LINE_BYTES))]);
    }

    pub(super) fn stderr(&self, text: &str) {
        self.write(vec![(TranscriptKind::Stderr, clip(text, MAX_LINE_BYTES))]);
    }

    fn write(&self, lines: Vec<Line>) {
        for (kind, text) in lines {
            self.sink.transcript(kind, &text);
        }
    }

    /// A turn begins with this prompt.
    pub(super) fn begin_turn(&self, prompt: &str) {
        let mut lines = Vec::new();
        self.fold().begin(&mut lines);
        lines.extend(pieces(prompt).map(|piece| (TranscriptKind::Prompt, piece)));
        self.write(lines);
        self.asked.send_replace(None);
        self.touch();
    }

    /// The turn is over: usage and last words.
    pub(super) fn end_turn(&self, reported: Usage) -> (Usage, String) {
        let mut lines = Vec::new();
        let (usage, words) = {
            let mut fold = self.fold();
            fold.close(&mut lines);
            fold.usage = fold.usage.max(reported);
            (fold.usage, std::mem::take(&mut fold.words).trim().to_owned())
        };
        self.write(lines);
        if usage != Usage::default() {
            self.sink.usage(usage, None);
        }
        (usage, words)
    }

    /// Writes out what was gathered.
    pub(super) fn flush(&self) {
        let mut lines = Vec::new();
        self.fold().close(&mut lines);
        self.write(lines);
    }

    /// From here on the agent tells its session's history: it is searched, and not written down again.
    pub(super) fn begin_replay(&self, seek: Option<&str>) {
        self.fold().replay = Some(Replay::new(seek));
        self.touch();
    }

    /// Whether the history held what was sought.
    pub(super) fn end_replay(&self) -> bool {
        self.fold().replay.take().is_some_and(|replay| replay.found)
    }

    /// A `session/update` came.
    pub(super) fn update(&self, params: &Value) {
        let Some(update) = params.get("update") else { return };
        let mut lines = Vec::new();
        let usage = self.fold().update(update, &mut lines);
        self.write(lines);
        if let Some(usage) = usage {
            self.sink.usage(usage, None);
        }
    }

    /// A line came that is no protocol. The error says that there were too many.
    pub(super) fn malformed(&self, line: &str) -> Result<(), Failure> {
        let mut lines = Vec::new();
        let count = {
            let mut fold = self.fold();
            fold.close(&mut lines);
            fold.malformed = fold.malformed.saturating_add(1);
            fold.malformed
        };
        lines.push((TranscriptKind::Malformed, clip(line, MAX_MALFORMED_BYTES)));
        self.write(lines);
        if count <= MAX_MALFORMED {
            return Ok(());
        }
        Err(Failure::retryable(
            "agent_protocol",
            format!("the agent wrote more than {MAX_MALFORMED} lines in one turn that are no JSON-RPC messages"),
        )
        .hint("see that `agent.command` starts the agent in its ACP mode, and that nothing else writes to its output"))
    }

    /// The stream is of no use any more; the first verdict counts.
    pub(super) fn give_up(&self, failure: Failure) {
        self.note(&failure.to_string());
        self.broken.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(failure);
    }

    pub(super) fn broken(&self) -> Option<Failure> {
        self.broken.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// State of what is being said.
#[derive(Debug, Default)]
struct Fold {
    replay: Option<Replay>,
    /// What is being gathered, and as what.
    open: Option<TranscriptKind>,
    gathered: String,
    /// The agent's last words.
    words: String,
    usage: Usage,
    malformed: u32,
}

impl Fold {
    fn begin(&mut self, lines: &mut Vec<Line>) {
        self.close(lines);
        self.replay = None;
        self.words.clear();
        self.usage = Usage::default();
        self.malformed = 0;
    }

    fn close(&mut self, lines: &mut Vec<Line>) {
        if let Some(kind) = self.open.take()
            && !self.gathered.is_empty()
        {
            lines.extend(pieces(self.gathered.trim_end_matches('\n')).map(|piece| (kind, piece)));
        }
        self.gathered.clear();
    }

    fn say(&mut self, kind: TranscriptKind, text: &str, lines: &mut Vec<Line>) {
        if self.open != Some(kind) {
            self.close(lines);
            self.open = Some(kind);
            if kind == TranscriptKind::Message {
                self.words.clear();
            }
        }
        self.gathered.push_str(text);
        if kind == TranscriptKind::Message {
            self.words.push_str(text);
            keep_end(&mut self.words, MAX_WORDS_BYTES);
        }
        if self.gathered.len() >= GATHER_BYTES || self.gathered.ends_with('\n') {
            lines.extend(pieces(self.gathered.trim_end_matches('\n')).map(|piece| (kind, piece)));
            self.gathered.clear();
        }
    }

    fn update(&mut self, update: &Value, lines: &mut Vec<Line>) -> Option<Usage> {
        let kind = update.get("sessionUpdate").and_then(Value::as_str).unwrap_or_default();
        if let Some(replay) = &mut self.replay {
            if kind == "user_message_chunk" {
                replay.hear(&content_text(update.get("content")));
            } else {
                replay.pause();
            }
            return None;
        }
        match kind {
            "agent_message_chunk" => self.say(TranscriptKind::Message, &content_text(update.get("content")), lines),
            "agent_thought_chunk" => self.say(TranscriptKind::Thought, &content_text(update.get("content")), lines),
            "tool_call" | "tool_call_update" => {
                self.close(lines);
                lines.extend(tool_line(kind, update).map(|line| (TranscriptKind::Tool, line)));
            }
            "plan" => {
                self.close(lines);
                lines.push((TranscriptKind::Thought, plan_line(update)));
            }
            "usage_update" => {
                // `used` and `size` tell how full the model's context is, not what was consumed. What counts comes in
                // the metadata, where an agent says it at all.
                let usage = update.pointer("/_meta/usage").and_then(usage_of)?;
                self.usage = self.usage.max(usage);
                return Some(self.usage);
            }
            // Commands, modes, titles and what later versions add: a sign of life and no more.
            _ => {}
        }
        None
    }
}

/// Looks for a marker in replayed user messages; a message may come in chunks.
#[derive(Debug)]
struct Replay {
    seek: Option<String>,
    /// End of the message so far, as long as the marker could begin in it.
    heard: String,
    found: bool,
}

impl Replay {
    fn new(seek: Option<&str>) -> Self {
        Self { seek: seek.filter(|text| !text.is_empty()).map(str::to_owned), heard: String::new(), found: false }
    }

    fn hear(&mut self, text: &str) {
        let Some(seek) = &self.seek else { return };
        self.heard.push_str(text);
        self.found |= self.heard.contains(seek.as_str());
        keep_end(&mut self.heard, seek.len());
    }

    /// Another kind of update: the message is over.
    fn pause(&mut self) {
        self.heard.clear();
    }
}

/// Token figures, as agents spell them.
pub(super) fn usage_of(value: &Value) -> Option<Usage> {
    let figure = |names: [&str; 2]| names.iter().find_map(|name| value.get(name)).and_then(Value::as_u64);
    let input = figure(["inputTokens", "input_tokens"]);
    let output = figure(["outputTokens", "output_tokens"]);
    let total = figure(["totalTokens", "total_tokens"]);
    if input.is_none() && output.is_none() && total.is_none() {
        return None;
    }
    let mut usage = Usage::new(input.unwrap_or(0), output.unwrap_or(0));
    usage.total_tokens = usage.total_tokens.max(total.unwrap_or(0));
    Some(usage)
}

/// The text of a content block, or a word for what it is instead.
fn content_text(block: Option<&Value>) -> String {
    let Some(block) = block else { return String::new() };
    if let Some(text) = block.get("text").and_then(Value::as_str) {
        return text.to_owned();
    }
    match block.get("type").and_then(Value::as_str) {
        Some(kind) => format!("[{kind}]"),
        None => String::new(),
    }
}

/// One line for a tool call; none for the many updates that only say that it goes on.
fn tool_line(kind: &str, update: &Value) -> Option<String> {
    let text = |name: &str| update.get(name).and_then(Value::as_str);
    let status = text("status").unwrap_or("pending");
    let finished = matches!(status, "completed" | "failed");
    if kind == "tool_call_update" && !finished {
        return None;
    }
    let title = text("title").or_else(|| text("toolCallId")).unwrap_or("tool call");
    let contents = update.get("content").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let said: Vec<String> = contents
        .iter()
        .take(20)
        .map(|item| match item.get("type").and_then(Value::as_str) {
            Some("diff") => format!("[changes {}]", item.get("path").and_then(Value::as_str).unwrap_or("a file")),
            _ => content_text(item.get("content")),
        })
        .filter(|text| !text.is_empty())
        .collect();
    let mut line = if finished { format!("{title}: {status}") } else { title.to_owned() };
    if !said.is_empty() {
        line.push('\n');
        line.push_str(&said.join("\n"));
    }
    Some(clip(&line, MAX_LINE_BYTES))
}

fn plan_line(update: &Value) -> String {
    let entries = update.get("entries").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let mut line = "plan:".to_owned();
    for entry in entries.iter().take(100) {
        let text = |name: &str| entry.get(name).and_then(Value::as_str).unwrap_or("?");
        line.push_str(&format!("\n- [{}] {}", text("status"), text("content")));
    }
    clip(&line, MAX_LINE_BYTES)
}

/// The text in pieces of a transcript line's length.
fn pieces(text: &str) -> impl Iterator<Item = String> + '_ {
    let mut rest = text;
    let mut first = true;
    std::iter::from_fn(move || {
        if rest.is_empty() && !first {
            return None;
        }
        first = false;
        let (piece, tail) = rest.split_at(floor(rest, MAX_LINE_BYTES));
        rest = tail;
        Some(piece.to_owned())
    })
}

/// The begin of the text, with a word about what was left out.
pub(super) fn clip(text: &str, max: usize) -> String {
    if text.len() <= max {
        return text.to_owned();
    }
    let (begin, rest) = text.split_at(floor(text, max.saturating_sub(40)));
    format!("{begin}… ({} bytes more)", rest.len())
}

/// Leaves the last `max` bytes, cut between characters.
fn keep_end(text: &mut String, max: usize) {
    let mut cut = text.len().saturating_sub(max);
    while !text.is_char_boundary(cut) {
        cut += 1;
    }
    text.drain(..cut);
}

/// The last character boundary at or before `max`.
fn floor(text: &str, max: usize) -> usize {
    let mut at = max.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}
