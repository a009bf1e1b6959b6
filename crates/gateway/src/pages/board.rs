//! `/`: what runs, what waits and why, what needs somebody, what it costs.

use axum::extract::{Extension, State};
use axum::response::{IntoResponse, Response};
use dalsegno_api as api;
use maud::{Markup, html};

use super::parts::{Sent, asked, badge, form_to, grouped, moment, sent, short, tokens, told};
use super::{Page, Place, Sorry};
use crate::app::App;
use crate::guard::Caller;
use crate::params::Params;
use crate::problem::Problem;
use crate::routes::{issues, state};

/// Issues of a column; the rest is counted.
const TILES: usize = 60;
/// The same, where one column is shown alone.
const TILES_ALONE: usize = 1_000;
/// Questions and approvals that can be answered in place.
const ANSWERED: usize = 12;

/// A column and the statuses in it.
const COLUMNS: [(&str, &str, &[&str]); 5] = [
    ("Needs you", "needs", &["waiting_question", "waiting_approval", "parked", "failed"]),
    ("Works", "works", &["running", "handing_off"]),
    ("Waits", "waits", &["queued", "waiting_retry", "waiting_quota", "paused"]),
    ("Handed off", "good", &["handed_off"]),
    ("At rest", "quiet", &["idle", "completed", "canceled"]),
];

/// What of the board is wanted.
struct Wanted {
    /// Words that an issue has in its name, title or labels.
    find: Option<String>,
    /// One column alone.
    only: Option<String>,
}

pub(super) async fn page(State(app): State<App>, Extension(caller): Extension<Caller>, mut params: Params) -> Response {
    let mut word = |name| params.word(name).ok().flatten();
    let (wanted, receipt) = (Wanted { find: word("find"), only: word("only") }, word("receipt"));
    match gather(app, caller, receipt).await {
        Ok((state, issues, receipt)) => render(&state, issues, receipt.as_ref(), &wanted, caller).into_response(),
        Err(problem) => Sorry(problem, caller).into_response(),
    }
}

async fn gather(
    app: App,
    caller: Caller,
    receipt: Option<String>,
) -> Result<(api::State, Vec<api::Issue>, Option<Sent>), Problem> {
    let state = state::state(State(app.clone()), Extension(caller), Params::none()).await?.0;
    let issues = issues::list(State(app.clone()), Extension(caller), Params::none()).await?.0;
    Ok((state, issues.issues, sent(&app, receipt).await?))
}

fn render(
    state: &api::State,
    mut issues: Vec<api::Issue>,
    receipt: Option<&Sent>,
    wanted: &Wanted,
    caller: Caller,
) -> Page {
    let cost: f64 = issues.iter().filter_map(|issue| issue.usage.cost_usd).sum();
    let find = wanted.find.as_deref().unwrap_or_default().to_lowercase();
    issues.retain(|issue| {
        let has = |text: &str| text.to_lowercase().contains(&find);
        has(&issue.identifier) || has(&issue.title) || issue.labels.iter().any(|label| has(label))
    });
    let columns = || COLUMNS.into_iter().filter(|(_, tone, _)| wanted.only.as_deref().is_none_or(|only| only == *tone));
    let shown = |statuses: &[&str], issue: &api::Issue| statuses.contains(&issue.status.as_str());
    let found = issues.iter().filter(|issue| columns().any(|(_, _, statuses)| shown(statuses, issue))).count();
    let body = html! {
        h1.sr { "Board" }
        (told(receipt))
        (trouble(state))
        div.head {
            section.strip aria-label="Summary" {
                (figure("need you", state.counts.parked + state.counts.waiting + state.counts.by_status.get("failed").unwrap_or(&0), "needs"))
                (figure("at work", state.counts.running, "works"))
                (figure("waiting", state.counts.queued + state.counts.retrying + state.counts.paused, "waits"))
                (figure("issues", state.counts.total, "quiet"))
                div.figure { b { a href="/usage" { (short(state.totals.total_tokens)) } } span { "tokens" } }
                @if cost > 0.0 { div.figure { b { a href="/usage" { "$" (format!("{cost:.2}")) } } span { "as far as prices are known" } } }
            }
            search { form.find method="get" action="/" {
                label { span.sr { "Find issues" } input #find name="find" type="search" placeholder="Find issues" value=(wanted.find.as_deref().unwrap_or_default()) aria-keyshortcuts="/"; }
            } }
        }
        @if wanted.only.is_some() || wanted.find.is_some() {
            p.facts { (found) @if found == 1 { " issue found. " } @else { " issues found. " } a href="/" { "Show the whole board" } }
        }
        div class={ "board" @if wanted.only.is_some() { " alone" } } {
            @for (title, tone, statuses) in columns() {
                @let tiles: Vec<&api::Issue> = issues.iter().filter(|issue| shown(statuses, issue)).collect();
                @let most = if wanted.only.is_some() { TILES_ALONE } else { TILES };
                section class={ "column " (tone) @if tiles.is_empty() { " empty" } } aria-label=(title) {
                    h2 { (title) " " span.count { (tiles.len()) } }
                    ul {
                        @for (place, issue) in tiles.iter().take(most).enumerate() {
                            (tile(issue, state, (place < ANSWERED && tone == "needs").then_some(caller)))
                        }
                    }
                    @if tiles.len() > most { p.more { a href={ "/?only=" (tone) } { "and " (tiles.len() - most) " more" } } }
                    @if tiles.is_empty() { p.none { (nothing(tone)) } }
                }
            }
        }
    };
    Page { title: "Board".to_owned(), place: Place::Board, caller, head: Some(state.head.clone()), body }
}

/// What an empty column means.
fn nothing(tone: &str) -> &'static str {
    match tone {
        "needs" => "Nothing needs you.",
        "works" => "Nothing runs.",
        "waits" => "Nothing waits.",
        "good" => "Nothing was handed off yet.",
        _ => "Nothing is at rest.",
    }
}

fn figure(words: &str, number: u64, tone: &str) -> Markup {
    html! { div class={ "figure " (tone) } { b { (number) } span { (words) } } }
}

pub(super) fn trouble(state: &api::State) -> Markup {
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

fn tile(issue: &api::Issue, state: &api::State, answers: Option<Caller>) -> Markup {
    let running = state.running.iter().find(|running| running.issue_identifier == issue.identifier);
    html! {
        li.tile id={ "issue-" (issue.id) } {
            a href={ "/issues/" (encoded(&issue.identifier)) } {
                span.id { (issue.identifier) }
                " " (badge(&issue.status))
                strong { (issue.title) }
            }
            @if let Some(question) = issue.question.as_ref().filter(|_| answers.is_none()) { p.reason { (question.text) } }
            @else if let Some(reason) = issue.reason.as_ref().filter(|_| issue.question.is_none()) { p.reason { (reason) } }
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
            @if let Some(caller) = answers {
                (asked(issue, caller, Some("board")))
                @if caller.must_operate().is_ok() && issue.allowed_actions.iter().any(|kind| kind == "release") {
                    div.actions { (form_to("release", Some(&issue.identifier), Some("board"), "Release", &html! {}, false)) }
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
