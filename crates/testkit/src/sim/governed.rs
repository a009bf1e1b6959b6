//! The judge of what governs work: budgets, breakers, quota and waits, from the journal's plain facts and from what the
//! simulated models took.
#![allow(clippy::wildcard_enum_match_arm, reason = "a simulation looks at the cases that it needs")]

use std::collections::BTreeMap;

use dalsegno_core::{
    AgentKind, Effect, Event, IssueId, IssueStatus, Recorded, RunId, RunOutcome, State, Then, Timestamp, View, day_of,
    signature,
};

use super::Violation;
use super::store::Store;
use super::world::World;

/// The furthest reset time that is waited for.
const FURTHEST_MS: u64 = 8 * 86_400_000;
/// Deaths of its agent that a run may go on after.
const DEATHS: u32 = 2;

/// What the plain facts say that must not happen yet, or any more.
#[derive(Debug, Default)]
pub(crate) struct Governed {
    /// Until when an issue waits.
    due: BTreeMap<IssueId, Timestamp>,
    /// Until when a kind of agent was refused.
    refused: BTreeMap<AgentKind, Timestamp>,
    /// Until when an issue is held that a breaker parked.
    held: BTreeMap<IssueId, Timestamp>,
    /// Signatures of the runs in a row that failed.
    failures: BTreeMap<IssueId, Vec<String>>,
    /// Looks at the work in a row that saw nothing new.
    idle: BTreeMap<IssueId, u32>,
    /// Deaths of its agent that each run went on after.
    deaths: BTreeMap<RunId, u32>,
}

fn broken(rule: &'static str, detail: String) -> Result<(), Violation> {
    Err(Violation { rule, detail })
}

impl Governed {
    /// A fact; `fold` has it already.
    pub(crate) fn note(&mut self, recorded: &Recorded, fold: &State) {
        match &recorded.event {
            Event::IssueStatus { issue, to, due_at, .. } => {
                self.due.remove(issue);
                if let (IssueStatus::WaitingRetry | IssueStatus::WaitingQuota, Some(due)) = (to, due_at) {
                    self.due.insert(issue.clone(), *due);
                }
                if *to == IssueStatus::HandedOff {
                    self.start_over(issue);
                }
            }
            Event::IssueReopened { issue } | Event::IssueGone { issue } => self.start_over(issue),
            Event::Released { issue, .. } => {
                self.held.remove(issue);
                self.start_over(issue);
            }
            Event::RateLimited { run, reset_at: Some(reset) } => {
                let Some(policy) = fold.policy_of(run) else { return };
                let ahead = *reset > recorded.at && reset.since_ms(recorded.at) <= FURTHEST_MS;
                if ahead && policy.quota.resume_at_reset {
                    let until = self.refused.entry(policy.agent.kind).or_default();
                    *until = (*until).max(*reset);
                }
            }
            Event::Parked { issue, reason, .. } if reason.starts_with("breaker_") => {
                let cooldown = fold.policy().map_or(0, |policy| policy.breaker.cooldown_ms);
                self.held.insert(issue.clone(), recorded.at.after_ms(cooldown));
            }
            Event::RunEnding { run, ending } => {
                let Some(issue) = fold.runs.get(run).map(|run| run.issue.clone()) else { return };
                let signature = signature(&ending.reason);
                let row = self.failures.entry(issue).or_default();
                match (ending.outcome, &ending.then) {
                    (RunOutcome::Failed, Then::RetryAfterFailure { .. }) => {
                        row.retain(|other| *other == signature);
                        row.push(signature);
                    }
                    (RunOutcome::Completed, _) => row.clear(),
                    _ => {}
                }
            }
            Event::EffectInDoubt { run: Some(run), reason, .. } if reason.starts_with("agent_exit") => {
                *self.deaths.entry(run.clone()).or_default() += 1;
            }
            Event::Progress { run, progressed, .. } => {
                let Some(issue) = fold.runs.get(run).map(|run| run.issue.clone()) else { return };
                let idle = self.idle.entry(issue).or_default();
                *idle = if *progressed { 0 } else { *idle + 1 };
            }
            // There is work to hand over: such a turn leads somewhere, and what fails on the way counts as a failure.
            Event::EffectIntended { issue, effect: Effect::FetchCommit, .. } => drop(self.idle.remove(issue)),
            _ => {}
        }
    }

    fn start_over(&mut self, issue: &IssueId) {
        self.failures.remove(issue);
        self.idle.remove(issue);
    }

    /// Something is decided; `fold` has everything before it.
    pub(crate) fn decision(&self, recorded: &Recorded, fold: &State) -> Result<(), Violation> {
        let now = recorded.at;
        match &recorded.event {
            Event::IssueStatus { issue, from, to: IssueStatus::Queued, .. }
                if matches!(from, IssueStatus::WaitingRetry | IssueStatus::WaitingQuota)
                    && self.due.get(issue).is_some_and(|due| *due > now) =>
            {
                broken("waits", format!("{issue} goes on before its time"))
            }
            Event::RunStarted { run, issue, policy, .. } => {
                let Some(policy) = fold.policies.get(policy) else { return Ok(()) };
                let breaker = &policy.breaker;
                let failures = self.failures.get(issue).map_or(0, Vec::len);
                let idle = self.idle.get(issue).copied().unwrap_or(0);
                let wrong = [
                    (self.refused.get(&policy.agent.kind).is_some_and(|until| *until > now), "the agent is refused"),
                    (self.held.get(issue).is_some_and(|until| *until > now), "a breaker holds it"),
                    (breaker.same_failure > 0 && failures >= breaker.same_failure as usize, "it fails the same way"),
                    (breaker.no_progress_turns > 0 && idle > breaker.no_progress_turns, "its turns lead nowhere"),
                ];
                match wrong.iter().find(|(wrong, _)| *wrong) {
                    Some((_, why)) => broken("governed", format!("{run} starts on {issue} although {why}")),
                    None => Ok(()),
                }
            }
            Event::EffectInDoubt { run: Some(run), reason, .. }
                if reason.starts_with("agent_exit") && self.deaths.get(run).is_some_and(|deaths| *deaths >= DEATHS) =>
            {
                broken("deaths", format!("{run} goes on after every death of its agent"))
            }
            Event::EffectIntended { issue, run: Some(run), key, effect: Effect::Prompt { .. }, .. } => {
                let (Some(entry), Some(policy)) = (fold.issues.get(issue), fold.policy_of(run)) else {
                    return Ok(());
                };
                let limits = entry.limits.over(policy.budget.issue);
                let is_today = fold.day.day == day_of(now);
                let day = if is_today { fold.day.limits.over(policy.budget.day) } else { policy.budget.day };
                let today = if is_today { fold.day.models.total() } else { Default::default() };
                let wrong = [
                    (limits.tokens.is_some_and(|most| entry.usage.tokens() >= most), "its tokens are used up"),
                    (limits.turns.is_some_and(|most| entry.turns >= most), "its turns are used up"),
                    (day.tokens.is_some_and(|most| today.tokens() >= most), "the day's tokens are used up"),
                    (
                        limits.cost_nanousd.is_some_and(|most| {
                            let cost = entry.models.cost(&policy.budget.prices);
                            cost.nanousd >= most || cost.unpriced.is_some()
                        }),
                        "its money is used up or cannot be counted",
                    ),
                ];
                match wrong.iter().find(|(wrong, _)| *wrong) {
                    Some((_, why)) => broken("budget", format!("{key} is sent although {why}")),
                    None => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }
}

/// The ledger has what the models took: never more, and less only where a row says that it may be incomplete.
pub(crate) fn ledger(store: &Store, world: &World) -> Result<(), Violation> {
    let mut sums: BTreeMap<&str, (u64, bool)> = BTreeMap::new();
    for view in store.rows.usage.values() {
        let View::Usage(row) = view else { continue };
        let Some(session) = &row.session else { continue };
        let (tokens, incomplete) = sums.entry(session.as_str()).or_default();
        *tokens += row.usage.total_tokens;
        *incomplete |= row.incomplete;
    }
    for session in world.sessions.keys() {
        let spent = world.session_total(session);
        let (counted, incomplete) = sums.get(session.as_str()).copied().unwrap_or_default();
        if counted > spent {
            return broken("ledger", format!("{session} took {spent} tokens, and {counted} are counted"));
        }
        // What was used since a backup is not in it.
        if counted < spent && !incomplete && !world.aftermath.sessions.contains(session) {
            return broken(
                "ledger",
                format!("{session} took {spent} tokens, {counted} are counted, and no row says so"),
            );
        }
    }
    Ok(())
}
