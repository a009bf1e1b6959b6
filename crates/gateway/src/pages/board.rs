//! `/`: what runs, what waits and why, what needs somebody, what it costs.

use axum::extract::{Extension, State};
use axum::response::{IntoResponse, Response};
use dalsegno_api as api;
use maud::{Markup, html};

use super::parts::{badge, grouped, moment, tokens};
use super::{Page, Place, Sorry};
use crate::app::App;
use crate::guard::Caller;
use crate::params::Params;
use crate::problem::Problem;
use crate::routes::{issues, state};

/// Issues of a column; the rest is counted.
const TILES: usize = 300;

/// A column and the statuses in it.
const COLUMNS: [(&str, &str, &[&str]); 5] = [
    ("Needs you", "needs", &["waiting_question", "waiting_approval", "parked", "failed"]),
    ("Works", "works", &["running", "handing_off"]),
    ("Waits", "waits", &["queued", "waiting_retry", "waiting_quota", "paused"]),
    ("Handed off", "good", &["handed_off"]),
    ("At rest", "quiet", &["idle", "completed", "canceled"]),
];

pub(super) async fn page(State(app): State<App>, Extension(caller): Extension<Caller>) -> Response {
    match gather(app, caller).await {
        Ok((state, issues)) => render(&state, &issues, caller).into_response(),
        Err(problem) => Sorry(problem, caller).into_response(),
    }
}

async fn gather(app: App, caller: Caller) -> Result<(api::State, api::IssueList), Problem> {
    let state = state::state(State(app.clone()), Extension(caller), Params::none()).await?.0;
    let issues = issues::list(State(app), Extension(caller), Params::none()).await?.0;
    Ok((state, issues))
}

fn render(state: &api::State, issues: &api::IssueList, caller: Caller) -> Page {
    let body = html! {
        h1.sr { "Board" }
        (trouble(state))
        section.strip aria-label="Summary" {
            (figure("needs you", state.counts.parked + state.counts.waiting, "needs"))
            (figure("at work", state.counts.running, "works"))
            (figure("waiting", state.counts.queued + state.counts.retrying + state.counts.paused, "waits"))
            (figure("issues", state.counts.total, "quiet"))
            div.figure { b { (grouped(state.totals.total_tokens)) } span { "tokens in all" } }
        }
        div.board {
            @for (title, tone, statuses) in COLUMNS {
                @let tiles: Vec<&api::Issue> = issues.issues.iter().filter(|issue| statuses.contains(&issue.status.as_str())).collect();
                section class={ "column " (tone) } aria-label=(title) {
                    h2 { (title) " " span.count { (tiles.len()) } }
                    ul {
                        @for issue in tiles.iter().take(TILES) { (tile(issue, state)) }
                    }
                    @if tiles.len() > TILES { p.more { "and " (tiles.len() - TILES) " more" } }
                    @if tiles.is_empty() { p.none { "nothing" } }
                }
            }
        }
    };
    Page { title: "Board".to_owned(), place: Place::Board, caller, head: Some(state.head.clone()), body }
}

fn figure(words: &str, number: u64, tone: &str) -> Markup {
    html! { div class={ "figure " (tone) } { b { (number) } span { (words) } } }
}

fn trouble(state: &api::State) -> Markup {
    html! {
        @if !state.ready { p.trouble role="alert" { "The daemon is recovering: it ends what was left running, and takes no work yet." } }
        @for (what, problem) in [("WORKFLOW.md cannot be used as it is", &state.workflow_error), ("The tracker cannot be read", &state.tracker_error)] {
            @if let Some(problem) = problem {
                p.trouble role="alert" {
                    (what) ": " code { (problem.code) }
                    @if let Some(message) = &problem.message { " " (message) }
                    @if let Some(hint) = &problem.hint { " " em { (hint) } }
                }
            }
        }
    }
}

fn tile(issue: &api::Issue, state: &api::State) -> Markup {
    let running = state.running.iter().find(|running| running.issue_identifier == issue.identifier);
    html! {
        li.tile id={ "issue-" (issue.id) } {
            a href={ "/issues/" (encoded(&issue.identifier)) } {
                span.id { (issue.identifier) }
                " " (badge(&issue.status))
                strong { (issue.title) }
            }
            @if let Some(question) = &issue.question { p.reason { (question.text) } }
            @else if let Some(reason) = &issue.reason { p.reason { (reason) } }
            @if let Some(running) = running {
                p.facts { (running.run.phase.replace('_', " ")) " · turn " (running.run.turn_count) " · " (grouped(running.run.tokens.total_tokens)) " tokens" }
                @if !running.run.last_message.is_empty() { p.said { (running.run.last_message) } }
            } @else {
                p.facts {
                    (issue.tracker_state)
                    @if let Some(due) = &issue.due_at { " · until " (moment(due)) }
                    @if issue.usage.total_tokens > 0 { " · " (tokens(&issue.usage)) }
                }
            }
        }
    }
}

/// A name as a segment of a path.
pub(super) fn encoded(name: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    name.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}
