//! The memory double of a forge against the suite, and the fake's own rules that no adapter shows.

use std::fs;
use std::process::Command;
use std::sync::Arc;

use dalsegno_core::Failure;
use dalsegno_engine::Forge;
use dalsegno_testkit::conformance::forge::ForgeFixture;
use dalsegno_testkit::doubles::{ForgeCall, ForgeFault, MemoryForge};
use dalsegno_testkit::forge::{FakeForge, FakeSetup, Lie, LieFor, OURS, Opened, STRANGER, StoredPull};
use serde_json::{Value, json};

#[derive(Default)]
struct Memory(Arc<MemoryForge>);

impl ForgeFixture for Memory {
    fn forge(&self) -> Arc<dyn Forge> {
        Arc::clone(&self.0) as Arc<dyn Forge>
    }

    fn impatient(&self) -> Arc<dyn Forge> {
        self.forge()
    }

    fn pulls(&self) -> Vec<StoredPull> {
        self.0.pulls()
    }

    fn open(&self, opened: &Opened) -> u64 {
        self.0.open_as(opened.author, opened)
    }

    fn close(&self, number: u64) {
        self.0.close_as_somebody(number);
    }

    fn merge(&self, number: u64) {
        self.0.merge_as_somebody(number);
    }

    fn lie(&self, call: ForgeCall, lie: Lie) {
        let failure = |code: &str| Failure::retryable(code, format!("{lie:?}")).hint("look at the forge");
        let fault = match lie {
            Lie::DoneUnanswered | Lie::Slow(_) => {
                ForgeFault::Unknown { applied: true, failure: failure("forge_no_answer") }
            }
            Lie::DoneStatus(_) | Lie::Cut | Lie::Garbage | Lie::OtherJson => {
                ForgeFault::Unknown { applied: true, failure: failure("forge_response") }
            }
            Lie::AnsweredUndone | Lie::Status(_) => {
                ForgeFault::Unknown { applied: false, failure: failure("forge_response") }
            }
            Lie::TooMany(_) | Lie::RateLimited => ForgeFault::NotApplied(failure("forge_rate_limited")),
            Lie::Moved => ForgeFault::NotApplied(failure("forge_refused")),
        };
        self.0.fail_next(call, fault);
    }
}

mod memory {
    use super::Memory;

    dalsegno_testkit::forge_conformance!(Memory::default());
}

/// Asks the fake as a program would.
fn ask(fake: &FakeForge, method: &str, target: &str, token: Option<&str>, body: &Value) -> (u16, Value) {
    let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
    let mut request = ureq::http::Request::builder().method(method).uri(format!("{}{target}", fake.url()));
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    let mut answer = agent.run(request.body(body.to_string()).unwrap()).unwrap();
    let text = answer.body_mut().read_to_string().unwrap();
    (answer.status().as_u16(), serde_json::from_str(&text).unwrap())
}

const PULLS: &str = "/repos/acme/widgets/pulls";

fn draft(head: &str) -> Value {
    json!({"title": "T", "head": head, "base": "main", "body": "B", "draft": true})
}

#[test]
fn the_fake_wants_a_token_that_it_knows() {
    let dir = tempfile::tempdir().unwrap();
    let fake = FakeForge::start(FakeSetup::new(dir.path())).unwrap();
    assert_eq!(ask(&fake, "GET", "/user", None, &Value::Null).0, 401);
    assert_eq!(ask(&fake, "GET", "/user", Some("sesame"), &Value::Null).0, 401);
    let (status, who) = ask(&fake, "GET", "/api/v3/user", Some(STRANGER.token), &Value::Null);
    assert_eq!((status, &who["login"]), (200, &json!(STRANGER.login)));
    assert_eq!(ask(&fake, "GET", "/repos/acme/others", Some(OURS.token), &Value::Null).0, 404);
}

#[test]
fn the_fake_takes_heads_that_its_repository_has() {
    let dir = tempfile::tempdir().unwrap();
    let git_dir = dir.path().join("remote.git");
    let git = |arguments: &[&str]| {
        let mut git = Command::new("git");
        let git = git.args(["-c", "user.name=a", "-c", "user.email=a@example.org"]).arg("--git-dir").arg(&git_dir);
        let output = git.args(arguments).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    git(&["init", "-q", "--bare"]);
    let tree = git(&["hash-object", "-t", "tree", "-w", "/dev/null"]);
    let commit = git(&["commit-tree", "-m", "one", &tree]);
    for branch in ["main", "work/one"] {
        git(&["update-ref", &format!("refs/heads/{branch}"), &commit]);
    }
    let setup = FakeSetup { git_dir: Some(git_dir.clone()), ..FakeSetup::new(dir.path().join("forge")) };
    let fake = FakeForge::start(setup).unwrap();
    let (status, said) = ask(&fake, "POST", PULLS, Some(OURS.token), &draft("work/two"));
    assert_eq!((status, &said["errors"][0]["field"]), (422, &json!("head")));
    assert_eq!(ask(&fake, "POST", PULLS, Some(OURS.token), &draft("work/one")).0, 201);
}

#[test]
fn the_fake_goes_on_over_its_folder_and_records_what_became_of_each_request() {
    let dir = tempfile::tempdir().unwrap();
    let fake = FakeForge::start(FakeSetup::new(dir.path())).unwrap();
    fake.lie(LieFor::next("POST", PULLS), Lie::AnsweredUndone);
    assert_eq!(ask(&fake, "POST", PULLS, Some(OURS.token), &draft("a")).0, 201);
    assert_eq!(fake.pulls(), []);
    assert_eq!(ask(&fake, "POST", PULLS, Some(OURS.token), &draft("a")).0, 201);
    let held = fake.pulls();
    drop(fake);
    let fake = FakeForge::start(FakeSetup::new(dir.path())).unwrap();
    assert_eq!(fake.pulls(), held);
    // A draft stays one, whatever this API is asked for.
    let (status, said) =
        ask(&fake, "PATCH", &format!("{PULLS}/1"), Some(OURS.token), &json!({"draft": false, "state": "closed"}));
    assert_eq!((status, &said["draft"], &said["state"]), (200, &json!(true), &json!("closed")));
    let record = fs::read_to_string(dir.path().join("record.jsonl")).unwrap();
    let lines: Vec<Value> = record.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let became: Vec<_> = lines.iter().map(|line| (line["status"].clone(), line["changed"].clone())).collect();
    assert_eq!(became, [(json!(201), json!(false)), (json!(201), json!(true)), (json!(200), json!(true))]);
    assert_eq!(lines[0]["lie"], json!("AnsweredUndone"));
    assert!(!record.contains(OURS.token));
}
