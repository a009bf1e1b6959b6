//! `/runs/{id}`: one run, its handoff, its checks, its effects, and what its agent said.

use axum::extract::{Extension, State};
use axum::response::{IntoResponse, Response};
use dalsegno_api as api;
use maud::{Markup, html};

use super::board::encoded;
use super::parts::{badge, clock, moment, tokens};
use super::{Page, Place, Sorry, change, checks, saga};
use crate::app::App;
use crate::convert;
use crate::guard::Caller;
use crate::params::{Key, Params};
use crate::problem::Problem;
use crate::routes::{runs, state};

/// Characters of an intent or an outcome that a page shows; the API has all of it.
const SHOWN: usize = 4_000;
/// Entries of a transcript that a page shows: the newest.
const ENTRIES: usize = 400;
/// Entries that are read to find the newest; older ones are read over the API.
const READ: usize = 4_000;

pub(super) async fn page(State(app): State<App>, Extension(caller): Extension<Caller>, Key(key): Key) -> Response {
    match gather(app, caller, key).await {
        Ok(page) => page.into_response(),
        Err(problem) => Sorry(problem, caller).into_response(),
    }
}

async fn gather(app: App, caller: Caller, key: String) -> Result<Page, Problem> {
    let head = state::state(State(app.clone()), Extension(caller), Params::none()).await?.0.head;
    let run = runs::one(State(app.clone()), Extension(caller), Key(key.clone()), Params::none()).await?.0;
    let (said, effects) = if caller.reads() {
        let effects = runs::effects(State(app.clone()), Extension(caller), Key(key.clone()), Params::none()).await?.0;
        (transcript_of(&app, &key).await?, effects.effects)
    } else {
        (None, Vec::new())
    };
    let saga = saga::of(&app, run.handoff.as_ref(), caller).await;
    let changed = change::of_run(&app, caller, &key).await?;
    let checked = checks::of_run(&app, caller, &run.id).await?;
    let body = html! {
        article.run {
            p.crumb { a href="/" { "Board" } " / " a href={ "/issues/" (encoded(&run.issue)) } { (run.issue) } " / " (run.id) }
            h1 { (run.id) }
            p.facts {
                (badge(run.outcome.as_deref().unwrap_or(&run.phase)))
                " · " (run.turns) @if run.turns == 1 { " turn" } @else { " turns" }
                @if run.cut_turns > 0 { ", " (run.cut_turns) " cut" }
                " · " (tokens(&run.usage)) " · began " (moment(&run.started_at))
                @if let Some(ended) = &run.ended_at { " · ended " (moment(ended)) }
            }
            @if let Some(reason) = &run.reason { p.reason { (reason) } }
            @if let Some(evidence) = &run.evidence { p.facts { "evidence: " (evidence) } }
            @if let Some(found) = &run.handoff { (saga::diagram(found, saga.as_ref(), &run.issue, caller)) }
            (checks::table(&run.id, &checked))
            (change::change(changed.as_ref()))
            @if let Some(said) = &said { (transcript(said)) }
            (effects_table(&effects))
        }
    };
    Ok(Page { title: run.id, place: Place::Elsewhere, caller, head: Some(head), body })
}

/// The newest entries of a run's transcript.
pub(super) async fn transcript_of(app: &App, run: &str) -> Result<Option<api::TranscriptPage>, Problem> {
    let run = run.to_owned();
    app.read(move |reads| {
        let Some(found) = reads.run(&run)? else { return Ok(None) };
        let mut page = reads.transcript(found.id.as_str(), 0, READ)?;
        page.entries.drain(..page.entries.len().saturating_sub(ENTRIES));
        let entries = page.entries.into_iter().map(convert::transcript_entry).collect();
        Ok(Some(api::TranscriptPage { run: found.id.0, entries, next: String::new(), ended: found.ended_at.is_some() }))
    })
    .await
}

pub(super) fn transcript(page: &api::TranscriptPage) -> Markup {
    html! {
        section.transcript {
            h2 { "Transcript" }
            @if page.entries.is_empty() { p.none { "nothing was said yet" } }
            ol.entries tabindex="0" aria-label="Transcript" {
                @for entry in &page.entries {
                    li class={ "entry " (entry.kind) } {
                        span.who { (entry.kind) " " (clock(&entry.at)) }
                        pre { (entry.text) }
                    }
                }
            }
        }
    }
}

fn effects_table(effects: &[api::Effect]) -> Markup {
    html! {
        @if !effects.is_empty() {
            section {
                h2 { "Effects" }
                div.wide tabindex="0" { table.stack {
                    thead { tr { th { "Effect" } th { "How it is" } th { "Attempts" } th { "Doubts" } th { "Began" } } }
                    tbody {
                        @for effect in effects {
                            tr {
                                td.whole {
                                    (effect.key) " " span.reason { (effect.kind.replace('_', " ")) }
                                    @for (words, value) in [("intended", &effect.command), ("came to", &effect.output)] {
                                        @if let Some(value) = value { details { summary { (words) } pre.text { (shown(value)) } } }
                                    }
                                }
                                td { (effect.result.as_deref().unwrap_or(&effect.progress)) @if let Some(error) = &effect.error { " " code { (error.code) } " " span.reason { (error.message) } } }
                                td.number data-of="attempts" { (effect.attempts) }
                                td.number data-of="doubts" { (effect.doubts) }
                                td { (moment(&effect.began_at)) }
                            }
                        }
                    }
                } }
            }
        }
    }
}

/// A value for people, at most so long.
fn shown(value: &serde_json::Value) -> String {
    let text = serde_json::to_string_pretty(value).unwrap_or_default();
    text.chars().take(SHOWN).collect()
}
