//! What the library of durable effects is told of the machine's effects: the same intents and outcomes as the events of a batch,
//! as records under scope and replay key, to be written in the same transaction.
//!
//! The machine decides, and its events are the truth of its runs; the records make its effects look like everybody's: one table
//! for whoever asks what was done to the world, by the machine or through a tool.

use std::collections::BTreeMap;

use dalsegno_core::{Batch, Effect, EffectId, Event, Failure, Outcome, RunId, State, Timestamp};
use dalsegno_durable as durable;
use dalsegno_durable::{
    Command, DurableError, EffectError, EffectRecord, EffectState, Entry, Envelope, ExecutionScope, Invocation,
};

/// Effects that are open, as they are recorded.
#[derive(Debug, Default)]
pub(crate) struct Entries {
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
    pub(crate) fn of(state: &State) -> Result<Self, DurableError> {
        let mut entries = Self::default();
        for (id, open) in &state.open_effects {
            let (attempt, at) = (open.attempt, stamp(state.at));
            entries.intend((*id, open.run.as_ref(), open.key.as_str()), &open.effect, (attempt, state.epoch), at)?;
        }
        Ok(entries)
    }

    /// The entries of a batch.
    ///
    /// # Errors
    /// When an effect cannot be written as one; its batch must not be appended then.
    pub(crate) fn of_batch(&mut self, batch: &Batch) -> Result<Vec<Entry>, DurableError> {
        let mut entries = Vec::new();
        for recorded in &batch.events {
            let at = stamp(recorded.at);
            #[expect(clippy::wildcard_enum_match_arm, reason = "the other facts are about no effect")]
            match &recorded.event {
                Event::EffectIntended { effect_id, issue: _, run, key, attempt, effect } => {
                    let named = (*effect_id, run.as_ref(), key.as_str());
                    entries.push(self.intend(named, effect, (*attempt, batch.epoch), at)?);
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
                    let Some(outcome) = ended(outcome)? else { continue };
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
        Ok(entries)
    }

    fn intend(
        &mut self,
        (id, run, key): (EffectId, Option<&RunId>, &str),
        effect: &Effect,
        (attempt, epoch): (u32, u64),
        at: durable::Timestamp,
    ) -> Result<Entry, DurableError> {
        // The journal's keys name what is done; ids never come again.
        let replay_key = format!("{key}@{id}");
        let scope = run.map_or_else(|| ExecutionScope::operation(replay_key.clone()), run_scope);
        let command = command(effect)?;
        let invocation = Invocation {
            scope: scope.clone(),
            effect_id: id.to_string(),
            kind: command.kind(),
            replay_key: replay_key.clone(),
            caused_by: None,
            runtime: None,
        };
        let mut record = EffectRecord::intended(&Envelope::new(invocation, command)?, epoch, at, None);
        record.state.attempt = attempt;
        if let Some(before) = self.open.get(&id) {
            record.state.doubts = before.state.doubts;
            record.state.began_at = before.state.began_at;
        }
        let state = record.state.clone();
        self.open.insert(id, Open { scope: scope.clone(), replay_key, state, alone: run.is_none() });
        Ok(Entry::Intended { scope, record })
    }
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

fn unwritable(error: serde_json::Error) -> DurableError {
    let message = format!("an effect cannot be written as JSON: {error}");
    DurableError::Invalid { code: "command_unreadable", message }
}

/// What an effect is to the library.
fn command(effect: &Effect) -> Result<Command, DurableError> {
    let request = serde_json::to_value(effect).map_err(unwritable)?;
    let name = effect.kind().to_owned();
    Ok(match effect {
        Effect::Prompt { .. } => Command::LlmCall { request },
        Effect::PushBranch { .. } => Command::External { system: "git".to_owned(), request },
        Effect::Comment { .. } | Effect::MoveIssue { .. } => {
            Command::External { system: "tracker".to_owned(), request }
        }
        Effect::StartSession { .. } | Effect::StopAgent | Effect::Sweep => Command::Process { request },
        Effect::RunHook { .. } | Effect::RunCheck { .. } => {
            Command::ExecCode { language: "sh".to_owned(), code: request.to_string() }
        }
        Effect::PrepareWorkspace { .. }
        | Effect::CommitLeftovers
        | Effect::FetchCommit
        | Effect::BringRemote
        | Effect::RemoveWorkspace { .. } => Command::Direct { name, input: request },
    })
}

fn ended(outcome: &Outcome) -> Result<Option<durable::Outcome>, DurableError> {
    Ok(match outcome {
        Outcome::Done { output } => Some(durable::Outcome::Done(serde_json::to_value(output).map_err(unwritable)?)),
        Outcome::Failed { failure: Failure { code, message, hint: _, retryable: _ } } => {
            Some(durable::Outcome::Failed(EffectError::permanent(code.clone(), message.clone())))
        }
        Outcome::InDoubt { .. } => None,
    })
}
