//! A disk that breaks under the daemon: its system calls fail as they do on a disk that is full, has errors or became read-only, from
//! one call on or one alone. It ends before it does anything that is not recorded, and says why; on a disk that is well again its work
//! goes on, nothing lost and nothing twice.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use dalsegno_testkit::calls::{Call, Ended, Fault, Traced, can_be_traced, waiting};
use dalsegno_testkit::crash::{Kill, Points, Ran, walk};
use nix::errno::Errno;

use super::crash::{FRONT, script};
use super::judge;
use super::project::{PATIENCE, Project, program};

/// How a disk refuses, by the number of the call.
fn refusal(call: u64) -> Errno {
    match call % 3 {
        0 => Errno::EIO,
        1 => Errno::EROFS,
        _ => Errno::ENOSPC,
    }
}

/// With which a daemon that was at work, or one that starts, may end.
const AT_WORK: [&str; 1] = ["journal_failed"];
const AT_START: [&str; 5] =
    ["state_dir_read_only", "disk_full", "store_unavailable", "token_unwritable", "daemon_json_unwritable"];

fn start(project: &Project, watched: impl Fn(&Call) -> bool + Send + 'static, fault: Fault) -> Traced {
    let mut command = project.dressed(waiting(&program()), &["run", "--once", "--port", "0"]);
    command.stdout(Stdio::null()).stderr(project.log());
    Traced::start(command, watched, fault).unwrap()
}

/// Calls on what lies in the state directory.
fn kept(project: &Project) -> impl Fn(&Call) -> bool + Send + use<> {
    let place = project.state_dir();
    move |call| call.path.starts_with(&place)
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
fn run(project: &Project, fault: Fault) -> Ran {
    let ended = start(project, kept(project), fault).wait(PATIENCE).unwrap();
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

/// Walks the calls by which a daemon changes its state directory, each in a scene of its own, with a daemon on a good disk afterwards.
fn walked(what: &str, sample: u64, fault: impl Fn(u64) -> Fault + Sync) {
    if !can_be_traced() {
        return;
    }
    let points = Points::from_environment(sample);
    let run = |project: &Project, kill| match kill {
        Kill::Never => run(project, Fault::Never),
        Kill::At(call) => run(project, fault(call)),
    };
    let walked = walk(points, 4, scene, run, |project, _| judge::all_handed_off(project, &["DS-1"]));
    println!("walk of calls that {what} ({points:?}): {} of {} calls", walked.killed, walked.points);
}

#[test]
fn walk_every_call_that_fails_and_all_after_it() {
    walked("fail from then on", 8, |call| Fault::From(call, refusal(call)));
}

#[test]
fn walk_every_call_that_fails_alone() {
    walked("fail once", 8, |call| Fault::Once(call, refusal(call)));
}

#[test]
fn walk_every_call_before_which_the_daemon_is_killed() {
    walked("are not reached", 8, Fault::Kill);
}
