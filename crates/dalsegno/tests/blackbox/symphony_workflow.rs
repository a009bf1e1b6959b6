//! Bullets of the Symphony specification about the workflow file, hooks, logs and the command line (§17.1, §17.2,
//! §17.6, §17.7) that nothing else shows on the real binary.

use std::fs;

use super::judge;
use super::project::Project;

const FRONT: &str = r#"polling: {interval_ms: 100}
agent: {kind: scripted, script: agent.yaml}
handoff: {state: Human Review, comment: done}
"#;
const AGENT: &str = r#"
default:
  - [ {sh: "echo work > work.txt && git add -A && git commit -qm work"} ]
"#;

#[test]
fn symphony_17_1_a_named_workflow_wins_over_the_one_in_the_current_directory() {
    let project = Project::new(FRONT, AGENT);
    project.issue("DS-1", "state: Todo");
    let named = project.dir.join("elsewhere").join("FLOW.md");
    fs::create_dir_all(named.parent().unwrap()).unwrap();
    let text = fs::read_to_string(project.workflow()).unwrap();
    let text = text
        .replace(
            "{root: ../workspaces}",
            "{root: ../workspaces, repo: ../project, branch: \"named/{{ issue.identifier }}\"}",
        )
        .replace("script: agent.yaml", "script: ../project/agent.yaml");
    fs::write(&named, text).unwrap();
    // The one in the current directory would be refused.
    fs::write(project.workflow(), "---\ntracker: [\n---\n").unwrap();
    let ended = project.output(&["run", "../elsewhere/FLOW.md", "--once", "--port", "0"]);
    assert!(ended.status.success(), "{ended:?}");
    assert!(!project.git(&project.remote(), &["rev-parse", "refs/heads/named/DS-1"]).is_empty());
    assert!(project.dir.join("elsewhere/.dalsegno/dalsegno.db").exists(), "the state lies beside the named file");
    assert!(!project.state_dir().exists());
}

#[test]
fn symphony_17_2_each_hook_runs_when_it_should_and_a_failing_before_remove_is_ignored() {
    let hooks = r#"hooks:
  after_create: "echo created >> ../hooks.log"
  before_run: "echo before >> ../hooks.log"
  after_run: "echo after >> ../hooks.log"
  before_remove: "echo removing >> ../hooks.log; exit 1"
"#;
    // Without a handoff a clean end is followed by another run in the same workspace.
    let front =
        format!("polling: {{interval_ms: 100}}\nagent: {{kind: scripted, script: agent.yaml, max_turns: 1}}\n{hooks}");
    let project = Project::new(&front, "default:\n  - [ {say: one} ]\n");
    project.issue("DS-1", "state: Todo");
    let mut daemon = project.daemon();
    project.wait_until("a second run's end", || {
        project.events().iter().filter(|event| event.kind == "run_ended").count() >= 2
    });
    project.set_state("DS-1", "Done");
    project.wait_for_event("workspace_removed");
    daemon.stop();
    assert!(!project.workspace("DS-1").exists());
    let log = fs::read_to_string(project.dir.join("workspaces/hooks.log")).unwrap();
    let lines: Vec<&str> = log.lines().collect();
    assert_eq!(lines.first(), Some(&"created"), "{log}");
    assert_eq!(lines.last(), Some(&"removing"), "{log}");
    assert_eq!(lines.iter().filter(|line| **line == "created").count(), 1, "{log}");
    let between = &lines[1..lines.len() - 1];
    assert!(between.len() >= 4 && between.len().is_multiple_of(2), "{log}");
    assert!(between.chunks(2).all(|pair| pair == ["before", "after"]), "{log}");
    judge::at_rest(&project);
}

#[test]
fn symphony_17_2_a_workspace_that_cannot_be_filled_is_told_and_the_next_run_makes_it_anew() {
    let hooks = "hooks: {after_create: 'test -e ../let-it-pass || { echo no network >&2; exit 9; }'}\n";
    let front = FRONT.replace("script: agent.yaml", "script: agent.yaml, max_retry_backoff_ms: 50");
    let project = Project::new(&format!("{front}{hooks}"), AGENT);
    project.issue("DS-1", "state: Todo");
    let mut daemon = project.daemon();
    project.wait_for_event("hook_ended");
    let events = project.events();
    let failure = &events.iter().find(|event| event.kind == "hook_ended").unwrap().data["failure"];
    assert_eq!(failure["code"], "hook_failed", "{failure}");
    assert!(failure["message"].as_str().unwrap().contains("no network"), "{failure}");
    assert!(!events.iter().any(|event| event.kind == "session_started"), "an agent ran in a half-filled workspace");
    fs::write(project.dir.join("workspaces/let-it-pass"), "").unwrap();
    project.wait_for("DS-1", "handed_off");
    daemon.stop();
}

#[test]
fn symphony_17_6_log_lines_name_the_issue_and_the_run_and_hold_no_prompt() {
    let project = Project::new(FRONT, AGENT);
    project.issue("DS-1", "state: Todo");
    assert!(project.once(&[]).wait().success());
    let folder = project.state_dir().join("log");
    let text: String =
        fs::read_dir(folder).unwrap().flatten().map(|file| fs::read_to_string(file.path()).unwrap()).collect();
    let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of_runs: Vec<_> = lines.iter().filter(|line| line["fields"]["run"].is_string()).collect();
    assert!(of_runs.len() > 3, "{text}");
    for line in of_runs {
        let fields = &line["fields"];
        assert_eq!(fields["run"], "run-1", "{line}");
        assert_eq!(fields["issue_identifier"], "DS-1", "{line}");
        assert!(!fields["issue_id"].as_str().unwrap().is_empty(), "{line}");
    }
    assert!(!text.contains("Work on DS-1"), "a prompt is in the log");
}

#[test]
fn symphony_17_6_a_log_that_cannot_be_written_stops_nothing() {
    let project = Project::new(FRONT, AGENT);
    project.issue("DS-1", "state: Todo");
    // A plain file where the log's directory should be stops root too.
    fs::create_dir(project.state_dir()).unwrap();
    fs::write(project.state_dir().join("log"), "in the way").unwrap();
    let mut daemon = project.once(&[]);
    assert!(daemon.wait().success(), "{}", daemon.log_tail());
    judge::all_handed_off(&project, &["DS-1"]);
    let said = fs::read_to_string(project.dir.join("daemon.log")).unwrap();
    assert!(said.contains("no log file"), "{said}");
}

#[test]
fn keys_that_nothing_reads_are_named_at_the_start_and_when_they_change() {
    let project = Project::new(&format!("{FRONT}pollng: {{interval_ms: 5}}\n"), AGENT);
    let told = |key: &str| {
        let log = fs::read_to_string(project.dir.join("daemon.log")).unwrap_or_default();
        log.lines().filter(|line| line.contains("WARN") && line.contains(&format!("nothing reads `{key}"))).count()
    };
    let mut daemon = project.daemon();
    project.wait_until("the word at the start", || told("pollng") == 1);
    project.front(&format!("{FRONT}pollng: {{interval_ms: 5}}\nhandof: {{}}\n"));
    project.wait_until("the word of the reload", || told("handof") == 1);
    daemon.stop();
    assert_eq!((told("pollng"), told("handof")), (1, 1));
}

#[test]
fn symphony_17_6_reads_change_nothing() {
    let project = Project::new(FRONT, AGENT);
    project.issue("DS-1", "state: Todo");
    project.issue("DS-2", "state: Backlog");
    assert!(project.once(&[]).wait().success());
    let before = project.events().len();
    for read in [
        &["status"][..],
        &["issues"],
        &["runs"],
        &["show", "DS-1"],
        &["logs", "DS-1"],
        &["events"],
        &["explain", "DS-1"],
    ] {
        assert!(project.output(read).status.success(), "{read:?}");
    }
    assert_eq!(project.events().len(), before);
}

#[test]
fn symphony_17_7_ends_in_order_with_zero_and_in_trouble_with_another_code() {
    let project = Project::new(FRONT, AGENT);
    assert_eq!(project.once(&[]).wait().code(), Some(0), "nothing to do");
    let mut daemon = project.daemon();
    project.wait_until("the daemon", || project.state_dir().join("daemon.json").exists());
    daemon.signal(nix::sys::signal::Signal::SIGINT);
    assert_eq!(daemon.wait().code(), Some(0), "{}", daemon.log_tail());
    let taken = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let refused = project.output(&["run", "--once", "--port", &port]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(said.contains("error[port_unavailable]") && said.contains("hint:") && !said.contains("panicked"), "{said}");
}
