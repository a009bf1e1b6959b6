//! How a process hears that waits ended in another one.
//!
//! One thread for each store that is followed, however many waits are parked. On Linux the kernel tells it when somebody writes the
//! database's log (inotify), and until then it sleeps; it looks at most every few milliseconds, also when somebody writes all the time. What
//! is written to the log is there for others only when it was synced, and of that there is no sign: so it looks again, after longer and longer
//! pauses, for some seconds. Where the kernel cannot tell, it looks twenty times a second.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rusqlite::{Connection, OpenFlags};
use tokio::sync::watch;

use crate::schema::log_path;
use signs::Signs;

/// Time between two looks at least, when there are signs of writing.
const LOOK_EVERY: Duration = Duration::from_millis(4);
/// First pause before it looks again after a sign, and the longest; each is twice the one before.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LAST_PAUSE: Duration = Duration::from_secs(8);
/// Time between two looks, when nobody tells of writing.
const POLL_EVERY: Duration = Duration::from_millis(50);

/// The thread; ends when this is dropped.
#[derive(Debug)]
pub(super) struct Follower {
    over: Arc<AtomicBool>,
    signs: Option<Arc<Signs>>,
    thread: Option<JoinHandle<()>>,
}

impl Follower {
    /// Begins to tell `changes` of ends that others write to the database at `path`. `None`: it cannot, and said so.
    pub(super) fn start(path: &Path, changes: &watch::Sender<u64>) -> Option<Self> {
        let signs = match Signs::of(&log_path(path)) {
            Ok(signs) => Some(Arc::new(signs)),
            Err(error) => {
                tracing::warn!(
                    %error,
                    "the system does not tell when other processes write; ends of waits are looked for every {} ms",
                    POLL_EVERY.as_millis()
                );
                None
            }
        };
        let over = Arc::new(AtomicBool::new(false));
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let db = Connection::open_with_flags(path, flags);
        let work = {
            let (over, signs, changes) = (Arc::clone(&over), signs.clone(), changes.clone());
            move || match db {
                Ok(db) => look(&db, &over, signs.as_deref(), &changes),
                Err(error) => tracing::error!(%error, "ends of waits in other processes are not heard of"),
            }
        };
        match std::thread::Builder::new().name("wait-ends".to_owned()).spawn(work) {
            Ok(thread) => Some(Self { over, signs, thread: Some(thread) }),
            Err(error) => {
                tracing::error!(%error, "no thread: ends of waits in other processes are not heard of");
                None
            }
        }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        if let Some(signs) = &self.signs {
            signs.end();
        }
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            if thread.join().is_err() {
                tracing::error!("the thread that follows ends of waits panicked");
            }
        }
    }
}

fn look(db: &Connection, over: &AtomicBool, mut signs: Option<&Signs>, changes: &watch::Sender<u64>) {
    let mut pause = Some(FIRST_PAUSE);
    while !over.load(Ordering::SeqCst) {
        let looked = Instant::now();
        if changes.receiver_count() > 0 {
            match last_end(db) {
                Ok(last) => {
                    changes.send_if_modified(|told| {
                        let news = last > *told;
                        *told = last.max(*told);
                        news
                    });
                }
                Err(error) => tracing::warn!(%error, "ends of waits could not be looked for; it is tried again"),
            }
        }
        let Some(watched) = signs else {
            std::thread::park_timeout(POLL_EVERY);
            continue;
        };
        match watched.wait(pause) {
            Ok(true) => {
                // What comes in a burst is looked at once.
                pause = Some(FIRST_PAUSE);
                if let Some(rest) = LOOK_EVERY.checked_sub(looked.elapsed())
                    && !over.load(Ordering::SeqCst)
                {
                    std::thread::park_timeout(rest);
                }
            }
            Ok(false) => pause = pause.map(|pause| pause * 2).filter(|pause| *pause <= LAST_PAUSE),
            Err(_) if over.load(Ordering::SeqCst) => {}
            Err(error) => {
                tracing::warn!(
                    %error,
                    "the system stopped to tell when other processes write; ends of waits are looked for every {} ms",
                    POLL_EVERY.as_millis()
                );
                signs = None;
            }
        }
    }
}

fn last_end(db: &Connection) -> rusqlite::Result<u64> {
    let mut query = db.prepare_cached("SELECT coalesce(max(number), 0) FROM wait_ends")?;
    query.query_row([], |row| row.get::<_, i64>(0)).map(i64::unsigned_abs)
}

#[cfg(target_os = "linux")]
mod signs {
    //! Signs of writing, from the kernel.

    use std::io;
    use std::os::fd::AsFd;
    use std::path::Path;
    use std::time::Duration;

    use nix::errno::Errno;
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};

    /// Somebody who is told when a file is written.
    #[derive(Debug)]
    pub(super) struct Signs {
        kernel: Inotify,
        watched: WatchDescriptor,
    }

    impl Signs {
        pub(super) fn of(path: &Path) -> io::Result<Self> {
            let kernel = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
            // The log is there as long as somebody has the database open, and we have.
            let watched = kernel.add_watch(path, AddWatchFlags::IN_MODIFY)?;
            Ok(Self { kernel, watched })
        }

        /// Returns true when the file was written since the last call or [`Signs::end`] was called, false when that takes longer than
        /// `pause`. An error: there will be no more signs.
        pub(super) fn wait(&self, pause: Option<Duration>) -> io::Result<bool> {
            let limit =
                pause.map_or(PollTimeout::NONE, |pause| PollTimeout::try_from(pause).unwrap_or(PollTimeout::MAX));
            let mut readable = [PollFd::new(self.kernel.as_fd(), PollFlags::POLLIN)];
            match poll(&mut readable, limit) {
                Ok(0) | Err(Errno::EINTR) => return Ok(false),
                Ok(_) => {}
                Err(error) => return Err(error.into()),
            }
            let events = self.kernel.read_events()?;
            if events.iter().any(|event| event.mask.contains(AddWatchFlags::IN_IGNORED)) {
                return Err(io::Error::other("the log was removed"));
            }
            Ok(true)
        }

        /// Lets whoever waits go.
        pub(super) fn end(&self) {
            // That it is gone already is fine: then nobody waits any more.
            let _ = self.kernel.rm_watch(self.watched);
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod signs {
    //! No signs: whoever follows looks by itself.

    use std::io;
    use std::path::Path;
    use std::time::Duration;

    #[derive(Debug)]
    pub(super) struct Signs;

    impl Signs {
        pub(super) fn of(_: &Path) -> io::Result<Self> {
            Err(io::ErrorKind::Unsupported.into())
        }

        #[allow(clippy::unused_self, reason = "as where there are signs")]
        pub(super) fn wait(&self, _: Option<Duration>) -> io::Result<bool> {
            Err(io::ErrorKind::Unsupported.into())
        }

        #[allow(clippy::unused_self, reason = "as where there are signs")]
        pub(super) fn end(&self) {}
    }
}
