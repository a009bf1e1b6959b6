//! Who runs next: order, limits, labels, blockers, reload (Symphony §8, §17.4).

use std::collections::BTreeSet;
use std::time::Duration;

use super::project::Project;

const AGENT: &str = r#"
default:
  - [ {sh: "echo work > work.txt && git add -A && git commit -qm work"}, {sleep: 150ms} ]
"#;

fn front(agent: &str, rest: &str) -> String {
    format!(
        "polling: {{interval_ms: 100}}\nagent: {{kind: scripted, script: agent.yaml, {agent}}}\nhandoff: {{state: Human Review, comment: done}}\n{rest}"
    )
}

fn started(project: &Project) -> Vec<String> {
    project
        .events()
        .iter()
        .filter(|event| event.kind == "run_started")
        .map(|event| event.issue.clone().unwrap())
        .collect()
}

/// The most issues that took a slot at once, by the journal: from the start of a run to its end, or until the
/// handoff's move took the issue out of its state.
fn most_at_once(project: &Project, counts: impl Fn(&str) -> bool) -> usize {
    let (mut live, mut most) = (BTreeSet::new(), 0);
    for event in project.events() {
        let Some(issue) = event.issue.filter(|issue| counts(issue)) else { continue };
        let moved = event.kind == "issue_changed" && event.data["issue"]["state"] == "Human Review";
        if event.kind == "run_started" {
            live.insert(issue);
        } else if event.kind == "run_ended" || moved {
            live.remove(&issue);
        }
        most = most.max(live.len());
    }
    most
}

#[test]
fn dispatch_goes_by_priority_then_age_then_identifier() {
    let project = Project::new(&front("max_concurrent_agents: 1", ""), AGENT);
    project.issue("A-1", "state: Todo\ncreated_at: 2026-01-05T00:00:00Z");
    project.issue("A-2", "state: Todo\npriority: 2\ncreated_at: 2026-01-04T00:00:00Z");
    project.issue("A-3", "state: Todo\npriority: 1\ncreated_at: 2026-01-09T00:00:00Z");
    project.issue("A-4", "state: Todo\npriority: 2\ncreated_at: 2026-01-01T00:00:00Z");
    project.issue("A-5", "state: Todo\npriority: 9\ncreated_at: 2026-01-02T00:00:00Z");
    project.issue("A-6", "state: Todo\ncreated_at: 2026-01-05T00:00:00Z");
    assert!(project.once(&[]).wait().success());
    assert_eq!(started(&project), ["A-3", "A-4", "A-2", "A-5", "A-1", "A-6"]);
    assert_eq!(most_at_once(&project, |_| true), 1);
}

#[test]
fn limits_hold_over_all_and_by_state() {
    let limits = "max_concurrent_agents: 3, max_concurrent_agents_by_state: {rework: 1, bogus: -4}";
    let project = Project::new(&front(limits, ""), AGENT);
    for number in 1..=3 {
        project.issue(&format!("T-{number}"), "state: Todo");
        project.issue(&format!("R-{number}"), "state: Rework");
    }
    assert!(project.once(&[]).wait().success());
    assert_eq!(started(&project).len(), 6);
    assert!(most_at_once(&project, |_| true) <= 3);
    assert_eq!(most_at_once(&project, |identifier| identifier.starts_with("R-")), 1);
    assert!(most_at_once(&project, |identifier| identifier.starts_with("T-")) >= 2, "slots were left unused");
}

#[test]
fn labels_and_blockers_hold_an_issue_back_and_explain_says_so() {
    let project = Project::new(&front("max_concurrent_agents: 2", ""), AGENT);
    let workflow = std::fs::read_to_string(project.workflow()).unwrap();
    let labelled = workflow.replace("kind: local", "kind: local\n  required_labels: [Agent]");
    std::fs::write(project.workflow(), labelled).unwrap();
    project.issue("L-1", "state: Todo\nlabels: [' AGENT ']");
    project.issue("L-2", "state: Todo\nlabels: [other]");
    project.issue("B-1", "state: Todo\nlabels: [agent]\nblocked_by: [X-1]");
    project.issue("X-1", "state: Backlog");
    let mut daemon = project.daemon();
    project.wait_for("L-1", "handed_off");
    assert_eq!(started(&project), ["L-1"]);
    let explained = project.json(&["explain", "L-2", "--json"]);
    assert_eq!(failing(&explained), ["required_labels"], "{explained}");
    let explained = project.json(&["explain", "b-1", "--json"]);
    assert_eq!(failing(&explained), ["dispatchable"], "{explained}");
    assert!(explained.to_string().contains("X-1"), "{explained}");
    project.set_state("X-1", "Done");
    project.wait_for("B-1", "handed_off");
    daemon.stop();
}

fn failing(explained: &serde_json::Value) -> Vec<String> {
    explained["rules"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|rule| rule["pass"] == false)
        .map(|rule| rule["rule"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn a_good_reload_takes_effect_and_a_broken_one_keeps_the_last_good_one() {
    let project = Project::new(&front("max_concurrent_agents: 1", ""), AGENT);
    let mut daemon = project.daemon();
    project.wait_for_event("workflow_loaded");
    project.front("agent: [");
    project.wait_for_event("workflow_rejected");
    let events = project.events();
    let rejected = events.iter().find(|event| event.kind == "workflow_rejected").unwrap();
    assert_eq!(rejected.data["code"], "workflow_parse_error", "{}", rejected.data);
    // Nothing new is dispatched under a broken file, and the daemon lives and says so.
    project.issue("G-1", "state: Todo");
    std::thread::sleep(Duration::from_millis(500));
    assert!(started(&project).is_empty());
    let explained = project.json(&["explain", "G-1", "--json"]);
    assert_eq!(failing(&explained), ["workflow_valid"], "{explained}");
    // A good file takes effect without a restart: its branch template is used.
    project.front(&front(
        "max_concurrent_agents: 1",
        "workspace: {root: ../workspaces, branch: \"next/{{ issue.identifier }}\"}\n",
    ));
    project.wait_for("G-1", "handed_off");
    assert!(!project.git(&project.remote(), &["rev-parse", "refs/heads/next/G-1"]).is_empty());
    daemon.stop();
}

#[test]
fn one_failing_issue_does_not_disturb_the_others() {
    let hooks = "hooks:\n  before_run: 'test \"$DALSEGNO_ISSUE_IDENTIFIER\" != BAD-1 || { echo broken >&2; exit 3; }'\n  timeout_ms: 5000\nbudget: {issue: {runs: 3}}\nbreaker: {same_failure: 9}\n";
    let project = Project::new(&front("max_concurrent_agents: 1, max_retry_backoff_ms: 50", hooks), AGENT);
    project.issue("BAD-1", "state: Todo\npriority: 1");
    project.issue("GOOD-1", "state: Todo\npriority: 2");
    project.issue("GOOD-2", "state: Todo\npriority: 3");
    assert!(project.once(&[]).wait().success());
    for good in ["GOOD-1", "GOOD-2"] {
        assert_eq!(project.status(good).unwrap().0, "handed_off");
    }
    let (status, reason) = project.status("BAD-1").unwrap();
    assert_eq!(status, "parked", "endless retries");
    assert!(reason.contains("runs_exhausted") && reason.contains("hook_failed"), "{reason}");
    assert_eq!(started(&project).iter().filter(|identifier| *identifier == "BAD-1").count(), 3);
}

#[test]
fn a_due_retry_without_a_slot_is_queued_and_says_so() {
    let hooks = "hooks:\n  before_run: 'test \"$DALSEGNO_ISSUE_IDENTIFIER\" != BAD-1'\nbudget: {issue: {runs: 2}}\n";
    let project = Project::new(&front("max_concurrent_agents: 1, max_retry_backoff_ms: 300", hooks), AGENT);
    project.agent("default:\n  - [ {sleep: 1500ms}, {sh: \"echo w > work.txt && git add -A && git commit -qm w\"} ]\n");
    project.issue("BAD-1", "state: Todo\npriority: 1");
    project.issue("LONG-1", "state: Todo\npriority: 2");
    assert!(project.once(&[]).wait().success());
    let events = project.events();
    let queued = events.iter().find(|event| {
        event.kind == "issue_status"
            && event.issue.as_deref() == Some("BAD-1")
            && event.data["reason"].as_str().is_some_and(|reason| reason.contains("no available orchestrator slots"))
    });
    assert!(queued.is_some(), "the wait for a slot is not told");
    assert_eq!(project.status("LONG-1").unwrap().0, "handed_off");
}
