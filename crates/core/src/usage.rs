//! Tokens and cost, as agents report them.

use serde::{Deserialize, Serialize};

/// Tokens of a turn, a run or an issue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Usage {
    /// Tokens read by the model.
    pub input_tokens: u64,
    /// Those of them that came from the provider's cache.
    #[serde(default)]
    pub cached_input_tokens: u64,
    /// Tokens written by the model.
    pub output_tokens: u64,
    /// What the agent calls the total; at least the sum of both.
    pub total_tokens: u64,
}

impl Usage {
    /// A usage of `input` and `output` tokens.
    #[must_use]
    pub fn new(input: u64, output: u64) -> Self {
        Self {
            input_tokens: input,
            cached_input_tokens: 0,
            output_tokens: output,
            total_tokens: input.saturating_add(output),
        }
    }

    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            input_tokens: self.input_tokens.saturating_add(other.input_tokens),
            cached_input_tokens: self.cached_input_tokens.saturating_add(other.cached_input_tokens),
            output_tokens: self.output_tokens.saturating_add(other.output_tokens),
            total_tokens: self.total_tokens.saturating_add(other.total_tokens),
        }
    }

    /// The larger of each figure: reports of one turn grow and may repeat.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        Self {
            input_tokens: self.input_tokens.max(other.input_tokens),
            cached_input_tokens: self.cached_input_tokens.max(other.cached_input_tokens),
            output_tokens: self.output_tokens.max(other.output_tokens),
            total_tokens: self.total_tokens.max(other.total_tokens),
        }
    }

    /// Whether a count that says this has everything that `part` has. What came from a cache is a share of the input, and
    /// not every count tells it.
    #[must_use]
    pub(crate) fn covers(self, part: Self) -> bool {
        self.input_tokens >= part.input_tokens
            && self.output_tokens >= part.output_tokens
            && self.total_tokens >= part.total_tokens
    }

    /// What this adds to `before`; nothing where it is smaller.
    #[must_use]
    pub fn growth_over(self, before: Self) -> Self {
        Self {
            input_tokens: self.input_tokens.saturating_sub(before.input_tokens),
            cached_input_tokens: self.cached_input_tokens.saturating_sub(before.cached_input_tokens),
            output_tokens: self.output_tokens.saturating_sub(before.output_tokens),
            total_tokens: self.total_tokens.saturating_sub(before.total_tokens),
        }
    }
}

/// What an agent reports of a turn: tokens so far, and the model that was asked, as far as known.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// Tokens of the turn so far.
    pub usage: Usage,
    /// The model that was asked.
    pub model: Option<String>,
}

impl Report {
    /// This report and a later one: the larger figures, and the model that was named last.
    #[must_use]
    pub fn and(self, later: Self) -> Self {
        Self { usage: self.usage.max(later.usage), model: later.model.or(self.model) }
    }
}
