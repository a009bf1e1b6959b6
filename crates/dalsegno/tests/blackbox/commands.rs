//! The command line's reads, with a daemon and without one.

use super::project::Project;

const FRONT: &str = r#"polling: {interval_ms: 100}
agent: {kind: scripted, script: agent.yaml}
handoff: {state: Human Review, comment: done}
"#;
const AGENT: &str = r#"
default:
  - [ {say: "hello from the agent"}, {sh: "echo work > work.txt && git add -A && git commit -qm work"}, {usage: {input: 7, output: 3}} ]
"#;

#[test]
fn reads_answer_the_same_with_and_without_a_daemon() {
    let project = Project::new(FRONT, AGENT);
    project.issue("DS-1", "state: Todo");
    project.issue("DS-2", "state: Backlog");
    let mut daemon = project.daemon();
    project.wait_for("DS-1", "handed_off");
    let reads: [&[&str]; 7] = [
        &["issues", "--json"],
        &["issue", "show", "DS-1", "--json"],
        &["runs", "--json"],
        &["show", "run-1", "--json"],
        &["show", "DS-1", "--json"],
        &["logs", "DS-1", "--json"],
        &["events", "--json"],
    ];
    let live: Vec<Vec<u8>> = reads.iter().map(|read| project.output(read).stdout).collect();
    for (read, bytes) in reads.iter().zip(&live) {
        assert!(!bytes.is_empty(), "{read:?}: {:?}", project.output(read));
    }
    let status = project.json(&["status", "--json"]);
    assert_eq!(status["counts"]["running"], 0, "{status}");
    daemon.stop();
    for (read, with_daemon) in reads.iter().zip(live).take(6) {
        assert_eq!(project.output(read).stdout, with_daemon, "{read:?}");
    }
    for read in
        [&["status"][..], &["explain", "DS-1"], &["issues"], &["runs"], &["events"], &["logs", "DS-1"], &["validate"]]
    {
        let output = project.output(read);
        assert!(output.status.success(), "{read:?}: {output:?}");
        assert!(!output.stdout.is_empty(), "{read:?}");
    }
}

#[test]
fn what_is_not_there_is_told_with_its_own_exit_code() {
    let project = Project::new(FRONT, AGENT);
    assert!(project.once(&[]).wait().success());
    for read in [&["issue", "show", "NO-1"][..], &["show", "run-99"], &["explain", "NO-1"], &["logs", "run-99"]] {
        let output = project.output(read);
        assert_eq!(output.status.code(), Some(3), "{read:?}: {output:?}");
    }
    assert_eq!(project.output(&["no-such-verb"]).status.code(), Some(2));
    let shells = project.output(&["completions", "bash"]);
    assert!(String::from_utf8_lossy(&shells.stdout).contains("dalsegno"));
}

#[test]
fn issues_are_made_moved_and_commented_from_the_command_line() {
    let project = Project::new(FRONT, AGENT);
    let made = project.output(&["issue", "new", "Add a thing", "--state", "Backlog"]);
    assert!(made.status.success(), "{made:?}");
    let identifier =
        String::from_utf8_lossy(&made.stdout).split_whitespace().find(|word| word.contains('-')).unwrap().to_owned();
    let moved = project.output(&["issue", "move", &identifier, "Todo"]);
    assert!(moved.status.success(), "{moved:?}");
    let commented = project.output(&["issue", "comment", &identifier, "please hurry"]);
    assert!(commented.status.success(), "{commented:?}");
    assert!(project.once(&[]).wait().success());
    assert_eq!(project.status(&identifier).unwrap().0, "handed_off");
    assert!(project.issue_text(&identifier).contains("please hurry"));
}

#[test]
fn a_dry_run_shows_what_would_start_and_does_nothing() {
    let project = Project::new(FRONT, AGENT);
    project.issue("DS-1", "state: Todo");
    project.issue("DS-2", "state: Backlog");
    let output = project.output(&["run", "--dry-run"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{output:?}");
    assert!(text.contains("would start") && text.contains("DS-1"), "{text}");
    assert!(!project.workspace("DS-1").exists());
    assert!(!project.state_dir().join("dalsegno.db").exists());
}
