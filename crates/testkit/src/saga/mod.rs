//! The crash walk of sagas: the pure machine over a log and a world that are kept apart from it, killed at every point, in
//! every order of answers, and judged by its invariants.
//!
//! [`history`] plays one [`Scenario`] with its kills to its end and judges it; [`walk`] plays single kills and pairs of them.

mod judge;
mod play;
mod scenario;
mod world;

pub use judge::{INVARIANTS, Violation};
pub use play::{Bug, History, Pairs, Played, history, walk};
pub use scenario::{Approver, Order, Scenario, scenarios};
pub use world::Behaviour;
