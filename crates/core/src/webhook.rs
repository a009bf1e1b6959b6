//! What is done when a service says that something changed: one issue is looked at alone, or the tracker is read early.
//!
//! # Invariants
//! - A webhook decides nothing and is not journaled: what the look finds is, as if a poll had found it. So one that is
//!   forged, lost, repeated or out of order costs or saves a look, and no more.
//! - One look at a time; of an issue one in [`LOOK_EVERY_MS`]; [`MAX_NAMED`] issues at once. What is beyond that, or names no
//!   issue that is known, is an early poll, of which there is one in [`LOOK_EVERY_MS`].
//! - What a look saw never takes the place of something newer: when a poll was answered meanwhile, or we wrote to the issue, it
//!   is looked at again.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::effect::{Failure, Query};
use crate::ids::IssueId;
use crate::issue::{Issue, IssueStatus};
use crate::machine::{Machine, Purpose};
use crate::policy::Policy;
use crate::run::Phase;
use crate::time::Timestamp;

/// Issues that wait for a look, or were looked at within the last second; beyond that the tracker is read.
const MAX_NAMED: usize = 50;
/// Shortest time between two looks at an issue, and between a poll and an early one, in milliseconds.
const LOOK_EVERY_MS: u64 = 1_000;
/// After a webhook of the tracker's own service polls are rarer for so long, in milliseconds.
const HEARD_FOR_MS: u64 = 600_000;
/// By so much.
const RARER: u64 = 10;
/// But never rarer than this, in milliseconds, unless the policy itself says so.
const RAREST_MS: u64 = 300_000;

/// An issue that a webhook named.
#[derive(Debug)]
struct Named {
    issue: IssueId,
    /// When it may be looked at.
    due_at: Timestamp,
    wanted: bool,
}

/// A look that is under way.
#[derive(Debug)]
struct UnderWay {
    issue: IssueId,
    /// The last poll that was answered when it was asked.
    polls: u64,
    /// We wrote to the issue since.
    written: bool,
}

/// Looks at single issues. Belongs to this daemon's life: after a restart the tracker is read anyway.
#[derive(Debug, Default)]
pub(crate) struct Looks {
    named: VecDeque<Named>,
    under_way: Option<UnderWay>,
    /// Until then webhooks of the tracker's own service count as heard.
    heard_until: Timestamp,
}

impl Looks {
    pub(crate) fn are_done(&self) -> bool {
        self.under_way.is_none() && !self.named.iter().any(|named| named.wanted)
    }

    /// We wrote to the issue: what a look that is under way says of it may be older than that.
    pub(crate) fn written(&mut self, issue: &IssueId) {
        if let Some(look) = self.under_way.as_mut().filter(|look| look.issue == *issue) {
            look.written = true;
        }
    }

    fn has_room_for(&self, issue: &IssueId, now: Timestamp) -> bool {
        let counts = |named: &&Named| named.wanted || named.due_at > now;
        self.named.iter().any(|named| named.issue == *issue) || self.named.iter().filter(counts).count() < MAX_NAMED
    }

    fn want(&mut self, issue: IssueId, now: Timestamp) {
        self.forget(now);
        match self.named.iter_mut().find(|named| named.issue == issue) {
            Some(named) => named.wanted = true,
            None => self.named.push_back(Named { issue, due_at: now, wanted: true }),
        }
    }

    fn forget(&mut self, now: Timestamp) {
        self.named.retain(|named| named.wanted || named.due_at > now);
    }
}

impl Machine {
    /// The identifier of the issue that a webhook with these names would have looked at alone; `None`: the tracker is read.
    #[must_use]
    pub fn looks_at(&self, names: &[String]) -> Option<String> {
        self.named_by(names).map(|issue| issue.identifier.clone())
    }

    fn named_by(&self, names: &[String]) -> Option<&Issue> {
        let known = &self.state.issues.get(names.iter().find_map(|name| self.index.named(name))?)?.issue;
        self.looks.has_room_for(&known.id, self.now).then_some(known)
    }

    /// A verified webhook came.
    pub(crate) fn webhook(&mut self, names: &[String]) {
        if !names.is_empty() {
            self.looks.heard_until = self.now.after_ms(HEARD_FOR_MS);
        }
        match self.named_by(names).map(|issue| issue.id.clone()) {
            Some(issue) => self.looks.want(issue, self.now),
            None => self.poll_early(LOOK_EVERY_MS),
        }
    }

    /// When the tracker is read again after a poll that was answered well: as the policy says, or more rarely while its service
    /// tells by itself what changes.
    pub(crate) fn next_poll(&self, policy: &Policy) -> Timestamp {
        let usual = policy.poll_interval_ms;
        let rare = usual.saturating_mul(RARER).min(usual.max(RAREST_MS));
        self.now.after_ms(usual).max(self.now.after_ms(rare).min(self.looks.heard_until))
    }

    /// Begins the next look that is due.
    pub(crate) fn look_at_named(&mut self) {
        let Some(policy) = self.state.policy().filter(|_| !self.draining && self.looks.under_way.is_none()) else {
            return;
        };
        let now = self.now;
        self.looks.forget(now);
        let Some(named) = self.looks.named.iter_mut().find(|named| named.wanted && named.due_at <= now) else { return };
        (named.wanted, named.due_at) = (false, now.after_ms(LOOK_EVERY_MS));
        let issue = named.issue.clone();
        self.looks.under_way = Some(UnderWay { issue: issue.clone(), polls: self.polls_answered(), written: false });
        self.ask(Purpose::Look, Query::Look { issue, policy });
    }

    /// When the next look is due; none while one is under way.
    pub(crate) fn looks_due(&self) -> Option<Timestamp> {
        let may = !self.draining && self.state.policy.is_some() && self.looks.under_way.is_none();
        self.looks.named.iter().filter(|named| may && named.wanted).map(|named| named.due_at).min()
    }

    /// What a look saw; `None` in it: the issue is not visible any more.
    pub(crate) fn looked(&mut self, seen: Result<Option<Issue>, Failure>) {
        let Some(UnderWay { issue, polls, written }) = self.looks.under_way.take() else { return };
        let Some(policy) = self.state.policy() else { return };
        let Some(entry) = self.state.issues.get(&issue) else { return };
        let assessing = entry.current_run.as_ref().and_then(|run| self.state.runs.get(run));
        let assessing = assessing.is_some_and(|run| run.phase == Phase::Assessing);
        if written || assessing || polls != self.polls_answered() {
            // Something newer may be known, or is about to be.
            self.looks.want(issue, self.now);
            return;
        }
        match seen {
            Ok(Some(seen)) if seen.id == issue => self.note_snapshot(Arc::new(seen), &policy),
            Ok(None) if entry.status == IssueStatus::Completed => {}
            Ok(None) => self.issue_gone(&issue),
            // It told nothing of the issue; a poll does, or says why not.
            Ok(Some(_)) | Err(_) => return self.poll_early(LOOK_EVERY_MS),
        }
        self.own_write(&issue);
        self.reconcile_issue(&issue, &policy);
        if self.poll.is_fresh() {
            self.dispatch(&policy, Some(&issue));
        }
    }

    /// The look was answered with something else.
    pub(crate) fn look_failed(&mut self) {
        self.looks.under_way = None;
        self.poll_early(LOOK_EVERY_MS);
    }
}
