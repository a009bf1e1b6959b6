//! `dalsegno status`

use dalsegno_api::{Daemon, Problem, RunningIssue, State, WaitingIssue};

use crate::error::CliError;
use crate::settings::{Settings, color};
use crate::text::{Table, bold, clean, columns, count, lasted, painted, relative, short, span, wrapped};
use crate::{out, reader};

/// Show what runs, what waits and why, and what needs you
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(crate) fn run(Args {}: Args, settings: &Settings) -> Result<(), CliError> {
    let (client, daemon) = reader::find(&settings.state_dir)?;
    let state = client.state()?;
    if settings.json {
        out::json(&state);
        return Ok(());
    }
    head(daemon.as_ref(), &state);
    problem(
        "WORKFLOW.md is broken; the last good one is in force, and nothing new starts",
        state.workflow_error.as_ref(),
    );
    problem("the tracker cannot be read", state.tracker_error.as_ref());
    needs_you(&state);
    match state.counts.by_status.get("handed_off").copied().unwrap_or_default() {
        0 => {}
        1 => out::line("\nOne branch is handed over, for you to review: `dalsegno issues --state handed_off`"),
        more => {
            out::line(&format!(
                "\n{more} branches are handed over, for you to review: `dalsegno issues --state handed_off`"
            ));
        }
    }
    running(&state.running);
    waiting("Tries again", &state.retrying);
    waiting("Paused", &state.paused);
    waiting("Waits for a slot", &state.queued);
    if state.counts.total == 0 {
        out::line("\nNo issues yet. `dalsegno issue new \"…\"` writes one for the local tracker.");
    } else if quiet(&state) {
        out::line("\nNothing runs, and nothing waits. `dalsegno issues` lists all.");
    }
    Ok(())
}

fn head(daemon: Option<&Daemon>, state: &State) {
    match daemon {
        Some(Daemon { pid, url, started_at, version }) => out::line(&format!(
            "dalsegno {} is up for {} (pid {pid}); its API is at {}/api/v1/state",
            clean(version),
            lasted(started_at, None),
            clean(url),
        )),
        None => out::line("No daemon runs. This is how the last one left things; start one with `dalsegno run`."),
    }
    let statuses = state.counts.by_status.iter().filter(|(_, number)| **number > 0);
    let statuses: Vec<String> = statuses.map(|(status, number)| format!("{number} {}", clean(status))).collect();
    if !statuses.is_empty() {
        out::line(&statuses.join(" · "));
    }
    let totals = state.totals;
    #[allow(clippy::cast_possible_truncation, reason = "whole seconds for people")]
    let seconds = totals.seconds_running as i64;
    let (input, output) = (count(totals.input_tokens), count(totals.output_tokens));
    out::line(&format!("{input} tokens in, {output} out, {} of runs", span(seconds)));
}

fn problem(what: &str, problem: Option<&Problem>) {
    let Some(Problem { code, message, hint }) = problem else { return };
    out::line(&format!("\n{what}: {}", clean(code)));
    for text in [message, hint].into_iter().flatten() {
        out::line(&format!("  {}", clean(text)));
    }
}

fn quiet(state: &State) -> bool {
    let lists = [&state.parked, &state.waiting, &state.retrying, &state.paused, &state.queued];
    state.running.is_empty() && lists.iter().all(|list| list.is_empty())
}

/// What nobody but a person can do, first and in full.
fn needs_you(state: &State) {
    let (asking, parked) = (state.waiting.iter(), state.parked.iter());
    if state.waiting.is_empty() && state.parked.is_empty() {
        return;
    }
    out::line(&format!("\n{}", bold("Needs you", color())));
    for issue in asking.chain(parked) {
        let (name, title) = (clean(&issue.issue_identifier), short(&clean(&issue.title), 60));
        out::line(&format!("  {name}  {}  {title}", painted(&issue.status, color())));
        let why = issue.error.as_deref().unwrap_or("no reason is known");
        for line in wrapped(&clean(why), columns().saturating_sub(6), 4) {
            out::line(&format!("      {line}"));
        }
        out::line(&format!("      → `dalsegno show {name}` and `dalsegno logs {name}` tell what happened"));
        out::line(&format!("      → {}", way_out(&name, &issue.status, why)));
    }
}

/// What lets an issue run again, by the code of its reason.
fn way_out(name: &str, status: &str, why: &str) -> String {
    let change = "change its state, labels or description in the tracker";
    match (status, why.split(':').next().unwrap_or_default()) {
        ("parked", "budget_exceeded") => format!(
            "raise the limit (`dalsegno budget {name}` shows it); if it is the day's, `dalsegno release {name}` tomorrow will do"
        ),
        ("parked", code) if code.starts_with("breaker_") => {
            format!(
                "`dalsegno release {name}`, and it runs again; a change in the tracker counts only after the cooldown"
            )
        }
        ("parked", "handoff_step_failed") => {
            format!("`dalsegno settle {name} STEP VERB` says how the step goes on, and the handoff follows")
        }
        ("parked", "handoff_in_doubt") => format!("`dalsegno release {name}`, and the handoff is taken up again"),
        ("waiting_approval", _) => format!("`dalsegno approve {name}` or `dalsegno deny {name}`"),
        ("parked", _) => format!("{change}, or `dalsegno release {name}`, and it runs again"),
        _ => format!("{change}, and it runs again"),
    }
}

fn running(issues: &[RunningIssue]) {
    if issues.is_empty() {
        return;
    }
    let mut table = Table::new(&["ISSUE", "STATUS", "RUN", "PHASE", "TURN", "TOKENS", "FOR", "LAST SIGN", "TITLE"]);
    for issue in issues {
        let run = &issue.run;
        let (turn, tokens) = (run.turn_count.to_string(), count(run.tokens.total_tokens));
        let lasted = lasted(&run.started_at, None);
        let sign = run.last_event_at.as_deref().map(relative).unwrap_or_default();
        let title = short(&issue.title, 50);
        let cells = [&issue.issue_identifier, &issue.status, &run.run, &run.phase, &turn, &tokens, &lasted, &sign];
        let [name, status, run, phase, turn, tokens, lasted, sign] = cells.map(String::as_str);
        table.row([name, status, run, phase, turn, tokens, lasted, sign, &title]);
    }
    print("Runs", &table);
}

fn waiting(what: &str, issues: &[WaitingIssue]) {
    if issues.is_empty() {
        return;
    }
    let mut table = Table::new(&["ISSUE", "STATUS", "DUE", "TITLE", "WHY"]);
    for issue in issues {
        let due = issue.due_at.as_deref().map(relative).unwrap_or_default();
        let due = if due.ends_with(" ago") { "now" } else { &due };
        let why = issue.error.as_deref().unwrap_or("");
        table.row([&issue.issue_identifier, &issue.status, due, &short(&issue.title, 40), why]);
    }
    print(what, &table);
}

fn print(what: &str, table: &Table) {
    out::line(&format!("\n{}", bold(what, color())));
    table.lines(color()).iter().for_each(|line| out::line(&format!("  {line}")));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_out_follows_what_stopped_an_issue() {
        for (status, why, words) in [
            ("parked", "budget_exceeded: 1280 of 1000 tokens", "`dalsegno budget DS-1`"),
            ("parked", "breaker_same_failure: 3 runs", "`dalsegno release DS-1`, and it runs again"),
            ("parked", "hook_failed: it fell", "or `dalsegno release DS-1`, and it runs again"),
            ("parked", "handoff_step_failed: comment: no", "`dalsegno settle DS-1 STEP VERB`"),
            ("parked", "handoff_in_doubt: the disk", "`dalsegno release DS-1`, and the handoff"),
            ("waiting_approval", "its handoff waits for an approval", "`dalsegno approve DS-1`"),
            ("parked", "no reason is known", "change its state"),
            ("waiting_question", "which one?", "change its state"),
        ] {
            assert!(way_out("DS-1", status, why).contains(words), "{why}");
        }
        assert!(!way_out("DS-1", "waiting_question", "x").contains("release"), "only what is parked is released");
    }
}
