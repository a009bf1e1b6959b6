//! What operators do, with a real daemon and real agents' processes: each accepted action ends once, its effect is seen outside, and a
//! kill in between loses none.

use std::thread;

use dalsegno_api::{Action, ActionState, Client, Issue, Receipt, Target};
use nix::fcntl::{Flock, FlockArg};
use serde_json::{Value, json};

use crate::http::{Answer, Api};
use crate::judge;
use crate::project::{Daemon, Project};

const FRONT: &str = "polling: {interval_ms: 200}
agent: {kind: scripted, script: agent.yaml, max_retry_backoff_ms: 50}
handoff: {state: Human Review}
";

/// A turn that hangs, then one that does the work.
const HANGS: &str = r#"
default:
  - [ {say: "I look around"}, {sh: "echo begun > begun.txt; sleep 300"} ]
  - [ {sh: "echo work > work.txt && git add -A && git commit -qm work"} ]
"#;

fn started(front: &str, agent: &str) -> (Project, Daemon) {
    let project = Project::new(&format!("{FRONT}{front}"), agent);
    project.issue("DS-1", "state: Todo");
    let daemon = project.daemon();
    (project, daemon)
}

fn client(project: &Project) -> Client {
    Client::discover(&project.state_dir()).unwrap()
}

fn action(kind: &str, target: (&str, &str), payload: Value, key: Option<&str>) -> Action {
    let Value::Object(payload) = payload else { panic!("no object") };
    Action {
        schema_version: 1,
        action_kind: kind.to_owned(),
        target: Target { kind: target.0.to_owned(), id: target.1.to_owned() },
        correlation_id: Some("c-1".to_owned()),
        idempotency_key: key.map(str::to_owned),
        on_duplicate: None,
        payload,
    }
}

fn act(project: &Project, kind: &str, payload: Value) -> Receipt {
    client(project).act(&action(kind, ("issue", "DS-1"), payload, None)).unwrap()
}

/// Waits for the action's end.
fn ended(project: &Project, receipt: &Receipt) -> ActionState {
    let state = || client(project).action(&receipt.action_id).ok();
    project
        .wait_until(&format!("{} ends", receipt.action_id), || state().is_some_and(|state| state.completion.is_some()));
    state().unwrap()
}

fn done(project: &Project, receipt: &Receipt) -> Option<String> {
    assert_eq!(receipt.status, "accepted", "{receipt:?}");
    let completion = ended(project, receipt).completion.unwrap();
    assert_eq!(completion.status, "completed", "{completion:?}");
    // Exactly one end, with the same names.
    let ends: Vec<_> =
        project.events().into_iter().filter(|event| event.data["action_id"] == *receipt.action_id).collect();
    let kinds: Vec<&str> =
        ends.iter().map(|event| event.kind.as_str()).filter(|kind| kind.starts_with("action_")).collect();
    assert_eq!(kinds, ["action_accepted", "action_completed"]);
    completion.result
}

fn issue(project: &Project) -> Issue {
    client(project).issue("DS-1").unwrap().issue
}

fn at_work(project: &Project) {
    project.wait_until("the agent is at work", || project.workspace("DS-1").join("begun.txt").exists());
}

#[test]
fn a_paused_issue_has_no_process_and_goes_on_in_its_session() {
    let (project, mut daemon) = started("", HANGS);
    at_work(&project);
    let paused = act(&project, "pause", json!({}));
    done(&project, &paused);
    assert_eq!(issue(&project).status, "paused");
    assert!(project.strays().is_empty(), "its commands are ended: {:?}", project.strays());
    daemon.kill();
    let mut daemon = project.daemon();
    project.wait_until("the daemon serves", || Client::discover(&project.state_dir()).is_ok());
    assert_eq!(issue(&project).status, "paused");
    done(&project, &act(&project, "resume", json!({})));
    project.wait_for("DS-1", "handed_off");
    let sessions: Vec<Value> = project
        .events()
        .into_iter()
        .filter(|event| event.kind.starts_with("session_"))
        .map(|event| json!([event.kind, event.data["session"]]))
        .collect();
    assert_eq!(sessions.len(), 2, "{sessions:?}");
    assert_eq!((&sessions[1][0], &sessions[1][1]), (&json!("session_resumed"), &sessions[0][1]));
    judge::handed_off_once(&project, &["DS-1"]);
    daemon.stop();
}

#[test]
fn a_canceled_issue_has_no_process_and_a_retry_does_the_work() {
    let (project, mut daemon) = started("", HANGS);
    at_work(&project);
    done(&project, &act(&project, "cancel", json!({})));
    assert_eq!(issue(&project).status, "canceled");
    assert!(project.strays().is_empty(), "{:?}", project.strays());
    let refused = act(&project, "pause", json!({}));
    assert_eq!((refused.code.as_deref(), refused.http_status()), (Some("not_running"), 409));
    // The session is new and tells the first turn again; so it is paused once more, and gone on with.
    done(&project, &act(&project, "rehydrate", json!({})));
    project.wait_for("DS-1", "running");
    assert_eq!(act(&project, "retry", json!({})).code.as_deref(), Some("already_active"));
    done(&project, &act(&project, "cancel", json!({})));
    project.agent("default:\n  - [ {sh: \"echo work > work.txt && git add -A && git commit -qm work\"} ]\n");
    done(&project, &act(&project, "retry", json!({})));
    project.wait_for("DS-1", "handed_off");
    // What is handed off and wanted again is moved to where it is worked on.
    let again = act(&project, "retry", json!({}));
    done(&project, &again);
    assert!(!project.issue_text("DS-1").contains("state: Human Review"), "{}", project.issue_text("DS-1"));
    daemon.stop();
}

const ASKS: &str = r#"
default:
  - [ {ask: {text: "Which colour?", options: [red, blue]}}, {sh: "echo ${answer} > colour.txt; git add -A; git commit -qm colour"} ]
  - [ {sh: "test -e colour.txt || { echo ${answer} > colour.txt; git add -A; git commit -qm colour; }"} ]
"#;

#[test]
fn a_question_is_answered_into_the_open_turn() {
    let (project, mut daemon) = started("", ASKS);
    project.wait_for("DS-1", "waiting_question");
    let asked = issue(&project);
    let question = asked.question.unwrap();
    assert!(question.text.contains("Which colour?") && question.wants == "input", "{question:?}");
    assert!(asked.allowed_actions.contains(&"answer".to_owned()), "{:?}", asked.allowed_actions);
    assert_eq!(act(&project, "approve", json!({})).code.as_deref(), Some("no_open_question"));
    done(&project, &act(&project, "answer", json!({"text": "blue"})));
    project.wait_for("DS-1", "handed_off");
    let branch = "dalsegno/DS-1:colour.txt";
    assert_eq!(project.git(&project.remote(), &["show", branch]), "blue");
    let turns = project.events().into_iter().filter(|event| event.kind == "turn_started").count();
    assert_eq!(turns, 1, "the turn waited");
    daemon.stop();
}

#[test]
fn a_question_outlives_the_daemon_and_is_answered_in_a_new_turn_of_its_session() {
    let (project, mut daemon) = started("", ASKS);
    project.wait_for("DS-1", "waiting_question");
    daemon.kill();
    let mut daemon = project.daemon();
    project.wait_until("the question is held", || {
        project.events().iter().any(|event| event.kind == "run_ended") && Client::discover(&project.state_dir()).is_ok()
    });
    assert_eq!(issue(&project).status, "waiting_question");
    assert!(project.strays().is_empty(), "nobody waits for it: {:?}", project.strays());
    done(&project, &act(&project, "answer", json!({"text": "red"})));
    project.wait_for("DS-1", "handed_off");
    assert_eq!(project.git(&project.remote(), &["show", "dalsegno/DS-1:colour.txt"]), "red");
    judge::handed_off_once(&project, &["DS-1"]);
    daemon.stop();
}

#[test]
fn a_permission_is_given_or_refused_by_a_person() {
    let agent = r#"
default:
  - [ {permission: "rm -rf build"}, {sh: "echo work > work.txt; git add -A; git commit -qm work"} ]
"#;
    for (kind, told) in [("approve", "granted"), ("deny", "refused")] {
        let (project, mut daemon) = started("", agent);
        project.wait_for("DS-1", "waiting_question");
        assert_eq!(issue(&project).question.unwrap().wants, "permission");
        done(&project, &act(&project, kind, json!({})));
        project.wait_for("DS-1", "handed_off");
        let transcript = client(&project).transcript("run-1", None, None).unwrap();
        assert!(transcript.entries.iter().any(|entry| entry.text.contains(told)), "{kind}: {transcript:?}");
        daemon.stop();
    }
}

#[test]
fn a_question_that_nobody_answers_parks_the_issue() {
    let (project, mut daemon) = started("questions: {expire: 1s}\n", ASKS);
    project.wait_for("DS-1", "parked");
    assert!(project.status("DS-1").unwrap().1.starts_with("question_expired"), "{:?}", project.status("DS-1"));
    daemon.stop();
}

#[test]
fn words_come_with_the_next_prompt_and_before_the_handoff() {
    let agent = r#"
default:
  - [ {sh: "echo work > work.txt; git add -A; git commit -qm work; touch begun.txt; sleep 2; rm begun.txt"} ]
  - [ {say: "heard"} ]
"#;
    let (project, mut daemon) = started("", agent);
    at_work(&project);
    done(&project, &act(&project, "steer", json!({"text": "mind the tests", "by": "ada"})));
    project.wait_for("DS-1", "handed_off");
    let transcript = client(&project).transcript("run-1", None, None).unwrap();
    let prompts: Vec<&str> =
        transcript.entries.iter().filter(|entry| entry.kind == "prompt").map(|entry| entry.text.as_str()).collect();
    assert!(prompts.len() == 2 && prompts[1].contains("ada") && prompts[1].contains("mind the tests"), "{prompts:?}");
    daemon.stop();
}

#[test]
fn the_tracker_is_written_to_once_over_a_kill_after_the_answer() {
    let project = Project::new(FRONT, "default: []\n");
    project.issue("DS-2", "state: Backlog");
    project.issue("DS-1", "state: Todo\nblocked_by: [DS-2]");
    let mut daemon = project.daemon();
    project.wait_until("it is known", || client_knows(&project));
    let comment = act(&project, "comment", json!({"body": "seen by a person", "by": "ada"}));
    let made = act(&project, "create_followup", json!({"title": "What follows", "description": "More."}));
    let moved = act(&project, "transition_issue", json!({"state": "Icebox"}));
    // Accepted means kept.
    daemon.kill();
    let mut daemon = project.daemon();
    project.wait_until("the daemon serves", || Client::discover(&project.state_dir()).is_ok());
    done(&project, &comment);
    done(&project, &moved);
    let identifier = done(&project, &made).expect("the new issue's identifier");
    let text = project.issue_text("DS-1");
    assert_eq!(text.matches("seen by a person").count(), 1, "{text}");
    assert!(text.contains("state: Icebox") && text.contains("— ada"), "{text}");
    let made = project.issue_text(&identifier);
    assert!(made.contains("What follows") && made.contains("Follows from DS-1"), "{made}");
    let files = std::fs::read_dir(project.issue_file("DS-1").parent().unwrap()).unwrap();
    let issues = files.filter(|file| file.as_ref().unwrap().path().extension().is_some_and(|end| end == "md")).count();
    assert_eq!(issues, 3, "one is made, and one only");
    daemon.stop();
}

fn client_knows(project: &Project) -> bool {
    Client::discover(&project.state_dir()).is_ok_and(|client| client.issue("DS-1").is_ok())
}

#[test]
fn of_thirty_two_racing_sends_of_one_key_one_takes_effect() {
    let (project, mut daemon) = started("", "default: []\n");
    project.wait_until("it is known", || client_knows(&project));
    let receipts: Vec<Receipt> = thread::scope(|scope| {
        let sends: Vec<_> = (0..32)
            .map(|_| {
                scope.spawn(|| {
                    let comment = json!({"body": "only once"});
                    client(&project).act(&action("comment", ("issue", "DS-1"), comment, Some("k"))).unwrap()
                })
            })
            .collect();
        sends.into_iter().map(|send| send.join().unwrap()).collect()
    });
    assert_eq!(receipts.iter().filter(|receipt| !receipt.replayed).count(), 1);
    assert!(receipts.iter().all(|receipt| receipt.action_id == receipts[0].action_id));
    done(&project, &receipts[0]);
    assert_eq!(project.issue_text("DS-1").matches("only once").count(), 1);
    daemon.stop();
}

/// The tracker is held by its own lock while eight people comment as fast as they can.
#[test]
fn a_flood_of_comments_is_refused_over_http_with_a_time_to_come_again_and_none_is_lost() {
    const WAIT_AT_MOST: usize = 256;
    let project = Project::new(FRONT, "default: []\n");
    project.issue("DS-2", "state: Backlog");
    project.issue("DS-1", "state: Todo\nblocked_by: [DS-2]");
    let mut daemon = project.daemon();
    let api = Api::of(&project, &daemon);
    project.wait_until("it is known", || client_knows(&project));
    let send = |key: &str| {
        let comment = action("comment", ("issue", "DS-1"), json!({"body": format!("said as {key}.")}), Some(key));
        api.post("/api/v1/actions", &serde_json::to_string(&comment).unwrap())
    };
    let folder = std::fs::File::open(project.issue_file("DS-1").parent().unwrap()).unwrap();
    let held = Flock::lock(folder, FlockArg::LockExclusive).unwrap();
    let send = &send;
    let refused: Vec<(String, Answer)> = thread::scope(|scope| {
        let people = (0..8).map(|person| {
            scope.spawn(move || {
                for number in 0..2_000 {
                    let key = format!("{person}-{number}");
                    let answer = send(&key);
                    if answer.status != 202 {
                        return (key, answer);
                    }
                }
                panic!("all were accepted");
            })
        });
        people.collect::<Vec<_>>().into_iter().map(|person| person.join().unwrap()).collect()
    });
    for (key, answer) in &refused {
        assert_eq!((answer.status, &answer.body["code"]), (503, &json!("too_many_actions")), "{key}: {}", answer.body);
        assert!(answer.head.to_lowercase().contains("retry-after: 1"), "{key}: {}", answer.head);
    }
    drop(held);
    let waiting = |kinds: &[&str]| project.events().iter().filter(|event| kinds.contains(&event.kind.as_str())).count();
    let all_done = || waiting(&["action_accepted"]) == waiting(&["action_completed", "action_failed"]);
    project.wait_until("all are written", all_done);
    // Whoever was refused comes again under the same key.
    let (key, _) = &refused[0];
    assert_eq!(send(key).status, 202);
    project.wait_until("it is written", all_done);
    let text = project.issue_text("DS-1");
    let (mut open, mut written) = (0, 0);
    for event in project.events() {
        match event.kind.as_str() {
            "action_accepted" => open += 1,
            "action_failed" => open -= 1,
            "action_completed" => {
                open -= 1;
                written += 1;
            }
            "action_rejected" => assert_eq!(open, WAIT_AT_MOST, "refused with so many not done: {event:?}"),
            _ => {}
        }
    }
    assert!(written > 0 && text.matches("said as ").count() == written, "{written} are done: {text}");
    assert_eq!(text.matches(&format!("said as {key}.")).count(), 1, "{text}");
    daemon.stop();
}

/// Sixteen clients want something of an issue that is not there, until each has been refused without a receipt.
#[test]
fn a_flood_of_nonsense_fills_no_journal_and_everybody_hears_why() {
    const RECORDED: usize = 1_000;
    const MINUTE_MS: i64 = 60_000;
    let (project, mut daemon) = started("", "default: []\n");
    let api = Api::of(&project, &daemon);
    project.wait_until("it is known", || client_knows(&project));
    let nonsense = serde_json::to_string(&action("cancel", ("issue", "DS-404"), json!({}), Some("k"))).unwrap();
    let send = || api.post("/api/v1/actions", &nonsense);
    let send = &send;
    let answers: Vec<Answer> = thread::scope(|scope| {
        let clients = (0..16).map(|_| {
            scope.spawn(move || {
                let mut answers = Vec::new();
                while answers.len() < 5_000 {
                    let answer = send();
                    let last = !answer.code().is_empty();
                    answers.push(answer);
                    if last {
                        return answers;
                    }
                }
                panic!("all of them have a receipt")
            })
        });
        clients.collect::<Vec<_>>().into_iter().flat_map(|client| client.join().unwrap()).collect()
    });
    let (without, with): (Vec<&Answer>, Vec<&Answer>) = answers.iter().partition(|answer| !answer.code().is_empty());
    assert_eq!(without.len(), 16);
    for answer in &without {
        assert_eq!((answer.status, answer.code()), (404, "not_found"), "{}", answer.body);
    }
    assert!(with.iter().all(|answer| answer.status == 404 && answer.body["code"] == "not_found"));
    let events = project.events();
    let refused: Vec<_> = events.iter().filter(|event| event.kind == "action_rejected").collect();
    assert_eq!(refused.len(), with.len(), "each receipt is an event, and nothing else is");
    let crowded = refused.windows(RECORDED + 1).any(|crowd| crowd[RECORDED].at.0 - crowd[0].at.0 < MINUTE_MS);
    assert!(refused.len() >= RECORDED && !crowded, "{} are written down", refused.len());
    // Whoever is not refused is not held up, and the key is as good as new.
    let comment = action("comment", ("issue", "DS-1"), json!({"body": "sense"}), Some("k"));
    done(&project, &client(&project).act(&comment).unwrap());
    daemon.stop();
}

#[test]
fn a_drained_daemon_takes_no_new_work_until_it_is_undrained_also_the_next_one() {
    let project = Project::new(FRONT, "default:\n  - [ {sh: \"echo a > a; git add -A; git commit -qm a\"} ]\n");
    project.issue("DS-9", "state: Backlog");
    let mut daemon = project.daemon();
    project.wait_until("the daemon serves", || Client::discover(&project.state_dir()).is_ok());
    assert!(project.output(&["drain"]).status.success());
    daemon.kill();
    let mut daemon = project.daemon();
    project.issue("DS-1", "state: Todo");
    project.wait_until("it is seen", || client_knows(&project));
    assert_eq!(issue(&project).status, "idle");
    let explained = project.json(&["explain", "DS-1", "--json"]);
    let rule = explained["rules"].as_array().unwrap().iter().find(|rule| rule["rule"] == "not_drained").unwrap();
    assert_eq!(rule["pass"], false);
    assert!(project.output(&["undrain"]).status.success());
    project.wait_for("DS-1", "handed_off");
    daemon.stop();
}

#[test]
fn the_verbs_do_what_the_api_does() {
    let (project, mut daemon) = started("", HANGS);
    at_work(&project);
    for (arguments, status) in [(&["pause", "DS-1"][..], "paused"), (&["cancel", "ds-1"], "canceled")] {
        let said = project.output(arguments);
        assert!(said.status.success(), "{said:?}");
        assert_eq!(issue(&project).status, status);
    }
    let refused = project.output(&["resume", "DS-1"]);
    assert_eq!(refused.status.code(), Some(5));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("resume only valid on a paused issue"));
    assert!(project.output(&["refresh"]).status.success());
    daemon.stop();
}
