//! `dalsegno restore`

use std::path::PathBuf;

use dalsegno_adapters::process::Sweeper;
use dalsegno_engine::{Clock as _, Processes as _};
use dalsegno_store::{Source, StoreError};
use serde_json::json;

use crate::daemon::SystemClock;
use crate::error::CliError;
use crate::out;
use crate::settings::Settings;
use crate::text::relative;

/// Go back to a backup. Not while a daemon runs
///
/// The backup is proved before anything is touched. With --force, the state directory that is there is moved aside, whole, and never deleted. The
/// journal gets a new identity, so that old cursors are told and not misread; tokens have to be made anew. What was done since the backup is
/// unknown: the next daemon looks for it before it dispatches anything (docs/backup.md).
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The backup
    path: PathBuf,
    /// Move aside the store that is there
    #[arg(long)]
    force: bool,
}

pub(crate) fn run(args: Args, settings: &Settings) -> Result<(), CliError> {
    let Args { path, force } = args;
    let source = Source::open(&path)?;
    let runtime = super::runtime()?;
    let mut sweep = |mark: &str| match runtime.block_on(Sweeper.sweep(mark)) {
        Ok(_) => Ok(()),
        Err(failure) => Err(StoreError::Unavailable(failure.to_string())),
    };
    let restored = source.restore(&settings.state_dir, force, SystemClock.now(), &mut sweep)?;
    crate::crash::count();
    let manifest = &restored.manifest;
    let aside = restored.aside.as_ref().map(|aside| aside.display().to_string());
    let made_at =
        jiff::Timestamp::from_millisecond(manifest.made_at).map_or_else(|_| String::new(), |at| at.to_string());
    if settings.json {
        let (journal, was, through) = (&restored.journal_id, &manifest.journal_id, manifest.through);
        out::json(&json!({"journal": journal, "was": was, "through": through, "made_at": made_at, "aside": aside}));
    } else {
        let through = manifest.through;
        out::line(&format!("Restored: the journal through event {through}, backed up {}.", relative(&made_at)));
        if let Some(aside) = aside {
            out::line(&format!("What was there is in {aside}."));
        }
        out::line(
            "What was done since is looked for when the daemon starts; what it finds parks. Tokens have to be made anew.",
        );
    }
    Ok(())
}
