//! A disk of its own for the state directory. It fills up under a running daemon: it ends, says why, and its work goes on
//! when there is room again, nothing lost and nothing twice. Or it is mounted read-only: everything that only looks still answers, and
//! everything that would write is refused and changes nothing.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use super::judge;
use super::project::{Project, program};

/// A file system in memory, in a mount namespace of its own, which lives as long as this.
pub(crate) struct Disk {
    holder: Child,
}

impl Disk {
    /// One at `place`, above the room below which no work is taken. `None`, and a loud line: users may make no namespaces here.
    fn at(place: &Path) -> Option<Self> {
        let script = "mount -t tmpfs -o size=300m,mode=700 tmpfs \"$0\" && echo mounted && exec sleep 600";
        let mut unshare = Command::new("unshare");
        unshare.args(["--user", "--map-root-user", "--mount", "sh", "-c", script]).arg(place);
        let mut holder = unshare.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let mut said = String::new();
        BufReader::new(holder.stdout.take().unwrap()).read_line(&mut said).unwrap();
        let disk = Self { holder };
        if said.trim() == "mounted" {
            return Some(disk);
        }
        assert!(std::env::var_os("CI").is_none(), "no disk of its own can be mounted: user namespaces are closed");
        println!("!! SKIPPED: no disk of its own can be mounted here, as user namespaces are closed");
        None
    }

    /// A copy of the state directory `place`, to be looked at from outside.
    pub(crate) fn copy(&self, place: &Path) -> PathBuf {
        let copy = place.with_extension("seen");
        let _ = fs::remove_dir_all(&copy);
        fs::create_dir(&copy).unwrap();
        // The database last of its files: a checkpoint in between would be missed, and the next look sees it.
        let script = "cp -a dalsegno.db-wal dalsegno.db agents \"$0\"";
        let _ = self.command(Path::new("sh"), place).args(["-c", script]).arg(&copy).output().unwrap();
        copy
    }

    /// Mounts it anew, for reading alone or for writing too. Nobody may have anything of it open for writing.
    fn mount(&self, place: &Path, how: &str) {
        let script = "exec mount -o remount,$1 \"$0\"";
        let mut mount = self.command(Path::new("sh"), Path::new("/"));
        let mounted = mount.args(["-c", script]).arg(place).arg(how).output().unwrap();
        assert!(mounted.status.success(), "{mounted:?}");
    }

    /// What runs this program where the disk is, in this directory.
    pub(crate) fn command(&self, program: &Path, directory: &Path) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.holder.id().to_string(), "--user", "--mount", "--preserve-credentials"]);
        command.args(["sh", "-c", "cd \"$0\" && exec \"$@\""]).arg(directory).arg(program);
        command
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

pub(crate) const FRONT: &str = "polling: {interval_ms: 100}
agent: {kind: scripted, script: agent.yaml}
handoff: {state: Human Review}
";
/// Works only when it is let; what its cut turn did not do is done in the next.
pub(crate) const AGENT: &str = r#"
default:
  - [ {say: "I wait"}, {sh: "while [ ! -e ../../go ]; do sleep 0.05; done; echo work > work.txt && git add -A && git commit -qm work"} ]
  - [ {sh: "rm -f .git/index.lock; echo work > work.txt; git add -A; git diff --cached --quiet || git commit -qm work"} ]
"#;

/// A project on a disk of its own with two issues.
fn project() -> Option<Project> {
    let mut project = Project::new(FRONT, AGENT);
    fs::create_dir(project.state_dir()).unwrap();
    project.disk = Some(Disk::at(&project.state_dir())?);
    for issue in ISSUES {
        project.issue(issue, "state: Todo");
    }
    Some(project)
}

pub(crate) const ISSUES: [&str; 2] = ["DS-1", "DS-2"];

fn inside(project: &Project, script: &str) -> Output {
    let disk = project.disk.as_ref().unwrap();
    disk.command(Path::new("sh"), &project.root()).args(["-c", script]).output().unwrap()
}

#[test]
fn a_disk_that_fills_up_ends_the_daemon_and_with_room_its_work_goes_on() {
    let code = "disk_full";
    let Some(project) = project() else { return };
    let mut daemon = project.daemon();
    project.wait_until("both agents at work", || {
        project.events().iter().filter(|event| event.kind == "turn_started").count() == ISSUES.len()
    });
    inside(&project, "cat /dev/zero > .dalsegno/ballast");
    fs::write(project.dir.join("go"), "").unwrap();
    let status = daemon.wait();
    assert!(!status.success() && daemon.log_tail().contains(code), "{status}; {}", daemon.log_tail());
    let strays = project.strays();
    assert!(strays.is_empty(), "its agents live on: {strays:?}");

    // Another start says the same, and what is known can be read all the same.
    let before = project.events().len();
    let again = project.output(&["run", "--once", "--port", "0"]);
    let said = String::from_utf8_lossy(&again.stderr);
    assert!(!again.status.success() && said.contains(code), "{}: {said}", again.status);
    assert_eq!(project.events().len(), before);
    let shown = project.json(&["show", "DS-1", "--json"]);
    assert_eq!(shown["status"], "running", "{shown}");

    let mended = inside(&project, "rm .dalsegno/ballast");
    assert!(mended.status.success(), "{mended:?}");
    let mut daemon = project.once(&[]);
    let status = daemon.wait();
    assert!(status.success(), "{status}; {}", daemon.log_tail());
    judge::all_handed_off(&project, &ISSUES);
}

#[test]
fn what_runs_on_the_disk_is_the_program_under_test() {
    let Some(project) = project() else { return };
    let disk = project.disk.as_ref().unwrap();
    let said = disk.command(&program(), &project.root()).arg("--version").output().unwrap();
    assert!(String::from_utf8_lossy(&said.stdout).starts_with("dalsegno "), "{said:?}");
}

/// Every name, mode and time on the disk, and the hash of every file.
fn bytes(project: &Project) -> String {
    let names = "find . -printf '%P %m %s %T@\\n' | sort";
    let hashes = "find . -type f -print0 | sort -z | xargs -0 sha256sum";
    let found = inside(project, &format!("cd .dalsegno && {names} && {hashes}"));
    assert!(found.status.success(), "{found:?}");
    String::from_utf8(found.stdout).unwrap()
}

/// Runs a verb that must be refused with this code, a reason and a remedy.
fn refused(project: &Project, arguments: &[&str], code: &str) {
    let output = project.output(arguments);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{arguments:?} went through");
    assert!(said.contains(&format!("error[{code}]: ")), "{arguments:?}: {said}");
    assert!(said.contains("Read-only file system") && said.contains("hint: "), "{arguments:?}: {said}");
    assert!(!said.contains("panicked"), "{arguments:?}: {said}");
}

#[test]
fn a_disk_that_is_read_only_is_read_and_refused_and_left_as_it_is() {
    let Some(project) = project() else { return };
    let state_dir = project.root().join(".dalsegno");
    let disk = project.disk.as_ref().unwrap();
    let mut daemon = project.daemon();
    project.wait_until("both agents at work", || {
        project.events().iter().filter(|event| event.kind == "turn_started").count() == ISSUES.len()
    });
    daemon.kill();
    let known = project.events().len();

    // A crash leaves a log with its index beside the database. Who copies the files alone, leaves the index behind.
    for (index, remove) in [("an index", "true"), ("no index", "rm .dalsegno/dalsegno.db-shm")] {
        assert!(inside(&project, remove).status.success());
        disk.mount(&state_dir, "ro");
        let before = bytes(&project);
        refused(&project, &["run", "--once", "--port", "0"], "state_dir_read_only");
        refused(&project, &["fsck", "--rebuild"], "state_dir_read_only");
        refused(&project, &["token", "new", "somebody", "--role", "admin"], "token_unwritable");
        refused(&project, &["backup", ".dalsegno/backup"], "output_failed");

        for fix in [&["doctor", "--offline", "--json"][..], &["doctor", "--offline", "--json", "--fix"]] {
            let doctor = project.output(fix);
            assert_eq!(doctor.status.code(), Some(1), "{index}: {doctor:?}");
            let findings: serde_json::Value = serde_json::from_slice(&doctor.stdout).unwrap();
            let of_state = |finding: &&serde_json::Value| finding["check"] == "state" && finding["severity"] == "error";
            let found: Vec<_> = findings["findings"].as_array().unwrap().iter().filter(of_state).collect();
            assert_eq!(found.len(), 1, "{index}: {findings:#}");
            assert!(found[0]["finding"].as_str().unwrap().contains("Read-only file system"), "{found:?}");
        }
        // All that was acknowledged is read, the log too.
        let shown = project.json(&["show", "DS-1", "--json"]);
        assert_eq!(shown["status"], "running", "{index}: {shown}");
        let export = project.output(&["export"]);
        let lines = String::from_utf8_lossy(&export.stdout).lines().count();
        assert_eq!(lines, known + 1, "{index}: {export:?}");
        for verb in
            [&["status"][..], &["events"], &["explain", "DS-1"], &["logs", "run-1"], &["replay", "run-1"], &["fsck"]]
        {
            let output = project.output(verb);
            assert!(output.status.success(), "{index}: {verb:?}: {output:?}");
        }
        let backup = project.dir.join(index);
        let made = project.output(&["backup", backup.to_str().unwrap()]);
        assert!(made.status.success(), "{index}: {made:?}");
        refused(&project, &["restore", backup.to_str().unwrap()], "state_dir_read_only");
        refused(&project, &["restore", backup.to_str().unwrap(), "--force"], "state_dir_read_only");
        assert_eq!(bytes(&project), before, "{index}: something was changed");
        disk.mount(&state_dir, "rw");
    }

    fs::write(project.dir.join("go"), "").unwrap();
    let mut daemon = project.once(&[]);
    let status = daemon.wait();
    assert!(status.success(), "{status}; {}", daemon.log_tail());
    judge::all_handed_off(&project, &ISSUES);
}
