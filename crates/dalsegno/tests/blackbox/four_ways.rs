//! Every kind of action by page, command line, API and terminal, each on an issue in the same status: the four agree on the receipt, on what is
//! decided, and on how the issue stands then.

use dalsegno_api::{Action, Client, Target};
use dalsegno_core::ActionKind;
use serde_json::{Map, Value, json};

use crate::http::Api;
use crate::project::{Daemon, Project};
use crate::terminal::Terminal;

const FRONT: &str = "polling: {interval_ms: 200}
agent: {kind: scripted, script: agent.yaml, max_concurrent_agents: 8, max_retry_backoff_ms: 50}
handoff: {state: Human Review}
";
/// Turns that hang: a new session plays the first, one that goes on the next.
const HANGS: &str = "default:\n  - [ {say: \"I look around\"}, {sh: \"sleep 300\"} ]\n  - [ {sh: \"sleep 300\"} ]\n";
const WORKS: &str = "default:\n  - [ {sh: \"echo work >> work.txt && git add -A && git commit -qm work\"} ]\n";

/// Events that an action decides; what agents and the tracker tell meanwhile comes when it comes.
const DECIDED: [&str; 15] = [
    "action_accepted",
    "action_completed",
    "action_failed",
    "stop_asked",
    "run_ending",
    "run_ended",
    "issue_status",
    "message_queued",
    "question_answered",
    "budget_set",
    "released",
    "start_planned",
    "drained",
    "saga_told",
    "workflow_loaded",
];
/// What is another with each action: names, times, who it was, and the hash over that.
const OWN: [&str; 14] = [
    "action_id",
    "correlation_id",
    "issue",
    "run",
    "target_id",
    "by",
    "content",
    "idempotency_key",
    "policy",
    "hash",
    "effect_id",
    "note",
    "due_at",
    "day",
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Page,
    CommandLine,
    Api,
    Terminal,
}

const WAYS: [Way; 4] = [Way::Page, Way::CommandLine, Way::Api, Way::Terminal];

/// An action in the words of each way.
struct Wish {
    kind: &'static str,
    /// Fields of the form and of the payload.
    fields: &'static [(&'static str, &'static str)],
    /// The words of the command line; `@` is the issue.
    line: &'static [&'static str],
    /// What is typed into the terminal; `None`: it asks for nothing.
    typed: Option<&'static str>,
}

const fn wish(
    kind: &'static str,
    fields: &'static [(&'static str, &'static str)],
    line: &'static [&'static str],
    typed: Option<&'static str>,
) -> Wish {
    Wish { kind, fields, line, typed }
}

struct Scene<'a> {
    project: &'a Project,
    api: Api,
    cookie: String,
    /// `None`: there is no tmux here.
    terminal: Option<Terminal<'a>>,
}

/// How it was answered, what was decided, and how the issue stands.
#[derive(Debug, PartialEq)]
struct Told {
    receipt: Value,
    events: Vec<Value>,
    status: String,
}

impl<'a> Scene<'a> {
    fn new(project: &'a Project, daemon: &Daemon) -> Self {
        let api = Api::of(project, daemon);
        let link = String::from_utf8(project.output(&["open", "--print"]).stdout).unwrap();
        let path = link.trim().trim_start_matches("http://").trim_start_matches(&api.address).to_owned();
        let login = api.open("GET", &path);
        let cookie = login
            .head
            .lines()
            .find_map(|line| line.to_lowercase().starts_with("set-cookie:").then(|| line.split_once(':')));
        let cookie = cookie.flatten().unwrap_or_else(|| panic!("no cookie: {}", login.head)).1;
        let cookie = cookie.split(';').next().unwrap().trim().to_owned();
        let terminal = Terminal::start(project);
        Self { project, api, cookie, terminal }
    }

    /// Sends the form of a page, as a browser does. Answers status and whole answer.
    fn post(&self, kind: &str, issue: Option<&str>, fields: &[(&str, &str)]) -> (u16, String) {
        let coded = |text: &str| text.replace(' ', "+").replace('?', "%3F");
        let mut form = format!("kind={kind}");
        issue.into_iter().for_each(|issue| form.push_str(&format!("&issue={issue}")));
        fields.iter().for_each(|(name, value)| form.push_str(&format!("&{name}={}", coded(value))));
        let (length, origin) = (form.len().to_string(), format!("http://{}", self.api.address));
        let headers = [
            ("host", self.api.address.as_str()),
            ("origin", &origin),
            ("cookie", &self.cookie),
            ("content-type", "application/x-www-form-urlencoded"),
            ("content-length", &length),
        ];
        let answer = self.api.raw("POST", "/act", &headers, &form);
        (answer.status, answer.head)
    }

    fn client(&self) -> Client {
        Client::discover(&self.project.state_dir()).unwrap()
    }

    fn action(wish: &Wish, issue: Option<&str>) -> Action {
        let value = |text: &str| serde_json::from_str::<u64>(text).map_or_else(|_| Value::from(text), Value::from);
        let target = match issue {
            Some(id) => Target { kind: "issue".to_owned(), id: id.to_owned() },
            None => Target { kind: "daemon".to_owned(), id: String::new() },
        };
        Action {
            schema_version: 1,
            action_kind: wish.kind.to_owned(),
            target,
            correlation_id: None,
            idempotency_key: None,
            on_duplicate: None,
            payload: wish.fields.iter().map(|(name, text)| ((*name).to_owned(), value(text))).collect::<Map<_, _>>(),
        }
    }

    /// The names of the accepted actions of this kind, in order.
    fn accepted(&self, kind: &str) -> Vec<String> {
        let events = self.project.events();
        let of_it = events.iter().filter(|event| event.kind == "action_accepted" && event.data["action_kind"] == kind);
        of_it.map(|event| event.data["action_id"].as_str().unwrap().to_owned()).collect()
    }

    /// Does it in this way, waits for its end, and tells what came of it. `None`: this way does not offer it here.
    fn act(&self, way: Way, wish: &Wish, issue: Option<&str>) -> Option<Told> {
        let before = self.accepted(wish.kind).len();
        let named = match way {
            Way::Page => {
                let (status, head) = self.post(wish.kind, issue, wish.fields);
                assert_eq!(status, 303, "{}: {head}", wish.kind);
                Some(head.split_once("?receipt=").unwrap().1.lines().next().unwrap().to_owned())
            }
            Way::CommandLine => {
                let line: Vec<&str> =
                    wish.line.iter().map(|word| if *word == "@" { issue.unwrap() } else { word }).collect();
                let receipt = self.project.json(&[line.as_slice(), &["--json"]].concat());
                Some(receipt["action_id"].as_str().unwrap().to_owned())
            }
            Way::Api => Some(self.client().act(&Self::action(wish, issue)).unwrap().action_id),
            Way::Terminal => {
                let terminal = self.terminal.as_ref()?;
                self.in_terminal(terminal, wish, issue)?;
                None
            }
        };
        self.project.wait_until(&format!("{} by {way:?}", wish.kind), || self.accepted(wish.kind).len() > before);
        let id = self.accepted(wish.kind).pop().unwrap();
        assert!(named.is_none_or(|named| named == id), "{} by {way:?} has another receipt", wish.kind);
        let state = || self.client().action(&id).unwrap();
        self.project.wait_until(&format!("the end of {}", wish.kind), || state().completion.is_some());
        let mut receipt = serde_json::to_value(state().receipt).unwrap();
        for own in ["action_id", "correlation_id", "issued_at", "by"] {
            receipt.as_object_mut().unwrap().remove(own);
        }
        receipt["target"]["id"] = json!(issue.is_some());
        Some(self.told(&id, receipt, issue))
    }

    /// Chooses the issue by the filter, and then the action.
    fn in_terminal(&self, terminal: &Terminal<'_>, wish: &Wish, issue: Option<&str>) -> Option<()> {
        if issue.is_none() && wish.kind == "set_budget" {
            // There it is the issue's alone.
            return None;
        }
        if let Some(issue) = issue {
            terminal.press(&["Escape"]);
            // Keys that come at once after it would be read with it, as one with Alt.
            let filtered = || terminal.screen().lines().any(|line| line.starts_with('/'));
            self.project.wait_until("the whole list", || !filtered());
            std::thread::sleep(std::time::Duration::from_millis(100));
            terminal.press(&["/"]);
            terminal.shows("/▏");
            terminal.press(&[issue]);
            terminal.press(&["Enter"]);
            self.project.wait_until("the issue", || {
                terminal.screen().lines().any(|line| line.starts_with('>') && line.contains(issue))
            });
            // What it would take now is what the daemon says of it next.
            let client = self.client();
            assert!(client.issue(issue).unwrap().issue.allowed_actions.iter().any(|kind| kind == wish.kind));
            terminal.press(&["r"]);
            std::thread::sleep(std::time::Duration::from_millis(300));
        }
        terminal.choose(wish.kind);
        if let Some(typed) = wish.typed {
            // Letter by letter, as tmux would take some words for names of keys.
            terminal.press(&["-l", typed]);
            terminal.press(&["Enter"]);
        }
        if ["cancel", "deny", "retry", "rehydrate", "drain"].contains(&wish.kind) {
            terminal.press(&["y"]);
        }
        Some(())
    }

    fn told(&self, id: &str, receipt: Value, issue: Option<&str>) -> Told {
        // A handoff that was settled goes on by itself, before its completion is told or after.
        let settled = issue.filter(|_| receipt["action_kind"] == "settle");
        if let Some(issue) = settled {
            self.project.wait_for(issue, "handed_off");
        }
        let all = self.project.events();
        let is = |kind: &str, event: &dalsegno_engine::EventRow| event.kind == kind && event.data["action_id"] == id;
        let begin = all.iter().find(|event| is("action_accepted", event)).unwrap();
        let end = all.iter().find(|event| is("action_completed", event) || is("action_failed", event)).unwrap();
        // A poll that falls between the effect and its completion may have read what it did: nothing that was decided.
        let polled = |event: &dalsegno_engine::EventRow| event.data["reason"] == "changed by somebody else";
        let end = if settled.is_some() { all.last().unwrap() } else { end };
        let of_it = |event: &&dalsegno_engine::EventRow| {
            (begin.seq..=end.seq).contains(&event.seq)
                && DECIDED.contains(&&*event.kind)
                && !polled(event)
                && (issue.is_none() || event.issue == begin.issue)
        };
        let told = all.iter().filter(of_it).map(|event| json!([event.kind, plain(&event.data)]));
        let mut events: Vec<Value> = told.collect();
        if settled.is_some() {
            events.sort_by_key(ToString::to_string);
        }
        let mut moves = all.iter().filter(|event| event.seq <= end.seq && event.kind == "issue_status");
        let last = moves.rfind(|event| event.issue == begin.issue && !polled(event));
        let status = last.filter(|_| issue.is_some()).map_or_else(String::new, |event| event.data["to"].to_string());
        Told { receipt, events, status }
    }

    /// All ways, each on its own issue; `ready` waits until that is in the status from which it is done.
    fn agree(&self, wish: &Wish, issues: Option<[&str; 4]>, ready: impl Fn(usize, Option<&str>)) {
        let mut first: Option<(Way, Told)> = None;
        for (number, way) in WAYS.into_iter().enumerate() {
            let issue = issues.map(|issues| issues[number]);
            ready(number, issue);
            let Some(told) = self.act(way, wish, issue) else { continue };
            println!("{} by {way:?}: {} events, {}", wish.kind, told.events.len(), told.status);
            match &first {
                None => first = Some((way, told)),
                Some((other, expected)) => assert_eq!(expected, &told, "{} by {other:?} and by {way:?}", wish.kind),
            }
        }
    }
}

/// The data without what is another with each action.
fn plain(data: &Value) -> Value {
    match data {
        Value::Object(fields) => {
            let kept = fields.iter().filter(|(name, _)| !OWN.contains(&name.as_str()));
            Value::Object(kept.map(|(name, value)| (name.clone(), plain(value))).collect())
        }
        Value::Array(items) => items.iter().map(plain).collect(),
        Value::String(_) | Value::Number(_) | Value::Bool(_) | Value::Null => data.clone(),
    }
}

const ISSUES: [&str; 4] = ["DS-1", "DS-2", "DS-3", "DS-4"];

fn project(front: &str, agent: &str, issues: &[&str]) -> Project {
    let project = Project::new(front, agent);
    issues.iter().for_each(|issue| project.issue(issue, "state: Todo"));
    project
}

const WORK: [Wish; 10] = [
    wish("steer", &[("text", "mind the tests")], &["steer", "@", "mind the tests"], Some("mind the tests")),
    wish("comment", &[("body", "seen")], &["comment", "@", "seen"], Some("seen")),
    wish("create_followup", &[("title", "More")], &["followup", "@", "More"], Some("More")),
    wish("set_budget", &[("tokens", "5000000")], &["budget", "@", "--tokens", "5000000"], Some("tokens=5000000")),
    wish("pause", &[], &["pause", "@"], None),
    wish("resume", &[], &["resume", "@"], None),
    wish("cancel", &[], &["cancel", "@"], None),
    wish("retry", &[], &["retry", "@"], None),
    wish("rehydrate", &[], &["rehydrate", "@"], None),
    wish("transition_issue", &[("state", "Icebox")], &["transition", "@", "Icebox"], Some("Icebox")),
];

#[test]
fn what_is_done_to_work_is_the_same_by_page_command_line_api_and_terminal() {
    let project = project(FRONT, HANGS, &ISSUES);
    let mut daemon = project.daemon();
    let scene = Scene::new(&project, &daemon);
    let turns = |issue: &str| {
        let events = project.events();
        let of_it = |kind: &str| {
            events.iter().filter(|event| event.kind == kind && event.issue.as_deref() == Some(issue)).count()
        };
        of_it("turn_started") - of_it("turn_ended")
    };
    for wish in &WORK {
        scene.agree(wish, Some(ISSUES), |_, issue| {
            let issue = issue.unwrap();
            let wanted = match wish.kind {
                "resume" => "paused",
                "retry" => "canceled",
                "rehydrate" | "transition_issue" => {
                    // It was begun again; so it is canceled first.
                    project
                        .wait_until("a turn", || turns(issue) == 1 || project.status(issue).unwrap().0 == "canceled");
                    let _ = project.output(&["cancel", issue]);
                    "canceled"
                }
                _ => "running",
            };
            project.wait_for(issue, wanted);
            if wanted == "running" {
                project.wait_until("a turn", || turns(issue) == 1);
            }
        });
    }
    refused(&scene);
    daemon.stop();
}

/// Kinds that the canceled issue would not take, and the code.
fn refused(scene: &Scene<'_>) {
    for (wish, code) in [
        (wish("pause", &[], &["pause", "@"], None), "not_running"),
        (wish("resume", &[], &["resume", "@"], None), "not_paused"),
        (wish("cancel", &[], &["cancel", "@"], None), "not_cancelable"),
        (wish("steer", &[("text", "x")], &["steer", "@", "x"], None), "not_running"),
        (wish("answer", &[("text", "x")], &["answer", "@", "x"], None), "no_open_question"),
        (wish("approve", &[], &["approve", "@"], None), "no_open_question"),
        (wish("deny", &[], &["deny", "@"], None), "no_open_question"),
        (wish("release", &[], &["release", "@"], None), "not_parked"),
        (wish("settle", &[("step", "push"), ("verb", "retry")], &["settle", "@", "push", "retry"], None), "not_parked"),
    ] {
        let receipt = scene.client().act(&Scene::action(&wish, Some("DS-1"))).unwrap();
        assert_eq!((receipt.code.as_deref(), receipt.http_status()), (Some(code), 409), "{}", wish.kind);
        let (status, _) = scene.post(wish.kind, Some("DS-1"), wish.fields);
        assert_eq!(status, receipt.http_status(), "{} by page", wish.kind);
        let line: Vec<&str> = wish.line.iter().map(|word| if *word == "@" { "DS-1" } else { word }).collect();
        let said = scene.project.output(&line);
        assert_eq!(said.status.code(), Some(i32::from(receipt.exit_code())), "{} by command line", wish.kind);
        assert!(String::from_utf8_lossy(&said.stderr).contains(code), "{said:?}");
        let allowed = scene.client().issue("DS-1").unwrap().issue.allowed_actions;
        assert!(!allowed.iter().any(|kind| kind == wish.kind), "the terminal offers {}", wish.kind);
    }
}

#[test]
fn what_is_said_to_a_question_is_the_same_by_page_command_line_api_and_terminal() {
    let ask = "default:\n  - [ {ask: {text: \"Which colour?\"}}, {sh: \"sleep 300\"} ]\n  - [ {sh: \"sleep 300\"} ]\n";
    let permission = "default:\n  - [ {permission: \"rm -rf build\"}, {sh: \"sleep 300\"} ]\n";
    for (agent, wish) in [
        (ask, wish("answer", &[("text", "blue")], &["answer", "@", "blue"], Some("blue"))),
        (permission, wish("approve", &[], &["approve", "@"], None)),
        (permission, wish("deny", &[("why", "not now")], &["deny", "@", "--why", "not now"], Some("not now"))),
    ] {
        let project = project(FRONT, agent, &ISSUES);
        let mut daemon = project.daemon();
        let scene = Scene::new(&project, &daemon);
        scene.agree(&wish, Some(ISSUES), |_, issue| project.wait_for(issue.unwrap(), "waiting_question"));
        daemon.kill();
    }
}

#[test]
fn what_is_said_of_what_is_parked_is_the_same_by_page_command_line_api_and_terminal() {
    let front = format!(
        "{}handoff: {{state: Human Review, comment: '{{{{ nothing.like.this }}}}'}}\n",
        FRONT.replace("handoff: {state: Human Review}\n", "")
    );
    let settle = wish(
        "settle",
        &[("step", "comment"), ("verb", "skip")],
        &["settle", "@", "comment", "skip"],
        Some("comment skip"),
    );
    let hook = format!("{FRONT}hooks: {{before_run: 'exit 3'}}\nbreaker: {{same_failure: 1}}\n");
    let release = wish("release", &[], &["release", "@"], None);
    for (front, agent, wish) in [(front, WORKS, settle), (hook, WORKS, release)] {
        let project = project(&front, agent, &ISSUES);
        let mut daemon = project.daemon();
        let scene = Scene::new(&project, &daemon);
        scene.agree(&wish, Some(ISSUES), |_, issue| project.wait_for(issue.unwrap(), "parked"));
        daemon.kill();
    }
}

#[test]
fn what_the_daemon_is_told_is_the_same_by_page_command_line_api_and_terminal() {
    let front = |hook: usize| {
        format!(
            "polling: {{interval_ms: 200}}\nagent: {{kind: scripted, script: agent.yaml, sandbox: command env}}\n\
             handoff: {{state: Human Review, approval: required}}\nhooks: {{before_run: 'echo {hook}'}}\n"
        )
    };
    let project = project(&front(0), WORKS, &[]);
    let mut daemon = project.daemon();
    let scene = Scene::new(&project, &daemon);
    for wish in [
        wish("refresh", &[], &["refresh"], None),
        wish("drain", &[], &["drain"], None),
        wish("undrain", &[], &["undrain"], None),
        wish("set_budget", &[("tokens", "1000000")], &["budget", "--day", "--tokens", "1000000"], None),
    ] {
        scene.agree(&wish, None, |_, _| ());
    }
    scene.agree(&wish("reload", &[], &["reload"], None), None, |number, _| {
        let rejected = || project.events().iter().filter(|event| event.kind == "workflow_rejected").count();
        let before = rejected();
        project.front(&front(number + 1));
        project.wait_until("the change is held", || rejected() > before);
    });
    daemon.stop();
}

#[test]
fn no_kind_of_action_is_left_out() {
    let more = ["answer", "approve", "deny", "settle", "release", "refresh", "drain", "undrain", "reload"];
    let tested: Vec<&str> = WORK.iter().map(|wish| wish.kind).chain(more).collect();
    let missing: Vec<&str> =
        ActionKind::ALL.into_iter().map(ActionKind::as_str).filter(|kind| !tested.contains(kind)).collect();
    assert!(missing.is_empty(), "kinds that no test does in four ways: {missing:?}");
}
