//! One issue file, normalised (Symphony §11.3).

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use dalsegno_core::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use super::text::Text;
use crate::workflow::front_matter;

/// Bytes that an issue file may have.
pub(super) const SIZE_LIMIT: u64 = 1024 * 1024;

/// Bytes that an id may have: it is in the journal many times, and in names of files and branches.
pub(super) const MAX_ID_BYTES: usize = 256;

/// What one file says; nothing yet about other files.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Record {
    pub(super) identifier: String,
    /// `id` of the front matter.
    pub(super) id: Option<String>,
    pub(super) title: String,
    pub(super) state: String,
    pub(super) description: Option<String>,
    pub(super) priority: Option<i64>,
    pub(super) labels: Vec<String>,
    pub(super) blocked_by: Vec<String>,
    pub(super) parent: Option<String>,
    pub(super) assignee: Option<String>,
    pub(super) created_at: Option<Timestamp>,
    pub(super) updated_at: Option<Timestamp>,
}

// Required fields are taken as the text that stands there: `id: 007` is `007`.
#[derive(Deserialize)]
struct Required {
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    title: Option<String>,
    #[serde(default)]
    state: Option<String>,
}

/// Reads a regular file of bounded size; never follows a link, never waits on a pipe.
pub(super) fn read(path: &Path) -> Result<(Vec<u8>, fs::Metadata), ReadProblem> {
    let file = fs::OpenOptions::new()
        .read(true)
        .custom_flags(nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK)
        .open(path)
        .map_err(|error| match error.raw_os_error() {
            Some(nix::libc::ELOOP) => ReadProblem::Unusable("it is a symbolic link".to_owned()),
            Some(nix::libc::ENOENT) => ReadProblem::Gone,
            Some(_) | None => ReadProblem::Unusable(format!("it cannot be opened: {error}")),
        })?;
    let unreadable = |error: std::io::Error| ReadProblem::Unusable(format!("it cannot be read: {error}"));
    let meta = file.metadata().map_err(unreadable)?;
    if !meta.is_file() {
        return Err(ReadProblem::Unusable("it is not a regular file".to_owned()));
    }
    let mut bytes = Vec::new();
    file.take(SIZE_LIMIT + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > SIZE_LIMIT {
        return Err(ReadProblem::Unusable("it is larger than 1 MiB".to_owned()));
    }
    Ok((bytes, meta))
}

/// Why there are no bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ReadProblem {
    /// The file is not there any more.
    Gone,
    /// It is there and cannot be read.
    Unusable(String),
}

/// The record of a file, or why it has none.
pub(super) fn parse(identifier: &str, bytes: &[u8], meta: &fs::Metadata) -> Result<Record, String> {
    if identifier.chars().any(char::is_control) {
        return Err("its name holds control characters".to_owned());
    }
    let text = Text::parse(bytes)?;
    let required: Required = front_matter::parse_as(&format!("\n{}", text.yaml()))
        .ok_or_else(|| "id, title and state must be plain text".to_owned())?;
    let needed = |name: &str, value: Option<String>| {
        let value = value.map(|value| value.trim().to_owned()).filter(|value| !value.is_empty());
        // A null that is written as a word reads as text; the map knows better.
        let null = text.front.get(name).is_none_or(Value::is_null);
        value.filter(|_| !null).ok_or_else(|| format!("it has no {name}"))
    };
    let id = needed("id", required.id).ok();
    if let Some(id) = id.as_ref().filter(|id| id.len() > MAX_ID_BYTES) {
        return Err(format!("its id has {} bytes, and {MAX_ID_BYTES} fit", id.len()));
    }
    let field = |name: &str| text.front.get(name);
    Ok(Record {
        identifier: identifier.to_owned(),
        id,
        title: needed("title", required.title)?.lines().collect::<Vec<_>>().join(" "),
        state: needed("state", required.state)?,
        description: Some(text.description().to_owned()).filter(|text| !text.is_empty()),
        priority: field("priority").and_then(whole_number),
        labels: labels(field("labels")),
        blocked_by: distinct(words(field("blocked_by"))),
        parent: field("parent").and_then(word),
        assignee: field("assignee").and_then(word),
        created_at: field("created_at").and_then(Value::as_str).and_then(instant),
        updated_at: Some(Timestamp(meta.mtime().saturating_mul(1000).saturating_add(meta.mtime_nsec() / 1_000_000))),
    })
}

fn whole_number(value: &Value) -> Option<i64> {
    match value {
        Value::Number(number) => number.as_i64(),
        Value::String(text) => text.trim().parse().ok(),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

fn word(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.trim().to_owned()).filter(|text| !text.is_empty()),
        Value::Number(number) => Some(number.to_string()),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

// A list of words, or one word.
fn words(value: Option<&Value>) -> Vec<String> {
    match value {
        Some(Value::Array(items)) => items.iter().filter_map(word).collect(),
        Some(other) => word(other).into_iter().collect(),
        None => Vec::new(),
    }
}

fn labels(value: Option<&Value>) -> Vec<String> {
    let lowered = words(value).into_iter().map(|label| label.to_lowercase()).collect();
    distinct(lowered)
}

fn distinct(list: Vec<String>) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    for item in list {
        if !out.iter().any(|known| known.eq_ignore_ascii_case(&item)) {
            out.push(item);
        }
    }
    out
}

fn instant(text: &str) -> Option<Timestamp> {
    text.trim().parse::<jiff::Timestamp>().ok().map(|at| Timestamp(at.as_millisecond()))
}

/// Reads what passes for the file of an issue.
pub(crate) fn foreign(bytes: &[u8]) {
    if let Ok(meta) = fs::metadata("/") {
        drop(parse("DS-1", bytes, &meta));
    }
}
