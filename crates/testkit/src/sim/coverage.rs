//! What the histories walked over: a part of the machine that no crash ever met is a finding.

use std::collections::{BTreeMap, BTreeSet};

use dalsegno_core::{Batch, Effect, Event, Phase, Remedy, RunId};

use super::deed::Deed;
use super::disk::Disk;
use super::keeping::STEPS;

/// Crashes around one kind of effect.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Around {
    /// Times that it was performed.
    pub performed: u64,
    /// The daemon died before the world changed.
    pub crashed_before: u64,
    /// The daemon died after the world changed and before it knew.
    pub crashed_after: u64,
    /// It ended in doubt while the daemon lived.
    pub doubted: u64,
    /// It failed.
    pub failed: u64,
}

/// Counters over many histories.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Coverage {
    /// Histories.
    pub histories: u64,
    /// Steps of all histories.
    pub steps: u64,
    /// Events journaled.
    pub events: u64,
    /// Crashes.
    pub crashes: u64,
    /// Batches that were lost with a crash.
    pub lost_batches: u64,
    /// Batches of which only a part had reached the disk: they count for nothing, too.
    pub torn_batches: u64,
    /// Batches that were on disk although nobody heard so.
    pub unacknowledged_batches: u64,
    /// Old daemons that went on for a while.
    pub zombies: u64,
    /// Appends that were refused to them.
    pub refused_appends: u64,
    /// Restarts from a snapshot.
    pub snapshots: u64,
    /// Handoffs that were taken up from their logs.
    pub sagas_resumed: u64,
    /// Times that the clock jumped forwards.
    pub clock_jumps: u64,
    /// Times that the clock was set back.
    pub clock_set_back: u64,
    /// Backups that were restored.
    pub restores: u64,
    /// Events that were lost with what they were made of.
    pub events_lost: u64,
    /// Looks for lost work that were answered, and those that found some.
    pub looks: u64,
    /// The latter.
    pub lost_work: u64,
    /// What went wrong with the disk.
    pub disk: BTreeMap<&'static str, u64>,
    /// Appends that failed, each the last of its daemon.
    pub failed_appends: u64,
    /// Batches of kept files, by how they ended.
    pub batches: BTreeMap<&'static str, u64>,
    /// Batches of kept files that a crash cut, by what was being done.
    pub cut_batches: BTreeMap<&'static str, u64>,
    /// Handoffs of runs whose receipts were another's, begun before a look could tell.
    pub unlooked_handoffs: u64,
    /// Daemons that did not start, because the store may not be written.
    pub failed_starts: u64,
    /// Agents that died in a turn while the daemon lived.
    pub deaths: u64,
    /// Prompts that an agent had taken and that its session lost with its death.
    pub lost_prompts: u64,
    /// Edits by the human.
    pub edits: u64,
    /// Looks of the human at what was handed over, who sends it back.
    pub reviews: u64,
    /// Webhooks for which an issue was looked at alone.
    pub named_webhooks: u64,
    /// Webhooks for which the tracker was read early.
    pub other_webhooks: u64,
    /// Answers to operators, by what they wanted and how it was answered.
    pub actions: BTreeMap<String, u64>,
    /// Query answers that failed.
    pub failed_queries: u64,
    /// Runs in each phase when a new daemon took over.
    pub recovered: BTreeMap<&'static str, u64>,
    /// Effects by kind.
    pub effects: BTreeMap<&'static str, Around>,
    /// Issues by their status at the end.
    pub ends: BTreeMap<&'static str, u64>,
    /// Reasons of parked issues at the end.
    pub parked: BTreeMap<String, u64>,
}

impl Coverage {
    pub(crate) fn around(&mut self, kind: &'static str) -> &mut Around {
        self.effects.entry(kind).or_default()
    }

    /// What was found of lost work, if somebody looked.
    pub(crate) fn note_looks(&mut self, batch: &Batch) {
        for recorded in &batch.events {
            if let Event::RestoreProbed { found, .. } = &recorded.event {
                self.looks += 1;
                self.lost_work += u64::from(found.is_some());
            }
        }
    }

    /// A handoff begins, and nobody could know that the receipts of its run are another's.
    pub(crate) fn note_stale(&mut self, batch: &Batch, stale: &BTreeSet<RunId>) {
        let begun = batch
            .events
            .iter()
            .filter(|recorded| matches!(&recorded.event, Event::SagaStarted { run, .. } if stale.contains(run)));
        self.unlooked_handoffs += begun.count() as u64;
    }

    pub(crate) fn recovered(&mut self, phase: Phase) {
        *self.recovered.entry(phase.as_str()).or_default() += 1;
    }

    /// Adds the counters of other histories.
    pub fn add(&mut self, other: &Self) {
        self.histories += other.histories;
        self.steps += other.steps;
        self.events += other.events;
        self.crashes += other.crashes;
        self.lost_batches += other.lost_batches;
        self.torn_batches += other.torn_batches;
        self.unacknowledged_batches += other.unacknowledged_batches;
        self.zombies += other.zombies;
        self.refused_appends += other.refused_appends;
        self.snapshots += other.snapshots;
        self.sagas_resumed += other.sagas_resumed;
        self.clock_jumps += other.clock_jumps;
        self.clock_set_back += other.clock_set_back;
        self.failed_appends += other.failed_appends;
        self.restores += other.restores;
        self.events_lost += other.events_lost;
        self.looks += other.looks;
        self.lost_work += other.lost_work;
        self.failed_starts += other.failed_starts;
        self.unlooked_handoffs += other.unlooked_handoffs;
        for (how, count) in &other.batches {
            *self.batches.entry(how).or_default() += count;
        }
        for (step, count) in &other.cut_batches {
            *self.cut_batches.entry(step).or_default() += count;
        }
        for (what, count) in &other.disk {
            *self.disk.entry(what).or_default() += count;
        }
        self.deaths += other.deaths;
        self.lost_prompts += other.lost_prompts;
        self.edits += other.edits;
        self.reviews += other.reviews;
        self.named_webhooks += other.named_webhooks;
        self.other_webhooks += other.other_webhooks;
        self.failed_queries += other.failed_queries;
        for (phase, count) in &other.recovered {
            *self.recovered.entry(phase).or_default() += count;
        }
        for (status, count) in &other.ends {
            *self.ends.entry(status).or_default() += count;
        }
        for (answer, count) in &other.actions {
            *self.actions.entry(answer.clone()).or_default() += count;
        }
        for (reason, count) in &other.parked {
            *self.parked.entry(reason.clone()).or_default() += count;
        }
        for (kind, around) in &other.effects {
            let sum = self.effects.entry(kind).or_default();
            sum.performed += around.performed;
            sum.crashed_before += around.crashed_before;
            sum.crashed_after += around.crashed_after;
            sum.doubted += around.doubted;
            sum.failed += around.failed;
        }
    }

    /// Places that a crash has to meet and did not meet in these histories.
    #[must_use]
    pub fn unmet(&self) -> Vec<String> {
        let mut unmet = Vec::new();
        if self.deaths == 0 {
            unmet.push("no agent died in a turn".to_owned());
        }
        if self.lost_prompts == 0 {
            unmet.push("no session lost a prompt".to_owned());
        }
        if self.named_webhooks == 0 || self.other_webhooks == 0 {
            unmet.push("no webhook named an issue that is known, or none that is not".to_owned());
        }
        let times = [
            (self.clock_jumps, "the clock never jumped"),
            (self.clock_set_back, "the clock was never set back"),
            (self.lost_batches, "no batch was lost"),
            (self.torn_batches, "no batch was torn"),
            (self.unacknowledged_batches, "no batch was there that nobody had heard of"),
            (self.failed_appends, "no append failed"),
            (self.restores, "no backup was restored"),
            (self.looks, "nobody looked for lost work"),
            (self.lost_work, "no lost work was found"),
            (self.failed_starts, "no daemon found a store that it may not write"),
        ];
        unmet.extend(times.into_iter().filter(|(times, _)| *times == 0).map(|(_, never)| never.to_owned()));
        let well = Disk::WORDS.into_iter().filter(|what| !self.disk.contains_key(what));
        unmet.extend(well.map(|what| format!("no disk was {what}")));
        let uncut = STEPS.into_iter().filter(|step| !self.cut_batches.contains_key(step));
        unmet.extend(uncut.map(|step| format!("no crash met a batch that was {step}")));
        let mends = [Remedy::RollForward, Remedy::VoidIntent, Remedy::RebuildFromProvider, Remedy::Quarantine];
        let unmended = mends.into_iter().filter(|mend| !self.batches.contains_key(mend.as_str()));
        unmet.extend(unmended.map(|mend| format!("no kept file saw {}", mend.as_str())));
        if !self.parked.contains_key("stale_receipt") {
            unmet.push("no issue parked for the receipts of its run".to_owned());
        }
        for answer in
            ["release accepted", "release refused", "release replayed", "set_budget accepted", "set_budget replayed"]
        {
            if !self.actions.contains_key(answer) {
                unmet.push(format!("no operator had the answer {answer}"));
            }
        }
        // Of a run that has ended nothing is left to recover.
        for phase in Phase::ALL.into_iter().filter(|phase| *phase != Phase::Ended).map(Phase::as_str) {
            if !self.recovered.contains_key(phase) {
                unmet.push(format!("no daemon took over in phase {phase}"));
            }
        }
        for kind in Effect::KINDS.into_iter().chain(Deed::KINDS) {
            let around = self.effects.get(kind).copied().unwrap_or_default();
            if around.crashed_before == 0 {
                unmet.push(format!("no crash before {kind}"));
            }
            if around.crashed_after == 0 {
                unmet.push(format!("no crash after {kind}"));
            }
        }
        unmet
    }
}
