//! SIGKILL: at every journal append and every effect boundary, and at random moments with work in flight.

use std::time::Duration;

use dalsegno_testkit::crash::{Points, Random, walk};

use super::forge::Scene;
use super::judge;
use super::project::{Daemon, Project};

pub(crate) const FRONT: &str = r#"polling: {interval_ms: 200}
agent: {kind: scripted, script: agent.yaml, max_concurrent_agents: 3, max_retry_backoff_ms: 200, max_turns: 60}
hooks:
  after_create: "echo created >> ../after_create.log"
  before_run: "echo before >> ../before_run.log"
  after_run: "echo after >> ../after_run.log"
handoff:
  checks: ["wc work.txt; test -s work.txt", "grep second work.txt"]
  claim_state: In Progress
  state: Human Review
  comment: "{{ issue.identifier }} is done."
"#;

/// Two turns with a check that fails between them; whatever a kill cuts, a later list finishes. Each list is
/// idempotent, as an agent's work on its own files is.
pub(crate) fn script(pause_ms: u32) -> String {
    let unlock = "rm -f .git/index.lock";
    let first = format!(
        "  - [ {{say: one}}, {{sleep: {pause_ms}ms}}, {{sh: \"{unlock}; echo first >> work.txt && git add -A && git commit -qm first\"}}, {{usage: {{input: 10, output: 1}}}} ]\n"
    );
    let second = format!(
        "  - [ {{say: two}}, {{sleep: {pause_ms}ms}}, {{sh: \"{unlock}; echo second >> work.txt && git add -A && git commit -qm second\"}}, {{write: {{path: note.txt, content: left}}}} ]\n"
    );
    format!("default:\n{first}{}", second.repeat(40))
}

#[test]
fn walk_every_append_and_every_effect_boundary() {
    let fresh = || {
        let project = Project::new(FRONT, &script(10));
        project.issue("DS-1", "state: Todo");
        project
    };
    let points = Points::from_environment(14);
    let walked = walk(points, 4, fresh, Project::run_with_kill, |project, _| judge::all_handed_off(project, &["DS-1"]));
    println!("crash walk ({points:?}): killed at {} of {} points", walked.killed, walked.points);
}

#[test]
fn walk_a_handoff_to_a_forge() {
    let points = Points::from_environment(10);
    let walked = walk(points, 4, Scene::new, Scene::run_with_kill, |scene, _| scene.handed_off());
    println!("crash walk of a pull request ({points:?}): killed at {} of {} points", walked.killed, walked.points);
}

#[test]
fn walk_a_handoff_that_the_forge_refuses_before_its_pivot() {
    let points = Points::from_environment(10);
    let walked = walk(points, 4, Scene::refusing, Scene::run_with_kill, |scene, _| scene.undone());
    println!("crash walk of an undone handoff ({points:?}): killed at {} of {} points", walked.killed, walked.points);
}

#[test]
fn kill_at_random_moments_with_work_in_flight() {
    let (rounds, seed) = rounds_and_seed();
    println!("random kills: {rounds} rounds, seed {seed} (DALSEGNO_KILL={rounds}:{seed} repeats them)");
    let mut random = Random::new(seed);
    let project = Project::new(FRONT, &script(120));
    let identifiers = ["DS-1", "DS-2", "DS-3", "DS-4", "DS-5", "DS-6", "DS-7"];
    for identifier in identifiers {
        project.issue(identifier, "state: Todo");
    }
    let mut kills = 0;
    let mut daemon = project.once(&[]);
    while kills < rounds {
        let before = progress(&project);
        let wanted = before + 2 + usize::try_from(random.below(9)).unwrap();
        wait_for_progress(&project, &mut daemon, wanted);
        std::thread::sleep(Duration::from_millis(random.below(120)));
        if !daemon.is_alive() {
            break;
        }
        daemon.kill();
        kills += 1;
        daemon = project.once(&[]);
    }
    assert!(daemon.wait().success(), "{}", daemon.log_tail());
    assert!(kills >= rounds.min(14), "only {kills} kills had work in flight; more work is needed");
    judge::all_handed_off(&project, &identifiers);
    println!("random kills: {kills} SIGKILLs, {} events, nothing lost and nothing twice", project.events().len());
}

#[test]
fn what_an_agent_left_running_is_swept_after_a_kill_and_after_a_run() {
    let agent = r#"
default:
  - [ {sh: "setsid sleep 301 >/dev/null 2>&1 </dev/null &"}, {sleep: 60s} ]
  - [ {sh: "setsid sleep 302 >/dev/null 2>&1 </dev/null & echo second > work.txt && git add -A && git commit -qm work"} ]
"#;
    let project = Project::new(FRONT, agent);
    project.issue("DS-1", "state: Todo");
    let runs = |line: &str| project.strays().iter().any(|stray| stray.starts_with(line));
    let mut daemon = project.once(&[]);
    project.wait_for_event("turn_started");
    project.wait_until("the detached command", || runs("sleep 301"));
    daemon.kill();
    assert!(runs("sleep 301"), "the command was to outlive daemon and agent");
    assert!(project.once(&[]).wait().success());
    judge::all_handed_off(&project, &["DS-1"]);
}

fn progress(project: &Project) -> usize {
    project.events().len()
}

fn wait_for_progress(project: &Project, daemon: &mut Daemon, wanted: usize) {
    while daemon.is_alive() && progress(project) < wanted {
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn rounds_and_seed() -> (u32, u64) {
    let text = std::env::var("DALSEGNO_KILL").unwrap_or_default();
    let mut parts = text.split(':');
    let rounds = parts.next().and_then(|text| text.parse().ok()).unwrap_or(14);
    let seed = parts.next().and_then(|text| text.parse().ok()).unwrap_or_else(|| u64::from(std::process::id()));
    (rounds, seed)
}
