//! The real programs that the tests run against: which version, and where it is on this machine.
//!
//! Nothing is installed here: `cargo xtask parts` does that, into a folder outside the checkout. What it installs and
//! what the tests look for is said once, in [`ALL`]. A part is looked for in this order: its variable, the search path
//! (where any version will do), the cache, and beside another part.

use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Names the folder of the parts; without it they are in the user's cache. It must be absolute.
pub const FOLDER_VARIABLE: &str = "DALSEGNO_PARTS_DIR";
/// In the folder of a part: a link to its program, made before the part gets its name.
pub const PROGRAM_LINK: &str = "program";

/// A program that tests need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// Its name, and its folder's.
    pub name: &'static str,
    /// The version that is installed. `any`: whichever the system has.
    pub version: &'static str,
    /// Environment variable with the path of its program; it goes before all other places.
    pub variable: &'static str,
    /// The program's name on the search path, if one from there will do.
    pub on_path: Option<&'static str>,
    /// Another part that brings this program along, and where it is, seen from the folder of that part's program.
    pub beside: Option<(&'static Part, &'static str)>,
    /// It is a file that is read, and not run.
    pub is_read: bool,
}

/// The Codex agent.
pub static CODEX: Part = Part {
    name: "codex",
    version: "0.169.0",
    variable: "DALSEGNO_PART_CODEX",
    on_path: None,
    beside: None,
    is_read: false,
};

/// The sandbox in which Codex runs commands. Codex brings a copy of it along.
pub static BUBBLEWRAP: Part = Part {
    name: "bubblewrap",
    version: "any",
    variable: "DALSEGNO_PART_BWRAP",
    on_path: Some("bwrap"),
    beside: Some((&CODEX, "../codex-resources/bwrap")),
    is_read: false,
};

/// The browser in which the dashboard is tested.
pub static CHROMIUM: Part = Part {
    name: "chromium",
    version: "any",
    variable: "DALSEGNO_PART_CHROMIUM",
    on_path: Some("chromium"),
    beside: None,
    is_read: false,
};

/// The script that looks through a page for what keeps people out.
pub static AXE: Part = Part {
    name: "axe-core",
    version: "4.14.1",
    variable: "DALSEGNO_PART_AXE",
    on_path: None,
    beside: None,
    is_read: true,
};

/// Every part, in the order in which they are installed.
pub static ALL: [&Part; 4] = [&CODEX, &BUBBLEWRAP, &CHROMIUM, &AXE];

/// Where something is looked for. From the environment, but for tests.
#[derive(Debug, Clone)]
pub struct Places {
    /// The folder of all parts.
    pub folder: PathBuf,
    /// The search path.
    pub path: OsString,
    /// Answers the variable of a part.
    pub variable: fn(&str) -> Option<OsString>,
}

impl Places {
    /// The places of this process.
    ///
    /// # Errors
    /// When no folder can be told: a relative one is named, or there is no home. A sentence with what to do.
    pub fn from_env() -> Result<Self, String> {
        let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let folder = match variable(FOLDER_VARIABLE) {
            Some(folder) => PathBuf::from(folder),
            None => match (variable("XDG_CACHE_HOME").map(PathBuf::from), variable("HOME")) {
                // A relative path there is to be ignored, says the rule of that variable.
                (Some(cache), _) if cache.is_absolute() => cache.join("dalsegno/parts"),
                (_, Some(home)) => Path::new(&home).join(".cache/dalsegno/parts"),
                (_, None) => return Err(format!("there is no HOME to keep parts in; set {FOLDER_VARIABLE}")),
            },
        };
        if folder.is_relative() {
            return Err(format!("{} is no absolute path; set {FOLDER_VARIABLE} to one", folder.display()));
        }
        Ok(Self {
            folder,
            path: std::env::var_os("PATH").unwrap_or_default(),
            variable: |name| std::env::var_os(name).filter(|value| !value.is_empty()),
        })
    }
}

impl Part {
    /// The part's own folder among the parts.
    #[must_use]
    pub fn folder(&self, places: &Places) -> PathBuf {
        places.folder.join(self.name).join(self.version)
    }

    /// Its program, as an absolute path without links. `None`: not here.
    ///
    /// # Errors
    /// When the part's variable names something that cannot be run: who set it meant to have it used.
    pub fn find(&self, places: &Places) -> Result<Option<PathBuf>, String> {
        if let Some(program) = self.find_own(places)? {
            return Ok(Some(program));
        }
        let Some((other, relative)) = self.beside else { return Ok(None) };
        let program = other.find_own(places)?;
        Ok(program.and_then(|program| runnable(&program.parent()?.join(relative))))
    }

    /// As [`Part::find`], without what another part brings along.
    ///
    /// # Errors
    /// As there.
    pub fn find_own(&self, places: &Places) -> Result<Option<PathBuf>, String> {
        if let Some(named) = (places.variable)(self.variable) {
            let what = if self.is_read { "file" } else { "program" };
            return match self.usable(Path::new(&named)) {
                Some(program) => Ok(Some(program)),
                None => {
                    Err(format!("{}={} is no {what}; correct or unset it", self.variable, Path::new(&named).display()))
                }
            };
        }
        let on_path = self
            .on_path
            .and_then(|name| std::env::split_paths(&places.path).find_map(|folder| runnable(&folder.join(name))));
        if on_path.is_some() {
            return Ok(on_path);
        }
        Ok(self.usable(&self.folder(places).join(PROGRAM_LINK)))
    }

    fn usable(&self, path: &Path) -> Option<PathBuf> {
        if self.is_read { path.canonicalize().ok().filter(|path| path.is_file()) } else { runnable(path) }
    }
}

/// The path without links, if a file is there that may be run.
fn runnable(path: &Path) -> Option<PathBuf> {
    let path = path.canonicalize().ok()?;
    let about = path.metadata().ok()?;
    (about.is_file() && about.permissions().mode() & 0o111 != 0).then_some(path)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use std::fs;

    use super::*;

    /// A folder of parts that is gone afterwards.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("dalsegno-parts-{name}-{}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path.canonicalize().unwrap())
        }

        fn program(&self, relative: &str) -> PathBuf {
            let path = self.0.join(relative);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, "#!/bin/sh\n").unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
            path
        }

        fn places(&self) -> Places {
            Places { folder: self.0.join("parts"), path: self.0.join("bin").into_os_string(), variable: |_| None }
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn the_search_path_goes_before_the_cache_and_that_before_what_another_part_brings() {
        let folder = Folder::new("order");
        let places = folder.places();
        assert_eq!(BUBBLEWRAP.find(&places), Ok(None));

        let codex = folder.program("parts/codex/0.169.0/vendor/bin/codex");
        let brought = folder.program("parts/codex/0.169.0/vendor/codex-resources/bwrap");
        assert_eq!(CODEX.find(&places), Ok(None), "without its link a part is not complete");
        std::os::unix::fs::symlink("vendor/bin/codex", CODEX.folder(&places).join(PROGRAM_LINK)).unwrap();
        assert_eq!(CODEX.find(&places), Ok(Some(codex)));
        assert_eq!(BUBBLEWRAP.find(&places), Ok(Some(brought)));

        let cached = folder.program("parts/bubblewrap/any/program");
        assert_eq!(BUBBLEWRAP.find(&places), Ok(Some(cached)));
        let on_path = folder.program("bin/bwrap");
        assert_eq!(BUBBLEWRAP.find(&places), Ok(Some(on_path)));
    }

    #[test]
    fn a_variable_goes_before_all_and_is_not_passed_over_when_wrong() {
        let folder = Folder::new("variable");
        folder.program("bin/bwrap");
        let mut places = folder.places();
        places.variable = |_| Some("/bin/sh".into());
        assert_eq!(BUBBLEWRAP.find(&places), Ok(Path::new("/bin/sh").canonicalize().ok()));
        places.variable = |_| Some("/no/such/program".into());
        assert!(BUBBLEWRAP.find(&places).is_err_and(|problem| problem.contains("DALSEGNO_PART_BWRAP")));
    }

    #[test]
    fn what_is_read_need_not_be_run() {
        let folder = Folder::new("read");
        let script = folder.program("parts/axe-core/4.14.1/axe.js");
        fs::set_permissions(&script, fs::Permissions::from_mode(0o644)).unwrap();
        std::os::unix::fs::symlink("axe.js", AXE.folder(&folder.places()).join(PROGRAM_LINK)).unwrap();
        assert_eq!(AXE.find(&folder.places()), Ok(Some(script)));
    }

    #[test]
    fn what_may_not_be_run_is_no_program() {
        let folder = Folder::new("mode");
        let plain = folder.program("bin/bwrap");
        fs::set_permissions(&plain, fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(BUBBLEWRAP.find(&folder.places()), Ok(None));
    }
}
