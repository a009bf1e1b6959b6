//! The writer's queue: bounded, many ask, one takes all that is there.
//!
//! A channel would do, but for two things: whoever waits for room must not keep the queue open, so that it can be closed while others still
//! have it; and the writer takes a group in one go.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Semaphore, SemaphorePermit};

/// The queue was closed: nothing is taken any more.
#[derive(Debug)]
pub(crate) struct Closed;

/// A queue of a few jobs.
pub(crate) struct Queue<J> {
    room: Semaphore,
    state: Mutex<State<J>>,
    filled: Condvar,
}

struct State<J> {
    jobs: VecDeque<J>,
    closed: bool,
    /// The writer waits for a job.
    is_awaited: bool,
    /// The writer should look up from its jobs.
    is_poked: bool,
}

/// Room for one job. So a job need not be made before there is.
pub(crate) struct Room<'q, J> {
    queue: &'q Queue<J>,
    permit: SemaphorePermit<'q>,
}

impl<J> Room<'_, J> {
    /// Puts the job behind all others.
    pub(crate) fn put(self, job: J) -> Result<(), Closed> {
        let mut state = self.queue.lock();
        if state.closed {
            return Err(Closed);
        }
        // Given back when the job is taken.
        self.permit.forget();
        state.jobs.push_back(job);
        let is_awaited = std::mem::take(&mut state.is_awaited);
        drop(state);
        if is_awaited {
            self.queue.filled.notify_one();
        }
        Ok(())
    }
}

/// Without the jobs: they are nobody's business.
impl<J> std::fmt::Debug for Queue<J> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queue").field("room", &self.room.available_permits()).finish_non_exhaustive()
    }
}

impl<J> Queue<J> {
    /// An empty queue for so many jobs.
    pub(crate) fn new(most: usize) -> Self {
        let state = State { jobs: VecDeque::with_capacity(most), closed: false, is_awaited: false, is_poked: false };
        Self { room: Semaphore::new(most), state: Mutex::new(state), filled: Condvar::new() }
    }

    /// Waits for room. Whoever came first has the first place.
    pub(crate) async fn room(&self) -> Result<Room<'_, J>, Closed> {
        let permit = self.room.acquire().await.map_err(|_| Closed)?;
        Ok(Room { queue: self, permit })
    }

    /// Waits for jobs, and moves them to `group` in order: at most `most`, and none beyond so many bytes. None at all after
    /// [`Queue::poke`]. Answers false when the queue is closed and empty.
    pub(crate) fn take(&self, group: &mut Vec<J>, most: usize, most_bytes: usize, bytes: impl Fn(&J) -> usize) -> bool {
        let mut state = self.lock();
        while state.jobs.is_empty() && !std::mem::take(&mut state.is_poked) {
            if state.closed {
                return false;
            }
            state.is_awaited = true;
            state = self.filled.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let mut taken = 0;
        while group.len() < most
            && taken < most_bytes
            && let Some(job) = state.jobs.pop_front()
        {
            taken += bytes(&job);
            group.push(job);
        }
        drop(state);
        self.room.add_permits(group.len());
        true
    }

    /// Has the writer look up, with or without a job.
    pub(crate) fn poke(&self) {
        self.lock().is_poked = true;
        self.filled.notify_one();
    }

    /// Takes nothing more. What is queued stays to be taken.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.room.close();
        self.filled.notify_one();
    }

    /// Takes nothing more and drops what is queued: the writer is gone, whatever ended it, and nobody is to wait for it.
    pub(crate) fn abandon(&self) {
        let jobs = {
            let mut state = self.lock();
            state.closed = true;
            std::mem::take(&mut state.jobs)
        };
        self.room.close();
        drop(jobs);
    }

    fn lock(&self) -> MutexGuard<'_, State<J>> {
        // Nothing is done under the lock that could be left half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test")]
mod tests {
    use std::sync::Arc;

    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn jobs_are_taken_in_order_and_in_groups_and_what_is_queued_outlives_a_close() {
        let queue = Queue::new(3);
        for job in [1, 2, 3] {
            queue.room().await.unwrap().put(job).unwrap();
        }
        let mut group = Vec::new();
        assert!(queue.take(&mut group, 2, 100, |_| 1));
        assert_eq!(group, [1, 2]);
        queue.room().await.unwrap().put(4).unwrap();
        queue.close();
        assert!(queue.room().await.is_err());
        group.clear();
        assert!(queue.take(&mut group, 9, 1, |_| 1));
        assert_eq!(group, [3], "one is taken, however large");
        group.clear();
        assert!(queue.take(&mut group, 9, 9, |_| 1));
        assert!(!queue.take(&mut Vec::new(), 9, 9, |_| 1));
    }

    #[tokio::test]
    async fn nobody_waits_for_a_writer_that_is_gone() {
        let queue = Arc::new(Queue::new(1));
        let (asker, answer) = oneshot::channel::<()>();
        queue.room().await.unwrap().put(asker).unwrap();
        let waiting = tokio::spawn({
            let queue = Arc::clone(&queue);
            async move { queue.room().await.map(drop).is_err() }
        });
        tokio::task::yield_now().await;
        queue.abandon();
        assert!(answer.await.is_err());
        assert!(waiting.await.unwrap());
    }

    #[test]
    fn room_that_was_not_needed_is_given_back() {
        let queue = Queue::<u8>::new(1);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            drop(queue.room().await.unwrap());
            queue.room().await.unwrap().put(1).unwrap();
        });
    }
}
