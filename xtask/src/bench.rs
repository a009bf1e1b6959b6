//! `bench`: the benchmarks of store and start, with their results as JSON lines.

use std::fs;
use std::path::PathBuf;

use crate::metadata::Metadata;
use crate::shell::{Done, cargo, run_lines, say};

/// Run the benchmarks of store and start, and keep the results as JSON, one object per line.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Where the results go; `bench/results.jsonl` in the target directory without it.
    #[arg(long)]
    out: Option<PathBuf>,
}

pub(crate) fn run(arguments: &Arguments) -> Done {
    let out = match &arguments.out {
        Some(out) => out.clone(),
        None => Metadata::load()?.target_directory.join("bench/results.jsonl"),
    };
    let mut results = String::new();
    for package in ["dalsegno-store", "dalsegno"] {
        run_lines(&mut cargo(&["bench", "--locked", "--package", package, "--bench", "*"]), |line| {
            if serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(line).is_ok() {
                results.push_str(line);
                results.push('\n');
            }
        })?;
    }
    if results.is_empty() {
        return Err("the benchmarks printed no JSON object".to_owned());
    }
    let written = out.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::write(&out, &results));
    written.map_err(|error| format!("{} cannot be written: {error}", out.display()))?;
    say(format_args!("{} results in {}", results.lines().count(), out.display()));
    Ok(())
}
