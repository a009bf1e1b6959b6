//! `docs/cli.md`: written from the arguments, and checked against them.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::fmt::Write;
use std::path::Path;

use clap::CommandFactory;

use crate::cli::Cli;
use crate::settings::env;

fn reference() -> String {
    let mut page = "# Command line\n\nThis page is written from the program's own help: `DALSEGNO_WRITE_DOCS=1 cargo test -p dalsegno reference`.\n\n".to_owned();
    let mut command = Cli::command().term_width(100);
    command.build();
    section(&mut page, &mut command, 2);
    page += "## Exit codes\n\nStable: scripts may rely on them.\n\n| code | meaning |\n|---|---|\n";
    for (code, meaning) in dalsegno_api::exit::ALL {
        writeln!(page, "| {code} | {meaning} |").unwrap();
    }
    page += "\nErrors go to standard error: `error[code]: what`, then why, then `hint: what to do`; with `--json` as `{\"error\": {\"code\", \"message\", \"hint\"}}`.\n";
    page += "\n## Environment\n\n| variable | meaning |\n|---|---|\n";
    for (name, meaning) in env::ALL {
        writeln!(page, "| `{name}` | {meaning} |").unwrap();
    }
    page
}

fn section(page: &mut String, command: &mut clap::Command, level: usize) {
    let name = command.get_bin_name().unwrap_or(command.get_name()).to_owned();
    let help = command.render_long_help().to_string();
    let help: Vec<&str> = help.lines().map(str::trim_end).collect();
    writeln!(page, "{} `{name}`\n\n```text\n{}\n```\n", "#".repeat(level), help.join("\n").trim_end()).unwrap();
    for verb in command.get_subcommands_mut().filter(|verb| !verb.is_hide_set()) {
        section(page, verb, 3);
    }
}

#[test]
fn the_reference_says_what_the_help_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/cli.md");
    let expected = reference();
    if std::env::var_os("DALSEGNO_WRITE_DOCS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &expected).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == expected, "docs/cli.md is behind: run DALSEGNO_WRITE_DOCS=1 cargo test -p dalsegno reference");
}
