//! Cursors: positions in a journal or a transcript, as opaque text that is safe in a URL.

use std::fmt;
use std::str::FromStr;

/// First byte of every cursor; another layout gets another one.
const FORMAT: u8 = 1;
/// Format, checksum, position.
const HEADER: usize = 1 + 4 + 8;
/// Longest text that is looked at.
const MAX_TEXT: usize = 512;
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// A position in one journal (or in the transcript of one of its runs): everything up to it was read.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Cursor {
    journal: String,
    position: u64,
}

/// The text is no cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CursorError {
    /// Empty, too long, or with characters that no cursor has.
    #[error("it is no cursor text")]
    Text,
    /// Cut off, or changed on its way.
    #[error("it is damaged: its checksum does not fit")]
    Damaged,
    /// Written by a newer version.
    #[error("it has format {0}, and this version reads format {FORMAT}")]
    Format(u8),
}

impl Cursor {
    /// The cursor after event `seq` of the journal.
    #[must_use]
    pub fn event(journal: &str, seq: u64) -> Self {
        Self { journal: journal.to_owned(), position: seq }
    }

    /// The cursor at byte `offset` of the transcript of `run`.
    #[must_use]
    pub fn transcript(journal: &str, run: &str, offset: u64) -> Self {
        Self { journal: format!("{journal}/{run}"), position: offset }
    }

    /// The cursor behind the effect at `place` of `run`.
    #[must_use]
    pub fn effect(journal: &str, run: &str, place: u64) -> Self {
        Self { journal: format!("{journal}/{run}/effects"), position: place }
    }

    /// The position, if the cursor belongs to the same journal (and transcript) as `other`.
    #[must_use]
    pub fn position_like(&self, other: &Self) -> Option<u64> {
        (self.journal == other.journal).then_some(self.position)
    }

    fn checksum(position: [u8; 8], journal: &[u8]) -> [u8; 4] {
        // FNV-1a: finds accidents. Nothing is secret or trusted about a cursor.
        let hash = position
            .iter()
            .chain(journal)
            .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193));
        hash.to_be_bytes()
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let position = self.position.to_be_bytes();
        let mut bytes = Vec::with_capacity(HEADER + self.journal.len());
        bytes.push(FORMAT);
        bytes.extend(Self::checksum(position, self.journal.as_bytes()));
        bytes.extend(position);
        bytes.extend(self.journal.as_bytes());
        f.write_str(&encode(&bytes))
    }
}

impl FromStr for Cursor {
    type Err = CursorError;

    fn from_str(text: &str) -> Result<Self, CursorError> {
        if text.is_empty() || text.len() > MAX_TEXT {
            return Err(CursorError::Text);
        }
        let bytes = decode(text).ok_or(CursorError::Text)?;
        match bytes.first() {
            Some(&FORMAT) => {}
            Some(&other) => return Err(CursorError::Format(other)),
            None => return Err(CursorError::Text),
        }
        let (header, journal) = bytes.split_at_checked(HEADER).ok_or(CursorError::Damaged)?;
        let (checksum, position) =
            header.get(1..).and_then(|rest| rest.split_at_checked(4)).ok_or(CursorError::Damaged)?;
        let position: [u8; 8] = position.try_into().map_err(|_| CursorError::Damaged)?;
        if checksum != Self::checksum(position, journal) {
            return Err(CursorError::Damaged);
        }
        let journal = String::from_utf8(journal.to_vec()).map_err(|_| CursorError::Damaged)?;
        Ok(Self { journal, position: u64::from_be_bytes(position) })
    }
}

/// Base64 with the alphabet for URLs, without padding.
fn encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let group = chunk.iter().fold(0_u32, |group, byte| group << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for sextet in 0..=chunk.len() {
            let index = (group >> (18 - 6 * sextet)) & 0x3f;
            text.push(char::from(ALPHABET.get(index as usize).copied().unwrap_or(b'A')));
        }
    }
    text
}

/// The bytes of [`encode`]'s text; `None` for any other, so that each cursor has one spelling.
fn decode(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3 + 2);
    for chunk in text.as_bytes().chunks(4) {
        let mut group = 0_u32;
        for character in chunk {
            let value = ALPHABET.iter().position(|known| known == character)?;
            group = group << 6 | u32::try_from(value).ok()?;
        }
        group <<= 6 * (4 - chunk.len());
        let [_, a, b, c] = group.to_be_bytes();
        match chunk.len() {
            4 => bytes.extend([a, b, c]),
            3 if c == 0 => bytes.extend([a, b]),
            2 if b == 0 && c == 0 => bytes.push(a),
            _ => return None,
        }
    }
    Some(bytes)
}

#[cfg(test)]
#[path = "cursor/tests.rs"]
mod tests;
