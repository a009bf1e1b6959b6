//! Webhooks as they come: few at once, each delivery once, and all of them counted.
//!
//! # Invariants
//! - Nothing a caller sends makes memory grow: [`AT_ONCE`] bodies, [`REMEMBERED`] deliveries of each service of the program, of each a
//!   hash, and a count for each service and outcome, both from closed lists.
//! - A delivery is remembered only when the engine has taken it: whoever was told less than that may send it again.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Mutex, PoisonError};

use dalsegno_api::code;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::access::{Hash, hash_of};

/// Webhooks that are read and verified at once.
const AT_ONCE: usize = 16;
/// Deliveries of each service that are known again.
const REMEMBERED: usize = 4_096;
/// Ways in which a webhook can end.
const OUTCOMES: [&str; 11] = [
    ACCEPTED,
    DUPLICATE,
    code::WEBHOOK_NOT_CONFIGURED,
    code::WEBHOOK_SIGNATURE,
    code::WEBHOOK_STALE,
    code::WEBHOOK_BUSY,
    code::INVALID_BODY,
    code::BODY_TOO_LARGE,
    code::BODY_TIMEOUT,
    code::ENGINE_UNAVAILABLE,
    OTHER,
];
pub(crate) const ACCEPTED: &str = "accepted";
pub(crate) const DUPLICATE: &str = "duplicate";
const OTHER: &str = "other";

/// What is known of webhooks in this life of the daemon.
pub(crate) struct Hooks {
    slots: Semaphore,
    seen: Mutex<BTreeMap<String, Seen>>,
    counts: Mutex<BTreeMap<(&'static str, &'static str), u64>>,
}

#[derive(Default)]
struct Seen {
    order: VecDeque<Hash>,
    known: BTreeSet<Hash>,
}

impl Default for Hooks {
    fn default() -> Self {
        Self { slots: Semaphore::new(AT_ONCE), seen: Mutex::default(), counts: Mutex::default() }
    }
}

impl Hooks {
    /// Room for one more; `None`: there is none.
    pub(crate) fn slot(&self) -> Option<SemaphorePermit<'_>> {
        self.slots.try_acquire().ok()
    }

    /// Whether this delivery was taken before, as far as that is remembered.
    pub(crate) fn knows(&self, service: &str, id: &str) -> bool {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.get(service).is_some_and(|seen| seen.known.contains(&hash_of(id)))
    }

    /// A verified delivery was taken.
    pub(crate) fn remember(&self, service: &str, id: &str) {
        let hash = hash_of(id);
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = seen.entry(service.to_owned()).or_default();
        if seen.known.insert(hash) {
            seen.order.push_back(hash);
            if seen.order.len() > REMEMBERED
                && let Some(oldest) = seen.order.pop_front()
            {
                seen.known.remove(&oldest);
            }
        }
    }

    /// Counts how a webhook ended, under words of closed lists.
    pub(crate) fn count(&self, services: &'static [&'static str], service: &str, outcome: &str) {
        let word = |words: &'static [&'static str], word: &str| {
            words.iter().find(|known| **known == word).copied().unwrap_or(OTHER)
        };
        let key = (word(services, service), word(&OUTCOMES, outcome));
        *self.counts.lock().unwrap_or_else(PoisonError::into_inner).entry(key).or_default() += 1;
    }

    /// How many ended how, by service and outcome.
    pub(crate) fn counts(&self) -> BTreeMap<(&'static str, &'static str), u64> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_deliveries_of_each_service_are_remembered_and_the_oldest_goes() {
        let hooks = Hooks::default();
        for id in 0..=REMEMBERED {
            hooks.remember("github", &id.to_string());
            hooks.remember("github", &id.to_string());
        }
        assert!(!hooks.knows("github", "0") && hooks.knows("github", "1"));
        assert!(hooks.knows("github", &REMEMBERED.to_string()) && !hooks.knows("linear", "1"));
        let seen = hooks.seen.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(
            seen.get("github").is_some_and(|seen| (seen.order.len(), seen.known.len()) == (REMEMBERED, REMEMBERED))
        );
    }

    #[test]
    fn foreign_words_make_no_counter_of_their_own() {
        let hooks = Hooks::default();
        for word in ["x", "y", "github"] {
            hooks.count(&["github"], word, word);
            hooks.count(&["github"], word, ACCEPTED);
        }
        let keys: Vec<_> = hooks.counts().into_iter().collect();
        assert_eq!(
            keys,
            [(("github", ACCEPTED), 1), (("github", OTHER), 1), ((OTHER, ACCEPTED), 2), ((OTHER, OTHER), 2)]
        );
    }
}
