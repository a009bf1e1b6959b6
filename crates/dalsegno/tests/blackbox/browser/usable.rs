//! Pages that everybody can use: by keyboard alone, on a phone, in light and dark, and by what axe looks for.

use dalsegno_testkit::parts;
use serde_json::Value;

use super::Scene;
use super::chromium::Look;
use super::pictures::{SAID, morning};

/// Every kind of page, and the board as it is narrowed down.
const PAGES: [&str; 10] = [
    "/",
    "/?find=parser",
    "/issues/DS-102",
    "/issues/DS-103",
    "/issues/DS-104",
    "/runs/run-1",
    SAID,
    "/events",
    "/usage",
    "/daemon",
];

#[test]
fn axe_finds_nothing_on_any_page_in_light_and_dark_and_on_a_phone() {
    let (Some(axe), Some(mut scene)) = (parts::axe(), morning()) else { return };
    let axe = std::fs::read_to_string(axe.program).unwrap();
    let mut found = Vec::new();
    for (look, dark) in [(Look::Desk, false), (Look::Desk, true), (Look::Phone, false), (Look::Phone, true)] {
        scene.browser.look(look, dark);
        for page in PAGES {
            scene.open(page);
            scene.browser.eval("document.querySelectorAll('details').forEach((details) => { details.open = true; })");
            scene.browser.eval(&format!("{axe}; undefined"));
            let violations = scene.browser.eval(
                "axe.run(document, {resultTypes: ['violations']}).then((found) => found.violations.map((it) => `${it.id}: ${it.nodes.slice(0, 3).map((node) => node.html.slice(0, 160)).join(' | ')}`))",
            );
            let violations = violations.as_array().unwrap();
            found.extend(violations.iter().map(|it| format!("{look:?} dark={dark} {page}: {}", it.as_str().unwrap())));
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
    scene.daemon.stop();
}

#[test]
fn no_page_is_wider_than_a_phone() {
    let Some(mut scene) = morning() else { return };
    scene.browser.look(Look::Phone, false);
    for page in PAGES {
        scene.open(page);
        let width = scene.browser.eval("document.documentElement.scrollWidth");
        assert_eq!(width, 390, "{page}");
        let small = scene.browser.eval(
            "[...document.querySelectorAll('button')].filter((it) => it.offsetParent && it.getBoundingClientRect().height < 36).length",
        );
        assert_eq!(small, 0, "{page}: buttons that a thumb misses");
    }
    scene.daemon.stop();
}

/// Where the focus is: what a person hears of it, and whether it is seen.
fn focus(scene: &mut Scene) -> (String, bool) {
    let at = scene.browser.eval(
        "(() => { const node = document.activeElement; const style = getComputedStyle(node); return [node.textContent.trim().slice(0, 60) || node.name || node.tagName, style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2]; })()",
    );
    (at[0].as_str().unwrap().to_owned(), at[1] == true)
}

/// Goes on by Tab until the focus is on what is sought; everything on the way is seen to have it.
fn tab_to(scene: &mut Scene, sought: &str) {
    let mut way = Vec::new();
    for _ in 0..60 {
        scene.browser.key("Tab");
        let (name, seen) = focus(scene);
        assert!(seen, "{name} has the focus and does not show it");
        if name.contains(sought) {
            return;
        }
        way.push(name);
    }
    panic!("{sought} is not reached: {way:?}");
}

#[test]
fn everything_is_done_by_keyboard_alone() {
    let Some(mut scene) = Scene::slow() else { return };
    scene.open("/");
    scene.browser.wait("at work", "document.querySelector('.column.works .tile')");
    tab_to(&mut scene, "Skip to the content");
    scene.browser.key("Enter");
    assert_eq!(scene.browser.eval("document.activeElement.id"), "main");
    scene.browser.key("/");
    assert_eq!(scene.browser.eval("document.activeElement.id"), "find");
    scene.browser.write("ds-1");
    scene.browser.key("Enter");
    scene.browser.wait_for("1 issue found");
    tab_to(&mut scene, "DS-1");
    scene.browser.key("Enter");
    scene.browser.wait("its page", "location.pathname === '/issues/DS-1' && document.readyState === 'complete'");

    tab_to(&mut scene, "Cancel");
    scene.browser.key("Enter");
    scene.browser.wait("that it is asked about", "document.querySelector('dialog[open]')");
    scene.browser.key("Escape");
    scene.browser.wait("that it is not", "!document.querySelector('dialog')");
    assert_eq!(scene.browser.eval("document.activeElement.textContent"), "Cancel", "the focus is where it was");
    assert_eq!(scene.project.status("DS-1").unwrap().0, "running", "Escape is no");
    scene.browser.key("Enter");
    scene.browser.wait("that it is asked about", "document.querySelector('dialog[open]')");
    assert_eq!(focus(&mut scene).0, "No", "what cannot be taken back is not the default");
    scene.browser.key("Tab");
    scene.browser.key("Enter");
    scene.project.wait_for("DS-1", "canceled");
    scene.browser.wait("its receipt", "document.querySelector('#receipt')?.textContent.includes('completed')");
    assert_eq!(scene.browser.eval("document.querySelectorAll('dialog').length"), Value::from(0));
    scene.daemon.stop();
}
