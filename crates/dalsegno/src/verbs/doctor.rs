//! `dalsegno doctor`

mod agents;
mod ground;
mod mend;
mod project;
mod recovery;

use std::path::{Path, PathBuf};

use dalsegno_adapters::workflow::{Loaded, WorkflowFile};
use dalsegno_api::exit;
use serde::Serialize;

use crate::cli::Common;
use crate::error::CliError;
use crate::out;
use crate::settings::{self, color};
use crate::text::{clean, painted, wrapped};

/// Look at everything that a daemon needs, and say what is wrong, what follows from it and what to do
///
/// Works with and without a daemon, and with a WORKFLOW.md that is broken or not there. Changes nothing without `--fix`. The exit code
/// is 0 when all is well, 6 when something ought to be seen to, 1 when a daemon could not work.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Args {
    /// Ask no remote: nothing leaves this machine
    #[arg(long)]
    offline: bool,
    /// Mend what needs no decision of yours, then look: who may read the state directory, the address of a daemon that is gone,
    /// files that were begun and never finished, processes and workspaces that nobody owns (what holds work is set aside, never
    /// removed), transcripts that cannot be read. A running daemon is asked to do it. What is shown is proved and made anew by
    /// `dalsegno fsck`
    #[arg(long)]
    fix: bool,
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Severity {
    /// As it should be.
    Ok,
    /// Worth knowing.
    Note,
    /// It works, but not as one would wish.
    Warning,
    /// A daemon could not work, or not safely.
    Error,
}

/// What one check found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    /// Stable name of the check.
    check: &'static str,
    severity: Severity,
    /// What was found.
    finding: String,
    /// What follows from it.
    consequence: Option<String>,
    /// What to do, a command where there is one.
    remedy: Option<String>,
}

impl Finding {
    pub(super) fn ok(check: &'static str, finding: impl Into<String>) -> Self {
        Self { check, severity: Severity::Ok, finding: finding.into(), consequence: None, remedy: None }
    }

    pub(super) fn note(check: &'static str, finding: impl Into<String>) -> Self {
        Self { severity: Severity::Note, ..Self::ok(check, finding) }
    }

    pub(super) fn warning(
        check: &'static str,
        finding: impl Into<String>,
        consequence: &str,
        remedy: impl Into<String>,
    ) -> Self {
        let (consequence, remedy) = (Some(consequence.to_owned()), Some(remedy.into()));
        Self { severity: Severity::Warning, consequence, remedy, ..Self::ok(check, finding) }
    }

    pub(super) fn error(
        check: &'static str,
        finding: impl Into<String>,
        consequence: &str,
        remedy: impl Into<String>,
    ) -> Self {
        Self { severity: Severity::Error, ..Self::warning(check, finding, consequence, remedy) }
    }
}

/// What the checks look at.
struct Patient {
    /// WORKFLOW.md, which need not be there.
    workflow: PathBuf,
    /// Its directory.
    project: PathBuf,
    state_dir: PathBuf,
    /// What it says, if it can be read.
    loaded: Option<Loaded>,
    offline: bool,
}

pub(crate) fn run(args: Args, common: &Common) -> Result<(), CliError> {
    let workflow = settings::workflow_file(None, common)?;
    let loaded = WorkflowFile::new(&workflow).load_full();
    let patient = Patient {
        project: workflow.parent().unwrap_or(Path::new("/")).to_owned(),
        state_dir: settings::state_dir_of(&workflow),
        loaded: loaded.as_ref().ok().cloned(),
        workflow,
        offline: args.offline,
    };
    let runtime = super::runtime()?;
    let mut findings = if args.fix { mend::mend(&patient) } else { Vec::new() };
    findings.extend(runtime.block_on(examine(&patient, loaded.err().as_ref())));
    // What answers without a daemon has a runtime of its own.
    drop(runtime);
    findings.extend(recovery::examine(&patient));
    if common.json {
        out::json(&serde_json::json!({"severity": worst(&findings), "findings": findings}));
    } else {
        print(&findings);
    }
    verdict(&findings)
}

async fn examine(patient: &Patient, broken: Option<&dalsegno_core::Failure>) -> Vec<Finding> {
    let mut findings = project::workflow(patient, broken);
    findings.extend(ground::git().await);
    findings.extend(project::repository(patient).await);
    findings.extend(agents::examine(patient).await);
    findings.extend(project::tracker(patient));
    findings.extend(project::services(patient));
    findings.extend(project::state(patient));
    findings.extend(ground::containment(patient).await);
    findings.extend(ground::processes());
    findings.extend(ground::disk(patient));
    findings.extend(ground::clock(patient));
    findings
}

pub(super) fn worst(findings: &[Finding]) -> Severity {
    findings.iter().map(|finding| finding.severity).max().unwrap_or(Severity::Ok)
}

pub(super) fn print(findings: &[Finding]) {
    let width = findings.iter().map(|finding| finding.check.len()).max().unwrap_or(0);
    for Finding { check, severity, finding, consequence, remedy } in findings {
        let (word, colour) = match severity {
            Severity::Ok => ("ok  ", "pass"),
            Severity::Note => ("note", "idle"),
            Severity::Warning => ("warn", "parked"),
            Severity::Error => ("FAIL", "fail"),
        };
        let painted = if color() { painted(colour, true).replace(colour, word) } else { word.to_owned() };
        for (line, text) in wrapped(&clean(finding), 90, 6).iter().enumerate() {
            match line {
                0 => out::line(&format!("{painted}  {check:<width$}  {text}")),
                _ => out::line(&format!("{:width$}        {text}", "")),
            }
        }
        for (sign, text) in [("so:", consequence), ("→", remedy)] {
            for (line, text) in text.iter().flat_map(|text| wrapped(&clean(text), 86, 6)).enumerate() {
                let sign = if line == 0 { sign } else { "" };
                out::line(&format!("{:width$}        {sign:<3} {text}", ""));
            }
        }
    }
}

fn verdict(findings: &[Finding]) -> Result<(), CliError> {
    let count = |severity| findings.iter().filter(|finding| finding.severity == severity).count();
    let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
    let counted = |count, one: &str| if count == 1 { format!("1 {one}") } else { format!("{count} {one}s") };
    let what = format!("{}, {}", counted(errors, "error"), counted(warnings, "warning"));
    match (errors, warnings) {
        (0, 0) => Ok(()),
        (0, _) => Err(CliError::new("doctor_warnings", what).exit(exit::WARNINGS)),
        _ => Err(CliError::new("doctor_errors", what).hint("see to what is marked FAIL, and ask again")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_code_follows_the_worst_finding() {
        let (fine, note) = (Finding::ok("a", "x"), Finding::note("b", "x"));
        let (warning, error) = (Finding::warning("c", "x", "y", "z"), Finding::error("d", "x", "y", "z"));
        let exit = |findings: &[Finding]| verdict(findings).map_or_else(|error| error.exit_code(), |()| exit::OK);
        assert_eq!(exit(&[fine.clone(), note]), exit::OK);
        assert_eq!(exit(&[fine, warning.clone()]), exit::WARNINGS);
        assert_eq!(exit(&[warning, error]), exit::FAILURE);
    }
}
