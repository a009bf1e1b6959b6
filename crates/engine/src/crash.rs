//! Points with a name and a number at which a test may kill the process: each journal append, each boundary of an effect.
//! Only debug builds have them; a release build compiles them to nothing.

#[cfg(debug_assertions)]
mod armed {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    struct Armed {
        at: At,
        reached: fn(&str, u64),
    }

    /// Which point.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub enum At {
        /// The one with this number, from 1.
        Number(u64),
        /// Each with this name.
        Named(String),
    }

    impl From<&str> for At {
        fn from(text: &str) -> Self {
            text.parse().map_or_else(|_| Self::Named(text.to_owned()), Self::Number)
        }
    }

    impl From<u64> for At {
        fn from(number: u64) -> Self {
            Self::Number(number)
        }
    }

    static ARMED: OnceLock<Armed> = OnceLock::new();
    static PASSED: AtomicU64 = AtomicU64::new(0);

    /// Calls `reached` with the name and number of the point when it is passed. Takes effect once per process.
    pub fn arm(at: impl Into<At>, reached: fn(&str, u64)) {
        let _ = ARMED.set(Armed { at: at.into(), reached });
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
            let is_it = match &armed.at {
                At::Number(at) => *at == number,
                At::Named(at) => at == name,
            };
            if is_it {
                (armed.reached)(name, number);
            }
        }
    }
}

#[cfg(debug_assertions)]
pub use armed::{At, arm, passed, point};

/// Passes a point; a release build has none.
#[cfg(not(debug_assertions))]
pub fn point(_name: &str) {}
