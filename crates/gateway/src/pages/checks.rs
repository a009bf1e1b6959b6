//! The checks of a run, as a part of its page and of its issue's: how each ended, with a link to what it said.

use dalsegno_api as api;
use dalsegno_api::Check;
use dalsegno_engine::EventFilter;
use maud::{Markup, html};

use super::board::encoded;
use super::parts::{bytes, moment};
use crate::app::App;
use crate::convert;
use crate::guard::Caller;
use crate::problem::Problem;
use crate::routes::files;

/// Checks that a page shows: the newest.
const SHOWN: usize = 40;
/// Events of checks that one look reads.
const PAGE: usize = 1_000;
/// Looks for events of a run.
const LOOKS: usize = 10;

/// The checks of a run, oldest first, for whoever may read what they said.
///
/// # Errors
/// When there is no such run, or the store cannot be read.
pub(super) async fn of_run(app: &App, caller: Caller, run: &str) -> Result<Vec<Check>, Problem> {
    if !caller.reads() {
        return Ok(Vec::new());
    }
    let key = run.to_owned();
    let found = app
        .read(move |reads| {
            let filter = EventFilter { issue: None, run: Some(key.clone()), kind: Some("check_ended".to_owned()) };
            let (oldest, head) = reads.bounds()?;
            let (mut events, mut after): (Vec<api::Event>, u64) = (Vec::new(), oldest.saturating_sub(1));
            for _ in 0..LOOKS {
                let page = reads.events(after, PAGE, &filter)?;
                let journal = reads.journal_id();
                events.extend(page.events.into_iter().map(|row| convert::event(row, journal, caller)));
                after = page.through;
                if after >= head {
                    break;
                }
            }
            // After the events: what one of them tells of is there by now.
            Ok(files::kept(reads, &key)?.map(|files| Check::of_run(&events, files)))
        })
        .await?;
    found.ok_or_else(|| Problem::run_not_found(run))
}

pub(super) fn table(run: &str, checks: &[Check]) -> Markup {
    html! {
        @if !checks.is_empty() {
            section.checks {
                h2 { "Checks" }
                div.wide tabindex="0" { table.stack {
                    thead { tr { th { "Check" } th { "How it ended" } th { "Commit" } th { "When" } th { "What it said" } } }
                    tbody {
                        @for check in checks.iter().rev().take(SHOWN) {
                            tr id={ "check-" (check.number) } {
                                td.whole { (check.number) " " code { (check.title()) } }
                                td { (verdict(check)) }
                                td { @if let Some(commit) = &check.commit { code { (short(commit)) } } }
                                td { @if let Some(at) = &check.at { (moment(at)) } }
                                td { (said(run, check)) }
                            }
                        }
                    }
                } }
                @if checks.len() > SHOWN {
                    p.more { "The newest " (SHOWN) " of " (checks.len()) ". All of them: " code { "dalsegno checks " (run) } "." }
                }
            }
        }
    }
}

/// How a check ended. One that failed asks for nobody: its agent gets another turn.
pub(super) fn verdict(check: &Check) -> Markup {
    match check.passed {
        Some(true) => html! { span.badge.good { "passed" } },
        Some(false) => html! { span.badge.waits { "failed" } },
        None => {
            html! { span.badge title="it was cut with the daemon, or is older than the events that are kept" { "not told" } }
        }
    }
}

/// So much of a commit as people read.
pub(super) fn short(commit: &str) -> &str {
    commit.get(..12).unwrap_or(commit)
}

fn said(run: &str, check: &Check) -> Markup {
    let Some(file) = &check.said else { return html! { span.reason { "nothing is kept" } } };
    html! {
        a href={ "/runs/" (encoded(run)) "/files/" (encoded(&file.file)) } { "What check " (check.number) " said" }
        " " span.reason { @if file.lost.is_some() { "lost" } @else { (bytes(file.bytes)) } }
    }
}
