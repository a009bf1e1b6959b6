//! One file per verb. The doc of its `Args` is its help.

mod action;
pub(crate) mod agent;
pub(crate) mod answer;
pub(crate) mod approve;
pub(crate) mod backup;
pub(crate) mod budget;
pub(crate) mod cancel;
pub(crate) mod checks;
pub(crate) mod comment;
pub(crate) mod completions;
pub(crate) mod demo;
pub(crate) mod diff;
pub(crate) mod doctor;
pub(crate) mod drain;
mod dry_run;
pub(crate) mod events;
pub(crate) mod explain;
pub(crate) mod export;
pub(crate) mod followup;
pub(crate) mod fsck;
pub(crate) mod init;
pub(crate) mod issue;
pub(crate) mod issues;
pub(crate) mod logs;
pub(crate) mod open;
pub(crate) mod pause;
pub(crate) mod refresh;
pub(crate) mod rehydrate;
pub(crate) mod release;
pub(crate) mod reload;
pub(crate) mod replay;
pub(crate) mod restore;
pub(crate) mod resume;
pub(crate) mod retry;
pub(crate) mod run;
pub(crate) mod runs;
pub(crate) mod settle;
pub(crate) mod show;
pub(crate) mod status;
pub(crate) mod steer;
pub(crate) mod token;
pub(crate) mod transition;
pub(crate) mod tui;
pub(crate) mod undrain;
pub(crate) mod validate;

use crate::cli::{Cli, Verb};
use crate::error::CliError;
use crate::settings::Settings;

/// Runs the verb.
pub(crate) fn dispatch(cli: Cli) -> Result<(), CliError> {
    let Cli { common, verb } = cli;
    let settings = || Settings::resolve(&common);
    match verb {
        Verb::Run(args) => run::run(args, &common),
        Verb::Demo(args) => demo::run(args),
        Verb::Init(args) => init::run(args, &common),
        Verb::Doctor(args) => doctor::run(args, &common),
        Verb::Validate(args) => validate::run(args, &common),
        Verb::Agent(args) => agent::run(args),
        Verb::Status(args) => status::run(args, &settings()?),
        Verb::Issues(args) => issues::run(args, &settings()?),
        Verb::Issue(args) => issue::run(args, &common),
        Verb::Runs(args) => runs::run(args, &settings()?),
        Verb::Show(args) => show::run(args, &settings()?),
        Verb::Diff(args) => diff::run(args, &settings()?),
        Verb::Checks(args) => checks::run(args, &settings()?),
        Verb::Logs(args) => logs::run(args, &settings()?),
        Verb::Events(args) => events::run(args, &settings()?),
        Verb::Export(args) => export::run(args, &settings()?),
        Verb::Replay(args) => replay::run(args, &settings()?),
        Verb::Backup(args) => backup::run(args, &settings()?),
        Verb::Restore(args) => restore::run(args, &settings()?),
        Verb::Fsck(args) => fsck::run(args, &settings()?),
        Verb::Explain(args) => explain::run(args, &settings()?),
        Verb::Budget(args) => budget::run(args, &settings()?),
        Verb::Pause(args) => pause::run(args, &settings()?),
        Verb::Resume(args) => resume::run(args, &settings()?),
        Verb::Cancel(args) => cancel::run(args, &settings()?),
        Verb::Retry(args) => retry::run(args, &settings()?),
        Verb::Rehydrate(args) => rehydrate::run(args, &settings()?),
        Verb::Steer(args) => steer::run(args, &settings()?),
        Verb::Comment(args) => comment::run(args, &settings()?),
        Verb::Transition(args) => transition::run(args, &settings()?),
        Verb::Followup(args) => followup::run(args, &settings()?),
        Verb::Answer(args) => answer::run(args, &settings()?),
        Verb::Release(args) => release::run(args, &settings()?),
        Verb::Drain(args) => drain::run(args, &settings()?),
        Verb::Undrain(args) => undrain::run(args, &settings()?),
        Verb::Refresh(args) => refresh::run(args, &settings()?),
        Verb::Reload(args) => reload::run(args, &settings()?),
        Verb::Approve(args) => approve::approve(args, &settings()?),
        Verb::Deny(args) => approve::deny(args, &settings()?),
        Verb::Settle(args) => settle::run(args, &settings()?),
        Verb::Open(args) => open::run(args, &settings()?),
        Verb::Tui(args) => tui::run(args, &settings()?),
        Verb::Token(args) => token::run(args, &settings()?),
        Verb::Completions(args) => completions::run(args),
    }
}

/// A runtime for a verb that waits for something itself.
pub(crate) fn runtime() -> Result<tokio::runtime::Runtime, CliError> {
    let built = tokio::runtime::Builder::new_current_thread().enable_all().build();
    built.map_err(|error| CliError::io("runtime_unavailable", &error))
}

/// Ends the program quietly with exit code 130 when Ctrl-C comes, for verbs that follow something.
pub(crate) fn end_on_ctrl_c() -> Result<(), CliError> {
    end_on_ctrl_c_after(|| {})
}

/// The same, after a last word.
pub(crate) fn end_on_ctrl_c_after(last_word: impl FnOnce() + Send + 'static) -> Result<(), CliError> {
    let unavailable = |error: std::io::Error| CliError::io("signals_unavailable", &error);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().map_err(unavailable)?;
    let interrupt = {
        let _inside = runtime.enter();
        tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt()).map_err(unavailable)?
    };
    let wait = move || {
        let mut interrupt = interrupt;
        runtime.block_on(interrupt.recv());
        last_word();
        std::process::exit(i32::from(dalsegno_api::exit::INTERRUPTED));
    };
    std::thread::Builder::new().name("ctrl-c".to_owned()).spawn(wait).map_err(unavailable)?;
    Ok(())
}
