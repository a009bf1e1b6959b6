//! Operators: what they want of the daemon. They send it again until they have an answer, and sometimes once more.
#![allow(clippy::wildcard_enum_match_arm, reason = "a simulation looks at the cases that it needs")]

use std::collections::BTreeSet;

use dalsegno_core::{ActionAnswer, ActionRequest, Event, Input, IssueStatus, Machine, Receipt, Run, StepState, Wants};
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

/// The action that an event accepts.
fn accepted(event: &Event) -> Option<&String> {
    match event {
        Event::ActionAccepted { action_id, .. } => Some(action_id),
        _ => None,
    }
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
        let running = self.operators.coin();
        let held: Vec<(String, &'static str)> = issues
            .values()
            .filter_map(|entry| match (entry.status, entry.question.as_ref().map(|question| question.wants)) {
                (IssueStatus::Paused, _) => Some((entry.issue.identifier.clone(), "resume")),
                (IssueStatus::WaitingQuestion, Some(Wants::Input)) => Some((entry.issue.identifier.clone(), "answer")),
                (IssueStatus::WaitingQuestion, _) => Some((entry.issue.identifier.clone(), "approve")),
                (IssueStatus::Running, _) if running => Some((entry.issue.identifier.clone(), "steer")),
                (IssueStatus::Running, _) => Some((entry.issue.identifier.clone(), "pause")),
                _ => None,
            })
            .collect();
        let some = usize::try_from(self.operators.below(stuck.len() as u64)).unwrap_or(0);
        // A history that aims at the death of the daemon beside an order has such orders.
        let aimed = match self.plan.rates.target {
            Some("comment_issue") => Some(("comment", json!({"body": "seen"}))),
            Some("transition_issue") => Some(("transition_issue", json!({"state": "Todo"}))),
            Some("create_issue") => Some(("create_followup", json!({"title": "Next"}))),
            _ => None,
        };
        let aimed = aimed.filter(|_| self.operators.permille(700));
        let (kind, target_kind, target_id, payload) = match self.operators.below(16) {
            _ if aimed.is_some() => {
                let (kind, payload) = aimed.unwrap_or_default();
                (kind, "issue", issue, payload)
            }
            6..=10 if !held.is_empty() => {
                let some = usize::try_from(self.operators.below(held.len() as u64)).unwrap_or(0);
                let (issue, kind) = held.get(some).cloned().unwrap_or_default();
                let payload = match kind {
                    "answer" | "steer" => json!({"text": "blue"}),
                    _ => Value::Null,
                };
                (kind, "issue", issue, payload)
            }
            6..=15 => self.something_done_to(issue),
            0..=3 if !stuck.is_empty() => {
                let (saga, step) = stuck.get(some).cloned().unwrap_or_default();
                let truth = self.operators.coin().then(|| self.truth(&saga, step)).flatten();
                let verb = truth.unwrap_or("retry");
                ("settle", "saga", saga, json!({"step": step, "verb": verb, "why": "somebody looked"}))
            }
            0..=2 => ("release", "issue", issue, Value::Null),
            3 => ("set_budget", "issue", issue, json!({"tokens": self.operators.pick([0, 8_000, 60_000])})),
            4 => ("set_budget", "issue", issue, json!({"turns": self.operators.pick([1, 9]), "runs": 9})),
            _ => ("set_budget", "daemon", String::new(), json!({"tokens": self.operators.pick([5_000, 90_000])})),
        };
        let wish = self.note_wish(kind, target_kind, target_id, payload);
        self.send(wish)
    }

    /// New work is taken again, whoever wanted none.
    pub(super) fn undrain(&mut self) {
        let wish = self.note_wish("undrain", "daemon", String::new(), Value::Null);
        self.schedule(0, Item::Send { wish });
    }

    fn note_wish(&mut self, kind: &str, target_kind: &str, target_id: String, payload: Value) -> usize {
        let name = format!("wish-{}", self.wishes.len() + 1);
        let request = ActionRequest {
            kind: kind.to_owned(),
            target_kind: target_kind.to_owned(),
            content: format!("{kind} {target_kind} {target_id} {payload}"),
            target_id,
            correlation_id: Some(name.clone()),
            idempotency_key: Some(name),
            reject_duplicate: false,
            by: Some("simulator".to_owned()),
            payload,
        };
        self.wishes.push(Wish { request, sent: 0, answer: None });
        self.wishes.len() - 1
    }

    /// What a look at the world says of a parked step, where that can be told.
    fn truth(&self, saga: &str, step: &str) -> Option<&'static str> {
        let runs = self.machine.as_ref()?.state().runs.values();
        let of_saga = |run: &&Run| run.handoff.as_ref().is_some_and(|handoff| handoff.saga.as_deref() == Some(saga));
        let run = runs.into_iter().find(of_saga)?;
        let (handoff, issue) = (run.handoff.as_ref()?, self.world.tracked.get(&run.issue)?);
        let branch = format!("dalsegno/{}", issue.issue.identifier);
        let pushed = self.world.remote.get(&branch).is_some_and(|there| self.world.holds(there, &handoff.commit));
        let took_place = match step {
            "push" => pushed,
            "comment" => issue.comments.iter().any(|key| key.contains(&format!("/comment/{saga}/"))),
            _ => return None,
        };
        match (handoff.turned_back.is_some(), took_place) {
            (true, false) => Some("undone"),
            (true, true) => None,
            (false, true) => Some("applied"),
            (false, false) => Some("not_applied"),
        }
    }

    /// What operators do to an issue and to the daemon, whatever state that is in.
    fn something_done_to(&mut self, issue: String) -> (&'static str, &'static str, String, Value) {
        let of_issue = |kind, payload| (kind, "issue", issue.clone(), payload);
        let of_daemon = |kind| (kind, "daemon", String::new(), Value::Null);
        match self.operators.below(16) {
            0 | 1 => of_issue("pause", Value::Null),
            2..=4 => of_issue("resume", Value::Null),
            5 => of_issue("cancel", Value::Null),
            6 => of_issue("retry", Value::Null),
            7 => of_issue("rehydrate", Value::Null),
            8 | 9 => of_issue("steer", json!({"text": "mind the tests"})),
            10 | 11 => of_issue("answer", json!({"text": "blue"})),
            12 => of_issue("approve", Value::Null),
            13 => of_issue("comment", json!({"body": "seen"})),
            14 => of_issue("transition_issue", json!({"state": self.operators.pick(["Todo", "Backlog", "Done"])})),
            _ => match self.operators.below(4) {
                0 => of_daemon("drain"),
                1 => of_daemon("refresh"),
                2 => of_issue("create_followup", json!({"title": "Next"})),
                _ => of_daemon("undrain"),
            },
        }
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
    pub(super) fn replied(&mut self, caller: u64, answer: ActionAnswer) -> Result<(), Violation> {
        let ActionAnswer::Decided(receipt) = answer else {
            return broken("receipts", "few operators were refused, and this one without a receipt".to_owned());
        };
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
        let first = wanted.answer.replace((*receipt).clone());
        if let Some(first) = first.filter(|first| first.accepted)
            && first.action_id != receipt.action_id
        {
            let (was, is) = (first.action_id, receipt.action_id);
            return broken("receipts", format!("wish {} was answered with {was}, and now with {is}", wish + 1));
        }
        // A drain that a crash lost is wanted again, after the last undrain.
        if self.calm && receipt.accepted && !receipt.replayed && self.kind_of(wish) == Some("drain") {
            self.undrain();
        }
        // Somebody's network repeats what was answered.
        if self.operators.permille(400) && !self.calm {
            let after = self.operators.between(10, 120_000);
            self.schedule(after, Item::Send { wish });
        }
        Ok(())
    }

    /// The bug [`Mutation::AnsweredBeforeReceipt`]: who waits is told what is decided, and not on disk yet.
    pub(super) fn answer_early(&mut self) -> Result<(), Violation> {
        let Some(batch) = &self.store.unsynced else { return Ok(()) };
        let decided = batch.events.iter().find_map(|recorded| match &recorded.event {
            Event::ActionAccepted { action_id, correlation_id, .. } => {
                Some((action_id.clone(), correlation_id.clone()))
            }
            _ => None,
        });
        let Some((action, wanted)) = decided else { return Ok(()) };
        let caller = self.wishes.iter().position(|wish| wish.request.correlation_id.as_ref() == Some(&wanted));
        let receipt = self.machine.as_ref().and_then(|machine| machine.receipt(&action));
        match (caller, receipt) {
            (Some(caller), Some(receipt)) => self.replied(caller as u64, ActionAnswer::Decided(Box::new(receipt))),
            (Some(_) | None, _) => Ok(()),
        }
    }

    /// What was answered since the backup is not known any more; who sent it sends it again.
    pub(super) fn forget_wishes(&mut self) {
        let known: BTreeSet<&String> =
            self.store.events.iter().filter_map(|recorded| accepted(&recorded.event)).collect();
        let mut again = Vec::new();
        for (number, wish) in self.wishes.iter_mut().enumerate() {
            if wish.answer.take_if(|answer| !known.contains(&answer.action_id)).is_some() {
                again.push(number);
            }
        }
        for wish in again {
            let after = self.operators.between(500, 60_000);
            self.schedule(after, Item::Send { wish });
        }
    }

    fn kind_of(&self, wish: usize) -> Option<&str> {
        self.wishes.get(wish).map(|wish| wish.request.kind.as_str())
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
            // A handoff whose undo is parked ends, and with it what waits for its end, when somebody settles it.
            let state = self.machine.as_ref().map(Machine::state);
            let resting = state.into_iter().flat_map(|state| state.runs.values()).filter(|run| run.rests());
            let mut stops = resting.flat_map(|run| &run.stops);
            let waits = stops.any(|wish| of(&wish.action.correlation_id));
            if accepted > 1 || (completed != accepted && !waits) || completed > accepted {
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
