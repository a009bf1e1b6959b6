//! A place for the log's lines that nobody has to wait for.
//!
//! Standard error may be a terminal that somebody stopped with Ctrl-S, or a pipe that nobody reads; a disk may hang. Who
//! logs hands its line over and goes on. What does not fit is dropped and counted, and said where it is missing.

use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tracing_subscriber::fmt::MakeWriter;

/// Lines that wait to be written, at most.
const LINES: u64 = 8 * 1024;
/// Bytes of these lines, at most.
const BYTES: usize = 4 * 1024 * 1024;
/// Pause after a write. Lines that come meanwhile are written together, and wake nobody up.
const PAUSE: Duration = Duration::from_millis(5);
/// Bytes of room that are kept between two writes.
const KEPT: usize = 64 * 1024;

/// What waits, and what became of the rest.
#[derive(Debug, Default)]
struct State {
    /// Lines that nobody has taken yet.
    waiting: Vec<u8>,
    /// How many.
    lines: u64,
    /// Lines, and their bytes, that are being written.
    in_hand: u64,
    bytes_in_hand: usize,
    /// Lines that were dropped since the start, or could not be written.
    dropped: u64,
    /// The thread waits for a line.
    is_awaited: bool,
    /// Somebody waits for the last line to be written.
    is_urgent: bool,
    /// Nobody has the sink any more.
    is_over: bool,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    filled: Condvar,
    written: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing is done under the lock that could be left half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes lines, and has them written by a thread of its own. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Sink {
    shared: Arc<Shared>,
    most_lines: u64,
    _open: Arc<Open>,
}

/// Ends the thread with the last sink.
struct Open(Arc<Shared>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.lock().is_over = true;
        self.0.filled.notify_one();
    }
}

impl Sink {
    /// A sink that writes to `to`. `missing` puts it into words that so many lines are missing there.
    ///
    /// # Errors
    /// When the operating system gives no thread.
    pub(crate) fn new(
        name: &str,
        to: impl Write + Send + 'static,
        missing: impl Fn(u64) -> String + Send + 'static,
    ) -> io::Result<Self> {
        Self::with_room(name, to, missing, LINES)
    }

    fn with_room(
        name: &str,
        mut to: impl Write + Send + 'static,
        missing: impl Fn(u64) -> String + Send + 'static,
        most_lines: u64,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let of_thread = Arc::clone(&shared);
        let write = move || write_all(&mut to, &of_thread, missing);
        std::thread::Builder::new().name(format!("log to {name}")).spawn(write)?;
        Ok(Self { _open: Arc::new(Open(Arc::clone(&shared))), shared, most_lines })
    }

    /// Waits until everything so far is written, but not for ever; answers how many lines are missing, those that still
    /// wait among them.
    pub(crate) fn settle(&self, patience: Duration) -> u64 {
        let until = Instant::now() + patience;
        let mut state = self.shared.lock();
        while state.lines + state.in_hand > 0 {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            state.is_urgent = true;
            self.shared.filled.notify_one();
            state = self.shared.written.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        state.dropped + state.lines + state.in_hand
    }
}

/// What the thread does: writes lines, and says where some are missing.
fn write_all(to: &mut impl Write, shared: &Shared, missing: impl Fn(u64) -> String) {
    let (mut told, mut in_hand) = (0, Vec::new());
    let mut state = shared.lock();
    loop {
        while state.lines == 0 && !state.is_over {
            state.is_awaited = true;
            state = shared.filled.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.is_awaited = false;
        if state.lines == 0 {
            return;
        }
        std::mem::swap(&mut state.waiting, &mut in_hand);
        state.in_hand = std::mem::take(&mut state.lines);
        state.bytes_in_hand = in_hand.len();
        let dropped = state.dropped;
        drop(state);
        let mut written = to.write_all(&in_hand);
        // Lines are dropped when there is no room behind these.
        if dropped > told && to.write_all(missing(dropped - told).as_bytes()).is_ok() {
            told = dropped;
        }
        written = written.and_then(|()| to.flush());
        in_hand.clear();
        // What a flood needed once is not kept.
        in_hand.shrink_to(KEPT);
        state = shared.lock();
        if written.is_err() {
            state.dropped += state.in_hand;
        }
        (state.in_hand, state.bytes_in_hand) = (0, 0);
        shared.written.notify_all();
        let is_calm = |state: &mut State| !state.is_urgent && !state.is_over;
        state = shared.filled.wait_timeout_while(state, PAUSE, is_calm).unwrap_or_else(PoisonError::into_inner).0;
        state.is_urgent = false;
    }
}

impl Write for Sink {
    /// Takes a whole line, or drops it; never waits for the place and never fails.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut state = self.shared.lock();
        let bytes = state.waiting.len() + state.bytes_in_hand + line.len();
        if bytes > BYTES || state.lines >= self.most_lines {
            state.dropped += 1;
            return Ok(line.len());
        }
        state.waiting.extend_from_slice(line);
        state.lines += 1;
        let is_awaited = std::mem::take(&mut state.is_awaited);
        drop(state);
        if is_awaited {
            self.shared.filled.notify_one();
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Sink {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::io::{BufRead as _, BufReader};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);

    fn said(missing: u64) -> String {
        format!("{missing} are missing\n")
    }

    #[test]
    fn a_place_that_is_stuck_holds_nobody_up_and_says_afterwards_what_is_missing() {
        let (reader, writer) = io::pipe().unwrap();
        let mut sink = Sink::with_room("a pipe", writer, said, 10).unwrap();
        // The pipe takes 64 KiB and then nothing more; a line that is being written and ten that wait are kept.
        let line = format!("{}\n", "x".repeat(32 * 1024 - 1));
        for _ in 0..40 {
            sink.write_all(line.as_bytes()).unwrap();
        }
        let missing = sink.settle(Duration::ZERO);
        assert!(missing >= 30, "{missing}");
        let reading = std::thread::spawn(move || {
            BufReader::new(reader).lines().map(Result::unwrap).take_while(|line| line != "end").collect::<Vec<_>>()
        });
        let dropped = sink.settle(PATIENCE);
        assert!(dropped > 0 && dropped < missing, "{dropped} of {missing}");
        sink.write_all(b"end\n").unwrap();
        let read = reading.join().unwrap();
        // The first lines may be dropped before the thread has begun, and are told then.
        let notes: Vec<u64> = read.iter().filter_map(|line| line.strip_suffix(" are missing")?.parse().ok()).collect();
        assert_eq!(notes.iter().sum::<u64>(), dropped, "{notes:?}");
        assert_eq!((read.len() - notes.len()) as u64, 40 - dropped, "every other line is there");
    }

    #[test]
    fn what_cannot_be_written_is_counted() {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let mut sink = Sink::new("nobody", writer, said).unwrap();
        for _ in 0..3 {
            sink.write_all(b"lost\n").unwrap();
        }
        assert_eq!(sink.settle(PATIENCE), 3);
    }

    #[test]
    fn bytes_that_wait_have_a_limit_too() {
        let (_reader, writer) = io::pipe().unwrap();
        let mut sink = Sink::new("a pipe", writer, said).unwrap();
        let line = vec![b'x'; BYTES / 4];
        for _ in 0..40 {
            sink.write_all(&line).unwrap();
        }
        let state = sink.shared.lock();
        assert!(state.waiting.len() + state.bytes_in_hand <= BYTES);
        assert!(state.dropped >= 36);
    }
}
