//! `/daemon`: how ready it is, what its last start found and did, what it may use, and what can be asked of it.

use axum::extract::{Extension, State};
use axum::response::{IntoResponse, Response};
use dalsegno_api as api;
use dalsegno_engine::EventFilter;
use maud::{Markup, html};

use super::board::{encoded, trouble};
use super::log;
use super::parts::{Sent, badge, bytes, form_to, grouped, moment, sent, told};
use super::{Page, Place, Sorry};
use crate::app::App;
use crate::convert;
use crate::guard::Caller;
use crate::params::Params;
use crate::problem::Problem;
use crate::routes::{readiness, state, usage};

/// Newest events of a kind that are shown.
const KEPT: usize = 40;
/// Workspaces whose size is shown, the largest first.
const WORKSPACES: usize = 20;
/// Kinds that tell of starts, of recovery and of the policy.
const KINDS: [&str; 8] = [
    "daemon_started",
    "recovery_step",
    "recovered",
    "readiness",
    "workflow_loaded",
    "workflow_rejected",
    "drained",
    "daemon_stopped",
];

pub(super) async fn page(State(app): State<App>, Extension(caller): Extension<Caller>, mut params: Params) -> Response {
    let receipt = params.word("receipt").ok().flatten();
    match gather(app, caller, receipt).await {
        Ok(page) => page.into_response(),
        Err(problem) => Sorry(problem, caller).into_response(),
    }
}

async fn gather(app: App, caller: Caller, receipt: Option<String>) -> Result<Page, Problem> {
    let state = state::state(State(app.clone()), Extension(caller), Params::none()).await?.0;
    let budget = usage::budget(State(app.clone()), Params::none()).await?.0;
    let receipt = sent(&app, receipt).await?;
    let steps = app
        .read(move |reads| {
            let journal = reads.journal_id();
            let (_, head) = reads.bounds()?;
            let mut rows = Vec::new();
            for kind in KINDS {
                let filter = EventFilter { kind: Some(kind.to_owned()), ..EventFilter::default() };
                let found = reads.events(head.saturating_sub(log::WINDOW), log::PAGE, &filter)?.events;
                let older = found.len().saturating_sub(KEPT);
                rows.extend(found.into_iter().skip(older));
            }
            rows.sort_by_key(|row| std::cmp::Reverse(row.seq));
            rows.truncate(KEPT);
            Ok(rows.into_iter().map(|row| convert::event(row, journal, caller)).collect::<Vec<_>>())
        })
        .await?;
    // None while the daemon ends.
    let readiness = readiness::readiness(State(app), Extension(caller), Params::none()).await.ok().map(|found| found.0);
    let body = render(&state, readiness.as_ref(), &budget, &steps, receipt.as_ref(), caller);
    Ok(Page { title: "Daemon".to_owned(), place: Place::Daemon, caller, head: Some(state.head), body })
}

fn render(
    state: &api::State,
    readiness: Option<&api::Readiness>,
    budget: &api::BudgetReport,
    steps: &[api::Event],
    receipt: Option<&Sent>,
    caller: Caller,
) -> Markup {
    html! {
        h1 { "Daemon" }
        (told(receipt))
        (trouble(state))
        dl.pairs {
            dt { "Readiness" } dd { (badge(readiness.map_or("ending", |found| &found.status))) }
            dt { "Epoch" } dd { (state.epoch) }
            @if let Some(policy) = &state.policy { dt { "Policy" } dd { code { (policy.get(..12).unwrap_or(policy)) } } }
            @if let Some(limits) = &state.rate_limits {
                @for window in &limits.windows {
                    dt { "Quota " (window.name) }
                    dd {
                        meter min="0" max="100" value=(window.used_percent) aria-label={ "Used of " (window.name) } {}
                        " " (format!("{:.0}", window.used_percent)) " % used"
                        @if let Some(resets) = &window.resets_at { ", begins anew " (moment(resets)) }
                    }
                }
            }
        }
        @if let Some(found) = readiness { (plan(found)) (disk(found)) }
        @if caller.must_operate().is_ok() {
            section {
                h2 { "What it should do" }
                div.actions {
                    (form_to("refresh", None, None, "Read the tracker now", &html! {}, false))
                    (form_to("drain", None, None, "Take no new work", &html! {}, false))
                    (form_to("undrain", None, None, "Take work again", &html! {}, false))
                    (form_to("reload", None, None, "Take the held WORKFLOW.md", &html! {}, true))
                }
                details {
                    summary { "Limits of this UTC day" }
                    @if let Some(day) = &budget.day {
                        p.facts {
                            (grouped(day.tokens)) " tokens used" @if let Some(most) = day.tokens_limit { " of " (grouped(most)) }
                            @if !day.unpriced || day.cost_usd > 0.0 || day.cost_usd_limit.is_some() {
                                " · $" (format!("{:.2}", day.cost_usd)) @if let Some(most) = day.cost_usd_limit { " of $" (format!("{most:.2}")) }
                                @if day.unpriced { ", as far as prices are known" }
                            }
                        }
                    }
                    (form_to("set_budget", None, None, "Set the limits of the day", &html! {
                        label { span { "Most tokens" } input name="tokens" type="number" min="0" step="1"; }
                        label { span { "Most US dollars" } input name="cost_usd" type="number" min="0" step="0.01"; }
                    }, false))
                }
            }
        }
        section {
            h2 { "Starts and recovery" }
            @if steps.is_empty() { p.none { "nothing yet" } } @else { (log::timeline(steps)) }
        }
    }
}

/// What is left to recover, and that everything else is in line.
fn plan(found: &api::Readiness) -> Markup {
    let open: Vec<&api::PlanStep> = found.plan.iter().filter(|step| step.action != "none").collect();
    html! {
        section {
            h2 { "Recovery" }
            @if open.is_empty() {
                p.none { "Nothing is left to recover: all " (found.surfaces.len()) " surfaces are in line." }
            } @else {
                div.wide tabindex="0" { table.stack {
                    thead { tr { th { "Surface" } th { "Of" } th { "Found" } th { "What is done" } } }
                    tbody {
                        @for step in &open {
                            tr {
                                th scope="row" { (step.surface) }
                                td { code { (step.member) } }
                                td.whole { (step.detail.as_deref().unwrap_or(&step.reason)) }
                                td { (badge(&step.action)) }
                            }
                        }
                    }
                } }
                @if found.remaining > open.len() as u64 { p.more { (found.remaining) " in all; the API and `dalsegno doctor` have them" } }
            }
        }
    }
}

/// What the disk holds of ours, what it may, and what is left, as the last look found it.
fn disk(found: &api::Readiness) -> Markup {
    let Some(disk) = &found.disk else {
        return html! { section { h2 { "Disk" } p.none { "not looked at yet" } } };
    };
    let api::DiskUse { free_bytes, state_bytes, used_bytes, limit_bytes, workspaces } = disk;
    html! {
        section {
            h2 { "Disk" }
            @if let Some(at) = &found.looked_at { p.facts { "As of " (moment(at)) ". It is looked at when the daemon starts, and then every few minutes." } }
            dl.pairs {
                dt { "Free" } dd { (bytes(*free_bytes)) }
                dt { "State directory" } dd { @match state_bytes { Some(taken) => { (bytes(*taken)) }, None => { "not measured" } } }
                dt { "Workspaces" }
                dd {
                    @if let Some(most) = limit_bytes {
                        meter min="0" max=(most) value=((*used_bytes).min(*most)) aria-label="Of what workspaces may take" {}
                        " "
                    }
                    (bytes(*used_bytes))
                    @if let Some(most) = limit_bytes { " of " (bytes(*most)) } @else { ", without a limit (" code { "workspace.disk_limit_gb" } ")" }
                }
            }
            @if !workspaces.is_empty() {
                details {
                    summary { "The largest workspaces" }
                    div.wide tabindex="0" { table.stack {
                        thead { tr { th scope="col" { "Issue" } th scope="col" { "Takes" } th scope="col" { "Where" } } }
                        tbody {
                            @for workspace in workspaces.iter().take(WORKSPACES) {
                                tr {
                                    th scope="row" { @match &workspace.issue { Some(issue) => { a href={ "/issues/" (encoded(issue)) } { (issue) } }, None => { "nobody's" } } }
                                    td.number { (bytes(workspace.bytes)) }
                                    td.whole { @if let Some(path) = &workspace.path { code { (path) } } }
                                }
                            }
                        }
                    } }
                }
            }
        }
    }
}
