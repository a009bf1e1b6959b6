//! A thread of Codex as a session: turns, steering, end.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use dalsegno_engine::core::{Failure, SessionId, Timestamp, TurnOutcome};
use dalsegno_engine::{AgentSession, CANCEL_GRACE, Launch, Started, Steering, TranscriptKind, TurnEnd};
use serde_json::Value;
use tokio::process::Command;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use super::asks::Asks;
use super::calls;
use super::handshake::Handshake;
use super::listener::{Ended, Listener};
use super::outcome::{self, MAX_MESSAGE_BYTES};
use super::overrides::Overrides;
use super::wire::{self, Refusal, Wire};
use crate::agent::ear::{Asked, next_question};
use crate::agent::program::{Advice, Program};
use crate::agent::text::clip;
use crate::agent::word;

/// How long Codex has to end a turn that we interrupt, and then the commands of the turn: together less than the driver
/// waits, so that one that does not is a failure with words and not a doubt.
const INTERRUPT_GRACE: Duration = Duration::from_secs(3);
const COMMANDS_GRACE: Duration = Duration::from_millis(1_500);
const _: () = assert!(
    INTERRUPT_GRACE.as_millis() + COMMANDS_GRACE.as_millis() < CANCEL_GRACE.as_millis(),
    "the driver would give up first"
);
/// How soon an interrupt is sent again.
const INTERRUPT_AGAIN: Duration = Duration::from_millis(250);
/// Longest wait between two signs of life of a quiet command.
const MAX_BEAT: Duration = Duration::from_secs(10);

const ADVICE: Advice = Advice {
    not_found: "install Codex (`npm install -g @openai/codex`), or set `agent.command` in WORKFLOW.md; it runs in a \
                login shell (`bash -lc`)",
    no_answer: "see that `agent.command` starts `codex app-server`; a slow start needs a longer `codex.read_timeout_ms`",
};

/// A started program and both directions of its wire.
pub(super) struct Link {
    pub(super) program: Program,
    pub(super) wire: Arc<Wire>,
    pub(super) listener: Arc<Listener>,
}

impl Link {
    async fn open(command: Command, launch: &Launch, workspace: &str) -> Result<Self, Failure> {
        let listener = Arc::new(Listener::new(launch.sink.clone()));
        let (mut program, input, output) = Program::start(command, listener.ear.clone(), ADVICE).await?;
        let (wire, lines) = Wire::new();
        let asks = Arc::new(Asks {
            approve: launch.context.request.policy.auto_approve,
            workspace: PathBuf::from(workspace),
            grants: launch.context.request.grants.clone(),
            tools: launch.tools.clone(),
            listener: listener.clone(),
        });
        program.tasks.spawn(wire::write(input, lines, program.stop.clone()));
        program.tasks.spawn(wire::read(output, wire.clone(), asks, listener.clone()));
        Ok(Self { program, wire, listener })
    }

    /// Waits for the end of commands that still run in the thread; `false`: some do, or nobody knows.
    async fn end_commands(&self, thread: &str, until: Instant) -> bool {
        let clean = self.wire.clone().request("thread/backgroundTerminals/clean", calls::clean(thread));
        let ended = async {
            match clean.await {
                Some(Ok(_)) => {
                    self.listener.commands_ended().await;
                    true
                }
                Some(Err(refusal)) => {
                    self.listener.note(&format!("codex does not end its commands: {}", refusal.message));
                    false
                }
                None => false,
            }
        };
        timeout_at(until, ended).await.unwrap_or(false)
    }
}

/// Starts the program, shakes hands, and makes or resumes the thread. After a failure nothing of it is left.
pub(super) async fn start(command: Command, launch: Launch, workspace: String) -> Result<Started, Failure> {
    let policy = &launch.context.request.policy.agent;
    let mut link = Link::open(command, &launch, &workspace).await?;
    let overrides = Overrides::new(&workspace, policy);
    let limit = Duration::from_millis(policy.read_timeout_ms);
    let opened = match (Handshake { launch: &launch, overrides: &overrides, limit }).run(&mut link).await {
        Ok(opened) => opened,
        Err(failure) => {
            link.program.end().await;
            return Err(failure);
        }
    };
    let session = SessionId::from(opened.thread.as_str());
    link.listener.note(&format!("session {session} ({})", word(opened.how)));
    let agent = Box::new(CodexSession {
        link,
        thread: opened.thread,
        overrides,
        silence: Duration::from_millis(policy.turn_timeout_ms),
        limit,
        beat: beat(policy.stall_timeout_ms),
    });
    Ok(Started { session, how: opened.how, usage: opened.usage, agent })
}

/// How often a quiet command is told to be at work: often enough for the stall clock.
fn beat(stall_timeout_ms: i64) -> Duration {
    match u64::try_from(stall_timeout_ms) {
        Ok(limit) if limit > 0 => Duration::from_millis((limit / 4).max(50)).min(MAX_BEAT),
        Ok(_) | Err(_) => MAX_BEAT,
    }
}

/// A running Codex with its thread.
struct CodexSession {
    link: Link,
    thread: String,
    overrides: Overrides,
    /// Longest silence in a turn.
    silence: Duration,
    /// Longest wait for a short answer.
    limit: Duration,
    /// How often a quiet command is told to be at work.
    beat: Duration,
}

#[async_trait]
impl AgentSession for CodexSession {
    async fn prompt(&mut self, turn: u32, text: &str, cancel: &CancellationToken) -> Result<TurnEnd, Failure> {
        let listener = self.link.listener.clone();
        listener.begin_turn(text);
        let ended = self.turn(text, cancel).await;
        let told = listener.end_turn();
        let outcome = ended?;
        listener.note(&format!("turn {turn}: {}", outcome.as_str()));
        let (usage, summary, model) = (told.usage, told.summary, told.model);
        Ok(TurnEnd { turn: outcome, usage, summary, model, tool_digest: told.digest })
    }

    async fn close(self: Box<Self>) {
        self.link.program.close().await;
    }

    fn steering(&self) -> Option<Arc<dyn Steering>> {
        let (wire, listener) = (self.link.wire.clone(), self.link.listener.clone());
        Some(Arc::new(Steer { wire, listener, limit: self.limit }))
    }
}

impl CodexSession {
    /// Sends the prompt and waits for the turn's end.
    async fn turn(&mut self, text: &str, cancel: &CancellationToken) -> Result<TurnOutcome, Failure> {
        let params = calls::turn_start(self.overrides.turn().await, &self.thread, text);
        let started = self.link.wire.clone().request("turn/start", params);
        tokio::pin!(started);
        let listener = self.link.listener.clone();
        let mut asked = listener.asked.subscribe();
        let mut answered = false;
        let mut cut: Option<Cut> = None;
        let mut beat = tokio::time::interval(self.beat);
        loop {
            if let Some(cut) = cut.as_mut() {
                self.interrupt(cut);
            }
            let silence_ends = listener.last() + self.silence;
            let again = cut.as_ref().and_then(|cut| cut.again);
            let grace_ends = cut.as_ref().map(|cut| cut.since + INTERRUPT_GRACE);
            tokio::select! {
                biased;
                answer = &mut started, if !answered => {
                    answered = true;
                    match answer {
                        None => return Err(self.link.program.why().await),
                        Some(Err(refusal)) => return Ok(not_started(&refusal, cut)),
                        Some(Ok(answer)) => {
                            let Some(turn) = answer.pointer("/turn/id").and_then(Value::as_str) else {
                                return Err(Failure::retryable("agent_protocol", "codex began a turn without a name"));
                            };
                            listener.name_turn(turn);
                        }
                    }
                }
                ended = listener.turn_ended() => {
                    let question = asked.borrow_and_update().clone();
                    return self.ended(&ended, cut, question).await;
                }
                () = self.link.wire.ended() => return Err(self.link.program.why().await),
                () = self.link.program.died() => return Err(self.link.program.why().await),
                () = until(grace_ends), if cut.is_some() => return Err(no_end(INTERRUPT_GRACE)),
                () = until(again) => {}
                () = cancel.cancelled(), if cut.is_none() => {
                    listener.note("interrupting the turn");
                    cut = Some(Cut::new(TurnOutcome::Interrupted));
                }
                question = next_question(&mut asked), if cut.is_none() => {
                    cut = Some(Cut::new(question.ends_turn()));
                }
                // A command may be quiet for as long as it likes, within the turn's own limit.
                _ = beat.tick() => if listener.at_work() { listener.works() },
                () = sleep_until(silence_ends), if cut.is_none() => {
                    if listener.last() + self.silence <= silence_ends {
                        return Err(silent(self.silence));
                    }
                }
            }
        }
    }

    /// Sends the interrupt as soon as the turn has a name, and again while it goes on: Codex forgets one that comes
    /// before its turn has really begun.
    fn interrupt(&mut self, cut: &mut Cut) {
        if cut.again.is_some_and(|at| Instant::now() < at) {
            return;
        }
        let Some((thread, turn)) = self.link.listener.open_turn() else { return };
        cut.again = Some(Instant::now() + INTERRUPT_AGAIN);
        let request = self.link.wire.clone().request("turn/interrupt", calls::turn_interrupt(&thread, &turn));
        self.link.program.tasks.spawn(async move {
            // The end of the turn is what counts; it comes by itself when it was over already.
            let _ = request.await;
        });
    }

    /// The turn ended: by itself, or because it was cut, and then its commands are ended too, which Codex leaves
    /// running.
    async fn ended(
        &mut self,
        ended: &Ended,
        cut: Option<Cut>,
        question: Option<Asked>,
    ) -> Result<TurnOutcome, Failure> {
        let cut = cut.map(|cut| cut.outcome).or(question.map(Asked::ends_turn));
        let Some(outcome) = cut else {
            let now = Timestamp(jiff::Timestamp::now().as_millisecond());
            return Ok(outcome::of(ended, &self.link.listener, now));
        };
        if self.link.end_commands(&self.thread, Instant::now() + COMMANDS_GRACE).await {
            return Ok(outcome);
        }
        Err(Failure::retryable("response_timeout", "a command of the interrupted turn did not end")
            .hint("the agent is ended with all that it started, and its session resumed by the next run"))
    }
}

/// The turn did not begin.
fn not_started(refusal: &Refusal, cut: Option<Cut>) -> TurnOutcome {
    if let Some(cut) = cut {
        return cut.outcome;
    }
    let message = clip(&format!("codex refused turn/start: {}", refusal.message), MAX_MESSAGE_BYTES);
    let failure = if refusal.message.starts_with("Invalid request:") {
        Failure::permanent("turn_failed", message)
            .hint("see codex.approval_policy, codex.turn_sandbox_policy and agent.model")
    } else {
        Failure::retryable("turn_failed", message)
    };
    TurnOutcome::Failed { failure }
}

fn no_end(after: Duration) -> Failure {
    let message = format!("codex did not end its turn within {} s after `turn/interrupt`", after.as_secs());
    Failure::retryable("response_timeout", message).hint("it is ended, and its session resumed by the next run")
}

fn silent(for_long: Duration) -> Failure {
    let message = format!("the agent was silent for {} ms in its turn", for_long.as_millis());
    Failure::retryable("turn_timeout", message).hint("a longer `codex.turn_timeout_ms` gives slow commands more time")
}

/// A turn that we end.
struct Cut {
    outcome: TurnOutcome,
    since: Instant,
    /// When Codex is told again.
    again: Option<Instant>,
}

impl Cut {
    fn new(outcome: TurnOutcome) -> Self {
        Self { outcome, since: Instant::now(), again: None }
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Speaks into the open turn of a thread.
struct Steer {
    wire: Arc<Wire>,
    listener: Arc<Listener>,
    limit: Duration,
}

#[async_trait]
impl Steering for Steer {
    async fn steer(&self, text: &str) -> Result<(), Failure> {
        let none = |why: &str| {
            Failure::retryable("no_turn", format!("there is no turn to speak into: {why}"))
                .hint("it is told with the next prompt")
        };
        let Some((thread, turn)) = self.listener.open_turn() else { return Err(none("none is open")) };
        let request = self.wire.clone().request("turn/steer", calls::turn_steer(&thread, &turn, text));
        match timeout(self.limit, request).await {
            Ok(Some(Ok(_))) => {
                self.listener.line(TranscriptKind::Prompt, text);
                Ok(())
            }
            // The turn ended meanwhile, or is of a kind that takes no words.
            Ok(Some(Err(refusal))) => Err(none(&clip(&refusal.message, MAX_MESSAGE_BYTES))),
            Ok(None) => Err(Failure::retryable("agent_exit", "the agent ended before it was told")),
            Err(_) => Err(Failure::retryable(
                "response_timeout",
                format!("codex did not answer turn/steer within {} ms", self.limit.as_millis()),
            )),
        }
    }
}
