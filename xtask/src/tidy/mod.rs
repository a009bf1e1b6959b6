//! `tidy`: what no compiler looks at. Each rule looks at one file and says what it found where.
//!
//! A line that has to break a rule says so, on itself or on the line before: `tidy: <rule> because <reason>`.

mod dependencies;
mod documents;
mod errors;
mod layout;
mod rules;
mod words;

use std::fs;
use std::path::{Path, PathBuf};

use self::words::Glossary;
use crate::layers;
use crate::shell::{Done, root, say};

/// Check file lengths, names, words, layers, and that the documents speak of what is there.
#[derive(clap::Args, Default)]
pub(crate) struct Arguments {
    /// Look at the files of this checkout instead; layers are left out then.
    #[arg(long)]
    root: Option<PathBuf>,
}

/// A file of the tree.
#[derive(Clone)]
pub(crate) struct Source {
    /// Relative to the root, with `/`.
    pub(crate) path: String,
    /// Its text.
    pub(crate) text: String,
}

/// Something that should not be there.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) path: String,
    /// From 1.
    pub(crate) line: usize,
    /// Name of the rule.
    pub(crate) rule: &'static str,
    pub(crate) message: String,
    /// Only reported.
    pub(crate) note: bool,
}

/// Folders below the root that are looked at, and every document in the root itself.
const FOLDERS: [&str; 6] = ["crates", "examples", "compare", "xtask", "docs", ".ci"];
/// Most bytes of a file that is looked at; more is no source.
const MAX_BYTES: u64 = 2_000_000;

pub(crate) fn run(arguments: &Arguments) -> Done {
    let sources = sources(arguments.root.as_deref().unwrap_or(&root()))?;
    let glossary = Glossary::of(&sources);
    let mut findings: Vec<Finding> = sources.iter().flat_map(|source| check(source, &glossary)).collect();
    findings.extend(dependencies::check(&sources));
    findings.extend(documents::check(&sources));
    findings.extend(errors::check(&sources));
    for finding in &findings {
        let kind = if finding.note { "note: " } else { "" };
        say(format_args!("{}:{}: {kind}{}: {}", finding.path, finding.line, finding.rule, finding.message));
    }
    let layers = match arguments.root {
        Some(_) => Ok(()),
        None => layers::run(&layers::Arguments::default()),
    };
    let wrong = findings.iter().filter(|finding| !finding.note).count();
    if wrong > 0 {
        let layers = layers.err().map(|problem| format!("; {problem}")).unwrap_or_default();
        return Err(format!("{wrong} findings in {} files{layers}", sources.len()));
    }
    say(format_args!("{} files: tidy", sources.len()));
    layers
}

/// All rules on one file, without those that the file excuses.
fn check(source: &Source, glossary: &Glossary) -> Vec<Finding> {
    let mut findings = layout::check(source);
    findings.extend(words::check(source, glossary));
    if source.path.ends_with(".rs") {
        findings.extend(rules::check(source));
    }
    let lines: Vec<&str> = source.text.lines().collect();
    findings.retain(|finding| !excused(&lines, finding));
    findings
}

fn excused(lines: &[&str], finding: &Finding) -> bool {
    let excuse = format!("tidy: {} because ", finding.rule);
    let at = finding.line.saturating_sub(1);
    [Some(at), at.checked_sub(1)]
        .into_iter()
        .flatten()
        .filter_map(|index| lines.get(index))
        .filter_map(|line| line.split_once(&excuse))
        .any(|(_, reason)| !reason.trim().is_empty())
}

/// Number of the line on which the file's own test module begins, or of the line after its last.
fn first_test_line(text: &str) -> usize {
    let lines: Vec<&str> = text.lines().collect();
    lines.iter().position(|line| *line == "#[cfg(test)]").map_or(lines.len() + 1, |index| index + 1)
}

/// Whether all of the file is tests.
fn is_test_file(path: &str) -> bool {
    path.contains("/tests/") || path.ends_with("/tests.rs") || path.contains("/benches/")
}

/// Lines of code with their numbers: no comments, no tests.
fn code_lines(source: &Source) -> impl Iterator<Item = (usize, &str)> {
    let until = if is_test_file(&source.path) { 0 } else { first_test_line(&source.text) };
    source
        .text
        .lines()
        .enumerate()
        .map(|(index, line)| (index + 1, line))
        .take_while(move |(number, _)| *number < until)
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
}

fn sources(root: &Path) -> Result<Vec<Source>, String> {
    let mut found = Vec::new();
    for folder in FOLDERS {
        if root.join(folder).is_dir() {
            collect(root, &root.join(folder), &mut found)?;
        }
    }
    for entry in entries(root)? {
        if entry.extension().is_some_and(|extension| extension == "md" || extension == "toml") {
            found.extend(read(root, &entry)?);
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

fn collect(root: &Path, folder: &Path, found: &mut Vec<Source>) -> Result<(), String> {
    for entry in entries(folder)? {
        let name = entry.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if entry.is_symlink() || name == "target" || name.starts_with('.') {
            continue;
        }
        if entry.is_dir() {
            collect(root, &entry, found)?;
        } else {
            found.extend(read(root, &entry)?);
        }
    }
    Ok(())
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let unreadable = |error: std::io::Error| format!("{} cannot be read: {error}", folder.display());
    fs::read_dir(folder).map_err(unreadable)?.map(|entry| entry.map(|entry| entry.path()).map_err(unreadable)).collect()
}

/// The file, if it is a text of reasonable size.
fn read(root: &Path, path: &Path) -> Result<Option<Source>, String> {
    let unreadable = |error: std::io::Error| format!("{} cannot be read: {error}", path.display());
    if fs::metadata(path).map_err(unreadable)?.len() > MAX_BYTES {
        return Ok(None);
    }
    let Ok(text) = String::from_utf8(fs::read(path).map_err(unreadable)?) else { return Ok(None) };
    let relative = path.strip_prefix(root).unwrap_or(path);
    let path = relative.components().map(|part| part.as_os_str().to_string_lossy()).collect::<Vec<_>>().join("/");
    Ok(Some(Source { path, text }))
}

#[cfg(test)]
pub(crate) mod tests;
