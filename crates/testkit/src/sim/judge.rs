//! The judge: what must hold of the journal, of every batch, and of the end of a history.
#![allow(clippy::wildcard_enum_match_arm, reason = "a simulation looks at the cases that it needs")]

use std::collections::{BTreeMap, BTreeSet};

use dalsegno_core::{
    Batch, Effect, EffectId, EffectOutput, EffectRequest, Event, IssueId, IssueStatus, Machine, Outcome, Phase,
    Recorded, RunId, SNAPSHOT_FORMAT, Snapshot, State, StepState, View, normalized_state, state_in,
};

use super::Violation;
use super::files::Files;
use super::governed::{self, Governed};
use super::store::{Rows, Store};
use super::world::World;

/// What the judge knows from the journal alone; rebuilt from it after a crash.
#[derive(Debug, Default)]
struct Facts {
    /// Latest attempt of each effect, and the position of its intent.
    intents: BTreeMap<EffectId, (u32, u64)>,
    keys: BTreeMap<EffectId, String>,
    ended: BTreeSet<EffectId>,
    /// Keys that ended as done.
    done: BTreeSet<String>,
    /// The newest version of each issue that the machine took in.
    adopted: BTreeMap<IssueId, i64>,
    /// The same, at the moment when the issue became sticky.
    settled: BTreeMap<IssueId, i64>,
    /// Targets of our moves.
    moves: BTreeMap<EffectId, String>,
    /// A probe found the issue where neither we nor the tracker's end had put it, and it was left there.
    moved_on: BTreeSet<IssueId>,
    /// An operator said something of its handoff.
    told: BTreeSet<IssueId>,
    /// An operator let it go on.
    let_go: BTreeSet<IssueId>,
    /// Nobody has looked since the restore what became of it.
    unproved: BTreeSet<IssueId>,
}

impl Facts {
    fn note(&mut self, recorded: &Recorded) {
        match &recorded.event {
            Event::EffectIntended { effect_id, issue, key, attempt, effect, .. } => {
                self.intents.insert(*effect_id, (*attempt, recorded.seq));
                self.keys.insert(*effect_id, key.clone());
                if let Effect::MoveIssue { to, .. } = effect {
                    self.moves.insert(*effect_id, to.clone());
                }
                if let Effect::TellSaga { .. } = effect {
                    self.told.insert(issue.clone());
                }
            }
            Event::EffectEnded { effect_id, issue, outcome, probed, .. } => {
                self.ended.insert(*effect_id);
                if let Outcome::Done { output: EffectOutput::Moved { state } } = outcome
                    && *probed
                    && self.moves.get(effect_id) != Some(state)
                {
                    self.moved_on.insert(issue.clone());
                }
                if let (Outcome::Done { .. }, Some(key)) = (outcome, self.keys.get(effect_id)) {
                    self.done.insert(key.clone());
                }
            }
            Event::IssueSeen { issue } | Event::IssueChanged { issue } => {
                let version = issue.updated_at.map_or(0, |at| at.0);
                let newest = self.adopted.entry(issue.id.clone()).or_default();
                *newest = version.max(*newest);
            }
            Event::JournalRestored { .. } => self.unproved = self.adopted.keys().cloned().collect(),
            Event::RestoreProbed { issue, .. } => drop(self.unproved.remove(issue)),
            Event::IssueGone { issue } => {
                self.adopted.remove(issue);
                self.settled.remove(issue);
            }
            Event::Released { issue, .. } | Event::BudgetSet { issue: Some(issue), .. } => {
                self.let_go.insert(issue.clone());
            }
            Event::BudgetSet { issue: None, .. } => self.let_go.extend(self.adopted.keys().cloned()),
            Event::IssueStatus { issue, from, to, .. } if to.is_sticky() && !from.is_sticky() => {
                self.let_go.remove(issue);
                let newest = self.adopted.get(issue).copied().unwrap_or(0);
                self.settled.insert(issue.clone(), newest);
            }
            Event::IssueStatus { issue, from, to, .. } if from.is_sticky() && !to.is_sticky() => {
                self.moved_on.remove(issue);
            }
            _ => {}
        }
    }
}

/// Watches one history.
#[derive(Debug, Default)]
pub(crate) struct Judge {
    /// The fold of everything that was appended.
    pub(crate) fold: State,
    facts: Facts,
    governed: Governed,
    /// Runs of which this daemon heard that their receipts are another's.
    stale: BTreeSet<RunId>,
    /// The machine may forget what the journal says: only what it does is judged.
    deeds_alone: bool,
}

fn broken(rule: &'static str, detail: String) -> Result<(), Violation> {
    Err(Violation { rule, detail })
}

impl Judge {
    pub(crate) fn new(deeds_alone: bool) -> Self {
        Self { deeds_alone, ..Self::default() }
    }

    /// A batch was handed out: it follows, its decisions were allowed, and its fold is the live state.
    pub(crate) fn append(
        &mut self,
        batch: &Batch,
        live: &State,
        world: &World,
        files: &Files,
    ) -> Result<(), Violation> {
        for recorded in &batch.events {
            if recorded.seq != self.fold.seq + 1 {
                return broken("no_gap", format!("event {} after {}", recorded.seq, self.fold.seq));
            }
            if recorded.at < self.fold.at {
                return broken("time_goes_on", format!("event {} is before its predecessor", recorded.seq));
            }
            self.decision(recorded, world)?;
            self.kept(batch, recorded, files)?;
            self.governed.decision(recorded, &self.fold)?;
            self.fold
                .apply(recorded)
                .map_err(|illegal| Violation { rule: "replayable", detail: illegal.to_string() })?;
            self.facts.note(recorded);
            self.governed.note(recorded, &self.fold);
        }
        if self.fold != *live && !self.deeds_alone {
            return broken("fold_is_live", format!("the fold at {} is not the live state", self.fold.seq));
        }
        Ok(())
    }

    /// A receipt that is told is one, and a run with those of another goes no further.
    fn kept(&self, batch: &Batch, recorded: &Recorded, files: &Files) -> Result<(), Violation> {
        let output = |outcome: &Outcome| match outcome {
            Outcome::Done { output: EffectOutput::CheckEnded { kept, .. } } => kept.clone(),
            _ => None,
        };
        let told = match &recorded.event {
            Event::CheckEnded { kept, .. } => kept.clone(),
            Event::EffectEnded { outcome, .. } => output(outcome),
            Event::SagaStarted { run, .. } if self.stale.contains(run) => {
                return broken("stale_receipt", format!("{run} hands over, and its receipts are another's"));
            }
            Event::RunEnded { run, reason: Some(reason), .. } if reason == "stale_receipt" => {
                let parks = |other: &Recorded| matches!(&other.event, Event::Parked { run: Some(of), reason, .. } if of == run && reason == "stale_receipt");
                if !batch.events.iter().any(parks) {
                    return broken(
                        "stale_receipt",
                        format!("{run} ended for its receipts, and its issue does not park"),
                    );
                }
                None
            }
            _ => None,
        };
        match told.filter(|receipt| !files.vouches(receipt)) {
            Some(receipt) => broken("receipt_is_kept", format!("{receipt:?} is told, and no committed batch has it")),
            None => Ok(()),
        }
    }

    /// The daemon is about to hear that receipts of these runs are another's. Answers those that it has to stop.
    pub(crate) fn hear_stale(&mut self, stale: BTreeSet<RunId>, machine: Option<&Machine>) -> Vec<RunId> {
        let runs = machine.map(|machine| &machine.state().runs);
        let goes_on = |id: &&RunId| {
            let run = runs.and_then(|runs| runs.get(*id));
            run.is_some_and(|run| !run.past_pivot() && run.ending.is_none() && run.phase != Phase::Stopping)
        };
        let stopped: Vec<RunId> = stale.iter().filter(goes_on).cloned().collect();
        self.stale.extend(stopped.iter().cloned());
        stopped
    }

    /// It has heard it.
    pub(crate) fn stopped(&self, stale: &[RunId], machine: Option<&Machine>) -> Result<(), Violation> {
        let runs = machine.map(|machine| &machine.state().runs);
        let goes_on = |id: &&RunId| {
            let run = runs.and_then(|runs| runs.get(*id));
            run.is_some_and(|run| run.ending.as_ref().is_none_or(|ending| ending.reason != "stale_receipt"))
        };
        match stale.iter().find(goes_on) {
            Some(run) => broken("stale_receipt", format!("{run} goes on, and its receipts are another's")),
            None => Ok(()),
        }
    }

    fn decision(&self, recorded: &Recorded, world: &World) -> Result<(), Violation> {
        match &recorded.event {
            Event::RunStarted { run, issue, policy, .. } => {
                let (Some(entry), Some(policy)) = (self.fold.issues.get(issue), self.fold.policies.get(policy)) else {
                    return broken("dispatch", format!("{run} starts without an issue or a policy"));
                };
                let state = normalized_state(&entry.issue.state);
                let busy = self.fold.issues.values().filter(|entry| entry.status.takes_slot());
                let beside = busy.clone().filter(|entry| normalized_state(&entry.issue.state) == state).count();
                let limit = policy.agent.max_concurrent_agents_by_state.get(&state);
                let wrong = [
                    (entry.current_run.is_some(), "a run is live on the issue"),
                    (entry.status.is_sticky(), "the issue is settled"),
                    (self.facts.unproved.contains(issue), "nobody looked what was done since the backup"),
                    (busy.count() >= policy.agent.max_concurrent_agents as usize, "no slot is free"),
                    (limit.is_some_and(|limit| beside >= *limit as usize), "no slot of the state is free"),
                    (!state_in(&state, &policy.tracker.active_states), "the state is not active"),
                    (!entry.issue.dispatchable, "the issue is not dispatchable"),
                    (
                        policy.tracker.required_labels.iter().any(|label| !entry.issue.labels.contains(label)),
                        "a label is missing",
                    ),
                    (entry.runs >= entry.limits.runs.unwrap_or(policy.budget.issue_runs), "all runs are used"),
                ];
                match wrong.iter().find(|(wrong, _)| *wrong) {
                    Some((_, why)) => broken("dispatch", format!("{run} starts on {issue} although {why}")),
                    None => Ok(()),
                }
            }
            Event::RestoreProbed { issue, tip, found } => {
                let there = world.aftermath.looks.get(issue);
                let known = self.fold.issues.get(issue).and_then(|entry| entry.handed_off.as_ref());
                if there != Some(tip) {
                    return broken("lost_work", format!("{issue} is said to be at {tip:?}, and is at {there:?}"));
                }
                if tip.as_ref() != known && found.is_none() {
                    return broken(
                        "lost_work",
                        format!("{issue} is at {tip:?}, not at {known:?}, and nothing is found"),
                    );
                }
                Ok(())
            }
            // Its handoff rested, and moves again: an operator said so.
            Event::IssueStatus { issue, from: IssueStatus::Parked, to: IssueStatus::HandingOff, .. } => {
                let run = self.fold.issues.get(issue).and_then(|entry| entry.current_run.as_ref());
                let delivering = run.and_then(|run| self.fold.runs.get(run)).map(|run| run.phase);
                match delivering == Some(Phase::Delivering) && self.facts.told.contains(issue) {
                    true => Ok(()),
                    false => broken("sticky", format!("the handoff of {issue} goes on by itself")),
                }
            }
            Event::IssueStatus { issue, from, to, .. } if from.is_sticky() && !to.is_sticky() => {
                let version = self.fold.issues.get(issue).and_then(|entry| entry.issue.updated_at).map_or(0, |at| at.0);
                let settled = self.facts.settled.get(issue).copied().unwrap_or(0);
                let moved_on = self.facts.moved_on.contains(issue) || world.moved_on.contains(issue);
                // After a restore nobody can tell whether the lost life moved it.
                let unknown = world.aftermath.restored
                    && world.tracked.get(issue).is_some_and(|tracked| !tracked.moves.is_empty());
                if version > settled || moved_on || unknown || self.facts.let_go.contains(issue) {
                    return Ok(());
                }
                // A person may move the issue between our move and the word that it was done: what the machine took
                // for its own state then is theirs, and the next look rightly reopens it.
                let moves = world.tracked.get(issue).into_iter().flat_map(|tracked| tracked.moves.values());
                let our_last_move = moves.map(|by_us| by_us.at).max();
                if our_last_move.is_some_and(|at| i64::try_from(at).unwrap_or(i64::MAX) < version) {
                    return Ok(());
                }
                broken("sticky", format!("{issue} leaves {} and nobody else changed it", from.as_str()))
            }
            Event::SagaStep { run, step, state, .. } => {
                let handoff = self.fold.runs.get(run).and_then(|run| run.handoff.as_ref());
                let undone = matches!(state, StepState::Undoing | StepState::Undone | StepState::Parked { .. });
                match handoff.and_then(|handoff| handoff.step(*step)) {
                    Some(StepState::Done) if !undone => {
                        broken("heard_once", format!("{run}: {} was done", step.as_str()))
                    }
                    Some(_) | None => Ok(()),
                }
            }
            Event::IssueStatus { issue, to: IssueStatus::HandedOff, .. } => self.handed_off(issue, world),
            _ => Ok(()),
        }
    }

    fn handed_off(&self, issue: &IssueId, world: &World) -> Result<(), Violation> {
        let Some(entry) = self.fold.issues.get(issue) else { return Ok(()) };
        let (Some(commit), Some(branch)) = (&entry.handed_off, &entry.branch) else {
            return broken("handed_off", format!("{issue} is handed off without a commit"));
        };
        if !world.pushes.contains(&(branch.clone(), commit.clone())) {
            return broken("handed_off", format!("{issue} is handed off and {commit} was never pushed"));
        }
        let policy = self.fold.policy();
        let handoff = policy.as_ref().and_then(|policy| policy.handoff.as_ref());
        let wanted = handoff.is_some_and(|handoff| handoff.comment.is_some());
        let linked = entry.pull_request.as_ref().map(|linked| linked.number);
        if handoff.is_some_and(|handoff| handoff.forge.is_some()) && !world.was_ready(linked) {
            return broken("handed_off", format!("{issue} is handed off and pull request {linked:?} was never ready"));
        }
        let key = format!("{}/comment", entry.last_run.as_ref().map_or("", |run| run.as_str()));
        // A handoff after a merge has a comment of its own; one that was refused before had none.
        let merged = format!("{key}/");
        let ours = |comment: &&String| **comment == key || comment.starts_with(&merged);
        let comments = world.tracked.get(issue).map_or(0, |tracked| tracked.comments.iter().filter(ours).count());
        if comments != usize::from(wanted) {
            return broken("one_comment", format!("{issue} is handed off with {comments} comments"));
        }
        Ok(())
    }

    /// An effect is about to be performed.
    pub(crate) fn perform(&self, request: &EffectRequest, synced: u64) -> Result<(), Violation> {
        let id = request.id;
        match self.facts.intents.get(&id) {
            Some((attempt, seq)) if *attempt == request.attempt && *seq <= synced => {}
            Some(_) | None => return broken("intent_first", format!("{id} ({}) has no synced intent", request.key)),
        }
        if self.facts.ended.contains(&id) || self.facts.done.contains(&request.key) {
            return broken("recorded_is_done", format!("{id} ({}) is performed after its outcome", request.key));
        }
        Ok(())
    }

    /// A new daemon read the journal. Judges the ways to read it, and forgets what was lost.
    pub(crate) fn replayed(&mut self, store: &Store, machine: &Machine, lost: bool) -> Result<(), Violation> {
        let mut whole = State::default();
        self.stale.clear();
        if lost {
            (self.facts, self.governed) = (Facts::default(), Governed::default());
        }
        for recorded in &store.events {
            whole.apply(recorded).map_err(|illegal| Violation { rule: "replayable", detail: illegal.to_string() })?;
            if lost {
                self.facts.note(recorded);
                self.governed.note(recorded, &whole);
            }
        }
        if whole != *machine.state() && !self.deeds_alone {
            return broken("snapshot_is_fold", "snapshot and tail differ from the whole journal".to_owned());
        }
        if !lost && self.fold != whole {
            return broken("synced_is_kept", "the journal lost what was synced".to_owned());
        }
        self.fold = whole;
        Ok(())
    }

    /// Every prefix folds, `at` splits into snapshot and tail, and all of it survives being written as JSON.
    pub(crate) fn prefixes(&self, store: &Store, at: u64) -> Result<(), Violation> {
        let unreadable = |error: serde_json::Error| Violation { rule: "readable", detail: error.to_string() };
        let mut fold = State::default();
        let mut split = None;
        for recorded in &store.events {
            let text = serde_json::to_string(recorded).map_err(unreadable)?;
            let read: Recorded = serde_json::from_str(&text).map_err(unreadable)?;
            if read != *recorded {
                return broken("readable", format!("event {} reads back as something else", recorded.seq));
            }
            fold.apply(&read).map_err(|illegal| Violation { rule: "replayable", detail: illegal.to_string() })?;
            if fold.seq == at {
                split = Some(serde_json::to_string(&fold).map_err(unreadable)?);
            }
        }
        let Some(text) = split else { return Ok(()) };
        let state: State = serde_json::from_str(&text).map_err(unreadable)?;
        let tail = store.events.iter().filter(|recorded| recorded.seq > at).cloned();
        let snapshot = Snapshot { format: SNAPSHOT_FORMAT, state };
        let parts = Machine::replay(Some(snapshot), tail)
            .map_err(|corrupt| Violation { rule: "replayable", detail: corrupt.to_string() })?;
        if *parts.state() != fold || fold != self.fold {
            return broken("snapshot_is_fold", format!("snapshot at {at} and tail differ from the whole journal"));
        }
        Ok(())
    }

    /// The ledger has what the models took: never more, and less only where a row says that it may be incomplete.
    pub(crate) fn ledger(&self, store: &Store, world: &World) -> Result<(), Violation> {
        governed::ledger(store, world)
    }

    /// Every issue whose rules all pass at a fresh poll was dispatched.
    pub(crate) fn explained(&self, machine: &Machine) -> Result<(), Violation> {
        for id in machine.state().issues.keys() {
            let Some(explained) = machine.explain(id.as_str()) else {
                return broken("explain", format!("{id} cannot be explained"));
            };
            if !explained.rules.is_empty() && explained.rules.iter().all(|rule| rule.pass) {
                return broken("explain", format!("every rule lets {id} through, and it does not run"));
            }
        }
        Ok(())
    }

    /// The projections hold what the fold gives.
    pub(crate) fn rows(&self, rows: &Rows, machine: &Machine) -> Result<(), Violation> {
        if self.deeds_alone {
            return Ok(());
        }
        let mut issues = 0;
        for view in machine.views() {
            let kept = match &view {
                View::Issue(issue) => {
                    issues += 1;
                    rows.issues.get(&issue.issue.id)
                }
                View::IssueGone(_) => continue,
                View::Run(run) => rows.runs.get(&run.id),
                View::Usage(row) => rows.usage.get(&(row.run.clone(), row.turn, row.place)),
                View::Daemon(_) => rows.daemon.as_ref(),
            };
            if kept.map(undated) != Some(undated(&view)) {
                return broken("projections", format!("the rows have {kept:?}, the fold gives {view:?}"));
            }
        }
        if issues != rows.issues.len() {
            return broken("projections", format!("{} rows of issues, the fold gives {issues}", rows.issues.len()));
        }
        Ok(())
    }

    /// The world is kind, the human at rest, and the machine quiet: everything came to its end.
    pub(crate) fn end(&self, machine: &Machine, store: &Store, world: &World) -> Result<(), Violation> {
        self.explained(machine)?;
        self.rows(&store.rows, machine)?;
        let state = machine.state();
        let Some(policy) = state.policy() else {
            return broken("ends_well", "no policy is in force".to_owned());
        };
        for (id, entry) in &state.issues {
            let terminal = state_in(&entry.issue.state, &policy.tracker.terminal_states);
            let wanted = state_in(&entry.issue.state, &policy.tracker.active_states)
                && entry.issue.dispatchable
                && policy.tracker.required_labels.iter().all(|label| entry.issue.labels.contains(label));
            let well = match entry.status {
                IssueStatus::HandedOff => !terminal,
                IssueStatus::Completed => true,
                IssueStatus::Parked => entry.reason.is_some(),
                IssueStatus::Idle => !wanted,
                // An operator has to go on.
                IssueStatus::Paused | IssueStatus::Canceled => true,
                IssueStatus::WaitingQuestion => entry.question.is_some(),
                IssueStatus::Queued
                | IssueStatus::Running
                | IssueStatus::WaitingRetry
                | IssueStatus::WaitingQuota
                | IssueStatus::WaitingApproval
                | IssueStatus::HandingOff
                | IssueStatus::Failed => false,
            };
            if !well {
                let status = entry.status.as_str();
                let tracker = &entry.issue.state;
                return broken("ends_well", format!("{id} ({tracker}) ends {status}: {:?}", entry.reason));
            }
        }
        for id in world.tracked.keys() {
            let wanted =
                world.read(id, &policy).is_some_and(|issue| state_in(&issue.state, &policy.tracker.active_states));
            if wanted && !state.issues.contains_key(id) {
                return broken("ends_well", format!("{id} is active in the tracker and was never seen"));
            }
        }
        if let Some(process) = world.processes.iter().find(|process| process.alive && !process.stray) {
            return broken("no_stray", format!("a process of {} outlives everything", process.run));
        }
        if !policy.notify.is_empty() {
            told_or_given_up(store, state, world)?;
        }
        self.usage(store, state)
    }

    /// Usage is the sum of the largest report of each turn.
    fn usage(&self, store: &Store, state: &State) -> Result<(), Violation> {
        let mut largest: BTreeMap<(String, u32), u64> = BTreeMap::new();
        for recorded in &store.events {
            if let Event::Usage { run, turn, usage, .. } = &recorded.event {
                let most = largest.entry((run.0.clone(), *turn)).or_default();
                *most = usage.total_tokens.max(*most);
            }
        }
        let sum: u64 = largest.values().sum();
        if sum == state.usage.total_tokens {
            return Ok(());
        }
        broken("usage", format!("reports sum to {sum}, counted are {}", state.usage.total_tokens))
    }
}

/// Each notice was heard, was given up with an event, or waits for its next try.
fn told_or_given_up(store: &Store, state: &State, world: &World) -> Result<(), Violation> {
    let heard: BTreeSet<u64> = world.messages.values().flatten().chain(&world.heard).copied().collect();
    let waiting = state.outbox.queues.iter().flat_map(|queue| queue.waiting.iter().map(|notice| notice.number));
    let waiting: BTreeSet<u64> = waiting.collect();
    let mut fold = State::default();
    let (mut queued, mut given_up) = (BTreeSet::new(), BTreeSet::new());
    for recorded in &store.events {
        match &recorded.event {
            Event::NoticeQueued { notice, .. } => drop(queued.insert(notice.number)),
            Event::NoticesDropped { receiver, all, .. } => {
                for queue in fold.outbox.queues.iter().filter(|queue| queue.receiver == *receiver) {
                    let count = if *all { queue.waiting.len() } else { queue.composed };
                    given_up.extend(queue.waiting.iter().take(count).map(|notice| notice.number));
                }
            }
            _ => {}
        }
        fold.apply(recorded).map_err(|illegal| Violation { rule: "replayable", detail: illegal.to_string() })?;
    }
    match queued
        .into_iter()
        .find(|number| !(heard.contains(number) || given_up.contains(number) || waiting.contains(number)))
    {
        Some(number) => {
            broken("told_or_given_up", format!("notice {number} was neither heard nor given up, and waits nowhere"))
        }
        None => Ok(()),
    }
}

/// The view without the moment at which it was made.
fn undated(view: &View) -> View {
    let mut view = view.clone();
    if let View::Issue(issue) = &mut view {
        issue.changed_at = dalsegno_core::Timestamp(0);
    }
    view
}
