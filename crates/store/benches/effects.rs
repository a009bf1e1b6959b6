//! Durable effects and waits on SQLite, beside the disk's raw sync rate.
//!
//! `cargo bench -p dalsegno-store --bench effects [-- --json] [--seconds N] [--no-apart-checkpoints] [--scopes 1,64,512]
//! [--only effects,replay,parked,wake,sagas,churn]`
//!
//! An effect is a step with a small input and a small output, through the host that embedders use: intent and outcome, each
//! synced. Ratios are to the raw rate measured just before and after each slice in the same process: a 4 KiB write and `fdatasync`,
//! overwriting a preallocated file. Rates and ratios are medians over the slices.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    missing_docs,
    reason = "a benchmark says what it found and ends when something is wrong"
)]

use std::fs::{File, OpenOptions as FileOptions};
use std::io::{BufRead, BufReader, Write as _};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use dalsegno_durable::saga::{Dedup, SagaEnd, SagaHost, SagaPlan, Step, StepAnswer, StepCall, StepExecutor};
use dalsegno_durable::wait::WaitKey;
use dalsegno_durable::{
    DurableStore, EffectError, EffectHost, ExecutionScope, HostOptions, Resolution, Scope, StoredHost,
};
use dalsegno_store::{DurableOptions, SqliteDurable};
use serde_json::{Value, json};

const SCOPES: [usize; 3] = [1, 64, 512];
/// What is measured at once between two looks at the raw rate.
const SLICE: Duration = Duration::from_millis(300);
const PARKED: usize = 100_000;
const WAKES: usize = 500;
/// In the environment of the second process: the database.
const OTHER: &str = "DALSEGNO_BENCH_OTHER";

struct Arguments {
    json: bool,
    seconds: f64,
    only: Option<String>,
    scopes: Vec<usize>,
}

fn arguments() -> Arguments {
    let given: Vec<String> = std::env::args().collect();
    let value = |name: &str| given.windows(2).find(|pair| pair[0] == name).map(|pair| pair[1].clone());
    Arguments {
        json: given.iter().any(|argument| argument == "--json"),
        seconds: value("--seconds").map_or(3.0, |seconds| seconds.parse().unwrap()),
        only: value("--only"),
        scopes: value("--scopes")
            .map_or(SCOPES.to_vec(), |scopes| scopes.split(',').map(|number| number.parse().unwrap()).collect()),
    }
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    if let Some(path) = std::env::var_os(OTHER) {
        runtime.block_on(resolve_for_others(Path::new(&path)));
        return;
    }
    let Arguments { json, seconds, only, scopes } = arguments();
    // Not the system's folder for temporary files, which may be in memory.
    let dir = tempfile::tempdir_in(std::env::var_os("CARGO_TARGET_TMPDIR").unwrap_or_else(|| ".".into())).unwrap();
    let limit = Duration::from_secs_f64(seconds);
    let wanted = |name: &str| only.as_ref().is_none_or(|only| only.split(',').any(|part| part == name));
    let mut found = serde_json::Map::new();
    if wanted("effects") {
        let rates: Vec<Value> =
            scopes.iter().map(|scopes| runtime.block_on(effects(dir.path(), *scopes, limit))).collect();
        found.insert("effects".into(), rates.into());
    }
    if wanted("replay") {
        let rates: Vec<Value> =
            [1, 64].iter().map(|tasks| runtime.block_on(replay(dir.path(), *tasks, limit))).collect();
        found.insert("replay".into(), rates.into());
    }
    if wanted("parked") {
        found.insert("parked".into(), runtime.block_on(parked(dir.path())));
    }
    if wanted("wake") {
        found.insert("wake_in_process".into(), runtime.block_on(wakes_here(dir.path())));
        found.insert("wake_across_processes".into(), runtime.block_on(wakes_across(dir.path())));
    }
    if wanted("sagas") {
        let rates: Vec<Value> =
            [1, 16, 64].iter().map(|sagas| runtime.block_on(saga_steps(dir.path(), *sagas, limit))).collect();
        found.insert("sagas".into(), rates.into());
    }
    if wanted("churn") {
        found.insert("churn".into(), runtime.block_on(churn(dir.path(), limit)));
    }
    if json {
        println!("{}", Value::Object(found));
        return;
    }
    for (name, value) in &found {
        for value in value.as_array().unwrap_or(&vec![value.clone()]) {
            println!("{name}: {value}");
        }
    }
}

fn round(ratio: f64) -> f64 {
    (ratio * 100.0).round() / 100.0
}

/// A file for the disk's raw rates.
struct Raw {
    file: File,
    blocks: u64,
    appended: u64,
    /// How long each write over what was there took.
    times: Vec<Duration>,
}

impl Raw {
    const BLOCK: [u8; 4096] = [7; 4096];
    const BLOCKS: u64 = 4096;

    fn new(dir: &Path) -> Self {
        let file = FileOptions::new().write(true).create(true).truncate(true).open(dir.join("raw")).unwrap();
        for block in 0..Self::BLOCKS {
            file.write_all_at(&Self::BLOCK, block * 4096).unwrap();
        }
        file.sync_all().unwrap();
        Self { file, blocks: 0, appended: Self::BLOCKS, times: Vec::new() }
    }

    /// Writes of 4 KiB with `fdatasync` per second, over what is there.
    fn overwrite(&mut self, limit: Duration) -> f64 {
        let (start, first) = (Instant::now(), self.blocks);
        while start.elapsed() < limit {
            let one = Instant::now();
            self.file.write_all_at(&Self::BLOCK, (self.blocks % Self::BLOCKS) * 4096).unwrap();
            self.file.sync_data().unwrap();
            self.times.push(one.elapsed());
            self.blocks += 1;
        }
        (self.blocks - first) as f64 / start.elapsed().as_secs_f64()
    }

    /// The same, making the file longer.
    fn append(&mut self, limit: Duration) -> f64 {
        let (start, first) = (Instant::now(), self.appended);
        while start.elapsed() < limit {
            self.file.write_all_at(&Self::BLOCK, self.appended * 4096).unwrap();
            self.file.sync_data().unwrap();
            self.appended += 1;
        }
        (self.appended - first) as f64 / start.elapsed().as_secs_f64()
    }
}

fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_unstable_by(f64::total_cmp);
    numbers[numbers.len() / 2]
}

fn open(path: &Path, options: HostOptions) -> (Arc<SqliteDurable>, StoredHost) {
    let apart_checkpoints = !std::env::args().any(|argument| argument == "--no-apart-checkpoints");
    let store = DurableOptions { apart_checkpoints, ..DurableOptions::default() };
    let store = Arc::new(SqliteDurable::open_with(path, &store).unwrap());
    let host = StoredHost::with(Arc::clone(&store) as Arc<dyn DurableStore>, options);
    (store, host)
}

/// Does every step at once.
struct Instantly;

#[async_trait::async_trait]
impl StepExecutor for Instantly {
    async fn act(&self, call: StepCall) -> StepAnswer {
        StepAnswer::Done(json!({"attempt": call.attempt}))
    }
}

/// Sagas of eight steps, one after the other, so many at a time.
async fn saga_steps(dir: &Path, sagas: usize, limit: Duration) -> Value {
    const STEPS: u64 = 8;
    let (store, stored) = open(&dir.join(format!("sagas-{sagas}.db")), HostOptions::default());
    warm_up(&stored).await;
    let host = SagaHost::new(stored);
    host.register("bench", 1..=1, Arc::new(Instantly));
    let steps =
        (0..STEPS).map(|at| Step::compensatable(format!("step-{at}")).dedup(Dedup::RemoteKey).undo(Value::Null));
    let plan = SagaPlan::sequence("bench", 1, steps).unwrap();
    let mut raw = Raw::new(dir);
    let mut slices = Vec::new();
    let mut before = raw.overwrite(SLICE / 3);
    for slice in 0..(limit.as_secs_f64() / SLICE.as_secs_f64()) as usize {
        let (start, cpu) = (Instant::now(), usage().1);
        let tasks = (0..sagas).map(|task| {
            let (host, plan) = (host.clone(), plan.clone());
            tokio::spawn(async move {
                let mut done = 0;
                while start.elapsed() < SLICE {
                    let saga = host.start(format!("{slice}-{task}-{done}"), plan.clone()).await.unwrap();
                    assert_eq!(saga.ended().await.unwrap(), SagaEnd::Committed);
                    done += 1;
                }
                done
            })
        });
        let mut count = 0;
        for task in tasks.collect::<Vec<_>>() {
            count += STEPS * task.await.unwrap();
        }
        let rate = count as f64 / start.elapsed().as_secs_f64();
        let cpu_us = (usage().1 - cpu) as f64 * 1_000.0 / count as f64;
        let after = raw.overwrite(SLICE / 3);
        slices.push((rate, rate / ((before + after) / 2.0), cpu_us));
        before = after;
    }
    host.stop().await;
    store.close();
    let of = |take: fn(&(f64, f64, f64)) -> f64| median(slices.iter().map(take).collect());
    json!({
        "sagas": sagas, "steps_per_second": of(|slice| slice.0).round(), "ratio_to_raw": round(of(|slice| slice.1)),
        "cpu_us_per_step": round(of(|slice| slice.2)),
    })
}

async fn scoped(host: &StoredHost, id: String) -> Scope<'static> {
    host.scoped_static(ExecutionScope::turn("session", id)).await.unwrap().unwrap()
}

async fn step(scope: &Scope<'_>, number: u64) -> u64 {
    let (name, input) = (format!("step-{number}"), json!({"path": "src/lib.rs", "line": number}));
    scope.step(&name, &input, || async move { Ok::<u64, EffectError>(number) }).await.unwrap()
}

/// So many scopes, each with one effect at a time, in slices between which the disk's raw rate is measured: others may use the disk.
async fn effects(dir: &Path, scopes: usize, limit: Duration) -> Value {
    let path = dir.join(format!("effects-{scopes}.db"));
    let (store, host) = open(&path, HostOptions::default());
    warm_up(&host).await;
    let mut held = Vec::new();
    for task in 0..scopes {
        held.push((scoped(&host, task.to_string()).await, 0_u64));
    }
    let mut raw = Raw::new(dir);
    let mut slices = Vec::new();
    let mut times = Vec::new();
    let appends = raw.append(SLICE);
    let mut before = raw.overwrite(SLICE / 3);
    for _ in 0..(limit.as_secs_f64() / SLICE.as_secs_f64()) as usize {
        let (start, cpu) = (Instant::now(), usage().1);
        let tasks: Vec<_> =
            held.drain(..).map(|(scope, next)| tokio::spawn(steps(scope, next, start + SLICE))).collect();
        let mut count = 0;
        for task in tasks {
            let (scope, next, some) = task.await.unwrap();
            held.push((scope, next));
            count += some.len();
            times.extend(some);
        }
        let rate = count as f64 / start.elapsed().as_secs_f64();
        let cpu_us = (usage().1 - cpu) as f64 * 1_000.0 / count as f64;
        let after = raw.overwrite(SLICE / 3);
        slices.push([rate, cpu_us, f64::midpoint(before, after), rate / f64::midpoint(before, after)]);
        before = after;
    }
    store.close();
    let bytes = std::fs::metadata(&path).unwrap().len();
    let spread = percentiles(times);
    let of = |column: usize| slices.iter().map(|slice| slice[column]).collect::<Vec<_>>();
    json!({
        "scopes": scopes,
        "per_s": median(of(0)).round(),
        "per_s_in_the_best_slice": of(0).into_iter().fold(0.0, f64::max).round(),
        "p50_us": spread[0],
        "p99_us": spread[1],
        "cpu_us_each": round(median(of(1))),
        "raw_overwrite_per_s": median(of(2)).round(),
        "raw_overwrite_p50_us": percentiles(raw.times)[0],
        "raw_append_per_s": appends.round(),
        "ratio_to_overwrite": round(median(of(3))),
        "database_bytes": bytes,
    })
}

/// Steps of one scope until then.
async fn steps(scope: Scope<'static>, mut next: u64, end: Instant) -> (Scope<'static>, u64, Vec<Duration>) {
    let mut times = Vec::new();
    loop {
        let start = Instant::now();
        if start >= end {
            return (scope, next, times);
        }
        step(&scope, next).await;
        next += 1;
        times.push(start.elapsed());
    }
}

/// Until the log was written once: from then on it is written over, as it is in a store that has been open for a while.
async fn warm_up(host: &StoredHost) {
    let tasks: Vec<_> = (0..64)
        .map(|task| {
            let host = host.clone();
            tokio::spawn(async move {
                let scope = scoped(&host, format!("warm-{task}")).await;
                for number in 0..200 {
                    step(&scope, number).await;
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
}

/// Median and 99th percentile in microseconds.
fn percentiles(mut times: Vec<Duration>) -> [u128; 2] {
    times.sort_unstable();
    [0.5, 0.99].map(|part| times[((times.len() - 1) as f64 * part) as usize].as_micros())
}

/// Effects that are recorded, asked for again and again by so many tasks, each in a scope of its own.
async fn replay(dir: &Path, tasks: usize, limit: Duration) -> Value {
    let effects = 10_000 / tasks as u64;
    let path = dir.join(format!("replay-{tasks}.db"));
    let (store, host) = open(&path, HostOptions::default());
    let mut recording = Vec::new();
    for task in 0..tasks {
        let scope = scoped(&host, task.to_string()).await;
        recording.push(tokio::spawn(async move {
            for number in 0..effects {
                step(&scope, number).await;
            }
        }));
    }
    for task in recording {
        task.await.unwrap();
    }
    store.close();
    drop(host);
    let (_store, host) = open(&path, HostOptions::default());
    let opening = Instant::now();
    let mut scopes = Vec::new();
    for task in 0..tasks {
        scopes.push(scoped(&host, task.to_string()).await);
    }
    let opened = opening.elapsed();
    let (start, cpu) = (Instant::now(), usage().1);
    let replaying: Vec<_> = scopes
        .into_iter()
        .map(|scope| {
            tokio::spawn(async move {
                let mut count = 0_u64;
                while start.elapsed() < limit / 2 {
                    for number in 0..effects {
                        assert_eq!(step(&scope, number).await, number);
                        count += 1;
                    }
                    tokio::task::yield_now().await;
                }
                count
            })
        })
        .collect();
    let mut count = 0;
    for task in replaying {
        count += task.await.unwrap();
    }
    let per_s = (count as f64 / start.elapsed().as_secs_f64()).round();
    let cpu_us = round((usage().1 - cpu) as f64 * 1_000.0 / count as f64);
    json!({"tasks": tasks, "per_s": per_s, "cpu_us_each": cpu_us, "opened_10000_effects_ms": opened.as_millis()})
}

/// Resident bytes, and processor time in milliseconds, of this process.
fn usage() -> (u64, u64) {
    let field = |path: &str, field: usize| -> u64 {
        let text = std::fs::read_to_string(path).unwrap();
        let rest = text.rsplit_once(')').map_or(text.as_str(), |(_, rest)| rest);
        rest.split_whitespace().nth(field).unwrap().parse().unwrap()
    };
    (field("/proc/self/statm", 1) * 4096, (field("/proc/self/stat", 11) + field("/proc/self/stat", 12)) * 10)
}

/// Many waits that nobody resolves yet.
async fn parked(dir: &Path) -> Value {
    let path = dir.join("parked.db");
    let (store, host) = open(&path, HostOptions::default());
    let before = usage().0;
    let scope = scoped(&host, "1".to_owned()).await;
    let start = Instant::now();
    let waits: Vec<_> = (0..PARKED)
        .map(|number| {
            let scope = scope.clone();
            tokio::spawn(async move {
                let key = scope.wait_key(&format!("wait-{number}")).unwrap();
                scope.wait(&key).await.unwrap()
            })
        })
        .collect();
    // Whoever registers behind all of them is answered behind all of them.
    while store_waits(&path) < PARKED {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let parking = start.elapsed();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (after, cpu) = usage();
    tokio::time::sleep(Duration::from_secs(5)).await;
    let at_rest = usage().1 - cpu;
    let start = Instant::now();
    host.cancel_session("session").await.unwrap();
    for wait in waits {
        assert_eq!(wait.await.unwrap(), Resolution::Canceled);
    }
    store.close();
    json!({
        "waits": PARKED,
        "parked_in_ms": parking.as_millis(),
        "resident_bytes_more": after - before,
        "resident_bytes": after,
        "cpu_ms_in_5_s_at_rest": at_rest,
        "all_canceled_and_woken_in_ms": start.elapsed().as_millis(),
    })
}

fn store_waits(path: &Path) -> usize {
    let db = rusqlite::Connection::open(path).unwrap();
    let count: i64 = db.query_row("SELECT count(*) FROM waits", [], |row| row.get(0)).unwrap();
    usize::try_from(count).unwrap()
}

/// From a resolution to whoever is parked, in one process: the resolution is synced within that time.
async fn wakes_here(dir: &Path) -> Value {
    let (store, host) = open(&dir.join("wake.db"), HostOptions::default());
    let scope = scoped(&host, "1".to_owned()).await;
    let mut times = Vec::new();
    for number in 0..WAKES {
        let key = scope.wait_key(&format!("wait-{number}")).unwrap();
        let parked = tokio::spawn({
            let (scope, key) = (scope.clone(), key.clone());
            async move {
                scope.wait(&key).await.unwrap();
                Instant::now()
            }
        });
        tokio::time::sleep(Duration::from_millis(2)).await;
        let start = Instant::now();
        host.resolve(&key, Resolution::Answered { payload: json!(number) }).await.unwrap();
        times.push(parked.await.unwrap() - start);
    }
    store.close();
    let spread = percentiles(times);
    json!({"p50_us": spread[0], "p99_us": spread[1]})
}

/// The other process: resolves what it is told to, and says when it began to.
async fn resolve_for_others(path: &Path) {
    let (_store, host) = open(path, HostOptions::default());
    for line in std::io::stdin().lines() {
        let key = WaitKey::from_text(line.unwrap());
        let start = monotonic();
        host.resolve(&key, Resolution::Answered { payload: json!(1) }).await.unwrap();
        println!("{start}");
    }
}

/// The same clock in all processes, in microseconds.
fn monotonic() -> u128 {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC).unwrap();
    Duration::from(now).as_micros()
}

/// From the beginning of a resolution in another process to whoever is parked here.
async fn wakes_across(dir: &Path) -> Value {
    let path = dir.join("across.db");
    let (store, host) = open(&path, HostOptions::default());
    let scope = scoped(&host, "1".to_owned()).await;
    let mut child = Command::new(std::env::current_exe().unwrap())
        .env(OTHER, &path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut told = child.stdin.take().unwrap();
    let mut heard = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut times = Vec::new();
    for number in 0..WAKES {
        let key = scope.wait_key(&format!("wait-{number}")).unwrap();
        let parked = tokio::spawn({
            let (scope, key) = (scope.clone(), key.clone());
            async move {
                scope.wait(&key).await.unwrap();
                monotonic()
            }
        });
        tokio::time::sleep(Duration::from_millis(2)).await;
        writeln!(told, "{}", key.as_str()).unwrap();
        let woken = parked.await.unwrap();
        let start: u128 = heard.next().unwrap().unwrap().parse().unwrap();
        times.push(Duration::from_micros(u64::try_from(woken.saturating_sub(start)).unwrap()));
    }
    drop(told);
    child.wait().unwrap();
    store.close();
    let spread = percentiles(times);
    json!({"p50_us": spread[0], "p99_us": spread[1]})
}

/// Scopes of twenty effects, one after the other in 64 tasks, ended and pruned after half a second.
async fn churn(dir: &Path, limit: Duration) -> Value {
    let path = dir.join("churn.db");
    let options = HostOptions { retention: Duration::from_millis(500), ..HostOptions::default() };
    let (store, host) = open(&path, options);
    let end = Instant::now() + limit * 3;
    let tasks: Vec<_> = (0..64)
        .map(|task| {
            let host = host.clone();
            tokio::spawn(async move {
                let mut scopes = 0_u64;
                while Instant::now() < end {
                    let scope = scoped(&host, format!("{task}-{scopes}")).await;
                    for number in 0..20 {
                        step(&scope, number).await;
                    }
                    scope.end().await.unwrap();
                    scopes += 1;
                }
                scopes
            })
        })
        .collect();
    let mut sizes = Vec::new();
    for _ in 0..6 {
        tokio::time::sleep(limit / 2).await;
        sizes.push(std::fs::metadata(&path).unwrap().len());
    }
    let mut scopes = 0;
    for task in tasks {
        scopes += task.await.unwrap();
    }
    let per_s = (scopes as f64 * 20.0 / (limit.as_secs_f64() * 3.0)).round();
    store.close();
    json!({"scopes": scopes, "effects_per_s": per_s, "database_bytes_over_time": sizes})
}
