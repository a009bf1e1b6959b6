//! The ledger: what models used, turn by turn, and what that costs.
//!
//! A row is what one turn of one session used of one model on one UTC day ([`UsageRow`]). Every report is of the whole
//! turn so far: it counts as far as it is more than what the turn has already, so that a report that comes again, late
//! or smaller changes nothing. What it adds goes to the model that it names, or to the last one that the turn named. A
//! row without a model takes the first name that its turn gets.
//!
//! # Transitions
//! - `turn_started`: the rows of the turn begin. Sent again, its reports count on top of what the first sending had.
//! - `usage`: the turn's figures grow. `settled`: by the session's own total after a resume; the difference to what the
//!   journal has for the session goes to the turn that was cut, and makes it whole. A total below what was reported does
//!   not make it whole: it leaves something out, such as what sub-agents used.
//! - `turn_ended`: a turn that was cut, interrupted or failed is `incomplete` unless it was settled: what it used beyond
//!   its last report is not known.
//!
//! # Invariants
//! - The usage of an issue, a run and all is the sum of their rows; no token is in two rows.
//! - A session's total settles at most once: the journal's figure for the session is that total afterwards.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::event::Event;
use crate::ids::{RunId, SessionId};
use crate::machine::{Machine, Signal};
use crate::policy::Price;
use crate::run::Run;
use crate::time::Timestamp;
use crate::usage::{Report, Usage};

/// Usage reports of one run are journaled at most this often; the end of a turn always is.
const USAGE_EVERY_MS: u64 = 1_000;
/// Models that are told apart in one sum; what further ones use is counted under no name.
const MODELS: usize = 32;
/// Most characters of a model's name.
const MODEL_NAME: usize = 120;

/// What one turn used of one model on one day.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsageRow {
    /// The UTC day, counted from the epoch.
    pub day: i64,
    /// The model, once it was named.
    pub model: Option<String>,
    /// How much.
    pub usage: Usage,
    /// The turn did not come to its end in order: it may have used more.
    pub incomplete: bool,
}

/// The turn of a run that the ledger is at: its rows, and what its next report is compared with.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct TurnLedger {
    /// Its rows, in the order in which they came.
    pub rows: Vec<UsageRow>,
    /// The session that it was sent to.
    pub session: Option<SessionId>,
    /// What the first sending had when the prompt was sent again; reports of the second count on top.
    pub before: Usage,
    /// The session's own total after a resume was counted.
    pub settled: bool,
    /// What the journal has for the session.
    pub session_total: Usage,
}

/// Usage by model; under no name what no model is known for.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ByModel(BTreeMap<String, Usage>);

/// What usage costs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Cost {
    /// Billionths of a US dollar, as far as prices are known.
    pub nanousd: u64,
    /// A model that was used and whose price is not known; empty for one without a name.
    pub unpriced: Option<String>,
}

/// What a report added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Booked {
    pub(crate) growth: Usage,
    pub(crate) model: String,
    /// What was under no name on these days, and has one now.
    pub(crate) named: Vec<(i64, Usage)>,
}

/// The UTC day of a moment, counted from the epoch.
#[must_use]
pub fn day_of(at: Timestamp) -> i64 {
    at.0.div_euclid(DAY_MS)
}

/// The moment at which the UTC day after `at` begins.
#[must_use]
pub fn next_day(at: Timestamp) -> Timestamp {
    Timestamp(day_of(at).saturating_add(1).saturating_mul(DAY_MS))
}

/// Milliseconds of a day.
const DAY_MS: i64 = 86_400_000;

impl Usage {
    /// Tokens that limits count: in and out, or what the agent calls the total where that is more.
    #[must_use]
    pub fn tokens(self) -> u64 {
        self.total_tokens.max(self.input_tokens.saturating_add(self.output_tokens))
    }

    /// What this costs at `price`, in billionths of a US dollar.
    #[must_use]
    pub fn cost_nanousd(self, price: Price) -> u64 {
        let Price { input_nanousd, cached_input_nanousd, output_nanousd } = price;
        let cached = self.cached_input_tokens.min(self.input_tokens);
        let fresh = self.input_tokens - cached;
        fresh
            .saturating_mul(input_nanousd)
            .saturating_add(cached.saturating_mul(cached_input_nanousd))
            .saturating_add(self.output_tokens.saturating_mul(output_nanousd))
    }
}

impl ByModel {
    pub(crate) fn add(&mut self, model: &str, usage: Usage) {
        if usage == Usage::default() {
            return;
        }
        let known = self.0.contains_key(model) || self.0.len() < MODELS;
        let sum = self.0.entry(if known { model } else { "" }.to_owned()).or_default();
        *sum = sum.plus(usage);
    }

    /// What was counted under no name is this model's.
    pub(crate) fn name(&mut self, model: &str, usage: Usage) {
        if let Some(sum) = self.0.get_mut("") {
            *sum = sum.growth_over(usage);
            if *sum == Usage::default() {
                self.0.remove("");
            }
            self.add(model, usage);
        }
    }

    /// Everything together.
    #[must_use]
    pub fn total(&self) -> Usage {
        self.0.values().fold(Usage::default(), |sum, usage| sum.plus(*usage))
    }

    /// Each model with its usage; under no name what no model is known for.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Usage)> {
        self.0.iter().map(|(model, usage)| (model.as_str(), *usage))
    }

    /// What it costs at these prices.
    #[must_use]
    pub fn cost(&self, prices: &BTreeMap<String, Price>) -> Cost {
        let mut cost = Cost::default();
        for (model, usage) in &self.0 {
            match prices.get(model) {
                Some(price) => cost.nanousd = cost.nanousd.saturating_add(usage.cost_nanousd(*price)),
                None if usage.tokens() > 0 => cost.unpriced = Some(model.clone()),
                None => {}
            }
        }
        cost
    }
}

impl TurnLedger {
    /// A prompt goes out.
    pub(crate) fn started(&mut self, session: Option<SessionId>, repeated: bool, day: i64, sofar: Usage) {
        if repeated {
            self.before = sofar;
            if !self.settled {
                self.leave_open(day);
            }
        } else {
            self.rows.clear();
            self.session = session;
            self.before = Usage::default();
        }
        self.settled = false;
    }

    /// The turn is over, and nobody knows whether all that it used was reported.
    pub(crate) fn leave_open(&mut self, day: i64) {
        if self.rows.is_empty() {
            self.rows.push(UsageRow { day, model: None, usage: Usage::default(), incomplete: true });
        }
        for row in &mut self.rows {
            row.incomplete = true;
        }
    }
}

/// Counts a report of the run's latest turn: its figures for the whole turn, sent twice or not.
pub(crate) fn book(run: &mut Run, report: Usage, model: Option<&str>, settled: bool, day: i64) -> Booked {
    let model = model.map(|name| name.chars().take(MODEL_NAME).collect::<String>()).filter(|name| !name.is_empty());
    let before = run.turn_usage;
    let now = before.max(report);
    let growth = now.growth_over(before);
    run.turn_usage = now;
    run.usage = run.usage.plus(growth);
    let ledger = &mut run.ledger;
    ledger.session_total = ledger.session_total.plus(growth);
    let mut named = Vec::new();
    if let Some(model) = &model {
        for row in ledger.rows.iter_mut().filter(|row| row.model.is_none()) {
            named.push((row.day, row.usage));
            row.model = Some(model.clone());
        }
    }
    let model = model.or_else(|| ledger.rows.iter().rev().find_map(|row| row.model.clone()));
    if growth != Usage::default() {
        match ledger.rows.iter_mut().find(|row| row.day == day && row.model == model) {
            Some(row) => row.usage = row.usage.plus(growth),
            None => ledger.rows.push(UsageRow { day, model: model.clone(), usage: growth, incomplete: false }),
        }
    }
    if settled {
        ledger.settled = true;
        for row in &mut ledger.rows {
            row.incomplete = false;
        }
    }
    Booked { growth, model: model.unwrap_or_default(), named }
}

impl Machine {
    pub(crate) fn signal(&mut self, run: &RunId, signal: &Signal) {
        if !self.state.runs.contains_key(run) {
            return;
        }
        self.sign_of_life(run);
        match signal {
            Signal::Activity => {}
            Signal::Asked { ask, question, wants } => self.asked_live(run, *ask, question, *wants),
            Signal::Usage(report) => {
                let known = self.usage_waits.remove(run).unwrap_or_default();
                self.usage_waits.insert(run.clone(), known.and(report.clone()));
                self.count_reports();
            }
        }
    }

    /// Counts the reports of agents that have rested since the last one.
    pub(crate) fn count_reports(&mut self) {
        let rested: Vec<RunId> = self
            .usage_waits
            .keys()
            .filter(|run| self.report_due(run).is_none_or(|due| due <= self.now))
            .cloned()
            .collect();
        for run in rested {
            if self.count_waiting(&run) {
                self.usage_counted(&run);
            }
        }
    }

    /// Counts the report of a run that waits, if it has one and it is more than what the turn has.
    pub(crate) fn count_waiting(&mut self, run: &RunId) -> bool {
        let Some(Report { usage, model }) = self.usage_waits.remove(run) else { return false };
        let Some(live) = self.state.runs.get(run).filter(|live| live.turn_open) else { return false };
        let (turn, usage) = (live.turn, live.ledger.before.plus(usage));
        if live.turn_usage.max(usage) == live.turn_usage {
            return false;
        }
        self.usage_at.insert(run.clone(), self.now);
        self.emit(Event::Usage { run: run.clone(), turn, usage, model, settled: false });
        true
    }

    fn report_due(&self, run: &RunId) -> Option<Timestamp> {
        self.usage_at.get(run).map(|last| last.after_ms(USAGE_EVERY_MS))
    }

    pub(crate) fn reports_due(&self) -> Option<Timestamp> {
        self.usage_waits.keys().filter_map(|run| self.report_due(run)).min()
    }
}
