//! From an issue to a branch that is handed over.

use super::scene::{FRONT, Scene, WORK};

#[test]
fn an_issue_becomes_a_handed_off_branch() {
    let script = format!(
        r#"
issue:
  - answer: [{{say: "I write the file."}}, {{run: "{WORK}"}}]
    tokens: {{input: 900, cached: 500, output: 20}}
  - answer: [{{say: "It is done."}}]
"#
    );
    let Some(scene) = Scene::new(FRONT, &script) else { return };
    assert!(scene.project.once(&[]).wait().success());
    scene.handed_off();
    scene.usage_agrees();
    assert_eq!((scene.told().input, scene.told().output), (1000, 30));
    assert_eq!(scene.project.git(&scene.project.remote(), &["show", "dalsegno/DS-1:work.txt"]), "work");
    assert_eq!(scene.count("turn_started"), 1);
    let logs = scene.project.output(&["logs", "DS-1"]);
    let logs = String::from_utf8_lossy(&logs.stdout).into_owned();
    assert!(logs.contains("It is done."), "{logs}");
}

#[test]
fn a_failing_check_is_told_to_the_same_session() {
    let script = format!(
        r#"
issue:
  - answer: [{{run: "echo nothing > other.txt; git add -A; git commit -qm other"}}]
  - answer: [{{say: "It is done, I think."}}]
after:
  - answer: [{{run: "{WORK}"}}]
  - answer: [{{say: "Now it is."}}]
"#
    );
    let Some(scene) = Scene::new(&FRONT.replace("./test", "./test || echo next: [[script:after]] && ./test"), &script)
    else {
        return;
    };
    assert!(scene.project.once(&[]).wait().success());
    scene.handed_off();
    scene.usage_agrees();
    let events = scene.project.events();
    let passed: Vec<bool> = events
        .iter()
        .filter(|event| event.kind == "check_ended")
        .map(|event| event.data["passed"].as_bool().unwrap())
        .collect();
    assert_eq!(passed, [false, true]);
    assert_eq!((scene.count("turn_started"), scene.count("session_started")), (2, 1));
    let last = scene.model.requests().pop().unwrap();
    assert!(last.body.to_string().contains("It is done, I think."), "the second turn knows the first");
}

#[test]
fn an_agent_that_does_nothing_and_says_it_is_done_ends_parked() {
    let script = "issue: [{answer: [{say: It is done.}]}]";
    let Some(scene) = Scene::new(&FRONT.replace("max_retry", "max_turns: 3, max_retry"), script) else { return };
    assert!(scene.project.once(&[]).wait().success());
    let (status, reason) = scene.project.status("DS-1").unwrap();
    assert_eq!(status, "parked");
    assert!(reason.contains("max_turns_reached") && reason.contains("3 turns"), "{reason}");
    assert_eq!((scene.count("turn_started"), scene.count("session_started")), (3, 1));
    assert_eq!(scene.project.git(&scene.project.remote(), &["branch", "--list", "dalsegno/*"]), "");
    scene.usage_agrees();
    super::super::judge::at_rest(&scene.project);
}
