//! What every agent adapter does, case by case, with real processes.
//!
//! An implementation brings an [`AgentFixture`] and runs the suite with [`crate::agent_conformance!`].

#![allow(clippy::unwrap_used, reason = "a case ends at the first surprise")]

use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dalsegno_core::{
    AgentPolicy, AutoApprove, Effect, EffectId, EffectRequest, Failure, Issue, Policy, RunId, SessionId, SessionStart,
    TurnOutcome, Usage, Workspace, WorkspacePolicy, WorkspaceStrategy,
};
use dalsegno_engine::{
    AgentSession, AgentSink, Agents, Context, Launch, Processes, Started, ToolAnswer, ToolCall, ToolSpec, Toolbox,
    TranscriptKind, TurnEnd,
};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

/// A case that takes longer than this hangs.
pub const CASE_LIMIT: Duration = Duration::from_secs(60);

/// The prompt after a cut turn. A scripted model knows it by its mark.
pub const GO_ON: &str = "go on [[script:again]]";

/// What an agent is made to do, turn by turn. Paths are relative to the workspace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Behaviour {
    /// Each turn, three of them: says `one`, `two` and `three` apart from each other, reports 12 tokens in and 3 out,
    /// ends.
    Speaks,
    /// First turn: a command writes its pid to the file `pid` and runs until it is killed. Second turn: says `again`.
    RunsCommand,
    /// Asks for the permission to run `rm -rf build`, then says `went on`.
    AsksPermissionForCommand,
    /// Asks for the permission to change the file `inside.txt`, then says `went on`.
    AsksPermissionInside,
    /// Asks for the permission to change the file `../outside.txt`, then says `went on`.
    AsksPermissionOutside,
    /// Asks `Which colour?`, with `red` and `blue` to choose from.
    AsksQuestion,
    /// The model fails with `out of ideas`.
    Fails,
    /// The model's provider refuses for an hour.
    RateLimited,
    /// The process ends with exit code 7 in its first turn.
    Exits,
    /// Writes a few lines that are no protocol, says `café` in Latin-1 (so no UTF-8), and ends its turn.
    Garbage,
    /// Writes more than 100 lines that are no protocol in one turn.
    EndlessGarbage,
    /// Says nothing in its turn, and does not end it.
    Silent,
    /// Says `flood 0` to `flood 9999`, and ends its turn.
    Floods,
    /// The process starts and never answers.
    NeverAnswers,
    /// There is no such program.
    Missing,
}

/// Brings agents that behave as a case needs it.
pub trait AgentFixture: Send + Sync {
    /// The adapter, and the part of the policy that makes it start an agent of that behaviour. `place` is a directory
    /// for scripts. Timeouts in the policy are set by the suite.
    fn agent(&self, behaviour: Behaviour, place: &Path) -> (Arc<dyn Agents>, AgentPolicy);

    /// Where directories of cases are made.
    fn place(&self) -> PathBuf {
        std::env::temp_dir()
    }

    /// The means that ends processes by their mark.
    fn processes(&self) -> Arc<dyn Processes>;
}

/// Defines one test per case. The argument is an expression that makes a fixture.
#[macro_export]
macro_rules! agent_conformance {
    ($fixture:expr) => {
        $crate::agent_conformance! { $fixture;
            start, launch_timeout, missing_program, missing_workspace, launch_canceled, prompt, stream, usage,
            permission_granted, permission_refused, permission_by_place, question, model_failure, rate_limit, interrupt,
            resume_after_kill_with_the_prompt, resume_after_kill_without_the_prompt, resume_of_a_session_that_is_gone,
            exit, malformed_output, endless_malformed_output, silence, flood, not_utf8, secrets, close, drop_ends_it,
        }
    };
    ($fixture:expr; $($case:ident),* $(,)?) => {
        $(
            #[tokio::test(flavor = "multi_thread")]
            async fn $case() {
                let case = $crate::conformance::agent::$case(&$fixture);
                tokio::time::timeout($crate::conformance::agent::CASE_LIMIT, case).await.expect("the case hangs");
            }
        )*
    };
}

/// Hears what the agent says.
#[derive(Debug, Default)]
pub struct Heard {
    activity: Mutex<u64>,
    usage: Mutex<Vec<Usage>>,
    lines: Mutex<Vec<(TranscriptKind, String)>>,
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
}

impl Heard {
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
        workspace: Some(Workspace { path: workspace.display().to_string(), branch: None, base_commit: None }),
        known_branch: None,
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

fn failed(end: Result<TurnEnd, Failure>, code: &str) -> Failure {
    let failure = end.unwrap_err();
    assert_eq!(failure.code, code, "{failure}");
    failure
}

fn ended(end: Result<TurnEnd, Failure>, expected: &TurnOutcome) -> TurnEnd {
    let end = end.unwrap();
    assert_eq!(end.turn, *expected);
    end
}

fn contains(text: &(impl AsRef<str> + Debug + ?Sized), part: &str) {
    assert!(text.as_ref().contains(part), "{part:?} is not in {text:?}");
}

/// The process is there and no zombie.
fn alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with(['Z', 'X']))
}

/// A new session has an id and is said to be new.
pub async fn start(fixture: &dyn AgentFixture) {
    let world = World::new(fixture);
    let started = world.start(Behaviour::Speaks).await;
    assert_eq!(started.how, SessionStart::New);
    assert!(!started.session.as_str().is_empty());
    started.agent.close().await;
    world.assert_nothing_runs().await;
}

/// An agent that does not answer its start is ended at the limit, and nothing of it is left.
pub async fn launch_timeout(fixture: &dyn AgentFixture) {
    let mut world = World::new(fixture);
    world.read_timeout_ms = 300;
    let failure = world.refused(Behaviour::NeverAnswers).await;
    assert_eq!(failure.code, "response_timeout", "{failure}");
    world.assert_nothing_runs().await;
}

/// A program that is not there is said to be so, with a remedy, and trying again does not help.
pub async fn missing_program(fixture: &dyn AgentFixture) {
    let world = World::new(fixture);
    let failure = world.refused(Behaviour::Missing).await;
    assert_eq!(failure.code, "agent_not_found", "{failure}");
    assert!(failure.hint.is_some() && !failure.retryable, "{failure:?}");
    world.assert_nothing_runs().await;
}

/// Without its workspace no agent is started.
pub async fn missing_workspace(fixture: &dyn AgentFixture) {
    let world = World::new(fixture);
    std::fs::remove_dir(world.workspace()).unwrap();
    let failure = world.refused(Behaviour::Speaks).await;
    assert_eq!(failure.code, "agent_start_failed", "{failure}");
    world.assert_nothing_runs().await;
}

/// A start that is canceled ends soon, and nothing of it is left.
pub async fn launch_canceled(fixture: &dyn AgentFixture) {
    let mut world = World::new(fixture);
    world.read_timeout_ms = 3_600_000;
    world.cancel.cancel();
    let failure = world.refused(Behaviour::NeverAnswers).await;
    assert_eq!(failure.code, "agent_start_failed", "{failure}");
    world.assert_nothing_runs().await;
}

/// A prompt is written down, its turn ends, and the next one follows in the same session.
pub async fn prompt(fixture: &dyn AgentFixture) {
    let world = World::new(fixture);
    let mut agent = world.start(Behaviour::Speaks).await.agent;
    let cancel = CancellationToken::new();
    for turn in 1..=2 {
        let end = agent.prompt(turn, &format!("prompt {turn}"), &cancel).await;
        let end = ended(end, &TurnOutcome::Completed);
        contains(&end.summary, "three");
        assert!(end.summary.len() <= 2048);
    }
    assert_eq!(world.heard.text(TranscriptKind::Prompt), "prompt 1\nprompt 2\n");
    agent.close().await;
}

/// What the agent says arrives in order, and as signs of life.
pub async fn stream(fixture: &dyn AgentFixture) {
    let world = World::new(fixture);
    let (agent, end) = world.one_turn(Behaviour::Speaks).await;
    ended(end, &TurnOutcome::Completed);
    let text = world.heard.text(TranscriptKind::Message);
    let places: Vec<_> = ["one", "two", "three"].iter().map(|word| text.find(word).unwrap()).collect();
    assert!(places.is_sorted(), "{text}");
    assert!(*world.heard.activity.lock().unwrap() >= 3);
    agent.close().await;
}

/// Tokens are reported, to the sink and with the turn's end; each turn counts from zero.
pub async fn usage(fixture: &dyn AgentFixture) {
    let world = World::new(fixture);
    let mut agent = world.start(Behaviour::Speaks).await.agent;
    for turn in 1..=2 {
        let end = agent.prompt(turn, "go", &CancellationToken::new()).await;
        assert_eq!(ended(end, &TurnOutcome::Completed).usage, Usage::new(12, 3));
    }
    assert_eq!(world.heard.usage.lock().unwrap().last(), Some(&Usage::new(12, 3)));
    agent.close().await;
}

/// A permission that the policy grants does not hold up the turn.
pub async fn permission_granted(fixture: &dyn AgentFixture) {
    let mut world = World::new(fixture);
    world.approve = AutoApprove::All;
    let (agent, end) = world.one_turn(Behaviour::AsksPermissionForCommand).await;
    ended(end, &TurnOutcome::Completed);
    contains(&world.heard.text(TranscriptKind::Message), "went on");
    contains(&world.heard.text(TranscriptKind::Note), "rm -rf build");
    agent.close().await;
}

/// A permission that the policy does not grant ends the turn with what was asked.
pub async fn permission_refused(fixture: &dyn AgentFixture) {
    let world = World::new(fixture);
    let (agent, end) = world.one_turn(Behaviour::AsksPermissionForCommand).await;
    let TurnOutcome::Asked { question } = end.unwrap().turn else { panic!("nobody may grant that") };
    contains(&question, "rm -rf build");
    assert!(!world.heard.text(TranscriptKind::Message).contains("went on"));
    agent.close().await;
    world.assert_nothing_runs().await;
}

/// With `auto_approve: workspace` only what is tied to paths inside the workspace is granted.
pub async fn permission_by_place(fixture: &dyn AgentFixture) {
    for (behaviour, granted) in [
        (Behaviour::AsksPermissionInside, true),
        (Behaviour::AsksPermissionOutside, false),
        (Behaviour::AsksPermissionForCommand, false),
    ] {
        let mut world = World::new(fixture);
        world.approve = AutoApprove::Workspace;
        let (agent, end) = world.one_turn(behaviour).await;
        let turn = end.unwrap().turn;
        assert_eq!(turn == TurnOutcome::Completed, granted, "{behaviour:?}: {turn:?}");
        assert_eq!(matches!(turn, TurnOutcome::Asked { .. }), !granted, "{behaviour:?}: {turn:?}");
        agent.close().await;
    }
}

/// A question ends the turn with its text, whatever the policy grants.
pub async fn question(fixture: &dyn AgentFixture) {
    let mut world = World::new(fixture);
    world.approve = AutoApprove::All;
    let (agent, end) = world.one_turn(Behaviour::AsksQuestion).await;
    let TurnOutcome::Asked { question } = end.unwrap().turn else { panic!("nobody may answer that") };
    contains(&question, "Which colour?");
    agent.close().await;
}

/// A model that fails is the turn's failure; the session goes on.
pub async fn model_failure(fixture: &dyn AgentFixture) {
    let world = World::new(fixture);
    let (agent, end) = world.one_turn(Behaviour::Fails).await;
    let TurnOutcome::Failed { failure } = end.unwrap().turn else { panic!("it failed") };
    contains(&failure.message, "out of ideas");
    agent.close().await;
}

/// A rate limit is told from other failures, with the time at which it ends.
pub async fn rate_limit(fixture: &dyn AgentFixture) {
    let world = World::new(fixture);
    let (agent, end) = world.one_turn(Behaviour::RateLimited).await;
    let TurnOutcome::RateLimited { reset_at } = end.unwrap().turn else { panic!("its rate is limited") };
    assert!(reset_at.is_some());
    agent.close().await;
}

/// An interrupt ends the turn and the command that runs in it; the session takes the next prompt.
pub async fn interrupt(fixture: &dyn AgentFixture) {
    let world = World::new(fixture);
    let mut agent = world.start(Behaviour::RunsCommand).await.agent;
    let cancel = CancellationToken::new();
    let (end, pid) = tokio::join!(agent.prompt(1, "go", &cancel), async {
        let pid = world.command().await;
        assert!(alive(pid));
        cancel.cancel();
        pid
    });
    ended(end, &TurnOutcome::Interrupted);
    // The kill is asynchronous; the case's limit ends the wait.
    while alive(pid) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let end = agent.prompt(2, GO_ON, &CancellationToken::new()).await;
    ended(end, &TurnOutcome::Completed);
    contains(&world.heard.text(TranscriptKind::Message), "again");
    agent.close().await;
    world.assert_nothing_runs().await;
}

/// After `kill -9` in the midst of a turn the session comes back, its prompt is found, and the next one goes on.
pub async fn resume_after_kill_with_the_prompt(fixture: &dyn AgentFixture) {
    let world = World::new(fixture);
    let Started { session, mut agent, .. } = world.start(Behaviour::RunsCommand).await;
    let cancel = CancellationToken::new();
    let prompt = "do it\n\n<!-- dalsegno:prompt-1 -->";
    let (end, pid) = tokio::join!(agent.prompt(1, prompt, &cancel), async {
        let pid = world.command().await;
        assert!(world.kill().await > 0);
        pid
    });
    failed(end, "agent_exit");
    assert!(!alive(pid));
    agent.close().await;

    std::fs::remove_file(world.workspace().join("pid")).unwrap();
    let resumed = world.launch(Behaviour::RunsCommand, Some(&session), Some("dalsegno:prompt-1")).await.unwrap();
    assert_eq!((resumed.session, resumed.how), (session, SessionStart::ResumedPromptFound));
    let mut agent = resumed.agent;
    ended(agent.prompt(2, GO_ON, &cancel).await, &TurnOutcome::Completed);
    contains(&world.heard.text(TranscriptKind::Message), "again");
    assert!(!world.workspace().join("pid").exists(), "the cut command ran again");
    agent.close().await;
    world.assert_nothing_runs().await;
}

/// A prompt that never arrived is not found in the history; without one to seek the session is simply resumed.
pub async fn resume_after_kill_without_the_prompt(fixture: &dyn AgentFixture) {
    let world = World::new(fixture);
    let Started { session, mut agent, .. } = world.start(Behaviour::Speaks).await;
    ended(agent.prompt(1, "dalsegno:prompt-1", &CancellationToken::new()).await, &TurnOutcome::Completed);
    world.kill().await;
    agent.close().await;
    let told = world.heard.count(TranscriptKind::Message);

    for (seek, how) in [
        (Some("dalsegno:prompt-2"), SessionStart::ResumedPromptMissing),
        (Some("dalsegno:prompt-1"), SessionStart::ResumedPromptFound),
        (None, SessionStart::Resumed),
    ] {
        let resumed = world.launch(Behaviour::Speaks, Some(&session), seek).await.unwrap();
        assert_eq!((&resumed.session, resumed.how), (&session, how));
        world.kill().await;
        resumed.agent.close().await;
    }
    assert_eq!(world.heard.count(TranscriptKind::Message), told, "the history was written down again");
}

/// A session that the agent does not know is replaced by a new one, and that is said.
pub async fn resume_of_a_session_that_is_gone(fixture: &dyn AgentFixture) {
    let world = World::new(fixture);
    let gone = SessionId::from("00000000-0000-4000-8000-000000000000");
    let started = world.launch(Behaviour::Speaks, Some(&gone), Some("x")).await.unwrap();
    assert_eq!(started.how, SessionStart::Gone);
    assert_ne!(started.session, gone);
    let mut agent = started.agent;
    ended(agent.prompt(1, "go", &CancellationToken::new()).await, &TurnOutcome::Completed);
    agent.close().await;
}

/// An agent that ends in its turn is told with its exit code.
pub async fn exit(fixture: &dyn AgentFixture) {
    let world = World::new(fixture);
    let (agent, end) = world.one_turn(Behaviour::Exits).await;
    contains(&failed(end, "agent_exit").message, "exit code 7");
    agent.close().await;
    world.assert_nothing_runs().await;
}

/// A few lines that are no protocol are written down, and the turn goes on.
pub async fn malformed_output(fixture: &dyn AgentFixture) {
    let world = World::new(fixture);
    let (agent, end) = world.one_turn(Behaviour::Garbage).await;
    ended(end, &TurnOutcome::Completed);
    assert!(world.heard.count(TranscriptKind::Malformed) > 0);
    agent.close().await;
}

/// Too many of them end the session.
pub async fn endless_malformed_output(fixture: &dyn AgentFixture) {
    let world = World::new(fixture);
    let (agent, end) = world.one_turn(Behaviour::EndlessGarbage).await;
    failed(end, "agent_protocol");
    assert!(world.heard.count(TranscriptKind::Malformed) <= 101);
    agent.close().await;
    world.assert_nothing_runs().await;
}

/// An agent that is silent in its turn for too long is of no use.
pub async fn silence(fixture: &dyn AgentFixture) {
    let mut world = World::new(fixture);
    world.turn_timeout_ms = 300;
    let (agent, end) = world.one_turn(Behaviour::Silent).await;
    failed(end, "turn_timeout");
    agent.close().await;
    world.assert_nothing_runs().await;
}

/// A flood arrives whole, in order, and in fewer lines than it came in or as many.
pub async fn flood(fixture: &dyn AgentFixture) {
    let world = World::new(fixture);
    let (agent, end) = world.one_turn(Behaviour::Floods).await;
    ended(end, &TurnOutcome::Completed);
    let text = world.heard.text(TranscriptKind::Message);
    let numbers: Vec<u32> = text.lines().filter_map(|line| line.strip_prefix("flood ")?.parse().ok()).collect();
    assert!(numbers.iter().copied().eq(0..10_000), "{} of 10000 lines", numbers.len());
    agent.close().await;
}

/// Text that is no UTF-8 is replaced where it is broken, and kept where it is not.
pub async fn not_utf8(fixture: &dyn AgentFixture) {
    let world = World::new(fixture);
    let (agent, end) = world.one_turn(Behaviour::Garbage).await;
    ended(end, &TurnOutcome::Completed);
    contains(&world.heard.text(TranscriptKind::Message), "caf\u{fffd}");
    agent.close().await;
}

/// The agent's environment has the mark, and not what is secret.
pub async fn secrets(fixture: &dyn AgentFixture) {
    let mut world = World::new(fixture);
    // Any variable that is surely set and not needed may stand for a secret.
    world.secret_names = vec!["CARGO_MANIFEST_DIR".to_owned()];
    let mut agent = world.start(Behaviour::RunsCommand).await.agent;
    let cancel = CancellationToken::new();
    let (_, environment) = tokio::join!(agent.prompt(1, "go", &cancel), async {
        let pid = world.command().await;
        let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap();
        cancel.cancel();
        String::from_utf8_lossy(&environment).into_owned()
    });
    let variables: Vec<&str> = environment.split('\0').collect();
    assert!(variables.contains(&format!("DALSEGNO_RUN={}", world.mark).as_str()));
    assert!(std::env::var_os("CARGO_MANIFEST_DIR").is_some(), "the case needs the variable to be set");
    assert!(!variables.iter().any(|variable| variable.starts_with("CARGO_MANIFEST_DIR=")));
    agent.close().await;
}

/// A close in the midst of things leaves no process.
pub async fn close(fixture: &dyn AgentFixture) {
    let mut world = World::new(fixture);
    // The silence of the running command ends the turn without ending the command.
    world.turn_timeout_ms = 2_000;
    let mut agent = world.start(Behaviour::RunsCommand).await.agent;
    failed(agent.prompt(1, "go", &CancellationToken::new()).await, "turn_timeout");
    let pid = world.command().await;
    assert!(alive(pid));
    agent.close().await;
    assert!(!alive(pid));
    world.assert_nothing_runs().await;
}

/// A turn whose future is dropped with its agent leaves no process either.
pub async fn drop_ends_it(fixture: &dyn AgentFixture) {
    let world = World::new(fixture);
    let mut agent = world.start(Behaviour::RunsCommand).await.agent;
    let cancel = CancellationToken::new();
    let pid = tokio::select! {
        end = agent.prompt(1, "go", &cancel) => panic!("the turn ended: {end:?}"),
        pid = world.command() => pid,
    };
    assert!(alive(pid));
    drop(agent);
    // A drop does not wait; the case's limit ends the wait.
    while alive(pid) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
