//! The API of the real daemon, over real sockets.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use dalsegno_api::{Client, Cursor, EventQuery, FrameReader};
use dalsegno_testkit::crash::Random;
use serde_json::{Value, json};

use super::project::{Daemon, PATIENCE, Project};

const FRONT: &str = r#"polling: {interval_ms: 200}
agent: {kind: scripted, script: agent.yaml, max_retry_backoff_ms: 100}
handoff: {checks: ["test -s work.txt"], claim_state: In Progress, state: Human Review, comment: done}
"#;
const AGENT: &str = r#"
default:
  - [ {say: "secret words"}, {sleep: 150ms}, {sh: "rm -f .git/index.lock; echo work > work.txt && git add -A && git commit -qm work"} ]
  - [ {sh: "rm -f .git/index.lock; echo work > work.txt && git add -A; git commit -qm work || true"} ]
  - [ {sh: "rm -f .git/index.lock; echo work > work.txt && git add -A; git commit -qm work || true"} ]
"#;

/// Where a daemon of a project answers.
pub(crate) struct Api {
    pub(crate) address: String,
    token: String,
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Value,
    /// The body as it came.
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn code(&self) -> &str {
        self.body.pointer("/error/code").and_then(Value::as_str).unwrap_or_default()
    }
}

impl Api {
    /// Waits until this very daemon answers.
    pub(crate) fn of(project: &Project, daemon: &Daemon) -> Self {
        let file = project.state_dir().join("daemon.json");
        let read = || fs::read(&file).ok().and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok());
        project.wait_until("daemon.json", || read().is_some_and(|found| found["pid"] == daemon.pid()));
        let url = read().unwrap()["url"].as_str().unwrap().to_owned();
        let token = fs::read_to_string(project.state_dir().join("token")).unwrap();
        let api = Self { address: url.trim_start_matches("http://").to_owned(), token };
        project.wait_until("an answer", || TcpStream::connect(&api.address).is_ok());
        api
    }

    fn port(&self) -> u16 {
        self.address.rsplit_once(':').unwrap().1.parse().unwrap()
    }

    fn socket(&self) -> TcpStream {
        let socket = TcpStream::connect(&self.address).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket
    }

    /// Sends a request with these headers and no others but `connection`.
    pub(crate) fn raw(&self, method: &str, target: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let mut socket = self.socket();
        let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        write!(socket, "{method} {target} HTTP/1.1\r\n{headers}connection: close\r\n\r\n{body}").unwrap();
        let mut text = Vec::new();
        socket.read_to_end(&mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        let (head, text) = (head.to_owned(), body.to_owned());
        Answer { status, head, body: serde_json::from_str(body).unwrap_or(Value::Null), text }
    }

    pub(crate) fn open(&self, method: &str, target: &str) -> Answer {
        self.raw(method, target, &[("host", &self.address)], "")
    }

    pub(crate) fn trusted(&self, method: &str, target: &str) -> Answer {
        let bearer = format!("Bearer {}", self.token);
        self.raw(method, target, &[("host", &self.address), ("authorization", &bearer)], "")
    }

    pub(crate) fn post(&self, target: &str, body: &str) -> Answer {
        let (bearer, length) = (format!("Bearer {}", self.token), body.len().to_string());
        let headers = [("host", self.address.as_str()), ("authorization", &bearer), ("content-length", &length)];
        self.raw("POST", target, &headers, body)
    }

    /// Opens the event stream, in HTTP/1.0, whose bodies are not cut into chunks.
    fn stream(&self, last_event_id: Option<&str>) -> FrameReader<BufReader<TcpStream>> {
        let mut socket = self.socket();
        let resume = last_event_id.map(|id| format!("last-event-id: {id}\r\n")).unwrap_or_default();
        write!(socket, "GET /api/v1/events/stream HTTP/1.0\r\nhost: {}\r\n{resume}\r\n", self.address).unwrap();
        let mut lines = BufReader::new(socket);
        let mut line = String::new();
        lines.read_line(&mut line).unwrap();
        assert!(line.contains("200"), "{line}");
        while line.trim() != "" {
            line.clear();
            lines.read_line(&mut line).unwrap();
        }
        FrameReader::new(lines)
    }
}

/// A daemon with one issue that is handed off.
fn settled() -> (Project, Daemon, Api) {
    let project = Project::new(FRONT, AGENT);
    project.issue("DS-1", "state: Todo");
    let daemon = project.daemon();
    let api = Api::of(&project, &daemon);
    project.wait_for("DS-1", "handed_off");
    (project, daemon, api)
}

#[test]
fn every_read_answers_and_whoever_has_no_token_sees_no_contents() {
    let (_project, mut daemon, api) = settled();
    let health = api.open("GET", "/healthz");
    assert_eq!((health.status, &health.body["status"], &health.body["pid"]), (200, &json!("ok"), &json!(daemon.pid())));
    for (target, pointer, value) in [
        ("/api/v1/state", "/counts/by_status/handed_off", json!(1)),
        ("/api/v1/state", "/ready", json!(true)),
        ("/api/v1/DS-1", "/issue_identifier", json!("DS-1")),
        ("/api/v1/ds-1", "/status", json!("handed_off")),
        ("/api/v1/issues", "/issues/0/identifier", json!("DS-1")),
        ("/api/v1/issues?state=handed_off", "/total", json!(1)),
        ("/api/v1/issues/DS-1", "/last_run/outcome", json!("completed")),
        ("/api/v1/issues/DS-1/explain", "/status", json!("handed_off")),
        ("/api/v1/issues/DS-1/runs", "/runs/0/id", json!("run-1")),
        ("/api/v1/runs", "/runs/0/issue", json!("DS-1")),
        ("/api/v1/runs/run-1", "/handoff/steps/0/state", json!("done")),
        ("/api/v1/readiness", "/status", json!("ready")),
        ("/api/v1/readiness", "/plan/12/action", json!("none")),
        ("/api/v1/events?limit=1", "/events/0/kind", json!("daemon_started")),
    ] {
        let answer = api.open("GET", target);
        assert_eq!((answer.status, answer.body.pointer(pointer)), (200, Some(&value)), "{target}: {}", answer.body);
        assert!(!answer.body.to_string().contains("secret words"), "{target}");
        assert!(answer.head.to_lowercase().contains("cache-control: no-store"), "{}", answer.head);
    }
    let target = "/api/v1/runs/run-1/transcript";
    let refused = api.open("GET", target);
    assert_eq!((refused.status, refused.code()), (401, "token_required"));
    let transcript = api.trusted("GET", target);
    assert_eq!(transcript.status, 200);
    assert!(transcript.body.to_string().contains("secret words"), "{}", transcript.body);
    // A prompt is in it once.
    let prompts = transcript.body["entries"].as_array().unwrap().iter().filter(|entry| entry["kind"] == "prompt");
    assert_eq!(prompts.count(), 1, "{}", transcript.body);
    daemon.stop();
}

#[test]
fn what_cannot_be_served_is_told_with_status_and_code() {
    let (_project, mut daemon, api) = settled();
    let foreign = Cursor::event("another-journal", 1).to_string();
    for (method, target, status, code) in [
        ("GET", "/api/v1/DS-99", 404, "issue_not_found"),
        ("GET", "/api/v1/runs/run-99", 404, "run_not_found"),
        ("GET", "/nothing/at/all", 404, "route_not_found"),
        ("GET", "/api/v1/%ff%fe", 400, "invalid_path"),
        ("GET", "/api/v1/events?limit=many", 422, "invalid_parameter"),
        ("GET", "/api/v1/events?nonsense=1", 400, "unknown_parameter"),
        ("GET", "/api/v1/events?after=junk", 400, "invalid_cursor"),
        ("GET", &format!("/api/v1/events?after={foreign}"), 410, "cursor_gone"),
        ("GET", &format!("/api/v1/events/stream?after={foreign}"), 410, "cursor_gone"),
        ("POST", "/api/v1/state", 405, "method_not_allowed"),
        ("DELETE", "/api/v1/issues/DS-1", 405, "method_not_allowed"),
        ("GET", "/api/v1/refresh", 405, "method_not_allowed"),
        ("POST", "/api/v1/refresh", 401, "token_required"),
    ] {
        let answer = api.open(method, target);
        assert_eq!((answer.status, answer.code()), (status, code), "{method} {target}: {}", answer.body);
        assert!(answer.body["error"]["hint"].is_string(), "{method} {target}: {}", answer.body);
    }
    let gone = api.open("GET", &format!("/api/v1/events?after={foreign}"));
    let oldest = gone.body["error"]["oldest"].as_str().unwrap();
    let again = api.open("GET", &format!("/api/v1/events?after={oldest}&limit=1"));
    assert_eq!(
        (again.status, &again.body["events"][0]["seq"]),
        (200, &json!(1)),
        "the oldest cursor can be gone on from"
    );
    let refreshed = api.trusted("POST", "/api/v1/refresh");
    assert_eq!((refreshed.status, &refreshed.body["queued"]), (202, &json!(true)));
    let wrong = api.raw("GET", "/api/v1/state", &[("host", &api.address), ("authorization", "Bearer wrong")], "");
    assert_eq!((wrong.status, wrong.code()), (401, "token_invalid"));
    daemon.stop();
}

#[test]
fn attacks_by_host_origin_and_junk_are_refused_and_the_daemon_lives_on() {
    let project = Project::new(FRONT, AGENT);
    let mut daemon = project.daemon();
    let api = Api::of(&project, &daemon);
    let bearer = format!("Bearer {}", api.token);
    for (headers, code) in [
        (vec![("host", "evil.example")], "host_refused"),
        (vec![("host", "evil.example"), ("authorization", bearer.as_str())], "host_refused"),
        (vec![("authorization", bearer.as_str())], "host_refused"),
        (vec![("host", api.address.as_str()), ("origin", "http://evil.example")], "origin_refused"),
    ] {
        let answer = api.raw("GET", "/api/v1/state", &headers, "");
        // A request without a host is none at all in HTTP/1.1; either way it is not served.
        assert_eq!((answer.status, answer.code()), (403, code), "{headers:?}: {}", answer.head);
    }
    for junk in ["\0\0\0\0\r\n\r\n", "GET\r\n\r\n", "GET / HTTP/9.9\r\n\r\n", "\u{16}\u{3}\u{1}\u{2}\r\n\r\n"] {
        let mut socket = api.socket();
        socket.write_all(junk.as_bytes()).unwrap();
        let mut answer = Vec::new();
        // A reset is an answer, too.
        let _ = socket.read_to_end(&mut answer);
        let text = String::from_utf8_lossy(&answer);
        assert!(text.is_empty() || text.starts_with("HTTP/1.1 4"), "{junk:?}: {text}");
    }
    let large = "x".repeat(100_000);
    let length = large.len().to_string();
    let headers = [("host", api.address.as_str()), ("authorization", &bearer), ("content-length", &length)];
    assert_eq!(api.raw("POST", "/api/v1/refresh", &headers, &large).status, 413);
    assert_eq!(api.open("GET", "/healthz").status, 200);
    assert!(daemon.is_alive());
    daemon.stop();
}

/// What of an event may not differ between the ways to read it: all that the wire has.
fn read_by_pages(api: &Api) -> Vec<Value> {
    let (mut events, mut after) = (Vec::new(), String::new());
    loop {
        let page = api.open("GET", &format!("/api/v1/events?limit=7{after}")).body;
        let found = page["events"].as_array().unwrap();
        if found.is_empty() {
            return events;
        }
        after = format!("&after={}", page["next"].as_str().unwrap());
        events.extend(found.iter().cloned());
    }
}

#[test]
fn a_reader_of_the_stream_over_five_sigkills_sees_every_event_once_in_order() {
    const KILLS: u32 = 5;
    let seed = u64::from(std::process::id());
    println!("kills at random moments, seed {seed}");
    let mut random = Random::new(seed);
    let project = Project::new(FRONT, AGENT);
    let identifiers = ["DS-1", "DS-2", "DS-3", "DS-4"];
    for identifier in identifiers {
        project.issue(identifier, "state: Todo");
    }
    let mut daemon = project.daemon();
    let mut api = Api::of(&project, &daemon);
    let port = api.port();
    // One client that resumes by hand, and one that does it by itself.
    let client = Client::discover(&project.state_dir()).unwrap();
    let (sender, seen_by_client) = std::sync::mpsc::sync_channel(100_000);
    std::thread::spawn(move || {
        for event in client.stream(&EventQuery::default()) {
            if sender.send(event).is_err() {
                return;
            }
        }
    });
    let (mut seen, mut last): (Vec<Value>, Option<String>) = (Vec::new(), None);
    let mut read = |api: &Api, enough: &mut dyn FnMut(&Value) -> bool| {
        let mut frames = api.stream(last.as_deref());
        // What had left before a kill is still read; then the stream breaks off.
        while let Ok(Some(frame)) = frames.next_frame() {
            let event: Value = serde_json::from_str(&frame.data).unwrap();
            assert_eq!(event["cursor"], json!(frame.id));
            last = frame.id;
            let enough = enough(&event);
            seen.push(event);
            if enough {
                return;
            }
        }
    };
    for _ in 0..KILLS {
        let mut left = 4 + random.below(20);
        read(&api, &mut |_| {
            left = left.saturating_sub(1);
            if left == 1 {
                daemon.kill();
            }
            false
        });
        assert!(!daemon.is_alive(), "the stream broke off by itself: {}", daemon.log_tail());
        daemon = project.daemon_at(port);
        api = Api::of(&project, &daemon);
    }
    let handed_off = || identifiers.iter().all(|id| project.status(id).is_some_and(|(now, _)| now == "handed_off"));
    project.wait_until("all are handed off", handed_off);
    project.wait_until("rest", || project.strays().is_empty());
    let pages = read_by_pages(&api);
    let end = pages.last().unwrap()["seq"].clone();
    read(&api, &mut |event| event["seq"] == end);
    as_everywhere(&project, &mut daemon, &seen, &pages);
    let lives = seen.iter().filter(|event| event["kind"] == "daemon_started").count();
    assert_eq!(lives, 1 + KILLS as usize, "as many daemons wrote");
    for (number, expected) in seen.iter().enumerate() {
        let event = seen_by_client.recv_timeout(Duration::from_secs(30));
        let event = event.unwrap_or_else(|_| panic!("the client's stream ended after {number} events")).unwrap();
        assert_eq!((json!(event.seq), json!(event.kind)), (expected["seq"].clone(), expected["kind"].clone()));
    }
}

/// What the stream gave is what the pages and the export have, without a gap.
fn as_everywhere(project: &Project, daemon: &mut Daemon, seen: &[Value], pages: &[Value]) {
    assert_eq!(seen.len(), pages.len(), "the stream has other events than the pages");
    seen.iter().zip(pages).for_each(|(seen, page)| assert_eq!(seen, page));
    daemon.stop();
    let export = project.output(&["export"]);
    assert!(export.status.success());
    let lines = String::from_utf8(export.stdout).unwrap();
    let exported = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let exported: Vec<Value> = exported
        .filter(|line| line["event"].is_object())
        .map(|line| json!([line["seq"], line["event"]["kind"]]))
        .collect();
    let of = |events: &[Value]| events.iter().map(|event| json!([event["seq"], event["kind"]])).collect::<Vec<_>>();
    assert_eq!(of(seen), exported[..seen.len()], "the export has other events");
    assert!((1..).zip(seen).all(|(number, event)| event["seq"] == json!(number)), "a gap in the journal");
}

#[test]
fn a_slow_reader_over_five_sigkills_sees_every_event_once_in_order() {
    const KILLS: u32 = 5;
    let project = Project::new(FRONT, AGENT);
    let mut daemon = project.daemon();
    let mut api = Api::of(&project, &daemon);
    let port = api.port();
    let (mut seen, mut last): (Vec<Value>, Option<String>) = (Vec::new(), None);
    for life in 0..=KILLS {
        let mut frames = api.stream(last.as_deref());
        let mut read = |frames: &mut FrameReader<BufReader<TcpStream>>| {
            // Cut off by the kill, it ends in the midst of a frame or with an error.
            let Ok(Some(frame)) = frames.next_frame() else { return None };
            let event: Value = serde_json::from_str(&frame.data).unwrap();
            assert_eq!(event["cursor"], json!(frame.id));
            last = frame.id;
            seen.push(event);
            seen.last().map(|event| event["seq"].clone())
        };
        assert!(read(&mut frames).is_some(), "the stream broke off by itself: {}", daemon.log_tail());
        // It reads nothing while agents work, and what piles up is far more than what it reads after that.
        let at = project.events().len();
        project.issue(&format!("DS-{life}"), "state: Todo");
        project.wait_until("much that it has not read", || project.events().len() > at + 25);
        if life == KILLS {
            (0..=life).for_each(|life| project.wait_for(&format!("DS-{life}"), "handed_off"));
            project.wait_until("rest", || project.strays().is_empty());
            let pages = read_by_pages(&api);
            let end = &pages.last().unwrap()["seq"];
            while read(&mut frames).is_some_and(|seq| seq != *end) {}
            return as_everywhere(&project, &mut daemon, &seen, &pages);
        }
        daemon.kill();
        for _ in 0..=life {
            let _ = read(&mut frames);
        }
        daemon = project.daemon_at(port);
        api = Api::of(&project, &daemon);
    }
}
