//! `newcomer`: the README's first commands, on a fresh clone with an empty home.

use std::fs;
use std::process::{Command, Stdio};

use crate::shell::{self, Done, TempDir, cargo, output, root, say, with_empty_home};
use crate::steps::Steps;

/// Stands before the block of the README whose commands are run.
const MARK: &str = "<!-- `cargo xtask newcomer` runs the next block -->";

/// Clone the checkout to a temporary folder and run the README's first commands there, with an empty HOME.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Leave the clone where it is.
    #[arg(long)]
    keep: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Done {
    // Not below the system's temporary folder: in the sandbox of the agents that is another, empty one.
    let cache = dalsegno_parts::Places::from_env()?.folder;
    fs::create_dir_all(&cache).map_err(|error| format!("{} cannot be made: {error}", cache.display()))?;
    let mut folder = TempDir::within(&cache, "newcomer")?;
    if arguments.keep {
        folder.keep();
    }
    let (home, clone) = (folder.path().join("home"), folder.path().join("dalsegno"));
    fs::create_dir(&home).map_err(|error| format!("{} cannot be made: {error}", home.display()))?;

    let changed = output(Command::new("git").args(["status", "--porcelain"]).current_dir(root()))?;
    if !changed.is_empty() {
        say(format_args!("!! not committed, so not in the clone:\n{}", changed.trim_end()));
    }
    let mut steps = Steps::default();
    steps.take("git clone", || {
        shell::run(Command::new("git").args(["clone", "--quiet", "--no-hardlinks"]).arg(root()).arg(&clone))
    });
    if steps.last_ok() {
        let readme = clone.join("README.md");
        let text =
            fs::read_to_string(&readme).map_err(|error| format!("{} cannot be read: {error}", readme.display()))?;
        for line in commands(&text)? {
            steps.take(line, || {
                let mut words = line.split_whitespace();
                let mut command = match words.next() {
                    Some("cargo") => cargo(&[]),
                    Some(program) => Command::new(program),
                    None => return Ok(()),
                };
                command.args(words).current_dir(&clone).stdin(Stdio::null()).env_remove("CARGO_TARGET_DIR");
                with_empty_home(&mut command, &home);
                shell::run(&mut command)
            });
        }
    }
    steps.print_table();
    steps.verdict()
}

/// The commands of the marked block.
fn commands(readme: &str) -> Result<Vec<&str>, String> {
    let (_, rest) = readme.split_once(MARK).ok_or_else(|| format!("README.md has no line `{MARK}`"))?;
    let block = rest.trim_start().strip_prefix("```sh\n").and_then(|block| block.split_once("```"));
    let (block, _) = block.ok_or("the mark in README.md is not followed by a ```sh block")?;
    let commands: Vec<&str> = block
        .lines()
        .map(|line| line.split_once('#').map_or(line, |(command, _)| command).trim())
        .filter(|line| !line.is_empty())
        .collect();
    if commands.is_empty() { Err("the marked block of README.md is empty".to_owned()) } else { Ok(commands) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_marked_block_is_found_and_comments_are_left_out() {
        let readme = format!("# x\n```sh\nno\n```\n{MARK}\n```sh\ncargo a -- b   # why\n\n# alone\ncargo c\n```\n");
        assert_eq!(commands(&readme), Ok(vec!["cargo a -- b", "cargo c"]));
    }

    #[test]
    fn a_readme_without_the_mark_is_an_error() {
        assert!(commands("```sh\ncargo a\n```").is_err());
        assert!(commands(&format!("{MARK}\ntext\n```sh\ncargo a\n```")).is_err());
        assert!(commands(&format!("{MARK}\n```sh\n```")).is_err());
    }

    #[test]
    fn our_own_readme_names_the_two_commands() {
        let readme = include_str!("../../README.md");
        assert_eq!(commands(readme), Ok(vec!["cargo run --release -- demo", "cargo xtask test"]));
    }
}
