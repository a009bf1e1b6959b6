//! `load`: the load tests of the gateway and the scheduler, as a table and as JSON lines.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use crate::metadata::Metadata;
use crate::shell::{Done, cargo, run_lines, say};

/// Load the real program over real HTTP: actions, memory, pages of events, many streams, the scheduler, a restart. Prints a table
/// of figures beside their targets, and keeps the results as JSON, one object per line.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Only these, with commas between: schedule, memory, actions, fanout, pages, restart, start.
    #[arg(long)]
    only: Option<String>,
    /// Issues that the daemon knows.
    #[arg(long, default_value_t = 10_000)]
    issues: u32,
    /// Events in the journal, for pages and restarts.
    #[arg(long, default_value_t = 1_000_000)]
    events: u64,
    /// How long each load lasts.
    #[arg(long, default_value_t = 8.0)]
    seconds: f64,
    /// Where the results go; `bench/load.jsonl` in the target directory without it.
    #[arg(long)]
    out: Option<PathBuf>,
}

pub(crate) fn run(arguments: &Arguments) -> Done {
    let Arguments { only, issues, events, seconds, out } = arguments;
    let out = match out {
        Some(out) => out.clone(),
        None => Metadata::load()?.target_directory.join("bench/load.jsonl"),
    };
    let (mut results, mut table) = (String::new(), Vec::new());
    let mut take = |line: &str| {
        if let Ok(Value::Object(object)) = serde_json::from_str(line) {
            results.push_str(line);
            results.push('\n');
            table.extend(as_row(&Value::Object(object)));
        }
    };
    let wants_start = only.as_ref().is_none_or(|only| only.split(',').any(|part| part == "start"));
    if only.as_deref() != Some("start") {
        let bench = ["bench", "--locked", "--package", "dalsegno", "--bench", "load", "--"];
        let mut command = cargo(&bench);
        command.args(["--issues", &issues.to_string(), "--events", &events.to_string()]);
        command.args(["--seconds", &seconds.to_string()]);
        command.args(only.iter().flat_map(|only| ["--only", only.as_str()]));
        run_lines(&mut command, &mut take)?;
    }
    if wants_start {
        run_lines(&mut cargo(&["bench", "--locked", "--package", "dalsegno", "--bench", "start"]), &mut take)?;
    }
    if results.is_empty() {
        return Err("the load tests printed no JSON object".to_owned());
    }
    let written = out.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::write(&out, &results));
    written.map_err(|error| format!("{} cannot be written: {error}", out.display()))?;
    say("| what | figure | target | beside the raw sync rate |\n|---|---|---|---|");
    table.iter().for_each(say);
    say(format_args!("{} results in {}", results.lines().count(), out.display()));
    Ok(())
}

/// A result as a row of the table; results of other benchmarks have no target and no row.
fn as_row(result: &Value) -> Option<String> {
    let (name, unit) = (result.get("row")?.as_str()?, result.get("unit")?.as_str()?);
    let (figure, target) = (result.get("figure")?, result.get("target")?.as_f64()?);
    let bound = if result.get("at_most")?.as_bool()? { "≤" } else { "≥" };
    let missed = if result.get("met")?.as_bool()? { "" } else { ", missed" };
    let target = if target > 0.0 { format!("{bound} {target}{missed}") } else { "–".to_owned() };
    let raw = |name: &str| result.get(name).and_then(Value::as_f64);
    let beside = match (raw("ratio_to_raw"), raw("raw_overwrite_per_s")) {
        (Some(ratio), Some(raw)) => format!("{ratio} × {raw}/s"),
        (None, Some(raw)) => format!("{raw}/s"),
        (_, None) => "–".to_owned(),
    };
    Some(format!("| {name} | {figure} {unit} | {target} | {beside} |"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_row_says_what_was_missed_and_other_lines_are_none() {
        let mut result = json!({"row": "a", "figure": 2.5, "unit": "ms", "target": 3.0, "at_most": true, "met": true});
        assert_eq!(as_row(&result).as_deref(), Some("| a | 2.5 ms | ≤ 3 | – |"));
        if let Some(result) = result.as_object_mut() {
            result.extend([("met".to_owned(), json!(false)), ("raw_overwrite_per_s".to_owned(), json!(7.0))]);
        }
        assert_eq!(as_row(&result).as_deref(), Some("| a | 2.5 ms | ≤ 3, missed | 7/s |"));
        assert_eq!(as_row(&json!({"bench": "idle_memory"})), None);
    }
}
