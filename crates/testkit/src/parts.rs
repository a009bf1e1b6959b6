//! The real programs that tests run against. One that is missing skips the test loudly, and fails it in CI.

use std::path::{Path, PathBuf};

use dalsegno_parts::Places;

/// A real program on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Absolute, without links.
    pub program: PathBuf,
    /// The version that it has; `any` when whichever is there will do.
    pub version: &'static str,
}

impl Part {
    /// The folder of the program, for a search path.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.program.parent().unwrap_or(Path::new("/"))
    }
}

/// The Codex agent. `None`: it is not here, and the test should return.
///
/// Its home must not be below the system's temporary folder: there Codex makes no links for itself, and every command
/// in its sandbox fails (`execvp codex-linux-sandbox`). `CARGO_TARGET_TMPDIR` is a good place.
///
/// # Panics
/// When it is not here and `CI` is set, or when its variable names no program.
#[must_use]
pub fn codex() -> Option<Part> {
    find(&dalsegno_parts::CODEX)
}

/// bubblewrap, the sandbox of Codex. `None`: it is not here, and the test should return.
///
/// # Panics
/// As [`codex`].
#[must_use]
pub fn bubblewrap() -> Option<Part> {
    find(&dalsegno_parts::BUBBLEWRAP)
}

/// Chromium. `None`: it is not here, and the test should return.
///
/// # Panics
/// As [`codex`].
#[must_use]
pub fn chromium() -> Option<Part> {
    find(&dalsegno_parts::CHROMIUM)
}

/// The script of axe-core, to be run in a page. `None`: it is not here, and the test should return.
///
/// # Panics
/// As [`codex`].
#[must_use]
pub fn axe() -> Option<Part> {
    find(&dalsegno_parts::AXE)
}

/// tmux, a terminal that a test can look at. `None`: it is not here, and the test should return.
///
/// # Panics
/// As [`codex`].
#[must_use]
pub fn tmux() -> Option<Part> {
    find(&dalsegno_parts::TMUX)
}

#[allow(clippy::print_stderr, reason = "a skipped test says so where the person sees it")]
fn find(part: &'static dalsegno_parts::Part) -> Option<Part> {
    match Places::from_env().and_then(|places| part.find(&places)) {
        Ok(Some(program)) => Some(Part { program, version: part.version }),
        Ok(None) => {
            let why = format!("{} {} is not here: run cargo xtask parts", part.name, part.version);
            assert!(std::env::var_os("CI").is_none(), "{why}");
            eprintln!("SKIPPED a test: {why}");
            None
        }
        Err(problem) => panic!("{problem}"),
    }
}
