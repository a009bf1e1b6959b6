//! `dalsegno completions`

use clap::CommandFactory;
use clap_complete::Shell;

use crate::cli::Cli;
use crate::error::CliError;
use crate::out;

/// Print the completion script of a shell
///
/// For bash, for example: `dalsegno completions bash > ~/.local/share/bash-completion/completions/dalsegno`
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Which shell
    shell: Shell,
}

pub(crate) fn run(args: Args) -> Result<(), CliError> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "dalsegno", &mut script);
    out::text(&String::from_utf8_lossy(&script));
    Ok(())
}
