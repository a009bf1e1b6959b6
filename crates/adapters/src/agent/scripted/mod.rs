//! The scripted agent: plays what a file says, and speaks ACP like any other agent. For the demo and for tests; it
//! needs no key and no network.
//!
//! Its sessions survive its process. What it is asked and what it does is in a file, synced, before it takes effect;
//! `session/load` tells that history again. A step that was cut is reported as aborted and not done again.

mod out;
mod play;
mod record;
mod script;

pub(crate) use script::foreign;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use agent_client_protocol::v1::schema::{
    AgentCapabilities, CancelNotification, Implementation, InitializeRequest, InitializeResponse, LoadSessionRequest,
    LoadSessionResponse, NewSessionRequest, NewSessionResponse, PromptRequest, PromptResponse, SessionId,
};
use agent_client_protocol::v1::{ConnectionTo, Responder};
use agent_client_protocol::{Agent, Client, Error, ErrorCode, Lines};
use dalsegno_engine::core::Failure;
use futures::AsyncBufReadExt as _;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio_util::compat::TokioAsyncReadCompatExt as _;
use tokio_util::sync::CancellationToken;

use out::Out;
use play::Player;
use record::SessionFile;
use script::Script;

/// What the scripted agent is started with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// File with the turns.
    pub script: PathBuf,
    /// Identifier of the issue; chooses the list of turns.
    pub issue: String,
    /// State directory of the daemon; sessions are kept in `agents/scripted` below it.
    pub state_dir: PathBuf,
}

/// Serves one client until its end of the pipe closes or the script says `exit`; answers the exit code.
///
/// # Errors
/// `agent_script_unreadable`, `agent_script_invalid`: nothing was served. `agent_protocol`: the connection broke.
pub async fn serve(
    stdin: impl AsyncRead + Send + Unpin + 'static,
    stdout: impl AsyncWrite + Send + Unpin + 'static,
    options: Options,
) -> Result<u8, Failure> {
    let script = Script::read(&options.script)?;
    let out = Out::new(stdout);
    let sink = futures::sink::unfold(out.clone(), |out, line: String| async move {
        out.line(line.as_bytes()).await?;
        Ok::<_, std::io::Error>(out)
    });
    let incoming = futures::io::BufReader::new(stdin.compat()).lines();

    let (exit, mut exiting) = watch::channel(None);
    let agent = Arc::new(Scripted {
        script: Arc::new(script),
        issue: options.issue,
        folder: options.state_dir.join("agents").join("scripted"),
        out,
        exit,
        sessions: Mutex::new(BTreeMap::new()),
    });
    let serving = agent.connection(Lines::new(Box::pin(sink), incoming));
    tokio::select! {
        served = serving => {
            served.map_err(|error| Failure::retryable("agent_protocol", format!("the connection broke: {error}")))?;
            Ok(0)
        }
        code = async {
            // The sender lives in the agent, which outlives this.
            exiting.wait_for(Option::is_some).await.ok().and_then(|code| *code)
        } => Ok(code.unwrap_or(0)),
    }
}

/// The agent of this process.
struct Scripted {
    script: Arc<Script>,
    issue: String,
    folder: PathBuf,
    out: Out,
    exit: watch::Sender<Option<u8>>,
    sessions: Mutex<BTreeMap<String, Session>>,
}

/// A session that this process has open.
#[derive(Clone)]
struct Session {
    /// Locked for the time of a turn.
    player: Arc<tokio::sync::Mutex<Player>>,
    /// Ends the turn that runs.
    cancel: CancellationToken,
}

impl Scripted {
    async fn connection(
        self: Arc<Self>,
        transport: impl agent_client_protocol::ConnectTo<Agent> + 'static,
    ) -> Result<(), Error> {
        let (make, load, prompt, cancel) = (self.clone(), self.clone(), self.clone(), self);
        Agent
            .v1()
            .name("dalsegno-scripted")
            .on_receive_request(
                async move |request: InitializeRequest, responder: Responder<InitializeResponse>, _connection| {
                    responder.respond(
                        InitializeResponse::new(request.protocol_version)
                            .agent_capabilities(AgentCapabilities::new().load_session(true))
                            .agent_info(Implementation::new("dalsegno-scripted", env!("CARGO_PKG_VERSION"))),
                    )
                },
                agent_client_protocol::on_receive_request!(),
            )
            .on_receive_request(
                async move |request: NewSessionRequest, responder: Responder<NewSessionResponse>, _connection| {
                    responder.respond_with_result(make.make(request))
                },
                agent_client_protocol::on_receive_request!(),
            )
            .on_receive_request(
                async move |request: LoadSessionRequest, responder: Responder<LoadSessionResponse>, _connection| {
                    responder.respond_with_result(load.load(request).await)
                },
                agent_client_protocol::on_receive_request!(),
            )
            .on_receive_request(
                async move |request: PromptRequest,
                            responder: Responder<PromptResponse>,
                            connection: ConnectionTo<Client>| {
                    // The answer has more than its stable type knows: the usage.
                    let responder = responder.erase_to_json();
                    let Some(session) = prompt.begin(&request.session_id) else {
                        return responder.respond_with_error(unknown(&request.session_id));
                    };
                    let client = connection.clone();
                    connection.spawn(async move {
                        let turn = session.player.lock().await.turn(&request, &client, &session.cancel).await;
                        responder.respond_with_result(turn)
                    })
                },
                agent_client_protocol::on_receive_request!(),
            )
            .on_receive_notification(
                async move |request: CancelNotification, _connection| {
                    cancel.cancel(&request.session_id);
                    Ok(())
                },
                agent_client_protocol::on_receive_notification!(),
            )
            .connect_to(transport)
            .await
    }

    fn make(&self, request: NewSessionRequest) -> Result<NewSessionResponse, Error> {
        let mut bytes = [0_u8; 8];
        getrandom::fill(&mut bytes).map_err(|error| Error::internal_error().data(error.to_string()))?;
        let id = format!("scripted-{:016x}", u64::from_be_bytes(bytes));
        let file = SessionFile::make(&self.folder, &id, &self.issue).map_err(internal)?;
        self.keep(&id, file, request.cwd);
        Ok(NewSessionResponse::new(id))
    }

    async fn load(&self, request: LoadSessionRequest) -> Result<LoadSessionResponse, Error> {
        let id = request.session_id.to_string();
        let Some((file, records)) = SessionFile::open(&self.folder, &id).map_err(internal)? else {
            return Err(unknown(&request.session_id));
        };
        for update in records.iter().enumerate().flat_map(|(place, record)| play::replay(place, record)) {
            self.out.update(&id, &update).await.map_err(internal)?;
        }
        self.keep(&id, file, request.cwd);
        Ok(LoadSessionResponse::new())
    }

    fn keep(&self, id: &str, file: SessionFile, cwd: PathBuf) {
        let player = Player {
            session: id.to_owned(),
            issue: self.issue.clone(),
            cwd,
            file,
            script: self.script.clone(),
            out: self.out.clone(),
            exit: self.exit.clone(),
        };
        let session = Session { player: Arc::new(tokio::sync::Mutex::new(player)), cancel: CancellationToken::new() };
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner).insert(id.to_owned(), session);
    }

    /// The session, with a fresh token for its next turn.
    fn begin(&self, id: &SessionId) -> Option<Session> {
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        let session = sessions.get_mut(&*id.0)?;
        session.cancel = CancellationToken::new();
        Some(session.clone())
    }

    fn cancel(&self, id: &SessionId) {
        if let Some(session) = self.sessions.lock().unwrap_or_else(PoisonError::into_inner).get(&*id.0) {
            session.cancel.cancel();
        }
    }
}

fn unknown(id: &SessionId) -> Error {
    Error::new(ErrorCode::RESOURCE_NOT_FOUND, "there is no such session").data(serde_json::json!({ "sessionId": id }))
}

#[allow(clippy::needless_pass_by_value, reason = "for map_err")]
fn internal(error: std::io::Error) -> Error {
    Error::internal_error().data(error.to_string())
}
