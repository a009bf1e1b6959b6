//! Time as the hosts are told it.

use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

/// Milliseconds since 1970, UTC. What must survive a restart is due at one of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// So much later; never wraps.
    #[must_use]
    pub fn after(self, wait: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(wait.as_millis()).unwrap_or(i64::MAX)))
    }

    /// How long it is from `now` until this; zero when it is over.
    #[must_use]
    pub fn left(self, now: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(now.0)).unwrap_or(0))
    }
}

/// The wall clock, and waiting by it.
#[async_trait]
pub trait Clock: std::fmt::Debug + Send + Sync + 'static {
    /// Now.
    fn now(&self) -> Timestamp;
    /// Waits until then. A clock that is set back or a machine that sleeps makes it late, never early.
    async fn until(&self, due: Timestamp);
}

/// The operating system's clock and the runtime's timers.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

/// A timer is looked at again after this long, because the wall clock may have been set meanwhile.
const LOOK_AGAIN: Duration = Duration::from_secs(3_600);

#[async_trait]
impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods, reason = "this is the one place where the hosts' clock is read")]
    fn now(&self) -> Timestamp {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }

    async fn until(&self, due: Timestamp) {
        loop {
            let left = due.left(self.now());
            if left.is_zero() {
                return;
            }
            tokio::time::sleep(left.min(LOOK_AGAIN)).await;
        }
    }
}
