//! Breakers: what stops work on an issue that leads nowhere.
//!
//! # States
//! A [`Breaker`] belongs to an issue and lies over the borders of its runs. It is closed, or it has parked the issue with
//! a code that begins with `breaker_`; then the issue is *held* for `breaker.cooldown_ms`.
//!
//! # Transitions
//! - `breaker_same_failure`: that many runs in a row failed with the same [`signature`]. What is no failure of the work
//!   (rate limits, quota, slots, our own restarts, a stop by the tracker's word) neither counts nor starts over.
//! - `breaker_no_progress`: that many looks at the work in a row saw the head and the uncommitted files of the last look
//!   and no tool result that the last ones did not have. Turns that were cut, or failed, are not looked at and feed
//!   nothing; nor do turns of which nothing can be measured (no git, no tool results). How long a turn takes is no matter.
//! - `breaker_redispatch`: changes by others reopened the issue as often as `breaker.same_failure` says within one
//!   cooldown, and no commit was seen to come of it. The next such change parks it. An issue is reopened when it was
//!   settled; also when it was idle after a run (the agent, or a bot, had moved it away), and when it had vanished.
//! - Closed again: by a handoff, by `release`, or when somebody else's change reopens the issue. Only an action does that
//!   while the issue is held; a change that came in the meantime reopens it when the hold is over.
//!
//! # Invariants
//! - An issue that a breaker parked has no run before its hold is over, or before an action releases it.
//! - All counts are in the journal: a restart neither adds to them nor forgets them.
//! - Nothing here grows without bound: failures, tool results and reopenings are kept up to a number.

use serde::{Deserialize, Serialize};

use crate::effect::Work;
use crate::event::Event;
use crate::ids::{CommitId, IssueId, RunId};
use crate::issue::IssueEntry;
use crate::machine::Machine;
use crate::policy::Policy;
use crate::time::Timestamp;

/// Codes of the breakers. An issue that one of them parked stays parked for a while, whatever the tracker says.
const NO_PROGRESS: &str = "breaker_no_progress";
const SAME_FAILURE: &str = "breaker_same_failure";
const REDISPATCH: &str = "breaker_redispatch";

/// Whether it was a breaker that parked.
pub(crate) fn is_breaker(code: &str) -> bool {
    [NO_PROGRESS, SAME_FAILURE, REDISPATCH].contains(&code)
}

/// Failures, tool results and reopenings that are kept of an issue.
const KEPT: usize = 64;
/// Most characters of a failure's signature.
const SIGNATURE: usize = 300;
/// Tool results of so many turns are not new.
const TOOL_RESULTS: usize = 16;

/// What an issue's breakers know.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Breaker {
    /// Runs in a row that failed the same way, oldest first.
    pub failures: Vec<FailedRun>,
    /// Looks at the work in a row that saw nothing new.
    pub idle_turns: u32,
    /// The first of them.
    pub idle_since: Option<(RunId, u32)>,
    /// The work, as the last look saw it.
    pub seen: Option<Seen>,
    /// Tool results of the last turns.
    pub tool_digests: Vec<String>,
    /// When changes by others reopened the issue, since the last commit that came of it.
    pub reopened: Vec<Timestamp>,
}

/// A run that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedRun {
    /// Which.
    pub run: RunId,
    /// Its failure, without what differs from time to time.
    pub signature: String,
    /// Its failure.
    pub reason: String,
}

/// What shows that something was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// Head commit.
    pub head: Option<CommitId>,
    /// Hash over what is uncommitted.
    pub diff_digest: Option<String>,
}

/// A failure's words without what differs from time to time: numbers, and names that are made of digits.
#[must_use]
pub fn signature(reason: &str) -> String {
    let mut text = String::new();
    let mut words = reason.split(|letter: char| !letter.is_alphanumeric() && letter != '_').peekable();
    while let Some(word) = words.next() {
        let hex = word.len() >= 7 && word.chars().all(|letter| letter.is_ascii_hexdigit());
        if hex || word.chars().any(|letter| letter.is_numeric()) {
            text.push('#');
        } else {
            text.push_str(&word.to_lowercase());
        }
        if words.peek().is_some() && !text.ends_with(' ') {
            text.push(' ');
        }
    }
    text.chars().take(SIGNATURE).collect()
}

impl Breaker {
    /// A run failed.
    pub(crate) fn failed(&mut self, run: &RunId, reason: &str) {
        let signature = signature(reason);
        if self.failures.last().is_some_and(|last| last.signature != signature) {
            self.failures.clear();
        }
        let reason = reason.chars().take(SIGNATURE).collect();
        self.failures.push(FailedRun { run: run.clone(), signature, reason });
        keep_last(&mut self.failures, KEPT);
    }

    /// The work was looked at after a turn.
    pub(crate) fn looked(&mut self, turn: (&RunId, u32), seen: Seen, tools: Option<&String>, progressed: bool) {
        if progressed {
            let committed = self.seen.as_ref().is_some_and(|before| before.head != seen.head);
            if committed {
                self.reopened.clear();
            }
            self.idle_turns = 0;
            self.idle_since = None;
        } else {
            self.idle_turns = self.idle_turns.saturating_add(1);
            self.idle_since.get_or_insert_with(|| (turn.0.clone(), turn.1));
        }
        self.seen = Some(seen);
        if let Some(digest) = tools {
            self.tool_digests.push(digest.clone());
            keep_last(&mut self.tool_digests, TOOL_RESULTS);
        }
    }

    /// Somebody else's change reopened a settled issue; counts start over, but those of reopenings.
    pub(crate) fn reopened(&mut self, at: Timestamp) {
        self.wanted_again(at);
        let reopened = std::mem::take(&mut self.reopened);
        *self = Self { reopened, seen: self.seen.take(), ..Self::default() };
    }

    /// An issue that nothing had settled is wanted again, and its runs start over. Other counts go on: the change may be
    /// the other half of one that its own agent made.
    pub(crate) fn wanted_again(&mut self, at: Timestamp) {
        self.reopened.push(at);
        keep_last(&mut self.reopened, KEPT);
    }

    /// Whether a turn that left the work like this did something. `None`: nothing can be measured.
    fn progress(&self, work: &Work, tools: Option<&String>) -> Option<bool> {
        let is_told = work.head.is_some() || work.diff_digest.is_some() || tools.is_some();
        let changed = match &self.seen {
            Some(Seen { head, diff_digest }) => *head != work.head || *diff_digest != work.diff_digest,
            None => work.has_commits || !work.uncommitted.is_empty(),
        };
        let new_result = tools.is_some_and(|digest| !self.tool_digests.contains(digest));
        // What was seen before and is not told any more has changed.
        (is_told || (self.seen.is_some() && changed)).then_some(changed || new_result)
    }
}

fn keep_last<T>(items: &mut Vec<T>, most: usize) {
    items.drain(..items.len().saturating_sub(most));
}

impl Machine {
    /// Notes what a look at the work saw of the turn. Of the last turn before the tracker ends the run, only that it
    /// did something: whether it would have gone on to do nothing, nobody knows.
    pub(crate) fn note_progress(&mut self, id: &RunId, work: &Work, last: bool) {
        let Some(run) = self.state.runs.get(id) else { return };
        let Some(entry) = self.state.issues.get(&run.issue) else { return };
        let tools = run.tool_digest.clone();
        let Some(progressed) = entry.breaker.progress(work, tools.as_ref()) else { return };
        if last && !progressed {
            return;
        }
        let (run, turn) = (id.clone(), run.turn);
        let (head, diff_digest) = (work.head.clone(), work.diff_digest.clone());
        self.emit(Event::Progress { run, turn, progressed, head, diff_digest, tool_digest: tools });
    }

    /// Parks the run when its issue's turns lead nowhere; tells whether it did.
    pub(crate) fn stop_without_progress(&mut self, id: &RunId, policy: &Policy, missing: &str) -> bool {
        let limit = policy.breaker.no_progress_turns;
        let Some(run) = self.state.runs.get(id) else { return false };
        let Some(breaker) = self.state.issues.get(&run.issue).map(|entry| &entry.breaker) else { return false };
        if limit == 0 || breaker.idle_turns < limit {
            return false;
        }
        let since =
            breaker.idle_since.as_ref().map_or(String::new(), |(run, turn)| format!(" since {run} turn {turn}"));
        let head = breaker.seen.as_ref().and_then(|seen| seen.head.as_ref()).map_or("none", |head| head.as_str());
        let detail = format!(
            "{} turns{since} brought no commit, no change of files and no new tool result; head {head}; still: {missing}",
            breaker.idle_turns
        );
        self.park_run(id, NO_PROGRESS, detail);
        true
    }

    /// Parks the issue when its runs fail the same way again and again; tells whether it did.
    pub(crate) fn stop_same_failure(&mut self, issue: &IssueId, run: &RunId) -> bool {
        let limit = self.state.policy().map_or(0, |policy| policy.breaker.same_failure);
        let Some(entry) = self.state.issues.get(issue) else { return false };
        let failures = &entry.breaker.failures;
        let limit = (limit as usize).min(KEPT);
        if limit == 0 || failures.len() < limit {
            return false;
        }
        let runs: Vec<&str> = failures.iter().map(|failed| failed.run.as_str()).collect();
        let last = failures.last().map_or("", |failed| &failed.reason);
        let detail =
            format!("{} runs in a row ({}) failed the same way; the last: {last}", runs.len(), runs.join(", "));
        self.park_issue(issue, Some(run), SAME_FAILURE, detail, None);
        true
    }

    /// Whether somebody else's change reopens a settled issue now. If not, it is held until a time, or parked.
    pub(crate) fn may_reopen(&mut self, id: &IssueId, policy: &Policy) -> bool {
        let Some(entry) = self.state.issues.get(id) else { return false };
        if let Some(until) = held_until(entry, self.now) {
            if entry.due_at != Some(until) {
                let reason = entry.reason.clone();
                self.set_status(id, entry.status, reason.as_deref(), Some(until));
            }
            return false;
        }
        let Some(detail) = reopened_too_often(entry, policy, self.now) else { return true };
        self.park_redispatched(id, detail);
        false
    }

    /// Parks an issue that changes by others dispatch again and again.
    pub(crate) fn park_redispatched(&mut self, id: &IssueId, detail: String) {
        let run = self.state.issues.get(id).and_then(|entry| entry.last_run.clone());
        self.park_issue(id, run.as_ref(), REDISPATCH, detail, None);
    }

    /// Reopens issues whose hold is over, if they changed while it lasted.
    pub(crate) fn end_holds(&mut self) {
        let over: Vec<IssueId> = self
            .issues_due()
            .filter(|entry| entry.status.is_sticky() && entry.due_at.is_some_and(|due| due <= self.now))
            .map(|entry| entry.issue.id.clone())
            .collect();
        for id in over {
            let Some(entry) = self.state.issues.get(&id) else { continue };
            if entry.settled.as_ref() == Some(&entry.issue.fingerprint()) {
                let (status, reason) = (entry.status, entry.reason.clone());
                self.set_status(&id, status, reason.as_deref(), None);
            } else {
                self.reopen(&id, "changed by somebody else while it was held");
                self.poll_soon();
            }
        }
    }
}

/// Whether the issue was reopened as often as it may be without a commit; in words.
pub(crate) fn reopened_too_often(entry: &IssueEntry, policy: &Policy, now: Timestamp) -> Option<String> {
    let limit = (policy.breaker.same_failure as usize).min(KEPT);
    let cooldown = policy.breaker.cooldown_ms;
    let recent = entry.breaker.reopened.iter().filter(|at| now.since_ms(**at) < cooldown).count();
    (limit > 0 && recent >= limit).then(|| {
        let seconds = cooldown / 1_000;
        format!("changes by others reopened the issue {recent} times within {seconds} s, and no commit came of it")
    })
}

/// Until when changes by others do not reopen the issue.
pub(crate) fn held_until(entry: &IssueEntry, now: Timestamp) -> Option<Timestamp> {
    entry.parked.as_ref().and_then(|parked| parked.held_until).filter(|until| *until > now)
}
