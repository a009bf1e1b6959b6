//! Appends of one 512-byte event per batch at 1, 64 and 512 writers, beside the disk's raw sync rate.
//!
//! `cargo bench -p dalsegno-store --bench append [-- --json] [--seconds N] [--apart-checkpoints]`
//!
//! Ratios are to the raw rates measured just before and after in the same process: a 4 KiB write and
//! `fdatasync`, overwriting a preallocated file, and appending to one.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    missing_docs,
    reason = "a benchmark says what it found and ends when something is wrong"
)]

mod raw;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dalsegno_core::{Batch, Event, Recorded, Timestamp};
use dalsegno_engine::{EventFilter, Reads};
use dalsegno_store::{OpenOptions, Store};
use serde_json::json;
use tokio::sync::Mutex;

/// Bytes of an event's JSON.
const EVENT_BYTES: usize = 512;
const WRITERS: [usize; 3] = [1, 64, 512];

struct Arguments {
    json: bool,
    seconds: f64,
    apart_checkpoints: bool,
}

fn arguments() -> Arguments {
    let given: Vec<String> = std::env::args().collect();
    let has = |name: &str| given.iter().any(|argument| argument == name);
    let seconds = given.windows(2).find(|pair| pair[0] == "--seconds").map_or(2.0, |pair| pair[1].parse().unwrap());
    Arguments { json: has("--json"), seconds, apart_checkpoints: has("--apart-checkpoints") }
}

fn main() {
    let Arguments { json, seconds, apart_checkpoints } = arguments();
    // Not the system's folder for temporary files, which may be in memory.
    let dir = tempfile::tempdir_in(std::env::var_os("CARGO_TARGET_TMPDIR").unwrap_or_else(|| ".".into())).unwrap();
    let limit = Duration::from_secs_f64(seconds);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    let mut results = Vec::new();
    for writers in WRITERS {
        let before = raw::rates(dir.path(), limit / 4, 4096);
        let state_dir = dir.path().join(format!("state-{writers}"));
        let mut found = runtime.block_on(appends(&state_dir, writers, limit, apart_checkpoints));
        let after = raw::rates(dir.path(), limit / 4, 4096);
        let (overwrite, append) = (f64::midpoint(before.0, after.0), f64::midpoint(before.1, after.1));
        found["raw_overwrite_per_s"] = json!(overwrite.round());
        found["raw_append_per_s"] = json!(append.round());
        found["ratio_to_overwrite"] = json!(round(found["per_s"].as_f64().unwrap() / overwrite));
        found["ratio_to_append"] = json!(round(found["per_s"].as_f64().unwrap() / append));
        results.push(found);
    }
    let pages = pages(&dir.path().join("state-512"));
    if json {
        println!("{}", json!({ "apart_checkpoints": apart_checkpoints, "appends": results, "page_of_100": pages }));
        return;
    }
    for result in &results {
        let number = |name: &str| result[name].as_f64().unwrap();
        println!(
            "{:>4} writers {:>8.0}/s  {:>6.2} × raw overwrite ({:.0}/s)  {:>6.2} × raw append ({:.0}/s)  p50 {:>6.0} µs  p99 {:>6.0} µs  {:.1} batches a sync",
            number("writers"),
            number("per_s"),
            number("ratio_to_overwrite"),
            number("raw_overwrite_per_s"),
            number("ratio_to_append"),
            number("raw_append_per_s"),
            number("p50_us"),
            number("p99_us"),
            number("batches_per_sync"),
        );
    }
    println!("page of 100 events, µs: {pages}");
}

fn round(ratio: f64) -> f64 {
    (ratio * 100.0).round() / 100.0
}

fn event(seq: u64) -> Recorded {
    let empty = serde_json::to_string(&Event::DaemonStopped { reason: String::new() }).unwrap().len();
    Recorded {
        seq,
        at: Timestamp(seq.cast_signed()),
        event: Event::DaemonStopped { reason: "e".repeat(EVENT_BYTES - empty) },
    }
}

/// `writers` tasks, each with one event at a time on its way; a sequencer gives them their numbers.
async fn appends(state_dir: &Path, writers: usize, limit: Duration, apart_checkpoints: bool) -> serde_json::Value {
    let options = OpenOptions { apart_checkpoints, ..OpenOptions::default() };
    let opened = Store::open(state_dir, options).unwrap();
    let journal = Arc::new(opened.journal);
    let next = Arc::new(Mutex::new(1_u64));
    let template = event(0).event;
    // The first moments make the files grow; they are not counted.
    let begin = Instant::now() + limit / 8;
    let end = begin + limit;
    let tasks: Vec<_> = (0..writers)
        .map(|_| {
            let (journal, next, template) = (Arc::clone(&journal), Arc::clone(&next), template.clone());
            tokio::spawn(async move {
                let mut times = Vec::new();
                loop {
                    let start = Instant::now();
                    if start >= end {
                        return times;
                    }
                    let mut batch = Batch {
                        epoch: 1,
                        events: vec![Recorded { seq: 0, at: Timestamp(0), event: template.clone() }],
                        views: Vec::new(),
                        snapshot: None,
                    };
                    let pending = {
                        let mut next = next.lock().await;
                        batch.events[0].seq = *next;
                        *next += 1;
                        journal.submit(batch).await.unwrap()
                    };
                    pending.await.unwrap();
                    if start >= begin {
                        times.push(start.elapsed());
                    }
                }
            })
        })
        .collect();
    let mut times = Vec::new();
    for task in tasks {
        times.extend(task.await.unwrap());
    }
    times.sort_unstable();
    let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize].as_micros();
    let counts = journal.counts();
    json!({
        "writers": writers,
        "per_s": (times.len() as f64 / limit.as_secs_f64()).round(),
        "p50_us": at(0.5),
        "p99_us": at(0.99),
        "batches_per_sync": round(counts.batches as f64 / counts.commits as f64),
        "events": *next.lock().await - 1,
    })
}

/// Microseconds of a page of 100 at the head, the middle and the tail.
fn pages(state_dir: &Path) -> serde_json::Value {
    let start = Instant::now();
    let opened = Store::open(state_dir, OpenOptions::default()).unwrap();
    let open_ms = start.elapsed().as_millis();
    let (first, last) = opened.store.bounds().unwrap();
    let time = |after: u64| {
        let mut times: Vec<_> = (0..201)
            .map(|_| {
                let start = Instant::now();
                let page = opened.store.events(after, 100, &EventFilter::default()).unwrap();
                assert_eq!(page.events.len(), 100);
                start.elapsed()
            })
            .collect();
        times.sort_unstable();
        times[100].as_micros()
    };
    json!({
        "events": last,
        "open_ms": open_ms,
        "head": time(first - 1),
        "middle": time(u64::midpoint(first, last)),
        "tail": time(last - 100),
    })
}
