//! A clock of the hosts that moves only when the test says so.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use dalsegno_durable::{Clock, Timestamp};
use tokio::sync::watch;

/// Where the time of a new clock stands: some moment that is neither 0 nor now.
const START: Timestamp = Timestamp(1_800_000_000_000);

/// Time as the test sets it. Whoever waits by it sleeps until the test has moved it far enough.
#[derive(Debug)]
pub struct ManualClock {
    now: watch::Sender<Timestamp>,
    /// How many sleep until when.
    asleep: watch::Sender<BTreeMap<Timestamp, usize>>,
}

impl Default for ManualClock {
    fn default() -> Self {
        Self { now: watch::Sender::new(START), asleep: watch::Sender::default() }
    }
}

impl ManualClock {
    /// A clock that many may hold.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Moves it on, and wakes whoever is due.
    pub fn advance(&self, by: Duration) {
        self.now.send_modify(|now| *now = now.after(by));
    }

    /// Waits until at least so many wait by this clock for what is still to come: only [`ManualClock::advance`] wakes them.
    pub async fn asleep(&self, count: usize) {
        // The sender is borrowed by `self`, so it cannot be gone.
        let _ = self.asleep.subscribe().wait_for(|asleep| self.later(asleep) >= count).await;
    }

    /// How many wait by this clock for what is still to come.
    #[must_use]
    pub fn sleepers(&self) -> usize {
        self.later(&self.asleep.borrow())
    }

    fn later(&self, asleep: &BTreeMap<Timestamp, usize>) -> usize {
        asleep.range(self.now().after(Duration::from_millis(1))..).map(|(_, count)| count).sum()
    }
}

/// One who waits; no more when dropped.
struct Asleep<'c> {
    clock: &'c ManualClock,
    due: Timestamp,
}

impl<'c> Asleep<'c> {
    fn new(clock: &'c ManualClock, due: Timestamp) -> Self {
        clock.asleep.send_modify(|asleep| *asleep.entry(due).or_default() += 1);
        Self { clock, due }
    }
}

impl Drop for Asleep<'_> {
    fn drop(&mut self) {
        self.clock.asleep.send_modify(|asleep| {
            if let Some(count) = asleep.get_mut(&self.due) {
                *count -= 1;
            }
        });
    }
}

#[async_trait]
impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        *self.now.borrow()
    }

    async fn until(&self, due: Timestamp) {
        let mut now = self.now.subscribe();
        if *now.borrow() >= due {
            return;
        }
        let _asleep = Asleep::new(self, due);
        let _ = now.wait_for(|now| *now >= due).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_wakes_whoever_is_due_and_nobody_else() {
        let clock = ManualClock::new();
        let due = clock.now().after(Duration::from_secs(2));
        let sleeper = tokio::spawn({
            let clock = Arc::clone(&clock);
            async move { clock.until(due).await }
        });
        clock.asleep(1).await;
        clock.advance(Duration::from_secs(1));
        tokio::task::yield_now().await;
        assert_eq!((clock.sleepers(), sleeper.is_finished()), (1, false));
        clock.advance(Duration::from_secs(1));
        assert!(sleeper.await.is_ok());
        assert_eq!((clock.sleepers(), clock.now()), (0, due));
    }
}
