//! What checks said, in files with receipts: killed in the midst of a batch, and astray while nobody looked.

use std::fs;
use std::path::PathBuf;

use dalsegno_engine::Reads as _;
use serde_json::Value;

use super::judge;
use super::project::Project;

const AGENT: &str = r#"
default:
  - [ {sh: "echo work >> work.txt && git add -A && git commit -qm work"} ]
"#;

/// Two checks; the first one says more than any event holds.
const FRONT: &str = r#"polling: {interval_ms: 100}
agent: {kind: scripted, script: agent.yaml, max_retry_backoff_ms: 200}
handoff: {checks: ["seq 1 20000", "echo all is well >&2; test -s work.txt"], state: Human Review}
"#;

fn project() -> Project {
    let project = Project::new(FRONT, AGENT);
    project.issue("DS-1", "state: Todo");
    project
}

/// What was recovered of files: action and reason.
fn recovered(project: &Project) -> Vec<(String, String)> {
    let of_files =
        project.events().into_iter().filter(|event| event.kind == "recovered" && event.data["surface"] == "blobs");
    let word = |value: &Value| value.as_str().unwrap_or("").to_owned();
    of_files.map(|event| (word(&event.data["action"]), word(&event.data["reason"]))).collect()
}

#[test]
fn what_checks_said_is_kept_whole_and_told_with_its_receipt() {
    let project = project();
    project.once(&[]).wait();
    judge::all_handed_off(&project, &["DS-1"]);
    let kept = judge::receipts(&project);
    let said = judge::store(&project).kept_file(&kept[0].file).unwrap().unwrap().unwrap();
    let expected: String = (1..=20_000).map(|number| format!("{number}\n")).collect();
    assert_eq!(String::from_utf8(said).unwrap(), expected);
    assert_eq!(judge::store(&project).kept_file(&kept[1].file).unwrap().unwrap().unwrap(), b"all is well\n");
    judge::files_in_line(&project);
    assert_eq!(recovered(&project), []);
}

#[test]
fn a_kill_within_a_batch_is_settled_by_the_next_daemon_and_every_receipt_holds() {
    for (point, expected) in [
        ("blobs.intended", vec![("void_intent", "open intent"), ("roll_forward", "open intent")]),
        ("blobs.named", vec![("roll_forward", "open intent")]),
        ("blobs.committed", vec![]),
    ] {
        let project = project();
        let killed = project.once(&[("DALSEGNO_CRASH_AT", point)]).wait();
        assert!(!killed.success(), "{point}: {killed}");
        assert_eq!(judge::receipts(&project), [], "{point}: the check has not ended");
        project.once(&[]).wait();
        judge::all_handed_off(&project, &["DS-1"]);
        judge::files_in_line(&project);
        assert_eq!(judge::receipts(&project).len(), 2, "{point}");
        let recovered = recovered(&project);
        let expected: Vec<(String, String)> =
            expected.iter().map(|(action, reason)| ((*action).to_owned(), (*reason).to_owned())).collect();
        match expected.len() {
            // The drafts were on disk or not: both are right.
            2 => assert!(recovered.len() == 1 && expected.contains(&recovered[0]), "{point}: {recovered:?}"),
            _ => assert_eq!(recovered, expected, "{point}"),
        }
        // The next one has nothing to do.
        project.once(&[]).wait();
        assert_eq!(self::recovered(&project), recovered, "{point}: recovered once");
    }
}

/// One file is lost, one changed, and one is nobody's.
fn astray(project: &Project) -> [PathBuf; 3] {
    let blobs = project.state_dir().join("blobs");
    let kept = judge::receipts(project);
    let [lost, changed] = [&kept[0], &kept[1]].map(|receipt| blobs.join(&receipt.file));
    let stray = blobs.join("notes.txt");
    fs::remove_file(&lost).unwrap();
    fs::write(&changed, "all is lost\n").unwrap();
    fs::write(&stray, "nobody's").unwrap();
    [lost, changed, stray]
}

fn mended(project: &Project) {
    let aside = project.state_dir().join("blobs/aside");
    let kept = judge::receipts(project);
    assert_eq!(fs::read_to_string(aside.join(&kept[1].file)).unwrap(), "all is lost\n");
    assert_eq!(fs::read_to_string(aside.join("notes.txt")).unwrap(), "nobody's");
    let run = project.events().iter().find_map(|event| event.run.clone()).unwrap();
    let told = judge::store(project).kept_files(&run, 10).unwrap();
    assert!(told.len() == 2 && told.iter().all(|file| file.lost.is_some()), "{told:?}");
    let faults = judge::store(project).check().unwrap().faults;
    assert!(faults.iter().all(|fault| fault.check != "blobs"), "{faults:?}");
}

fn of_files(output: &std::process::Output) -> Vec<(String, String)> {
    let value: Value = serde_json::from_slice(&output.stdout).unwrap();
    let findings = value["findings"].as_array().unwrap().iter();
    let word = |finding: &Value, name: &str| finding[name].as_str().unwrap().to_owned();
    let of_files = findings.filter(|finding| finding["finding"].as_str().unwrap().contains("blobs"));
    of_files.map(|finding| (word(finding, "severity"), word(finding, "finding"))).collect()
}

#[test]
fn a_daemon_sets_aside_what_is_not_as_its_receipt_says_and_says_so_once() {
    let project = project();
    project.once(&[]).wait();
    astray(&project);
    project.once(&[]).wait();
    mended(&project);
    let rebuilt = |reason: &str| ("rebuild_from_provider".to_owned(), reason.to_owned());
    let mut told = recovered(&project);
    told.sort();
    assert_eq!(told, [("quarantine".to_owned(), "orphan".to_owned()), rebuilt("corrupt"), rebuilt("missing")]);
    project.once(&[]).wait();
    assert_eq!(recovered(&project).len(), 3, "once");
}

#[test]
fn doctor_names_each_and_mends_them_without_a_daemon() {
    let project = project();
    project.once(&[]).wait();
    let doctor = |more: &[&str]| project.output(&[&["doctor", "--json", "--offline"], more].concat());
    assert_eq!(of_files(&doctor(&[])), []);
    astray(&project);
    let found = of_files(&doctor(&[]));
    assert_eq!(found.len(), 3, "{found:?}");
    doctor(&["--fix"]);
    mended(&project);
    let left = of_files(&doctor(&[]));
    assert_eq!(left, []);
}
