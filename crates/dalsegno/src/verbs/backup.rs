//! `dalsegno backup`

use std::path::PathBuf;

use dalsegno_engine::Clock as _;
use serde_json::json;

use crate::daemon::SystemClock;
use crate::error::CliError;
use crate::settings::Settings;
use crate::text::count;
use crate::{offline, out};

/// Make a backup of everything that the daemon keeps, while it works or not
///
/// A directory with the database as it is at one moment, the transcripts, the daemon's repositories, and a manifest with the hash of each file.
/// It is read back and proved, as by `fsck`, before it gets its name. Tokens are not in it. Restore it with `dalsegno restore`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The directory to make; it must not be there yet
    path: PathBuf,
}

pub(crate) fn run(args: Args, settings: &Settings) -> Result<(), CliError> {
    let store = offline::open(&settings.state_dir)?;
    let made = store.back_up(&args.path, env!("CARGO_PKG_VERSION"), SystemClock.now())?;
    crate::crash::count();
    let manifest = &made.manifest;
    let bytes: u64 = manifest.files.values().map(|file| file.bytes).sum();
    if settings.json {
        let (journal, through, files) = (&manifest.journal_id, manifest.through, manifest.files.len());
        let path = made.path.display().to_string();
        out::json(
            &json!({"path": path, "journal": journal, "through": through, "files": files, "bytes": bytes, "rows": made.rows}),
        );
    } else {
        let (path, through, files) = (made.path.display(), manifest.through, manifest.files.len());
        out::line(&format!("{path} holds the journal through event {through}: {files} files, {} bytes.", count(bytes)));
        out::line(&format!("It was read back: {} rows are what the journal says.", made.rows));
    }
    Ok(())
}
