//! Several processes on one database.

use std::io::{BufRead, BufReader, Lines, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use dalsegno_durable::store::StoreError;
use dalsegno_durable::wait::{Terminal, WaitKey};
use dalsegno_durable::{Claim, DurableStore, EffectHost, Resolved, Timestamp};

use super::{address, answer, host, scope, step, store};

const DIRECTORY: &str = "DALSEGNO_EFFECTS_SHARED_DIRECTORY";
const ROLE: &str = "DALSEGNO_EFFECTS_SHARED_ROLE";
const SCOPE: &str = "child";

/// The other process. Not a test of its own: others start it.
#[tokio::test]
#[ignore = "others start it in a process of its own"]
async fn other_process() {
    let Some(dir) = std::env::var_os(DIRECTORY) else { panic!("{DIRECTORY} is not set") };
    let store = Arc::new(store(Path::new(&dir)));
    let host = host(&store);
    let say = |words: &str| {
        let mut out = std::io::stdout();
        writeln!(out, "said {words}").unwrap();
        out.flush().unwrap();
    };
    match std::env::var(ROLE).unwrap().as_str() {
        "holds" => {
            let turn = host.scoped(scope(SCOPE)).await.unwrap();
            step(&turn, "a", 1).await;
            say("holding");
            std::future::pending().await
        }
        "waits" => {
            let turn = host.scoped(scope(SCOPE)).await.unwrap();
            let key = turn.wait_key("w").unwrap();
            say(key.as_str());
            let resolution = turn.wait(&key).await.unwrap();
            say(&serde_json::to_string(&resolution).unwrap());
        }
        // Resolves a hundred waits of the parent, each when it is told to.
        "resolves" => {
            for (number, line) in std::io::stdin().lines().enumerate() {
                let key = WaitKey::from_text(line.unwrap());
                let resolved = host.resolve(&key, answer(number as i64)).await.unwrap();
                say(if resolved == Resolved::Accepted { "accepted" } else { "late" });
            }
        }
        "writes" => {
            let turn = host.scoped(scope(SCOPE)).await.unwrap();
            for number in 0..200 {
                step(&turn, &format!("e{number}"), number).await;
            }
            say("written");
        }
        role => panic!("no role {role}"),
    }
}

struct Other {
    child: Child,
    said: Lines<BufReader<ChildStdout>>,
}

impl Other {
    fn start(dir: &Path, role: &str) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "effects::shared::other_process", "--ignored", "--nocapture"])
            .envs([(DIRECTORY, dir.as_os_str()), (ROLE, role.as_ref())])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let said = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, said }
    }

    fn hear(&mut self) -> String {
        for line in &mut self.said {
            if let Some((_, words)) = line.unwrap().split_once("said ") {
                return words.to_owned();
            }
        }
        panic!("the other process said nothing more");
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn an_owner_in_another_process_is_respected_until_it_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    let mut other = Other::start(dir.path(), "holds");
    assert_eq!(other.hear(), "holding");
    assert_eq!(store.open(&scope(SCOPE), Claim::IfFree).await.unwrap_err(), StoreError::Owned);
    other.child.kill().unwrap();
    other.child.wait().unwrap();
    let opened = store.open(&scope(SCOPE), Claim::IfFree).await.unwrap();
    assert_eq!((opened.lease.epoch, opened.effects.len()), (2, 1));
    let owners = std::fs::read_dir(dir.path().join("effects.db.owners")).unwrap().count();
    assert_eq!(owners, 2, "ours, and the one for openings: what the dead one left is removed");
}

#[tokio::test]
async fn a_wait_parked_in_another_process_is_resolved_from_here() {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(store(dir.path()));
    let mut other = Other::start(dir.path(), "waits");
    let key = WaitKey::from_text(other.hear());
    let host = host(&store);
    // It may not have parked yet; then it meets the answer.
    assert_eq!(host.resolve(&key, answer(42)).await.unwrap(), Resolved::Accepted);
    assert_eq!(other.hear(), serde_json::to_string(&answer(42)).unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waits_parked_here_are_resolved_from_another_process_in_good_time() {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(store(dir.path()));
    let host = host(&store);
    let turn = host.scoped(scope("1")).await.unwrap();
    let mut other = Other::start(dir.path(), "resolves");
    let mut input = other.child.stdin.take().unwrap();
    let mut times = Vec::new();
    for number in 0..30 {
        let key = turn.wait_key(&format!("w{number}")).unwrap();
        let parked = {
            let (turn, key) = (turn.clone(), key.clone());
            async move { turn.wait(&key).await.unwrap() }
        };
        let resolve = async {
            tokio::time::sleep(Duration::from_millis(5)).await;
            writeln!(input, "{}", key.as_str()).unwrap();
            tokio::task::block_in_place(|| assert_eq!(other.hear(), "accepted"));
            Instant::now()
        };
        let woken = async { (parked.await, Instant::now()) };
        let both = async { tokio::join!(woken, resolve) };
        let ((resolution, woken), resolved) = tokio::time::timeout(Duration::from_secs(20), both).await.unwrap();
        assert_eq!(resolution, answer(number));
        times.push(woken.saturating_duration_since(resolved));
    }
    times.sort_unstable();
    assert!(times[15] < Duration::from_millis(100), "woken too late: {times:?}");
}

#[tokio::test]
async fn two_processes_write_at_the_same_time() {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(store(dir.path()));
    let host = host(&store);
    let mut other = Other::start(dir.path(), "writes");
    let turn = host.scoped(scope("ours")).await.unwrap();
    for number in 0..200 {
        step(&turn, &format!("e{number}"), number).await;
    }
    assert_eq!(other.hear(), "written");
    other.child.wait().unwrap();
    for name in ["ours", SCOPE] {
        let opened = store.open(&scope(name), Claim::TakeOver).await.unwrap();
        let keys: Vec<_> = opened.effects.iter().map(|(_, record)| record.replay_key.clone()).collect();
        assert_eq!(keys, (0..200).map(|number| format!("e{number}")).collect::<Vec<_>>(), "{name}");
    }
}

#[tokio::test]
async fn revocation_in_one_process_is_seen_by_the_other() {
    let dir = tempfile::tempdir().unwrap();
    let (first, second) = (store(dir.path()), store(dir.path()));
    first.open(&scope("1"), Claim::IfFree).await.unwrap();
    let (wait, now) = (address("1", "w"), Timestamp(1));
    first.register(&wait, None, now).await.unwrap();
    let mut changes = first.wait_changes();
    changes.mark_unchanged();
    let cursor = first.wait_cursor().await.unwrap();
    assert_eq!(second.revoke_session("session-1", false).await.unwrap(), 1);
    tokio::time::timeout(Duration::from_secs(5), changes.changed()).await.unwrap().unwrap();
    let page = first.waits_ended_after(cursor).await.unwrap();
    assert_eq!((page.changes[0].address.clone(), page.changes[0].terminal.clone()), (wait.clone(), Terminal::Revoked));
    assert_eq!(first.resolve(&wait, answer(1), now).await.unwrap_err(), StoreError::UnknownWait);
}

#[test]
fn many_open_a_new_database_at_once() {
    let dir = tempfile::tempdir().unwrap();
    std::thread::scope(|threads| {
        for _ in 0..8 {
            threads.spawn(|| drop(store(dir.path())));
        }
    });
}

/// The system's locks of a process go with any handle on the file that it closes; a second opening must close none.
#[tokio::test]
async fn a_second_opening_in_one_process_takes_no_locks_away_from_the_first() {
    let dir = tempfile::tempdir().unwrap();
    let first = store(dir.path());
    let inode = {
        use std::os::unix::fs::MetadataExt as _;
        format!(":{} ", std::fs::metadata(super::database(dir.path())).unwrap().ino())
    };
    // Not /proc/locks: read in pieces while other tests lock and unlock, it leaves lines out.
    let locks = || {
        let handles = std::fs::read_dir("/proc/self/fdinfo").unwrap();
        let texts = handles.filter_map(|handle| std::fs::read_to_string(handle.ok()?.path()).ok());
        let ours = |line: &str| line.starts_with("lock:") && line.contains("POSIX") && line.contains(&inode);
        texts.map(|text| text.lines().filter(|line| ours(line)).count()).sum::<usize>()
    };
    first.open(&scope("1"), Claim::IfFree).await.unwrap();
    assert!(locks() > 0, "SQLite marks a database that is open");
    let second = store(dir.path());
    assert!(locks() > 0);
    drop(second);
    assert!(locks() > 0);
    drop(first);
    assert_eq!(locks(), 0);
}
