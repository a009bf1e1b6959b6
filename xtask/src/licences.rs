//! `licences`: which packages may come into the tree.
//!
//! The rules are in `xtask/licences.policy`:
//! - `allow LICENCE`: an SPDX licence that may be used, with its exception if it has one;
//! - `licence PACKAGE EXPRESSION: why`: what a package without a licence field is under;
//! - `ban PACKAGE: why`: a package that must not come in, not even through others;
//! - `source SOURCE`: where packages may come from.

use std::collections::{BTreeMap, BTreeSet};

use crate::fuzz;
use crate::metadata::{Metadata, Package};
use crate::shell::{Done, root, say};
use crate::spdx::Expression;

/// Check licences, banned packages and sources of everything in Cargo.lock, and in that of the fuzz targets.
#[derive(clap::Args, Default)]
pub(crate) struct Arguments {}

/// What `licences.policy` says.
#[derive(Debug, Default, PartialEq, Eq)]
struct Rules {
    allowed: Vec<String>,
    stated: BTreeMap<String, String>,
    banned: BTreeMap<String, String>,
    sources: BTreeSet<String>,
}

pub(crate) fn run(_: &Arguments) -> Done {
    let path = root().join("xtask/licences.policy");
    let text = std::fs::read_to_string(&path).map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
    let rules = Rules::parse(&text)?;
    let mut refused = 0;
    // What peers of `compare` are made of is theirs; it is neither shipped nor tested with.
    for manifest in ["Cargo.toml", fuzz::MANIFEST] {
        let metadata = Metadata::load_of(manifest)?;
        for duplicate in duplicates(&metadata.packages) {
            say(format_args!("note: {duplicate}"));
        }
        let problems = rules.check(&metadata);
        for problem in &problems {
            say(problem);
        }
        refused += problems.len();
        say(format_args!("{manifest}: {} packages looked at", metadata.packages.len()));
    }
    if refused == 0 {
        say("licences, bans and sources ok");
        Ok(())
    } else {
        Err(format!("{refused} packages may not come in; the rules are in xtask/licences.policy"))
    }
}

impl Rules {
    fn parse(text: &str) -> Result<Self, String> {
        let mut rules = Self::default();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let wrong = |what: &str| format!("licences.policy, line {}: {what}: {line}", index + 1);
            let (word, rest) = line.split_once(' ').ok_or_else(|| wrong("a rule has at least two words"))?;
            let reasoned = || rest.split_once(": ").ok_or_else(|| wrong("the reason is missing"));
            match word {
                "allow" => rules.allowed.push(rest.trim().to_owned()),
                "source" => _ = rules.sources.insert(rest.trim().to_owned()),
                "ban" => {
                    let (package, why) = reasoned()?;
                    rules.banned.insert(package.to_owned(), why.to_owned());
                }
                "licence" => {
                    let (stated, _why) = reasoned()?;
                    let (package, expression) =
                        stated.split_once(' ').ok_or_else(|| wrong("the licence is missing"))?;
                    rules.stated.insert(package.to_owned(), expression.to_owned());
                }
                _ => return Err(wrong("unknown rule")),
            }
        }
        Ok(rules)
    }

    fn check(&self, metadata: &Metadata) -> Vec<String> {
        let mut problems = Vec::new();
        for package in &metadata.packages {
            for problem in self.problems_of(package) {
                problems.push(format!(
                    "{} {}: {problem}\n    by {}",
                    package.name,
                    package.version,
                    metadata.how_it_came_in(&package.id)
                ));
            }
        }
        problems
    }

    fn problems_of(&self, package: &Package) -> Vec<String> {
        let mut problems = Vec::new();
        if let Some(why) = self.banned.get(&package.name) {
            problems.push(format!("banned: {why}"));
        }
        if let Some(source) = &package.source
            && !self.sources.contains(source)
        {
            problems.push(format!("comes from {source}"));
        }
        let licence = package.license.as_ref().or_else(|| self.stated.get(&package.name));
        match licence.map(|text| (text, Expression::parse(text))) {
            None => problems.push("states no licence".to_owned()),
            Some((text, Err(problem))) => problems.push(format!("the licence {text:?} cannot be read: {problem}")),
            Some((text, Ok(expression))) if !expression.satisfied_by(&self.allowed) => {
                problems.push(format!("the licence {text:?} is not allowed"));
            }
            Some((_, Ok(_))) => {}
        }
        problems
    }
}

/// Packages that are there in more than one incompatible version. Reported, not refused.
fn duplicates(packages: &[Package]) -> Vec<String> {
    let mut versions: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for package in packages {
        versions.entry(&package.name).or_default().insert(compatible(&package.version));
    }
    versions
        .into_iter()
        .filter(|(_, versions)| versions.len() > 1)
        .map(|(name, versions)| format!("{name} is there {} times: {}", versions.len(), join(&versions)))
        .collect()
}

fn join(words: &BTreeSet<String>) -> String {
    words.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
}

/// The part of a version that decides about compatibility: `1`, `0.4`, `0.0.7`.
fn compatible(version: &str) -> String {
    let numbers: Vec<&str> = version.split(['.', '-', '+']).take(3).collect();
    let leading_zeros = numbers.iter().take_while(|number| **number == "0").count();
    numbers.get(..=leading_zeros).unwrap_or(&numbers).join(".")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::tests::{foreign, graph, ours};

    fn rules() -> Rules {
        Rules::parse(
            "# comment\n\nallow MIT\nban evil: it is\nlicence silent MIT: says so in its README\n\
             source registry+https://github.com/rust-lang/crates.io-index\n",
        )
        .unwrap_or_default()
    }

    #[test]
    fn our_own_policy_can_be_read() {
        let rules = Rules::parse(include_str!("../licences.policy"));
        assert!(rules.is_ok_and(|rules| rules.allowed.contains(&"MIT".to_owned()) && rules.banned.len() > 3));
    }

    #[test]
    fn a_rule_without_its_reason_is_refused() {
        assert!(Rules::parse("ban evil").is_err());
        assert!(Rules::parse("licence silent: no").is_err());
        assert!(Rules::parse("forbid x: y").is_err());
        assert!(Rules::parse("allow").is_err());
    }

    #[test]
    fn a_good_package_has_no_problem() {
        let rules = rules();
        assert_eq!(rules.problems_of(&foreign("good", "1.0.0", Some("MIT OR GPL-3.0-only"))), Vec::<String>::new());
        assert_eq!(rules.problems_of(&foreign("silent", "1.0.0", None)), Vec::<String>::new());
    }

    #[test]
    fn licence_ban_and_source_are_looked_at() {
        let rules = rules();
        assert_eq!(rules.problems_of(&foreign("x", "1.0.0", Some("GPL-3.0-only"))).len(), 1);
        assert_eq!(rules.problems_of(&foreign("x", "1.0.0", None)), ["states no licence"]);
        assert_eq!(rules.problems_of(&foreign("x", "1.0.0", Some("MIT OR"))).len(), 1);
        assert_eq!(rules.problems_of(&foreign("evil", "1.0.0", Some("MIT"))), ["banned: it is"]);
        let mut elsewhere = foreign("x", "1.0.0", Some("MIT"));
        elsewhere.source = Some("git+https://example.org/x".to_owned());
        assert_eq!(rules.problems_of(&elsewhere), ["comes from git+https://example.org/x"]);
    }

    #[test]
    fn a_problem_names_how_the_package_came_in() {
        let packages =
            vec![ours("app", &[]), foreign("mid", "1.0.0", Some("MIT")), foreign("evil", "2.0.0", Some("MIT"))];
        let metadata = graph(packages, &[("app", &["mid@1.0.0"]), ("mid@1.0.0", &["evil@2.0.0"])]);
        let found = rules().check(&metadata);
        assert!(matches!(found.as_slice(), [only] if only.contains("by app → mid 1.0.0 → evil 2.0.0")), "{found:?}");
    }

    #[test]
    fn only_incompatible_versions_are_duplicates() {
        let twice = [foreign("a", "1.2.0", None), foreign("a", "1.9.0", None)];
        assert_eq!(duplicates(&twice), Vec::<String>::new());
        let apart = [foreign("a", "0.4.0", None), foreign("a", "0.5.1", None), foreign("b", "1.0.0", None)];
        assert_eq!(duplicates(&apart), ["a is there 2 times: 0.4, 0.5"]);
        assert_eq!(compatible("0.0.7"), "0.0.7");
        assert_eq!(compatible("0.11.1+wasi-snapshot"), "0.11");
        assert_eq!(compatible("2.0.0"), "2");
    }
}
