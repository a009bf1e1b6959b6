//! A project in a directory of its own, and daemons over it.

use std::fs;
use std::io::Write as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use dalsegno_engine::{EventFilter, EventRow, Reads as _};
use dalsegno_store::{Store, StoreError};
use dalsegno_testkit::crash::{Kill, Ran};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::disks::Disk;

static COUNT: AtomicU32 = AtomicU32::new(0);
/// Longest wait for anything in these tests.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);

/// What webhooks are signed with in these tests.
pub(crate) const HOOK_SECRET: &str = "hook-secret-0123456789";

/// The program under test.
pub(crate) fn program() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_dalsegno"))
}

/// A project with its remote, its issues and its workspaces.
pub(crate) struct Project {
    pub(crate) dir: PathBuf,
    /// The state directory lies on it, if it has one of its own.
    pub(crate) disk: Option<Disk>,
    keep: bool,
}

impl Project {
    /// An empty project with a repository, a remote and no issues. `front` is WORKFLOW.md's front matter beyond
    /// tracker, workspace and agent kind; `agent` the agent's script.
    pub(crate) fn new(front: &str, agent: &str) -> Self {
        let number = COUNT.fetch_add(1, Ordering::SeqCst);
        let name = format!("project-{}-{number}", std::process::id());
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let _ = fs::remove_dir_all(&dir);
        let project = Self { dir, disk: None, keep: false };
        fs::create_dir_all(project.root()).unwrap();
        fs::create_dir_all(project.dir.join("issues")).unwrap();
        fs::create_dir_all(project.dir.join("home")).unwrap();
        fs::write(project.root().join(".gitignore"), ".dalsegno/\n").unwrap();
        fs::write(project.root().join("README"), "a project\n").unwrap();
        project.agent(agent);
        project.front(front);
        project.git(&project.root(), &["init", "-q", "-b", "main"]);
        project.git(&project.root(), &["add", "-A"]);
        project.git(&project.root(), &["commit", "-qm", "base"]);
        project.git(&project.dir, &["init", "-q", "--bare", "-b", "main", "remote.git"]);
        project.git(&project.remote(), &["config", "core.logAllRefUpdates", "true"]);
        project.git(&project.root(), &["remote", "add", "origin", "../remote.git"]);
        project.git(&project.root(), &["push", "-q", "origin", "main"]);
        project
    }

    /// Leaves the directory behind, to be looked at.
    #[allow(dead_code, reason = "for a person who looks into a failing test")]
    pub(crate) fn keep(mut self) -> Self {
        self.keep = true;
        self
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.dir.join("project")
    }

    pub(crate) fn remote(&self) -> PathBuf {
        self.dir.join("remote.git")
    }

    pub(crate) fn workflow(&self) -> PathBuf {
        self.root().join("WORKFLOW.md")
    }

    pub(crate) fn state_dir(&self) -> PathBuf {
        let place = self.root().join(".dalsegno");
        self.disk.as_ref().map_or(place.clone(), |disk| disk.copy(&place))
    }

    pub(crate) fn workspace(&self, identifier: &str) -> PathBuf {
        self.dir.join("workspaces").join(identifier)
    }

    pub(crate) fn issue_file(&self, identifier: &str) -> PathBuf {
        self.dir.join("issues").join(format!("{identifier}.md"))
    }

    /// Writes WORKFLOW.md.
    pub(crate) fn front(&self, front: &str) {
        let text = format!(
            "---\ntracker:\n  kind: local\n  provider: {{path: ../issues}}\n{}{front}\n---\nWork on {{{{ issue.identifier }}}}: {{{{ issue.title }}}}\n",
            if front.contains("\nworkspace:") || front.starts_with("workspace:") {
                ""
            } else {
                "workspace: {root: ../workspaces}\n"
            }
        );
        write_over(&self.workflow(), &text);
    }

    /// Writes the agent's script.
    pub(crate) fn agent(&self, script: &str) {
        write_over(&self.root().join("agent.yaml"), script);
    }

    /// Adds an issue; `front` is its front matter beyond the title.
    pub(crate) fn issue(&self, identifier: &str, front: &str) {
        let text = format!("---\ntitle: Issue {identifier}\n{front}\n---\nThe description of {identifier}.\n");
        write_over(&self.issue_file(identifier), &text);
    }

    /// Sets the state of an issue, as a person with an editor would.
    pub(crate) fn set_state(&self, identifier: &str, state: &str) {
        let file = self.issue_file(identifier);
        let text = fs::read_to_string(&file).unwrap();
        let lines: Vec<String> = text
            .lines()
            .map(|line| if line.starts_with("state:") { format!("state: {state}") } else { line.to_owned() })
            .collect();
        write_over(&file, &format!("{}\n", lines.join("\n")));
    }

    pub(crate) fn issue_text(&self, identifier: &str) -> String {
        fs::read_to_string(self.issue_file(identifier)).unwrap()
    }

    pub(crate) fn git(&self, dir: &Path, arguments: &[&str]) -> String {
        let output = self.git_raw(dir, arguments);
        assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    pub(crate) fn git_raw(&self, dir: &Path, arguments: &[&str]) -> Output {
        Command::new("git")
            .arg("-C")
            .arg(dir)
            .args(arguments)
            .env("HOME", self.dir.join("home"))
            .envs([
                ("GIT_AUTHOR_NAME", "T"),
                ("GIT_AUTHOR_EMAIL", "t@t"),
                ("GIT_COMMITTER_NAME", "T"),
                ("GIT_COMMITTER_EMAIL", "t@t"),
            ])
            .output()
            .unwrap()
    }

    /// The program with this project's home and current directory.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let command = match &self.disk {
            Some(disk) => disk.command(&program(), &self.root()),
            None => Command::new(program()),
        };
        self.dressed(command, arguments)
    }

    /// A command that comes to the program in another way, with the same around it.
    pub(crate) fn dressed(&self, mut command: Command, arguments: &[&str]) -> Command {
        command.args(arguments).current_dir(self.root()).env("HOME", self.dir.join("home")).stdin(Stdio::null());
        command.env_remove("DALSEGNO_LOG").env("NO_COLOR", "1");
        // For projects whose handoff goes to a forge.
        command.env("FORGE_TOKEN", dalsegno_testkit::forge::OURS.token);
        // For those that hear webhooks.
        command.env("HOOK_SECRET", HOOK_SECRET);
        command
    }

    /// Runs the program to its end.
    pub(crate) fn output(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Runs the program to its end and answers what it printed as JSON.
    pub(crate) fn json(&self, arguments: &[&str]) -> serde_json::Value {
        let output = self.output(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// A daemon that ends when nothing is left to do; its log goes to `daemon.log`.
    pub(crate) fn once(&self, environment: &[(&str, &str)]) -> Daemon {
        self.spawn(&["run", "--once", "--port", "0"], environment)
    }

    /// A daemon that goes on until it is asked to end.
    pub(crate) fn daemon(&self) -> Daemon {
        self.daemon_with(&[])
    }

    /// The same with this in its environment.
    pub(crate) fn daemon_with(&self, environment: &[(&str, &str)]) -> Daemon {
        self.spawn(&["run", "--port", "0"], environment)
    }

    /// The same, with its API on this port.
    pub(crate) fn daemon_at(&self, port: u16) -> Daemon {
        self.spawn(&["run", "--port", &port.to_string()], &[])
    }

    fn spawn(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Daemon {
        let log = self.log();
        let child = self
            .command(arguments)
            .envs(environment.iter().copied())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        Daemon { child, log: self.dir.join("daemon.log") }
    }

    /// The file that logs of daemons go to.
    pub(crate) fn log(&self) -> fs::File {
        fs::File::options().create(true).append(true).open(self.dir.join("daemon.log")).unwrap()
    }

    /// Runs a daemon to its end, or to its kill; for the crash harness.
    pub(crate) fn run_with_kill(&self, how: Kill) -> Ran {
        let at = match how {
            Kill::Never => u64::MAX.to_string(),
            Kill::At(point) => point.to_string(),
        };
        let counted = self.dir.join("points");
        let counted_text = counted.to_string_lossy().into_owned();
        let _ = fs::remove_file(&counted);
        let mut daemon = self.once(&[("DALSEGNO_CRASH_AT", &at), ("DALSEGNO_CRASH_COUNT", &counted_text)]);
        let status = daemon.wait();
        if status.signal() == Some(Signal::SIGKILL as i32) {
            return Ran::Killed;
        }
        assert!(status.success(), "the daemon ended with {status}; {}", daemon.log_tail());
        Ran::ToItsEnd { points: fs::read_to_string(counted).ok().and_then(|text| text.trim().parse().ok()) }
    }

    /// All events of the journal; none before a daemon made one.
    pub(crate) fn events(&self) -> Vec<EventRow> {
        let store = match Store::open_read_only(&self.state_dir()) {
            Ok(store) => store,
            Err(StoreError::Missing(_)) => return Vec::new(),
            Err(error) => panic!("{error}"),
        };
        let mut events = Vec::new();
        let mut after = 0;
        loop {
            let page = store.events(after, 500, &EventFilter::default()).unwrap();
            if page.events.is_empty() {
                return events;
            }
            after = page.through;
            events.extend(page.events);
        }
    }

    /// Status and reason of an issue, from the store.
    pub(crate) fn status(&self, identifier: &str) -> Option<(String, String)> {
        let store = Store::open_read_only(&self.state_dir()).ok()?;
        let view = store.issue(identifier).ok()??;
        Some((view.status.as_str().to_owned(), view.reason.unwrap_or_default()))
    }

    /// Waits until an issue has a status.
    pub(crate) fn wait_for(&self, identifier: &str, status: &str) {
        self.wait_until(&format!("{identifier} to be {status}"), || {
            self.status(identifier).is_some_and(|(now, _)| now == status)
        });
    }

    /// Waits until an event of this kind is in the journal.
    pub(crate) fn wait_for_event(&self, kind: &str) {
        self.wait_until(kind, || self.events().iter().any(|event| event.kind == kind));
    }

    /// Waits until something holds.
    pub(crate) fn wait_until(&self, what: &str, holds: impl Fn() -> bool) {
        let begun = Instant::now();
        while !holds() {
            let log = fs::read_to_string(self.dir.join("daemon.log")).unwrap_or_default();
            assert!(begun.elapsed() < PATIENCE, "waited in vain for {what}; log:\n{}", tail(&log));
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Processes that carry the mark of a run of this project's journal.
    pub(crate) fn strays(&self) -> Vec<String> {
        self.marked().into_iter().map(|(_, line)| line).collect()
    }

    /// The same with their pids.
    pub(crate) fn marked(&self) -> Vec<(i32, String)> {
        let store = Store::open_read_only(&self.state_dir()).unwrap();
        let needle = format!("DALSEGNO_RUN={}/", store.journal_id());
        let mut marked = Vec::new();
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            let environ = fs::read(entry.path().join("environ")).unwrap_or_default();
            if environ.split(|byte| *byte == 0).any(|pair| pair.starts_with(needle.as_bytes())) {
                let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
                marked.push((pid, String::from_utf8_lossy(&line).replace('\0', " ")));
            }
        }
        marked
    }
}

impl Drop for Project {
    fn drop(&mut self) {
        if !self.keep && !std::thread::panicking() {
            let _ = fs::remove_dir_all(&self.dir);
        }
    }
}

fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines.iter().skip(lines.len().saturating_sub(40)).copied().collect::<Vec<_>>().join("\n")
}

fn write_over(path: &Path, text: &str) {
    let temporary = path.with_extension("tmp~");
    let mut file = fs::File::create(&temporary).unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file.sync_all().unwrap();
    fs::rename(temporary, path).unwrap();
}

/// A daemon that is killed when the test ends.
pub(crate) struct Daemon {
    child: Child,
    log: PathBuf,
}

impl Daemon {
    /// A daemon over `project` that a test started itself, with other streams.
    pub(crate) fn of(child: Child, project: &Project) -> Self {
        Self { child, log: project.dir.join("daemon.log") }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), signal).unwrap();
    }

    pub(crate) fn is_alive(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        self.child.wait().unwrap();
    }

    /// Waits for its end.
    pub(crate) fn wait(&mut self) -> std::process::ExitStatus {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            if begun.elapsed() > PATIENCE {
                let tail = self.log_tail();
                self.kill();
                panic!("the daemon does not end; log:\n{tail}");
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Asks it to end, and waits.
    pub(crate) fn stop(&mut self) {
        self.signal(Signal::SIGTERM);
        let status = self.wait();
        assert!(status.success(), "{status}; {}", self.log_tail());
    }

    pub(crate) fn log_tail(&self) -> String {
        tail(&fs::read_to_string(&self.log).unwrap_or_default())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
