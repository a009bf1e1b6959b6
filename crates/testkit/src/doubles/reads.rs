//! A reading side in memory, for everything that asks [`Reads`].

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use dalsegno_core::{
    Batch, DaemonView, IssueId, IssueView, Recorded, RunId, RunView, Timestamp, Usage, UsageView, View,
};
use dalsegno_durable::EffectRecord;
use dalsegno_durable::saga::SagaView;
use dalsegno_engine::{
    EffectRow, EventFilter, EventPage, EventRow, Kept, KeptFile, ReadError, Reads, TranscriptEntry, TranscriptPage,
    UsageBy, UsageFilter, UsageSum, WrittenEvent, WrittenPage,
};
use serde_json::Value;
use serde_json::value::to_raw_value;

/// Projections, events and transcripts in memory.
#[derive(Debug)]
pub struct MemoryReads {
    journal: String,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    issues: BTreeMap<IssueId, IssueView>,
    /// Of issues that went, too.
    identifiers: BTreeMap<IssueId, String>,
    runs: BTreeMap<RunId, RunView>,
    /// Names in the order in which they came.
    run_order: Vec<RunId>,
    usage: BTreeMap<(RunId, u32, u32), UsageView>,
    daemon: Option<DaemonView>,
    events: Vec<EventRow>,
    head: u64,
    oldest: u64,
    transcripts: BTreeMap<String, Vec<TranscriptEntry>>,
    files: BTreeMap<String, Vec<(KeptFile, Vec<u8>)>>,
    effects: BTreeMap<String, Vec<EffectRow>>,
    effect_count: i64,
    sagas: BTreeMap<String, SagaView>,
    failure: Option<String>,
    furthest: u64,
}

impl MemoryReads {
    /// An empty journal of this identity.
    #[must_use]
    pub fn new(journal: &str) -> Self {
        Self { journal: journal.to_owned(), inner: Mutex::new(Inner { oldest: 1, ..Inner::default() }) }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a file for a run; `lost`: its receipt was taken back, and why.
    pub fn keep_file(&self, run: &str, file: KeptFile, content: &[u8]) {
        self.inner().files.entry(run.to_owned()).or_default().push((file, content.to_vec()));
    }

    /// Takes a batch as a store would: events and projections at once.
    pub fn commit(&self, batch: &Batch) {
        let mut inner = self.inner();
        for view in &batch.views {
            inner.put(view.clone());
        }
        for Recorded { seq, at, event } in &batch.events {
            let run = event.run().map(|run| run.0.clone());
            let issue = event.issue().cloned().or_else(|| {
                let run = run.as_ref()?;
                inner.runs.get(&RunId(run.clone())).map(|run| run.issue.clone())
            });
            let issue = issue.map(|id| inner.identifiers.get(&id).cloned().unwrap_or(id.0));
            let mut data = serde_json::to_value(event).unwrap_or(Value::Null);
            if let Value::Object(fields) = &mut data {
                fields.remove("kind");
            }
            inner.head = *seq;
            inner.events.push(EventRow { seq: *seq, at: *at, kind: event.kind().to_owned(), issue, run, data });
        }
    }

    /// Writes one projection.
    pub fn put(&self, view: View) {
        self.inner().put(view);
    }

    /// Appends an event; answers its number.
    pub fn push(&self, at: Timestamp, kind: &str, issue: Option<&str>, run: Option<&str>, data: Value) -> u64 {
        let mut inner = self.inner();
        inner.head += 1;
        let (issue, run) = (issue.map(str::to_owned), run.map(str::to_owned));
        let row = EventRow { seq: inner.head, at, kind: kind.to_owned(), issue, run, data };
        inner.events.push(row);
        inner.head
    }

    /// Forgets events before `oldest`, as retention does.
    pub fn prune(&self, oldest: u64) {
        let mut inner = self.inner();
        inner.oldest = oldest.max(inner.oldest);
        let oldest = inner.oldest;
        inner.events.retain(|event| event.seq >= oldest);
    }

    /// Appends so many events and forgets all but the last of them, in one: nobody sees those in between.
    pub fn overtake(&self, at: Timestamp, events: u64) {
        let mut inner = self.inner();
        for _ in 0..events {
            inner.head += 1;
            let (seq, kind) = (inner.head, "usage".to_owned());
            inner.events.push(EventRow { seq, at, kind, issue: None, run: None, data: Value::Null });
        }
        inner.oldest = inner.head;
        let oldest = inner.oldest;
        inner.events.retain(|event| event.seq >= oldest);
    }

    /// Appends to a run's transcript.
    pub fn write(&self, run: &str, entry: TranscriptEntry) {
        self.inner().transcripts.entry(run.to_owned()).or_default().push(entry);
    }

    /// Records an effect of a run.
    pub fn note_effect(&self, run: &str, record: EffectRecord) {
        let mut inner = self.inner();
        inner.effect_count += 1;
        let place = inner.effect_count;
        inner.effects.entry(run.to_owned()).or_default().push(EffectRow { place, record });
    }

    /// A saga as it is now.
    pub fn put_saga(&self, view: SagaView) {
        self.inner().sagas.insert(view.id.clone(), view);
    }

    /// From now on every read fails; `None` heals it.
    pub fn fail(&self, why: Option<&str>) {
        self.inner().failure = why.map(str::to_owned);
    }

    /// The last event that any reader was given.
    #[must_use]
    pub fn furthest(&self) -> u64 {
        self.inner().furthest
    }

    fn readable(&self) -> Result<MutexGuard<'_, Inner>, ReadError> {
        let inner = self.inner();
        match &inner.failure {
            Some(why) => Err(ReadError(why.clone())),
            None => Ok(inner),
        }
    }
}

impl Inner {
    fn put(&mut self, view: View) {
        match view {
            View::Issue(view) => {
                self.identifiers.insert(view.issue.id.clone(), view.issue.identifier.clone());
                self.issues.insert(view.issue.id.clone(), *view);
            }
            View::IssueGone(id) => {
                self.issues.remove(&id);
            }
            View::Run(view) => {
                if !self.runs.contains_key(&view.id) {
                    self.run_order.push(view.id.clone());
                }
                self.runs.insert(view.id.clone(), *view);
            }
            View::Usage(row) => {
                self.usage.insert((row.run.clone(), row.turn, row.place), *row);
            }
            View::Daemon(view) => self.daemon = Some(*view),
        }
    }

    fn matches(&self, row: &EventRow, filter: &EventFilter) -> bool {
        let EventFilter { issue, run, kind } = filter;
        let issue_matches = issue.as_ref().is_none_or(|wanted| {
            let identifier = self
                .identifiers
                .iter()
                .find(|(id, _)| id.as_str().eq_ignore_ascii_case(wanted))
                .map_or(wanted, |(_, identifier)| identifier);
            row.issue.as_ref().is_some_and(|issue| issue.eq_ignore_ascii_case(identifier))
        });
        issue_matches
            && run.as_ref().is_none_or(|wanted| row.run.as_ref() == Some(wanted))
            && kind.as_ref().is_none_or(|wanted| row.kind == *wanted)
    }
}

impl Reads for MemoryReads {
    fn kept(&self) -> Kept {
        Kept { events: 1_000, event_days: 90, ended_runs: 100 }
    }

    fn journal_id(&self) -> &str {
        &self.journal
    }

    fn issues(&self, status: Option<&str>) -> Result<Vec<IssueView>, ReadError> {
        let inner = self.readable()?;
        let wanted = |view: &&IssueView| status.is_none_or(|status| view.status.as_str() == status);
        let mut views: Vec<IssueView> = inner.issues.values().filter(wanted).cloned().collect();
        views.sort_by(|a, b| a.issue.identifier.cmp(&b.issue.identifier));
        Ok(views)
    }

    fn issue(&self, key: &str) -> Result<Option<IssueView>, ReadError> {
        let inner = self.readable()?;
        let is = |view: &&IssueView| {
            view.issue.identifier.eq_ignore_ascii_case(key) || view.issue.id.as_str().eq_ignore_ascii_case(key)
        };
        Ok(inner.issues.values().find(is).cloned())
    }

    fn runs(&self, issue: Option<&IssueId>, limit: usize) -> Result<Vec<RunView>, ReadError> {
        let inner = self.readable()?;
        let newest_first = inner.run_order.iter().rev().filter_map(|run| inner.runs.get(run));
        Ok(newest_first.filter(|run| issue.is_none_or(|issue| run.issue == *issue)).take(limit).cloned().collect())
    }

    fn run(&self, run: &str) -> Result<Option<RunView>, ReadError> {
        Ok(self.readable()?.runs.get(&RunId::from(run)).cloned())
    }

    fn usage(&self, filter: &UsageFilter, limit: usize) -> Result<Vec<UsageView>, ReadError> {
        let UsageFilter { issue, run, day, model } = filter;
        let inner = self.readable()?;
        let wanted = |row: &&UsageView| {
            issue.as_ref().is_none_or(|issue| row.issue == *issue)
                && run.as_ref().is_none_or(|run| row.run.as_str() == run)
                && day.is_none_or(|day| row.day == day)
                && (model.is_none() || row.model == *model)
        };
        let mut rows: Vec<UsageView> = inner.usage.values().filter(wanted).cloned().collect();
        rows.sort_by_key(|row| std::cmp::Reverse(row.day));
        rows.truncate(limit);
        Ok(rows)
    }

    fn usage_sums(&self, by: UsageBy) -> Result<Vec<UsageSum>, ReadError> {
        let inner = self.readable()?;
        let mut sums: BTreeMap<Option<String>, UsageSum> = BTreeMap::new();
        for row in inner.usage.values() {
            let key = match by {
                UsageBy::Issue => Some(row.issue.0.clone()),
                UsageBy::Run => Some(row.run.0.clone()),
                UsageBy::Day => Some(row.day.to_string()),
                UsageBy::Model => row.model.clone(),
            };
            let sum = sums.entry(key.clone()).or_insert_with(|| UsageSum {
                key,
                identifier: Some(row.identifier.clone()),
                usage: Usage::default(),
                cost_nanousd: 0,
                unpriced: false,
                incomplete: false,
            });
            sum.usage = sum.usage.plus(row.usage);
            sum.cost_nanousd += row.cost_nanousd.unwrap_or(0);
            sum.unpriced |= row.cost_nanousd.is_none() && row.usage.tokens() > 0;
            sum.incomplete |= row.incomplete;
        }
        Ok(sums.into_values().rev().collect())
    }

    fn effects(&self, run: &str, after: i64, limit: usize) -> Result<Vec<EffectRow>, ReadError> {
        let inner = self.readable()?;
        let effects = inner.effects.get(run).into_iter().flatten();
        Ok(effects.filter(|row| row.place > after).take(limit).cloned().collect())
    }

    fn saga(&self, id: &str) -> Result<Option<SagaView>, ReadError> {
        Ok(self.readable()?.sagas.get(id).cloned())
    }

    fn daemon(&self) -> Result<Option<DaemonView>, ReadError> {
        Ok(self.readable()?.daemon.clone())
    }

    fn events_as_written(&self, after: u64, limit: usize, filter: &EventFilter) -> Result<WrittenPage, ReadError> {
        let mut inner = self.readable()?;
        let start = inner.events.partition_point(|row| row.seq <= after);
        let rest = inner.events.iter().skip(start);
        let found = rest.filter(|row| inner.matches(row, filter)).take(limit).map(written);
        let events = found.collect::<Result<Vec<_>, _>>()?;
        let through = match events.last() {
            Some(last) if events.len() == limit => last.seq,
            _ => inner.head.max(after),
        };
        inner.furthest = inner.furthest.max(through);
        Ok(EventPage { events, through })
    }

    fn bounds(&self) -> Result<(u64, u64), ReadError> {
        let inner = self.readable()?;
        Ok((inner.oldest, inner.head))
    }

    fn transcript(&self, run: &str, offset: u64, limit: usize) -> Result<TranscriptPage, ReadError> {
        let inner = self.readable()?;
        let entries = inner.transcripts.get(run).map(Vec::as_slice).unwrap_or_default();
        // Here an entry is one byte long.
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(entries.len());
        let entries: Vec<TranscriptEntry> = entries.iter().skip(start).take(limit).cloned().collect();
        let next = offset + entries.len() as u64;
        Ok(TranscriptPage { entries, next })
    }

    fn kept_files(&self, run: &str, limit: usize) -> Result<Vec<KeptFile>, ReadError> {
        let inner = self.readable()?;
        let files = inner.files.get(run).map(Vec::as_slice).unwrap_or_default();
        Ok(files.iter().take(limit).map(|(file, _)| file.clone()).collect())
    }

    fn kept_file(&self, file: &str) -> Result<Option<Result<Vec<u8>, String>>, ReadError> {
        let inner = self.readable()?;
        let found = inner.files.values().flatten().find(|(kept, _)| kept.receipt.file == file);
        Ok(found.map(|(kept, content)| kept.lost.clone().map_or_else(|| Ok(content.clone()), Err)))
    }
}

fn written(row: &EventRow) -> Result<WrittenEvent, ReadError> {
    let EventRow { seq, at, kind, issue, run, data } = row.clone();
    let data = to_raw_value(&data).map_err(|error| ReadError(error.to_string()))?;
    Ok(EventRow { seq, at, kind, issue, run, data })
}
