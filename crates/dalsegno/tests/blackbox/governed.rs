//! Budgets and breakers with a real daemon: parked with figures, raised and released by an operator, kept over restarts.

use dalsegno_api::{Action, Client, Target};
use serde_json::{Map, Value, json};

use crate::project::Project;

const FRONT: &str = "polling: {interval_ms: 200}
agent: {kind: scripted, script: agent.yaml, max_retry_backoff_ms: 50}
handoff: {state: Human Review}
";

/// A turn that costs 1,280 tokens and brings nothing, then one that does the work.
const COSTLY: &str = r#"
default:
  - [ {usage: {input: 1200, output: 80}}, {say: "I am thinking"} ]
  - [ {sh: "echo work > work.txt && git add -A && git commit -qm work"}, {usage: {input: 300, output: 20}} ]
"#;

fn words(project: &Project, arguments: &[&str]) -> String {
    let said = project.output(arguments);
    format!("{}{}", String::from_utf8_lossy(&said.stdout), String::from_utf8_lossy(&said.stderr))
}

#[test]
fn a_spent_budget_parks_with_figures_and_goes_on_when_it_is_raised() {
    let project = Project::new(&format!("{FRONT}budget: {{issue: {{tokens: 1000}}}}\n"), COSTLY);
    project.issue("DS-1", "state: Todo");
    let mut daemon = project.daemon();
    project.wait_for("DS-1", "parked");
    let reason = project.status("DS-1").unwrap().1;
    assert!(reason.starts_with("budget_exceeded") && reason.contains("1280") && reason.contains("1000"), "{reason}");
    // A restart forgets neither what was used nor that it was too much.
    daemon.kill();
    let said = project.output(&["budget", "DS-1", "--tokens", "100000"]);
    assert_eq!(said.status.code(), Some(4), "without a daemon nothing is accepted");
    let mut daemon = project.daemon();
    project.wait_until("the daemon serves", || project.output(&["budget", "--json"]).status.success());
    let budget = project.json(&["budget", "--json"]);
    let line = &budget["issues"][0];
    assert_eq!((&line["issue"], &line["tokens"], &line["tokens_limit"]), (&json!("DS-1"), &json!(1280), &json!(1000)));
    assert_eq!(project.status("DS-1").unwrap().0, "parked");

    project.wait_until("the budget is raised", || {
        project.output(&["budget", "DS-1", "--tokens", "5000"]).status.success()
    });
    project.wait_for("DS-1", "handed_off");
    assert!(words(&project, &["budget"]).contains("DS-1"));
    // A new run has a new session, which plays its first turn again.
    let sent = project.json(&["budget", "--json"])["issues"][0].clone();
    assert_eq!((&sent["tokens"], &sent["tokens_limit"]), (&json!(2880), &json!(5000)));
    let kinds: Vec<String> = project.events().into_iter().map(|event| event.kind).collect();
    for kind in ["action_accepted", "budget_set", "action_completed"] {
        assert!(kinds.iter().any(|known| known == kind), "{kind}");
    }
    daemon.stop();
}

#[test]
fn what_a_breaker_parked_is_released_by_hand() {
    let hooks =
        "hooks: {before_run: 'test -e ../mended || { echo broken >&2; exit 3; }'}\nbreaker: {same_failure: 2}\n";
    let agent = "default:\n  - [ {sh: \"echo work > work.txt && git add -A && git commit -qm work\"} ]\n";
    let project = Project::new(&format!("{FRONT}{hooks}"), agent);
    project.issue("DS-1", "state: Todo");
    let mut daemon = project.daemon();
    project.wait_for("DS-1", "parked");
    let reason = project.status("DS-1").unwrap().1;
    assert!(reason.starts_with("breaker_same_failure") && reason.contains("run-1, run-2"), "{reason}");
    std::fs::write(project.dir.join("workspaces/mended"), "").unwrap();
    let said = words(&project, &["release", "DS-1"]);
    assert!(said.contains("released"), "{said}");
    project.wait_for("DS-1", "handed_off");
    let said = words(&project, &["release", "DS-1"]);
    assert!(said.contains("not_parked"), "what is not parked is not released: {said}");
    let said = words(&project, &["release", "DS-99"]);
    assert!(said.contains("not_found"), "{said}");
    // The exit code is that of the answer's status.
    for (arguments, exit) in [
        (&["release", "DS-1"][..], 5),
        (&["release", "DS-99"], 3),
        (&["budget", "DS-1", "--cost-usd=-1"], 2),
        (&["budget", "DS-1", "--tokens", "5"], 0),
    ] {
        assert_eq!(project.output(arguments).status.code(), Some(exit), "{arguments:?}");
    }
    daemon.stop();
}

#[test]
fn an_action_under_a_known_key_is_answered_from_the_record_also_after_a_restart() {
    let project = Project::new(FRONT, "default: []\n");
    project.issue("DS-1", "state: Backlog");
    project.issue("DS-2", "state: Todo");
    let mut daemon = project.daemon();
    project.wait_for_event("issue_seen");
    let action = |tokens: u64, kind: &str| Action {
        schema_version: 1,
        action_kind: kind.to_owned(),
        target: Target { kind: "issue".to_owned(), id: "ds-2".to_owned() },
        correlation_id: None,
        idempotency_key: Some("key-1".to_owned()),
        on_duplicate: None,
        payload: Map::from_iter([("tokens".to_owned(), Value::from(tokens))]),
    };
    let client = || Client::discover(&project.state_dir()).unwrap();
    let first = client().act(&action(70_000, "set_budget")).unwrap();
    assert_eq!((first.status.as_str(), first.replayed), ("accepted", false), "{first:?}");
    let again = client().act(&action(70_000, "set_budget")).unwrap();
    assert_eq!((&again.action_id, again.replayed), (&first.action_id, true));
    let other = client().act(&action(80_000, "set_budget")).unwrap();
    assert_eq!((other.status.as_str(), other.code.as_deref()), ("rejected", Some("idempotency_conflict")));
    daemon.kill();
    std::fs::remove_file(project.state_dir().join("daemon.json")).unwrap();
    let mut daemon = project.daemon();
    project.wait_until("the daemon serves", || project.state_dir().join("daemon.json").exists());
    let again = client().act(&action(70_000, "set_budget")).unwrap();
    assert_eq!((&again.action_id, again.replayed), (&first.action_id, true), "a restart forgot the key");
    assert!(client().action(&first.action_id).unwrap().completion.is_some());
    let mut unknown = action(1, "explode");
    unknown.idempotency_key = None;
    let unknown = client().act(&unknown).unwrap();
    assert_eq!((unknown.status.as_str(), unknown.code.as_deref()), ("rejected", Some("unknown_action")));
    daemon.stop();
    let set = project.events().into_iter().filter(|event| event.kind == "budget_set").count();
    assert_eq!(set, 1, "one effect, however often it is sent");
}
