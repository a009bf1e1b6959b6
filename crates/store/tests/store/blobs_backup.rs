//! Kept files go where their store goes: into backups and back, and away with their runs.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use dalsegno_core::{FoundFile, RunId, Timestamp};
use dalsegno_engine::{Journal as _, Reads as _};
use dalsegno_store::{OpenOptions, Source, Store};
use dalsegno_testkit::calls::{Call, Fault, Traced, can_be_traced, waiting};

use crate::blobs::{batches, check, faults, keep, leave_open, path};
use crate::blobs_kill::mended;
use crate::fsck::{checked, version_3};
use crate::support::{append, open, plain_batch, raw, run_view};

const DIRECTORY: &str = "DALSEGNO_BLOBS_PRUNE_DIRECTORY";
const NOW: Timestamp = Timestamp(2_000_000_000_000);

fn files_in(folder: &Path) -> BTreeSet<String> {
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name != "aside").collect()
}

/// The names of the files that a database speaks of: of batches in this state.
fn spoken_of(dir: &Path, state: &str) -> BTreeSet<String> {
    let db = raw(dir);
    let sql = "SELECT batch || '-' || place || '-' || name FROM file_receipts JOIN file_batches ON id = batch WHERE state = ?1";
    let mut query = db.prepare(sql).unwrap();
    query.query_map([state], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
}

fn restored(backup: &Path, to: &Path) {
    Source::open(backup).unwrap().restore(to, false, NOW, &mut |_| Ok(())).unwrap();
}

/// A run of the store that version 3 wrote.
fn a_run(store: &Store) -> String {
    store.runs(None, 1).unwrap()[0].id.as_str().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_has_the_files_that_its_database_has_receipts_for_while_files_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let state_dir = dir.path().join("state");
    fs::create_dir(&state_dir).unwrap();
    version_3(&state_dir);
    let opened = open(&state_dir);
    let run = a_run(&opened.store);
    keep(&opened.blobs, &run, &[("first.log", "first")]).await.unwrap();
    let over = Arc::new(AtomicBool::new(false));
    let writer = tokio::spawn({
        let (blobs, over, run) = (opened.blobs.clone(), Arc::clone(&over), run.clone());
        async move {
            let mut number = 0;
            while !over.load(Ordering::SeqCst) {
                let (one, two) = (format!("one {number}"), format!("two {number}"));
                keep(&blobs, &run, &[("one.log", &one), ("two.log", &two)]).await.unwrap();
                number += 1;
            }
        }
    });
    let mut sizes = Vec::new();
    for number in 0..3 {
        let backup = dir.path().join(format!("backup-{number}"));
        let (store, to) = (Arc::clone(&opened.store), backup.clone());
        tokio::task::spawn_blocking(move || store.back_up(&to, "test", NOW).unwrap()).await.unwrap();
        let (there, vouched) = (files_in(&backup.join("blobs")), spoken_of(&backup, "committed"));
        let open = spoken_of(&backup, "preparing");
        assert!(vouched.is_subset(&there), "{:?} are missing", vouched.difference(&there));
        let more: BTreeSet<_> = there.difference(&vouched).cloned().collect();
        assert!(more.is_subset(&open), "nothing speaks of {:?}", more.difference(&open));
        sizes.push(vouched.len());
        let again = dir.path().join(format!("restored-{number}"));
        restored(&backup, &again);
        let life = crate::support::open(&again);
        mended(&life).await;
        assert_eq!(checked(&again).faults, [], "all of it is as it should be");
        let kept = life.store.kept_files(&run, 10_000).unwrap();
        assert!(kept.len() >= vouched.len().min(1_000) && kept.iter().all(|kept| kept.lost.is_none()));
        for kept in kept {
            assert!(matches!(life.store.kept_file(&kept.receipt.file), Ok(Some(Ok(_)))), "{kept:?}");
        }
    }
    over.store(true, Ordering::SeqCst);
    writer.await.unwrap();
    assert!(sizes.windows(2).all(|pair| pair[0] < pair[1]), "somebody wrote all the time: {sizes:?}");
    assert_eq!(checked(&state_dir).faults, []);
    // An export is the journal's, and kept files are in no event's way.
    let (mut out, last) = (Vec::new(), opened.store.bounds().unwrap().1);
    assert_eq!(opened.store.export(0, last, &mut out).unwrap().unwrap(), last);
    assert_eq!(out.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).count() as u64, last);
}

#[tokio::test]
async fn a_batch_that_was_open_in_a_backup_is_settled_after_the_restore() {
    for (last, state) in [("named", "committed"), ("gone", "failed")] {
        let dir = tempfile::tempdir().unwrap();
        let state_dir = dir.path().join("state");
        fs::create_dir(&state_dir).unwrap();
        version_3(&state_dir);
        let opened = open(&state_dir);
        let run = a_run(&opened.store);
        leave_open(&state_dir, &[("one.log", "first", "named"), ("two.log", "second", last)]);
        raw(&state_dir).execute("UPDATE file_batches SET run = ?1", [&run]).unwrap();
        let (backup, again) = (dir.path().join("backup"), dir.path().join("again"));
        opened.store.back_up(&backup, "test", NOW).unwrap();
        restored(&backup, &again);
        let life = open(&again);
        assert_eq!(batches(&again)[0].1, "preparing");
        mended(&life).await;
        assert_eq!(batches(&again)[0].1, state);
        assert_eq!(files_in(&again.join("blobs")).len(), if last == "named" { 2 } else { 0 });
        assert_eq!(checked(&again).faults, []);
        let next = keep(&life.blobs, &run, &[("next.log", "next")]).await.expect("the next one is kept");
        assert_eq!(next[0].file, "2-0-next.log");
    }
}

/// Ends so many runs that the first ones go.
async fn end_runs(dir: &Path) {
    let opened = Store::open(dir, OpenOptions { keep_ended_runs: 1, ..OpenOptions::default() }).unwrap();
    let first = opened.store.bounds().unwrap().1 + 1;
    for seq in first..first + 300 {
        let mut next = plain_batch(1, seq, seq);
        next.views.push(run_view(&format!("run-{}", seq + 1_000), "i1", 10 + seq as i64, Some(11 + seq as i64)));
        opened.journal.append(next, Vec::new()).await.unwrap();
    }
}

/// The process that is killed. Not a test of its own.
#[tokio::test]
#[ignore = "the other test starts it in a process of its own"]
async fn ends_runs_until_it_is_killed() {
    let Some(dir) = std::env::var_os(DIRECTORY) else { panic!("{DIRECTORY} is not set") };
    end_runs(Path::new(&dir)).await;
}

#[test]
fn kept_files_of_a_run_go_with_it_and_a_kill_in_between_leaves_a_file_that_a_look_sets_aside() {
    if !can_be_traced() {
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let (old, live) = runtime.block_on(async {
        let opened = open(dir.path());
        let mut first = plain_batch(1, 1, 1);
        first.views.extend([run_view("run-old", "i1", 1, Some(2)), run_view("run-live", "i1", 1, None)]);
        append(&opened, first).await;
        let old = keep(&opened.blobs, "run-old", &[("one.log", "one"), ("two.log", "two")]).await.unwrap();
        let live = keep(&opened.blobs, "run-live", &[("one.log", "three")]).await.unwrap();
        (old, live)
    });
    // Only what is below the directory of kept files is watched: that is the removal of the two.
    let mut command = waiting(&std::env::current_exe().unwrap());
    command.args(["--exact", "blobs_backup::ends_runs_until_it_is_killed", "--ignored", "--nocapture"]);
    command.env(DIRECTORY, dir.path()).stdout(Stdio::null());
    let below = dir.path().join("blobs");
    let watched = move |call: &Call| call.path.starts_with(&below);
    let ended = Traced::start(command, watched, Fault::Kill(2)).unwrap().wait(Duration::from_secs(300)).unwrap();
    assert_eq!(ended.code, None);
    assert!(ended.hit[0].path.ends_with(&old[1].file), "{:?}", ended.hit);
    runtime.block_on(async {
        let opened = open(dir.path());
        assert_eq!(opened.store.kept_files("run-old", 10).unwrap(), [], "its rows are gone");
        assert!(!path(dir.path(), &old[0].file).exists() && path(dir.path(), &old[1].file).exists());
        let found = check(&opened).look(&[RunId::from("run-live")]).unwrap();
        assert!(found.contains(&FoundFile::Unreceipted { file: old[1].file.clone() }), "{found:?}");
        mended(&opened).await;
        let aside = dir.path().join("blobs/aside").join(&old[1].file);
        assert_eq!(fs::read_to_string(aside).unwrap(), "two");
        assert_eq!(files_in(&dir.path().join("blobs")), [live[0].file.clone()].into(), "a live run's stays");
        assert_eq!(faults(&opened), 0);
        // Without a kill nothing is left.
        let again = keep(&opened.blobs, "run-live", &[("two.log", "four")]).await.unwrap();
        let ended = run_view("run-live", "i1", 1, Some(3));
        let mut next = plain_batch(1, opened.store.bounds().unwrap().1 + 1, opened.store.bounds().unwrap().1 + 1);
        next.views.push(ended);
        append(&opened, next).await;
        drop(opened);
        end_runs(dir.path()).await;
        assert!(!path(dir.path(), &again[0].file).exists() && !path(dir.path(), &live[0].file).exists());
        assert!(files_in(&dir.path().join("blobs")).is_empty());
    });
}
