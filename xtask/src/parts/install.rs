//! How a part is installed: into a folder of its own, checked there, and renamed to its name in one step.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use dalsegno_parts::{PROGRAM_LINK, Part, Places};

use crate::shell::{Done, output_within, run_within, say};

/// How long a package registry may take: some hundred megabytes over a slow line.
const FETCH_LIMIT: Duration = Duration::from_secs(900);
/// How long a program may take to tell its version, and a package to be unpacked.
pub(super) const ANSWER_LIMIT: Duration = Duration::from_secs(60);
/// In the folder of a part: the length of its program, in bytes.
const LENGTH: &str = "program.length";
/// In the folder of a part that pip installed: what was asked for.
const REQUIREMENTS: &str = "requirements.txt";
/// Begins the names of folders in which something is being installed.
const STAGING: &str = ".installing-";

/// How a part comes to this machine.
#[derive(Clone, Copy)]
pub(super) enum Recipe {
    /// With npm, from the registry that it is configured for; exactly the packages whose hashes are in `lock`.
    Npm {
        /// Its package.json.
        manifest: &'static str,
        /// Its package-lock.json, without addresses.
        lock: &'static str,
        /// The program for each kind of processor, as Rust calls them.
        programs: &'static [(&'static str, &'static str)],
    },
    /// With pip, into a virtual environment of its own; exactly the packages whose hashes are in `requirements`.
    Python {
        /// Its requirements.txt, with hashes and without addresses.
        requirements: &'static str,
        /// What is run: a module.
        module: &'static str,
    },
    /// With apt, which checks signatures, unpacked beside the system and not into it.
    Debian {
        /// Name of the package.
        package: &'static str,
        /// The program in it.
        program: &'static str,
    },
    /// With apt, into the system: it stands on dozens of other packages. Only root can, and only root does.
    System {
        /// Name of the package; a program of the same name is then on the search path.
        package: &'static str,
    },
}

/// Installs the part; `check` is asked about its program before the part gets its name.
///
/// # Errors
/// When it cannot be fetched, is not what is pinned, or does not answer as it should. Nothing is left then.
pub(super) fn install(part: &Part, recipe: &Recipe, places: &Places, check: impl Fn(&Path) -> Done) -> Done {
    let folder = part.folder(places);
    let parent = folder.parent().unwrap_or(&places.folder);
    fs::create_dir_all(parent).map_err(|error| format!("{} cannot be made: {error}", parent.display()))?;
    sweep(parent);
    say(format_args!("{}: installing {} into {}", part.name, part.version, folder.display()));
    let staging = Staging(parent.join(format!("{STAGING}{}", std::process::id())));
    fs::create_dir(&staging.0).map_err(|error| format!("{} cannot be made: {error}", staging.0.display()))?;
    let program = match recipe {
        Recipe::Npm { manifest, lock, programs } => npm(&staging.0, manifest, lock, programs)?,
        Recipe::Debian { package, program } => debian(&staging.0, package, program)?,
        Recipe::System { package } => return system(part, package),
        Recipe::Python { requirements, module } => python(&staging.0, requirements, module)?,
    };
    let installed = staging.0.join(program);
    let length = fs::metadata(&installed)
        .map_err(|_| format!("the package has no {program}; npm leaves out one whose hash is not the pinned one"))?
        .len();
    check(&installed)?;
    write(&staging.0.join(LENGTH), &length.to_string())?;
    std::os::unix::fs::symlink(program, staging.0.join(PROGRAM_LINK))
        .map_err(|error| format!("the link to {program} cannot be made: {error}"))?;
    if folder.exists() {
        discard(&folder)?;
    }
    match fs::rename(&staging.0, &folder) {
        Ok(()) => Ok(()),
        // Somebody else was quicker; theirs is looked at like any other.
        Err(_) if folder.join(PROGRAM_LINK).exists() => Ok(()),
        Err(error) => Err(format!("{} cannot be named: {error}", folder.display())),
    }
}

/// Whether what was installed is still what was checked then, and what is pinned now.
///
/// # Errors
/// What is different.
pub(super) fn intact(folder: &Path, recipe: &Recipe) -> Done {
    let said = fs::read_to_string(folder.join(LENGTH)).unwrap_or_default();
    let length = fs::metadata(folder.join(PROGRAM_LINK)).map_or(0, |about| about.len());
    if said != length.to_string() {
        return Err(format!("its program has {length} bytes, not {said:?}"));
    }
    match recipe {
        Recipe::Npm { lock, .. } => {
            let was = fs::read_to_string(folder.join("package-lock.json")).unwrap_or_default();
            if was == *lock { Ok(()) } else { Err("it was installed from other pins".to_owned()) }
        }
        Recipe::Python { requirements, .. } => {
            let was = fs::read_to_string(folder.join(REQUIREMENTS)).unwrap_or_default();
            if was == *requirements { Ok(()) } else { Err("it was installed from other pins".to_owned()) }
        }
        Recipe::Debian { .. } | Recipe::System { .. } => Ok(()),
    }
}

/// Takes the folder out of the way in one step, and then removes it.
///
/// # Errors
/// When it cannot be renamed or removed.
fn discard(folder: &Path) -> Done {
    let aside = folder.with_file_name(format!("{STAGING}{}-old", std::process::id()));
    let gone = fs::rename(folder, &aside).and_then(|()| fs::remove_dir_all(&aside));
    gone.map_err(|error| format!("{} cannot be removed: {error}", folder.display()))
}

fn npm(staging: &Path, manifest: &str, lock: &str, programs: &[(&str, &'static str)]) -> Result<&'static str, String> {
    let processor = std::env::consts::ARCH;
    let (_, program) = programs
        .iter()
        .find(|(name, _)| *name == processor)
        .ok_or_else(|| format!("there is no package for {processor}"))?;
    write(&staging.join("package.json"), manifest)?;
    write(&staging.join("package-lock.json"), lock)?;
    let mut command = Command::new("npm");
    command.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix"]).arg(staging);
    command.current_dir(staging).stdin(Stdio::null());
    run_within(&mut command, FETCH_LIMIT).map_err(|problem| format!("{problem}; is npm there, and its registry?"))?;
    Ok(program)
}

fn python(staging: &Path, requirements: &str, module: &str) -> Result<&'static str, String> {
    write(&staging.join(REQUIREMENTS), requirements)?;
    let environment = staging.join("venv");
    let mut make = Command::new("python3");
    make.args(["-m", "venv"]).arg(&environment).stdin(Stdio::null());
    run_within(&mut make, FETCH_LIMIT).map_err(|problem| format!("{problem}; are python3 and its venv there?"))?;
    let mut install = Command::new(environment.join("bin/python"));
    install.args([
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--require-hashes",
        "--requirement",
    ]);
    install.arg(staging.join(REQUIREMENTS)).stdin(Stdio::null());
    run_within(&mut install, FETCH_LIMIT).map_err(|problem| format!("{problem}; is the registry of pip there?"))?;
    // The scripts of a virtual environment know where they were made, and this one is going to be renamed.
    let program = "run";
    let script =
        format!("#!/bin/sh\nexec \"$(dirname \"$(readlink -f \"$0\")\")/venv/bin/python\" -m {module} \"$@\"\n");
    write(&staging.join(program), &script)?;
    let runnable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(staging.join(program), runnable)
        .map_err(|error| format!("{program} cannot be run: {error}"))?;
    Ok(program)
}

fn debian(staging: &Path, package: &str, program: &'static str) -> Result<&'static str, String> {
    let mut fetch = Command::new("apt-get");
    fetch.args(["download", package]).current_dir(staging).stdin(Stdio::null());
    run_within(&mut fetch, FETCH_LIMIT).map_err(|problem| format!("{problem}; install {package} yourself"))?;
    let archive = fs::read_dir(staging)
        .map_err(|error| format!("{} cannot be read: {error}", staging.display()))?
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|ending| ending == "deb"))
        .ok_or("apt-get left no package")?;
    output_within(Command::new("dpkg").arg("-x").arg(&archive).arg(staging).stdin(Stdio::null()), ANSWER_LIMIT)?;
    let _ = fs::remove_file(archive);
    Ok(program)
}

fn system(part: &Part, package: &str) -> Done {
    let remedy = format!("install {package} yourself, or name one with {}", part.variable);
    let me = output_within(Command::new("id").arg("-u").stdin(Stdio::null()), ANSWER_LIMIT)?;
    if me.trim() != "0" {
        return Err(format!("only root can install it: {remedy}"));
    }
    let mut command = Command::new("apt-get");
    command.args(["install", "-y", "--no-install-recommends", package]);
    command.env("DEBIAN_FRONTEND", "noninteractive").stdin(Stdio::null());
    run_within(&mut command, FETCH_LIMIT).map_err(|problem| format!("{problem}; {remedy}"))
}

fn write(path: &Path, text: &str) -> Done {
    fs::write(path, text).map_err(|error| format!("{} cannot be written: {error}", path.display()))
}

/// Removes what installers left that are no more.
fn sweep(parent: &Path) {
    let Ok(entries) = fs::read_dir(parent) else { return };
    for entry in entries.filter_map(Result::ok) {
        let name = entry.file_name();
        let owner = name.to_str().and_then(|name| name.strip_prefix(STAGING)).map(|rest| rest.trim_end_matches("-old"));
        let Some(owner) = owner else { continue };
        if !Path::new("/proc").join(owner).exists() {
            // What cannot be removed is in nobody's way.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// A folder in which something is being installed; gone afterwards, unless it was renamed.
struct Staging(PathBuf);

impl Drop for Staging {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
