//! `real`: the kill matrix with the real Codex, and its table in the documents.

use std::fs;

use crate::crash::crash_test;
use crate::parts;
use crate::shell::{Done, TempDir, root, say};
use crate::tally::{Tally, run_counted};

/// The document with the table, and the lines around it.
const DOCUMENT: &str = "docs/agents/codex.md";
const BEGIN: &str = "<!-- table: cargo xtask real --write -->";
const END: &str = "<!-- end of the table -->";

/// Kill the real Codex and the daemon at each moment of an issue's life, one scene each, and tell what survived.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Walk only this many rows, chosen by the seed.
    #[arg(long, conflicts_with = "write")]
    sample: Option<u32>,
    /// Seed of the choice.
    #[arg(long, default_value_t = 7, requires = "sample")]
    seed: u64,
    /// Write the table into the document about it.
    #[arg(long)]
    write: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Done {
    let place = TempDir::new("real")?;
    let file = place.path().join("table.md");
    let mut command = crash_test("codex::kills");
    let found = parts::find_or_install_of(&[&dalsegno_parts::CODEX, &dalsegno_parts::BUBBLEWRAP])?;
    if let Some(problem) = found.iter().find_map(|part| part.program.as_ref().err()) {
        return Err(problem.clone());
    }
    parts::hand_over(&found, &mut command)?;
    command.env("DALSEGNO_REAL", rows(arguments)).env("DALSEGNO_REAL_TABLE", &file);
    let mut tally = Tally::default();
    let done = run_counted(&mut command, &mut tally);
    say(format_args!("{} passed, {} failed", tally.passed, tally.failed));
    done?;
    if arguments.write {
        let table = fs::read_to_string(&file).map_err(|error| format!("the walk left no table: {error}"))?;
        let document = root().join(DOCUMENT);
        let text = fs::read_to_string(&document).map_err(|error| format!("{DOCUMENT}: {error}"))?;
        fs::write(&document, with_table(&text, &table)?).map_err(|error| format!("{DOCUMENT}: {error}"))?;
        say(format_args!("{DOCUMENT} has the table"));
    }
    Ok(())
}

/// What the test reads from its environment.
fn rows(arguments: &Arguments) -> String {
    match arguments.sample {
        None => "all".to_owned(),
        Some(rows) => format!("sample:{rows}:{}", arguments.seed),
    }
}

/// The document with another table.
fn with_table(text: &str, table: &str) -> Result<String, String> {
    let missing = || format!("{DOCUMENT} has no lines `{BEGIN}` and `{END}`, in this order");
    let (before, rest) = text.split_once(BEGIN).ok_or_else(missing)?;
    let (_, after) = rest.split_once(END).ok_or_else(missing)?;
    Ok(format!("{before}{BEGIN}\n{}\n{END}{after}", table.trim_end()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_table_is_replaced() {
        let text = format!("a\n{BEGIN}\n| old |\n{END}\nb\n");
        assert_eq!(with_table(&text, "| new |\n\n"), Ok(format!("a\n{BEGIN}\n| new |\n{END}\nb\n")));
        assert!(with_table("a", "").is_err());
        assert!(with_table(&format!("{END}\n{BEGIN}"), "").is_err());
    }

    #[test]
    fn the_rows_are_spelled_as_the_test_reads_them() {
        let arguments = |sample| Arguments { sample, seed: 3, write: false };
        assert_eq!(rows(&arguments(None)), "all");
        assert_eq!(rows(&arguments(Some(2))), "sample:2:3");
    }
}
