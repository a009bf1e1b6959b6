#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs::File;
use std::io::{BufReader, Write};
use std::net::TcpListener;
use std::path::Path;
use std::sync::mpsc::{Receiver, sync_channel};

use tempfile::TempDir;

use super::*;
use crate::client::Client;
use crate::daemon::{DAEMON_FILE, LOCK_FILE, TOKEN_FILE};

const TOKEN: &str = "operator-token-0123456789";

/// A state directory whose `daemon.json` names this process, at the address of a listener that answers every request as
/// the daemon would answer `/healthz`, and tells what it was sent.
struct Scene {
    dir: TempDir,
    asked: Receiver<String>,
}

impl Scene {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let daemon = serde_json::json!({
            "pid": std::process::id(), "url": format!("http://{}", listener.local_addr().unwrap()),
            "started_at": "2026-01-01T00:00:00.000Z", "version": "1.2.3",
        });
        std::fs::write(dir.path().join(DAEMON_FILE), daemon.to_string()).unwrap();
        std::fs::write(dir.path().join(TOKEN_FILE), TOKEN).unwrap();
        let (told, asked) = sync_channel(100);
        std::thread::spawn(move || {
            for socket in listener.incoming() {
                let mut socket = socket.unwrap();
                let mut head = String::new();
                let mut lines = BufReader::new(socket.try_clone().unwrap());
                while !head.ends_with("\r\n\r\n") && lines.read_line(&mut head).unwrap() > 0 {}
                let body = format!(r#"{{"status":"ok","version":"1.2.3","pid":{}}}"#, std::process::id());
                let length = body.len();
                told.send(head.to_lowercase()).unwrap();
                write!(socket, "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}")
                    .unwrap();
            }
        });
        Self { dir, asked }
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    /// The hold of a daemon with this process id.
    fn hold(&self, pid: u32) -> File {
        std::fs::write(self.path().join(LOCK_FILE), format!("{pid}\n")).unwrap();
        let file = File::options().read(true).write(true).open(self.path().join(LOCK_FILE)).unwrap();
        file.try_lock().unwrap();
        file
    }

    /// Requests that came so far.
    fn requests(&self) -> Vec<String> {
        self.asked.try_iter().collect()
    }
}

#[test]
fn who_sits_at_the_address_of_a_dead_daemon_is_asked_for_nothing_and_shown_nothing() {
    let scene = Scene::new();
    let told = |what: &str| {
        let error = Client::discover(scene.path()).err().unwrap();
        assert_eq!(error.code(), code::DAEMON_NOT_RUNNING, "{what}");
        assert_eq!(scene.requests(), Vec::<String>::new(), "{what}");
    };
    told("nothing was ever locked");
    drop(scene.hold(std::process::id()));
    told("the lock died with its daemon");
    let _next = scene.hold(std::process::id() + 1);
    told("the next daemon holds the directory, and has not said where it is");
}

#[test]
fn the_token_is_shown_only_behind_a_health_without_it_and_as_long_as_the_daemon_lives() {
    let scene = Scene::new();
    let hold = scene.hold(std::process::id());
    let client = Client::discover(scene.path()).unwrap();
    let asked = scene.requests();
    assert_eq!(asked.len(), 1, "{asked:?}");
    assert!(asked[0].starts_with("get /healthz ") && !asked[0].contains("authorization"), "{asked:?}");
    client.health().unwrap();
    assert!(scene.requests()[0].contains(&format!("authorization: bearer {TOKEN}\r\n")));

    // The daemon is killed, and somebody else gets its port: neither a call nor a stream that comes again goes there.
    drop(hold);
    assert_eq!(client.health().unwrap_err().code(), code::DAEMON_UNREACHABLE);
    let opened = HttpTransport::to(Place::Daemon(scene.path().to_owned())).open("/api/v1/events/stream", None);
    assert_eq!(opened.err().unwrap().code(), code::DAEMON_UNREACHABLE);
    assert_eq!(scene.requests(), Vec::<String>::new());
}

#[test]
fn another_process_that_answers_in_the_daemons_place_gets_no_token() {
    let scene = Scene::new();
    // The directory is held by a process that is alive and is not the one that answers: its own listener broke.
    let parent = std::os::unix::process::parent_id();
    let file = scene.path().join(DAEMON_FILE);
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace(&std::process::id().to_string(), &parent.to_string())).unwrap();
    let _hold = scene.hold(parent);
    assert_eq!(Client::discover(scene.path()).err().unwrap().code(), code::DAEMON_NOT_RUNNING);
    let asked = scene.requests();
    assert!(asked.len() == 1 && !asked[0].contains("authorization"), "{asked:?}");
}

#[test]
fn a_token_is_never_printed() {
    let transport = HttpTransport::new("http://127.0.0.1:1/", Some(TOKEN.to_owned()));
    assert!(!format!("{transport:?}").contains(TOKEN));
}
