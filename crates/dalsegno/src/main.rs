//! The binary: arguments, settings, one file per verb.

mod cli;
mod control;
mod crash;
mod daemon;
mod error;
mod inspector;
mod logging;
mod offline;
mod out;
mod presence;
mod reader;
#[cfg(test)]
mod reference;
mod settings;
mod sink;
mod story;
mod survey;
mod text;
mod tokens;
mod tui;
mod unread;
mod verbs;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use crate::cli::{Cli, with_default_verb};

fn main() -> ExitCode {
    crash::arm();
    let arguments = with_default_verb(std::env::args_os().collect(), &Cli::command());
    let cli = Cli::parse_from(arguments);
    let json = cli.common.json;
    match verbs::dispatch(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let exit = ExitCode::from(error.exit_code());
            out::patiently(move || error.print(json));
            exit
        }
    }
}
