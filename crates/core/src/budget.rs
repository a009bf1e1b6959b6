//! Budgets: how much an issue, or a day, may use.
//!
//! # Limits
//! Of an issue: tokens, cost, turns that came to an end, and the time from its runs' beginnings to their ends, restarts
//! included; runs are a ceiling of dispatch. Of a UTC day, over all issues: tokens and cost. They come from `budget:`; an
//! action overrides them for one issue, or for the day on which it was given.
//!
//! # Transitions
//! - Before a turn, also before a prompt is sent again, and at each report of usage: at a limit the agent is ended in good
//!   order and the issue parks with `budget_exceeded` and all figures. Turns are limited before a turn alone.
//! - When the time of an issue is used up, by its own due time.
//! - At the day's limit every run with a turn under way parks; others park before their next turn. Nothing is dispatched
//!   until the day turns, or an action raises the limit.
//! - With a limit of cost, a model whose price is not known parks with `price_unknown`: before the first turn when the
//!   policy names it, else at its first report.
//!
//! # Invariants
//! - Use passes a limit by what was not reported of the turns under way, and by nothing else.
//! - All figures are a fold of the journal: a restart neither forgets nor repeats any.

use serde::{Deserialize, Serialize};

use crate::ids::RunId;
use crate::issue::IssueEntry;
use crate::ledger::{ByModel, day_of};
use crate::machine::Machine;
use crate::policy::{Limits, Policy};
use crate::run::Run;
use crate::state::State;
use crate::time::Timestamp;
use crate::usage::Usage;

/// What a limit limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BudgetLimit {
    /// Tokens of an issue.
    IssueTokens,
    /// Cost of an issue.
    IssueCost,
    /// Turns on an issue.
    IssueTurns,
    /// Time that the runs of an issue took.
    IssueWallClock,
    /// Runs on an issue.
    IssueRuns,
    /// Tokens of a day.
    DayTokens,
    /// Cost of a day.
    DayCost,
}

impl BudgetLimit {
    /// The word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::IssueTokens => "issue_tokens",
            Self::IssueCost => "issue_cost",
            Self::IssueTurns => "issue_turns",
            Self::IssueWallClock => "issue_wall_clock",
            Self::IssueRuns => "issue_runs",
            Self::DayTokens => "day_tokens",
            Self::DayCost => "day_cost",
        }
    }
}

/// Limits that an operator set; what is absent is as the policy says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct BudgetOverride {
    /// Tokens.
    #[serde(default)]
    pub tokens: Option<u64>,
    /// Cost, in billionths of a US dollar.
    #[serde(default)]
    pub cost_nanousd: Option<u64>,
    /// Turns; not for a day.
    #[serde(default)]
    pub turns: Option<u32>,
    /// Time that runs took, in milliseconds; not for a day.
    #[serde(default)]
    pub wall_clock_ms: Option<u64>,
    /// Runs; not for a day.
    #[serde(default)]
    pub runs: Option<u32>,
}

impl BudgetOverride {
    /// These limits over those of the policy.
    #[must_use]
    pub fn over(self, policy: Limits) -> Limits {
        Limits {
            tokens: self.tokens.or(policy.tokens),
            cost_nanousd: self.cost_nanousd.or(policy.cost_nanousd),
            turns: self.turns.or(policy.turns),
            wall_clock_ms: self.wall_clock_ms.or(policy.wall_clock_ms),
        }
    }

    /// Later limits over these.
    #[must_use]
    pub fn and(self, later: Self) -> Self {
        Self {
            tokens: later.tokens.or(self.tokens),
            cost_nanousd: later.cost_nanousd.or(self.cost_nanousd),
            turns: later.turns.or(self.turns),
            wall_clock_ms: later.wall_clock_ms.or(self.wall_clock_ms),
            runs: later.runs.or(self.runs),
        }
    }
}

/// What all issues used on one UTC day, and what an operator allowed for it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct DayUse {
    /// The day, counted from the epoch.
    pub day: i64,
    /// What was used on it.
    pub models: ByModel,
    /// Limits for this day alone.
    pub limits: BudgetOverride,
}

impl DayUse {
    /// This day, or a new one without use when the day has turned.
    pub(crate) fn turn_to(&mut self, day: i64) -> &mut Self {
        if self.day < day {
            *self = Self { day, ..Self::default() };
        }
        self
    }
}

/// Use and limits of an issue, or of the day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BudgetLine {
    /// The issue; `None`: all issues on this UTC day.
    pub identifier: Option<String>,
    /// Tokens used.
    pub usage: Usage,
    /// What that costs at the policy's prices, in billionths of a US dollar.
    pub cost_nanousd: u64,
    /// Some of it has no price.
    pub unpriced: bool,
    /// Turns that came to an end.
    pub turns: u32,
    /// Runs since the count last started over.
    pub runs: u32,
    /// Milliseconds that its runs took.
    pub wall_clock_ms: u64,
    /// The limits that hold.
    pub limits: Limits,
    /// Most runs; none for a day.
    pub runs_allowed: Option<u32>,
}

/// Lines of a table of budgets at most; the issues with the most tokens are told.
const LINES: usize = 500;

/// A limit that is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Excess {
    /// `budget_exceeded` or `price_unknown`.
    pub(crate) code: &'static str,
    pub(crate) limit: Option<BudgetLimit>,
    pub(crate) detail: String,
}

/// When limits are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moment {
    /// A turn is about to begin.
    BeforeTurn,
    /// Usage was reported.
    Report,
}

impl Machine {
    /// The limit that stands against the issue's next turn, or against the one that is under way.
    pub(crate) fn excess(&self, entry: &IssueEntry, policy: &Policy, moment: Moment) -> Option<Excess> {
        self.issue_excess(entry, policy, moment)
            .or_else(|| self.day_excess(policy))
            .or_else(|| self.unpriced(entry, policy, moment))
    }

    /// The same for the issue's own limits.
    pub(crate) fn issue_excess(&self, entry: &IssueEntry, policy: &Policy, moment: Moment) -> Option<Excess> {
        let (limit, words) = reached(entry, policy, moment, self.wall_clock(entry))?;
        let detail = format!("limit {} of the issue: {words}; {}", limit.as_str(), self.figures(entry, policy));
        Some(Excess { code: "budget_exceeded", limit: Some(limit), detail })
    }

    /// The limit of the day that is reached.
    pub(crate) fn day_excess(&self, policy: &Policy) -> Option<Excess> {
        let day = self.today();
        let limits = day.limits.over(policy.budget.day);
        let cost = day.models.cost(&policy.budget.prices).nanousd;
        let used = day.models.total();
        let tokens = used.tokens();
        let (limit, words) = if let Some(most) = limits.tokens.filter(|most| tokens >= *most) {
            (BudgetLimit::DayTokens, format!("{tokens} of {most} tokens used"))
        } else if let Some(most) = limits.cost_nanousd.filter(|most| cost >= *most) {
            (BudgetLimit::DayCost, format!("{} of {} used", dollars(cost), dollars(most)))
        } else {
            return None;
        };
        let sum = tokens_in_words(used);
        let detail =
            format!("limit {} of this UTC day: {words} by all issues; {sum}, {}", limit.as_str(), dollars(cost));
        Some(Excess { code: "budget_exceeded", limit: Some(limit), detail })
    }

    /// The price that a limit of cost needs and that is not known.
    pub(crate) fn unpriced(&self, entry: &IssueEntry, policy: &Policy, moment: Moment) -> Option<Excess> {
        let issue = entry.limits.over(policy.budget.issue).cost_nanousd;
        issue.or_else(|| self.day_limits(policy).cost_nanousd)?;
        let model = without_price(entry, policy, moment)?;
        let named = if model.is_empty() {
            "the agent does not say which model it asks".to_owned()
        } else {
            format!("model {model:?} has no price")
        };
        let detail = format!("{named} in budget.prices, and a limit of cost is set; {}", self.figures(entry, policy));
        Some(Excess { code: "price_unknown", limit: None, detail })
    }

    /// The limits that hold for this day.
    pub(crate) fn day_limits(&self, policy: &Policy) -> Limits {
        let day = &self.state.day;
        let set = if day.day < day_of(self.now) { BudgetOverride::default() } else { day.limits };
        set.over(policy.budget.day)
    }

    /// What the issue used, in words.
    fn figures(&self, entry: &IssueEntry, policy: &Policy) -> String {
        let cost = entry.models.cost(&policy.budget.prices);
        let unpriced = if cost.unpriced.is_some() { " and what has no price" } else { "" };
        format!(
            "{}, {}{unpriced}, {} turns, {} s in {} runs",
            tokens_in_words(entry.usage),
            dollars(cost.nanousd),
            entry.turns,
            self.wall_clock(entry) / 1_000,
            entry.runs,
        )
    }

    /// What the day has used so far.
    pub(crate) fn today(&self) -> DayUse {
        let day = day_of(self.now);
        if self.state.day.day < day { DayUse { day, ..DayUse::default() } } else { self.state.day.clone() }
    }

    /// Milliseconds that the issue's runs took, the live one included.
    pub(crate) fn wall_clock(&self, entry: &IssueEntry) -> u64 {
        let live = entry.current_run.as_ref().and_then(|run| self.state.runs.get(run));
        entry.run_ms.saturating_add(live.map_or(0, |run| self.now.since_ms(run.started_at)))
    }

    /// Whether the run may have another turn; parks it if not.
    pub(crate) fn within_budget(&mut self, id: &RunId) -> bool {
        self.stays_within(id, Moment::BeforeTurn)
    }

    /// Usage was counted: ends the turns that it ends. Tells whether this run goes on.
    pub(crate) fn usage_counted(&mut self, id: &RunId) -> bool {
        let goes_on = self.stays_within(id, Moment::Report);
        let others: Vec<RunId> =
            self.state.runs.values().filter(|run| run.turn_open && run.id != *id).map(|run| run.id.clone()).collect();
        for other in others {
            let over = self.state.policy_of(&other).and_then(|policy| self.day_excess(&policy));
            if let Some(excess) = over {
                self.park_run_at(&other, excess);
            }
        }
        goes_on
    }

    /// Use and limits of this day, then of the issues that were worked on, the most tokens first.
    #[must_use]
    pub fn budgets(&self, now: Timestamp) -> Vec<BudgetLine> {
        let Some(policy) = self.state.policy() else { return Vec::new() };
        let line = |models: &ByModel| {
            let cost = models.cost(&policy.budget.prices);
            (cost.nanousd, cost.unpriced.is_some())
        };
        let today = day_of(now.max(self.now));
        let day = if self.state.day.day == today { self.state.day.clone() } else { DayUse::default() };
        let (cost_nanousd, unpriced) = line(&day.models);
        let mut lines: Vec<BudgetLine> = self
            .state
            .issues
            .values()
            .filter(|entry| {
                entry.runs > 0 || entry.usage != Usage::default() || entry.limits != BudgetOverride::default()
            })
            .map(|entry| {
                let (cost_nanousd, unpriced) = line(&entry.models);
                BudgetLine {
                    identifier: Some(entry.issue.identifier.clone()),
                    usage: entry.usage,
                    cost_nanousd,
                    unpriced,
                    turns: entry.turns,
                    runs: entry.runs,
                    wall_clock_ms: self.wall_clock(entry),
                    limits: entry.limits.over(policy.budget.issue),
                    runs_allowed: Some(runs_allowed(entry, &policy)),
                }
            })
            .collect();
        lines.sort_by_key(|line| std::cmp::Reverse(line.usage.tokens()));
        lines.truncate(LINES);
        let limits = day.limits.over(policy.budget.day);
        let usage = day.models.total();
        let (turns, runs, wall_clock_ms) = (0, 0, 0);
        let (identifier, runs_allowed) = (None, None);
        let all =
            BudgetLine { identifier, usage, cost_nanousd, unpriced, turns, runs, wall_clock_ms, limits, runs_allowed };
        lines.insert(0, all);
        lines
    }

    fn stays_within(&mut self, id: &RunId, moment: Moment) -> bool {
        let Some(policy) = self.state.policy_of(id) else { return true };
        let Some(entry) = self.state.runs.get(id).and_then(|run| self.state.issues.get(&run.issue)) else {
            return true;
        };
        let Some(excess) = self.excess(entry, &policy, moment) else { return true };
        self.park_run_at(id, excess);
        false
    }

    fn park_run_at(&mut self, id: &RunId, excess: Excess) {
        let Excess { code, limit, detail } = excess;
        self.park_run_for(id, code, detail, limit);
    }

    /// Parks runs whose issue has used up its time.
    pub(crate) fn end_late_runs(&mut self) {
        for run in self.index.late(self.now) {
            self.stays_within(&run, Moment::Report);
        }
    }
}

/// When the run's issue will have used up its time, if that ends the run.
pub(crate) fn time_ends(state: &State, run: &Run) -> Option<Timestamp> {
    if run.past_pivot() || run.ending.is_some() {
        return None;
    }
    let entry = state.issues.get(&run.issue)?;
    let limit = entry.limits.over(state.policies.get(&run.policy)?.budget.issue).wall_clock_ms?;
    Some(run.started_at.after_ms(limit.saturating_sub(entry.run_ms)))
}

/// Most runs on the issue.
pub(crate) fn runs_allowed(entry: &IssueEntry, policy: &Policy) -> u32 {
    entry.limits.runs.unwrap_or(policy.budget.issue_runs)
}

/// The limit of its own that the issue has reached, and with how much of it, in words.
fn reached(entry: &IssueEntry, policy: &Policy, moment: Moment, wall_clock_ms: u64) -> Option<(BudgetLimit, String)> {
    let limits = entry.limits.over(policy.budget.issue);
    let cost = limits.cost_nanousd.map_or(0, |_| entry.models.cost(&policy.budget.prices).nanousd);
    let (tokens, turns, time) = (entry.usage.tokens(), entry.turns, wall_clock_ms);
    let by_turns = moment == Moment::BeforeTurn && limits.turns.is_some_and(|most| turns >= most);
    if let Some(most) = limits.tokens.filter(|most| tokens >= *most) {
        Some((BudgetLimit::IssueTokens, format!("{tokens} of {most} tokens used")))
    } else if let Some(most) = limits.cost_nanousd.filter(|most| cost >= *most) {
        Some((BudgetLimit::IssueCost, format!("{} of {} used", dollars(cost), dollars(most))))
    } else if let Some(most) = limits.turns.filter(|_| by_turns) {
        Some((BudgetLimit::IssueTurns, format!("{turns} of {most} turns used")))
    } else {
        let most = limits.wall_clock_ms.filter(|most| time >= *most)?;
        Some((BudgetLimit::IssueWallClock, format!("{} of {} s used", time / 1_000, most / 1_000)))
    }
}

/// A model that the issue used, or would ask, and whose price is not known.
fn without_price(entry: &IssueEntry, policy: &Policy, moment: Moment) -> Option<String> {
    let used = entry.models.cost(&policy.budget.prices).unpriced;
    let asked = || policy.agent.model.clone().filter(|model| !policy.budget.prices.contains_key(model));
    used.or_else(|| asked().filter(|_| moment == Moment::BeforeTurn))
}

/// Of an issue without a live run: whether a limit of its own stands against its next turn, and whether one of the day's cost would, for
/// want of a price.
pub(crate) fn at_rest(entry: &IssueEntry, policy: &Policy) -> (bool, bool) {
    let unpriced = without_price(entry, policy, Moment::BeforeTurn).is_some();
    let has_cost = entry.limits.over(policy.budget.issue).cost_nanousd.is_some();
    let spent = reached(entry, policy, Moment::BeforeTurn, entry.run_ms).is_some();
    (spent || (has_cost && unpriced), unpriced)
}

fn tokens_in_words(usage: Usage) -> String {
    format!(
        "{} tokens in ({} cached), {} out, {} in all",
        usage.input_tokens,
        usage.cached_input_tokens,
        usage.output_tokens,
        usage.tokens()
    )
}

/// Most dollars that an amount may be.
const MOST_USD: f64 = 1e9;

/// An amount of US dollars, from 0 to a billion, as billionths; `None`: it is out of these bounds.
#[must_use]
pub fn nanousd(dollars: f64) -> Option<u64> {
    if !(0.0..=MOST_USD).contains(&dollars) {
        return None;
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the range was checked")]
    let amount = (dollars * 1e9).round() as u64;
    Some(amount)
}

/// An amount for people.
#[must_use]
pub(crate) fn dollars(nanousd: u64) -> String {
    format!("${}.{:06}", nanousd / 1_000_000_000, nanousd % 1_000_000_000 / 1_000)
}
