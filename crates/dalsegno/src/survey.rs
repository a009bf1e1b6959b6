//! What is on this machine and in this repository: agents, git, credentials, checks. Looked at by `init` and `doctor`;
//! nothing is changed, and no secret is read beyond the question whether it is there.

use std::path::{Path, PathBuf};
use std::time::Duration;

use dalsegno_adapters::process::{Surroundings, command, run_bounded};
use tokio_util::sync::CancellationToken;

/// Longest wait for a program that is asked for its version.
const VERSION_LIMIT: Duration = Duration::from_secs(10);
/// Longest wait for a remote that is asked for its branches.
const REMOTE_LIMIT: Duration = Duration::from_secs(15);
/// Bytes of a program's answer that are looked at.
const ANSWER_BYTES: usize = 8 * 1024;

/// An agent program that is known, and how WORKFLOW.md names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct KnownAgent {
    /// What people call it.
    pub(crate) name: &'static str,
    /// The program on PATH.
    pub(crate) program: &'static str,
    /// `agent.kind`.
    pub(crate) kind: &'static str,
    /// `agent.command`, where the kind has no default.
    pub(crate) command: Option<&'static str>,
    /// Variables of which one holds its credentials; empty: it keeps them itself.
    pub(crate) credentials: &'static [&'static str],
    /// File below the home directory that holds its login.
    pub(crate) login: Option<&'static str>,
}

/// Agents, the best supported first.
pub(crate) const AGENTS: [KnownAgent; 7] = [
    KnownAgent {
        name: "Codex",
        program: "codex",
        kind: "codex",
        command: None,
        credentials: &["OPENAI_API_KEY", "CODEX_API_KEY"],
        login: Some(".codex/auth.json"),
    },
    KnownAgent {
        name: "OpenCode",
        program: "opencode",
        kind: "acp",
        command: Some("opencode acp"),
        credentials: &[],
        login: None,
    },
    KnownAgent {
        name: "Claude Code by its ACP adapter",
        program: "claude-agent-acp",
        kind: "acp",
        command: Some("claude-agent-acp"),
        credentials: &["ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"],
        login: Some(".claude/.credentials.json"),
    },
    KnownAgent {
        name: "Gemini CLI",
        program: "gemini",
        kind: "acp",
        command: Some("gemini --acp"),
        credentials: &["GEMINI_API_KEY", "GOOGLE_API_KEY"],
        login: Some(".gemini/oauth_creds.json"),
    },
    KnownAgent {
        name: "Qwen Code",
        program: "qwen",
        kind: "acp",
        command: Some("qwen --acp"),
        credentials: &[],
        login: None,
    },
    KnownAgent {
        name: "goose",
        program: "goose",
        kind: "acp",
        command: Some("goose acp"),
        credentials: &[],
        login: None,
    },
    KnownAgent {
        name: "Copilot CLI",
        program: "copilot",
        kind: "acp",
        command: Some("copilot --acp --stdio"),
        credentials: &[],
        login: None,
    },
];

/// Variables that hold credentials of trackers, and the tracker.
pub(crate) const TRACKER_CREDENTIALS: [(&str, &str); 8] = [
    ("LINEAR_API_KEY", "linear"),
    ("GITHUB_TOKEN", "github"),
    ("GH_TOKEN", "github"),
    ("GITLAB_TOKEN", "gitlab"),
    ("FORGEJO_TOKEN", "forgejo"),
    ("GITEA_TOKEN", "forgejo"),
    ("JIRA_API_TOKEN", "jira"),
    ("ASANA_ACCESS_TOKEN", "asana"),
];

/// What a program said and how it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Said {
    /// It ended with exit code 0.
    pub(crate) ok: bool,
    /// The end of its output, or why it could not be asked.
    pub(crate) text: String,
}

/// Where `program` is on PATH.
pub(crate) fn on_path(program: &str) -> Option<PathBuf> {
    use std::os::unix::fs::PermissionsExt as _;
    let runnable = |path: &PathBuf| {
        std::fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
    };
    if program.contains('/') {
        return Some(PathBuf::from(program)).filter(runnable);
    }
    std::env::split_paths(&std::env::var_os("PATH")?).map(|dir| dir.join(program)).find(runnable)
}

/// Variables of `names` that are set and not empty.
pub(crate) fn set_variables<'a>(names: &[&'a str]) -> Vec<&'a str> {
    names.iter().copied().filter(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty())).collect()
}

/// The first line that `program --version` writes.
pub(crate) async fn version(program: &Path) -> Said {
    let mut said = ask(program, &["--version"], None, VERSION_LIMIT).await;
    said.text = said.text.lines().next().unwrap_or_default().trim().to_owned();
    said
}

/// Runs git in `dir`; prompts are off.
pub(crate) async fn git(dir: &Path, arguments: &[&str]) -> Said {
    let limit = if arguments.first() == Some(&"ls-remote") { REMOTE_LIMIT } else { VERSION_LIMIT };
    ask(Path::new("git"), arguments, Some(dir), limit).await
}

async fn ask(program: &Path, arguments: &[&str], dir: Option<&Path>, limit: Duration) -> Said {
    let surroundings = Surroundings { mark: "survey".to_owned(), secret_names: Vec::new(), cell: None };
    let mut command = command(program, &surroundings);
    command.args(arguments).env("GIT_TERMINAL_PROMPT", "0").env("GIT_SSH_COMMAND", "ssh -oBatchMode=yes");
    if let Some(dir) = dir {
        command.current_dir(dir);
    }
    match run_bounded(command, None, limit, &CancellationToken::new(), ANSWER_BYTES).await {
        Ok(finished) if finished.success() => Said { ok: true, text: finished.tail.trim().to_owned() },
        Ok(finished) => {
            let words = finished.tail.trim();
            let how = finished.how();
            Said { ok: false, text: if words.is_empty() { how } else { format!("{how}: {words}") } }
        }
        Err(failure) => Said { ok: false, text: failure.message },
    }
}

/// What to do before `agent.sandbox` can be set. It is none already, so that is no advice.
pub(crate) fn to_contain(hint: &str) -> String {
    let hint = hint.strip_suffix(", or set agent.sandbox to none").unwrap_or(hint);
    format!("{hint}; then set agent.sandbox to bubblewrap")
}

/// The command that runs the project's own tests, as far as its files tell.
pub(crate) fn checks(project: &Path) -> Vec<String> {
    use std::os::unix::fs::PermissionsExt as _;
    let has = |name: &str| project.join(name).is_file();
    let read = |name: &str| std::fs::read_to_string(project.join(name)).unwrap_or_default();
    let runnable = std::fs::metadata(project.join("test"))
        .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0);
    let npm_test = || {
        serde_json::from_str::<serde_json::Value>(&read("package.json")).is_ok_and(|package| {
            let script = package.pointer("/scripts/test").and_then(|script| script.as_str()).unwrap_or_default();
            // What `npm init` writes is a test that always fails.
            !script.is_empty() && !script.contains("no test specified")
        })
    };
    let found = if runnable {
        "./test"
    } else if has("Cargo.toml") {
        "cargo test"
    } else if has("go.mod") {
        "go test ./..."
    } else if has("package.json") && npm_test() {
        "npm ci && npm test"
    } else if has("Makefile") && read("Makefile").lines().any(|line| line.starts_with("test:")) {
        "make test"
    } else if has("pytest.ini") || (has("pyproject.toml") && read("pyproject.toml").contains("pytest")) {
        "python3 -m pytest"
    } else {
        return Vec::new();
    };
    vec![found.to_owned()]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn the_projects_own_tests_are_found() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        assert_eq!(checks(dir.path()), Vec::<String>::new());
        write("package.json", r#"{"scripts": {"test": "echo \"Error: no test specified\" && exit 1"}}"#);
        assert_eq!(checks(dir.path()), Vec::<String>::new(), "a test that always fails is no check");
        write("Makefile", "all:\n\ntest: all\n");
        assert_eq!(checks(dir.path()), ["make test"]);
        write("package.json", r#"{"scripts": {"test": "vitest run"}}"#);
        assert_eq!(checks(dir.path()), ["npm ci && npm test"]);
        write("Cargo.toml", "");
        assert_eq!(checks(dir.path()), ["cargo test"]);
    }

    #[test]
    fn who_has_no_sandbox_is_not_advised_to_set_none() {
        let hint = "install bubblewrap (the package of that name), or set agent.sandbox to none";
        assert_eq!(
            to_contain(hint),
            "install bubblewrap (the package of that name); then set agent.sandbox to bubblewrap"
        );
    }

    #[tokio::test]
    async fn programs_that_are_not_there_or_fail_say_why() {
        assert_eq!(on_path("no-such-program-anywhere"), None);
        assert!(on_path("sh").is_some());
        assert!(!version(Path::new("/no/such/program")).await.ok);
        let said = ask(Path::new("sh"), &["-c", "echo broken; exit 3"], None, VERSION_LIMIT).await;
        assert_eq!(said, Said { ok: false, text: "exit code 3: broken".to_owned() });
    }
}
