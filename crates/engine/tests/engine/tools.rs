//! Tools that write: once for each call, whoever delivers it however often.

use dalsegno_engine::core::{Failure, TurnOutcome};
use dalsegno_engine::{ToolAnswer, ToolCall};
use dalsegno_testkit::doubles::{Act, Stage, issue};
use serde_json::json;

use crate::support::{Life, called, start, within};

fn comment(id: &str, body: &str) -> ToolCall {
    ToolCall { id: id.to_owned(), name: "tracker_comment".to_owned(), arguments: json!({"body": body}) }
}

/// A daemon whose agent is in a turn that does not end.
async fn in_a_turn() -> (Stage, Life) {
    let stage = Stage::default();
    stage.tracker().put(issue("A"));
    stage.agents.turns.always(Act::<TurnOutcome>::Hang);
    let life = start(&stage, false);
    called(&stage, "prompt", "A").await;
    (stage, life)
}

async fn call(stage: &Stage, call: ToolCall) -> ToolAnswer {
    let tools = stage.agents.tools("A").unwrap();
    within(tools.call(call)).await
}

fn comments(stage: &Stage) -> usize {
    stage.record.count_of("comment", "A")
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_delivered_again_is_answered_from_the_record_also_by_the_next_daemon() {
    let (stage, life) = in_a_turn().await;
    assert_eq!(call(&stage, comment("t1/c1", "halfway")).await, ToolAnswer { text: "commented".into(), success: true });
    assert!(call(&stage, comment("t1/c1", "halfway")).await.success);
    assert_eq!(comments(&stage), 1);
    // A new call is new, although it says the same.
    assert!(call(&stage, comment("t1/c2", "halfway")).await.success);
    assert_eq!(comments(&stage), 2);
    // The same call with other words is not answered with what was said before.
    let other = call(&stage, comment("t1/c1", "something else")).await;
    assert!(!other.success && other.text.starts_with("replay_mismatch"), "{}", other.text);
    life.drop_it().await;
    let life = start(&stage, false);
    within(async {
        while stage.record.count_of("start_session", "A") < 2 {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    })
    .await;
    assert!(call(&stage, comment("t1/c1", "halfway")).await.success);
    assert_eq!(comments(&stage), 2);
    life.drop_it().await;
}

#[tokio::test(start_paused = true)]
async fn a_comment_whose_end_nobody_knows_is_looked_up_before_it_is_made_again() {
    let (stage, life) = in_a_turn().await;
    stage.tracker().comment.next_of("A", Act::Hang);
    assert!(call(&stage, comment("t1/c1", "a")).await.success, "it was not there, and was made then");
    assert_eq!(comments(&stage), 2);
    stage.tracker().comment.next_of("A", Act::Panic);
    assert!(call(&stage, comment("t1/c2", "b")).await.success);
    assert_eq!(comments(&stage), 4);
    life.drop_it().await;
}

#[tokio::test(start_paused = true)]
async fn what_a_tracker_does_not_take_is_tried_again_and_what_it_refuses_is_told() {
    let (stage, life) = in_a_turn().await;
    stage.tracker().comment.next_of("A", Act::Fail(Failure::retryable("tracker_request", "busy")));
    assert!(call(&stage, comment("t1/c1", "a")).await.success);
    assert_eq!(comments(&stage), 2);
    stage.tracker().comment.next_of("A", Act::Fail(Failure::permanent("tracker_status", "no such issue")));
    for _ in 0..2 {
        let refused = call(&stage, comment("t1/c2", "b")).await;
        assert!(!refused.success && refused.text.contains("no such issue"), "{}", refused.text);
    }
    assert_eq!(comments(&stage), 3, "a refusal is recorded, and told again");
    for body in ["", "  ", &"x".repeat(40_000)] {
        assert!(!call(&stage, comment("t1/c3", body)).await.success);
    }
    assert_eq!(comments(&stage), 3);
    life.drop_it().await;
}

#[tokio::test(start_paused = true)]
async fn a_write_that_a_crash_cut_is_made_by_the_next_daemon_once() {
    let (stage, life) = in_a_turn().await;
    stage.tracker().comment.next_of("A", Act::Hang);
    let tools = stage.agents.tools("A").unwrap();
    let cut = tokio::spawn(async move { tools.call(comment("t1/c1", "halfway")).await });
    called(&stage, "comment", "A").await;
    cut.abort();
    life.drop_it().await;
    assert!(cut.await.unwrap_err().is_cancelled());
    let life = start(&stage, false);
    within(async {
        while stage.record.count_of("start_session", "A") < 2 {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    })
    .await;
    assert_eq!(comments(&stage), 2, "it was not there, and is made");
    assert!(call(&stage, comment("t1/c1", "halfway")).await.success);
    assert_eq!(comments(&stage), 2);
    life.drop_it().await;
}
