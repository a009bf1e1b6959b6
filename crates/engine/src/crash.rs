//! Numbered points at which a test may kill the process: each journal append, each boundary of an effect.
//! Only debug builds have them; a release build compiles them to nothing.

#[cfg(debug_assertions)]
mod armed {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    struct Armed {
        at: u64,
        reached: fn(&str, u64),
    }

    static ARMED: OnceLock<Armed> = OnceLock::new();
    static PASSED: AtomicU64 = AtomicU64::new(0);

    /// Calls `reached` with the name and number of the point when the `at`-th one (from 1) is passed. Once per process.
    pub fn arm(at: u64, reached: fn(&str, u64)) {
        let _ = ARMED.set(Armed { at, reached });
    }

    /// Points that were passed so far; zero unless armed.
    #[must_use]
    pub fn passed() -> u64 {
        PASSED.load(Ordering::SeqCst)
    }

    /// Passes a point.
    pub fn point(name: &str) {
        if let Some(armed) = ARMED.get() {
            let number = PASSED.fetch_add(1, Ordering::SeqCst) + 1;
            if number == armed.at {
                (armed.reached)(name, number);
            }
        }
    }
}

#[cfg(debug_assertions)]
pub use armed::{arm, passed, point};

/// Passes a point; a release build has none.
#[cfg(not(debug_assertions))]
pub fn point(_name: &str) {}
