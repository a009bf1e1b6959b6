//! `compare`: the same work on Dalsegno and its peers. A workspace of its own in `compare/`, outside the default build.

use std::path::PathBuf;
use std::process::Command;

use crate::metadata::Metadata;
use crate::shell::{self, Done, TempDir, cargo, root, say};

/// The workspaces: the driver with our own side, and one for each peer.
pub(crate) const MANIFESTS: [&str; 4] = ["compare/Cargo.toml", LASH, DBOS, STENO];
const LASH: &str = "compare/lash/Cargo.toml";
const DBOS: &str = "compare/dbos/Cargo.toml";
const STENO: &str = "compare/steno/Cargo.toml";

/// Run the same work on Dalsegno and its peers, beside the rate at which the disk syncs, and print ratios.
///
/// The first build takes long: the peers are fetched from their public packages and compiled for release. DBOS needs PostgreSQL's
/// programs (Debian: the package postgresql); a server is started for it and ended afterwards.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Peers to leave out.
    #[arg(long, value_parser = ["lash", "dbos", "steno"])]
    without: Vec<String>,
    /// The only work that is done; without any, all of it is.
    #[arg(long, value_parser = ["effects", "replay", "reopen", "sagas"])]
    only: Vec<String>,
    /// Rounds; medians are printed.
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// How long each measurement takes, in milliseconds.
    #[arg(long, default_value_t = 3_000)]
    ms: u32,
    /// Where every measurement goes, one JSON object per line; `compare/results.jsonl` in the target directory without it.
    #[arg(long)]
    out: Option<PathBuf>,
}

pub(crate) fn run(arguments: &Arguments) -> Done {
    let target = Metadata::load()?.target_directory.join("compare");
    let mut without: Vec<&str> = arguments.without.iter().map(String::as_str).collect();
    if !without.contains(&"dbos") && !has_postgresql() {
        say("!! SKIPPED dbos: PostgreSQL is not installed (Debian: the package postgresql)");
        without.push("dbos");
    }
    for manifest in MANIFESTS {
        if !without.iter().any(|name| manifest.contains(name)) {
            build(&target, manifest)?;
        }
    }
    let out = arguments.out.clone().unwrap_or_else(|| target.join("results.jsonl"));
    // Below the target directory, because the system's temporary one may be memory, which syncs nothing.
    let dir = TempDir::within(&target, "run")?;
    let mut driver = Command::new(target.join("release/dalsegno-compare"));
    driver.arg("--dir").arg(dir.path()).arg("--out").arg(&out);
    driver.args(["--rounds", &arguments.rounds.to_string(), "--ms", &arguments.ms.to_string()]);
    for name in without {
        driver.args(["--without", name]);
    }
    for work in &arguments.only {
        driver.args(["--only", work]);
    }
    shell::run(&mut driver)?;
    say(format_args!("every measurement: {}", out.display()));
    Ok(())
}

fn build(target: &std::path::Path, manifest: &str) -> Done {
    let mut build = cargo(&["build", "--release", "--locked", "--manifest-path", manifest]);
    build.current_dir(root()).arg("--target-dir").arg(target);
    shell::run(&mut build)
}

fn has_postgresql() -> bool {
    let debian = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten().map(|version| version.path());
    let debian = debian.map(|version| version.join("bin"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    debian.chain(std::env::split_paths(&path)).any(|bin| bin.join("initdb").is_file())
}
