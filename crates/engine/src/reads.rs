//! What is read of a store: projections, events, transcripts, effects and sagas, for whoever asks a daemon or looks without one.

use dalsegno_core::{DaemonView, FileReceipt, IssueId, IssueView, RunView, Timestamp, Usage, UsageView};
use dalsegno_durable::EffectRecord;
use dalsegno_durable::saga::SagaView;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

/// The journal's reading side: projections and events. Calls block; they never hold up the writer.
pub trait Reads: Send + Sync + 'static {
    /// Identity of this journal; part of every cursor.
    fn journal_id(&self) -> &str;
    /// How much is kept.
    fn kept(&self) -> Kept;
    /// All visible issues, by identifier; with `status`, only those.
    ///
    /// # Errors
    /// [`ReadError`] if the store cannot be read. The same for every other call here.
    fn issues(&self, status: Option<&str>) -> Result<Vec<IssueView>, ReadError>;
    /// The issue with this identifier or id, ignoring case.
    #[allow(missing_docs, reason = "errors as for `issues`")]
    fn issue(&self, key: &str) -> Result<Option<IssueView>, ReadError>;
    /// Runs, newest first; of one issue, or of all. At most `limit`.
    fn runs(&self, issue: Option<&IssueId>, limit: usize) -> Result<Vec<RunView>, ReadError>;
    /// One run by its name.
    fn run(&self, run: &str) -> Result<Option<RunView>, ReadError>;
    /// Rows of the ledger that match, newest day first. At most `limit`.
    fn usage(&self, filter: &UsageFilter, limit: usize) -> Result<Vec<UsageView>, ReadError>;
    /// The ledger's sums, newest first; bounded.
    fn usage_sums(&self, by: UsageBy) -> Result<Vec<UsageSum>, ReadError>;
    /// Totals and health; `None` before the first batch.
    fn daemon(&self) -> Result<Option<DaemonView>, ReadError>;
    /// Events after `after`, oldest first, at most `limit` of those that match; their facts as JSON text, for whoever passes it on.
    fn events_as_written(&self, after: u64, limit: usize, filter: &EventFilter) -> Result<WrittenPage, ReadError>;
    /// The same for whoever looks into the facts.
    fn events(&self, after: u64, limit: usize, filter: &EventFilter) -> Result<EventPage, ReadError> {
        let EventPage { events, through } = self.events_as_written(after, limit, filter)?;
        Ok(EventPage { events: events.into_iter().map(EventRow::parsed).collect::<Result<_, _>>()?, through })
    }
    /// Sequence numbers of the oldest kept event and of the newest; `(1, 0)` in an empty journal.
    fn bounds(&self) -> Result<(u64, u64), ReadError>;
    /// Effects of a run in the order of their intents, those that its agent asked for among them: at most `limit` of those
    /// after `place`; 0 is before the first.
    fn effects(&self, run: &str, after: i64, limit: usize) -> Result<Vec<EffectRow>, ReadError>;
    /// The saga of this id, as it is recorded.
    fn saga(&self, id: &str) -> Result<Option<SagaView>, ReadError>;
    /// Entries of a run's transcript from byte `offset` on, at most `limit`.
    fn transcript(&self, run: &str, offset: u64, limit: usize) -> Result<TranscriptPage, ReadError>;
    /// The files that were kept for a run, in order, at most `limit`.
    fn kept_files(&self, run: &str, limit: usize) -> Result<Vec<KeptFile>, ReadError>;
    /// What is in a file that was kept: what its receipt vouches for, or why that cannot be told. `None`: there is no such file.
    fn kept_file(&self, file: &str) -> Result<Option<Result<Vec<u8>, String>>, ReadError>;
}

/// How much a store keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kept {
    /// The newest so many events; older ones go in portions, and only when a snapshot covers them.
    pub events: u64,
    /// Days that events are kept, counted back from the newest; what is older goes in the same way.
    pub event_days: u32,
    /// The newest so many ended runs, with their transcripts and their rows of the ledger.
    pub ended_runs: u64,
}

/// Which rows of the ledger are wanted; empty fields match all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UsageFilter {
    /// Of this issue.
    pub issue: Option<IssueId>,
    /// Of this run.
    pub run: Option<String>,
    /// Of this UTC day, counted from the epoch.
    pub day: Option<i64>,
    /// Of this model.
    pub model: Option<String>,
}

/// What the ledger is summed by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UsageBy {
    /// Issue.
    Issue,
    /// Run.
    Run,
    /// UTC day.
    Day,
    /// Model.
    Model,
}

/// A sum of the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageSum {
    /// Id of the issue, name of the run, number of the day, or the model; `None`: no model is known.
    pub key: Option<String>,
    /// Identifier of the issue that it is of, or of one of them.
    pub identifier: Option<String>,
    /// How much.
    pub usage: Usage,
    /// What it costs, as far as prices are known, in billionths of a US dollar.
    pub cost_nanousd: u64,
    /// Some of it has no price.
    pub unpriced: bool,
    /// A turn in it did not come to its end in order: it may be more.
    pub incomplete: bool,
}

/// A file that was kept for a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptFile {
    /// What it is.
    pub name: String,
    /// What it was when it was written.
    pub receipt: FileReceipt,
    /// Why there is nothing to read: its receipt was taken back.
    pub lost: Option<String>,
}

/// The store cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the store cannot be read: {0}")]
pub struct ReadError(pub String);

/// Which events are wanted; empty fields match all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventFilter {
    /// Identifier or id of the issue, ignoring case.
    pub issue: Option<String>,
    /// Name of the run.
    pub run: Option<String>,
    /// Kind of the event.
    pub kind: Option<String>,
}

/// Some events, and where the next page begins.
#[derive(Debug, Clone, PartialEq)]
pub struct EventPage<Data = Value> {
    /// Oldest first.
    pub events: Vec<EventRow<Data>>,
    /// Everything up to here was looked at; ask for what comes after it.
    pub through: u64,
}

/// Events whose facts are JSON text, as they are written.
pub type WrittenPage = EventPage<Box<RawValue>>;
/// One of them.
pub type WrittenEvent = EventRow<Box<RawValue>>;

/// One event, as clients see it.
#[derive(Debug, Clone, PartialEq)]
pub struct EventRow<Data = Value> {
    /// Position in the journal.
    pub seq: u64,
    /// When.
    pub at: Timestamp,
    /// What kind.
    pub kind: String,
    /// Identifier of the issue that it concerns, directly or through its run.
    pub issue: Option<String>,
    /// Run that it concerns.
    pub run: Option<String>,
    /// The fact itself, without its kind.
    pub data: Data,
}

impl WrittenEvent {
    /// The same with its fact parsed.
    ///
    /// # Errors
    /// When it is nested deeper than anything that is written, or has a number that no program can hold.
    pub fn parsed(self) -> Result<EventRow, ReadError> {
        let Self { seq, at, kind, issue, run, data } = self;
        let data = serde_json::from_str(data.get())
            .map_err(|error| ReadError(format!("event {seq} is unreadable: {error}")))?;
        Ok(EventRow { seq, at, kind, issue, run, data })
    }
}

/// One effect, as it is recorded.
#[derive(Debug, Clone, PartialEq)]
pub struct EffectRow {
    /// Its place among all effects of the store; rises with each intent.
    pub place: i64,
    /// The record.
    pub record: EffectRecord,
}

/// Some of a transcript.
#[derive(Debug, Clone, PartialEq)]
pub struct TranscriptPage {
    /// Oldest first.
    pub entries: Vec<TranscriptEntry>,
    /// Byte offset at which the next page begins.
    pub next: u64,
}

/// One line of a run's transcript. Not journaled; appended in batches.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TranscriptEntry {
    /// When it was received.
    pub at: Timestamp,
    /// Turn that it belongs to; 0 before the first.
    pub turn: u32,
    /// What it is.
    pub kind: TranscriptKind,
    /// Its text, at most 16 KiB.
    pub text: String,
}

/// What a line of a transcript is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TranscriptKind {
    /// What we sent.
    Prompt,
    /// What the agent said.
    Message,
    /// What the agent thought.
    Thought,
    /// A tool call or its result.
    Tool,
    /// What the agent wrote to its standard error.
    Stderr,
    /// Something that is no valid protocol.
    Malformed,
    /// What the daemon notes: start, end, permission, interrupt.
    Note,
}

impl TranscriptKind {
    /// The word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Prompt => "prompt",
            Self::Message => "message",
            Self::Thought => "thought",
            Self::Tool => "tool",
            Self::Stderr => "stderr",
            Self::Malformed => "malformed",
            Self::Note => "note",
        }
    }
}
