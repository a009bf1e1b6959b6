//! How long a daemon takes from its start to its first answer on an empty store, and what it needs when idle.
//! Prints one JSON object per line. `DALSEGNO_IDLE_S` is how long it idles before its memory is read (30);
//! `DALSEGNO_BIN` measures another build of the program.
#![allow(clippy::unwrap_used, reason = "a benchmark that cannot go on should stop where it is")]
#![allow(clippy::print_stdout, reason = "the figures are what it is for")]

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const ROUNDS: usize = 15;
const WORKFLOW: &str =
    "---\ntracker: {kind: local}\nagent: {kind: scripted, script: agent.yaml}\nhandoff: {}\n---\nDo it\n";

fn main() {
    let mut millis: Vec<f64> = (0..ROUNDS).map(|_| measured_start(false)).collect();
    report("start_to_serving_empty_store", &mut millis);
    let mut millis: Vec<f64> = (0..ROUNDS).map(|_| measured_start(true)).collect();
    report("start_to_serving_again", &mut millis);
    idle();
}

fn report(name: &str, millis: &mut [f64]) {
    millis.sort_by(f64::total_cmp);
    let (least, median, most) = (millis[0], millis[millis.len() / 2], millis[millis.len() - 1]);
    println!(
        "{}",
        serde_json::json!({"bench": name, "rounds": millis.len(), "min_ms": least, "median_ms": median, "max_ms": most})
    );
}

/// A project with a repository and an empty tracker.
fn project() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("WORKFLOW.md"), WORKFLOW).unwrap();
    std::fs::write(dir.path().join("agent.yaml"), "default: []\n").unwrap();
    std::fs::create_dir(dir.path().join("issues")).unwrap();
    for arguments in [&["init", "-q", "-b", "main"][..], &["add", "-A"], &["commit", "-qm", "base"]] {
        let identity = ["-c", "user.name=B", "-c", "user.email=b@localhost", "-c", "commit.gpgsign=false"];
        assert!(Command::new("git").current_dir(dir.path()).args(identity).args(arguments).status().unwrap().success());
    }
    let remote = dir.path().join("remote.git");
    for arguments in
        [&["init", "-q", "--bare", "remote.git"][..], &["remote", "add", "origin", &remote.to_string_lossy()]]
    {
        assert!(Command::new("git").current_dir(dir.path()).args(arguments).status().unwrap().success());
    }
    dir
}

fn daemon(dir: &Path, port: u16) -> Child {
    let program = std::env::var_os("DALSEGNO_BIN").unwrap_or_else(|| env!("CARGO_BIN_EXE_dalsegno").into());
    Command::new(program)
        .args(["run", "--port", &port.to_string()])
        .current_dir(dir)
        .env("HOME", dir)
        .env_remove("DALSEGNO_DIR")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// A port that nobody has, so that the answer can be waited for from before the start.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Milliseconds from the start of the process to the answer of `/healthz`; `again`: of a second daemon on the state
/// of a first.
fn measured_start(again: bool) -> f64 {
    let dir = project();
    if again {
        let port = free_port();
        let mut first = daemon(dir.path(), port);
        answered(port);
        end(&mut first);
    }
    let port = free_port();
    let begun = Instant::now();
    let mut child = daemon(dir.path(), port);
    answered(port);
    let took = begun.elapsed();
    end(&mut child);
    took.as_secs_f64() * 1_000.0
}

fn answered(port: u16) {
    let begun = Instant::now();
    loop {
        if let Ok(mut socket) = TcpStream::connect(("127.0.0.1", port)) {
            let mut answer = String::new();
            let asked = write!(socket, "GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
            if asked.and_then(|()| socket.read_to_string(&mut answer)).is_ok() && answer.starts_with("HTTP/1.1 200") {
                return;
            }
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "no answer");
        std::thread::sleep(Duration::from_micros(200));
    }
}

fn end(child: &mut Child) {
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    child.wait().unwrap();
}

/// Resident memory of a daemon that has nothing to do.
fn idle() {
    let seconds = std::env::var("DALSEGNO_IDLE_S").ok().and_then(|text| text.parse().ok()).unwrap_or(30);
    let dir = project();
    let port = free_port();
    let mut child = daemon(dir.path(), port);
    answered(port);
    std::thread::sleep(Duration::from_secs(seconds));
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    let figure = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
    };
    let (resident, peak, threads) = (figure("VmRSS:"), figure("VmHWM:"), figure("Threads:"));
    end(&mut child);
    println!(
        "{}",
        serde_json::json!({"bench": "idle_memory", "after_s": seconds, "rss_kib": resident, "peak_kib": peak, "threads": threads})
    );
}
