//! From SIGKILL, with a long journal and many issues, to a daemon that takes work, and to an agent that goes on.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::project::{Daemon, Project};
use crate::{percentile, row};

const ROUNDS: usize = 5;
/// Longest wait for the agent.
const PATIENCE: Duration = Duration::from_secs(60);

/// The rows of the restart.
pub(crate) async fn report(project: &Project) {
    let mut daemon = project.started().await;
    let (mut ready_s, mut loads) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        daemon.kill();
        daemon = project.spawn();
        ready_s.push(daemon.ready().await.as_secs_f64());
        loads.push(daemon.cpu_s());
    }
    let more = json!({
        "rounds": ROUNDS, "issues": project.issues, "max_s": crate::rounded(percentile(&mut ready_s, 1.0)),
        "cpu_s": crate::rounded(percentile(&mut loads, 0.5)), "memory_mb": crate::rounded(daemon.memory_mb().0),
    });
    row("restart/ready after SIGKILL", percentile(&mut ready_s, 0.5), "s", 1.0, true, more);

    // One issue is worked on: its agent is in a turn that lasts.
    project.write_issue(1, "go");
    let mut resumed_s = Vec::new();
    let mut after = wait_for(&daemon, "turn_started", &head(&daemon).await).await;
    for _ in 0..ROUNDS {
        let killed = Instant::now();
        daemon.kill();
        daemon = project.spawn();
        daemon.ready().await;
        after = wait_for(&daemon, "session_resumed", &after).await;
        resumed_s.push(killed.elapsed().as_secs_f64());
        after = wait_for(&daemon, "turn_started", &after).await;
    }
    let more = json!({"rounds": ROUNDS, "max_s": crate::rounded(percentile(&mut resumed_s, 1.0))});
    row("restart/agent resumed after SIGKILL", percentile(&mut resumed_s, 0.5), "s", 2.0, true, more);
    daemon.stop();
}

async fn head(daemon: &Daemon) -> String {
    let page = daemon.json("/api/v1/events?limit=1").await;
    page.get("head").and_then(|head| head.as_str()).unwrap().to_owned()
}

/// Waits until there is an event of this kind after the cursor; answers the cursor behind it.
async fn wait_for(daemon: &Daemon, kind: &str, after: &str) -> String {
    let began = Instant::now();
    loop {
        let page = daemon.json(&format!("/api/v1/events?kind={kind}&limit=1&after={after}")).await;
        let found = page.get("events").and_then(|events| events.get(0)).and_then(|event| event.get("cursor"));
        if let Some(cursor) = found.and_then(|cursor| cursor.as_str()) {
            return cursor.to_owned();
        }
        assert!(began.elapsed() < PATIENCE, "no {kind}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
