//! A thousand issues: the page stays small, and asks for little.

use super::{FRONT, SLOW, Scene};

const ISSUES: usize = 1_000;
/// Nodes of the board, whatever the number of issues.
const NODES: u64 = 4_000;

#[test]
fn a_thousand_issues_are_shown_in_a_page_of_bounded_size_that_asks_seldom() {
    let Some(mut scene) = Scene::new(
        &FRONT.replace("script: agent.yaml,", "script: agent.yaml, max_concurrent_agents: 1,"),
        SLOW,
        &["DS-1"],
    ) else {
        return;
    };
    for number in 2..=ISSUES {
        // What is blocked is at rest; the rest waits for the one slot.
        let state = if number % 2 == 0 { "Todo\nblocked_by: [DS-1]" } else { "Todo" };
        std::fs::write(
            scene.project.issue_file(&format!("DS-{number}")),
            format!("---\ntitle: Issue {number}\nstate: {state}\n---\n"),
        )
        .unwrap();
    }
    let known = format!("document.querySelector('.figure.quiet b').textContent.replace(/\\D/g, '') === '{ISSUES}'");
    scene.browser.wait("all of them", &known);
    scene.browser.wait("what waits", "document.querySelector('.column.waits .more')");
    let nodes = |scene: &mut Scene| scene.browser.eval("document.querySelectorAll('*').length").as_u64().unwrap();
    let whole = nodes(&mut scene);
    assert!(whole < NODES, "{whole} nodes");
    assert!(scene.browser.text().contains("and 440 more"), "the rest is counted: {}", scene.browser.text());

    // Fifty changes, one after the other: the page asks for itself anew no more often than its pause allows.
    scene.browser.eval(
        "performance.clearResourceTimings(); window.begun = performance.now(); window.long = []; new PerformanceObserver((list) => list.getEntries().forEach((it) => window.long.push(it.duration))).observe({type: 'longtask'})",
    );
    for number in 1..=50 {
        scene.project.issue(&format!("NEW-{number}"), "state: Todo\nblocked_by: [DS-1]");
        if number % 10 == 0 {
            let known = format!(
                "Number(document.querySelector('.figure.quiet b').textContent.replace(/\\D/g, '')) >= {}",
                ISSUES + number
            );
            scene.browser.wait("the newest", &known);
        }
    }
    let asked = scene.browser.eval("performance.getEntriesByType('resource').length").as_u64().unwrap();
    let took = scene.browser.eval("performance.now() - window.begun").as_f64().unwrap();
    assert!(
        u32::try_from(asked).is_ok_and(|asked| f64::from(asked) <= took / 400.0 + 3.0),
        "{asked} requests in {took} ms"
    );
    assert!(nodes(&mut scene) < NODES);
    let long = scene.browser.eval("window.long");
    println!("1,000 issues: {whole} nodes; 50 changes: {asked} requests in {took:.0} ms; long tasks (ms): {long}");

    scene.open("/?only=waits");
    assert!(scene.browser.eval("document.querySelectorAll('.tile').length").as_u64().unwrap() >= 499);
    scene.open("/?find=ds-777");
    assert_eq!(scene.browser.eval("document.querySelectorAll('.tile').length"), 1);
    scene.daemon.stop();
}
