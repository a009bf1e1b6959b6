//! The loop's time: it follows the wall clock, and never stands still.
//!
//! Time in the journal never goes back, so a wall clock that was believed once while it was far ahead would be what time goes
//! on from for ever. A leap that the other clock does not explain is therefore believed when it has stood for a while, and
//! until then time flows as before.

use std::sync::Arc;
use std::time::Duration;

use dalsegno_core::Timestamp;
use tokio::time::Instant;

use crate::ports::Clock;

/// A difference between two clocks that means a suspend or a jump.
const JUMP_MS: u64 = 5_000;
/// A pause between two looks in which agents may have been as silent as the loop was deaf.
const DEAF: Duration = Duration::from_secs(5);
/// A leap of the wall clock that has to stand before it is believed. A suspend is none: the other clock counts it.
const LEAP_MS: u64 = 24 * 3_600_000;
/// The same at the start, where nothing tells how long no daemon ran.
const LEAP_AT_START_MS: u64 = 366 * LEAP_MS;
/// How long it has to stand.
const STANDS_MS: u64 = 60_000;

/// Wall-clock time that flows at least as fast as the clock that never jumps: were it held where it was when
/// somebody sets the wall clock back by an hour, no timer would be due for that hour.
pub(crate) struct Clocks {
    clock: Arc<dyn Clock>,
    now: Timestamp,
    now_boottime_ms: u64,
    looked: Reading,
    /// The wall clock as it was when it leapt, not believed yet.
    leap: Option<Reading>,
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
        let behind_ms = floor.since_ms(looked.wall);
        if behind_ms > JUMP_MS {
            tracing::warn!(
                "the journal's last event is {} s ahead of this machine's clock: one of the two is wrong. Time in the journal goes on \
                 from its last event; days of budgets and times of resets are off until the clock has caught up",
                behind_ms / 1_000
            );
        }
        // A journal without events has nothing to compare with.
        let far = floor != Timestamp::default() && looked.wall.since_ms(floor) > LEAP_AT_START_MS;
        let now = if far { floor } else { looked.wall.max(floor) };
        let mut clocks = Self { clock, now, now_boottime_ms: looked.boottime_ms, looked, leap: None };
        if far {
            clocks.leapt(looked);
        }
        clocks
    }

    pub(crate) fn now(&mut self) -> Timestamp {
        let boottime_ms = self.clock.boottime_ms();
        let flowed = self.now.after_ms(boottime_ms.saturating_sub(self.now_boottime_ms));
        let wall = self.clock.now();
        self.now = if wall.since_ms(flowed) > LEAP_MS { flowed } else { flowed.max(wall) };
        self.now_boottime_ms = boottime_ms;
        self.now
    }

    /// Whether silence since the last call means nothing. Believes a leap that has stood.
    pub(crate) fn jumped(&mut self) -> bool {
        let reading = read(self.clock.as_ref());
        let last = std::mem::replace(&mut self.looked, reading);
        let boot = reading.boottime_ms.saturating_sub(last.boottime_ms);
        let awake = reading.awake.duration_since(last.awake);
        let suspended = boot.saturating_sub(u64::try_from(awake.as_millis()).unwrap_or(u64::MAX));
        let believed = self.believes(reading);
        believed || suspended > JUMP_MS || reading.off(last) > JUMP_MS || awake > DEAF
    }

    /// Whether a leap has stood for long enough just now.
    fn believes(&mut self, reading: Reading) -> bool {
        if reading.wall.since_ms(self.now()) <= LEAP_MS {
            if self.leap.take().is_some() {
                tracing::warn!("the clock is back from its leap, which was not believed");
            }
            return false;
        }
        match self.leap {
            Some(first) if reading.off(first) <= JUMP_MS => {
                let stands = reading.boottime_ms.saturating_sub(first.boottime_ms) >= STANDS_MS;
                if stands {
                    tracing::warn!("the clock stays where it leapt; time follows it, and never goes back");
                    (self.now, self.now_boottime_ms, self.leap) = (reading.wall, reading.boottime_ms, None);
                }
                stands
            }
            Some(_) | None => {
                self.leapt(reading);
                false
            }
        }
    }

    fn leapt(&mut self, reading: Reading) {
        tracing::warn!(
            "the clock leapt ahead by {} h; if it stays there for {} s, time follows it",
            reading.wall.since_ms(self.now) / 3_600_000,
            STANDS_MS / 1_000
        );
        self.leap = Some(reading);
    }
}

impl Reading {
    /// How much further one clock went than the other since then.
    fn off(self, since: Self) -> u64 {
        let wall = self.wall.0.saturating_sub(since.wall.0);
        let boot = self.boottime_ms.saturating_sub(since.boottime_ms);
        wall.abs_diff(i64::try_from(boot).unwrap_or(i64::MAX))
    }
}

fn read(clock: &dyn Clock) -> Reading {
    Reading { wall: clock.now(), boottime_ms: clock.boottime_ms(), awake: Instant::now() }
}
