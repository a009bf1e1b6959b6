//! The provider's rate limits, as far as Codex tells them.

use std::collections::BTreeMap;

use dalsegno_engine::RateWindow;
use dalsegno_engine::core::Timestamp;
use serde_json::Value;

/// Limits that are remembered; a provider has one or a few.
const MAX_LIMITS: usize = 16;
/// From here on a window counts as used up when a request was refused without a word about which limit it was.
const EXHAUSTED_PERCENT: i64 = 95;
/// Longest wait that is believed: 31 days. A reset beyond it is a mistake (milliseconds taken for seconds).
const MAX_WAIT_MS: u64 = 31 * 86_400_000;

/// What `account/rateLimits/updated` told so far.
#[derive(Debug, Default)]
pub(super) struct Limits {
    windows: BTreeMap<(String, &'static str), Window>,
}

#[derive(Debug, Clone, Copy)]
struct Window {
    used_percent: i64,
    resets_at_s: Option<i64>,
    minutes: Option<u64>,
}

impl Limits {
    /// Updates are sparse: what one leaves out is as it was.
    pub(super) fn merge(&mut self, snapshot: &Value) {
        let limit = snapshot.get("limitId").and_then(Value::as_str).unwrap_or_default();
        for name in ["primary", "secondary"] {
            let Some(window) = snapshot.get(name).filter(|window| window.is_object()) else { continue };
            let Some(used_percent) = window.get("usedPercent").and_then(Value::as_i64) else { continue };
            let key = (limit.chars().take(100).collect(), name);
            let known = self.windows.get(&key).copied();
            if known.is_none() && self.windows.len() >= MAX_LIMITS {
                continue;
            }
            let resets_at_s =
                window.get("resetsAt").and_then(Value::as_i64).or(known.and_then(|window| window.resets_at_s));
            let minutes =
                window.get("windowDurationMins").and_then(Value::as_u64).or(known.and_then(|window| window.minutes));
            self.windows.insert(key, Window { used_percent, resets_at_s, minutes });
        }
    }

    /// All windows, for people to see.
    pub(super) fn windows(&self) -> Vec<RateWindow> {
        let window = |((limit, name), window): (&(String, &str), &Window)| RateWindow {
            name: if limit.is_empty() { (*name).to_owned() } else { format!("{limit} {name}") },
            used_percent: f64::from(i32::try_from(window.used_percent.clamp(0, 100)).unwrap_or(0)),
            window_minutes: window.minutes,
            resets_at: window.resets_at_s.map(|at| Timestamp(at.saturating_mul(1000))),
        };
        self.windows.iter().map(window).collect()
    }

    /// When the window that is used most begins anew. With `exhausted`, the provider said that a limit is used up;
    /// without, only a window that is all but used up is believed to be the reason.
    pub(super) fn reset_at(&self, exhausted: bool, now: Timestamp) -> Option<Timestamp> {
        let coming = |window: &&Window| window.resets_at(now).is_some();
        let most = self.windows.values().filter(coming).max_by_key(|window| window.used_percent)?;
        if !exhausted && most.used_percent < EXHAUSTED_PERCENT {
            return None;
        }
        most.resets_at(now)
    }
}

impl Window {
    fn resets_at(&self, now: Timestamp) -> Option<Timestamp> {
        let at = Timestamp(self.resets_at_s?.saturating_mul(1000));
        (at > now && at.since_ms(now) <= MAX_WAIT_MS).then_some(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_window_that_is_used_most_tells_the_reset() {
        let mut limits = Limits::default();
        let now = Timestamp(1_000_000);
        limits.merge(&json!({"limitId": "codex", "primary": {"usedPercent": 100, "resetsAt": 1_060},
            "secondary": {"usedPercent": 7, "resetsAt": 2_000}}));
        // Sparse: nothing is taken back.
        limits.merge(&json!({"limitId": "codex", "primary": null, "secondary": {"usedPercent": 8}}));
        assert_eq!(limits.reset_at(false, now), Some(Timestamp(1_060_000)));
        // That one is over.
        assert_eq!(limits.reset_at(true, Timestamp(1_060_000)), Some(Timestamp(2_000_000)));
        assert_eq!(limits.reset_at(false, Timestamp(1_060_000)), None, "8 percent are no reason");
    }

    #[test]
    fn milliseconds_taken_for_seconds_are_not_believed() {
        let mut limits = Limits::default();
        limits.merge(&json!({"primary": {"usedPercent": 100, "resetsAt": 1_800_000_000_000_i64}}));
        assert_eq!(limits.reset_at(true, Timestamp(1_700_000_000_000)), None);
    }
}
