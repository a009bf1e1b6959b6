//! What a run changed, as a part of its page and of its issue's: file by file, each closed until somebody opens it.

use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use dalsegno_api as api;
use maud::{Markup, html};

use super::board::encoded;
use super::parts::moment;
use crate::app::App;
use crate::guard::Caller;
use crate::looks::Looked;
use crate::problem::Problem;
use crate::routes::changes;

/// What a page shows is at most so old: pages ask again by themselves.
const AGE: Duration = Duration::from_secs(10);
/// So long a page waits for a look; then it says that it is under way, and has it the next time.
const WAIT: Duration = Duration::from_millis(1_500);
/// Lines of patches on one page.
const MAX_LINES: usize = 5_000;
/// Lines of one file.
const MAX_FILE_LINES: usize = 1_000;

/// The change of a run, as far as the caller may see it.
///
/// # Errors
/// None but that the run is unknown: what cannot be looked at is said on the page.
pub(super) async fn of_run(app: &App, caller: Caller, run: &str) -> Result<Option<Looked>, Problem> {
    if !caller.reads() {
        return Ok(None);
    }
    match changes::look(app, caller, run, AGE, WAIT).await {
        Err(problem) if problem.status() == StatusCode::NOT_FOUND => Err(problem),
        looked => Ok(Some(looked)),
    }
}

pub(super) fn change(looked: Option<&Looked>) -> Markup {
    html! {
        @match looked {
            None => {},
            Some(Err(problem)) => section.change {
                h2 { "Changes" }
                p.none { (problem.detail().message) " " code { (problem.detail().code) } }
            },
            Some(Ok(diff)) => (shown(diff)),
        }
    }
}

fn shown(diff: &Arc<api::RunDiff>) -> Markup {
    let mut room = MAX_LINES;
    let what =
        if diff.source == "workspace" { "the workspace, with what is not committed" } else { "what was handed over" };
    html! {
        section.change {
            h2 { "Changes" }
            p.facts {
                @if diff.total_files == 0 { "nothing is changed" } @else {
                    (diff.total_files) @if diff.total_files == 1 { " file " } @else { " files " }
                    (lines(Some(diff.additions), Some(diff.deletions)))
                }
                " · " (what)
                @if let Some(base) = &diff.base { " · against " code { (base.get(..12).unwrap_or(base)) } }
                " · as of " (moment(&diff.taken_at))
            }
            @for file in &diff.files { (of_file(file, &mut room)) }
            @if diff.truncated {
                p.more { "Not all of it is here. " a href={ "/api/v1/runs/" (encoded(&diff.run)) "/diff" } { "As JSON" } " there is what was looked at, in the workspace itself the rest." }
            }
        }
    }
}

fn of_file(file: &api::FileDiff, room: &mut usize) -> Markup {
    let title = html! {
        span.status { (file.status.replace('_', " ")) } " "
        @if let Some(old) = &file.old_path { code { (old) } " → " }
        code { (file.path) } " " (lines(file.additions, file.deletions))
        @if file.binary { " not text" }
    };
    let Some(patch) = &file.patch else {
        return html! { p.file { (title) @if file.truncated { " · too large to be shown" } } };
    };
    // What stands before the first hunk says in git's words what the title says.
    let mut all = patch.lines().skip_while(|line| !line.starts_with("@@"));
    let most = MAX_FILE_LINES.min(*room);
    let shown: Vec<&str> = all.by_ref().take(most).collect();
    *room -= shown.len();
    let cut = file.truncated || all.next().is_some();
    if shown.is_empty() {
        return html! { p.file { (title) @if cut { " · not shown here" } } };
    }
    html! {
        details.file id={ "change-" (anchor(&file.path)) } {
            summary { (title) }
            pre.patch tabindex="0" { @for line in &shown { span class=(tone(line)) { (line) "\n" } } }
            @if cut { p.more { "not all of it is shown" } }
        }
    }
}

/// By this the page finds the same file again when it changes in place.
fn anchor(path: &str) -> String {
    path.replace(char::is_whitespace, "_")
}

fn lines(additions: Option<u64>, deletions: Option<u64>) -> Markup {
    html! {
        @if let Some(added) = additions { ins { "+" (added) } " " }
        @if let Some(deleted) = deletions { del { "−" (deleted) } }
    }
}

/// The colour of a line, beside the sign that it begins with.
fn tone(line: &str) -> &'static str {
    match line.as_bytes().first() {
        Some(b'+') => "add",
        Some(b'-') => "del",
        Some(b'@') => "hunk",
        Some(_) | None => "same",
    }
}
