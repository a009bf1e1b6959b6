//! A backup, and the day when it is all that is left: the store is gone with what was done since, and the world is not.

use std::collections::{BTreeMap, BTreeSet};

use dalsegno_core::{Event, IssueId, Recorded, Snapshot, State, apply_with_views};
use dalsegno_durable::saga::event::Entry;

use super::drive::{Item, Sim};
use super::files::Copied;
use super::store::Rows;
use super::{Mutation, Violation};

/// Numbers that a restored journal leaves out, as the real restore does.
const SKIPPED: u64 = 1_000_000;

/// The store as it was at one moment.
#[derive(Debug, Clone)]
pub(super) struct Backup {
    events: Vec<Recorded>,
    rows: Rows,
    snapshot: Option<Snapshot>,
    sagas: BTreeMap<String, Vec<Entry>>,
    files: Copied,
    /// The step at which the files are copied.
    files_at: u64,
    made_at: i64,
}

impl Sim {
    /// A backup is made when its step has come, and is all that is left when that of the loss has.
    pub(super) fn back_up_or_restore(&mut self) -> Result<(), Violation> {
        let Some((made, lost)) = self.plan.rates.restore else { return Ok(()) };
        if self.coverage.steps >= lost {
            self.plan.rates.restore = None;
            return self.restore();
        }
        if let Some(backup) = self.backup.as_mut().filter(|backup| self.coverage.steps >= backup.files_at) {
            self.files.copy_files(&mut backup.files);
        }
        if self.coverage.steps >= made && self.backup.is_none() && self.store.synced() > 0 {
            self.note(|_| "---- a backup is made".to_owned());
            self.backup = Some(Backup {
                events: self.store.events.clone(),
                rows: self.store.rows.clone(),
                snapshot: self.store.snapshot.clone(),
                sagas: self.sagas.clone(),
                files: self.files.copy_rows(),
                files_at: self.coverage.steps + self.kept.below(20),
                made_at: self.now().0,
            });
        }
        Ok(())
    }

    /// The store is lost, and the backup put in its place; what still ran of the lost life is ended.
    fn restore(&mut self) -> Result<(), Violation> {
        let Some(mut backup) = self.backup.take() else { return Ok(()) };
        self.files.copy_files(&mut backup.files);
        self.note(|_| "---- the store is lost, and the backup restored".to_owned());
        self.coverage.restores += 1;
        drop((self.lose_memory(), self.drop_keepings()));
        self.files.restore(backup.files);
        (self.machine, self.zombie) = (None, None);
        self.world.end_agents();
        let since = self.store.synced().saturating_sub(backup.events.len() as u64);
        self.coverage.events_lost += since;

        let mut state = State::default();
        for recorded in &backup.events {
            state.apply(recorded).map_err(|illegal| replayable(&illegal))?;
        }
        let now = self.now().max(state.at);
        self.store.events = backup.events;
        (self.store.rows, self.store.snapshot, self.store.unsynced) = (backup.rows, backup.snapshot, None);
        self.store.fence = state.epoch;
        self.sagas = backup.sagas;
        if self.mutation != Some(Mutation::CopiedBack) {
            let event = Event::JournalRestored {
                epoch: state.epoch + SKIPPED,
                journal: "simulated".to_owned(),
                backup_at: dalsegno_core::Timestamp(backup.made_at),
                skipped: SKIPPED,
            };
            let recorded = Recorded { seq: state.seq + 1, at: now, event };
            let views = apply_with_views(&mut state, &recorded).map_err(|illegal| replayable(&illegal))?;
            self.store.fence = state.epoch;
            self.store.events.push(recorded);
            self.store.rows.put_all(views);
        }
        self.forget_wishes();
        let whole = state.issues.values().filter(|entry| entry.workspace.is_some()).map(|entry| entry.issue.id.clone());
        self.world.restored(state.outbox.count, whole.collect());
        let down = self.hardware.pick([1_000, 3_600_000]);
        self.schedule(down, Item::Restart { lost: true });
        Ok(())
    }
}

fn replayable(illegal: &dalsegno_core::IllegalEvent) -> Violation {
    Violation { rule: "replayable", detail: illegal.to_string() }
}

/// What the lost life left for the judge.
#[derive(Debug, Default)]
pub(crate) struct Aftermath {
    /// Sessions whose use the journal may not know any more.
    pub(crate) sessions: BTreeSet<String>,
    /// Issues of whose workspace the journal says what may not be true any more.
    pub(crate) workspaces: BTreeSet<IssueId>,
    /// A backup was restored.
    pub(crate) restored: bool,
    /// Where the branch was when somebody last looked for lost work.
    pub(crate) looks: BTreeMap<IssueId, Option<dalsegno_core::CommitId>>,
}
