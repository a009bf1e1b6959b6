//! Running a script to its end, within bounds.

use std::collections::VecDeque;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use dalsegno_engine::core::Failure;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::unix::pipe::Receiver;
use tokio::process::Command;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::spawn::spawn;

/// How long the pipes may stay open after the main process ended: long enough for `> >(tee log)`.
const PIPE_GRACE: Duration = Duration::from_secs(2);
/// How long what is in the pipes is read after everything was killed.
const DRAIN_GRACE: Duration = Duration::from_millis(500);

/// How a bounded run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finished {
    /// What the main process ended with; `None` when it could not be collected.
    pub exit: Option<ExitStatus>,
    /// The end of standard output and standard error, in the order in which they were written; invalid UTF-8 replaced.
    pub tail: String,
    /// Bytes that came before it, and were not kept.
    pub left_out: u64,
    /// It took too long and was killed.
    pub timed_out: bool,
    /// It was killed on request.
    pub canceled: bool,
}

impl Finished {
    /// It ended by itself, with exit code 0.
    #[must_use]
    pub fn success(&self) -> bool {
        !self.timed_out && !self.canceled && self.exit.is_some_and(|exit| exit.success())
    }

    /// The end in words: `exit code 3`, `signal 9`, `timeout`, `canceled`.
    #[must_use]
    pub fn how(&self) -> String {
        if self.timed_out {
            return "timeout".to_owned();
        }
        if self.canceled {
            return "canceled".to_owned();
        }
        describe(self.exit)
    }
}

/// An exit status in words.
pub(crate) fn describe(exit: Option<ExitStatus>) -> String {
    match exit.map(|exit| (exit.code(), exit.signal())) {
        Some((Some(code), _)) => format!("exit code {code}"),
        Some((None, Some(signal))) => format!("signal {signal}"),
        Some((None, None)) | None => "an unknown exit status".to_owned(),
    }
}

/// Runs `command` (from [`super::command`] or [`super::shell`]) to its end and keeps the last `max_output` bytes of
/// its output.
///
/// The timeout holds for everything that the command brought about: at it, or on `cancel`, the process, its group and
/// whatever carries the mark of this call is killed. When the main process ended and background children hold the
/// pipes, they get two seconds, then they are killed too; the exit status counts. Background children that let go of
/// standard output and error are left to the run's sweep.
///
/// # Errors
/// `spawn_failed`. A non-zero exit is no error here.
pub async fn run_bounded(
    mut command: Command,
    stdin: Option<Vec<u8>>,
    timeout: Duration,
    cancel: &CancellationToken,
    max_output: usize,
) -> Result<Finished, Failure> {
    let mut pipe = OutputPipe::attach(&mut command, max_output)?;
    command.stdin(if stdin.is_some() { Stdio::piped() } else { Stdio::null() });
    let mut child = tokio::select! {
        child = spawn(command) => child?,
        () = cancel.cancelled() => {
            return Ok(Finished { exit: None, tail: String::new(), left_out: 0, timed_out: false, canceled: true });
        }
    };
    let feed = feed(child.stdin.take(), stdin);
    tokio::pin!(feed);

    let deadline = Instant::now() + timeout;
    let mut fed = false;
    let mut exit = None;
    let mut grace = deadline;
    let (mut timed_out, mut canceled, mut held) = (false, false, false);
    while exit.is_none() || pipe.open() {
        tokio::select! {
            biased;
            () = cancel.cancelled() => { canceled = true; break; }
            () = sleep_until(deadline), if exit.is_none() => { timed_out = true; break; }
            () = sleep_until(grace), if exit.is_some() => { held = true; break; }
            status = child.wait(), if exit.is_none() => {
                exit = status.ok();
                if exit.is_none() { break; }
                grace = Instant::now() + PIPE_GRACE;
            }
            () = &mut feed, if !fed => fed = true,
            () = pipe.read(), if pipe.open() => {}
        }
    }
    if exit.is_none() || held || canceled {
        if let Err(failure) = child.end().await {
            tracing::warn!(code = %failure.code, reason = %failure.message, "a bounded run left processes behind");
        }
        if exit.is_none() {
            exit = child.try_wait().ok().flatten();
        }
        let until = Instant::now() + DRAIN_GRACE;
        while pipe.open() {
            tokio::select! {
                () = sleep_until(until) => break,
                () = pipe.read() => {}
            }
        }
    } else {
        child.release();
    }
    Ok(Finished { exit, tail: pipe.tail.text(), left_out: pipe.tail.left_out(), timed_out, canceled })
}

/// A script need not read what it is given: a closed pipe is its choice.
async fn feed(pipe: Option<tokio::process::ChildStdin>, bytes: Option<Vec<u8>>) {
    if let (Some(mut pipe), Some(bytes)) = (pipe, bytes)
        && let Err(error) = pipe.write_all(&bytes).await
    {
        tracing::debug!(%error, "a script did not read its standard input");
    }
}

/// One pipe for standard output and standard error, so that their order is the one in which they were written.
pub(crate) struct OutputPipe {
    pipe: Option<Receiver>,
    buffer: Box<[u8]>,
    pub(crate) tail: Tail,
}

impl OutputPipe {
    /// Gives the command a pipe of its own for all output. The command must be dropped once it is spawned, or its end
    /// of the pipe stays open.
    pub(crate) fn attach(command: &mut Command, max_output: usize) -> Result<Self, Failure> {
        let failed =
            |error: std::io::Error| Failure::retryable("spawn_failed", format!("no pipe can be made: {error}"));
        let (reader, writer) = std::io::pipe().map_err(failed)?;
        command.stdout(writer.try_clone().map_err(failed)?).stderr(writer);
        let pipe = Receiver::from_owned_fd(reader.into()).map_err(failed)?;
        Ok(Self { pipe: Some(pipe), buffer: vec![0; 8192].into_boxed_slice(), tail: Tail::new(max_output) })
    }

    pub(crate) fn open(&self) -> bool {
        self.pipe.is_some()
    }

    /// One read; cancel-safe. A pipe that cannot be read any more has ended as far as we are concerned.
    pub(crate) async fn read(&mut self) {
        let Some(pipe) = &mut self.pipe else { return };
        match pipe.read(&mut self.buffer).await.unwrap_or(0) {
            0 => self.pipe = None,
            length => self.tail.push(self.buffer.get(..length).unwrap_or_default()),
        }
    }
}

/// The last bytes of a stream.
#[derive(Debug)]
pub(crate) struct Tail {
    bytes: VecDeque<u8>,
    max: usize,
    /// All bytes that ever came.
    seen: u64,
}

impl Tail {
    pub(crate) fn new(max: usize) -> Self {
        Self { bytes: VecDeque::new(), max, seen: 0 }
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) {
        let kept = bytes.get(bytes.len().saturating_sub(self.max)..).unwrap_or_default();
        let over = (self.bytes.len() + kept.len()).saturating_sub(self.max);
        self.bytes.drain(..over.min(self.bytes.len()));
        self.bytes.extend(kept);
        self.seen = self.seen.saturating_add(bytes.len() as u64);
    }

    /// Bytes that came, and are not among the last.
    pub(crate) fn left_out(&self) -> u64 {
        self.seen.saturating_sub(self.bytes.len() as u64)
    }

    /// Invalid UTF-8 replaced; a character that the cut went through is left out.
    pub(crate) fn text(&self) -> String {
        let full = self.bytes.len() >= self.max;
        let bytes: Vec<u8> = self.bytes.iter().copied().collect();
        let begin = if full { bytes.iter().take(3).take_while(|byte| **byte & 0xC0 == 0x80).count() } else { 0 };
        String::from_utf8_lossy(bytes.get(begin..).unwrap_or_default()).into_owned()
    }
}
