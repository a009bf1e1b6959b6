//! `dalsegno replay`

use dalsegno_api::{code, exit};
use dalsegno_core::{Event, OpenEffect, Recorded, Run, RunId, RunOutcome, State, Usage};
use dalsegno_store::{Store, StoreError, When};
use serde::Serialize;

use crate::error::CliError;
use crate::settings::{Settings, color};
use crate::text::{Table, clean, clock, columns, commit, count, painted, short};
use crate::{offline, out};

/// Show a run as it was at any event, from the journal alone
///
/// Without --at: every event of the run, with the state after it in short. With it: run and issue right after that event: phase, turns, effects
/// whose outcome was not known, steps of the handoff, tokens. Works beside a daemon and without one.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Name of the run (`run-7`)
    run: String,
    /// The event to stop after, by its number
    #[arg(long, value_name = "SEQ", value_parser = clap::value_parser!(u64).range(1..))]
    at: Option<u64>,
}

/// A run and its issue right after an event.
#[derive(Debug, Serialize)]
struct Picture {
    seq: u64,
    /// RFC 3339.
    at: String,
    /// Of the event.
    kind: &'static str,
    run: String,
    issue: String,
    status: Option<&'static str>,
    reason: Option<String>,
    attempt: Option<u32>,
    phase: &'static str,
    outcome: Option<&'static str>,
    turns: u32,
    turn_open: bool,
    session: Option<String>,
    open_effects: Vec<Open>,
    steps: Vec<Step>,
    handed_off: Option<String>,
    usage: Usage,
}

/// An effect whose outcome was not known.
#[derive(Debug, Serialize)]
struct Open {
    effect: String,
    kind: &'static str,
    attempt: u32,
    in_doubt: bool,
}

#[derive(Debug, Serialize)]
struct Step {
    step: &'static str,
    state: &'static str,
}

pub(crate) fn run(args: Args, settings: &Settings) -> Result<(), CliError> {
    let Args { run, at } = args;
    let store = offline::open(&settings.state_dir)?;
    let pictures = pictures(&store, &run, at)?;
    match (at, pictures.as_slice()) {
        (Some(_), [.., picture]) if settings.json => out::json(picture),
        (Some(_), [.., picture]) => show(picture),
        (None, pictures) if settings.json => out::json(&serde_json::json!({"run": run, "events": pictures})),
        (_, pictures) => timeline(pictures),
    }
    Ok(())
}

/// The run after each of its events, through `at`; of `at` itself the last one alone.
fn pictures(store: &Store, name: &str, at: Option<u64>) -> Result<Vec<Picture>, CliError> {
    let unknown = || {
        CliError::new(code::RUN_NOT_FOUND, format!("no kept event speaks of a run {name}"))
            .exit(exit::NOT_FOUND)
            .hint("`dalsegno runs` lists what there is; older ones may be in a backup or an export")
    };
    let (first, last) = store.span_of(name)?.ok_or_else(unknown)?;
    if let Some(at) = at.filter(|at| *at < first) {
        // Before what is kept, or beyond the end: that is the better answer.
        store.state_at(at)?;
        return Err(CliError::new("run_not_begun", format!("{name} began with event {first}, after event {at}"))
            .exit(exit::NOT_FOUND)
            .hint(format!("its events are {first} to {last}")));
    }
    let base = match store.state_at(first - 1) {
        Ok(_) => first - 1,
        Err(StoreError::NotKept { oldest, .. }) => oldest,
        Err(error) => return Err(error.into()),
    };
    let through = at.unwrap_or(last);
    if through < base || last <= base {
        return Err(StoreError::NotKept { asked: through, oldest: base, newest: last }.into());
    }
    let id = RunId::from(name);
    let mut pictures: Vec<Picture> = Vec::new();
    let mut over: Option<(Run, RunOutcome)> = None;
    store.fold(base, through, |when, recorded, state| match when {
        When::Before => {
            if let Event::RunEnded { run, outcome, .. } = &recorded.event
                && *run == id
                && let Some(run) = state.runs.get(run)
            {
                over = Some((run.clone(), *outcome));
            }
        }
        When::After => {
            let wanted = if at.is_some() { recorded.seq == through } else { recorded.event.run() == Some(&id) };
            let run = state.runs.get(&id).map(|run| (run, None));
            let run = run.or_else(|| over.as_ref().map(|(run, outcome)| (run, Some(*outcome))));
            if let Some((run, outcome)) = run.filter(|_| wanted) {
                pictures.push(Picture::of(recorded, state, run, outcome));
            }
        }
    })?;
    if pictures.is_empty() { Err(unknown()) } else { Ok(pictures) }
}

impl Picture {
    fn of(recorded: &Recorded, state: &State, run: &Run, outcome: Option<RunOutcome>) -> Self {
        let entry = state.issues.get(&run.issue).or_else(|| state.gone.get(&run.issue));
        let own =
            |open: &&OpenEffect| open.run.as_ref() == Some(&run.id) || (open.run.is_none() && open.issue == run.issue);
        let open_effects = state.open_effects.values().filter(own).map(|open| Open {
            effect: open.key.clone(),
            kind: open.effect.kind(),
            attempt: open.attempt,
            in_doubt: open.in_doubt,
        });
        let steps = run.handoff.iter().flat_map(|handoff| &handoff.steps);
        let steps = steps.map(|(step, state)| Step { step: step.as_str(), state: state.as_str() });
        let at = jiff::Timestamp::from_millisecond(recorded.at.0)
            .map_or_else(|_| recorded.at.0.to_string(), |at| at.to_string());
        Self {
            seq: recorded.seq,
            at,
            kind: recorded.event.kind(),
            run: run.id.to_string(),
            issue: entry.map_or_else(|| run.issue.to_string(), |entry| entry.issue.identifier.clone()),
            status: entry.map(|entry| entry.status.as_str()),
            reason: entry.and_then(|entry| entry.reason.clone()),
            attempt: run.attempt,
            phase: if outcome.is_some() { "ended" } else { run.phase.as_str() },
            outcome: outcome.map(RunOutcome::as_str),
            turns: run.turn,
            turn_open: run.turn_open,
            session: run.session.as_ref().map(ToString::to_string),
            open_effects: open_effects.collect(),
            steps: steps.collect(),
            handed_off: entry.and_then(|entry| entry.handed_off.as_ref()).map(ToString::to_string),
            usage: run.usage,
        }
    }

    fn turns(&self) -> String {
        format!("{}{}", self.turns, if self.turn_open { " (open)" } else { "" })
    }
}

fn show(picture: &Picture) {
    let Picture { seq, at, kind, run, issue, status, reason, attempt, phase, outcome, session, open_effects, .. } =
        picture;
    let field = |name: &str, value: &str| {
        if !value.is_empty() {
            out::line(&format!("{name:<11}{}", clean(value)));
        }
    };
    let word = outcome.unwrap_or("running");
    out::line(&format!("{} of {}  {}", clean(run), clean(issue), painted(word, color())));
    field("after", &format!("event {seq}, {kind}, {}", clock(at)));
    field("phase", phase);
    field("attempt", &attempt.map(|attempt| attempt.to_string()).unwrap_or_default());
    field("turns", &picture.turns());
    field("session", session.as_deref().unwrap_or_default());
    field(
        "issue",
        &match (status, reason) {
            (Some(status), Some(reason)) => format!("{status}: {reason}"),
            (status, _) => status.unwrap_or_default().to_owned(),
        },
    );
    field("handed off", picture.handed_off.as_deref().map(commit).unwrap_or_default());
    let Usage { input_tokens, output_tokens, .. } = picture.usage;
    field("tokens", &format!("{} in, {} out", count(input_tokens), count(output_tokens)));
    for Step { step, state } in &picture.steps {
        field("handoff", &format!("{step:<10} {state}"));
    }
    if !open_effects.is_empty() {
        let mut table = Table::new(&["OPEN EFFECT", "KIND", "ATTEMPT", "OUTCOME"]);
        for Open { effect, kind, attempt, in_doubt } in open_effects {
            table.row([effect, kind, &attempt.to_string(), if *in_doubt { "in_doubt" } else { "not known yet" }]);
        }
        out::line("");
        table.lines(color()).iter().for_each(|line| out::line(line));
    }
}

fn timeline(pictures: &[Picture]) {
    let mut table = Table::new(&["SEQ", "TIME", "EVENT", "ISSUE", "PHASE", "TURNS", "OPEN", "HANDOFF", "TOKENS"]);
    for picture in pictures {
        let open: Vec<String> = picture
            .open_effects
            .iter()
            .map(|open| format!("{}{}", open.kind, if open.in_doubt { "?" } else { "" }))
            .collect();
        let steps: Vec<String> = picture.steps.iter().map(|Step { step, state }| format!("{step}:{state}")).collect();
        table.row([
            &picture.seq.to_string(),
            &clock(&picture.at),
            picture.kind,
            picture.status.unwrap_or_default(),
            picture.phase,
            &picture.turns(),
            &open.join(" "),
            &steps.join(" "),
            &count(picture.usage.total_tokens),
        ]);
    }
    let wide = columns();
    table.lines(color()).iter().for_each(|line| out::line(&short(line, wide)));
}
