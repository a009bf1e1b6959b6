//! The loop's time: it follows the wall clock, and never stands still.

use std::sync::Arc;
use std::time::Duration;

use dalsegno_core::Timestamp;
use tokio::time::Instant;

use crate::ports::Clock;

/// A difference between two clocks that means a suspend or a jump.
const JUMP_MS: u64 = 5_000;
/// A pause between two looks in which agents may have been as silent as the loop was deaf.
const DEAF: Duration = Duration::from_secs(5);

/// Wall-clock time that flows at least as fast as the clock that never jumps: were it held where it was when
/// somebody sets the wall clock back by an hour, no timer would be due for that hour.
pub(crate) struct Clocks {
    clock: Arc<dyn Clock>,
    now: Timestamp,
    now_boottime_ms: u64,
    looked: Reading,
}

/// Three clocks whose difference tells of suspends, of set clocks and of a process that stood still.
#[derive(Clone, Copy)]
struct Reading {
    wall: Timestamp,
    boottime_ms: u64,
    awake: Instant,
}

impl Clocks {
    /// `floor`: the time of the last event; time goes on from there.
    pub(crate) fn new(clock: Arc<dyn Clock>, floor: Timestamp) -> Self {
        let looked = read(clock.as_ref());
        Self { clock, now: looked.wall.max(floor), now_boottime_ms: looked.boottime_ms, looked }
    }

    pub(crate) fn now(&mut self) -> Timestamp {
        let boottime_ms = self.clock.boottime_ms();
        let flowed = self.now.after_ms(boottime_ms.saturating_sub(self.now_boottime_ms));
        self.now = flowed.max(self.clock.now());
        self.now_boottime_ms = boottime_ms;
        self.now
    }

    /// Whether silence since the last call means nothing.
    pub(crate) fn jumped(&mut self) -> bool {
        let reading = read(self.clock.as_ref());
        let last = std::mem::replace(&mut self.looked, reading);
        let boot = reading.boottime_ms.saturating_sub(last.boottime_ms);
        let awake = reading.awake.duration_since(last.awake);
        let wall = reading.wall.0.saturating_sub(last.wall.0);
        let wall_off = wall.abs_diff(i64::try_from(boot).unwrap_or(i64::MAX));
        let suspended = boot.saturating_sub(u64::try_from(awake.as_millis()).unwrap_or(u64::MAX));
        suspended > JUMP_MS || wall_off > JUMP_MS || awake > DEAF
    }
}

fn read(clock: &dyn Clock) -> Reading {
    Reading { wall: clock.now(), boottime_ms: clock.boottime_ms(), awake: Instant::now() }
}
