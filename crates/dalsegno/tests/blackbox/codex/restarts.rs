//! What never ends by itself, with daemons that are killed in its midst: each ends within its limit, as if nobody had
//! been killed, and the journal counts what the model counts.

use std::fs;
use std::time::Duration;

use super::super::judge;
use super::super::project::Daemon;
use super::scene::{FRONT, Scene, WORK};

/// Kills the daemon, waits for the end of its Codex, and starts another one.
fn restart(scene: &Scene, daemon: &mut Daemon) -> Daemon {
    daemon.kill();
    // Codex sees the end of its input, and writes what it has.
    scene.project.wait_until("the end of Codex", || scene.project.marked().is_empty());
    scene.project.once(&[])
}

fn parked(scene: &Scene, words: &[&str]) {
    let (status, reason) = scene.project.status("DS-1").unwrap();
    assert_eq!(status, "parked", "{reason}");
    assert!(words.iter().all(|word| reason.contains(word)), "{reason}");
    assert_eq!(scene.project.git(&scene.project.remote(), &["branch", "--list", "dalsegno/*"]), "");
    judge::no_gap(&scene.project);
    judge::at_rest(&scene.project);
}

/// Turns that ended, cut ones left out.
fn whole_turns(scene: &Scene) -> usize {
    scene.project.events().iter().filter(|event| event.kind == "turn_ended" && event.data["cut"] == false).count()
}

#[test]
fn a_turn_that_never_ends_ends_at_the_budget() {
    let tokens = 3_000;
    let step = "{answer: [{run: \"true\"}], tokens: {input: 100, output: 10}}";
    let script = format!("issue: [{}]", vec![step; 100].join(", "));
    let front = format!("{FRONT}budget: {{issue: {{tokens: {tokens}}}}}\n");
    let Some(scene) = Scene::new(&front, &script) else { return };
    let gates = [scene.model.hold("issue", 5), scene.model.hold("issue", 12)];
    let mut daemon = scene.project.once(&[]);
    for gate in gates {
        gate.wait_arrived(1);
        daemon = restart(&scene, &mut daemon);
        // Nobody waits any more for the first answer, or the model would count it as told.
        gate.wait_arrived(2);
        gate.release();
    }
    assert!(daemon.wait().success(), "{}", daemon.log_tail());
    parked(&scene, &["budget_exceeded", &tokens.to_string()]);
    let told = scene.told();
    let (input, output) = scene.journaled();
    // What the model answered while the turn was being ended, Codex tells nobody.
    let untold = (told.input - input, told.output - output);
    assert!([(0, 0), (100, 10)].contains(&untold), "the journal misses {untold:?} of what the model told");
    let used = told.input + told.output;
    // The agent is at work while its report is on the way.
    assert!(used >= tokens && used < 2 * tokens, "{used} of {tokens} tokens");
    assert_eq!((scene.count("run_started"), scene.count("session_started"), scene.count("session_resumed")), (1, 1, 2));
}

#[test]
fn an_agent_that_says_again_and_again_that_it_is_done_has_its_turns_and_no_more() {
    let script = "issue: [{answer: [{say: It is done.}]}]";
    let Some(scene) = Scene::new(&FRONT.replace("max_retry", "max_turns: 4, max_retry"), script) else { return };
    let mut gate = scene.model.hold("issue", 0);
    let mut daemon = scene.project.once(&[]);
    for _ in 0..2 {
        gate.wait_arrived(1);
        daemon = restart(&scene, &mut daemon);
        gate.wait_arrived(2);
        // Made before the old one opens: this turn ends, and the next one meets it.
        let next = scene.model.hold("issue", 0);
        gate.release();
        gate = next;
    }
    gate.release();
    assert!(daemon.wait().success(), "{}", daemon.log_tail());
    parked(&scene, &["max_turns_reached", "4 turns"]);
    scene.usage_agrees();
    assert_eq!((whole_turns(&scene), scene.count("run_started"), scene.count("session_started")), (4, 1, 1));
}

#[test]
fn a_model_that_refuses_for_ever_has_the_runs_and_no_more() {
    let front = format!("{FRONT}budget: {{issue: {{runs: 3}}}}\n");
    let Some(scene) = Scene::new(&front, "issue: [{fail: {status: 429}}]") else { return };
    let mut daemon = scene.project.once(&[]);
    // In the midst of a run's refusals, and between two runs.
    for (kind, times) in [("turn_started", 1), ("run_ended", 2)] {
        scene.project.wait_until(kind, || scene.count(kind) >= times);
        daemon = restart(&scene, &mut daemon);
    }
    assert!(daemon.wait().success(), "{}", daemon.log_tail());
    parked(&scene, &["runs_exhausted", "3 of 3 runs", "rate_limited"]);
    assert_eq!((scene.count("run_started"), scene.count("rate_limited")), (3, 3));
    assert_eq!(scene.told().input, 0);
    scene.usage_agrees();
}

#[test]
fn a_silent_agent_is_ended_in_each_run_also_when_its_silence_outlives_a_daemon() {
    let front = format!("{FRONT}codex: {{stall_timeout_ms: 2000}}\nbudget: {{issue: {{runs: 2}}}}\n");
    let Some(scene) = Scene::new(&front, "issue: [{answer: [{say: Never.}]}]") else { return };
    let gate = scene.model.hold("issue", 0);
    let mut daemon = scene.project.once(&[]);
    gate.wait_arrived(1);
    daemon = restart(&scene, &mut daemon);
    assert!(daemon.wait().success(), "{}", daemon.log_tail());
    parked(&scene, &["runs_exhausted", "2 of 2 runs", "stalled"]);
    assert_eq!((scene.count("run_started"), scene.count("session_resumed")), (2, 1));
    assert_eq!(scene.told().input, 0);
    scene.usage_agrees();
    gate.release();
}

#[test]
fn quiet_work_that_is_longer_than_the_stall_time_is_waited_for_by_the_next_daemon_too() {
    let front = format!("{FRONT}codex: {{stall_timeout_ms: 2000}}\n");
    let work = format!("echo begun >> .git/begun; sleep 5; {WORK}");
    let script = format!(
        "issue: [{{answer: [{{run: \"{work}\"}}]}}, {{answer: [{{run: \"{work}\"}}]}}, {{answer: [{{say: Done.}}]}}]"
    );
    let Some(scene) = Scene::new(&front, &script) else { return };
    let begun = || fs::read_to_string(scene.project.workspace("DS-1").join(".git/begun")).unwrap_or_default();
    let mut daemon = scene.project.once(&[]);
    scene.project.wait_until("the quiet command", || !begun().is_empty());
    daemon = restart(&scene, &mut daemon);
    assert!(daemon.wait().success(), "{}", daemon.log_tail());
    scene.handed_off();
    scene.usage_agrees();
    assert_eq!(begun().lines().count(), 2, "the command that was cut, and the one in its place");
    assert_eq!((scene.count("run_started"), scene.count("session_started"), whole_turns(&scene)), (1, 1, 1));
    let events = scene.project.events();
    let last = |kind: &str| events.iter().rfind(|event| event.kind == kind).unwrap().at;
    let took = Duration::from_millis(last("turn_ended").since_ms(last("turn_started")));
    assert!(took > Duration::from_secs(4), "the command was not waited for: {took:?}");
}
