//! Bullets of the Symphony specification about dispatch, reconciliation and retries (§17.4), and about totals (§17.6),
//! on the real binary.

use dalsegno_engine::EventRow;

use super::project::Project;

const AGENT: &str = r#"
default:
  - [ {sh: "echo work > work.txt && git add -A && git commit -qm work"} ]
"#;

fn front(agent: &str, rest: &str) -> String {
    format!("polling: {{interval_ms: 100}}\nagent: {{kind: scripted, script: agent.yaml{agent}}}\n{rest}")
}

/// Statuses of `waiting_retry`, with the wait in milliseconds.
fn waits(events: &[EventRow]) -> Vec<(i64, i64)> {
    events
        .iter()
        .filter(|event| event.kind == "issue_status" && event.data["to"] == "waiting_retry")
        .map(|event| {
            let due = event.data["due_at"].as_i64().unwrap();
            (due, due - event.at.0)
        })
        .collect()
}

#[test]
fn symphony_17_4_failures_wait_ten_seconds_then_twice_as_long_and_a_kill_changes_no_due_time() {
    let hooks = "hooks: {before_run: 'echo broken >&2; exit 3'}\nhandoff: {}\n";
    let project = Project::new(&front("", hooks), AGENT);
    project.issue("DS-1", "state: Todo");
    let mut daemon = project.daemon();
    project.wait_for("DS-1", "waiting_retry");
    let first = waits(&project.events())[0];
    assert_eq!(first.1, 10_000);
    let status = project.json(&["status", "--json"]);
    let waiting = &status["retrying"][0];
    assert_eq!(waiting["issue_identifier"], "DS-1", "{status}");
    assert_eq!(waiting["attempt"], 1, "{status}");
    assert!(waiting["due_at"].is_string() && waiting["error"].as_str().unwrap().contains("hook_failed"), "{status}");
    daemon.kill();
    let mut daemon = project.daemon();
    project.wait_until("the second failure", || waits(&project.events()).len() == 2);
    daemon.stop();
    let events = project.events();
    assert_eq!(waits(&events)[1].1, 20_000);
    let starts: Vec<&EventRow> = events.iter().filter(|event| event.kind == "run_started").collect();
    assert_eq!(starts[1].data["attempt"], 1);
    assert!(starts[1].at.0 >= first.0, "it ran before its time");
}

#[test]
fn symphony_17_4_waits_are_capped() {
    let rest = "hooks: {before_run: 'exit 3'}\nhandoff: {}\nbudget: {issue: {runs: 4}}\nbreaker: {same_failure: 9}\n";
    let project = Project::new(&front(", max_retry_backoff_ms: 150", rest), AGENT);
    project.issue("DS-1", "state: Todo");
    assert!(project.once(&[]).wait().success());
    let waits: Vec<i64> = waits(&project.events()).into_iter().map(|(_, wait)| wait).collect();
    assert_eq!(waits, [150, 150, 150]);
}

#[test]
fn symphony_17_4_a_clean_end_continues_after_a_second_as_attempt_one() {
    let project = Project::new(&front(", max_turns: 1", ""), "default:\n  - [ {say: one} ]\n");
    project.issue("DS-1", "state: Todo");
    let mut daemon = project.daemon();
    project.wait_until("two continuations", || waits(&project.events()).len() >= 2);
    daemon.stop();
    let events = project.events();
    assert!(waits(&events).iter().all(|(_, wait)| *wait == 1_000), "{:?}", waits(&events));
    let attempts: Vec<_> =
        events.iter().filter(|event| event.kind == "run_started").map(|event| event.data["attempt"].clone()).collect();
    assert!(attempts[0].is_null() && attempts[1..].iter().all(|attempt| *attempt == 1), "{attempts:?}");
}

#[test]
fn symphony_17_4_an_active_refresh_updates_the_running_entry() {
    let project = Project::new(&front("", "handoff: {}\n"), "default:\n  - [ {sleep: 60s} ]\n");
    project.issue("DS-1", "state: Todo\npriority: 3");
    let mut daemon = project.daemon();
    project.wait_for_event("turn_started");
    project.set_state("DS-1", "In Progress");
    project.wait_for_event("issue_changed");
    let status = project.json(&["status", "--json"]);
    assert_eq!(status["running"][0]["issue_identifier"], "DS-1", "{status}");
    assert_eq!(status["running"][0]["state"], "In Progress", "{status}");
    assert!(!project.events().iter().any(|event| event.kind == "run_ending"), "the run was stopped");
    daemon.stop();
}

#[test]
fn symphony_17_4_polls_without_runs_write_nothing_but_what_they_saw() {
    let project = Project::new(&front("", "handoff: {}\n"), AGENT);
    let workflow = std::fs::read_to_string(project.workflow()).unwrap();
    std::fs::write(project.workflow(), workflow.replace("kind: local", "kind: local\n  required_labels: [nobody]"))
        .unwrap();
    let mut daemon = project.daemon();
    project.wait_for_event("workflow_loaded");
    // Each new issue shows that a later poll is through.
    for identifier in ["DS-1", "DS-2", "DS-3"] {
        project.issue(identifier, "state: Todo");
        project.wait_until(identifier, || project.status(identifier).is_some());
    }
    let kinds: Vec<String> = project.events().into_iter().map(|event| event.kind).collect();
    assert_eq!(kinds, ["daemon_started", "workflow_loaded", "issue_seen", "issue_seen", "issue_seen"]);
    daemon.stop();
}

#[test]
fn symphony_17_4_a_stalled_run_is_ended_and_tried_again() {
    let agent = "default:\n  - [ {hang: true} ]\n";
    let rest = "codex: {stall_timeout_ms: 600}\nbudget: {issue: {runs: 2}}\nhandoff: {}\n";
    let project = Project::new(&front(", max_retry_backoff_ms: 50", rest), agent);
    project.issue("DS-1", "state: Todo");
    assert!(project.once(&[]).wait().success());
    let events = project.events();
    let ended: Vec<&EventRow> = events.iter().filter(|event| event.kind == "run_ended").collect();
    assert_eq!(ended.len(), 2, "it was not tried again");
    assert!(ended.iter().all(|event| event.data["reason"].as_str().unwrap().starts_with("stalled: ")));
    assert!(project.strays().is_empty(), "{:?}", project.strays());
}

#[test]
fn symphony_17_6_totals_stay_right_when_reports_repeat() {
    // The agent reports its turn's sum again and again: 10, 30, and 30 once more with the turn's end.
    let agent = r#"
default:
  - [ {usage: {input: 10, output: 1}}, {usage: {input: 20, output: 2}}, {say: one} ]
  - [ {usage: {input: 5, output: 5}}, {sh: "echo work > work.txt && git add -A && git commit -qm work"} ]
"#;
    let project = Project::new(&front("", "handoff: {state: Human Review}\n"), agent);
    project.issue("DS-1", "state: Todo");
    assert!(project.once(&[]).wait().success());
    let issue = project.json(&["issue", "show", "DS-1", "--json"]);
    assert_eq!((&issue["usage"]["input_tokens"], &issue["usage"]["output_tokens"]), (&35.into(), &8.into()), "{issue}");
    let status = project.json(&["status", "--json"]);
    assert_eq!(status["totals"]["total_tokens"], 43, "{status}");
    assert!(status["totals"]["seconds_running"].as_f64().unwrap() > 0.0, "{status}");
}
