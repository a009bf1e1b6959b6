//! Between the child's pipes and the protocol's crate: lines in, frames out.

use std::sync::{Arc, Mutex, PoisonError};

use agent_client_protocol::{Channel, RawJsonRpcId, RawJsonRpcMessage, RawJsonRpcResponse, TransportFrame};
use futures::StreamExt as _;
use futures::channel::mpsc;
use tokio::io::{AsyncRead, AsyncWriteExt as _};
use tokio::process::ChildStdin;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::fold::Listener;
use crate::agent::lines::{Lines, MAX_LINE_BYTES, MAX_OPEN_REQUESTS, Next, too_long};

/// What the agent may send at once that the crate queues.
#[derive(Debug)]
pub(super) struct Credit {
    /// Its requests: taken by the reader, given back by the writer.
    requests: Semaphore,
    /// Our requests that it has not answered: noted by the writer. A response to none of them is of no use.
    asked: Mutex<Vec<RawJsonRpcId>>,
}

impl Credit {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { requests: Semaphore::new(MAX_OPEN_REQUESTS), asked: Mutex::default() })
    }

    /// A request goes out.
    fn ask(&self, id: &RawJsonRpcId) {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).push(id.clone());
    }

    /// A response came; whether it answers something.
    fn answers(&self, response: &RawJsonRpcResponse) -> bool {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let found = asked.iter().position(|it| it == response.id());
        found.map(|at| asked.swap_remove(at)).is_some()
    }
}

/// Reads the agent's standard output to its end, or until it is of no use any more. The end of `frames` is what the
/// crate learns of either.
pub(super) async fn read(
    output: impl AsyncRead + Unpin,
    frames: mpsc::UnboundedSender<TransportFrame>,
    credit: Arc<Credit>,
    listener: Arc<Listener>,
) {
    let mut lines = Lines::new(output, MAX_LINE_BYTES);
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
        let TransportFrame::Single(message) = TransportFrame::parse_json(&text) else {
            // Handing it on would make the crate answer, and an agent that answers that would never stop.
            if let Err(failure) = listener.malformed(&text) {
                listener.give_up(failure);
                return;
            }
            continue;
        };
        match message {
            // Handled here and now: what is not read yet waits in the pipe, and in the end the agent waits.
            RawJsonRpcMessage::Notification(notification) => {
                // Other notifications are signs of life and no more; the crate would queue them without a limit.
                if &*notification.method == "session/update"
                    && let Some(params) = notification.params
                {
                    listener.update(&params.into_value());
                }
            }
            request @ RawJsonRpcMessage::Request(_) => {
                match credit.requests.acquire().await {
                    Ok(permit) => permit.forget(),
                    Err(_) => return,
                }
                if frames.unbounded_send(TransportFrame::Single(request)).is_err() {
                    return;
                }
            }
            RawJsonRpcMessage::Response(response) => {
                if !credit.answers(&response) {
                    if let Err(failure) = listener.malformed(&text) {
                        listener.give_up(failure);
                        return;
                    }
                    continue;
                }
                let response = TransportFrame::Single(RawJsonRpcMessage::Response(response));
                if frames.unbounded_send(response).is_err() {
                    return;
                }
            }
        }
    }
}

/// Writes what the crate sends to the agent's standard input; closes it on `stop`.
pub(super) async fn write(
    mut input: ChildStdin,
    mut frames: mpsc::UnboundedReceiver<TransportFrame>,
    credit: Arc<Credit>,
    stop: CancellationToken,
) {
    loop {
        let frame = tokio::select! {
            frame = frames.next() => frame,
            () = stop.cancelled() => None,
        };
        let Some(frame) = frame else { return };
        if let TransportFrame::Single(message) = &frame {
            match message {
                RawJsonRpcMessage::Response(_) => credit.requests.add_permits(1),
                RawJsonRpcMessage::Request(request) => credit.ask(&request.id),
                RawJsonRpcMessage::Notification(_) => {}
            }
        }
        let mut line = match frame.to_json() {
            Ok(line) => line,
            Err(error) => {
                tracing::warn!(%error, "a message to the agent could not be written as JSON");
                continue;
            }
        };
        line.push('\n');
        // A broken pipe means that the agent is gone; the reader sees that too, and why.
        if input.write_all(line.as_bytes()).await.is_err() || input.flush().await.is_err() {
            return;
        }
    }
}

/// A connection of the crate and our ends of it.
pub(super) fn channel() -> (Channel, mpsc::UnboundedSender<TransportFrame>, mpsc::UnboundedReceiver<TransportFrame>) {
    let (theirs, ours) = Channel::duplex();
    let (rx, tx) = ours.into_parts();
    (theirs, tx, rx)
}

/// Reads lines that pass for an agent's, in the middle of a turn.
pub(crate) fn foreign(bytes: &[u8]) {
    crate::foreign::run(async {
        let (theirs, frames, _) = channel();
        let (mut taken, _) = theirs.into_parts();
        let listener = Arc::new(Listener::new(crate::foreign::sink()));
        let credit = Credit::new();
        let answering = async {
            while taken.next().await.is_some() {
                credit.requests.add_permits(1);
            }
        };
        futures::join!(read(bytes, frames, Arc::clone(&credit), Arc::clone(&listener)), answering);
        drop(listener.end_turn(dalsegno_engine::core::Usage::default()));
    });
}
