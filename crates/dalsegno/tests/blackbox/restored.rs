//! Backups and restores: what a restored journal does about what it does not know, and what a kill leaves.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};

use dalsegno_engine::Reads as _;
use dalsegno_store::Store;

use crate::lifeboat::handed_off;
use crate::project::Project;

/// The agent works when it is let: the file `go` is beside the workspaces.
const GATED: &str = "default:\n  - [ {sh: \"while [ ! -e ../../go ]; do sleep 0.05; done; echo work > work.txt && git add -A && git commit -qm work\"} ]\n";

/// No state is named for what is handed over: the tracker goes on to want the issue.
fn gated(handoff: &str) -> Project {
    let front = format!(
        "polling: {{interval_ms: 200}}\nagent: {{kind: scripted, script: agent.yaml, sandbox: command env}}\n\
         handoff: {{comment: 'It is done.'{handoff}}}\n"
    );
    let project = Project::new(&front, GATED);
    project.issue("DS-1", "state: Todo");
    project
}

fn said(project: &Project, arguments: &[&str]) -> String {
    let output = project.output(arguments);
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn comments(project: &Project, identifier: &str) -> usize {
    let text: String = fs::read_dir(project.dir.join("issues"))
        .unwrap()
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(identifier))
        .map(|entry| fs::read_to_string(entry.path()).unwrap_or_default())
        .collect();
    text.matches("It is done.").count()
}

/// Times that somebody moved the branch on the remote.
fn pushes(project: &Project, identifier: &str) -> usize {
    let log = project.remote().join(format!("logs/refs/heads/dalsegno/{identifier}"));
    fs::read_to_string(log).unwrap_or_default().lines().count()
}

fn backup(project: &Project, name: &str) -> PathBuf {
    let path = project.dir.join(name);
    let said = said(project, &["backup", path.to_str().unwrap()]);
    assert!(said.contains("was read back"), "{said}");
    path
}

fn journal_id(state_dir: &Path) -> String {
    Store::open_read_only(state_dir).unwrap().journal_id().to_owned()
}

#[test]
fn what_was_handed_over_since_the_backup_is_not_done_again() {
    let project = gated("");
    let mut daemon = project.daemon();
    project.wait_for_event("turn_started");
    let path = backup(&project, "backup");
    let text = path.to_str().unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&path), mode(&path.join("dalsegno.db"))), (0o700, 0o600));
    for secret in ["token", "tokens.json", "daemon.json", "lock", "log"] {
        assert!(!path.join(secret).exists(), "{secret} is not in a backup");
    }
    assert!(said(&project, &["backup", text]).contains("output_exists"));
    fs::write(project.dir.join("go"), "").unwrap();
    project.wait_for("DS-1", "handed_off");
    assert_eq!((comments(&project, "DS-1"), pushes(&project, "DS-1")), (1, 1));
    let cursor = project.json(&["events", "--limit", "1", "--json"])["next"].as_str().unwrap().to_owned();
    assert!(said(&project, &["restore", text, "--force"]).contains("daemon_running"));
    daemon.stop();

    let before = journal_id(&project.state_dir());
    assert!(said(&project, &["restore", text]).contains("state_exists"));
    assert_eq!(journal_id(&project.state_dir()), before);
    let restored = project.json(&["restore", text, "--force", "--json"]);
    assert_ne!(journal_id(&project.state_dir()), before);
    let aside = PathBuf::from(restored["aside"].as_str().unwrap());
    assert_eq!(journal_id(&aside), before, "what was there is kept");
    assert!(said(&project, &["events", "--after", &cursor]).contains("cursor_gone"));
    assert_eq!(project.json(&["fsck", "--json"])["severity"], "ok");
    assert_eq!(project.events().last().unwrap().kind, "journal_restored");

    project.issue("DS-2", "state: Todo");
    let mut daemon = project.daemon();
    project.wait_for("DS-1", "parked");
    let (_, reason) = project.status("DS-1").unwrap();
    assert!(reason.starts_with("restored_work_found: its branch is at"), "{reason}");
    project.wait_for("DS-2", "handed_off");
    assert_eq!((comments(&project, "DS-1"), pushes(&project, "DS-1")), (1, 1), "nothing is done twice");
    let runs = |events: &[dalsegno_engine::EventRow]| -> Vec<String> {
        events.iter().filter(|event| event.kind == "run_started").map(|event| event.run.clone().unwrap()).collect()
    };
    assert_eq!(runs(&project.events()), ["run-1", "run-1000002"], "one run is new, and its number as well");
    let probed: Vec<_> = project.events().into_iter().filter(|event| event.kind == "restore_probed").collect();
    assert_eq!(probed.len(), 2, "each issue is looked at once");
    daemon.stop();
    assert_eq!(project.json(&["fsck", "--json"])["severity"], "ok");
}

#[test]
fn a_handoff_of_the_backup_finds_each_step_that_was_done_since() {
    let project = gated(", approval: required");
    fs::write(project.dir.join("go"), "").unwrap();
    let mut daemon = project.daemon();
    project.wait_for("DS-1", "waiting_approval");
    let path = backup(&project, "backup");
    assert!(said(&project, &["approve", "DS-1"]).contains("It is approved"));
    project.wait_for("DS-1", "handed_off");
    assert_eq!((comments(&project, "DS-1"), pushes(&project, "DS-1")), (1, 1));
    daemon.kill();

    let restored = said(&project, &["restore", path.to_str().unwrap(), "--force"]);
    assert!(restored.contains("Restored"), "{restored}");
    let mut daemon = project.daemon();
    project.wait_until("the restored handoff takes the word", || {
        said(&project, &["approve", "DS-1"]).contains("It is approved")
    });
    project.wait_for("DS-1", "handed_off");
    assert_eq!(
        (comments(&project, "DS-1"), pushes(&project, "DS-1")),
        (1, 1),
        "each step is found, and not done again"
    );
    let steps = project.json(&["show", "run-1.handoff", "--json"]);
    assert_eq!(steps["state"], "committed", "{steps}");
    daemon.stop();
}

#[test]
fn what_was_not_gone_on_with_is_worked_on_again() {
    let project = gated("");
    let mut daemon = project.daemon();
    project.wait_for_event("turn_started");
    let path = backup(&project, "backup");
    daemon.kill();
    // A whole new place, as after the loss of a disk.
    fs::rename(project.state_dir(), project.dir.join("lost")).unwrap();
    let restored = said(&project, &["restore", path.to_str().unwrap()]);
    assert!(restored.contains("Restored") && !restored.contains("What was there"), "{restored}");
    fs::write(project.dir.join("go"), "").unwrap();
    assert!(project.once(&[]).wait().success());
    assert_eq!(project.status("DS-1").unwrap().0, "handed_off");
    assert_eq!((comments(&project, "DS-1"), pushes(&project, "DS-1")), (1, 1));
    let ended: Vec<_> = project.events().into_iter().filter(|event| event.kind == "run_ended").collect();
    assert_eq!(ended[0].data["reason"], "journal_restored");
}

#[test]
fn a_backup_that_is_damaged_or_newer_is_refused_and_nothing_is_touched() {
    let project = handed_off();
    let path = backup(&project, "backup");
    let text = path.to_str().unwrap();
    let before = journal_id(&project.state_dir());
    let manifest = path.join("manifest.json");
    let whole = fs::read_to_string(&manifest).unwrap();
    fs::write(&manifest, whole.replace("\"version\": 1", "\"version\": 9")).unwrap();
    assert!(said(&project, &["restore", text, "--force"]).contains("future_schema"));
    fs::write(&manifest, &whole).unwrap();
    fs::write(path.join("stray"), "").unwrap();
    assert!(said(&project, &["restore", text, "--force"]).contains("stray is not in its manifest"));
    fs::remove_file(path.join("stray")).unwrap();
    let database = path.join("dalsegno.db");
    let mut bytes = fs::read(&database).unwrap();
    let at = bytes.len() - 100;
    bytes[at] ^= 1;
    fs::write(&database, &bytes).unwrap();
    assert!(said(&project, &["restore", text, "--force"]).contains("is not what its manifest says"));
    assert!(said(&project, &["restore", project.dir.to_str().unwrap(), "--force"]).contains("is no backup"));
    assert_eq!(journal_id(&project.state_dir()), before);
    assert!(!project.root().join(".dalsegno.restoring").exists());
}

/// Kills the program at each of its points; answers how many there are.
fn walk(project: &Project, arguments: &[&str], mut judge: impl FnMut(u64)) -> u64 {
    for point in 1.. {
        let output = project.command(arguments).env("DALSEGNO_CRASH_AT", point.to_string()).output().unwrap();
        if output.status.signal().is_none() {
            return point - 1;
        }
        judge(point);
    }
    unreachable!("the points end")
}

#[test]
fn a_kill_leaves_no_backup_or_a_whole_one() {
    let project = handed_off();
    let path = project.dir.join("backup");
    let text = path.to_str().unwrap().to_owned();
    let points = walk(&project, &["backup", &text], |point| {
        if path.exists() {
            let again = project.dir.join(format!("again-{point}"));
            fs::create_dir_all(again.join("project")).unwrap();
            let output = project.command(&["restore", &text, "--dir"]).arg(again.join("project")).output().unwrap();
            assert!(output.status.success(), "point {point}: {}", String::from_utf8_lossy(&output.stderr));
            fs::remove_dir_all(&path).unwrap();
        }
    });
    assert!(points >= 6, "{points} points");
    assert!(path.join("manifest.json").is_file() && !path.join("unfinished").exists());
    assert!(!project.dir.join("backup.part").exists());
}

#[test]
fn a_kill_leaves_the_old_store_or_the_restored_one() {
    let project = handed_off();
    let path = backup(&project, "backup");
    let text = path.to_str().unwrap().to_owned();
    let mut lives = vec![journal_id(&project.state_dir())];
    let points = walk(&project, &["restore", &text, "--force"], |point| {
        let now = journal_id(&project.state_dir());
        assert_eq!(project.json(&["fsck", "--json"])["severity"], "ok", "point {point}");
        if !lives.contains(&now) {
            lives.push(now);
        }
    });
    assert!(points >= 7, "{points} points");
    assert_eq!(project.json(&["fsck", "--json"])["severity"], "ok");
    lives.push(journal_id(&project.state_dir()));
    // Every life that was in place is kept somewhere.
    let kept: Vec<String> = fs::read_dir(project.root())
        .unwrap()
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(".dalsegno"))
        .map(|entry| journal_id(&entry.path()))
        .collect();
    for life in &lives {
        assert!(kept.contains(life), "{life} of {lives:?} in {kept:?}");
    }
    assert!(project.once(&[]).wait().success());
    assert_eq!(project.status("DS-1").unwrap().0, "handed_off");
}
