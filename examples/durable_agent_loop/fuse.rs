//! The kill: SIGKILL to this process at a point of the caller's choice.

use std::sync::atomic::{AtomicU32, Ordering};

use nix::sys::signal::{Signal, raise};

/// Counts the points that the program passes, and kills it at one of them.
pub(crate) struct Fuse {
    at: Option<u32>,
    passed: AtomicU32,
}

impl Fuse {
    pub(crate) fn new(at: Option<u32>) -> Self {
        Self { at, passed: AtomicU32::new(0) }
    }

    /// Passes a point, or does not.
    pub(crate) fn point(&self, place: &str, what: &str) {
        let number = self.passed.fetch_add(1, Ordering::Relaxed) + 1;
        if self.at == Some(number) {
            println!("SIGKILL  at point {number}, {place} {what}");
            // Nothing is flushed, closed or dropped after this, as in a power cut of this process.
            if let Err(error) = raise(Signal::SIGKILL) {
                println!("no kill: {error}");
            }
        }
    }

    pub(crate) fn passed(&self) -> u32 {
        self.passed.load(Ordering::Relaxed)
    }
}
