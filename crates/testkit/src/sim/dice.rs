//! Chance from a seed: the same numbers on every machine and in every run.

use crate::crash::Random;

/// Each part of a history has its own, so that switching one part off leaves the others as they were.
#[derive(Debug, Clone)]
pub(crate) struct Dice(Random);

impl Dice {
    /// The generator of one part of the history of `seed`.
    pub(crate) fn new(seed: u64, part: u64) -> Self {
        let state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ part.wrapping_mul(0xD1B5_4A32_D192_ED03);
        let mut dice = Self(Random::new(state));
        dice.roll();
        dice
    }

    /// 64 bits.
    pub(crate) fn roll(&mut self) -> u64 {
        self.0.next()
    }

    /// A number below `limit`; zero when there is none.
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.roll().checked_rem(limit).unwrap_or(0)
    }

    /// A number from `low` to `high`, both included.
    pub(crate) fn between(&mut self, low: i64, high: i64) -> i64 {
        low + i64::try_from(self.below(u64::try_from(high - low + 1).unwrap_or(1))).unwrap_or(0)
    }

    /// True this many times in a thousand.
    pub(crate) fn permille(&mut self, times: u64) -> bool {
        self.below(1_000) < times
    }

    /// Heads or tails.
    pub(crate) fn coin(&mut self) -> bool {
        self.roll() & 1 == 1
    }

    /// One of several.
    pub(crate) fn pick<T: Copy, const N: usize>(&mut self, of: [T; N]) -> T {
        of[usize::try_from(self.below(N as u64)).unwrap_or(0)]
    }
}
