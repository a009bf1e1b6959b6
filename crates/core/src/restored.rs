//! A journal that was restored from a backup: what its lost life did since the backup is looked for before anything is done again.
//!
//! # States
//! An issue is *unproved* from the restore until somebody looked. So is one that is seen for the first time later, if it may be older than
//! the restore.
//!
//! # Transitions
//! - A run that was live in the backup ends as interrupted when its sweep is through; only a handoff goes on, and each of its steps is looked for
//!   before it is done.
//! - An unproved issue that would be dispatched is looked at first: where its branch is on the remote. Where we last put it: the issue is proved,
//!   and dispatched. Anywhere else, or when the tracker shows a change of an issue that was being worked on: it parks. What cannot be told is asked
//!   again with the next poll.
//!
//! - Where the backup knows no workspace, one that is there may be without `after_create`: the script runs in it, rather once too often.
//!
//! # Invariants
//! - No number of a run, an effect or an action comes again: what the lost life wrote under one is never taken for ours.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::effect::{Effect, EffectRequest, Failure, Query};
use crate::event::Event;
use crate::ids::{CommitId, EffectId, IssueId, RunId};
use crate::issue::{IssueEntry, IssueStatus};
use crate::machine::{Machine, Purpose, known_branch};
use crate::run::{Ending, Phase, RunOutcome, Then};
use crate::state::State;
use crate::time::Timestamp;

/// Why a run of the backup ends.
const RESTORED: &str = "journal_restored";
/// Why an issue parks.
const WORK_FOUND: &str = "restored_work_found";
/// Why an unproved issue waits.
pub(crate) const UNPROVED: &str = "what was done since the backup is looked for";

/// What is known of an issue that nobody has looked at since the restore.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unproved {
    /// It was being worked on in the backup.
    pub worked_on: bool,
    /// When the tracker's snapshot of the backup was last changed.
    pub updated_at: Option<Timestamp>,
}

/// The last restore.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restored {
    /// Identity of the journal that the backup was made of.
    pub journal: String,
    /// When the backup was made.
    pub backup_at: Timestamp,
    /// When it was restored.
    pub at: Timestamp,
}

impl State {
    /// The fold of the restore.
    pub(crate) fn restore(&mut self, journal: &str, backup_at: Timestamp, skipped: u64, at: Timestamp) {
        self.restored = Some(Restored { journal: journal.to_owned(), backup_at, at });
        self.run_count = self.run_count.saturating_add(skipped);
        self.effect_count = self.effect_count.saturating_add(skipped);
        self.action_count = self.action_count.saturating_add(skipped);
        for run in self.runs.values_mut() {
            run.restored = true;
        }
        for entry in self.issues.values_mut().chain(self.gone.values_mut()).map(Arc::make_mut) {
            let waits = matches!(
                entry.status,
                IssueStatus::WaitingRetry
                    | IssueStatus::WaitingQuota
                    | IssueStatus::WaitingQuestion
                    | IssueStatus::WaitingApproval
                    | IssueStatus::Paused
            );
            let worked_on = entry.current_run.is_some() || waits;
            entry.unproved = Some(Unproved { worked_on, updated_at: entry.issue.updated_at });
            // The lost life may have made one and not come to the end of it.
            entry.workspace_unsure |= entry.workspace.is_none();
        }
    }

    /// What a new issue is, should it be older than the last restore: the lost life may have seen it.
    pub(crate) fn unproved_if_older(&self, created_at: Option<Timestamp>) -> Option<Unproved> {
        let restored = self.restored.as_ref()?;
        let is_newer = created_at.is_some_and(|created_at| created_at > restored.at);
        (!is_newer).then_some(Unproved { worked_on: false, updated_at: None })
    }
}

impl Machine {
    /// A run of the backup is swept. Answers whether it ends with that.
    pub(crate) fn end_restored(&mut self, id: &RunId) -> bool {
        let Some(run) = self.state.runs.get(id).filter(|run| run.restored) else { return false };
        match run.phase {
            // A question is held as after any restart, and its answer waits for the look, too.
            Phase::Prompting if self.state.issues.get(&run.issue).is_some_and(|entry| entry.question.is_some()) => {
                false
            }
            Phase::Preparing
            | Phase::AfterCreate
            | Phase::Claiming
            | Phase::BeforeRun
            | Phase::Launching
            | Phase::Prompting
            | Phase::Assessing
            | Phase::Committing
            | Phase::Fetching
            | Phase::Checking { .. }
            | Phase::Closing
            | Phase::Bringing => {
                let reason = RESTORED.to_owned();
                self.stop_run(id, Ending { outcome: RunOutcome::Interrupted, reason, then: Then::Continue });
                true
            }
            Phase::Delivering | Phase::AfterRun | Phase::Stopping | Phase::Ended => false,
        }
    }

    /// Looks where the branch of an issue is, before it is dispatched for the first time after a restore.
    pub(crate) fn look_for_lost_work(&mut self, id: &IssueId) {
        if self.looking.contains(id) {
            return;
        }
        let (Some(entry), Some(policy)) = (self.state.issues.get(id), self.state.policy()) else { return };
        let Some(policy_hash) = self.state.policy.clone() else { return };
        let request = EffectRequest {
            id: EffectId(0),
            key: format!("issue/{id}/look"),
            attempt: 1,
            issue: (*entry.issue).clone(),
            run: None,
            policy,
            policy_hash,
            workspace: entry.workspace.clone(),
            known_branch: known_branch(entry),
            grants: Vec::new(),
            unwanted: false,
            restored: true,
            effect: Effect::PrepareWorkspace { fresh: false },
        };
        self.looking.insert(id.clone());
        self.ask(Purpose::LostWork { issue: id.clone() }, Query::LostWork { request: Box::new(request) });
    }

    pub(crate) fn looked_for_lost_work(&mut self, id: &IssueId, tip: Result<Option<CommitId>, Failure>) {
        self.looking.remove(id);
        let Some(entry) = self.state.issues.get(id) else { return };
        let Some(unproved) = entry.unproved.clone() else { return };
        let tip = match tip {
            Ok(tip) => tip,
            // Asked again with the next poll.
            Err(failure) => {
                if entry.status == IssueStatus::Queued {
                    let why = format!("{failure} ({UNPROVED})");
                    self.set_status(id, IssueStatus::Queued, Some(&why), None);
                }
                return;
            }
        };
        let found = lost_work(entry, &unproved, tip.as_ref());
        self.emit(Event::RestoreProbed { issue: id.clone(), tip, found: found.clone() });
        match found {
            Some(found) => self.park_issue(id, None, WORK_FOUND, found, None),
            None => self.poll_soon(),
        }
    }
}

/// What shows that the lost life went on with the issue.
fn lost_work(entry: &IssueEntry, unproved: &Unproved, tip: Option<&CommitId>) -> Option<String> {
    let Unproved { worked_on, updated_at } = unproved;
    if tip != entry.handed_off.as_ref() {
        let there = tip.map_or_else(|| "is gone".to_owned(), |tip| format!("is at {tip}"));
        let ours = entry.handed_off.as_ref().map_or_else(|| "no push".to_owned(), |ours| format!("a push of {ours}"));
        return Some(format!("its branch {there}, and the backup knows of {ours}"));
    }
    let changed = *worked_on && *updated_at != entry.issue.updated_at;
    changed.then(|| {
        "it was being worked on when the backup was made, and the tracker says that it was changed since".to_owned()
    })
}
