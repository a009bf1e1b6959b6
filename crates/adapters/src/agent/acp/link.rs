//! A started agent: its process, the tasks around its pipes, and the protocol's connection.

use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use agent_client_protocol::v1::ConnectionTo;
use agent_client_protocol::v1::schema::{CreateElicitationRequest, RequestPermissionRequest};
use agent_client_protocol::{Agent, Client, Error};
use dalsegno_engine::AgentSink;
use dalsegno_engine::core::Failure;
use tokio::process::Command;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::fold::Listener;
use super::permission::Gate;
use super::wire;
use crate::process::{Child, Tail, describe, spawn};

/// How long an agent has to end by itself when its standard input is closed.
const CLOSE_GRACE: Duration = Duration::from_secs(1);
/// How long its output may stay open after its process ended: what it said last is still in the pipe.
const LAST_WORDS_GRACE: Duration = Duration::from_secs(1);
/// A patient request waits at most so many times its limit.
const PATIENCE: u32 = 60;
/// How much of its standard error is told when it ends.
const ERROR_TAIL_BYTES: usize = 2 * 1024;

/// A running agent. Dropped, it leaves no task and no process.
pub(super) struct Link {
    child: Child,
    pub(super) connection: ConnectionTo<Agent>,
    pub(super) listener: Arc<Listener>,
    errors: Arc<Mutex<Tail>>,
    errors_read: CancellationToken,
    stop: CancellationToken,
    tasks: JoinSet<()>,
    exited: Option<Instant>,
}

impl Link {
    /// Starts the program and connects to it; nothing is said yet.
    pub(super) async fn open(mut command: Command, sink: Arc<dyn AgentSink>, gate: Gate) -> Result<Self, Failure> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = spawn(command).map_err(not_started)?;
        let (Some(input), Some(output), Some(errors)) = (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err(Failure::retryable("agent_start_failed", "the agent's pipes could not be opened"));
        };
        let listener = Arc::new(Listener::new(sink));
        let mut tasks = JoinSet::new();
        let stop = CancellationToken::new();
        let (channel, to_crate, from_crate) = wire::channel();
        let credit = wire::credit();
        tasks.spawn(wire::read(output, to_crate, credit.clone(), listener.clone()));
        tasks.spawn(wire::write(input, from_crate, credit, stop.clone()));

        let tail = Arc::new(Mutex::new(Tail::new(ERROR_TAIL_BYTES)));
        let errors_read = CancellationToken::new();
        tasks.spawn({
            let (listener, tail, read) = (listener.clone(), tail.clone(), errors_read.clone().drop_guard());
            async move {
                wire::read_errors(errors, |line| {
                    listener.stderr(line);
                    let mut tail = tail.lock().unwrap_or_else(PoisonError::into_inner);
                    tail.push(line.as_bytes());
                    tail.push(b"\n");
                })
                .await;
                drop(read);
            }
        });

        let (sender, connected) = oneshot::channel();
        tasks.spawn(connect(channel, listener.clone(), gate, sender, stop.clone()));
        let Ok(connection) = connected.await else {
            return Err(Failure::retryable("agent_start_failed", "the connection to the agent could not be set up"));
        };
        Ok(Self { child, connection, listener, errors: tail, errors_read, stop, tasks, exited: None })
    }

    /// Waits for the answer to a short request. With `patient`, each line that comes starts the limit over.
    ///
    /// The outer error means that the agent is of no use; the inner one is the agent's answer.
    pub(super) async fn short<T>(
        &mut self,
        what: &str,
        request: impl Future<Output = Result<T, Error>>,
        limit: Duration,
        patient: bool,
        cancel: &CancellationToken,
    ) -> Result<Result<T, Error>, Failure> {
        tokio::pin!(request);
        let begun = Instant::now();
        loop {
            let from = if patient { begun.max(self.listener.last()) } else { begun };
            let from = from.min(begun + limit * PATIENCE);
            tokio::select! {
                biased;
                answer = &mut request => return match answer {
                    Err(error) if lost(&error) => Err(self.why().await),
                    answer => Ok(answer),
                },
                () = cancel.cancelled() => {
                    return Err(Failure::retryable("agent_start_failed", format!("canceled while waiting for {what}")));
                }
                () = self.died() => return Err(self.why().await),
                () = sleep_until(from + limit) => {
                    if patient && self.listener.last() > from && begun.elapsed() < limit * PATIENCE {
                        continue;
                    }
                    return Err(Failure::retryable(
                        "response_timeout",
                        format!("the agent did not answer {what} within {} ms", limit.as_millis()),
                    )
                    .hint("see that `agent.command` starts it in its ACP mode; a slow start needs a longer `codex.read_timeout_ms`"));
                }
            }
        }
    }

    /// Ends when the process has ended and had the time to be read to its end. Cancel-safe.
    pub(super) async fn died(&mut self) {
        if self.exited.is_none() {
            // An error means that it was collected before; either way it is gone.
            let _ = self.child.wait().await;
        }
        let at = *self.exited.get_or_insert_with(Instant::now);
        sleep_until(at + LAST_WORDS_GRACE).await;
    }

    /// Why there is nothing to be had from the agent any more.
    pub(super) async fn why(&mut self) -> Failure {
        if let Some(failure) = self.listener.broken() {
            return failure;
        }
        let exit = timeout(LAST_WORDS_GRACE, self.child.wait()).await.ok().and_then(Result::ok);
        let _ = timeout(LAST_WORDS_GRACE, self.errors_read.cancelled()).await;
        let said = self.errors.lock().unwrap_or_else(PoisonError::into_inner).text();
        let said = match said.trim() {
            "" => "it wrote nothing to its standard error".to_owned(),
            said => format!("its standard error ended with: {said}"),
        };
        if exit.and_then(|exit| exit.code()).is_some_and(|code| code == 127 || code == 126) {
            return Failure::permanent("agent_not_found", format!("the agent's program cannot be run; {said}"))
                .hint("install it, or correct `agent.command` in WORKFLOW.md; it runs in a login shell (`bash -lc`)");
        }
        if exit.is_none() {
            return Failure::retryable("agent_exit", format!("the agent closed its output and runs on; {said}"));
        }
        Failure::retryable("agent_exit", format!("the agent ended with {}; {said}", describe(exit)))
    }

    /// Ends everything: politely, then not.
    pub(super) async fn close(mut self) {
        self.stop.cancel();
        let _ = timeout(CLOSE_GRACE, self.child.wait()).await;
        self.end().await;
    }

    /// Ends everything at once.
    pub(super) async fn end(mut self) {
        self.stop.cancel();
        if let Err(failure) = self.child.end().await {
            tracing::warn!(code = %failure.code, reason = %failure.message, "an agent left processes behind");
            self.listener.note(&failure.to_string());
        }
        // What it said last is in the pipes; once every writer is dead they end.
        let _ = timeout(LAST_WORDS_GRACE, async { while self.tasks.join_next().await.is_some() {} }).await;
        self.tasks.shutdown().await;
        self.listener.flush();
    }
}

/// Drives the protocol's connection until `stop`.
async fn connect(
    channel: agent_client_protocol::Channel,
    listener: Arc<Listener>,
    gate: Gate,
    sender: oneshot::Sender<ConnectionTo<Agent>>,
    stop: CancellationToken,
) {
    let permissions = (gate, listener.clone());
    let questions = listener;
    let connected = Client
        .v1()
        .name("dalsegno")
        .on_receive_request(
            async move |request: RequestPermissionRequest, responder, connection: ConnectionTo<Agent>| {
                let (gate, listener) = &permissions;
                gate.permission(request, responder, &connection, listener)
            },
            agent_client_protocol::on_receive_request!(),
        )
        .on_receive_request(
            async move |request: CreateElicitationRequest, responder, connection: ConnectionTo<Agent>| {
                Gate::question(&request, responder, &connection, &questions)
            },
            agent_client_protocol::on_receive_request!(),
        )
        .connect_with(channel, async move |connection: ConnectionTo<Agent>| {
            // Nobody waits any more: then the stop comes.
            let _ = sender.send(connection);
            stop.cancelled().await;
            Ok(())
        })
        .await;
    if let Err(error) = connected {
        tracing::debug!(%error, "the connection to an agent ended");
    }
}

/// The answer will never come, because the connection is over.
pub(super) fn lost(error: &Error) -> bool {
    agent_client_protocol::is_incoming_transport_closed(error) || agent_client_protocol::is_connection_terminated(error)
}

/// The words of the port for a program that could not be started.
fn not_started(failure: Failure) -> Failure {
    if failure.retryable {
        return Failure { code: "agent_start_failed".to_owned(), ..failure };
    }
    Failure { code: "agent_not_found".to_owned(), ..failure }
}
