//! Notices, with a real daemon: told once at least, under an id that stays, and nothing waits for who does not listen.

use std::fs;

use dalsegno_engine::EventRow;
use serde_json::Value;

use crate::project::Project;

const FRONT: &str = "polling: {interval_ms: 200}
agent: {kind: scripted, script: agent.yaml}
handoff: {state: Human Review}
";
const AGENT: &str = "default:\n  - [ {sh: \"echo work > work.txt && git add -A && git commit -qm work\"} ]\n";

/// What the command of the test was told, line by line.
fn told(project: &Project) -> Vec<Value> {
    let text = fs::read_to_string(project.root().join("told.jsonl")).unwrap_or_default();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

fn kinds(project: &Project, kind: &str) -> usize {
    project.events().iter().filter(|row| row.kind == kind).count()
}

#[test]
fn what_may_have_been_told_when_the_daemon_was_killed_is_told_again_under_the_same_id() {
    // The first time it hangs after it has read.
    let command = "cat >> told.jsonl; test -e once || { touch once; sleep 300; }";
    let front = format!("{FRONT}notify: [{{command: \"{command}\", on: [done]}}]\n");
    let project = Project::new(&front, AGENT);
    project.issue("DS-1", "state: Todo");
    let mut daemon = project.daemon();
    project.wait_until("somebody was told", || told(&project).len() == 1);
    // Nobody waits for it.
    project.wait_for("DS-1", "handed_off");
    daemon.kill();
    let mut daemon = project.daemon();
    project.wait_until("it was told again", || told(&project).len() == 2);
    let recorded = |row: &EventRow| row.kind == "effect_ended" && row.data["outcome"]["output"]["output"] == "notified";
    project.wait_until("that is recorded", || project.events().iter().any(recorded));
    daemon.stop();
    let told = told(&project);
    assert_eq!(told[0], told[1]);
    let notice = &told[0]["notices"][0];
    assert_eq!((&notice["topic"], &notice["issue"]), (&"done".into(), &"DS-1".into()));
    assert_eq!(kinds(&project, "notice_queued"), 1);
}

#[test]
fn a_receiver_that_is_not_there_holds_up_nothing_and_is_tried_again() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let front = format!(
        "{FRONT}notify: [{{webhook: \"http://{free}/x\", on: [done]}}, {{command: \"cat >> told.jsonl\", on: [done]}}]\n"
    );
    let project = Project::new(&front, AGENT);
    project.issue("DS-1", "state: Todo");
    project.issue("DS-2", "state: Todo");
    let ended = project.output(&["run", "--once"]);
    assert!(ended.status.success(), "{ended:?}");
    let issues: Vec<Value> =
        told(&project).iter().flat_map(|told| told["notices"].as_array().cloned().unwrap()).collect();
    assert_eq!(issues.len(), 2, "{issues:?}");
    let failed = project.events().into_iter().filter(|row| row.data["outcome"]["failure"]["code"] == "notify_failed");
    assert!(failed.count() >= 1);
    assert_eq!(kinds(&project, "notices_dropped"), 0, "it waits for its next try");
}
