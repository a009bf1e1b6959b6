//! Accepted actions in a second, and the memory of a daemon that knows many issues.

use std::cell::{Cell, RefCell};
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::task::LocalSet;

use crate::client::{Dice, action};
use crate::project::{Daemon, Project};
use crate::{percentile, raw, row};

/// Connections at once.
const CLIENTS: usize = 64;
/// What is not counted, because files grow and connections are made.
const WARM_UP: Duration = Duration::from_secs(1);
/// Silence before the memory of an idle daemon is read.
const IDLE: Duration = Duration::from_secs(5);
/// After a refusal: whoever has too many under way waits.
const PAUSE: Duration = Duration::from_millis(20);

/// What the clients counted.
#[derive(Default)]
pub(crate) struct Counted {
    /// Of each answer, in milliseconds.
    pub(crate) times_ms: RefCell<Vec<f64>>,
    pub(crate) refused: Cell<u64>,
}

/// `set_budget` of some issue: decided, journaled as three events and done within its batch. Each has a key of its own.
pub(crate) fn budget(client: usize, number: u64, issue: usize) -> String {
    format!(
        r#"{{"schema_version":1,"action_kind":"set_budget","target":{{"kind":"issue","id":"DS-{issue}"}},"idempotency_key":"k-{client}-{number}","payload":{{"tokens":{}}}}}"#,
        1_000_000 + number
    )
}

/// `comment` on some issue: an effect of its own, which writes the tracker's file.
fn comment(client: usize, number: u64, issue: usize) -> String {
    format!(
        r#"{{"schema_version":1,"action_kind":"comment","target":{{"kind":"issue","id":"DS-{issue}"}},"idempotency_key":"c-{client}-{number}","payload":{{"body":"word {number}"}}}}"#
    )
}

/// So many clients, each with one action at a time on its way.
async fn flood(daemon: &Daemon, issues: usize, limit: Duration, body: fn(usize, u64, usize) -> String) -> Rc<Counted> {
    let counted = Rc::new(Counted::default());
    let begin = Instant::now() + WARM_UP;
    let end = begin + limit;
    let local = LocalSet::new();
    for client in 0..CLIENTS {
        let (mut connection, token) = (daemon.connect().await, daemon.token.clone());
        let (counted, mut dice) = (Rc::clone(&counted), Dice(client as u64 + 1));
        local.spawn_local(async move {
            let mut number = 0;
            loop {
                number += 1;
                let request = action(&token, &body(client, number, dice.below(issues) + 1));
                let start = Instant::now();
                if start >= end {
                    return;
                }
                let (status, _) = connection.ask(&request).await.unwrap();
                if status != 202 {
                    counted.refused.set(counted.refused.get() + 1);
                    tokio::time::sleep(PAUSE).await;
                } else if start >= begin {
                    counted.times_ms.borrow_mut().push(start.elapsed().as_secs_f64() * 1e3);
                }
            }
        });
    }
    local.await;
    counted
}

/// The rows of accepted actions, with so many issues known.
pub(crate) async fn accepted(dir: &Path, issues: usize, limit: Duration) {
    let project = Project::new(dir, &format!("actions-{issues}"), issues);
    let daemon = project.started().await;
    for (what, body, target) in [("set_budget", budget as fn(_, _, _) -> _, 20_000.0), ("comment", comment, 0.0)] {
        let before = raw::overwrite_per_s(dir);
        let cpu = daemon.cpu_s();
        let counted = flood(&daemon, issues, limit, body).await;
        let cpu = daemon.cpu_s() - cpu;
        let raw = f64::midpoint(before, raw::overwrite_per_s(dir));
        let mut times = counted.times_ms.borrow_mut();
        let per_s = times.len() as f64 / limit.as_secs_f64();
        let p99 = percentile(&mut times, 0.99);
        let more = json!({
            "clients": CLIENTS, "issues": issues, "p50_ms": crate::rounded(percentile(&mut times, 0.5)),
            "max_ms": crate::rounded(percentile(&mut times, 1.0)), "refused": counted.refused.get(),
            "cpu_us_each": crate::rounded(cpu * 1e6 / (times.len().max(1) as f64 * (limit + WARM_UP).as_secs_f64() / limit.as_secs_f64())),
            "raw_overwrite_per_s": raw.round(), "ratio_to_raw": crate::rounded(per_s / raw),
            "memory_mb": crate::rounded(daemon.memory_mb().0),
        });
        row(&format!("actions/{what}/{issues} issues"), per_s, "accepted/s", target, false, more);
        row(&format!("actions/{what}/{issues} issues/p99"), p99, "ms", 20.0, true, json!({}));
    }
    daemon.stop();
}

/// The rows of memory: with issues, and without.
pub(crate) fn memory(dir: &Path, issues: usize) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        for (known, target) in [(0, 25.0), (issues, 80.0)] {
            let project = Project::new(dir, &format!("memory-{known}"), known);
            let daemon = project.started().await;
            tokio::time::sleep(IDLE).await;
            let (resident, peak) = daemon.memory_mb();
            row(
                &format!("memory/{known} issues"),
                resident,
                "MB",
                target,
                true,
                json!({"peak_mb": crate::rounded(peak)}),
            );
            daemon.stop();
        }
    });
}
