//! What an ACP agent says, folded into transcript lines, usage and last words.

use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dalsegno_engine::core::Usage;
use dalsegno_engine::{AgentSink, TranscriptKind};
use serde_json::Value;

use crate::agent::ear::Ear;
use crate::agent::text::{MAX_LINE_BYTES, clip, keep_end};

/// Hears everything that comes from the agent; shared by the reader and the session.
pub(super) struct Listener {
    pub(super) ear: Arc<Ear>,
    fold: Mutex<Fold>,
}

impl Deref for Listener {
    type Target = Ear;

    fn deref(&self) -> &Ear {
        &self.ear
    }
}

impl Listener {
    pub(super) fn new(sink: Arc<dyn AgentSink>) -> Self {
        let remedy =
            "see that `agent.command` starts the agent in its ACP mode, and that nothing else writes to its output";
        Self { ear: Arc::new(Ear::new(sink, remedy)), fold: Mutex::new(Fold::default()) }
    }

    /// The state stays whole when a holder panics: every change is a plain assignment.
    fn fold(&self) -> MutexGuard<'_, Fold> {
        self.fold.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A turn begins with this prompt.
    pub(super) fn begin_turn(&self, prompt: &str) {
        *self.fold() = Fold::default();
        self.ear.begin_turn(prompt);
    }

    /// The turn is over: usage and last words.
    pub(super) fn end_turn(&self, reported: Usage) -> (Usage, String) {
        let reported = self.ear.believed(reported).unwrap_or_default();
        let usage = {
            let mut fold = self.fold();
            fold.usage = fold.usage.max(reported);
            fold.usage
        };
        let words = self.ear.end_turn();
        if usage != Usage::default() {
            self.ear.usage(usage, None);
        }
        (usage, words)
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
        let kind = update.get("sessionUpdate").and_then(Value::as_str).unwrap_or_default();
        if let Some(replay) = &mut self.fold().replay {
            if kind == "user_message_chunk" {
                replay.hear(&content_text(update.get("content")));
            } else {
                replay.pause();
            }
            return;
        }
        match kind {
            "agent_message_chunk" => self.say(TranscriptKind::Message, &content_text(update.get("content"))),
            "agent_thought_chunk" => self.say(TranscriptKind::Thought, &content_text(update.get("content"))),
            "tool_call" | "tool_call_update" => match tool_line(kind, update) {
                Some(line) => self.line(TranscriptKind::Tool, &line),
                None => self.flush(),
            },
            "plan" => self.line(TranscriptKind::Thought, &plan_line(update)),
            "usage_update" => {
                // `used` and `size` tell how full the model's context is, not what was consumed. What counts comes in
                // the metadata, where an agent says it at all.
                let Some(usage) = update.pointer("/_meta/usage").and_then(usage_of) else { return };
                let Some(usage) = self.ear.believed(usage) else { return };
                let usage = {
                    let mut fold = self.fold();
                    fold.usage = fold.usage.max(usage);
                    fold.usage
                };
                self.ear.usage(usage, None);
            }
            // Commands, modes, titles and what later versions add: a sign of life and no more.
            _ => {}
        }
    }
}

/// State of the turn, or of a replay.
#[derive(Debug, Default)]
struct Fold {
    replay: Option<Replay>,
    usage: Usage,
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
