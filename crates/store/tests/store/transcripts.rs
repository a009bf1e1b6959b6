//! Transcripts: order, limits, torn lines, names.

use std::fs;
use std::io::Write;
use std::path::Path;

use dalsegno_core::{RunId, Timestamp};
use dalsegno_engine::{Reads, TranscriptEntry, TranscriptKind, TranscriptPage, Transcripts};
use dalsegno_store::{Store, TranscriptFiles};

use crate::support::open;

pub(crate) fn entry(text: &str) -> TranscriptEntry {
    TranscriptEntry { at: Timestamp(7), turn: 1, kind: TranscriptKind::Message, text: text.to_owned() }
}

fn page(store: &Store, offset: u64, limit: usize) -> TranscriptPage {
    store.transcript("run-1", offset, limit).unwrap()
}

fn texts(page: &TranscriptPage) -> Vec<&str> {
    page.entries.iter().map(|entry| entry.text.as_str()).collect()
}

fn write(dir: &Path, texts: &[&str]) {
    let files = TranscriptFiles::open(dir).unwrap();
    for text in texts {
        files.append(&RunId::from("run-1"), entry(text));
    }
}

#[test]
fn entries_come_back_in_order_by_offset() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).store;
    assert_eq!(page(&store, 0, 10), TranscriptPage { entries: vec![], next: 0 }, "before the first entry");
    write(dir.path(), &["one", "two\nlines", "three"]);
    let first = page(&store, 0, 2);
    assert_eq!(first.entries, [entry("one"), entry("two\nlines")]);
    let second = page(&store, first.next, 2);
    assert_eq!(texts(&second), ["three"]);
    assert_eq!(page(&store, second.next, 2), TranscriptPage { entries: vec![], next: second.next });
    write(dir.path(), &["four"]);
    assert_eq!(texts(&page(&store, second.next, 2)), ["four"]);
}

#[test]
fn flush_waits_for_more_than_one_batch() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).store;
    let files = TranscriptFiles::open(dir.path()).unwrap();
    for number in 0..3_000 {
        files.append(&RunId::from(if number % 2 == 0 { "run-1" } else { "run-2" }), entry(&number.to_string()));
    }
    files.flush();
    let even: Vec<String> = (0..3_000).step_by(2).map(|number: u32| number.to_string()).collect();
    assert_eq!(texts(&page(&store, 0, 10_000)), even);
}

#[test]
fn a_torn_last_line_is_left_out_and_then_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).store;
    write(dir.path(), &["one"]);
    let path = dir.path().join("transcripts/run-1.jsonl");
    fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(b"{\"at\":7,\"tu").unwrap();
    let before = page(&store, 0, 10);
    assert_eq!(texts(&before), ["one"]);
    assert_eq!(page(&store, before.next, 10), TranscriptPage { entries: vec![], next: before.next });
    write(dir.path(), &["two"]);
    assert_eq!(texts(&page(&store, before.next, 10)), ["two"]);
    assert_eq!(texts(&page(&store, 0, 10)), ["one", "two"]);
}

#[test]
fn an_offset_inside_a_line_loses_that_line_alone() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).store;
    write(dir.path(), &["one", "two"]);
    assert_eq!(texts(&page(&store, 3, 10)), ["two"]);
    assert_eq!(page(&store, 1 << 40, 10).entries, []);
}

#[test]
fn a_long_text_is_cut_between_letters() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).store;
    write(dir.path(), &[&"ö".repeat(20_000), &"\u{1}".repeat(16 << 10), "end"]);
    let page = page(&store, 0, 10);
    let text = &page.entries[0].text;
    assert!(text.len() <= 16 << 10 && text.len() > 16_000 && text.ends_with("ö… [cut]"), "{}", text.len());
    assert_eq!(page.entries[1].text.len(), 16 << 10, "the longest line that there can be is read");
    assert_eq!(page.entries[2].text, "end");
}

#[test]
fn a_full_transcript_says_so_once() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).store;
    for _ in 0..3 {
        let files = TranscriptFiles::with_limit(dir.path(), 4_096).unwrap();
        for _ in 0..40 {
            files.append(&RunId::from("run-1"), entry(&"x".repeat(100)));
        }
        files.append(&RunId::from("run-1"), entry("short"));
        files.append(&RunId::from("run-2"), entry("another run goes on"));
    }
    let path = dir.path().join("transcripts/run-1.jsonl");
    assert!(fs::metadata(&path).unwrap().len() <= 4_096);
    let page = page(&store, 0, 100);
    let notes: Vec<_> = page.entries.iter().filter(|entry| entry.kind == TranscriptKind::Note).collect();
    assert_eq!(notes.len(), 1);
    assert_eq!(Some(notes[0]), page.entries.last());
    assert!(page.entries.len() > 10, "it was used before it was full");
    assert_eq!(store.transcript("run-2", 0, 10).unwrap().entries.len(), 3);
}

#[test]
fn a_name_is_no_path() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).store;
    fs::write(dir.path().join("outside.jsonl"), serde_json::to_string(&entry("secret")).unwrap() + "\n").unwrap();
    for name in ["../outside", "", "a/b", ".", "run 1", "run-1\0", &"x".repeat(200)] {
        assert!(store.transcript(name, 0, 10).is_err(), "{name:?}");
    }
    let files = TranscriptFiles::open(dir.path()).unwrap();
    files.append(&RunId::from("../evil"), entry("x"));
    files.append(&RunId::from("run-1"), entry("goes on"));
    files.flush();
    assert!(!dir.path().join("evil.jsonl").exists());
    assert_eq!(texts(&page(&store, 0, 10)), ["goes on"]);
}

#[test]
fn a_failing_file_does_not_stop_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).store;
    let files = TranscriptFiles::open(dir.path()).unwrap();
    fs::create_dir_all(dir.path().join("transcripts/run-0.jsonl")).unwrap();
    for _ in 0..3 {
        files.append(&RunId::from("run-0"), entry("nowhere"));
        files.append(&RunId::from("run-1"), entry("here"));
    }
    files.flush();
    assert_eq!(texts(&page(&store, 0, 10)), ["here", "here", "here"]);
}

#[test]
fn a_disk_that_hangs_holds_up_the_writer_and_no_other_task() {
    let dir = tempfile::tempdir().unwrap();
    let files = TranscriptFiles::open(dir.path()).unwrap();
    // A pipe takes 64 KiB and then makes its writer wait until somebody reads.
    let pipe = dir.path().join("transcripts/run-1.jsonl");
    fs::create_dir(dir.path().join("transcripts")).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(async {
        let writing = tokio::spawn(async move {
            for _ in 0..2_000 {
                files.append(&RunId::from("run-1"), entry(&"x".repeat(1_000)));
                tokio::task::yield_now().await;
            }
        });
        // The only worker is with the writer until it waits; a task that is answered after that was not held up.
        let mut held_up = false;
        for _ in 0..10 {
            let other = tokio::spawn(tokio::time::sleep(std::time::Duration::from_millis(200)));
            held_up |= tokio::time::timeout(std::time::Duration::from_secs(10), other).await.is_err();
        }
        let hangs = !writing.is_finished();
        // Also open for writing, so that it never ends; it goes with the process.
        let mut reader = fs::OpenOptions::new().read(true).write(true).open(pipe).unwrap();
        std::thread::spawn(move || std::io::copy(&mut reader, &mut std::io::sink()));
        tokio::time::timeout(std::time::Duration::from_secs(30), writing).await.expect("the disk goes on").unwrap();
        assert!(hangs && !held_up, "hangs: {hangs}, others held up: {held_up}");
    });
}
