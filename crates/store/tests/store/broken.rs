//! A disk that breaks under a store: a process of its own appends, and some of its system calls fail.

use std::path::{Path, PathBuf};
use std::time::Duration;

use dalsegno_core::{Batch, Event, Failure};
use dalsegno_engine::{AppendError, Journal as _};
use dalsegno_store::{OpenOptions, Store};
use dalsegno_testkit::calls::{Call, Ended, Fault, Traced, can_be_traced, waiting};
use dalsegno_testkit::crash::{Kill, Points, Ran, walk};
use nix::errno::Errno;
use tempfile::TempDir;

use crate::support::{batch, numbers, open, plain, plain_batch, plain_snapshot};

const DIRECTORY: &str = "DALSEGNO_BROKEN_STORE_DIRECTORY";
/// What the process appends: `large` events without end, the same with the log beside the writer (`apart`), or some with `snapshots`.
const WHAT: &str = "DALSEGNO_BROKEN_STORE_WHAT";
const PATIENCE: Duration = Duration::from_secs(300);
/// The log may have so many bytes when its pages cannot be copied into the database.
const LONGEST_LOG: u64 = 48 << 20;
/// Batches with a snapshot each.
const BATCHES: u64 = 10;
/// Calls of the walk that `cargo test` walks.
const SAMPLE: u64 = 12;

/// The process whose disk breaks. Not a test of its own: the others start it.
#[tokio::test]
#[ignore = "the other tests start it in a process of its own"]
async fn appends_until_it_is_refused() {
    let Some(dir) = std::env::var_os(DIRECTORY).map(PathBuf::from) else { panic!("{DIRECTORY} is not set") };
    let what = std::env::var(WHAT).unwrap();
    let options = OpenOptions { apart_checkpoints: what == "apart", ..OpenOptions::default() };
    let opened = match Store::open(&dir, options) {
        Ok(opened) => opened,
        Err(error) => return std::fs::write(dir.join("refused"), error.to_string()).unwrap(),
    };
    let batches: Box<dyn Iterator<Item = Batch>> = match what.as_str() {
        "snapshots" => Box::new((1..=BATCHES).map(with_snapshot)),
        _ => Box::new((1..).map(large)),
    };
    for batch in batches {
        let seq = batch.events[0].seq;
        match opened.journal.append(batch, Vec::new()).await {
            Ok(_) => std::fs::write(dir.join("acknowledged"), seq.to_string()).unwrap(),
            Err(error) => {
                std::fs::write(dir.join("refused"), error.to_string()).unwrap();
                assert!(matches!(error, AppendError::Storage(_) | AppendError::Poisoned(_)));
                return;
            }
        }
        let log = std::fs::metadata(dir.join("dalsegno.db-wal")).unwrap().len();
        assert!(log <= LONGEST_LOG, "the log has {log} bytes, and nobody was told");
    }
}

fn large(seq: u64) -> Batch {
    let mut event = plain(seq);
    event.event = Event::DaemonStopped { reason: "x".repeat(100_000) };
    batch(1, vec![event])
}

fn with_snapshot(seq: u64) -> Batch {
    let mut snapshot = plain_snapshot(seq);
    snapshot.state.tracker_failure = Some(Failure::permanent("large", "x".repeat(200_000)));
    Batch { snapshot: Some(snapshot), ..plain_batch(1, seq, seq) }
}

/// Runs the process over a store that is there.
fn broken(dir: &TempDir, what: &str, watched: impl Fn(&Call) -> bool + Send + 'static, fault: Fault) -> Ended {
    let mut command = waiting(&std::env::current_exe().unwrap());
    command.args(["--exact", "broken::appends_until_it_is_refused", "--ignored", "--nocapture"]);
    command.env(DIRECTORY, dir.path()).env(WHAT, what);
    let mut traced = Traced::start(command, watched, fault).unwrap();
    let ended = traced.wait(PATIENCE).unwrap();
    assert_eq!(ended.code, Some(0), "{what}: {:?}", ended.hit.first());
    ended
}

fn said(dir: &Path, name: &str) -> Option<String> {
    std::fs::read_to_string(dir.join(name)).ok()
}

fn acknowledged(dir: &Path) -> u64 {
    said(dir, "acknowledged").map_or(0, |text| text.parse().unwrap())
}

#[test]
fn a_database_that_takes_no_pages_is_told_before_its_log_is_long() {
    if !can_be_traced() {
        return;
    }
    for what in ["large", "apart"] {
        let dir = tempfile::tempdir().unwrap();
        drop(open(dir.path()));
        let database = dir.path().join("dalsegno.db");
        let writes = move |call: &Call| call.name == "write" && call.path == database;
        let ended = broken(&dir, what, writes, Fault::From(1, Errno::EIO));
        assert!(!ended.hit.is_empty());
        let told = said(dir.path(), "refused").unwrap();
        assert!(told.contains("disk I/O error"), "{told}");
        // Nothing that was acknowledged is lost.
        let events = numbers(&open(dir.path()).loaded.events);
        assert_eq!(events, (1..=acknowledged(dir.path())).collect::<Vec<_>>());
    }
}

#[test]
#[allow(clippy::print_stdout, reason = "the figures of a walk are printed for people")]
fn walk_every_write_that_finds_no_room_among_batches_and_snapshots() {
    if !can_be_traced() {
        return;
    }
    let fresh = || {
        let dir = tempfile::tempdir().unwrap();
        drop(open(dir.path()));
        dir
    };
    let run = |dir: &TempDir, how| {
        if said(dir.path(), "acknowledged").is_some() || said(dir.path(), "refused").is_some() {
            // The second time: the next owner appends.
            std::fs::write(dir.path().join("next"), "").unwrap();
            let opened = open(dir.path());
            let next = opened.loaded.events.last().map_or(0, |recorded| recorded.seq);
            let next = next.max(opened.loaded.snapshot.map_or(0, |snapshot| snapshot.state.seq)) + 1;
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(opened.journal.append(plain_batch(1, next, next), Vec::new())).unwrap();
            return Ran::ToItsEnd { points: None };
        }
        let fault = match how {
            Kill::Never => Fault::Never,
            Kill::At(call) => Fault::Once(call, Errno::ENOSPC),
        };
        let log = dir.path().join("dalsegno.db-wal");
        let ended = broken(dir, "snapshots", move |call| call.path == log && call.name == "write", fault);
        match said(dir.path(), "refused") {
            Some(told) => assert!(told.contains("disk_full"), "{told}"),
            None => assert_eq!(acknowledged(dir.path()), BATCHES, "{:?}", ended.hit),
        }
        if ended.hit.is_empty() { Ran::ToItsEnd { points: Some(ended.calls) } } else { Ran::Killed }
    };
    let judge = |dir: &TempDir, how| {
        let opened = open(dir.path());
        let snapshot = opened.loaded.snapshot.map_or(0, |snapshot| snapshot.state.seq);
        let events = numbers(&opened.loaded.events);
        let last = events.last().copied().unwrap_or(snapshot);
        assert_eq!(events, (snapshot + 1..=last).collect::<Vec<_>>(), "{how:?}");
        let known = acknowledged(dir.path());
        let next = u64::from(said(dir.path(), "next").is_some());
        assert_eq!(last, known + next, "{how:?}: a batch that was refused is not there, one that was acknowledged is");
        opened.store.read_through().unwrap();
    };
    let walked = walk(Points::from_environment(SAMPLE), 2, fresh, run, judge);
    println!("walk of writes without room: {} of {} calls", walked.killed, walked.points);
}
