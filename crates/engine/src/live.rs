//! What is known of live agents between two batches: the last sign of life and the latest usage report.
//! Kept as state, not as a queue: a flood of signs costs nothing and loses nothing that counts.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dalsegno_core::{RunId, Timestamp, Usage};

use crate::ports::{AgentSink, Clock, TranscriptEntry, TranscriptKind, Transcripts};

/// Longest text of one transcript entry, in bytes.
const ENTRY_BYTES: usize = 16 * 1024;

/// Signs of all live agents.
#[derive(Debug, Default)]
pub(crate) struct Live {
    runs: Mutex<BTreeMap<RunId, Signs>>,
}

/// Signs of one agent.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Signs {
    /// The last sign of life.
    pub(crate) last: Option<Timestamp>,
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

    pub(crate) fn last_sign(&self, run: &RunId) -> Option<Timestamp> {
        self.lock().get(run).and_then(|signs| signs.last)
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
        let now = self.clock.now();
        let mut runs = self.live.lock();
        let signs = runs.entry(self.run.clone()).or_default();
        signs.last = Some(now);
        signs.fresh = true;
    }

    fn usage(&self, usage: Usage) {
        self.activity();
        let mut runs = self.live.lock();
        let signs = runs.entry(self.run.clone()).or_default();
        signs.usage = Some(signs.usage.map_or(usage, |before| before.max(usage)));
    }

    fn transcript(&self, kind: TranscriptKind, text: &str) {
        let turn = self.live.lock().get(&self.run).map_or(0, |signs| signs.turn);
        let text = clip(text, ENTRY_BYTES).to_owned();
        self.transcripts.append(&self.run, TranscriptEntry { at: self.clock.now(), turn, kind, text });
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
