//! What a case needs: a place with one agent in it, what hears it, and short questions about how things ended.

#![allow(clippy::unwrap_used, reason = "a case ends at the first surprise")]

use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dalsegno_core::{
    AgentPolicy, AutoApprove, Effect, EffectId, EffectRequest, Failure, Issue, Policy, Reply, RunId, SessionId,
    TurnOutcome, Usage, Wants, Workspace, WorkspacePolicy, WorkspaceStrategy,
};
use dalsegno_engine::{
    AgentSession, AgentSink, Context, Launch, Started, ToolAnswer, ToolCall, ToolSpec, Toolbox, TranscriptKind, TurnEnd,
};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use super::{AgentFixture, Behaviour};

/// Hears what the agent says.
#[derive(Debug, Default)]
pub struct Heard {
    activity: Mutex<u64>,
    usage: Mutex<Vec<Usage>>,
    lines: Mutex<Vec<(TranscriptKind, String)>>,
    reply: Mutex<Option<Reply>>,
}

impl AgentSink for Heard {
    fn activity(&self) {
        *self.activity.lock().unwrap() += 1;
    }

    fn usage(&self, usage: Usage, _model: Option<&str>) {
        self.usage.lock().unwrap().push(usage);
    }

    fn transcript(&self, kind: TranscriptKind, text: &str) {
        self.lines.lock().unwrap().push((kind, text.to_owned()));
    }

    fn ask(&self, _question: &str, _wants: Wants) -> BoxFuture<'static, Option<Reply>> {
        std::future::ready(self.reply.lock().unwrap().clone()).boxed()
    }
}

impl Heard {
    /// What a person says to whatever is asked; until then nobody answers.
    pub fn will_say(&self, reply: Reply) {
        *self.reply.lock().unwrap() = Some(reply);
    }

    /// All text of that kind, a line each.
    #[must_use]
    pub fn text(&self, kind: TranscriptKind) -> String {
        let lines = self.lines.lock().unwrap();
        lines.iter().filter(|(of, _)| *of == kind).map(|(_, text)| format!("{text}\n")).collect()
    }

    /// Signs of life so far.
    #[must_use]
    pub fn signs(&self) -> u64 {
        *self.activity.lock().unwrap()
    }

    /// The last report of tokens.
    #[must_use]
    pub fn last_usage(&self) -> Option<Usage> {
        self.usage.lock().unwrap().last().copied()
    }

    /// Lines of that kind.
    #[must_use]
    pub fn count(&self, kind: TranscriptKind) -> usize {
        self.lines.lock().unwrap().iter().filter(|(of, _)| *of == kind).count()
    }
}

/// One case's place in the world: a directory, a mark, and what the policy says. Adapters use it for cases of their own.
pub struct World<'a> {
    fixture: &'a dyn AgentFixture,
    dir: TempDir,
    /// What the agents of this world said.
    pub heard: Arc<Heard>,
    /// Mark of its processes.
    pub mark: String,
    /// `questions.auto_approve`.
    pub approve: AutoApprove,
    /// Limit for requests of the start, in milliseconds.
    pub read_timeout_ms: u64,
    /// Longest silence in a turn, in milliseconds.
    pub turn_timeout_ms: u64,
    /// Variables that no child gets.
    pub secret_names: Vec<String>,
    /// Cancels the start.
    pub cancel: CancellationToken,
    /// The tools that agents are told of.
    pub tools: Arc<EchoTools>,
}

/// One tool, `echo`: answers with its argument `text`.
#[derive(Debug, Default)]
pub struct EchoTools {
    calls: Mutex<Vec<String>>,
}

impl EchoTools {
    /// Texts that were asked for, in order.
    #[must_use]
    pub fn calls(&self) -> Vec<String> {
        self.calls.lock().unwrap().clone()
    }
}

#[async_trait::async_trait]
impl Toolbox for EchoTools {
    fn tools(&self) -> Vec<ToolSpec> {
        let input_schema = serde_json::json!({
            "type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"],
            "additionalProperties": false,
        });
        vec![ToolSpec { name: "echo".to_owned(), description: "Says it again.".to_owned(), input_schema }]
    }

    async fn call(&self, call: ToolCall) -> ToolAnswer {
        assert!(call.id.split('/').all(|part| !part.is_empty()), "a call has a name of its own: {:?}", call.id);
        let said = call.arguments.get("text").and_then(|text| text.as_str());
        let Some(text) = said.filter(|_| call.name == "echo") else {
            return ToolAnswer { text: format!("no tool {}, or no text", call.name), success: false };
        };
        self.calls.lock().unwrap().push(text.to_owned());
        ToolAnswer { text: format!("echo: {text}"), success: true }
    }
}

impl<'a> World<'a> {
    /// A fresh one.
    #[must_use]
    pub fn new(fixture: &'a dyn AgentFixture) -> Self {
        let dir = TempDir::new_in(fixture.place()).unwrap();
        std::fs::create_dir(dir.path().join("workspace")).unwrap();
        // The directory's name is random; so no other case has this mark.
        let mark = format!("conformance-{}", dir.path().file_name().unwrap().to_string_lossy());
        Self {
            fixture,
            dir,
            heard: Arc::default(),
            mark,
            approve: AutoApprove::None,
            read_timeout_ms: 20_000,
            turn_timeout_ms: 30_000,
            secret_names: Vec::new(),
            cancel: CancellationToken::new(),
            tools: Arc::default(),
        }
    }

    /// The workspace that agents are started in.
    #[must_use]
    pub fn workspace(&self) -> PathBuf {
        self.dir.path().join("workspace")
    }

    /// Starts an agent, or resumes its session.
    ///
    /// # Errors
    /// What the adapter answers.
    pub async fn launch(
        &self,
        behaviour: Behaviour,
        resume: Option<&SessionId>,
        seek: Option<&str>,
    ) -> Result<Started, Failure> {
        let (agents, agent) = self.fixture.agent(behaviour, self.dir.path());
        let agent =
            AgentPolicy { read_timeout_ms: self.read_timeout_ms, turn_timeout_ms: self.turn_timeout_ms, ..agent };
        let context = Context {
            request: Arc::new(request(agent, self.approve, &self.workspace(), resume, seek)),
            mark: self.mark.clone(),
            secret_names: self.secret_names.clone(),
            cancel: self.cancel.clone(),
        };
        let launch = Launch {
            context,
            resume: resume.cloned(),
            seek: seek.map(str::to_owned),
            sink: self.heard.clone(),
            tools: self.tools.clone(),
            state_dir: self.dir.path().join("state"),
        };
        agents.start(launch).await
    }

    /// Starts an agent, and expects it to start.
    pub async fn start(&self, behaviour: Behaviour) -> Started {
        self.launch(behaviour, None, None).await.unwrap()
    }

    /// Starts an agent, and expects it not to start.
    pub async fn refused(&self, behaviour: Behaviour) -> Failure {
        match self.launch(behaviour, None, None).await {
            Ok(started) => panic!("it started session {}", started.session),
            Err(failure) => failure,
        }
    }

    /// Starts an agent of that behaviour and lets it play one turn.
    pub async fn one_turn(&self, behaviour: Behaviour) -> (Box<dyn AgentSession>, Result<TurnEnd, Failure>) {
        let mut agent = self.start(behaviour).await.agent;
        let end = agent.prompt(1, "go", &CancellationToken::new()).await;
        (agent, end)
    }

    /// `kill -9` of the agent and of all that it started, as after a crash of the daemon.
    pub async fn kill(&self) -> u32 {
        self.fixture.processes().sweep(&self.mark).await.unwrap()
    }

    /// Expects that no process of this world is left.
    pub async fn assert_nothing_runs(&self) {
        assert_eq!(self.kill().await, 0, "processes were left behind");
    }

    /// What a process of this world that calls itself `own` is called here: in a sandbox they differ.
    fn outside(&self, own: &str) -> Option<u32> {
        let marked = format!("DALSEGNO_RUN={}", self.mark).into_bytes();
        std::fs::read_dir("/proc").unwrap().flatten().find_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let status = std::fs::read_to_string(entry.path().join("status")).ok()?;
            let names = status.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
            let environment = std::fs::read(entry.path().join("environ")).ok()?;
            let ours = environment.split(|byte| *byte == 0).any(|variable| variable == marked);
            (ours && names.split_whitespace().last() == Some(own)).then_some(pid)
        })
    }

    /// The pid of the running command, once it runs.
    pub async fn command(&self) -> u32 {
        let file = self.workspace().join("pid");
        loop {
            // No event tells of another process's file.
            let text = std::fs::read_to_string(&file).ok().filter(|text| text.ends_with('\n'));
            if let Some(pid) = text.and_then(|text| self.outside(text.trim())) {
                return pid;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

fn request(
    agent: AgentPolicy,
    auto_approve: AutoApprove,
    workspace: &Path,
    resume: Option<&SessionId>,
    seek: Option<&str>,
) -> EffectRequest {
    // Nothing but the workspace may lie where other workspaces are.
    let root = workspace.parent().unwrap().display().to_string();
    let workspaces = WorkspacePolicy { strategy: WorkspaceStrategy::Empty, ..WorkspacePolicy::of(root, "") };
    let policy = Policy { auto_approve, ..Policy::of("/", workspaces, agent) };
    EffectRequest {
        id: EffectId(1),
        key: "key".to_owned(),
        attempt: 1,
        issue: Issue::new("1", "DS-1", "A title", "Todo"),
        run: Some(RunId::from("run-1")),
        policy: Arc::new(policy),
        policy_hash: "policy".into(),
        workspace: Some(Workspace {
            path: workspace.display().to_string(),
            branch: None,
            base_commit: None,
            made_by: None,
        }),
        known_branch: None,
        restored: false,
        grants: Vec::new(),
        unwanted: false,
        effect: Effect::StartSession { resume: resume.cloned(), seek: seek.map(str::to_owned) },
    }
}

/// A policy for an agent of `kind`; for fixtures.
#[must_use]
pub fn agent_policy(kind: dalsegno_core::AgentKind, command: Option<String>, script: Option<String>) -> AgentPolicy {
    AgentPolicy {
        command,
        script,
        max_concurrent_agents: 1,
        max_turns: 10,
        max_retry_backoff_ms: 1000,
        turn_timeout_ms: 1000,
        read_timeout_ms: 1000,
        stall_timeout_ms: 1000,
        ..AgentPolicy::of(kind)
    }
}

pub(super) fn failed(end: Result<TurnEnd, Failure>, code: &str) -> Failure {
    let failure = end.unwrap_err();
    assert_eq!(failure.code, code, "{failure}");
    failure
}

pub(super) fn ended(end: Result<TurnEnd, Failure>, expected: &TurnOutcome) -> TurnEnd {
    let end = end.unwrap();
    assert_eq!(end.turn, *expected);
    end
}

pub(super) fn contains(text: &(impl AsRef<str> + Debug + ?Sized), part: &str) {
    assert!(text.as_ref().contains(part), "{part:?} is not in {text:?}");
}

/// The process is there and no zombie.
pub(super) fn alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with(['Z', 'X']))
}
