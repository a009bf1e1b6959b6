//! `dalsegno run --dry-run`: asks the tracker once and shows what the rules of dispatch make of it.
//! The journal is read and not written; nothing is performed.

use std::path::Path;
use std::sync::Arc;

use dalsegno_adapters::tracker::LocalTrackers;
use dalsegno_adapters::workflow::WorkflowFile;
use dalsegno_adapters::workspace::LocalWorkspaces;
use dalsegno_core::{Answer, Effect, Event, Input, Inspection, Machine, Output, Query};
use dalsegno_engine::{Clock, Inspector as _, Trackers, policy_hash};
use dalsegno_store::{Store, StoreError};

use crate::daemon::{SystemClock, preflight};
use crate::error::CliError;
use crate::inspector::LocalInspector;
use crate::out;

pub(crate) async fn run(workflow: &Path, state_dir: &Path) -> Result<(), CliError> {
    let file = Arc::new(WorkflowFile::new(workflow));
    let policy = file.load_full()?.policy;
    let trackers = LocalTrackers::new();
    preflight(&policy, &LocalWorkspaces::new(state_dir, file)).await?;
    let mut machine = machine(state_dir)?;
    let now = SystemClock.now();
    let epoch = machine.state().epoch + 1;
    machine.handle(Input::Started { epoch, version: "dry-run".to_owned(), pid: std::process::id() }, now);
    let hash = policy_hash(&policy);
    machine.handle(Input::PolicyLoaded { hash, policy: Box::new(policy.clone()) }, now);
    let tracker = trackers.open(&policy)?;
    let mut starts = 0;
    // The machine is told that its batches are committed; they go nowhere.
    loop {
        match machine.poll_output() {
            Output::Append(batch) => {
                for recorded in &batch.events {
                    if let Event::EffectIntended { issue, effect: Effect::PrepareWorkspace { .. }, .. } =
                        &recorded.event
                        && let Some(entry) = machine.state().issues.get(issue)
                    {
                        starts += 1;
                        out::line(&format!("would start  {}  {}", entry.issue.identifier, entry.issue.title));
                    }
                }
                machine.handle(Input::Committed(batch.committed()), now);
            }
            Output::Ask(id, Query::Poll { states, ids, .. }) => {
                let by_states = tracker.fetch_issues_by_states(&states).await;
                let by_ids = tracker.fetch_issues_by_ids(&ids).await;
                if let Some(failure) = by_states.as_ref().err().or(by_ids.as_ref().err()) {
                    return Err(failure.clone().into());
                }
                machine.handle(Input::Answered { id, answer: Answer::poll(by_states, by_ids, Vec::new()) }, now);
            }
            Output::Ask(id, Query::Inspect { wanted, policy }) => {
                let seen = match inspector(workflow, state_dir)? {
                    Some(inspector) => inspector.inspect(&wanted, &policy).await,
                    None => Inspection::clear(u64::MAX),
                };
                machine.handle(Input::Answered { id, answer: Answer::Inspect(Box::new(seen)) }, now);
            }
            Output::Ask(..) | Output::Perform(_) | Output::Cancel(_) | Output::Reply { .. } => {}
            Output::Wait(_) => break,
        }
    }
    for entry in machine.state().issues.values().filter(|entry| !entry.status.takes_slot()) {
        let Some(explanation) = machine.explain(&entry.issue.identifier) else { continue };
        let why = explanation.rules.into_iter().find(|rule| !rule.pass).map_or(String::new(), |rule| rule.detail);
        out::line(&format!("would not    {}  {}  ({why})", entry.issue.identifier, entry.issue.title));
    }
    if starts == 0 {
        out::line("Nothing would start now.");
    }
    Ok(())
}

/// What looks outside; nothing where no daemon ever ran, and so nothing is ours.
fn inspector(workflow: &Path, state_dir: &Path) -> Result<Option<LocalInspector>, CliError> {
    let workspaces = Arc::new(LocalWorkspaces::new(state_dir, Arc::new(WorkflowFile::new(workflow))));
    match Store::open_read_only(state_dir) {
        Ok(store) => Ok(Some(LocalInspector::new(state_dir, store, None, workspaces))),
        Err(StoreError::Missing(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn machine(state_dir: &Path) -> Result<Machine, CliError> {
    let loaded = match Store::open_read_only(state_dir) {
        Ok(store) => store.load()?,
        // No daemon ever ran here: it would begin with nothing.
        Err(StoreError::Missing(_)) => return Ok(Machine::replay(None, [])?),
        Err(error) => return Err(error.into()),
    };
    Ok(Machine::replay(loaded.snapshot, loaded.events)?)
}
