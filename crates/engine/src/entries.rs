//! What the library of durable effects is told of the machine's effects: the same intents and outcomes as the events of a batch,
//! as records under scope and replay key, to be written in the same transaction.
//!
//! The machine decides, and its events are the truth of its runs; the records make its effects look like everybody's: one table
//! for whoever asks what was done to the world, by the machine or through a tool.

use std::collections::BTreeMap;

use dalsegno_core::{Batch, Effect, EffectId, Event, Failure, Order, Outcome, RunId, State, Timestamp};
use dalsegno_durable as durable;
use dalsegno_durable::{
    Command, ContentHash, EffectError, EffectRecord, EffectState, Entry, Envelope, ExecutionScope, Invocation,
    NAME_BYTES,
};

use crate::live::clip;

/// Effects that are open, as they are recorded.
#[derive(Debug, Default)]
pub struct Entries {
    open: BTreeMap<EffectId, Open>,
}

#[derive(Debug)]
struct Open {
    scope: ExecutionScope,
    replay_key: String,
    state: EffectState,
    /// The scope is this effect's alone, and ends with it.
    alone: bool,
}

/// Where the effects of a run live, those that its agent asks for among them.
pub(crate) fn run_scope(run: &RunId) -> ExecutionScope {
    ExecutionScope::process(run.as_str())
}

impl Entries {
    /// As the journal left them.
    #[must_use]
    pub fn of(state: &State) -> Self {
        let mut entries = Self::default();
        for (id, open) in &state.open_effects {
            let (attempt, at) = (open.attempt, stamp(state.at));
            entries.intend((*id, open.run.as_ref(), open.key.as_str()), &open.effect, (attempt, state.epoch), at);
        }
        entries
    }

    /// The entries of a batch. Total: what cannot be written as a record is told of in the log, and is in the events all the same.
    pub fn of_batch(&mut self, batch: &Batch) -> Vec<Entry> {
        let mut entries = Vec::new();
        for recorded in &batch.events {
            let at = stamp(recorded.at);
            #[expect(clippy::wildcard_enum_match_arm, reason = "the other facts are about no effect")]
            match &recorded.event {
                Event::EffectIntended { effect_id, issue: _, run, key, attempt, effect } => {
                    let named = (*effect_id, run.as_ref(), key.as_str());
                    entries.extend(self.intend(named, effect, (*attempt, batch.epoch), at));
                }
                Event::EffectInDoubt { effect_id, issue: _, run: _, reason: _ } => {
                    if let Some(open) = self.open.get_mut(effect_id) {
                        open.state.doubts += 1;
                        open.state.epoch = batch.epoch;
                        entries.push(open.changed());
                    }
                }
                Event::EffectEnded { effect_id, issue: _, run: _, outcome, probed: _ } => {
                    // The machine ends no effect in doubt.
                    let Some(outcome) = ended(outcome) else { continue };
                    if let Some(mut open) = self.open.remove(effect_id) {
                        open.state.end(batch.epoch, at, outcome, None);
                        entries.push(open.changed());
                        if open.alone {
                            entries.push(Entry::Ended { scope: open.scope, at });
                        }
                    }
                }
                Event::RunEnded { run, .. } => entries.push(Entry::Ended { scope: run_scope(run), at }),
                _ => {}
            }
        }
        entries
    }

    fn intend(
        &mut self,
        (id, run, key): (EffectId, Option<&RunId>, &str),
        effect: &Effect,
        (attempt, epoch): (u32, u64),
        at: durable::Timestamp,
    ) -> Option<Entry> {
        // The journal's keys name what is done; ids never come again.
        let replay_key = bounded(format!("{key}@{id}"));
        let scope = run.map_or_else(|| ExecutionScope::operation(replay_key.clone()), run_scope);
        let command = command(effect);
        let invocation = Invocation {
            scope: scope.clone(),
            effect_id: id.to_string(),
            kind: command.kind(),
            replay_key: replay_key.clone(),
            caused_by: None,
            runtime: None,
        };
        let envelope = match Envelope::new(invocation, command) {
            Ok(envelope) => envelope,
            Err(why) => {
                tracing::error!(effect_id = %id, %why, "an effect has no record of its own; its events are as they are");
                return None;
            }
        };
        let mut record = EffectRecord::intended(&envelope, epoch, at, None);
        record.state.attempt = attempt;
        if let Some(before) = self.open.get(&id) {
            record.state.doubts = before.state.doubts;
            record.state.began_at = before.state.began_at;
        }
        let state = record.state.clone();
        self.open.insert(id, Open { scope: scope.clone(), replay_key, state, alone: run.is_none() });
        Some(Entry::Intended { scope, record })
    }
}

/// A key that is short enough: ids of issues are as long as trackers want.
fn bounded(key: String) -> String {
    if key.len() <= NAME_BYTES {
        return key;
    }
    let hash = ContentHash::of(&key);
    format!("{}…#{hash}", clip(&key, NAME_BYTES / 2))
}

impl Open {
    fn changed(&self) -> Entry {
        let Self { scope, replay_key, state, alone: _ } = self;
        Entry::Changed { scope: scope.clone(), replay_key: replay_key.clone(), state: state.clone() }
    }
}

fn stamp(at: Timestamp) -> durable::Timestamp {
    durable::Timestamp(at.0)
}

/// A value of the core's as JSON. They have string keys and finite numbers, so there is nothing that JSON cannot hold.
fn json(value: &impl serde::Serialize) -> serde_json::Value {
    serde_json::to_value(value).unwrap_or_default()
}

/// What an effect is to the library.
fn command(effect: &Effect) -> Command {
    let request = json(effect);
    let name = effect.kind().to_owned();
    match effect {
        Effect::Prompt { .. } => Command::LlmCall { request },
        Effect::HandOff { .. } | Effect::TellSaga { .. } => Command::Direct { name, input: request },
        Effect::PushBranch { .. } => Command::External { system: "git".to_owned(), request },
        Effect::CarryOut { order: Order::Steer { .. } | Order::Reply { .. }, action: _ } => {
            Command::External { system: "agent".to_owned(), request }
        }
        Effect::Comment { .. } | Effect::MoveIssue { .. } | Effect::CarryOut { .. } => {
            Command::External { system: "tracker".to_owned(), request }
        }
        Effect::Notify { receiver, .. } => Command::External { system: receiver.kind().to_owned(), request },
        Effect::StartSession { .. } | Effect::StopAgent | Effect::Sweep => Command::Process { request },
        Effect::RunHook { .. } | Effect::RunCheck { .. } => {
            Command::ExecCode { language: "sh".to_owned(), code: request.to_string() }
        }
        Effect::PrepareWorkspace { .. }
        | Effect::CommitLeftovers
        | Effect::FetchCommit
        | Effect::BringRemote
        | Effect::Mend { .. }
        | Effect::RemoveWorkspace { .. } => Command::Direct { name, input: request },
    }
}

fn ended(outcome: &Outcome) -> Option<durable::Outcome> {
    match outcome {
        Outcome::Done { output } => Some(durable::Outcome::Done(json(output))),
        Outcome::Failed { failure: Failure { code, message, hint: _, retryable: _ } } => {
            Some(durable::Outcome::Failed(EffectError::permanent(code.clone(), message.clone())))
        }
        Outcome::InDoubt { .. } => None,
    }
}
