//! Holding answers back, so that a test can do something exactly during a model call.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

use super::{WAIT_LIMIT, blocking};

/// Holds the answers of one step until it is released or dropped.
#[derive(Debug)]
pub struct Gate(Arc<Held>);

#[derive(Debug)]
struct Held {
    script: String,
    step: usize,
    open: watch::Sender<bool>,
    arrived: watch::Sender<u64>,
}

/// The gates that are not released.
#[derive(Debug, Default)]
pub(super) struct Gates(Mutex<Vec<Arc<Held>>>);

impl Gates {
    pub(super) fn add(&self, script: &str, step: usize) -> Gate {
        let held = Arc::new(Held {
            script: script.to_owned(),
            step,
            open: watch::Sender::new(false),
            arrived: watch::Sender::new(0),
        });
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|held| !*held.open.borrow());
        all.push(Arc::clone(&held));
        Gate(held)
    }

    /// Waits for all gates of this step.
    pub(super) async fn pass(&self, script: &str, step: usize) {
        let ours: Vec<Arc<Held>> = {
            let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            all.iter().filter(|held| held.script == script && held.step == step).cloned().collect()
        };
        for held in ours {
            held.arrived.send_modify(|count| *count += 1);
            // The sender is in `held`, so this ends only when it is open.
            let _ = held.open.subscribe().wait_for(|open| *open).await;
        }
    }
}

impl Gate {
    /// Waits until so many requests have come to the gate.
    ///
    /// # Panics
    /// When they have not come after two minutes.
    pub async fn arrived(&self, count: u64) {
        let mut seen = self.0.arrived.subscribe();
        let came = tokio::time::timeout(WAIT_LIMIT, seen.wait_for(|seen| *seen >= count)).await;
        assert!(came.is_ok(), "nobody came to step {} of {}", self.0.step, self.0.script);
    }

    /// As [`Gate::arrived`], for tests that are not async. It blocks the thread.
    ///
    /// # Panics
    /// As there.
    pub fn wait_arrived(&self, count: u64) {
        blocking(self.arrived(count));
    }

    /// Lets all go that wait, and all that come.
    pub fn release(self) {
        drop(self);
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.0.open.send_replace(true);
    }
}
