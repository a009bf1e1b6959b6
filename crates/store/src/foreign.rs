//! Every parser of this crate that meets bytes of others, behind one door: for whoever feeds them nonsense (`cargo xtask fuzz`).
//! What they make of it is thrown away; that they end, and do not panic, is what is looked at.

use std::io::Cursor;
use std::path::Path;

use dalsegno_core::{Machine, Recorded, State};

use crate::Manifest;
use crate::durable::foreign_record;
use crate::format::{decode_event, decode_snapshot, encode_event, encode_snapshot};
use crate::transcript_check::whole_entries;
use crate::transcripts::page;

/// A parser and its name.
pub type Reader = (&'static str, fn(&[u8]));

/// All of them; each has a corpus of its name in `fuzz/corpus`.
pub const READERS: &[Reader] = &[
    ("journal", journal),
    ("snapshot", snapshot),
    ("effect_record", foreign_record),
    ("transcript", transcript),
    ("manifest", manifest),
];

/// Has the parser of that name read these bytes; there may be none of that name.
pub fn read(name: &str, bytes: &[u8]) {
    READERS.iter().filter(|(known, _)| *known == name).for_each(|(_, reader)| reader(bytes));
}

/// Events, one a line, each in the form that its first byte says. What is read is written as it was, and folded as far as it follows.
fn journal(bytes: &[u8]) {
    let (mut buffer, mut state) = (Vec::new(), State::default());
    for line in bytes.split(|byte| *byte == b'\n') {
        let Some((format, data)) = line.split_first() else { continue };
        let Ok(event) = decode_event(u32::from(format.wrapping_sub(b'0')), &String::from_utf8_lossy(data)) else {
            continue;
        };
        buffer.clear();
        if encode_event(&event, &mut buffer).is_ok() {
            let again = decode_event(dalsegno_core::EVENT_FORMAT, &String::from_utf8_lossy(&buffer));
            assert!(again.is_ok_and(|again| again == event), "an event reads back as something else: {event:?}");
        }
        if state.apply(&Recorded { seq: state.seq + 1, at: state.at, event }).is_err() {
            state = State::default();
        }
    }
}

/// A snapshot in the form that its first byte says, and the machine that goes on from it.
fn snapshot(bytes: &[u8]) {
    let Some((format, data)) = bytes.split_first() else { return };
    if let Ok(snapshot) = decode_snapshot(u32::from(format.wrapping_sub(b'0')), data) {
        drop(encode_snapshot(&snapshot));
        drop(Machine::replay(Some(snapshot), []));
    }
}

/// A transcript: read to its end in pages, and looked through. Where a page ends, the next one goes on.
fn transcript(bytes: &[u8]) {
    let (file, length) = (Cursor::new(bytes), bytes.len() as u64);
    let mut at = 0;
    while let Ok(read) = page(file.clone(), at, 3) {
        assert!((at..=length).contains(&read.next), "from {at} it goes on at {}", read.next);
        if read.next == at {
            break;
        }
        at = read.next;
    }
    if let Ok(Ok(whole)) = whole_entries(file, 0) {
        assert!(whole == at, "whole up to {whole}, and read up to {at}");
    }
}

/// The manifest of a backup.
fn manifest(bytes: &[u8]) {
    drop(Manifest::parse(Path::new("manifest.json"), &String::from_utf8_lossy(bytes)));
}
