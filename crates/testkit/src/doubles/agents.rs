//! Agents without a process.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use async_trait::async_trait;
use dalsegno_core::{AgentPolicy, Failure, IssueId, SessionId, SessionStart, TurnOutcome, Usage};
use dalsegno_engine::{AgentSession, AgentSink, Agents, Launch, Started, Toolbox, TranscriptKind, TurnEnd};
use tokio_util::sync::CancellationToken;

use super::record::Record;
use super::script::Script;

/// Starts agents that do as they are told, and counts those that live.
pub struct ScriptedAgents {
    record: Arc<Record>,
    /// What a start does, before the agent is there.
    pub start: Arc<Script<()>>,
    /// What a turn does; without a line it completes at once.
    pub turns: Arc<Script<TurnOutcome>>,
    /// What an end does.
    pub close: Arc<Script<()>>,
    /// Agents answer no interrupt.
    pub deaf: Arc<AtomicBool>,
    alive: Arc<AtomicUsize>,
    sinks: Mutex<Vec<(IssueId, Arc<dyn AgentSink>)>>,
    tools: Mutex<Vec<(IssueId, Weak<dyn Toolbox>)>>,
}

impl ScriptedAgents {
    pub(super) fn new(record: Arc<Record>) -> Self {
        Self {
            record,
            start: Arc::default(),
            turns: Arc::default(),
            close: Arc::default(),
            deaf: Arc::default(),
            alive: Arc::default(),
            sinks: Mutex::default(),
            tools: Mutex::default(),
        }
    }

    /// Agents that were started and neither closed nor dropped.
    #[must_use]
    pub fn alive(&self) -> usize {
        self.alive.load(Ordering::SeqCst)
    }

    /// Where signs of the latest agent of the issue go.
    #[must_use]
    pub fn sink(&self, issue: &str) -> Option<Arc<dyn AgentSink>> {
        let sinks = self.sinks.lock().unwrap_or_else(PoisonError::into_inner);
        sinks.iter().rev().find(|(id, _)| id.as_str() == issue).map(|(_, sink)| Arc::clone(sink))
    }
}

impl ScriptedAgents {
    /// The tools of the latest agent of the issue, if it lives.
    #[must_use]
    pub fn tools(&self, issue: &str) -> Option<Arc<dyn Toolbox>> {
        let tools = self.tools.lock().unwrap_or_else(PoisonError::into_inner);
        tools.iter().rev().find(|(id, _)| id.as_str() == issue).and_then(|(_, tools)| tools.upgrade())
    }
}

#[async_trait]
impl Agents for ScriptedAgents {
    async fn preflight(&self, _policy: &AgentPolicy) -> Result<(), Failure> {
        Ok(())
    }

    async fn start(&self, launch: Launch) -> Result<Started, Failure> {
        let issue = launch.context.request.issue.id.clone();
        self.record.effect("start_session", &issue);
        self.start.play(issue.as_str(), || Ok(())).await?;
        let (session, how) = match (launch.resume, launch.seek) {
            (None, _) => (SessionId(format!("session-of-{issue}")), SessionStart::New),
            (Some(session), None) => (session, SessionStart::Resumed),
            (Some(session), Some(_)) => (session, SessionStart::ResumedPromptFound),
        };
        self.sinks.lock().unwrap_or_else(PoisonError::into_inner).push((issue.clone(), Arc::clone(&launch.sink)));
        self.tools.lock().unwrap_or_else(PoisonError::into_inner).push((issue.clone(), Arc::downgrade(&launch.tools)));
        self.alive.fetch_add(1, Ordering::SeqCst);
        let agent = ScriptedSession {
            issue,
            sink: launch.sink,
            record: Arc::clone(&self.record),
            turns: Arc::clone(&self.turns),
            close: Arc::clone(&self.close),
            deaf: Arc::clone(&self.deaf),
            _tools: launch.tools,
            _alive: Alive(Arc::clone(&self.alive)),
        };
        Ok(Started { session, how, usage: None, agent: Box::new(agent) })
    }
}

struct Alive(Arc<AtomicUsize>);

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

struct ScriptedSession {
    issue: IssueId,
    sink: Arc<dyn AgentSink>,
    record: Arc<Record>,
    turns: Arc<Script<TurnOutcome>>,
    close: Arc<Script<()>>,
    deaf: Arc<AtomicBool>,
    _tools: Arc<dyn Toolbox>,
    _alive: Alive,
}

#[async_trait]
impl AgentSession for ScriptedSession {
    async fn prompt(&mut self, _turn: u32, text: &str, cancel: &CancellationToken) -> Result<TurnEnd, Failure> {
        self.record.effect("prompt", &self.issue);
        self.sink.transcript(TranscriptKind::Prompt, text);
        let end =
            |turn| TurnEnd { turn, usage: Usage::default(), summary: String::new(), model: None, tool_digest: None };
        let turn = self.turns.play(self.issue.as_str(), || Ok(TurnOutcome::Completed));
        tokio::pin!(turn);
        tokio::select! {
            biased;
            turn = &mut turn => turn.map(end),
            () = cancel.cancelled(), if !self.deaf.load(Ordering::SeqCst) => Ok(end(TurnOutcome::Interrupted)),
        }
    }

    async fn close(self: Box<Self>) {
        self.record.look("agent.close", self.issue.as_str());
        // A failing end leaves the rest to the sweep.
        let _ = self.close.play(self.issue.as_str(), || Ok(())).await;
    }
}
