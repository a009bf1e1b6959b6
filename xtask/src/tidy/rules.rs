//! Rules on Rust sources: where output, SQL, clocks and unlimited queues may not be, and reasons for silenced lints.

use super::{Finding, Source, code_lines};

/// A rule that forbids texts in the code of some files.
struct Forbidden {
    rule: &'static str,
    /// Beginnings of the paths that it holds for.
    within: &'static [&'static str],
    /// Beginnings of the paths that are free of it.
    except: &'static [&'static str],
    texts: &'static [&'static str],
    message: &'static str,
}

const FORBIDDEN: [Forbidden; 5] = [
    Forbidden {
        rule: "print",
        within: &["crates/", "xtask/"],
        except: &["xtask/src/tidy/", "crates/testkit/", "crates/adapters/examples/"],
        texts: &["println!(", "print!(", "dbg!("],
        message: "write to a handle and look at the result; logs go through tracing",
    },
    Forbidden {
        rule: "pure",
        within: &["crates/core/src/"],
        except: &[],
        texts: &[
            "std::time::",
            "std::env",
            "std::fs",
            "std::net",
            "std::process",
            "std::thread",
            "std::io",
            "HashMap",
            "HashSet",
            "async fn",
            "static mut",
            "thread_local!",
        ],
        message: "the core is pure (docs/invariants.md, 1)",
    },
    Forbidden {
        rule: "pure",
        within: &["crates/durable/src/"],
        // The clock that hosts are given, and no rule.
        except: &["crates/durable/src/clock.rs"],
        texts: &["SystemTime", "Instant::now", "std::env", "std::fs", "std::net", "std::process"],
        message: "the rules of durable read no clock, environment, file or network (docs/invariants.md, 1)",
    },
    Forbidden {
        rule: "sql",
        within: &["crates/", "examples/"],
        except: &["crates/store/"],
        texts: &["\"SELECT ", "\"INSERT ", "\"UPDATE ", "\"DELETE FROM", "\"CREATE TABLE", "\"PRAGMA ", "rusqlite::"],
        message: "only the store speaks SQL (docs/invariants.md, 4)",
    },
    Forbidden {
        rule: "bounded",
        within: &["crates/", "examples/"],
        except: &[],
        texts: &["unbounded_channel(", "unbounded_channel::", "mpsc::unbounded"],
        message: "every queue has a limit (docs/invariants.md, 6)",
    },
];

pub(super) fn check(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    for rule in FORBIDDEN {
        let starts = |paths: &[&str]| paths.iter().any(|path| source.path.starts_with(path));
        if !starts(rule.within) || starts(rule.except) {
            continue;
        }
        for (line, code) in code_lines(source) {
            if let Some(text) = rule.texts.iter().find(|text| code.contains(**text)) {
                let message = format!("`{}`: {}", text.trim_matches(['"', ' ']), rule.message);
                findings.push(Finding { path: source.path.clone(), line, rule: rule.rule, message, note: false });
            }
        }
    }
    if !source.path.starts_with("xtask/src/tidy/") {
        findings.extend(silenced_without_reason(source));
    }
    findings
}

/// `allow` and `expect` attributes that do not say why.
fn silenced_without_reason(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    for opening in ["#[allow(", "#![allow(", "#[expect(", "#![expect("] {
        for (at, _) in source.text.match_indices(opening) {
            let (before, rest) = source.text.split_at(at);
            let line = before.matches('\n').count() + 1;
            let in_comment = before
                .lines()
                .next_back()
                .is_some_and(|start| !before.ends_with('\n') && start.trim_start().starts_with("//"));
            let attribute = rest.split_once(")]").map_or(rest, |(attribute, _)| attribute);
            if !in_comment && !attribute.contains("reason = \"") {
                let message = "a silenced lint says why: `reason = \"…\"`".to_owned();
                findings.push(Finding { path: source.path.clone(), line, rule: "reason", message, note: false });
            }
        }
    }
    findings
}
