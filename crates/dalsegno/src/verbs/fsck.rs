//! `dalsegno fsck`

use dalsegno_api::exit;
use dalsegno_store::{Checked, Cure, Fault, Store};
use serde_json::json;

use super::doctor::{Finding, print, worst};
use crate::error::CliError;
use crate::settings::Settings;
use crate::{offline, out};

/// Prove that what the store holds is what its journal says
///
/// Folds the journal once more and compares every row of every projection with what the fold writes: issues, runs, usage, names, the daemon's
/// totals, records of effects; checks the database's pages, the sequence of events, checksums of snapshots, logs of sagas and transcripts.
/// Changes nothing, and works beside a daemon. The exit code is 0 when all is well, 6 when something ought to be seen to, 1 when
/// something is damaged.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Make the projections anew from the journal, in one transaction. Not while a daemon runs
    #[arg(long)]
    rebuild: bool,
}

pub(crate) fn run(args: Args, settings: &Settings) -> Result<(), CliError> {
    let found = if args.rebuild { Some(Store::rebuild(&settings.state_dir)?) } else { None };
    let checked = offline::open(&settings.state_dir)?.check()?;
    let findings = findings(&checked);
    if settings.json {
        let (after, through, rows) = (checked.after, checked.through, checked.rows);
        let mended =
            found.as_ref().map(|found| found.faults.iter().filter(|fault| fault.cure == Cure::Rebuild).count());
        out::json(&json!({
            "severity": worst(&findings), "folded_after": after, "through": through, "rows": rows,
            "mended": mended, "findings": findings, "more": checked.more,
        }));
    } else {
        if let Some(found) = &found {
            let mended = found.faults.iter().filter(|fault| fault.cure == Cure::Rebuild).count() as u64 + found.more;
            out::line(&format!("The projections were made anew from the journal; {mended} faults were in them."));
        }
        print(&findings);
    }
    verdict(&checked)
}

fn findings(checked: &Checked) -> Vec<Finding> {
    if checked.faults.is_empty() {
        let Checked { after, through, rows, .. } = checked;
        let fine = format!("{rows} rows are what events {} to {through} say", after + 1);
        return vec![Finding::ok("store", fine)];
    }
    let mut findings: Vec<Finding> = checked.faults.iter().map(finding).collect();
    if checked.more > 0 {
        findings.push(Finding::note("store", format!("{} more like these", checked.more)));
    }
    findings
}

fn finding(fault: &Fault) -> Finding {
    let Fault { check, found, cure } = fault;
    match cure {
        Cure::Look => Finding::warning(check, found, "a daemon works with it", "look at it; a backup has it as it was"),
        Cure::Rebuild => Finding::error(
            check,
            found,
            "what is shown is not what happened; the journal itself is whole",
            "stop the daemon, then `dalsegno fsck --rebuild`",
        ),
        Cure::Restore => Finding::error(
            check,
            found,
            "a daemon may not start, or not know what it did",
            "stop the daemon, then `dalsegno restore` a backup",
        ),
    }
}

fn verdict(checked: &Checked) -> Result<(), CliError> {
    let worst = checked.faults.iter().map(|fault| fault.cure).max();
    let what = match checked.faults.len() as u64 + checked.more {
        1 => "1 thing is not as it should be".to_owned(),
        count => format!("{count} things are not as they should be"),
    };
    match worst {
        None => Ok(()),
        Some(Cure::Look) => Err(CliError::new("store_warnings", what).exit(exit::WARNINGS)),
        Some(Cure::Rebuild) => Err(CliError::new("store_damaged", what).hint("`dalsegno fsck --rebuild` mends it")),
        Some(Cure::Restore) => Err(CliError::new("store_damaged", what).hint("restore a backup: docs/backup.md")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verbs::doctor::Severity;

    #[test]
    fn the_exit_code_follows_the_worst_fault() {
        let exit = |cures: &[Cure]| {
            let faults = cures.iter().map(|cure| Fault { check: "runs", found: "x".to_owned(), cure: *cure }).collect();
            let checked = Checked { faults, ..Checked::default() };
            assert_eq!(
                worst(&findings(&checked)) >= Severity::Error,
                cures.iter().any(|cure| *cure != Cure::Look),
                "{cures:?}"
            );
            verdict(&checked).map_or_else(|error| error.exit_code(), |()| exit::OK)
        };
        assert_eq!(exit(&[]), exit::OK);
        assert_eq!(exit(&[Cure::Look]), exit::WARNINGS);
        assert_eq!(exit(&[Cure::Look, Cure::Rebuild]), exit::FAILURE);
        assert_eq!(exit(&[Cure::Restore]), exit::FAILURE);
    }
}
