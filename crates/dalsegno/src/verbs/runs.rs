//! `dalsegno runs`

use crate::error::CliError;
use crate::settings::{Settings, color};
use crate::text::{Table, count, lasted, relative, short};
use crate::{out, reader};

/// List runs, newest first
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only runs of this issue
    issue: Option<String>,
    /// At most so many
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=1000))]
    limit: u16,
}

pub(crate) fn run(args: Args, settings: &Settings) -> Result<(), CliError> {
    let client = reader::open(&settings.state_dir)?;
    let limit = Some(usize::from(args.limit));
    let list = match &args.issue {
        Some(issue) => client.issue_runs(issue, limit)?,
        None => client.runs(limit)?,
    };
    if settings.json {
        out::json(&list);
        return Ok(());
    }
    if list.runs.is_empty() {
        out::line("No runs yet. `dalsegno explain ISSUE` tells why an issue does not run.");
        return Ok(());
    }
    let mut table = Table::new(&["RUN", "ISSUE", "OUTCOME", "PHASE", "TURNS", "TOKENS", "STARTED", "FOR", "WHY"]);
    for run in &list.runs {
        let outcome = run.outcome.as_deref().unwrap_or("running");
        let (turns, tokens) = (run.turns.to_string(), count(run.usage.total_tokens));
        let (started, lasted) = (relative(&run.started_at), lasted(&run.started_at, run.ended_at.as_deref()));
        let why = short(run.reason.as_deref().or(run.evidence.as_deref()).unwrap_or(""), 60);
        table.row([&run.id, &run.issue, outcome, &run.phase, &turns, &tokens, &started, &lasted, &why]);
    }
    table.lines(color()).iter().for_each(|line| out::line(line));
    Ok(())
}
