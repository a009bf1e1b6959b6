//! How a session starts, comes back and ends, and what is left of its processes.

#![allow(clippy::unwrap_used, reason = "a case ends at the first surprise")]

use std::time::Duration;

use dalsegno_core::{SessionId, SessionStart, TurnOutcome};
use dalsegno_engine::{Started, TranscriptKind};
use tokio_util::sync::CancellationToken;

use super::world::{World, alive, contains, ended, failed};
use super::{AgentFixture, Behaviour, GO_ON};

/// A new session has an id and is said to be new.
pub async fn start(fixture: &dyn AgentFixture) {
    let world = World::new(fixture);
    let started = world.start(Behaviour::Speaks).await;
    assert_eq!(started.how, SessionStart::New);
    assert!(!started.session.as_str().is_empty());
    started.agent.close().await;
    world.assert_nothing_runs().await;
}

/// An agent that does not answer its start is ended at the limit, and nothing of it is left.
pub async fn launch_timeout(fixture: &dyn AgentFixture) {
    let mut world = World::new(fixture);
    world.read_timeout_ms = 300;
    let failure = world.refused(Behaviour::NeverAnswers).await;
    assert_eq!(failure.code, "response_timeout", "{failure}");
    world.assert_nothing_runs().await;
}

/// A program that is not there is said to be so, with a remedy, and trying again does not help.
pub async fn missing_program(fixture: &dyn AgentFixture) {
    let world = World::new(fixture);
    let failure = world.refused(Behaviour::Missing).await;
    assert_eq!(failure.code, "agent_not_found", "{failure}");
    assert!(failure.hint.is_some() && !failure.retryable, "{failure:?}");
    world.assert_nothing_runs().await;
}

/// Without its workspace no agent is started.
pub async fn missing_workspace(fixture: &dyn AgentFixture) {
    let world = World::new(fixture);
    std::fs::remove_dir(world.workspace()).unwrap();
    let failure = world.refused(Behaviour::Speaks).await;
    assert_eq!(failure.code, "agent_start_failed", "{failure}");
    world.assert_nothing_runs().await;
}

/// A start that is canceled ends soon, and nothing of it is left.
pub async fn launch_canceled(fixture: &dyn AgentFixture) {
    let mut world = World::new(fixture);
    world.read_timeout_ms = 3_600_000;
    world.cancel.cancel();
    let failure = world.refused(Behaviour::NeverAnswers).await;
    assert_eq!(failure.code, "agent_start_failed", "{failure}");
    world.assert_nothing_runs().await;
}

/// After `kill -9` in the midst of a turn the session comes back, its prompt is found, and the next one goes on.
pub async fn resume_after_kill_with_the_prompt(fixture: &dyn AgentFixture) {
    let world = World::new(fixture);
    let Started { session, mut agent, .. } = world.start(Behaviour::RunsCommand).await;
    let cancel = CancellationToken::new();
    let prompt = "do it\n\n<!-- dalsegno:prompt-1 -->";
    let (end, pid) = tokio::join!(agent.prompt(1, prompt, &cancel), async {
        let pid = world.command().await;
        assert!(world.kill().await > 0);
        pid
    });
    failed(end, "agent_exit");
    assert!(!alive(pid));
    agent.close().await;

    std::fs::remove_file(world.workspace().join("pid")).unwrap();
    let resumed = world.launch(Behaviour::RunsCommand, Some(&session), Some("dalsegno:prompt-1")).await.unwrap();
    assert_eq!((resumed.session, resumed.how), (session, SessionStart::ResumedPromptFound));
    let mut agent = resumed.agent;
    ended(agent.prompt(2, GO_ON, &cancel).await, &TurnOutcome::Completed);
    contains(&world.heard.text(TranscriptKind::Message), "again");
    assert!(!world.workspace().join("pid").exists(), "the cut command ran again");
    agent.close().await;
    world.assert_nothing_runs().await;
}

/// A prompt that never arrived is not found in the history; without one to seek the session is simply resumed.
pub async fn resume_after_kill_without_the_prompt(fixture: &dyn AgentFixture) {
    let world = World::new(fixture);
    let Started { session, mut agent, .. } = world.start(Behaviour::Speaks).await;
    ended(agent.prompt(1, "dalsegno:prompt-1", &CancellationToken::new()).await, &TurnOutcome::Completed);
    world.kill().await;
    agent.close().await;
    let told = world.heard.count(TranscriptKind::Message);

    for (seek, how) in [
        (Some("dalsegno:prompt-2"), SessionStart::ResumedPromptMissing),
        (Some("dalsegno:prompt-1"), SessionStart::ResumedPromptFound),
        (None, SessionStart::Resumed),
    ] {
        let resumed = world.launch(Behaviour::Speaks, Some(&session), seek).await.unwrap();
        assert_eq!((&resumed.session, resumed.how), (&session, how));
        world.kill().await;
        resumed.agent.close().await;
    }
    assert_eq!(world.heard.count(TranscriptKind::Message), told, "the history was written down again");
}

/// A session that the agent does not know is replaced by a new one, and that is said.
pub async fn resume_of_a_session_that_is_gone(fixture: &dyn AgentFixture) {
    let world = World::new(fixture);
    let gone = SessionId::from("00000000-0000-4000-8000-000000000000");
    let started = world.launch(Behaviour::Speaks, Some(&gone), Some("x")).await.unwrap();
    assert_eq!(started.how, SessionStart::Gone);
    assert_ne!(started.session, gone);
    let mut agent = started.agent;
    ended(agent.prompt(1, "go", &CancellationToken::new()).await, &TurnOutcome::Completed);
    agent.close().await;
}

/// An agent that ends in its turn is told with its exit code.
pub async fn exit(fixture: &dyn AgentFixture) {
    let world = World::new(fixture);
    let (agent, end) = world.one_turn(Behaviour::Exits).await;
    contains(&failed(end, "agent_exit").message, "exit code 7");
    agent.close().await;
    world.assert_nothing_runs().await;
}

/// The agent's environment has the mark, and not what is secret.
pub async fn secrets(fixture: &dyn AgentFixture) {
    let mut world = World::new(fixture);
    // Any variable that is surely set and not needed may stand for a secret.
    world.secret_names = vec!["CARGO_MANIFEST_DIR".to_owned()];
    let mut agent = world.start(Behaviour::RunsCommand).await.agent;
    let cancel = CancellationToken::new();
    let (_, environment) = tokio::join!(agent.prompt(1, "go", &cancel), async {
        let pid = world.command().await;
        let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap();
        cancel.cancel();
        String::from_utf8_lossy(&environment).into_owned()
    });
    let variables: Vec<&str> = environment.split('\0').collect();
    assert!(variables.contains(&format!("DALSEGNO_RUN={}", world.mark).as_str()));
    assert!(std::env::var_os("CARGO_MANIFEST_DIR").is_some(), "the case needs the variable to be set");
    assert!(!variables.iter().any(|variable| variable.starts_with("CARGO_MANIFEST_DIR=")));
    agent.close().await;
}

/// A close in the midst of things leaves no process.
pub async fn close(fixture: &dyn AgentFixture) {
    let mut world = World::new(fixture);
    // The silence of the running command ends the turn without ending the command.
    world.turn_timeout_ms = 2_000;
    let mut agent = world.start(Behaviour::RunsCommand).await.agent;
    failed(agent.prompt(1, "go", &CancellationToken::new()).await, "turn_timeout");
    let pid = world.command().await;
    assert!(alive(pid));
    agent.close().await;
    assert!(!alive(pid));
    world.assert_nothing_runs().await;
}

/// A turn whose future is dropped with its agent leaves no process either.
pub async fn drop_ends_it(fixture: &dyn AgentFixture) {
    let world = World::new(fixture);
    let mut agent = world.start(Behaviour::RunsCommand).await.agent;
    let cancel = CancellationToken::new();
    let pid = tokio::select! {
        end = agent.prompt(1, "go", &cancel) => panic!("the turn ended: {end:?}"),
        pid = world.command() => pid,
    };
    assert!(alive(pid));
    drop(agent);
    // A drop does not wait; the case's limit ends the wait.
    while alive(pid) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
