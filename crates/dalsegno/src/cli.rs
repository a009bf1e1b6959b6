//! The arguments. Each verb is a file in `verbs/`; the doc of its `Args` is its help.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::{Args, Parser, Subcommand};

use crate::verbs;

/// A durable orchestrator for coding agents
///
/// Watches an issue tracker, gives each issue an isolated workspace, drives a coding agent through it, and hands the
/// change over. Everything that it decides is in its journal before it happens.
#[derive(Debug, Parser)]
#[command(name = "dalsegno", version, arg_required_else_help = true, disable_help_subcommand = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// What every verb takes.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Common {
    /// Project directory, which holds WORKFLOW.md and `.dalsegno/` [default: the current one or a parent of it]
    #[arg(long, global = true, value_name = "DIR", env = crate::settings::env::DIR, hide_env_values = true)]
    pub(crate) dir: Option<PathBuf>,
    /// The workflow file; its directory is the project's
    #[arg(long, global = true, value_name = "PATH", conflicts_with = "dir")]
    pub(crate) workflow: Option<PathBuf>,
    /// For verbs that act: sent again under the same key, nothing happens twice [default: a new one each time]
    #[arg(long, global = true, value_name = "KEY")]
    pub(crate) idempotency_key: Option<String>,
    /// Print JSON, as the API gives it
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    Run(verbs::run::Args),
    Demo(verbs::demo::Args),
    Init(verbs::init::Args),
    Doctor(verbs::doctor::Args),
    Validate(verbs::validate::Args),
    Status(verbs::status::Args),
    Issues(verbs::issues::Args),
    Issue(verbs::issue::Args),
    Runs(verbs::runs::Args),
    Show(verbs::show::Args),
    Diff(verbs::diff::Args),
    Checks(verbs::checks::Args),
    Logs(verbs::logs::Args),
    Events(verbs::events::Args),
    Explain(verbs::explain::Args),
    Budget(verbs::budget::Args),
    Pause(verbs::pause::Args),
    Resume(verbs::resume::Args),
    Cancel(verbs::cancel::Args),
    Retry(verbs::retry::Args),
    Rehydrate(verbs::rehydrate::Args),
    Steer(verbs::steer::Args),
    Answer(verbs::answer::Args),
    Comment(verbs::comment::Args),
    Transition(verbs::transition::Args),
    Followup(verbs::followup::Args),
    Release(verbs::release::Args),
    Drain(verbs::drain::Args),
    Undrain(verbs::undrain::Args),
    Refresh(verbs::refresh::Args),
    Reload(verbs::reload::Args),
    Approve(verbs::approve::ApproveArgs),
    Deny(verbs::approve::DenyArgs),
    Settle(verbs::settle::Args),
    Tui(verbs::tui::Args),
    Backup(verbs::backup::Args),
    Restore(verbs::restore::Args),
    Export(verbs::export::Args),
    Fsck(verbs::fsck::Args),
    Replay(verbs::replay::Args),
    Open(verbs::open::Args),
    Token(verbs::token::Args),
    Completions(verbs::completions::Args),
    #[command(hide = true)]
    Agent(verbs::agent::Args),
}

/// Puts `run` before arguments that name no verb, where there is a verb `run`: `dalsegno`, `dalsegno --once`,
/// `dalsegno path/to/WORKFLOW.md`. A word that could be a misspelt verb is left for the parser to complain about.
pub(crate) fn with_default_verb(mut arguments: Vec<OsString>, command: &clap::Command) -> Vec<OsString> {
    const DEFAULT: &str = "run";
    if command.find_subcommand(DEFAULT).is_none() {
        return arguments;
    }
    let mut at = 1;
    let missing = loop {
        let Some(argument) = arguments.get(at) else { break true };
        let text = argument.to_string_lossy();
        match text.as_ref() {
            "--dir" | "--workflow" | "--idempotency-key" => at += 2,
            "--json" => at += 1,
            "-h" | "--help" | "-V" | "--version" => break false,
            flag if ["--dir=", "--workflow=", "--idempotency-key="].iter().any(|known| flag.starts_with(known)) => {
                at += 1
            }
            flag if flag.starts_with('-') => break true,
            word if command.find_subcommand(word).is_some() => break false,
            word => break word.contains(['.', '/']) || Path::new(argument).is_file(),
        }
    };
    if missing {
        arguments.insert(at.min(arguments.len()), DEFAULT.into());
    }
    arguments
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn run_is_the_default_verb_where_it_exists() {
        let with_run = clap::Command::new("dalsegno")
            .subcommand(clap::Command::new("run"))
            .subcommand(clap::Command::new("status"));
        let words = |text: &str| text.split_whitespace().map(OsString::from).collect::<Vec<_>>();
        for (given, taken) in [
            ("dalsegno", "dalsegno run"),
            ("dalsegno --once", "dalsegno run --once"),
            ("dalsegno a/WORKFLOW.md --once", "dalsegno run a/WORKFLOW.md --once"),
            ("dalsegno --dir x --port 0", "dalsegno --dir x run --port 0"),
            ("dalsegno --json --dir=x", "dalsegno --json --dir=x run"),
            ("dalsegno status", "dalsegno status"),
            ("dalsegno --idempotency-key k status", "dalsegno --idempotency-key k status"),
            ("dalsegno --idempotency-key=k status", "dalsegno --idempotency-key=k status"),
            ("dalsegno --dir status status", "dalsegno --dir status status"),
            ("dalsegno statsu", "dalsegno statsu"),
            ("dalsegno --help", "dalsegno --help"),
            ("dalsegno -V", "dalsegno -V"),
        ] {
            assert_eq!(with_default_verb(words(given), &with_run), words(taken), "{given}");
        }
        let without = clap::Command::new("dalsegno").subcommand(clap::Command::new("status"));
        assert_eq!(with_default_verb(words("dalsegno --once"), &without), words("dalsegno --once"));
    }
}
