//! What the gateway and the scheduler bear: the real program as a process of its own, over real HTTP, beside the raw sync rate of
//! the disk in the same minute. One JSON object per line; `cargo xtask load` makes a table of them.
//!
//! `cargo bench -p dalsegno --bench load [-- --only actions,memory,pages,fanout,schedule,restart] [--issues N] [--events N]
//! [--seconds N]`
//!
//! `DALSEGNO_BIN` measures another build of the program. Clients share the machine with what they measure, so they do as little as
//! they can: one thread, connections that are kept, answers that are counted and not understood.
#![allow(clippy::unwrap_used, reason = "a benchmark that cannot go on should stop where it is")]
#![allow(clippy::print_stdout, reason = "the figures are what it is for")]
#![allow(clippy::wildcard_enum_match_arm, reason = "it looks at the cases that it brings about")]

mod actions;
mod client;
mod events;
mod project;
mod raw;
mod restart;
mod schedule;
mod seed;

use std::time::Duration;

use serde_json::{Value, json};

/// What is measured, and how much of it.
struct Arguments {
    only: Option<String>,
    issues: usize,
    events: u64,
    seconds: f64,
}

fn arguments() -> Arguments {
    let given: Vec<String> = std::env::args().collect();
    let value = |name: &str| given.windows(2).find(|pair| pair[0] == name).map(|pair| pair[1].clone());
    Arguments {
        only: value("--only"),
        issues: value("--issues").map_or(10_000, |number| number.parse().unwrap()),
        events: value("--events").map_or(1_000_000, |number| number.parse().unwrap()),
        seconds: value("--seconds").map_or(8.0, |number| number.parse().unwrap()),
    }
}

fn main() {
    let Arguments { only, issues, events, seconds } = arguments();
    let wanted = |name: &str| only.as_ref().is_none_or(|only| only.split(',').any(|part| part == name));
    // Not the system's folder for temporary files, which may be in memory.
    let dir = tempfile::tempdir_in(std::env::var_os("CARGO_TARGET_TMPDIR").unwrap_or_else(|| ".".into())).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let limit = Duration::from_secs_f64(seconds);
    if wanted("schedule") {
        schedule::report(issues);
    }
    if wanted("memory") {
        actions::memory(dir.path(), issues);
    }
    if wanted("actions") {
        for known in [100, issues] {
            runtime.block_on(actions::accepted(dir.path(), known, limit));
        }
    }
    if wanted("fanout") {
        runtime.block_on(events::fan_out(dir.path(), issues, limit));
    }
    if wanted("pages") || wanted("restart") {
        let project = project::Project::new(dir.path(), "seeded", issues);
        seed::grow(&project, events);
        if wanted("pages") {
            runtime.block_on(events::pages(&project));
        }
        if wanted("restart") {
            runtime.block_on(restart::report(&project));
        }
    }
}

/// One row of the table: what was measured, and what is wanted of it. `at_most`: less is better.
fn row(name: &str, figure: f64, unit: &str, target: f64, at_most: bool, more: Value) {
    let met = if at_most { figure <= target } else { figure >= target };
    let figure = rounded(figure);
    let mut line =
        json!({"row": name, "figure": figure, "unit": unit, "target": target, "at_most": at_most, "met": met});
    if let (Some(line), Value::Object(more)) = (line.as_object_mut(), more) {
        line.extend(more);
    }
    println!("{line}");
}

/// To three significant digits or better.
fn rounded(figure: f64) -> f64 {
    if figure >= 1_000.0 { figure.round() } else { (figure * 1_000.0).round() / 1_000.0 }
}

/// The value below which this part of all lies.
fn percentile(values: &mut [f64], part: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(((values.len().max(1) - 1) as f64 * part) as usize).copied().unwrap_or(0.0)
}
