//! Two processes that keep files in one directory, one of them late: its hold is lost, and it does not know that yet.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use dalsegno_engine::Reads as _;
use dalsegno_store::Opened;

use crate::blobs::{batches, check, faults, keep, watermark, with_run};
use crate::blobs_kill::{There, mended, recovered};
use crate::support::{append, batch, open, plain};

const DIRECTORY: &str = "DALSEGNO_BLOBS_LATE_DIRECTORY";
/// Where the child stops, once, until it is told to go on; and before that it stops with its store open.
const POINT: &str = "DALSEGNO_BLOBS_LATE_POINT";
/// How many batches it keeps.
const BATCHES: &str = "DALSEGNO_BLOBS_LATE_BATCHES";

fn say(what: &str) {
    let mut out = std::io::stdout();
    writeln!(out, "late: {what}").unwrap();
    out.flush().unwrap();
}

fn wait() {
    let mut line = String::new();
    assert!(std::io::stdin().read_line(&mut line).unwrap() > 0, "nobody says when to go on");
}

/// The other process. Not a test of its own.
#[test]
#[ignore = "the other tests start it in a process of its own"]
fn keeps_files_when_it_is_told() {
    let Some(dir) = std::env::var_os(DIRECTORY).map(PathBuf::from) else { panic!("{DIRECTORY} is not set") };
    let count: usize = std::env::var(BATCHES).unwrap().parse().unwrap();
    dalsegno_engine::crash::arm(std::env::var(POINT).unwrap().as_str(), |_, _| {
        say("stopped");
        wait();
    });
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(async {
        let opened = open(&dir);
        say("open");
        wait();
        for number in 0..count {
            let (one, two) = (format!("late one {number}"), format!("late two {number}"));
            match keep(&opened.blobs, "run-1", &[("one.log", &one), ("two.log", &two)]).await {
                Ok(kept) => say(&format!("kept {} {}", kept[0].file, kept[1].file)),
                Err(failure) => say(&format!("refused {}", failure.code)),
            }
        }
    });
}

/// The other process, which has the hold on the directory until it is lost.
struct Late {
    child: Child,
    stdin: ChildStdin,
    said: BufReader<ChildStdout>,
}

impl Late {
    fn start(dir: &Path, point: &str, count: usize) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "blobs_late::keeps_files_when_it_is_told", "--ignored", "--nocapture"])
            .env(DIRECTORY, dir)
            .env(POINT, point)
            .env(BATCHES, count.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (stdin, said) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        let mut late = Self { child, stdin, said };
        assert_eq!(late.hears(), "open");
        // Whoever opens it now has a hold of its own.
        fs::remove_file(dir.join("lock")).unwrap();
        late
    }

    fn hears(&mut self) -> String {
        loop {
            let mut line = String::new();
            assert!(self.said.read_line(&mut line).unwrap() > 0, "it ended");
            if let Some((_, what)) = line.trim_end().split_once("late: ") {
                return what.to_owned();
            }
        }
    }

    fn goes_on(&mut self) {
        self.stdin.write_all(b"go\n").unwrap();
    }

    fn ends(mut self) {
        drop(self.stdin);
        // What it still says is read, so that it is not held up.
        std::io::copy(&mut self.said, &mut std::io::sink()).unwrap();
        assert!(self.child.wait().unwrap().success());
    }
}

/// Opens the store as the next daemon does, and takes it over.
async fn next_life(dir: &Path) -> Opened {
    let opened = open(dir);
    append(&opened, batch(2, vec![plain(2)])).await;
    opened
}

/// What the daemon that took over does while the other one stands still.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Meanwhile {
    /// It looks, and settles what it finds.
    Settles,
    /// It finds only one of the drafts, and settles that.
    SettlesHalf,
    /// It comes to that later.
    Nothing,
}

#[tokio::test]
async fn a_batch_that_was_begun_before_another_daemon_took_over_is_that_ones_to_settle() {
    use Meanwhile::{Nothing, Settles, SettlesHalf};
    for (point, meanwhile, state) in [
        ("blobs.intended", Settles, "committed"),
        ("blobs.intended", SettlesHalf, "failed"),
        ("blobs.intended", Nothing, "committed"),
        ("blobs.named", Settles, "committed"),
        ("blobs.named", Nothing, "committed"),
    ] {
        let what = format!("{point}, {meanwhile:?}");
        let dir = tempfile::tempdir().unwrap();
        drop(with_run(dir.path()).await);
        let mut late = Late::start(dir.path(), point, 1);
        late.goes_on();
        assert_eq!(late.hears(), "stopped");
        assert_eq!(batches(dir.path()), [(1, "preparing".to_owned(), None)], "{what}: begun under the old epoch");
        let opened = next_life(dir.path()).await;
        if meanwhile == SettlesHalf {
            let mut drafts = fs::read_dir(dir.path().join("blobs")).unwrap().map(|entry| entry.unwrap().path());
            fs::remove_file(drafts.next().unwrap()).unwrap();
        }
        if meanwhile != Nothing {
            mended(&opened).await;
            assert_eq!(batches(dir.path())[0].1, state, "{what}");
        }
        late.goes_on();
        assert_eq!(late.hears(), "refused stale_epoch", "{what}");
        late.ends();
        // Nothing that the late one does undoes it.
        mended(&opened).await;
        assert_eq!(batches(dir.path())[0].1, state, "{what}");
        assert_eq!(faults(&opened), 0, "{what}");
        let there = There::of(dir.path());
        assert_eq!(there.files.len(), if state == "committed" { 2 } else { 0 }, "{what}: {there:?}");
        let kept =
            keep(&opened.blobs, "run-1", &[("next.log", "next")]).await.expect("the one that is in force goes on");
        assert_eq!(opened.store.kept_file(&kept[0].file).unwrap(), Some(Ok(b"next".to_vec())));
        drop(opened);
        let there = There::of(dir.path());
        assert_eq!(recovered(dir.path()).await, there, "{what}: nothing is left for the life after it");
    }
}

#[tokio::test]
async fn the_first_batch_of_a_late_writer_is_refused_too_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    drop(with_run(dir.path()).await);
    let mut late = Late::start(dir.path(), "never", 1);
    let opened = next_life(dir.path()).await;
    late.goes_on();
    assert_eq!(late.hears(), "refused stale_epoch");
    late.ends();
    assert_eq!(batches(dir.path()), []);
    assert!(There::of(dir.path()).files.is_empty());
    assert_eq!(check(&opened).look(&[]).unwrap(), []);
}

#[tokio::test]
async fn two_processes_that_keep_files_at_once_lose_none() {
    const EACH: usize = 40;
    let dir = tempfile::tempdir().unwrap();
    drop(with_run(dir.path()).await);
    let mut late = Late::start(dir.path(), "never", EACH);
    let opened = open(dir.path());
    late.goes_on();
    let mut kept = Vec::new();
    for number in 0..EACH {
        let (one, two) = (format!("here one {number}"), format!("here two {number}"));
        let receipts = keep(&opened.blobs, "run-1", &[("one.log", &one), ("two.log", &two)]).await.unwrap();
        kept.extend(receipts.into_iter().map(|receipt| receipt.file).zip([one, two]));
    }
    for number in 0..EACH {
        let said = late.hears();
        let files = said.strip_prefix("kept ").unwrap_or_else(|| panic!("{said}"));
        let contents = [format!("late one {number}"), format!("late two {number}")];
        kept.extend(files.split(' ').map(str::to_owned).zip(contents));
    }
    late.ends();
    let names: std::collections::BTreeSet<&String> = kept.iter().map(|(file, _)| file).collect();
    assert_eq!(names.len(), 4 * EACH, "no two have one name");
    for (file, content) in &kept {
        assert_eq!(opened.store.kept_file(file).unwrap(), Some(Ok(content.clone().into_bytes())), "{file}");
    }
    let mut marks: Vec<i64> = batches(dir.path()).into_iter().filter_map(|(_, _, mark)| mark).collect();
    marks.sort_unstable();
    assert_eq!(marks, (1..=2 * EACH as i64).collect::<Vec<_>>(), "each has a number of its own");
    assert_eq!(watermark(dir.path()), 2 * EACH as i64);
    assert_eq!(check(&opened).look(&[]).unwrap(), []);
    assert_eq!(faults(&opened), 0);
}
