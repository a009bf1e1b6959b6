//! A disk that breaks under the daemon: its system calls fail as they do on a disk that is full, has errors or became read-only, from
//! one call on or one alone. It ends before it does anything that is not recorded, and says why; on a disk that is well again its work
//! goes on, nothing lost and nothing twice.

use std::fs;
use std::process::Stdio;

use dalsegno_testkit::calls::{Call, Ended, Fault, Traced, can_be_traced, waiting};
use dalsegno_testkit::crash::{Kill, Points, Ran, walk};
use nix::errno::Errno;

use super::crash::{FRONT, script};
use super::lifeboat::handed_off;
use super::project::{PATIENCE, Project, program};
use super::{disks, judge};

/// Calls of each walk that `cargo test` walks.
const SAMPLE: u64 = 8;

/// How a disk refuses from some call on, by the number of the call.
fn refusal(call: u64) -> Errno {
    match call % 3 {
        0 => Errno::EIO,
        1 => Errno::EROFS,
        _ => Errno::ENOSPC,
    }
}

/// How it refuses one call alone. None becomes read-only for that long.
fn hiccup(call: u64) -> Errno {
    if call.is_multiple_of(2) { Errno::EIO } else { Errno::ENOSPC }
}

/// With which a daemon that was at work, or one that starts, may end.
const AT_WORK: [&str; 1] = ["journal_failed"];
const AT_START: [&str; 6] = [
    "state_dir_read_only",
    "disk_full",
    "store_unavailable",
    "token_unwritable",
    "daemon_json_unwritable",
    "workspace_root_unusable",
];

/// What breaks, below a project's directory.
const KEPT: &[&str] = &["project/.dalsegno"];
const ELSEWHERE: &[&str] = &["issues", "workspaces"];

/// Which calls on it.
type Among = fn(&Call) -> bool;

fn start(project: &Project, watched: impl Fn(&Call) -> bool + Send + 'static, fault: Fault) -> Traced {
    start_verb(project, &["run", "--once", "--port", "0"], watched, fault)
}

fn start_verb(
    project: &Project,
    arguments: &[&str],
    watched: impl Fn(&Call) -> bool + Send + 'static,
    fault: Fault,
) -> Traced {
    let mut command = project.dressed(waiting(&program()), arguments);
    command.stdout(Stdio::null()).stderr(project.log());
    Traced::start(command, watched, fault).unwrap()
}

/// Those calls on what lies in these places.
fn on(project: &Project, places: &[&str], among: Among) -> impl Fn(&Call) -> bool + Send + use<> {
    let places: Vec<_> = places.iter().map(|name| project.dir.join(name)).collect();
    move |call| places.iter().any(|place| call.path.starts_with(place)) && among(call)
}

fn log(project: &Project) -> String {
    fs::read_to_string(project.dir.join("daemon.log")).unwrap()
}

/// A scene of the walks: one issue, two turns.
fn scene() -> Project {
    let project = Project::new(FRONT, &script(10));
    project.issue("DS-1", "state: Todo");
    project
}

/// Runs a daemon to its end, whichever that is; the answer is for the crash harness.
fn run(project: &Project, places: &[&str], among: Among, fault: Fault) -> Ran {
    let ended = start(project, on(project, places, among), fault).wait(PATIENCE).unwrap();
    if ended.hit.is_empty() {
        assert_eq!(ended.code, Some(0), "{}", log(project));
        return Ran::ToItsEnd { points: Some(ended.calls) };
    }
    ended_well(project, &ended);
    Ran::Killed
}

/// It was killed; or it says that it went on without what failed, and all is done; or it says with which code it ends, and nothing of it runs.
fn ended_well(project: &Project, ended: &Ended) {
    let log = log(project);
    let hit = ended.hit.first();
    assert!(!log.contains("panicked"), "{hit:?}: {log}");
    match ended.code {
        None => {}
        Some(0) => judge::all_handed_off(project, &["DS-1"]),
        Some(code) => {
            let told = AT_WORK.iter().chain(&AT_START).any(|code| log.contains(&format!("error[{code}]: ")));
            assert!(code == 1 && told && log.contains("hint: "), "{hit:?}: {code}: {log}");
            let strays = if project.events().is_empty() { Vec::new() } else { project.strays() };
            assert!(strays.is_empty(), "{hit:?}: its agents live on: {strays:?}");
        }
    }
}

/// Walks those calls by which a daemon changes what is in these places, each in a scene of its own, with a daemon on a good disk afterwards.
fn walked(what: &str, places: &'static [&str], among: Among, fault: impl Fn(u64) -> Fault + Sync) {
    if !can_be_traced() {
        return;
    }
    let points = Points::from_environment(SAMPLE);
    let run = |project: &Project, kill| match kill {
        Kill::Never => run(project, places, among, Fault::Never),
        Kill::At(call) => run(project, places, among, fault(call)),
    };
    let walked = walk(points, 4, scene, run, |project, _| judge::all_handed_off(project, &["DS-1"]));
    println!("walk of {what} ({points:?}): {} of {} calls", walked.killed, walked.points);
}

#[test]
fn walk_every_call_that_fails_and_all_after_it() {
    walked("calls that fail from then on", KEPT, |_| true, |call| Fault::From(call, refusal(call)));
}

#[test]
fn walk_every_call_that_fails_alone() {
    walked("calls that fail once", KEPT, |_| true, |call| Fault::Once(call, hiccup(call)));
}

#[test]
fn walk_every_sync_that_fails_alone() {
    let syncs = |call: &Call| matches!(call.name, "fsync" | "fdatasync");
    walked("syncs that fail once", KEPT, syncs, |call| Fault::Once(call, hiccup(call)));
}

#[test]
fn walk_every_call_elsewhere_that_fails_alone() {
    walked("calls elsewhere that fail once", ELSEWHERE, |_| true, |call| Fault::Once(call, hiccup(call)));
}

#[test]
fn walk_every_call_before_which_the_daemon_is_killed() {
    walked("calls that are not reached", KEPT, |_| true, Fault::Kill);
}

#[test]
fn a_disk_that_breaks_under_agents_at_work_ends_them_and_nothing_is_done_that_is_not_recorded() {
    if !can_be_traced() {
        return;
    }
    for errno in [Errno::EIO, Errno::EROFS] {
        let project = Project::new(disks::FRONT, disks::AGENT);
        for issue in disks::ISSUES {
            project.issue(issue, "state: Todo");
        }
        let mut daemon = start(&project, on(&project, KEPT, |_| true), Fault::Never);
        project.wait_until("both agents at work", || {
            project.events().iter().filter(|event| event.kind == "turn_started").count() == disks::ISSUES.len()
        });
        daemon.fail_from_now_on(errno);
        fs::write(project.dir.join("go"), "").unwrap();
        let ended = daemon.wait(PATIENCE).unwrap();
        let log = log(&project);
        assert_eq!(ended.code, Some(1), "{errno}: {log}");
        assert!(log.contains("error[journal_failed]: ") && log.contains("hint: "), "{errno}: {log}");
        let strays = project.strays();
        assert!(strays.is_empty(), "{errno}: its agents live on: {strays:?}");
        // The agents have committed, and nothing of that was recorded: so nothing was handed over, nor an issue moved.
        let branches = project.git(&project.remote(), &["branch", "--list", "dalsegno/*"]);
        assert_eq!(branches, "", "{errno}");
        for issue in disks::ISSUES {
            assert!(project.issue_text(issue).contains("state: Todo"), "{errno}");
        }
        assert!(project.events().iter().all(|event| event.kind != "run_ended"), "{errno}");

        let mut daemon = project.once(&[]);
        assert!(daemon.wait().success(), "{errno}: {}", daemon.log_tail());
        judge::all_handed_off(&project, &disks::ISSUES);
    }
}

#[test]
fn transcripts_and_logs_that_cannot_be_written_end_nothing() {
    if !can_be_traced() {
        return;
    }
    let writes: Among = |call| call.name == "write";
    std::thread::scope(|scope| {
        scope.spawn(|| sinks_that_fail(|_| true, Errno::EROFS));
        scope.spawn(|| sinks_that_fail(writes, Errno::EIO));
        scope.spawn(|| sinks_that_fail(writes, Errno::ENOSPC));
    });
}

fn sinks_that_fail(among: Among, errno: Errno) {
    let project = scene();
    let sinks = ["project/.dalsegno/transcripts", "project/.dalsegno/log"];
    let ended = start(&project, on(&project, &sinks, among), Fault::From(1, errno)).wait(PATIENCE).unwrap();
    let log = log(&project);
    assert_eq!(ended.code, Some(0), "{errno}: {log}");
    for sink in sinks {
        assert!(ended.hit.iter().any(|call| call.path.starts_with(project.dir.join(sink))), "{errno}: {:?}", ended.hit);
    }
    judge::all_handed_off(&project, &["DS-1"]);
    // Each is told, and once.
    let told = ["a transcript cannot be written; work goes on without", "log file"];
    assert!(told.iter().all(|words| log.matches(words).count() == 1), "{errno}: {log}");
    assert!(!log.contains("panicked"), "{errno}: {log}");
}

/// Walks the calls of a verb that changes files below the project's directory, and fails or is killed; `judge` looks at what it left, and then it is run again.
fn walked_verb(what: &str, arguments: impl Fn(&Project) -> Vec<String> + Sync, judge: impl Fn(&Project, bool) + Sync) {
    if !can_be_traced() {
        return;
    }
    let run = |project: &Project, kill| {
        let fault = match kill {
            Kill::Never => Fault::Never,
            Kill::At(call) if call % 4 == 3 => Fault::Kill(call),
            Kill::At(call) => Fault::From(call, refusal(call)),
        };
        let place = project.dir.clone();
        let watched = move |call: &Call| call.path.starts_with(&place) && !call.path.ends_with("daemon.log");
        let arguments = arguments(project);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let ended = start_verb(project, &arguments, watched, fault).wait(PATIENCE).unwrap();
        let log = log(project);
        assert!(!log.contains("panicked"), "{log}");
        judge(project, ended.code == Some(0));
        if ended.hit.is_empty() {
            assert_eq!(ended.code, Some(0), "{log}");
            return Ran::ToItsEnd { points: Some(ended.calls) };
        }
        let codes = ["disk_full", "store_unavailable", "state_dir_read_only", "output_failed"];
        let told = codes.iter().any(|code| log.contains(&format!("error[{code}]: "))) && log.contains("hint: ");
        assert!(ended.code.is_none_or(|code| code == 0) || told, "{:?}: {log}", ended.hit.first());
        Ran::Killed
    };
    let points = Points::from_environment(SAMPLE);
    let walked = walk(points, 4, handed_off, run, |project, _| judge(project, true));
    println!("walk of {what} ({points:?}): {} of {} calls", walked.killed, walked.points);
}

#[test]
fn walk_every_call_of_a_backup_that_fails() {
    let path = |project: &Project| project.dir.join("backup");
    let arguments = |project: &Project| {
        let path = path(project);
        // One that is whole is there to stay: the next is another.
        let path = if path.exists() { path.with_extension("again") } else { path };
        vec!["backup".to_owned(), path.to_string_lossy().into_owned()]
    };
    walked_verb("a backup that fails", arguments, |project, is_through| {
        let path = path(project);
        assert!(path.exists() || !is_through);
        // Whatever has the name is whole.
        if path.exists() {
            let other = project.dir.join("other");
            fs::create_dir_all(&other).unwrap();
            let text = path.to_str().unwrap();
            let restored = project.command(&["restore", text, "--force", "--dir"]).arg(&other).output().unwrap();
            assert!(restored.status.success(), "{restored:?}");
        }
        assert_eq!(project.json(&["fsck", "--json"])["severity"], "ok");
    });
}

#[test]
fn walk_every_call_of_a_restore_that_fails() {
    let arguments = |project: &Project| {
        let path = project.dir.join("backup").to_string_lossy().into_owned();
        if !project.dir.join("backup").exists() {
            assert!(project.output(&["backup", &path]).status.success());
        }
        vec!["restore".to_owned(), path, "--force".to_owned()]
    };
    walked_verb("a restore that fails", arguments, |project, is_through| {
        assert_eq!(project.json(&["fsck", "--json"])["severity"], "ok", "it is the old one or the restored one, whole");
        let is_restored = project.events().last().unwrap().kind == "journal_restored";
        assert!(is_restored || !is_through);
    });
}
