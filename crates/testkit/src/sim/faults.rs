//! Death and return of the daemon, and clocks that jump.
#![allow(clippy::wildcard_enum_match_arm, reason = "a simulation looks at the cases that it needs")]

use dalsegno_core::{
    Effect, EffectId, Event, Input, IssueStatus, Machine, Outcome, Recorded, RunOutcome, SNAPSHOT_FORMAT, Snapshot,
    Timestamp,
};

use super::acts::Fate;
use super::drive::{Item, Sim};
use super::keeping::{live_owners, mend_of_files};
use super::turns::FORGETS;
use super::{Mutation, Violation};
use dalsegno_durable::saga::Act;

impl Sim {
    /// Perhaps the daemon dies now; perhaps the clock jumps.
    pub(super) fn maybe_crash(&mut self, drained: bool) {
        if self.calm || self.machine.is_none() {
            return;
        }
        let before = self.wall;
        self.maybe_jump();
        let now = self.now();
        if self.wall != before
            && self.crashes.coin()
            && let Some(machine) = &mut self.machine
        {
            machine.handle(Input::ClockJumped, now);
        }
        if self.crashes_left == 0 {
            return;
        }
        let target = self.plan.rates.target;
        let aimed = (target.is_some() || self.plan.cuts_keeping)
            && self.agenda.values().any(|item| match item {
                Item::Apply { request, .. }
                | Item::Outcome { request, .. }
                | Item::SagaBegin { request }
                | Item::SagaTell { request } => Some(request.effect.kind()) == target,
                Item::SagaCall { call } => Some(call.deed.kind()) == target,
                Item::Keep { .. } => target == Some("run_check") || self.plan.cuts_keeping,
                _ => false,
            });
        let rate = if aimed { 250 } else { self.plan.rates.crash };
        if self.crashes.permille(rate) {
            self.crashes_left -= 1;
            self.crash(drained);
        }
    }

    /// The daemon is gone: what it had in memory is lost, what it was doing is done or not.
    fn crash(&mut self, drained: bool) {
        self.coverage.crashes += 1;
        let lost = self.crashes.coin();
        let lost = self.lose_unsynced(lost);
        self.note(|_| format!("---- crash (written batch lost: {lost})"));
        let outcomes = self.lose_memory();
        let keepings = self.drop_keepings();
        self.world.orphan(&mut self.crashes);
        if self.plan.astray {
            self.world.go_astray(&mut self.outside);
            let live = self.machine.as_ref().map(live_owners).unwrap_or_default();
            let known = live.into_iter().filter(|owner| self.store.rows.runs.contains_key(&owner.run));
            self.files.go_astray(&known.collect::<Vec<_>>(), &mut self.kept);
        }
        let down = self.crashes.pick([10, 1_000, 60_000, 600_000]);
        let old = self.machine.take();
        // One that has outputs left has not noticed yet, and nobody can hold it back.
        if drained && self.crashes.permille(self.plan.rates.zombie) {
            self.coverage.zombies += 1;
            self.zombie = old.map(|machine| (machine, outcomes, keepings));
            let after = self.crashes.between(0, 2_000);
            self.schedule(down + 1 + after, Item::Zombie);
        }
        self.schedule(down, Item::Restart { lost });
    }

    /// The daemon ends by itself before it does anything unrecorded; it is started again later. Its agents end with it.
    pub(super) fn stop_short(&mut self, lost: bool, down: i64) {
        drop((self.lose_memory(), self.drop_keepings()));
        self.machine = None;
        self.world.end_agents();
        self.schedule(down, Item::Restart { lost });
    }

    /// What the daemon had in memory is lost, what it was doing is done or not. Answers how its effects ended.
    pub(super) fn lose_memory(&mut self) -> Vec<(EffectId, Outcome)> {
        let mut outcomes = Vec::new();
        for (key, item) in std::mem::take(&mut self.agenda) {
            match item {
                Item::Apply { request, fate } => {
                    if self.crashes.coin() {
                        self.coverage.around(request.effect.kind()).crashed_before += 1;
                        continue;
                    }
                    self.coverage.around(request.effect.kind()).crashed_after += 1;
                    let fate = if fate == Fate::Done { Fate::DoneInDoubt } else { fate };
                    if let Effect::Prompt { .. } = request.effect {
                        self.world.hear(&request);
                    } else if let Some(mend) = mend_of_files(&request.effect) {
                        self.half_mend(mend);
                    } else {
                        let outcome = self.world.act(&request, fate, &mut self.fates, false);
                        self.cut_check(&request, &outcome);
                    }
                    self.note(|_| format!("{} took place all the same", request.key));
                }
                Item::Outcome { request, outcome } => {
                    self.coverage.around(request.effect.kind()).crashed_after += 1;
                    let share = self.crashes.below(1_001);
                    self.spend_turn(&request, &outcome, share);
                    if matches!(request.effect, Effect::Prompt { .. }) && self.crashes.permille(FORGETS) {
                        self.forget_prompt(&request.key);
                    }
                    outcomes.push((request.id, outcome));
                }
                Item::Work { .. }
                | Item::Edit
                | Item::Review { .. }
                | Item::Webhook { .. }
                | Item::Wish
                | Item::Send { .. }
                | Item::Zombie => {
                    self.agenda.insert(key, item);
                }
                Item::SagaCall { call } if self.crashes.coin() => {
                    self.coverage.around(call.deed.kind()).crashed_before += 1;
                }
                Item::SagaCall { call } => {
                    // A look changes nothing.
                    let Act::Call(role) = call.act else { continue };
                    self.coverage.around(call.deed.kind()).crashed_after += 1;
                    let fate = if call.fate == Fate::Done { Fate::DoneInDoubt } else { call.fate };
                    self.act(&call.request, &call.deed, role, fate);
                    self.note(|_| format!("{} took place all the same", call.request.key));
                }
                Item::SagaTell { request } => {
                    let heard = self.is_heard(&request.effect);
                    let around = self.coverage.around(request.effect.kind());
                    if heard {
                        around.crashed_after += 1;
                    } else {
                        around.crashed_before += 1;
                    }
                }
                Item::SagaBegin { request } => self.coverage.around(request.effect.kind()).crashed_before += 1,
                Item::SagaSync { .. }
                | Item::SagaReply { .. }
                | Item::SagaWake { .. }
                | Item::Keep { .. }
                | Item::Read { .. }
                | Item::Answer { .. }
                | Item::Sync { .. }
                | Item::Ack { .. }
                | Item::Signal { .. }
                | Item::Restart { .. } => {}
            }
        }
        self.drop_sagas();
        outcomes
    }

    /// A new daemon takes the journal and goes on.
    pub(super) fn restart(&mut self, lost: bool) -> Result<(), Violation> {
        if self.store_stays_shut(lost) {
            return Ok(());
        }
        self.trouble.opened();
        self.stale.clear();
        self.files.open();
        self.files.whole()?;
        let epoch = self.store.take_over();
        let (snapshot, tail) = self.store.load();
        self.coverage.snapshots += u64::from(snapshot.is_some());
        let (snapshot, tail) = match self.mutation {
            Some(mutation) if mutation.forgets() => (None, forget(self.store.events.clone(), mutation)),
            Some(_) | None => (snapshot, tail),
        };
        let machine = Machine::replay(snapshot, tail)
            .map_err(|corrupt| Violation { rule: "replayable", detail: corrupt.to_string() })?;
        self.judge.replayed(&self.store, &machine, lost)?;
        // Its time goes on from its last event, or from the wall clock, whichever is later.
        self.ahead = self.wall.max(machine.state().at.0.saturating_sub(self.clock));
        for run in machine.state().runs.values() {
            self.coverage.recovered(run.phase);
        }
        if self.crashes.permille(400) {
            self.store.snapshot = Some(Snapshot { format: SNAPSHOT_FORMAT, state: machine.state().clone() });
        }
        self.machine = Some(machine);
        self.note(|_| format!("---- start, epoch {epoch}"));
        if self.mutation == Some(Mutation::RecordedPerformedAgain)
            && epoch > 1
            && let Some(request) = self.last_done.take()
        {
            self.perform(request)?;
        }
        self.hand_in(Input::Started { epoch, version: "0".to_owned(), pid: 1 })?;
        if self.machine.is_some() {
            self.load_policy()?;
        }
        Ok(())
    }
}

/// The journal as a machine reads it that forgets.
fn forget(mut events: Vec<Recorded>, mutation: Mutation) -> Vec<Recorded> {
    for recorded in &mut events {
        match (&mut recorded.event, mutation) {
            (Event::IssueStatus { to: IssueStatus::WaitingRetry, due_at, .. }, Mutation::RetryForgets)
            | (Event::IssueStatus { to: IssueStatus::WaitingQuota, due_at, .. }, Mutation::QuotaForgets) => {
                *due_at = due_at.map(|_| Timestamp(0));
            }
            (Event::AgentSuspended { until, .. }, Mutation::QuotaForgets) => *until = Timestamp(0),
            (Event::RunEnding { ending, .. }, Mutation::BreakerForgets) if ending.outcome == RunOutcome::Failed => {
                ending.outcome = RunOutcome::Interrupted;
            }
            (Event::Progress { progressed, .. }, Mutation::BreakerForgets) => *progressed = true,
            (Event::Parked { held_until, .. }, Mutation::BreakerForgets) => *held_until = None,
            (Event::ActionAccepted { idempotency_key, .. }, Mutation::KeyForgets) => *idempotency_key = None,
            _ => {}
        }
    }
    events
}
