//! `/issues/{id}`: one issue, what became of it, and what can be done.

use axum::extract::{Extension, State};
use axum::response::{IntoResponse, Response};
use dalsegno_api as api;
use maud::{Markup, html};

use super::board::encoded;
use super::change;
use super::log::weight;
use super::parts::{Sent, actions, asked, badge, moment, sent, tokens, told, web};
use super::run::transcript_of;
use super::{Page, Place, Sorry, checks, saga};
use crate::app::App;
use crate::guard::Caller;
use crate::looks::Looked;
use crate::params::{Key, Params};
use crate::problem::Problem;
use crate::routes::{issues, state};

/// Runs that are listed.
const RUNS: usize = 20;

struct Parts {
    issue: api::IssueDetail,
    runs: Vec<api::Run>,
    rules: Option<api::Explanation>,
    transcript: Option<api::TranscriptPage>,
    changed: Option<Looked>,
    /// Of the latest run.
    checked: Vec<api::Check>,
    receipt: Option<Sent>,
    saga: Option<api::Saga>,
    head: String,
}

pub(super) async fn page(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Key(key): Key,
    mut params: Params,
) -> Response {
    let receipt = params.word("receipt").ok().flatten();
    match gather(app, caller, key, receipt).await {
        Ok(parts) => render(&parts, caller).into_response(),
        Err(problem) => Sorry(problem, caller).into_response(),
    }
}

async fn gather(app: App, caller: Caller, key: String, receipt: Option<String>) -> Result<Parts, Problem> {
    let head = state::state(State(app.clone()), Extension(caller), Params::none()).await?.0.head;
    let (of_app, of_caller) = (|| State(app.clone()), || Extension(caller));
    let issue = issues::detail(of_app(), of_caller(), Key(key.clone()), Params::none()).await?.0;
    let mut runs = issues::runs(of_app(), of_caller(), Key(key.clone()), Params::none()).await?.0.runs;
    runs.truncate(RUNS);
    // Without an engine there is an issue all the same.
    let rules = issues::explain(of_app(), of_caller(), Key(key), Params::none()).await.ok().map(|found| found.0);
    let transcript = match runs.first() {
        Some(run) if caller.reads() => transcript_of(&app, &run.id).await?,
        Some(_) | None => None,
    };
    let changed = match runs.first() {
        Some(run) => change::of_run(&app, caller, &run.id).await?,
        None => None,
    };
    let checked = match runs.first() {
        Some(run) => checks::of_run(&app, caller, &run.id).await?,
        None => Vec::new(),
    };
    let receipt = sent(&app, receipt).await?;
    let saga = saga::of(&app, runs.iter().find_map(|run| run.handoff.as_ref()), caller).await;
    Ok(Parts { issue, runs, rules, transcript, changed, checked, receipt, saga, head })
}

fn render(parts: &Parts, caller: Caller) -> Page {
    let Parts { issue: detail, runs, rules, transcript, changed, checked, receipt, saga, head } = parts;
    let issue = &detail.issue;
    let handoff = runs.iter().find_map(|run| run.handoff.as_ref());
    // A step that waits for somebody stands where a question would.
    let waits =
        issue.status == "parked" && handoff.is_some_and(|found| found.steps.iter().any(|step| step.state == "parked"));
    let diagram = handoff.map(|found| saga::diagram(found, saga.as_ref(), &issue.identifier, caller));
    let body = html! {
        article.issue {
            header {
                p.crumb { a href="/" { "Board" } " / " (issue.identifier) }
                h1 { (issue.title) }
                p.facts {
                    (badge(&issue.status))
                    " " (issue.tracker_state)
                    @if let Some(attempt) = issue.attempt { " · retry " (attempt) }
                    " · " (tokens(&issue.usage))
                    @if let Some(url) = &issue.url { " · " a href=(web(url)) rel="noreferrer" { "in the tracker" } }
                    @if let Some(pull) = &issue.pull_request { " · " a href=(web(&pull.url)) rel="noreferrer" { "pull request " (pull.number) } }
                }
                @if issue.question.is_none() { @if let Some(reason) = &issue.reason { p.reason { (reason) } } }
                (told(receipt.as_ref()))
            }
            (asked(issue, caller, None))
            @if let Some(diagram) = diagram.as_ref().filter(|_| waits) { (diagram) }
            (actions(issue, caller))
            @if let Some(run) = &detail.running {
                section.now {
                    h2 { "Now" }
                    p.facts { a href={ "/runs/" (run.run) } { (run.run) } " · " (run.phase.replace('_', " ")) " · turn " (run.turn_count) " · since " (moment(&run.started_at)) }
                    @if !run.last_message.is_empty() { blockquote { (run.last_message) } }
                }
            }
            @if let Some(diagram) = diagram.as_ref().filter(|_| !waits) { (diagram) }
            @if let Some(run) = runs.first() { (checks::table(&run.id, checked)) }
            (change::change(changed.as_ref()))
            @if let Some(page) = transcript { (super::run::transcript(page)) }
            (runs_table(runs))
            section {
                h2 { "What happened" }
                ol.timeline {
                    @for event in detail.recent_events.iter().rev() {
                        li class=(weight(&event.event, event.message.as_deref())) {
                            (moment(&event.at))
                            span.what { b { (event.event.replace('_', " ")) } @if let Some(message) = &event.message { " " span.reason { (message) } } }
                        }
                    }
                }
            }
            @if let Some(rules) = rules { (explained(rules)) }
            @if let Some(text) = &detail.description { section { h2 { "Description" } pre.text { (text) } } }
            @if let Some(workspace) = &issue.workspace {
                p.facts { "workspace " code { (workspace.path) } @if let Some(branch) = &workspace.branch { " · branch " code { (branch) } } }
            }
        }
    };
    let title = format!("{} {}", issue.identifier, issue.title);
    Page { title, place: Place::Elsewhere, caller, head: Some(head.clone()), body }
}

fn runs_table(runs: &[api::Run]) -> Markup {
    html! {
        section {
            h2 { "Runs" }
            @if runs.is_empty() { p.none { "none yet" } } @else {
                div.wide tabindex="0" { table.stack {
                    thead { tr { th { "Run" } th { "How it is" } th { "Turns" } th { "Tokens" } th { "Began" } th { "Why" } } }
                    tbody {
                        @for run in runs {
                            tr {
                                td { a href={ "/runs/" (encoded(&run.id)) } { (run.id) } }
                                td { (run.outcome.as_deref().unwrap_or(&run.phase).replace('_', " ")) }
                                td.number data-of="turns" { (run.turns) }
                                td.number { (tokens(&run.usage)) }
                                td { (moment(&run.started_at)) }
                                td.whole { (run.reason.as_deref().unwrap_or_default()) }
                            }
                        }
                    }
                } }
            }
        }
    }
}

fn explained(rules: &api::Explanation) -> Markup {
    let failing = rules.rules.iter().filter(|rule| !rule.pass).count();
    html! {
        details.explain {
            summary { "Why it runs or does not: " (rules.rules.len() - failing) " of " (rules.rules.len()) " rules pass" }
            div.wide tabindex="0" { table.stack {
                thead { tr { th { "Rule" } th { "Verdict" } th { "Found" } th { "What would change it" } } }
                tbody {
                    @for rule in &rules.rules {
                        tr {
                            td { (rule.rule.replace('_', " ")) }
                            td { @if rule.pass { "passes" } @else { b { "fails" } } }
                            td.whole { (rule.detail) }
                            td.whole { (rule.remedy.as_deref().unwrap_or_default()) }
                        }
                    }
                }
            } }
        }
    }
}
