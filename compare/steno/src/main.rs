//! Sagas of steno, by its public interface alone, over a store that commits in groups.

mod store;

use std::error::Error;
use std::sync::Arc;
use std::time::Instant;

use compare_side::{Meter, STEPS, Sync, Task, Work};
use serde_json::{Value, json};
use steno::{
    Action, ActionContext, ActionError, ActionFunc, ActionRegistry, DagBuilder, Node, SagaDag, SagaId, SagaName,
    SagaType, SecClient,
};

use crate::store::Store;

type Failed = Box<dyn Error + Send + std::marker::Sync>;

#[derive(Debug)]
struct Count;

impl SagaType for Count {
    type ExecContextType = ();
}

#[tokio::main(worker_threads = 2)]
async fn main() -> Result<(), Failed> {
    let task = Task::from_arguments()?;
    if task.work != Work::Sagas || task.sync != Sync::Full {
        return Err("steno does sagas, and its store syncs each commit".into());
    }
    let store = Arc::new(Store::open(&task.dir.join("sagas.db"))?);
    let log = slog::Logger::root(slog::Discard, slog::o!());
    let sec = Arc::new(steno::sec(log, store));
    let count: Arc<dyn Action<Count>> = ActionFunc::new_action("count", act, undo);
    let mut registry = ActionRegistry::new();
    registry.register(Arc::clone(&count));
    let (registry, dag) = (Arc::new(registry), dag(&*count)?);
    let meter = Arc::new(Meter::begin(&task));
    let mut lanes = Vec::new();
    for _ in 0..task.scopes {
        let (sec, registry, dag, meter) =
            (Arc::clone(&sec), Arc::clone(&registry), Arc::clone(&dag), Arc::clone(&meter));
        lanes.push(tokio::spawn(async move {
            let mut lane = meter.lane();
            while lane.open() {
                let began = Instant::now();
                saga(&sec, &dag, &registry).await?;
                lane.done(began, STEPS);
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

async fn saga(sec: &SecClient, dag: &Arc<SagaDag>, registry: &Arc<ActionRegistry<Count>>) -> Result<(), Failed> {
    let id = SagaId::new_v4();
    let ended = sec.saga_create(id, Arc::new(()), Arc::clone(dag), Arc::clone(registry)).await?;
    sec.saga_start(id).await?;
    ended.await.kind.map_err(|failed| failed.error_source)?;
    Ok(())
}

fn dag(count: &dyn Action<Count>) -> Result<Arc<SagaDag>, Failed> {
    let mut steps = DagBuilder::new(SagaName::new("count"));
    for at in 0..STEPS {
        let name = format!("step-{at}");
        steps.append(Node::action(&name, &name, count));
    }
    Ok(Arc::new(SagaDag::new(steps.build()?, Value::Null)))
}

async fn act(_: ActionContext<Count>) -> Result<Value, ActionError> {
    Ok(json!({"attempt": 1}))
}

async fn undo(_: ActionContext<Count>) -> Result<(), anyhow::Error> {
    Ok(())
}
