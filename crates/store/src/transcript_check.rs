//! Whether transcripts can be read: for the look at what lies outside the journal.
//!
//! A crash cuts the last line, and what was cut is cut off before the next is written; older versions began a new line behind it. Neither is
//! damage. Anything else that is no entry is: then the whole file is set aside, once, and a new one begun.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, ErrorKind, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use dalsegno_core::{Failure, FoundTranscript, RunId};
use dalsegno_engine::TranscriptEntry;

use crate::dir;
use crate::error::StoreError;
use crate::transcripts::{ASIDE, DIRECTORY, LINE_BYTES, file_of};

/// Bytes that are read in one look; what is left comes with the next.
const LOOK_BYTES: u64 = 256 << 20;
/// Transcripts that are told of in one look.
const TOLD: usize = 1_000;
/// Copies of one run's transcript that are set aside before somebody has to look.
const COPIES: u32 = 100;

/// Reads transcripts through, and remembers how far.
#[derive(Debug)]
pub struct TranscriptCheck {
    directory: PathBuf,
    /// By name: so many bytes are whole entries.
    whole: Mutex<BTreeMap<String, u64>>,
}

impl TranscriptCheck {
    /// Of the transcripts in `state_dir`.
    #[must_use]
    pub fn new(state_dir: &Path) -> Self {
        Self { directory: state_dir.join(DIRECTORY), whole: Mutex::default() }
    }

    /// The transcripts that cannot be read, of those that are read through: those of the runs `first`, then the newest.
    ///
    /// # Errors
    /// `transcripts_unreadable` when the directory cannot be read.
    pub fn look(&self, first: &[RunId]) -> Result<Vec<FoundTranscript>, Failure> {
        let unreadable = |error: io::Error| {
            let why = format!("{}: {error}", self.directory.display());
            Failure::retryable("transcripts_unreadable", why)
                .hint("see to the permissions and the disk of the state directory")
        };
        let entries = match fs::read_dir(&self.directory) {
            Ok(entries) => entries,
            // No run ever had one.
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(unreadable(error)),
        };
        let mut files: Vec<(bool, SystemTime, String, u64)> = Vec::new();
        for entry in entries {
            let entry = entry.map_err(unreadable)?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let Some(run) = name.strip_suffix(".jsonl").map(str::to_owned) else { continue };
            let Ok(meta) = entry.metadata() else { continue };
            let live = first.iter().any(|first| first.as_str() == run);
            files.push((live, meta.modified().unwrap_or(SystemTime::UNIX_EPOCH), run, meta.len()));
        }
        files.sort_by(|a, b| b.cmp(a));
        let mut whole = self.whole.lock().unwrap_or_else(PoisonError::into_inner);
        whole.retain(|run, _| files.iter().any(|(_, _, there, _)| there == run));
        let (mut found, mut read) = (Vec::new(), 0_u64);
        for (_, _, run, length) in files {
            let from = whole.get(&run).copied().filter(|from| *from <= length).unwrap_or(0);
            if length == from {
                continue;
            }
            read = read.saturating_add(length - from);
            if read > LOOK_BYTES || found.len() >= TOLD {
                break;
            }
            let wrong = match read_through(&self.directory.join(format!("{run}.jsonl")), from) {
                Ok(Ok(through)) => {
                    whole.insert(run, through);
                    continue;
                }
                Ok(Err(words)) => Ok(words),
                // It went meanwhile.
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                Err(error) => Err(Failure::retryable("transcripts_unreadable", error.to_string())),
            };
            found.push(FoundTranscript { run: RunId(run), wrong });
        }
        Ok(found)
    }

    /// Moves a run's transcript aside, content kept; one that can be read stays. Answers in words what was done.
    ///
    /// # Errors
    /// `transcript_unmoved`.
    pub fn set_aside(&self, run: &RunId) -> Result<String, Failure> {
        let failed = |why: String| {
            Failure::retryable("transcript_unmoved", why)
                .hint("see to the permissions and the disk of the state directory")
        };
        self.whole.lock().unwrap_or_else(PoisonError::into_inner).remove(run.as_str());
        self.move_aside(run).map_err(|error| failed(error.to_string()))
    }

    fn move_aside(&self, run: &RunId) -> Result<String, StoreError> {
        let path = file_of(&self.directory, run.as_str())?;
        let aside = self.directory.join(ASIDE);
        match read_through(&path, 0) {
            Ok(Ok(_)) => return Ok("left alone: it can be read".to_owned()),
            Ok(Err(_)) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok("it is not there any more".to_owned()),
            Err(error) => return Err(StoreError::io(&path, &error)),
        }
        dir::make(&aside)?;
        let free = (1..=COPIES).map(|copy| aside.join(format!("{run}.{copy}.jsonl"))).find(|to| !to.exists());
        let to = free.ok_or_else(|| StoreError::Exists(format!("{run} has {COPIES} copies in {}", aside.display())))?;
        fs::rename(&path, &to).map_err(|error| StoreError::io(&path, &error))?;
        for moved in [&path, &to] {
            dir::sync_parent(moved).map_err(|error| StoreError::io(moved, &error))?;
        }
        Ok(format!("moved to {}", to.display()))
    }
}

/// Reads a transcript from a byte on: up to where it has whole lines, or what is wrong with it.
fn read_through(path: &Path, from: u64) -> io::Result<Result<u64, String>> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(from))?;
    let read = whole_entries(BufReader::with_capacity(64 << 10, file), from)?;
    Ok(read.map_err(|at| format!("what begins at byte {at} of {} is no entry", path.display())))
}

/// Reads entries on from byte `from`: up to where there are whole lines, or where what is no entry begins.
pub(crate) fn whole_entries(mut reader: impl BufRead, from: u64) -> io::Result<Result<u64, u64>> {
    let (mut line, mut at) = (Vec::new(), from);
    loop {
        line.clear();
        let length = reader.by_ref().take(LINE_BYTES).read_until(b'\n', &mut line)? as u64;
        if !line.ends_with(b"\n") && length < LINE_BYTES {
            return Ok(Ok(at));
        }
        if !is_entry_or_torn(&line) {
            return Ok(Err(at));
        }
        at += length;
    }
}

/// Whether a line is an entry, or the beginning of one: what a crash left of it.
fn is_entry_or_torn(line: &[u8]) -> bool {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    // A crash may cut within a letter.
    let whole = match std::str::from_utf8(line) {
        Ok(text) => text,
        Err(error) if error.error_len().is_none() => {
            std::str::from_utf8(line.get(..error.valid_up_to()).unwrap_or_default()).unwrap_or_default()
        }
        Err(_) => return false,
    };
    match serde_json::from_str::<TranscriptEntry>(whole) {
        Ok(_) => true,
        Err(error) => error.is_eof() && whole.starts_with('{'),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test")]
mod tests {
    use super::*;

    const WHOLE: &str = "{\"at\":1,\"turn\":1,\"kind\":\"message\",\"text\":\"gr\u{fc}n\"}\n";

    fn found(state: &Path, text: &[u8]) -> Vec<FoundTranscript> {
        fs::create_dir_all(state.join(DIRECTORY)).unwrap();
        fs::write(state.join(DIRECTORY).join("run-1.jsonl"), text).unwrap();
        TranscriptCheck::new(state).look(&[]).unwrap()
    }

    #[test]
    fn what_a_crash_cut_is_no_damage_and_garbage_is() {
        let temp = tempfile::tempdir().unwrap();
        for cut in 1..WHOLE.len() {
            let torn = &WHOLE.as_bytes()[..cut];
            assert_eq!(found(temp.path(), &[WHOLE.as_bytes(), torn].concat()), [], "cut at {cut}, at the end");
            let on = [WHOLE.as_bytes(), torn, if cut == WHOLE.len() - 1 { b"" } else { b"\n" }, WHOLE.as_bytes()];
            if cut != WHOLE.len() - 1 {
                assert_eq!(found(temp.path(), &on.concat()), [], "cut at {cut}, and gone on");
            }
        }
        for garbage in [&b"\0\0\0\n"[..], b"words\n", b"{\"at\":1}\n", b"\xff\xfe\n", b"\n"] {
            let found = found(temp.path(), &[WHOLE.as_bytes(), garbage, WHOLE.as_bytes()].concat());
            assert_eq!(found.len(), 1, "{garbage:?}");
            assert!(found[0].wrong.as_ref().unwrap().contains(&format!("byte {}", WHOLE.len())), "{found:?}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_set_aside_once_with_all_that_was_in_it() {
        let temp = tempfile::tempdir().unwrap();
        let text = [WHOLE.as_bytes(), b"garbage\n"].concat();
        assert_eq!(found(temp.path(), &text).len(), 1);
        let (check, run) = (TranscriptCheck::new(temp.path()), RunId::from("run-1"));
        assert!(check.set_aside(&run).unwrap().starts_with("moved to"));
        assert_eq!(check.set_aside(&run).unwrap(), "it is not there any more");
        assert_eq!(check.look(std::slice::from_ref(&run)).unwrap(), []);
        let aside = temp.path().join(DIRECTORY).join(ASIDE);
        assert_eq!(fs::read(aside.join("run-1.1.jsonl")).unwrap(), text);
        // A good one is left alone, and a second bad one is another copy.
        assert_eq!(found(temp.path(), WHOLE.as_bytes()), []);
        assert_eq!(check.set_aside(&run).unwrap(), "left alone: it can be read");
        found(temp.path(), &text);
        check.set_aside(&run).unwrap();
        assert!(aside.join("run-1.2.jsonl").exists());
    }

    #[test]
    fn what_was_read_is_not_read_again_and_what_came_since_is() {
        let temp = tempfile::tempdir().unwrap();
        assert_eq!(found(temp.path(), WHOLE.as_bytes()), []);
        let check = TranscriptCheck::new(temp.path());
        assert_eq!(check.look(&[]).unwrap(), []);
        found(temp.path(), &[WHOLE.as_bytes(), b"garbage\n"].concat());
        assert_eq!(check.look(&[]).unwrap().len(), 1);
    }
}
