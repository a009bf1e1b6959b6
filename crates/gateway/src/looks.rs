//! Looks at what runs changed: a few at a time, one for each run, and each answer serves all who asked meanwhile. Whoever asks again and
//! again starts no second look while the first is under way, and one who gives up does not cut it off for the others.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::http::StatusCode;
use dalsegno_api::{self as api, code};
use futures::future::BoxFuture;
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;

use crate::problem::Problem;

/// Looks at once; each is a handful of calls of git, one after the other.
const AT_ONCE: usize = 2;
/// Looks that are under way, wait or are remembered.
const REMEMBERED: usize = 8;
/// Longest wait of whoever asks by the API. A look itself is bounded by whoever takes it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(35);

/// What a look came to.
pub(crate) type Looked = Result<Arc<api::RunDiff>, Problem>;

/// Looks that are under way or were taken a moment ago.
pub(crate) struct Looks {
    slots: Arc<Semaphore>,
    known: Mutex<VecDeque<Known>>,
}

struct Known {
    run: String,
    begun: Instant,
    answer: watch::Receiver<Option<Looked>>,
}

impl Default for Looks {
    fn default() -> Self {
        Self { slots: Arc::new(Semaphore::new(AT_ONCE)), known: Mutex::default() }
    }
}

impl Looks {
    /// The answer of a look that began at most `age` ago or is under way, else of a new one; waits at most `wait` for it.
    ///
    /// # Errors
    /// `diff_busy` when it is not there by then, or too many others are under way; else what the look says.
    pub(crate) async fn get(
        &self,
        run: &str,
        age: Duration,
        wait: Duration,
        look: impl FnOnce() -> BoxFuture<'static, Result<api::RunDiff, Problem>>,
    ) -> Looked {
        let mut answer = self.answer(run, age, look).ok_or_else(busy)?;
        let come = tokio::time::timeout(wait, answer.wait_for(Option::is_some)).await;
        match come {
            Ok(Ok(answer)) => answer.clone().unwrap_or_else(|| Err(Problem::internal())),
            // The task of the look panicked.
            Ok(Err(_)) => Err(Problem::internal()),
            Err(_) => Err(busy()),
        }
    }

    fn answer(
        &self,
        run: &str,
        age: Duration,
        look: impl FnOnce() -> BoxFuture<'static, Result<api::RunDiff, Problem>>,
    ) -> Option<watch::Receiver<Option<Looked>>> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let under_way = |known: &Known| known.answer.borrow().is_none() && known.answer.has_changed().is_ok();
        if let Some(at) = known.iter().position(|known| known.run == run) {
            if let Some(found) = known.get(at).filter(|known| under_way(known) || known.begun.elapsed() <= age) {
                return Some(found.answer.clone());
            }
            known.remove(at);
        }
        if known.len() >= REMEMBERED {
            let oldest = known.iter().position(|known| !under_way(known))?;
            known.remove(oldest);
        }
        let (told, answer) = watch::channel(None);
        let (slots, look) = (Arc::clone(&self.slots), look());
        tokio::spawn(async move {
            // The slots are never closed.
            let _slot = slots.acquire_owned().await;
            told.send_replace(Some(look.await.map(Arc::new)));
        });
        known.push_back(Known { run: run.to_owned(), begun: Instant::now(), answer: answer.clone() });
        Some(answer)
    }
}

fn busy() -> Problem {
    let message = "the change is still being looked at, or others are before it";
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, code::DIFF_BUSY, message, "ask again in a moment").retry_after(2)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures::FutureExt as _;

    use super::*;

    /// A look that counts itself and ends when it may.
    fn look(
        begun: &Arc<AtomicUsize>,
        may: &watch::Sender<bool>,
    ) -> impl FnOnce() -> BoxFuture<'static, Result<api::RunDiff, Problem>> {
        let (begun, mut may) = (Arc::clone(begun), may.subscribe());
        move || {
            async move {
                begun.fetch_add(1, Ordering::SeqCst);
                let _ = may.wait_for(|may| *may).await;
                Ok(api::RunDiff::default())
            }
            .boxed()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_asks_again_and_again_starts_one_look_and_few_run_at_once() {
        let (looks, begun, may) = (Looks::default(), Arc::new(AtomicUsize::new(0)), watch::channel(false).0);
        let (none, short) = (Duration::ZERO, Duration::from_millis(10));
        for _ in 0..100 {
            let answer = looks.get("run-1", none, short, look(&begun, &may)).await;
            assert!(answer.is_err_and(|problem| problem.detail().code == code::DIFF_BUSY));
        }
        assert_eq!(begun.load(Ordering::SeqCst), 1);
        for n in 2..30 {
            let _ = looks.get(&format!("run-{n}"), none, short, look(&begun, &may)).await;
        }
        assert_eq!(begun.load(Ordering::SeqCst), AT_ONCE);
        may.send_replace(true);
        assert!(looks.get("run-1", none, PATIENCE, look(&begun, &may)).await.is_ok());
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(begun.load(Ordering::SeqCst), REMEMBERED, "what was not remembered did not run later");
        let _ = looks.get("run-2", Duration::from_secs(60), PATIENCE, look(&begun, &may)).await;
        assert_eq!(begun.load(Ordering::SeqCst), REMEMBERED, "an answer that is young enough serves");
        let _ = looks.get("run-2", none, PATIENCE, look(&begun, &may)).await;
        assert_eq!(begun.load(Ordering::SeqCst), REMEMBERED + 1);
    }
}
