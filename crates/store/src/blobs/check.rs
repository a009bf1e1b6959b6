//! The look at kept files: whether each is what its receipt says, and each has one; and what is done about those that do not.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use dalsegno_core::{Broken, Failure, FoundFile, Mend, RunId};

use super::rows::{self, Deed, Entry, Number, entries, entry};
use super::{BlobFiles, DIRECTORY, disk};
use crate::error::StoreError;
use crate::open::Store;

/// Bytes that are hashed in one look; what is left comes with the next.
const LOOK_BYTES: u64 = 256 << 20;
/// Files that are told of in one look.
const TOLD: usize = 1_000;
/// Entries that are read at once.
const PAGE: u32 = 4_096;
/// What the name of a batch begins with.
const BATCH: &str = "batch-";

/// Looks at kept files, and remembers up to which batch they were hashed.
///
/// A file that changes later without changing its length is found by the next life, when somebody reads it, or while its run is live.
#[derive(Debug)]
pub struct BlobCheck {
    store: Arc<Store>,
    directory: PathBuf,
    /// None: nobody writes here, and nothing is mended.
    files: Option<BlobFiles>,
    through: Mutex<Number>,
}

impl BlobCheck {
    /// Of the files of `store`; `files` is the writer's side of it, where there is one.
    #[must_use]
    pub fn new(store: Arc<Store>, files: Option<BlobFiles>) -> Self {
        let directory = store.state_dir.join(DIRECTORY);
        Self { store, directory, files, through: Mutex::new(0) }
    }

    /// What is to be told: batches that nobody writes any more, receipts that do not hold, files without one, and what the receipts of
    /// the `live` runs say of them.
    ///
    /// # Errors
    /// `blobs_unreadable` when neither the directory nor the receipts can be read.
    pub fn look(&self, live: &[RunId]) -> Result<Vec<FoundFile>, Failure> {
        // First the names: a file that is there by now has its rows by now.
        let names = disk::names(&self.directory).map_err(|error| unreadable(&self.directory.display(), &error))?;
        let mut unspoken: BTreeSet<String> = names.into_iter().filter(|name| !disk::is_draft(name)).collect();
        let live: BTreeSet<&RunId> = live.iter().collect();
        let (mut found, mut read, mut after) = (Vec::new(), 0, 0);
        let mut through = self.through.lock().unwrap_or_else(PoisonError::into_inner);
        // The first batch of which something is left for the next look.
        let mut left: Option<Number> = None;
        let mut open: Vec<Entry> = Vec::new();
        loop {
            let page = self.store.pool.with(|db| Ok(entries(db, after, PAGE)?));
            let mut page = page.map_err(|error| unreadable(&"the receipts", &error))?;
            let last = page.last().map(|entry| entry.batch);
            let Some(last) = last else { break };
            if page.len() == PAGE as usize {
                // The rest of it comes with the next page.
                page.retain(|entry| entry.batch != last);
            }
            after = page.last().map_or(last, |entry| entry.batch);
            for entry in page {
                let file = entry.file();
                let there = unspoken.contains(&file);
                if entry.is_open() {
                    unspoken.remove(&file);
                    open.push(entry);
                } else if entry.holds() {
                    unspoken.remove(&file);
                    let fresh = entry.batch > *through || live.contains(&entry.run);
                    if fresh && there && read < LOOK_BYTES {
                        read += entry.bytes;
                        found.extend(self.judge(&entry));
                    } else {
                        if fresh && there {
                            left.get_or_insert(entry.batch);
                        }
                        found.extend(self.glance(&entry, there));
                    }
                }
            }
            if found.len() >= TOLD {
                break;
            }
        }
        if found.iter().all(|found| !matches!(found, FoundFile::Broken { .. } | FoundFile::Unreadable { .. })) {
            *through = (*through).max(left.map_or(after, |left| left - 1));
        }
        drop(through);
        found.extend(self.batches(&open)?);
        if found.len() < TOLD {
            // With all entries read, what is left has none.
            found.extend(unspoken.into_iter().map(|file| FoundFile::Unreceipted { file }));
        }
        for run in live {
            let owners = self.store.pool.with(|db| Ok(rows::owners(db, run.as_str())?));
            let owners = owners.map_err(|error| unreadable(&"the receipts", &error))?;
            found.extend(owners.into_iter().map(|owner| FoundFile::Under {
                run: owner.run,
                policy: owner.policy,
                agent: owner.agent,
            }));
        }
        found.truncate(TOLD);
        Ok(found)
    }

    /// What is wrong with a receipt, its file read through.
    fn judge(&self, entry: &Entry) -> Option<FoundFile> {
        match disk::is_whole(&self.directory, entry) {
            Ok(Some(true)) => self.glance(entry, true),
            Ok(Some(false)) => Some(broken(entry, Broken::Differs)),
            Ok(None) => Some(broken(entry, Broken::Missing)),
            Err(error) => {
                Some(FoundFile::Unreadable { file: entry.file(), failure: unreadable(&entry.file(), &error) })
            }
        }
    }

    /// The same, without reading it.
    fn glance(&self, entry: &Entry, there: bool) -> Option<FoundFile> {
        if !there {
            return Some(broken(entry, Broken::Missing));
        }
        if !entry.known {
            return Some(broken(entry, Broken::UnknownRun));
        }
        match std::fs::symlink_metadata(self.directory.join(entry.file())) {
            Ok(meta) if meta.len() == entry.bytes => None,
            Ok(_) => Some(broken(entry, Broken::Differs)),
            Err(error) if error.kind() == ErrorKind::NotFound => Some(broken(entry, Broken::Missing)),
            Err(error) => {
                Some(FoundFile::Unreadable { file: entry.file(), failure: unreadable(&entry.file(), &error) })
            }
        }
    }

    /// Batches that were begun and that nobody writes any more.
    fn batches(&self, open: &[Entry]) -> Result<Vec<FoundFile>, Failure> {
        let mut found = Vec::new();
        for entries in open.chunk_by(|one, other| one.batch == other.batch) {
            let Some(Entry { batch, run, .. }) = entries.first() else { continue };
            if self.files.as_ref().is_some_and(|files| files.0.may_write(*batch)) {
                continue;
            }
            let life = self.files.as_ref().map(|files| files.0.life.as_str());
            let unnamed = disk::unnamed(&self.directory, life, entries)
                .map_err(|error| unreadable(&batch_name(*batch), &error))?;
            let whole = unnamed.is_some();
            found.push(FoundFile::OpenBatch { batch: batch_name(*batch), run: run.clone(), whole });
        }
        Ok(found)
    }

    /// Puts it right, and answers in words what was done. Looks first: what is as it should be is left alone.
    ///
    /// # Errors
    /// `blob_unmended`, and what the writer answers.
    pub async fn mend(self: Arc<Self>, mend: Mend) -> Result<String, Failure> {
        let Some(files) = self.files.clone() else {
            return Err(unmended(&"the store was opened for a look"));
        };
        let this = Arc::clone(&self);
        let planned = tokio::task::spawn_blocking(move || this.plan(&mend)).await;
        match planned.map_err(|error| unmended(&error))?? {
            Planned::Done(words) => Ok(words),
            Planned::Then(deed, words) => {
                files.0.ask(deed).await?;
                Ok(words)
            }
        }
    }

    /// What is done on the disk, and what the rows have to say after it.
    fn plan(&self, mend: &Mend) -> Result<Planned, Failure> {
        match mend {
            Mend::SettleBatch { batch, whole: _ } => self.settle(batch),
            Mend::VoidReceipt { file, how } => self.void(file, *how),
            Mend::SetFileAside { file } => self.set_aside(file),
            Mend::RemoveWorkspace { .. }
            | Mend::KeepWorkspace { .. }
            | Mend::EndProcesses { .. }
            | Mend::SetTranscriptAside { .. } => Err(unmended(&"it is nothing about kept files")),
        }
    }

    fn settle(&self, name: &str) -> Result<Planned, Failure> {
        let batch = name.strip_prefix(BATCH).and_then(|number| number.parse::<Number>().ok());
        let batch = batch.ok_or_else(|| unmended(&format!("{name:?} is no batch")))?;
        let Some(BlobFiles(inner)) = &self.files else { return Err(unmended(&"the store was opened for a look")) };
        if inner.may_write(batch) {
            return Ok(Planned::Done("left alone: it is being written".to_owned()));
        }
        let open = self.store.pool.with(|db| Ok(rows::open_entries(db)?)).map_err(|error| unmended(&error))?;
        let (entries, others): (Vec<Entry>, Vec<Entry>) = open.into_iter().partition(|entry| entry.batch == batch);
        if entries.is_empty() {
            return Ok(Planned::Done("left alone: it is ended".to_owned()));
        }
        let io = |error: std::io::Error| unmended(&error);
        let unnamed = disk::unnamed(&self.directory, Some(&inner.life), &entries).map_err(io)?;
        let forward = unnamed.is_some();
        match unnamed {
            Some(unnamed) => disk::forward(&self.directory, &unnamed, &entries).map_err(io)?,
            None => disk::back(&self.directory, &entries).map_err(io)?,
        }
        disk::sweep_drafts(&self.directory, &inner.life, &others).map_err(io)?;
        if forward {
            let words = format!("all {} files are there: it is committed", entries.len());
            return Ok(Planned::Then(Deed::Settle { batch, forward, why: String::new() }, words));
        }
        let why = "its writer was gone before all of it was on disk".to_owned();
        let words = "not all of it is there: it is taken back".to_owned();
        Ok(Planned::Then(Deed::Settle { batch, forward, why }, words))
    }

    fn void(&self, file: &str, how: Broken) -> Result<Planned, Failure> {
        let found = self.store.pool.with(|db| Ok(entry(db, file)?)).map_err(|error| unmended(&error))?;
        let Some(found) = found.filter(Entry::holds) else {
            return Ok(Planned::Done("left alone: there is no such receipt any more".to_owned()));
        };
        let whole = disk::is_whole(&self.directory, &found).map_err(|error| unmended(&error))?;
        let why = match (whole, found.known) {
            (Some(true), true) => return Ok(Planned::Done("left alone: it is what its receipt says".to_owned())),
            (Some(true), false) => "its run is none that the journal knows",
            (Some(false), _) => "it was not what its receipt said",
            (None, _) => "it was not there",
        };
        let moved = disk::set_aside(&self.directory, file).map_err(|error| unmended(&error))?;
        let words = match moved {
            Some(to) => format!("moved to {}; its receipt is taken back", to.display()),
            None => "its receipt is taken back".to_owned(),
        };
        tracing::debug!(file, ?how, "a receipt is taken back");
        let (batch, place) = (found.batch, found.place);
        Ok(Planned::Then(Deed::Void { batch, place, why: why.to_owned() }, words))
    }

    fn set_aside(&self, file: &str) -> Result<Planned, Failure> {
        let found = self.store.pool.with(|db| Ok(entry(db, file)?)).map_err(|error| unmended(&error))?;
        if found.is_some_and(|entry| entry.holds() || entry.is_open()) {
            return Ok(Planned::Done("left alone: it has a receipt".to_owned()));
        }
        let moved = disk::set_aside(&self.directory, file).map_err(|error| unmended(&error))?;
        Ok(Planned::Done(match moved {
            Some(to) => format!("moved to {}", to.display()),
            None => "it is not there any more".to_owned(),
        }))
    }
}

/// What came of the disk's part of a mend.
enum Planned {
    Done(String),
    Then(Deed, String),
}

fn batch_name(batch: Number) -> String {
    format!("{BATCH}{batch}")
}

fn broken(entry: &Entry, how: Broken) -> FoundFile {
    FoundFile::Broken { file: entry.file(), run: entry.run.clone(), how }
}

fn unreadable(what: &dyn std::fmt::Display, why: &dyn std::fmt::Display) -> Failure {
    Failure::retryable("blobs_unreadable", format!("{what}: {why}"))
        .hint("see to the permissions and the disk of the state directory")
}

fn unmended(why: &dyn std::fmt::Display) -> Failure {
    Failure::retryable("blob_unmended", why.to_string())
        .hint("see to the permissions and the disk of the state directory")
}

impl Store {
    /// Kept files that are not as their receipts say, and files without one: for the proof of everything. Answers how many were compared.
    pub(crate) fn broken_files(&self) -> Result<(u64, Vec<String>), StoreError> {
        let directory = self.state_dir.join(DIRECTORY);
        let io = |error: std::io::Error| StoreError::io(&directory, &error);
        let names = disk::names(&directory).map_err(io)?;
        let mut unspoken: BTreeSet<String> = names.into_iter().filter(|name| !disk::is_draft(name)).collect();
        let (mut compared, mut wrong, mut watermarks) = (0, Vec::new(), 0);
        let all = self.pool.with(|db| Ok(entries(db, 0, u32::MAX)?))?;
        for entry in &all {
            let there = unspoken.remove(&entry.file());
            compared += 1;
            if !entry.holds() {
                if there && !entry.is_open() {
                    wrong.push(format!("{} has no receipt any more, and is there", entry.file()));
                }
            } else if !there {
                wrong.push(format!("{} has a receipt, and is not there", entry.file()));
            } else if disk::is_whole(&directory, entry).map_err(io)? != Some(true) {
                wrong.push(format!("{} is not what its receipt says", entry.file()));
            }
        }
        for batch in all.chunk_by(|one, other| one.batch == other.batch) {
            watermarks += u64::from(batch.first().is_some_and(|entry| entry.state == "committed"));
            if (0_u32..).zip(batch).any(|(place, entry)| entry.place != place) {
                wrong
                    .push(format!("the receipts of {} are not in order", batch.first().map_or(0, |entry| entry.batch)));
            }
        }
        wrong.extend(unspoken.iter().map(|file| format!("{file} has no receipt")));
        if all.is_empty() {
            return Ok((compared, wrong));
        }
        let counted = "SELECT value, (SELECT coalesce(max(watermark), 0) FROM file_batches) FROM meta WHERE key = 'file_watermark'";
        let (mark, highest): (i64, i64) =
            self.pool.with(|db| Ok(db.query_row(counted, [], |row| Ok((row.get(0)?, row.get(1)?)))?))?;
        if highest > mark || watermarks > mark.unsigned_abs() {
            wrong.push(format!(
                "{watermarks} batches are committed, the last as {highest}, and the watermark is {mark}"
            ));
        }
        Ok((compared, wrong))
    }
}
