//! `dalsegno explain`

use dalsegno_api::Rule;

use crate::error::CliError;
use crate::settings::{Settings, color};
use crate::text::{clean, painted};
use crate::{out, reader};

/// Explain why an issue runs or does not: every rule of dispatch, and what would change it
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Its identifier or id
    issue: String,
}

pub(crate) fn run(args: Args, settings: &Settings) -> Result<(), CliError> {
    let explanation = reader::open(&settings.state_dir)?.explain(&args.issue)?;
    if settings.json {
        out::json(&explanation);
        return Ok(());
    }
    out::line(&format!("{} is {}", clean(&explanation.identifier), painted(&explanation.status, color())));
    let width = explanation.rules.iter().map(|rule| rule.rule.chars().count()).max().unwrap_or(0);
    for Rule { rule, pass, detail, remedy } in &explanation.rules {
        let verdict = painted(if *pass { "pass" } else { "fail" }, color());
        out::line(format!("  {verdict}  {:<width$}  {}", clean(rule), clean(detail)).trim_end());
        if let Some(remedy) = remedy.as_ref().filter(|_| !pass) {
            out::line(&format!("        {:<width$}  → {}", "", clean(remedy)));
        }
    }
    if explanation.rules.is_empty() {
        out::line("  No policy is loaded yet: `dalsegno validate` checks WORKFLOW.md.");
    }
    Ok(())
}
