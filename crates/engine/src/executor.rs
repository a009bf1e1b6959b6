//! Performs effects and answers queries over the ports. Every effect ends: with an outcome, or in doubt.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dalsegno_core::{
    Answer, CommitId, Effect, EffectOutput, EffectRequest, Failure, FileReceipt, Inspection, Issue, IssueId, Mend,
    Message, Notice, Order, Outcome, Policy, ProbeAnswer, PromptSpec, Query, Receiver, RunId, SessionId, TrackerPolicy,
    normalized_state, state_in,
};
use dalsegno_durable::StoredHost;
use dalsegno_durable::attempt::{Ended, attempt};
use dalsegno_durable::key::{Secret, marker};
use dalsegno_durable::saga::{Saga, SagaHost};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::entries::run_scope;
use crate::forge::Forges;
use crate::handoff::Tell;
use crate::live::{Live, Sink};
use crate::ports::{
    AgentSession, Agents, Blobs, Checked, Clock, Context, FileOwner, Inspector, Launch, NewFile, Notification,
    Notifier, Processes, START_PATIENCE, Steering, Tracker, Trackers, Transcripts, TurnEnd, Webhooks, Workflow,
    Workspaces,
};
use crate::reads::{TranscriptEntry, TranscriptKind};
use crate::toolbox::{DaemonTools, Writes};
use crate::{crash, prompt};

/// Trackers that are kept open; one per tracker configuration that a live run or the current policy names.
const TRACKERS_KEPT: usize = 8;
/// Issues whose names are kept for trackers that are opened later; beyond it only those of the last look are.
const KNOWN_KEPT: usize = 20_000;
/// Longest wait for one answer of a tracker or a look at a workspace.
const QUERY_LIMIT: Duration = Duration::from_secs(120);
/// Longest wait for a look at everything outside.
const INSPECT_LIMIT: Duration = Duration::from_secs(300);
/// Longest wait for all that one poll asks of a tracker.
const POLL_LIMIT: Duration = Duration::from_secs(240);
/// Answers of an agent's start for which an adapter may be patient: its own start, the session, the session's history.
const PATIENT_ANSWERS: u64 = 3;
/// Longest wait for an agent to be closed when the daemon ends; what is left is swept.
const CLOSE_LIMIT: Duration = Duration::from_secs(4);
/// What of a check's output goes to the agent, and into the journal.
const CHECK_TAIL_BYTES: usize = 4 * 1024;
/// Looks of one poll for the issues that cannot be read, at most.
const LOOKS_FOR_UNREADABLE: usize = 1_000;
/// Longest wait for the sweep after that.
const SWEEP_LIMIT: Duration = Duration::from_secs(6);

/// The outside world, as ports.
#[derive(Clone)]
pub struct World {
    /// WORKFLOW.md and templates.
    pub workflow: Arc<dyn Workflow>,
    /// Issue trackers.
    pub trackers: Arc<dyn Trackers>,
    /// Where pull requests are opened.
    pub forges: Arc<dyn Forges>,
    /// Who tells people outside.
    pub notifier: Arc<dyn Notifier>,
    /// What services send when something changed.
    pub webhooks: Arc<dyn Webhooks>,
    /// Directories and repositories.
    pub workspaces: Arc<dyn Workspaces>,
    /// Agents.
    pub agents: Arc<dyn Agents>,
    /// Processes by mark.
    pub processes: Arc<dyn Processes>,
    /// What is outside the journal.
    pub inspector: Arc<dyn Inspector>,
    /// Transcripts of runs.
    pub transcripts: Arc<dyn Transcripts>,
    /// Files with receipts.
    pub blobs: Arc<dyn Blobs>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// The daemon's state directory.
    pub state_dir: PathBuf,
    /// Identity of the journal; part of every mark.
    pub journal_id: String,
    /// Executes the effects that agents ask for through the daemon's tools, and sagas, in the same store as the journal.
    pub effects: StoredHost,
    /// The store's secret; markers are made from it.
    pub secret: Secret,
}

impl World {
    /// What has to be true before a policy is taken: its tracker can be opened, its agent and its repository are there.
    ///
    /// # Errors
    /// As [`Trackers::open`], [`Forges::preflight`], [`Notifier::preflight`], [`Webhooks::preflight`], [`Agents::preflight`]
    /// and [`Workspaces::preflight`].
    pub async fn preflight(&self, policy: &Policy) -> Result<(), Failure> {
        self.trackers.open(policy)?;
        if let Some(handoff) = &policy.handoff {
            self.forges.preflight(handoff)?;
        }
        self.notifier.preflight(policy)?;
        self.webhooks.preflight(policy)?;
        self.agents.preflight(&policy.agent).await?;
        self.workspaces.preflight(policy).await
    }
}

type AgentSlot = Arc<tokio::sync::Mutex<Option<Box<dyn AgentSession>>>>;

pub(crate) struct Executor {
    world: World,
    pub(crate) live: Arc<Live>,
    agents: Mutex<BTreeMap<RunId, AgentSlot>>,
    /// How agents that take words in an open turn take them.
    steering: Mutex<BTreeMap<RunId, Arc<dyn Steering>>>,
    trackers: Mutex<Vec<(TrackerPolicy, Arc<dyn Tracker>)>>,
    known: Mutex<BTreeMap<IssueId, String>>,
    /// Sagas of handoffs that are carried out, by id.
    pub(crate) sagas: watch::Sender<BTreeMap<String, (SagaHost, Saga)>>,
}

impl Executor {
    pub(crate) fn new(world: World, known: BTreeMap<IssueId, String>) -> Self {
        Self {
            world,
            live: Arc::default(),
            agents: Mutex::default(),
            steering: Mutex::default(),
            trackers: Mutex::default(),
            known: Mutex::new(known),
            sagas: watch::Sender::default(),
        }
    }

    pub(crate) fn world(&self) -> &World {
        &self.world
    }

    /// Performs the effect to its end.
    pub(crate) async fn perform(
        self: &Arc<Self>,
        request: EffectRequest,
        cancel: CancellationToken,
        leave: &CancellationToken,
        tell: Tell<'_>,
    ) -> Outcome {
        let kind = request.effect.kind();
        let limit = deadline(&request);
        if matches!(request.effect, Effect::HandOff { .. }) {
            // A saga is not cut: what turns it back is a request to it.
            let (request, never) = (Arc::new(request), CancellationToken::new());
            let ended = attempt(self.hand_off(request, &cancel, leave, tell), None, &never).await;
            return match ended {
                Ended::Answered(outcome) => outcome,
                Ended::InDoubt(doubt) => Outcome::InDoubt { reason: doubt.to_string() },
            };
        }
        if cancel.is_cancelled() {
            let failure = Failure::retryable("canceled", "given up before it was performed");
            return Outcome::Failed { failure };
        }
        let request = Arc::new(request);
        crash::point(&format!("effect.{kind}.before"));
        let ended = attempt(self.try_effect(Arc::clone(&request), cancel.clone()), limit, &cancel).await;
        crash::point(&format!("effect.{kind}.after"));
        match ended {
            Ended::Answered(Ok(output)) => Outcome::Done { output },
            Ended::Answered(Err(failure)) => Outcome::Failed { failure },
            Ended::InDoubt(doubt) => Outcome::InDoubt { reason: doubt.to_string() },
        }
    }

    async fn try_effect(
        &self,
        request: Arc<EffectRequest>,
        cancel: CancellationToken,
    ) -> Result<EffectOutput, Failure> {
        let context = self.context(&request, &cancel)?;
        let workspaces = &self.world.workspaces;
        let runs = matches!(
            request.effect,
            Effect::RunHook { .. }
                | Effect::RemoveWorkspace { .. }
                | Effect::Notify { receiver: Receiver::Command { .. }, .. }
        );
        if request.run.is_none() && request.attempt > 1 && runs {
            // No run, so no recovery swept what the earlier attempt may have left running.
            self.world.processes.sweep(&context.mark).await?;
        }
        match &request.effect {
            Effect::PrepareWorkspace { fresh } => {
                let (workspace, created) = workspaces.prepare(&context, *fresh).await?;
                Ok(EffectOutput::WorkspaceReady { workspace, created })
            }
            Effect::RunHook { hook } => {
                let output_tail = workspaces.run_hook(&context, *hook).await?;
                Ok(EffectOutput::HookEnded { output_tail })
            }
            Effect::MoveIssue { to, from: _ } => {
                let terminal = &request.policy.tracker.terminal_states;
                let tracker = self.tracker(&request.policy)?;
                let state = tracker.transition(&request.issue.id, to, terminal).await?;
                Ok(EffectOutput::Moved { state })
            }
            Effect::StartSession { resume, seek } => self.start_session(context, resume.clone(), seek.as_deref()).await,
            Effect::Prompt { turn, prompt, messages } => self.prompt(&context, *turn, prompt, messages).await,
            Effect::StopAgent | Effect::Sweep => self.stop_agent(&context).await,
            Effect::CommitLeftovers => {
                let committed = workspaces.commit_leftovers(&context).await?;
                Ok(EffectOutput::LeftoversCommitted { committed })
            }
            Effect::FetchCommit => {
                let commit = workspaces.fetch_commit(&context).await?;
                Ok(EffectOutput::CommitFetched { commit })
            }
            Effect::RunCheck { commit, index } => {
                let checks = request.policy.handoff.as_ref().map_or(&[][..], |handoff| &handoff.checks);
                let Some(command) = checks.get(*index as usize) else {
                    return Err(Failure::permanent("unknown_check", format!("the policy has no check {index}")));
                };
                let Checked { passed, output } = workspaces.run_check(&context, commit, command).await?;
                let output_tail = last_bytes(&output, CHECK_TAIL_BYTES).to_owned();
                let kept = self.keep_output(&request, format!("check-{}.log", index + 1), output).await;
                Ok(EffectOutput::CheckEnded { passed, output_tail, kept })
            }
            Effect::BringRemote => {
                let commit = workspaces.bring_remote(&context).await?;
                Ok(EffectOutput::RemoteBrought { commit })
            }
            Effect::TellSaga { .. } => self.tell_saga(&request.effect).await,
            Effect::CarryOut { order, action: _ } => self.carry_out(&request, order).await,
            Effect::Notify { receiver, notices, missed } => {
                let id = format!("{}-{}", self.world.journal_id, message_name(notices));
                let message = Notification { id, notices: notices.clone(), missed: *missed };
                self.world.notifier.notify(&context, receiver, &message).await?;
                Ok(EffectOutput::Notified)
            }
            Effect::Mend { mend } => {
                let done = self.world.inspector.mend(&context, mend).await?;
                if let Mend::SetTranscriptAside { run } = mend {
                    let text = format!("what was here could not be read: {done}");
                    let at = self.world.clock.now();
                    let note = TranscriptEntry { at, turn: 0, kind: TranscriptKind::Note, text };
                    self.world.transcripts.append(run, note);
                }
                Ok(EffectOutput::Mended { done })
            }
            Effect::HandOff { .. } | Effect::PushBranch { .. } | Effect::Comment { .. } => {
                Err(Failure::permanent("not_performed", format!("{} is not performed here", request.effect.kind())))
            }
            Effect::RemoveWorkspace { handed_off } => match workspaces.remove(&context, handed_off.as_ref()).await? {
                None => Ok(EffectOutput::WorkspaceRemoved),
                Some(reason) => Ok(EffectOutput::WorkspaceKept { reason }),
            },
        }
    }

    /// Keeps what a command of a run said. Its verdict stands without it: what cannot be kept is missed by people alone.
    async fn keep_output(&self, request: &EffectRequest, name: String, output: String) -> Option<FileReceipt> {
        let run = request.run.clone().filter(|_| !output.is_empty())?;
        let (policy, agent) = (request.policy_hash.clone(), request.policy.agent.kind.as_str().to_owned());
        let files = vec![NewFile { name, content: output.into_bytes() }];
        match self.world.blobs.keep(FileOwner { run: run.clone(), policy, agent }, files).await {
            Ok(receipts) => receipts.into_iter().next(),
            Err(failure) => {
                tracing::warn!(%run, code = %failure.code, reason = %failure.message, "what a check said is not kept");
                None
            }
        }
    }

    pub(crate) fn context(&self, request: &Arc<EffectRequest>, cancel: &CancellationToken) -> Result<Context, Failure> {
        let owner = match (&request.run, &request.effect) {
            (Some(run), _) => run.to_string(),
            // Nothing that is done for the issue meanwhile is swept with it.
            (None, Effect::Notify { notices, .. }) => format!("notice-{}", message_name(notices)),
            (None, Effect::Mend { .. }) => "mend".to_owned(),
            (None, _) => format!("issue-{}", request.issue.id),
        };
        // Agents must be ended even if the tracker's settings hold no more; that starts no child.
        let secret_names = match request.effect {
            Effect::StopAgent
            | Effect::Sweep
            | Effect::TellSaga { .. }
            | Effect::CarryOut { .. }
            | Effect::Mend { .. }
            | Effect::Notify { receiver: Receiver::Webhook { .. } | Receiver::Slack { .. }, .. } => Vec::new(),
            Effect::PrepareWorkspace { .. }
            | Effect::RunHook { .. }
            | Effect::MoveIssue { .. }
            | Effect::StartSession { .. }
            | Effect::Prompt { .. }
            | Effect::CommitLeftovers
            | Effect::FetchCommit
            | Effect::RunCheck { .. }
            | Effect::HandOff { .. }
            | Effect::PushBranch { .. }
            | Effect::BringRemote
            | Effect::Comment { .. }
            | Effect::Notify { receiver: Receiver::Command { .. }, .. }
            | Effect::RemoveWorkspace { .. } => self.secret_names(&request.policy)?,
        };
        Ok(Context {
            request: Arc::clone(request),
            mark: format!("{}/{owner}", self.world.journal_id),
            secret_names,
            cancel: cancel.clone(),
        })
    }

    fn secret_names(&self, policy: &Policy) -> Result<Vec<String>, Failure> {
        let mut names = self.tracker(policy)?.secret_environment_names();
        if let Some(handoff) = &policy.handoff {
            names.extend(self.world.forges.secret_environment_names(handoff));
        }
        names.extend(self.world.notifier.secret_environment_names(policy));
        names.extend(self.world.webhooks.secret_environment_names(policy));
        Ok(names)
    }

    async fn start_session(
        &self,
        context: Context,
        resume: Option<SessionId>,
        seek: Option<&str>,
    ) -> Result<EffectOutput, Failure> {
        let run = run_of(&context)?;
        let slot = self.slot(&run);
        let mut agent = slot.lock().await;
        if let Some(old) = agent.take() {
            old.close().await;
        }
        self.live.begin(&run);
        let tools = self.toolbox(&context.request, &run)?;
        if resume.is_some() {
            tools.finish_cut().await;
        }
        let launch = Launch {
            context,
            resume,
            seek: seek.map(|key| marker(&self.world.secret, key)),
            sink: Arc::new(self.sink(&run)),
            tools,
            state_dir: self.world.state_dir.clone(),
        };
        let started = self.world.agents.start(launch).await?;
        if let Some(steering) = started.agent.steering() {
            self.lock_steering().insert(run.clone(), steering);
        }
        *agent = Some(started.agent);
        Ok(EffectOutput::SessionStarted { session: started.session, how: started.how, usage: started.usage })
    }

    fn toolbox(&self, request: &EffectRequest, run: &RunId) -> Result<Arc<DaemonTools>, Failure> {
        let tracker = self.tracker(&request.policy)?;
        let writes = Writes {
            effects: Arc::new(self.world.effects.clone()),
            scope: run_scope(run),
            secret: self.world.secret.clone(),
        };
        Ok(Arc::new(DaemonTools::new(tracker, request.issue.id.clone(), self.sink(run), writes)))
    }

    /// Carries an operator's action out. What is written to the tracker is written once: it is looked for by its marker before.
    async fn carry_out(&self, request: &EffectRequest, order: &Order) -> Result<EffectOutput, Failure> {
        let marker = || marker(&self.world.secret, &request.key);
        match order {
            Order::Comment { body, by } => {
                let body = format!("{body}\n\n— {by}");
                self.tracker(&request.policy)?.comment(&request.issue.id, &body, &marker()).await?;
                Ok(EffectOutput::Commented)
            }
            Order::Transition { to, then: _ } => {
                let state = self.tracker(&request.policy)?.transition(&request.issue.id, to, &[]).await?;
                Ok(EffectOutput::Moved { state })
            }
            Order::Followup { title, description } => {
                let identifier = &request.issue.identifier;
                let description = format!("{description}\n\nFollows from {identifier}.");
                let tracker = self.tracker(&request.policy)?;
                let identifier = tracker.create(title, description.trim_start(), &marker()).await?;
                Ok(EffectOutput::IssueMade { identifier })
            }
            Order::Steer { run, message } => {
                let steering = self.lock_steering().get(run).cloned();
                let none = || {
                    Failure::retryable(
                        "no_turn",
                        "the agent takes no words in its turn; it hears them with the next prompt",
                    )
                };
                steering.ok_or_else(none)?.steer(&prompt::said(message)).await?;
                Ok(EffectOutput::AgentTold)
            }
            Order::Reply { run, ask, question: _, reply, by: _ } => {
                self.live.reply(run, *ask, reply.clone())?;
                Ok(EffectOutput::AgentTold)
            }
        }
    }

    async fn prompt(
        &self,
        context: &Context,
        turn: u32,
        spec: &PromptSpec,
        messages: &[Message],
    ) -> Result<EffectOutput, Failure> {
        let run = run_of(context)?;
        let request = &context.request;
        let work = match (spec, &request.workspace) {
            (PromptSpec::Rehydrate { .. }, Some(workspace)) => {
                self.world.workspaces.inspect(&request.policy, workspace, workspace.base_commit.as_ref()).await.ok()
            }
            _ => None,
        };
        let marker = marker(&self.world.secret, &request.key);
        let workflow = self.world.workflow.as_ref();
        let text = prompt::compose(workflow, &request.policy, &request.issue, spec, messages, work.as_ref(), &marker)?;
        let slot = self.slot(&run);
        let mut agent = slot.lock().await;
        let Some(session) = agent.as_mut() else {
            return Err(Failure::retryable("agent_exit", "the agent is gone"));
        };
        self.live.begin_turn(&run, turn);
        crash::point("effect.prompt.sending");
        // An agent that waits for an answer does not end its turn before it has one.
        let hang_up = async {
            context.cancel.cancelled().await;
            self.live.hang_up(&run);
            std::future::pending().await
        };
        let end = tokio::select! {
            end = session.prompt(turn, &text, &context.cancel) => end,
            () = hang_up => return Err(Failure::retryable("canceled", "given up")),
        };
        self.live.end_turn(&run, end.is_ok());
        let end = end?;
        let TurnEnd { turn, usage, summary, model, tool_digest } = end;
        Ok(EffectOutput::TurnEnded { turn, usage, summary, model, tool_digest })
    }

    async fn stop_agent(&self, context: &Context) -> Result<EffectOutput, Failure> {
        let run = run_of(context)?;
        let slot = self.slot(&run);
        // Held until the sweep is through, so that nothing starts in between.
        let mut agent = slot.lock().await;
        if let Some(session) = agent.take() {
            session.close().await;
        }
        let killed = self.world.processes.sweep(&context.mark).await?;
        drop(agent);
        self.release_slot(&run, &slot);
        self.lock_steering().remove(&run);
        self.live.forget(&run);
        if let Some(workspace) = &context.request.workspace
            && let Err(failure) = self.world.workspaces.unlock(&context.request.policy, workspace).await
        {
            // Whoever works there next meets the lock and says so.
            tracing::warn!(%run, %failure, "lock files of a killed git may be left in the workspace");
        }
        Ok(EffectOutput::Swept { killed })
    }

    /// Ends every agent; for the end of the daemon. Bounded. What is left, the next daemon sweeps.
    pub(crate) async fn end_agents(&self) {
        let slots = std::mem::take(&mut *self.lock_agents());
        futures::future::join_all(slots.into_iter().map(|(run, slot)| self.end_agent(run, slot))).await;
    }

    async fn end_agent(&self, run: RunId, slot: AgentSlot) {
        let never = CancellationToken::new();
        let close = async {
            if let Some(session) = slot.lock().await.take() {
                session.close().await;
            }
        };
        if let Ended::InDoubt(doubt) = attempt(close, Some(CLOSE_LIMIT), &never).await {
            tracing::warn!(%run, %doubt, "an agent could not be closed; it is killed");
        }
        let mark = format!("{}/{run}", self.world.journal_id);
        let never = CancellationToken::new();
        match attempt(self.world.processes.sweep(&mark), Some(SWEEP_LIMIT), &never).await {
            Ended::Answered(Ok(_)) => {}
            Ended::Answered(Err(failure)) => {
                tracing::warn!(%run, %failure, "processes outlive the daemon; the next one sweeps again");
            }
            Ended::InDoubt(doubt) => {
                tracing::warn!(%run, %doubt, "processes may outlive the daemon; the next one sweeps again");
            }
        }
    }

    /// What is said of a handoff to people, on the issue and in the pull request.
    pub(crate) fn account(
        &self,
        request: &EffectRequest,
        commit: &CommitId,
        checks: &[String],
        pull_request: Option<&str>,
    ) -> Result<String, Failure> {
        let template = request.policy.handoff.as_ref().and_then(|handoff| handoff.comment.as_deref()).unwrap_or("");
        let mut body = self.world.workflow.render(template, &request.issue, None)?;
        if let Some(url) = pull_request {
            body.push_str(&format!("\n\nPull request: {url}"));
        }
        if let Some(branch) = request.branch() {
            body.push_str(&format!("\n\nBranch `{branch}` at {commit}."));
        }
        match checks {
            [] => body.push_str("\nNo checks are configured: no evidence."),
            checks => {
                body.push_str("\nPassed on a clean checkout:");
                for check in checks {
                    body.push_str(&format!("\n- `{check}`"));
                }
            }
        }
        Ok(body)
    }

    /// The asked issues, and those of them that are there and cannot be read. A refresh fails as a whole for one
    /// malformed issue (Symphony §11.1); then each half is asked by itself, and its halves, so that one half-saved file
    /// holds up nobody else.
    async fn readable(&self, policy: &Policy, ids: &[IssueId]) -> (Result<Vec<Issue>, Failure>, Vec<IssueId>) {
        let (mut read, mut unreadable, mut looks) = (Vec::new(), Vec::new(), 0);
        let mut parts = vec![ids];
        while let Some(part) = parts.pop() {
            looks += 1;
            match (self.look("tracker_request", self.issues_named(policy, part)).await, part) {
                (Ok(issues), _) => read.extend(issues),
                (Err(failure), _) if failure.code != "tracker_response" || looks >= LOOKS_FOR_UNREADABLE => {
                    return (Err(failure), Vec::new());
                }
                (Err(failure), [id]) => {
                    tracing::warn!(issue_id = %id, %failure, "an issue cannot be read; what was known of it stays");
                    unreadable.push(id.clone());
                }
                (Err(failure), []) => return (Err(failure), Vec::new()),
                (Err(_), part) => {
                    let (first, second) = part.split_at(part.len() / 2);
                    parts.extend([second, first]);
                }
            }
        }
        (Ok(read), unreadable)
    }

    /// What the tracker says of these states and of these issues.
    async fn poll(&self, states: &[String], ids: &[IssueId], policy: &Policy) -> Answer {
        let by_states = self.look("tracker_request", self.issues_in(policy, states)).await;
        let (by_ids, unreadable) = match &by_states {
            Ok(_) => self.readable(policy, ids).await,
            // One failure is enough for one look.
            Err(failure) => (Err(failure.clone()), Vec::new()),
        };
        if let (Ok(active), Ok(known)) = (&by_states, &by_ids) {
            self.remember(ids, active.iter().chain(known));
        }
        Answer::poll(by_states, by_ids, unreadable)
    }

    /// Looks something up.
    pub(crate) async fn answer(&self, query: Query) -> Answer {
        match query {
            Query::Poll { states, ids, policy } => {
                let poll = async { Ok(self.poll(&states, &ids, &policy).await) };
                let answer = within(POLL_LIMIT, "tracker_request", poll).await;
                answer.unwrap_or_else(|failure| Answer::Poll { seen: Err(failure), unreadable: Vec::new() })
            }
            Query::Assess { issue, workspace, since, policy } => {
                let now =
                    self.look("tracker_request", self.issues_named(&policy, std::slice::from_ref(&issue.id))).await;
                let work = self.world.workspaces.inspect(&policy, &workspace, since.as_ref());
                let work = self.look("workspace_unreadable", work).await;
                Answer::Assess { issue: now.map(|issues| issues.into_iter().next()), work }
            }
            Query::Look { issue, policy } => {
                let now = self.issues_named(&policy, std::slice::from_ref(&issue));
                let now = self.look("tracker_request", now).await;
                Answer::Look(now.map(|issues| issues.into_iter().next()))
            }
            Query::Inspect { wanted, policy } => {
                let looked = async { Ok(self.world.inspector.inspect(&wanted, &policy).await) };
                let seen = within(INSPECT_LIMIT, "inspection_failed", looked).await;
                Answer::Inspect(Box::new(seen.unwrap_or_else(|failure| Inspection::failed(&failure))))
            }
            Query::LostWork { request } => {
                let context = self.context(&Arc::from(request), &CancellationToken::new());
                let looked = async { self.world.workspaces.branch_tip(&context?).await };
                Answer::LostWork(self.look("repo_unreachable", looked).await)
            }
            Query::Probe { request } => {
                let probed = self.look("probe_failed", async { Ok(self.probe(*request).await) }).await;
                Answer::Probe(probed.unwrap_or_else(ProbeAnswer::Inconclusive))
            }
        }
    }

    /// A look always ends: silence and panics are failures, and it is asked again.
    async fn look<T>(&self, code: &str, look: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        within(QUERY_LIMIT, code, look).await
    }

    async fn issues_in(&self, policy: &Policy, states: &[String]) -> Result<Vec<Issue>, Failure> {
        self.tracker(policy)?.fetch_issues_by_states(states).await
    }

    async fn issues_named(&self, policy: &Policy, ids: &[IssueId]) -> Result<Vec<Issue>, Failure> {
        self.tracker(policy)?.fetch_issues_by_ids(ids).await
    }

    async fn probe(&self, request: EffectRequest) -> ProbeAnswer {
        let asked = match &request.effect {
            Effect::MoveIssue { to, from } => self.probe_move(&request, to, from.as_deref()).await,
            Effect::PrepareWorkspace { .. }
            | Effect::RunHook { .. }
            | Effect::StartSession { .. }
            | Effect::Prompt { .. }
            | Effect::StopAgent
            | Effect::Sweep
            | Effect::CommitLeftovers
            | Effect::FetchCommit
            | Effect::RunCheck { .. }
            | Effect::HandOff { .. }
            | Effect::TellSaga { .. }
            | Effect::CarryOut { .. }
            | Effect::PushBranch { .. }
            | Effect::BringRemote
            | Effect::Comment { .. }
            | Effect::Notify { .. }
            | Effect::Mend { .. }
            | Effect::RemoveWorkspace { .. } => {
                Err(Failure::permanent("no_probe", format!("{} cannot be probed", request.effect.kind())))
            }
        };
        asked.unwrap_or_else(ProbeAnswer::Inconclusive)
    }

    /// Where somebody moved the issue on, it is not moved back: our move took place before, or has nothing to do any more.
    pub(crate) async fn probe_move(
        &self,
        request: &EffectRequest,
        to: &str,
        from: Option<&str>,
    ) -> Result<ProbeAnswer, Failure> {
        let ids = std::slice::from_ref(&request.issue.id);
        let issues = self.tracker(&request.policy)?.fetch_issues_by_ids(ids).await?;
        let Some(issue) = issues.into_iter().next() else { return Ok(ProbeAnswer::NotApplied) };
        let is = |name: &str| normalized_state(&issue.state) == normalized_state(name);
        let over = is(to)
            || from.is_some_and(|from| !is(from))
            || state_in(&issue.state, &request.policy.tracker.terminal_states);
        Ok(if over {
            ProbeAnswer::Applied(EffectOutput::Moved { state: issue.state })
        } else {
            ProbeAnswer::NotApplied
        })
    }

    pub(crate) fn tracker(&self, policy: &Policy) -> Result<Arc<dyn Tracker>, Failure> {
        if let Some(tracker) = self.open_tracker(&policy.tracker) {
            return Ok(tracker);
        }
        // Without the lock: it may take its time, and others have their trackers.
        let opened = self.world.trackers.open(policy)?;
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let known: Vec<(IssueId, String)> = known.iter().map(|(id, name)| (id.clone(), name.clone())).collect();
        opened.remember(&known);
        if let Some(tracker) = self.open_tracker(&policy.tracker) {
            // Somebody was faster; one tracker knows what its polls told.
            return Ok(tracker);
        }
        let mut trackers = self.trackers.lock().unwrap_or_else(PoisonError::into_inner);
        trackers.insert(0, (policy.tracker.clone(), Arc::clone(&opened)));
        trackers.truncate(TRACKERS_KEPT);
        Ok(opened)
    }

    /// The open tracker of this configuration, which becomes the latest in use.
    fn open_tracker(&self, policy: &TrackerPolicy) -> Option<Arc<dyn Tracker>> {
        let mut trackers = self.trackers.lock().unwrap_or_else(PoisonError::into_inner);
        let at = trackers.iter().position(|(known, _)| known == policy)?;
        trackers.get_mut(..=at)?.rotate_right(1);
        trackers.first().map(|(_, tracker)| Arc::clone(tracker))
    }

    /// Keeps the names of issues that were seen; `asked` are those that the journal still knows.
    fn remember<'a>(&self, asked: &[IssueId], seen: impl Iterator<Item = &'a Issue>) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() > KNOWN_KEPT {
            let asked: BTreeSet<&IssueId> = asked.iter().collect();
            known.retain(|id, _| asked.contains(id));
        }
        known.extend(seen.map(|issue| (issue.id.clone(), issue.identifier.clone())));
    }

    fn slot(&self, run: &RunId) -> AgentSlot {
        Arc::clone(self.lock_agents().entry(run.clone()).or_default())
    }

    /// Forgets the slot, unless somebody waits for it: then an agent may come into it that has to be found.
    fn release_slot(&self, run: &RunId, slot: &AgentSlot) {
        let mut agents = self.lock_agents();
        // Ours and the map's; others can be had from the map alone.
        if Arc::strong_count(slot) <= 2 {
            agents.remove(run);
        }
    }

    fn lock_agents(&self) -> MutexGuard<'_, BTreeMap<RunId, AgentSlot>> {
        self.agents.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_steering(&self) -> MutexGuard<'_, BTreeMap<RunId, Arc<dyn Steering>>> {
        self.steering.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sink(&self, run: &RunId) -> Sink {
        Sink {
            run: run.clone(),
            live: Arc::clone(&self.live),
            clock: Arc::clone(&self.world.clock),
            transcripts: Arc::clone(&self.world.transcripts),
        }
    }
}

/// The answer of a look, or why there is none after this time.
async fn within<T>(limit: Duration, code: &str, look: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    match attempt(look, Some(limit), &CancellationToken::new()).await {
        Ended::Answered(answer) => answer,
        Ended::InDoubt(doubt) => Err(Failure::retryable(code, doubt.to_string())),
    }
}

fn run_of(context: &Context) -> Result<RunId, Failure> {
    context.request.run.clone().ok_or_else(|| Failure::permanent("no_run", "this effect belongs to a run"))
}

/// What a message is called in its journal: by its first notice.
fn message_name(notices: &[Notice]) -> String {
    format!("n{}", notices.first().map_or(0, |first| first.number))
}

/// The end of a text, at most so many bytes.
fn last_bytes(text: &str, most: usize) -> &str {
    let begin = text.len().saturating_sub(most);
    let begin = (begin..text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len());
    text.get(begin..).unwrap_or_default()
}

/// The longest that an effect may take before nobody waits for it any more. A turn has none: its silence is watched; nor a handoff:
/// its steps have theirs.
fn deadline(request: &EffectRequest) -> Option<Duration> {
    const MINUTE: u64 = 60_000;
    let policy = &request.policy;
    let ms = match &request.effect {
        Effect::Prompt { .. } | Effect::HandOff { .. } => return None,
        Effect::RunHook { .. } => policy.hooks.timeout_ms.saturating_add(MINUTE),
        Effect::RunCheck { .. } => {
            policy.handoff.as_ref().map_or(MINUTE, |handoff| handoff.check_timeout_ms).saturating_add(5 * MINUTE)
        }
        // Beyond what an adapter waits while lines come: a long history that is replayed must not be taken for silence.
        Effect::StartSession { .. } => {
            let limits = PATIENT_ANSWERS.saturating_mul(u64::from(START_PATIENCE) + 1);
            policy.agent.read_timeout_ms.saturating_mul(limits).saturating_add(MINUTE)
        }
        // The saga is there as soon as what a dead daemon left running is swept.
        Effect::TellSaga { .. } => 5 * MINUTE,
        Effect::MoveIssue { .. }
        | Effect::Comment { .. }
        | Effect::CarryOut { .. }
        | Effect::Notify { .. }
        | Effect::Mend { .. }
        | Effect::StopAgent
        | Effect::Sweep => 2 * MINUTE,
        Effect::PrepareWorkspace { .. }
        | Effect::CommitLeftovers
        | Effect::FetchCommit
        | Effect::PushBranch { .. }
        | Effect::BringRemote
        | Effect::RemoveWorkspace { .. } => 15 * MINUTE,
    };
    Some(Duration::from_millis(ms))
}
