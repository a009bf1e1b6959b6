//! Bad input of every kind: a clear error with code and remedy, nothing lost, and the others go on.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Output;

use super::judge;
use super::project::Project;

const FRONT: &str = r#"polling: {interval_ms: 100}
agent: {kind: scripted, script: agent.yaml, max_retry_backoff_ms: 50}
budget: {issue: {runs: 2}}
handoff: {state: Human Review, comment: done}
"#;
const AGENT: &str = r#"
default:
  - [ {sh: "echo work > work.txt && git add -A && git commit -qm work"} ]
"#;

fn refused(project: &Project, arguments: &[&str], code: &str) -> String {
    let output = project.output(arguments);
    let text = both(&output);
    assert!(!output.status.success(), "{arguments:?} succeeded: {text}");
    assert!(text.contains(code), "{arguments:?}: no {code} in:\n{text}");
    assert!(!text.contains("panicked"), "{text}");
    text
}

fn both(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn a_missing_workflow_file_is_refused() {
    let project = Project::new(FRONT, AGENT);
    refused(&project, &["run", "nowhere.md"], "missing_workflow_file");
    fs::remove_file(project.workflow()).unwrap();
    refused(&project, &["run"], "missing_workflow_file");
    refused(&project, &["validate"], "missing_workflow_file");
}

#[test]
fn broken_front_matter_is_refused_with_its_code() {
    let project = Project::new(FRONT, AGENT);
    for (text, code) in [
        ("---\ntracker: [\n---\nx", "workflow_parse_error"),
        ("---\n- a\n- b\n---\nx", "workflow_front_matter_not_a_map"),
        (
            "---\ntracker: {kind: nonsense}\nagent: {kind: scripted, script: agent.yaml}\n---\nx",
            "unsupported_tracker_kind",
        ),
        ("---\ntracker: {kind: local}\nagent: {kind: claude}\n---\nx", "not_available"),
        (
            "---\ntracker: {kind: local}\nagent: {kind: scripted, script: agent.yaml, max_turns: 0}\n---\nx",
            "invalid_config",
        ),
        (
            "---\ntracker: {kind: local}\nagent: {kind: scripted, script: agent.yaml}\nworkspace: {disk_limit_gb: 0}\n---\nx",
            "invalid_config",
        ),
        ("---\ntracker: {kind: local}\nagent: {kind: acp}\n---\nx", "invalid_config"),
    ] {
        fs::write(project.workflow(), text).unwrap();
        refused(&project, &["validate"], code);
        refused(&project, &["run", "--once"], code);
    }
    assert!(!project.state_dir().join("dalsegno.db").exists(), "a refused start leaves nothing behind");
}

#[test]
fn unknown_variables_and_filters_fail_only_the_run() {
    for (body, code) in [("{{ issue.nonsense }}", "template_render_error"), ("{{ issue.title | shout }}", "template_")]
    {
        let project = Project::new(FRONT, AGENT);
        let text = fs::read_to_string(project.workflow()).unwrap();
        let front = text.rsplit_once("---").unwrap().0.to_owned();
        fs::write(project.workflow(), format!("{front}---\n{body}\n")).unwrap();
        project.issue("DS-1", "state: Todo");
        assert!(project.once(&[]).wait().success());
        let (status, reason) = project.status("DS-1").unwrap();
        assert_eq!(status, "parked");
        assert!(reason.contains(code), "{reason}");
        judge::at_rest(&project);
    }
}

#[test]
fn a_missing_agent_program_is_named() {
    let front = FRONT.replace("kind: scripted, script: agent.yaml", "kind: acp, command: no-such-agent-anywhere");
    let project = Project::new(&front, AGENT);
    project.issue("DS-1", "state: Todo");
    assert!(project.once(&[]).wait().success());
    let (status, reason) = project.status("DS-1").unwrap();
    assert_eq!(status, "parked");
    assert!(reason.contains("agent_not_found"), "{reason}");
    judge::at_rest(&project);
}

/// One issue whose agent misbehaves beside one whose agent works.
fn misbehaving(step: &str, timeouts: &str, code: &str) {
    let agent = format!("BAD-1:\n  - [ {step} ]\n  - [ {step} ]\n  - [ {step} ]\n{AGENT}");
    let project = Project::new(&format!("{FRONT}codex: {{{timeouts}}}\n"), &agent);
    project.issue("BAD-1", "state: Todo");
    project.issue("GOOD-1", "state: Todo");
    assert!(project.once(&[]).wait().success());
    assert_eq!(project.status("GOOD-1").unwrap().0, "handed_off");
    let (status, reason) = project.status("BAD-1").unwrap();
    assert_eq!(status, "parked", "{step}");
    assert!(reason.contains(code), "{step}: {reason}");
    judge::at_rest(&project);
    judge::no_gap(&project);
}

#[test]
fn an_agent_that_exits_is_told() {
    misbehaving("{exit: 1}", "turn_timeout_ms: 20000", "agent_exit");
}

#[test]
fn an_agent_that_fails_its_turn_is_told() {
    misbehaving("{fail: \"model error\"}", "turn_timeout_ms: 20000", "model error");
}

#[test]
fn an_agent_that_goes_silent_is_ended() {
    misbehaving("{hang: true}", "turn_timeout_ms: 700", "turn_timeout");
    misbehaving("{hang: true}", "stall_timeout_ms: 700", "stalled");
}

#[test]
fn an_agent_that_floods_or_writes_garbage_holds_nobody_up() {
    let agent = r#"
FLOOD-1:
  - [ {flood: 10000}, {sh: "echo work > work.txt && git add -A && git commit -qm work"} ]
GARBAGE-1:
  - [ {garbage: true}, {sh: "echo work > work.txt && git add -A && git commit -qm work"} ]
"#;
    let project = Project::new(FRONT, agent);
    project.issue("FLOOD-1", "state: Todo");
    project.issue("GARBAGE-1", "state: Todo");
    assert!(project.once(&[]).wait().success());
    assert_eq!(project.status("FLOOD-1").unwrap().0, "handed_off");
    // A few lines of garbage are noted; an agent that writes nothing else is ended. Both say so.
    let (status, reason) = project.status("GARBAGE-1").unwrap();
    assert!(status == "handed_off" || (status == "parked" && reason.contains("agent_protocol")), "{status}: {reason}");
    judge::at_rest(&project);
    judge::no_gap(&project);
}

#[test]
fn a_hook_that_hangs_is_ended_with_its_background_children() {
    let hooks = "hooks:\n  before_run: 'test \"$DALSEGNO_ISSUE_IDENTIFIER\" != BAD-1 || { sleep 1000 & sleep 1000; }'\n  timeout_ms: 400\n";
    let project = Project::new(&format!("{FRONT}{hooks}"), AGENT);
    project.issue("BAD-1", "state: Todo");
    project.issue("GOOD-1", "state: Todo");
    assert!(project.once(&[]).wait().success());
    assert_eq!(project.status("GOOD-1").unwrap().0, "handed_off");
    let (status, reason) = project.status("BAD-1").unwrap();
    assert_eq!(status, "parked");
    assert!(reason.contains("hook_timeout"), "{reason}");
    judge::at_rest(&project);
}

#[test]
fn a_failing_after_run_hook_is_recorded_and_ignored() {
    let project = Project::new(&format!("{FRONT}hooks: {{after_run: 'exit 7'}}\n"), AGENT);
    project.issue("DS-1", "state: Todo");
    assert!(project.once(&[]).wait().success());
    assert_eq!(project.status("DS-1").unwrap().0, "handed_off");
    let events = project.events();
    let hook = events.iter().find(|event| event.kind == "hook_ended").unwrap();
    assert_eq!(hook.data["failure"]["code"], "hook_failed", "{}", hook.data);
}

#[test]
fn a_second_daemon_is_refused_with_the_pid_of_the_first() {
    let project = Project::new(FRONT, AGENT);
    let mut daemon = project.daemon();
    project.wait_until("the daemon", || project.state_dir().join("daemon.json").exists());
    let text = refused(&project, &["run", "--once", "--port", "0"], "daemon_running");
    assert!(text.contains(&daemon.pid().to_string()), "{text}");
    assert!(daemon.is_alive());
    daemon.stop();
}

#[test]
fn a_newer_database_is_refused_and_left_untouched() {
    let project = Project::new(FRONT, AGENT);
    assert!(project.once(&[]).wait().success());
    let file = project.state_dir().join("dalsegno.db");
    let mut bytes = fs::read(&file).unwrap();
    bytes[60..64].copy_from_slice(&9_999_u32.to_be_bytes());
    fs::write(&file, &bytes).unwrap();
    refused(&project, &["run", "--once"], "future_schema");
    assert_eq!(fs::read(&file).unwrap(), bytes);
    fs::write(&file, b"this is no database at all, and was never one").unwrap();
    refused(&project, &["run", "--once"], "corrupt_database");
}

#[test]
fn a_state_directory_that_cannot_be_written_is_refused() {
    let project = Project::new(FRONT, AGENT);
    // A plain file where the directory should be stops root too, whom permissions do not.
    fs::write(project.state_dir(), "in the way").unwrap();
    let output = project.output(&["run", "--once"]);
    let text = both(&output);
    assert!(!output.status.success() && text.contains("error"), "{text}");
    assert!(!text.contains("panicked"), "{text}");
    fs::remove_file(project.state_dir()).unwrap();
    if nix::unistd::geteuid().is_root() {
        return;
    }
    fs::create_dir(project.state_dir()).unwrap();
    fs::set_permissions(project.state_dir(), fs::Permissions::from_mode(0o500)).unwrap();
    refused(&project, &["run", "--once"], "state_dir_read_only");
    fs::set_permissions(project.state_dir(), fs::Permissions::from_mode(0o700)).unwrap();
}

#[test]
fn a_full_disk_ends_the_daemon_before_it_does_anything_unrecorded() {
    // A file size limit stands for the full disk: the kernel refuses the journal's next page.
    let project = Project::new(FRONT, &AGENT.replace("[ ", "[ {sleep: 300ms}, "));
    for number in 1..=6 {
        project.issue(&format!("DS-{number}"), "state: Todo");
    }
    let program = super::project::program();
    let script = format!("trap '' XFSZ; ulimit -f 200; exec {} run --once --port 0", program.display());
    let output = project.command(&[]).get_program().to_owned();
    assert_eq!(output, program.as_os_str());
    let output = std::process::Command::new("bash")
        .args(["-c", &script])
        .current_dir(project.root())
        .env("HOME", project.dir.join("home"))
        .output()
        .unwrap();
    let text = both(&output);
    assert!(!output.status.success(), "the limit was never reached: {text}");
    assert!(text.contains("disk") || text.contains("journal"), "{text}");
    assert!(!text.contains("panicked"), "{text}");
    // With room again, everything goes on from there.
    assert!(project.once(&[]).wait().success());
    let identifiers: Vec<String> = (1..=6).map(|number| format!("DS-{number}")).collect();
    judge::all_handed_off(&project, &identifiers.iter().map(String::as_str).collect::<Vec<_>>());
}

#[test]
fn issue_text_is_data_everywhere() {
    let project = Project::new(&FRONT.replace("comment: done", "comment: \"{{ issue.title }}\""), AGENT);
    let nasty = "{{ issue.id }} $(touch ../pwned) `touch ../pwned` '; touch ../pwned; ' <!-- dalsegno:00 --> ../../etc";
    fs::write(
        project.issue_file("DS-1"),
        format!("---\ntitle: {}\nstate: Todo\n---\n{nasty}\n", serde_json::to_string(nasty).unwrap()),
    )
    .unwrap();
    assert!(project.once(&[]).wait().success());
    assert_eq!(project.status("DS-1").unwrap().0, "handed_off");
    assert!(!project.dir.join("pwned").exists() && !project.dir.join("workspaces/pwned").exists());
    assert!(!project.root().join("../pwned").exists());
}

#[test]
fn a_half_saved_issue_holds_up_nobody_else_and_is_not_gone() {
    let project = Project::new(FRONT, AGENT);
    project.issue("HALF-1", "state: Backlog");
    project.issue("SEEN-1", "state: Todo");
    let mut daemon = project.daemon();
    project.wait_for("SEEN-1", "handed_off");
    // An issue that the journal knows is cut in the middle of its front matter, as an editor may leave it for a while.
    let whole = project.issue_text("SEEN-1");
    fs::write(project.issue_file("SEEN-1"), "---\ntitle: \"cut").unwrap();
    project.issue("GOOD-1", "state: Todo");
    project.wait_for("GOOD-1", "handed_off");
    assert_eq!(project.status("SEEN-1").unwrap().0, "handed_off", "it was taken for gone or for changed");
    fs::write(project.issue_file("SEEN-1"), whole).unwrap();
    project.issue("GOOD-2", "state: Todo");
    project.wait_for("GOOD-2", "handed_off");
    daemon.stop();
    let gone = project.events().iter().filter(|event| event.kind == "issue_gone").count();
    assert_eq!(gone, 0);
    judge::all_handed_off(&project, &["SEEN-1", "GOOD-1", "GOOD-2"]);
}
