//! Server-sent events, read line by line, and a stream of events that survives broken connections.

use std::io::{self, BufRead, Read};
use std::time::Duration;

use crate::client::{ClientError, EventQuery, Transport};
use crate::error::code;
use crate::types::Event;

/// Longest line that is read; an event's data is one line.
const MAX_LINE: u64 = 4 * 1024 * 1024;
/// Connections in a row that may fail or bring nothing before the stream gives up.
const MAX_FAILURES: u32 = 8;
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// One server-sent event.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Frame {
    /// Its `id:`.
    pub id: Option<String>,
    /// Its `event:`.
    pub event: Option<String>,
    /// Its `data:` lines, joined.
    pub data: String,
}

/// Splits bytes into frames.
#[derive(Debug)]
pub struct FrameReader<R> {
    lines: R,
    last_id: Option<String>,
}

impl<R: BufRead> FrameReader<R> {
    /// Frames of this reader.
    pub fn new(lines: R) -> Self {
        Self { lines, last_id: None }
    }

    /// The id of the last whole block, with or without data: where the next connection goes on.
    #[must_use]
    pub fn last_id(&self) -> Option<&str> {
        self.last_id.as_deref()
    }

    /// The next frame with data; comments are passed over. `None` at the end.
    ///
    /// # Errors
    /// What the reader says; `InvalidData` for text that is not UTF-8 or a line past the limit.
    pub fn next_frame(&mut self) -> io::Result<Option<Frame>> {
        let mut frame = Frame::default();
        let mut has_data = false;
        loop {
            let Some(line) = self.next_line()? else { return Ok(None) };
            if line.is_empty() {
                if frame.id.is_some() {
                    self.last_id.clone_from(&frame.id);
                }
                if has_data {
                    return Ok(Some(frame));
                }
                frame = Frame::default();
                continue;
            }
            let (field, value) = line.split_once(':').unwrap_or((&line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "id" => frame.id = Some(value.to_owned()),
                "event" => frame.event = Some(value.to_owned()),
                "data" => {
                    if has_data {
                        frame.data.push('\n');
                    }
                    if (frame.data.len() + value.len()) as u64 > MAX_LINE {
                        return Err(too_long());
                    }
                    frame.data.push_str(value);
                    has_data = true;
                }
                // A comment (empty field), or a field of a later version.
                _ => {}
            }
        }
    }

    fn next_line(&mut self) -> io::Result<Option<String>> {
        let mut line = Vec::new();
        (&mut self.lines).take(MAX_LINE).read_until(b'\n', &mut line)?;
        if line.pop() != Some(b'\n') {
            // Cut off: what came of the line is not used.
            return if line.len() as u64 + 1 >= MAX_LINE { Err(too_long()) } else { Ok(None) };
        }
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        String::from_utf8(line).map(Some).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
    }
}

fn too_long() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("an event longer than {MAX_LINE} bytes"))
}

/// Events as they come, without gap or repeat over reconnects. Ends after an error.
pub struct EventStream<'a> {
    transport: &'a dyn Transport,
    query: EventQuery,
    last_id: Option<String>,
    frames: Option<FrameReader<Box<dyn BufRead + Send>>>,
    failures: u32,
    over: bool,
}

impl<'a> EventStream<'a> {
    pub(crate) fn new(transport: &'a dyn Transport, query: EventQuery) -> Self {
        Self { transport, query, last_id: None, frames: None, failures: 0, over: false }
    }

    fn step(&mut self) -> Result<Option<Event>, ClientError> {
        let frames = match &mut self.frames {
            Some(frames) => frames,
            None => {
                let target = self.query.target("/api/v1/events/stream", false);
                let lines = self.transport.open(&target, self.last_id.as_deref())?;
                self.frames.insert(FrameReader::new(lines))
            }
        };
        let next = frames.next_frame();
        if let Some(id) = frames.last_id() {
            // A heartbeat moved on, too: what was passed over need not be read again.
            if self.last_id.as_deref() != Some(id) {
                self.failures = 0;
                self.last_id = Some(id.to_owned());
            }
        }
        match next {
            Ok(Some(frame)) => {
                let event = serde_json::from_str::<Event>(&frame.data).map_err(|error| {
                    ClientError::local(code::INVALID_ANSWER, format!("an event cannot be understood: {error}"))
                })?;
                self.last_id = frame.id.or_else(|| Some(event.cursor.clone()));
                Ok(Some(event))
            }
            Ok(None) => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                Err(ClientError::local(code::INVALID_ANSWER, format!("the event stream is broken: {error}")))
            }
            Err(_) => Ok(None),
        }
    }

    /// Whether it makes sense to try again after this error.
    fn passing(error: &ClientError) -> bool {
        match error.status {
            Some(status) => status == 503,
            None => error.code() == code::DAEMON_UNREACHABLE,
        }
    }
}

impl Iterator for EventStream<'_> {
    type Item = Result<Event, ClientError>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.over {
            let error = match self.step() {
                Ok(Some(event)) => {
                    self.failures = 0;
                    return Some(Ok(event));
                }
                Ok(None) => ClientError::local(code::DAEMON_UNREACHABLE, "the daemon ended the event stream")
                    .hint("see whether it still runs: `dalsegno status`"),
                Err(error) => error,
            };
            self.frames = None;
            self.failures += 1;
            if !Self::passing(&error) || self.failures >= MAX_FAILURES {
                self.over = true;
                return Some(Err(error));
            }
            std::thread::sleep(FIRST_PAUSE.saturating_mul(1 << (self.failures - 1).min(10)).min(LONGEST_PAUSE));
        }
        None
    }
}

impl std::fmt::Debug for EventStream<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EventStream")
            .field("query", &self.query)
            .field("last_id", &self.last_id)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
#[path = "sse/tests.rs"]
mod tests;
