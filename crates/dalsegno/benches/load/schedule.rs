//! The scheduler alone, in this process: what the tracker says of many issues, while many run.

use std::time::Instant;

use dalsegno_core::{
    AgentKind, AgentPolicy, Answer, Effect, EffectId, EffectOutput, EffectRequest, HandoffPolicy, Input, Inspection,
    Issue, Machine, Outcome, Output, Policy, Query, QueryId, SessionStart, Timestamp, Workspace, WorkspacePolicy,
};
use serde_json::json;

use crate::{percentile, row};

const RUNNING: usize = 1_000;
const ROUNDS: usize = 51;

/// The machine with what waits for an answer of ours.
struct Desk {
    machine: Machine,
    now: i64,
    polls: Vec<QueryId>,
    /// Looks at what is outside the journal.
    looks: Vec<QueryId>,
    performs: Vec<EffectRequest>,
}

impl Desk {
    fn hand(&mut self, input: Input) {
        self.machine.handle(input, Timestamp(self.now));
        self.pump();
    }

    fn pump(&mut self) {
        loop {
            match self.machine.poll_output() {
                Output::Append(batch) => {
                    let committed = batch.committed();
                    self.machine.handle(Input::Committed(committed), Timestamp(self.now));
                }
                Output::Perform(request) => self.performs.push(*request),
                Output::Ask(id, Query::Inspect { .. }) => self.looks.push(id),
                Output::Ask(id, _) => self.polls.push(id),
                Output::Cancel(_) | Output::Reply { .. } => {}
                Output::Wait(_) => return,
            }
        }
    }

    /// Answers the open look at the tracker; how long the decision took, in milliseconds.
    fn poll(&mut self, issues: &[Issue]) -> f64 {
        if self.polls.is_empty() {
            self.now += 30_000;
            self.hand(Input::Tick);
        }
        let id = self.polls.pop().unwrap();
        let (by_states, by_ids) = (Ok(issues.to_vec()), Ok(issues.to_vec()));
        let answer = Answer::poll(by_states, by_ids, Vec::new());
        // The loop leaves it to another thread to give the issues back.
        let _kept = answer.clone();
        let start = Instant::now();
        self.hand(Input::Answered { id, answer });
        start.elapsed().as_secs_f64() * 1e3
    }

    fn end(&mut self, id: EffectId, output: EffectOutput) {
        self.hand(Input::EffectEnded { id, outcome: Outcome::Done { output } });
    }
}

/// The rows of the scheduler.
pub(crate) fn report(issues: usize) {
    let agent = AgentPolicy {
        command: Some("agent".to_owned()),
        max_concurrent_agents: RUNNING as u32,
        stall_timeout_ms: 0,
        ..AgentPolicy::of(AgentKind::Acp)
    };
    let policy =
        Policy { handoff: Some(HandoffPolicy::default()), ..Policy::of("/p", WorkspacePolicy::of("/w", "."), agent) };
    let mut known: Vec<Issue> = (0..issues)
        .map(|number| Issue {
            description: Some(format!("What is wrong with number {number}, and how it shows.")),
            labels: vec!["bug".to_owned()],
            priority: Some(number as i64 % 5),
            created_at: Some(Timestamp(number as i64)),
            ..Issue::new(format!("i{number}").as_str(), format!("DS-{number}"), "Something that should be done", "Todo")
        })
        .collect();
    let machine = Machine::replay(None, []).unwrap();
    let mut desk = Desk { machine, now: 1_000_000, polls: Vec::new(), looks: Vec::new(), performs: Vec::new() };
    desk.hand(Input::Started { epoch: 1, version: "0".to_owned(), pid: 1 });
    desk.hand(Input::PolicyLoaded { hash: "p".into(), policy: Box::new(policy) });
    // Before it has looked outside it reads no tracker. Later looks stay open.
    let look = desk.looks.pop().unwrap();
    desk.hand(Input::Answered { id: look, answer: Answer::Inspect(Box::new(Inspection::clear(u64::MAX))) });
    let first = desk.poll(&known);
    run_all(&mut desk);
    let runs = desk.machine.state().runs.len();
    assert_eq!(runs, RUNNING.min(issues), "so many run while the rest is measured");
    let mut quiet: Vec<f64> = (0..ROUNDS).map(|_| desk.poll(&known)).collect();
    let mut ticks: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            desk.now += 1;
            let start = Instant::now();
            desk.hand(Input::Tick);
            start.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    // One in a hundred changes between two looks.
    let mut changed: Vec<f64> = (0..ROUNDS)
        .map(|round| {
            for issue in known.iter_mut().skip(round).step_by(100) {
                issue.title.push('.');
            }
            desk.poll(&known)
        })
        .collect();
    let more = json!({"issues": issues, "running": runs, "first_look_ms": crate::rounded(first)});
    row("schedule/look at the tracker, nothing changed", percentile(&mut quiet, 0.5), "ms", 3.0, true, more);
    row("schedule/look at the tracker, 1 % changed", percentile(&mut changed, 0.5), "ms", 3.0, true, json!({}));
    row("schedule/unchanged tick", percentile(&mut ticks, 0.5), "ms", 0.3, true, json!({}));
}

/// Brings every run into its first turn, and leaves it there.
fn run_all(desk: &mut Desk) {
    while let Some(request) = desk.performs.pop() {
        let output = match &request.effect {
            Effect::PrepareWorkspace { .. } => EffectOutput::WorkspaceReady {
                workspace: Workspace {
                    path: format!("/w/{}", request.issue.identifier),
                    branch: Some(format!("dalsegno/{}", request.issue.identifier)),
                    base_commit: Some("base".into()),
                    made_by: None,
                },
                created: true,
            },
            Effect::StartSession { .. } => EffectOutput::SessionStarted {
                session: format!("s-{}", request.issue.identifier).as_str().into(),
                how: SessionStart::New,
                usage: None,
            },
            Effect::Prompt { .. } => continue,
            other => panic!("{} is not expected here", other.kind()),
        };
        desk.end(request.id, output);
    }
}
