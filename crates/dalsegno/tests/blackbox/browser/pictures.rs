//! A project as a person finds it in the morning, and its pictures: `DALSEGNO_PICTURES=<folder>` has them taken.

use std::path::PathBuf;

use super::Scene;
use super::chromium::Look;

const FRONT: &str = "polling: {interval_ms: 200}
agent: {kind: scripted, script: agent.yaml, max_retry_backoff_ms: 50, max_concurrent_agents: 2}
breaker: {same_failure: 2}
budget: {day: {tokens: 4000000}}
handoff: {checks: [\"sh test.sh\"], state: Human Review, comment: done}
";
/// What the project's check is: it says much, and some of it in long lines.
const CHECK: &str = r#"echo "running 63 tests"
seq -f "test parser::lines::case_%02g_keeps_the_last_line_of_a_file ... ok" 62
echo "test export::round_trip ... ok, took 0.418 s, seed 8141592653589793238462643383279502884197169399375105820974944592307816406286208998628034825342117067"
echo
echo "test result: ok. 63 passed; 0 failed; 0 ignored"
test -s notes.txt
"#;
/// The first page of what a check said.
pub(super) const SAID: &str = "/runs/run-1/files/1-0-check-1.log";
const AGENT: &str = r#"
DS-101:
  - [ {say: "The parser drops the last line when the file does not end with a newline. I write a test for that first."}, {sh: "echo fixed > notes.txt && git add -A && git commit -qm 'Keep the last line'"}, {say: "The test fails without the change and passes with it."}, {usage: {input: 812000, output: 21400}} ]
DS-102:
  - [ {say: "There are two retry loops, in the client and in the queue."}, {usage: {input: 148000, output: 3900}}, {ask: {text: "The client retries 3 times and the queue 5 times. Which of the two should go?", options: [client, queue]}}, {sh: "echo ${answer} > notes.txt; git add -A; git commit -qm retries"} ]
DS-103:
  - [ {say: "I run the migration against a copy of the schema."}, {usage: {input: 96000, output: 2100}}, {fail: "column orders.tax_rate does not exist"} ]
  - [ {fail: "column orders.tax_rate does not exist"} ]
DS-104:
  - [ {say: "The session cookie is set without SameSite. I look for the places that set it."}, {usage: {input: 402000, output: 9800}}, {say: "Three places, one of them in a test. I change the two and add a test for the attribute."}, {sh: "echo begun > begun.txt; until test -e ../../go; do sleep 0.05; done"} ]
DS-105:
  - [ {say: "I measure where the time of the start goes before I change anything."}, {usage: {input: 231000, output: 5200}}, {sh: "echo begun > begun.txt; until test -e ../../go; do sleep 0.05; done"} ]
default:
  - [ {sh: "echo work > notes.txt && git add -A && git commit -qm work"}, {usage: {input: 355000, output: 8700}} ]
"#;

/// Something handed off, a question, a failure that is parked, two at work, two that wait, two at rest.
pub(super) fn morning() -> Option<Scene> {
    let scene = Scene::new(FRONT, AGENT, &[])?;
    let root = scene.project.root();
    std::fs::write(root.join("test.sh"), CHECK).unwrap();
    for arguments in [&["add", "test.sh"][..], &["commit", "-qm", "tests"], &["push", "-q", "origin", "main"]] {
        scene.project.git(&root, arguments);
    }
    let issue = |name: &str, title: &str, state: &str| {
        let text =
            format!("---\ntitle: {title}\nstate: {state}\nlabels: [backend]\n---\nWhat is wrong, and how to see it.\n");
        std::fs::write(scene.project.issue_file(name), text).unwrap();
    };
    issue("DS-101", "The parser drops the last line of a file", "Todo");
    scene.project.wait_for("DS-101", "handed_off");
    issue("DS-100", "Name the unit in the timeout settings", "Todo");
    scene.project.wait_for("DS-100", "handed_off");
    issue("DS-102", "Retry a failed upload only once", "Todo");
    scene.project.wait_for("DS-102", "waiting_question");
    issue("DS-103", "Migrate the tax rate to a table of its own", "Todo");
    scene.project.wait_for("DS-103", "parked");
    issue("DS-104", "Set SameSite on the session cookie", "Todo");
    issue("DS-105", "The command line takes a second to start", "Todo");
    for name in ["DS-104", "DS-105"] {
        scene.project.wait_until("it is at work", || scene.project.workspace(name).join("begun.txt").exists());
    }
    issue("DS-106", "Show the version in the footer", "Todo");
    issue("DS-107", "Drop support for the old export format", "Todo");
    issue("DS-108", "Write down how releases are made", "Todo\nblocked_by: [DS-107]");
    issue("DS-109", "Try the new allocator", "Todo\nblocked_by: [DS-105]");
    scene.project.wait_for("DS-107", "queued");
    scene.project.wait_until("all are known", || scene.project.status("DS-109").is_some());
    Some(scene)
}

/// Pixels of a picture, at most.
const HEIGHT: u64 = 1_000;

#[test]
fn pictures() {
    let Some(folder) = std::env::var_os("DALSEGNO_PICTURES").map(PathBuf::from) else { return };
    let Some(mut scene) = morning() else { return };
    let pages = [
        ("board", "/"),
        ("question", "/issues/DS-102"),
        ("parked", "/issues/DS-103"),
        ("running", "/issues/DS-104"),
        ("handed-off", "/issues/DS-101"),
        ("run", "/runs/run-1"),
        ("said", SAID),
        ("events", "/events"),
        ("usage", "/usage"),
        ("daemon", "/daemon"),
    ];
    for (suffix, look, dark) in
        [("light", Look::Desk, false), ("dark", Look::Desk, true), ("phone", Look::Phone, false)]
    {
        scene.browser.look(look, dark);
        for (name, page) in pages {
            scene.open(page);
            scene.browser.wait("live", "document.querySelector('.live.on') || !document.body.dataset.head");
            scene.browser.picture(&folder.join(format!("{name}-{suffix}.png")), HEIGHT);
        }
    }
    scene.daemon.stop();
}
