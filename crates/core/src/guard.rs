//! What a reload of WORKFLOW.md may not change by itself while handoffs need an approval: whoever can write the file could otherwise
//! have his own commands run, or nobody asked.
//!
//! # Transitions
//! - The file as it is at the start of a daemon holds: who starts it says so.
//! - A later one that changes a guarded key is held. The last good one stays in force, and nothing new starts.
//! - `reload` of an operator takes what is held. Another version of the file takes its place, or is in force.

use std::collections::BTreeSet;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::action::{Refusal, refusal};
use crate::effect::Failure;
use crate::event::Event;
use crate::ids::PolicyHash;
use crate::machine::Machine;
use crate::notify::{NotifyPolicy, Receiver};
use crate::policy::Policy;

/// Code of a reload that waits for an operator.
pub const HELD: &str = "workflow_held";
/// Keys of `agent` that neither run code nor loosen a rule; any other is guarded.
const FREE: [&str; 8] = [
    "max_concurrent_agents",
    "max_turns",
    "max_retry_backoff_ms",
    "max_concurrent_agents_by_state",
    "turn_timeout_ms",
    "read_timeout_ms",
    "stall_timeout_ms",
    "model",
];

impl Machine {
    /// The file was read, and can be used.
    pub(crate) fn policy_loaded(&mut self, hash: PolicyHash, policy: Box<Policy>) {
        let at_start = !std::mem::replace(&mut self.looked_at_workflow, true);
        self.held_policy = None;
        let guarded = match self.state.policy() {
            Some(now) if !at_start => guarded_changes(&now, &policy),
            Some(_) | None => Vec::new(),
        };
        if guarded.is_empty() {
            if self.state.policy.as_ref() != Some(&hash) || self.state.workflow_failure.is_some() {
                self.put_in_force(hash, policy);
            }
            return;
        }
        self.held_policy = Some((hash, policy));
        let why = format!("handoffs need an approval, and WORKFLOW.md changes {}", guarded.join(", "));
        let failure = Failure::permanent(HELD, why).hint(
            "Look at the change, then take it with `dalsegno reload` or by a restart of the daemon; or take it back.",
        );
        self.workflow_failed(failure);
    }

    /// The file was read, and cannot be used.
    pub(crate) fn policy_rejected(&mut self, failure: Failure) {
        self.looked_at_workflow = true;
        self.held_policy = None;
        self.workflow_failed(failure);
    }

    /// Why there is nothing for `reload` to take.
    pub(crate) fn nothing_held(&self) -> Refusal {
        refusal(
            "nothing_held",
            match &self.state.workflow_failure {
                Some(failure) => format!("WORKFLOW.md cannot be used as it is: {failure}"),
                None => "WORKFLOW.md is in force as it is".to_owned(),
            },
        )
    }

    /// A policy holds for what starts from now on.
    pub(crate) fn put_in_force(&mut self, hash: PolicyHash, policy: Box<Policy>) {
        self.emit(Event::WorkflowLoaded { hash, policy });
        self.poll_at_once();
    }

    fn workflow_failed(&mut self, failure: Failure) {
        if self.state.workflow_failure.as_ref() != Some(&failure) {
            self.emit(Event::WorkflowRejected { failure });
        }
    }
}

/// The keys that the second policy changes and that only an operator may, while the first asks for approvals.
fn guarded_changes(now: &Policy, next: &Policy) -> Vec<String> {
    if now.handoff.as_ref().is_none_or(|handoff| handoff.approval_ms.is_none()) {
        return Vec::new();
    }
    let (agent, next_agent) = (fields(&now.agent), fields(&next.agent));
    let mut changes = changes("hooks", &fields(&now.hooks), &fields(&next.hooks), &[]);
    changes.extend(self::changes("agent", &agent, &next_agent, &FREE));
    changes.extend(self::changes("handoff", &fields(&now.handoff), &fields(&next.handoff), &[]));
    let commands = |policy: &Policy| -> Vec<NotifyPolicy> {
        policy.notify.iter().filter(|entry| matches!(entry.receiver, Receiver::Command { .. })).cloned().collect()
    };
    if commands(now) != commands(next) {
        changes.push("notify".to_owned());
    }
    if now.auto_approve != next.auto_approve {
        changes.push("questions.auto_approve".to_owned());
    }
    changes
}

/// A part of a policy by its keys; none when it is not there.
fn fields(part: &impl Serialize) -> Map<String, Value> {
    match serde_json::to_value(part) {
        Ok(Value::Object(fields)) => fields,
        // What is not there, and what JSON cannot hold, of which policies have nothing.
        Ok(_) | Err(_) => Map::new(),
    }
}

fn changes(section: &str, now: &Map<String, Value>, next: &Map<String, Value>, free: &[&str]) -> Vec<String> {
    let keys: BTreeSet<&String> = now.keys().chain(next.keys()).collect();
    let changed = keys.into_iter().filter(|key| !free.contains(&key.as_str()) && now.get(*key) != next.get(*key));
    changed.map(|key| key_of(section, key)).collect()
}

/// The key of WORKFLOW.md for a field of the policy.
fn key_of(section: &str, field: &str) -> String {
    match (section, field) {
        ("agent", "codex") => "codex".to_owned(),
        ("handoff", "approval_ms") => "handoff.approval".to_owned(),
        _ => format!("{section}.{field}"),
    }
}
