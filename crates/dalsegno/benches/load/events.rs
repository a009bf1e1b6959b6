//! Pages of events, and streams of them to many at once.

use std::cell::{Cell, RefCell};
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime};

use dalsegno_api::Cursor;
use dalsegno_engine::{EventFilter, Reads as _};
use dalsegno_store::Store;
use serde_json::json;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::task::LocalSet;

use crate::actions::budget;
use crate::client::{Dice, action, get};
use crate::project::{Daemon, Project};
use crate::{percentile, raw, row};

const PAGES: usize = 301;
/// Streams at once.
const STREAMS: usize = 200;
/// Events in a second that they follow.
const EVENTS_PER_S: f64 = 2_000.0;
/// Events of one action.
const EVENTS_EACH: f64 = 3.0;
/// Connections that make the events.
const WRITERS: usize = 8;
/// Longest wait for the last events after the last action.
const TAIL: Duration = Duration::from_secs(5);

/// The rows of a page of 100 at three places, in this process and over HTTP.
pub(crate) async fn pages(project: &Project) {
    let store = Store::open_read_only(&project.state_dir()).unwrap();
    let (first, last) = store.bounds().unwrap();
    let places = [("head", first - 1), ("middle", u64::midpoint(first, last)), ("tail", last - 100)];
    for (place, after) in places {
        let mut times: Vec<f64> = (0..PAGES)
            .map(|_| {
                let start = Instant::now();
                let page = store.events_as_written(after, 100, &EventFilter::default()).unwrap();
                assert_eq!(page.events.len(), 100);
                start.elapsed().as_secs_f64() * 1e6
            })
            .collect();
        let p99 = crate::rounded(percentile(&mut times, 0.99));
        let more = json!({"events": last, "p99_us": p99});
        row(&format!("page/in process/{place}"), percentile(&mut times, 0.5), "µs", 100.0, true, more);
    }
    let journal = store.journal_id().to_owned();
    drop(store);
    let daemon = project.started().await;
    let mut connection = daemon.connect().await;
    for (place, after) in places {
        let cursor = Cursor::event(&journal, after);
        let request = get(&format!("/api/v1/events?limit=100&after={cursor}"), &daemon.token);
        let mut times = Vec::new();
        for _ in 0..PAGES {
            let start = Instant::now();
            let (status, _) = connection.ask(&request).await.unwrap();
            assert_eq!(status, 200);
            times.push(start.elapsed().as_secs_f64() * 1e3);
        }
        let p99 = crate::rounded(percentile(&mut times, 0.99));
        row(&format!("page/http/{place}"), percentile(&mut times, 0.5), "ms", 1.0, true, json!({"p99_ms": p99}));
    }
    daemon.stop();
}

/// What the streams' readers saw.
#[derive(Default)]
struct Seen {
    events: Cell<u64>,
    gaps: Cell<u64>,
    /// From the decision to the reader, in milliseconds.
    delays_ms: RefCell<Vec<f64>>,
    /// The newest event that anybody saw.
    newest: Cell<u64>,
}

/// The rows of the fan-out: events from actions, to many streams.
pub(crate) async fn fan_out(dir: &Path, issues: usize, limit: Duration) {
    let project = Project::new(dir, "fanout", issues);
    let daemon = project.started().await;
    let head = daemon.json("/api/v1/events?limit=1").await;
    let after = head.get("head").and_then(|head| head.as_str()).unwrap().to_owned();
    let raw = raw::overwrite_per_s(dir);
    let before_mb = daemon.memory_mb().0;
    let seen = Rc::new(Seen::default());
    let local = LocalSet::new();
    for _ in 0..STREAMS {
        let asked = get(&format!("/api/v1/events/stream?after={after}"), &daemon.token);
        let stream = daemon.connect().await.follow(&asked).await.unwrap();
        local.spawn_local(read(stream, Rc::clone(&seen)));
    }
    let (cpu, start) = (daemon.cpu_s(), Instant::now());
    let sent = local.run_until(writers(&daemon, issues, limit)).await;
    let took = start.elapsed().as_secs_f64();
    // Until the last event came to everybody.
    let want = (sent as f64 * EVENTS_EACH) as u64 * STREAMS as u64;
    let late = Instant::now() + TAIL;
    local
        .run_until(async {
            while seen.events.get() < want && Instant::now() < late {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
    let mut delays = seen.delays_ms.borrow_mut();
    let rate = sent as f64 * EVENTS_EACH / took;
    let p99 = percentile(&mut delays, 0.99);
    let whole = seen.gaps.get() == 0 && seen.events.get() == want;
    let more = json!({
        // A delay at a lower rate than the wanted one, or with events that never came, meets nothing.
        "met": p99 <= 100.0 && rate >= EVENTS_PER_S * 0.99 && whole,
        "streams": STREAMS, "events_per_s": rate.round(), "gaps": seen.gaps.get(),
        "missing": want.saturating_sub(seen.events.get()), "p50_ms": crate::rounded(percentile(&mut delays, 0.5)),
        "max_ms": crate::rounded(percentile(&mut delays, 1.0)), "cpu_share": crate::rounded((daemon.cpu_s() - cpu) / took),
        "raw_overwrite_per_s": raw.round(),
    });
    row("fanout/p99", p99, "ms", 100.0, true, more);
    row("fanout/rate", rate, "events/s", EVENTS_PER_S * 0.99, false, json!({}));
    let grown = daemon.memory_mb().0 - before_mb;
    row("fanout/memory grown", grown, "MB", 40.0, true, json!({"before_mb": crate::rounded(before_mb)}));
    daemon.stop();
}

/// Actions at the wanted rate; answers how many there were.
async fn writers(daemon: &Daemon, issues: usize, limit: Duration) -> u64 {
    let sent = Rc::new(Cell::new(0));
    let start = Instant::now();
    let every = Duration::from_secs_f64(EVENTS_EACH * WRITERS as f64 / EVENTS_PER_S);
    let mut tasks = Vec::new();
    for writer in 0..WRITERS {
        let (mut connection, token, sent) = (daemon.connect().await, daemon.token.clone(), Rc::clone(&sent));
        let mut dice = Dice(writer as u64 + 1);
        tasks.push(tokio::task::spawn_local(async move {
            let mut turn = tokio::time::interval(every);
            turn.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Burst);
            let mut number = 0;
            while start.elapsed() < limit {
                turn.tick().await;
                number += 1;
                let request = action(&token, &budget(writer, number, dice.below(issues) + 1));
                let (status, _) = connection.ask(&request).await.unwrap();
                assert_eq!(status, 202);
                sent.set(sent.get() + 1);
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    sent.get()
}

/// Reads a stream to its end: each event has the number after the one before it.
async fn read(mut stream: TcpStream, seen: Rc<Seen>) {
    let mut buffer = vec![0; 1 << 18];
    let (mut filled, mut last) = (0, None);
    while let Ok(read) = stream.read(&mut buffer[filled..]).await
        && read > 0
    {
        filled += read;
        let now = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs_f64() * 1e3;
        let mut start = 0;
        while let Some(length) = buffer[start..filled].iter().position(|byte| *byte == b'\n') {
            let line = &buffer[start..start + length];
            start += length + 1;
            if let Some(seq) = number(line) {
                if last.is_some_and(|last: u64| seq != last + 1) {
                    seen.gaps.set(seen.gaps.get() + 1);
                }
                last = Some(seq);
                seen.events.set(seen.events.get() + 1);
                seen.newest.set(seen.newest.get().max(seq));
                // All events of all streams are too many to sort.
                if seq % 7 == 0
                    && let Some(at) = millis_of_day(line)
                {
                    seen.delays_ms.borrow_mut().push((now % 86_400_000.0) - at);
                }
            }
        }
        buffer.copy_within(start..filled, 0);
        filled -= start;
    }
}

/// The number of the event that the line tells of.
fn number(line: &[u8]) -> Option<u64> {
    let rest = line.strip_prefix(b"data: ")?;
    let at = rest.windows(6).position(|window| window == b"\"seq\":")? + 6;
    let digits = rest[at..].iter().take_while(|byte| byte.is_ascii_digit());
    Some(digits.fold(0, |number, digit| number * 10 + u64::from(digit - b'0')))
}

/// When it was decided, in milliseconds of its UTC day.
fn millis_of_day(line: &[u8]) -> Option<f64> {
    let at = line.windows(6).position(|window| window == b"\"at\":\"")? + 6;
    let text = std::str::from_utf8(line.get(at + 11..at + 24)?).ok()?;
    let part = |range: std::ops::Range<usize>| text.get(range).and_then(|part| part.parse::<f64>().ok());
    let millis = if text.as_bytes().get(8) == Some(&b'.') {
        text.get(9..)
            .and_then(|rest| rest.split('Z').next())
            .and_then(|digits| format!("0.{digits}").parse::<f64>().ok())?
            * 1e3
    } else {
        0.0
    };
    Some((part(0..2)? * 3_600.0 + part(3..5)? * 60.0 + part(6..8)?) * 1e3 + millis)
}
