//! `/usage`: what was used and what came of it, over days, by model and by issue.

use std::collections::BTreeMap;

use axum::extract::{Extension, State};
use axum::response::{IntoResponse, Response};
use dalsegno_api as api;
use jiff::ToSpan as _;
use jiff::civil::Date;
use maud::{Markup, html};

use super::board::encoded;
use super::chart::{Bar, Series, bars};
use super::parts::{badge, grouped, short, tokens};
use super::{Page, Place, Sorry};
use crate::app::App;
use crate::guard::Caller;
use crate::params::Params;
use crate::problem::Problem;
use crate::routes::{runs, state, usage};

/// Days of the charts.
const DAYS: i64 = 30;
/// Issues of the table.
const ISSUES: usize = 50;
const TOKENS: [Series; 2] = [Series { name: "read", class: "s1" }, Series { name: "written", class: "s2" }];
const OUTCOMES: [(&str, &str); 4] =
    [("completed", "good"), ("failed", "needs"), ("interrupted", "waits"), ("canceled", "quiet")];

pub(super) async fn page(State(app): State<App>, Extension(caller): Extension<Caller>) -> Response {
    match gather(app, caller).await {
        Ok(page) => page.into_response(),
        Err(problem) => Sorry(problem, caller).into_response(),
    }
}

async fn gather(app: App, caller: Caller) -> Result<Page, Problem> {
    let state = state::state(State(app.clone()), Extension(caller), Params::none()).await?.0;
    let report = usage::usage(State(app.clone()), Params::none()).await?.0;
    let budget = usage::budget(State(app.clone()), Params::none()).await?.0;
    let runs = runs::list(State(app), Extension(caller), Params::none()).await?.0.runs;
    let today = state.generated_at.get(..10).and_then(|day| day.parse().ok()).unwrap_or(Date::MIN);
    let body = render(&report, &budget, &runs, today);
    Ok(Page { title: "Usage".to_owned(), place: Place::Usage, caller, head: Some(state.head), body })
}

fn render(report: &api::UsageReport, budget: &api::BudgetReport, runs: &[api::Run], today: Date) -> Markup {
    let days = last_days(today);
    let of_day = |day: &str| report.days.iter().find(|sum| sum.key.as_deref() == Some(day));
    let used = days.iter().map(|day| {
        let usage = of_day(day).map(|sum| sum.usage).unwrap_or_default();
        Bar { name: day.clone(), parts: vec![usage.input_tokens, usage.output_tokens] }
    });
    let used: Vec<Bar> = used.collect();
    let cents = days.iter().map(|day| {
        let cost = of_day(day).and_then(|sum| sum.usage.cost_usd).unwrap_or(0.0);
        Bar { name: day.clone(), parts: vec![cents(cost)] }
    });
    let cents: Vec<Bar> = cents.collect();
    let models = report.models.iter().map(|sum| {
        let name = sum.key.clone().unwrap_or_else(|| "not known".to_owned());
        (html! { (name) }, sum)
    });
    let issues = report.issues.iter().take(ISSUES).map(|sum| {
        let name = sum.key.as_deref().unwrap_or("not known");
        (html! { a href={ "/issues/" (encoded(name)) } { (name) } }, sum)
    });
    html! {
        h1 { "Usage" }
        @if let Some(day) = &budget.day { (today_of(day)) }
        section.charts aria-label="Charts of the last 30 days" {
            (bars("tokens", "Tokens by UTC day", &TOKENS, &used, short))
            @if cents.iter().any(|bar| bar.parts.iter().any(|part| *part > 0)) {
                (bars("cost", "Cost by UTC day", &[Series { name: "cost", class: "s1" }], &cents, |cents| format!("${}.{:02}", cents / 100, cents % 100)))
            }
            (outcomes(runs, &days))
        }
        (table("days", "By UTC day", report.days.iter().map(|sum| (html! { (sum.key.as_deref().unwrap_or("not known")) }, sum))))
        (table("models", "By model", models))
        (table("issues", "By issue", issues))
    }
}

/// The use of this day, and its limits.
fn today_of(day: &api::BudgetLine) -> Markup {
    html! {
        section.strip aria-label="This UTC day" {
            div.figure {
                b { (short(day.tokens)) } span { "tokens today" @if let Some(most) = day.tokens_limit { " of " (short(most)) } }
                @if let Some(most) = day.tokens_limit { meter min="0" max=(most) value=(day.tokens) aria-label="Tokens of the day's limit" {} }
            }
            div.figure {
                b { @if day.unpriced && day.cost_usd == 0.0 { "–" } @else { "$" (format!("{:.2}", day.cost_usd)) } }
                span { @if day.unpriced { "today, as far as prices are known" } @else { "today" } @if let Some(most) = day.cost_usd_limit { " of $" (format!("{most:.2}")) } }
            }
        }
    }
}

/// How runs ended, by the day of their end.
fn outcomes(runs: &[api::Run], days: &[String]) -> Markup {
    let mut ended: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    for run in runs {
        if let (Some(at), Some(outcome)) = (&run.ended_at, &run.outcome) {
            *ended.entry((at.get(..10).unwrap_or_default(), outcome.as_str())).or_default() += 1;
        }
    }
    let count = |day: &str, outcome: &str| ended.get(&(day, outcome)).copied().unwrap_or(0);
    let series = OUTCOMES.map(|(name, class)| Series { name, class });
    let shown: Vec<Bar> = days
        .iter()
        .map(|day| Bar { name: day.clone(), parts: OUTCOMES.iter().map(|(name, _)| count(day, name)).collect() })
        .collect();
    html! {
        div { (bars("outcomes", "How the newest runs ended, by UTC day", &series, &shown, |runs| runs.to_string()))
        table.small {
            caption.sr { "How the newest runs ended" }
            thead { tr { th scope="col" { "Outcome" } th scope="col" { "Runs" } } }
            tbody {
                @for (name, _) in OUTCOMES {
                    tr { th scope="row" { (badge(name)) } td.number { (days.iter().map(|day| count(day, name)).sum::<u64>()) } }
                }
            }
        } }
    }
}

/// The days of the charts, the oldest first.
fn last_days(today: Date) -> Vec<String> {
    (0..DAYS).rev().filter_map(|back| today.checked_sub(back.days()).ok()).map(|day| day.to_string()).collect()
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an amount for a chart, from 0 on")]
fn cents(dollars: f64) -> u64 {
    (dollars * 100.0).round() as u64
}

/// Rows with a bar each; the longest is the most of them.
fn table<'a>(id: &str, title: &str, sums: impl Iterator<Item = (Markup, &'a api::UsageSum)>) -> Markup {
    let sums: Vec<(Markup, &api::UsageSum)> = sums.collect();
    let most = sums.iter().map(|(_, sum)| sum.usage.total_tokens).max().unwrap_or(0).max(1);
    html! {
        section {
            h2 id=(id) { (title) }
            @if sums.is_empty() { p.none { "nothing was used yet" } } @else {
                div.wide tabindex="0" { table.bars aria-labelledby=(id) {
                    thead { tr { th scope="col" { "Of" } th scope="col" { "Share" } th scope="col" { "Read" } th scope="col" { "Written" } th scope="col" { "Together" } } }
                    tbody {
                        @for (name, sum) in &sums {
                            @let words = format!("{} tokens", grouped(sum.usage.total_tokens));
                            tr {
                                th scope="row" { (name) }
                                td.bar { meter min="0" max=(most) value=(sum.usage.total_tokens) aria-label=(words) {} }
                                td.number { (grouped(sum.usage.input_tokens)) }
                                td.number { (grouped(sum.usage.output_tokens)) }
                                td.number { (tokens(&sum.usage)) @if sum.unpriced { " · no price" } @if sum.incomplete { " · incomplete" } }
                            }
                        }
                    }
                } }
            }
        }
    }
}
