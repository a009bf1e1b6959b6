//! Dalsegno's SQLite host.

mod sagas;

use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use compare_side::{Meter, RECORDED, Sync, Task, Work};
use dalsegno_durable::{DurableError, EffectError, EffectHost, ExecutionScope, Scope, StoredHost};
use dalsegno_store::SqliteDurable;
use serde_json::json;

type Failed = Box<dyn Error + Send + std::marker::Sync>;

#[tokio::main(worker_threads = 2)]
async fn main() -> Result<(), Failed> {
    let task = Task::from_arguments()?;
    if task.sync == Sync::Normal {
        return Err("Dalsegno knows no commit that may be lost".into());
    }
    if task.work == Work::Sagas {
        return sagas::run(&task, open(&task.dir)?).await;
    }
    let host = Arc::new(open(&task.dir)?);
    if task.work != Work::Effects {
        for number in 0..task.scopes {
            let scope = host.scoped(name(number)).await?;
            for n in 0..RECORDED {
                count(&scope, n, true).await?;
            }
        }
    }
    let meter = Arc::new(Meter::begin(&task));
    let mut lanes = Vec::new();
    for number in 0..task.scopes {
        let (host, meter, work) = (Arc::clone(&host), Arc::clone(&meter), task.work);
        lanes.push(tokio::spawn(async move {
            let mut lane = meter.lane();
            let mut scope = host.scoped(name(number)).await?;
            let mut n = 0;
            while lane.open() {
                let began = Instant::now();
                if work == Work::Effects {
                    count(&scope, n, true).await?;
                    n += 1;
                    lane.done(began, 1);
                    continue;
                }
                if work == Work::Reopen {
                    // It is opened anew only when nobody holds it.
                    drop(scope);
                    scope = host.scoped(name(number)).await?;
                }
                for n in 0..RECORDED {
                    count(&scope, n, false).await?;
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

async fn count(scope: &Scope<'_>, n: u64, may_run: bool) -> Result<(), DurableError> {
    let run = async || {
        if may_run { Ok(n + 1) } else { Err(EffectError::permanent("ran", "a replay ran the effect")) }
    };
    let next: u64 = scope.step(&format!("count-{n}"), &json!({ "n": n }), run).await?;
    assert_eq!(next, n + 1);
    Ok(())
}

fn open(dir: &Path) -> Result<StoredHost, Failed> {
    Ok(StoredHost::new(Arc::new(SqliteDurable::open(&dir.join("effects.db"))?)))
}
