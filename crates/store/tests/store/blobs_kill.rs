//! A process that is killed before each system call that changes a file, while it keeps files and while it mends what a kill left.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Mutex;
use std::time::Duration;

use dalsegno_core::FoundFile;
use dalsegno_engine::Reads as _;
use dalsegno_testkit::calls::{Call, Fault, Traced, can_be_traced, waiting};
use dalsegno_testkit::crash::{Kill, Points, Ran, walk};
use tempfile::TempDir;

use crate::blobs::{batches, check, faults, keep, leave_open, path, with_run};
use crate::support::{open, raw};

const DIRECTORY: &str = "DALSEGNO_BLOBS_KILL_DIRECTORY";
/// What the child does after it has mended everything: it keeps this, or nothing.
const CONTENT: &str = "DALSEGNO_BLOBS_KILL_CONTENT";
/// What it says about that: a file of the directory that is not watched.
const ACKNOWLEDGED: &str = "acknowledged";
const PATIENCE: Duration = Duration::from_secs(300);
/// Points of a walk that nobody asked for.
const SAMPLE: u64 = 16;
/// Looks until nothing is found any more; what a mend leaves for the next look is one more.
const LOOKS: usize = 3;

/// Mends whatever a look finds, until one finds nothing.
pub(crate) async fn mended(opened: &dalsegno_store::Opened) {
    let check = check(opened);
    for _ in 0..LOOKS {
        let found = check.look(&[]).unwrap();
        if found.is_empty() {
            return;
        }
        for file in found {
            let mend = match file {
                FoundFile::OpenBatch { batch, run: _, whole } => dalsegno_core::Mend::SettleBatch { batch, whole },
                FoundFile::Broken { file, run: _, how } => dalsegno_core::Mend::VoidReceipt { file, how },
                FoundFile::Unreceipted { file } => dalsegno_core::Mend::SetFileAside { file },
                FoundFile::Under { .. } | FoundFile::Unreadable { .. } => panic!("{file:?} is nothing to mend"),
            };
            std::sync::Arc::clone(&check).mend(mend).await.unwrap();
        }
    }
    assert_eq!(check.look(&[]).unwrap(), [], "it is never in line");
}

/// The process that is killed. Not a test of its own: the others start it.
#[test]
#[ignore = "the other tests start it in a process of its own"]
fn mends_and_keeps_until_it_is_killed() {
    let Some(dir) = std::env::var_os(DIRECTORY).map(PathBuf::from) else { panic!("{DIRECTORY} is not set") };
    let content = std::env::var(CONTENT).ok();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(async {
        let opened = open(&dir);
        mended(&opened).await;
        if let Some(content) = content {
            let kept = keep(&opened.blobs, "run-1", &two(&content)).await.unwrap();
            fs::write(dir.join(ACKNOWLEDGED), format!("{} {}", kept[0].file, kept[1].file)).unwrap();
        }
    });
}

/// The two files of a batch. They share no content with those of another one.
fn two(content: &str) -> [(&str, &str); 2] {
    [("one.log", content), ("two.log", content.strip_suffix('.').unwrap())]
}

/// Everything of kept files that outlives a process: rows, and what is on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct There {
    pub(crate) batches: Vec<(i64, String, Option<i64>)>,
    watermark: i64,
    /// Whether each was taken back, by the name of its file.
    pub(crate) receipts: BTreeMap<String, bool>,
    pub(crate) files: BTreeMap<String, String>,
}

impl There {
    pub(crate) fn of(dir: &Path) -> Self {
        let db = raw(dir);
        let mut query = db
            .prepare(
                "SELECT batch || '-' || place || '-' || name, voided IS NOT NULL FROM file_receipts
                 JOIN file_batches ON id = batch WHERE state = 'committed'",
            )
            .unwrap();
        let receipts = query.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap().map(Result::unwrap).collect();
        let mut files = BTreeMap::new();
        for (folder, under) in [(dir.join("blobs"), ""), (dir.join("blobs/aside"), "aside/")] {
            for entry in fs::read_dir(folder).into_iter().flatten().map(Result::unwrap) {
                if entry.file_type().unwrap().is_file() {
                    let name = format!("{under}{}", entry.file_name().to_str().unwrap());
                    files.insert(name, fs::read_to_string(entry.path()).unwrap());
                }
            }
        }
        Self { batches: batches(dir), watermark: crate::blobs::watermark(dir), receipts, files }
    }

    /// Whether the two files of this content are kept. Half of them is torn.
    fn has(&self, content: &str) -> bool {
        let kept: Vec<&str> = self
            .receipts
            .iter()
            .filter(|(file, voided)| {
                !**voided && self.files.get(*file).is_some_and(|is| two(content).iter().any(|two| two.1 == is))
            })
            .map(|(file, _)| file.as_str())
            .collect();
        assert!(matches!(kept.len(), 0 | 2), "half a batch is kept: {kept:?} of {self:?}");
        kept.len() == 2
    }

    fn has_drafts(&self) -> bool {
        self.files.keys().any(|name| name.ends_with(".part"))
    }
}

/// A directory that children are killed in, one after the other.
struct Scene {
    dir: TempDir,
    /// What the last child was to keep, if it was, and what it said about it.
    content: Option<String>,
    acknowledged: Mutex<Option<Vec<String>>>,
    call: Mutex<Option<String>>,
}

impl Scene {
    fn new(dir: TempDir, content: Option<&str>) -> Self {
        let (acknowledged, call) = (Mutex::default(), Mutex::default());
        Self { dir, content: content.map(str::to_owned), acknowledged, call }
    }

    fn child(&self, how: Kill) -> Ran {
        let mut command = waiting(&std::env::current_exe().unwrap());
        command.args(["--exact", "blobs_kill::mends_and_keeps_until_it_is_killed", "--ignored", "--nocapture"]);
        command.stdout(Stdio::null());
        command.env(DIRECTORY, self.dir.path());
        let after = self.call.lock().unwrap().is_some();
        match &self.content {
            // One that was killed is followed by one that keeps something else.
            Some(_) if after => command.env(CONTENT, "what comes after a kill."),
            Some(content) => command.env(CONTENT, content),
            None => command.env_remove(CONTENT),
        };
        let said = self.dir.path().join(ACKNOWLEDGED);
        let _ = fs::remove_file(&said);
        let (below, unwatched) = (self.dir.path().to_owned(), said.clone());
        let watched = move |call: &Call| call.path.starts_with(&below) && call.path != unwatched;
        let fault = match how {
            Kill::Never => Fault::Never,
            Kill::At(number) => Fault::Kill(number),
        };
        let ended = Traced::start(command, watched, fault).unwrap().wait(PATIENCE).unwrap();
        let told = fs::read_to_string(said).ok();
        *self.acknowledged.lock().unwrap() = told.map(|files| files.split(' ').map(str::to_owned).collect());
        match ended.hit.first() {
            Some(call) => {
                assert_eq!(ended.code, None, "{call:?}");
                *self.call.lock().unwrap() = Some(format!("{} of {}", call.name, call.path.display()));
                Ran::Killed
            }
            None => {
                assert_eq!(ended.code, Some(0), "the child failed by itself");
                Ran::ToItsEnd { points: Some(ended.calls) }
            }
        }
    }

    /// The call before which the child was killed.
    fn killed_at(&self) -> String {
        format!("killed before {}", self.call.lock().unwrap().as_deref().unwrap_or("nothing"))
    }
}

/// Recovers in this process, as a daemon that starts and ends.
pub(crate) async fn recovered(dir: &Path) -> There {
    let opened = open(dir);
    mended(&opened).await;
    assert_eq!(faults(&opened), 0);
    for kept in opened.store.kept_files("run-1", 1_000).unwrap() {
        let content = opened.store.kept_file(&kept.receipt.file).unwrap().unwrap();
        assert_eq!(content.is_ok(), kept.lost.is_none(), "{kept:?}: {content:?}");
    }
    drop(opened);
    There::of(dir)
}

/// What holds after any recovery, and that another one changes nothing.
fn recovered_for_good(scene: &Scene) -> There {
    let once = run(recovered(scene.dir.path()));
    assert!(once.batches.iter().all(|(_, state, _)| state != "preparing"), "{}: {once:?}", scene.killed_at());
    assert!(!once.has_drafts(), "{}: {once:?}", scene.killed_at());
    let committed = once.batches.iter().filter(|(_, state, _)| state == "committed").count();
    assert_eq!(once.watermark, committed as i64, "{}", scene.killed_at());
    assert_eq!(run(recovered(scene.dir.path())), once, "{}: twice is once", scene.killed_at());
    once
}

#[allow(clippy::print_stdout, reason = "how far a walk went is told")]
fn tell(what: &str, points: Points, walked: dalsegno_testkit::crash::Walked) {
    let dalsegno_testkit::crash::Walked { points: all, killed } = walked;
    println!("crash walk of {what} ({points:?}): killed before {killed} of {all} system calls");
}

fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

/// Kept before any child is started.
const BEFORE: &str = "kept before.";
/// What the child that is killed keeps.
const NOW: &str = "kept now.";

#[test]
fn line_8_a_batch_is_kept_or_it_never_was_whichever_system_call_its_writer_is_killed_before() {
    if !can_be_traced() {
        return;
    }
    let fresh = || {
        let dir = tempfile::tempdir().unwrap();
        run(async {
            let opened = with_run(dir.path()).await;
            keep(&opened.blobs, "run-1", &two(BEFORE)).await.unwrap();
        });
        Scene::new(dir, Some(NOW))
    };
    let child = |scene: &Scene, how: Kill| {
        let ran = scene.child(how);
        if ran == Ran::Killed {
            // As it was left: what a receipt vouches for is there, and what was answered is kept.
            let left = There::of(scene.dir.path());
            assert!(left.receipts.keys().all(|file| left.files.contains_key(file)), "{}: {left:?}", scene.killed_at());
            let has = left.has(NOW);
            if scene.acknowledged.lock().unwrap().is_some() {
                assert!(has, "{}: it was answered: {left:?}", scene.killed_at());
            }
            // Afterwards it is there, or nothing of it is.
            let once = recovered_for_good(scene);
            assert!(once.has(BEFORE) && (once.has(NOW) || !has), "{}: {once:?}", scene.killed_at());
            assert_eq!(once.files.len(), if once.has(NOW) { 4 } else { 2 }, "{}: {once:?}", scene.killed_at());
        }
        ran
    };
    let judge = |scene: &Scene, _| {
        // The child that came after the kill was not held up by anything.
        let last = scene.acknowledged.lock().unwrap().clone().expect("it is kept");
        let there = recovered_for_good(scene);
        assert!(last.iter().all(|file| there.receipts.get(file) == Some(&false)), "{}: {there:?}", scene.killed_at());
        assert!(there.has(BEFORE));
    };
    let points = Points::from_environment(SAMPLE);
    let walked = walk(points, 2, fresh, child, judge);
    assert!(walked.points > 20, "{walked:?}");
    tell("a batch of two files", points, walked);
}

/// Everything that a look can find, at once.
fn astray() -> Scene {
    let dir = tempfile::tempdir().unwrap();
    run(async {
        let opened = with_run(dir.path()).await;
        let of_three = [("gone.log", "gone"), ("other.log", "words"), ("good.log", "good")];
        let kept = keep(&opened.blobs, "run-1", &of_three).await.unwrap();
        keep(&opened.blobs, "run-9", &[("stale.log", "of nobody")]).await.unwrap();
        fs::remove_file(path(dir.path(), &kept[0].file)).unwrap();
        fs::write(path(dir.path(), &kept[1].file), "other words").unwrap();
    });
    let blobs = dir.path().join("blobs");
    fs::write(blobs.join("notes.txt"), "without a receipt").unwrap();
    fs::write(blobs.join("0-dead-1.part"), "a draft of nothing").unwrap();
    leave_open(dir.path(), &[("named.log", "one", "named"), ("draft.log", "two", "draft")]);
    leave_open(dir.path(), &[("same.log", "three", "draft"), ("again.log", "three", "draft")]);
    leave_open(
        dir.path(),
        &[("named.log", "four", "named"), ("draft.log", "five", "draft"), ("gone.log", "six", "gone")],
    );
    // Two files with one content need two drafts, and there is one.
    leave_open(dir.path(), &[("same.log", "seven", "draft"), ("again.log", "seven", "gone")]);
    Scene::new(dir, None)
}

#[test]
fn line_8_a_recovery_ends_in_one_state_whichever_system_call_it_is_killed_before() {
    if !can_be_traced() {
        return;
    }
    let whole = astray();
    assert!(matches!(whole.child(Kill::Never), Ran::ToItsEnd { .. }));
    let expected = There::of(whole.dir.path());
    let states: Vec<&str> = expected.batches.iter().map(|(_, state, _)| state.as_str()).collect();
    assert_eq!(states, ["committed", "committed", "committed", "committed", "failed", "failed"]);
    let child = |scene: &Scene, how: Kill| {
        let ran = scene.child(how);
        if ran == Ran::Killed {
            assert_eq!(recovered_for_good(scene), expected, "{}", scene.killed_at());
        }
        ran
    };
    let judge = |scene: &Scene, _| assert_eq!(recovered_for_good(scene), expected, "{}", scene.killed_at());
    let points = Points::from_environment(SAMPLE);
    let walked = walk(points, 2, astray, child, judge);
    assert!(walked.points > 40, "{walked:?}");
    tell("a recovery", points, walked);
}
