//! What is left to recover, as a daemon tells it, or as the next one will find it.

use dalsegno_api::{PlanStep, Readiness};

use super::{Finding, Patient};
use crate::reader;

const CHECK: &str = "recovery";

pub(super) fn examine(patient: &Patient) -> Vec<Finding> {
    // Whatever keeps the store from being read, `state` has said.
    let Ok((client, daemon)) = reader::find(&patient.state_dir) else { return Vec::new() };
    match client.readiness() {
        Ok(found) => findings(found, daemon.is_some()),
        Err(error) => vec![Finding::note(CHECK, format!("what is left to recover cannot be told: {error}"))],
    }
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
        "block" => {
            let remedy = format!("dalsegno show {member}; then `dalsegno settle` or `dalsegno release {member}`");
            Finding::warning(CHECK, found, "it stands still, and nothing else does", remedy)
        }
        "adopt" if surface == "policy" => Finding::warning(
            CHECK,
            found,
            "the last good one stays in force, and nothing new starts",
            "mend WORKFLOW.md",
        ),
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
