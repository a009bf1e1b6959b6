//! `/events`: the newest facts of the journal.

use axum::extract::{Extension, State};
use axum::response::{IntoResponse, Response};
use dalsegno_api as api;
use dalsegno_api::Cursor;
use dalsegno_engine::{EventFilter, EventPage};
use maud::{Markup, html};

use super::board::encoded;
use super::parts::{moment, tone};
use super::{Page, Place, Sorry};
use crate::app::App;
use crate::convert;
use crate::guard::Caller;
use crate::problem::Problem;

/// Newest events of the journal among which a few kinds are sought.
pub(super) const WINDOW: u64 = 20_000;
/// Events of a kind that are read.
pub(super) const PAGE: usize = 500;
/// Events that the page shows.
const EVENTS: u64 = 200;

pub(super) async fn page(State(app): State<App>, Extension(caller): Extension<Caller>) -> Response {
    match gather(app, caller).await {
        Ok(page) => page.into_response(),
        Err(problem) => Sorry(problem, caller).into_response(),
    }
}

async fn gather(app: App, caller: Caller) -> Result<Page, Problem> {
    let (events, head) = app
        .read(move |reads| {
            let (oldest, head) = reads.bounds()?;
            let after = head.saturating_sub(EVENTS).max(oldest.saturating_sub(1));
            let limit = usize::try_from(EVENTS).unwrap_or(usize::MAX);
            let EventPage { events, through: _ } = reads.events(after, limit, &EventFilter::default())?;
            let journal = reads.journal_id();
            let events: Vec<api::Event> = events.into_iter().map(|row| convert::event(row, journal, caller)).collect();
            Ok((events, Cursor::event(journal, head).to_string()))
        })
        .await?;
    let newest_first: Vec<api::Event> = events.into_iter().rev().collect();
    let body = html! {
        h1 { "Events" }
        p.facts { "The newest " (newest_first.len()) ". All of them: " code { "dalsegno events -f" } "." }
        (timeline(&newest_first))
    };
    Ok(Page { title: "Events".to_owned(), place: Place::Events, caller, head: Some(head), body })
}

/// Events below each other, as they come.
pub(super) fn timeline(events: &[api::Event]) -> Markup {
    html! {
        ol.timeline {
            @for event in events {
                @let words = words(event);
                li id={ "event-" (event.seq) } class=(weight(&event.kind, words.as_deref())) {
                    (moment(&event.at))
                    span.what {
                        b { (event.kind.replace('_', " ")) }
                        @if let Some(issue) = &event.issue { " " a href={ "/issues/" (encoded(issue)) } { (issue) } }
                        @if let Some(run) = &event.run { " " a href={ "/runs/" (encoded(run)) } { (run) } }
                        @if let Some(words) = &words { " " span.reason { (words) } }
                        @if let Some(said) = said(event) { " " (said) }
                        @if let Some(action) = &event.action_id { " " code { (action) } }
                    }
                }
            }
        }
    }
}

/// Where what a check said is read, for whoever may.
fn said(event: &api::Event) -> Option<Markup> {
    let file = event.data.get("kept")?.get("file")?.as_str().filter(|_| !event.content_withheld)?;
    let href = format!("/runs/{}/files/{}", encoded(event.run.as_deref()?), encoded(file));
    Some(html! { a href=(href) { "what it said" } })
}

/// What an event asks of whoever looks, by its kind and its words; a run that ended, and readiness, are judged by how.
pub(super) fn weight(kind: &str, words: Option<&str>) -> &'static str {
    match kind {
        "run_ended" | "readiness" => tone(words.and_then(|words| words.split(':').next()).unwrap_or_default()),
        "parked" | "question_asked" | "effect_in_doubt" | "action_rejected" | "action_failed" | "workflow_rejected" => {
            "needs"
        }
        "run_started" | "turn_started" | "saga_started" | "daemon_started" => "works",
        "saga_ended" | "action_completed" | "released" | "question_answered" => "good",
        _ => "quiet",
    }
}

/// The part of a fact that says most in a line.
fn words(event: &api::Event) -> Option<String> {
    let data = &event.data;
    let text = |name: &str| data.get(name).and_then(serde_json::Value::as_str).map(str::to_owned);
    if let Some(counts) = data.get("counts").and_then(serde_json::Value::as_object) {
        let told: Vec<String> = counts.iter().map(|(code, count)| format!("{code}: {count}")).collect();
        return Some(told.join(", "));
    }
    let told = convert::message(&event.kind, data);
    told.or_else(|| ["question", "step", "key", "command", "state", "session"].into_iter().find_map(text))
}
