//! `dalsegno tui` in a real terminal (tmux), over a real daemon.

use std::process::{Command, Stdio};

use dalsegno_testkit::parts;
use nix::sys::signal::Signal;

use crate::project::{Project, program};

/// A terminal of its own, ended when dropped.
pub(crate) struct Terminal<'a> {
    tmux: std::path::PathBuf,
    /// Of the socket: the path of one has a hundred letters at most, and that of a project may have more.
    _place: tempfile::TempDir,
    socket: String,
    project: &'a Project,
}

impl<'a> Terminal<'a> {
    /// With `dalsegno tui` in it. `None`: there is no tmux here.
    pub(crate) fn start(project: &'a Project) -> Option<Self> {
        let tmux = parts::tmux()?.program;
        let place = tempfile::tempdir_in("/tmp").unwrap();
        let socket = place.path().join("tmux").display().to_string();
        let terminal = Self { tmux, _place: place, socket, project };
        let line =
            format!("'{}' --dir '{}' tui; echo left with $?; cat", program().display(), project.root().display());
        terminal.tmux(&["new-session", "-d", "-x", "100", "-y", "24", "sh", "-c", &line]);
        Some(terminal)
    }

    fn tmux(&self, arguments: &[&str]) -> String {
        let mut command = Command::new(&self.tmux);
        command.args(["-f", "/dev/null", "-S", &self.socket]).args(arguments).stdin(Stdio::null());
        command.env("HOME", self.project.dir.join("home")).env("LC_ALL", "C.UTF-8").env("TERM", "xterm-256color");
        let done = command.output().unwrap();
        assert!(done.status.success(), "tmux {arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8_lossy(&done.stdout).into_owned()
    }

    pub(crate) fn press(&self, keys: &[&str]) {
        self.tmux(&[&["send-keys"], keys].concat());
    }

    pub(crate) fn screen(&self) -> String {
        self.tmux(&["capture-pane", "-p"])
    }

    /// Opens the actions, and chooses this one.
    pub(crate) fn choose(&self, kind: &str) {
        self.press(&["a"]);
        self.shows("Enter: choose");
        let screen = self.screen();
        let words = screen.lines().filter_map(|line| line.split(['│', '|']).nth(1));
        let kinds: Vec<&str> = words.map(|kind| kind.trim_start_matches(['>', ' ']).trim()).collect();
        let at = kinds.iter().position(|known| *known == kind).unwrap_or_else(|| panic!("no {kind} in {kinds:?}"));
        self.press(&vec!["Down"; at]);
        self.shows(&format!("> {kind}"));
        self.press(&["Enter"]);
    }

    pub(crate) fn shows(&self, words: &str) {
        let seen = std::cell::RefCell::new(String::new());
        self.project.wait_until(&format!("{words:?} in the terminal"), || {
            let screen = self.screen();
            let there = screen.contains(words);
            seen.replace(screen);
            there
        });
    }
}

impl Drop for Terminal<'_> {
    fn drop(&mut self) {
        let _ = Command::new(&self.tmux).args(["-S", &self.socket, "kill-server"]).output();
    }
}

const FRONT: &str = "polling: {interval_ms: 200}
agent: {kind: scripted, script: agent.yaml}
handoff: {state: Human Review}
";
/// A turn that hangs, then one that does the work.
const AGENT: &str = r#"
default:
  - [ {say: "I look around"}, {sh: "sleep 300"} ]
  - [ {sh: "echo work > work.txt && git add -A && git commit -qm work"} ]
"#;

#[test]
fn an_issue_is_watched_paused_and_resumed_in_a_terminal_also_over_a_sigkill_of_the_daemon() {
    let project = Project::new(FRONT, AGENT);
    project.issue("DS-1", "state: Todo");
    let mut daemon = project.daemon();
    let Some(terminal) = Terminal::start(&project) else { return };
    terminal.shows(">▶ DS-1  running");
    terminal.press(&["Enter"]);
    terminal.shows("run-1 · prompting");
    terminal.press(&["t"]);
    terminal.shows("I look around");
    terminal.press(&["Escape"]);

    // Actions are those that the issue would take; `pause` is among them.
    terminal.choose("pause");
    terminal.shows("pause DS-1: done");
    project.wait_for("DS-1", "paused");
    terminal.shows("‖ paused");

    daemon.kill();
    terminal.shows("NO DAEMON");
    let mut daemon = project.daemon();
    terminal.shows("1 paused");
    terminal.choose("resume");
    project.wait_for("DS-1", "handed_off");
    terminal.shows("✓ handed_off");
    let resumed = project.events().iter().filter(|row| row.kind == "action_completed").count();
    assert_eq!(resumed, 2, "each action once");

    terminal.press(&["q"]);
    terminal.shows("left with 0");
    daemon.stop();
}

#[test]
fn a_signal_gives_the_terminal_back_and_no_terminal_is_told() {
    let project = Project::new(FRONT, AGENT);
    let said = project.output(&["tui"]);
    assert!(!said.status.success());
    assert!(String::from_utf8_lossy(&said.stderr).contains("no_terminal"), "{said:?}");
    let Some(terminal) = Terminal::start(&project) else { return };
    terminal.shows("NO DAEMON");
    let pid = terminal.tmux(&["list-panes", "-F", "#{pane_pid}"]).trim().to_owned();
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    let tui = children.split_whitespace().next().unwrap().parse().unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(tui), Signal::SIGTERM).unwrap();
    terminal.shows("left with 0");
}

#[test]
fn it_ends_with_its_terminal() {
    let project = Project::new(FRONT, AGENT);
    let Some(terminal) = Terminal::start(&project) else { return };
    terminal.shows("NO DAEMON");
    let pid = terminal.tmux(&["list-panes", "-F", "#{pane_pid}"]).trim().to_owned();
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    let tui: i32 = children.split_whitespace().next().unwrap().parse().unwrap();
    drop(terminal);
    project.wait_until("it is gone", || nix::sys::signal::kill(nix::unistd::Pid::from_raw(tui), None).is_err());
}
