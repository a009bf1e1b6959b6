//! Handoffs that wait for an operator, with a real daemon, repository and tracker: approved, denied, settled from the command line,
//! over a SIGKILL.

use serde_json::json;

use crate::project::Project;

const AGENT: &str = "default:\n  - [ {sh: \"echo work > work.txt && git add -A && git commit -qm work\"} ]\n";

fn project(agent: &str, handoff: &str) -> Project {
    let front = format!(
        "polling: {{interval_ms: 200}}\nagent: {{kind: scripted, script: agent.yaml{agent}}}\n\
         handoff: {{state: Human Review, {handoff}}}\n"
    );
    let project = Project::new(&front, AGENT);
    project.issue("DS-1", "state: Todo");
    project
}

/// Whether the remote has the branch of DS-1.
fn pushed(project: &Project) -> bool {
    !project.git(&project.remote(), &["branch", "--list", "dalsegno/*"]).trim().is_empty()
}

fn words(project: &Project, arguments: &[&str]) -> String {
    let output = project.output(arguments);
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn a_parked_step_is_drawn_and_settled_from_the_command_line_after_a_kill() {
    let project = project("", "comment: '{{ nothing.like.this }}'");
    let mut daemon = project.daemon();
    project.wait_for("DS-1", "parked");
    let reason = project.status("DS-1").unwrap().1;
    assert!(reason.starts_with("handoff_step_failed: the branch is pushed, but comment: template_render"), "{reason}");
    assert!(pushed(&project), "the branch is there");
    daemon.kill();

    // Without a daemon it is drawn all the same.
    let drawn = words(&project, &["show", "run-1.handoff"]);
    for part in ["handoff run-1.handoff  parked", "push", "pivot", "└ comment", "retriable", "waits for your word"] {
        assert!(drawn.contains(part), "{part} in {drawn}");
    }
    let saga = project.json(&["show", "run-1.handoff", "--json"]);
    let states = |saga: &serde_json::Value| -> Vec<serde_json::Value> {
        saga["steps"].as_array().unwrap().iter().map(|step| step["state"].clone()).collect()
    };
    assert_eq!(
        (&saga["state"], states(&saga)),
        (&json!("parked"), vec![json!("done"), json!("parked"), json!("done")])
    );

    let mut daemon = project.daemon();
    project.wait_until("the new daemon refuses a release", || {
        words(&project, &["release", "DS-1"]).contains("handoff_parked")
    });
    let diff = words(&project, &["diff", "DS-1"]);
    assert!(diff.starts_with("diff --git a/work.txt b/work.txt\n") && diff.ends_with("+work\n"), "{diff}");
    let said = words(&project, &["settle", "DS-1", "push", "retry"]);
    assert!(said.contains("not_parked"), "{said}");
    let said = words(&project, &["settle", "DS-1", "comment", "undone"]);
    assert!(said.contains("settlement_not_allowed"), "{said}");
    let said = words(&project, &["settle", "run-1.handoff", "comment", "skip", "--why", "told by mail"]);
    assert!(said.contains("It is settled"), "{said}");
    project.wait_for("DS-1", "handed_off");
    assert_eq!(project.json(&["show", "run-1.handoff", "--json"])["state"], "abandoned");
    let kinds: Vec<String> = project.events().into_iter().map(|event| event.kind).collect();
    for kind in ["saga_started", "saga_step", "parked", "action_accepted", "action_failed", "action_completed"] {
        assert!(kinds.iter().any(|known| known == kind), "{kind}");
    }
    daemon.stop();
}

#[test]
fn a_handoff_is_approved_or_denied_from_the_command_line() {
    let contained = ", sandbox: command env";
    let unprotected = project("", "approval: required");
    let said = words(&unprotected, &["validate"]);
    assert!(said.contains("approval_unprotected"), "{said}");

    let project = project(contained, "approval: required");
    let mut daemon = project.daemon();
    project.wait_for("DS-1", "waiting_approval");
    assert!(!pushed(&project), "nothing is pushed before it is approved");
    let drawn = words(&project, &["show", "run-1"]);
    assert!(drawn.contains("awaiting_approval") && drawn.contains("`dalsegno approve run-1.handoff`"), "{drawn}");
    daemon.kill();
    let mut daemon = project.daemon();
    project.wait_until("the new daemon takes a refusal", || {
        words(&project, &["deny", "DS-1", "--why", "not this week"]).contains("It is refused")
    });
    project.wait_for("DS-1", "parked");
    let reason = project.status("DS-1").unwrap().1;
    assert!(reason.starts_with("approval_denied") && reason.contains("not this week"), "{reason}");
    assert!(!pushed(&project));
    assert_eq!(project.json(&["show", "run-1.handoff", "--json"])["state"], "compensated");

    let said = words(&project, &["release", "DS-1"]);
    assert!(said.contains("released"), "{said}");
    project.wait_for("DS-1", "waiting_approval");
    let said = words(&project, &["approve", "DS-1", "--fingerprint", "another"]);
    assert!(said.contains("no_open_question"), "{said}");
    let said = words(&project, &["approve", "DS-1"]);
    assert!(said.contains("It is approved"), "{said}");
    project.wait_for("DS-1", "handed_off");
    assert!(pushed(&project));
    let said = words(&project, &["approve", "DS-1"]);
    assert!(said.contains("no_open_question"), "{said}");
    daemon.stop();
}

#[test]
fn under_approvals_a_reload_that_runs_other_code_waits_for_an_operator() {
    let contained = ", sandbox: command env";
    let project = project(contained, "approval: required");
    let mut daemon = project.daemon();
    project.wait_for("DS-1", "waiting_approval");
    let front = |hook: &str| {
        format!(
            "polling: {{interval_ms: 200}}\nagent: {{kind: scripted, script: agent.yaml{contained}}}\n\
             handoff: {{state: Human Review, approval: required}}\nhooks: {{before_run: '{hook}'}}\n"
        )
    };
    project.front(&front("touch ../ran"));
    project.wait_for_event("workflow_rejected");
    let state = words(&project, &["status"]);
    for part in ["workflow_held", "hooks.before_run", "`dalsegno reload`"] {
        assert!(state.contains(part), "{part} in {state}");
    }
    project.issue("DS-2", "state: Todo");
    project.wait_until("the issue is seen", || project.status("DS-2").is_some());
    assert!(!project.dir.join("workspaces/ran").exists(), "nothing new starts");

    // What is meant is the file as it stands now, also when nobody has looked at it yet.
    project.front(&front("touch ../taken"));
    let said = words(&project, &["reload"]);
    assert!(said.contains("in force"), "{said}");
    project.wait_for("DS-2", "waiting_approval");
    assert!(project.dir.join("workspaces/taken").exists() && !project.dir.join("workspaces/ran").exists());
    let said = words(&project, &["reload"]);
    assert!(said.contains("nothing_held"), "{said}");
    daemon.stop();
}
