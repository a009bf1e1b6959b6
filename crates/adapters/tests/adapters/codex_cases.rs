//! What Codex has beyond other agents, on the real one unless a case says otherwise.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test ends at the first surprise")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use dalsegno_adapters::process::Sweeper;
use dalsegno_engine::core::{AgentPolicy, AutoApprove, SessionId, SessionStart, TurnOutcome, Usage};
use dalsegno_engine::{Agents, Processes, TranscriptKind};
use dalsegno_testkit::conformance::agent::{AgentFixture, Behaviour, CASE_LIMIT, GO_ON, World};
use dalsegno_testkit::parts;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::codex::{codex, in_bash, model, place, run};

/// The real Codex with this model, whatever behaviour is asked for.
struct Real {
    steps: Value,
    change: fn(&mut AgentPolicy),
}

/// A Codex in bash that does this in its turn.
struct Fake(&'static str);

impl AgentFixture for Real {
    fn agent(&self, _: Behaviour, dir: &Path) -> (Arc<dyn Agents>, AgentPolicy) {
        let (agents, mut policy) = codex(dir, &model(&self.steps), "");
        (self.change)(&mut policy);
        (agents, policy)
    }

    fn place(&self) -> PathBuf {
        place()
    }

    fn processes(&self) -> Arc<dyn Processes> {
        Arc::new(Sweeper)
    }
}

impl AgentFixture for Fake {
    fn agent(&self, _: Behaviour, dir: &Path) -> (Arc<dyn Agents>, AgentPolicy) {
        in_bash(dir, self.0)
    }

    fn place(&self) -> PathBuf {
        place()
    }

    fn processes(&self) -> Arc<dyn Processes> {
        Arc::new(Sweeper)
    }
}

/// The fixture, if there is a Codex.
fn real(steps: Value) -> Option<Real> {
    parts::codex().map(|_| Real { steps, change: |_| {} })
}

fn git(dir: &Path, args: &[&str]) -> String {
    let done = Command::new("git")
        .current_dir(dir)
        .args(["-c", "user.name=a", "-c", "user.email=a@b"])
        .args(args)
        .env("HOME", dir)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .output()
        .unwrap();
    assert!(done.status.success(), "{done:?}");
    String::from_utf8(done.stdout).unwrap().trim().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tool_of_the_daemon_is_called_and_its_answer_counts_also_after_a_resume() {
    let call = json!({"tool": "echo", "arguments": {"text": "hello"}});
    let Some(fixture) = real(json!([{"answer": [{"call": call}]}, {"answer": [{"say": "done"}]}])) else { return };
    let world = World::new(&fixture);
    let started = world.start(Behaviour::Speaks).await;
    let (session, mut agent) = (started.session, started.agent);
    let cancel = CancellationToken::new();
    let first = agent.prompt(1, "go", &cancel).await.unwrap();
    assert_eq!((first.turn, first.summary.as_str()), (TurnOutcome::Completed, "done"));
    assert_eq!(world.tools.calls(), ["hello"]);
    assert!(world.heard.text(TranscriptKind::Tool).contains("echo: hello"));
    assert_eq!(first.model.as_deref(), Some("scripted"));
    let digest = first.tool_digest.expect("a tool was called");
    let again = agent.prompt(2, "go", &cancel).await.unwrap();
    assert_eq!(again.tool_digest, Some(digest), "the same work has the same digest");
    agent.close().await;

    let resumed = world.launch(Behaviour::Speaks, Some(&session), None).await.unwrap();
    assert_eq!(resumed.how, SessionStart::Resumed);
    assert_eq!(resumed.usage, Some(Usage::new(400, 40)), "two turns of two calls");
    let mut agent = resumed.agent;
    let third = agent.prompt(3, "go", &cancel).await.unwrap();
    assert_eq!(third.usage, Usage::new(200, 20), "what was before does not count again");
    assert_eq!(world.tools.calls().len(), 3);
    agent.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cached_tokens_are_told() {
    let steps = json!([{"answer": [{"say": "x"}], "tokens": {"input": 100, "cached": 60, "output": 5}}]);
    let Some(fixture) = real(steps) else { return };
    let world = World::new(&fixture);
    let (agent, end) = world.one_turn(Behaviour::Speaks).await;
    let end = end.unwrap();
    assert_eq!(end.usage, Usage { cached_input_tokens: 60, ..Usage::new(100, 5) });
    assert_eq!(end.tool_digest, None);
    agent.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn words_reach_the_open_turn_and_no_other() {
    let command = "echo $$ > pid; until [ -e go ]; do sleep 0.05; done";
    let Some(fixture) = real(run(command)) else { return };
    let world = World::new(&fixture);
    let mut agent = world.start(Behaviour::Speaks).await.agent;
    let steering = agent.steering().expect("codex takes words");
    assert_eq!(steering.steer("too early").await.unwrap_err().code, "no_turn");
    let cancel = CancellationToken::new();
    let (end, ()) = tokio::join!(agent.prompt(1, "go", &cancel), async {
        world.command().await;
        steering.steer("look here [[script:again]]").await.unwrap();
        std::fs::write(world.workspace().join("go"), "").unwrap();
    });
    // The script that the words name was played: so the model heard them, in this turn.
    assert_eq!(end.unwrap().summary, "again");
    assert!(world.heard.text(TranscriptKind::Prompt).contains("look here"));
    assert_eq!(steering.steer("too late").await.unwrap_err().code, "no_turn");
    agent.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quiet_command_is_a_sign_of_life() {
    let Some(mut fixture) = real(run("echo $$ > pid; sleep 1000")) else { return };
    fixture.change = |policy| policy.stall_timeout_ms = 400;
    let world = World::new(&fixture);
    let mut agent = world.start(Behaviour::Speaks).await.agent;
    let cancel = CancellationToken::new();
    let turn = async {
        tokio::join!(agent.prompt(1, "go", &cancel), async {
            world.command().await;
            let before = world.heard.signs();
            // Far more than the few lines that may still be on their way.
            while world.heard.signs() < before + 20 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            cancel.cancel();
        })
    };
    let (end, ()) = tokio::time::timeout(CASE_LIMIT, turn).await.expect("a quiet command gives no sign");
    assert_eq!(end.unwrap().turn, TurnOutcome::Interrupted);
    agent.close().await;
    world.assert_nothing_runs().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn commits_work_in_codexs_own_sandbox_in_a_clone_and_in_a_worktree() {
    let commit = "git -c user.name=a -c user.email=a@b commit -q --allow-empty -m mine";
    let Some(codex) = parts::codex() else { return };
    // Not beside the workspace: tests may have been built below /tmp, which Codex lets its commands write.
    let outside = codex.folder().join("outside");
    let Some(fixture) = real(run(&format!("{commit}; touch '{}'; echo end", outside.display()))) else { return };
    for worktree in [false, true] {
        let world = World::new(&fixture);
        let (main, workspace) = (world.workspace().with_file_name("main"), world.workspace());
        std::fs::create_dir(&main).unwrap();
        git(&main, &["init", "-q"]);
        git(&main, &["commit", "-q", "--allow-empty", "-m", "first"]);
        std::fs::remove_dir(&workspace).unwrap();
        let how: &[&str] = if worktree { &["worktree", "add", "-q"] } else { &["clone", "-q", "."] };
        git(&main, &[how, &[workspace.to_str().unwrap()]].concat());
        let (agent, end) = world.one_turn(Behaviour::Speaks).await;
        assert_eq!(end.unwrap().turn, TurnOutcome::Completed);
        let told = world.heard.text(TranscriptKind::Tool);
        assert_eq!(git(&workspace, &["log", "-1", "--format=%s"]), "mine", "{told}");
        assert!(told.contains("Read-only file system"), "the sandbox holds: {told}");
        agent.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_another_codex_writes_is_waited_for_and_then_told() {
    let Some(fixture) = real(json!([{"answer": [{"say": "x"}]}])) else { return };
    let world = World::new(&fixture);
    let mut first = world.start(Behaviour::Speaks).await;
    first.agent.prompt(1, "go", &CancellationToken::new()).await.unwrap();
    let Err(failure) = world.launch(Behaviour::Speaks, Some(&first.session), None).await else {
        panic!("two write one session");
    };
    assert_eq!((failure.code.as_str(), failure.retryable), ("agent_session_busy", true));
    let (second, ()) = tokio::join!(world.launch(Behaviour::Speaks, Some(&first.session), None), first.agent.close());
    assert_eq!(second.unwrap().how, SessionStart::Resumed);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupt_before_anything_happened_ends_the_turn_too() {
    let Some(fixture) = real(run("echo $$ > pid; sleep 1000")) else { return };
    let world = World::new(&fixture);
    let mut agent = world.start(Behaviour::Speaks).await.agent;
    let cancel = CancellationToken::new();
    cancel.cancel();
    assert_eq!(agent.prompt(1, "go", &cancel).await.unwrap().turn, TurnOutcome::Interrupted);
    let end = agent.prompt(2, GO_ON, &CancellationToken::new()).await.unwrap();
    assert_eq!((end.turn, end.summary.as_str()), (TurnOutcome::Completed, "again"));
    agent.close().await;
    world.assert_nothing_runs().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_that_passes_is_noted_and_no_end() {
    let fail = json!({"status": 429, "times": 1, "headers": {"retry-after": "1"}});
    let steps = json!([{"answer": [{"say": "at last"}], "fail": fail}]);
    let Some(fixture) = real(steps) else { return };
    let world = World::new(&fixture);
    let (agent, end) = world.one_turn(Behaviour::Speaks).await;
    let end = end.unwrap();
    assert_eq!(end.summary, "at last", "{:?} {}", end.turn, world.heard.text(TranscriptKind::Note));
    assert!(world.heard.text(TranscriptKind::Note).contains("codex tries again"));
    agent.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plain_429_without_an_end_in_sight_names_no_reset() {
    let Some(fixture) = real(json!([{"answer": [{"say": "x"}], "fail": {"status": 429}}])) else { return };
    let world = World::new(&fixture);
    let (agent, end) = world.one_turn(Behaviour::Speaks).await;
    assert_eq!(end.unwrap().turn, TurnOutcome::RateLimited { reset_at: None });
    agent.close().await;
}

/// A fake.
#[tokio::test(flavor = "multi_thread")]
async fn requests_that_nobody_serves_are_refused_and_the_turn_goes_on() {
    let fixture = Fake(
        r#"printf '{"id":7,"method":"attestation/generate","params":{}}\n'
        read -r reply; case $reply in *-32601*) say refused ;; *) say other ;; esac; ends completed"#,
    );
    let world = World::new(&fixture);
    let (agent, end) = world.one_turn(Behaviour::Speaks).await;
    assert_eq!(end.unwrap().summary, "refused");
    agent.close().await;
}

/// A fake.
#[tokio::test(flavor = "multi_thread")]
async fn old_approvals_and_wishes_of_servers_are_answered_by_the_policy() {
    for (request, all, answer) in [
        (r#""method":"execCommandApproval","params":{"command":["rm","-rf","x"]}"#, true, "approved"),
        (r#""method":"execCommandApproval","params":{"command":["rm","-rf","x"]}"#, false, "abort"),
        (
            r#""method":"item/permissions/requestApproval","params":{"permissions":{"network":{"enabled":true}}}"#,
            true,
            "enabled",
        ),
        (r#""method":"mcpServer/elicitation/request","params":{"serverName":"s","message":"m"}"#, true, "cancel"),
        (
            r#""method":"mcpServer/elicitation/request","params":{"serverName":"s","message":"m","_meta":{"codex_approval_kind":"mcp_tool_call"}}"#,
            true,
            "accept",
        ),
    ] {
        let script = format!(
            "printf '{{\"id\":7,%s}}\\n' '{request}'; while read -r reply; do case $reply in \
             *turn/interrupt*) id=${{reply#*\\\"id\\\":}}; id=${{id%%,*}}; answer '{{}}' ;; \
             *'\"id\":7'*) echo \"$reply\" > answer; break ;; esac; done; ends interrupted"
        );
        let fixture = Fake(Box::leak(script.into_boxed_str()));
        let mut world = World::new(&fixture);
        world.approve = if all { AutoApprove::All } else { AutoApprove::None };
        let (agent, end) = world.one_turn(Behaviour::Speaks).await;
        let told = std::fs::read_to_string(world.workspace().join("answer")).unwrap();
        assert!(told.contains(answer), "{request}: {told}");
        let asked = matches!(end.unwrap().turn, TurnOutcome::Asked { .. });
        assert_eq!(asked, matches!(answer, "abort" | "cancel"), "{request}");
        agent.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_was_killed_before_its_first_turn_is_gone() {
    let Some(fixture) = real(json!([{"answer": [{"say": "x"}]}])) else { return };
    let world = World::new(&fixture);
    let started = world.start(Behaviour::Speaks).await;
    world.kill().await;
    started.agent.close().await;
    for old in [started.session, SessionId::from("no-uuid")] {
        let again = world.launch(Behaviour::Speaks, Some(&old), Some("x")).await.unwrap();
        assert_eq!(again.how, SessionStart::Gone);
        again.agent.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_of_which_nothing_was_written_is_gone() {
    let Some(fixture) = real(json!([{"answer": [{"say": "x"}]}])) else { return };
    let world = World::new(&fixture);
    let mut started = world.start(Behaviour::Speaks).await;
    started.agent.prompt(1, "go", &CancellationToken::new()).await.unwrap();
    started.agent.close().await;
    world.kill().await;
    let home = world.workspace().parent().unwrap().join("home");
    let sessions = rollouts(home.join("sessions"));
    assert_eq!(sessions.len(), 1);
    std::fs::write(&sessions[0], "").unwrap();
    let again = world.launch(Behaviour::Speaks, Some(&started.session), Some("x")).await.unwrap();
    assert_eq!(again.how, SessionStart::Gone);
    again.agent.close().await;
}

/// Codex's files of sessions below a folder.
fn rollouts(folder: PathBuf) -> Vec<PathBuf> {
    let (mut found, mut folders) = (Vec::new(), vec![folder]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { folders.push(path) } else { found.push(path) }
        }
    }
    found
}
