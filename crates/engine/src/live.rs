//! What is known of live agents between two batches: the last sign of life and the latest usage report.
//! Kept as state, not as a queue: a flood of signs costs nothing and loses nothing that counts.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dalsegno_core::{RunId, Timestamp, Usage};

use crate::ports::{AgentSink, Clock, TranscriptEntry, TranscriptKind, Transcripts};

/// Longest text of one transcript entry, in bytes.
const ENTRY_BYTES: usize = 16 * 1024;
/// Longest last words that are kept for a look at a live run, in bytes.
const MESSAGE_BYTES: usize = 200;

/// Signs of all live agents.
#[derive(Debug, Default)]
pub(crate) struct Live {
    runs: Mutex<BTreeMap<RunId, Signs>>,
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
#[derive(Debug, Clone, Default)]
struct Signs {
    last: LastSign,
    /// Something came since it was last looked at.
    fresh: bool,
    /// Usage report that was not looked at yet.
    usage: Option<Usage>,
    /// Turn that is open.
    turn: u32,
}

impl Live {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<RunId, Signs>> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What came since the last look.
    pub(crate) fn take(&self) -> Vec<(RunId, Option<Usage>)> {
        let mut taken = Vec::new();
        for (run, signs) in self.lock().iter_mut() {
            if std::mem::take(&mut signs.fresh) {
                taken.push((run.clone(), signs.usage.take()));
            }
        }
        taken
    }

    pub(crate) fn last_sign(&self, run: &str) -> Option<LastSign> {
        self.lock().get(&RunId(run.to_owned())).map(|signs| signs.last.clone())
    }

    fn sign(&self, run: &RunId, at: Timestamp, what: &'static str) -> MutexGuard<'_, BTreeMap<RunId, Signs>> {
        let mut runs = self.lock();
        let signs = runs.entry(run.clone()).or_default();
        signs.last.at = Some(at);
        signs.last.what = what;
        signs.fresh = true;
        runs
    }

    pub(crate) fn set_turn(&self, run: &RunId, turn: u32) {
        self.lock().entry(run.clone()).or_default().turn = turn;
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

impl AgentSink for Sink {
    fn activity(&self) {
        drop(self.live.sign(&self.run, self.clock.now(), "activity"));
    }

    fn usage(&self, usage: Usage) {
        let mut runs = self.live.sign(&self.run, self.clock.now(), "usage");
        if let Some(signs) = runs.get_mut(&self.run) {
            signs.usage = Some(signs.usage.map_or(usage, |before| before.max(usage)));
        }
    }

    fn transcript(&self, kind: TranscriptKind, text: &str) {
        let at = self.clock.now();
        let mut runs = self.live.lock();
        let signs = runs.entry(self.run.clone()).or_default();
        signs.last.what = kind.as_str();
        if kind == TranscriptKind::Message {
            clip(text.trim(), MESSAGE_BYTES).clone_into(&mut signs.last.message);
        }
        let turn = signs.turn;
        drop(runs);
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
