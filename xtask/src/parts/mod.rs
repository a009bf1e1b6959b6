//! `parts`: the real programs that the tests run against, found or installed outside the checkout.
//!
//! Which programs these are and where they are looked for is said by the crate `dalsegno-parts`, which the tests use as
//! well. Here is how each gets there.

mod git;
mod install;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use dalsegno_parts::{ALL, AXE, BUBBLEWRAP, CHROMIUM, CODEX, Part, Places};

use crate::shell::{Done, TempDir, output_within, say};
pub(crate) use git::git;
use install::Recipe;

/// Find or install the real programs that the tests run against (Codex, bubblewrap, Chromium, axe-core), in DALSEGNO_PARTS_DIR or the
/// user's cache. What is there already is not fetched again.
#[derive(clap::Args, Default)]
pub(crate) struct Arguments {}

/// How a part comes to this machine, and how it is asked for its version.
struct Known {
    part: &'static Part,
    recipe: Recipe,
    /// Arguments that make the program print its version; what is read says it in its first lines.
    ask: &'static [&'static str],
    /// What the answer begins with; the version follows.
    answer: &'static str,
}

const KNOWN: [Known; 4] = [
    Known {
        part: &CODEX,
        recipe: Recipe::Npm {
            manifest: include_str!("../../parts/codex/package.json"),
            lock: include_str!("../../parts/codex/package-lock.json"),
            programs: &[
                ("x86_64", "node_modules/@openai/codex-linux-x64/vendor/x86_64-unknown-linux-musl/bin/codex"),
                ("aarch64", "node_modules/@openai/codex-linux-arm64/vendor/aarch64-unknown-linux-musl/bin/codex"),
            ],
        },
        ask: &["--version"],
        answer: "codex-cli ",
    },
    Known {
        part: &BUBBLEWRAP,
        recipe: Recipe::Debian { package: "bubblewrap", program: "usr/bin/bwrap" },
        ask: &["--version"],
        answer: "bubblewrap ",
    },
    Known { part: &CHROMIUM, recipe: Recipe::System { package: "chromium" }, ask: &["--version"], answer: "Chromium " },
    Known {
        part: &AXE,
        recipe: Recipe::Npm {
            manifest: include_str!("../../parts/axe-core/package.json"),
            lock: include_str!("../../parts/axe-core/package-lock.json"),
            programs: &[
                ("x86_64", "node_modules/axe-core/axe.min.js"),
                ("aarch64", "node_modules/axe-core/axe.min.js"),
            ],
        },
        ask: &[],
        answer: "/*! axe v",
    },
];

pub(crate) fn run(_: &Arguments) -> Done {
    let missing: Vec<String> = find_or_install()?.into_iter().filter_map(|part| part.program.err()).collect();
    if missing.is_empty() { Ok(()) } else { Err(missing.join("\n")) }
}

/// What became of a part.
pub(crate) struct Found {
    /// The variable that tells tests where it is.
    pub(crate) variable: &'static str,
    pub(crate) name: &'static str,
    /// Its program, or why it is missing.
    pub(crate) program: Result<PathBuf, String>,
}

/// Finds every part; installs those that are not there.
///
/// # Errors
/// When it cannot be told where parts are kept.
pub(crate) fn find_or_install() -> Result<Vec<Found>, String> {
    find_or_install_of(&ALL)
}

/// The same for these parts alone.
///
/// # Errors
/// As there.
pub(crate) fn find_or_install_of(parts: &[&'static Part]) -> Result<Vec<Found>, String> {
    debug_assert_eq!(KNOWN.len(), ALL.len());
    let places = Places::from_env()?;
    Ok(KNOWN
        .iter()
        .filter(|known| parts.contains(&known.part))
        .map(|known| {
            let Part { name, variable, .. } = *known.part;
            let program = one(known, &places);
            match &program {
                Ok(program) => say(format_args!("{name}: {}", program.display())),
                Err(problem) => say(format_args!("!! MISSING {name}: {problem}")),
            }
            Found { variable, name, program }
        })
        .collect())
}

/// Tells tests where the parts are: each by its variable, and the sandbox on PATH, where the product itself looks for it.
///
/// # Errors
/// When PATH cannot be written with the folder of a part in it.
pub(crate) fn hand_over(found: &[Found], command: &mut Command) -> Done {
    let mut folders: Vec<PathBuf> = Vec::new();
    for part in found {
        let Ok(program) = &part.program else { continue };
        command.env(part.variable, program);
        if part.variable == BUBBLEWRAP.variable {
            folders.extend(program.parent().map(Path::to_path_buf));
        }
    }
    folders.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
    let path = std::env::join_paths(folders).map_err(|error| format!("PATH cannot name the parts: {error}"))?;
    command.env("PATH", path);
    Ok(())
}

fn one(known: &Known, places: &Places) -> Result<PathBuf, String> {
    let folder = known.part.folder(places);
    if let Some(program) = known.part.find_own(places)? {
        let sound = if program.starts_with(&folder) { install::intact(&folder, &known.recipe) } else { Ok(()) };
        match sound.and_then(|()| version(known, &program)) {
            Ok(()) => return Ok(program),
            // What we put into the cache is made anew; what somebody named or installed is not ours to replace.
            Err(problem) if program.starts_with(&folder) => {
                say(format_args!("{}: {problem}; it is installed anew", known.part.name));
            }
            Err(problem) => return Err(format!("{}: {problem}", program.display())),
        }
    }
    let installed = install::install(known.part, &known.recipe, places, |program| version(known, program));
    match (installed, known.part.find(places)?) {
        (Ok(()), Some(program)) => Ok(program),
        (Err(problem), Some(program)) if !program.starts_with(&folder) => {
            version(known, &program)?;
            say(format_args!("{}: {problem}; another part brings it along", known.part.name));
            Ok(program)
        }
        (Err(problem), _) => Err(problem),
        (Ok(()), None) => Err("it was installed and is not there".to_owned()),
    }
}

/// Asks the program which version it is, in a home of its own: some write there when they are only asked.
fn version(known: &Known, program: &Path) -> Done {
    if known.part.is_read {
        let text = std::fs::read_to_string(program).map_err(|error| format!("it cannot be read: {error}"))?;
        return judged(known, text.lines().next().unwrap_or_default());
    }
    let home = TempDir::new("home")?;
    let mut command = Command::new(program);
    command.args(known.ask).env("HOME", home.path()).stdin(Stdio::null());
    let answer = output_within(&mut command, install::ANSWER_LIMIT)?;
    judged(known, &answer)
}

fn judged(known: &Known, answer: &str) -> Done {
    let found = answer.lines().find_map(|line| line.strip_prefix(known.answer)).map(str::trim);
    match found {
        Some(found) if known.part.version == "any" || found == known.part.version => Ok(()),
        _ => Err(format!("it answers {:?} when asked for its version, not {}", answer.trim(), known.part.version)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_has_its_recipe_and_the_pins_say_one_version() {
        let names: Vec<&str> = KNOWN.iter().map(|known| known.part.name).collect();
        assert_eq!(names, ALL.map(|part| part.name));
        for known in KNOWN {
            let Recipe::Npm { manifest, lock, .. } = known.recipe else { continue };
            for text in [manifest, lock] {
                let read: serde_json::Value = serde_json::from_str(text).unwrap_or_default();
                assert!(read.is_object());
                assert!(text.contains(known.part.version), "{} in {text}", known.part.version);
                assert!(!text.contains("://"), "the registry is the machine's choice: {text}");
            }
            let packages: serde_json::Value = serde_json::from_str(lock).unwrap_or_default();
            let packages = packages["packages"].as_object().cloned().unwrap_or_default();
            assert!(packages.len() > 1);
            for (name, package) in packages.iter().filter(|(name, _)| !name.is_empty()) {
                let pinned = package["integrity"].as_str().is_some_and(|hash| hash.starts_with("sha512-"));
                assert!(pinned, "{name} has no hash");
            }
        }
    }

    #[test]
    fn an_answer_of_another_version_is_refused() {
        let [codex, bubblewrap, chromium, axe] = &KNOWN;
        assert_eq!(judged(codex, "WARNING: something\ncodex-cli 0.169.0\n"), Ok(()));
        assert!(judged(codex, "codex-cli 0.170.0\n").is_err());
        assert!(judged(codex, "").is_err());
        assert_eq!(judged(bubblewrap, "bubblewrap 0.8.0\n"), Ok(()));
        assert!(judged(bubblewrap, "bash: no such file\n").is_err());
        assert_eq!(judged(chromium, "Chromium 156.0.8078.108 built on Debian GNU/Linux 12 (bookworm)\n"), Ok(()));
        assert_eq!(judged(axe, "/*! axe v4.14.1"), Ok(()));
        assert!(judged(axe, "/*! axe v4.14.0").is_err());
    }
}
