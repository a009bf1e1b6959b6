//! `dalsegno show`

use std::collections::BTreeMap;

use dalsegno_api::{Client, EventQuery, HandoffStep, IssueDetail, Run, Saga, code};

use crate::error::CliError;
use crate::settings::{Settings, color};
use crate::story::{Facts, Tone};
use crate::text::{
    Table, clean, clean_lines, clock, columns, commit, count, dim, fine_span, lasted, ms_between, painted, relative,
    short,
};
use crate::{out, reader, story};

/// Show one run, one issue, or the saga of a handoff
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Name of a run (`run-7`), identifier or id of an issue (`DS-1`), or id of a saga (`run-7.handoff`)
    #[arg(value_name = "RUN|ISSUE|SAGA")]
    key: String,
    /// Show every effect of the run: what was intended, and what came of it
    #[arg(long)]
    effects: bool,
}

/// Show one issue
#[derive(Debug, clap::Args)]
pub(crate) struct IssueArgs {
    /// Its identifier or id
    pub(crate) issue: String,
}

pub(crate) fn run(args: Args, settings: &Settings) -> Result<(), CliError> {
    let client = reader::open(&settings.state_dir)?;
    match client.run(&args.key) {
        Ok(run) if args.effects => effects(&client, &run, settings)?,
        Ok(run) if settings.json => out::json(&run),
        Ok(run) => {
            show_run(&run);
            if let Some(id) = run.handoff.as_ref().and_then(|handoff| handoff.saga.as_ref()) {
                match client.saga(id) {
                    Ok(saga) => show_saga(&saga),
                    // It has not begun, or ended long ago.
                    Err(error) if error.code() == code::SAGA_NOT_FOUND => {}
                    Err(error) => return Err(error.into()),
                }
            }
            timeline(&client, &run)?;
        }
        Err(error) if error.code() == code::RUN_NOT_FOUND => match client.saga(&args.key) {
            Ok(saga) if settings.json => out::json(&saga),
            Ok(saga) => show_saga(&saga),
            Err(_) => return issue(&args.key, settings),
        },
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
    field("pull req.", issue.pull_request.as_ref().map(|pull| pull.url.as_str()));
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
    let told: Vec<_> = detail.recent_events.iter().filter(|event| is_for_people(&event.event)).collect();
    if !told.is_empty() {
        out::line("");
        for event in told {
            let message = event.message.as_deref().unwrap_or("");
            let line = format!("{}  {:<18} {}", clock(&event.at), clean(&event.event), clean(message));
            out::line(&short(line.trim_end(), columns()));
        }
    }
    out::line(&format!(
        "\n`dalsegno logs {0}` shows what its agent did, `dalsegno explain {0}` why it runs or not.",
        clean(&issue.identifier)
    ));
}

/// Events that tell of the work and not of its machinery.
fn is_for_people(kind: &str) -> bool {
    !matches!(
        kind,
        "effect_intended" | "effect_ended" | "run_phase" | "run_ending" | "saga_step" | "usage" | "issue_changed"
    )
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
        cut => format!("{}, {cut} of them cut", run.turns),
    };
    field("turns", Some(&turns));
    let usage = run.usage;
    field("tokens", Some(&format!("{} in, {} out", count(usage.input_tokens), count(usage.output_tokens))));
    field("started", Some(&format!("{}, {}", clock(&run.started_at), relative(&run.started_at))));
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

/// The steps of a saga as a tree: each under what it comes after.
fn show_saga(saga: &Saga) {
    out::line("");
    out::line(&format!("{} {}  {}", clean(&saga.name), clean(&saga.id), painted(&saga.state, color())));
    if let Some(why) = &saga.turned_back {
        field("undone for", Some(&format!("{}: {}", why.code, why.message)));
    }
    let mut depths: BTreeMap<&str, usize> = BTreeMap::new();
    let mut table = Table::new(&["STEP", "KIND", "STATE", "CALLS", "KEY", "PROBE", "WHY"]);
    for step in &saga.steps {
        let depth =
            step.after.iter().filter_map(|before| depths.get(before.as_str())).max().map_or(0, |depth| depth + 1);
        depths.insert(&step.name, depth);
        let branch = if depth == 0 { String::new() } else { format!("{}└ ", "  ".repeat(depth - 1)) };
        let calls = match step.undo_attempts {
            0 => step.attempts.to_string(),
            undone => format!("{}, {undone} to undo", step.attempts),
        };
        let mut why: Vec<String> = step.failure.iter().map(|why| format!("{}: {}", why.code, why.message)).collect();
        why.extend(step.due_at.as_deref().map(relative));
        let key: String = step.key.chars().take(KEY_SHOWN).collect();
        let probe = step.probe.as_deref().unwrap_or_default();
        let name = format!("{branch}{}", step.name);
        table.row([&name, &step.kind, &step.state, &calls, &key, probe, &why.join("; ")]);
    }
    table.lines(color()).iter().for_each(|line| out::line(&format!("  {}", short(line, columns().saturating_sub(2)))));
    let id = clean(&saga.id);
    for step in &saga.steps {
        let name = clean(&step.name);
        if let Some(asked) = &step.approval {
            let (what, until) = (clean(&asked.fingerprint), relative(&asked.expires_at));
            out::line(&format!("{name} waits for an approval of {what} ({until}): `dalsegno approve {id}`, or `deny`"));
        }
        if !step.verbs.is_empty() {
            let verbs = clean(&step.verbs.join(", ")).replace('_', "-");
            out::line(&format!("{name} waits for your word: `dalsegno settle {id} {name} VERB`, with one of {verbs}"));
        }
    }
}

/// So much of an idempotency key is shown.
const KEY_SHOWN: usize = 12;

/// Pages of effects that are shown at most.
const EFFECT_PAGES: usize = 100;

/// What a run did to the world, in the order in which it was intended.
fn effects(client: &Client, run: &Run, settings: &Settings) -> Result<(), CliError> {
    let (mut all, mut after) = (Vec::new(), None);
    for _ in 0..EFFECT_PAGES {
        let page = client.effects(&run.id, after.as_deref())?;
        if page.effects.is_empty() {
            break;
        }
        all.extend(page.effects);
        after = Some(page.next);
    }
    if settings.json {
        out::json(&all);
        return Ok(());
    }
    out::line(&format!("{} of {}: {} effects", clean(&run.id), clean(&run.issue), all.len()));
    for effect in &all {
        let state = effect.result.as_deref().unwrap_or(&effect.progress);
        let mut told = Vec::new();
        if effect.attempts > 1 {
            told.push(format!("{} attempts", effect.attempts));
        }
        if effect.doubts > 0 {
            told.push(format!("in doubt {} times", effect.doubts));
        }
        told.extend(effect.error.iter().map(|error| format!("{}: {}", clean(&error.code), clean(&error.message))));
        let line = format!(
            "  {}  {:<13}{:<28} {} {}",
            clock(&effect.began_at),
            clean(&effect.kind),
            clean(&effect.key),
            painted(state, color()),
            told.join(", ")
        );
        out::line(&short(line.trim_end(), columns()));
    }
    Ok(())
}

/// Events of one run that are looked through at most, for its timeline.
const TIMELINE_PAGES: usize = 20;
const PAGE: usize = 500;

/// The run's phases, turns and steps, with the time since its beginning.
fn timeline(client: &Client, run: &Run) -> Result<(), CliError> {
    let mut query = EventQuery { run: Some(run.id.clone()), limit: Some(PAGE), ..EventQuery::default() };
    out::line("");
    let mut phase = "preparing".to_owned();
    let mut shown = String::new();
    let mut checked = false;
    for _ in 0..TIMELINE_PAGES {
        let page = client.events(&query)?;
        for event in &page.events {
            checked |= event.kind == "check_ended";
            if event.kind == "run_phase" {
                phase = clean(Facts(&event.data).inner("phase", "name"));
            }
            let told = story::tell(event).or_else(|| Some((Tone::Plain, story::tokens(event)?)));
            let Some((tone, text)) = told else { continue };
            // An event comes before the phase that it leads to; the last phase has nothing to show.
            let name = if phase == shown || phase == "ended" { "" } else { &phase };
            let since = ms_between(&run.started_at, &event.at).map(fine_span).unwrap_or_default();
            let margin = format!("  {}  {since:>7}  {name:<12}", clock(&event.at));
            let room = columns().saturating_sub(margin.chars().count() + 1);
            out::line(&format!("{} {}", dim(&margin, color()), tone.paint(&short(&text, room), color())));
            shown.clone_from(&phase);
        }
        if page.events.is_empty() || page.next == page.head {
            if checked {
                out::line(&format!("\n`dalsegno checks {}` shows what its checks said.", clean(&run.id)));
            }
            return Ok(());
        }
        query.after = Some(page.next);
    }
    out::line(&format!("  … `dalsegno events --run {}` has the rest", clean(&run.id)));
    Ok(())
}
