//! `dalsegno init`

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use dalsegno_adapters::process::probe as probe_sandbox;
use dalsegno_adapters::workflow::WorkflowFile;
use serde_json::json;

use crate::cli::Common;
use crate::error::CliError;
use crate::survey::{self, AGENTS, KnownAgent, TRACKER_CREDENTIALS};
use crate::text::clean;
use crate::{out, settings};

/// Write a WORKFLOW.md that runs, from what is found here: agents, remote, tests, tracker
///
/// Nothing that exists is overwritten.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Args {
    /// Print the file instead of writing it
    #[arg(long)]
    print: bool,
}

/// What was found, and so what the file says.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Plan {
    agent: Option<KnownAgent>,
    sandbox: bool,
    /// The project is in a git repository.
    repository: bool,
    /// Remote to push to.
    remote: Option<String>,
    checks: Vec<String>,
    notes: Vec<String>,
}

pub(crate) fn run(args: Args, common: &Common) -> Result<(), CliError> {
    let path = settings::workflow_file(None, common)?;
    let project = path.parent().unwrap_or(Path::new("/")).to_owned();
    if !args.print && path.symlink_metadata().is_ok() {
        return Err(CliError::new("workflow_exists", format!("{} is there already", path.display()))
            .hint("`dalsegno validate` checks it; `dalsegno init --print` shows what would be written"));
    }
    let runtime = super::runtime()?;
    let plan = runtime.block_on(look(&project));
    let text = plan.workflow();
    if args.print {
        out::text(&text);
        return Ok(());
    }
    let mut written = vec![path.clone()];
    if plan.agent.is_none() {
        let script = project.join(SCRIPT);
        write_new(&script, SCRIPT_TEXT)?;
        written.push(script);
    }
    write_new(&path, &text)?;
    let issues = project.join("issues");
    fs::create_dir_all(&issues).map_err(|error| CliError::unwritable("file_unwritable", &issues, &error))?;
    if let Some(ignored) = ignore_state(&project, plan.repository)? {
        written.push(ignored);
    }
    // What was written is read as a start would read it.
    WorkflowFile::new(&path).load_full()?;
    report(&plan, &written, common.json);
    Ok(())
}

async fn look(project: &Path) -> Plan {
    let mut notes = Vec::new();
    let agent = AGENTS.into_iter().find(|agent| survey::on_path(agent.program).is_some());
    match agent {
        Some(agent) => notes.push(format!("{} is on PATH and does the work", agent.name)),
        None => notes.push(format!(
            "no agent is on PATH ({} are known): {SCRIPT} stands in for one until you set agent.kind",
            AGENTS.map(|agent| agent.program).join(", ")
        )),
    }
    let repository = survey::git(project, &["rev-parse", "--show-toplevel"]).await.ok;
    let remotes = survey::git(project, &["remote"]).await;
    let remotes: Vec<&str> = if remotes.ok { remotes.text.lines().collect() } else { Vec::new() };
    let remote =
        remotes.iter().find(|name| **name == "origin").or_else(|| remotes.first()).map(|name| (*name).to_owned());
    match (repository, &remote) {
        (true, Some(remote)) => notes.push(format!("branches are handed over to the remote {remote}")),
        (true, None) => notes.push("there is no remote: branches are handed over to this repository itself".to_owned()),
        (false, _) => {
            notes.push("this is no git repository: issues get empty directories, and nothing is handed over".to_owned())
        }
    }
    let checks = if repository { survey::checks(project) } else { Vec::new() };
    if repository {
        notes.push(match checks.first() {
            Some(check) => format!("`{check}` must pass before a branch is handed over"),
            None => "no tests were recognised: set handoff.checks, or the evidence will be \"no evidence\"".to_owned(),
        });
    }
    let names: Vec<&str> = TRACKER_CREDENTIALS.iter().map(|(name, _)| *name).collect();
    for name in survey::set_variables(&names) {
        let tracker = TRACKER_CREDENTIALS.iter().find(|(known, _)| *known == name).map_or("", |(_, tracker)| tracker);
        notes.push(format!("{name} is set, but this version has no tracker {tracker}: issues are files in issues/"));
    }
    let sandbox = match probe_sandbox().await.verdict() {
        Ok(()) => {
            notes.push("bubblewrap works here and contains agents and checks".to_owned());
            true
        }
        Err(failure) => {
            let remedy = survey::to_contain(failure.hint.as_deref().unwrap_or_default());
            notes.push(format!("agents are not contained: {}; {remedy}", failure.message));
            false
        }
    };
    Plan { agent, sandbox, repository, remote, checks, notes }
}

/// The script of the stand-in for an agent.
const SCRIPT: &str = "agent.yaml";
const SCRIPT_TEXT: &str =
    "# A scripted agent: what it does, turn by turn. It stands in until agent.kind in WORKFLOW.md names a real one.
default:
  - [ {say: \"There is no agent yet: set agent.kind in WORKFLOW.md.\"} ]
";

impl Plan {
    fn workflow(&self) -> String {
        let quoted = |text: &str| json!(text).to_string();
        let mut text =
            String::from("---\ntracker:\n  kind: local            # one Markdown file per issue in issues/\n");
        text += "agent:\n";
        match self.agent {
            Some(agent) => {
                text += &format!("  kind: {}\n", agent.kind);
                if let Some(command) = agent.command {
                    text += &format!("  command: {}\n", quoted(command));
                }
            }
            None => text += &format!("  kind: scripted\n  script: {SCRIPT}\n"),
        }
        if self.sandbox {
            text += "  sandbox: bubblewrap      # the workspace is writable, the rest is not\n";
        }
        text += "  max_concurrent_agents: 2\n  max_turns: 10\n";
        if self.repository {
            text += "handoff:\n";
            if let Some(remote) = &self.remote {
                text += &format!("  remote: {}\n", quoted(remote));
            }
            let checks: Vec<String> = self.checks.iter().map(|check| quoted(check)).collect();
            text += &format!("  checks: [{}]\n", checks.join(", "));
            text += "  claim_state: In Progress\n  state: Human Review\n";
        }
        text += "budget:\n  issue: { runs: 5, tokens: 5000000, wall_clock: 4h }\n";
        text += "---\nYou are working on {{ issue.identifier }}: {{ issue.title }}\n\n{{ issue.description }}\n\n";
        text += match self.repository {
            true => {
                "Work in the current directory, which is a clone of the repository on a branch of its own.\nRun the tests, commit your work, and do not push: that is done for you when the checks pass.\n"
            }
            false => "Work in the current directory.\n",
        };
        text += "{% if attempt %}\nThis is attempt {{ attempt }}: look at what is there already before you begin.\n{% endif %}";
        text
    }
}

/// Writes a file that must not be there yet.
fn write_new(path: &Path, text: &str) -> Result<(), CliError> {
    let written = OpenOptions::new().write(true).create_new(true).open(path).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.sync_all()
    });
    written.map_err(|error| {
        if error.kind() == std::io::ErrorKind::AlreadyExists {
            CliError::new("workflow_exists", format!("{} is there already", path.display()))
                .hint("move it away, or write WORKFLOW.md by hand: `dalsegno init --print` shows one")
        } else {
            CliError::unwritable("file_unwritable", path, &error)
        }
    })
}

/// Keeps the state directory out of the repository. Answers the file if it had to be changed.
fn ignore_state(project: &Path, repository: bool) -> Result<Option<PathBuf>, CliError> {
    let path = project.join(".gitignore");
    let known = fs::read_to_string(&path).unwrap_or_default();
    let listed =
        known.lines().any(|line| matches!(line.trim(), ".dalsegno" | ".dalsegno/" | "/.dalsegno" | "/.dalsegno/"));
    if !repository || listed {
        return Ok(None);
    }
    let gap = if known.is_empty() || known.ends_with('\n') { "" } else { "\n" };
    let appended = OpenOptions::new()
        .create(true)
        .append(true)
        .open(&path)
        .and_then(|mut file| file.write_all(format!("{gap}.dalsegno/\n").as_bytes()));
    appended.map_err(|error| CliError::unwritable("file_unwritable", &path, &error))?;
    Ok(Some(path))
}

fn report(plan: &Plan, written: &[PathBuf], as_json: bool) {
    if as_json {
        let agent = plan.agent.map(|agent| agent.name);
        out::json(&json!({
            "written": written, "agent": agent, "remote": plan.remote, "checks": plan.checks, "notes": plan.notes,
        }));
        return;
    }
    for path in written {
        out::line(&format!("wrote {}", path.display()));
    }
    for note in &plan.notes {
        out::line(&format!("  - {}", clean(note)));
    }
    out::line("Next:");
    for (verb, what) in [
        ("dalsegno doctor", "is everything there that is needed?"),
        ("dalsegno issue new \"…\"", "write the first issue"),
        ("dalsegno run", "let it be done"),
    ] {
        out::line(&format!("  {verb:<26} {what}"));
    }
}
