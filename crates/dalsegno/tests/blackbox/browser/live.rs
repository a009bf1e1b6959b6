//! A page that is open shows what is true now.

use serde_json::json;

use super::{FRONT, SLOW, Scene};

#[test]
fn what_happens_is_shown_without_a_reload_on_the_board_and_on_the_issue() {
    let Some(mut scene) = Scene::new(FRONT, SLOW, &[]) else { return };
    scene.browser.eval("window.same = true");
    scene.project.issue("DS-1", "state: Todo");
    scene.browser.wait("the new issue at work", "document.querySelector('.column.works .tile')");
    assert_eq!(scene.browser.eval("window.same"), true, "the page was not loaded anew");
    scene.open("/issues/DS-1");
    scene.browser.wait_for("I look around");
    scene.browser.eval("window.same = true");
    scene.let_go("go");
    scene.browser.wait_for("And now I know");
    scene.let_go("end");
    scene.browser.wait("handed off", "document.querySelector('.facts .badge').textContent === 'handed off'");
    assert_eq!(scene.browser.eval("window.same"), true, "the page was not loaded anew");
    scene.daemon.stop();
}

#[test]
fn a_page_whose_daemon_was_killed_says_so_and_shows_what_is_true_when_it_is_back() {
    let Some(mut scene) = Scene::slow() else { return };
    scene.open("/issues/DS-1");
    scene.browser.wait_for("I look around");
    scene.browser.eval("window.same = true");
    let port: u16 = scene.at.rsplit_once(':').unwrap().1.parse().unwrap();
    scene.daemon.kill();
    scene.browser.wait("that it says so", "document.querySelector('.live.off')");
    assert!(scene.browser.text().contains("not connected"), "{}", scene.browser.text());
    assert!(scene.browser.text().contains("I look around"), "what it showed is still there");
    scene.let_go("go");
    scene.let_go("end");
    let mut daemon = scene.project.daemon_at(port);
    scene.browser.wait("handed off", "document.querySelector('.facts .badge').textContent === 'handed off'");
    scene.browser.wait("that it is live", "document.querySelector('.live.on')");
    assert_eq!(scene.browser.eval("window.same"), true, "the stream was resumed from its cursor");
    // The session ended with the daemon: the page says what is missing, and offers nothing that would be refused.
    scene.browser.wait_for("dalsegno open");
    assert_eq!(scene.browser.eval("document.querySelectorAll('form.act').length"), 0);
    scene.log_in();
    daemon.stop();
}

#[test]
fn a_stream_that_is_cut_is_taken_up_again_and_nothing_is_missed() {
    let Some(mut scene) = Scene::slow() else { return };
    scene.open("/");
    scene.browser.wait("at work", "document.querySelector('.column.works .tile')");
    scene.browser.eval("window.same = true");
    scene.browser.call("Network.enable", json!({}));
    let network =
        |offline: bool| json!({"offline": offline, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1});
    scene.browser.call("Network.emulateNetworkConditions", network(true));
    scene.let_go("go");
    scene.let_go("end");
    scene.project.wait_for("DS-1", "handed_off");
    scene.project.issue("DS-3", "state: Backlog");
    scene.project.issue("DS-2", "state: Todo\nblocked_by: [DS-3]");
    scene.project.wait_until("it is seen", || scene.project.status("DS-2").is_some());
    assert_eq!(
        scene.browser.eval("document.querySelectorAll('.column.good .tile').length"),
        0,
        "nothing comes through"
    );
    scene.browser.call("Network.emulateNetworkConditions", network(false));
    scene
        .browser
        .wait("both", "document.querySelector('.column.good .tile') && document.querySelector('.column.quiet .tile')");
    assert_eq!(scene.browser.eval("window.same"), true);
    scene.daemon.stop();
}
