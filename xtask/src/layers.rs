//! `layers`: the arrows of ARCHITECTURE.md, checked over the manifests.

use crate::metadata::{Metadata, Package};
use crate::shell::{Done, say};

/// Check which crate may depend on which.
#[derive(clap::Args, Default)]
pub(crate) struct Arguments {}

/// Each crate, and those of ours that it may depend on.
const ARROWS: [(&str, &[&str]); 12] = [
    ("dalsegno-core", &[]),
    ("dalsegno-durable", &[]),
    ("dalsegno-api", &[]),
    ("dalsegno-parts", &[]),
    ("dalsegno-engine", &["dalsegno-core", "dalsegno-durable"]),
    ("dalsegno-store", &["dalsegno-engine", "dalsegno-core", "dalsegno-durable"]),
    ("dalsegno-adapters", &["dalsegno-engine", "dalsegno-core"]),
    ("dalsegno-gateway", &["dalsegno-engine", "dalsegno-core", "dalsegno-durable", "dalsegno-api"]),
    ("dalsegno-testkit", &["dalsegno-core", "dalsegno-durable", "dalsegno-engine", "dalsegno-parts"]),
    (
        "dalsegno",
        &[
            "dalsegno-core",
            "dalsegno-durable",
            "dalsegno-engine",
            "dalsegno-store",
            "dalsegno-adapters",
            "dalsegno-api",
            "dalsegno-gateway",
        ],
    ),
    // Only what somebody has who embeds the library.
    ("dalsegno-examples", &["dalsegno-durable", "dalsegno-store"]),
    ("xtask", &["dalsegno-parts"]),
];

/// What tests may use besides: the test kit, which shows every port's contract.
const FOR_TESTS: &str = "dalsegno-testkit";

/// All that the core may take from outside: it reads no clock, no file, no network, and runs no task.
/// A new name belongs here only if it is pure.
const CORE_MAY_USE: [&str; 4] = ["serde", "serde_json", "sha2", "thiserror"];

/// Packages that make a layer what it is, and who may use them outside tests.
const CONFINED: [(&str, &[&str], &str); 11] = [
    ("rusqlite", &["dalsegno-store"], "only the store speaks SQL"),
    (
        "axum",
        &["dalsegno-gateway", "dalsegno-testkit"],
        "only the gateway serves HTTP; the test kit plays the language model",
    ),
    ("hyper", &[], "only the gateway serves HTTP, by axum"),
    (
        "ureq",
        &["dalsegno-api", "dalsegno-adapters"],
        "the daemon is reached through api, and services of others by adapters",
    ),
    ("rustls", &["dalsegno-adapters"], "only adapters speak TLS: to services of others"),
    ("rustls-native-certs", &["dalsegno-adapters"], "only adapters speak TLS: to services of others"),
    ("agent-client-protocol", &["dalsegno-adapters"], "agents are adapters"),
    ("liquid", &["dalsegno-adapters"], "templates are rendered by the workflow adapter"),
    (
        "serde-saphyr",
        &["dalsegno-adapters", "dalsegno-testkit"],
        "YAML is read by adapters, and scripts of the test kit",
    ),
    ("clap", &["dalsegno", "xtask"], "arguments are the binary's"),
    ("tracing-subscriber", &["dalsegno"], "where logs go is the binary's choice"),
];

pub(crate) fn run(_: &Arguments) -> Done {
    let members = Metadata::load()?.members();
    let mut problems = check(&members);
    problems.extend(idle(&members));
    for problem in &problems {
        say(problem);
    }
    if problems.is_empty() {
        say(format_args!("{} crates: layers ok", members.len()));
        Ok(())
    } else {
        Err(format!("{} dependencies or entries against the arrows of ARCHITECTURE.md", problems.len()))
    }
}

/// Every dependency that goes against an arrow.
pub(crate) fn check(members: &[Package]) -> Vec<String> {
    let mut problems = Vec::new();
    let ours = |name: &str| members.iter().any(|member| member.name == name);
    for member in members {
        let Some((_, may)) = ARROWS.iter().find(|(name, _)| *name == member.name) else {
            problems.push(format!("{}: a new crate needs its arrows in xtask/src/layers.rs", member.name));
            continue;
        };
        for dependency in &member.dependencies {
            let name = dependency.name.as_str();
            let for_tests = dependency.kind.as_deref() == Some("dev");
            if ours(name) && !may.contains(&name) && !(for_tests && (name == FOR_TESTS || name == member.name)) {
                problems.push(format!("{} may not depend on {name}", member.name));
            }
            if for_tests {
                continue;
            }
            if member.name == "dalsegno-core" && !ours(name) && !CORE_MAY_USE.contains(&name) {
                problems.push(format!("dalsegno-core may not use {name}: it is pure (see CORE_MAY_USE)"));
            }
            for (confined, to, why) in CONFINED {
                if name == confined && !to.contains(&member.name.as_str()) {
                    problems.push(format!("{} may not use {name}: {why}", member.name));
                }
            }
        }
    }
    problems
}

/// What is allowed and not used: it would let in tomorrow what nobody has looked at.
pub(crate) fn idle(members: &[Package]) -> Vec<String> {
    let uses = |user: &str, used: &str| {
        let shipped = |package: &&Package| package.name == user;
        members
            .iter()
            .filter(shipped)
            .flat_map(|package| &package.dependencies)
            .any(|dependency| dependency.name == used && dependency.kind.as_deref() != Some("dev"))
    };
    let arrows = ARROWS.iter().flat_map(|(user, may)| may.iter().map(move |used| (*user, *used)));
    let confined = CONFINED.iter().flat_map(|(used, to, _)| to.iter().map(move |user| (*user, *used)));
    arrows
        .chain(confined)
        .filter(|(user, used)| !uses(user, used))
        .map(|(user, used)| format!("{user} may use {used} and does not: take the entry out of xtask/src/layers.rs"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::tests::ours;

    #[test]
    fn what_is_allowed_and_not_used_is_found() {
        let mut members: Vec<Package> = ARROWS
            .iter()
            .map(|(name, may)| {
                let packages = CONFINED.iter().filter(|(_, to, _)| to.contains(name)).map(|(package, ..)| package);
                ours(name, &may.iter().chain(packages).map(|name| (*name, None)).collect::<Vec<_>>())
            })
            .collect();
        assert_eq!(idle(&members), Vec::<String>::new());
        members.retain(|member| member.name != "dalsegno-engine");
        let found = idle(&members);
        assert!(
            found.len() == 2 && found.iter().all(|problem| problem.starts_with("dalsegno-engine may use ")),
            "{found:?}"
        );
    }

    const DEV: Option<&str> = Some("dev");

    #[test]
    fn the_arrows_themselves_are_allowed() {
        let members: Vec<Package> = ARROWS
            .iter()
            .map(|(name, may)| ours(name, &may.iter().map(|name| (*name, None)).collect::<Vec<_>>()))
            .collect();
        assert_eq!(check(&members), Vec::<String>::new());
    }

    #[test]
    fn an_arrow_the_other_way_is_found() {
        let members = [ours("dalsegno-core", &[("dalsegno-engine", None)]), ours("dalsegno-engine", &[])];
        assert_eq!(check(&members), ["dalsegno-core may not depend on dalsegno-engine"]);
        let members = [ours("dalsegno-store", &[]), ours("dalsegno-gateway", &[("dalsegno-store", None)])];
        assert_eq!(check(&members), ["dalsegno-gateway may not depend on dalsegno-store"]);
    }

    #[test]
    fn build_dependencies_count_as_well() {
        let members = [ours("dalsegno-api", &[("dalsegno-core", Some("build"))]), ours("dalsegno-core", &[])];
        assert_eq!(check(&members), ["dalsegno-api may not depend on dalsegno-core"]);
    }

    #[test]
    fn tests_may_use_the_test_kit_and_nothing_else_is_loosened() {
        let kit = ours("dalsegno-testkit", &[]);
        let fine = ours("dalsegno-store", &[("dalsegno-testkit", DEV)]);
        assert_eq!(check(&[kit.clone(), fine]), Vec::<String>::new());
        let shipped = ours("dalsegno-store", &[("dalsegno-testkit", None)]);
        assert_eq!(check(&[kit, shipped]), ["dalsegno-store may not depend on dalsegno-testkit"]);
        let sideways = [ours("dalsegno-adapters", &[("dalsegno-store", DEV)]), ours("dalsegno-store", &[])];
        assert_eq!(check(&sideways), ["dalsegno-adapters may not depend on dalsegno-store"]);
    }

    #[test]
    fn the_core_takes_only_what_is_pure() {
        let members = [ours("dalsegno-core", &[("serde", None), ("proptest", DEV), ("tokio", None)])];
        let found = check(&members);
        assert!(matches!(found.as_slice(), [only] if only.contains("tokio")), "{found:?}");
    }

    #[test]
    fn sql_and_http_stay_where_they_are() {
        let members = [
            ours("dalsegno-gateway", &[("rusqlite", None), ("axum", None)]),
            ours("dalsegno-engine", &[("hyper", None)]),
            ours("dalsegno", &[("rusqlite", DEV), ("axum", None)]),
        ];
        assert_eq!(
            check(&members),
            [
                "dalsegno-gateway may not use rusqlite: only the store speaks SQL",
                "dalsegno-engine may not use hyper: only the gateway serves HTTP, by axum",
                "dalsegno may not use axum: only the gateway serves HTTP; the test kit plays the language model",
            ]
        );
    }

    #[test]
    fn a_new_crate_needs_arrows() {
        assert_eq!(check(&[ours("dalsegno-forge", &[])]).len(), 1);
    }
}
