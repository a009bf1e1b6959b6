//! A database of an earlier version: brought up in one step, with a copy of what it was.
//!
//! `tests/golden/store-v1.sql` is the dump of a database that the program wrote when its tables had version 1, and
//! `tests/golden/store-v2.sql` of the same one, one event later, when they had version 2.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use dalsegno_core::{Machine, View};
use dalsegno_durable::store::Write;
use dalsegno_durable::{Claim, DurableStore};
use dalsegno_engine::{Journal, Reads, UsageBy, UsageFilter};
use dalsegno_store::{Cure, SCHEMA_VERSION, Store};

use crate::support::{batch, numbers, open, plain, raw};

fn version_1(dir: &Path) {
    restore(dir, concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/store-v1.sql"));
}

fn version_2(dir: &Path) {
    restore(dir, concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/store-v2.sql"));
}

fn restore(dir: &Path, dump: &str) {
    raw(dir).execute_batch(&fs::read_to_string(dump).unwrap()).unwrap();
}

fn version(path: &Path) -> u32 {
    let db = rusqlite::Connection::open(path).unwrap();
    db.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap()
}

#[tokio::test]
async fn a_database_of_version_1_is_brought_up_and_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    version_1(dir.path());
    assert_eq!(version(&dir.path().join("dalsegno.db")), 1);
    let opened = open(dir.path());
    assert_eq!(version(&dir.path().join("dalsegno.db")), SCHEMA_VERSION);
    let journal_id: String =
        raw(dir.path()).query_row("SELECT value FROM meta WHERE key = 'journal_id'", [], |row| row.get(0)).unwrap();
    assert_eq!(opened.journal_id, journal_id);
    assert_eq!(opened.store.issue("ds-1").unwrap().unwrap().usage.total_tokens, 1_280);
    assert_eq!(opened.store.usage(&UsageFilter::default(), 10).unwrap(), []);

    // What was loaded replays, and what comes next has its rows.
    let seq = opened.loaded.events.last().unwrap().seq;
    let machine = Machine::replay(opened.loaded.snapshot, opened.loaded.events).unwrap();
    assert_eq!(machine.state().usage.total_tokens, 1_280);
    let mut next = batch(1, vec![plain(seq + 1)]);
    next.views = machine.views();
    assert!(next.views.iter().any(|view| matches!(view, View::Usage(_))));
    next.events[0].at = dalsegno_core::Timestamp(9_999);
    opened.journal.append(next, Vec::new()).await.unwrap();
    let sums = opened.store.usage_sums(UsageBy::Issue).unwrap();
    assert_eq!(
        sums.iter().map(|sum| (sum.key.as_deref(), sum.usage.total_tokens)).collect::<Vec<_>>(),
        [(Some("i1"), 1_280)]
    );
}

#[test]
fn the_copy_is_the_whole_database_as_it_was_and_its_owners_alone() {
    let dir = tempfile::tempdir().unwrap();
    version_1(dir.path());
    drop(open(dir.path()));
    let copy = dir.path().join("dalsegno.db.v1");
    assert_eq!(version(&copy), 1);
    assert_eq!(fs::metadata(&copy).unwrap().permissions().mode() & 0o777, 0o600);
    let before = fs::read(&copy).unwrap();
    let restored = tempfile::tempdir().unwrap();
    fs::copy(&copy, restored.path().join("dalsegno.db")).unwrap();
    assert_eq!(numbers(&open(restored.path()).loaded.events).last(), Some(&28));
    // A second opening has nothing to bring up.
    drop(open(dir.path()));
    assert_eq!(fs::read(&copy).unwrap(), before);
}

/// Somebody went back to the old version with the copy, worked on, and upgrades again.
#[test]
fn a_copy_of_an_earlier_upgrade_does_not_stand_for_that_of_now() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("dalsegno.db");
    let copy = |ending: &str| dir.path().join(format!("dalsegno.db.{ending}"));
    let go_back_to = |ending: &str| {
        for log in ["dalsegno.db-wal", "dalsegno.db-shm"] {
            let _ = fs::remove_file(dir.path().join(log));
        }
        fs::copy(copy(ending), &path).unwrap();
    };
    version_1(dir.path());
    drop(open(dir.path()));
    let first = fs::read(copy("v1")).unwrap();
    go_back_to("v1");
    raw(dir.path()).execute_batch("INSERT INTO meta (key, value) VALUES ('later', 1)").unwrap();
    drop(open(dir.path()));
    assert_eq!(fs::read(copy("v1")).unwrap(), first, "the first copy stays");
    assert_eq!(version(&copy("v1.2")), 1);
    let later = "SELECT count(*) FROM meta WHERE key = 'later'";
    let db = rusqlite::Connection::open(copy("v1.2")).unwrap();
    assert_eq!(db.query_row(later, [], |row| row.get::<_, u32>(0)).unwrap(), 1, "what came later is in the second");
    drop(db);
    // The same once more is no third one: an upgrade that fails again and again does not fill the disk.
    go_back_to("v1.2");
    drop(open(dir.path()));
    assert!(!copy("v1.3").exists() && !copy("v1.part").exists());
}

#[test]
fn an_upgrade_that_fails_leaves_version_1_and_the_next_one_succeeds() {
    let dir = tempfile::tempdir().unwrap();
    version_1(dir.path());
    // Something is in the way of a table that the upgrade makes.
    raw(dir.path()).execute_batch("CREATE TABLE usage_by_day (x)").unwrap();
    for _ in 0..2 {
        assert!(Store::open(dir.path(), dalsegno_store::OpenOptions::default()).is_err());
    }
    assert!(dir.path().join("dalsegno.db.v1").exists() && !dir.path().join("dalsegno.db.v1.2").exists());
    assert_eq!(version(&dir.path().join("dalsegno.db")), 1);
    let tables: u32 = raw(dir.path())
        .query_row("SELECT count(*) FROM sqlite_schema WHERE name = 'usage'", [], |row| row.get(0))
        .unwrap();
    assert_eq!(tables, 0, "half of an upgrade is there");
    raw(dir.path()).execute_batch("DROP TABLE usage_by_day").unwrap();
    drop(open(dir.path()));
    assert_eq!(version(&dir.path().join("dalsegno.db")), SCHEMA_VERSION);
}

#[test]
fn a_look_at_version_1_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    version_1(dir.path());
    let before = fs::read(dir.path().join("dalsegno.db")).unwrap();
    let look = Store::open_read_only(dir.path()).unwrap();
    assert_eq!(look.issues(None).unwrap().len(), 1);
    assert_eq!(look.usage_sums(UsageBy::Day).unwrap(), []);
    assert_eq!(look.usage(&UsageFilter::default(), 10).unwrap(), []);
    drop(look);
    assert_eq!(fs::read(dir.path().join("dalsegno.db")).unwrap(), before);
    assert!(!dir.path().join("dalsegno.db.v1").exists());
}

#[tokio::test]
async fn a_database_of_version_2_is_brought_up_and_takes_effects() {
    let dir = tempfile::tempdir().unwrap();
    version_2(dir.path());
    assert_eq!(version(&dir.path().join("dalsegno.db")), 2);
    let opened = open(dir.path());
    assert_eq!(version(&dir.path().join("dalsegno.db")), SCHEMA_VERSION);
    assert_eq!(version(&dir.path().join("dalsegno.db.v2")), 2);
    assert_eq!(numbers(&opened.loaded.events).last(), Some(&29));
    assert_eq!(opened.store.usage_sums(UsageBy::Issue).unwrap()[0].usage.total_tokens, 1_280);
    let turn = dalsegno_durable::ExecutionScope::turn("s", "1");
    let lease = opened.durable.open(&turn, Claim::IfFree).await.unwrap().lease;
    opened.durable.write(lease, Write::Intend(crate::effects::intent(&turn, "a", 1))).await.unwrap();
    drop((opened.store, opened.journal));
    let again = open(dir.path());
    assert_eq!(again.durable.open(&turn, Claim::IfFree).await.unwrap().effects.len(), 1);
}

#[test]
fn what_earlier_versions_wrote_is_proved_once_its_projections_are_made_anew() {
    for dump in [version_1 as fn(&Path), version_2] {
        let dir = tempfile::tempdir().unwrap();
        dump(dir.path());
        let refused = Store::open_read_only(dir.path()).unwrap().check().unwrap_err();
        assert!(refused.to_string().contains("start a daemon once"), "{refused}");
        assert_eq!(Store::rebuild(dir.path()).unwrap_err(), refused);
        drop(open(dir.path()));
        // They had fewer tables, and fewer fields in their rows.
        let before = crate::fsck::checked(dir.path());
        assert!(!before.is_beyond_rebuild(), "{before:?}");
        Store::rebuild(dir.path()).unwrap();
        // What was under way has no record beside its events, and needs none.
        let after = crate::fsck::checked(dir.path()).faults;
        assert!(after.iter().all(|fault| (fault.check, fault.cure) == ("effects", Cure::Look)), "{after:?}");
    }
}
