//! `init` and `doctor`: from an empty directory to a project that runs, and what is wrong with one that does not.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::project::{Project, program};

/// A directory with a home, and a PATH of its own: the programs of the system that are needed, and those of a test.
struct Machine {
    dir: tempfile::TempDir,
}

impl Machine {
    fn new() -> Self {
        let machine = Self { dir: tempfile::tempdir().unwrap() };
        for name in ["home", "bin", "project"] {
            fs::create_dir(machine.dir.path().join(name)).unwrap();
        }
        for name in ["git", "sh", "bash", "true", "sleep", "cat"] {
            let found = std::env::split_paths(&std::env::var_os("PATH").unwrap())
                .map(|dir| dir.join(name))
                .find(|path| path.is_file())
                .unwrap();
            std::os::unix::fs::symlink(found, machine.dir.path().join("bin").join(name)).unwrap();
        }
        machine
    }

    fn project(&self) -> PathBuf {
        self.dir.path().join("project")
    }

    fn command(&self, program: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.current_dir(self.project()).env_clear().args(arguments);
        command.env("HOME", self.dir.path().join("home")).env("PATH", self.dir.path().join("bin"));
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(&program(), arguments).output().unwrap()
    }

    fn git(&self, arguments: &[&str]) {
        let identity = ["-c", "user.name=A", "-c", "user.email=a@b.c"];
        let done = self.command(Path::new("git"), &[&identity[..], arguments].concat()).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }

    /// An agent program that answers its version.
    fn install(&self, name: &str, script: &str) {
        let path = self.dir.path().join("bin").join(name);
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn workflow(&self) -> String {
        fs::read_to_string(self.project().join("WORKFLOW.md")).unwrap()
    }

    fn findings(&self, arguments: &[&str]) -> (Option<i32>, Vec<serde_json::Value>) {
        let said = self.run(&[&["doctor", "--json", "--offline"], arguments].concat());
        findings(&said)
    }
}

fn findings(said: &Output) -> (Option<i32>, Vec<serde_json::Value>) {
    let value: serde_json::Value = serde_json::from_slice(&said.stdout).unwrap();
    (said.status.code(), value["findings"].as_array().unwrap().clone())
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn of<'a>(findings: &'a [serde_json::Value], check: &str) -> Vec<&'a serde_json::Value> {
    findings.iter().filter(|finding| finding["check"] == check).collect()
}

#[test]
fn from_an_empty_directory_to_a_daemon_that_runs() {
    let machine = Machine::new();
    let (code, found) = machine.findings(&[]);
    assert_eq!(code, Some(1));
    assert_eq!(of(&found, "workflow")[0]["remedy"], "dalsegno init");

    let said = machine.run(&["init"]);
    assert!(said.status.success(), "{}", text(&said));
    assert!(text(&said).contains("no agent is on PATH"), "{}", text(&said));
    let said = machine.run(&["run", "--once", "--port", "0"]);
    assert!(said.status.success(), "{}", text(&said));
    let said = machine.run(&["init"]);
    assert_eq!(said.status.code(), Some(1));
    assert!(text(&said).contains("error[workflow_exists]"), "nothing is overwritten: {}", text(&said));
}

#[test]
fn init_writes_what_it_finds() {
    let machine = Machine::new();
    machine.git(&["init", "-q", "-b", "main", "."]);
    machine.git(&["remote", "add", "upstream", "../elsewhere.git"]);
    fs::write(machine.project().join("Cargo.toml"), "").unwrap();
    fs::write(machine.project().join(".gitignore"), "target").unwrap();
    machine.install("opencode", "echo 1.2.3");
    let before = machine.run(&["init", "--print"]);
    assert!(!machine.project().join("WORKFLOW.md").exists(), "--print writes nothing");
    let said = machine.run(&["init"]);
    assert!(said.status.success(), "{}", text(&said));
    let workflow = machine.workflow();
    assert_eq!(String::from_utf8_lossy(&before.stdout), workflow);
    for line in ["kind: acp", "command: \"opencode acp\"", "remote: \"upstream\"", "checks: [\"cargo test\"]"] {
        assert!(workflow.contains(line), "{line} is not in\n{workflow}");
    }
    assert!(!machine.project().join("agent.yaml").exists());
    assert_eq!(fs::read_to_string(machine.project().join(".gitignore")).unwrap(), "target\n.dalsegno/\n");
    let said = machine.run(&["validate"]);
    assert!(said.status.success(), "{}", text(&said));
}

#[test]
fn doctor_names_what_is_missing_and_what_to_do() {
    let machine = Machine::new();
    let write = |front: &str| fs::write(machine.project().join("WORKFLOW.md"), format!("---\n{front}\n---\n")).unwrap();

    write("tracker: {kind: local}\nagent: {kind: acp, command: my-agent --acp, max_turn: 3}");
    let (code, found) = machine.findings(&[]);
    assert_eq!(code, Some(6), "{found:#?}");
    assert!(of(&found, "agent")[0]["finding"].as_str().unwrap().contains("my-agent"));
    let unknown = of(&found, "workflow")[1];
    assert_eq!((&unknown["severity"], &unknown["remedy"]), (&"warning".into(), &"write `agent.max_turns`".into()));
    assert_eq!(of(&found, "tracker")[0]["severity"], "warning", "there is no folder of issues");

    machine.install("my-agent", "echo my-agent 7.1");
    let (_, found) = machine.findings(&[]);
    assert!(of(&found, "agent")[0]["finding"].as_str().unwrap().ends_with("is my-agent 7.1"), "{found:#?}");
    machine.install("my-agent", "echo dead >&2; exit 4");
    let (_, found) = machine.findings(&[]);
    assert_eq!(of(&found, "agent")[0]["severity"], "warning");

    write("tracker: {kind: local}\nagent: {kind: scripted, script: gone.yaml}\nhandoff: {}");
    let (code, found) = machine.findings(&[]);
    assert_eq!(code, Some(1));
    assert_eq!(of(&found, "agent")[0]["severity"], "error");
    assert!(of(&found, "workspace")[0]["finding"].as_str().unwrap().starts_with("repo_not_found"), "{found:#?}");

    write("tracker: [");
    let (code, found) = machine.findings(&[]);
    assert_eq!(code, Some(1));
    assert!(of(&found, "workflow")[0]["finding"].as_str().unwrap().starts_with("workflow_parse_error"));
}

#[test]
fn doctor_looks_at_credentials_without_printing_them() {
    let machine = Machine::new();
    machine.install("gemini", "echo 9");
    let front = "---\ntracker: {kind: local}\nagent: {kind: acp, command: gemini --acp}\n---\n";
    fs::write(machine.project().join("WORKFLOW.md"), front).unwrap();
    let (_, found) = machine.findings(&[]);
    assert_eq!(of(&found, "credentials")[0]["severity"], "warning");
    let said = machine
        .command(&program(), &["doctor", "--json", "--offline"])
        .env("GEMINI_API_KEY", "very-secret-value")
        .output()
        .unwrap();
    assert!(!text(&said).contains("very-secret-value"));
    assert_eq!(of(&findings(&said).1, "credentials")[0]["severity"], "ok");
}

#[test]
fn doctor_and_validate_miss_the_secrets_that_a_start_would_miss() {
    let machine = Machine::new();
    let write = |front: &str| fs::write(machine.project().join("WORKFLOW.md"), format!("---\n{front}\n---\n")).unwrap();
    let agent = "agent: {kind: scripted, script: agent.yaml}\nworkspace: {strategy: empty}";
    fs::write(machine.project().join("agent.yaml"), "default: []\n").unwrap();
    fs::create_dir(machine.project().join("issues")).unwrap();
    for (check, code, front) in [
        ("webhooks", "missing_webhook_secret", "tracker: {kind: local, webhooks: {linear: {secret: $SOME_SECRET}}}"),
        ("notify", "missing_notify_secret", "tracker: {kind: local}\nnotify: [{webhook: $SOME_SECRET}]"),
    ] {
        write(&format!("{front}\n{agent}"));
        let (exit, found) = machine.findings(&[]);
        let finding = of(&found, check)[0];
        assert_eq!((exit, &finding["severity"]), (Some(1), &"error".into()), "{found:#?}");
        let words = finding["finding"].as_str().unwrap();
        assert!(words.starts_with(code) && words.contains("SOME_SECRET"), "{words}");
        assert!(finding["remedy"].as_str().unwrap().contains("SOME_SECRET"), "{finding}");
        let refused = machine.run(&["validate"]);
        assert!(!refused.status.success() && text(&refused).contains(&format!("error[{code}]")), "{}", text(&refused));
        let set = |arguments: &[&str]| {
            let mut command = machine.command(&program(), arguments);
            command.env("SOME_SECRET", "https://very-secret.example/").output().unwrap()
        };
        let (doctor, validated) = (set(&["doctor", "--json", "--offline"]), set(&["validate"]));
        assert_eq!(of(&findings(&doctor).1, check)[0]["severity"], "ok", "{}", text(&doctor));
        assert!(validated.status.success(), "{}", text(&validated));
        assert!(!text(&doctor).contains("very-secret") && !text(&validated).contains("very-secret"));
    }
}

#[test]
fn doctor_sees_a_running_daemon_and_a_remote_that_is_gone() {
    let project = Project::new("agent: {kind: scripted, script: agent.yaml}\nhandoff: {}", "default: []\n");
    let daemon = project.daemon();
    project.wait_until("the daemon serves", || project.state_dir().join("daemon.json").exists());
    let (_, found) = findings(&project.output(&["doctor", "--json"]));
    let running = of(&found, "daemon")[0]["finding"].as_str().unwrap();
    assert!(running.contains(&daemon.pid().to_string()), "{running}");
    assert_eq!(of(&found, "remote")[0]["severity"], "ok", "{found:#?}");
    assert_eq!(of(&found, "recovery")[0]["finding"], "everything is in line", "{found:#?}");
    drop(daemon);
    fs::rename(project.remote(), project.dir.join("moved.git")).unwrap();
    let (code, found) = findings(&project.output(&["doctor", "--json"]));
    assert_eq!((code, &of(&found, "remote")[0]["severity"]), (Some(1), &"error".into()), "{found:#?}");
    let (_, found) = findings(&project.output(&["doctor", "--json", "--offline"]));
    assert_eq!(of(&found, "remote")[0]["severity"], "note");
}

#[test]
fn what_needs_no_decision_is_mended_and_said() {
    let project = Project::new("agent: {kind: scripted, script: agent.yaml}\nhandoff: {}", "default: []\n");
    let state = project.state_dir();
    let mut daemon = project.daemon();
    project.wait_until("the daemon serves", || state.join("daemon.json").exists());
    daemon.kill();
    fs::set_permissions(&state, fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(state.join("dalsegno.db"), fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(state.join("daemon.json"), r#"{"pid":1,"url":"http://127.0.0.1:1","started_at":"x","version":"0"}"#)
        .unwrap();
    let (_, found) = findings(&project.output(&["doctor", "--json", "--offline"]));
    assert_eq!(of(&found, "state").iter().filter(|finding| finding["severity"] == "warning").count(), 2, "{found:#?}");
    assert!(of(&found, "mended").is_empty(), "nothing is changed that nobody asked for");

    let (_, found) = findings(&project.output(&["doctor", "--json", "--offline", "--fix"]));
    let mended: Vec<&str> = of(&found, "mended").iter().map(|finding| finding["finding"].as_str().unwrap()).collect();
    assert_eq!(mended.len(), 3, "{mended:#?}");
    assert!(of(&found, "state").iter().all(|finding| finding["severity"] == "ok"), "{found:#?}");
    assert!(!state.join("daemon.json").exists());
    let (_, found) = findings(&project.output(&["doctor", "--json", "--offline", "--fix"]));
    assert!(of(&found, "mended").is_empty(), "once is enough: {found:#?}");
}
