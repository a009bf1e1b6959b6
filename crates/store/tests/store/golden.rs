//! The written forms never change under a released version: files in the tree hold them.
//!
//! `DALSEGNO_UPDATE_GOLDEN=1 cargo test -p dalsegno-store golden` writes the files anew. That is right only
//! for a form that was never released; afterwards a changed form gets a new version and a file of its own.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use dalsegno_core::{EVENT_FORMAT, EffectOutput, Event, Outcome, Recorded, SNAPSHOT_FORMAT, Snapshot, State, Usage};
use dalsegno_engine::{EventFilter, Journal as _, Reads as _};
use dalsegno_store::StoreError;
use dalsegno_store::format::{decode_event, decode_snapshot, encode_event, encode_snapshot};

use crate::samples::{KINDS, added, foldable, number, sagas, samples};
use crate::samples_audited::audited;
use crate::samples_kept::kept;
use crate::samples_operated::operated;
use crate::samples_outside::outside;
use crate::samples_restored::restored;
use crate::support::{batch, open, plain_batch, raw, recorded};

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

fn written(event: &Event) -> String {
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
    let now: Vec<Event> = samples().into_iter().chain(sagas()).chain(operated()).collect();
    let lines = |events: &[Event]| events.iter().map(|event| written(event) + "\n").collect();
    let text = read_or_write("events-v3.jsonl", || lines(&now));
    let later = read_or_write("events-v3-restored.jsonl", || lines(&restored()));
    let latest = read_or_write("events-v3-outside.jsonl", || lines(&outside()));
    let newest = read_or_write("events-v3-kept.jsonl", || lines(&kept()));
    let now: Vec<Event> = now.into_iter().chain(restored()).chain(outside()).chain(kept()).collect();
    let mut kinds = BTreeSet::new();
    let mut read = Vec::new();
    for line in text.lines().chain(later.lines()).chain(latest.lines()).chain(newest.lines()) {
        let event = decode_event(3, line).unwrap();
        assert_eq!(written(&event), line);
        kinds.insert(number(&event));
        read.push(event);
    }
    let added =
        read_or_write("events-v3-audited.jsonl", || audited().iter().map(|event| written(event) + "\n").collect());
    let mut read_added = Vec::new();
    for line in added.lines() {
        let event = decode_event(3, line).unwrap();
        assert_eq!(written(&event), line);
        kinds.insert(number(&event));
        read_added.push(event);
    }
    assert_eq!(kinds, (0..KINDS).collect(), "every kind has a line");
    assert_eq!((read, read_added), (now, audited()));
    assert_eq!(EVENT_FORMAT, 3, "a new form needs a golden file of its own beside this one");
}

/// Kinds of events in the second version.
const KINDS_V2: usize = 45;

#[test]
fn golden_events_of_version_2_are_read_as_they_were() {
    let read = |name| -> Vec<Event> {
        let text = fs::read_to_string(golden(name)).unwrap();
        text.lines().map(|line| decode_event(2, line).unwrap()).collect()
    };
    let first = read("events-v2.jsonl");
    assert_eq!(first.iter().map(number).collect::<BTreeSet<_>>(), (0..KINDS_V2).collect());
    assert_eq!(first, samples());
    assert_eq!(read("events-v2-added.jsonl"), added());
}

/// Kinds of events in the first version.
const KINDS_V1: usize = 36;

#[test]
fn golden_events_of_version_1_are_read_as_what_they_meant() {
    let text = fs::read_to_string(golden("events-v1.jsonl")).unwrap();
    let read: Vec<Event> = text.lines().map(|line| decode_event(1, line).unwrap()).collect();
    let kinds: BTreeSet<usize> = read.iter().map(number).collect();
    assert_eq!(kinds, (0..KINDS_V1).collect());
    let mut now: Vec<Event> = samples().into_iter().filter(|event| number(event) < KINDS_V1).collect();
    for event in &mut now {
        // What that version did not know.
        match event {
            Event::Usage { model, .. } => *model = None,
            Event::EffectEnded {
                outcome: Outcome::Done { output: EffectOutput::TurnEnded { model, tool_digest, .. } },
                ..
            } => (*model, *tool_digest) = (None, None),
            Event::Parked { limit, held_until, .. } => (*limit, *held_until) = (None, None),
            _ => {}
        }
    }
    assert_eq!(read, now);
}

#[tokio::test]
async fn an_event_is_told_as_it_is_written_but_for_its_kind() {
    let dir = tempfile::tempdir().unwrap();
    let opened = open(dir.path());
    let all = [samples(), sagas(), operated(), restored(), outside(), audited()].concat();
    let numbered: Vec<Recorded> = (1..).zip(all.iter().cloned()).map(|(seq, event)| recorded(seq, event)).collect();
    opened.journal.append(batch(1, numbered), Vec::new()).await.unwrap();
    let page = opened.store.events_as_written(0, 1_000, &EventFilter::default()).unwrap();
    assert_eq!(page.events.len(), all.len());
    for (row, event) in page.events.into_iter().zip(&all) {
        let mut fact = serde_json::to_value(event).unwrap();
        assert_eq!(fact.as_object_mut().unwrap().remove("kind").unwrap(), row.kind);
        // The same text, with all of its fields where they were.
        let told = format!(r#"{{"kind":"{}",{}"#, row.kind, &row.data.get()[1..]).replace(",}", "}");
        assert_eq!(told, written(event));
        assert_eq!(row.parsed().unwrap().data, fact);
    }
}

#[tokio::test]
async fn an_event_that_somebody_wrote_otherwise_is_told_and_one_that_is_cut_is_damage() {
    let dir = tempfile::tempdir().unwrap();
    let opened = open(dir.path());
    opened.journal.append(plain_batch(1, 1, 1), Vec::new()).await.unwrap();
    let becomes = |text: &str| {
        raw(dir.path()).execute("UPDATE events SET data = ?1", [text]).unwrap();
        opened.store.events(0, 10, &EventFilter::default()).map(|mut page| page.events.remove(0).data)
    };
    let fact = serde_json::json!({"reason": "r"});
    for text in [
        r#"{"kind":"daemon_stopped","reason":"r"}"#,
        r#"{ "reason": "r", "kind": "daemon_stopped" }"#,
        "{\"kind\":\"daemon_stopped\",\n\"reason\":\"r\"}",
        "{\"kind\":\"daemon_stopped\",\"reason\":\r\"r\"}",
    ] {
        assert_eq!(becomes(text), Ok(fact.clone()), "{text}");
        let row = opened.store.events_as_written(0, 1, &EventFilter::default()).unwrap().events.remove(0);
        assert_eq!(row.data.get(), r#"{"reason":"r"}"#, "{text}");
    }
    assert_eq!(becomes(r#"{"kind":"daemon_stopped"}"#), Ok(serde_json::json!({})));
    for text in [r#"{"kind":"daemon_stopped","reason":"r"#, r#"{"kind":"daemon_stopped""#, "", "\n"] {
        let damage = becomes(text).unwrap_err();
        assert!(damage.0.contains("event 1 is unreadable"), "{text}: {damage}");
    }
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
    let text = read_or_write("snapshot-v3.json", now);
    let read = decode_snapshot(3, text.as_bytes()).unwrap();
    assert_eq!(encode_snapshot(&read).unwrap(), text.trim_end().as_bytes());
    assert_eq!(read, snapshot());
    let State { policies, issues, runs, open_effects, .. } = &read.state;
    assert!(!policies.is_empty() && !issues.is_empty() && !runs.is_empty() && !open_effects.is_empty());
    assert_eq!(SNAPSHOT_FORMAT, 3, "a new form needs a golden file of its own beside this one");
    // Those of the second version had fields that nothing read, and lacked what came later.
    for name in ["snapshot-v2.json", "snapshot-v2-added.json"] {
        let earlier = fs::read_to_string(golden(name)).unwrap();
        assert_eq!(decode_snapshot(2, earlier.as_bytes()).unwrap().state, state(), "{name}");
    }
}

#[test]
fn golden_snapshot_of_a_restored_journal_is_read_and_written_as_it_is() {
    let mut state = state();
    for (at, event) in restored().into_iter().take(1).enumerate() {
        state.apply(&recorded(state.seq + 1 + at as u64, event)).unwrap();
    }
    let snapshot = Snapshot { format: SNAPSHOT_FORMAT, state };
    let now = || String::from_utf8(encode_snapshot(&snapshot).unwrap()).unwrap() + "\n";
    let text = read_or_write("snapshot-v3-restored.json", now);
    let mut read = decode_snapshot(3, text.as_bytes()).unwrap();
    assert_eq!(encode_snapshot(&read).unwrap(), text.trim_end().as_bytes());
    assert_eq!(read, snapshot);
    let State { restored: origin, issues, runs, run_count, .. } = &read.state;
    assert!(origin.is_some() && runs.values().all(|run| run.restored) && *run_count > 1_000_000);
    assert!(issues.values().all(|entry| entry.unproved.as_ref().is_some_and(|unproved| unproved.worked_on)));
    let seq = read.state.seq + 1;
    read.state.apply(&recorded(seq, restored().remove(1))).unwrap();
    assert!(read.state.issues.values().all(|entry| entry.unproved.is_none()));
}

#[test]
fn golden_snapshot_of_version_1_is_read_and_goes_on() {
    let text = fs::read_to_string(golden("snapshot-v1.json")).unwrap();
    let mut read = decode_snapshot(1, text.as_bytes()).unwrap().state;
    let State { usage, runs, issues, open_effects, .. } = &read;
    assert_eq!(usage.total_tokens, 1_280);
    assert!(!runs.is_empty() && !issues.is_empty() && !open_effects.is_empty());
    let seq = read.seq + 1;
    let report = Event::Usage {
        run: "run-1".into(),
        turn: 1,
        usage: Usage::new(1_300, 80),
        model: Some("m-1".to_owned()),
        settled: false,
    };
    read.apply(&recorded(seq, report)).unwrap();
    assert!(read.usage.total_tokens > 1_280);
}

#[test]
fn newer_forms_are_refused_and_damaged_ones_named() {
    assert_eq!(
        decode_event(4, "{}").unwrap_err(),
        StoreError::FutureSchema { what: "event", found: 4, known: EVENT_FORMAT }
    );
    assert_eq!(
        decode_snapshot(4, b"{}").unwrap_err(),
        StoreError::FutureSchema { what: "snapshot", found: 4, known: SNAPSHOT_FORMAT }
    );
    for text in ["", "{}", "{\"kind\":\"no_such_kind\"}", "{\"kind\":\"issue_gone\"}"] {
        assert_eq!(decode_event(1, text).unwrap_err().code(), "corrupt_database", "{text}");
        assert_eq!(decode_snapshot(1, text.as_bytes()).unwrap_err().code(), "corrupt_database", "{text}");
    }
}
