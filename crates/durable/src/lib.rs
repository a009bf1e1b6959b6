//! Durable effects: the rules that do not depend on what the effects are about.
//!
//! [`key`]: markers of effects, the same on every attempt.
//! [`attempt`]: one try of an effect, which always ends: with its value, or in doubt.

pub mod attempt;
pub mod key;
