//! `fuzz`: nonsense for every parser that meets bytes of others, from its corpus on. A workspace of its own in `fuzz/`.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::shell::{self, Done, root, say};
use crate::sim::seconds;
use crate::tool::Tool;

/// The workspace.
pub(crate) const MANIFEST: &str = "fuzz/Cargo.toml";
const CARGO_FUZZ: Tool = Tool { name: "cargo-fuzz", version: "0.13.2" };
/// Longest input in bytes: what breaks a parser is short.
const LONGEST: u32 = 16 * 1024;
/// Longest that one input may take, in seconds.
const HANGS: u32 = 10;

/// Feed parsers nonsense, each for a while, from its corpus on; cargo-fuzz is installed first where it is missing.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// How long each is fed, such as `60s` or `5m`.
    #[arg(long = "for", default_value = "60s", value_parser = seconds)]
    time: u64,
    /// The parsers; all of them without any.
    targets: Vec<String>,
}

pub(crate) fn run(arguments: &Arguments) -> Done {
    let program = CARGO_FUZZ.find_or_install()?;
    let known = targets()?;
    if let Some(other) = arguments.targets.iter().find(|target| !known.contains(target)) {
        return Err(format!("there is no parser {other}; there are {}", known.join(", ")));
    }
    let chosen = if arguments.targets.is_empty() { &known } else { &arguments.targets };
    let mut broken = Vec::new();
    for target in chosen {
        // What it learns is kept beside the corpus: only what was broken once goes into that.
        let grown = root().join("fuzz/grown").join(target);
        std::fs::create_dir_all(&grown).map_err(|error| format!("{} cannot be made: {error}", grown.display()))?;
        let mut feed = Command::new(&program);
        feed.args(["fuzz", "run", "--fuzz-dir", ".", "--target-dir", "../target/fuzz", "--sanitizer", "none", target]);
        feed.arg(&grown).arg(root().join("fuzz/corpus").join(target)).arg("--");
        feed.args([format!("-max_total_time={}", arguments.time), format!("-max_len={LONGEST}")]);
        feed.args([format!("-timeout={HANGS}"), "-print_final_stats=1".to_owned(), "-verbosity=0".to_owned()]);
        // The flags that it compiles with are not for the stable compiler, which has them all the same.
        feed.env("RUSTC_BOOTSTRAP", "1").current_dir(root().join("fuzz")).stdin(Stdio::null());
        if let Err(problem) = shell::run(&mut feed) {
            say(format_args!("!! {target}: {problem}"));
            broken.push(target.as_str());
        }
    }
    if broken.is_empty() {
        return Ok(());
    }
    Err(format!(
        "broken: {}; what broke them is in fuzz/artifacts: mend it, and move it into the corpus",
        broken.join(", ")
    ))
}

/// Names of all targets.
fn targets() -> Result<Vec<String>, String> {
    let folder = root().join("fuzz/fuzz_targets");
    let read = std::fs::read_dir(&folder).map_err(|error| format!("{} cannot be read: {error}", folder.display()))?;
    let stem = |path: &Path| path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
    let mut names: Vec<String> = read.flatten().filter_map(|entry| stem(&entry.path())).collect();
    names.sort();
    Ok(names)
}
