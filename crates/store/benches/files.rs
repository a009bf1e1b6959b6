//! Batches of two files with receipts, after 1, 1,000 and 10,000 batches, by 1, 8 and 64 callers, beside the disk's raw sync rate.
//!
//! `cargo bench -p dalsegno-store --bench files [-- --json] [--seconds N] [--callers 1,8,64] [--history 1,1000,10000]`
//!
//! Ratios are to the raw rates measured just before and after each slice in the same process: a 4 KiB write and `fdatasync`,
//! overwriting a preallocated file, and appending to one. Rates and ratios are medians over the slices. Beside them, what the file
//! system takes at its fastest for the steps that come one after the other: a file that is made and synced, and renamed with its directory synced.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    missing_docs,
    reason = "a benchmark says what it found and ends when something is wrong"
)]

mod raw;

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use dalsegno_core::{PolicyHash, RunId};
use dalsegno_engine::{Blobs as _, FileOwner, NewFile};
use dalsegno_store::{BlobFiles, OpenOptions, Store};
use serde_json::{Value, json};

/// Bytes of each file.
const FILE_BYTES: usize = 4096;
const BLOCK: [u8; FILE_BYTES] = [7; FILE_BYTES];
/// What is measured at once between two looks at the raw rates.
const SLICE: Duration = Duration::from_millis(300);
/// Files that are made between two slices, for comparison.
const RAW_FILES: u32 = 32;
/// Their names.
static NEXT: AtomicU64 = AtomicU64::new(0);
/// Callers that write the history.
const WRITERS: usize = 64;

fn main() {
    let given: Vec<String> = std::env::args().collect();
    let value = |name: &str| given.windows(2).find(|pair| pair[0] == name).map(|pair| pair[1].clone());
    let numbers = |name: &str, all: &str| -> Vec<usize> {
        value(name).unwrap_or(all.to_owned()).split(',').map(|number| number.parse().unwrap()).collect()
    };
    let (callers, histories) = (numbers("--callers", "1,8,64"), numbers("--history", "1,1000,10000"));
    let limit = Duration::from_secs_f64(value("--seconds").map_or(3.0, |seconds| seconds.parse().unwrap()));
    // Not the system's folder for temporary files, which may be in memory.
    let dir = tempfile::tempdir_in(std::env::var_os("CARGO_TARGET_TMPDIR").unwrap_or_else(|| ".".into())).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    let mut found: Vec<Value> = Vec::new();
    for history in histories {
        for callers in &callers {
            let state_dir = dir.path().join(format!("state-{history}-{callers}"));
            found.push(runtime.block_on(batches(dir.path(), &state_dir, history, *callers, limit)));
        }
    }
    if given.iter().any(|argument| argument == "--json") {
        println!("{}", json!({ "files": found }));
        return;
    }
    for result in &found {
        let number = |name: &str| result[name].as_f64().unwrap();
        println!(
            "{:>6} batches before  {:>2} callers {:>6.0}/s  {:>5.2} × raw overwrite ({:.0}/s)  {:>5.2} × raw append ({:.0}/s)  p50 {:>6.0} µs  p99 {:>6.0} µs  (file {:.0} µs, rename {:.0} µs)",
            number("history"),
            number("callers"),
            number("per_s"),
            number("ratio_to_overwrite"),
            number("raw_overwrite_per_s"),
            number("ratio_to_append"),
            number("raw_append_per_s"),
            number("p50_us"),
            number("p99_us"),
            number("file_us"),
            number("rename_us"),
        );
    }
}

/// What the disk does at its fastest.
struct Raw {
    overwrite_per_s: f64,
    append_per_s: f64,
    /// A file is made, written and synced.
    file_us: f64,
    /// It gets another name, and its directory is synced.
    rename_us: f64,
}

fn raw(dir: &Path, limit: Duration) -> Raw {
    let (overwrite_per_s, append_per_s) = raw::rates(dir, limit, 1024);
    // They stay until the end: a file system that has much to forget is slow to make more.
    let folder = dir.join("raw-files");
    std::fs::create_dir_all(&folder).unwrap();
    let (mut made, mut renamed) = (Duration::ZERO, Duration::ZERO);
    for _ in 0..RAW_FILES {
        let name = folder.join(NEXT.fetch_add(1, Ordering::Relaxed).to_string());
        let draft = name.with_extension("part");
        let start = Instant::now();
        let file = File::create_new(&draft).unwrap();
        file.write_all_at(&BLOCK, 0).unwrap();
        file.sync_all().unwrap();
        made += start.elapsed();
        let start = Instant::now();
        std::fs::rename(&draft, &name).unwrap();
        File::open(&folder).unwrap().sync_all().unwrap();
        renamed += start.elapsed();
    }
    let us = |sum: Duration| sum.as_secs_f64() * 1e6 / f64::from(RAW_FILES);
    Raw { overwrite_per_s, append_per_s, file_us: us(made), rename_us: us(renamed) }
}

fn files(caller: usize, number: usize) -> Vec<NewFile> {
    let file = |name: &str| {
        let mut content = format!("{name} {caller} {number} ").into_bytes();
        content.resize(FILE_BYTES, b'.');
        NewFile { name: name.to_owned(), content }
    };
    vec![file("stdout.log"), file("stderr.log")]
}

async fn keep(blobs: &BlobFiles, caller: usize, number: usize) {
    let owner = FileOwner { run: RunId::from("run-1"), policy: PolicyHash::from("abc"), agent: "scripted".to_owned() };
    blobs.keep(owner, files(caller, number)).await.unwrap();
}

/// So many callers, each with one batch at a time on its way, until the time is over or each has kept so many; answers how long each took.
async fn slice(blobs: &BlobFiles, callers: usize, limit: Duration, each: usize) -> Vec<Duration> {
    let end = Instant::now() + limit;
    let tasks: Vec<_> = (0..callers)
        .map(|caller| {
            let blobs = blobs.clone();
            tokio::spawn(async move {
                let mut times = Vec::new();
                while times.len() < each && Instant::now() < end {
                    let start = Instant::now();
                    keep(&blobs, caller, times.len()).await;
                    times.push(start.elapsed());
                }
                times
            })
        })
        .collect();
    let mut times = Vec::new();
    for task in tasks {
        times.extend(task.await.unwrap());
    }
    times
}

async fn batches(dir: &Path, state_dir: &Path, history: usize, callers: usize, limit: Duration) -> Value {
    let opened = Store::open(state_dir, OpenOptions::default()).unwrap();
    for _ in 0..history / WRITERS + 1 {
        let writers = WRITERS.min(history);
        slice(&opened.blobs, writers, Duration::from_secs(3_600), 1).await;
    }
    let (mut rates, mut times) = (Vec::new(), Vec::new());
    let mut before = raw(dir, SLICE / 4);
    let end = Instant::now() + limit;
    while Instant::now() < end {
        let start = Instant::now();
        let mut part = slice(&opened.blobs, callers, SLICE, usize::MAX).await;
        let per_s = part.len() as f64 / start.elapsed().as_secs_f64();
        times.append(&mut part);
        let after = raw(dir, SLICE / 4);
        let (overwrite, append) = (
            f64::midpoint(before.overwrite_per_s, after.overwrite_per_s),
            f64::midpoint(before.append_per_s, after.append_per_s),
        );
        rates.push([per_s, per_s / overwrite, per_s / append, overwrite, append, after.file_us, after.rename_us]);
        before = after;
    }
    times.sort_unstable();
    let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize].as_micros();
    let median = |column: usize| {
        let mut all: Vec<f64> = rates.iter().map(|row| row[column]).collect();
        all.sort_unstable_by(f64::total_cmp);
        all[all.len() / 2]
    };
    let round = |ratio: f64| (ratio * 100.0).round() / 100.0;
    json!({
        "history": history,
        "callers": callers,
        "per_s": median(0).round(),
        "ratio_to_overwrite": round(median(1)),
        "ratio_to_append": round(median(2)),
        "raw_overwrite_per_s": median(3).round(),
        "raw_append_per_s": median(4).round(),
        "file_us": median(5).round(),
        "rename_us": median(6).round(),
        "p50_us": at(0.5),
        "p99_us": at(0.99),
    })
}
