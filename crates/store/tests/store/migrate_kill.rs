//! A process that is killed, or whose disk breaks, before each system call by which a database of version 3 is brought up.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use dalsegno_engine::Reads as _;
use dalsegno_store::{OpenOptions, SCHEMA_VERSION, Store};
use dalsegno_testkit::calls::{Fault, Traced, can_be_traced, waiting};
use dalsegno_testkit::crash::{Kill, Points, Ran, walk};
use nix::errno::Errno;
use tempfile::TempDir;

use crate::fsck::version_3;
use crate::support::{open, raw};

const DIRECTORY: &str = "DALSEGNO_MIGRATE_KILL_DIRECTORY";
const PATIENCE: Duration = Duration::from_secs(300);
/// Calls that are walked when nobody says how many.
const SAMPLE: u64 = 12;

/// The process that is killed. Not a test of its own: the others start it.
#[test]
#[ignore = "the other tests start it in a process of its own"]
fn opens_until_it_is_killed() {
    let Some(dir) = std::env::var_os(DIRECTORY).map(PathBuf::from) else { panic!("{DIRECTORY} is not set") };
    // A disk that breaks is an error, and no panic.
    drop(Store::open(&dir, OpenOptions::default()));
}

fn fresh() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    version_3(dir.path());
    dir
}

fn opened(dir: &Path, fault: Fault) -> Ran {
    let mut command = waiting(&std::env::current_exe().unwrap());
    command.args(["--exact", "migrate_kill::opens_until_it_is_killed", "--ignored", "--nocapture"]);
    command.env(DIRECTORY, dir).stdout(Stdio::null());
    let below = dir.to_owned();
    let ended =
        Traced::start(command, move |call| call.path.starts_with(&below), fault).unwrap().wait(PATIENCE).unwrap();
    match (ended.hit.is_empty(), ended.code) {
        (true, code) => {
            assert_eq!(code, Some(0));
            Ran::ToItsEnd { points: Some(ended.calls) }
        }
        (false, code) => {
            assert!(matches!(code, None | Some(0)), "{:?}: {code:?}", ended.hit.first());
            Ran::Killed
        }
    }
}

fn version(path: &Path) -> u32 {
    let db = rusqlite::Connection::open(path).unwrap();
    db.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap()
}

/// The old version or the new one, never something between; and the way back is there before the new one is.
fn old_or_new(dir: &Path) {
    let (database, copy) = (dir.join("dalsegno.db"), dir.join("dalsegno.db.v3"));
    let found = version(&database);
    let tables = "SELECT count(*) FROM sqlite_schema WHERE name IN ('file_batches', 'file_receipts')";
    let tables: u32 = raw(dir).query_row(tables, [], |row| row.get(0)).unwrap();
    assert!(matches!((found, tables), (3, 0) | (SCHEMA_VERSION, 2)), "version {found} with {tables} new tables");
    assert!(found == 3 || copy.exists(), "it was brought up without a copy");
    if copy.exists() {
        assert_eq!(version(&copy), 3);
        let sound: String = rusqlite::Connection::open(&copy)
            .unwrap()
            .query_row("PRAGMA integrity_check", [], |row| row.get(0))
            .unwrap();
        assert_eq!(sound, "ok", "what has the copy's name is whole");
    }
}

#[allow(clippy::print_stdout, reason = "how far a walk went is told")]
fn walked(what: &str, fault: impl Fn(u64) -> Fault + Sync) {
    if !can_be_traced() {
        return;
    }
    let run = |dir: &TempDir, how: Kill| {
        let ran = match how {
            Kill::Never => opened(dir.path(), Fault::Never),
            Kill::At(call) => opened(dir.path(), fault(call)),
        };
        old_or_new(dir.path());
        ran
    };
    let judge = |dir: &TempDir, _| {
        let opened = open(dir.path());
        assert_eq!(version(&dir.path().join("dalsegno.db")), SCHEMA_VERSION);
        assert_eq!(opened.store.issues(None).unwrap().len(), 2);
        assert_eq!(opened.store.check().unwrap().faults, [], "all is as it was");
        let copies = fs::read_dir(dir.path()).unwrap().flatten();
        let copies = copies.filter(|entry| entry.file_name().to_string_lossy().starts_with("dalsegno.db.v3"));
        assert_eq!(copies.count(), 1, "one copy, and nothing half written");
    };
    let points = Points::from_environment(SAMPLE);
    let walked = walk(points, 2, fresh, run, judge);
    assert!(walked.points > 30, "{walked:?}");
    println!("walk of a migration, {what} ({points:?}): {} of {} calls", walked.killed, walked.points);
}

#[test]
fn a_migration_that_is_killed_before_any_system_call_leaves_the_old_version_or_the_new_one() {
    walked("killed", Fault::Kill);
}

#[test]
fn a_migration_whose_disk_breaks_at_any_system_call_leaves_the_old_version_or_the_new_one() {
    let refusal = |call: u64| if call.is_multiple_of(2) { Errno::EIO } else { Errno::ENOSPC };
    walked("a disk that breaks", move |call| Fault::From(call, refusal(call)));
}
