//! A project with as many issues as are wanted, and its daemon as a process.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::client::{Connection, get};

/// Only issues with the label are worked on: the others are known, and wait.
const WORKFLOW: &str = "---
tracker: {kind: local, required_labels: [go]}
agent: {kind: scripted, script: agent.yaml}
handoff: {}
---
Do it
";
const AGENT: &str = "default:\n  - [ {say: working}, {sleep: 30m} ]\n";
/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) struct Project {
    dir: PathBuf,
    pub(crate) issues: usize,
}

impl Project {
    /// A repository with its remote, and issues `DS-1` to `DS-<issues>`.
    pub(crate) fn new(parent: &Path, name: &str, issues: usize) -> Self {
        let dir = parent.join(name);
        std::fs::create_dir_all(dir.join("issues")).unwrap();
        std::fs::write(dir.join("WORKFLOW.md"), WORKFLOW).unwrap();
        std::fs::write(dir.join("agent.yaml"), AGENT).unwrap();
        std::fs::write(dir.join(".gitignore"), ".dalsegno\nissues\nremote.git\n").unwrap();
        let project = Self { dir, issues };
        let identity = ["-c", "user.name=B", "-c", "user.email=b@localhost", "-c", "commit.gpgsign=false"];
        for arguments in [
            &["init", "-q", "-b", "main"][..],
            &["add", "-A"],
            &["commit", "-qm", "base"],
            &["init", "-q", "--bare", "-b", "main", "remote.git"],
            &["remote", "add", "origin", "remote.git"],
            &["push", "-q", "origin", "main"],
        ] {
            let mut git = Command::new("git");
            assert!(git.current_dir(&project.dir).args(identity).args(arguments).status().unwrap().success());
        }
        for number in 1..=issues {
            project.write_issue(number, "later");
        }
        project
    }

    pub(crate) fn write_issue(&self, number: usize, label: &str) {
        let text = format!(
            "---\ntitle: Something that should be done, number {number}\nstate: Todo\npriority: 3\nlabels: [{label}]\n\
             created_at: 2026-01-02T03:04:05Z\n---\n\nWhat is wrong with number {number}, and how it shows.\n"
        );
        std::fs::write(self.dir.join(format!("issues/DS-{number}.md")), text).unwrap();
    }

    pub(crate) fn state_dir(&self) -> PathBuf {
        self.dir.join(".dalsegno")
    }

    /// A daemon that was started just now.
    pub(crate) fn spawn(&self) -> Daemon {
        let program = std::env::var_os("DALSEGNO_BIN").unwrap_or_else(|| env!("CARGO_BIN_EXE_dalsegno").into());
        let began = Instant::now();
        let child = Command::new(program)
            .args(["run", "--port", "0"])
            .current_dir(&self.dir)
            .env("HOME", &self.dir)
            .env_remove("DALSEGNO_DIR")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Daemon { child, state_dir: self.state_dir(), began, address: String::new(), token: String::new() }
    }

    /// A daemon that takes work and knows all issues.
    pub(crate) async fn started(&self) -> Daemon {
        let mut daemon = self.spawn();
        daemon.ready().await;
        let began = Instant::now();
        while daemon.figure("dalsegno_issues").await < self.issues as f64 {
            assert!(began.elapsed() < PATIENCE, "the issues are not seen");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        daemon
    }
}

pub(crate) struct Daemon {
    child: Child,
    state_dir: PathBuf,
    /// When the process was started.
    pub(crate) began: Instant,
    pub(crate) address: String,
    pub(crate) token: String,
}

impl Daemon {
    /// Waits until it takes work; answers how long that took from the start of the process.
    pub(crate) async fn ready(&mut self) -> Duration {
        loop {
            if let Some((address, token)) = self.found()
                && let Ok(mut connection) = Connection::open(&address).await
            {
                (self.address, self.token) = (address, token);
                let asked = get("/readyz", &self.token);
                while let Ok((status, _)) = connection.ask(&asked).await {
                    if status == 200 {
                        return self.began.elapsed();
                    }
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            }
            assert!(self.began.elapsed() < PATIENCE, "the daemon is not ready");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Address and token, when the file that tells of a daemon tells of this one.
    fn found(&self) -> Option<(String, String)> {
        let told: Value = serde_json::from_slice(&std::fs::read(self.state_dir.join("daemon.json")).ok()?).ok()?;
        let ours = told.get("pid")?.as_u64()? == u64::from(self.child.id());
        let address = told.get("url")?.as_str()?.strip_prefix("http://").filter(|_| ours)?.to_owned();
        Some((address, std::fs::read_to_string(self.state_dir.join("token")).ok()?))
    }

    pub(crate) async fn connect(&self) -> Connection {
        Connection::open(&self.address).await.unwrap()
    }

    /// The JSON that a path answers with.
    pub(crate) async fn json(&self, path: &str) -> Value {
        let mut connection = self.connect().await;
        let (status, body) = connection.ask(&get(path, &self.token)).await.unwrap();
        assert_eq!(status, 200, "{path}");
        serde_json::from_slice(connection.body(body)).unwrap()
    }

    /// The sum of a figure of `/metrics` over its labels.
    async fn figure(&self, name: &str) -> f64 {
        let mut connection = self.connect().await;
        let (_, body) = connection.ask(&get("/metrics", &self.token)).await.unwrap();
        let text = String::from_utf8_lossy(connection.body(body)).into_owned();
        let of_it = text.lines().filter(|line| line.starts_with(name) && line[name.len()..].starts_with(['{', ' ']));
        of_it.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    /// Resident and peak memory in MB.
    pub(crate) fn memory_mb(&self) -> (f64, f64) {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let figure = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name)).unwrap();
            line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() * 1_024.0 / 1e6
        };
        (figure("VmRSS:"), figure("VmHWM:"))
    }

    /// Processor time in seconds.
    pub(crate) fn cpu_s(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let rest = stat.rsplit_once(')').unwrap().1;
        let ticks = |field| rest.split_whitespace().nth(field).unwrap().parse::<f64>().unwrap();
        (ticks(11) + ticks(12)) / 100.0
    }

    /// SIGKILL.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM, and its end.
    pub(crate) fn stop(mut self) {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.child.id()).unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Daemon {
    /// No daemon outlives its benchmark.
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
