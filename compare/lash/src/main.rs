//! lash-core with lash-sqlite-store, by its public interface alone.

mod full;

use std::error::Error;
use std::sync::Arc;
use std::time::Instant;

use compare_side::{Meter, RECORDED, Sync, Task, Work};
use lash_core::{
    EffectHost, ExecutionScope, RuntimeEffectCommand, RuntimeEffectControllerError, RuntimeEffectEnvelope,
    RuntimeEffectKind, RuntimeEffectLocalExecutor, RuntimeEffectOutcome, RuntimeInvocation, RuntimeScope,
    ScopedEffectController,
};
use lash_sqlite_store::SqliteEffectHost;
use serde_json::json;

type Failed = Box<dyn Error + Send + std::marker::Sync>;

#[tokio::main(worker_threads = 2)]
async fn main() -> Result<(), Failed> {
    let task = Task::from_arguments()?;
    if task.work == Work::Sagas {
        return Err("not compared: lash-core has no sagas".into());
    }
    // It sets synchronous=NORMAL by itself, and has no option for another one.
    if task.sync == Sync::Full {
        full::keep_synchronous_full()?;
    }
    let host = Arc::new(SqliteEffectHost::open(&task.dir.join("effects.db")).await?);
    if task.work != Work::Effects {
        for number in 0..task.scopes {
            let scope = host.scoped(name(number))?;
            for n in 0..RECORDED {
                count(&scope, number, n, true).await?;
            }
        }
    }
    let meter = Arc::new(Meter::begin(&task));
    let mut lanes = Vec::new();
    for number in 0..task.scopes {
        let (host, meter, work) = (Arc::clone(&host), Arc::clone(&meter), task.work);
        lanes.push(tokio::spawn(async move {
            let mut lane = meter.lane();
            let mut scope = host.scoped(name(number))?;
            let mut n = 0;
            while lane.open() {
                let began = Instant::now();
                if work == Work::Effects {
                    count(&scope, number, n, true).await?;
                    n += 1;
                    lane.done(began, 1);
                    continue;
                }
                if work == Work::Reopen {
                    scope = host.scoped(name(number))?;
                }
                for n in 0..RECORDED {
                    count(&scope, number, n, false).await?;
                }
                lane.done(began, RECORDED);
            }
            Ok::<(), Failed>(())
        }));
    }
    for lane in lanes {
        lane.await??;
    }
    println!("{}", meter.result(&task));
    Ok(())
}

fn name(number: usize) -> ExecutionScope {
    ExecutionScope::turn(format!("session-{number}"), format!("turn-{number}"))
}

async fn count(scope: &ScopedEffectController<'_>, number: usize, n: u64, may_run: bool) -> Result<(), Failed> {
    let key = format!("count-{n}");
    let runtime = RuntimeScope::for_turn(format!("session-{number}"), format!("turn-{number}"), 0, 0);
    let invocation = RuntimeInvocation::effect(runtime, key.clone(), RuntimeEffectKind::DurableStep, key.clone());
    let command = RuntimeEffectCommand::DurableStep { step_id: key, input: json!({ "n": n }) };
    let executor = RuntimeEffectLocalExecutor::testing(move |_| async move {
        if may_run {
            Ok(RuntimeEffectOutcome::DurableStep { value: json!(n + 1) })
        } else {
            Err(RuntimeEffectControllerError::new("ran", "a replay ran the effect"))
        }
    });
    let envelope = RuntimeEffectEnvelope::try_new(invocation, command)?;
    match scope.controller().execute_effect(envelope, executor).await? {
        RuntimeEffectOutcome::DurableStep { value } if value == json!(n + 1) => Ok(()),
        other => Err(format!("another outcome: {other:?}").into()),
    }
}
