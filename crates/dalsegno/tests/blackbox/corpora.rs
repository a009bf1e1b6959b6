//! What parsers were fed by `cargo xtask fuzz`, and what broke them once: each file is read again.

use std::fs;
use std::path::{Path, PathBuf};

use dalsegno_adapters::foreign::Reader;

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz")
}

fn readers() -> Vec<Reader> {
    let mut all = dalsegno_adapters::foreign::READERS.to_vec();
    all.extend_from_slice(dalsegno_gateway::foreign::READERS);
    all.extend_from_slice(dalsegno_store::foreign::READERS);
    all.extend_from_slice(dalsegno_api::foreign::READERS);
    all.extend_from_slice(dalsegno_durable::foreign::READERS);
    all
}

fn names(folder: &str) -> Vec<String> {
    let stem = |entry: fs::DirEntry| entry.path().file_stem().unwrap().to_string_lossy().into_owned();
    let mut names: Vec<String> = fs::read_dir(fuzz().join(folder)).unwrap().map(|entry| stem(entry.unwrap())).collect();
    names.sort();
    names
}

#[test]
fn every_parser_reads_its_whole_corpus_and_none_has_no_corpus() {
    for (name, read) in readers() {
        let files: Vec<PathBuf> =
            fs::read_dir(fuzz().join("corpus").join(name)).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert!(!files.is_empty(), "{name} has no corpus");
        for file in files {
            let bytes = fs::read(&file).unwrap();
            let ended = std::panic::catch_unwind(|| read(&bytes));
            assert!(ended.is_ok(), "{name} breaks on {}", file.display());
        }
    }
}

#[test]
fn every_parser_is_fuzzed_and_nothing_else() {
    let mut known: Vec<String> = readers().iter().map(|(name, _)| (*name).to_owned()).collect();
    known.sort();
    assert_eq!(names("fuzz_targets"), known);
    assert_eq!(names("corpus"), known);
}
