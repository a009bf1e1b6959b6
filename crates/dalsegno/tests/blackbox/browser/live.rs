//! A page that is open shows what is true now.

use super::Scene;

const SLOW: &str = r#"
default:
  - [ {say: "I look around"}, {sh: "echo begun > begun.txt; until test -e ../../go; do sleep 0.05; done"}, {say: "And now I know"},
      {sh: "until test -e ../../end; do sleep 0.05; done; echo work > work.txt && git add -A && git commit -qm work"} ]
"#;

#[test]
fn what_happens_is_shown_without_a_reload_on_the_board_and_on_the_issue() {
    let Some(mut scene) = Scene::new("", SLOW, &[]) else { return };
    scene.browser.eval("window.same = true");
    scene.project.issue("DS-1", "state: Todo");
    scene.browser.wait("the new issue at work", "document.querySelector('.column.works .tile')");
    assert_eq!(scene.browser.eval("window.same"), true, "the page was not loaded anew");
    scene.open("/issues/DS-1");
    scene.browser.wait_for("I look around");
    scene.browser.eval("window.same = true");
    std::fs::write(scene.project.dir.join("go"), "").unwrap();
    scene.browser.wait_for("And now I know");
    std::fs::write(scene.project.dir.join("end"), "").unwrap();
    scene.browser.wait("handed off", "document.querySelector('.facts .badge').textContent === 'handed off'");
    assert_eq!(scene.browser.eval("window.same"), true, "the page was not loaded anew");
    scene.daemon.stop();
}
