//! What several pages show in the same way.

use dalsegno_api as api;
use maud::{Markup, html};

use crate::app::App;
use crate::guard::Caller;
use crate::problem::Problem;
use crate::routes::completion;

/// What a status asks of whoever looks: the colour that goes with it, never alone but beside the word.
pub(super) fn tone(status: &str) -> &'static str {
    match status {
        "parked" | "failed" | "recovering" | "blocked" | "block" | "waiting_question" | "waiting_approval" => "needs",
        "running" | "handing_off" => "works",
        "queued" | "interrupted" | "waiting_retry" | "waiting_quota" | "paused" | "degraded" | "ending" => "waits",
        "handed_off" | "completed" | "done" | "ready" => "good",
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

/// The time of day alone, for what follows each other closely.
pub(super) fn clock(at: &str) -> Markup {
    html! { time datetime=(at) title=(at) { (at.get(11..19).unwrap_or(at)) } }
}

pub(super) fn tokens(usage: &api::Usage) -> Markup {
    html! {
        span title="tokens in and out" { (grouped(usage.total_tokens)) " tokens" }
        @if let Some(cost) = usage.cost_usd { " · $" (format!("{cost:.2}")) }
    }
}

/// A number in three or four signs, for scales and headings.
pub(super) fn short(number: u64) -> String {
    let (unit, word) = match number {
        0..10_000 => return grouped(number),
        10_000..1_000_000 => (1_000, "k"),
        1_000_000..1_000_000_000 => (1_000_000, "M"),
        _ => (1_000_000_000, "G"),
    };
    let tenths = number / (unit / 10);
    if tenths >= 1_000 { format!("{}{word}", tenths / 10) } else { format!("{}.{}{word}", tenths / 10, tenths % 10) }
}

/// Bytes in three or four signs, in powers of 1,024.
pub(super) fn bytes(number: u64) -> String {
    let (unit, word) = match number {
        0..1_024 => return format!("{number} B"),
        1_024..1_048_576 => (1_024, "KiB"),
        1_048_576..1_073_741_824 => (1_048_576, "MiB"),
        _ => (1_073_741_824, "GiB"),
    };
    let (whole, tenth) = (number / unit, number % unit * 10 / unit);
    if whole >= 100 { format!("{} {word}", grouped(whole)) } else { format!("{whole}.{tenth} {word}") }
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

/// Only what leads to the web is a link; anything else of a foreign text goes nowhere.
pub(super) fn web(url: &str) -> &str {
    if url.starts_with("https://") || url.starts_with("http://") { url } else { "#" }
}

/// A small form that sends one action.
pub(super) fn form(kind: &str, issue: &str, words: &str, fields: &Markup, danger: bool) -> Markup {
    form_to(kind, Some(issue), None, words, fields, danger)
}

/// The same for an issue or, without one, the daemon; `back` leads to another page than the issue's or the daemon's.
pub(super) fn form_to(
    kind: &str,
    issue: Option<&str>,
    back: Option<&str>,
    words: &str,
    fields: &Markup,
    danger: bool,
) -> Markup {
    html! {
        form.act id={ "act-" (kind) "-" (issue.unwrap_or("daemon")) } method="post" action="/act" data-confirm=[danger.then_some(words)] {
            input type="hidden" name="kind" value=(kind);
            @if let Some(issue) = issue { input type="hidden" name="issue" value=(issue); }
            @if let Some(back) = back { input type="hidden" name="back" value=(back); }
            (fields)
            button type="submit" class=[danger.then_some("danger")] { (words) }
        }
    }
}

/// An action that led here: its receipt, and how it ended.
pub(super) struct Sent {
    receipt: dalsegno_core::Receipt,
    completion: Option<api::Completion>,
}

/// The action of this name, if it is remembered.
pub(super) async fn sent(app: &App, id: Option<String>) -> Result<Option<Sent>, Problem> {
    let Some(id) = id else { return Ok(None) };
    let found = app.ask(app.control.receipt(&id)).await?;
    Ok(found.map(|receipt| Sent { completion: completion(&receipt), receipt }))
}

/// What became of the action that led here.
pub(super) fn told(sent: Option<&Sent>) -> Markup {
    let Some(Sent { receipt, completion }) = sent else { return html! {} };
    let tone = match completion {
        None => "works",
        Some(completion) if completion.status == "completed" => "good",
        Some(_) => "needs",
    };
    html! {
        p #receipt class={ "receipt " (tone) } role="status" tabindex="-1" {
            b { (receipt.action_kind.replace('_', " ")) } " "
            @match completion {
                None => { "accepted, and being carried out" },
                Some(completion) => {
                    (completion.status) " " (moment(&completion.at))
                    @if let Some(result) = &completion.result { ": " (result) }
                    @if let Some(reason) = &completion.reason { ": " (reason) }
                },
            }
            " " code { (receipt.action_id) }
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
            details #more-actions {
                summary { "Comment, move, follow up, limit" }
                (form("comment", id, "Comment", &text("body", "Comment on the issue", true), false))
                (form("transition_issue", id, "Move", &html! { label { span { "State of the tracker" } input name="state" required; } }, false))
                (form("create_followup", id, "Make an issue", &html! {
                    label { span { "Title of a new issue" } input name="title" required; }
                    (text("description", "Description", false))
                }, false))
                @if can("set_budget") {
                    (form("set_budget", id, "Set limits", &html! {
                        div.row {
                            label { span { "Most tokens" } input name="tokens" type="number" min="0" step="1"; }
                            label { span { "Most US dollars" } input name="cost_usd" type="number" min="0" step="0.01"; }
                            label { span { "Most turns" } input name="turns" type="number" min="0" step="1"; }
                            label { span { "Most runs" } input name="runs" type="number" min="0" step="1"; }
                        }
                    }, false))
                }
            }
        }
    }
}

/// What waits for a person, to be answered in place.
///
/// On the board, `back` leads back there.
pub(super) fn asked(issue: &api::Issue, caller: Caller, back: Option<&str>) -> Markup {
    let may = caller.must_operate().is_ok();
    let can = |kind: &str| may && issue.allowed_actions.iter().any(|allowed| allowed == kind);
    let id = issue.identifier.as_str();
    let why = html! { label { span { "Why" } input name="why"; } };
    html! {
        @if let Some(question) = &issue.question {
            div.asked role="group" aria-label={ "Question of " (id) } {
                p.asks { "The agent asks" }
                blockquote { (question.text) }
                p.facts { "asked " (moment(&question.asked_at)) " · expires " (moment(&question.expires_at)) }
                @if can("answer") {
                    (form_to("answer", Some(id), back, "Answer", &html! { label { span { "Answer" } textarea name="text" rows="2" required {} } }, false))
                }
            }
        }
        @if can("approve") {
            div.asked role="group" aria-label={ "Approval for " (id) } {
                @if issue.question.is_none() { p.asks { "The handoff waits for an approval" } }
                div.actions {
                    (form_to("approve", Some(id), back, "Approve", &html! {}, false))
                    (form_to("deny", Some(id), back, "Refuse", &why, true))
                }
            }
        }
    }
}
