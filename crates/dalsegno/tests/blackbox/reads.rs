//! The reading verbs, against a gateway over a reading side in memory.

use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use super::served::{self, Project};

#[test]
fn every_read_has_a_table_for_people_and_json_for_programs() {
    let project = Project::served();
    for (arguments, words, pointer, value) in [
        ("status", "Needs you", "/counts/parked", json!(1)),
        ("issues", "DS-1", "/issues/0/identifier", json!("DS-1")),
        ("issues --state parked", "DS-2", "/issues/0/identifier", json!("DS-2")),
        ("issue list", "parked", "/total", json!(2)),
        ("issue show ds-1", "dalsegno/DS-1", "/issue_identifier", json!("DS-1")),
        ("show DS-1", "Fix the parser", "/identifier", json!("DS-1")),
        ("show run-1", "session-1", "/id", json!("run-1")),
        ("runs", "run-1", "/runs/0/id", json!("run-1")),
        ("runs DS-1 --limit 5", "assessing", "/runs/0/issue", json!("DS-1")),
        ("logs run-1", "hello", "/entries/1/text", json!("hello\nworld")),
        ("logs DS-1", "turn 1", "/run", json!("run-1")),
        ("diff run-1", "+\ttwo", "/files/0/path", json!("a.txt")),
        ("diff DS-1 --stat", "+1 −0", "/run", json!("run-1")),
        ("events", "issue_status", "/events/0/seq", json!(1)),
        ("events --kind issue_status", "queued → running", "/events/0/kind", json!("issue_status")),
        ("explain DS-2", "→ release it", "/rules/0/rule", json!("not_parked")),
    ] {
        let people = project.run(arguments);
        assert_eq!((people.code, people.stderr.as_str()), (0, ""), "{arguments}");
        assert!(people.stdout.contains(words), "{arguments}: {}", people.stdout);
        assert!(!people.stdout.contains('\u{1b}'), "{arguments}: colours without a terminal");
        let programs = project.run(&format!("{arguments} --json"));
        assert_eq!((programs.code, programs.stderr.as_str()), (0, ""), "{arguments}");
        let body: Value = serde_json::from_str(&programs.stdout).unwrap();
        assert_eq!(body.pointer(pointer), Some(&value), "{arguments}: {body}");
    }
}

#[test]
fn foreign_text_does_not_reach_the_terminal_as_commands() {
    let project = Project::served();
    let answer = project.run("issues");
    assert!(answer.stdout.contains("Evil [2Jtitle"), "{}", answer.stdout);
    assert!(answer.stdout.bytes().all(|byte| byte == b'\n' || byte >= 0x20));
}

#[test]
fn what_goes_wrong_has_a_code_a_remedy_and_an_exit_code() {
    let served = Project::served();
    let bare = Project::bare();
    let stale = Project::stale();
    for (project, arguments, exit, code) in [
        (&served, "issue show DS-9", 3, "issue_not_found"),
        (&served, "show DS-9", 3, "issue_not_found"),
        (&served, "explain DS-9", 3, "issue_not_found"),
        (&served, "runs DS-9", 3, "issue_not_found"),
        (&served, "logs DS-9", 3, "not_found"),
        (&served, "logs DS-2", 3, "run_not_found"),
        (&served, "events --after damaged", 2, "invalid_cursor"),
        (&bare, "status", 4, "daemon_not_running"),
        (&bare, "events -f", 4, "daemon_not_running"),
        (&stale, "issues", 4, "daemon_not_running"),
        (&stale, "events -f", 4, "daemon_not_running"),
    ] {
        let people = project.run(arguments);
        assert_eq!(people.code, exit, "{arguments}: {}", people.stderr);
        assert!(people.stderr.starts_with(&format!("error[{code}]: ")), "{arguments}: {}", people.stderr);
        assert!(people.stderr.contains("\n  hint: "), "{arguments}: {}", people.stderr);
        assert_eq!(people.stdout, "", "{arguments}");
        let programs = project.run(&format!("--json {arguments}"));
        assert_eq!(programs.code, exit, "{arguments}");
        let envelope: Value = serde_json::from_str(&programs.stderr).unwrap();
        assert_eq!(envelope["error"]["code"], code, "{arguments}");
    }
    assert_eq!(served.run("nonsense").code, 2);
    assert_eq!(served.run("runs --limit 0").code, 2);
}

/// A daemon was killed, and another user's program has its port: it would answer whatever it is asked.
#[test]
fn who_took_the_port_of_a_dead_daemon_never_sees_its_token() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let project = Project::usurped(listener.local_addr().unwrap().port());
    for arguments in ["status", "issues", "budget", "release DS-1", "events -f", "logs DS-1"] {
        let answer = project.run(arguments);
        assert_eq!(answer.code, 4, "{arguments}: {}", answer.stderr);
        assert!(answer.stderr.starts_with("error[daemon_not_running]"), "{arguments}: {}", answer.stderr);
        let asked = listener.accept().map_err(|error| error.kind());
        assert_eq!(asked.err(), Some(std::io::ErrorKind::WouldBlock), "{arguments}: it was asked something");
    }
}

#[test]
fn outside_of_a_project_it_says_where_to_go() {
    let nowhere = tempfile::tempdir().unwrap();
    let answer = served::command(nowhere.path()).arg("status").output().unwrap();
    assert_eq!(answer.status.code(), Some(3));
    assert!(String::from_utf8(answer.stderr).unwrap().starts_with("error[project_not_found]"));
}

#[test]
fn the_project_is_found_from_below_and_by_its_workflow() {
    let project = Project::served();
    let below = project.dir().join("src/deep");
    std::fs::create_dir_all(&below).unwrap();
    let answer = served::command(&below).arg("issues").output().unwrap();
    assert_eq!(answer.status.code(), Some(0));
    let elsewhere = tempfile::tempdir().unwrap();
    for (flag, path) in [("--dir", project.dir().to_owned()), ("--workflow", project.dir().join("WORKFLOW.md"))] {
        let answer = served::command(elsewhere.path()).arg("issues").arg(flag).arg(path).output().unwrap();
        assert_eq!(answer.status.code(), Some(0), "{flag}");
    }
    let answer = served::command(elsewhere.path()).arg("issues").env("DALSEGNO_DIR", project.dir()).output().unwrap();
    assert_eq!(answer.status.code(), Some(0));
}

#[test]
fn following_goes_on_with_new_events_until_ctrl_c() {
    let project = Project::served();
    let mut child = project.command("events -f --json").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let seq = |line: String| serde_json::from_str::<Value>(&line).unwrap()["seq"].as_u64().unwrap();
    assert_eq!(seq(lines.next().unwrap().unwrap()), 1);
    assert_eq!(seq(lines.next().unwrap().unwrap()), 2);
    project.commit();
    assert_eq!(seq(lines.next().unwrap().unwrap()), 3);
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), Signal::SIGINT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let mut errors = String::new();
    child.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
    assert_eq!(errors, "");
}

#[test]
fn following_a_transcript_ends_with_its_run() {
    let project = Project::served();
    let mut child = project.command("logs -f run-1").stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("world")));
    project.end_run();
    let rest: Vec<String> = lines.map(Result::unwrap).collect();
    assert!(rest.iter().any(|line| line.contains("the last word")), "{rest:?}");
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let project = Project::served();
    for _ in 0..3_000 {
        project.commit();
    }
    let mut child = project.command("events").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    lines.next().unwrap().unwrap();
    drop(lines);
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr.len()), (Some(0), 0));
}

#[test]
fn events_are_paged_through_to_the_head_or_the_limit() {
    let project = Project::served();
    for _ in 0..1_200 {
        project.commit();
    }
    let all: Value = serde_json::from_str(&project.run("events --json").stdout).unwrap();
    let numbers: Vec<u64> = all["events"].as_array().unwrap().iter().map(|e| e["seq"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (1..=1_202).collect::<Vec<_>>());
    assert_eq!(all["next"], all["head"]);
    let some: Value = serde_json::from_str(&project.run("events --json --limit 3").stdout).unwrap();
    assert_eq!(some["events"].as_array().unwrap().len(), 3);
    let after = some["next"].as_str().unwrap();
    let next: Value =
        serde_json::from_str(&project.run(&format!("events --json --limit 1 --after {after}")).stdout).unwrap();
    assert_eq!(next["events"][0]["seq"], 4);
    assert!(project.run("events --limit 3").stdout.ends_with(&format!("There are more: --after {after}\n")));
}

#[test]
fn shells_get_their_completions() {
    let nowhere = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish"] {
        let answer = served::command(nowhere.path()).args(["completions", shell]).output().unwrap();
        assert_eq!(answer.status.code(), Some(0));
        assert!(String::from_utf8(answer.stdout).unwrap().contains("explain"), "{shell}");
    }
}

#[test]
fn issues_of_the_local_tracker_are_written_moved_and_commented() {
    let project = Project::bare();
    std::fs::write(
        project.dir().join("WORKFLOW.md"),
        "---\ntracker: {kind: local}\nagent: {kind: scripted, script: a.yaml}\n---\nDo it\n",
    )
    .unwrap();
    let run = |arguments: &[&str]| {
        let output = served::command(project.dir()).args(arguments).output().unwrap();
        let errors = String::from_utf8(output.stderr).unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap(), errors)
    };
    let (code, stdout, errors) =
        run(&["issue", "new", "Fix it", "-d", "Body", "--priority", "2", "--label", "ui", "--json"]);
    assert_eq!((code, errors.as_str()), (0, ""));
    let identifier = serde_json::from_str::<Value>(&stdout).unwrap()["identifier"].as_str().unwrap().to_owned();
    let file = project.dir().join(format!("issues/{identifier}.md"));
    assert_eq!(run(&["issue", "move", &identifier.to_lowercase(), "Done"]).0, 0);
    assert_eq!(run(&["issue", "comment", &identifier, "well done", "--author", "ada"]).0, 0);
    let text = std::fs::read_to_string(file).unwrap();
    for part in ["title: Fix it", "Body", "state: Done", "well done", "ada"] {
        assert!(text.contains(part), "{part} is missing in {text}");
    }
    for unknown in [&["issue", "move", "DS-99", "Done"][..], &["issue", "comment", "DS-99", "hello"]] {
        let (code, _, errors) = run(unknown);
        assert_eq!(code, 3, "{unknown:?}");
        assert!(errors.starts_with("error[issue_not_found]"), "{errors}");
    }
}

#[test]
fn validate_tells_a_good_workflow_from_a_bad_one() {
    let project = Project::bare();
    let write = |name: &str, text: &str| std::fs::write(project.dir().join(name), text).unwrap();
    write(
        "WORKFLOW.md",
        "---\ntracker: {kind: local}\nagent: {kind: scripted, script: a.yaml}\nagnt: 1\n---\nDo {{ issue.title }}\n",
    );
    let answer = project.run("validate");
    assert_eq!((answer.code, answer.stderr.as_str()), (0, ""));
    assert!(answer.stdout.contains("nothing reads `agnt`; is `agent` meant?"), "{}", answer.stdout);
    let body: Value = serde_json::from_str(&project.run("validate --json").stdout).unwrap();
    assert_eq!((&body["valid"], &body["unknown_keys"][0]["nearest"]), (&json!(true), &json!("agent")));
    write("bad.md", "---\n- a\n---\n");
    let answer = project.run("validate bad.md");
    assert_eq!(answer.code, 1);
    assert!(answer.stderr.starts_with("error[workflow_front_matter_not_a_map]"), "{}", answer.stderr);
    let answer = project.run("validate nowhere.md");
    assert_eq!(answer.code, 3);
    assert!(answer.stderr.starts_with("error[missing_workflow_file]"), "{}", answer.stderr);
    // Templates fail the run that meets them; here they show before. Each problem is told.
    write(
        "templates.md",
        "---\ntracker: {kind: local}\nagent: {kind: scripted, script: a.yaml}\nhandoff: {comment: \"{% if %}\"}\n---\n{{ issue.nonsense }}\n",
    );
    let answer = project.run("validate templates.md");
    assert_eq!((answer.code, answer.stdout.as_str()), (1, ""));
    for code in ["template_parse_error", "template_render_error"] {
        assert!(answer.stderr.contains(code), "{code}: {}", answer.stderr);
    }
}

#[test]
fn a_refused_start_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    for arguments in [&[][..], &["run", "--once"], &["run", "nowhere.md"]] {
        let answer = served::command(dir.path()).args(arguments).arg("--port=0").output().unwrap();
        let errors = String::from_utf8(answer.stderr).unwrap();
        assert_eq!(answer.status.code(), Some(3), "{errors}");
        assert!(errors.starts_with("error[missing_workflow_file]"), "{errors}");
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}
