//! Disks that fill up, lose what was written and refuse to be written, and clocks that jump. The daemon does what the real
//! driver does: an append that failed is its last, its agents are ended, and whoever started it starts it again.

use dalsegno_core::{Committed, EffectId, Outcome};

use super::Mutation;
use super::drive::{Item, Sim};

/// How long whoever started the daemon waits after it failed to.
const AGAIN_MS: i64 = 10_000;

/// What is wrong with the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Disk {
    /// Nothing fits any more: what was written is taken back.
    Full,
    /// The sync failed once: whether it is on disk is known to whoever opens it again.
    SyncFails,
    /// Nothing may be written, and no daemon opens it.
    ReadOnly,
}

/// What is wrong with the disk, and until when.
#[derive(Debug, Default)]
pub(super) struct Trouble {
    now: Option<(Disk, i64)>,
    left: u32,
    /// The writer failed, and takes nothing more in this life of the daemon.
    poisoned: bool,
}

impl Trouble {
    pub(super) fn new(left: u32) -> Self {
        Self { now: None, left, poisoned: false }
    }

    /// The world is kind from now on.
    pub(super) fn end(&mut self) {
        (self.now, self.left) = (None, 0);
    }

    /// A daemon opens the store.
    pub(super) fn opened(&mut self) {
        self.poisoned = false;
    }
}

impl Sim {
    /// What is wrong with the disk at this moment; something may go wrong now.
    fn disk_now(&mut self) -> Option<Disk> {
        if let Some((what, until)) = self.trouble.now {
            if until > self.clock {
                return Some(what);
            }
            self.trouble.now = None;
        }
        if self.trouble.left == 0 || !self.hardware.permille(self.plan.rates.disk) {
            return None;
        }
        self.trouble.left -= 1;
        let what = self.hardware.pick([Disk::Full, Disk::Full, Disk::SyncFails, Disk::ReadOnly]);
        let lasts = match what {
            Disk::SyncFails => 0,
            Disk::Full | Disk::ReadOnly => self.hardware.pick([1, 15_000, 400_000]),
        };
        self.note(|_| format!("---- the disk: {what:?} for {lasts} ms"));
        *self.coverage.disk.entry(what.as_str()).or_default() += 1;
        self.trouble.now = Some((what, self.clock + lasts));
        Some(what)
    }

    /// The disk refuses what was written, unless it is well. Answers whether it did.
    pub(super) fn disk_refuses(&mut self, committed: Committed) -> bool {
        let what = match self.disk_now() {
            _ if self.trouble.poisoned => Disk::Full,
            Some(what) => what,
            None => return false,
        };
        self.trouble.poisoned = true;
        let lost = what != Disk::SyncFails || self.hardware.coin();
        let lost = self.lose_unsynced(lost);
        if self.mutation == Some(Mutation::FailedAppendIgnored) {
            self.schedule(0, Item::Ack { committed });
            return true;
        }
        self.note(|_| format!("---- the append failed, and the daemon ends (batch lost: {lost})"));
        self.coverage.failed_appends += 1;
        let down = self.hardware.pick([10, AGAIN_MS, 300_000]);
        self.stop_short(lost, down);
        true
    }

    /// The same for the log of a handoff, which is in the same store: its runner does not know how it stands, and gives up.
    pub(super) fn disk_refuses_saga(&mut self, effect: EffectId) -> bool {
        let what = match self.disk_now() {
            _ if self.trouble.poisoned => Disk::Full,
            Some(what) => what,
            None => return false,
        };
        self.trouble.poisoned = true;
        let kept = what == Disk::SyncFails && self.hardware.coin();
        if let Some(request) = self.drop_saga(effect, kept) {
            self.coverage.failed_appends += 1;
            let outcome = Outcome::InDoubt { reason: "the store does not answer".to_owned() };
            self.schedule(1, Item::Outcome { request, outcome });
        }
        true
    }

    /// The store's writer takes rows of kept files. When it does not, it takes nothing more in this life of the daemon.
    pub(super) fn writer_takes(&mut self) -> bool {
        self.trouble.poisoned |= self.disk_now().is_some();
        !self.trouble.poisoned
    }

    /// No file can be written at this moment.
    pub(super) fn disk_is_ill(&self) -> bool {
        self.trouble.now.is_some_and(|(what, until)| what != Disk::SyncFails && until > self.clock)
    }

    /// A daemon that would start finds a store that it may not write; it is started again later.
    pub(super) fn store_stays_shut(&mut self, lost: bool) -> bool {
        if self.disk_now() != Some(Disk::ReadOnly) {
            return false;
        }
        self.note(|_| "---- no start: the store may not be written".to_owned());
        self.coverage.failed_starts += 1;
        self.schedule(AGAIN_MS, Item::Restart { lost });
        true
    }

    /// What was written and not synced is there or not. Of a batch that is lost some frames may be on disk all the same.
    /// Answers whether something was lost.
    pub(super) fn lose_unsynced(&mut self, lost: bool) -> bool {
        let frames = self.store.unsynced.as_ref().map_or(0, |batch| batch.events.len() as u64);
        let reached = if lost { self.hardware.below(frames + 1) } else { frames + 1 };
        let Some(kept) = self.store.lose_unsynced(reached) else { return false };
        match (kept, reached) {
            (true, _) => self.coverage.unacknowledged_batches += 1,
            (false, 0) => self.coverage.lost_batches += 1,
            (false, _) => self.coverage.torn_batches += 1,
        }
        !kept
    }

    /// Perhaps the clock jumps: by minutes, seldom by hours.
    pub(super) fn maybe_jump(&mut self) {
        if !self.crashes.permille(self.plan.rates.clock) {
            return;
        }
        let mut by = self.crashes.between(-1_200_000, 1_200_000);
        if self.hardware.permille(200) {
            by *= 60;
        }
        self.wall += by;
        // A daemon's time flows on when the wall clock is set back.
        self.ahead = self.ahead.max(self.wall);
        if by < 0 {
            self.coverage.clock_set_back += 1;
        } else {
            self.coverage.clock_jumps += 1;
        }
        self.note(|_| format!("the clock jumps by {by}"));
    }
}

impl Disk {
    fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::SyncFails => "sync fails",
            Self::ReadOnly => "read-only",
        }
    }

    pub(super) const WORDS: [&'static str; 3] = ["full", "sync fails", "read-only"];
}
