//! How long agents have been silent while a turn is open, and when that is too long.
//!
//! The last signs belong to this daemon's life: after a restart they begin with the next prompt.
//!
//! # Invariants
//! - When the first agent stalls is what a walk over all runs finds. Builds with assertions take that walk too, and compare.

use std::collections::BTreeMap;

use crate::deadlines::Deadlines;
use crate::ids::RunId;
use crate::machine::Machine;
use crate::run::{Ending, Phase, Run, RunOutcome, Then};
use crate::time::Timestamp;

/// The last signs of agents, and when their silence will have been too long.
#[derive(Debug, Default)]
pub(crate) struct Silence {
    last: BTreeMap<RunId, Timestamp>,
    stalls: Deadlines<RunId>,
}

impl Machine {
    /// The agent gave a sign, or its silence is measured from now on.
    pub(crate) fn sign_of_life(&mut self, run: &RunId) {
        self.silence.last.insert(run.clone(), self.now);
        self.look_at_silence(run);
    }

    /// Its silence is measured from the moment that its prompt goes out.
    pub(crate) fn silent_until_prompt(&mut self, run: &RunId) {
        self.silence.last.remove(run);
        self.look_at_silence(run);
    }

    /// Nobody can tell how long it was: every silence is measured anew.
    pub(crate) fn silences_start_over(&mut self) {
        for run in self.silence.last.keys().cloned().collect::<Vec<_>>() {
            self.sign_of_life(&run);
        }
    }

    /// Something of the run may have changed, or it is over.
    pub(crate) fn look_at_silence(&mut self, id: &RunId) {
        let run = self.state.runs.get(id);
        if run.is_none() {
            self.silence.last.remove(id);
        }
        let due = run.and_then(|run| self.stalls_at(run));
        self.silence.stalls.set(id, due);
    }

    /// When the run will have been silent for longer than it may.
    fn stalls_at(&self, run: &Run) -> Option<Timestamp> {
        let last = self.silence.last.get(&run.id).filter(|_| run.phase == Phase::Prompting)?;
        let limit = self.state.policies.get(&run.policy)?.agent.stall_timeout_ms;
        let limit = u64::try_from(limit).ok().filter(|limit| *limit > 0 && !self.waits_for_answer(run))?;
        Some(last.after_ms(limit.saturating_add(1)))
    }

    /// Ends the runs of agents that have been silent for too long.
    pub(crate) fn stalls(&mut self) {
        debug_assert_eq!(
            self.silence.stalls.first(),
            self.state.runs.values().filter_map(|run| self.stalls_at(run)).min(),
            "who stalls first is what a walk finds"
        );
        for run in self.silence.stalls.until(self.now) {
            let Some(last) = self.silence.last.get(&run) else { continue };
            let reason = format!("stalled: no sign of the agent for {} s", self.now.since_ms(*last) / 1_000);
            let then = Then::RetryAfterFailure { not_before: None };
            self.stop_run(&run, Ending { outcome: RunOutcome::Failed, reason, then });
        }
    }

    /// When the first agent stalls.
    pub(crate) fn stall_due(&self) -> Option<Timestamp> {
        self.silence.stalls.first()
    }
}
