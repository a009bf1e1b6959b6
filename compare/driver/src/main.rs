//! Runs the same work on Dalsegno and its peers, one after the other, several rounds, and beside each the rate at which this
//! disk syncs in that very minute. Prints a table of medians with ratios; `--out` keeps every measurement as JSON lines.

mod raw;
mod report;

use std::error::Error;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

type Failed = Box<dyn Error>;

/// A side in one of its settings.
struct Side {
    name: &'static str,
    program: &'static str,
    sync: &'static str,
    /// The work that it takes part in.
    does: &'static [&'static str],
}

const SIDES: [Side; 5] = [
    Side {
        name: "dalsegno",
        program: "compare-dalsegno",
        sync: "full",
        does: &["effects", "replay", "reopen", "sagas"],
    },
    // Its replays write nothing, so they are measured once.
    Side { name: "lash FULL", program: "compare-lash", sync: "full", does: &["effects"] },
    Side { name: "lash NORMAL", program: "compare-lash", sync: "normal", does: &["effects", "replay", "reopen"] },
    Side { name: "dbos", program: "compare-dbos", sync: "full", does: &["effects"] },
    Side { name: "steno", program: "compare-steno", sync: "full", does: &["sagas"] },
];
const WORK: [(&str, u32); 10] = [
    ("effects", 1),
    ("effects", 64),
    ("effects", 512),
    ("replay", 1),
    ("replay", 64),
    ("reopen", 1),
    ("reopen", 64),
    ("sagas", 1),
    ("sagas", 16),
    ("sagas", 64),
];

const USAGE: &str =
    "usage: dalsegno-compare --dir DIR [--rounds N] [--ms MILLISECONDS] [--without PEER]… [--only WORK]… [--out FILE]";

struct Options {
    dir: PathBuf,
    out: Option<PathBuf>,
    rounds: usize,
    ms: u64,
    without: Vec<String>,
    /// The only work that is done; without any, all of it is.
    only: Vec<String>,
}

fn main() -> Result<(), Failed> {
    let options = options()?;
    std::fs::create_dir_all(&options.dir)?;
    let mut sides = Vec::new();
    for side in &SIDES {
        if options.without.iter().any(|peer| side.name.starts_with(peer.as_str())) {
            continue;
        }
        let program = std::env::current_exe()?.with_file_name(side.program);
        if program.is_file() {
            sides.push((side, program));
        } else {
            eprintln!("!! SKIPPED {}: there is no {}", side.name, program.display());
        }
    }
    let mut lines: Vec<Value> = Vec::new();
    for (work, scopes) in WORK {
        if !options.only.is_empty() && !options.only.iter().any(|only| only == work) {
            continue;
        }
        for round in 0..options.rounds {
            // Another one is first in each round: what the disk does by and by hits none more than the others.
            for turn in 0..sides.len() {
                let (side, program) = &sides[(turn + round) % sides.len()];
                if !side.does.contains(&work) {
                    continue;
                }
                // The disk changes its pace by the minute, so it is looked at on both sides.
                let before = raw::measure(&options.dir)?;
                let mut line = run(side, program, work, scopes, &options)?;
                let raw = before.mean(&raw::measure(&options.dir)?);
                if let Some(fields) = line.as_object_mut() {
                    fields.insert("raw_overwrite".into(), json!(raw.overwrite));
                    fields.insert("raw_append".into(), json!(raw.append));
                    fields.insert("round".into(), json!(round));
                }
                eprintln!("{line}");
                lines.push(line);
            }
        }
    }
    if let Some(out) = &options.out {
        let mut file = File::create(out)?;
        lines.iter().try_for_each(|line| writeln!(file, "{line}"))?;
    }
    println!("{}", report::table(&lines));
    Ok(())
}

/// One measurement, in a fresh directory.
fn run(side: &Side, program: &Path, work: &str, scopes: u32, options: &Options) -> Result<Value, Failed> {
    let dir = options.dir.join("side");
    std::fs::create_dir(&dir)?;
    let mut command = Command::new(program);
    command.arg(&dir).args([work, &scopes.to_string(), side.sync, &options.ms.to_string()]);
    let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output()?;
    std::fs::remove_dir_all(&dir)?;
    if !output.status.success() {
        return Err(format!("{} ended with {}", side.name, output.status).into());
    }
    let mut line: Value = serde_json::from_slice(&output.stdout)?;
    if let Some(fields) = line.as_object_mut() {
        fields.insert("side".into(), json!(side.name));
        fields.insert("work".into(), json!(work));
        fields.insert("scopes".into(), json!(scopes));
    }
    Ok(line)
}

fn options() -> Result<Options, Failed> {
    let mut options =
        Options { dir: PathBuf::new(), out: None, rounds: 3, ms: 3_000, without: Vec::new(), only: Vec::new() };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match (word.as_str(), words.next()) {
            ("--dir", Some(dir)) => options.dir = PathBuf::from(dir),
            ("--out", Some(out)) => options.out = Some(PathBuf::from(out)),
            ("--rounds", Some(rounds)) => options.rounds = rounds.parse()?,
            ("--without", Some(peer)) => options.without.push(peer),
            ("--only", Some(work)) => options.only.push(work),
            ("--ms", Some(ms)) => options.ms = ms.parse()?,
            _ => return Err(USAGE.into()),
        }
    }
    if options.dir.as_os_str().is_empty() {
        return Err(USAGE.into());
    }
    Ok(options)
}
