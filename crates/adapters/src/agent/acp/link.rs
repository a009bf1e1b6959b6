//! A started agent: its process and the protocol's connection.

use std::sync::Arc;
use std::time::Duration;

use agent_client_protocol::v1::ConnectionTo;
use agent_client_protocol::v1::schema::{CreateElicitationRequest, RequestPermissionRequest};
use agent_client_protocol::{Agent, Client, Error};
use dalsegno_engine::AgentSink;
use dalsegno_engine::core::Failure;
use tokio::process::Command;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::fold::Listener;
use super::permission::Gate;
use super::wire;
use crate::agent::program::{Advice, Program};

const ADVICE: Advice = Advice {
    not_found: "install it, or correct `agent.command` in WORKFLOW.md; it runs in a login shell (`bash -lc`)",
    no_answer: "see that `agent.command` starts it in its ACP mode; a slow start needs a longer `codex.read_timeout_ms`",
};

/// A running agent. Dropped, it leaves no task and no process.
pub(super) struct Link {
    program: Program,
    pub(super) connection: ConnectionTo<Agent>,
    pub(super) listener: Arc<Listener>,
}

impl Link {
    /// Starts the program and connects to it; nothing is said yet.
    pub(super) async fn open(command: Command, sink: Arc<dyn AgentSink>, gate: Gate) -> Result<Self, Failure> {
        let listener = Arc::new(Listener::new(sink));
        let (mut program, input, output) = Program::start(command, listener.ear.clone(), ADVICE).await?;
        let (channel, to_crate, from_crate) = wire::channel();
        let credit = wire::Credit::new();
        let stop = program.stop.clone();
        program.tasks.spawn(wire::read(output, to_crate, credit.clone(), listener.clone()));
        program.tasks.spawn(wire::write(input, from_crate, credit, stop.clone()));
        let (sender, connected) = oneshot::channel();
        program.tasks.spawn(connect(channel, listener.clone(), gate, sender, stop));
        let Ok(connection) = connected.await else {
            return Err(Failure::retryable("agent_start_failed", "the connection to the agent could not be set up"));
        };
        Ok(Self { program, connection, listener })
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
        let request = async {
            match request.await {
                Err(error) if lost(&error) => None,
                answer => Some(answer),
            }
        };
        self.program.short(what, request, limit, patient, cancel).await
    }

    /// Ends when the process has ended and had the time to be read to its end. Cancel-safe.
    pub(super) async fn died(&mut self) {
        self.program.died().await;
    }

    /// Why there is nothing to be had from the agent any more.
    pub(super) async fn why(&mut self) -> Failure {
        self.program.why().await
    }

    /// Ends everything: politely, then not.
    pub(super) async fn close(self) {
        self.program.close().await;
    }

    /// Ends everything at once.
    pub(super) async fn end(self) {
        self.program.end().await;
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
                let (gate, listener) = permissions.clone();
                // A person takes their time, and the connection goes on meanwhile.
                let asking = connection.clone();
                connection.spawn(async move { gate.permission(request, responder, &asking, &listener).await })
            },
            agent_client_protocol::on_receive_request!(),
        )
        .on_receive_request(
            async move |request: CreateElicitationRequest, responder, connection: ConnectionTo<Agent>| {
                let (asking, listener) = (connection.clone(), questions.clone());
                connection.spawn(async move { Gate::question(request, responder, &asking, &listener).await })
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
