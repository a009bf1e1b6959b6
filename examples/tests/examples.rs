//! The examples as their readers run them: real processes, killed with SIGKILL.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

use dalsegno_durable::wait::{Registered, WaitAddress};
use dalsegno_durable::{Clock, DurableStore, SystemClock, WaitKey};
use dalsegno_store::SqliteDurable;

/// A process that says nothing for so long has hung.
const PATIENCE: Duration = Duration::from_secs(60);

fn agent_loop(dir: &Path, kill_after: Option<usize>) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_durable_agent_loop"));
    command.arg("--dir").arg(dir).stdin(Stdio::null());
    if let Some(point) = kill_after {
        command.args(["--kill-after", &point.to_string()]);
    }
    command.output().expect("the example starts")
}

fn lines(output: &Output) -> Vec<String> {
    String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
}

fn count(dir: &Path, file: &str) -> usize {
    std::fs::read_to_string(dir.join(file)).unwrap_or_default().lines().count()
}

#[test]
fn the_agent_loop_goes_on_wherever_it_is_killed() {
    let mut point = 0;
    loop {
        point += 1;
        let dir = tempfile::tempdir().expect("a directory");
        let dir = dir.path();
        let first = agent_loop(dir, Some(point));
        if first.status.success() {
            break;
        }
        assert_eq!(first.status.signal(), Some(9), "point {point}: {first:?}");
        let second = agent_loop(dir, None);
        assert!(second.status.success(), "point {point}: {second:?}");

        let (first, second) = (lines(&first), lines(&second));
        let killed = first.last().map_or("", String::as_str);
        assert!(second.iter().any(|line| line.contains("You are going to Bergen")), "{killed}: {second:?}");
        // What the first process had an outcome of, the second one tells from the record.
        let recorded: Vec<&str> = first.iter().filter_map(|line| line.strip_prefix("executed ")).collect();
        for key in &recorded {
            assert!(second.contains(&format!("replayed {key}")), "{killed}: {key} in {second:?}");
        }
        assert_eq!(count(dir, "bookings.jsonl"), 1, "{killed}: booked once");
        assert_eq!(count(dir, "mails.jsonl"), 1, "{killed}: told once");
        // Only a question that was cut may be paid twice.
        let cut = usize::from(killed.contains("after the answer"));
        assert_eq!(count(dir, "model-bill.jsonl"), 4 + cut, "{killed}: four questions");

        let third = lines(&agent_loop(dir, None));
        assert!(third.contains(&"replayed 8, executed 0".to_owned()), "{killed}: {third:?}");
    }
    assert!(point > 24, "only {point} points");
}

fn release_train(dir: &Path, refuse: Option<&str>, kill_after: Option<usize>) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_release_train"));
    command.arg("--dir").arg(dir).stdin(Stdio::null());
    if let Some(step) = refuse {
        command.args(["--refuse", step]);
    }
    if let Some(point) = kill_after {
        command.args(["--kill-after", &point.to_string()]);
    }
    command.output().expect("the example starts")
}

/// What the remote systems have, by kind: how often it was done.
fn did(dir: &Path, what: &str) -> usize {
    let text = std::fs::read_to_string(dir.join("remote.jsonl")).unwrap_or_default();
    text.lines().filter(|line| line.contains(&format!("\"did\":\"{what}\""))).count()
}

#[test]
fn the_release_is_done_once_or_undone_wherever_it_is_killed() {
    for refuse in [None, Some("publish"), Some("upload")] {
        let mut point = 0;
        loop {
            point += 1;
            let dir = tempfile::tempdir().expect("a directory");
            let dir = dir.path();
            let first = release_train(dir, refuse, Some(point));
            if first.status.success() {
                break;
            }
            assert_eq!(first.status.signal(), Some(9), "point {point}: {first:?}");
            let second = release_train(dir, refuse, None);
            let killed = lines(&first).last().cloned().unwrap_or_default();
            let (ended, counts) = match refuse {
                None => ("committed", [1, 0, 1, 0, 1, 1]),
                Some("publish") => ("compensated", [1, 1, 1, 1, 0, 0]),
                Some(_) => ("compensated", [1, 1, 0, 0, 0, 0]),
            };
            let told = lines(&second);
            assert!(told.contains(&ended.to_owned()), "{refuse:?}, {killed}: {told:?}, {second:?}");
            let seen = ["tag", "untag", "upload", "withdraw", "publish", "announce"].map(|what| did(dir, what));
            assert_eq!(seen, counts, "{refuse:?}, {killed}");
            // It is over: nothing is done any more.
            let third = release_train(dir, refuse, None);
            assert_eq!(lines(&third), [ended, "0 points to kill it at"], "{refuse:?}, {killed}");
        }
        assert!(point > 8, "only {point} points");
    }
}

/// A `webhook_wait wait`; killed when dropped.
struct Waiter {
    process: Child,
    said: Receiver<String>,
}

impl Waiter {
    fn start(dir: &Path, within: u32) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_webhook_wait"));
        command.arg("--dir").arg(dir).args(["wait", "--within", &within.to_string()]);
        let mut process = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("the example starts");
        let stdout = process.stdout.take().expect("it is piped");
        let (say, said) = sync_channel(64);
        std::thread::spawn(move || {
            BufReader::new(stdout).lines().map_while(Result::ok).try_for_each(|line| say.send(line))
        });
        Self { process, said }
    }

    /// The rest of the next line that begins so, if it comes in time.
    fn line(&self, beginning: &str, patience: Duration) -> Option<String> {
        loop {
            let line = self.said.recv_timeout(patience).ok()?;
            if let Some(rest) = line.strip_prefix(beginning) {
                return Some(rest.to_owned());
            }
        }
    }

    fn said(&self, beginning: &str) -> String {
        self.line(beginning, PATIENCE).unwrap_or_else(|| panic!("it never said {beginning}"))
    }

    /// Where the listener is, from the line with `curl`.
    fn address(&self) -> String {
        let line = self.said("curl ");
        let url = line.split("http://").nth(1).expect("a URL");
        url.split('/').next().expect("a host").to_owned()
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        // SIGKILL; one that has ended by itself needs none.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn resolve(dir: &Path, key: &str, json: &str) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_webhook_wait"));
    let output = command.arg("--dir").arg(dir).args(["resolve", key, json]).stdin(Stdio::null()).output();
    let output = output.expect("the example starts");
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn post(address: &str, path: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a limit");
    let head = format!("POST {path} HTTP/1.1\r\nHost: {address}\r\nContent-Length: {}\r\n\r\n", body.len());
    stream.write_all(format!("{head}{body}").as_bytes()).expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    answer
}

#[test]
fn a_second_process_resolves_a_wait_that_was_killed_meanwhile() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    let first = Waiter::start(dir, 3_600);
    let key = first.said("key ");
    drop(first);
    let second = Waiter::start(dir, 3_600);
    assert_eq!(second.said("key "), key, "the key is the same in each process");

    let forged = format!("{}0", &key[..key.len() - 1]);
    let forged = if forged == key { format!("{}1", &key[..key.len() - 1]) } else { forged };
    assert!(resolve(dir, &forged, "true").contains("WaitUnknownOrRevoked"));
    assert_eq!(resolve(dir, &key, r#"{"approved": true}"#), "accepted\n");
    assert!(second.said("answered: ").contains("true"));
    second.said("released 1.0");
    assert!(resolve(dir, &key, r#"{"approved": false}"#).starts_with("already resolved"));

    let third = Waiter::start(dir, 3_600);
    assert!(third.said("answered: ").contains("true"), "the first answer stays");
    assert_eq!(third.line("released", PATIENCE), None, "what was recorded is not done again");
}

#[test]
fn a_wait_is_resolved_while_nobody_waits() {
    let dir = tempfile::tempdir().expect("a directory");
    let first = Waiter::start(dir.path(), 3_600);
    let key = first.said("key ");
    drop(first);
    assert_eq!(resolve(dir.path(), &key, r#"{"approved": false}"#), "accepted\n");
    assert!(Waiter::start(dir.path(), 3_600).said("answered: ").contains("false"));
}

#[test]
fn the_webhook_itself() {
    let dir = tempfile::tempdir().expect("a directory");
    let waiter = Waiter::start(dir.path(), 3_600);
    let (key, address) = (waiter.said("key "), waiter.address());
    assert!(post(&address, "/resolve/dw1.00.00", "true").starts_with("HTTP/1.1 404"));
    assert!(post(&address, &format!("/resolve/{key}"), "{").starts_with("HTTP/1.1 400"));
    assert!(post(&address, "/elsewhere", "true").starts_with("HTTP/1.1 404"));
    assert!(post(&address, &format!("/resolve/{key}"), r#"{"approved": true}"#).starts_with("HTTP/1.1 200"));
    waiter.said("released 1.0");
}

#[tokio::test]
async fn the_first_deadline_stays_over_a_kill() {
    let dir = tempfile::tempdir().expect("a directory");
    let first = Waiter::start(dir.path(), 3);
    let key = WaitKey::from_text(first.said("key "));
    // It says nothing when the deadline is written down, so we look, as a third process.
    let store = SqliteDurable::open(&dir.path().join("effects.db")).expect("it is shared");
    let address = key.verify(store.secret()).expect("it is ours");
    let written_down = async {
        while is_without_deadline(&store, &address).await {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(PATIENCE, written_down).await.expect("it never wrote the deadline down");
    drop(first);
    Waiter::start(dir.path(), 3_600).said("timeout");
}

async fn is_without_deadline(store: &SqliteDurable, address: &WaitAddress) -> bool {
    let found = store.register(address, None, SystemClock.now()).await.expect("the wait is there");
    found == Registered::Open { deadline: None }
}
