//! Between the child's pipes and the session: JSON-RPC in lines, as Codex writes it (without a `jsonrpc` member).

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWriteExt as _};
use tokio::process::ChildStdin;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::asks::Asks;
use super::listener::Listener;
use crate::agent::lines::{Lines, MAX_LINE_BYTES, MAX_OPEN_REQUESTS, Next, too_long};

/// Lines that wait to be written to the agent; who has another one waits too.
const MAX_OUTGOING: usize = 64;
/// Requests of ours that may be unanswered.
const MAX_PENDING: usize = 64;

/// What the agent answers instead of a result.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Refusal {
    pub(super) message: String,
}

pub(super) type Answer = Result<Value, Refusal>;

/// Our side of the conversation. Shared by the session, its steering handle and the answers to the agent's requests.
pub(super) struct Wire {
    out: mpsc::Sender<String>,
    next: AtomicU64,
    /// `None`: the agent's output has ended, and no answer will come any more.
    pending: Mutex<Option<BTreeMap<u64, oneshot::Sender<Answer>>>>,
    ended: CancellationToken,
}

impl Wire {
    /// The sending side, and what [`write`] takes from.
    pub(super) fn new() -> (Arc<Self>, mpsc::Receiver<String>) {
        let (out, lines) = mpsc::channel(MAX_OUTGOING);
        (
            Arc::new(Self {
                out,
                next: AtomicU64::new(1),
                pending: Mutex::new(Some(BTreeMap::new())),
                ended: CancellationToken::new(),
            }),
            lines,
        )
    }

    /// The map stays whole when a holder panics: every change is one call.
    fn pending(&self) -> MutexGuard<'_, Option<BTreeMap<u64, oneshot::Sender<Answer>>>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a request and waits for its answer; `None`: the connection is over, and there will be none.
    pub(super) async fn request(self: Arc<Self>, method: &'static str, params: Value) -> Option<Answer> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, answer) = oneshot::channel();
        {
            let mut pending = self.pending();
            let pending = pending.as_mut()?;
            // Those that nobody waits for any more.
            pending.retain(|_, waiting| !waiting.is_closed());
            if pending.len() >= MAX_PENDING {
                return Some(Err(Refusal { message: format!("{MAX_PENDING} requests are unanswered") }));
            }
            pending.insert(id, sender);
        }
        self.send(json!({"id": id, "method": method, "params": params})).await?;
        answer.await.ok()
    }

    /// Sends a notification.
    pub(super) async fn notify(&self, method: &str) -> Option<()> {
        self.send(json!({"method": method})).await
    }

    /// Answers a request of the agent.
    pub(super) async fn answer(&self, id: &Value, result: Result<Value, (i64, String)>) {
        let message = match result {
            Ok(result) => json!({"id": id, "result": result}),
            Err((code, message)) => json!({"id": id, "error": {"code": code, "message": message}}),
        };
        // A connection that is over needs no answer.
        let _ = self.send(message).await;
    }

    async fn send(&self, message: Value) -> Option<()> {
        self.out.send(format!("{message}\n")).await.ok()
    }

    fn answered(&self, id: u64, answer: Answer) {
        let waiting = self.pending().as_mut().and_then(|pending| pending.remove(&id));
        // Nobody waits for the answer to an interrupt.
        if let Some(waiting) = waiting {
            let _ = waiting.send(answer);
        }
    }

    fn closed(&self) {
        *self.pending() = None;
        self.ended.cancel();
    }

    /// Waits until nothing is read from the agent any more.
    pub(super) async fn ended(&self) {
        self.ended.cancelled().await;
    }
}

/// Reads the agent's standard output to its end, or until it is of no use any more.
pub(super) async fn read(output: impl AsyncRead + Unpin, wire: Arc<Wire>, asks: Arc<Asks>, listener: Arc<Listener>) {
    read_lines(output, &wire, &asks, &listener).await;
    wire.closed();
}

async fn read_lines(output: impl AsyncRead + Unpin, wire: &Arc<Wire>, asks: &Arc<Asks>, listener: &Arc<Listener>) {
    let mut lines = Lines::new(output, MAX_LINE_BYTES);
    let credit = Arc::new(Semaphore::new(MAX_OPEN_REQUESTS));
    let mut answering = JoinSet::new();
    loop {
        let line = match lines.next().await {
            Next::Line(line) => line,
            Next::TooLong => {
                listener.give_up(too_long());
                return;
            }
            Next::End => return,
        };
        listener.activity();
        let text = String::from_utf8_lossy(line);
        if text.trim().is_empty() {
            continue;
        }
        match parse(&text) {
            // Handled here and now: what is not read yet waits in the pipe, and in the end the agent waits.
            Some(Message::Notification { method, params }) => listener.hear(&method, &params),
            Some(Message::Answer { id, answer }) => wire.answered(id, answer),
            Some(Message::Request { id, method, params }) => {
                while answering.try_join_next().is_some() {}
                let Ok(permit) = credit.clone().acquire_owned().await else { return };
                let (wire, asks) = (wire.clone(), asks.clone());
                answering.spawn(async move {
                    asks.serve(&wire, &id, &method, &params).await;
                    drop(permit);
                });
            }
            None => {
                if let Err(failure) = listener.malformed(&text) {
                    listener.give_up(failure);
                    return;
                }
            }
        }
    }
}

enum Message {
    Notification { method: String, params: Value },
    Request { id: Value, method: String, params: Value },
    Answer { id: u64, answer: Answer },
}

fn parse(text: &str) -> Option<Message> {
    let Ok(Value::Object(mut message)) = serde_json::from_str::<Value>(text) else { return None };
    let params = message.remove("params").unwrap_or(Value::Null);
    let id = message.remove("id").filter(|id| id.is_u64() || id.is_i64() || id.is_string());
    match (message.remove("method"), id) {
        (Some(Value::String(method)), Some(id)) => Some(Message::Request { id, method, params }),
        (Some(Value::String(method)), None) => Some(Message::Notification { method, params }),
        (None, Some(id)) => {
            // Ours are numbers; an answer to anything else is to nothing that we asked.
            let id = id.as_u64()?;
            if let Some(result) = message.remove("result") {
                return Some(Message::Answer { id, answer: Ok(result) });
            }
            let message = message.remove("error")?.get("message")?.as_str()?.to_owned();
            Some(Message::Answer { id, answer: Err(Refusal { message }) })
        }
        (Some(_) | None, _) => None,
    }
}

/// Writes our messages to the agent's standard input; closes it on `stop`.
pub(super) async fn write(mut input: ChildStdin, mut lines: mpsc::Receiver<String>, stop: CancellationToken) {
    loop {
        let line = tokio::select! {
            line = lines.recv() => line,
            () = stop.cancelled() => None,
        };
        let Some(line) = line else { return };
        // A broken pipe means that the agent is gone; the reader sees that too, and why.
        if input.write_all(line.as_bytes()).await.is_err() || input.flush().await.is_err() {
            return;
        }
    }
}

/// Reads lines that pass for Codex's, in the middle of a turn.
pub(crate) fn foreign(bytes: &[u8]) {
    crate::foreign::run(async {
        let (wire, mut lines) = Wire::new();
        let listener = Arc::new(Listener::new(crate::foreign::sink()));
        let asks = Arc::new(Asks {
            approve: dalsegno_engine::core::AutoApprove::Workspace,
            workspace: "/w".into(),
            grants: Vec::new(),
            tools: Arc::new(crate::foreign::Nobody),
            listener: Arc::clone(&listener),
        });
        let taken = async { while lines.recv().await.is_some() {} };
        tokio::select! {
            () = read(bytes, wire, asks, listener) => {}
            () = taken => {}
        }
    });
}
