//! Actions: what an operator wants, and the durable answer to it.
//!
//! # States
//! An action is refused, or accepted; an accepted one is completed, or has failed. What it decides is in one batch with its
//! acceptance; its receipt leaves the machine when that batch is durable.
//!
//! Which is accepted when is one table: [`crate::rules`].
//!
//! # Transitions
//! - `set_budget` of an issue or of the daemon (the UTC day on which it is given): absolute limits over the policy's. An
//!   issue that is parked for exactly the limit that is raised goes on.
//! - `release` of a parked issue: its breakers and its count of runs start over. What it used stays used. A handoff that was in doubt
//!   too often is taken up again.
//! - `approve` and `deny` of a handoff whose pivot waits for that, `settle` of a parked step of one: see [`crate::settle`].
//! - `refresh`: the tracker is read. `drain` and `undrain`: no new work is taken, or it is again, also by the next daemon.
//! - What stops work, begins it again, speaks to an agent or writes to the tracker: see [`crate::operate`]; answers: [`crate::question`].
//! - `reload` of the daemon takes a WORKFLOW.md that is held: see [`crate::guard`].
//!
//! # Invariants
//! - A key that was accepted is answered with its first receipt, and nothing happens a second time, also after a restart.
//!   The last [`ACTIONS_KEPT`] are remembered. A refused action does not use its key up.
//! - A receipt is durable before it is told. So is that of a refused action, which is remembered for a minute at least: no more of
//!   them are written down than are remembered. Whoever is refused beyond that hears why, and has no receipt.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::budget::{BudgetLimit, BudgetOverride, nanousd, runs_allowed};
use crate::effect::{Effect, Failure};
use crate::event::Event;
use crate::ids::{IssueId, PolicyHash};
use crate::issue::IssueStatus;
use crate::ledger::day_of;
use crate::machine::Machine;
use crate::operate::{ActionRef, MESSAGES, Order, Stop};
use crate::policy::Policy;
use crate::question::{Message, Reply, Start};
use crate::rules::{ActionKind, Standing, verdict};
use crate::settle::{Saying, only, prose, texts};
use crate::state::State;
use crate::time::Timestamp;

/// Longest text for an agent or an issue, in bytes.
const LONG: usize = 8 * 1_024;
/// Longest name of a state, in bytes.
const STATE: usize = 100;
const NOT_FOUND: &str = "not found: no issue has this identifier or id";
/// Accepted actions, and as many refused ones, that are remembered.
pub const ACTIONS_KEPT: usize = 1_000;
/// For so long a refused action is remembered, however many are refused, in milliseconds.
const REFUSAL_MS: u64 = 60_000;
/// Codes of refused writes in one event; there are fewer.
const REFUSAL_CODES: usize = 64;

/// What an operator wants.
#[derive(Debug, Clone, PartialEq)]
pub struct ActionRequest {
    /// What is to be done: a word of [`ActionKind`].
    pub kind: String,
    /// What kind of thing it is done to: `issue`, `run`, `saga`, `daemon`.
    pub target_kind: String,
    /// Identifier or id, ignoring case.
    pub target_id: String,
    /// Joins it with what the operator does elsewhere; made when absent.
    pub correlation_id: Option<String>,
    /// The same key is never executed twice.
    pub idempotency_key: Option<String>,
    /// A key that is known is refused instead of answered with its first receipt.
    pub reject_duplicate: bool,
    /// Who acts, as far as they are known.
    pub by: Option<String>,
    /// Hash over kind, target and payload: tells a repetition from another action under the same key.
    pub content: String,
    /// What the kind needs.
    pub payload: Value,
}

/// The durable answer to an action.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// Its name in the journal.
    pub action_id: String,
    /// What it is joined with.
    pub correlation_id: String,
    /// What was wanted.
    pub action_kind: String,
    /// To what kind of thing.
    pub target_kind: String,
    /// To which one, as it was given.
    pub target_id: String,
    /// It is done, or going to be.
    pub accepted: bool,
    /// Why not: a stable code.
    pub code: Option<String>,
    /// Why not, in words.
    pub reason: Option<String>,
    /// Who acted, as far as they are known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// When it was decided.
    pub issued_at: Timestamp,
    /// When it was completed, or had failed.
    pub completed_at: Option<Timestamp>,
    /// Why it failed after it was accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// What came of it, in a word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// This is the answer to an earlier sending.
    pub replayed: bool,
}

/// What whoever wants an action is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ActionAnswer {
    /// It is decided, which is on disk.
    Decided(Box<Receipt>),
    /// It is refused for this, which is written down nowhere: as many as are remembered were refused within a minute.
    Unrecorded(Failure),
}

/// An action that is remembered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActionRecord {
    /// Its answer.
    pub receipt: Receipt,
    /// Its key, if it has one.
    pub key: Option<String>,
    /// Hash over its content.
    pub content: String,
}

/// Why an action is refused.
pub(crate) struct Refusal {
    code: &'static str,
    reason: String,
}

pub(crate) fn refusal(code: &'static str, reason: impl Into<String>) -> Refusal {
    Refusal { code, reason: reason.into() }
}

/// What an accepted action does.
enum Deed {
    IssueBudget(IssueId, BudgetOverride),
    DayBudget(BudgetOverride),
    Release(IssueId),
    Say(Box<Saying>),
    Stop(IssueId, Stop),
    Resume(IssueId),
    Again { issue: IssueId, start: Start, to: Option<String> },
    Steer { issue: IssueId, text: String, by: String },
    Order(IssueId, Order),
    Reply { issue: IssueId, reply: Reply, by: String },
    Refresh,
    Drain(bool),
    Reload(PolicyHash, Box<Policy>),
}

impl Deed {
    /// It writes to the tracker.
    fn writes(&self) -> bool {
        match self {
            Self::Order(_, order) => order.writes(),
            Self::Again { to, .. } => to.is_some(),
            Self::IssueBudget(..)
            | Self::DayBudget(_)
            | Self::Release(_)
            | Self::Say(_)
            | Self::Stop(..)
            | Self::Resume(_)
            | Self::Steer { .. }
            | Self::Reply { .. }
            | Self::Refresh
            | Self::Drain(_)
            | Self::Reload(..) => false,
        }
    }

    /// The issue that it is about.
    fn issue(&self) -> Option<&IssueId> {
        match self {
            Self::IssueBudget(issue, _)
            | Self::Release(issue)
            | Self::Stop(issue, _)
            | Self::Resume(issue)
            | Self::Order(issue, _)
            | Self::Again { issue, .. }
            | Self::Steer { issue, .. }
            | Self::Reply { issue, .. } => Some(issue),
            Self::Say(saying) => Some(&saying.issue),
            Self::DayBudget(_) | Self::Refresh | Self::Drain(_) | Self::Reload(..) => None,
        }
    }
}

impl Machine {
    /// Decides an action; the receipt leaves when the decision is durable.
    pub(crate) fn act(&mut self, caller: u64, request: &ActionRequest) {
        let known = request
            .idempotency_key
            .as_ref()
            .and_then(|key| self.state.actions.iter().find(|record| record.key.as_ref() == Some(key)).cloned());
        if let Some(known) = known {
            if known.content == request.content && !request.reject_duplicate {
                self.reply(caller, ActionAnswer::Decided(Box::new(Receipt { replayed: true, ..known.receipt })));
            } else {
                let same = known.content == request.content;
                let code = if same { "duplicate_idempotency_key" } else { "idempotency_conflict" };
                let first = &known.receipt.action_id;
                self.refuse(caller, request, refusal(code, format!("duplicate idempotency key: {first} has it")));
            }
            return;
        }
        let judged = self
            .judged(request)
            .and_then(|deed| if deed.writes() { self.may_write().map(|()| deed) } else { Ok(deed) });
        match judged {
            Ok(deed) => self.accept(caller, request, deed),
            Err(refusal) => self.refuse(caller, request, refusal),
        }
    }

    fn judged(&self, request: &ActionRequest) -> Result<Deed, Refusal> {
        let Some(kind) = ActionKind::named(&request.kind) else {
            return Err(refusal("unknown_action", "no such kind of action"));
        };
        let target = request.target_kind.as_str();
        if !kind.targets().contains(&target) {
            let reason = format!("{} has no target of kind {target:?}", kind.as_str());
            return Err(refusal("invalid_payload", reason));
        }
        if target == "daemon" {
            return self.judged_of_daemon(kind, request);
        }
        if target == "saga" {
            return Ok(Deed::Say(Box::new(self.judged_saying(request)?)));
        }
        let issue = self.target(request)?;
        let Some(entry) = self.state.issues.get(&issue) else { return Err(refusal("not_found", NOT_FOUND)) };
        let standing = Standing::of(&self.state, entry, self.now);
        verdict(kind, standing)?;
        self.judged_of_issue(kind, issue, standing, request)
    }

    fn judged_of_daemon(&self, kind: ActionKind, request: &ActionRequest) -> Result<Deed, Refusal> {
        if kind == ActionKind::SetBudget {
            return Ok(Deed::DayBudget(limits(&request.payload, false)?));
        }
        only(&request.payload, &["by", "why"])?;
        if kind == ActionKind::Reload {
            let (hash, policy) = self.held_policy.clone().ok_or_else(|| self.nothing_held())?;
            return Ok(Deed::Reload(hash, policy));
        }
        Ok(if kind == ActionKind::Refresh { Deed::Refresh } else { Deed::Drain(kind == ActionKind::Drain) })
    }

    /// What the payload makes of an action that the table accepts.
    fn judged_of_issue(
        &self,
        kind: ActionKind,
        issue: IssueId,
        standing: Standing,
        request: &ActionRequest,
    ) -> Result<Deed, Refusal> {
        let payload = &request.payload;
        let by = || {
            let named = texts(payload, "by")?.or_else(|| request.by.clone());
            Ok(named.unwrap_or_else(|| "operator".to_owned()))
        };
        let bare = || only(payload, &["by", "why"]);
        match kind {
            ActionKind::Cancel | ActionKind::Pause => {
                bare()?;
                self.may_stop(&issue)?;
                Ok(Deed::Stop(issue, if kind == ActionKind::Cancel { Stop::Cancel } else { Stop::Pause }))
            }
            ActionKind::Resume => bare().map(|()| Deed::Resume(issue)),
            ActionKind::Release => bare().map(|()| Deed::Release(issue)),
            ActionKind::Retry | ActionKind::Rehydrate => {
                bare()?;
                let start = if kind == ActionKind::Retry { Start::New } else { Start::Rehydrate };
                let to = self.state_to_work_in(&issue);
                Ok(Deed::Again { issue, start, to })
            }
            ActionKind::SetBudget => Ok(Deed::IssueBudget(issue, limits(payload, true)?)),
            ActionKind::Steer => {
                only(payload, &["text", "by"])?;
                let on_its_way =
                    self.state.open_effects.values().filter(|open| open.issue == issue).filter(|open| {
                        matches!(open.effect, Effect::CarryOut { order: Order::Steer { .. }, action: _ })
                    });
                let queued = self.state.issues.get(&issue).map_or(0, |entry| entry.messages.len());
                let waiting = queued + on_its_way.count();
                if waiting >= MESSAGES {
                    let reason = format!("{waiting} messages wait for the agent already");
                    return Err(refusal("too_many_messages", reason));
                }
                Ok(Deed::Steer { issue, text: prose(payload, "text", LONG)?, by: by()? })
            }
            ActionKind::Answer => {
                only(payload, &["text", "by"])?;
                let reply = Reply::Text { text: prose(payload, "text", LONG)? };
                Ok(Deed::Reply { issue, reply, by: by()? })
            }
            ActionKind::Comment => {
                only(payload, &["body", "by"])?;
                Ok(Deed::Order(issue, Order::Comment { body: prose(payload, "body", LONG)?, by: by()? }))
            }
            ActionKind::TransitionIssue => {
                only(payload, &["state", "by"])?;
                let to = texts(payload, "state")?.filter(|to| !to.trim().is_empty() && to.len() <= STATE);
                let to = to.ok_or_else(|| refusal("unknown_state", "the payload names no state of the tracker"))?;
                Ok(Deed::Order(issue, Order::Transition { to: to.trim().to_owned(), then: None }))
            }
            ActionKind::CreateFollowup => {
                only(payload, &["title", "description", "by"])?;
                let title = texts(payload, "title")?.map(|title| title.trim().to_owned());
                let title = title.filter(|title| !title.is_empty());
                let title = title.ok_or_else(|| refusal("invalid_payload", "the payload has no title"))?;
                let description = match payload.get("description") {
                    None | Some(Value::Null) => String::new(),
                    Some(_) => prose(payload, "description", LONG)?,
                };
                Ok(Deed::Order(issue, Order::Followup { title, description }))
            }
            ActionKind::Approve | ActionKind::Deny if !standing.approval => {
                only(payload, &["fingerprint", "by", "why"])?;
                let why = texts(payload, "why")?.unwrap_or_default();
                let reply = if kind == ActionKind::Approve { Reply::Granted } else { Reply::Denied { why } };
                Ok(Deed::Reply { issue, reply, by: by()? })
            }
            ActionKind::Approve | ActionKind::Deny | ActionKind::Settle => {
                Ok(Deed::Say(Box::new(self.judged_saying(request)?)))
            }
            ActionKind::Refresh | ActionKind::Drain | ActionKind::Undrain | ActionKind::Reload => {
                Err(refusal("invalid_payload", "this is done to the daemon"))
            }
        }
    }

    /// The issue that the target names: itself, or by its live run.
    pub(crate) fn target(&self, request: &ActionRequest) -> Result<IssueId, Refusal> {
        let key = &request.target_id;
        if request.target_kind == "run" {
            let run = self.state.runs.values().find(|run| run.id.as_str().eq_ignore_ascii_case(key));
            let none = || refusal("not_found", "not found: no live run has this id");
            return run.map(|run| run.issue.clone()).ok_or_else(none);
        }
        self.index.named(key).cloned().ok_or_else(|| refusal("not_found", NOT_FOUND))
    }

    fn accept(&mut self, caller: u64, request: &ActionRequest, deed: Deed) {
        let (action_id, correlation_id) = self.action_names(request);
        let issue = deed.issue().cloned();
        self.emit(Event::ActionAccepted {
            action_id: action_id.clone(),
            correlation_id: correlation_id.clone(),
            action_kind: request.kind.clone(),
            target_kind: request.target_kind.clone(),
            target_id: request.target_id.clone(),
            issue,
            idempotency_key: request.idempotency_key.clone(),
            content: request.content.clone(),
            by: request.by.clone(),
        });
        let action = ActionRef { action_id, correlation_id };
        self.carry_out(deed, &action);
        self.answer(caller, &action.action_id);
    }

    fn carry_out(&mut self, deed: Deed, action: &ActionRef) {
        let action_id = action.action_id.clone();
        match deed {
            Deed::IssueBudget(id, limits) => {
                self.emit(Event::BudgetSet { issue: Some(id.clone()), day: None, limits, action_id });
                self.go_on_with(&id, limits);
                self.completed(action, Some(&id));
            }
            Deed::DayBudget(limits) => {
                let day = Some(day_of(self.now));
                self.emit(Event::BudgetSet { issue: None, day, limits, action_id });
                self.go_on_with_day(limits);
                self.poll_soon();
                self.completed(action, None);
            }
            Deed::Release(id) => {
                self.emit(Event::Released { issue: id.clone(), action_id });
                match self.state.issues.get(&id).and_then(|entry| entry.current_run.clone()) {
                    Some(run) => drop(self.take_up_handoff(&run)),
                    None => self.set_status(&id, IssueStatus::Idle, Some("released"), None),
                }
                self.poll_soon();
                self.completed(action, Some(&id));
            }
            Deed::Say(saying) => self.tell(*saying, &action.action_id, &action.correlation_id),
            Deed::Stop(id, stop) => self.stop_work(&id, stop, action),
            Deed::Resume(id) => {
                self.go_on_in_session(&id, "resumed by an operator");
                self.completed(action, Some(&id));
            }
            Deed::Again { issue, start, to } => self.work_again(&issue, start, to, action),
            Deed::Steer { issue, text, by } => {
                let message = Message { action_id, by, text, question: None, unsure: false };
                self.steer(&issue, message, action);
            }
            Deed::Order(id, order) => self.order(&id, order, action),
            Deed::Reply { issue, reply, by } => self.reply_to_question(&issue, reply, by, action),
            Deed::Refresh => {
                self.look_outside_soon();
                self.poll_soon();
                self.completed(action, None);
            }
            Deed::Reload(hash, policy) => {
                self.held_policy = None;
                self.put_in_force(hash, policy);
                self.completed(action, None);
            }
            Deed::Drain(on) => {
                self.emit(Event::Drained { on, action_id });
                self.poll_soon();
                self.completed(action, None);
            }
        }
    }

    fn refuse(&mut self, caller: u64, request: &ActionRequest, Refusal { code, reason }: Refusal) {
        if !self.may_record_refusal() {
            let hint = "it is counted and has no receipt, as a thousand others were refused within the last minute";
            return self.reply(caller, ActionAnswer::Unrecorded(Failure::permanent(code, reason).hint(hint)));
        }
        let (action_id, correlation_id) = self.action_names(request);
        self.emit(Event::ActionRejected {
            action_id: action_id.clone(),
            correlation_id,
            action_kind: request.kind.clone(),
            target_kind: request.target_kind.clone(),
            target_id: request.target_id.clone(),
            code: code.to_owned(),
            reason,
            by: request.by.clone(),
        });
        self.answer(caller, &action_id);
    }

    /// Whether the oldest refused action that is remembered may be forgotten for another one.
    fn may_record_refusal(&self) -> bool {
        let oldest = self.state.refusals.front().filter(|_| self.state.refusals.len() >= ACTIONS_KEPT);
        oldest.is_none_or(|oldest| self.now.since_ms(oldest.issued_at) >= REFUSAL_MS)
    }

    /// Writes that were refused before they became actions, or without becoming one.
    pub(crate) fn note_refused_writes(&mut self, mut counts: BTreeMap<String, u64>) {
        counts.retain(|_, count| *count > 0);
        while counts.len() > REFUSAL_CODES {
            counts.pop_last();
        }
        if !counts.is_empty() {
            self.emit(Event::WritesRefused { counts });
        }
    }

    fn action_names(&self, request: &ActionRequest) -> (String, String) {
        let action = format!("act-{}", self.state.action_count + 1);
        let correlation = request.correlation_id.clone().unwrap_or_else(|| format!("c-{action}"));
        (action, correlation)
    }

    fn answer(&mut self, caller: u64, action_id: &str) {
        if let Some(receipt) = self.receipt(action_id) {
            self.reply(caller, ActionAnswer::Decided(Box::new(receipt)));
        }
    }

    /// The receipt of an action, as long as it is remembered.
    #[must_use]
    pub fn receipt(&self, action_id: &str) -> Option<Receipt> {
        // Whoever asks wants a new one.
        let accepted = self.state.actions.iter().rev().map(|record| &record.receipt);
        accepted.chain(self.state.refusals.iter().rev()).find(|receipt| receipt.action_id == action_id).cloned()
    }

    /// An issue that was parked for exactly this limit goes on when it is raised enough.
    fn go_on_with(&mut self, id: &IssueId, limits: BudgetOverride) {
        let (Some(entry), Some(policy)) = (self.state.issues.get(id), self.state.policy()) else { return };
        let raised = match entry.parked.as_ref().and_then(|parked| parked.limit) {
            Some(BudgetLimit::IssueTokens) => limits.tokens.is_some(),
            Some(BudgetLimit::IssueCost) => limits.cost_nanousd.is_some(),
            Some(BudgetLimit::IssueTurns) => limits.turns.is_some(),
            Some(BudgetLimit::IssueWallClock) => limits.wall_clock_ms.is_some(),
            Some(BudgetLimit::IssueRuns) => limits.runs.is_some(),
            Some(BudgetLimit::DayTokens | BudgetLimit::DayCost) | None => false,
        };
        let enough = self.spent(entry, &policy).is_none() && entry.runs < runs_allowed(entry, &policy);
        if entry.status == IssueStatus::Parked && raised && enough {
            self.set_status(id, IssueStatus::Idle, Some("its budget was raised"), None);
            // Nothing else that the tracker says depends on a limit.
            self.poll_soon();
        }
    }

    /// The same for the day's limits, over all issues.
    fn go_on_with_day(&mut self, limits: BudgetOverride) {
        let Some(policy) = self.state.policy() else { return };
        if self.day_excess(&policy).is_some() {
            return;
        }
        let raised: Vec<IssueId> = self
            .state
            .issues
            .values()
            .filter(|entry| entry.status == IssueStatus::Parked)
            .filter(|entry| match entry.parked.as_ref().and_then(|parked| parked.limit) {
                Some(BudgetLimit::DayTokens) => limits.tokens.is_some(),
                Some(BudgetLimit::DayCost) => limits.cost_nanousd.is_some(),
                Some(_) | None => false,
            })
            .map(|entry| entry.issue.id.clone())
            .collect();
        for id in raised {
            self.set_status(&id, IssueStatus::Idle, Some("the day's budget was raised"), None);
        }
    }
}

/// The limits of a payload: absolute, at least one, and nothing else.
fn limits(payload: &Value, of_issue: bool) -> Result<BudgetOverride, Refusal> {
    let invalid = |what: String| refusal("invalid_payload", what);
    let Some(fields) = payload.as_object().filter(|fields| !fields.is_empty()) else {
        return Err(invalid("the payload names no limit".to_owned()));
    };
    let mut limits = BudgetOverride::default();
    for (name, value) in fields {
        let whole = || value.as_u64().ok_or_else(|| invalid(format!("{name} is no whole number from 0 on")));
        let small = || u32::try_from(whole()?).map_err(|_| invalid(format!("{name} is too large")));
        match name.as_str() {
            "tokens" => limits.tokens = Some(whole()?),
            "cost_usd" => {
                let amount = value.as_f64().and_then(nanousd);
                limits.cost_nanousd = Some(amount.ok_or_else(|| invalid("cost_usd is no amount".to_owned()))?);
            }
            "turns" if of_issue => limits.turns = Some(small()?),
            "runs" if of_issue => limits.runs = Some(small()?),
            "wall_clock_ms" if of_issue => limits.wall_clock_ms = Some(whole()?),
            _ => {
                let name: String = name.chars().take(40).collect();
                return Err(invalid(format!("{name:?} is no limit of the target")));
            }
        }
    }
    Ok(limits)
}

impl State {
    /// Remembers an action, and no more of them than are kept.
    #[expect(clippy::wildcard_enum_match_arm, reason = "the fold hands it these four kinds alone")]
    pub(crate) fn fold_action(&mut self, event: &Event, at: Timestamp) {
        match event {
            Event::ActionAccepted {
                action_id,
                correlation_id,
                action_kind,
                target_kind,
                target_id,
                issue: _,
                idempotency_key,
                content,
                by,
            } => {
                let names = [action_id, correlation_id, action_kind, target_kind, target_id];
                let receipt = receipt_of(names, None, by.as_ref(), at);
                let (key, content) = (idempotency_key.clone(), content.clone());
                self.actions.push_back(ActionRecord { receipt, key, content });
                self.action_count += 1;
            }
            Event::ActionRejected {
                action_id,
                correlation_id,
                action_kind,
                target_kind,
                target_id,
                code,
                reason,
                by,
            } => {
                let names = [action_id, correlation_id, action_kind, target_kind, target_id];
                self.refusals.push_back(receipt_of(names, Some((code, reason)), by.as_ref(), at));
                self.action_count += 1;
            }
            Event::ActionCompleted { action_id, correlation_id: _, issue: _, note } => {
                let done = self.actions.iter_mut().rev().find(|record| record.receipt.action_id == *action_id);
                if let Some(record) = done {
                    record.receipt.completed_at = Some(at);
                    record.receipt.note.clone_from(note);
                }
            }
            Event::ActionFailed { action_id, correlation_id: _, issue: _, failure } => {
                let failed = self.actions.iter_mut().rev().find(|record| record.receipt.action_id == *action_id);
                if let Some(record) = failed {
                    record.receipt.completed_at = Some(at);
                    record.receipt.failure = Some(failure.clone());
                }
            }
            // Only these four come here.
            _ => {}
        }
        if self.actions.len() > ACTIONS_KEPT {
            self.actions.pop_front();
        }
        if self.refusals.len() > ACTIONS_KEPT {
            self.refusals.pop_front();
        }
    }
}

fn receipt_of(names: [&String; 5], refusal: Option<(&String, &String)>, by: Option<&String>, at: Timestamp) -> Receipt {
    let [action_id, correlation_id, action_kind, target_kind, target_id] = names.map(Clone::clone);
    Receipt {
        action_id,
        correlation_id,
        action_kind,
        target_kind,
        target_id,
        accepted: refusal.is_none(),
        code: refusal.map(|(code, _)| code.clone()),
        reason: refusal.map(|(_, reason)| reason.clone()),
        by: by.cloned(),
        issued_at: at,
        completed_at: None,
        failure: None,
        note: None,
        replayed: false,
    }
}
