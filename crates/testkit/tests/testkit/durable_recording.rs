//! The recording host: what it writes down, and what it does not do.

use std::sync::Arc;
use std::time::Duration;

use dalsegno_durable::key::Secret;
use dalsegno_durable::{
    Claim, Command, EffectHost, EffectKind, ExecutionScope, HostOptions, InDoubt, MemoryStore, Probed, Resolution,
    Resolved, StoredHost,
};
use dalsegno_testkit::conformance::durable::{StoreFixture, within};
use dalsegno_testkit::durable::{ManualClock, RecordingHost, Selected};
use serde_json::{Value, json};

fn turn(id: &str) -> ExecutionScope {
    ExecutionScope::turn("session-1", id)
}

fn tool(argument: u32) -> Command {
    Command::ToolCall { tool: "rm".into(), arguments: json!([argument]) }
}

#[tokio::test]
async fn scopes_are_noted_as_they_were_selected() {
    let host = RecordingHost::new();
    host.scoped(turn("1")).await.unwrap();
    host.scoped_static(turn("2")).await.unwrap().unwrap();
    host.take_over(ExecutionScope::process("p")).await.unwrap();
    assert!(host.controller(turn(""), Claim::IfFree).await.is_err());
    let selected = |scope, owned| Selected { scope, owned };
    assert_eq!(
        host.selected(),
        [
            selected(turn("1"), false),
            selected(turn("2"), true),
            selected(ExecutionScope::process("p"), false),
            selected(turn(""), false),
        ]
    );
}

#[tokio::test]
async fn effects_are_noted_and_answered_and_never_executed() {
    let host = RecordingHost::new();
    let scope = host.scoped(turn("1")).await.unwrap();
    host.answer("first", json!({"ok": true}));
    let told: Value = scope.effect("first", tool(1)).run(|_| async { panic!("executed") }).await.unwrap();
    assert_eq!(told, json!({"ok": true}));
    let probed = scope.effect("second", tool(2)).probe(|_| async { Probed::<Value>::NotApplied });
    let refused = probed.run::<Value, _, _>(|_| async { panic!("executed") }).await.unwrap_err();
    assert_eq!(refused.code(), "not_executed");
    assert!(refused.to_string().contains("second"), "{refused}");
    let asked = host.asked();
    assert_eq!(asked.len(), 2);
    assert_eq!((asked[0].replay_key.as_str(), asked[0].kind), ("first", EffectKind::ToolCall));
    assert_eq!((asked[0].in_doubt, asked[1].in_doubt), (InDoubt::Park, InDoubt::Probe));
    assert_ne!(asked[0].hash, asked[1].hash);
    assert!(asked.iter().all(|asked| asked.scope == turn("1")));
}

#[tokio::test]
async fn its_answers_are_replayed_and_refused_to_other_content() {
    let host = RecordingHost::new();
    let scope = host.scoped(turn("1")).await.unwrap();
    let ask = async |argument| scope.effect("k", tool(argument)).run::<u32, _, _>(|_| async { Ok(0) }).await;
    host.answer("k", 1);
    assert_eq!(ask(1).await.unwrap(), 1);
    host.answer("k", 2);
    assert_eq!(ask(1).await.unwrap(), 1, "what was recorded stays");
    assert_eq!(ask(2).await.unwrap_err().code(), "replay_mismatch");
    assert_eq!(host.asked().len(), 3, "a replay is asked for as well");
    assert_eq!(host.asked()[0].hash, host.asked()[1].hash);
}

#[tokio::test]
async fn sleeps_steps_and_waits_are_real() {
    let clock = ManualClock::new();
    let options = HostOptions { clock: Arc::<ManualClock>::clone(&clock), ..HostOptions::default() };
    let store = Arc::new(MemoryStore::new(Secret::new([7; 32])));
    let host = RecordingHost::around(Arc::new(StoredHost::with(store, options)));
    let scope = host.scoped(turn("1")).await.unwrap();
    assert_eq!(scope.step("add", &[1, 2], || async { Ok(3) }).await.unwrap(), 3);
    let passes = async {
        clock.asleep(1).await;
        clock.advance(Duration::from_secs(1));
    };
    let (slept, ()) = tokio::join!(scope.sleep("nap", Duration::from_secs(1)), passes);
    slept.unwrap();
    let key = scope.wait_key("w").unwrap();
    let answer = Resolution::Answered { payload: json!(1) };
    assert_eq!(host.resolve(&key, answer.clone()).await.unwrap(), Resolved::Accepted);
    assert_eq!(scope.wait(&key).await.unwrap(), answer);
    let kinds: Vec<EffectKind> = host.asked().into_iter().map(|asked| asked.kind).collect();
    assert_eq!(kinds, [EffectKind::DurableStep, EffectKind::Sleep]);
}

#[tokio::test]
async fn a_group_of_the_suite_runs_as_one_function() {
    let make = async || StoreFixture::new(MemoryStore::new(Secret::new([7; 32]))).await;
    within("leases", dalsegno_testkit::conformance::durable::leases(make)).await;
}
