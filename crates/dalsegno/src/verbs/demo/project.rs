//! The demo's project: a git repository with failing tests, its bare remote, three issues.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::CliError;

const WORKFLOW: &str = include_str!("../../../assets/demo/WORKFLOW.md");
const AGENT: &str = include_str!("../../../assets/demo/agent.yaml");
const TEST: &str = include_str!("../../../assets/demo/test.sh");

/// The issues: identifier, title, description.
pub(super) const ISSUES: [(&str, &str, &str); 3] = [
    ("DEMO-1", "Add two numbers", "`bin/add 2 3` should print 5. Its test waits in `waiting/add.sh`."),
    ("DEMO-2", "Reverse a line", "`bin/reverse abc` should print cba. Its test waits in `waiting/reverse.sh`."),
    ("DEMO-3", "Count words", "`bin/count` should print the number of words on its input, and nothing else."),
];

const WAITING: [(&str, &str); 3] = [
    ("add", "[ \"$(bin/add 2 3)\" = 5 ]\n"),
    ("reverse", "[ \"$(bin/reverse abc)\" = cba ]\n"),
    ("count", "[ \"$(echo one two three | bin/count)\" = 3 ]\n"),
];

/// Where everything of the demo is.
#[derive(Debug)]
pub(super) struct Project {
    dir: PathBuf,
}

impl Project {
    /// Makes the project in `dir`, or in a new directory below the home directory.
    pub(super) fn make(dir: Option<PathBuf>) -> Result<Self, CliError> {
        let dir = match dir {
            Some(dir) => std::path::absolute(dir).map_err(|error| CliError::io("demo_dir", &error))?,
            None => free_dir()?,
        };
        let project = Self { dir };
        if project.dir.join("project").exists() || project.remote().exists() {
            let what = format!("{} holds a demo already", project.dir.display());
            return Err(CliError::new("demo_dir_taken", what).hint("choose another directory with --dir, or remove it"));
        }
        project.write_files().map_err(|error| CliError::io("demo_dir", &error))?;
        project.make_repositories()?;
        Ok(project)
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn workflow(&self) -> PathBuf {
        self.dir.join("project/WORKFLOW.md")
    }

    pub(super) fn state_dir(&self) -> PathBuf {
        self.dir.join("project/.dalsegno")
    }

    pub(super) fn remote(&self) -> PathBuf {
        self.dir.join("remote.git")
    }

    pub(super) fn issue_file(&self, identifier: &str) -> PathBuf {
        self.dir.join("issues").join(format!("{identifier}.md"))
    }

    pub(super) fn daemon_log(&self) -> PathBuf {
        self.dir.join("daemon.log")
    }

    fn write_files(&self) -> std::io::Result<()> {
        let project = self.dir.join("project");
        for folder in ["bin", "tests", "waiting"] {
            fs::create_dir_all(project.join(folder))?;
        }
        fs::create_dir_all(self.dir.join("issues"))?;
        fs::write(project.join("WORKFLOW.md"), WORKFLOW)?;
        fs::write(project.join("agent.yaml"), AGENT)?;
        fs::write(project.join("test"), TEST)?;
        fs::set_permissions(project.join("test"), fs::Permissions::from_mode(0o755))?;
        fs::write(project.join(".gitignore"), ".dalsegno/\n")?;
        fs::write(project.join("bin/.gitkeep"), "")?;
        fs::write(project.join("tests/.gitkeep"), "")?;
        for (name, body) in WAITING {
            fs::write(project.join(format!("waiting/{name}.sh")), body)?;
        }
        for (number, (identifier, title, description)) in ISSUES.into_iter().enumerate() {
            let text = format!(
                "---\ntitle: {title}\nstate: Todo\npriority: {}\ncreated_at: 2026-01-0{}T09:00:00Z\n---\n{description}\n",
                number + 1,
                number + 1
            );
            fs::write(self.issue_file(identifier), text)?;
        }
        Ok(())
    }

    fn make_repositories(&self) -> Result<(), CliError> {
        let project = self.dir.join("project");
        git(&project, &["init", "--quiet", "--initial-branch=main"])?;
        git(&project, &["config", "user.name", "Demo"])?;
        git(&project, &["config", "user.email", "demo@localhost"])?;
        git(&project, &["config", "commit.gpgsign", "false"])?;
        git(&project, &["add", "-A"])?;
        git(&project, &["commit", "--quiet", "-m", "A project whose tests wait"])?;
        let remote = self.remote();
        git(&self.dir, &["init", "--quiet", "--bare", "--initial-branch=main", &remote.to_string_lossy()])?;
        git(&project, &["remote", "add", "origin", "../remote.git"])?;
        git(&project, &["push", "--quiet", "origin", "main"])?;
        Ok(())
    }
}

/// Runs git and answers what it printed.
pub(super) fn git(dir: &Path, arguments: &[&str]) -> Result<String, CliError> {
    let output = Command::new("git")
        .arg("-C")
        .arg(dir)
        .args(arguments)
        .output()
        .map_err(|error| CliError::io("git_missing", &error).hint("install git"))?;
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr);
        return Err(CliError::new("git_failed", format!("git {}: {}", arguments.join(" "), errors.trim())));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn free_dir() -> Result<PathBuf, CliError> {
    let home = std::env::home_dir().filter(|home| !home.as_os_str().is_empty()).unwrap_or_else(std::env::temp_dir);
    let base = home.join(".dalsegno");
    for number in 1..10_000 {
        let dir = base.join(format!("demo-{number}"));
        if !dir.exists() {
            return Ok(dir);
        }
    }
    Err(CliError::new("demo_dir", format!("{} is full of demos", base.display())).hint("remove some, or use --dir"))
}
