//! `dalsegno budget`

use dalsegno_api::{BudgetLine, Target, exit};
use dalsegno_engine::core::span_ms;
use serde_json::{Map, Value};

use super::action::act;
use crate::error::CliError;
use crate::settings::{Settings, color};
use crate::text::{Table, clean, count};
use crate::{out, reader};

/// Show what issues and this UTC day used of their budgets, or set an issue's limits
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The issue whose limits are set; without limits: the one that is shown
    issue: Option<String>,
    /// Most tokens, in and out
    #[arg(long, value_name = "N")]
    tokens: Option<u64>,
    /// Most US dollars
    #[arg(long, value_name = "X")]
    cost_usd: Option<f64>,
    /// Most turns
    #[arg(long, value_name = "N", requires = "issue")]
    turns: Option<u32>,
    /// Most runs
    #[arg(long, value_name = "N", requires = "issue")]
    runs: Option<u32>,
    /// Longest time that its runs may take, such as 90m or 2h
    #[arg(long, value_name = "TIME", requires = "issue", value_parser = wall_clock)]
    wall_clock: Option<u64>,
    /// Set the limits of this UTC day, over all issues
    #[arg(long, conflicts_with = "issue")]
    day: bool,
}

pub(crate) fn run(args: Args, settings: &Settings) -> Result<(), CliError> {
    let Args { issue, tokens, cost_usd, turns, runs, wall_clock, day } = args;
    let mut payload = Map::new();
    let limits = [
        ("tokens", tokens.map(Value::from)),
        ("cost_usd", cost_usd.map(Value::from)),
        ("turns", turns.map(Value::from)),
        ("runs", runs.map(Value::from)),
        ("wall_clock_ms", wall_clock.map(Value::from)),
    ];
    payload.extend(limits.into_iter().filter_map(|(name, limit)| Some((name.to_owned(), limit?))));
    if payload.is_empty() && !day {
        return show(issue.as_deref(), settings);
    }
    let target = match issue {
        Some(issue) => Target { kind: "issue".to_owned(), id: issue },
        None if day => Target { kind: "daemon".to_owned(), id: String::new() },
        None => return Err(CliError::new("invalid_arguments", "limits need an issue, or --day").exit(exit::USAGE)),
    };
    act("set_budget", target, payload, settings, "The limits are set.")
}

/// What something cost, as far as it is known, and its limit.
fn cost(dollars: f64, unpriced: bool, limit: Option<f64>) -> String {
    let cost = match (unpriced, dollars > 0.0) {
        (false, _) => format!("${dollars:.4}"),
        (true, true) => format!("${dollars:.4} and what has no price known"),
        (true, false) => "no price known".to_owned(),
    };
    of(cost, limit.map(|most| format!("${most:.2}")))
}

fn show(issue: Option<&str>, settings: &Settings) -> Result<(), CliError> {
    let mut report = reader::open(&settings.state_dir)?.budget()?;
    if let Some(issue) = issue {
        report.issues.retain(|line| line.issue.as_deref().is_some_and(|known| known.eq_ignore_ascii_case(issue)));
    }
    if settings.json {
        out::json(&report);
        return Ok(());
    }
    let mut table = Table::new(&["ISSUE", "TOKENS", "COST", "TURNS", "RUNS", "TIME"]);
    for line in report.day.iter().chain(&report.issues) {
        let BudgetLine {
            issue,
            tokens,
            tokens_limit,
            cost_usd,
            cost_usd_limit,
            unpriced,
            turns,
            turns_limit,
            runs,
            runs_limit,
            wall_clock_ms,
            wall_clock_ms_limit,
        } = line;
        let cost = cost(*cost_usd, *unpriced, *cost_usd_limit);
        let tokens = of(count(*tokens), tokens_limit.map(count));
        let turns = of(turns.to_string(), turns_limit.map(|most| most.to_string()));
        let runs = of(runs.to_string(), runs_limit.map(|most| most.to_string()));
        let minutes = |ms: u64| format!("{} min", ms / 60_000);
        let time = of(minutes(*wall_clock_ms), wall_clock_ms_limit.map(minutes));
        match issue {
            Some(issue) => table.row([&clean(issue), &tokens, &cost, &turns, &runs, &time]),
            None => table.row(["this UTC day", &tokens, &cost, "", "", ""]),
        }
    }
    table.lines(color()).iter().for_each(|line| out::line(line));
    Ok(())
}

fn of(used: String, limit: Option<String>) -> String {
    limit.map_or_else(|| used.clone(), |limit| format!("{used} of {limit}"))
}

/// A span of time, in milliseconds.
fn wall_clock(text: &str) -> Result<u64, String> {
    span_ms(text).ok_or_else(|| "write it like 30s, 90m or 2h".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_price_is_not_said_to_cost_nothing() {
        assert_eq!(cost(0.0, false, None), "$0.0000");
        assert_eq!(cost(0.25, false, Some(5.0)), "$0.2500 of $5.00");
        assert_eq!(cost(0.0, true, None), "no price known");
        assert_eq!(cost(0.25, true, None), "$0.2500 and what has no price known");
    }
}
