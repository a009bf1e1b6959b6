//! Quota: what a refusal of a model's provider does to the agents of that kind.
//!
//! # States
//! A kind of agent is available, or suspended until a moment that is in the journal ([`State::suspended`]). An issue
//! whose run was refused is `waiting_quota` until then; issues of other kinds go on.
//!
//! # Transitions
//! - A refusal with a reset time ahead, at most [`FURTHEST_MS`] away: `agent_suspended` until the latest of these, and
//!   the run ends; the issue goes on when the time has come. With `quota.resume_at_reset: false`, or with a time that is
//!   further away, the issue parks with `quota_exhausted` instead and nothing is suspended.
//! - A refusal without a reset time, or with one that is past: a next run with backoff.
//! - The moment has come: `agent_resumed`.
//!
//! # Invariants
//! - No run of a suspended kind starts.
//! - The moment survives every restart; it is never moved closer.
//! - Each refusal ends a run, and runs are counted: a provider that refuses for ever meets the ceiling of runs.
//!
//! [`State::suspended`]: crate::State::suspended

use crate::event::Event;
use crate::ids::RunId;
use crate::machine::Machine;
use crate::policy::AgentKind;
use crate::run::{Ending, RunOutcome, Then};
use crate::time::Timestamp;

/// The furthest reset time that is waited for: providers' longest windows are a week.
pub(crate) const FURTHEST_MS: u64 = 8 * 86_400_000;

impl Machine {
    /// The provider refused the run's turn.
    pub(crate) fn refused(&mut self, run: &RunId, reset_at: Option<Timestamp>) {
        self.emit(Event::RateLimited { run: run.clone(), reset_at });
        let Some(policy) = self.state.policy_of(run) else { return };
        let kind = policy.agent.kind;
        let Some(until) = reset_at.filter(|reset_at| *reset_at > self.now) else {
            let reason = "rate_limited: the model's provider refuses for a while".to_owned();
            let then = Then::RetryAfterFailure { not_before: None };
            self.stop_run(run, Ending { outcome: RunOutcome::Interrupted, reason, then });
            return;
        };
        let wait_ms = until.since_ms(self.now);
        if wait_ms > FURTHEST_MS || !policy.quota.resume_at_reset {
            let why = if wait_ms > FURTHEST_MS {
                "further away than is waited for"
            } else {
                "and quota.resume_at_reset is off"
            };
            let detail =
                format!("the provider of agent kind {} refuses for {} s more, {why}", kind.as_str(), wait_ms / 1_000);
            self.park_run(run, "quota_exhausted", detail);
            return;
        }
        if self.state.suspended.get(&kind).is_none_or(|known| *known < until) {
            self.emit(Event::AgentSuspended { agent: kind, until, run: run.clone() });
        }
        let reason = "quota_exhausted: the provider named the time when the quota resets".to_owned();
        self.stop_run(run, Ending { outcome: RunOutcome::Interrupted, reason, then: Then::WaitQuota { until } });
    }

    /// Until when agents of the kind are suspended.
    pub(crate) fn suspended_until(&self, kind: AgentKind) -> Option<Timestamp> {
        self.state.suspended.get(&kind).copied().filter(|until| *until > self.now)
    }

    /// Ends suspensions whose time has come.
    pub(crate) fn end_suspensions(&mut self) {
        let over: Vec<AgentKind> =
            self.state.suspended.iter().filter(|(_, until)| **until <= self.now).map(|(kind, _)| *kind).collect();
        for agent in over {
            self.emit(Event::AgentResumed { agent });
            self.poll_soon();
        }
    }

    pub(crate) fn suspensions_due(&self) -> Option<Timestamp> {
        self.state.suspended.values().min().copied()
    }
}
