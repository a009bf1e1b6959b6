//! Snapshots in their written form, made beside the writer: many issues take as long to say as thousands of events.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use dalsegno_core::Snapshot;

use crate::format::{checksum, encode_snapshot};
use crate::queue::Queue;
use crate::writer::Job;

/// A snapshot as it is written.
pub(crate) struct Written {
    pub(crate) seq: u64,
    pub(crate) format: u32,
    pub(crate) sha256: String,
    pub(crate) data: Vec<u8>,
}

/// Puts snapshots of committed batches into their written form on a thread of its own, one at a time. One that comes meanwhile is left
/// out: then the next daemon folds some more events.
pub(crate) struct Snapshots {
    work: Option<SyncSender<Box<Snapshot>>>,
    done: Receiver<Option<Written>>,
    thread: Option<JoinHandle<()>>,
    is_busy: bool,
}

impl Snapshots {
    /// The thread pokes the queue when there is a snapshot to be written.
    pub(crate) fn start(queue: Arc<Queue<Job>>) -> Self {
        let (work, snapshots) = sync_channel::<Box<Snapshot>>(1);
        let (ready, done) = sync_channel(1);
        let write = move || {
            for snapshot in snapshots {
                // The writer takes one before it gives the next, so there is room.
                if ready.send(written(*snapshot)).is_err() {
                    return;
                }
                queue.poke();
            }
        };
        match std::thread::Builder::new().name("snapshots".to_owned()).spawn(write) {
            Ok(thread) => Self { work: Some(work), done, thread: Some(thread), is_busy: false },
            Err(error) => {
                tracing::warn!(%error, "no thread for snapshots, so there are none; the next start folds all events");
                Self { work: None, done, thread: None, is_busy: false }
            }
        }
    }

    /// The state after a batch that is committed.
    pub(crate) fn offer(&mut self, snapshot: Box<Snapshot>) {
        if !self.is_busy
            && let Some(work) = &self.work
        {
            self.is_busy = work.try_send(snapshot).is_ok();
        }
    }

    /// The one that is ready, if any.
    pub(crate) fn ready(&mut self) -> Option<Written> {
        let done = self.done.try_recv().ok()?;
        self.is_busy = false;
        done
    }

    /// Ends the thread, and waits for its last one.
    pub(crate) fn finish(mut self) -> Option<Written> {
        drop(self.work.take());
        let last = self.done.recv().ok().flatten();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread for snapshots panicked");
        }
        last
    }
}

fn written(snapshot: Snapshot) -> Option<Written> {
    let (seq, format) = (snapshot.state.seq, snapshot.format);
    match encode_snapshot(&snapshot) {
        Ok(data) => Some(Written { seq, format, sha256: checksum(&data), data }),
        Err(error) => {
            tracing::error!(%error, seq, "a snapshot cannot be said in JSON; the next start folds the events instead");
            None
        }
    }
}
