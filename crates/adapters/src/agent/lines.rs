//! Lines from a child's pipes, none longer than a limit.

use dalsegno_engine::core::Failure;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};

/// A longer line of the protocol ends the session.
pub(super) const MAX_LINE_BYTES: usize = 10 * 1024 * 1024;
/// A line of standard error is cut here.
const MAX_STDERR_LINE_BYTES: usize = 4 * 1024;
/// Requests of the agent that may be unanswered; the next one is not read before one of them is answered.
pub(super) const MAX_OPEN_REQUESTS: usize = 64;

/// The verdict on a line of the protocol that is longer than [`MAX_LINE_BYTES`].
pub(super) fn too_long() -> Failure {
    Failure::retryable("agent_protocol", format!("the agent wrote a line of more than {MAX_LINE_BYTES} bytes"))
        .hint("a tool's output of that size is better written to a file")
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

/// Lines of bytes, none longer than a limit. A line need not be UTF-8, nor end before the stream does.
pub(super) struct Lines<R> {
    reader: BufReader<R>,
    line: Vec<u8>,
    max: usize,
    done: bool,
}

pub(super) enum Next<'a> {
    Line(&'a [u8]),
    /// The limit is reached; what was read so far is in [`Lines::taken`].
    TooLong,
    End,
}

impl<R: AsyncRead + Unpin> Lines<R> {
    pub(super) fn new(reader: R, max: usize) -> Self {
        Self { reader: BufReader::new(reader), line: Vec::new(), max, done: false }
    }

    pub(super) fn taken(&self) -> &[u8] {
        &self.line
    }

    pub(super) async fn next(&mut self) -> Next<'_> {
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
