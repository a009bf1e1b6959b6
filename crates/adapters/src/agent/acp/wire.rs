//! Between the child's pipes and the protocol's crate: lines in, frames out.

use std::sync::Arc;

use agent_client_protocol::{Channel, RawJsonRpcMessage, TransportFrame};
use dalsegno_engine::core::Failure;
use futures::StreamExt as _;
use futures::channel::mpsc;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncWriteExt as _, BufReader};
use tokio::process::ChildStdin;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::fold::Listener;

/// A longer line ends the session.
const MAX_LINE_BYTES: usize = 10 * 1024 * 1024;
/// A line of standard error is cut here.
const MAX_STDERR_LINE_BYTES: usize = 4 * 1024;
/// Requests of the agent that may be unanswered; the next one is not read before one of them is answered.
const MAX_OPEN_REQUESTS: usize = 64;

/// Limits what the agent may ask at once: taken by the reader, given back by the writer.
pub(super) fn credit() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(MAX_OPEN_REQUESTS))
}

/// Reads the agent's standard output to its end, or until it is of no use any more. The end of `frames` is what the
/// crate learns of either.
pub(super) async fn read(
    output: impl AsyncRead + Unpin,
    frames: mpsc::UnboundedSender<TransportFrame>,
    credit: Arc<Semaphore>,
    listener: Arc<Listener>,
) {
    let mut lines = Lines::new(output, MAX_LINE_BYTES);
    loop {
        let line = match lines.next().await {
            Next::Line(line) => line,
            Next::TooLong => {
                listener.give_up(
                    Failure::retryable(
                        "agent_protocol",
                        format!("the agent wrote a line of more than {MAX_LINE_BYTES} bytes"),
                    )
                    .hint("a tool's output of that size is better written to a file"),
                );
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
                match credit.acquire().await {
                    Ok(permit) => permit.forget(),
                    Err(_) => return,
                }
                if frames.unbounded_send(TransportFrame::Single(request)).is_err() {
                    return;
                }
            }
            response @ RawJsonRpcMessage::Response(_) => {
                if frames.unbounded_send(TransportFrame::Single(response)).is_err() {
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
    credit: Arc<Semaphore>,
    stop: CancellationToken,
) {
    loop {
        let frame = tokio::select! {
            frame = frames.next() => frame,
            () = stop.cancelled() => None,
        };
        let Some(frame) = frame else { return };
        if matches!(frame, TransportFrame::Single(RawJsonRpcMessage::Response(_))) {
            credit.add_permits(1);
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

/// Reads the agent's standard error to its end.
pub(super) async fn read_errors(errors: impl AsyncRead + Unpin, mut heard: impl FnMut(&str)) {
    let mut lines = Lines::new(errors, MAX_STDERR_LINE_BYTES);
    loop {
        match lines.next().await {
            Next::Line(line) => heard(String::from_utf8_lossy(line).trim_end()),
            // The rest of a long line comes as a line of its own.
            Next::TooLong => heard(&String::from_utf8_lossy(lines.taken())),
            Next::End => return,
        }
    }
}

/// A connection of the crate and our ends of it.
pub(super) fn channel() -> (Channel, mpsc::UnboundedSender<TransportFrame>, mpsc::UnboundedReceiver<TransportFrame>) {
    let (theirs, ours) = Channel::duplex();
    let (rx, tx) = ours.into_parts();
    (theirs, tx, rx)
}

/// Lines of bytes, none longer than a limit. A line need not be UTF-8, nor end before the stream does.
struct Lines<R> {
    reader: BufReader<R>,
    line: Vec<u8>,
    max: usize,
    done: bool,
}

enum Next<'a> {
    Line(&'a [u8]),
    /// The limit is reached; what was read so far is in [`Lines::taken`].
    TooLong,
    End,
}

impl<R: AsyncRead + Unpin> Lines<R> {
    fn new(reader: R, max: usize) -> Self {
        Self { reader: BufReader::new(reader), line: Vec::new(), max, done: false }
    }

    fn taken(&self) -> &[u8] {
        &self.line
    }

    async fn next(&mut self) -> Next<'_> {
        self.line.clear();
        if self.line.capacity() > 64 * 1024 {
            self.line.shrink_to(64 * 1024);
        }
        if self.done {
            return Next::End;
        }
        loop {
            let room = self.max - self.line.len();
            // A pipe that cannot be read has ended as far as we are concerned.
            let available = self.reader.fill_buf().await.unwrap_or_default();
            if available.is_empty() {
                self.done = true;
                return if self.line.is_empty() { Next::End } else { Next::Line(&self.line) };
            }
            let end = available.iter().position(|byte| *byte == b'\n');
            let wanted = end.unwrap_or(available.len());
            let taken = wanted.min(room);
            self.line.extend_from_slice(available.get(..taken).unwrap_or_default());
            if taken < wanted {
                self.reader.consume(taken);
                return Next::TooLong;
            }
            self.reader.consume(end.map_or(taken, |end| end + 1));
            if end.is_some() {
                return Next::Line(&self.line);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn split(text: &[u8], max: usize) -> Vec<String> {
        let mut lines = Lines::new(text, max);
        let mut seen = Vec::new();
        loop {
            match lines.next().await {
                Next::Line(line) => seen.push(String::from_utf8_lossy(line).into_owned()),
                Next::TooLong => seen.push(format!("{}…", String::from_utf8_lossy(lines.taken()))),
                Next::End => return seen,
            }
        }
    }

    #[tokio::test]
    async fn lines_are_split_and_bounded() {
        assert_eq!(split(b"a\n\nbc\nd", 10).await, ["a", "", "bc", "d"]);
        assert_eq!(split(b"abcdef\ng\n", 4).await, ["abcd…", "ef", "g"]);
        assert_eq!(split(b"abcd\n", 4).await, ["abcd"]);
        assert!(split(b"", 4).await.is_empty());
    }
}
