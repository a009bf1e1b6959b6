//! What an operator has when something is lost or damaged: export, fsck, replay, backup and restore, with the real program.

use serde_json::Value;

use crate::project::Project;

pub(crate) const FRONT: &str = "polling: {interval_ms: 200}\nagent: {kind: scripted, script: agent.yaml}\n\
     handoff: {state: Human Review, comment: \"{{ issue.identifier }} is done.\"}\n";
pub(crate) const AGENT: &str = "default:\n  - [ {say: hello}, {sh: \"echo work > work.txt && git add -A && git commit -qm work\"}, {usage: {input: 10, output: 3}} ]\n";

/// A project whose one issue is handed off, without a daemon.
pub(crate) fn handed_off() -> Project {
    let project = Project::new(FRONT, AGENT);
    project.issue("DS-1", "state: Todo");
    assert!(project.once(&[]).wait().success());
    assert_eq!(project.status("DS-1").unwrap().0, "handed_off");
    project
}

fn lines(project: &Project, arguments: &[&str]) -> Vec<Value> {
    let output = project.output(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn the_journal_is_exported_with_and_without_a_daemon() {
    let project = handed_off();
    let whole = lines(&project, &["export"]);
    let (header, events) = whole.split_first().unwrap();
    let recorded = project.events();
    assert_eq!(header["format"], "dalsegno-journal");
    assert_eq!((header["from"].as_u64(), header["to"].as_u64()), (Some(1), Some(events.len() as u64)));
    assert_eq!(events.len(), recorded.len());
    for (event, recorded) in events.iter().zip(&recorded) {
        assert_eq!((event["seq"].as_u64(), event["at"].as_i64()), (Some(recorded.seq), Some(recorded.at.0)));
        assert_eq!(event["event"]["kind"], recorded.kind.as_str());
    }

    // From a cursor on, into a file that is not written over.
    let cursor = project.json(&["events", "--limit", "5", "--json"])["next"].as_str().unwrap().to_owned();
    let path = project.dir.join("journal.jsonl");
    let to = path.to_str().unwrap();
    assert_eq!(lines(&project, &["export", "--after", &cursor, "--output", to]), Vec::<Value>::new());
    let text = std::fs::read_to_string(&path).unwrap();
    let written: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(written[0]["from"], 6);
    assert_eq!(written[1..], events[5..]);
    let again = project.output(&["export", "--output", to]);
    assert!(String::from_utf8_lossy(&again.stderr).contains("output_exists"));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), text);

    let mut daemon = project.daemon();
    project.wait_until("a second start in the journal", || {
        project.events().iter().filter(|event| event.kind == "daemon_started").count() == 2
    });
    let beside = lines(&project, &["export"]);
    assert_eq!(beside[1..=events.len()], *events);
    assert!(beside.len() > whole.len(), "the new daemon's events are in it");
    let foreign = dalsegno_api::Cursor::event("another", 3).to_string();
    let refused = project.output(&["export", "--after", &foreign]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("cursor_gone"));
    daemon.stop();
}

#[test]
fn the_proof_holds_after_work_and_beside_a_daemon() {
    let project = handed_off();
    let fine = project.json(&["fsck", "--json"]);
    assert_eq!((fine["severity"].as_str(), fine["findings"].as_array().map(Vec::len)), (Some("ok"), Some(1)), "{fine}");
    let mut daemon = project.daemon();
    project.wait_until("a second start in the journal", || {
        project.events().iter().filter(|event| event.kind == "daemon_started").count() == 2
    });
    assert_eq!(project.json(&["fsck", "--json"])["severity"], "ok");
    let refused = project.output(&["fsck", "--rebuild"]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("daemon_running"));
    daemon.stop();
    assert_eq!(project.json(&["fsck", "--rebuild", "--json"])["mended"], 0);
    assert_eq!(project.status("DS-1").unwrap().0, "handed_off");
}

#[test]
fn a_run_is_replayed_as_it_was_at_each_event() {
    let project = handed_off();
    let timeline = project.json(&["replay", "run-1", "--json"]);
    let events = timeline["events"].as_array().unwrap();
    let of_run: Vec<_> = project.events().into_iter().filter(|event| event.run.as_deref() == Some("run-1")).collect();
    assert_eq!(events.len(), of_run.len());
    for (picture, recorded) in events.iter().zip(&of_run) {
        assert_eq!(
            (picture["seq"].as_u64(), picture["kind"].as_str()),
            (Some(recorded.seq), Some(recorded.kind.as_str()))
        );
        let at = project.json(&["replay", "run-1", "--at", &recorded.seq.to_string(), "--json"]);
        assert_eq!(at, *picture);
        if recorded.kind == "effect_intended" {
            assert!(picture["open_effects"].as_array().is_some_and(|open| !open.is_empty()), "{picture}");
        }
    }
    let last = events.last().unwrap();
    assert_eq!(
        (&last["phase"], &last["outcome"], &last["open_effects"]),
        (&"ended".into(), &"completed".into(), &serde_json::json!([]))
    );
    let pushed = events.iter().find(|event| event["steps"][0]["state"] == "done").unwrap();
    assert_eq!((pushed["steps"][0]["step"].as_str(), pushed["phase"].as_str()), (Some("push"), Some("delivering")));
    let drawn = project.output(&["replay", "run-1", "--at", &pushed["seq"].to_string()]);
    let drawn = String::from_utf8_lossy(&drawn.stdout).into_owned();
    for part in ["run-1 of DS-1", "delivering", "push       done", "run-1/handoff"] {
        assert!(drawn.contains(part), "{part} in {drawn}");
    }
    let error = |arguments: &[&str]| String::from_utf8_lossy(&project.output(arguments).stderr).into_owned();
    assert!(error(&["replay", "run-1", "--at", "1"]).contains("run_not_begun"));
    assert!(error(&["replay", "run-1", "--at", "9999"]).contains("not_kept"));
    assert!(error(&["replay", "run-9"]).contains("run_not_found"));
}
