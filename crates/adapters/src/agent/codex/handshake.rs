//! The start of a session: handshake, and the thread, new or resumed.

use std::time::Duration;

use dalsegno_engine::Launch;
use dalsegno_engine::core::{Failure, SessionStart, Usage};
use serde_json::Value;
use tokio::time::{sleep, timeout};

use super::outcome::MAX_MESSAGE_BYTES;
use super::overrides::Overrides;
use super::session::Link;
use super::wire::{Answer, Refusal};
use super::{calls, history};
use crate::agent::text::clip;

/// How long a resumed thread has to tell its tokens. They follow the answer; a thread whose turns used none tells none.
const TOKENS_GRACE: Duration = Duration::from_millis(500);
/// How often a thread that somebody else writes is asked for, and the wait between.
const WRITER_TRIES: u32 = 10;
const WRITER_WAIT: Duration = Duration::from_millis(300);
/// Longest name of a session: it is journaled, and handed back to the agent.
const MAX_SESSION_BYTES: usize = 1024;

/// A thread, and how it came about.
pub(super) struct Opened {
    pub(super) thread: String,
    pub(super) how: SessionStart,
    pub(super) usage: Option<Usage>,
}

pub(super) struct Handshake<'a> {
    pub(super) launch: &'a Launch,
    pub(super) overrides: &'a Overrides,
    /// Longest wait for an answer; each line that comes meanwhile starts it over.
    pub(super) limit: Duration,
}

impl Handshake<'_> {
    pub(super) async fn run(&self, link: &mut Link) -> Result<Opened, Failure> {
        let answer = self.ask(link, "initialize", calls::initialize()).await?;
        answer.map_err(|refusal| refused("initialize", &refusal))?;
        if link.wire.notify("initialized").await.is_none() {
            return Err(link.program.why().await);
        }
        let how = match &self.launch.resume {
            Some(old) => match self.resume(link, old.as_str()).await? {
                Some(opened) => return Ok(opened),
                None => SessionStart::Gone,
            },
            None => SessionStart::New,
        };
        Ok(Opened { thread: self.make(link).await?, how, usage: None })
    }

    async fn ask(&self, link: &mut Link, method: &'static str, params: Value) -> Result<Answer, Failure> {
        let request = link.wire.clone().request(method, params);
        // Codex starts servers of its own meanwhile, and tells.
        link.program.short(method, request, self.limit, true, &self.launch.context.cancel).await
    }

    async fn make(&self, link: &mut Link) -> Result<String, Failure> {
        let params = calls::thread_start(self.overrides.thread(), self.launch.tools.as_ref());
        let answer = self.ask(link, "thread/start", params).await?;
        named(link, &answer.map_err(|refusal| refused("thread/start", &refusal))?)
    }

    /// Resumes the old thread; `None`: Codex does not know it.
    async fn resume(&self, link: &mut Link, old: &str) -> Result<Option<Opened>, Failure> {
        let mut tries = 1;
        let answer = loop {
            let refusal =
                match self.ask(link, "thread/resume", calls::thread_resume(self.overrides.thread(), old)).await? {
                    Ok(answer) => break answer,
                    Err(refusal) => refusal,
                };
            if gone(&refusal) {
                link.listener.note(&format!("codex does not know thread {old}: {}", refusal.message));
                return Ok(None);
            }
            if !refusal.message.contains("already has an active writer") {
                return Err(refused("thread/resume", &refusal));
            }
            if tries >= WRITER_TRIES {
                let message = format!("another program writes session {old}: {}", refusal.message);
                return Err(Failure::retryable("agent_session_busy", clip(&message, MAX_MESSAGE_BYTES))
                    .hint("end the other Codex that has the session open; until then the run is tried again"));
            }
            tries += 1;
            tokio::select! {
                () = sleep(WRITER_WAIT) => {}
                // The next request says so.
                () = self.launch.context.cancel.cancelled() => {}
            }
        };
        let thread = named(link, &answer)?;
        let (how, turns) = self.search(link, &thread).await?;
        let usage = if turns { timeout(TOKENS_GRACE, link.listener.total(&thread)).await.ok() } else { None };
        Ok(Some(Opened { thread, how, usage }))
    }

    /// Looks for the marker in the history; also answers whether there is any history.
    async fn search(&self, link: &mut Link, thread: &str) -> Result<(SessionStart, bool), Failure> {
        let (mut cursor, mut any) = (None, false);
        for _ in 0..history::MAX_PAGES {
            let page = self.ask(link, "thread/turns/list", history::page(thread, cursor.as_deref())).await?;
            let page = page.map_err(|refusal| refused("thread/turns/list", &refusal))?;
            any |= history::any(&page);
            let Some(seek) = self.launch.seek.as_deref().filter(|seek| !seek.is_empty()) else {
                return Ok((SessionStart::Resumed, any));
            };
            if history::holds(&page, seek) {
                return Ok((SessionStart::ResumedPromptFound, any));
            }
            cursor = history::next(&page);
            if cursor.is_none() {
                break;
            }
        }
        Ok((SessionStart::ResumedPromptMissing, any))
    }
}

/// The thread of the answer; the listener knows it, and its model, from here on.
fn named(link: &Link, answer: &Value) -> Result<String, Failure> {
    let thread = answer.pointer("/thread/id").and_then(Value::as_str).unwrap_or_default();
    if thread.is_empty() || thread.len() > MAX_SESSION_BYTES {
        return Err(Failure::retryable(
            "agent_protocol",
            format!("codex names its thread with {} bytes; 1 to {MAX_SESSION_BYTES} are expected", thread.len()),
        ));
    }
    let model = answer.get("model").and_then(Value::as_str).map(|model| clip(model, 256));
    link.listener.begin_session(thread, model.as_deref());
    Ok(thread.to_owned())
}

fn gone(refusal: &Refusal) -> bool {
    // Killed between making the file of a session and its first line: there is nothing to lose.
    let empty = refusal.message.contains("rollout at ") && refusal.message.ends_with(" is empty");
    empty
        || ["no rollout found", "invalid session id", "invalid thread id", "thread not found"]
            .iter()
            .any(|words| refusal.message.contains(words))
}

fn refused(what: &str, refusal: &Refusal) -> Failure {
    let message = clip(&format!("codex refused {what}: {}", refusal.message), MAX_MESSAGE_BYTES);
    if refusal.message.starts_with("Invalid request:") {
        return Failure::permanent("agent_start_failed", message)
            .hint("see codex.approval_policy, codex.thread_sandbox and agent.model, and that Codex is 0.169 or newer");
    }
    Failure::retryable("agent_start_failed", message)
        .hint("the run's transcript has what the agent wrote to its standard error")
}
