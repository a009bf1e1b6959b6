//! The look at what lies outside the journal, on this machine: of a daemon, and of `dalsegno doctor` without one.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use dalsegno_adapters::process::{Sweeper, marked};
use dalsegno_adapters::workspace::{LocalWorkspaces, bytes_on_disk};
use dalsegno_core::{Failure, FoundFile, FoundTranscript, Inspection, LookFor, Mend, Policy, RunId, Soundness};
use dalsegno_engine::{Context, Inspector, Processes as _, Reads as _};
use dalsegno_store::{BlobCheck, BlobFiles, Store, TranscriptCheck};

/// Looks at this machine.
pub(crate) struct LocalInspector {
    state_dir: PathBuf,
    store: Arc<Store>,
    workspaces: Arc<LocalWorkspaces>,
    transcripts: Arc<TranscriptCheck>,
    blobs: Arc<BlobCheck>,
    /// The identity that the journal had before it was restored, as the last look said.
    formerly: Mutex<Option<String>>,
    /// What the check of the database's pages said, once it was begun.
    database: Arc<Mutex<Option<Soundness>>>,
}

impl LocalInspector {
    /// `blobs`: the writer's side of kept files; without it, they are only looked at.
    pub(crate) fn new(
        state_dir: &Path,
        store: Arc<Store>,
        blobs: Option<BlobFiles>,
        workspaces: Arc<LocalWorkspaces>,
    ) -> Self {
        let sound = store.was_read_through().then_some(Soundness::Sound);
        Self {
            state_dir: state_dir.to_owned(),
            blobs: Arc::new(BlobCheck::new(Arc::clone(&store), blobs)),
            store,
            workspaces,
            transcripts: Arc::new(TranscriptCheck::new(state_dir)),
            formerly: Mutex::default(),
            database: Arc::new(Mutex::new(sound)),
        }
    }

    /// Identities whose marks are ours.
    fn journals(&self) -> Vec<String> {
        let formerly = self.formerly.lock().unwrap_or_else(PoisonError::into_inner).clone();
        std::iter::once(self.store.journal_id().to_owned()).chain(formerly).collect()
    }

    /// A small database is read through at once, a large one in the background.
    async fn database(&self) -> Soundness {
        let known = self.database.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(known) = known {
            return known;
        }
        let (store, result) = (Arc::clone(&self.store), Arc::clone(&self.database));
        let set = move |said: Soundness| *result.lock().unwrap_or_else(PoisonError::into_inner) = Some(said);
        set(Soundness::Checking);
        let small = store.is_small();
        let reading = tokio::task::spawn_blocking(move || {
            let said = match store.read_through() {
                Ok(()) => Soundness::Sound,
                Err(error) if error.code() == "corrupt_database" => Soundness::Damaged(error.to_string()),
                Err(error) => Soundness::Unread(error.failure()),
            };
            set(said.clone());
            said
        });
        if small { reading.await.unwrap_or(Soundness::Checking) } else { Soundness::Checking }
    }

    async fn state_bytes(&self) -> Option<u64> {
        let dir = self.state_dir.clone();
        tokio::task::spawn_blocking(move || bytes_on_disk(&dir)).await.ok().flatten()
    }

    async fn transcripts(&self, runs: &[RunId]) -> Result<Vec<FoundTranscript>, Failure> {
        let (check, runs) = (Arc::clone(&self.transcripts), runs.to_vec());
        let look = tokio::task::spawn_blocking(move || check.look(&runs)).await;
        look.unwrap_or_else(|error| Err(Failure::retryable("transcripts_unreadable", error.to_string())))
    }

    async fn blobs(&self, runs: &[RunId]) -> Result<Vec<FoundFile>, Failure> {
        let (check, runs) = (Arc::clone(&self.blobs), runs.to_vec());
        let look = tokio::task::spawn_blocking(move || check.look(&runs)).await;
        look.unwrap_or_else(|error| Err(Failure::retryable("blobs_unreadable", error.to_string())))
    }

    /// What is done, without an effect around it.
    ///
    /// # Errors
    /// As [`Inspector::mend`].
    pub(crate) async fn put_right(&self, policy: &Policy, mend: &Mend) -> Result<String, Failure> {
        let journals = self.journals();
        match mend {
            Mend::RemoveWorkspace { path, identifier } => {
                self.workspaces.put_away(policy, (path, identifier), &journals, false).await
            }
            Mend::KeepWorkspace { path, identifier } => {
                self.workspaces.put_away(policy, (path, identifier), &journals, true).await
            }
            Mend::EndProcesses { owner } => {
                let mut ended = 0;
                for journal in &journals {
                    ended += Sweeper.sweep(&format!("{journal}/{owner}")).await?;
                }
                Ok(format!("{ended} processes ended"))
            }
            Mend::SetTranscriptAside { run } => {
                let (check, run) = (Arc::clone(&self.transcripts), run.clone());
                let moved = tokio::task::spawn_blocking(move || check.set_aside(&run)).await;
                moved.unwrap_or_else(|error| Err(Failure::retryable("transcript_unmoved", error.to_string())))
            }
            Mend::SettleBatch { .. } | Mend::VoidReceipt { .. } | Mend::SetFileAside { .. } => {
                Arc::clone(&self.blobs).mend(mend.clone()).await
            }
        }
    }
}

#[async_trait]
impl Inspector for LocalInspector {
    async fn inspect(&self, wanted: &LookFor, policy: &Policy) -> Inspection {
        self.formerly.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&wanted.formerly);
        let journals = self.journals();
        let processes = async {
            let mut found = Vec::new();
            for journal in &journals {
                found.extend(marked(journal).await?);
            }
            Ok(found)
        };
        Inspection {
            processes: processes.await,
            workspaces: self.workspaces.survey(policy, wanted, &journals).await,
            transcripts: self.transcripts(&wanted.runs).await,
            blobs: self.blobs(&wanted.runs).await,
            database: self.database().await,
            free_bytes: free_bytes(&[&self.state_dir, Path::new(&policy.workspace.root)]),
            state_bytes: self.state_bytes().await,
        }
    }

    async fn mend(&self, context: &Context, mend: &Mend) -> Result<String, Failure> {
        self.put_right(&context.request.policy, mend).await
    }
}

/// Free bytes where there are fewest. What is not there yet will be made on the disk of its nearest ancestor.
fn free_bytes(places: &[&Path]) -> Result<u64, Failure> {
    let mut least = u64::MAX;
    for place in places {
        let there = place.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
        let stat = nix::sys::statvfs::statvfs(there)
            .map_err(|error| Failure::retryable("disk_unreadable", format!("{}: {error}", there.display())))?;
        least = least.min(stat.blocks_available().saturating_mul(stat.fragment_size()));
    }
    Ok(least)
}
