//! `GET /api/v1/usage` and `GET /api/v1/budget`.

use axum::Json;
use axum::extract::State;
use dalsegno_api as api;
use dalsegno_core::{BudgetLine, Limits, Timestamp, Usage};
use dalsegno_engine::{UsageBy, UsageSum};

use crate::app::App;
use crate::convert;
use crate::costs::dollars;
use crate::params::Params;
use crate::problem::Problem;

/// Milliseconds of a day.
const DAY_MS: i64 = 86_400_000;

pub(crate) async fn usage(State(app): State<App>, params: Params) -> Result<Json<api::UsageReport>, Problem> {
    params.done()?;
    app.read(|reads| {
        let sums = |by, key: fn(&UsageSum) -> Option<String>| {
            let sums = reads.usage_sums(by)?;
            Ok(sums.into_iter().map(|sum| wire_sum(key(&sum), sum)).collect())
        };
        Ok(api::UsageReport {
            issues: sums(UsageBy::Issue, |sum| sum.identifier.clone())?,
            runs: sums(UsageBy::Run, |sum| sum.key.clone())?,
            days: sums(UsageBy::Day, |sum| sum.key.as_deref().map(date))?,
            models: sums(UsageBy::Model, |sum| sum.key.clone())?,
        })
    })
    .await
    .map(Json)
}

pub(crate) async fn budget(State(app): State<App>, params: Params) -> Result<Json<api::BudgetReport>, Problem> {
    params.done()?;
    let lines = app.ask(app.control.budgets()).await?;
    let (day, issues): (Vec<BudgetLine>, Vec<BudgetLine>) =
        lines.into_iter().partition(|line| line.identifier.is_none());
    let issues = issues.into_iter().map(wire_line).collect();
    Ok(Json(api::BudgetReport { day: day.into_iter().next().map(wire_line), issues }))
}

/// The date of a day that is counted from the epoch.
fn date(day: &str) -> String {
    let day: i64 = day.parse().unwrap_or(0);
    convert::time(Timestamp(day.saturating_mul(DAY_MS))).chars().take(10).collect()
}

fn wire_sum(key: Option<String>, sum: UsageSum) -> api::UsageSum {
    let UsageSum { key: _, identifier: _, usage, cost_nanousd, unpriced, incomplete } = sum;
    let Usage { input_tokens, cached_input_tokens, output_tokens, total_tokens } = usage;
    let cost_usd = (!unpriced).then(|| dollars(cost_nanousd));
    let usage = api::Usage { input_tokens, output_tokens, total_tokens, cost_usd };
    api::UsageSum { key, usage, cached_input_tokens, unpriced, incomplete }
}

fn wire_line(line: BudgetLine) -> api::BudgetLine {
    let BudgetLine { identifier, usage, cost_nanousd, unpriced, turns, runs, wall_clock_ms, limits, runs_allowed } =
        line;
    let Limits { tokens, cost_nanousd: most_nanousd, turns: most_turns, wall_clock_ms: most_ms } = limits;
    api::BudgetLine {
        issue: identifier,
        tokens: usage.tokens(),
        tokens_limit: tokens,
        cost_usd: dollars(cost_nanousd),
        cost_usd_limit: most_nanousd.map(dollars),
        unpriced,
        turns,
        turns_limit: most_turns,
        runs,
        runs_limit: runs_allowed,
        wall_clock_ms,
        wall_clock_ms_limit: most_ms,
    }
}
