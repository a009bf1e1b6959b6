//! DBOS over a PostgreSQL server that is started for it, and ended afterwards.
//!
//! A scope is a workflow, an effect one of its steps. DBOS records a step's outcome and no intent: one commit for each,
//! where the others make two.

mod server;

use std::error::Error;
use std::sync::Arc;
use std::sync::OnceLock;
use std::time::Instant;

use compare_side::{Meter, Sync, Task, Work};
use dbos::{Config, DBOS, step};

use crate::server::Server;

type Failed = Box<dyn Error + Send + std::marker::Sync>;

/// Workflows are named functions, and get what they are given from the database; the meter is not in there.
static METER: OnceLock<Arc<Meter>> = OnceLock::new();

#[tokio::main(worker_threads = 2)]
async fn main() -> Result<(), Failed> {
    let task = Task::from_arguments()?;
    if task.work != Work::Effects {
        return Err("not compared: DBOS replays a workflow when it recovers it, once, from its queue".into());
    }
    let server = Server::start(&task.dir, task.sync == Sync::Full)?;
    let config = Config {
        app_version: Some("1".to_owned()),
        // A connection for each workflow is more than PostgreSQL likes; with fewer of them it is faster.
        max_connections: 32,
        ..Config::new("compare", server.url())
    };
    let dbos = DBOS::new(config);
    let count = dbos.register_workflow("count", |number: u64| async move {
        let meter = METER.get().expect("it is set before the first workflow starts");
        let mut lane = meter.lane();
        for n in 0_u64.. {
            if !lane.open() {
                break;
            }
            let began = Instant::now();
            let next: u64 = step("count", || async move { Ok(n + 1) }).await?;
            assert_eq!(next, n + 1);
            lane.done(began, 1);
        }
        Ok::<u64, dbos::Error>(number)
    })?;
    dbos.launch().await?;
    METER.set(Arc::new(Meter::begin(&task))).map_err(|_| "two meters")?;
    let mut running = Vec::new();
    for number in 0..task.scopes as u64 {
        running.push(count.start(number).await?);
    }
    for workflow in running {
        workflow.result().await?;
    }
    dbos.shutdown().await;
    let result = METER.get().ok_or("no meter")?.result(&task);
    println!("{result}");
    drop(server);
    Ok(())
}
