//! `/usage`: what was used, over days, by model and by issue.

use axum::extract::{Extension, State};
use axum::response::{IntoResponse, Response};
use dalsegno_api as api;
use maud::{Markup, html};

use super::board::encoded;
use super::parts::{grouped, tokens};
use super::{Page, Place, Sorry};
use crate::app::App;
use crate::guard::Caller;
use crate::params::Params;
use crate::routes::usage;

/// Days of the chart.
const DAYS: usize = 30;
/// Issues of the table.
const ISSUES: usize = 50;

pub(super) async fn page(State(app): State<App>, Extension(caller): Extension<Caller>) -> Response {
    match usage::usage(State(app), Params::none()).await {
        Ok(report) => render(&report.0, caller).into_response(),
        Err(problem) => Sorry(problem, caller).into_response(),
    }
}

fn render(report: &api::UsageReport, caller: Caller) -> Page {
    let body = html! {
        h1 { "Usage" }
        section { h2 { "By UTC day" } (bars(report.days.iter().take(DAYS), |key| html! { (key) })) }
        section { h2 { "By model" } (bars(report.models.iter(), |key| html! { (key) })) }
        section {
            h2 { "By issue" }
            (bars(report.issues.iter().take(ISSUES), |key| html! { a href={ "/issues/" (encoded(key)) } { (key) } }))
        }
    };
    Page { title: "Usage".to_owned(), place: Place::Usage, caller, head: None, body }
}

/// Rows with a bar each; the longest is the most of them.
fn bars<'a>(sums: impl Iterator<Item = &'a api::UsageSum>, name: impl Fn(&str) -> Markup) -> Markup {
    let sums: Vec<&api::UsageSum> = sums.collect();
    let most = sums.iter().map(|sum| sum.usage.total_tokens).max().unwrap_or(0).max(1);
    html! {
        @if sums.is_empty() { p.none { "nothing was used yet" } } @else {
            table.bars {
                tbody {
                    @for sum in sums {
                        tr {
                            th scope="row" { (name(sum.key.as_deref().unwrap_or("not known"))) }
                            td.bar { meter min="0" max=(most) value=(sum.usage.total_tokens) { (grouped(sum.usage.total_tokens)) } }
                            td.number { (tokens(&sum.usage)) @if sum.unpriced { " · no price" } @if sum.incomplete { " · incomplete" } }
                        }
                    }
                }
            }
        }
    }
}
