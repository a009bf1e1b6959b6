//! The thread that starts all children.
//!
//! A sandbox dies with the *thread* that started it (prctl(2), `PR_SET_PDEATHSIG`), and threads of the async runtime
//! come and go. This one stays as long as the process.

use std::sync::{OnceLock, mpsc};

use dalsegno_engine::core::Failure;
use tokio::process::{Child, Command};
use tokio::runtime::Handle;

use super::spawn::spawn_failed;

/// Starts that wait for their turn; who comes later waits with its call.
const QUEUE: usize = 64;

struct Birth {
    command: Command,
    runtime: Handle,
    answer: mpsc::SyncSender<Result<Child, Failure>>,
}

static THREAD: OnceLock<mpsc::SyncSender<Birth>> = OnceLock::new();

/// Starts the command. Must be called in an async runtime.
pub(super) fn born(command: Command) -> Result<Child, Failure> {
    let gone = || Failure::retryable("spawn_failed", "the thread that starts programs is gone");
    let runtime = Handle::try_current().map_err(|_| gone())?;
    let (answer, child) = mpsc::sync_channel(1);
    let thread = match THREAD.get() {
        Some(thread) => thread,
        None => {
            let (births, queue) = mpsc::sync_channel(QUEUE);
            std::thread::Builder::new()
                .name("starts".to_owned())
                .spawn(move || attend(&queue))
                .map_err(|error| Failure::retryable("spawn_failed", format!("no thread can be started: {error}")))?;
            // Another caller may have been first; then ours ends with its queue.
            THREAD.get_or_init(|| births)
        }
    };
    thread.send(Birth { command, runtime, answer }).map_err(|_| gone())?;
    child.recv().map_err(|_| gone())?
}

fn attend(queue: &mpsc::Receiver<Birth>) {
    for Birth { mut command, runtime, answer } in queue {
        let _inside = runtime.enter();
        let child = command.spawn().map_err(|error| spawn_failed(&command, &error));
        // Who asked may have been dropped; then the child is killed with its handle.
        let _ = answer.send(child);
    }
}
