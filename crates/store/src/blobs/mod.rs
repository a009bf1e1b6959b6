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
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

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
/// Letters of a file's own name, at most.
const NAME_LETTERS: usize = 64;

/// Keeps files. A batch that was begun goes on to its end, whoever stops waiting for it.
#[derive(Debug, Clone)]
pub struct BlobFiles(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    queue: Arc<Queue<Job>>,
    directory: PathBuf,
    /// The epoch of this life, once a batch was begun in it.
    epoch: OnceLock<u64>,
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
        let swept = disk::sweep_drafts(&directory, open).map_err(|error| StoreError::io(&directory, &error))?;
        if swept > 0 {
            tracing::debug!(swept, "drafts of files that no batch was begun for are removed");
        }
        let (epoch, writing, room) = (OnceLock::new(), Mutex::default(), Semaphore::new(AT_ONCE));
        Ok(Self(Arc::new(Inner { queue, directory, epoch, writing, room })))
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
        let mut hold = Hold::new(self);
        // A draft counts for nothing, so it need not wait for the intent: both are synced in the time of one.
        let begin = Deed::Begin { owner, epoch: self.epoch.get().copied(), files: planned.clone() };
        let (begun, drafts) = tokio::join!(self.ask(begin), self.draft(&planned, files));
        let batch = match begun? {
            Granted::Begun { batch, epoch } => {
                let _ = self.epoch.set(epoch);
                batch
            }
            Granted::Done => return Err(unwritten(&"a batch was begun without a number")),
        };
        hold.is(batch);
        crash::point("blobs.intended");
        let written = match drafts {
            Ok(drafts) => self.name(batch, &planned, drafts).await,
            Err(failure) => Err(failure),
        };
        if let Err(failure) = written {
            return Err(self.take_back(batch, &planned, failure).await);
        }
        crash::point("blobs.named");
        self.ask(Deed::Commit { batch }).await?;
        crash::point("blobs.committed");
        let receipt = |(place, file): (u32, Planned)| FileReceipt {
            file: rows::file_of(batch, place, &file.name),
            sha256: file.sha256,
            bytes: file.bytes,
        };
        Ok((0_u32..).zip(planned).map(receipt).collect())
    }

    async fn draft(&self, planned: &[Planned], files: Vec<NewFile>) -> Result<Vec<PathBuf>, Failure> {
        let draft = |(planned, file): (&Planned, NewFile)| {
            let (directory, sha256) = (self.directory.clone(), planned.sha256.clone());
            tokio::task::spawn_blocking(move || disk::draft(&directory, &sha256, &file.content))
        };
        // All at once: their syncs take the time of one.
        let drafts: Vec<_> = planned.iter().zip(files).map(draft).collect();
        let mut paths = Vec::new();
        for draft in drafts {
            paths.push(done(draft.await)?);
        }
        Ok(paths)
    }

    async fn name(&self, batch: Number, planned: &[Planned], drafts: Vec<PathBuf>) -> Result<(), Failure> {
        let names = (0_u32..).zip(planned).map(|(place, file)| rows::file_of(batch, place, &file.name));
        let drafts: Vec<(PathBuf, String)> = drafts.into_iter().zip(names).collect();
        let directory = self.directory.clone();
        blocking(move || disk::name(&directory, &drafts)).await
    }

    /// The batch cannot be written: what there is of it goes, and it is ended. What that fails at, a look finds.
    async fn take_back(&self, batch: Number, planned: &[Planned], failure: Failure) -> Failure {
        let names = (0_u32..).zip(planned).map(|(place, file)| rows::file_of(batch, place, &file.name));
        let (directory, names): (PathBuf, Vec<String>) = (self.directory.clone(), names.collect());
        let removed = blocking(move || names.iter().try_for_each(|name| dir::remove(&directory.join(name)))).await;
        let ended = match removed {
            Ok(()) => self.ask(Deed::Settle { batch, forward: false, why: failure.to_string() }).await.map(drop),
            Err(error) => Err(error),
        };
        if let Err(error) = ended {
            tracing::warn!(batch, %error, "a batch of files could not be taken back; the next look does it");
        }
        failure
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
                Err(Failure::permanent("stale_epoch", why))
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
