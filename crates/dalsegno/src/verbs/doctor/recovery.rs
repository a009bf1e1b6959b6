//! What is left to recover, as a daemon tells it, or as the next one will find it.

use dalsegno_api::{DiskUse, PlanStep, Readiness};

use super::{Finding, Patient};
use crate::reader;

const CHECK: &str = "recovery";
const FIX: &str = "dalsegno doctor --fix, or let a daemon do it: dalsegno run";
/// Workspaces whose use of the disk is named.
const NAMED: usize = 5;

pub(super) fn examine(patient: &Patient) -> Vec<Finding> {
    // Whatever keeps the store from being read, `state` has said.
    let Ok((client, daemon)) = reader::find(&patient.state_dir) else { return Vec::new() };
    match client.readiness() {
        Ok(found) => {
            let used: Vec<Finding> = found.disk.iter().flat_map(disk).collect();
            used.into_iter().chain(findings(found, daemon.is_some())).collect()
        }
        Err(error) => vec![Finding::note(CHECK, format!("what is left to recover cannot be told: {error}"))],
    }
}

/// What the state directory takes, and workspaces.
fn disk(disk: &DiskUse) -> Vec<Finding> {
    let mib = |bytes: u64| format!("{} MiB", bytes / (1024 * 1024));
    let DiskUse { free_bytes: _, state_bytes, used_bytes, limit_bytes, workspaces } = disk;
    let largest = workspaces.iter().take(NAMED).map(|workspace| {
        let name = workspace.issue.as_ref().or(workspace.path.as_ref()).map_or("?", String::as_str);
        format!("{name} {}", mib(workspace.bytes))
    });
    let largest: Vec<String> = largest.collect();
    let of = limit_bytes.map_or_else(String::new, |limit| format!(" of {}", mib(limit)));
    let each = if largest.is_empty() { String::new() } else { format!(": {}", largest.join(", ")) };
    let state = state_bytes.map(|bytes| Finding::ok("disk", format!("the state directory takes {}", mib(bytes))));
    let workspaces =
        Finding::ok("disk", format!("{} workspaces take {}{of}{each}", workspaces.len(), mib(*used_bytes)));
    state.into_iter().chain([workspaces]).collect()
}

fn findings(found: Readiness, running: bool) -> Vec<Finding> {
    let Readiness { plan, .. } = found;
    let open: Vec<PlanStep> = plan.into_iter().filter(|step| step.action != "none").collect();
    if open.is_empty() {
        return vec![Finding::ok(CHECK, "everything is in line")];
    }
    open.into_iter().map(|step| finding(&step, running)).collect()
}

fn finding(step: &PlanStep, running: bool) -> Finding {
    let PlanStep { surface, action, reason, member, scope: _, detail } = step;
    let words = detail.as_deref().unwrap_or(reason);
    let found = format!("{surface} of {member}: {words}");
    match action.as_str() {
        "block" if reason != "disk_limit" && reason != "io_error" => {
            let remedy = format!("dalsegno show {member}; then `dalsegno settle` or `dalsegno release {member}`");
            Finding::warning(CHECK, found, "it stands still, and nothing else does", remedy)
        }
        "adopt" if surface == "policy" => Finding::warning(
            CHECK,
            found,
            "the last good one stays in force, and nothing new starts",
            "mend WORKFLOW.md",
        ),
        "restore_backup" => Finding::error(
            CHECK,
            found,
            "what is read from it may be wrong, and no work is taken",
            "stop the daemon and `dalsegno restore` a backup",
        ),
        "block" if reason == "disk_limit" => Finding::warning(
            CHECK,
            found,
            "no new run starts; those under way go on",
            "remove workspaces that nobody needs, free some space, or raise workspace.disk_limit_gb",
        ),
        "block" if reason == "io_error" => {
            let remedy = "see to permissions, disk and mounts; it is looked at again by itself";
            Finding::warning(CHECK, found, "what hangs on it stands still, and nothing of it is touched", remedy)
        }
        "reap" | "quarantine" if !running && reason == "orphan" => {
            Finding::warning(CHECK, found, "it is nobody's, and stays until somebody sees to it", FIX)
        }
        "rebuild_from_provider" if !running && surface == "transcripts" => {
            let consequence = "what was said in that run cannot all be shown; its agent has its own record";
            Finding::warning(CHECK, found, consequence, FIX)
        }
        "recreate_workspace" | "fence_run" if !running && reason == "missing" => {
            let consequence = "what was not pushed from it is lost";
            Finding::warning(CHECK, found, consequence, "dalsegno run: the next run of the issue makes it anew")
        }
        action if running => Finding::note(CHECK, format!("{found}; the daemon is at it ({action})")),
        action => Finding::note(CHECK, format!("{found}; the next daemon sees to it ({action})")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verbs::doctor::Severity;

    fn readiness(steps: &[(&str, &str)]) -> Readiness {
        let step = |(surface, action): &(&str, &str)| PlanStep {
            surface: (*surface).to_owned(),
            action: (*action).to_owned(),
            reason: "drifted".to_owned(),
            member: "DS-1".to_owned(),
            scope: "run".to_owned(),
            detail: None,
        };
        Readiness {
            status: "blocked".to_owned(),
            reason: String::new(),
            takes_work: true,
            remaining: 0,
            plan: steps.iter().map(step).collect(),
            surfaces: Vec::new(),
            looked_at: None,
            disk: None,
        }
    }

    #[test]
    fn what_needs_somebody_is_a_warning_and_what_is_under_way_a_note() {
        let said = |steps: &[(&str, &str)], running| {
            let found = findings(readiness(steps), running);
            found.into_iter().map(|finding| (finding.severity, finding.finding)).collect::<Vec<_>>()
        };
        assert_eq!(said(&[("sagas", "none")], true), [(Severity::Ok, "everything is in line".to_owned())]);
        let found = said(&[("sagas", "block"), ("effects", "roll_forward")], true);
        assert_eq!(found[0], (Severity::Warning, "sagas of DS-1: drifted".to_owned()));
        assert_eq!(found[1].0, Severity::Note);
        assert!(found[1].1.ends_with("the daemon is at it (roll_forward)"));
        assert!(said(&[("effects", "roll_forward")], false)[0].1.contains("the next daemon"));
    }
}
