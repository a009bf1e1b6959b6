//! The kill: SIGKILL to this process at a point of the caller's choice.
#![allow(clippy::print_stdout, reason = "an example talks to whoever runs it")]

use std::sync::atomic::{AtomicU32, Ordering};

use nix::sys::signal::{Signal, raise};

/// Counts the points that the program passes, and kills it at one of them.
#[derive(Debug)]
pub struct Fuse {
    at: Option<u32>,
    passed: AtomicU32,
}

impl Fuse {
    /// Kills at this point, from 1; `None`: never.
    #[must_use]
    pub fn new(at: Option<u32>) -> Self {
        Self { at, passed: AtomicU32::new(0) }
    }

    /// Passes a point, or does not.
    pub fn point(&self, place: &str, what: &str) {
        let number = self.passed.fetch_add(1, Ordering::Relaxed) + 1;
        if self.at == Some(number) {
            println!("SIGKILL  at point {number}, {place} {what}");
            // Nothing is flushed, closed or dropped after this, as in a power cut of this process.
            if let Err(error) = raise(Signal::SIGKILL) {
                println!("no kill: {error}");
            }
        }
    }

    /// Points that were passed.
    #[must_use]
    pub fn passed(&self) -> u32 {
        self.passed.load(Ordering::Relaxed)
    }
}
