//! What every side of the comparison does the same way: reading its task, measuring, telling the result.
//!
//! A side is a program that does one task in an empty directory and prints one line of JSON. Each runs in a process of its
//! own, so that none has the other's allocator state, threads or SQLite.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Effects that are recorded in each scope before they are replayed.
pub const RECORDED: u64 = 256;
/// Steps of each saga.
pub const STEPS: u64 = 8;

/// What is to be done again and again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// One effect with a small input and a small output, executed and recorded.
    Effects,
    /// [`RECORDED`] effects of an open scope are asked for again; each counts.
    Replay,
    /// The same, and the scope is opened for it each time, as after a restart.
    Reopen,
    /// A saga of [`STEPS`] steps, one after the other, each with an undo; each step counts.
    Sagas,
}

/// What a commit waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sync {
    /// The disk: SQLite's `synchronous=FULL`, PostgreSQL's `synchronous_commit=on`.
    Full,
    /// Nothing: SQLite's `synchronous=NORMAL`, which may lose the last commits in a power cut.
    Normal,
}

/// A side's task.
#[derive(Debug, Clone)]
pub struct Task {
    /// An empty directory on a real disk.
    pub dir: PathBuf,
    /// What is done.
    pub work: Work,
    /// Scopes, or sagas, that do it at the same time, each one thing after the other.
    pub scopes: usize,
    /// What a commit waits for.
    pub sync: Sync,
    /// How long it is measured.
    pub time: Duration,
}

impl Task {
    /// From `DIR WORK SCOPES SYNC MILLISECONDS`.
    ///
    /// # Errors
    /// What is wrong with the arguments.
    pub fn from_arguments() -> Result<Self, String> {
        let words: Vec<String> = std::env::args().skip(1).collect();
        let [dir, work, scopes, sync, time] = &words[..] else {
            return Err("usage: SIDE DIR effects|replay|reopen|sagas SCOPES full|normal MILLISECONDS".to_owned());
        };
        Ok(Self {
            dir: PathBuf::from(dir),
            work: match work.as_str() {
                "effects" => Work::Effects,
                "replay" => Work::Replay,
                "reopen" => Work::Reopen,
                "sagas" => Work::Sagas,
                other => return Err(format!("no such work: {other}")),
            },
            scopes: scopes.parse().map_err(|_| format!("no number: {scopes}"))?,
            sync: match sync.as_str() {
                "full" => Sync::Full,
                "normal" => Sync::Normal,
                other => return Err(format!("no such sync: {other}")),
            },
            time: Duration::from_millis(time.parse().map_err(|_| format!("no number: {time}"))?),
        })
    }
}

/// Counts what ends between the end of the warm-up and the end of the time.
#[derive(Debug)]
pub struct Meter {
    from: Instant,
    until: Instant,
    /// Operations, and microseconds of each call.
    seen: Mutex<(u64, Vec<u32>)>,
}

/// Calls of one scope, told to the meter when dropped.
#[derive(Debug)]
pub struct Lane<'m> {
    meter: &'m Meter,
    operations: u64,
    took: Vec<u32>,
}

impl Meter {
    /// Begins now. A tenth of the time is warm-up.
    #[must_use]
    pub fn begin(task: &Task) -> Self {
        let from = Instant::now() + task.time / 10;
        Self { from, until: from + task.time, seen: Mutex::default() }
    }

    /// For one scope.
    #[must_use]
    pub fn lane(&self) -> Lane<'_> {
        Lane { meter: self, operations: 0, took: Vec::with_capacity(1 << 16) }
    }

    /// The line that a side prints.
    ///
    /// # Panics
    /// When a lane panicked.
    #[must_use]
    pub fn result(&self, task: &Task) -> String {
        let (operations, mut took) = std::mem::take(&mut *self.seen.lock().expect("no lane panicked"));
        took.sort_unstable();
        let at = |share: f64| took.get(((took.len() as f64 - 1.0) * share).max(0.0) as usize).copied().unwrap_or(0);
        let seconds = (self.until - self.from).as_secs_f64();
        serde_json::json!({
            "per_second": operations as f64 / seconds, "operations": operations,
            "p50_us": at(0.5), "p99_us": at(0.99), "bytes": size(&task.dir),
        })
        .to_string()
    }
}

impl Lane<'_> {
    /// Whether there is time for another call.
    #[must_use]
    pub fn open(&self) -> bool {
        Instant::now() < self.meter.until
    }

    /// A call that began then and was so many operations is over.
    pub fn done(&mut self, began: Instant, operations: u64) {
        let now = Instant::now();
        if now >= self.meter.from && now < self.meter.until {
            self.operations += operations;
            self.took.push(u32::try_from((now - began).as_micros()).unwrap_or(u32::MAX));
        }
    }
}

impl Drop for Lane<'_> {
    fn drop(&mut self) {
        if let Ok(mut seen) = self.meter.seen.lock() {
            seen.0 += self.operations;
            seen.1.append(&mut self.took);
        }
    }
}

/// Bytes of all files below.
fn size(dir: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(dir) else { return 0 };
    let of = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => size(&entry.path()),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    };
    entries.flatten().map(of).sum()
}
