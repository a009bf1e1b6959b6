//! What tests of durable hosts need: a clock that the test sets, a store that fails and halts on command, and a host that
//! records what it was asked for.

mod clock;
mod faulty;
mod recording;

pub use clock::ManualClock;
pub use faulty::{Faults, FaultyStore, Hold, Moment, StoreCall};
pub use recording::{Asked, RecordingHost, Selected};
