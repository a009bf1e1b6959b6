use std::fs;

use super::*;

const PATIENCE: Duration = Duration::from_secs(60);

/// Runs a script of the shell in this directory.
fn run(dir: &Path, script: &str, fault: Fault) -> Ended {
    let mut command = waiting(Path::new("sh"));
    command.args(["-c", script]).current_dir(dir).stderr(Stdio::null());
    let below = dir.to_owned();
    let mut traced = Traced::start(command, move |call| call.path.starts_with(&below), fault).unwrap();
    traced.wait(PATIENCE).unwrap()
}

/// Nothing in it but what the shell does itself.
const SCRIPT: &str =
    "echo one > file; echo two >> file; echo three >> file || exit 7; cd sub || exit 8; echo four > ../sub/other";

fn place() -> Option<tempfile::TempDir> {
    if !can_be_traced() {
        return None;
    }
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("sub")).unwrap();
    Some(dir)
}

#[test]
fn calls_are_counted_and_nothing_happens_to_them() {
    let Some(dir) = place() else { return };
    let ended = run(dir.path(), SCRIPT, Fault::Never);
    assert_eq!(ended, Ended { code: Some(0), calls: 8, hit: Vec::new() }, "four files are opened and written");
    assert_eq!(fs::read_to_string(dir.path().join("file")).unwrap(), "one\ntwo\nthree\n");
}

#[test]
fn a_call_that_fails_is_not_carried_out_and_says_why() {
    let Some(dir) = place() else { return };
    // The second write.
    let ended = run(dir.path(), SCRIPT, Fault::Once(4, Errno::EIO));
    let path = dir.path().join("file");
    assert_eq!((ended.code, ended.hit), (Some(0), vec![Call { name: "write", path: path.clone() }]));
    assert_eq!(fs::read_to_string(&path).unwrap(), "one\nthree\n");
    // The third opening, and all that comes after.
    let ended = run(dir.path(), SCRIPT, Fault::From(5, Errno::EROFS));
    assert_eq!((ended.code, ended.calls), (Some(7), 5));
    assert_eq!(ended.hit, [Call { name: "open", path }]);
}

#[test]
fn a_relative_path_is_found_and_a_process_is_killed_before_the_call() {
    let Some(dir) = place() else { return };
    let ended = run(dir.path(), SCRIPT, Fault::Kill(7));
    assert_eq!((ended.code, ended.calls), (None, 7));
    assert_eq!(ended.hit, [Call { name: "open", path: dir.path().join("sub/../sub/other") }]);
    assert!(!dir.path().join("sub/other").exists());
}

#[test]
fn a_disk_breaks_and_is_mended_while_a_process_writes() {
    let Some(dir) = place() else { return };
    let mut command = waiting(Path::new("sh"));
    let script = "until echo x > begun; do :; done; while echo x > file; do :; done; until echo x > file; do :; done";
    command.args(["-c", script]).current_dir(dir.path()).stderr(Stdio::null());
    let below = dir.path().to_owned();
    let mut traced = Traced::start(command, move |call| call.path.starts_with(&below), Fault::Never).unwrap();
    while !dir.path().join("file").exists() {
        std::thread::yield_now();
    }
    traced.fail_from_now_on(Errno::ENOSPC);
    while traced.failed() < 3 {
        std::thread::yield_now();
    }
    traced.heal();
    let ended = traced.wait(PATIENCE).unwrap();
    assert_eq!(ended.code, Some(0));
    assert!(ended.hit.iter().all(|call| call.path == dir.path().join("file")));
}

#[test]
fn one_that_does_not_end_is_ended() {
    if !can_be_traced() {
        return;
    }
    let mut command = waiting(Path::new("sleep"));
    command.arg("600");
    let mut traced = Traced::start(command, |_| true, Fault::Never).unwrap();
    assert!(traced.wait(Duration::from_millis(50)).unwrap_err().contains("did not end"));
}
