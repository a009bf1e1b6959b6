//! A handoff as a diagram: its steps in their order, the pivot between them, and what can be said of those that are parked.

use axum::extract::{Extension, State};
use dalsegno_api as api;
use maud::{Markup, html};

use super::parts::{form_to, moment, web};
use crate::app::App;
use crate::guard::Caller;
use crate::params::{Key, Params};
use crate::routes::sagas;

/// The saga of a handoff, for whoever may read it.
pub(super) async fn of(app: &App, handoff: Option<&api::Handoff>, caller: Caller) -> Option<api::Saga> {
    let id = handoff?.saga.clone()?;
    // Where it is not kept any more, the handoff is shown as its run knows it.
    sagas::one(State(app.clone()), Extension(caller), Key(id), Params::none()).await.ok().map(|found| found.0)
}

/// The steps of a handoff.
pub(super) fn diagram(handoff: &api::Handoff, saga: Option<&api::Saga>, issue: &str, caller: Caller) -> Markup {
    let of_step = |name: &str| saga.and_then(|saga| saga.steps.iter().find(|step| step.name == name));
    html! {
        section.handoff {
            h2 { "Handoff" }
            p.facts {
                @if let Some(saga) = saga { (saga.state) " · " }
                "commit " code { (handoff.commit.get(..12).unwrap_or(&handoff.commit)) }
                @if let Some(pull) = &handoff.pull_request { " · " a href=(web(&pull.url)) rel="noreferrer" { "pull request " (pull.number) } }
                @if let Some(why) = &handoff.turned_back { " · " span.badge.needs { "undone" } " " (why) }
            }
            ol.steps {
                @for step in &handoff.steps {
                    @let more = of_step(&step.step);
                    li class={ "step " (tone(&step.state)) } {
                        span.mark aria-hidden="true" { (mark(&step.state)) }
                        span.name { (step.step) }
                        span.state { (step.state.replace('_', " ")) }
                        @if let Some(more) = more {
                            span.note { (kind(&more.kind)) @if more.attempts > 1 { ", " (more.attempts) " attempts" } @if more.undo_attempts > 0 { ", " (more.undo_attempts) " undone" } }
                            @if let Some(found) = &more.probe { span.note { "a probe found: " (found.replace('_', " ")) } }
                        }
                        @if step.failures > 0 { span.note { (step.failures) " failed tries" } }
                        @if let Some(due) = &step.due_at { span.note { "due " (moment(due)) } }
                        @if let Some(reason) = &step.reason { span.note { (reason) } }
                    }
                }
            }
            @if caller.must_operate().is_ok() {
                @for step in saga.iter().flat_map(|saga| &saga.steps).filter(|step| step.state == "parked" && !step.verbs.is_empty()) {
                    (settlement(step, issue))
                }
            }
        }
    }
}

fn settlement(step: &api::SagaStep, issue: &str) -> Markup {
    html! {
        div.asked role="group" aria-label={ "How the step " (step.name) " goes on" } {
            p.asks { "The step " b { (step.name) } " is parked: what became of it?" }
            @if let Some(failure) = &step.failure { p.reason { code { (failure.code) } " " (failure.message) } }
            (form_to("settle", Some(issue), None, "Settle", &html! {
                input type="hidden" name="step" value=(step.name);
                label { span { "What is the case" } select name="verb" { @for verb in &step.verbs { option value=(verb) { (meaning(verb)) } } } }
                label { span { "Why" } input name="why"; }
            }, false))
        }
    }
}

fn meaning(verb: &str) -> &str {
    match verb {
        "applied" => "applied: it was done",
        "not_applied" => "not applied: it was not done",
        "retry" => "retry: try it again",
        "undone" => "undone: it was taken back",
        "skip" => "skip: leave it as it is",
        other => other,
    }
}

fn kind(kind: &str) -> &str {
    match kind {
        "read" => "only looks",
        "compensatable" => "can be undone",
        "pivot" => "pivot: from here on only forward",
        "retriable" => "tried until it is done",
        other => other,
    }
}

fn tone(state: &str) -> &'static str {
    match state {
        "done" => "good",
        "parked" | "awaiting_approval" | "in_doubt" => "needs",
        "intended" | "undoing" | "doing" => "works",
        "waiting" | "resting" => "waits",
        _ => "quiet",
    }
}

/// A sign beside the word, so that the colour is never alone.
fn mark(state: &str) -> &'static str {
    match state {
        "done" => "✓",
        "parked" | "awaiting_approval" => "!",
        "in_doubt" => "?",
        "intended" | "doing" => "▸",
        "undoing" | "undone" => "↶",
        "waiting" | "resting" => "…",
        "skipped" | "not_applied" => "–",
        _ => "·",
    }
}
