//! Issue trackers (Symphony §11).

pub mod local;

use std::sync::Arc;

use dalsegno_core::{Failure, Policy};
use dalsegno_engine::{Tracker, Trackers};

use crate::workflow::{Environment, process_environment};
pub use local::LocalTracker;

/// Makes the trackers that this version knows.
#[derive(Clone)]
pub struct LocalTrackers {
    env: Environment,
}

impl LocalTrackers {
    /// Trackers whose `$VAR`s mean the environment of this process.
    #[must_use]
    pub fn new() -> Self {
        Self { env: process_environment() }
    }

    /// Trackers whose `$VAR`s mean `env`.
    #[must_use]
    pub fn with_environment(env: Environment) -> Self {
        Self { env }
    }
}

impl Default for LocalTrackers {
    fn default() -> Self {
        Self::new()
    }
}

impl Trackers for LocalTrackers {
    fn open(&self, policy: &Policy) -> Result<Arc<dyn Tracker>, Failure> {
        match policy.tracker.kind.as_str() {
            "local" => Ok(Arc::new(LocalTracker::open(policy, &self.env)?)),
            other => Err(Failure::permanent(
                "unsupported_tracker_kind",
                format!("tracker.kind is `{other}`; this version knows local"),
            )
            .hint("Set tracker.kind to local.")),
        }
    }
}
