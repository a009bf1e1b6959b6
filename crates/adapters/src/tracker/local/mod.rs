//! The local tracker: one Markdown file per issue. Its profile is `docs/trackers/local.md`.

mod board;
mod create;
mod exchange;
mod merge;
mod presence;
mod record;
mod text;

pub(crate) use record::foreign;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use dalsegno_core::{Failure, Issue, IssueId, Policy, normalized_state, state_in};
use dalsegno_engine::Tracker;
use serde_json::Value;
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;

use crate::marker::neutralised;
use crate::workflow::{Environment, paths};
pub use board::Broken;
use board::{Board, Memory};
pub use create::NewIssue;
use exchange::{EditProblem, update};
pub use text::Comment;
use text::Text;

/// Calls that touch the folder at once. On a file system that hangs each holds a thread, which others need too.
const CALLS: usize = 8;
/// Who writes what the orchestrator writes.
const OWN_AUTHOR: &str = "dalsegno";

/// Issues in a folder. Cheap to clone; clones share what they remember.
#[derive(Clone)]
pub struct LocalTracker {
    inner: Arc<Inner>,
}

struct Inner {
    dir: PathBuf,
    prefix: String,
    first_state: String,
    terminal: Vec<String>,
    memory: Mutex<Memory>,
    calls: Arc<Semaphore>,
}

impl LocalTracker {
    /// The tracker that the policy describes.
    ///
    /// # Errors
    /// `invalid_tracker_config`.
    pub fn open(policy: &Policy, env: &Environment) -> Result<Self, Failure> {
        let provider = &policy.tracker.provider;
        let wrong = |key: &str, allowed: &str| {
            Failure::permanent("invalid_tracker_config", format!("tracker.provider.{key} is not {allowed}"))
                .hint(format!("Correct tracker.provider.{key} in WORKFLOW.md."))
        };
        let path = match provider.get("path") {
            None | Some(Value::Null) => "issues",
            Some(Value::String(path)) if !path.trim().is_empty() => path.as_str(),
            Some(_) => return Err(wrong("path", "a path")),
        };
        let dir = paths::resolve("tracker.provider.path", path, Path::new(&policy.project_dir), env)
            .map_err(|failure| Failure { code: "invalid_tracker_config".to_owned(), ..failure })?;
        if dir.exists() && !dir.is_dir() {
            return Err(wrong("path", "a directory"));
        }
        let prefix = match provider.get("prefix") {
            None | Some(Value::Null) => "DS",
            Some(Value::String(prefix)) if is_prefix(prefix) => prefix.as_str(),
            Some(_) => return Err(wrong("prefix", "a letter with letters, digits or `_` after it")),
        };
        if let Err(failure) = exchange::finish(&dir) {
            tracing::warn!(folder = %dir.display(), %failure, "what a killed process left of an edit stays until the next edit");
        }
        if !dir.exists() {
            tracing::warn!(folder = %dir.display(), "there is no folder with issues yet");
        }
        Ok(Self {
            inner: Arc::new(Inner {
                dir,
                prefix: prefix.to_owned(),
                first_state: policy.tracker.active_states.first().cloned().unwrap_or_else(|| "Todo".to_owned()),
                terminal: policy.tracker.terminal_states.clone(),
                memory: Mutex::new(Memory::default()),
                calls: Arc::new(Semaphore::new(CALLS)),
            }),
        })
    }

    /// The folder with the issues.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.inner.dir
    }

    /// Writes a new issue and answers its identifier.
    ///
    /// # Errors
    /// `tracker_request` when it cannot be written, `tracker_response` without a title.
    pub async fn new_issue(&self, issue: NewIssue) -> Result<String, Failure> {
        self.blocking(move |inner| inner.create(&create::random_id()?, &issue)).await
    }

    /// All issues by identifier, and those that cannot be read.
    ///
    /// # Errors
    /// As for a poll.
    pub async fn list(&self) -> Result<(Vec<Issue>, Vec<Broken>), Failure> {
        self.blocking(|inner| inner.look(false).map(|board| (board.issues, board.broken))).await
    }

    /// The issue with this identifier or id, ignoring case, and its comments; `None` when there is none.
    ///
    /// # Errors
    /// `tracker_response` when it cannot be read.
    pub async fn show(&self, key: &str) -> Result<Option<(Issue, Vec<Comment>)>, Failure> {
        let key = key.to_lowercase();
        self.blocking(move |inner| {
            let board = inner.look(false)?;
            let is =
                |id: &IssueId, identifier: &str| identifier.to_lowercase() == key || id.as_str().to_lowercase() == key;
            if let Some(broken) = board.broken.iter().find(|broken| is(&broken.id, &broken.identifier)) {
                return Err(unreadable(broken));
            }
            let Some(issue) = board.issues.into_iter().find(|issue| is(&issue.id, &issue.identifier)) else {
                return Ok(None);
            };
            let comments = inner.with_text(&issue.identifier, |text| text::comments(text.comments()))?;
            Ok(Some((issue, comments)))
        })
        .await
    }

    /// Adds a comment of `author`; without a marker it gets one of its own and is always added.
    ///
    /// # Errors
    /// As for [`Tracker::comment`].
    pub async fn comment_as(
        &self,
        issue: &IssueId,
        author: &str,
        body: &str,
        marker: Option<&str>,
    ) -> Result<(), Failure> {
        let (issue, body) = (issue.clone(), body.to_owned());
        let author: String = author.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(80).collect();
        let author = if author.is_empty() { "unknown".to_owned() } else { neutralised(&author) };
        let marker = match marker {
            Some(marker) => marker_word(marker),
            None => create::random_id()?,
        };
        self.blocking(move |inner| {
            let path = inner.path_of(&issue)?;
            update(&path, &|bytes| {
                let text = Text::parse(bytes).map_err(EditProblem::HalfSaved)?;
                if text.has_marker(&marker) {
                    return Ok(None);
                }
                let now = jiff::Timestamp::now().round(jiff::Unit::Second).unwrap_or_else(|_| jiff::Timestamp::now());
                let heading = format!("{now} · {author}");
                let new = text.with_comment(&heading, &marker, &body).into_bytes();
                if new.len() as u64 > record::SIZE_LIMIT {
                    return Err(EditProblem::Impossible(
                        Failure::permanent(
                            "tracker_status",
                            "the issue's file would grow beyond 1 MiB with the comment",
                        )
                        .hint("Shorten the file's comments."),
                    ));
                }
                Ok(Some(new))
            })
            .map(|_text| ())
        })
        .await
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let inner = Arc::clone(&self.inner);
        // Never closed. Whoever gives up waiting leaves its place with the thread that is still at work.
        let place = Arc::clone(&inner.calls).acquire_owned().await.ok();
        let work = move || {
            let _place = place;
            work(&inner)
        };
        tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| {
            Err(Failure::retryable("tracker_request", format!("the local tracker gave up: {error}"))
                .hint("Look at the log for the reason."))
        })
    }
}

impl Inner {
    fn create(&self, id: &str, issue: &NewIssue) -> Result<String, Failure> {
        create::create(&self.dir, &self.prefix, &self.first_state, id, issue)
    }

    fn look(&self, poll: bool) -> Result<Board, Failure> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner).look(&self.dir, &self.terminal, poll)
    }

    // Broken ones have a path too: the edit waits a little for them to become whole.
    fn path_of(&self, id: &IssueId) -> Result<PathBuf, Failure> {
        let known = self.memory.lock().unwrap_or_else(PoisonError::into_inner).still_named(&self.dir, id);
        if let Some(identifier) = known {
            return Ok(self.dir.join(format!("{identifier}.md")));
        }
        let board = self.look(false)?;
        let found = board.issues.iter().find(|issue| issue.id == *id).map(|issue| issue.identifier.as_str());
        let broken = board.broken.iter().find(|broken| broken.id == *id).map(|broken| broken.identifier.as_str());
        match found.or(broken) {
            Some(identifier) => Ok(self.dir.join(format!("{identifier}.md"))),
            None => Err(Failure::permanent("tracker_status", format!("there is no issue with the id {id}"))
                .hint("Its file was removed; put it back, or cancel the issue.")),
        }
    }

    fn with_text<T>(&self, identifier: &str, use_it: impl FnOnce(&Text<'_>) -> T) -> Result<T, Failure> {
        let path = self.dir.join(format!("{identifier}.md"));
        let reason = match record::read(&path) {
            Ok((bytes, _meta)) => match Text::parse(&bytes) {
                Ok(text) => return Ok(use_it(&text)),
                Err(reason) => reason,
            },
            Err(record::ReadProblem::Gone) => "the file is gone".to_owned(),
            Err(record::ReadProblem::Unusable(reason)) => reason,
        };
        Err(unreadable(&Broken { id: identifier.into(), identifier: identifier.to_owned(), reason }))
    }
}

#[async_trait]
impl Tracker for LocalTracker {
    fn remember(&self, known: &[(IssueId, String)]) {
        self.inner.memory.lock().unwrap_or_else(PoisonError::into_inner).remember(known);
    }

    async fn fetch_issues_by_states(&self, states: &[String]) -> Result<Vec<Issue>, Failure> {
        if states.is_empty() {
            return Ok(Vec::new());
        }
        let states = states.to_vec();
        self.blocking(move |inner| {
            let board = inner.look(true)?;
            Ok(board.issues.into_iter().filter(|issue| state_in(&issue.state, &states)).collect())
        })
        .await
    }

    async fn fetch_issues_by_ids(&self, ids: &[IssueId]) -> Result<Vec<Issue>, Failure> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let wanted: BTreeSet<IssueId> = ids.iter().cloned().collect();
        self.blocking(move |inner| {
            let board = inner.look(false)?;
            match board.broken.iter().find(|broken| wanted.contains(&broken.id)) {
                Some(broken) => Err(unreadable(broken)),
                None => Ok(board.issues.into_iter().filter(|issue| wanted.contains(&issue.id)).collect()),
            }
        })
        .await
    }

    async fn comment(&self, issue: &IssueId, body: &str, marker: &str) -> Result<(), Failure> {
        self.comment_as(issue, OWN_AUTHOR, body, Some(marker)).await
    }

    async fn has_comment(&self, issue: &IssueId, marker: &str) -> Result<bool, Failure> {
        let (issue, marker) = (issue.clone(), marker_word(marker));
        self.blocking(move |inner| {
            let path = inner.path_of(&issue)?;
            let name = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
            inner.with_text(&name, |text| text.has_marker(&marker))
        })
        .await
    }

    async fn transition(&self, issue: &IssueId, to: &str, unless: &[String]) -> Result<String, Failure> {
        let to = to.trim().to_owned();
        if to.is_empty() || to.chars().any(char::is_control) {
            return Err(Failure::permanent("tracker_response", "the new state is no plain text")
                .hint("Name the state in one line."));
        }
        let (issue, unless) = (issue.clone(), unless.to_vec());
        self.blocking(move |inner| {
            let path = inner.path_of(&issue)?;
            let text = update(&path, &|bytes| {
                let text = Text::parse(bytes).map_err(EditProblem::HalfSaved)?;
                let now = state_of(&text).ok_or_else(|| EditProblem::HalfSaved("it has no state".to_owned()))?;
                if normalized_state(&now) == normalized_state(&to) || state_in(&now, &unless) {
                    return Ok(None);
                }
                text.with_state(&to).map(|text| Some(text.into_bytes())).map_err(|why| {
                    let failure = Failure::permanent("tracker_response", format!("{}: {why}", path.display()));
                    EditProblem::Impossible(failure.hint("Edit the file by hand."))
                })
            })?;
            Ok(Text::parse(&text).ok().and_then(|text| state_of(&text)).unwrap_or(to))
        })
        .await
    }

    async fn create(&self, title: &str, description: &str, marker: &str) -> Result<String, Failure> {
        // The marker is in the id: an issue that is there already is known by it, whatever was made of its text since.
        let id = format!("i{}", hex::encode(Sha256::digest(marker.as_bytes()).get(..8).unwrap_or_default()));
        let (title, description) = (title.to_owned(), Some(description.to_owned()));
        self.blocking(move |inner| {
            let board = inner.look(false)?;
            let mut known = board.issues.iter().map(|issue| (&issue.id, &issue.identifier));
            let broken = board.broken.iter().map(|broken| (&broken.id, &broken.identifier));
            match known.by_ref().chain(broken).find(|(known, _)| known.as_str() == id) {
                Some((_, identifier)) => Ok(identifier.clone()),
                None => inner.create(&id, &NewIssue { title, description, ..NewIssue::default() }),
            }
        })
        .await
    }

    fn secret_environment_names(&self) -> Vec<String> {
        Vec::new()
    }
}

fn state_of(text: &Text<'_>) -> Option<String> {
    match text.front.get("state")? {
        Value::String(state) => Some(state.trim().to_owned()).filter(|state| !state.is_empty()),
        Value::Number(state) => Some(state.to_string()),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

fn unreadable(broken: &Broken) -> Failure {
    Failure::retryable("tracker_response", format!("issue {} cannot be read: {}", broken.identifier, broken.reason))
        .hint(format!("Correct {}.md; until then the issue stays as it is.", broken.identifier))
}

fn is_prefix(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic()) && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// The marker as it stands in the file: as it is when it fits in a comment of HTML, else by its hash.
fn marker_word(marker: &str) -> String {
    let fits = !marker.is_empty()
        && marker.len() <= 200
        && !marker.contains("--")
        && marker.chars().all(|c| c.is_ascii_alphanumeric() || "._:/-".contains(c));
    if fits {
        return marker.to_owned();
    }
    format!("sha256:{}", hex::encode(Sha256::digest(marker.as_bytes())))
}
