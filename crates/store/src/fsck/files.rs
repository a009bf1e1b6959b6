//! Transcripts: each is a run's, and can be read. Kept files: each is what its receipt says.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::path::Path;

use dalsegno_engine::{Reads as _, TranscriptEntry};

use super::{Checked, Cure};
use crate::error::StoreError;
use crate::open::Store;
use crate::transcripts::{ASIDE, DIRECTORY, LINE_BYTES};

/// Kept files are what their receipts say, and each has one.
pub(super) fn blobs(store: &Store, checked: &mut Checked) -> Result<(), StoreError> {
    let (compared, wrong) = store.broken_files()?;
    checked.rows += compared;
    for found in wrong {
        checked.fault("blobs", Cure::Look, found);
    }
    Ok(())
}

pub(super) fn transcripts(state_dir: &Path, store: &Store, checked: &mut Checked) -> Result<(), StoreError> {
    let directory = state_dir.join(DIRECTORY);
    let entries = match std::fs::read_dir(&directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(StoreError::io(&directory, &error)),
    };
    for entry in entries {
        let entry = entry.map_err(|error| StoreError::io(&directory, &error))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name == ASIDE {
            continue;
        }
        let Some(run) = name.strip_suffix(".jsonl").filter(|_| entry.path().is_file()) else {
            checked.fault("transcripts", Cure::Look, format!("{name} is no transcript"));
            continue;
        };
        let known = store.run(run).map_err(|error| StoreError::Unavailable(error.to_string()))?.is_some();
        if !known {
            checked.fault("transcripts", Cure::Look, format!("{name} is of a run that is not known"));
        }
        let damaged = unreadable(&entry.path()).map_err(|error| StoreError::io(&entry.path(), &error))?;
        if damaged > 0 {
            checked.fault("transcripts", Cure::Look, format!("{name} has {damaged} lines that are no entries"));
        }
        checked.rows += 1;
    }
    Ok(())
}

/// Lines that are no entries. A last line without an end is being written, or was torn by a crash.
fn unreadable(path: &Path) -> io::Result<u64> {
    let mut reader = BufReader::with_capacity(64 << 10, File::open(path)?);
    let (mut line, mut damaged) = (Vec::new(), 0);
    loop {
        line.clear();
        let length = reader.by_ref().take(LINE_BYTES).read_until(b'\n', &mut line)? as u64;
        if !line.ends_with(b"\n") && length < LINE_BYTES {
            return Ok(damaged);
        }
        damaged += u64::from(serde_json::from_slice::<TranscriptEntry>(&line).is_err());
    }
}
