#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::path::Path;
use std::time::Duration;

use dalsegno_engine::Processes as _;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use super::*;

const LONG: Duration = Duration::from_secs(60);

/// Surroundings with a mark that no other test has.
fn surroundings() -> Surroundings {
    let mut bytes = [0_u8; 8];
    getrandom::fill(&mut bytes).unwrap();
    Surroundings { mark: format!("test-{:016x}", u64::from_ne_bytes(bytes)), secret_names: Vec::new(), cell: None }
}

/// `bash -c`, as the login shell of [`shell`] would run it. Not the login shell itself: it reads the profile of whoever
/// runs the test, and one that is killed in the midst of that may leave lock files behind.
fn plain(script: &str, surroundings: &Surroundings) -> tokio::process::Command {
    let mut command = command("bash", surroundings);
    command.arg("-c").arg(script);
    command
}

async fn run(script: &str, timeout: Duration, max: usize) -> Finished {
    run_bounded(plain(script, &surroundings()), None, timeout, &CancellationToken::new(), max).await.unwrap()
}

/// Waits until the file has a line, and answers it as a number.
async fn pid_in(path: &Path) -> i32 {
    loop {
        if let Some(pid) = std::fs::read_to_string(path).ok().filter(|text| text.ends_with('\n')) {
            return pid.trim().parse().unwrap();
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn alive(pid: i32) -> bool {
    table::look(pid).is_some_and(|entry| !entry.zombie)
}

#[tokio::test]
async fn the_end_of_both_streams_is_kept() {
    let finished = run("echo one; echo two >&2; exit 3", LONG, 1000).await;
    assert_eq!(finished.how(), "exit code 3");
    assert!(!finished.success());
    assert!(finished.tail.contains("one\n") && finished.tail.contains("two\n"), "{}", finished.tail);
}

#[tokio::test]
async fn output_is_bounded_and_cut_between_characters() {
    let finished = run("for i in $(seq 5000); do printf 'ä'; done; printf 'end'", LONG, 100).await;
    assert!(finished.success());
    assert!(finished.tail.len() <= 100 && finished.tail.len() > 90, "{}", finished.tail.len());
    assert!(finished.tail.ends_with("äend") && finished.tail.starts_with('ä'), "{}", finished.tail);
    assert_eq!(finished.left_out, 5_000 * 2 + 3 - 100, "what is left out is counted");
    assert_eq!(run("printf 1234567890", LONG, 10).await.left_out, 0, "full is not cut");
}

#[tokio::test]
async fn bytes_that_are_no_text_are_replaced() {
    assert_eq!(run("printf 'a\\377b'", LONG, 100).await.tail, "a\u{fffd}b");
}

#[tokio::test]
async fn standard_input_is_given_and_may_be_ignored() {
    let marks = surroundings();
    let cancel = CancellationToken::new();
    let big = vec![b'x'; 1_000_000];
    let read = run_bounded(plain("wc -c", &marks), Some(big.clone()), LONG, &cancel, 100).await.unwrap();
    assert_eq!(read.tail.trim(), "1000000");
    let ignored = run_bounded(plain("exit 0", &marks), Some(big), LONG, &cancel, 100).await.unwrap();
    assert!(ignored.success());
}

#[tokio::test]
async fn secrets_stay_out_and_the_mark_goes_in() {
    let mut marks = surroundings();
    // PATH stands for a secret: it is surely set, and a test may not change the environment.
    marks.secret_names = vec!["HOME".to_owned()];
    let mut command = command("/usr/bin/env", &marks);
    command.current_dir("/");
    let finished = run_bounded(command, None, LONG, &CancellationToken::new(), 1_000_000).await.unwrap();
    assert!(finished.tail.lines().any(|line| line == format!("DALSEGNO_RUN={}", marks.mark)));
    assert!(finished.tail.lines().any(|line| line.starts_with("PATH=")));
    assert!(!finished.tail.lines().any(|line| line.starts_with("HOME=")));
}

#[tokio::test]
async fn the_shell_is_a_login_shell() {
    let mut command = shell("shopt -q login_shell && echo yes", &surroundings());
    // No profile but an empty home's.
    let home = TempDir::new().unwrap();
    command.env("HOME", home.path());
    let finished = run_bounded(command, None, LONG, &CancellationToken::new(), 1000).await.unwrap();
    assert!(finished.tail.ends_with("yes\n"), "{}", finished.tail);
}

#[tokio::test]
async fn a_missing_program_is_named() {
    let failure = run_bounded(command("/no/such/program", &surroundings()), None, LONG, &CancellationToken::new(), 10)
        .await
        .unwrap_err();
    assert_eq!(failure.code, "spawn_failed");
    assert!(failure.message.contains("/no/such/program"), "{failure}");
    assert!(!failure.retryable);
}

#[tokio::test]
async fn a_background_child_that_holds_the_pipes_is_ended() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("pid");
    let finished = run(&format!("sleep 1000 & echo $! > {}; echo done", file.display()), LONG, 100).await;
    assert!(finished.success(), "{finished:?}");
    assert_eq!(finished.tail, "done\n");
    assert!(!alive(pid_in(&file).await));
}

#[tokio::test]
async fn a_timeout_ends_the_whole_tree() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("pid");
    // A session of its own, its parent gone, and its environment emptied but for its group's leader.
    let script = format!("(setsid bash -c 'echo $$ > {}; sleep 1000' &) ; sleep 1000", file.display());
    let finished = run(&script, Duration::from_secs(2), 100).await;
    assert!(finished.timed_out && !finished.success(), "{finished:?}");
    assert_eq!(finished.how(), "timeout");
    assert!(!alive(pid_in(&file).await));
}

#[tokio::test]
async fn children_with_an_emptied_environment_are_found_by_their_group() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("pid");
    let cancel = CancellationToken::new();
    let script = format!("(env -i bash -c 'echo $$ > {}; exec sleep 1000' &) ; sleep 1000", file.display());
    let command = plain(&script, &surroundings());
    let token = cancel.clone();
    let running = tokio::spawn(async move { run_bounded(command, None, LONG, &token, 100).await });
    let pid = pid_in(&file).await;
    assert!(alive(pid));
    cancel.cancel();
    let finished = running.await.unwrap().unwrap();
    assert!(finished.canceled);
    assert!(!alive(pid));
}

#[tokio::test]
async fn a_dropped_run_leaves_nothing() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("pid");
    let marks = surroundings();
    let command = plain(&format!("(setsid bash -c 'echo $$ > {}; sleep 1000' &); sleep 1000", file.display()), &marks);
    let running =
        tokio::spawn(async move { run_bounded(command, None, LONG, &CancellationToken::new(), 100).await.unwrap() });
    let pid = pid_in(&file).await;
    running.abort();
    while alive(pid) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn the_sweep_finds_what_left_its_parent_its_session_and_its_pipes() {
    let dir = TempDir::new().unwrap();
    let marks = surroundings();
    let names = ["session", "orphan", "closed", "emptied"];
    let at = |name: &str| dir.path().join(name).display().to_string();
    let script = format!(
        "setsid bash -c 'echo $$ > {}; sleep 1000' &
         ( ( bash -c 'echo $$ > {}; sleep 1000' & ) & )
         bash -c 'exec </dev/null >/dev/null 2>&1; echo $$ > {}; sleep 1000' &
         setsid bash -c 'env -i bash -c \"echo \\$\\$ > {}; sleep 1000\"; true' &
         wait",
        at("session"),
        at("orphan"),
        at("closed"),
        at("emptied"),
    );
    let mut child = spawn(plain(&script, &marks)).await.unwrap();
    let mut pids = Vec::new();
    for name in names {
        pids.push(pid_in(&dir.path().join(name)).await);
    }
    assert!(pids.iter().all(|pid| alive(*pid)));

    // Another run's mark that begins with ours is not ours.
    let mut other = marks.clone();
    other.mark.push('1');
    let mut bystander = spawn(plain("sleep 1000", &other)).await.unwrap();

    let killed = Sweeper.sweep(&marks.mark).await.unwrap();
    assert!(killed >= 5, "{killed}");
    assert!(!pids.iter().any(|pid| alive(*pid)));
    assert_eq!(Sweeper.sweep(&marks.mark).await.unwrap(), 0);
    assert!(child.wait().await.unwrap().code().is_none());

    assert!(alive(i32::try_from(bystander.id().unwrap()).unwrap()));
    bystander.end().await.unwrap();
}

/// The inner half of the next test: a daemon with settings of its own.
#[tokio::test]
#[ignore = "is run by the next test, in a process of its own"]
async fn inner_daemon_with_settings() {
    assert!(std::env::var_os("DALSEGNO_DIR").is_some(), "the outer test sets it");
    let finished = run("env", LONG, 100_000).await;
    assert!(!finished.tail.contains("DALSEGNO_DIR"), "{}", finished.tail);
    assert!(finished.tail.contains("DALSEGNO_RUN=test-"), "{}", finished.tail);
}

#[test]
fn a_child_learns_nothing_of_the_daemons_own_settings() {
    let inner = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "process::tests::inner_daemon_with_settings", "--ignored"])
        .env("DALSEGNO_DIR", "/somewhere/.dalsegno")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&inner.stdout);
    assert!(inner.status.success() && said.contains("1 passed"), "{said}");
}

/// The inner half of the next test: a daemon whose environment holds credentials.
#[tokio::test]
#[ignore = "is run by the next test, in a process of its own"]
async fn inner_daemon_with_credentials() {
    assert!(std::env::var_os("GH_TOKEN").is_some(), "the outer test sets it");
    let names = async |command: tokio::process::Command| {
        let ended = run_bounded(command, None, LONG, &CancellationToken::new(), 1_000_000).await.unwrap();
        let names: Vec<String> =
            ended.tail.lines().filter_map(|line| Some(line.split_once('=')?.0.to_owned())).collect();
        names
    };
    let holds = |names: &[String], name: &str| names.iter().any(|it| it == name);
    // Agents and hooks.
    let got = names(command("env", &surroundings())).await;
    for name in ["GH_TOKEN", "GITLAB_TOKEN", "LINEAR_API_KEY", "JIRA_API_TOKEN", "SLACK_WEBHOOK"] {
        assert!(!holds(&got, name), "{name}");
    }
    for name in ["OPENAI_API_KEY", "AWS_SECRET_ACCESS_KEY", "NPM_TOKEN", "PLAIN", "PATH"] {
        assert!(holds(&got, name), "{name}");
    }
    // git's own talk with the remote.
    let got = names(command_with_credentials("env", &surroundings())).await;
    assert!(holds(&got, "GH_TOKEN") && holds(&got, "GITLAB_TOKEN"));
}

#[test]
fn no_child_learns_what_opens_a_tracker_or_a_forge() {
    let inner = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "process::tests::inner_daemon_with_credentials", "--ignored"])
        .envs(
            ["GH_TOKEN", "GITLAB_TOKEN", "LINEAR_API_KEY", "JIRA_API_TOKEN", "SLACK_WEBHOOK", "OPENAI_API_KEY"]
                .into_iter()
                .chain(["AWS_SECRET_ACCESS_KEY", "NPM_TOKEN", "PLAIN"])
                .map(|name| (name, "s3cret")),
        )
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&inner.stdout);
    assert!(inner.status.success() && said.contains("1 passed"), "{said}");
}
