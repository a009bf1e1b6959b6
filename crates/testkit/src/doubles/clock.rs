//! Time that follows tokio's clock.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use async_trait::async_trait;
use dalsegno_core::Timestamp;
use dalsegno_engine::Clock;
use tokio::time::Instant;

/// Where wall-clock time begins.
const BEGIN_MS: i64 = 1_800_000_000_000;

/// Both clocks follow tokio's; the wall clock can be set, and the machine can be suspended.
#[derive(Debug)]
pub struct TokioClock {
    begun: Instant,
    wall_off_ms: AtomicI64,
    suspended_ms: AtomicU64,
}

impl Default for TokioClock {
    fn default() -> Self {
        Self { begun: Instant::now(), wall_off_ms: AtomicI64::new(0), suspended_ms: AtomicU64::new(0) }
    }
}

impl TokioClock {
    /// Somebody sets the wall clock forward, or back.
    pub fn set_wall(&self, by_ms: i64) {
        self.wall_off_ms.fetch_add(by_ms, Ordering::SeqCst);
    }

    /// The machine sleeps: both clocks go on, tokio's does not.
    pub fn suspend(&self, ms: u64) {
        self.suspended_ms.fetch_add(ms, Ordering::SeqCst);
    }
}

impl Clock for TokioClock {
    fn now(&self) -> Timestamp {
        let boottime = i64::try_from(self.boottime_ms()).unwrap_or(i64::MAX);
        Timestamp(BEGIN_MS + boottime + self.wall_off_ms.load(Ordering::SeqCst))
    }

    fn boottime_ms(&self) -> u64 {
        let awake = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        awake.saturating_add(self.suspended_ms.load(Ordering::SeqCst))
    }
}

#[async_trait]
impl dalsegno_durable::Clock for TokioClock {
    fn now(&self) -> dalsegno_durable::Timestamp {
        dalsegno_durable::Timestamp(Clock::now(self).0)
    }

    async fn until(&self, due: dalsegno_durable::Timestamp) {
        let left = due.left(dalsegno_durable::Clock::now(self));
        tokio::time::sleep(left).await;
    }
}
