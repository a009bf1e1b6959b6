//! What must hold at rest, whatever happened on the way: the promise, looked up in the world.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;

use dalsegno_core::FileReceipt;
use dalsegno_engine::Reads as _;
use dalsegno_store::{BlobCheck, Store};

use super::project::Project;

/// Every issue handed off; each branch pushed once, one comment each; no prompt twice in a history; no stray
/// process; no gap in the journal; nothing left half done.
pub(crate) fn all_handed_off(project: &Project, identifiers: &[&str]) {
    handed_off_once(project, identifiers);
    no_gap(project);
    no_prompt_twice(project);
    at_rest(project);
    files_in_line(project);
}

/// The store, for a look.
pub(crate) fn store(project: &Project) -> Arc<Store> {
    Store::open_read_only(&project.state_dir()).unwrap()
}

/// What the journal says was kept of what checks said, in order.
pub(crate) fn receipts(project: &Project) -> Vec<FileReceipt> {
    let ended = project.events().into_iter().filter(|event| event.kind == "check_ended");
    ended.filter_map(|event| serde_json::from_value(event.data["kept"].clone()).ok()).collect()
}

/// Every file that the journal names can be read, and no batch of files is open or astray.
pub(crate) fn files_in_line(project: &Project) {
    let store = store(project);
    for receipt in receipts(project) {
        let content = store.kept_file(&receipt.file).unwrap().expect("it is known").expect("it is whole");
        assert_eq!(content.len() as u64, receipt.bytes);
    }
    let faults = store.check().unwrap().faults;
    assert!(faults.iter().all(|fault| fault.check != "blobs"), "{faults:?}");
    assert_eq!(BlobCheck::new(store, None).look(&[]).unwrap(), [], "open or astray");
}

/// Every issue is handed off; its branch was pushed once, and it has one comment and its state.
pub(crate) fn handed_off_once(project: &Project, identifiers: &[&str]) {
    for identifier in identifiers {
        let status = project.status(identifier);
        let is_handed_off = status.as_ref().is_some_and(|(status, _)| status == "handed_off");
        assert!(is_handed_off, "{identifier} is {status:?}");
        let branch = format!("refs/heads/dalsegno/{identifier}");
        let updates = project.git(&project.remote(), &["reflog", "show", "--format=%gs", &branch]);
        assert_eq!(updates.lines().count(), 1, "{identifier}: the branch was pushed {} times", updates.lines().count());
        let text = project.issue_text(identifier);
        assert_eq!(text.matches("<!-- dalsegno:").count(), 1, "{identifier}: comments in\n{text}");
        assert!(text.contains("state: Human Review"), "{identifier}: state in\n{text}");
    }
}

/// The journal is dense, its times never go back, and each effect ended once.
pub(crate) fn no_gap(project: &Project) {
    let events = project.events();
    for (expected, event) in (1..).zip(&events) {
        assert_eq!(event.seq, expected, "a gap in the journal");
    }
    assert!(events.windows(2).all(|pair| pair[0].at <= pair[1].at), "time goes back in the journal");
    let mut ends: BTreeMap<u64, u32> = BTreeMap::new();
    for event in events.iter().filter(|event| event.kind == "effect_ended") {
        *ends.entry(event.data["effect_id"].as_u64().unwrap()).or_default() += 1;
    }
    assert!(ends.values().all(|count| *count == 1), "an effect ended twice: {ends:?}");
}

/// No marker is in the prompts of an agent's history more than once.
pub(crate) fn no_prompt_twice(project: &Project) {
    let mut seen: BTreeMap<String, u32> = BTreeMap::new();
    for text in histories(project) {
        for line in text.lines().filter(|line| line.contains("\"prompt\"")) {
            for rest in line.split("<!-- dalsegno:").skip(1) {
                let marker: String = rest.chars().take_while(char::is_ascii_hexdigit).collect();
                *seen.entry(marker).or_default() += 1;
            }
        }
    }
    assert!(!seen.is_empty(), "no prompt is in any history: the check looks at the wrong place");
    let twice: Vec<_> = seen.iter().filter(|(_, count)| **count > 1).collect();
    assert!(twice.is_empty(), "prompts that were in the history were sent again: {twice:?}");
}

fn histories(project: &Project) -> Vec<String> {
    let mut texts = Vec::new();
    let mut folders = vec![project.state_dir().join("agents")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            if entry.path().is_dir() {
                folders.push(entry.path());
            } else {
                texts.push(fs::read_to_string(entry.path()).unwrap());
            }
        }
    }
    texts
}

/// Nothing of any run runs, no effect is open, no run is live.
pub(crate) fn at_rest(project: &Project) {
    let strays = project.strays();
    assert!(strays.is_empty(), "processes were left behind: {strays:?}");
    let events = project.events();
    let intended: Vec<u64> = ids(&events, "effect_intended");
    let ended: Vec<u64> = ids(&events, "effect_ended");
    let open: Vec<&u64> = intended.iter().filter(|id| !ended.contains(id)).collect();
    assert!(open.is_empty(), "effects are open at rest: {open:?}");
    let started = events.iter().filter(|event| event.kind == "run_started").count();
    let over = events.iter().filter(|event| event.kind == "run_ended").count();
    assert_eq!(started, over, "a run is live at rest");
}

fn ids(events: &[dalsegno_engine::EventRow], kind: &str) -> Vec<u64> {
    events.iter().filter(|event| event.kind == kind).map(|event| event.data["effect_id"].as_u64().unwrap()).collect()
}
