//! What came of the demo, looked up in the world: the remote, the issues' files, the journal.

use std::path::Path;
use std::process::{Command, Stdio};

use dalsegno_api::Event;

use super::project::{ISSUES, Project, git};
use super::watch::Watched;
use crate::error::CliError;
use crate::out;
use crate::settings::color;
use crate::story::Tone;
use crate::text::Table;

/// Checks everything that was promised, and prints it.
pub(super) fn report(project: &Project, watched: &Watched) -> Result<(), CliError> {
    let mut wrong: Vec<String> = Vec::new();
    out::line("");
    let mut table = Table::new(&["ISSUE", "BRANCH", "COMMIT", "./test", "PUSHES", "COMMENTS", "TURNS"]);
    for (identifier, _, _) in ISSUES {
        let branch = format!("dalsegno/{identifier}");
        let commit = git(&project.remote(), &["rev-parse", "--verify", "--quiet", &format!("refs/heads/{branch}")]);
        let commit = commit.map(|text| text.trim().to_owned()).unwrap_or_default();
        let passes = !commit.is_empty() && test_passes(project, &branch)?;
        let pushes = steps_done(&watched.events, identifier, "push");
        let comments = comments(&project.issue_file(identifier));
        let turns = count(&watched.events, identifier, "turn_started");
        let verdict = if passes { "passes" } else { "FAILS" };
        let short = commit.get(..8).unwrap_or("none");
        let (pushed, commented, turned) = (pushes.to_string(), comments.to_string(), turns.to_string());
        table.row([identifier, &branch, short, verdict, &pushed, &commented, &turned]);
        for (ok, what) in [
            (passes, "./test fails on its branch"),
            (pushes == 1, "it was not pushed exactly once"),
            (comments == 1, "it has not exactly one comment"),
        ] {
            if !ok {
                wrong.push(format!("{identifier}: {what}"));
            }
        }
    }
    table.lines(color()).iter().for_each(|line| out::line(&format!("  {line}")));
    if let Some(pair) = watched.events.windows(2).find(|pair| matches!(pair, [a, b] if b.seq != a.seq + 1)) {
        let at = pair.first().map_or(0, |event| event.seq);
        wrong.push(format!("the journal has a gap after event {at}"));
    }
    let repeated = watched.events.iter().filter(|event| is_flag(event, "repeated")).count();
    let cut = watched.events.iter().filter(|event| event.kind == "turn_ended" && is_flag(event, "cut")).count();
    out::line("");
    let gap = if wrong.iter().any(|what| what.contains("gap")) { "WITH A GAP" } else { "no gap" };
    out::line(&format!("  {} events in the journal, {gap}; {:.1} s", watched.events.len(), watched.took.as_secs_f32()));
    if watched.kills > 0 {
        out::line(&format!(
            "  {} SIGKILLs: {cut} turns were cut and gone on with, {repeated} prompts had not arrived and were sent again.",
            watched.kills
        ));
    }
    if wrong.is_empty() {
        let nothing = "Three branches, each pushed once; nothing was lost, and nothing was done twice.";
        out::line(&format!("  {}", Tone::Good.paint(nothing, color())));
    }
    out::line("\nLook around:");
    out::line(&format!("  cd {}", project.dir().join("project").display()));
    for (command, what) in [
        ("dalsegno show run-1", "what a run did, and when"),
        ("dalsegno logs DEMO-1", "what its agent was asked, said and did"),
        ("dalsegno explain DEMO-1", "why it runs or does not"),
        ("git log --oneline --graph --remotes", "the branches, after `git fetch`"),
    ] {
        out::line(&format!("  {command:<37}{what}"));
    }
    if wrong.is_empty() {
        return Ok(());
    }
    Err(CliError::new("demo_failed", wrong.join("; ")).hint(format!("look at {}", project.daemon_log().display())))
}

fn test_passes(project: &Project, branch: &str) -> Result<bool, CliError> {
    let checkout = tempfile::tempdir().map_err(|error| CliError::io("demo_dir", &error))?;
    let target = checkout.path().join("checkout");
    let (remote, target_text) = (project.remote(), target.to_string_lossy().into_owned());
    git(checkout.path(), &["clone", "--quiet", "--branch", branch, &remote.to_string_lossy(), &target_text])?;
    let status = Command::new("./test")
        .current_dir(&target)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .map_err(|error| CliError::io("demo_dir", &error))?;
    Ok(status.success())
}

fn comments(issue: &Path) -> usize {
    std::fs::read_to_string(issue).map_or(0, |text| text.matches("<!-- dalsegno:").count())
}

fn count(events: &[Event], identifier: &str, kind: &str) -> usize {
    events.iter().filter(|event| event.kind == kind && event.issue.as_deref() == Some(identifier)).count()
}

fn steps_done(events: &[Event], identifier: &str, step: &str) -> usize {
    events
        .iter()
        .filter(|event| event.kind == "saga_step" && event.issue.as_deref() == Some(identifier))
        .filter(|event| event.data.get("step").and_then(|name| name.as_str()) == Some(step))
        .filter(|event| event.data.pointer("/state/state").and_then(|state| state.as_str()) == Some("done"))
        .count()
}

fn is_flag(event: &Event, name: &str) -> bool {
    event.data.get(name).and_then(serde_json::Value::as_bool).unwrap_or(false)
}
