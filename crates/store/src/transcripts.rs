//! Transcripts: what was said in a run, one JSON line per entry, in a file of its own.
//!
//! Not journaled: a crash may cost the last lines, and may tear one, which is cut off before the next is written. Readers skip
//! what is no entry.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

use dalsegno_core::RunId;
use dalsegno_engine::{TranscriptEntry, TranscriptKind, TranscriptPage, Transcripts};

use crate::dir;
use crate::error::StoreError;

/// Directory of the transcripts in the state directory.
pub(crate) const DIRECTORY: &str = "transcripts";
/// Directory in it of those that could not be read.
pub(crate) const ASIDE: &str = "aside";
/// Entries that may wait to be written; a further one makes its caller wait.
const QUEUE: usize = 1024;
/// Most entries that are written at once.
const BATCH: usize = 256;
/// Most bytes of text in an entry.
const TEXT_BYTES: usize = 16 << 10;
/// What a text that was cut ends with.
const CUT: &str = "… [cut]";
/// Most bytes of a run's transcript.
const FILE_BYTES: u64 = 64 << 20;
/// The last line of a transcript that is full.
const FULL: &str = "the transcript has reached its limit of 64 MiB; nothing more is written to it";
/// A line is never longer: each byte of a text takes six at most when it is escaped.
pub(crate) const LINE_BYTES: u64 = 6 * TEXT_BYTES as u64 + 1024;
/// Most bytes that one page is made from.
const PAGE_BYTES: u64 = 4 << 20;
/// Most letters of a run's name.
const NAME_LETTERS: usize = 128;

enum Message {
    Entry(RunId, TranscriptEntry),
    Flush(SyncSender<()>),
}

/// Writes transcripts on a thread of its own. Dropping it writes what is queued.
#[derive(Debug)]
pub struct TranscriptFiles {
    queue: Option<SyncSender<Message>>,
    writer: Option<JoinHandle<()>>,
}

impl TranscriptFiles {
    /// Starts the writer of transcripts in `state_dir`. Their directory is made with the first entry: that it cannot be made is told then, and
    /// ends nothing.
    ///
    /// # Errors
    /// [`StoreError`] when the thread cannot be made.
    pub fn open(state_dir: &Path) -> Result<Self, StoreError> {
        Self::with_limit(state_dir, FILE_BYTES)
    }

    /// The same with another limit for each file, so that a test reaches it.
    #[doc(hidden)]
    pub fn with_limit(state_dir: &Path, file_bytes: u64) -> Result<Self, StoreError> {
        let directory = state_dir.join(DIRECTORY);
        let (queue, messages) = sync_channel(QUEUE);
        let mut files = Files { directory, file_bytes, failing: false };
        let writer = std::thread::Builder::new()
            .name("transcripts".to_owned())
            .spawn(move || files.run(&messages))
            .map_err(|error| StoreError::Unavailable(format!("no thread for transcripts: {error}")))?;
        Ok(Self { queue: Some(queue), writer: Some(writer) })
    }

    /// Waits until everything that was appended before is in its file.
    pub fn flush(&self) {
        let (done, finished) = sync_channel(1);
        self.send(Message::Flush(done));
        // An error means that the writer is gone; then there is nothing to wait for.
        let _ = finished.recv();
    }

    fn send(&self, message: Message) {
        let Some(queue) = &self.queue else { return };
        let sent = match queue.try_send(message) {
            Ok(()) => true,
            Err(TrySendError::Full(message)) => wait(|| queue.send(message).is_ok()),
            Err(TrySendError::Disconnected(_)) => false,
        };
        if !sent {
            tracing::error!("the writer of transcripts has ended; an entry is lost");
        }
    }
}

impl Transcripts for TranscriptFiles {
    fn append(&self, run: &RunId, mut entry: TranscriptEntry) {
        cut(&mut entry.text);
        self.send(Message::Entry(run.clone(), entry));
    }
}

impl Drop for TranscriptFiles {
    fn drop(&mut self) {
        drop(self.queue.take());
        if let Some(writer) = self.writer.take()
            && writer.join().is_err()
        {
            tracing::error!("the writer of transcripts panicked");
        }
    }
}

/// Waits for the disk. A worker of the runtime lets its other tasks go to another thread first: a slow disk holds up
/// whoever writes transcripts, and nobody else.
fn wait<T>(work: impl FnOnce() -> T) -> T {
    match tokio::runtime::Handle::try_current().map(|runtime| runtime.runtime_flavor()) {
        Ok(tokio::runtime::RuntimeFlavor::MultiThread) => tokio::task::block_in_place(work),
        Ok(_) | Err(_) => work(),
    }
}

fn cut(text: &mut String) {
    if text.len() > TEXT_BYTES {
        let end = (0..=TEXT_BYTES - CUT.len()).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
        text.push_str(CUT);
    }
}

/// The file of a run, if that is a name and no path.
pub(crate) fn file_of(directory: &Path, run: &str) -> Result<PathBuf, StoreError> {
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    if run.is_empty() || run.len() > NAME_LETTERS || !run.bytes().all(letter) {
        return Err(StoreError::Missing("that is no name of a run".to_owned()));
    }
    Ok(directory.join(format!("{run}.jsonl")))
}

/// The writer's side.
struct Files {
    directory: PathBuf,
    file_bytes: u64,
    /// The last write failed, and that was said.
    failing: bool,
}

impl Files {
    fn run(&mut self, messages: &Receiver<Message>) {
        while let Ok(first) = messages.recv() {
            let mut entries: BTreeMap<RunId, Vec<TranscriptEntry>> = BTreeMap::new();
            let mut flushed = Vec::new();
            for message in std::iter::once(first).chain(messages.try_iter().take(BATCH - 1)) {
                match message {
                    Message::Entry(run, entry) => entries.entry(run).or_default().push(entry),
                    Message::Flush(done) => flushed.push(done),
                }
            }
            for (run, entries) in entries {
                let written = self.write(run.as_str(), &entries);
                self.report(run.as_str(), written);
            }
            for done in flushed {
                // Whoever waited may have gone.
                let _ = done.send(());
            }
        }
    }

    fn report(&mut self, run: &str, written: Result<(), StoreError>) {
        match written {
            Ok(()) => self.failing = false,
            Err(error) if !self.failing => {
                self.failing = true;
                tracing::error!(run, %error, "a transcript cannot be written; work goes on without");
            }
            Err(_) => {}
        }
    }

    fn write(&self, run: &str, entries: &[TranscriptEntry]) -> Result<(), StoreError> {
        let path = file_of(&self.directory, run)?;
        dir::make(&self.directory)?;
        self.append(&path, entries).map_err(|error| StoreError::io(&path, &error))
    }

    fn append(&self, path: &Path, entries: &[TranscriptEntry]) -> io::Result<()> {
        let mut file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)?;
        let mut size = file.metadata()?.len();
        // Room for the line that says that it is full.
        let room = self.file_bytes.saturating_sub(1024);
        if is_full(&file, size, room)? {
            return Ok(());
        }
        let mut lines = Vec::new();
        let whole = whole_lines(&file, size)?;
        if whole < size {
            file.set_len(whole)?;
            size = whole;
        }
        for entry in entries {
            let start = lines.len();
            serde_json::to_writer(&mut lines, entry)?;
            lines.push(b'\n');
            if size + lines.len() as u64 > room {
                lines.truncate(start);
                let note = TranscriptEntry { kind: TranscriptKind::Note, text: FULL.to_owned(), ..entry.clone() };
                serde_json::to_writer(&mut lines, &note)?;
                lines.push(b'\n');
                break;
            }
        }
        file.write_all(&lines)
    }
}

/// Where the last whole line ends: what a crash cut of the next is no entry. One that is longer than any of ours stays.
fn whole_lines(file: &File, size: u64) -> io::Result<u64> {
    let mut last = [b'\n'];
    if let Some(end) = size.checked_sub(1) {
        file.read_exact_at(&mut last, end)?;
    }
    if last == [b'\n'] {
        return Ok(size);
    }
    let start = size.saturating_sub(LINE_BYTES);
    let mut tail = vec![0; usize::try_from(size - start).unwrap_or(0)];
    file.read_exact_at(&mut tail, start)?;
    let end = tail.iter().rposition(|byte| *byte == b'\n').map(|at| start + at as u64 + 1);
    Ok(end.unwrap_or(if start == 0 { 0 } else { size }))
}

/// The last line says that nothing more is written.
fn is_full(file: &File, size: u64, room: u64) -> io::Result<bool> {
    if size + LINE_BYTES <= room {
        return Ok(false);
    }
    let start = size.saturating_sub(1024);
    let mut tail = Vec::new();
    let mut reader = file;
    reader.seek(SeekFrom::Start(start))?;
    reader.take(1024).read_to_end(&mut tail)?;
    let Some(line) = tail.strip_suffix(b"\n").and_then(|tail| tail.rsplit(|byte| *byte == b'\n').next()) else {
        return Ok(false);
    };
    let last: Result<TranscriptEntry, _> = serde_json::from_slice(line);
    Ok(last.is_ok_and(|entry| entry.kind == TranscriptKind::Note && entry.text == FULL))
}

/// Entries of a run from byte `offset` on. A last line without an end is not there yet.
pub(crate) fn read(state_dir: &Path, run: &str, offset: u64, limit: usize) -> Result<TranscriptPage, StoreError> {
    let path = file_of(&state_dir.join(DIRECTORY), run)?;
    let nothing = TranscriptPage { entries: Vec::new(), next: offset };
    match File::open(&path) {
        Ok(file) => page(file, offset, limit).map_err(|error| StoreError::io(&path, &error)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(nothing),
        Err(error) => Err(StoreError::io(&path, &error)),
    }
}

/// The same of an open file.
pub(crate) fn page(mut file: impl Read + Seek, offset: u64, limit: usize) -> io::Result<TranscriptPage> {
    file.seek(SeekFrom::Start(offset))?;
    let mut reader = BufReader::with_capacity(64 << 10, file.take(PAGE_BYTES));
    let mut page = TranscriptPage { entries: Vec::new(), next: offset };
    let mut line = Vec::new();
    while page.entries.len() < limit {
        line.clear();
        let length = reader.by_ref().take(LINE_BYTES).read_until(b'\n', &mut line)? as u64;
        // Neither ended nor too long: somebody is writing it, or a crash tore it.
        if !line.ends_with(b"\n") && length < LINE_BYTES {
            break;
        }
        page.next += length;
        match serde_json::from_slice(&line) {
            Ok(entry) => page.entries.push(entry),
            Err(error) => tracing::debug!(%error, at = page.next - length, "a line of a transcript is no entry"),
        }
    }
    Ok(page)
}

/// Removes the transcripts of runs that are not known any more.
pub(crate) fn forget(state_dir: &Path, runs: &[String]) {
    let directory = state_dir.join(DIRECTORY);
    for run in runs {
        let removed =
            file_of(&directory, run).and_then(|path| dir::remove(&path).map_err(|error| StoreError::io(&path, &error)));
        if let Err(error) = removed {
            tracing::warn!(run, %error, "a transcript that is not needed any more stays");
        }
    }
}
