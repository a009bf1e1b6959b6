//! What the histories walked over: a part of the machine that no crash ever met is a finding.

use std::collections::BTreeMap;

use dalsegno_core::{Effect, Phase};

use super::deed::Deed;

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
    /// Times that the clock jumped.
    pub clock_jumps: u64,
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
        self.unacknowledged_batches += other.unacknowledged_batches;
        self.zombies += other.zombies;
        self.refused_appends += other.refused_appends;
        self.snapshots += other.snapshots;
        self.sagas_resumed += other.sagas_resumed;
        self.clock_jumps += other.clock_jumps;
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
