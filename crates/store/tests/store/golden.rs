//! The written forms never change under a released version: files in the tree hold them.
//!
//! `DALSEGNO_UPDATE_GOLDEN=1 cargo test -p dalsegno-store golden` writes the files anew. That is right only
//! for a form that was never released; afterwards a changed form gets a new version and a file of its own.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use dalsegno_core::{EVENT_FORMAT, SNAPSHOT_FORMAT, Snapshot, State};
use dalsegno_store::StoreError;
use dalsegno_store::format::{decode_event, decode_snapshot, encode_event, encode_snapshot};

use crate::samples::{KINDS, foldable, number, samples};
use crate::support::recorded;

fn golden(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

fn read_or_write(name: &str, now: impl FnOnce() -> String) -> String {
    let path = golden(name);
    if std::env::var_os("DALSEGNO_UPDATE_GOLDEN").is_some() {
        fs::write(&path, now()).unwrap();
    }
    fs::read_to_string(&path).unwrap()
}

fn written(event: &dalsegno_core::Event) -> String {
    let mut buffer = Vec::new();
    encode_event(event, &mut buffer).unwrap();
    String::from_utf8(buffer).unwrap()
}

fn state() -> State {
    let mut state = State::default();
    for (at, event) in foldable().into_iter().enumerate() {
        state.apply(&recorded(at as u64 + 1, event)).unwrap();
    }
    state
}

#[test]
fn golden_events_of_every_kind_are_read_and_written_as_they_are() {
    let lines = || samples().iter().map(|event| written(event) + "\n").collect();
    let text = read_or_write("events-v1.jsonl", lines);
    let mut kinds = BTreeSet::new();
    let mut read = Vec::new();
    for line in text.lines() {
        let event = decode_event(1, line).unwrap();
        assert_eq!(written(&event), line);
        kinds.insert(number(&event));
        read.push(event);
    }
    assert_eq!(kinds, (0..KINDS).collect(), "every kind has a line");
    assert_eq!(read, samples());
    assert_eq!(EVENT_FORMAT, 1, "a new form needs a golden file of its own beside this one");
}

#[test]
fn the_kind_in_the_json_is_the_kind_in_the_column() {
    for event in samples() {
        let json = serde_json::to_value(&event).unwrap();
        assert_eq!(json["kind"], event.kind());
    }
}

#[test]
fn golden_snapshot_is_read_and_written_as_it_is() {
    let snapshot = || Snapshot { format: SNAPSHOT_FORMAT, state: state() };
    let now = || String::from_utf8(encode_snapshot(&snapshot()).unwrap()).unwrap() + "\n";
    let text = read_or_write("snapshot-v1.json", now);
    let read = decode_snapshot(1, text.as_bytes()).unwrap();
    assert_eq!(encode_snapshot(&read).unwrap(), text.trim_end().as_bytes());
    assert_eq!(read, snapshot());
    let State { policies, issues, runs, open_effects, .. } = &read.state;
    assert!(!policies.is_empty() && !issues.is_empty() && !runs.is_empty() && !open_effects.is_empty());
    assert_eq!(SNAPSHOT_FORMAT, 1, "a new form needs a golden file of its own beside this one");
}

#[test]
fn newer_forms_are_refused_and_damaged_ones_named() {
    assert_eq!(
        decode_event(2, "{}").unwrap_err(),
        StoreError::FutureSchema { what: "event", found: 2, known: EVENT_FORMAT }
    );
    assert_eq!(
        decode_snapshot(2, b"{}").unwrap_err(),
        StoreError::FutureSchema { what: "snapshot", found: 2, known: SNAPSHOT_FORMAT }
    );
    for text in ["", "{}", "{\"kind\":\"no_such_kind\"}", "{\"kind\":\"issue_gone\"}"] {
        assert_eq!(decode_event(1, text).unwrap_err().code(), "corrupt_database", "{text}");
        assert_eq!(decode_snapshot(1, text.as_bytes()).unwrap_err().code(), "corrupt_database", "{text}");
    }
}
