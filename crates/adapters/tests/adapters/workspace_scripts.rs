//! Hooks (Symphony §9.4) and checks.

use std::fs;
use std::path::Path;

use dalsegno_engine::core::Hook;
use dalsegno_engine::{CHECK_OUTPUT_BYTES, Checked, Workspaces as _};

use crate::workspace::{World, commit_file};

/// Whether the process whose number is in the file still runs.
fn runs(file: &Path) -> bool {
    let pid = fs::read_to_string(file).unwrap();
    fs::read_to_string(format!("/proc/{}/stat", pid.trim()))
        .is_ok_and(|stat| !stat.rsplit_once(')').unwrap().1.trim_start().starts_with(['Z', 'X']))
}

#[tokio::test]
pub(crate) async fn a_hook_runs_in_the_workspace_and_knows_its_issue_by_the_environment() {
    let mut world = World::new();
    let path = world.prepare().await;
    let proof = world.at("proof");
    world.issue.title = format!("$(touch {0}); `touch {0}`\u{0}\nsecond", proof.display());
    world.policy.hooks.before_run = Some(
        "pwd; echo \"$DALSEGNO_ISSUE_ID|$DALSEGNO_ISSUE_IDENTIFIER|$DALSEGNO_WORKSPACE|$DALSEGNO_HOOK|$DALSEGNO_ATTEMPT\"
         echo \"$DALSEGNO_ISSUE_TITLE\""
            .to_owned(),
    );
    let tail = world.workspaces.run_hook(&world.context(), Hook::BeforeRun).await.unwrap();
    let shown = path.display();
    let title = format!("$(touch {0}); `touch {0}` second", proof.display());
    assert_eq!(tail, format!("{shown}\nid-1|DS-1|{shown}|before_run|1\n{title}\n"));
    assert!(!proof.exists());
    assert_eq!(world.workspaces.run_hook(&world.context(), Hook::AfterRun).await.unwrap(), "", "there is none");
}

#[tokio::test]
pub(crate) async fn symphony_17_2_a_failing_hook_says_what_it_said() {
    let mut world = World::new();
    world.prepare().await;
    world.policy.hooks.after_create = Some("echo out; echo err >&2; exit 3".to_owned());
    let failure = world.workspaces.run_hook(&world.context(), Hook::AfterCreate).await.unwrap_err();
    assert_eq!(failure.code, "hook_failed");
    assert!(["out", "err", "after_create", "exit code 3"].iter().all(|it| failure.message.contains(it)), "{failure}");
}

#[tokio::test]
pub(crate) async fn the_output_of_a_hook_is_bounded() {
    let mut world = World::new();
    world.prepare().await;
    world.policy.hooks.before_run = Some("yes line | head -n 100000; echo the end".to_owned());
    let tail = world.workspaces.run_hook(&world.context(), Hook::BeforeRun).await.unwrap();
    assert!(tail.len() <= 4096 && tail.ends_with("the end\n"), "{} bytes", tail.len());
}

#[tokio::test]
pub(crate) async fn symphony_17_2_the_limit_of_a_hook_holds_for_its_background_children() {
    let mut world = World::new();
    world.prepare().await;
    let file = world.at("pid");
    world.policy.hooks.timeout_ms = 4000;
    world.policy.hooks.before_run = Some(format!("sleep 1000 & echo $! > {}; echo waiting; wait", file.display()));
    let failure = world.workspaces.run_hook(&world.context(), Hook::BeforeRun).await.unwrap_err();
    assert_eq!(failure.code, "hook_timeout");
    assert!(failure.message.contains("waiting"), "{failure}");
    assert!(!runs(&file));
}

#[tokio::test]
pub(crate) async fn a_background_child_that_holds_the_pipes_does_not_hold_up_a_hook() {
    let mut world = World::new();
    world.prepare().await;
    let file = world.at("pid");
    world.policy.hooks.before_run = Some(format!("sleep 1000 & echo $! > {}; echo bad; exit 1", file.display()));
    let failure = world.workspaces.run_hook(&world.context(), Hook::BeforeRun).await.unwrap_err();
    assert_eq!(failure.code, "hook_failed");
    assert!(!runs(&file));
}

#[tokio::test]
pub(crate) async fn a_check_sees_the_commit_and_nothing_else() {
    let mut world = World::new();
    let (path, commit) = world.worked().await;
    fs::write(path.join("uncommitted.txt"), "").unwrap();
    commit_file(&path, "later.txt", "");
    let script = "ls; git status --porcelain; git log -1 --format=%H; pwd >&2; ! git config --get user.name";
    let Checked { passed, output: tail } = world.workspaces.run_check(&world.context(), &commit, script).await.unwrap();
    assert!(passed, "{tail}");
    assert!(tail.contains("a.txt\nwork.txt\n") && tail.contains(commit.as_str()), "{tail}");
    assert!(!tail.contains("later.txt") && !tail.contains("uncommitted"), "{tail}");
    assert!(tail.contains(&world.at("state/checks").display().to_string()), "{tail}");
    assert_eq!(fs::read_dir(world.at("state/checks")).unwrap().count(), 0);
}

#[tokio::test]
pub(crate) async fn a_check_answers_what_it_said_whole_or_how_much_of_it_is_left_out() {
    let mut world = World::new();
    let (_, commit) = world.worked().await;
    let script = "seq 10000; echo the reason >&2; exit 7";
    let Checked { passed, output } = world.workspaces.run_check(&world.context(), &commit, script).await.unwrap();
    let numbers: String = (1..=10_000).map(|number| format!("{number}\n")).collect();
    assert!(!passed && output == format!("{numbers}the reason\n"), "{output}");
    let long = "seq 300000";
    let Checked { passed, output } = world.workspaces.run_check(&world.context(), &commit, long).await.unwrap();
    let all: usize = (1..=300_000_u32).map(|number| number.to_string().len() + 1).sum();
    let (first, rest) = output.split_once('\n').unwrap();
    let left_out = all - CHECK_OUTPUT_BYTES;
    assert_eq!(first, format!("[the first {left_out} bytes of what the check said are left out]"));
    assert!(passed && rest.len() == CHECK_OUTPUT_BYTES && rest.ends_with("299999\n300000\n"), "{}", rest.len());
    let Checked { passed, output } = world.workspaces.run_check(&world.context(), &commit, "exit 7").await.unwrap();
    assert!(!passed && output.contains("exit code 7"), "{output}");
    assert_eq!(fs::read_dir(world.at("state/checks")).unwrap().count(), 0);
}

#[tokio::test]
pub(crate) async fn a_check_that_takes_too_long_did_not_pass_and_leaves_nothing() {
    let mut world = World::new();
    let (_, commit) = world.worked().await;
    let file = world.at("pid");
    world.policy.handoff.as_mut().unwrap().check_timeout_ms = 4000;
    let script = format!("sleep 1000 & echo $! > {}; mkdir -m 500 ro; echo begun; wait", file.display());
    let Checked { passed, output: tail } =
        world.workspaces.run_check(&world.context(), &commit, &script).await.unwrap();
    assert!(!passed && tail.contains("begun") && tail.contains("4000 ms"), "{tail}");
    assert!(!runs(&file));
    assert_eq!(fs::read_dir(world.at("state/checks")).unwrap().count(), 0);
}

#[tokio::test]
pub(crate) async fn a_check_gets_neither_secrets_nor_the_users_git() {
    let mut world = World::new();
    let (_, commit) = world.worked().await;
    let mut context = world.context();
    // HOME stands for a secret: it is surely set, and a test may not change the environment.
    context.secret_names = vec!["HOME".to_owned()];
    let Checked { passed, output: tail } = world.workspaces.run_check(&context, &commit, "env").await.unwrap();
    assert!(passed);
    assert!(!tail.lines().any(|line| line.starts_with("HOME=") || line.starts_with("SSH_AUTH_SOCK=")), "{tail}");
    assert!(tail.lines().any(|line| line == "GIT_CONFIG_GLOBAL=/dev/null"), "{tail}");
    assert!(tail.lines().any(|line| line == format!("DALSEGNO_RUN={}", context.mark)), "{tail}");
}

#[tokio::test]
pub(crate) async fn a_check_of_an_unknown_commit_is_a_failure_and_not_a_verdict() {
    let mut world = World::new();
    world.prepare().await;
    let nowhere = dalsegno_engine::core::CommitId("1".repeat(40));
    let failure = world.workspaces.run_check(&world.context(), &nowhere, "true").await.unwrap_err();
    assert_eq!(failure.code, "check_not_run");
    assert_eq!(fs::read_dir(world.at("state/checks")).unwrap().count(), 0);
}

#[tokio::test]
pub(crate) async fn checkouts_of_a_dead_daemon_are_removed() {
    let mut world = World::new();
    fs::create_dir_all(world.at("state/checks/check-old/deep")).unwrap();
    world.prepare().await;
    assert!(!world.at("state/checks/check-old").exists());
}

#[tokio::test]
pub(crate) async fn canceled_scripts_end_soon() {
    let mut world = World::new();
    let (_, commit) = world.worked().await;
    world.policy.hooks.before_run = Some("sleep 1000".to_owned());
    let context = world.context();
    let hook = world.workspaces.run_hook(&context, Hook::BeforeRun);
    let check = world.workspaces.run_check(&context, &commit, "sleep 1000");
    let cancel = async { world.cancel.cancel() };
    let (hook, check, ()) = tokio::join!(hook, check, cancel);
    assert_eq!(hook.unwrap_err().code, "canceled");
    assert_eq!(check.unwrap_err().code, "canceled");
}

/// The inner half of the next test: a daemon whose environment holds credentials.
#[tokio::test]
#[ignore = "is run by the next test, in a process of its own"]
async fn inner_check_and_hook_of_a_daemon_with_credentials() {
    assert!(std::env::var_os("OPENAI_API_KEY").is_some(), "the outer test sets it");
    let mut world = World::new();
    let (path, commit) = world.worked().await;
    let Checked { passed, output: tail } = world.workspaces.run_check(&world.context(), &commit, "env").await.unwrap();
    assert!(passed && tail.contains("PLAIN=s3cret"), "{tail}");
    assert_eq!(tail.matches("s3cret").count(), 1, "{tail}");
    world.policy.hooks.before_run = Some("env > hook.env".to_owned());
    world.workspaces.run_hook(&world.context(), Hook::BeforeRun).await.unwrap();
    let env = fs::read_to_string(path.join("hook.env")).unwrap();
    assert!(env.contains("NPM_TOKEN=s3cret") && !env.contains("GH_TOKEN"), "{env}");
}

#[test]
fn a_check_gets_no_credentials_and_a_hook_none_of_forges() {
    let inner = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "workspace_scripts::inner_check_and_hook_of_a_daemon_with_credentials", "--ignored"])
        .envs(
            ["GH_TOKEN", "OPENAI_API_KEY", "AWS_SECRET_ACCESS_KEY", "NPM_TOKEN", "PLAIN"].map(|name| (name, "s3cret")),
        )
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&inner.stdout);
    assert!(inner.status.success() && said.contains("1 passed"), "{said}");
}
