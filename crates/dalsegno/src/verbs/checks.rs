//! `dalsegno checks`

use std::io::IsTerminal as _;

use dalsegno_api::{Check, Client, EventQuery, KeptFile, code, exit};
use serde_json::json;

use super::logs::run_of;
use crate::error::CliError;
use crate::settings::{Settings, color};
use crate::text::{Table, bytes, clean, clean_lines, commit, relative, short};
use crate::{out, reader};

/// Events of one run that are looked through at most, for its checks.
const PAGES: usize = 20;
const PAGE: usize = 1_000;

/// Show how the checks of a run ended, and with a number what one of them said
///
/// Kept is all that a check said, standard output and standard error in order, or its last MiB with a line that tells how much came
/// before. What goes to a file or a pipe is the text as it came; a terminal gets it without what would move its cursor.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Name of a run, or identifier or id of an issue: then its latest run
    #[arg(value_name = "RUN|ISSUE")]
    key: String,
    /// Number of a check: show all that it said
    #[arg(value_name = "NUMBER")]
    number: Option<usize>,
}

pub(crate) fn run(args: Args, settings: &Settings) -> Result<(), CliError> {
    let client = reader::open(&settings.state_dir)?;
    let run = run_of(&client, &args.key)?;
    let checks = of_run(&client, &run)?;
    match args.number {
        Some(number) => said(&client, &run, &checks, number, settings.json),
        None if settings.json => {
            out::json(&json!({"run": run, "checks": checks}));
            Ok(())
        }
        None => {
            list(&run, &checks);
            Ok(())
        }
    }
}

fn of_run(client: &Client, run: &str) -> Result<Vec<Check>, CliError> {
    let kind = Some("check_ended".to_owned());
    let mut query = EventQuery { run: Some(run.to_owned()), kind, limit: Some(PAGE), ..EventQuery::default() };
    let mut events = Vec::new();
    for _ in 0..PAGES {
        let page = client.events(&query)?;
        events.extend(page.events);
        if page.next == page.head {
            break;
        }
        query.after = Some(page.next);
    }
    // After the events: what one of them tells of is there by now.
    Ok(Check::of_run(&events, client.files(run)?.files))
}

fn list(run: &str, checks: &[Check]) {
    let run = clean(run);
    if checks.is_empty() {
        out::line(&format!("{run} has run no check (yet). `handoff.checks` in WORKFLOW.md says which there are."));
        return;
    }
    let mut table = Table::new(&["NO", "CHECK", "ENDED", "COMMIT", "WHEN", "SAID"]);
    for check in checks {
        let ended = check.passed.map_or("not told", |passed| if passed { "passed" } else { "failed" });
        let when = check.at.as_deref().map(relative).unwrap_or_default();
        let kept = match &check.said {
            Some(KeptFile { lost: Some(why), .. }) => format!("lost: {why}"),
            Some(file) => bytes(file.bytes),
            None => String::new(),
        };
        let (number, title) = (check.number.to_string(), short(check.title(), 60));
        table.row([&number, &title, ended, commit(check.commit.as_deref().unwrap_or_default()), &when, &kept]);
    }
    table.lines(color()).iter().for_each(|line| out::line(line));
    if let Some(check) = checks.iter().rev().find(|check| check.said.is_some()) {
        out::line(&format!("\n`dalsegno checks {run} {0}` shows what check {0} said.", check.number));
    }
}

/// All that a check said.
fn said(client: &Client, run: &str, checks: &[Check], number: usize, programs: bool) -> Result<(), CliError> {
    let Some(check) = checks.iter().find(|check| check.number == number) else {
        let message = format!("{run} has run {} checks, and none has the number {number}", checks.len());
        let hint = format!("`dalsegno checks {run}` lists them");
        return Err(CliError::new("check_not_found", message).exit(exit::NOT_FOUND).hint(hint));
    };
    let Some(file) = &check.said else {
        let message = format!("nothing is kept of what check {number} of {run} said");
        let hint = "it said nothing; or that could not be kept, and the daemon's log tells why";
        return Err(CliError::new(code::FILE_NOT_FOUND, message).exit(exit::NOT_FOUND).hint(hint));
    };
    let text = client.file(run, &file.file)?;
    if programs {
        let mut told = json!(check);
        told["run"] = json!(run);
        told["text"] = json!(text);
        out::json(&told);
    } else if std::io::stdout().is_terminal() {
        clean_lines(&text).for_each(|line| out::line(&line));
    } else {
        out::text(&text);
    }
    Ok(())
}
