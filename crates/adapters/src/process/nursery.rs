//! The threads that start all children.
//!
//! A sandbox dies with the *thread* that started it (prctl(2), `PR_SET_PDEATHSIG`), and threads of the async runtime
//! come and go. These stay as long as the process.
//!
//! To start a program the kernel reads it and enters its directory. On a file system that does not answer, that ends
//! never: it costs the thread, and nobody else. Who asked is told after a while; what would hang at the same place is
//! not tried before that one is through.

use std::ffi::{OsStr, OsString};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use dalsegno_engine::core::Failure;
use tokio::process::{Child, Command};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};

/// Threads; as many starts may hang before no other can be made.
const STARTERS: usize = 8;
/// Starts that wait for their turn; who comes later waits with its call.
const QUEUE: usize = 64;
/// How long a start may take, the wait for its turn included. It takes milliseconds.
const LIMIT: Duration = Duration::from_secs(30);

type Start = Box<dyn FnOnce() -> Result<Child, Failure> + Send>;

/// What a start touches of the file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    program: OsString,
    dir: Option<PathBuf>,
}

impl Place {
    pub(super) fn of(command: &Command) -> Self {
        let command = command.as_std();
        Self { program: command.get_program().to_owned(), dir: command.get_current_dir().map(Path::to_owned) }
    }

    /// Whether a start here waits for what one there waits for.
    fn meets(&self, other: &Self) -> bool {
        let is_path = |program: &OsStr| program.as_encoded_bytes().contains(&b'/');
        (self.dir.is_some() && self.dir == other.dir) || (self.program == other.program && is_path(&self.program))
    }

    fn shown(&self) -> String {
        let dir = self.dir.as_ref().map_or_else(String::new, |dir| format!(" in {}", dir.display()));
        format!("{}{dir}", self.program.to_string_lossy())
    }
}

struct Birth {
    start: Start,
    place: Place,
    runtime: Handle,
    answer: oneshot::Sender<Result<Child, Failure>>,
}

struct Nursery {
    births: mpsc::Sender<Birth>,
    under_way: UnderWay,
}

/// Starts that are being made, and since when; one for each thread at most.
type UnderWay = Arc<Mutex<Vec<(Instant, Place)>>>;

static NURSERY: OnceLock<Nursery> = OnceLock::new();

fn nursery() -> Result<&'static Nursery, Failure> {
    if let Some(nursery) = NURSERY.get() {
        return Ok(nursery);
    }
    let (births, queue) = mpsc::channel(QUEUE);
    let (queue, under_way) = (Arc::new(Mutex::new(queue)), UnderWay::default());
    for _ in 0..STARTERS {
        let (queue, under_way) = (Arc::clone(&queue), Arc::clone(&under_way));
        std::thread::Builder::new()
            .name("starts".to_owned())
            .spawn(move || attend(&queue, &under_way))
            .map_err(|error| Failure::retryable("spawn_failed", format!("no thread can be started: {error}")))?;
    }
    // Another caller may have been first; then ours end with their queue.
    Ok(NURSERY.get_or_init(|| Nursery { births, under_way }))
}

/// Makes the start in a thread of ours. Must be called in an async runtime; dropped, what it starts is killed.
///
/// # Errors
/// What `start` answers; `spawn_failed` when it does not come to its end.
pub(super) async fn born(
    place: Place,
    start: impl FnOnce() -> Result<Child, Failure> + Send + 'static,
) -> Result<Child, Failure> {
    born_within(LIMIT, place, Box::new(start)).await
}

async fn born_within(limit: Duration, place: Place, start: Start) -> Result<Child, Failure> {
    let gone = || Failure::retryable("spawn_failed", "the threads that start programs are gone");
    let runtime = Handle::try_current().map_err(|_| gone())?;
    let nursery = nursery()?;
    let hangs = |since: &Instant, at: &Place| since.elapsed() > limit && at.meets(&place);
    if nursery.under_way.lock().unwrap_or_else(PoisonError::into_inner).iter().any(|(since, at)| hangs(since, at)) {
        return Err(stuck(&place, "an earlier start there hangs still"));
    }
    let (answer, child) = oneshot::channel();
    let shown = place.clone();
    let asked = async {
        nursery.births.send(Birth { start, place, runtime, answer }).await.map_err(|_| gone())?;
        child.await.map_err(|_| gone())?
    };
    match tokio::time::timeout(limit, asked).await {
        Ok(child) => child,
        Err(_) => Err(stuck(&shown, &format!("it did not start within {} s", limit.as_secs()))),
    }
}

fn stuck(place: &Place, why: &str) -> Failure {
    Failure::retryable("spawn_failed", format!("{} could not be started: {why}", place.shown()))
        .hint("see whether the file systems of the program and of the directory answer")
}

fn attend(queue: &Mutex<mpsc::Receiver<Birth>>, under_way: &UnderWay) {
    loop {
        let next = queue.lock().unwrap_or_else(PoisonError::into_inner).blocking_recv();
        let Some(Birth { start, place, runtime, answer }) = next else { return };
        if answer.is_closed() {
            continue;
        }
        let mine = (Instant::now(), place);
        under_way.lock().unwrap_or_else(PoisonError::into_inner).push(mine.clone());
        let _inside = runtime.enter();
        // A runtime that ended meanwhile panics; with this thread all sandboxes that it started would end.
        let child = catch_unwind(AssertUnwindSafe(start));
        let mut under_way = under_way.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = under_way.iter().position(|it| *it == mine) {
            under_way.swap_remove(at);
        }
        drop(under_way);
        let child = child.unwrap_or_else(|_| Err(Failure::retryable("spawn_failed", "the start was cut")));
        // Who asked may have been dropped; then the child is killed with its handle.
        let _ = answer.send(child);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    fn place(dir: &str) -> Place {
        Place { program: "sh".into(), dir: Some(dir.into()) }
    }

    fn nothing() -> Result<Child, Failure> {
        Err(Failure::permanent("nothing", "was started"))
    }

    #[test]
    fn a_start_that_hangs_costs_nobody_else_anything() {
        let release = Arc::new(AtomicBool::new(false));
        let (told, tell) = std::sync::mpsc::sync_channel(1);
        let held = Arc::clone(&release);
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
            runtime.block_on(async {
                let starts: Vec<_> = (0..3)
                    .map(|n| {
                        let held = Arc::clone(&held);
                        let start: Start = Box::new(move || {
                            while !held.load(Ordering::SeqCst) {
                                std::thread::sleep(Duration::from_millis(5));
                            }
                            nothing()
                        });
                        let limit = Duration::from_millis(200);
                        tokio::spawn(async move { born_within(limit, place(&format!("/dead/{n}")), start).await })
                    })
                    .collect();
                for start in starts {
                    let failure = start.await.unwrap().unwrap_err();
                    assert!(failure.retryable && failure.message.contains("/dead/"), "{failure}");
                }
                // A timer in a task of its own needs a worker; another start needs a thread.
                tokio::spawn(tokio::time::sleep(Duration::from_millis(10))).await.unwrap();
                let other = born(place("/alive"), nothing).await.unwrap_err();
                assert_eq!(other.code, "nothing");
                let limit = Duration::from_millis(1);
                let again = born_within(limit, place("/dead/1"), Box::new(nothing)).await.unwrap_err();
                assert!(again.message.contains("hangs still"), "{again}");
            });
            told.send(()).unwrap();
        });
        let ended = tell.recv_timeout(Duration::from_secs(60));
        release.store(true, Ordering::SeqCst);
        ended.expect("the runtime stands still");
    }

    #[test]
    fn the_same_directory_or_the_same_file_is_the_same_place() {
        let at = |program: &str, dir: Option<&str>| Place { program: program.into(), dir: dir.map(Into::into) };
        assert!(at("git", Some("/a")).meets(&at("sh", Some("/a"))));
        assert!(at("/dead/codex", None).meets(&at("/dead/codex", Some("/b"))));
        assert!(!at("git", Some("/a")).meets(&at("git", Some("/b"))));
        assert!(!at("git", None).meets(&at("git", None)));
    }
}
