//! Opening: what is made, what is refused, and that a refusal changes nothing.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use dalsegno_engine::{Journal, Reads};
use dalsegno_store::{OpenOptions, SCHEMA_VERSION, Store, StoreError};

use crate::support::{append, issue_view, numbers, open, plain, plain_batch, plain_snapshot, raw};

/// Every file of the directory but the lock, with its bytes; directories in it are empty.
fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let entries = entries.filter(|path| !path.is_dir() || fs::read_dir(path).unwrap().count() > 0);
    let name = |path: &Path| path.file_name().unwrap().to_string_lossy().into_owned();
    entries.map(|path| (name(&path), fs::read(&path).unwrap())).filter(|(name, _)| name != "lock").collect()
}

fn refusal(dir: &Path) -> StoreError {
    let error = Store::open(dir, OpenOptions::default()).unwrap_err();
    let look = Store::open_read_only(dir).unwrap_err();
    assert_eq!(error.code(), look.code(), "a look is refused for the same reason");
    error
}

#[test]
fn only_the_owner_can_read_what_is_made() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("made/here");
    let opened = open(&state);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&state), 0o700);
    for (name, _) in files(&state) {
        assert_eq!(mode(&state.join(&name)), 0o600, "{name}");
    }
    assert_eq!(mode(&state.join("lock")), 0o600);
    assert!(state.join("dalsegno.db").exists());
    drop(opened);
}

#[test]
fn a_second_open_is_refused_with_the_holders_process_id() {
    let dir = tempfile::tempdir().unwrap();
    let first = open(dir.path());
    let error = Store::open(dir.path(), OpenOptions::default()).unwrap_err();
    assert_eq!(error, StoreError::DaemonRunning { pid: Some(std::process::id()) });
    assert_eq!(error.failure().code, "daemon_running");
    assert!(error.to_string().contains(&std::process::id().to_string()));
    drop(first);
    open(dir.path());
}

#[test]
fn a_newer_database_is_refused_and_untouched() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()));
    raw(dir.path()).pragma_update(None, "user_version", SCHEMA_VERSION + 1).unwrap();
    let before = files(dir.path());
    let error = refusal(dir.path());
    assert_eq!(error, StoreError::FutureSchema { what: "database", found: SCHEMA_VERSION + 1, known: SCHEMA_VERSION });
    assert_eq!(files(dir.path()), before);
}

#[test]
fn a_newer_version_that_is_only_in_the_log_is_refused_too() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()));
    let newer = raw(dir.path());
    newer.pragma_update(None, "user_version", 9).unwrap();
    // A copy while the log is hot: what a crash leaves.
    let crashed = tempfile::tempdir().unwrap();
    for name in ["dalsegno.db", "dalsegno.db-wal"] {
        fs::copy(dir.path().join(name), crashed.path().join(name)).unwrap();
    }
    let before = files(crashed.path());
    assert!(!before["dalsegno.db-wal"].is_empty());
    assert_eq!(refusal(crashed.path()).code(), "future_schema");
    let after = files(crashed.path());
    for name in before.keys() {
        assert_eq!(after[name], before[name], "{name}");
    }
}

#[test]
fn what_is_no_database_of_ours_is_refused_and_untouched() {
    let garbage = vec![b'x'; 10_000];
    let short = b"SQLite format 3\0".to_vec();
    for bytes in [garbage, short] {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("dalsegno.db"), &bytes).unwrap();
        assert_eq!(refusal(dir.path()).code(), "corrupt_database");
        assert_eq!(files(dir.path()), BTreeMap::from([("dalsegno.db".to_owned(), bytes)]));
    }
}

#[test]
fn a_database_of_another_program_is_refused_and_untouched() {
    for sql in
        ["PRAGMA user_version = 5", "PRAGMA application_id = 77", "PRAGMA application_id = 77; PRAGMA user_version = 1"]
    {
        let dir = tempfile::tempdir().unwrap();
        raw(dir.path()).execute_batch(&format!("CREATE TABLE theirs (x); {sql}")).unwrap();
        let before = files(dir.path());
        assert_eq!(refusal(dir.path()).code(), "corrupt_database");
        assert_eq!(files(dir.path()), before);
    }
    let dir = tempfile::tempdir().unwrap();
    raw(dir.path()).execute_batch("CREATE TABLE theirs (x)").unwrap();
    let error = Store::open(dir.path(), OpenOptions::default()).unwrap_err();
    assert_eq!(error.code(), "corrupt_database");
}

#[tokio::test]
async fn damage_inside_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let opened = open(dir.path());
    opened.journal.append(plain_batch(1, 1, 2_000), Vec::new()).await.unwrap();
    drop(opened);
    let path = dir.path().join("dalsegno.db");
    let mut bytes = fs::read(&path).unwrap();
    let length = bytes.len();
    bytes[8192..length].fill(0xff);
    fs::write(&path, &bytes).unwrap();
    assert_eq!(refusal(dir.path()).code(), "corrupt_database");
    assert_eq!(fs::read(&path).unwrap(), bytes);
}

#[tokio::test]
async fn a_missing_event_is_damage() {
    let dir = tempfile::tempdir().unwrap();
    let opened = open(dir.path());
    opened.journal.append(plain_batch(1, 1, 9), Vec::new()).await.unwrap();
    drop(opened);
    raw(dir.path()).execute("DELETE FROM events WHERE seq = 5", []).unwrap();
    let error = Store::open(dir.path(), OpenOptions::default()).unwrap_err();
    assert_eq!(error.to_string(), "corrupt_database: event 5 is missing; the next one is 6");
}

#[tokio::test]
async fn a_newer_event_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let opened = open(dir.path());
    opened.journal.append(plain_batch(1, 1, 2), Vec::new()).await.unwrap();
    drop(opened);
    raw(dir.path()).execute("UPDATE events SET format = 4 WHERE seq = 2", []).unwrap();
    let error = Store::open(dir.path(), OpenOptions::default()).unwrap_err();
    assert_eq!(error, StoreError::FutureSchema { what: "event", found: 4, known: 3 });
}

#[test]
fn a_file_in_place_of_the_directory_is_an_error_with_a_code() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    fs::write(&path, "x").unwrap();
    assert_eq!(Store::open(&path, OpenOptions::default()).unwrap_err().code(), "store_unavailable");
}

#[test]
fn a_full_disk_at_the_first_open_is_named_and_passes() {
    let dir = tempfile::tempdir().unwrap();
    let tiny = OpenOptions { max_pages: Some(4), ..OpenOptions::default() };
    assert_eq!(Store::open(dir.path(), tiny).unwrap_err().code(), "disk_full");
    assert!(open(dir.path()).loaded.events.is_empty());
}

#[test]
fn a_directory_that_cannot_be_written_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    fs::create_dir(&state).unwrap();
    fs::set_permissions(&state, fs::Permissions::from_mode(0o500)).unwrap();
    // The superuser may write there all the same; but nobody makes files in the kernel's own tree.
    let superuser = fs::write(state.join("probe"), "x").is_ok();
    let state = if superuser { Path::new("/sys/kernel") } else { &state };
    assert_eq!(Store::open(state, OpenOptions::default()).unwrap_err().code(), "state_dir_read_only");
}

#[tokio::test]
async fn the_newest_good_snapshot_is_loaded() {
    let dir = tempfile::tempdir().unwrap();
    let opened = open(dir.path());
    for (first, last) in [(1, 10), (11, 20), (21, 30)] {
        let mut batch = plain_batch(1, first, last);
        batch.snapshot = Some(plain_snapshot(last));
        append(&opened, batch).await;
    }
    opened.journal.append(plain_batch(1, 31, 33), Vec::new()).await.unwrap();
    drop(opened);
    let load = || {
        let opened = open(dir.path());
        (opened.loaded.snapshot.clone(), numbers(&opened.loaded.events))
    };
    assert_eq!(load(), (Some(*plain_snapshot(30)), vec![31, 32, 33]));
    let kept: i64 = raw(dir.path()).query_row("SELECT count(*) FROM snapshots", [], |row| row.get(0)).unwrap();
    assert_eq!(kept, 2);

    let damage = |seq: u64| {
        let sql = "UPDATE snapshots SET data = CAST(replace(CAST(data AS TEXT), '\"format\":3', '\"format\":4') AS BLOB) WHERE seq = ?1";
        assert_eq!(raw(dir.path()).execute(sql, [seq as i64]).unwrap(), 1);
    };
    damage(30);
    assert_eq!(load(), (Some(*plain_snapshot(20)), (21..=33).collect()));
    damage(20);
    assert_eq!(load(), (None, (1..=33).collect()));
    raw(dir.path()).execute("DELETE FROM events WHERE seq <= 15", []).unwrap();
    let error = Store::open(dir.path(), OpenOptions::default()).unwrap_err();
    assert_eq!(error.code(), "corrupt_database");
    assert!(error.to_string().contains("the events before 16 are gone"), "{error}");
}

#[tokio::test]
async fn the_last_snapshot_is_waited_for_when_the_store_is_closed() {
    let dir = tempfile::tempdir().unwrap();
    let opened = open(dir.path());
    let mut batch = plain_batch(1, 1, 10);
    batch.snapshot = Some(plain_snapshot(10));
    opened.journal.append(batch, Vec::new()).await.unwrap();
    drop(opened);
    let loaded = open(dir.path()).loaded;
    assert_eq!((loaded.snapshot, loaded.events.len()), (Some(*plain_snapshot(10)), 0));
}

#[tokio::test]
async fn a_look_beside_a_daemon_sees_what_it_wrote() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(Store::open_read_only(dir.path()).unwrap_err().code(), "store_missing");
    let opened = open(dir.path());
    let mut batch = plain_batch(1, 1, 3);
    batch.views.push(issue_view("i1", "DS-1", dalsegno_core::IssueStatus::Idle));
    opened.journal.append(batch, Vec::new()).await.unwrap();
    let look = Store::open_read_only(dir.path()).unwrap();
    assert_eq!(look.journal_id(), opened.journal_id);
    assert_eq!(look.load().unwrap().events, (1..=3).map(plain).collect::<Vec<_>>());
    assert_eq!(look.issues(None).unwrap().len(), 1);
    opened.journal.append(plain_batch(1, 4, 4), Vec::new()).await.unwrap();
    assert_eq!(look.bounds().unwrap(), (1, 4));
    drop(opened);
    let before = fs::read(dir.path().join("dalsegno.db")).unwrap();
    let look = Store::open_read_only(dir.path()).unwrap();
    assert_eq!(look.bounds().unwrap(), (1, 4));
    drop(look);
    assert_eq!(fs::read(dir.path().join("dalsegno.db")).unwrap(), before);
}
