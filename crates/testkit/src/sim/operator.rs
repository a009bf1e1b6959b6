//! Operators: what they want of the daemon. They send it again until they have an answer, and sometimes once more.
#![allow(clippy::wildcard_enum_match_arm, reason = "a simulation looks at the cases that it needs")]

use dalsegno_core::{ActionRequest, Event, Input, IssueStatus, Machine, Receipt, StepState};
use serde_json::{Value, json};

use super::drive::{Item, Sim};
use super::{Mutation, Violation};

/// What an operator wants, and what came of it.
#[derive(Debug)]
pub(super) struct Wish {
    request: ActionRequest,
    sent: u32,
    answer: Option<Receipt>,
}

fn broken(rule: &'static str, detail: String) -> Result<(), Violation> {
    Err(Violation { rule, detail })
}

/// Parked steps of handoffs, each with its saga.
fn parked_steps(machine: &Machine) -> Vec<(String, &'static str)> {
    let handoffs = machine.state().runs.values().filter_map(|run| run.handoff.as_ref());
    let steps = handoffs.flat_map(|handoff| {
        let parked = handoff.steps.iter().filter(|(_, state)| matches!(state, StepState::Parked { .. }));
        parked.filter_map(|(step, _)| Some((handoff.saga.clone()?, step.as_str())))
    });
    steps.collect()
}

impl Sim {
    /// An operator wants something new.
    pub(super) fn wish(&mut self) -> Result<(), Violation> {
        let Some(machine) = &self.machine else {
            // Nobody is there to be asked.
            self.schedule(5_000, Item::Wish);
            return Ok(());
        };
        let issues = &machine.state().issues;
        let parked: Vec<String> = issues
            .values()
            .filter(|entry| entry.status == IssueStatus::Parked)
            .map(|entry| entry.issue.identifier.clone())
            .collect();
        let all: Vec<String> = issues.values().map(|entry| entry.issue.identifier.clone()).collect();
        let known = if !parked.is_empty() && self.operators.permille(800) { parked } else { all };
        let some = usize::try_from(self.operators.below(known.len() as u64)).unwrap_or(0);
        let issue = known.get(some).cloned().unwrap_or_else(|| "DS-0".to_owned());
        let stuck: Vec<(String, &'static str)> = parked_steps(machine);
        let some = usize::try_from(self.operators.below(stuck.len() as u64)).unwrap_or(0);
        let (kind, target_kind, target_id, payload) = match self.operators.below(6) {
            0..=3 if !stuck.is_empty() => {
                let (saga, step) = stuck.get(some).cloned().unwrap_or_default();
                ("settle", "saga", saga, json!({"step": step, "verb": "retry", "why": "it can be done now"}))
            }
            0..=2 => ("release", "issue", issue, Value::Null),
            3 => ("set_budget", "issue", issue, json!({"tokens": self.operators.pick([0, 8_000, 60_000])})),
            4 => ("set_budget", "issue", issue, json!({"turns": self.operators.pick([1, 9]), "runs": 9})),
            _ => ("set_budget", "daemon", String::new(), json!({"tokens": self.operators.pick([5_000, 90_000])})),
        };
        let name = format!("wish-{}", self.wishes.len() + 1);
        let request = ActionRequest {
            kind: kind.to_owned(),
            target_kind: target_kind.to_owned(),
            content: format!("{kind} {target_kind} {target_id} {payload}"),
            target_id,
            correlation_id: Some(name.clone()),
            idempotency_key: Some(name),
            reject_duplicate: false,
            payload,
        };
        self.wishes.push(Wish { request, sent: 0, answer: None });
        self.send(self.wishes.len() - 1)
    }

    /// Sends a wish, and sees later whether it was answered.
    pub(super) fn send(&mut self, wish: usize) -> Result<(), Violation> {
        let again = self.operators.between(500, 60_000);
        let Some(wanted) = self.wishes.get_mut(wish) else { return Ok(()) };
        let mut request = wanted.request.clone();
        if wanted.sent > 0 && self.mutation == Some(Mutation::KeyDropped) {
            request.idempotency_key = None;
        }
        if wanted.answer.is_none() {
            self.schedule(again, Item::Send { wish });
        }
        if self.machine.is_none() {
            return Ok(());
        }
        if let Some(wanted) = self.wishes.get_mut(wish) {
            wanted.sent += 1;
        }
        self.note(|_| format!("an operator sends wish {}: {}", wish + 1, request.content));
        self.hand_in(Input::Action { caller: wish as u64, request: Box::new(request) })
    }

    /// An operator has an answer.
    pub(super) fn replied(&mut self, caller: u64, receipt: Receipt) -> Result<(), Violation> {
        let wish = usize::try_from(caller).unwrap_or(usize::MAX);
        let durable = self.store.events.iter().rev().any(|recorded| match &recorded.event {
            Event::ActionAccepted { action_id, .. } => receipt.accepted && *action_id == receipt.action_id,
            Event::ActionRejected { action_id, .. } => !receipt.accepted && *action_id == receipt.action_id,
            _ => false,
        });
        if !durable {
            return broken("receipts", format!("{} is answered and not on disk", receipt.action_id));
        }
        let word = match (receipt.replayed, receipt.accepted) {
            (true, _) => "replayed",
            (false, true) => "accepted",
            (false, false) => "refused",
        };
        let Some(wanted) = self.wishes.get_mut(wish) else { return Ok(()) };
        *self.coverage.actions.entry(format!("{} {word}", wanted.request.kind)).or_default() += 1;
        let first = wanted.answer.replace(receipt.clone());
        if let Some(first) = first.filter(|first| first.accepted)
            && first.action_id != receipt.action_id
        {
            let (was, is) = (first.action_id, receipt.action_id);
            return broken("receipts", format!("wish {} was answered with {was}, and now with {is}", wish + 1));
        }
        // Somebody's network repeats what was answered.
        if self.operators.permille(400) && !self.calm {
            let after = self.operators.between(10, 120_000);
            self.schedule(after, Item::Send { wish });
        }
        Ok(())
    }

    /// What was wanted happened once, and what was answered is there.
    pub(super) fn judge_wishes(&self) -> Result<(), Violation> {
        for (number, wish) in (1..).zip(&self.wishes) {
            let name = wish.request.correlation_id.as_ref();
            let of = |correlation: &String| Some(correlation) == name;
            let events = || self.store.events.iter().map(|recorded| &recorded.event);
            let accepted = events()
                .filter(|event| matches!(event, Event::ActionAccepted { correlation_id, .. } if of(correlation_id)))
                .count();
            let completed = events()
                .filter(|event| {
                    matches!(event, Event::ActionCompleted { correlation_id, .. }
                        | Event::ActionFailed { correlation_id, .. } if of(correlation_id))
                })
                .count();
            if accepted > 1 || completed != accepted {
                return broken(
                    "actions",
                    format!("wish {number} was accepted {accepted} times, and completed {completed} times"),
                );
            }
            let Some(answer) = &wish.answer else {
                return broken("actions", format!("wish {number} was never answered"));
            };
            if answer.accepted && accepted == 0 {
                return broken("receipts", format!("wish {number} was answered, and the journal lost it"));
            }
        }
        Ok(())
    }
}
