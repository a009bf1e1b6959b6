//! Points in time, as numbers that are handed in: the core reads no clock.

use serde::{Deserialize, Serialize};

/// Wall-clock time in milliseconds since the Unix epoch, UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub i64);

/// Milliseconds of a span of time as people write it: `500ms`, `30s`, `30m`, `24h`, `7d`. `None`: it is none.
#[must_use]
pub fn span_ms(text: &str) -> Option<u64> {
    let text = text.trim();
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit())?);
    let factor: u64 = match unit.trim() {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(factor)
}

impl Timestamp {
    /// This time moved forward by `ms` milliseconds; saturates.
    #[must_use]
    pub fn after_ms(self, ms: u64) -> Self {
        Self(self.0.saturating_add(i64::try_from(ms).unwrap_or(i64::MAX)))
    }

    /// Milliseconds from `earlier` to this time; zero when `earlier` is later.
    #[must_use]
    pub fn since_ms(self, earlier: Self) -> u64 {
        u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::span_ms;

    #[test]
    fn spans_of_time_are_read() {
        for (text, ms) in
            [("500ms", 500), (" 2 s", 2_000), ("30m", 1_800_000), ("24h", 86_400_000), ("7d", 604_800_000)]
        {
            assert_eq!(span_ms(text), Some(ms), "{text}");
        }
        for wrong in ["", "30", "h", "1w", "-5s", "1.5h", "99999999999999999999d", "9999999999999999d"] {
            assert_eq!(span_ms(wrong), None, "{wrong}");
        }
    }
}
