//! Files beside the database: all of a batch or nothing, and each is what its receipt says.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dalsegno_core::{Broken, Failure, FileReceipt, FoundFile, Mend, PolicyHash, RunId};
use dalsegno_engine::{Blobs as _, FileOwner, NewFile, Reads as _};
use dalsegno_store::{BlobCheck, BlobFiles, Opened, Store};

use crate::fsck::version_3;
use crate::support::{append, batch, open, plain, raw, run_view};

pub(crate) fn owner(run: &str) -> FileOwner {
    FileOwner { run: RunId::from(run), policy: PolicyHash::from("abc"), agent: "scripted".to_owned() }
}

pub(crate) fn file(name: &str, content: &str) -> NewFile {
    NewFile { name: name.to_owned(), content: content.as_bytes().to_vec() }
}

/// A store whose journal knows the run `run-1`, under epoch 1.
pub(crate) async fn with_run(dir: &Path) -> Opened {
    let opened = open(dir);
    let mut first = batch(1, vec![plain(1)]);
    first.views.push(run_view("run-1", "i1", 1, None));
    append(&opened, first).await;
    opened
}

pub(crate) fn check(opened: &Opened) -> Arc<BlobCheck> {
    Arc::new(BlobCheck::new(opened.store.clone(), Some(opened.blobs.clone())))
}

/// What the proof of the whole store says of kept files.
pub(crate) fn faults(opened: &Opened) -> usize {
    opened.store.check().unwrap().faults.iter().filter(|fault| fault.check == "blobs").count()
}

pub(crate) async fn keep(blobs: &BlobFiles, run: &str, files: &[(&str, &str)]) -> Result<Vec<FileReceipt>, Failure> {
    blobs.keep(owner(run), files.iter().map(|(name, content)| file(name, content)).collect()).await
}

pub(crate) fn path(dir: &Path, file: &str) -> PathBuf {
    dir.join("blobs").join(file)
}

/// Rows of batches: number, state, place among the committed ones.
pub(crate) fn batches(dir: &Path) -> Vec<(i64, String, Option<i64>)> {
    let db = raw(dir);
    let mut query = db.prepare("SELECT id, state, watermark FROM file_batches ORDER BY id").unwrap();
    query.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).unwrap().map(Result::unwrap).collect()
}

pub(crate) fn watermark(dir: &Path) -> i64 {
    raw(dir).query_row("SELECT value FROM meta WHERE key = 'file_watermark'", [], |row| row.get(0)).unwrap()
}

#[tokio::test]
async fn line_1_a_committed_batch_has_its_receipts_in_order_and_the_watermark_is_up_by_one() {
    let dir = tempfile::tempdir().unwrap();
    let opened = with_run(dir.path()).await;
    for count in 1..=3_i64 {
        let contents = [format!("one {count}"), format!("two {count}")];
        let kept = keep(&opened.blobs, "run-1", &[("one.log", &contents[0]), ("two.log", &contents[1])]).await.unwrap();
        assert_eq!(watermark(dir.path()), count);
        assert_eq!(batches(dir.path()).last(), Some(&(count, "committed".to_owned(), Some(count))));
        for (receipt, content) in kept.iter().zip(&contents) {
            let there = fs::read_to_string(path(dir.path(), &receipt.file)).unwrap();
            assert_eq!((&there, receipt.bytes), (content, content.len() as u64));
            assert_eq!(opened.store.kept_file(&receipt.file).unwrap(), Some(Ok(content.as_bytes().to_vec())));
        }
        let told = opened.store.kept_files("run-1", 100).unwrap();
        let last: Vec<FileReceipt> = told.iter().rev().take(2).rev().map(|file| file.receipt.clone()).collect();
        assert_eq!(last, kept, "in order");
        assert!(told.iter().all(|file| file.lost.is_none()));
    }
    assert!(batches(dir.path()).iter().all(|(_, state, _)| state == "committed"), "none is preparing");
    assert_eq!(check(&opened).look(&[]).unwrap(), [], "every entry is healthy");
    assert_eq!(faults(&opened), 0);
}

#[tokio::test]
async fn batches_at_once_lose_none_and_share_no_name() {
    let dir = tempfile::tempdir().unwrap();
    let opened = with_run(dir.path()).await;
    let batches_at_once = (0..64).map(|number| {
        let blobs = opened.blobs.clone();
        // Half of them write the same words.
        let content = format!("said by {}", number / 2);
        tokio::spawn(async move { (content.clone(), keep(&blobs, "run-1", &[("check.log", &content)]).await.unwrap()) })
    });
    let mut names = std::collections::BTreeSet::new();
    for kept in batches_at_once.collect::<Vec<_>>() {
        let (content, receipts) = kept.await.unwrap();
        assert_eq!(opened.store.kept_file(&receipts[0].file).unwrap(), Some(Ok(content.into_bytes())));
        assert!(names.insert(receipts[0].file.clone()), "{receipts:?} is another one's name");
    }
    let mut marks: Vec<i64> = batches(dir.path()).into_iter().filter_map(|(_, _, mark)| mark).collect();
    marks.sort_unstable();
    assert_eq!(marks, (1..=64).collect::<Vec<_>>());
    assert_eq!(check(&opened).look(&[RunId::from("run-1")]).unwrap().len(), 1, "its owner alone is told");
}

#[tokio::test]
async fn what_is_no_file_to_keep_is_refused_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let opened = with_run(dir.path()).await;
    let long = "n".repeat(65);
    for name in ["", "../one", ".hidden", "UPPER", "a/b", "a b", long.as_str()] {
        assert_eq!(keep(&opened.blobs, "run-1", &[(name, "x")]).await.unwrap_err().code, "blob_refused", "{name:?}");
    }
    let large = NewFile { name: "large".to_owned(), content: vec![0; (16 << 20) + 1] };
    let many = vec![file("one", "x"); 65];
    for files in [vec![large], many, Vec::new()] {
        assert_eq!(opened.blobs.keep(owner("run-1"), files).await.unwrap_err().code, "blob_refused");
    }
    assert_eq!(batches(dir.path()), []);
    assert_eq!(fs::read_dir(dir.path().join("blobs")).unwrap().count(), 0);
}

/// Another daemon has the journal.
pub(crate) fn take_over(dir: &Path, epoch: i64) {
    raw(dir).execute("UPDATE meta SET value = ?1 WHERE key = 'epoch'", [epoch]).unwrap();
}

#[tokio::test]
async fn a_writer_of_an_older_epoch_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let opened = with_run(dir.path()).await;
    keep(&opened.blobs, "run-1", &[("one.log", "one")]).await.unwrap();
    take_over(dir.path(), 2);
    let late = keep(&opened.blobs, "run-1", &[("two.log", "two")]).await.unwrap_err();
    assert_eq!(late.code, "stale_epoch");
    assert_eq!(batches(dir.path()).len(), 1);
    assert_eq!(fs::read_dir(dir.path().join("blobs")).unwrap().count(), 1, "its drafts are gone");
    drop(opened);
    let opened = open(dir.path());
    assert_eq!(check(&opened).look(&[]).unwrap(), []);
    keep(&opened.blobs, "run-1", &[("two.log", "two")]).await.expect("the life that is in force goes on");
}

/// An intent without an end, as a killed daemon leaves it; `state` of the files: named, still a draft, or not there.
pub(crate) fn leave_open(dir: &Path, files: &[(&str, &str, &str)]) -> String {
    use sha2::Digest as _;
    let db = raw(dir);
    db.execute(
        "INSERT INTO file_batches (run, policy, agent, epoch, state) VALUES ('run-1', 'abc', 'scripted', 1, 'preparing')",
        [],
    )
    .unwrap();
    let batch = db.last_insert_rowid();
    for (place, (name, content, state)) in files.iter().enumerate() {
        let sha256 = hex::encode(sha2::Sha256::digest(content.as_bytes()));
        db.execute(
            "INSERT INTO file_receipts (batch, place, name, sha256, bytes) VALUES (?1, ?2, ?3, ?4, ?5)",
            (batch, place as i64, name, &sha256, content.len() as i64),
        )
        .unwrap();
        let to = match *state {
            "named" => path(dir, &format!("{batch}-{place}-{name}")),
            "draft" => path(dir, &format!("{sha256}-dead-{place}.part")),
            _ => continue,
        };
        fs::write(to, content).unwrap();
    }
    format!("batch-{batch}")
}

#[tokio::test]
async fn an_open_batch_goes_forward_when_all_of_it_is_there_and_back_when_not_and_settling_twice_is_settling_once() {
    for (states, whole) in [
        (["named", "named"], true),
        (["named", "draft"], true),
        (["draft", "draft"], true),
        (["named", "gone"], false),
        (["draft", "gone"], false),
        (["gone", "gone"], false),
    ] {
        let dir = tempfile::tempdir().unwrap();
        drop(with_run(dir.path()).await);
        let batch = leave_open(dir.path(), &[("one.log", "first", states[0]), ("two.log", "second", states[1])]);
        let opened = open(dir.path());
        let check = check(&opened);
        let found = check.look(&[]).unwrap();
        let expected = FoundFile::OpenBatch { batch: batch.clone(), run: RunId::from("run-1"), whole };
        assert_eq!(found, [expected], "{states:?}");
        let mend = Mend::SettleBatch { batch, whole };
        let words = Arc::clone(&check).mend(mend.clone()).await.unwrap();
        let state = if whole { "committed" } else { "failed" };
        assert_eq!(batches(dir.path())[0].1, state, "{states:?}: {words}");
        assert_eq!(Arc::clone(&check).mend(mend).await.unwrap(), "left alone: it is ended");
        assert_eq!(check.look(&[]).unwrap(), [], "{states:?}");
        let kept = opened.store.kept_files("run-1", 10).unwrap();
        let contents: Vec<_> =
            kept.iter().map(|kept| opened.store.kept_file(&kept.receipt.file).unwrap().unwrap().unwrap()).collect();
        let expected: &[&[u8]] = if whole { &[b"first", b"second"] } else { &[] };
        assert_eq!(contents, expected, "{states:?}");
        assert_eq!(watermark(dir.path()), i64::from(whole));
        // Nothing is left of drafts.
        let left = fs::read_dir(dir.path().join("blobs")).unwrap().count();
        assert_eq!(left, if whole { 2 } else { 0 }, "{states:?}");
        assert_eq!(faults(&opened), 0);
    }
}

#[tokio::test]
async fn a_file_that_is_another_one_is_no_part_of_a_batch_that_goes_forward() {
    let dir = tempfile::tempdir().unwrap();
    drop(with_run(dir.path()).await);
    let batch = leave_open(dir.path(), &[("one.log", "first", "named"), ("two.log", "second", "named")]);
    fs::write(path(dir.path(), "1-1-two.log"), "secund").unwrap();
    let opened = open(dir.path());
    let words = check(&opened).mend(Mend::SettleBatch { batch, whole: true }).await.unwrap();
    assert_eq!(words, "not all of it is there: it is taken back");
    assert_eq!(opened.store.kept_files("run-1", 10).unwrap(), []);
    assert_eq!(fs::read_dir(dir.path().join("blobs")).unwrap().count(), 0);
}

#[tokio::test]
async fn a_receipt_that_does_not_hold_is_taken_back_and_what_is_there_is_kept_aside() {
    for (how, left) in [(Broken::Missing, None), (Broken::Differs, Some("other words"))] {
        let dir = tempfile::tempdir().unwrap();
        let opened = with_run(dir.path()).await;
        let kept = keep(&opened.blobs, "run-1", &[("one.log", "first words"), ("two.log", "second")]).await.unwrap();
        let file = kept[0].file.clone();
        let check = check(&opened);
        assert_eq!(check.look(&[]).unwrap(), []);
        match left {
            None => fs::remove_file(path(dir.path(), &file)).unwrap(),
            Some(words) => fs::write(path(dir.path(), &file), words).unwrap(),
        }
        assert!(opened.store.kept_file(&file).unwrap().unwrap().is_err(), "it is not answered");
        assert_eq!(faults(&opened), 1);
        // A live run's files are read through each time; others once in a life.
        let found = check.look(&[RunId::from("run-1")]).unwrap();
        let broken = FoundFile::Broken { file: file.clone(), run: RunId::from("run-1"), how };
        assert!(found.contains(&broken), "{found:?}");
        let mend = Mend::VoidReceipt { file: file.clone(), how };
        Arc::clone(&check).mend(mend.clone()).await.unwrap();
        assert_eq!(
            Arc::clone(&check).mend(mend).await.unwrap(),
            "left alone: there is no such receipt any more",
            "twice is once"
        );
        assert_eq!(check.look(&[]).unwrap(), []);
        let told = opened.store.kept_files("run-1", 10).unwrap();
        assert_eq!(told.iter().map(|file| file.lost.is_some()).collect::<Vec<_>>(), [true, false]);
        let aside = dir.path().join("blobs/aside").join(&file);
        assert_eq!(fs::read_to_string(aside).ok().as_deref(), left);
        assert_eq!(faults(&opened), 0);
    }
}

#[tokio::test]
async fn a_file_without_a_receipt_is_moved_once_and_a_good_one_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let opened = with_run(dir.path()).await;
    let kept = keep(&opened.blobs, "run-1", &[("one.log", "first")]).await.unwrap();
    let check = check(&opened);
    for name in ["9-0-late.log", "notes.txt"] {
        fs::write(path(dir.path(), name), "late").unwrap();
        assert_eq!(check.look(&[]).unwrap(), [FoundFile::Unreceipted { file: name.to_owned() }]);
        let mend = Mend::SetFileAside { file: name.to_owned() };
        assert!(Arc::clone(&check).mend(mend.clone()).await.unwrap().starts_with("moved to"));
        assert_eq!(Arc::clone(&check).mend(mend).await.unwrap(), "it is not there any more");
        assert_eq!(fs::read_to_string(dir.path().join("blobs/aside").join(name)).unwrap(), "late");
    }
    let good = Mend::SetFileAside { file: kept[0].file.clone() };
    assert_eq!(Arc::clone(&check).mend(good).await.unwrap(), "left alone: it has a receipt");
    let good = Mend::VoidReceipt { file: kept[0].file.clone(), how: Broken::Missing };
    assert_eq!(Arc::clone(&check).mend(good).await.unwrap(), "left alone: it is what its receipt says");
    assert_eq!(check.look(&[]).unwrap(), []);
}

#[tokio::test]
async fn receipts_of_a_run_that_is_not_known_are_told_and_those_of_a_live_one_say_what_it_is_under() {
    let dir = tempfile::tempdir().unwrap();
    let opened = with_run(dir.path()).await;
    let kept = keep(&opened.blobs, "run-9", &[("one.log", "first")]).await.unwrap();
    keep(&opened.blobs, "run-1", &[("one.log", "first")]).await.unwrap();
    let check = check(&opened);
    let run = RunId::from("run-1");
    let stale = FoundFile::Broken { file: kept[0].file.clone(), run: RunId::from("run-9"), how: Broken::UnknownRun };
    let FileOwner { run: _, policy, agent } = owner("run-1");
    let under = FoundFile::Under { run: run.clone(), policy, agent };
    assert_eq!(check.look(std::slice::from_ref(&run)).unwrap(), [stale, under.clone()]);
    let mend = Mend::VoidReceipt { file: kept[0].file.clone(), how: Broken::UnknownRun };
    Arc::clone(&check).mend(mend).await.unwrap();
    assert_eq!(check.look(&[run]).unwrap(), [under]);
}

#[tokio::test]
async fn a_disk_that_takes_no_file_takes_the_batch_back() {
    let dir = tempfile::tempdir().unwrap();
    let opened = with_run(dir.path()).await;
    // The directory is not there any more: drafts cannot be made.
    fs::remove_dir(dir.path().join("blobs")).unwrap();
    let failed = keep(&opened.blobs, "run-1", &[("one.log", "first")]).await.unwrap_err();
    assert_eq!((failed.code.as_str(), failed.retryable), ("blob_unwritten", true));
    assert_eq!(batches(dir.path()), [(1, "failed".to_owned(), None)]);
    fs::create_dir(dir.path().join("blobs")).unwrap();
    keep(&opened.blobs, "run-1", &[("one.log", "first")]).await.expect("the next one is kept");
    assert_eq!(check(&opened).look(&[]).unwrap(), []);
}

#[tokio::test]
async fn a_database_of_version_3_is_brought_up_and_keeps_files_and_a_look_at_one_finds_none() {
    let dir = tempfile::tempdir().unwrap();
    version_3(dir.path());
    let look = Store::open_read_only(dir.path()).unwrap();
    assert_eq!(look.kept_files("run-1", 10).unwrap(), []);
    assert_eq!(look.kept_file("1-0-check-1.log").unwrap(), None);
    assert_eq!(BlobCheck::new(look, None).look(&[RunId::from("run-1")]).unwrap(), []);
    let opened = open(dir.path());
    assert_eq!(raw(dir.path()).pragma_query_value(None, "user_version", |row| row.get::<_, u32>(0)).unwrap(), 4);
    assert!(dir.path().join("dalsegno.db.v3").exists(), "a copy of what it was");
    let kept = keep(&opened.blobs, "run-1", &[("check-1.log", "first")]).await.unwrap();
    assert_eq!(opened.store.kept_file(&kept[0].file).unwrap(), Some(Ok(b"first".to_vec())));
}
