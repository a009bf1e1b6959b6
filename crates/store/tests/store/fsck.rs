//! The proof that what is kept is what the journal says, and what mends it.
//!
//! `tests/golden/store-v3.sql` is the dump of a database that the program wrote when its tables had version 3: two issues, handed off; its daemon
//! was killed in the first one's turn.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use dalsegno_engine::Reads as _;
use dalsegno_store::{Checked, Cure, SCHEMA_VERSION, Store};
use rusqlite::types::Value;

use crate::support::{open, raw};

/// The store of two issues, as version 3 wrote it.
pub(crate) fn version_3(dir: &Path) {
    let dump = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/store-v3.sql");
    raw(dir).execute_batch(&fs::read_to_string(dump).unwrap()).unwrap();
}

/// The same, brought up to the tables of now.
fn brought_up(dir: &Path) {
    version_3(dir);
    drop(open(dir));
}

/// Rows as JSON: what is JSON in them is the same in every order of its fields.
type Rows = Vec<Vec<serde_json::Value>>;

fn as_json(value: Value) -> serde_json::Value {
    match value {
        Value::Null => serde_json::Value::Null,
        Value::Integer(number) => number.into(),
        Value::Real(number) => number.into(),
        Value::Text(text) => serde_json::from_str(&text).unwrap_or_else(|_| text.into()),
        Value::Blob(bytes) => hex::encode(bytes).into(),
    }
}

pub(crate) fn checked(dir: &Path) -> Checked {
    Store::open_read_only(dir).unwrap().check().unwrap()
}

/// Rows of the tables that are projections, but for the time at which a row of an issue was made.
fn projections(dir: &Path) -> BTreeMap<&'static str, Rows> {
    let db = raw(dir);
    let read = |(name, sql): (&'static str, &str)| {
        let mut query = db.prepare(sql).unwrap();
        let width = query.column_count();
        let row = |row: &rusqlite::Row<'_>| (0..width).map(|column| row.get(column).map(as_json)).collect();
        (name, query.query_map([], row).unwrap().collect::<rusqlite::Result<_>>().unwrap())
    };
    [
        ("names", "SELECT * FROM names"),
        (
            "issues",
            "SELECT id, id_key, identifier, identifier_key, status, json_remove(data, '$.changed_at') FROM issues ORDER BY id",
        ),
        ("runs", "SELECT rowid, * FROM runs ORDER BY rowid"),
        ("usage", "SELECT * FROM usage"),
        ("daemon", "SELECT * FROM daemon"),
        ("events", "SELECT * FROM events ORDER BY seq"),
        ("effects", "SELECT * FROM effects ORDER BY place"),
        ("outcomes", "SELECT * FROM outcomes ORDER BY place"),
        ("meta", "SELECT * FROM meta"),
    ]
    .into_iter()
    .map(read)
    .collect()
}

/// As an assertion that does not print whole tables.
fn assert_same(is: &BTreeMap<&'static str, Rows>, should: &BTreeMap<&'static str, Rows>, why: &str) {
    for (name, rows) in should {
        assert_eq!(is[name].len(), rows.len(), "{why}: rows of {name}");
        for (is, should) in is[name].iter().zip(rows) {
            assert_eq!(is, should, "{why}: a row of {name}");
        }
    }
}

#[test]
fn a_store_of_version_3_is_what_its_journal_says_and_opens() {
    let dir = tempfile::tempdir().unwrap();
    brought_up(dir.path());
    let before = checked(dir.path());
    assert_eq!(before.faults, [], "version 3");
    assert!(before.through == 100 && before.rows > 140);
    let opened = open(dir.path());
    assert_eq!(opened.store.issue("ds-2").unwrap().unwrap().status.as_str(), "handed_off");
    let machine = dalsegno_core::Machine::replay(opened.loaded.snapshot, opened.loaded.events).unwrap();
    assert_eq!((machine.state().run_count, machine.state().epoch), (2, 2));
}

/// `tests/golden/store-v4.sql` is the same database with the tables of version 4, and a file that was kept for its first run.
#[test]
fn a_store_of_version_4_is_what_its_journal_says_and_has_its_file() {
    let dir = tempfile::tempdir().unwrap();
    let dump = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/store-v4.sql");
    raw(dir.path()).execute_batch(&fs::read_to_string(dump).unwrap()).unwrap();
    fs::create_dir(dir.path().join("blobs")).unwrap();
    fs::write(dir.path().join("blobs/1-0-check-1.log"), "all is well\n").unwrap();
    assert_eq!(checked(dir.path()).faults, [], "version 4");
    let opened = open(dir.path());
    assert_eq!(SCHEMA_VERSION, 4, "a new version of the tables needs a dump of its own beside this one");
    assert_eq!(opened.store.kept_file("1-0-check-1.log").unwrap(), Some(Ok(b"all is well\n".to_vec())));
    let db = raw(dir.path());
    let empty = tempfile::tempdir().unwrap();
    drop(open(empty.path()));
    let tables = |db: &rusqlite::Connection| -> Vec<String> {
        let mut query = db.prepare("SELECT sql FROM sqlite_schema WHERE name LIKE 'file_%' ORDER BY name").unwrap();
        query.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
    };
    assert_eq!(tables(&db), tables(&raw(empty.path())), "the tables are those of now");
}

/// One value of one table each, the check that names it, and a word of what it says.
const CORRUPTIONS: [(&str, &str, &str); 17] = [
    ("issues", "UPDATE issues SET status = 'idle' WHERE identifier = 'DS-1'", "status is idle, not handed_off"),
    ("issues", "UPDATE issues SET data = json_set(data, '$.usage.total_tokens', 7)", "usage is"),
    (
        "issues",
        "UPDATE issues SET data = json_set(data, '$.changed_at', 7) WHERE identifier = 'DS-2'",
        "changed_at is 7",
    ),
    ("issues", "DELETE FROM issues WHERE identifier = 'DS-2'", "row is missing"),
    ("runs", "UPDATE runs SET ended_at = NULL WHERE id = 'run-1'", "ended_at is nothing"),
    ("runs", "UPDATE runs SET data = json_set(data, '$.turns', 9) WHERE id = 'run-2'", "turns is 9, not 1"),
    (
        "runs",
        "INSERT INTO runs SELECT 'run-9', issue_id, started_at, ended_at, data FROM runs LIMIT 1",
        "no event speaks of",
    ),
    ("usage", "UPDATE usage SET day = 3 WHERE run = 'run-2'", "day is 3"),
    ("usage", "DELETE FROM usage WHERE run = 'run-1'", "row is missing"),
    ("names", "DELETE FROM names WHERE key = 'ds-1'", "row is missing"),
    ("names", "INSERT INTO names VALUES ('ds-7', 'DS-7')", "no event speaks of"),
    ("daemon", "UPDATE daemon SET data = json_set(data, '$.run_ms', 1)", "run_ms is 1"),
    ("events", "UPDATE events SET run = 'run-2' WHERE seq = 20", "run is run-2"),
    ("events", "UPDATE events SET kind = 'parked' WHERE seq = 20", "its row says parked"),
    ("effects", "UPDATE effects SET hash = zeroblob(32) WHERE place = 3", "its intent"),
    ("effects", "UPDATE outcomes SET state = json_set(state, '$.attempt', 7) WHERE place = 3", "what became of it"),
    ("meta", "UPDATE meta SET value = 1 WHERE key = 'epoch'", "the epoch is 1"),
];

#[test]
fn each_corrupted_value_is_named_and_mended() {
    for (check, sql, word) in CORRUPTIONS {
        let dir = tempfile::tempdir().unwrap();
        brought_up(dir.path());
        let whole = projections(dir.path());
        assert!(raw(dir.path()).execute(sql, []).unwrap() > 0, "{sql} changes something");
        let found = checked(dir.path());
        let fault =
            found.faults.iter().find(|fault| fault.check == check).unwrap_or_else(|| panic!("{sql}: {found:?}"));
        assert!(fault.found.contains(word), "{sql}: {fault:?}");
        assert_eq!(fault.cure, Cure::Rebuild, "{sql}: {fault:?}");
        let mended = Store::rebuild(dir.path()).unwrap();
        assert_eq!(mended.faults, found.faults, "{sql}");
        assert_eq!(checked(dir.path()).faults, [], "{sql}");
        assert_same(&projections(dir.path()), &whole, sql);
    }
}

#[test]
fn what_no_fold_can_mend_is_named_and_left_alone() {
    for (check, sql) in [
        ("journal", "DELETE FROM events WHERE seq = 50"),
        ("journal", "UPDATE events SET data = '{}' WHERE seq = 50"),
        ("journal", "UPDATE events SET at = 1 WHERE seq = 50"),
        ("effects", "UPDATE effects SET previous = 99 WHERE place = 3"),
        ("outcomes", "INSERT INTO outcomes VALUES (9999, 'done', '{}')"),
        ("sagas", "UPDATE effects SET content = '{}' WHERE kind = 'durable_step' OR replay_key LIKE '%1%'"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        brought_up(dir.path());
        raw(dir.path()).execute(sql, []).unwrap();
        let found = checked(dir.path());
        let fault = found.faults.iter().find(|fault| fault.check == check);
        assert_eq!(fault.map(|fault| fault.cure), Some(Cure::Restore), "{sql}: {found:?}");
        if check == "journal" {
            let before = projections(dir.path());
            assert_eq!(Store::rebuild(dir.path()).unwrap_err().code(), "corrupt_database", "{sql}");
            assert_same(&projections(dir.path()), &before, sql);
        }
    }
}

#[test]
fn a_running_daemon_keeps_its_projections() {
    let dir = tempfile::tempdir().unwrap();
    brought_up(dir.path());
    let opened = open(dir.path());
    assert_eq!(Store::rebuild(dir.path()).unwrap_err().code(), "daemon_running");
    assert_eq!(checked(dir.path()).faults, [], "a look is allowed");
    drop(opened);
}

#[test]
fn transcripts_of_nobody_and_lines_that_are_none_are_told() {
    let dir = tempfile::tempdir().unwrap();
    brought_up(dir.path());
    let transcripts = dir.path().join("transcripts");
    fs::create_dir(&transcripts).unwrap();
    fs::write(transcripts.join("run-1.jsonl"), "no entry\n{\"torn").unwrap();
    fs::write(transcripts.join("run-7.jsonl"), "").unwrap();
    let found = checked(dir.path()).faults;
    assert!(found.iter().all(|fault| (fault.check, fault.cure) == ("transcripts", Cure::Look)), "{found:?}");
    let mut told: Vec<&str> = found.iter().map(|fault| fault.found.as_str()).collect();
    told.sort_unstable();
    assert_eq!(told, ["run-1.jsonl has 1 lines that are no entries", "run-7.jsonl is of a run that is not known"]);
}

/// A snapshot at event 40, and no events before 30: as retention leaves it.
#[test]
fn behind_a_snapshot_what_had_ended_before_stays() {
    let dir = tempfile::tempdir().unwrap();
    brought_up(dir.path());
    let db = raw(dir.path());
    let ended: u64 = db
        .query_row("SELECT seq FROM events WHERE kind = 'run_ended' ORDER BY seq LIMIT 1", [], |row| {
            row.get::<_, i64>(0)
        })
        .unwrap()
        .unsigned_abs();
    let state = Store::open_read_only(dir.path()).unwrap().state_at(ended + 1).unwrap();
    let snapshot = dalsegno_core::Snapshot { format: dalsegno_core::SNAPSHOT_FORMAT, state };
    let data = dalsegno_store::format::encode_snapshot(&snapshot).unwrap();
    let sum = hex::encode(<sha2::Sha256 as sha2::Digest>::digest(&data));
    db.execute("INSERT INTO snapshots VALUES (?1, 3, ?2, ?3)", ((ended + 1).cast_signed(), sum, data)).unwrap();
    db.execute("DELETE FROM events WHERE seq < 10", []).unwrap();
    let before = checked(dir.path());
    assert_eq!((before.faults.as_slice(), before.after), ([].as_slice(), ended + 1));
    let whole = projections(dir.path());
    db.execute("UPDATE issues SET status = 'idle'", []).unwrap();
    assert!(!checked(dir.path()).faults.is_empty());
    Store::rebuild(dir.path()).unwrap();
    assert_eq!(checked(dir.path()).faults, []);
    assert_same(&projections(dir.path()), &whole, "the run that had ended before is there still");

    // Of what is before that nothing can be told.
    let store = Store::open_read_only(dir.path()).unwrap();
    assert_eq!(store.state_at(20).unwrap_err().code(), "not_kept");
    assert_eq!(store.state_at(101).unwrap_err().code(), "not_kept");
    assert_eq!(store.state_at(100).unwrap().run_count, 2);

    // Nothing but a snapshot that is damaged.
    db.execute("UPDATE snapshots SET sha256 = 'x'", []).unwrap();
    assert!(checked(dir.path()).is_beyond_rebuild());
}
