//! `dalsegno logs`

use std::time::Duration;

use dalsegno_api::{Client, TranscriptEntry, code};

use super::end_on_ctrl_c;
use crate::error::CliError;
use crate::settings::Settings;
use crate::text::{clean, clean_lines, clock};
use crate::{out, reader};

/// How long a look for new lines waits for the next.
const LOOK_EVERY: Duration = Duration::from_millis(300);
const PAGE: usize = 500;

/// Show what an agent was asked, said and did
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Go on with new lines until the run ends
    #[arg(short, long)]
    follow: bool,
    /// Name of a run, or identifier or id of an issue: then its latest run
    #[arg(value_name = "RUN|ISSUE")]
    key: String,
}

pub(crate) fn run(args: Args, settings: &Settings) -> Result<(), CliError> {
    let (client, daemon) = reader::find(&settings.state_dir)?;
    let run = run_of(&client, &args.key)?;
    if args.follow {
        end_on_ctrl_c()?;
    }
    // Without a daemon nothing new comes: what is there is all.
    let follow = args.follow && daemon.is_some();
    let mut lines = Lines::default();
    let mut after: Option<String> = None;
    let mut first = true;
    let mut ended;
    loop {
        let page = client.transcript(&run, after.as_deref(), Some(PAGE))?;
        let empty = page.entries.is_empty();
        if settings.json && !args.follow && first {
            out::text("{\"run\": ");
            out::json_line(&run);
            out::text(", \"entries\": [\n");
        }
        first = false;
        for entry in &page.entries {
            match (settings.json, args.follow) {
                (false, _) => lines.print(entry),
                (true, true) => out::json_line(entry),
                (true, false) => {
                    out::text(if lines.any { ", " } else { "  " });
                    lines.any = true;
                    out::json_line(entry);
                }
            }
        }
        after = Some(page.next);
        ended = page.ended;
        if !empty {
            continue;
        }
        if !follow || ended {
            break;
        }
        std::thread::sleep(LOOK_EVERY);
    }
    if settings.json && !args.follow {
        out::text("], \"next\": ");
        out::json_line(&after);
        out::line("}");
    } else if !settings.json && !lines.any {
        let run = clean(&run);
        out::line(&match ended {
            true => format!("{run} ended before its agent was asked anything. `dalsegno show {run}` tells why."),
            false => format!("{run} has no transcript yet. `dalsegno logs -f {run}` waits for it."),
        });
    }
    Ok(())
}

/// The run that is meant: by its name, or the latest of an issue.
pub(super) fn run_of(client: &Client, key: &str) -> Result<String, CliError> {
    match client.run(key) {
        Ok(run) => return Ok(run.id),
        Err(error) if error.code() == code::RUN_NOT_FOUND => {}
        Err(error) => return Err(error.into()),
    }
    let runs = client.issue_runs(key, Some(1)).map_err(|error| match error.code() {
        code::ISSUE_NOT_FOUND => {
            let what = format!("no run and no issue is named `{key}`");
            CliError::new("not_found", what)
                .exit(dalsegno_api::exit::NOT_FOUND)
                .hint("`dalsegno runs` lists what there is")
        }
        _ => error.into(),
    })?;
    let newest = runs.runs.into_iter().next().map(|run| run.id);
    newest.ok_or_else(|| {
        CliError::new(code::RUN_NOT_FOUND, format!("issue {key} has no run yet"))
            .exit(dalsegno_api::exit::NOT_FOUND)
            .hint(format!("`dalsegno explain {key}` tells why"))
    })
}

#[derive(Default)]
struct Lines {
    turn: Option<u32>,
    any: bool,
}

impl Lines {
    fn print(&mut self, entry: &TranscriptEntry) {
        let TranscriptEntry { at, turn, kind, text } = entry;
        if self.turn != Some(*turn) && *turn > 0 {
            out::line(&format!("{}── turn {turn}", if self.any { "\n" } else { "" }));
        }
        self.turn = Some(*turn);
        self.any = true;
        let kind = clean(kind);
        let mut margin = format!("{}  {kind:<9} ", clock(at));
        let indent = " ".repeat(margin.chars().count());
        for line in clean_lines(text) {
            out::line(format!("{margin}{line}").trim_end());
            margin.clone_from(&indent);
        }
    }
}
