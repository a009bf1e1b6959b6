//! What becomes of an effect whose outcome nobody knows.

use std::time::Duration;

use super::{Cell, Flight, Held};
use crate::attempt::{Ended, attempt};
use crate::error::{DurableError, EffectError, ErrorClass};
use crate::host::{EffectPlan, Probed};
use crate::record::{self, EffectState, Outcome, Settle};

/// Looks of one probe that may tell nothing before the effect is left to an operator.
const PROBES: u32 = 3;
/// Pause before such a look is tried again; doubles.
const PROBE_PAUSE: Duration = Duration::from_millis(500);
/// The longest that a probe may take.
const PROBE_LIMIT: Duration = Duration::from_secs(60);

impl Cell {
    /// Settles a doubt by the effect's policy. `Some`: the world told how it ended. `None`: another attempt is recorded, and
    /// is to be made.
    pub(super) async fn settle_doubt(
        &self,
        flight: &mut Flight<'_>,
        at: &mut Held,
        plan: &EffectPlan<'_>,
        reason: String,
    ) -> Result<Option<Outcome>, DurableError> {
        let mut state = at.state.clone();
        state.doubts += 1;
        let parked = match record::settle(&state, plan.in_doubt) {
            Settle::Again => {
                state.again(self.lease.epoch);
                self.change(flight, at, state).await?;
                return Ok(None);
            }
            Settle::Probe => match self.probe(&flight.key, &state, plan).await {
                Probed::Applied(output) => return Ok(Some(Outcome::Done(output))),
                Probed::NotApplied => {
                    state.not_applied(self.lease.epoch);
                    self.change(flight, at, state).await?;
                    return Ok(None);
                }
                Probed::Inconclusive(error) => format!("{reason}; the probe could not tell: {error}"),
            },
            Settle::Park => reason,
        };
        state.park(self.lease.epoch, parked.clone());
        self.change(flight, at, state).await?;
        Err(DurableError::InDoubt { replay_key: flight.key.clone(), reason: parked })
    }

    async fn probe(&self, replay_key: &str, state: &EffectState, plan: &EffectPlan<'_>) -> Probed {
        let Some(probe) = plan.probe else {
            return Probed::Inconclusive(EffectError::permanent("probe_missing", "the call has no probe"));
        };
        let clock = &self.shared.options.clock;
        let mut pause = PROBE_PAUSE;
        for look in 1..=PROBES {
            let call = self.call(replay_key, state, Some(clock.now().after(PROBE_LIMIT)));
            let cancel = call.cancel.clone();
            let looked = async { probe(call).await };
            let told = match attempt(looked, Some(PROBE_LIMIT), &cancel).await {
                Ended::Answered(Probed::Inconclusive(error)) => error,
                Ended::Answered(told) => return told,
                Ended::InDoubt(doubt) => EffectError::unknown("probe_failed", doubt.to_string()),
            };
            if look == PROBES || told.class == ErrorClass::Permanent || self.lost.is_cancelled() {
                return Probed::Inconclusive(told);
            }
            clock.until(clock.now().after(pause)).await;
            pause = pause.saturating_mul(2);
        }
        Probed::Inconclusive(EffectError::unknown("probe_failed", "no look told anything"))
    }
}
