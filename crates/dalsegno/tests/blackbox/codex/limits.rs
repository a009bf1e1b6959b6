//! A model that refuses, fails, or says nothing; and an agent that works without a word.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::super::judge;
use super::scene::{FRONT, Scene, WORK};

/// The work, when the model answers.
fn work() -> String {
    format!("[{{answer: [{{run: \"{WORK}\"}}]}}, {{answer: [{{say: It is done.}}]}}]")
}

#[test]
fn a_model_that_refuses_twice_costs_no_turn() {
    let script = format!(
        "issue: [{{answer: [{{run: \"{WORK}\"}}], fail: {{status: 429, times: 2, headers: {{retry-after: \"1\"}}}}}}, {{answer: [{{say: Done.}}]}}]"
    );
    let Some(scene) = Scene::new(FRONT, &script) else { return };
    assert!(scene.project.once(&[]).wait().success());
    scene.handed_off();
    scene.usage_agrees();
    assert_eq!((scene.count("turn_started"), scene.count("run_started")), (1, 1));
    let first = scene.model.requests().iter().filter(|asked| asked.step == 0).count();
    assert_eq!(first, 3, "two refusals and an answer");
}

#[test]
fn a_model_that_does_not_take_the_request_fails_the_turn_and_the_runs_are_counted() {
    let front = format!("{FRONT}budget: {{issue: {{runs: 2}}}}\n");
    let Some(scene) = Scene::new(&front, "issue: [{fail: {status: 400}}]") else { return };
    assert!(scene.project.once(&[]).wait().success());
    let (status, reason) = scene.project.status("DS-1").unwrap();
    assert_eq!(status, "parked");
    assert!(reason.contains("runs_exhausted") && reason.contains("turn_failed"), "{reason}");
    let outcomes: Vec<String> = scene
        .project
        .events()
        .iter()
        .filter(|event| event.kind == "turn_ended")
        .map(|event| event.data.to_string())
        .collect();
    assert!(outcomes.len() == 2 && outcomes.iter().all(|outcome| outcome.contains("failed")), "{outcomes:?}");
    assert_eq!(scene.told().input, 0);
    scene.usage_agrees();
    judge::at_rest(&scene.project);
}

#[test]
fn a_used_up_plan_is_waited_for_across_a_restart() {
    // As the provider of a subscription says it: the headers tell the reset, Codex leaves out that of the body.
    waited_for(|reset| {
        format!(
            "issue: [{{fail: {{status: 429, body: {{error: {{type: usage_limit_reached, message: used up, plan_type: pro}}}}}}, \
             rate_limit: {{used_percent: 100, window_minutes: 300, reset_at: {reset}}}}}]"
        )
    });
}

#[test]
fn a_limit_that_the_headers_told_is_waited_for_across_a_restart() {
    // Codex reads the headers of good answers alone; the refusal that follows says nothing of the reset.
    waited_for(|reset| {
        format!(
            "issue: [{{answer: [{{run: \"true\"}}], rate_limit: {{used_percent: 100, window_minutes: 300, reset_at: \
             {reset}}}}}, {{fail: {{status: 429}}}}]"
        )
    });
}

fn waited_for(refusing: impl Fn(u64) -> String) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    // Far enough for the refusals, the restart, and a slow machine.
    let reset = now + 20;
    let Some(mut scene) = Scene::new(FRONT, &refusing(reset)) else { return };
    let mut daemon = scene.project.daemon();
    scene.project.wait_for_event("rate_limited");
    scene.project.wait_for("DS-1", "waiting_quota");
    let limited = scene.project.events().into_iter().find(|event| event.kind == "rate_limited").unwrap();
    assert_eq!(limited.data["reset_at"], reset * 1000, "{}", limited.data);
    daemon.kill();
    scene.other_model(&format!("issue: {}", work()));

    let mut daemon = scene.project.daemon();
    scene.project.wait_for("DS-1", "handed_off");
    daemon.stop();
    scene.handed_off();
    let events = scene.project.events();
    let runs: Vec<i64> = events.iter().filter(|event| event.kind == "run_started").map(|event| event.at.0).collect();
    assert_eq!(runs.len(), 2, "one that was refused, and one after the reset");
    assert_eq!((scene.count("agent_suspended"), scene.count("agent_resumed")), (1, 1));
    assert!(runs[1] >= i64::try_from(reset).unwrap() * 1000, "it did not wait for the reset");
}

#[test]
fn a_model_that_hangs_is_a_stall_and_is_tried_again() {
    let front = format!("{FRONT}codex: {{stall_timeout_ms: 2000}}\n");
    let Some(scene) = Scene::new(&front, &format!("issue: {}", work())) else { return };
    let gate = scene.model.hold("issue", 0);
    let mut daemon = scene.project.daemon();
    scene.project.wait_for_event("run_ended");
    let ended = scene.project.events().into_iter().find(|event| event.kind == "run_ended").unwrap();
    assert!(ended.data["reason"].as_str().unwrap().contains("stalled"), "{}", ended.data);
    gate.release();
    scene.project.wait_for("DS-1", "handed_off");
    daemon.stop();
    scene.handed_off();
}

#[test]
fn a_long_command_without_a_word_is_no_stall() {
    let front = format!("{FRONT}codex: {{stall_timeout_ms: 2000}}\n");
    let script = format!("issue: [{{answer: [{{run: \"sleep 6; {WORK}\"}}]}}, {{answer: [{{say: Done.}}]}}]");
    let Some(scene) = Scene::new(&front, &script) else { return };
    assert!(scene.project.once(&[]).wait().success());
    scene.handed_off();
    scene.usage_agrees();
    assert_eq!((scene.count("run_started"), scene.count("turn_started")), (1, 1));
    let events = scene.project.events();
    let at = |kind: &str| events.iter().find(|event| event.kind == kind).unwrap().at;
    let took = Duration::from_millis(at("turn_ended").since_ms(at("turn_started")));
    assert!(took > Duration::from_secs(5), "the command was not waited for: {took:?}");
}
