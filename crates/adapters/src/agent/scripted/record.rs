//! The session's file: what was asked and done, one JSON line each, on disk before it takes effect.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One line of the file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(super) enum Record {
    /// The session was made.
    Session { issue: String },
    /// A prompt came; it plays the list with this number, from 0.
    Prompt { list: usize, text: String },
    /// A step begins; `title` tells what it is.
    Begun { step: usize, title: String },
    /// The step is done; `updates` is what the client was told of it.
    Ended { step: usize, updates: Vec<Value>, answer: Option<String> },
    /// The step was cut, and is not done again.
    Aborted { step: usize, title: String },
    /// The turn is over.
    TurnEnded { stop: String },
}

/// A session on disk, and what follows from it.
#[derive(Debug)]
pub(super) struct SessionFile {
    file: File,
    /// Prompts so far: the number of the next list.
    pub(super) prompts: usize,
    /// The last answer to a question.
    pub(super) answer: String,
}

impl SessionFile {
    /// Makes the file of a new session.
    pub(super) fn make(folder: &Path, session: &str, issue: &str) -> io::Result<Self> {
        std::fs::create_dir_all(folder)?;
        let file = OpenOptions::new().append(true).create_new(true).open(path(folder, session))?;
        let mut made = Self { file, prompts: 0, answer: String::new() };
        made.append(&Record::Session { issue: issue.to_owned() })?;
        // The name is on disk too, before anybody is told of the session.
        File::open(folder)?.sync_all()?;
        Ok(made)
    }

    /// Opens the file of an old session, with all its records. `None`: there is no such session. A step or a turn
    /// that was cut is recorded as such.
    pub(super) fn open(folder: &Path, session: &str) -> io::Result<Option<(Self, Vec<Record>)>> {
        // The id comes from outside, and becomes a file name.
        if session.is_empty() || !session.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
            return Ok(None);
        }
        let mut file = match OpenOptions::new().read(true).append(true).open(path(folder, session)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut text = Vec::new();
        file.read_to_end(&mut text)?;
        // The last line may be torn; what it was about did not take effect then.
        let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        if whole < text.len() {
            file.set_len(u64::try_from(whole).unwrap_or(u64::MAX))?;
            file.seek(io::SeekFrom::End(0))?;
        }
        let lines = text.get(..whole).unwrap_or_default().split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let mut records = Vec::new();
        for line in lines {
            records.push(serde_json::from_slice::<Record>(line)?);
        }
        let mut opened = Self { file, prompts: 0, answer: String::new() };
        let mut open_turn = false;
        let mut open_step = None;
        for record in &records {
            match record {
                Record::Session { .. } => {}
                Record::Prompt { list, .. } => {
                    opened.prompts = list + 1;
                    open_turn = true;
                }
                Record::Begun { step, title } => open_step = Some((*step, title.clone())),
                Record::Ended { answer, .. } => {
                    open_step = None;
                    if let Some(answer) = answer {
                        opened.answer.clone_from(answer);
                    }
                }
                Record::Aborted { .. } => open_step = None,
                Record::TurnEnded { .. } => open_turn = false,
            }
        }
        if let Some((step, title)) = open_step {
            records.push(opened.append(&Record::Aborted { step, title })?);
        }
        if open_turn {
            records.push(opened.append(&Record::TurnEnded { stop: "cut".to_owned() })?);
        }
        Ok(Some((opened, records)))
    }

    /// Appends one record, synced; answers it.
    pub(super) fn append(&mut self, record: &Record) -> io::Result<Record> {
        let mut line = serde_json::to_vec(record)?;
        line.push(b'\n');
        self.file.write_all(&line)?;
        self.file.sync_data()?;
        Ok(record.clone())
    }
}

fn path(folder: &Path, session: &str) -> PathBuf {
    folder.join(format!("{session}.jsonl"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

    use super::*;

    #[test]
    fn a_cut_step_is_aborted_once_and_a_torn_line_is_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let mut file = SessionFile::make(dir.path(), "s-1", "DS-1").unwrap();
        for record in [
            Record::Prompt { list: 0, text: "go".to_owned() },
            Record::Begun { step: 0, title: "ask".to_owned() },
            Record::Ended { step: 0, updates: Vec::new(), answer: Some("red".to_owned()) },
            Record::Begun { step: 1, title: "sh".to_owned() },
        ] {
            file.append(&record).unwrap();
        }
        file.file.write_all(b"{\"kind\":\"ended\",\"st").unwrap();
        drop(file);

        let (opened, records) = SessionFile::open(dir.path(), "s-1").unwrap().unwrap();
        assert_eq!((opened.prompts, opened.answer.as_str()), (1, "red"));
        let cut = [Record::Aborted { step: 1, title: "sh".to_owned() }, Record::TurnEnded { stop: "cut".to_owned() }];
        assert!(records.ends_with(&cut), "{records:?}");
        drop(opened);
        let (_, again) = SessionFile::open(dir.path(), "s-1").unwrap().unwrap();
        assert_eq!(again, records);
    }

    #[test]
    fn an_id_that_is_no_id_of_ours_is_unknown() {
        let dir = tempfile::tempdir().unwrap();
        for id in ["", "../s-1", "s-2", "a/b"] {
            assert!(SessionFile::open(dir.path(), id).unwrap().is_none());
        }
    }
}
