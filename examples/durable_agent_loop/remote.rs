//! Somebody else's systems, kept in files: they outlive this program, and count what was really done to them.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::path::{Path, PathBuf};

use dalsegno_durable::EffectError;
use serde_json::{Value, json};

/// The systems.
pub(crate) struct Remote {
    bookings: PathBuf,
    mails: PathBuf,
}

impl Remote {
    pub(crate) fn new(dir: &Path) -> Self {
        Self { bookings: dir.join("bookings.jsonl"), mails: dir.join("mails.jsonl") }
    }

    /// Looks something up. It changes nothing, so it may be asked as often as one likes.
    pub(crate) fn weather(city: &str) -> Value {
        json!({ "city": city, "sky": if city == "Bergen" { "sunny" } else { "grey" } })
    }

    /// Books. This system *deduplicates*: under a key that it has seen before it books nothing, and tells the first booking.
    pub(crate) fn book(&self, key: &str, request: &Value) -> Result<Value, EffectError> {
        let known = read(&self.bookings)?;
        if let Some(booking) = known.iter().find(|booking| booking["key"] == key) {
            return Ok(booking.clone());
        }
        let booking = json!({ "key": key, "number": 4_711 + known.len(), "request": request });
        append(&self.bookings, &booking)?;
        Ok(booking)
    }

    /// Sends a mail. This system deduplicates nothing: who sends twice has sent two mails. But it can be searched.
    pub(crate) fn send(&self, message_id: &str, mail: &Value) -> Result<Value, EffectError> {
        let sent = json!({ "message_id": message_id, "to": mail["to"], "text": mail["text"] });
        append(&self.mails, &sent)?;
        Ok(sent)
    }

    /// The mail with this id, if it was sent.
    pub(crate) fn find_mail(&self, message_id: &str) -> Result<Option<Value>, EffectError> {
        Ok(read(&self.mails)?.into_iter().find(|mail| mail["message_id"] == message_id))
    }
}

/// Appends a line. When that fails, nobody can say whether the line is there, and the error says so: "unknown" leads to the
/// effect's in-doubt policy, where "permanent" would record that it was not done.
pub(crate) fn append(path: &Path, line: &Value) -> Result<(), EffectError> {
    let written = || OpenOptions::new().create(true).append(true).open(path)?.write_all(format!("{line}\n").as_bytes());
    written().map_err(|error| EffectError::unknown("remote_unreachable", error.to_string()))
}

fn read(path: &Path) -> Result<Vec<Value>, EffectError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        // Nothing was done yet: trying again is fine.
        Err(error) => return Err(EffectError::retryable("remote_unreachable", error.to_string())),
    };
    BufReader::new(file).lines().map(|line| Ok(serde_json::from_str(&line?)?)).collect()
}
