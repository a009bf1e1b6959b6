//! `openapi`: a real daemon, asked by Schemathesis whatever the description of the API allows, and much that it does not.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::parts;
use crate::shell::{Done, TempDir, cargo, output, root, run, run_within, say};

/// The description, in the checkout.
const DOCUMENT: &str = "docs/openapi.json";
/// A stream never ends, so nothing can be said of its end.
const ENDLESS: &str = "/api/v1/events/stream";
/// What every answer is held against. Not whether all that fits the description is accepted: no description says what a cursor is.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,\
                      response_schema_conformance,negative_data_rejection,unsupported_method,allow_header_conformance,ignored_auth";
/// Longest wait for the daemon to work through its issues.
const START_LIMIT: Duration = Duration::from_secs(60);
/// Longest wait for all questions.
const ASK_LIMIT: Duration = Duration::from_secs(1_800);

const WORKFLOW: &str = "---\ntracker: {kind: local}\npolling: {interval_ms: 1000}\nagent: {kind: scripted, script: agent.yaml}\nhandoff: {}\n---\nWork.\n";
const AGENT: &str = "default:\n  - [ {sh: \"echo work > work.txt && git add -A && git commit -qm work\"} ]\n";

/// Ask a real daemon what docs/openapi.json describes, with made-up data, and hold its answers against it.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Seed of the questions: the same seed asks the same.
    #[arg(long, default_value_t = 7)]
    seed: u64,
    /// Questions for each route and method, at most.
    #[arg(long, default_value_t = 100)]
    examples: u32,
}

pub(crate) fn run_verb(arguments: &Arguments) -> Done {
    let tester = parts::schemathesis()?;
    run(&mut cargo(&["build", "--quiet", "-p", "dalsegno"]))?;
    let program = root().join("target/debug/dalsegno");
    let folder = TempDir::new("openapi")?;
    let project = folder.path().join("project");
    make_project(&project)?;
    let token = made_token(&program, &project)?;
    let mut daemon = Daemon::start(&program, &project)?;
    let url = daemon.url(&project)?;
    // There it is not shown, as an argument would be.
    let config = folder.path().join("schemathesis.toml");
    fs::write(&config, format!("headers = {{ Authorization = \"Bearer {token}\" }}\n"))
        .map_err(|error| format!("{} cannot be written: {error}", config.display()))?;
    let mut command = Command::new(tester);
    command
        .arg("run")
        .arg(root().join(DOCUMENT))
        .args(["--url", &url, "--checks", CHECKS, "--exclude-path", ENDLESS, "--phases", "examples,coverage,fuzzing"])
        .args(["--seed", &arguments.seed.to_string(), "--max-examples", &arguments.examples.to_string()])
        .args(["--continue-on-failure", "--no-color", "--request-timeout", "60"])
        .current_dir(folder.path())
        .stdin(Stdio::null());
    say(format_args!("schemathesis asks {url}, with the seed {}", arguments.seed));
    let asked = run_within(&mut command, ASK_LIMIT);
    if let Some(status) = daemon.0.try_wait().map_err(|error| format!("the daemon cannot be looked at: {error}"))? {
        return Err(format!("the daemon ended while it was asked: {status}"));
    }
    asked
}

/// A project with a repository and two issues.
fn make_project(project: &Path) -> Done {
    fs::create_dir_all(project.join("issues"))
        .map_err(|error| format!("{} cannot be made: {error}", project.display()))?;
    let issue = |number: u32| {
        (format!("issues/DS-{number}.md"), format!("---\ntitle: Issue {number}\nstate: Todo\n---\nWork.\n"))
    };
    let files = [
        ("WORKFLOW.md".to_owned(), WORKFLOW.to_owned()),
        ("agent.yaml".to_owned(), AGENT.to_owned()),
        issue(1),
        issue(2),
    ];
    for (name, text) in files {
        fs::write(project.join(&name), text).map_err(|error| format!("{name} cannot be written: {error}"))?;
    }
    let identity = ["-c", "user.name=xtask", "-c", "user.email=xtask@localhost"];
    for arguments in [&["init", "-q", "-b", "main"] as &[&str], &["commit", "-q", "--allow-empty", "-m", "start"]] {
        output(Command::new("git").args(identity).args(arguments).current_dir(project))?;
    }
    Ok(())
}

/// A token that may everything.
fn made_token(program: &Path, project: &Path) -> Result<String, String> {
    let mut command = Command::new(program);
    command.args(["token", "new", "schemathesis", "--role", "admin"]).current_dir(project).stdin(Stdio::null());
    let said = output(&mut command)?;
    let word = said.split_whitespace().find(|word| word.len() >= 32);
    word.map(str::to_owned).ok_or_else(|| "`dalsegno token new` printed no token".to_owned())
}

/// A running daemon; it ends with this.
struct Daemon(Child);

impl Daemon {
    fn start(program: &Path, project: &Path) -> Result<Self, String> {
        let log = project.join("daemon.log");
        let file = fs::File::create(&log).map_err(|error| format!("{} cannot be made: {error}", log.display()))?;
        let mut command = Command::new(program);
        command
            .args(["run", "--port", "0"])
            .current_dir(project)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(file);
        let child = command.spawn().map_err(|error| format!("the daemon cannot be started: {error}"))?;
        Ok(Self(child))
    }

    /// Where it listens, as soon as an issue was handed over: then there is a run, a transcript and a change to ask for.
    fn url(&mut self, project: &Path) -> Result<String, String> {
        let begun = Instant::now();
        let (log, about): (PathBuf, PathBuf) = (project.join("daemon.log"), project.join(".dalsegno/daemon.json"));
        while begun.elapsed() < START_LIMIT {
            let said = fs::read_to_string(&log).unwrap_or_default();
            if let Ok(Some(status)) = self.0.try_wait() {
                return Err(format!("the daemon ended at its start ({status}):\n{said}"));
            }
            let about: serde_json::Value =
                fs::read_to_string(&about).ok().and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
            match about["url"].as_str() {
                Some(url) if said.contains("HANDED OFF") => return Ok(url.to_owned()),
                Some(_) | None => std::thread::sleep(Duration::from_millis(100)),
            }
        }
        Err(format!("no issue was handed over within {} s", START_LIMIT.as_secs()))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended by itself, and its folder goes with it.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
