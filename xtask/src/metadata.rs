//! What `cargo metadata` tells about the packages and how they came in.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;

use serde::Deserialize;

use crate::shell::{cargo, output};

/// The answer of `cargo metadata --format-version 1`, as far as it is looked at.
#[derive(Debug, Deserialize)]
pub(crate) struct Metadata {
    pub(crate) packages: Vec<Package>,
    pub(crate) workspace_members: Vec<String>,
    pub(crate) resolve: Resolve,
    pub(crate) target_directory: PathBuf,
}

/// One package of one version.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Package {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) license: Option<String>,
    /// Registry or repository; none for a path.
    pub(crate) source: Option<String>,
    pub(crate) dependencies: Vec<Dependency>,
}

/// A dependency as the manifest declares it.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Dependency {
    pub(crate) name: String,
    /// None for a normal one, else `dev` or `build`.
    pub(crate) kind: Option<String>,
}

/// The graph that cargo chose.
#[derive(Debug, Deserialize)]
pub(crate) struct Resolve {
    pub(crate) nodes: Vec<Node>,
}

/// A package in the graph.
#[derive(Debug, Deserialize)]
pub(crate) struct Node {
    pub(crate) id: String,
    pub(crate) dependencies: Vec<String>,
}

impl Metadata {
    /// Asks cargo, which must not change the lock file for it.
    pub(crate) fn load() -> Result<Self, String> {
        Self::load_of("Cargo.toml")
    }

    /// The same of another workspace in the checkout.
    pub(crate) fn load_of(manifest: &str) -> Result<Self, String> {
        let answer =
            output(&mut cargo(&["metadata", "--format-version", "1", "--locked", "--manifest-path", manifest]))?;
        serde_json::from_str(&answer).map_err(|error| format!("cargo metadata cannot be read: {error}"))
    }

    /// The packages of this workspace.
    pub(crate) fn members(&self) -> Vec<Package> {
        self.packages.iter().filter(|package| self.workspace_members.contains(&package.id)).cloned().collect()
    }

    /// The shortest way from one of our packages to this one, as `ours → between → it 1.2.3`.
    pub(crate) fn how_it_came_in(&self, id: &str) -> String {
        let edges: BTreeMap<&str, &Node> = self.resolve.nodes.iter().map(|node| (node.id.as_str(), node)).collect();
        let mut queue: VecDeque<Vec<&str>> =
            self.workspace_members.iter().map(|member| vec![member.as_str()]).collect();
        let mut seen: BTreeSet<&str> = self.workspace_members.iter().map(String::as_str).collect();
        while let Some(way) = queue.pop_front() {
            let Some(last) = way.last().copied() else { continue };
            if last == id {
                return way.iter().map(|step| self.label(step)).collect::<Vec<_>>().join(" → ");
            }
            for next in edges.get(last).into_iter().flat_map(|node| &node.dependencies) {
                if seen.insert(next) {
                    queue.push_back(way.iter().copied().chain([next.as_str()]).collect());
                }
            }
        }
        format!("{} (no way found)", self.label(id))
    }

    fn label(&self, id: &str) -> String {
        match self.packages.iter().find(|package| package.id == id) {
            Some(package) if package.source.is_none() => package.name.clone(),
            Some(package) => format!("{} {}", package.name, package.version),
            None => id.to_owned(),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A package of ours with dependencies `(name, kind)`.
    pub(crate) fn ours(name: &str, dependencies: &[(&str, Option<&str>)]) -> Package {
        let dependencies = dependencies
            .iter()
            .map(|(name, kind)| Dependency { name: (*name).to_owned(), kind: kind.map(str::to_owned) })
            .collect();
        Package {
            id: name.to_owned(),
            name: name.to_owned(),
            version: "0.1.0".to_owned(),
            license: Some("MIT OR Apache-2.0".to_owned()),
            source: None,
            dependencies,
        }
    }

    /// A package of the registry.
    pub(crate) fn foreign(name: &str, version: &str, license: Option<&str>) -> Package {
        Package {
            id: format!("{name}@{version}"),
            name: name.to_owned(),
            version: version.to_owned(),
            license: license.map(str::to_owned),
            source: Some("registry+https://github.com/rust-lang/crates.io-index".to_owned()),
            dependencies: Vec::new(),
        }
    }

    /// Packages with the edges between their ids.
    pub(crate) fn graph(packages: Vec<Package>, edges: &[(&str, &[&str])]) -> Metadata {
        let members = packages.iter().filter(|package| package.source.is_none()).map(|package| package.id.clone());
        let nodes = edges.iter().map(|(id, to)| Node {
            id: (*id).to_owned(),
            dependencies: to.iter().map(|id| (*id).to_owned()).collect(),
        });
        Metadata {
            workspace_members: members.collect(),
            resolve: Resolve { nodes: nodes.collect() },
            packages,
            target_directory: PathBuf::new(),
        }
    }

    #[test]
    fn the_shortest_way_in_is_named() {
        let packages = vec![
            ours("app", &[]),
            foreign("a", "1.0.0", None),
            foreign("b", "1.0.0", None),
            foreign("c", "2.1.0", None),
        ];
        let edges: &[(&str, &[&str])] =
            &[("app", &["a@1.0.0", "b@1.0.0"]), ("a@1.0.0", &["b@1.0.0"]), ("b@1.0.0", &["c@2.1.0"])];
        assert_eq!(graph(packages, edges).how_it_came_in("c@2.1.0"), "app → b 1.0.0 → c 2.1.0");
    }
}
