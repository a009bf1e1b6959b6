//! `dalsegno issues`

use dalsegno_api::IssueList;

use crate::error::CliError;
use crate::settings::{Settings, color};
use crate::text::{Table, count, short};
use crate::{out, reader};

/// List the issues that the daemon knows
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Args {
    /// Only those with this status (`running`, `parked`, …), or in this state of the tracker (`"In Progress"`)
    #[arg(long, value_name = "STATE")]
    pub(crate) state: Option<String>,
}

pub(crate) fn run(args: Args, settings: &Settings) -> Result<(), CliError> {
    let list = reader::open(&settings.state_dir)?.issues(args.state.as_deref())?;
    if settings.json {
        out::json(&list);
        return Ok(());
    }
    let IssueList { issues, total } = list;
    if issues.is_empty() {
        out::line(match args.state {
            Some(_) => "No issue is in that state. `dalsegno issues` lists all.",
            None => "No issues. The daemon shows those that its tracker has; is it running? `dalsegno status` tells.",
        });
        return Ok(());
    }
    let mut table = Table::new(&["ISSUE", "STATUS", "STATE", "RUN", "TOKENS", "TITLE", "WHY"]);
    for issue in &issues {
        let run = issue.current_run.as_deref().unwrap_or("");
        let tokens = count(issue.usage.total_tokens);
        let why = short(issue.reason.as_deref().unwrap_or(""), 60);
        let title = short(&issue.title, 50);
        table.row([&issue.identifier, &issue.status, &issue.tracker_state, run, &tokens, &title, &why]);
    }
    table.lines(color()).iter().for_each(|line| out::line(line));
    let shown = issues.len() as u64;
    if shown < total {
        out::line(&format!("{shown} of {total} issues"));
    }
    Ok(())
}
