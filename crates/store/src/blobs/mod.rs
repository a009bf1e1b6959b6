//! Files beside the database, each with a receipt: kept in batches, all of a batch or nothing.
//!
//! ```text
//!             intent, synced          renamed, directory synced         receipts, synced
//! (drafts) ────────────────▶ preparing ─────────────────────────▶ · ─────────────────────▶ committed
//!                                │ cannot be written, or its writer is gone and not all is there
//!                                └──────────────────────────────────────────────────────▶ failed
//! ```
//!
//! The intent says what each file will be, by its hash. So whoever finds an open batch can tell: every file is there, and it goes forward; or
//! not, and it is taken back. A file has the number of its batch in its name, so no batch ever writes over another one's.
//!
//! # Invariants
//! - A committed batch has every file on disk, and one number of the watermark.
//! - A batch that was begun under an older epoch is not committed by who began it.
//! - What a receipt does not vouch for is never answered to a reader.

mod check;
mod disk;
mod read;
mod rows;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use dalsegno_core::{Failure, FileReceipt};
use dalsegno_engine::{Blobs, FileOwner, NewFile, crash};
use tokio::sync::Semaphore;

pub use check::BlobCheck;
pub(crate) use disk::{DIRECTORY, forget as forget_files};
pub(crate) use rows::{Entry, Errand, files, forget, open_entries};

use crate::dir;
use crate::error::StoreError;
use crate::queue::Queue;
use crate::writer::Job;
use rows::{Deed, Granted, Number, Planned, Refused};

/// Batches that are written at once; a further one waits.
const AT_ONCE: usize = 16;
/// Files of one batch, at most.
const FILES: usize = 64;
/// Bytes of one file, at most.
const FILE_BYTES: usize = 16 << 20;
/// Code of what a writer of an older epoch is told.
const STALE: &str = "stale_epoch";
/// Letters of a file's own name, at most.
const NAME_LETTERS: usize = 64;

/// Keeps files. A batch that was begun goes on to its end, whoever stops waiting for it.
#[derive(Debug, Clone)]
pub struct BlobFiles(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    queue: Arc<Queue<Job>>,
    directory: PathBuf,
    /// Random; in the names of this life's drafts.
    life: String,
    /// Drafts that this life made.
    drafts: AtomicU64,
    writing: Mutex<Writing>,
    room: Semaphore,
}

/// What this process is writing: nobody settles it meanwhile.
#[derive(Debug, Default)]
struct Writing {
    /// Batches whose number is not known yet.
    beginning: usize,
    batches: BTreeSet<Number>,
}

impl BlobFiles {
    pub(crate) fn open(state_dir: &Path, queue: Arc<Queue<Job>>, open: &[Entry]) -> Result<Self, StoreError> {
        let directory = state_dir.join(DIRECTORY);
        dir::make(&directory)?;
        let mut life = [0; 8];
        getrandom::fill(&mut life).map_err(|error| StoreError::Unavailable(format!("no random bytes: {error}")))?;
        let life = hex::encode(life);
        let swept = disk::sweep_drafts(&directory, &life, open).map_err(|error| StoreError::io(&directory, &error))?;
        if swept > 0 {
            tracing::debug!(swept, "drafts of files that no batch was begun for are removed");
        }
        let (drafts, writing, room) = (AtomicU64::new(0), Mutex::default(), Semaphore::new(AT_ONCE));
        Ok(Self(Arc::new(Inner { queue, directory, life, drafts, writing, room })))
    }
}

#[async_trait]
impl Blobs for BlobFiles {
    async fn keep(&self, owner: FileOwner, files: Vec<NewFile>) -> Result<Vec<FileReceipt>, Failure> {
        let files = files.into_iter().map(checked).collect::<Result<Vec<_>, _>>()?;
        if files.is_empty() || files.len() > FILES {
            let why = format!("a batch has 1 to {FILES} files, and this one {}", files.len());
            return Err(Failure::permanent("blob_refused", why));
        }
        let inner = Arc::clone(&self.0);
        // Not cut when its caller is.
        let kept = tokio::spawn(async move { inner.keep(owner, files).await }).await;
        kept.unwrap_or_else(|error| Err(unwritten(&error)))
    }
}

fn checked(file: NewFile) -> Result<NewFile, Failure> {
    let plain =
        |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || matches!(letter, '-' | '.' | '_');
    let NewFile { name, content } = &file;
    if name.is_empty() || name.len() > NAME_LETTERS || !name.chars().all(plain) || name.starts_with('.') {
        return Err(Failure::permanent("blob_refused", format!("{name:?} is no name for a file that is kept")));
    }
    if content.len() > FILE_BYTES {
        let why = format!("{name} has {} bytes, and {FILE_BYTES} are kept at most", content.len());
        return Err(Failure::permanent("blob_refused", why));
    }
    Ok(file)
}

impl Inner {
    fn writing(&self) -> MutexGuard<'_, Writing> {
        self.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether this process may be writing the batch.
    fn may_write(&self, batch: Number) -> bool {
        let writing = self.writing();
        writing.beginning > 0 || writing.batches.contains(&batch)
    }

    async fn keep(&self, owner: FileOwner, files: Vec<NewFile>) -> Result<Vec<FileReceipt>, Failure> {
        let _room = self.room.acquire().await.map_err(|error| unwritten(&error))?;
        let hashed = blocking(move || {
            let hash = |file: &NewFile| Planned {
                name: file.name.clone(),
                sha256: disk::sha256(&file.content),
                bytes: file.content.len() as u64,
            };
            let planned: Vec<Planned> = files.iter().map(hash).collect();
            Ok((planned, files))
        });
        let (planned, files) = hashed.await?;
        let drafts: Vec<PathBuf> = planned.iter().map(|file| self.draft_of(file)).collect();
        let mut hold = Hold::new(self);
        // A draft counts for nothing, so it need not wait for the intent: both are synced in the time of one.
        let begin = Deed::Begin { owner, files: planned.clone() };
        let (begun, drafted) = tokio::join!(self.ask(begin), self.draft(&drafts, files));
        let batch = match begun {
            Ok(Granted::Begun(batch)) => batch,
            Ok(Granted::Done) => return Err(unwritten(&"a batch was begun without a number")),
            Err(failure) => {
                remove(drafts).await;
                return Err(failure);
            }
        };
        hold.is(batch);
        crash::point("blobs.intended");
        let names = (0_u32..).zip(&planned).map(|(place, file)| rows::file_of(batch, place, &file.name));
        let named: Vec<(PathBuf, String)> = drafts.into_iter().zip(names).collect();
        let written = match drafted {
            Ok(()) => self.name(named.clone()).await,
            Err(failure) => Err(failure),
        };
        if let Err(failure) = written {
            return Err(self.take_back(batch, named, failure).await);
        }
        crash::point("blobs.named");
        self.ask(Deed::Commit { batch }).await?;
        crash::point("blobs.committed");
        let receipt = |((_, file), planned): ((PathBuf, String), Planned)| FileReceipt {
            file,
            sha256: planned.sha256,
            bytes: planned.bytes,
        };
        Ok(named.into_iter().zip(planned).map(receipt).collect())
    }

    fn draft_of(&self, file: &Planned) -> PathBuf {
        let number = self.drafts.fetch_add(1, Ordering::Relaxed);
        self.directory.join(disk::draft_name(&file.sha256, &self.life, number))
    }

    async fn draft(&self, drafts: &[PathBuf], files: Vec<NewFile>) -> Result<(), Failure> {
        let draft =
            |(path, file): (PathBuf, NewFile)| tokio::task::spawn_blocking(move || disk::draft(&path, &file.content));
        // All at once: their syncs take the time of one.
        let drafting: Vec<_> = drafts.iter().cloned().zip(files).map(draft).collect();
        let mut drafted = Ok(());
        for draft in drafting {
            // Each is waited for: nobody writes any more when this answers.
            drafted = drafted.and(done(draft.await));
        }
        drafted
    }

    async fn name(&self, named: Vec<(PathBuf, String)>) -> Result<(), Failure> {
        let directory = self.directory.clone();
        blocking(move || disk::name(&directory, &named)).await
    }

    /// The batch cannot be written: it is ended, and what there is of it goes. What that fails at, a look finds. Answers what is to be told.
    ///
    /// First the rows: when another life has taken over, the batch is its own by now, and may be committed.
    async fn take_back(&self, batch: Number, named: Vec<(PathBuf, String)>, failure: Failure) -> Failure {
        let settle = Deed::Settle { batch, forward: false, why: failure.to_string() };
        match self.ask(settle).await {
            Ok(_) => {
                let both = |(draft, file): (PathBuf, String)| [draft, self.directory.join(file)];
                remove(named.into_iter().flat_map(both).collect()).await;
                failure
            }
            Err(stale) if stale.code == STALE => stale,
            Err(error) => {
                tracing::warn!(batch, %error, "a batch of files could not be taken back; the next look does it");
                failure
            }
        }
    }

    /// Asks the writer, and waits until what it did is on disk.
    async fn ask(&self, deed: Deed) -> Result<Granted, Failure> {
        let gone = || unwritten(&"the writer has ended");
        let (errand, answer) = Errand::new(deed);
        let room = self.queue.room().await.map_err(|_| gone())?;
        room.put(Job::Files(Box::new(errand))).map_err(|_| gone())?;
        match answer.await.map_err(|_| gone())? {
            Ok(granted) => Ok(granted),
            Err(Refused::StaleEpoch { ours, current }) => {
                let why = format!("this daemon has epoch {ours}, and one with {current} has taken over");
                Err(Failure::permanent(STALE, why))
            }
            Err(Refused::Ended(why)) => Err(Failure::permanent("blob_unwritten", format!("the batch is ended: {why}"))),
            Err(Refused::Failed(why)) => Err(unwritten(&why)),
        }
    }
}

/// The hold on one batch, from before it has a number.
struct Hold<'i> {
    inner: &'i Inner,
    batch: Option<Number>,
}

impl<'i> Hold<'i> {
    fn new(inner: &'i Inner) -> Self {
        inner.writing().beginning += 1;
        Self { inner, batch: None }
    }

    fn is(&mut self, batch: Number) {
        let mut writing = self.inner.writing();
        writing.beginning -= 1;
        writing.batches.insert(batch);
        self.batch = Some(batch);
    }
}

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        let mut writing = self.inner.writing();
        match self.batch {
            Some(batch) => drop(writing.batches.remove(&batch)),
            None => writing.beginning -= 1,
        }
    }
}

/// Removes what is left of a batch that is not to be. What stays has no receipt, and is found by a look.
async fn remove(paths: Vec<PathBuf>) {
    let removed = blocking(move || {
        // Each is tried, whatever becomes of another one.
        let removed: Vec<_> = paths.iter().map(|path| dir::remove(path)).collect();
        removed.into_iter().collect::<std::io::Result<()>>()
    });
    if let Err(error) = removed.await {
        tracing::warn!(%error, "what was written of a batch that is not to be stays; the next look finds it");
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> std::io::Result<T> + Send + 'static) -> Result<T, Failure> {
    done(tokio::task::spawn_blocking(work).await)
}

fn done<T>(worked: Result<std::io::Result<T>, tokio::task::JoinError>) -> Result<T, Failure> {
    match worked {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) => Err(unwritten(&error)),
        Err(error) => Err(unwritten(&error)),
    }
}

fn unwritten(why: &dyn std::fmt::Display) -> Failure {
    Failure::retryable("blob_unwritten", why.to_string()).hint("see to the disk of the state directory")
}
