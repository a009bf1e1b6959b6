//! A place for the log's lines that nobody has to wait for.
//!
//! Standard error may be a terminal that somebody stopped with Ctrl-S, or a pipe that nobody reads; a disk may hang. Who
//! logs hands its line over and goes on. What does not fit is dropped and counted, and said where it is missing.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use tracing_subscriber::fmt::MakeWriter;

/// Lines that wait to be written, at most.
const LINES: usize = 8 * 1024;
/// Bytes of these lines, at most.
const BYTES: usize = 4 * 1024 * 1024;
/// Pause between two looks whether there is room for a last word.
const LOOK_EVERY: Duration = Duration::from_millis(10);

enum Message {
    Line(Vec<u8>),
    /// Everything before this is written.
    Settle(SyncSender<()>),
}

#[derive(Debug, Default)]
struct Counts {
    /// Bytes that wait.
    queued_bytes: AtomicUsize,
    /// Lines that wait.
    queued: AtomicU64,
    /// Lines that were dropped since the start, or could not be written.
    dropped: AtomicU64,
}

/// Takes lines, and has them written by a thread of its own. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Sink {
    messages: SyncSender<Message>,
    counts: Arc<Counts>,
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
        lines: usize,
    ) -> io::Result<Self> {
        let (messages, taken) = sync_channel(lines);
        let counts = Arc::new(Counts::default());
        let shared = Arc::clone(&counts);
        let write = move || write_all(&mut to, &taken, &shared, missing);
        std::thread::Builder::new().name(format!("log to {name}")).spawn(write)?;
        Ok(Self { messages, counts })
    }

    /// Waits until everything so far is written, but not for ever; answers how many lines are missing, those that still
    /// wait among them.
    pub(crate) fn settle(&self, patience: Duration) -> u64 {
        let until = Instant::now() + patience;
        let (written, is_written) = sync_channel(1);
        while self.messages.try_send(Message::Settle(written.clone())).is_err() {
            if Instant::now() >= until {
                return self.missing();
            }
            std::thread::sleep(LOOK_EVERY);
        }
        let _ = is_written.recv_timeout(until.saturating_duration_since(Instant::now()));
        self.missing()
    }

    fn missing(&self) -> u64 {
        self.counts.dropped.load(Ordering::SeqCst) + self.counts.queued.load(Ordering::SeqCst)
    }
}

/// What the thread does: writes lines, and says where some are missing.
fn write_all(to: &mut impl Write, messages: &Receiver<Message>, counts: &Counts, missing: impl Fn(u64) -> String) {
    let mut told = 0;
    for message in messages {
        let dropped = counts.dropped.load(Ordering::SeqCst);
        if dropped > told && to.write_all(missing(dropped - told).as_bytes()).is_ok() {
            told = dropped;
        }
        match message {
            Message::Line(line) => {
                if to.write_all(&line).and_then(|()| to.flush()).is_err() {
                    counts.dropped.fetch_add(1, Ordering::SeqCst);
                }
                counts.queued.fetch_sub(1, Ordering::SeqCst);
                counts.queued_bytes.fetch_sub(line.len(), Ordering::SeqCst);
            }
            // Whoever waited may have lost patience.
            Message::Settle(written) => drop(written.try_send(())),
        }
    }
}

impl Write for Sink {
    /// Takes a whole line, or drops it; never waits and never fails.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let bytes = self.counts.queued_bytes.fetch_add(line.len(), Ordering::SeqCst) + line.len();
        self.counts.queued.fetch_add(1, Ordering::SeqCst);
        if bytes > BYTES || self.messages.try_send(Message::Line(line.to_vec())).is_err() {
            self.counts.queued_bytes.fetch_sub(line.len(), Ordering::SeqCst);
            self.counts.queued.fetch_sub(1, Ordering::SeqCst);
            self.counts.dropped.fetch_add(1, Ordering::SeqCst);
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
        assert!(sink.counts.queued_bytes.load(Ordering::SeqCst) <= BYTES);
        assert!(sink.counts.dropped.load(Ordering::SeqCst) >= 36);
    }
}
