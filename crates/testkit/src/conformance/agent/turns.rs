//! What happens in a turn: what is said, asked, spent and refused, and what is no protocol.

#![allow(clippy::unwrap_used, reason = "a case ends at the first surprise")]

use std::time::Duration;

use dalsegno_core::{AutoApprove, Reply, TurnOutcome, Usage, Wants};
use dalsegno_engine::TranscriptKind;
use tokio_util::sync::CancellationToken;

use super::world::{World, alive, contains, ended, failed};
use super::{AgentFixture, Behaviour, GO_ON};

/// A prompt is written down, its turn ends, and the next one follows in the same session.
pub async fn prompt(fixture: &dyn AgentFixture) {
    let world = World::new(fixture);
    let mut agent = world.start(Behaviour::Speaks).await.agent;
    let cancel = CancellationToken::new();
    for turn in 1..=2 {
        let end = agent.prompt(turn, &format!("prompt {turn}"), &cancel).await;
        let end = ended(end, &TurnOutcome::Completed);
        contains(&end.summary, "three");
        assert!(end.summary.len() <= 2048);
    }
    assert_eq!(world.heard.text(TranscriptKind::Prompt), "prompt 1\nprompt 2\n");
    agent.close().await;
}

/// What the agent says arrives in order, and as signs of life.
pub async fn stream(fixture: &dyn AgentFixture) {
    let world = World::new(fixture);
    let (agent, end) = world.one_turn(Behaviour::Speaks).await;
    ended(end, &TurnOutcome::Completed);
    let text = world.heard.text(TranscriptKind::Message);
    let places: Vec<_> = ["one", "two", "three"].iter().map(|word| text.find(word).unwrap()).collect();
    assert!(places.is_sorted(), "{text}");
    assert!(world.heard.signs() >= 3);
    agent.close().await;
}

/// Tokens are reported, to the sink and with the turn's end; each turn counts from zero.
pub async fn usage(fixture: &dyn AgentFixture) {
    let world = World::new(fixture);
    let mut agent = world.start(Behaviour::Speaks).await.agent;
    for turn in 1..=2 {
        let end = agent.prompt(turn, "go", &CancellationToken::new()).await;
        assert_eq!(ended(end, &TurnOutcome::Completed).usage, Usage::new(12, 3));
    }
    assert_eq!(world.heard.last_usage(), Some(Usage::new(12, 3)));
    agent.close().await;
}

/// A permission that the policy grants does not hold up the turn.
pub async fn permission_granted(fixture: &dyn AgentFixture) {
    let mut world = World::new(fixture);
    world.approve = AutoApprove::All;
    let (agent, end) = world.one_turn(Behaviour::AsksPermissionForCommand).await;
    ended(end, &TurnOutcome::Completed);
    contains(&world.heard.text(TranscriptKind::Message), "went on");
    contains(&world.heard.text(TranscriptKind::Note), "rm -rf build");
    agent.close().await;
}

/// A permission that the policy does not grant ends the turn with what was asked.
pub async fn permission_refused(fixture: &dyn AgentFixture) {
    let world = World::new(fixture);
    let (agent, end) = world.one_turn(Behaviour::AsksPermissionForCommand).await;
    let TurnOutcome::Asked { question, wants } = end.unwrap().turn else { panic!("nobody may grant that") };
    assert_eq!(wants, Wants::Permission);
    contains(&question, "rm -rf build");
    assert!(!world.heard.text(TranscriptKind::Message).contains("went on"));
    agent.close().await;
    world.assert_nothing_runs().await;
}

/// What a person permits is done, and what a person refuses is gone on without: the turn waits for either.
pub async fn permission_by_a_person(fixture: &dyn AgentFixture) {
    for reply in [Reply::Granted, Reply::Denied { why: "no".to_owned() }] {
        let world = World::new(fixture);
        world.heard.will_say(reply);
        let (agent, end) = world.one_turn(Behaviour::AsksPermissionForCommand).await;
        ended(end, &TurnOutcome::Completed);
        contains(&world.heard.text(TranscriptKind::Note), "an operator");
        agent.close().await;
    }
}

/// What a person answers is heard in the same turn.
pub async fn question_by_a_person(fixture: &dyn AgentFixture) {
    let world = World::new(fixture);
    world.heard.will_say(Reply::Text { text: "red".to_owned() });
    let (agent, end) = world.one_turn(Behaviour::AsksQuestion).await;
    ended(end, &TurnOutcome::Completed);
    contains(&world.heard.text(TranscriptKind::Note), "an operator answered");
    agent.close().await;
}

/// With `auto_approve: workspace` only what is tied to paths inside the workspace is granted.
pub async fn permission_by_place(fixture: &dyn AgentFixture) {
    for (behaviour, granted) in [
        (Behaviour::AsksPermissionInside, true),
        (Behaviour::AsksPermissionOutside, false),
        (Behaviour::AsksPermissionForCommand, false),
    ] {
        let mut world = World::new(fixture);
        world.approve = AutoApprove::Workspace;
        let (agent, end) = world.one_turn(behaviour).await;
        let turn = end.unwrap().turn;
        assert_eq!(turn == TurnOutcome::Completed, granted, "{behaviour:?}: {turn:?}");
        assert_eq!(matches!(turn, TurnOutcome::Asked { .. }), !granted, "{behaviour:?}: {turn:?}");
        agent.close().await;
    }
}

/// A question ends the turn with its text, whatever the policy grants.
pub async fn question(fixture: &dyn AgentFixture) {
    let mut world = World::new(fixture);
    world.approve = AutoApprove::All;
    let (agent, end) = world.one_turn(Behaviour::AsksQuestion).await;
    let TurnOutcome::Asked { question, wants } = end.unwrap().turn else { panic!("nobody may answer that") };
    assert_eq!(wants, Wants::Input);
    contains(&question, "Which colour?");
    agent.close().await;
}

/// A model that fails is the turn's failure; the session goes on.
pub async fn model_failure(fixture: &dyn AgentFixture) {
    let world = World::new(fixture);
    let (agent, end) = world.one_turn(Behaviour::Fails).await;
    let TurnOutcome::Failed { failure } = end.unwrap().turn else { panic!("it failed") };
    contains(&failure.message, "out of ideas");
    agent.close().await;
}

/// A rate limit is told from other failures, with the time at which it ends.
pub async fn rate_limit(fixture: &dyn AgentFixture) {
    let world = World::new(fixture);
    let (agent, end) = world.one_turn(Behaviour::RateLimited).await;
    let TurnOutcome::RateLimited { reset_at } = end.unwrap().turn else { panic!("its rate is limited") };
    assert!(reset_at.is_some());
    agent.close().await;
}

/// An interrupt ends the turn and the command that runs in it; the session takes the next prompt.
pub async fn interrupt(fixture: &dyn AgentFixture) {
    let world = World::new(fixture);
    let mut agent = world.start(Behaviour::RunsCommand).await.agent;
    let cancel = CancellationToken::new();
    let (end, pid) = tokio::join!(agent.prompt(1, "go", &cancel), async {
        let pid = world.command().await;
        assert!(alive(pid));
        cancel.cancel();
        pid
    });
    ended(end, &TurnOutcome::Interrupted);
    // The kill is asynchronous; the case's limit ends the wait.
    while alive(pid) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let end = agent.prompt(2, GO_ON, &CancellationToken::new()).await;
    ended(end, &TurnOutcome::Completed);
    contains(&world.heard.text(TranscriptKind::Message), "again");
    agent.close().await;
    world.assert_nothing_runs().await;
}

/// A few lines that are no protocol are written down, and the turn goes on.
pub async fn malformed_output(fixture: &dyn AgentFixture) {
    let world = World::new(fixture);
    let (agent, end) = world.one_turn(Behaviour::Garbage).await;
    ended(end, &TurnOutcome::Completed);
    assert!(world.heard.count(TranscriptKind::Malformed) > 0);
    agent.close().await;
}

/// Too many of them end the session.
pub async fn endless_malformed_output(fixture: &dyn AgentFixture) {
    let world = World::new(fixture);
    let (agent, end) = world.one_turn(Behaviour::EndlessGarbage).await;
    failed(end, "agent_protocol");
    assert!(world.heard.count(TranscriptKind::Malformed) <= 101);
    agent.close().await;
    world.assert_nothing_runs().await;
}

/// An agent that is silent in its turn for too long is of no use.
pub async fn silence(fixture: &dyn AgentFixture) {
    let mut world = World::new(fixture);
    world.turn_timeout_ms = 300;
    let (agent, end) = world.one_turn(Behaviour::Silent).await;
    failed(end, "turn_timeout");
    agent.close().await;
    world.assert_nothing_runs().await;
}

/// A flood arrives whole, in order, and in fewer lines than it came in or as many.
pub async fn flood(fixture: &dyn AgentFixture) {
    let world = World::new(fixture);
    let (agent, end) = world.one_turn(Behaviour::Floods).await;
    ended(end, &TurnOutcome::Completed);
    let text = world.heard.text(TranscriptKind::Message);
    let numbers: Vec<u32> = text.lines().filter_map(|line| line.strip_prefix("flood ")?.parse().ok()).collect();
    assert!(numbers.iter().copied().eq(0..10_000), "{} of 10000 lines", numbers.len());
    agent.close().await;
}

/// Text that is no UTF-8 is replaced where it is broken, and kept where it is not.
pub async fn not_utf8(fixture: &dyn AgentFixture) {
    let world = World::new(fixture);
    let (agent, end) = world.one_turn(Behaviour::Garbage).await;
    ended(end, &TurnOutcome::Completed);
    contains(&world.heard.text(TranscriptKind::Message), "caf\u{fffd}");
    agent.close().await;
}
