//! What checks said, read in every way that there is.

use std::fs;

use serde_json::{Value, json};

use super::http::Api;
use super::judge;
use super::project::Project;

const FRONT: &str = r#"polling: {interval_ms: 100}
agent: {kind: scripted, script: agent.yaml, max_retry_backoff_ms: 200}
handoff: {checks: ["seq -f 'case %g of <400> & \"more\" is fine' 400", "printf '\\n\\tit says '; cat work.txt; grep -q right work.txt"], state: Human Review}
"#;
const AGENT: &str = r#"
default:
  - [ {sh: "echo wrong > work.txt && git add -A && git commit -qm one"} ]
  - [ {sh: "echo right > work.txt && git add -A && git commit -qm two"} ]
"#;

/// What the page of a file shows, as the browser reads it.
fn on_page(html: &str) -> String {
    let text = html.split_once("<pre class=\"text output\">\n").unwrap().1.split_once("</pre>").unwrap().0;
    text.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&amp;", "&")
}

fn said(project: &Project, number: usize) -> String {
    let output = project.output(&["checks", "DS-1", &number.to_string()]);
    assert!(output.status.success(), "{number}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn what_each_check_said_is_the_same_by_api_page_and_command_line_with_and_without_a_daemon() {
    let project = Project::new(FRONT, AGENT);
    project.issue("DS-1", "state: Todo");
    let mut daemon = project.daemon();
    let api = Api::of(&project, &daemon);
    project.wait_for("DS-1", "handed_off");
    judge::all_handed_off(&project, &["DS-1"]);

    let cases: String = (1..=400).map(|number| format!("case {number} of <400> & \"more\" is fine\n")).collect();
    let expected = [cases.as_str(), "\n\tit says wrong\n", cases.as_str(), "\n\tit says right\n"];
    let list = project.json(&["checks", "DS-1", "--json"]);
    let checks = list["checks"].as_array().unwrap();
    let passed: Vec<Option<bool>> = checks.iter().map(|check| check["passed"].as_bool()).collect();
    assert_eq!(
        (&list["run"], passed.as_slice()),
        (&json!("run-1"), &[Some(true), Some(false), Some(true), Some(true)][..])
    );
    let listed = api.trusted("GET", "/api/v1/runs/run-1/files").body["files"].clone();
    let events = project.events();
    let ended: Vec<_> = events.iter().filter(|event| event.kind == "check_ended").collect();
    let run_page = api.trusted("GET", "/runs/run-1").text;
    for (place, (words, check)) in expected.iter().zip(checks).enumerate() {
        let file = check["said"]["file"].as_str().unwrap();
        assert_eq!((&check["said"], &check["command"]), (&listed[place], &ended[place].data["command"]));
        for field in ["file", "sha256", "bytes"] {
            assert_eq!(listed[place][field], ended[place].data["kept"][field], "the journal names it");
        }
        assert_eq!(listed[place]["bytes"], json!(words.len()));
        let target = format!("/api/v1/runs/run-1/files/{file}");
        let content = api.trusted("GET", &target);
        assert_eq!((content.status, content.text.as_str()), (200, *words), "{target}");
        assert!(content.head.to_lowercase().contains("x-content-type-options: nosniff"), "{}", content.head);
        assert!(run_page.contains(&format!("<a href=\"/runs/run-1/files/{file}\">")), "{run_page}");
        let page = api.trusted("GET", &format!("/runs/run-1/files/{file}"));
        assert_eq!((page.status, on_page(&page.text).as_str()), (200, *words), "{file}");
        assert_eq!(said(&project, place + 1), *words);
        let stranger = api.open("GET", &target);
        assert_eq!((stranger.status, stranger.code()), (401, "token_required"));
    }
    let people = String::from_utf8(project.output(&["checks", "run-1"]).stdout).unwrap();
    assert!(people.contains("failed") && people.contains("`dalsegno checks run-1 4`"), "{people}");

    let shown = String::from_utf8(project.output(&["show", "run-1"]).stdout).unwrap();
    assert!(shown.ends_with("`dalsegno checks run-1` shows what its checks said.\n"), "{shown}");

    // A daemon that is killed takes nothing of it along.
    daemon.kill();
    assert_eq!(project.json(&["checks", "DS-1", "--json"]), list);
    for (place, words) in expected.iter().enumerate() {
        assert_eq!(said(&project, place + 1), *words, "without a daemon");
    }
    let told = project.json(&["checks", "run-1", "2", "--json"]);
    assert_eq!((&told["text"], &told["passed"], &told["run"]), (&json!(expected[1]), &json!(false), &json!("run-1")));

    // Somebody writes over one of them: it is not shown as what the check said, and the others are.
    let file = checks[1]["said"]["file"].as_str().unwrap();
    fs::write(project.state_dir().join("blobs").join(file), "it says nothing\n").unwrap();
    let lost = project.output(&["checks", "DS-1", "2"]);
    let errors = String::from_utf8(lost.stderr).unwrap();
    assert!(errors.starts_with("error[file_lost]") && errors.contains("hint"), "{errors}");
    assert_eq!((lost.status.code(), lost.stdout.len()), (Some(5), 0));
    assert_eq!(said(&project, 4), expected[3]);
    let mut daemon = project.daemon();
    let api = Api::of(&project, &daemon);
    let of_list = |number: usize| api.trusted("GET", "/api/v1/runs/run-1/files").body["files"][number]["lost"].clone();
    project.wait_until("the receipt to be taken back", || of_list(1) != Value::Null);
    assert_eq!((of_list(0), of_list(3)), (Value::Null, Value::Null));
    let page = api.trusted("GET", &format!("/runs/run-1/files/{file}"));
    assert!(
        page.status == 410 && page.text.contains("file_lost") && !page.text.contains("it says nothing"),
        "{}",
        page.text
    );
    let people = String::from_utf8(project.output(&["checks", "run-1"]).stdout).unwrap();
    assert!(people.contains("lost: "), "{people}");
    daemon.stop();
}

#[test]
fn what_is_not_there_to_be_read_is_said_with_a_code() {
    let project = Project::new(&FRONT.replace("seq -f 'case %g of <400> & \\\"more\\\" is fine' 400", "true"), AGENT);
    project.issue("DS-1", "state: Todo");
    assert!(project.once(&[]).wait().success());
    let list = project.json(&["checks", "DS-1", "--json"]);
    assert_eq!((&list["checks"][0]["command"], &list["checks"][0]["said"]), (&json!("true"), &Value::Null), "{list}");
    for (arguments, code) in [
        (["checks", "DS-1", "1"], "file_not_found"),
        (["checks", "DS-1", "0"], "check_not_found"),
        (["checks", "DS-1", "5"], "check_not_found"),
        (["checks", "DS-9", "1"], "not_found"),
    ] {
        let answer = project.output(&arguments);
        let errors = String::from_utf8(answer.stderr).unwrap();
        assert!(
            errors.starts_with(&format!("error[{code}]: ")) && errors.contains("\n  hint: "),
            "{arguments:?}: {errors}"
        );
        assert_eq!(answer.status.code(), Some(3), "{arguments:?}");
    }
}
