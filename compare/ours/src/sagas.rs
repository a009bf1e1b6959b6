//! Dalsegno's sagas.

use std::sync::Arc;
use std::time::Instant;

use compare_side::{Meter, STEPS, Task};
use dalsegno_durable::StoredHost;
use dalsegno_durable::saga::{Dedup, SagaEnd, SagaHost, SagaPlan, Step, StepAnswer, StepCall, StepExecutor};
use serde_json::{Value, json};

use crate::Failed;

/// Does every step at once.
struct Instantly;

#[async_trait::async_trait]
impl StepExecutor for Instantly {
    async fn act(&self, call: StepCall) -> StepAnswer {
        StepAnswer::Done(json!({"attempt": call.attempt}))
    }
}

pub async fn run(task: &Task, host: StoredHost) -> Result<(), Failed> {
    let host = SagaHost::new(host);
    host.register("count", 1..=1, Arc::new(Instantly));
    let steps =
        (0..STEPS).map(|at| Step::compensatable(format!("step-{at}")).dedup(Dedup::RemoteKey).undo(Value::Null));
    let plan = Arc::new(SagaPlan::sequence("count", 1, steps)?);
    let meter = Arc::new(Meter::begin(task));
    let mut lanes = Vec::new();
    for number in 0..task.scopes {
        let (host, plan, meter) = (host.clone(), Arc::clone(&plan), Arc::clone(&meter));
        lanes.push(tokio::spawn(async move {
            let mut lane = meter.lane();
            for n in 0_u64.. {
                if !lane.open() {
                    break;
                }
                let began = Instant::now();
                let saga = host.start(format!("{number}-{n}"), SagaPlan::clone(&plan)).await?;
                let end = saga.ended().await?;
                if end != SagaEnd::Committed {
                    return Err(format!("a saga ended as {}", end.as_str()).into());
                }
                lane.done(began, STEPS);
            }
            Ok::<(), Failed>(())
        }));
    }
    for lane in lanes {
        lane.await??;
    }
    println!("{}", meter.result(task));
    Ok(())
}
