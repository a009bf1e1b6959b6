//! Every parser of this crate that meets bytes of others, behind one door: for whoever feeds them nonsense (`cargo xtask fuzz`).
//! What they make of it is thrown away; that they end, and do not panic, is what is looked at.

use crate::client::{parsed, refused};
use crate::daemon::Daemon;
use crate::{Cursor, FrameReader, IssueDetail, Receipt, State};

/// A parser and its name.
pub type Reader = (&'static str, fn(&[u8]));

/// All of them; each has a corpus of its name in `fuzz/corpus`.
pub const READERS: &[Reader] = &[("cursor", cursor), ("event_stream", event_stream), ("answer", answer)];

/// Has the parser of that name read these bytes; there may be none of that name.
pub fn read(name: &str, bytes: &[u8]) {
    READERS.iter().filter(|(known, _)| *known == name).for_each(|(_, reader)| reader(bytes));
}

/// A cursor. What is one is written as it was read.
fn cursor(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(cursor) = text.parse::<Cursor>() {
        assert!(cursor.to_string().parse() == Ok(cursor), "a cursor reads back as something else: {text}");
    }
}

/// A stream of events, to its end.
fn event_stream(bytes: &[u8]) {
    let mut frames = FrameReader::new(bytes);
    while let Ok(Some(_)) = frames.next_frame() {}
}

/// Answers of whoever has the daemon's port, and what stands in `daemon.json`.
fn answer(bytes: &[u8]) {
    drop(parsed::<Daemon>(bytes));
    drop(parsed::<State>(bytes));
    drop(parsed::<IssueDetail>(bytes));
    drop(parsed::<Receipt>(bytes));
    drop(refused(500, bytes));
}
