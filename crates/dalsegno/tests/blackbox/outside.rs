//! What lies outside the journal, and astray: named by `doctor`, mended by it and by the daemon, and nothing lost with it.

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

use dalsegno_engine::Reads as _;
use dalsegno_store::Store;
use dalsegno_testkit::crash::{Kill, Ran};
use serde_json::Value;

use super::judge;
use super::project::Project;

const AGENT: &str = r#"
default:
  - [ {sh: "echo work >> work.txt && git add -A && git commit -qm work"} ]
"#;

const FRONT: &str = r#"polling: {interval_ms: 100}
agent: {kind: scripted, script: agent.yaml, max_retry_backoff_ms: 200}
handoff: {state: Human Review}
"#;

/// What was planted, and ends with the test.
struct Planted {
    stray: Child,
    transcript: PathBuf,
}

impl Drop for Planted {
    fn drop(&mut self) {
        let _ = self.stray.kill();
        let _ = self.stray.wait();
    }
}

/// A workspace that nobody owns, in the image of that of DS-1.
fn orphan(project: &Project, identifier: &str, dirty: bool) {
    let (from, to) = (project.workspace("DS-1"), project.workspace(identifier));
    assert!(Command::new("cp").arg("-a").arg(&from).arg(&to).status().unwrap().success());
    let markers = project.dir.join("workspaces/.dalsegno");
    let mut marker: Value = serde_json::from_slice(&fs::read(markers.join("DS-1.json")).unwrap()).unwrap();
    project.git(&to, &["reset", "-q", "--hard", marker["base_commit"].as_str().unwrap()]);
    if dirty {
        fs::write(to.join("precious.txt"), "not committed").unwrap();
    }
    marker["identifier"] = identifier.into();
    fs::write(markers.join(format!("{identifier}.json")), marker.to_string()).unwrap();
}

fn plant(project: &Project) -> Planted {
    orphan(project, "X-1", false);
    orphan(project, "X-2", true);
    // Another project's, in the same root.
    orphan(project, "Y-1", false);
    let others = project.dir.join("workspaces/.dalsegno/Y-1.json");
    let mut marker: Value = serde_json::from_slice(&fs::read(&others).unwrap()).unwrap();
    marker["owner"] = "0123456789abcdef0123456789abcdef".into();
    fs::write(others, marker.to_string()).unwrap();
    let transcript = project.state_dir().join("transcripts/run-77.jsonl");
    fs::write(&transcript, "words that are no entry\n").unwrap();
    let journal = Store::open_read_only(&project.state_dir()).unwrap().journal_id().to_owned();
    let stray = Command::new("sleep")
        .arg("600")
        .env("DALSEGNO_RUN", format!("{journal}/run-999"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    Planted { stray, transcript }
}

/// The worst that is said under a check, with all that is said.
fn said(output: &Output, check: &str) -> (String, String) {
    let value: Value = serde_json::from_slice(&output.stdout).unwrap();
    let findings: Vec<&Value> =
        value["findings"].as_array().unwrap().iter().filter(|finding| finding["check"] == check).collect();
    let worst =
        ["error", "warning", "note", "ok"].into_iter().find(|word| findings.iter().any(|f| f["severity"] == *word));
    let text: Vec<&str> = findings.iter().map(|finding| finding["finding"].as_str().unwrap()).collect();
    (worst.unwrap_or("").to_owned(), text.join("\n"))
}

fn doctor(project: &Project, more: &[&str]) -> Output {
    project.output(&[&["doctor", "--json", "--offline"], more].concat())
}

fn mended(project: &Project, planted: &mut Planted) {
    assert!(!project.workspace("X-1").exists(), "a clean orphan is removed");
    assert!(!project.workspace("X-2").exists());
    let kept = project.workspace("X-2.kept-1").join("precious.txt");
    assert_eq!(fs::read_to_string(kept).unwrap(), "not committed", "work is kept");
    assert!(project.workspace("DS-1").exists(), "what an issue owns is left alone");
    assert!(project.workspace("Y-1").exists(), "what is another project's is left alone");
    assert!(planted.stray.try_wait().unwrap().is_some(), "the stray process is ended");
    let aside = project.state_dir().join("transcripts/aside/run-77.1.jsonl");
    assert_eq!(fs::read_to_string(aside).unwrap(), "words that are no entry\n");
}

/// What the journal says of a recovery, by member.
fn recovered(project: &Project) -> Vec<(String, String, String)> {
    let word = |event: &dalsegno_engine::EventRow, name: &str| event.data[name].as_str().unwrap_or("").to_owned();
    let events = project.events();
    let of_it = events.iter().filter(|event| event.kind == "recovered");
    let name = |event| (word(event, "surface"), word(event, "action"), word(event, "reason"));
    of_it.map(name).collect()
}

#[test]
fn what_is_nobodys_is_named_and_without_a_daemon_mended_by_the_doctor() {
    let project = Project::new(FRONT, AGENT);
    project.issue("DS-1", "state: Todo");
    assert!(project.once(&[]).wait().success());
    judge::all_handed_off(&project, &["DS-1"]);
    assert_eq!(said(&doctor(&project, &[]), "recovery"), ("ok".into(), "everything is in line".into()));
    let mut planted = plant(&project);
    let found = doctor(&project, &[]);
    assert_eq!(found.status.code(), Some(6), "{}", String::from_utf8_lossy(&found.stdout));
    let (worst, text) = said(&found, "recovery");
    assert_eq!(worst, "warning");
    for words in
        ["X-1, and nothing would be lost", "X-2, and it holds 1 uncommitted paths: precious.txt", "run-999", "run-77"]
    {
        assert!(text.contains(words), "{words}: {text}");
    }
    let disk = said(&found, "disk").1;
    assert!(
        disk.contains("DS-1") && disk.contains("the state directory takes"),
        "each with its use of the disk: {disk}"
    );
    let human = project.output(&["doctor", "--offline"]);
    assert!(String::from_utf8_lossy(&human.stdout).contains("dalsegno doctor --fix"), "{human:?}");
    assert!(planted.transcript.exists() && planted.stray.try_wait().unwrap().is_none(), "a look changes nothing");

    let (_, done) = said(&doctor(&project, &["--fix"]), "mended");
    assert_eq!(done.lines().count(), 4, "{done}");
    mended(&project, &mut planted);
    let again = doctor(&project, &["--fix"]);
    assert_eq!(said(&again, "recovery"), ("ok".into(), "everything is in line".into()));
    assert_eq!(said(&again, "mended"), (String::new(), String::new()), "once is enough");
}

#[test]
fn a_running_daemon_is_asked_and_journals_what_it_did() {
    let project = Project::new(FRONT, AGENT);
    project.issue("DS-1", "state: Todo");
    let _daemon = project.daemon();
    project.wait_for("DS-1", "handed_off");
    let mut planted = plant(&project);
    let output = doctor(&project, &["--fix"]);
    assert!(
        said(&output, "mended").1.contains("did what could be done"),
        "{}",
        String::from_utf8_lossy(&output.stdout)
    );
    mended(&project, &mut planted);
    let mut steps = recovered(&project);
    steps.sort();
    let step = |surface: &str, action: &str, reason: &str| (surface.to_owned(), action.to_owned(), reason.to_owned());
    assert_eq!(
        steps,
        [
            step("agent_process", "reap", "orphan"),
            step("transcripts", "rebuild_from_provider", "corrupt"),
            step("workspace", "quarantine", "orphan"),
            step("workspace", "reap", "orphan"),
        ]
    );
    assert_eq!(said(&output, "recovery").1, "everything is in line");
}

#[test]
fn a_workspace_that_is_lost_is_made_anew_also_under_a_live_run() {
    let agent = r#"
default:
  - [ {sh: "test -e ../../go || sleep 60; echo work >> work.txt && git add -A && git commit -qm work"} ]
"#;
    let project = Project::new(FRONT, agent);
    project.issue("DS-1", "state: Todo");
    let mut daemon = project.daemon();
    project.wait_for_event("turn_started");
    daemon.kill();
    fs::remove_dir_all(project.workspace("DS-1")).unwrap();
    fs::write(project.dir.join("go"), "").unwrap();
    let (worst, text) = said(&doctor(&project, &[]), "recovery");
    assert!(worst == "warning" && text.contains("DS-1") && text.contains("is not there any more"), "{worst}: {text}");
    let _daemon = project.daemon();
    project.wait_for("DS-1", "handed_off");
    assert!(project.workspace("DS-1").join("work.txt").exists());
    project.set_state("DS-1", "Done");
    // And of an issue that nobody works on: the fold forgets it.
    project.wait_for("DS-1", "completed");
}

#[test]
fn without_room_nothing_new_starts_and_it_says_so_and_goes_on() {
    let front = format!("{FRONT}workspace: {{root: ../workspaces, disk_limit_gb: 0.0005}}\n");
    let project = Project::new(&front, AGENT);
    let full = project.dir.join("workspaces/somebody");
    fs::create_dir_all(&full).unwrap();
    fs::write(full.join("large"), vec![1_u8; 1_000_000]).unwrap();
    project.issue("DS-1", "state: Todo");
    let _daemon = project.daemon();
    project.wait_for("DS-1", "queued");
    let (_, reason) = project.status("DS-1").unwrap();
    assert!(reason.contains("no room"), "{reason}");
    let explained = project.json(&["explain", "DS-1", "--json"]);
    let rule = explained["rules"].as_array().unwrap().iter().find(|rule| rule["rule"] == "disk_room").unwrap();
    assert!(rule["pass"] == false && rule["detail"].as_str().unwrap().contains("disk_limit_gb"), "{rule}");
    let (worst, text) = said(&doctor(&project, &[]), "recovery");
    assert!(worst == "warning" && text.contains("workspace.disk_limit_gb allows"), "{worst}: {text}");
    let told = project.events().into_iter().find(|event| event.kind == "readiness").unwrap();
    assert_eq!(told.data["surfaces"], serde_json::json!(["disk"]), "{}", told.data);
    fs::remove_dir_all(&full).unwrap();
    assert!(project.output(&["refresh"]).status.success());
    project.wait_for("DS-1", "handed_off");
}

#[test]
fn databases_that_are_damaged_newer_empty_or_half_written_are_named() {
    let project = Project::new(FRONT, AGENT);
    project.issue("DS-1", "state: Todo");
    assert!(project.once(&[]).wait().success());
    let state = project.state_dir();
    let database = state.join("dalsegno.db");
    let whole = fs::read(&database).unwrap();
    assert!(!state.join("dalsegno.db-wal").exists() || fs::metadata(state.join("dalsegno.db-wal")).unwrap().len() == 0);

    let part = state.join("dalsegno.db.v2.part");
    fs::write(&part, "half").unwrap();
    let (worst, text) = said(&doctor(&project, &[]), "state");
    assert!(worst == "warning" && text.contains("begun and never finished"), "{text}");
    assert!(said(&doctor(&project, &["--fix"]), "mended").1.contains("v2.part"));
    assert!(!part.exists());
    assert_eq!(said(&doctor(&project, &[]), "state").0, "ok");

    let named = |words: &str| {
        let output = doctor(&project, &["--fix"]);
        assert_eq!(output.status.code(), Some(1), "{words}");
        let (worst, text) = said(&output, "state");
        assert!(worst == "error" && text.contains(words), "{words}: {text}");
    };
    let file = fs::OpenOptions::new().write(true).open(&database).unwrap();
    file.write_all_at(&99_u32.to_be_bytes(), 60).unwrap();
    let before = fs::read(&database).unwrap();
    named("future_schema");
    assert_eq!(fs::read(&database).unwrap(), before, "not a byte is changed");
    // A page in the middle, and the rows that it held.
    fs::write(&database, &whole).unwrap();
    let file = fs::OpenOptions::new().write(true).open(&database).unwrap();
    file.write_all_at(&[0xa5; 4096], 8192 * (whole.len() as u64 / 8192 / 2)).unwrap();
    let before = fs::read(&database).unwrap();
    named("corrupt_database");
    let refused = project.output(&["run", "--once", "--port", "0"]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("corrupt_database"), "{refused:?}");
    assert_eq!(fs::read(&database).unwrap(), before, "not a byte is changed");
    fs::write(&database, &whole[..whole.len() / 2]).unwrap();
    named("corrupt_database");
    fs::write(&database, "").unwrap();
    named("is empty, and runs have left transcripts beside it");
    fs::write(&database, &whole).unwrap();
    assert_eq!(said(&doctor(&project, &[]), "state").0, "ok");
}

/// Contract line 8: old or new, never torn, never blocked for good.
#[test]
fn a_kill_at_any_point_of_a_recovery_leaves_what_the_next_one_finishes() {
    let project = Project::new(FRONT, AGENT);
    project.issue("DS-1", "state: Todo");
    assert!(project.once(&[]).wait().success());
    let mut point = 0;
    loop {
        point += 1;
        let mut planted = plant(&project);
        let ended = project.run_with_kill(Kill::At(point)) != Ran::Killed;
        let precious = |copy: &str| project.workspace(copy).join("precious.txt").exists();
        assert!(precious("X-2") != precious("X-2.kept-1"), "killed at {point}: work is here or there, and once");
        if !ended {
            assert!(matches!(project.run_with_kill(Kill::Never), Ran::ToItsEnd { .. }));
        }
        mended(&project, &mut planted);
        assert_eq!(said(&doctor(&project, &[]), "recovery").1, "everything is in line", "killed at {point}");
        for used in ["X-2.kept-1", "Y-1"] {
            fs::remove_dir_all(project.workspace(used)).unwrap();
        }
        fs::remove_dir_all(project.state_dir().join("transcripts/aside")).unwrap();
        if ended {
            break;
        }
    }
    assert!(point > 20, "{point} points were met: the walk does not walk");
}
