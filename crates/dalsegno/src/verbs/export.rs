//! `dalsegno export`

use std::fs::OpenOptions;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use dalsegno_api::{Cursor, code, exit};
use dalsegno_core::EVENT_FORMAT;
use dalsegno_engine::Reads as _;
use dalsegno_store::Store;
use serde::Serialize;

use crate::error::CliError;
use crate::offline;
use crate::settings::Settings;

/// Version of the lines.
const VERSION: u32 = 1;

/// Write the journal as JSON lines: a header, then every recorded event
///
/// Beside a running daemon or without one; what is appended meanwhile is not in it. Each line after the header is an event with its place
/// (`seq`), its time in milliseconds (`at`) and its `format`. The header says from where to where: a file with fewer lines was cut.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only what comes after this cursor
    #[arg(long, value_name = "CURSOR")]
    after: Option<String>,
    /// Write to this file, which must not be there yet, instead of to standard output
    #[arg(short, long, value_name = "PATH")]
    output: Option<PathBuf>,
}

/// The first line.
#[derive(Debug, Serialize)]
struct Header<'a> {
    format: &'static str,
    version: u32,
    /// Identity of the journal; part of its cursors.
    journal: &'a str,
    /// Newest form of an event that this program knows.
    event_format: u32,
    /// The first event that follows.
    from: u64,
    /// The last one; before `from` when none follows.
    to: u64,
    /// The cursor to go on from.
    next: String,
}

pub(crate) fn run(args: Args, settings: &Settings) -> Result<(), CliError> {
    let Args { after, output } = args;
    let store = offline::open(&settings.state_dir)?;
    let (oldest, newest) = store.bounds().map_err(|error| CliError::new("store_unavailable", error.to_string()))?;
    let start = oldest.saturating_sub(1);
    let after = after.map_or(Ok(start), |text| position(&text, store.journal_id(), start, newest))?;
    let header = Header {
        format: "dalsegno-journal",
        version: VERSION,
        journal: store.journal_id(),
        event_format: EVENT_FORMAT,
        from: after + 1,
        to: newest,
        next: Cursor::event(store.journal_id(), newest).to_string(),
    };
    match output {
        None => lines(&store, &header, &mut io::stdout().lock()),
        Some(path) => file(&store, &header, &path),
    }
}

/// Where a cursor of this journal is.
fn position(text: &str, journal: &str, start: u64, newest: u64) -> Result<u64, CliError> {
    let cursor: Cursor = text.parse().map_err(|error: dalsegno_api::CursorError| {
        CliError::new(code::INVALID_CURSOR, error.to_string())
            .exit(exit::USAGE)
            .hint("a cursor is taken as it was given")
    })?;
    let gone = |why: &str| {
        CliError::new(code::CURSOR_GONE, why)
            .exit(exit::REFUSED)
            .hint(format!("the oldest cursor is {}", Cursor::event(journal, start)))
    };
    match cursor.position_like(&Cursor::event(journal, 0)) {
        None => Err(gone("the cursor belongs to another journal")),
        Some(seq) if seq < start => Err(gone("events behind the cursor are not kept any more")),
        Some(seq) if seq > newest => Err(gone("the cursor lies beyond the end of the journal")),
        Some(seq) => Ok(seq),
    }
}

fn lines(store: &Store, header: &Header<'_>, out: &mut dyn Write) -> Result<(), CliError> {
    let begun = serde_json::to_writer(&mut *out, header).map_err(io::Error::from).and_then(|()| out.write_all(b"\n"));
    let written = match begun {
        Ok(()) => store.export(header.from - 1, header.to, out)?.map(|_| ()),
        Err(error) => Err(error),
    };
    match written {
        // Nobody reads any more: no error of ours.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(i32::from(exit::OK)),
        Err(error) => Err(CliError::io("output_failed", &error)),
        Ok(()) => Ok(()),
    }
}

/// Writes to a file, which has its name when it is whole and on disk.
fn file(store: &Store, header: &Header<'_>, path: &Path) -> Result<(), CliError> {
    if path.symlink_metadata().is_ok() {
        return Err(taken(path));
    }
    let mut part = path.as_os_str().to_owned();
    part.push(".part");
    let part = PathBuf::from(part);
    let failed = |error: io::Error| CliError::unwritable("output_failed", path, &error);
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&part).map_err(failed)?;
    let mut out = BufWriter::new(file);
    let written = lines(store, header, &mut out)
        .and_then(|()| out.into_inner().map_err(|error| failed(error.into_error())))
        .and_then(|file| file.sync_all().map_err(failed))
        // Fails where somebody else's file came meanwhile; a rename would write it over.
        .and_then(|()| std::fs::hard_link(&part, path).map_err(failed))
        .and_then(|()| std::fs::remove_file(&part).map_err(failed));
    if written.is_err() {
        // Best effort: the error that is told is the first one.
        let _ = std::fs::remove_file(&part);
    }
    written
}

/// Nothing is written over.
pub(super) fn taken(path: &Path) -> CliError {
    CliError::new("output_exists", format!("{} is there already", path.display()))
        .hint("name another path, or move it away: nothing is written over")
}
