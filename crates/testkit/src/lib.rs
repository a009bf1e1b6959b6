//! Doubles and judges for tests: ours, and those of whoever embeds the durable parts.

pub mod sim;
