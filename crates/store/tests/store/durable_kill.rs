//! The crash suite of durable hosts, on SQLite: a process is killed at each journal write and at each boundary of an effect, one by one.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use dalsegno_durable::{EffectHost, ExecutionScope, HostOptions, StoredHost};
use dalsegno_store::SqliteDurable;
use dalsegno_testkit::conformance::durable::crash::{Recorded, World, judge, play};
use dalsegno_testkit::crash::{Kill, Points, Ran, arm, run_child, tell_passed, walk};
use dalsegno_testkit::durable::{Faults, FaultyStore};
use rusqlite::{Connection, OpenFlags, OptionalExtension};

const DIRECTORY: &str = "DALSEGNO_DURABLE_KILL_DIRECTORY";
/// Points of a walk that nobody asked for.
const SAMPLE: u64 = 12;

fn database(dir: &Path) -> PathBuf {
    dir.join("effects.db")
}

fn ledger(dir: &Path) -> PathBuf {
    dir.join("ledger.jsonl")
}

/// What a connection of its own sees at this moment: it is committed, or it is not there.
fn look(db: &Path, scope: &ExecutionScope, replay_key: &str) -> Recorded {
    let db =
        Connection::open_with_flags(db, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX).unwrap();
    db.busy_timeout(Duration::from_secs(5)).unwrap();
    let sql = "SELECT outcomes.progress FROM effects JOIN scopes ON scopes.id = effects.scope
        LEFT JOIN outcomes ON outcomes.place = effects.place WHERE scopes.key = ?1 AND effects.replay_key = ?2";
    let read = |row: &rusqlite::Row<'_>| row.get::<_, Option<String>>(0);
    match db.query_row(sql, (scope.key(), replay_key), read).optional().unwrap() {
        None => Recorded::Nothing,
        Some(Some(progress)) if progress == "ended" => Recorded::Outcome,
        Some(_) => Recorded::Intent,
    }
}

fn played(dir: &Path, world: &World, point: fn(&str)) {
    let faults = Arc::new(Faults::with_points(point));
    let host = |retention| -> Arc<dyn EffectHost> {
        let store = Arc::new(SqliteDurable::open(&database(dir)).unwrap());
        let store = Arc::new(FaultyStore::new(store, Arc::clone(&faults)));
        Arc::new(StoredHost::with(store, HostOptions { retention, ..HostOptions::default() }))
    };
    let (one, two, sweeper) =
        (host(Duration::from_secs(3_600)), host(Duration::from_secs(3_600)), host(Duration::ZERO));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(play(world, &one, &two, &*sweeper));
}

/// The process that is killed. Not a test of its own: the other one starts it.
#[test]
#[ignore = "the other test starts it in a process of its own"]
fn plays_until_it_is_killed() {
    let Some(dir) = std::env::var_os(DIRECTORY).map(PathBuf::from) else { panic!("{DIRECTORY} is not set") };
    arm();
    let point: fn(&str) = dalsegno_engine::crash::point;
    let path = database(&dir);
    let world = World::new(&ledger(&dir), move |scope, key| look(&path, scope, key), point);
    played(&dir, &world, point);
    tell_passed();
}

fn child(dir: &tempfile::TempDir, how: Kill) -> Ran {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "durable_kill::plays_until_it_is_killed", "--ignored", "--nocapture"]);
    command.env(DIRECTORY, dir.path());
    run_child(&mut command, how)
}

fn judged(dir: &tempfile::TempDir) {
    let world = World::frozen(&ledger(dir.path()));
    judge(&world);
    // This process does nothing to the world, and is told everything.
    played(dir.path(), &world, |_| {});
    let db = Connection::open(database(dir.path())).unwrap();
    let sound: String = db.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(sound, "ok");
}

#[test]
fn walk_every_write_and_every_effect_boundary() {
    let points = Points::from_environment(SAMPLE);
    let walked = walk(points, 2, || tempfile::tempdir().unwrap(), child, |dir, _| judged(dir));
    writeln!(
        std::io::stdout(),
        "crash walk of durable effects ({points:?}): killed at {} of {} points",
        walked.killed,
        walked.points
    )
    .unwrap();
}
