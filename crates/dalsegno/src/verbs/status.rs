//! `dalsegno status`

use dalsegno_api::{Daemon, Problem, RunningIssue, State, WaitingIssue};

use crate::error::CliError;
use crate::settings::{Settings, color};
use crate::text::{Table, clean, count, lasted, relative, short, span};
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
    problem("WORKFLOW.md is broken, and the last good one in force", state.workflow_error.as_ref());
    problem("the tracker cannot be read", state.tracker_error.as_ref());
    running(&state.running);
    waiting("needs you", &state.parked);
    waiting("has a question", &state.waiting);
    waiting("tries again", &state.retrying);
    waiting("is paused", &state.paused);
    waiting("waits for a slot", &state.queued);
    if state.counts.total == 0 {
        out::line("\nNo issues yet. Is the tracker empty, or are all issues in other states than the active ones?");
    }
    Ok(())
}

fn head(daemon: Option<&Daemon>, state: &State) {
    match daemon {
        Some(Daemon { pid, url, started_at, version }) => out::line(&format!(
            "dalsegno {} at {}, pid {pid}, up for {}",
            clean(version),
            clean(url),
            lasted(started_at, None)
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

fn running(issues: &[RunningIssue]) {
    if issues.is_empty() {
        return;
    }
    let mut table = Table::new(&["ISSUE", "STATUS", "RUN", "PHASE", "TURN", "TOKENS", "FOR", "TITLE"]);
    for issue in issues {
        let run = &issue.run;
        let (turn, tokens) = (run.turn_count.to_string(), count(run.tokens.total_tokens));
        let lasted = lasted(&run.started_at, None);
        let title = short(&issue.title, 50);
        table.row([&issue.issue_identifier, &issue.status, &run.run, &run.phase, &turn, &tokens, &lasted, &title]);
    }
    out::line("");
    table.lines(color()).iter().for_each(|line| out::line(line));
}

fn waiting(what: &str, issues: &[WaitingIssue]) {
    if issues.is_empty() {
        return;
    }
    let mut table = Table::new(&["ISSUE", "STATUS", "DUE", "WHY", "TITLE"]);
    for issue in issues {
        let due = issue.due_at.as_deref().map(relative).unwrap_or_default();
        let why = short(issue.error.as_deref().unwrap_or(""), 60);
        table.row([&issue.issue_identifier, &issue.status, &due, &why, &short(&issue.title, 50)]);
    }
    out::line(&format!("\n{what}:"));
    table.lines(color()).iter().for_each(|line| out::line(line));
}
