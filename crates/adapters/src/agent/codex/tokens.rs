//! Tokens, from the totals of threads. A turn's usage is what all threads, those of sub-agents too, grew by.

use std::collections::BTreeMap;

use dalsegno_engine::core::Usage;
use serde_json::Value;

use crate::agent::ear::believable;

/// Threads that are counted; a turn has one, and one for each sub-agent.
const MAX_THREADS: usize = 256;

/// What is known of threads.
#[derive(Debug, Default)]
pub(super) struct Tokens {
    threads: BTreeMap<String, Thread>,
}

#[derive(Debug, Clone, Copy)]
struct Thread {
    /// Its total when the turn began.
    before: Usage,
    total: Usage,
}

impl Tokens {
    /// A `thread/tokenUsage/updated` came; `now`: it is of the turn that is under way, and not history.
    ///
    /// # Errors
    /// The figures that cannot be.
    pub(super) fn update(&mut self, params: &Value, now: bool) -> Result<(), Usage> {
        let Some(thread) = params.get("threadId").and_then(Value::as_str) else { return Ok(()) };
        let Some(total) = params.pointer("/tokenUsage/total").map(usage) else { return Ok(()) };
        let last = params.pointer("/tokenUsage/last").map(usage).unwrap_or_default();
        if let Some(absurd) = [total, last].into_iter().find(|usage| !believable(*usage)) {
            return Err(absurd);
        }
        if let Some(known) = self.threads.get_mut(thread) {
            // Totals grow; one that does not is an old one that was late.
            known.total = known.total.max(total);
            if !now {
                known.before = known.total;
            }
            return Ok(());
        }
        if self.threads.len() >= MAX_THREADS {
            return Ok(());
        }
        // A thread that nobody knew: what its last call used is of this turn, and the rest is older.
        let before = if now { total.growth_over(last) } else { total };
        self.threads.insert(thread.to_owned(), Thread { before, total });
        Ok(())
    }

    /// Total of a thread.
    pub(super) fn total(&self, thread: &str) -> Option<Usage> {
        self.threads.get(thread).map(|thread| thread.total)
    }

    /// Tokens of the turn so far.
    pub(super) fn turn(&self) -> Usage {
        self.threads.values().fold(Usage::default(), |sum, thread| sum.plus(thread.total.growth_over(thread.before)))
    }

    /// The turn is over: its tokens. What comes from here on is the next one's.
    pub(super) fn end_turn(&mut self) -> Usage {
        let usage = self.turn();
        for thread in self.threads.values_mut() {
            thread.before = thread.total;
        }
        usage
    }
}

/// `TokenUsageBreakdown`. Input counts what was cached, output what was reasoned.
fn usage(breakdown: &Value) -> Usage {
    let figure = |name: &str| breakdown.get(name).and_then(Value::as_u64).unwrap_or(0);
    let mut usage = Usage::new(figure("inputTokens"), figure("outputTokens"));
    usage.cached_input_tokens = figure("cachedInputTokens");
    usage.total_tokens = usage.total_tokens.max(figure("totalTokens"));
    usage
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

    use super::*;
    use serde_json::json;

    fn update(thread: &str, total: u64, last: u64) -> Value {
        let breakdown = |tokens: u64| {
            json!({"inputTokens": tokens, "cachedInputTokens": 0, "outputTokens": 0, "reasoningOutputTokens": 0,
                "totalTokens": tokens})
        };
        json!({"threadId": thread, "turnId": "t", "tokenUsage": {"total": breakdown(total), "last": breakdown(last)}})
    }

    #[test]
    fn a_turn_is_what_the_totals_grew_by() {
        let mut tokens = Tokens::default();
        tokens.update(&update("main", 500, 100), false).unwrap();
        assert_eq!((tokens.total("main"), tokens.turn()), (Some(Usage::new(500, 0)), Usage::default()));
        tokens.update(&update("main", 520, 20), true).unwrap();
        tokens.update(&update("main", 510, 10), true).unwrap();
        tokens.update(&update("sub", 7, 7), true).unwrap();
        assert_eq!(tokens.end_turn(), Usage::new(27, 0));
        tokens.update(&update("sub", 9, 2), true).unwrap();
        assert_eq!(tokens.end_turn(), Usage::new(2, 0));
    }

    #[test]
    fn figures_that_cannot_be_do_not_count() {
        let mut tokens = Tokens::default();
        tokens.update(&update("main", 500, 100), false).unwrap();
        for (total, last) in [(u64::MAX, 1), (1_000_000_000_001, 1), (600, u64::MAX)] {
            assert!(tokens.update(&update("main", total, last), true).is_err());
        }
        tokens.update(&update("main", 520, 20), true).unwrap();
        assert_eq!(tokens.end_turn(), Usage::new(20, 0));
    }

    #[test]
    fn a_resumed_thread_that_told_no_total_counts_its_last_call() {
        let mut tokens = Tokens::default();
        tokens.update(&update("main", 500, 30), true).unwrap();
        assert_eq!(tokens.end_turn(), Usage::new(30, 0));
    }
}
