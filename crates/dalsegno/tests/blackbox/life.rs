//! The life of an issue on the real binary.

use std::fs;

use super::judge;
use super::project::{Daemon, Project};

const AGENT: &str = r#"
default:
  - [ {say: working}, {sh: "echo work >> work.txt && git add -A && git commit -qm work"}, {usage: {input: 1200, output: 80}} ]
"#;

const HANDOFF: &str = r#"polling: {interval_ms: 100}
agent: {kind: scripted, script: agent.yaml, max_retry_backoff_ms: 200}
handoff: {checks: ["test -s work.txt"], claim_state: In Progress, state: Human Review, comment: "done"}
"#;

#[test]
fn an_issue_becomes_a_handed_off_branch() {
    let project = Project::new(HANDOFF, AGENT);
    project.issue("DS-1", "state: Todo");
    assert!(project.once(&[]).wait().success());
    judge::all_handed_off(&project, &["DS-1"]);
    let show = project.json(&["issue", "show", "DS-1", "--json"]);
    assert_eq!(show["usage"]["input_tokens"], 1200, "{show}");
    let evidence = project.json(&["runs", "--json"]);
    assert_eq!(evidence["runs"][0]["outcome"], "completed", "{evidence}");
    assert_eq!(project.git(&project.remote(), &["show", "dalsegno/DS-1:work.txt"]), "work");
}

#[test]
fn a_failing_check_gives_the_agent_another_turn_with_its_output() {
    let agent = r#"
default:
  - [ {sh: "echo wrong > work.txt && git add -A && git commit -qm one"} ]
  - [ {sh: "echo right > work.txt && git add -A && git commit -qm two"} ]
"#;
    let front = HANDOFF.replace("test -s work.txt", "cat work.txt; grep -q right work.txt");
    let project = Project::new(&front, agent);
    project.issue("DS-1", "state: Todo");
    assert!(project.once(&[]).wait().success());
    judge::all_handed_off(&project, &["DS-1"]);
    let checks: Vec<bool> = project
        .events()
        .iter()
        .filter(|event| event.kind == "check_ended")
        .map(|event| event.data["passed"].as_bool().unwrap())
        .collect();
    assert_eq!(checks, [false, true]);
    let log = project.output(&["logs", "DS-1"]);
    let text = String::from_utf8_lossy(&log.stdout).into_owned();
    assert!(text.contains("wrong"), "the check's output is in the next prompt: {text}");
}

#[test]
fn leftovers_are_committed_by_default_and_asked_for_with_require() {
    let agent = r#"
default:
  - [ {sh: "echo work > work.txt && git add -A && git commit -qm work"}, {write: {path: note.txt, content: "left"}} ]
  - [ {sh: "git add -A && git commit -qm note"} ]
"#;
    for (mode, turns) in [("auto", 1), ("require", 2)] {
        let project = Project::new(&HANDOFF.replace("handoff: {", &format!("handoff: {{commit: {mode}, ")), agent);
        project.issue("DS-1", "state: Todo");
        assert!(project.once(&[]).wait().success());
        judge::all_handed_off(&project, &["DS-1"]);
        assert_eq!(project.git(&project.remote(), &["show", "dalsegno/DS-1:note.txt"]), "left");
        let started = project.events().iter().filter(|event| event.kind == "turn_started").count();
        assert_eq!(started, turns, "commit: {mode}");
    }
}

#[test]
fn max_turns_parks_with_evidence() {
    let agent = "default:\n  - [ {say: nothing} ]\n";
    let project = Project::new(&HANDOFF.replace("max_retry", "max_turns: 3, max_retry"), agent);
    project.issue("DS-1", "state: Todo");
    assert!(project.once(&[]).wait().success());
    let (status, reason) = project.status("DS-1").unwrap();
    assert_eq!(status, "parked");
    assert!(reason.contains("max_turns_reached") && reason.contains("3 turns"), "{reason}");
    let turns = project.events().iter().filter(|event| event.kind == "turn_started").count();
    assert_eq!(turns, 3);
    judge::at_rest(&project);
}

#[test]
fn a_handed_off_issue_stays_so_until_somebody_else_changes_it() {
    let agent = r#"
default:
  - [ {sh: "date +%N >> work.txt && git add -A && git commit -qm work"} ]
"#;
    // The handoff state is active here: nothing but stickiness keeps the issue from running again.
    let front = HANDOFF.replace("state: Human Review", "state: In Progress");
    let project = Project::new(&front, agent);
    project.issue("DS-1", "state: Todo");
    let mut daemon = project.daemon();
    project.wait_for("DS-1", "handed_off");
    // Several polls see the active state and our own move and comment.
    let polls = fs::metadata(project.issue_file("DS-1")).unwrap().modified().unwrap();
    std::thread::sleep(std::time::Duration::from_millis(500));
    assert_eq!(fs::metadata(project.issue_file("DS-1")).unwrap().modified().unwrap(), polls);
    assert_eq!(runs(&project), 1, "it was dispatched again without anybody's change");
    daemon.stop();
    // Not after a restart either.
    let mut daemon = project.daemon();
    std::thread::sleep(std::time::Duration::from_millis(500));
    assert_eq!(runs(&project), 1);
    // Somebody's edit of the description makes it eligible; the branch is pushed on, never forced.
    let text = project.issue_text("DS-1").replace("The description of", "A new description of");
    fs::write(project.issue_file("DS-1"), text).unwrap();
    project.wait_until("the second handoff", || {
        runs(&project) == 2 && project.status("DS-1").is_some_and(|(status, _)| status == "handed_off")
    });
    daemon.stop();
    let commits = project.git(&project.remote(), &["rev-list", "--count", "main..dalsegno/DS-1"]);
    assert_eq!(commits, "2");
}

#[test]
fn terminal_stops_the_run_and_removes_a_clean_workspace_but_keeps_a_dirty_one() {
    let agent = r#"
CLEAN-1:
  - [ {sleep: 60s} ]
DIRTY-1:
  - [ {write: {path: precious.txt, content: "work"}}, {sleep: 60s} ]
"#;
    let project = Project::new(HANDOFF, agent);
    project.issue("CLEAN-1", "state: Todo");
    project.issue("DIRTY-1", "state: Todo");
    let mut daemon = project.daemon();
    project.wait_until("the dirty file", || project.workspace("DIRTY-1").join("precious.txt").exists());
    project.wait_until("the clean one's turn", || {
        project.events().iter().any(|event| event.kind == "turn_started" && event.issue.as_deref() == Some("CLEAN-1"))
    });
    project.set_state("CLEAN-1", "Done");
    project.set_state("DIRTY-1", "Done");
    project.wait_until("the clean workspace to go", || !project.workspace("CLEAN-1").exists());
    project.wait_for_event("workspace_kept");
    assert_eq!(fs::read_to_string(project.workspace("DIRTY-1").join("precious.txt")).unwrap(), "work");
    let kept = project.events();
    let kept = kept.iter().find(|event| event.kind == "workspace_kept").unwrap();
    assert_eq!(kept.issue.as_deref(), Some("DIRTY-1"));
    for identifier in ["CLEAN-1", "DIRTY-1"] {
        let ended = project.events();
        let ended = ended.iter().find(|event| event.kind == "run_ended" && event.issue.as_deref() == Some(identifier));
        assert_eq!(ended.unwrap().data["outcome"], "canceled");
    }
    daemon.stop();
    judge::at_rest(&project);
}

#[test]
fn a_before_remove_script_that_outlived_its_daemon_is_ended_before_it_runs_again() {
    let hooks = "hooks: {before_remove: 'echo x >> ../before_remove.log; sleep 61', timeout_ms: 90000}\n";
    let project = Project::new(&format!("{HANDOFF}{hooks}"), "default:\n  - [ {sleep: 60s} ]\n");
    project.issue("DS-1", "state: Todo");
    let mut daemon = project.daemon();
    project.wait_for_event("turn_started");
    project.set_state("DS-1", "Done");
    let begun = |times: usize| {
        let log = fs::read_to_string(project.dir.join("workspaces/before_remove.log")).unwrap_or_default();
        log.lines().count() >= times && sleepers(&project) > 0
    };
    project.wait_until("the script", || begun(1));
    daemon.kill();
    let mut daemon = project.daemon();
    project.wait_until("the script again", || begun(2));
    assert_eq!(sleepers(&project), 1, "{:?}", project.strays());
    daemon.signal(nix::sys::signal::Signal::SIGTERM);
    std::thread::sleep(std::time::Duration::from_millis(100));
    daemon.signal(nix::sys::signal::Signal::SIGTERM);
    daemon.wait();
}

fn sleepers(project: &Project) -> usize {
    project.strays().iter().filter(|line| line.starts_with("sleep 61")).count()
}

#[test]
fn an_inactive_state_stops_the_run_and_keeps_the_workspace() {
    let project = Project::new(HANDOFF, "default:\n  - [ {sleep: 60s} ]\n");
    project.issue("DS-1", "state: Todo");
    let mut daemon = project.daemon();
    project.wait_for_event("turn_started");
    project.set_state("DS-1", "Backlog");
    project.wait_for("DS-1", "idle");
    assert!(project.workspace("DS-1").exists());
    daemon.stop();
    judge::at_rest(&project);
}

#[test]
fn without_a_handoff_the_specification_applies() {
    // The agent moves the issue itself; until then clean ends are followed by a continuation.
    let front = "polling: {interval_ms: 100}\nagent: {kind: scripted, script: agent.yaml, max_turns: 2}\n";
    let project = Project::new(front, "default:\n  - [ {say: one} ]\n");
    project.issue("DS-1", "state: Todo");
    let mut daemon = project.daemon();
    project.wait_until("a continuation", || runs(&project) >= 2);
    let events = project.events();
    let attempts: Vec<_> =
        events.iter().filter(|event| event.kind == "run_started").map(|event| event.data["attempt"].clone()).collect();
    assert!(attempts[0].is_null());
    assert_eq!(attempts[1], 1);
    project.set_state("DS-1", "Done");
    project.wait_for("DS-1", "idle");
    daemon.stop();
    judge::at_rest(&project);
}

#[test]
fn a_stop_in_good_order_leaves_the_rest_to_the_next_start() {
    let agent = r#"
default:
  - [ {sh: "echo work > work.txt && git add -A && git commit -qm work"}, {sleep: 60s} ]
"#;
    let project = Project::new(HANDOFF, agent);
    project.issue("DS-1", "state: Todo");
    let mut daemon = project.daemon();
    project.wait_until("the commit", || {
        project.workspace("DS-1").join("work.txt").exists()
            && project.git_raw(&project.workspace("DS-1"), &["log", "-1", "--format=%s"]).stdout == b"work\n"
    });
    daemon.signal(nix::sys::signal::Signal::SIGTERM);
    std::thread::sleep(std::time::Duration::from_millis(200));
    daemon.signal(nix::sys::signal::Signal::SIGTERM);
    assert!(daemon.wait().success(), "{}", daemon.log_tail());
    assert!(project.strays().is_empty(), "{:?}", project.strays());
    assert!(!project.state_dir().join("daemon.json").exists());
    // The sleep was cut; the same session goes on, and the work is handed over.
    assert!(project.once(&[]).wait().success());
    judge::all_handed_off(&project, &["DS-1"]);
    assert!(project.events().iter().any(|event| event.kind == "session_resumed"));
}

fn runs(project: &Project) -> usize {
    project.events().iter().filter(|event| event.kind == "run_started").count()
}

#[test]
fn what_somebody_else_pushed_to_the_branch_is_merged_before_it_is_handed_over() {
    let agent = r#"
default:
  - [ {sh: "echo work > work.txt && git add -A && git commit -qm work"} ]
DS-1:
  - [ {sh: "echo one > one.txt && git add -A && git commit -qm one"} ]
  - [ {sh: "echo two > two.txt && git add -A && git commit -qm two"} ]
  - [ {sh: "git merge -q --no-edit refs/remotes/origin/dalsegno/DS-1"} ]
"#;
    let front =
        "polling: {interval_ms: 200}\nagent: {kind: scripted, script: agent.yaml}\nhandoff: {state: Human Review}\n";
    let project = Project::new(front, agent);
    project.issue("DS-1", "state: Todo");
    assert!(project.once(&[]).wait().success());
    assert_eq!(project.status("DS-1").unwrap().0, "handed_off");
    // A reviewer adds a commit to our branch, and asks for more.
    let review = project.dir.join("review");
    project.git(&project.dir, &["clone", "-q", "-b", "dalsegno/DS-1", "remote.git", "review"]);
    std::fs::write(review.join("theirs.txt"), "theirs\n").unwrap();
    project.git(&review, &["add", "-A"]);
    project.git(&review, &["commit", "-qm", "theirs"]);
    project.git(&review, &["push", "-q"]);
    project.set_state("DS-1", "Rework");
    assert!(project.once(&[]).wait().success());
    assert_eq!(project.status("DS-1").unwrap().0, "handed_off", "{:?}", project.status("DS-1"));
    let files = project.git(&project.remote(), &["ls-tree", "--name-only", "dalsegno/DS-1"]);
    for file in ["one.txt", "two.txt", "theirs.txt"] {
        assert!(files.lines().any(|line| line == file), "{file} is not in\n{files}");
    }
    let kinds: Vec<String> = project.events().into_iter().map(|event| event.kind).collect();
    assert_eq!(kinds.iter().filter(|kind| *kind == "branch_diverged").count(), 1);
}

#[test]
fn what_the_daemons_environment_says_of_git_and_credentials_reaches_neither_its_own_git_nor_checks() {
    let agent = r#"
default:
  - [ {sh: "echo work > work.txt && git add -A && git commit -qm work && echo more > more.txt"} ]
"#;
    let project = Project::new(HANDOFF, agent);
    let (seen, trace) = (project.dir.join("seen"), project.dir.join("trace"));
    let check = format!("checks: [\"env > '{}'\", ", seen.display());
    project.front(&HANDOFF.replace("checks: [", &check));
    project.issue("DS-1", "state: Todo");
    let mut daemon = project.once(&[
        ("GH_TOKEN", "a token"),
        ("SSH_AUTH_SOCK", "/a/socket"),
        ("GIT_NAMESPACE", "elsewhere"),
        ("GIT_TRACE", trace.to_str().unwrap()),
    ]);
    assert!(daemon.wait().success(), "{}", daemon.log_tail());
    judge::all_handed_off(&project, &["DS-1"]);
    let seen = fs::read_to_string(seen).unwrap();
    assert!(seen.contains("PATH="), "{seen}");
    for name in ["GH_TOKEN", "SSH_AUTH_SOCK", "GIT_NAMESPACE"] {
        assert!(!seen.contains(name), "a check sees {name}: {seen}");
    }
    // What looks at the workspace reads nothing of it; what talks to the remote is the user's git, and does.
    let trace = fs::read_to_string(trace).unwrap();
    assert!(trace.contains("git push") || trace.contains("push --porcelain"), "{trace}");
    assert!(!trace.contains("write-tree") && !trace.contains("commit-tree"), "{trace}");
}

/// As after Ctrl-S in its terminal: standard error takes a few lines and then nothing more.
#[test]
fn a_standard_error_that_nobody_reads_holds_nothing_up() {
    let project = Project::new(HANDOFF, AGENT);
    let identifiers = ["DS-1", "DS-2", "DS-3", "DS-4"];
    for identifier in identifiers {
        project.issue(identifier, "state: Todo");
    }
    let (reader, writer) = std::io::pipe().unwrap();
    nix::fcntl::fcntl(&writer, nix::fcntl::FcntlArg::F_SETPIPE_SZ(4_096)).unwrap();
    let mut command = project.command(&["run", "--once", "--port", "0"]);
    let child =
        command.env("DALSEGNO_LOG", "debug").stdout(std::process::Stdio::null()).stderr(writer).spawn().unwrap();
    drop(command);
    let mut daemon = Daemon::of(child, &project);
    let status = daemon.wait();
    assert!(status.success(), "{status}");
    for identifier in identifiers {
        assert_eq!(project.status(identifier).unwrap().0, "handed_off", "{identifier}");
    }
    // The file has every line, and says that standard error has not.
    let folder = project.state_dir().join("log");
    let log: String =
        std::fs::read_dir(folder).unwrap().map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap()).collect();
    assert!(log.len() > 8_192, "it is a test only when the pipe is full: {} bytes", log.len());
    assert!(log.contains("lines are missing in standard error"), "{log}");
    drop(reader);
}
