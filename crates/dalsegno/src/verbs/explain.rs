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
    let (identifier, status) = (clean(&explanation.identifier), painted(&explanation.status, color()));
    let failing = explanation.rules.iter().filter(|rule| !rule.pass).count();
    out::line(&match (explanation.status.as_str(), failing) {
        ("running" | "handing_off", _) | (_, 0) => format!("{identifier} is {status}."),
        (_, 1) => format!("{identifier} is {status}. One rule keeps it from running:"),
        (_, failing) => format!("{identifier} is {status}. {failing} rules keep it from running:"),
    });
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
