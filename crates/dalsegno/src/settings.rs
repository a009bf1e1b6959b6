//! Settings, resolved once from arguments and environment.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use dalsegno_api::{DAEMON_FILE, STATE_DIR, exit};

use crate::cli::Common;
use crate::error::CliError;

/// Every environment variable that the command line reads.
pub(crate) mod env {
    /// The same as `--dir`.
    pub(crate) const DIR: &str = "DALSEGNO_DIR";
    /// Set and not empty: no colours.
    pub(crate) const NO_COLOR: &str = "NO_COLOR";

    /// What the daemon logs: a level, or `target=level` pairs.
    pub(crate) const LOG: &str = "DALSEGNO_LOG";

    /// All of them with their meaning, for the reference.
    #[cfg(test)]
    pub(crate) const ALL: [(&str, &str); 3] = [
        (DIR, "project directory, the same as `--dir`"),
        (NO_COLOR, "set and not empty: no colours"),
        (LOG, "what the daemon logs: a level, or `target=level` pairs; `info` by default"),
    ];
}

const WORKFLOW_FILE: &str = "WORKFLOW.md";
const DATABASE: &str = "dalsegno.db";

/// What the verbs need to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Settings {
    /// Where the daemon keeps its things.
    pub(crate) state_dir: PathBuf,
    /// Print JSON.
    pub(crate) json: bool,
}

impl Settings {
    /// Finds the project.
    ///
    /// # Errors
    /// `project_not_found` when no directory is named and none is found.
    pub(crate) fn resolve(common: &Common) -> Result<Self, CliError> {
        let Common { dir, workflow, json } = common;
        let project = match (dir, workflow) {
            (Some(dir), _) => dir.clone(),
            (None, Some(workflow)) => match workflow.parent() {
                Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
                _ => PathBuf::from("."),
            },
            (None, None) => {
                let here = std::env::current_dir().map_err(|error| CliError::io("no_current_directory", &error))?;
                found(&here).ok_or_else(|| {
                    CliError::new("project_not_found", "this is no project directory")
                        .exit(exit::NOT_FOUND)
                        .why(format!("there is no {WORKFLOW_FILE} in {} or above it", here.display()))
                        .hint("go to the project's directory, or name it with --dir")
                })?
            }
        };
        Ok(Self { state_dir: project.join(STATE_DIR), json: *json })
    }
}

/// The nearest directory, `start` or above it, that is a project. A bare `.dalsegno` does not count: the default
/// place of all workspaces is one, in the home directory.
fn found(start: &Path) -> Option<PathBuf> {
    let is_project = |dir: &&Path| {
        let state = dir.join(STATE_DIR);
        dir.join(WORKFLOW_FILE).is_file() || state.join(DATABASE).is_file() || state.join(DAEMON_FILE).is_file()
    };
    start.ancestors().find(is_project).map(Path::to_owned)
}

/// Whether standard output takes colours.
pub(crate) fn color() -> bool {
    std::io::stdout().is_terminal() && std::env::var_os(env::NO_COLOR).is_none_or(|value| value.is_empty())
}

/// What the daemon logs.
#[allow(dead_code, reason = "the verb `run` asks for it")]
pub(crate) fn log_filter() -> String {
    std::env::var(env::LOG).ok().filter(|filter| !filter.is_empty()).unwrap_or_else(|| "info".to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn the_project_is_the_nearest_directory_with_a_workflow_or_a_state() {
        let root = tempfile::tempdir().unwrap();
        let deep = root.path().join("home/.dalsegno/workspaces/DS-1/src");
        std::fs::create_dir_all(&deep).unwrap();
        assert_eq!(found(&deep), None, "the home's .dalsegno is no project");
        std::fs::write(root.path().join("home").join(WORKFLOW_FILE), "").unwrap();
        assert_eq!(found(&deep), Some(root.path().join("home")));
        let state = deep.parent().unwrap().join(STATE_DIR);
        std::fs::create_dir(&state).unwrap();
        std::fs::write(state.join(DATABASE), "").unwrap();
        assert_eq!(found(&deep).as_deref(), deep.parent());
    }

    #[test]
    fn the_state_lies_beside_the_workflow() {
        let common = Common { workflow: Some("WORKFLOW.md".into()), ..Common::default() };
        assert_eq!(Settings::resolve(&common).unwrap().state_dir, Path::new("./.dalsegno"));
        let common = Common { workflow: Some("/a/b/W.md".into()), ..Common::default() };
        assert_eq!(Settings::resolve(&common).unwrap().state_dir, Path::new("/a/b/.dalsegno"));
    }
}
