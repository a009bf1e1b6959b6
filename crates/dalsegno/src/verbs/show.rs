//! `dalsegno show`

use dalsegno_api::{HandoffStep, IssueDetail, Run, code};

use crate::error::CliError;
use crate::settings::{Settings, color};
use crate::text::{clean, clean_lines, clock, commit, count, lasted, painted, relative};
use crate::{out, reader};

/// Show one run or one issue
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Name of a run (`run-7`), or identifier or id of an issue (`DS-1`)
    #[arg(value_name = "RUN|ISSUE")]
    key: String,
}

/// Show one issue
#[derive(Debug, clap::Args)]
pub(crate) struct IssueArgs {
    /// Its identifier or id
    pub(crate) issue: String,
}

pub(crate) fn run(args: Args, settings: &Settings) -> Result<(), CliError> {
    match reader::open(&settings.state_dir)?.run(&args.key) {
        Ok(run) if settings.json => out::json(&run),
        Ok(run) => show_run(&run),
        Err(error) if error.code() == code::RUN_NOT_FOUND => return issue(&args.key, settings),
        Err(error) => return Err(error.into()),
    }
    Ok(())
}

pub(crate) fn issue(key: &str, settings: &Settings) -> Result<(), CliError> {
    let detail = reader::open(&settings.state_dir)?.issue(key).map_err(|error| match error.code() {
        code::ISSUE_NOT_FOUND => CliError::from(error).hint("`dalsegno issues` lists what there is"),
        _ => error.into(),
    })?;
    if settings.json {
        out::json(&detail);
    } else {
        show_issue(&detail);
    }
    Ok(())
}

/// Prints a name and a value, unless there is none.
fn field(name: &str, value: Option<&str>) {
    if let Some(value) = value.filter(|value| !value.is_empty()) {
        out::line(&format!("{name:<11}{}", clean(value)));
    }
}

fn show_issue(detail: &IssueDetail) {
    let issue = &detail.issue;
    out::line(&format!("{}  {}", clean(&issue.identifier), clean(&issue.title)));
    out::line(&format!("{:<11}{}", "status", painted(&issue.status, color())));
    field("why", issue.reason.as_deref());
    field("due", issue.due_at.as_deref().map(relative).as_deref());
    field("state", Some(&issue.tracker_state));
    field("labels", Some(&issue.labels.join(", ")));
    field("priority", issue.priority.map(|priority| priority.to_string()).as_deref());
    field("blocked by", Some(&detail.blocked_by.join(", ")));
    field("parent", detail.parent.as_deref());
    field("url", issue.url.as_deref());
    if let Some(workspace) = &issue.workspace {
        field("workspace", Some(&workspace.path));
        field("branch", workspace.branch.as_deref());
    }
    field("handed off", issue.handed_off_commit.as_deref().map(commit));
    let usage = issue.usage;
    field("tokens", Some(&format!("{} in, {} out", count(usage.input_tokens), count(usage.output_tokens))));
    if let Some(run) = &detail.last_run {
        out::line("");
        show_run(run);
    }
    if let Some(description) = &detail.description {
        out::line("");
        clean_lines(description).for_each(|line| out::line(&format!("  {line}")));
    }
    if !detail.recent_events.is_empty() {
        out::line("");
        for event in &detail.recent_events {
            let message = event.message.as_deref().unwrap_or("");
            out::line(format!("{}  {:<20} {}", clock(&event.at), clean(&event.event), clean(message)).trim_end());
        }
    }
}

fn show_run(run: &Run) {
    let outcome = run.outcome.as_deref().unwrap_or("running");
    out::line(&format!("{} of {}  {}", clean(&run.id), clean(&run.issue), painted(outcome, color())));
    field("phase", Some(&run.phase));
    field("why", run.reason.as_deref());
    field("evidence", run.evidence.as_deref());
    field("attempt", run.attempt.map(|attempt| attempt.to_string()).as_deref());
    field("session", run.session_id.as_deref());
    let turns = match run.cut_turns {
        0 => run.turns.to_string(),
        cut => format!("{}, {cut} of them cut by a restart", run.turns),
    };
    field("turns", Some(&turns));
    let usage = run.usage;
    field("tokens", Some(&format!("{} in, {} out", count(usage.input_tokens), count(usage.output_tokens))));
    field("started", Some(&relative(&run.started_at)));
    field("lasted", Some(&lasted(&run.started_at, run.ended_at.as_deref())));
    if let Some(handoff) = &run.handoff {
        field("handoff", Some(commit(&handoff.commit)));
        for HandoffStep { step, state, failures, due_at, reason } in &handoff.steps {
            let tried = if *failures > 0 { format!("failed {failures} times") } else { String::new() };
            let due = due_at.as_deref().map(relative).unwrap_or_default();
            let rest = [tried, due, reason.clone().unwrap_or_default()].join(" ");
            let line = format!("  {:<9}{} {}", clean(step), painted(state, color()), clean(rest.trim()));
            out::line(line.trim_end());
        }
    }
}
