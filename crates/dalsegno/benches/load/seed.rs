//! A journal that is as long as it is wanted: the machine itself decides actions into it, without a daemon around it.

use dalsegno_core::{ActionRequest, Input, Machine, Output, Timestamp};
use dalsegno_engine::Journal as _;
use dalsegno_store::{OpenOptions, Store};
use serde_json::json;

use crate::client::Dice;
use crate::project::Project;

/// Actions in one batch.
const ACTIONS: usize = 100;

/// A daemon sees the issues, and then the journal grows to so many events.
pub(crate) fn grow(project: &Project, events: u64) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        project.started().await.stop();
        let opened = Store::open(&project.state_dir(), OpenOptions::default()).unwrap();
        let epoch = opened.loaded.epoch + 1;
        let mut machine = Machine::replay(opened.loaded.snapshot, opened.loaded.events).unwrap();
        let now = Timestamp(machine.state().at.0);
        let mut dice = Dice(1);
        let mut number = 0_u64;
        machine.handle(Input::Started { epoch, version: "seed".to_owned(), pid: 0 }, now);
        while machine.state().seq < events {
            for _ in 0..ACTIONS {
                number += 1;
                let issue = format!("DS-{}", dice.below(project.issues) + 1);
                machine.handle(Input::Action { caller: number, request: Box::new(budget(issue, number)) }, now);
            }
            loop {
                match machine.poll_output() {
                    Output::Append(batch) => {
                        let committed = opened.journal.append(batch, Vec::new()).await.unwrap();
                        machine.handle(Input::Committed(committed), now);
                    }
                    // Nobody looks at the tracker here, and nobody waits for an answer.
                    Output::Ask(..) | Output::Reply { .. } | Output::Perform(_) | Output::Cancel(_) => {}
                    Output::Wait(_) => break,
                }
            }
        }
    });
}

fn budget(issue: String, number: u64) -> ActionRequest {
    ActionRequest {
        kind: "set_budget".to_owned(),
        target_kind: "issue".to_owned(),
        target_id: issue,
        correlation_id: None,
        idempotency_key: Some(format!("seed-{number}")),
        reject_duplicate: false,
        by: Some("seed".to_owned()),
        content: format!("{number:064x}"),
        payload: json!({"tokens": 1_000_000 + number}),
    }
}
