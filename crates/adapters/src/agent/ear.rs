//! What every client of an agent hears, whatever the protocol: signs of life, transcript lines, last words, malformed
//! lines, questions, and the verdict that the stream is of no use.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dalsegno_engine::core::{Failure, Reply, TurnOutcome, Usage, Wants};
use dalsegno_engine::{AgentSink, RateWindow, TranscriptKind};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use super::text::{MAX_LINE_BYTES, clip, keep_end, pieces};

/// A larger figure of tokens is none.
const MAX_TOKENS: u64 = 1_000_000_000_000;
/// Chunks of a message are gathered up to here.
const GATHER_BYTES: usize = 4 * 1024;
/// Longest summary of a turn.
const MAX_WORDS_BYTES: usize = 2 * 1024;
/// Longest shown piece of something that is no protocol.
const MAX_MALFORMED_BYTES: usize = 512;
/// Malformed lines that one turn may have.
const MAX_MALFORMED: u32 = 100;

type Line = (TranscriptKind, String);

/// Longest wait for an answer with the turn open; then the turn ends with the question, and the answer goes into a next one.
const LIVE_WAIT: Duration = Duration::from_secs(600);
/// While an answer is waited for, the agent's silence is no sign of anything.
const WAIT_BEAT: Duration = Duration::from_secs(1);

/// What the agent wants of a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) question: String,
    pub(super) wants: Wants,
}

impl Asked {
    pub(super) fn ends_turn(self) -> TurnOutcome {
        TurnOutcome::Asked { question: self.question, wants: self.wants }
    }
}

/// Hears an agent; shared by the reader and the session.
pub(super) struct Ear {
    sink: Arc<dyn AgentSink>,
    speech: Mutex<Speech>,
    began: Instant,
    /// Milliseconds after `began` of the last sign of life.
    last_ms: AtomicU64,
    /// What the agent wants of a person, in this turn.
    pub(super) asked: watch::Sender<Option<Asked>>,
    /// Why the stream is of no use any more, when it is our verdict.
    broken: Mutex<Option<Failure>>,
    /// What to do about lines that are no protocol.
    remedy: &'static str,
}

impl Ear {
    pub(super) fn new(sink: Arc<dyn AgentSink>, remedy: &'static str) -> Self {
        Self {
            sink,
            speech: Mutex::new(Speech::default()),
            began: Instant::now(),
            last_ms: AtomicU64::new(0),
            asked: watch::Sender::new(None),
            broken: Mutex::new(None),
            remedy,
        }
    }

    /// The state stays whole when a holder panics: every change is a plain assignment.
    fn speech(&self) -> MutexGuard<'_, Speech> {
        self.speech.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A line came.
    pub(super) fn activity(&self) {
        self.touch();
        self.sink.activity();
    }

    /// The agent works, although nothing came: the clock of silence goes on.
    pub(super) fn works(&self) {
        self.sink.activity();
    }

    /// The clock of silence starts over.
    pub(super) fn touch(&self) {
        let now = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last_ms.store(now, Ordering::Relaxed);
    }

    /// When the last line came.
    pub(super) fn last(&self) -> Instant {
        self.began + Duration::from_millis(self.last_ms.load(Ordering::Relaxed))
    }

    /// Asks a person, with the turn open. Without an answer the turn has to end with the question.
    pub(super) async fn ask(&self, question: &str, wants: Wants) -> Option<Reply> {
        self.note(&format!("this needs a person: {question}"));
        let answer = timeout(LIVE_WAIT, self.sink.ask(question, wants));
        tokio::pin!(answer);
        let reply = loop {
            match timeout(WAIT_BEAT, &mut answer).await {
                Ok(answered) => break answered.ok().flatten(),
                Err(_) => self.touch(),
            }
        };
        self.touch();
        if let Some(reply) = &reply {
            self.note(match reply {
                Reply::Text { .. } => "an operator answered",
                Reply::Granted => "an operator gave the permission",
                Reply::Denied { .. } => "an operator refused the permission",
            });
        }
        reply
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
        {
            let mut speech = self.speech();
            speech.close(&mut lines);
            speech.words.clear();
            speech.malformed = 0;
            speech.doubted = false;
        }
        lines.extend(pieces(prompt).map(|piece| (TranscriptKind::Prompt, piece)));
        self.write(lines);
        self.asked.send_replace(None);
        self.touch();
    }

    /// The turn is over: the agent's last words.
    pub(super) fn end_turn(&self) -> String {
        let mut lines = Vec::new();
        let words = {
            let mut speech = self.speech();
            speech.close(&mut lines);
            std::mem::take(&mut speech.words).trim().to_owned()
        };
        self.write(lines);
        words
    }

    /// Tokens of the turn so far.
    pub(super) fn usage(&self, usage: Usage, model: Option<&str>) {
        self.sink.usage(usage, model);
    }

    /// The figures, unless no agent can have used so much: they would spoil every sum that they are part of. Said once in
    /// a turn.
    pub(super) fn believed(&self, usage: Usage) -> Option<Usage> {
        if believable(usage) {
            return Some(usage);
        }
        if !std::mem::replace(&mut self.speech().doubted, true) {
            self.note("the agent tells token figures that cannot be; they do not count");
        }
        None
    }

    /// How much of the provider's quota is used.
    pub(super) fn rate_limits(&self, windows: &[RateWindow]) {
        self.sink.rate_limits(windows);
    }

    /// A piece of something that is said bit by bit.
    pub(super) fn say(&self, kind: TranscriptKind, text: &str) {
        let mut lines = Vec::new();
        self.speech().say(kind, text, &mut lines);
        self.write(lines);
    }

    /// A line of its own.
    pub(super) fn line(&self, kind: TranscriptKind, text: &str) {
        let mut lines = Vec::new();
        self.speech().close(&mut lines);
        lines.push((kind, clip(text, MAX_LINE_BYTES)));
        self.write(lines);
    }

    /// Writes out what was gathered.
    pub(super) fn flush(&self) {
        let mut lines = Vec::new();
        self.speech().close(&mut lines);
        self.write(lines);
    }

    /// A line came that is no protocol. The error says that there were too many.
    pub(super) fn malformed(&self, line: &str) -> Result<(), Failure> {
        let mut lines = Vec::new();
        let count = {
            let mut speech = self.speech();
            speech.close(&mut lines);
            speech.malformed = speech.malformed.saturating_add(1);
            speech.malformed
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
        .hint(self.remedy))
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

/// Whether an agent can have used so many tokens, in all its life.
pub(super) fn believable(usage: Usage) -> bool {
    let Usage { input_tokens, cached_input_tokens, output_tokens, total_tokens } = usage;
    [input_tokens, cached_input_tokens, output_tokens, total_tokens].iter().all(|figure| *figure <= MAX_TOKENS)
}

/// Waits for the agent to ask something. The sender lives as long as the ear.
pub(super) async fn next_question(asked: &mut watch::Receiver<Option<Asked>>) -> Asked {
    loop {
        if let Some(question) = asked.borrow_and_update().clone() {
            return question;
        }
        if asked.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// State of what is being said.
#[derive(Debug, Default)]
struct Speech {
    /// What is being gathered, and as what.
    open: Option<TranscriptKind>,
    gathered: String,
    /// The agent's last words.
    words: String,
    malformed: u32,
    /// Figures were told in this turn that cannot be.
    doubted: bool,
}

impl Speech {
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
            self.write_out(kind, lines);
        }
    }

    /// Writes whole lines; what is behind the last one stays, unless there is none.
    fn write_out(&mut self, kind: TranscriptKind, lines: &mut Vec<Line>) {
        let rest = match self.gathered.rfind('\n') {
            Some(end) => self.gathered.split_off(end + 1),
            None => String::new(),
        };
        lines.extend(pieces(self.gathered.trim_end_matches('\n')).map(|piece| (kind, piece)));
        self.gathered = rest;
    }
}
