//! What several pages show in the same way.

use dalsegno_api as api;
use maud::{Markup, html};

use crate::guard::Caller;

/// What a status asks of whoever looks: the colour that goes with it, never alone but beside the word.
pub(super) fn tone(status: &str) -> &'static str {
    match status {
        "parked" | "failed" | "waiting_question" | "waiting_approval" => "needs",
        "running" | "handing_off" => "works",
        "queued" | "waiting_retry" | "waiting_quota" | "paused" => "waits",
        "handed_off" | "completed" | "done" => "good",
        _ => "quiet",
    }
}

pub(super) fn badge(status: &str) -> Markup {
    html! { span class={ "badge " (tone(status)) } { (status.replace('_', " ")) } }
}

/// A moment: exact for machines and on demand, short for people.
pub(super) fn moment(at: &str) -> Markup {
    let short: String = at.get(..19).unwrap_or(at).replace('T', " ");
    html! { time datetime=(at) title=(at) { (short) } }
}

pub(super) fn tokens(usage: &api::Usage) -> Markup {
    html! {
        span title="tokens in and out" { (grouped(usage.total_tokens)) " tokens" }
        @if let Some(cost) = usage.cost_usd { " · $" (format!("{cost:.2}")) }
    }
}

/// A number with its thousands apart.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            out.push('\u{202f}');
        }
        out.push(digit);
    }
    out
}

/// The steps of a handoff, in their order.
pub(super) fn handoff(handoff: &api::Handoff) -> Markup {
    html! {
        section.handoff {
            h2 { "Handoff" }
            p.facts {
                "commit " code { (handoff.commit.get(..12).unwrap_or(&handoff.commit)) }
                @if let Some(pull) = &handoff.pull_request { " · " a href=(web(&pull.url)) rel="noreferrer" { "pull request " (pull.number) } }
                @if let Some(why) = &handoff.turned_back { " · " span.badge.needs { "undone" } " " (why) }
            }
            ol.steps {
                @for step in &handoff.steps {
                    li class={ "step " (step_tone(&step.state)) } {
                        span.name { (step.step) }
                        span.state { (step.state.replace('_', " ")) }
                        @if step.failures > 0 { span.note { (step.failures) " failed tries" } }
                        @if let Some(due) = &step.due_at { span.note { "due " (moment(due)) } }
                        @if let Some(reason) = &step.reason { span.note { (reason) } }
                    }
                }
            }
        }
    }
}

fn step_tone(state: &str) -> &'static str {
    match state {
        "done" => "good",
        "parked" | "awaiting_approval" | "in_doubt" => "needs",
        "intended" | "undoing" => "works",
        "waiting" => "waits",
        _ => "quiet",
    }
}

/// Only what leads to the web is a link; anything else of a foreign text goes nowhere.
pub(super) fn web(url: &str) -> &str {
    if url.starts_with("https://") || url.starts_with("http://") { url } else { "#" }
}

/// A small form that sends one action.
pub(super) fn form(kind: &str, issue: &str, words: &str, fields: &Markup, danger: bool) -> Markup {
    html! {
        form.act method="post" action="/act" data-confirm=[danger.then_some(words)] {
            input type="hidden" name="kind" value=(kind);
            input type="hidden" name="issue" value=(issue);
            (fields)
            button type="submit" class=[danger.then_some("danger")] { (words) }
        }
    }
}

/// What can be done to an issue now, as far as the caller may.
pub(super) fn actions(issue: &api::Issue, caller: Caller) -> Markup {
    if caller.must_operate().is_err() {
        return html! {};
    }
    let can = |kind: &str| issue.allowed_actions.iter().any(|allowed| allowed == kind);
    let id = issue.identifier.as_str();
    let none = html! {};
    let text = |name: &str, label: &str, required: bool| {
        html! { label { span { (label) } textarea name=(name) rows="2" required[required] {} } }
    };
    html! {
        div.actions {
            @for (kind, words, danger) in [
                ("pause", "Pause", false), ("resume", "Resume", false), ("retry", "Retry", false),
                ("rehydrate", "Rehydrate", false), ("release", "Release", false), ("cancel", "Cancel", true),
            ] {
                @if can(kind) { (form(kind, id, words, &none, danger)) }
            }
        }
        @if can("steer") { (form("steer", id, "Tell the agent", &text("text", "Words for the agent", true), false)) }
        @if can("comment") {
            details {
                summary { "Comment, move, follow up" }
                (form("comment", id, "Comment", &text("body", "Comment on the issue", true), false))
                (form("transition_issue", id, "Move", &html! { label { span { "State of the tracker" } input name="state" required; } }, false))
                (form("create_followup", id, "Make an issue", &html! {
                    label { span { "Title of a new issue" } input name="title" required; }
                    (text("description", "Description", false))
                }, false))
            }
        }
    }
}

/// What waits for a person, to be answered in place.
pub(super) fn asked(issue: &api::Issue, caller: Caller) -> Markup {
    let may = caller.must_operate().is_ok();
    let can = |kind: &str| may && issue.allowed_actions.iter().any(|allowed| allowed == kind);
    let id = issue.identifier.as_str();
    let why = html! { label { span { "Why" } input name="why"; } };
    html! {
        @if let Some(question) = &issue.question {
            section.asked aria-label="Question" {
                h2 { "The agent asks" }
                blockquote { (question.text) }
                p.facts { "asked " (moment(&question.asked_at)) " · expires " (moment(&question.expires_at)) }
                @if can("answer") {
                    (form("answer", id, "Answer", &html! { label { span { "Answer" } textarea name="text" rows="2" required {} } }, false))
                }
            }
        }
        @if can("approve") {
            section.asked aria-label="Approval" {
                @if issue.question.is_none() { h2 { "The handoff waits for an approval" } }
                div.actions {
                    (form("approve", id, "Approve", &html! {}, false))
                    (form("deny", id, "Refuse", &why, true))
                }
            }
        }
    }
}
