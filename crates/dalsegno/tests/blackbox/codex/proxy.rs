//! Between the daemon and the real Codex: passes lines both ways, and kills somebody once, at a line that a rule names.
//!
//! It is this test binary itself, started by `agent.command`. The agent's protocol comes in on standard input and goes
//! out on descriptor 3, because the harness prints to standard output. Apart from the kill the daemon sees Codex: an end
//! of its input ends Codex, and the end of Codex ends this.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use super::scene;

/// Names the file with the plan; without it the test is none.
const PLAN_VARIABLE: &str = "DALSEGNO_TEST_PROXY";

/// Where a line goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum To {
    Agent,
    Daemon,
}

/// Who is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Victim {
    Agent,
    Daemon,
    /// At once, as when the machine goes down.
    Both,
}

impl Victim {
    /// In this order nobody has the time to notice the end of the other.
    pub(crate) fn kill(self, agent: i32, daemon: i32) {
        let victims = match self {
            Self::Agent => &[agent][..],
            Self::Daemon => &[daemon],
            Self::Both => &[agent, daemon],
        };
        for victim in victims {
            kill(Pid::from_raw(*victim), Signal::SIGKILL).unwrap();
        }
    }
}

/// The line at which somebody is killed; it is not passed on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct At {
    pub(crate) to: To,
    /// Method of the message, or of the request that it answers.
    pub(crate) method: &'static str,
    /// It is the answer.
    pub(crate) answer: bool,
}

/// Writes the plan of a proxy, and answers the command that starts it.
pub(crate) fn command(dir: &Path, codex: &Path, kill: Option<(At, Victim)>) -> String {
    let rule = kill.map(|(at, victim)| {
        json!({"to_agent": at.to == To::Agent, "method": at.method, "answer": at.answer,
            "victim": format!("{victim:?}")})
    });
    let plan = json!({"codex": codex, "dir": dir, "daemon": dir.join("project/.dalsegno/daemon.json"), "rule": rule});
    fs::write(dir.join("proxy.json"), plan.to_string()).unwrap();
    let test = std::env::current_exe().unwrap();
    let arguments = "codex::proxy::passes_lines_and_kills_once --exact --ignored 3>&1 1>/dev/null";
    format!("{PLAN_VARIABLE}={} exec {} {arguments}", dir.join("proxy.json").display(), test.display())
}

/// Pid of the Codex that was started last.
pub(crate) fn agent_pid(dir: &Path) -> Option<i32> {
    fs::read_to_string(dir.join("agent.pid")).ok()?.trim().parse().ok()
}

/// Made when somebody is killed: the commands that had run.
pub(crate) fn note(dir: &Path) -> PathBuf {
    dir.join("killed")
}

/// What is in Codex's histories when a Codex starts, which is after the sweep of the one before it.
pub(crate) fn arrived(dir: &Path) -> PathBuf {
    dir.join("arrived")
}

struct Plan {
    dir: PathBuf,
    daemon: PathBuf,
    rule: Option<Value>,
    agent: i32,
    /// Methods of open requests, by who asked (the daemon: true) and the request's id.
    open: Mutex<BTreeMap<(bool, String), String>>,
}

impl Plan {
    /// Whether the line may be passed on. Kills when it is the one.
    fn passes(&self, to_agent: bool, line: &str) -> bool {
        let message: Value = serde_json::from_str(line).unwrap_or_default();
        let id = message.get("id").map(Value::to_string);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let (method, answer) = match (message.get("method").and_then(Value::as_str), id) {
            (Some(method), id) => {
                id.map(|id| open.insert((to_agent, id), method.to_owned()));
                (method.to_owned(), false)
            }
            (None, Some(id)) => (open.remove(&(!to_agent, id)).unwrap_or_default(), true),
            (None, None) => return true,
        };
        let Some(rule) = &self.rule else { return true };
        if rule["to_agent"] != to_agent || rule["method"] != method.as_str() || rule["answer"] != answer {
            return true;
        }
        // Made by one of all proxies of this project, and only once.
        let Ok(mut note) = fs::File::create_new(self.dir.join("killed")) else { return true };
        let done = fs::read(self.dir.join("workspaces/DS-1/.git/did")).unwrap_or_default();
        note.write_all(&done).unwrap();
        let victim = [Victim::Agent, Victim::Daemon, Victim::Both]
            .into_iter()
            .find(|victim| rule["victim"] == format!("{victim:?}"))
            .unwrap();
        victim.kill(self.agent, self.daemon_pid());
        false
    }

    fn daemon_pid(&self) -> i32 {
        let told: Value = serde_json::from_slice(&fs::read(&self.daemon).unwrap()).unwrap();
        i32::try_from(told["pid"].as_i64().unwrap()).unwrap()
    }
}

/// A command of a Codex that was killed runs, and the next Codex starts.
fn note_what_runs(dir: &Path) {
    let Ok(pid) = fs::read_to_string(dir.join("command.pid")) else { return };
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    if line.starts_with(b"sleep") {
        fs::write(dir.join("overlap"), format!("{pid} runs")).unwrap();
    }
}

#[test]
#[ignore = "other tests start it between daemon and agent"]
fn passes_lines_and_kills_once() {
    let Some(file) = std::env::var_os(PLAN_VARIABLE) else { return };
    let plan: Value = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
    let path = |name: &str| PathBuf::from(plan[name].as_str().unwrap());
    note_what_runs(&path("dir"));
    fs::write(arrived(&path("dir")), json!(scene::prompts(&path("dir"))).to_string()).unwrap();
    let mut out = fs::File::options().write(true).open("/proc/self/fd/3").unwrap();
    // Codex must not have the daemon's pipe but through us.
    let mut codex = Command::new("sh")
        .args(["-c", "exec \"$0\" --disable plugins --enable default_mode_request_user_input app-server 3>&-"])
        .arg(path("codex"))
        .env_remove(PLAN_VARIABLE)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let agent = i32::try_from(codex.id()).unwrap();
    fs::write(path("dir").join("agent.pid"), agent.to_string()).unwrap();
    let rule = Some(plan["rule"].clone()).filter(Value::is_object);
    let plan = Arc::new(Plan { dir: path("dir"), daemon: path("daemon"), rule, agent, open: Mutex::default() });

    let mut input = codex.stdin.take().unwrap();
    let from_daemon = Arc::clone(&plan);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if from_daemon.passes(true, &line) && writeln!(input, "{line}").is_err() {
                break;
            }
        }
    });
    for line in BufReader::new(codex.stdout.take().unwrap()).lines().map_while(Result::ok) {
        if plan.passes(false, &line) && writeln!(out, "{line}").is_err() {
            break;
        }
    }
    let code = codex.wait().unwrap().code();
    std::process::exit(code.unwrap_or(137));
}
