//! `unused`: a dependency that a manifest names is named in the crate's sources, and one that the workspace offers in some
//! crate's manifest.

use std::collections::BTreeSet;

use super::{Finding, Source};

const WORKSPACE: &str = "Cargo.toml";
const MANIFEST: &str = "/Cargo.toml";
/// Where a crate's tests are, besides those in its sources.
const TESTS: [&str; 3] = ["tests/", "benches/", "examples/"];
/// A workspace of its own: its crates are there to be run against, and macros of theirs name what nobody else does.
const APART: &str = "compare/";

pub(super) fn check(sources: &[Source]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut wanted = BTreeSet::new();
    let manifests = sources.iter().filter(|source| source.path.ends_with(MANIFEST));
    for manifest in manifests.filter(|manifest| !manifest.path.starts_with(APART)) {
        let folder = manifest.path.strip_suffix("Cargo.toml").unwrap_or_default();
        for Declared { name, line, section } in declared(&manifest.text) {
            wanted.insert(name.clone());
            let counts = |rest: &str| section == Section::Tests || !TESTS.iter().any(|tests| rest.starts_with(tests));
            let is_named = sources
                .iter()
                .filter(|source| source.path.ends_with(".rs"))
                .filter(|source| source.path.strip_prefix(folder).is_some_and(counts))
                .any(|source| names(&source.text, &name.replace('-', "_"), section));
            if section != Section::Workspace && !is_named {
                let message = format!("nothing of this crate names `{name}`: leave it out");
                findings.push(finding(&manifest.path, line, message));
            }
        }
    }
    if let Some(workspace) = sources.iter().find(|source| source.path == WORKSPACE) {
        let offered = declared(&workspace.text).into_iter().filter(|declared| declared.section == Section::Workspace);
        for Declared { name, line, .. } in offered.filter(|declared| !wanted.contains(&declared.name)) {
            findings.push(finding(WORKSPACE, line, format!("no crate takes `{name}`: leave it out")));
        }
    }
    findings
}

fn finding(path: &str, line: usize, message: String) -> Finding {
    Finding { path: path.to_owned(), line, rule: "unused", message, note: false }
}

/// What a section of a manifest is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Section {
    Workspace,
    Crate,
    Tests,
}

/// A dependency as a manifest names it.
struct Declared {
    name: String,
    line: usize,
    section: Section,
}

fn declared(manifest: &str) -> Vec<Declared> {
    let mut section = None;
    let mut found = Vec::new();
    for (number, line) in (1..).zip(manifest.lines()) {
        let line = line.trim();
        if let Some(name) = line.strip_prefix('[') {
            section = match name.trim_end_matches(']') {
                "workspace.dependencies" => Some(Section::Workspace),
                "dev-dependencies" => Some(Section::Tests),
                name if name.ends_with("dependencies") => Some(Section::Crate),
                _ => None,
            };
            continue;
        }
        let end = line.find(|c: char| !c.is_ascii_alphanumeric() && c != '-' && c != '_').unwrap_or(line.len());
        if let (Some(section), Some(name)) = (section, line.get(..end).filter(|name| !name.is_empty())) {
            found.push(Declared { name: name.to_owned(), line: number, section });
        }
    }
    found
}

/// Whether the text names a crate as code does: in a path, an import or an attribute. Documentation counts for tests: it
/// is compiled as one.
fn names(text: &str, name: &str, section: Section) -> bool {
    let is_part = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    text.lines()
        .filter(|line| {
            let line = line.trim_start();
            let documents = line.starts_with("///") || line.starts_with("//!");
            !line.starts_with("//") || (documents && section == Section::Tests)
        })
        .any(|line| {
            line.match_indices(name).any(|(at, _)| {
                let (before, after) = (line.get(..at).unwrap_or(""), line.get(at + name.len()..).unwrap_or(""));
                let whole = !is_part(before.chars().next_back()) && !is_part(after.chars().next());
                let imported = before.trim_end().ends_with("use") || before.trim_end().ends_with("extern crate");
                whole && (after.starts_with("::") || imported)
            })
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(path: &str, text: &str) -> Source {
        Source { path: path.to_owned(), text: text.to_owned() }
    }

    fn messages(sources: &[Source]) -> Vec<String> {
        check(sources)
            .into_iter()
            .map(|finding| format!("{}:{}: {}", finding.path, finding.line, finding.message))
            .collect()
    }

    #[test]
    fn a_dependency_that_no_source_names_is_found() {
        let manifest = "[package]\nname = \"x\"\n\n[dependencies]\nserde.workspace = true\ntokio-util = { workspace = true }\nused-one = \"1\"\n";
        let code = "// tokio_util::x\nuse used_one;\nlet value = serde_json::json!({});\n";
        let sources = [source("crates/x/Cargo.toml", manifest), source("crates/x/src/lib.rs", code)];
        assert_eq!(
            messages(&sources),
            [
                "crates/x/Cargo.toml:5: nothing of this crate names `serde`: leave it out",
                "crates/x/Cargo.toml:6: nothing of this crate names `tokio-util`: leave it out",
            ]
        );
        let other =
            [source("crates/y/Cargo.toml", "[dependencies]\nserde = \"1\"\n"), source("crates/x/src/a.rs", "serde::x")];
        assert_eq!(messages(&other).len(), 1, "another crate's sources do not count");
    }

    #[test]
    fn what_tests_use_is_for_tests() {
        let tests = source("crates/x/tests/x.rs", "serde::x();\n");
        let of =
            |section: &str| [source("crates/x/Cargo.toml", &format!("[{section}]\nserde = \"1\"\n")), tests.clone()];
        assert_eq!(messages(&of("dev-dependencies")), Vec::<String>::new());
        assert_eq!(messages(&of("dependencies")).len(), 1);
        let documented = source("crates/x/src/lib.rs", "//! ```\n//! tokio::spawn(x);\n//! ```\n");
        let manifest = source("crates/x/Cargo.toml", "[dev-dependencies]\ntokio.workspace = true\n");
        assert_eq!(messages(&[manifest, documented]), Vec::<String>::new());
    }

    #[test]
    fn what_the_workspace_offers_and_nobody_takes_is_found() {
        let workspace = source(
            "Cargo.toml",
            "[workspace.dependencies]\ninsta = \"1\"\nserde = \"1\"\n\n[profile.dev]\ndebug = 1\n",
        );
        let member = source("crates/x/Cargo.toml", "[dependencies]\nserde.workspace = true\n");
        let code = source("crates/x/src/lib.rs", "use serde::Serialize;\n");
        assert_eq!(messages(&[workspace, member, code]), ["Cargo.toml:2: no crate takes `insta`: leave it out"]);
    }
}
