//! Settings, resolved once from arguments and environment.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use dalsegno_api::{DAEMON_FILE, STATE_DIR, exit};
use dalsegno_store::DATABASE_FILE;

use crate::cli::Common;
use crate::error::CliError;

/// Every environment variable that the command line reads.
pub(crate) mod env {
    /// The same as `--dir`.
    pub(crate) const DIR: &str = "DALSEGNO_DIR";
    /// Set and not empty: no colours.
    pub(crate) const NO_COLOR: &str = "NO_COLOR";

    /// Who writes a comment when nobody is named.
    pub(crate) const USER: &str = "USER";
    /// What the daemon logs: a level, or `target=level` pairs.
    pub(crate) const LOG: &str = "DALSEGNO_LOG";

    /// Kills this process with SIGKILL when it passes the crash point of this number or name; debug builds only, for tests.
    #[cfg(debug_assertions)]
    pub(crate) const CRASH_AT: &str = "DALSEGNO_CRASH_AT";
    /// File that gets the number of crash points passed; debug builds only, for tests.
    #[cfg(debug_assertions)]
    pub(crate) const CRASH_COUNT: &str = "DALSEGNO_CRASH_COUNT";

    /// All of them with their meaning, for the reference.
    #[cfg(test)]
    pub(crate) const ALL: [(&str, &str); 4] = [
        (DIR, "project directory, the same as `--dir`"),
        (NO_COLOR, "set and not empty: no colours"),
        (USER, "who writes a comment when `--author` names nobody"),
        (LOG, "what the daemon logs: a level, or `target=level` pairs; `info` by default"),
    ];
}

const WORKFLOW_FILE: &str = "WORKFLOW.md";

/// What the verbs need to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Settings {
    /// Where the daemon keeps its things.
    pub(crate) state_dir: PathBuf,
    /// Print JSON.
    pub(crate) json: bool,
    /// Key of an action.
    pub(crate) idempotency_key: Option<String>,
}

impl Settings {
    /// Finds the project.
    ///
    /// # Errors
    /// `project_not_found` when no directory is named and none is found.
    pub(crate) fn resolve(common: &Common) -> Result<Self, CliError> {
        let Common { dir, workflow, json, idempotency_key } = common;
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
        Ok(Self { state_dir: project.join(STATE_DIR), json: *json, idempotency_key: idempotency_key.clone() })
    }
}

/// The nearest directory, `start` or above it, that is a project. A bare `.dalsegno` does not count: the default
/// place of all workspaces is one, in the home directory.
fn found(start: &Path) -> Option<PathBuf> {
    let is_project = |dir: &&Path| {
        let state = dir.join(STATE_DIR);
        dir.join(WORKFLOW_FILE).is_file() || state.join(DATABASE_FILE).is_file() || state.join(DAEMON_FILE).is_file()
    };
    start.ancestors().find(is_project).map(Path::to_owned)
}

/// The workflow file that `run` and `validate` mean: the named one, else WORKFLOW.md in the named or the current
/// directory (Symphony §5.1). Absolute.
pub(crate) fn workflow_file(file: Option<&Path>, common: &Common) -> Result<PathBuf, CliError> {
    let named = match (file, &common.workflow, &common.dir) {
        (Some(file), _, _) => file.to_owned(),
        (None, Some(workflow), _) => workflow.clone(),
        (None, None, Some(dir)) => dir.join(WORKFLOW_FILE),
        (None, None, None) => PathBuf::from(WORKFLOW_FILE),
    };
    std::path::absolute(&named).map_err(|error| CliError::io("no_current_directory", &error))
}

/// The workflow file of the project that is worked on: the named one, or that of the nearest project.
pub(crate) fn project_workflow(common: &Common) -> Result<PathBuf, CliError> {
    if let Some(workflow) = &common.workflow {
        return workflow_file(Some(workflow), common);
    }
    let settings = Settings::resolve(common)?;
    let project = settings.state_dir.parent().unwrap_or(Path::new("."));
    workflow_file(Some(&project.join(WORKFLOW_FILE)), common)
}

/// Everything that a daemon keeps is beside its workflow file.
pub(crate) fn state_dir_of(workflow: &Path) -> PathBuf {
    workflow.parent().unwrap_or(Path::new(".")).join(STATE_DIR)
}

/// What the user is called, for comments and actions.
pub(crate) fn user() -> String {
    std::env::var(env::USER).ok().filter(|name| !name.is_empty()).unwrap_or_else(|| "operator".to_owned())
}

/// Whether standard output takes colours.
pub(crate) fn color() -> bool {
    std::io::stdout().is_terminal() && std::env::var_os(env::NO_COLOR).is_none_or(|value| value.is_empty())
}

/// Whether standard error takes colours.
pub(crate) fn color_errors() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os(env::NO_COLOR).is_none_or(|value| value.is_empty())
}

/// What the daemon logs.
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
        std::fs::write(state.join(DATABASE_FILE), "").unwrap();
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
