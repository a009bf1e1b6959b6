//! A session over a link: start or resume, turns, end.

use std::path::PathBuf;
use std::time::Duration;

use agent_client_protocol::schema::ProtocolVersion;
use agent_client_protocol::v1::schema::{
    CancelNotification, ClientCapabilities, ContentBlock, ElicitationCapabilities, ElicitationFormCapabilities,
    Implementation, InitializeRequest, InitializeResponse, LoadSessionRequest, NewSessionRequest, PromptRequest,
    TextContent,
};
use agent_client_protocol::{Error, ErrorCode, UntypedMessage};
use async_trait::async_trait;
use dalsegno_engine::core::{Failure, SessionId, SessionStart, Timestamp, TurnOutcome};
use dalsegno_engine::{AgentSession, CANCEL_GRACE, Launch, Started, TurnEnd};
use serde_json::Value;
use tokio::process::Command;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::fold::usage_of;
use super::link::{Link, lost};
use super::outcome;
use super::permission::Gate;
use crate::agent::ear::next_question;
use crate::agent::text::clip;
use crate::agent::word;

/// How long the agent has to end a turn that we interrupt: less than the driver waits, so that an agent that does not
/// is a failure with words and not a doubt.
const INTERRUPT_GRACE: Duration = Duration::from_secs(3);
const _: () = assert!(INTERRUPT_GRACE.as_secs() < CANCEL_GRACE.as_secs(), "the driver would give up first");
/// Longest message taken over from an agent.
const MAX_MESSAGE_BYTES: usize = 2 * 1024;
/// Longest name of a session: it is journaled, and handed back to the agent.
const MAX_SESSION_BYTES: usize = 1024;

/// Starts the program, shakes hands, and makes or resumes the session. After a failure nothing of it is left.
pub(super) async fn start(command: Command, launch: Launch, workspace: String) -> Result<Started, Failure> {
    let policy = &launch.context.request.policy;
    let gate = Gate {
        approve: policy.auto_approve,
        workspace: PathBuf::from(&workspace),
        grants: launch.context.request.grants.clone(),
    };
    let mut link = Link::open(command, launch.sink.clone(), gate).await?;
    let handshake = Handshake {
        launch: &launch,
        workspace: PathBuf::from(workspace),
        limit: Duration::from_millis(policy.agent.read_timeout_ms),
    };
    match handshake.run(&mut link).await {
        Ok((session, how)) => {
            link.listener.note(&format!("session {session} ({})", word(how)));
            let silence = Duration::from_millis(policy.agent.turn_timeout_ms);
            let agent = Box::new(AcpSession { link, session: session.clone(), silence });
            Ok(Started { session, how, usage: None, agent })
        }
        Err(failure) => {
            link.end().await;
            Err(failure)
        }
    }
}

struct Handshake<'a> {
    launch: &'a Launch,
    workspace: PathBuf,
    limit: Duration,
}

impl Handshake<'_> {
    async fn run(&self, link: &mut Link) -> Result<(SessionId, SessionStart), Failure> {
        let answer = self.initialize(link).await?;
        if answer.protocol_version != ProtocolVersion::V1 {
            return Err(Failure::permanent(
                "agent_protocol",
                format!(
                    "the agent speaks version {:?} of the protocol, and this client version 1",
                    answer.protocol_version
                ),
            )
            .hint("use a version of the agent that speaks ACP 1"));
        }
        let Some(old) = &self.launch.resume else {
            return Ok((self.make(link).await?, SessionStart::New));
        };
        if answer.agent_capabilities.load_session
            && let Some(how) = self.load(link, old).await?
        {
            return Ok((old.clone(), how));
        }
        Ok((self.make(link).await?, SessionStart::Gone))
    }

    async fn initialize(&self, link: &mut Link) -> Result<InitializeResponse, Failure> {
        // Questions come as forms, so that they can be shown. Files and terminals the agent has itself.
        let capabilities = ClientCapabilities::new()
            .elicitation(ElicitationCapabilities::new().form(ElicitationFormCapabilities::new()));
        let request = InitializeRequest::new(ProtocolVersion::V1)
            .client_capabilities(capabilities)
            .client_info(Implementation::new("dalsegno", env!("CARGO_PKG_VERSION")));
        let sent = link.connection.send_request(request).block_task();
        link.short("initialize", sent, self.limit, false, &self.launch.context.cancel)
            .await?
            .map_err(|error| refused("initialize", &error))
    }

    async fn make(&self, link: &mut Link) -> Result<SessionId, Failure> {
        let sent = link.connection.send_request(NewSessionRequest::new(&self.workspace)).block_task();
        let answer = link
            .short("session/new", sent, self.limit, false, &self.launch.context.cancel)
            .await?
            .map_err(|error| refused("session/new", &error))?;
        session_named(answer.session_id.to_string())
    }

    /// Resumes the old session; `None`: the agent does not know it.
    async fn load(&self, link: &mut Link, old: &SessionId) -> Result<Option<SessionStart>, Failure> {
        let seek = self.launch.seek.as_deref();
        link.listener.begin_replay(seek);
        let request = LoadSessionRequest::new(old.0.clone(), &self.workspace);
        let sent = link.connection.send_request(request).block_task();
        // The history comes before the answer, and may be long.
        let answer = link.short("session/load", sent, self.limit, true, &self.launch.context.cancel).await?;
        let found = link.listener.end_replay();
        match answer {
            Ok(_) if seek.is_none() => Ok(Some(SessionStart::Resumed)),
            Ok(_) if found => Ok(Some(SessionStart::ResumedPromptFound)),
            Ok(_) => Ok(Some(SessionStart::ResumedPromptMissing)),
            Err(error) if unknown_session(&error) => {
                link.listener.note(&format!("the agent does not know session {old}: {}", error.message));
                Ok(None)
            }
            Err(error) => Err(refused("session/load", &error)),
        }
    }
}

/// Agents say it with different codes, but all of them in words. Anything else may pass, and giving up the session
/// for it would lose it.
fn unknown_session(error: &Error) -> bool {
    if error.code == ErrorCode::RESOURCE_NOT_FOUND || error.code == ErrorCode::METHOD_NOT_FOUND {
        return true;
    }
    let data = error.data.as_ref().map(Value::to_string).unwrap_or_default();
    let text = format!("{} {data}", error.message).to_ascii_lowercase();
    ["not found", "notfound", "no such", "unknown session", "does not exist", "no conversation", "no rollout"]
        .iter()
        .any(|words| text.contains(words))
}

fn session_named(name: String) -> Result<SessionId, Failure> {
    if name.is_empty() || name.len() > MAX_SESSION_BYTES {
        let message = format!("the agent named its session with {} bytes; 1 to {MAX_SESSION_BYTES} fit", name.len());
        return Err(
            Failure::permanent("agent_protocol", message).hint("use a version of the agent without that defect")
        );
    }
    Ok(SessionId(name))
}

/// The agent answered a request of the start with an error.
fn refused(what: &str, error: &Error) -> Failure {
    let detail = error.data.as_ref().map(|data| format!(" ({data})")).unwrap_or_default();
    let message = clip(&format!("the agent refused {what}: {}{detail}", error.message), MAX_MESSAGE_BYTES);
    if error.code == ErrorCode::AUTH_REQUIRED {
        return Failure::permanent("agent_start_failed", message)
            .hint("log in with the agent's own program, as the user of the daemon");
    }
    Failure::retryable("agent_start_failed", message)
        .hint("the run's transcript has what the agent wrote to its standard error")
}

/// A running agent with its session.
struct AcpSession {
    link: Link,
    session: SessionId,
    /// Longest silence in a turn.
    silence: Duration,
}

#[async_trait]
impl AgentSession for AcpSession {
    async fn prompt(&mut self, turn: u32, text: &str, cancel: &CancellationToken) -> Result<TurnEnd, Failure> {
        let listener = self.link.listener.clone();
        listener.begin_turn(text);
        let ended = self.turn(text, cancel).await;
        let reported =
            ended.as_ref().ok().and_then(|(_, answer)| answer.as_ref()).and_then(usage_in).unwrap_or_default();
        let (usage, summary) = listener.end_turn(reported);
        let (outcome, _) = ended?;
        listener.note(&format!("turn {turn}: {}", outcome.as_str()));
        Ok(TurnEnd { turn: outcome, usage, summary, model: None, tool_digest: None })
    }

    async fn close(self: Box<Self>) {
        self.link.close().await;
    }
}

impl AcpSession {
    /// Sends the prompt and waits for the turn's end: how it ended, and the agent's answer if there was one.
    async fn turn(&mut self, text: &str, cancel: &CancellationToken) -> Result<(TurnOutcome, Option<Value>), Failure> {
        let content = vec![ContentBlock::Text(TextContent::new(text))];
        let request = PromptRequest::new(self.session.0.clone(), content);
        // Untyped, because the answer has more than the stable types know: usage, and stop reasons to come.
        let request = UntypedMessage::new("session/prompt", request)
            .map_err(|error| Failure::permanent("agent_protocol", format!("the prompt is no JSON: {error}")))?;
        let answer = self.link.connection.send_request(request).block_task();
        tokio::pin!(answer);
        let listener = self.link.listener.clone();
        let mut asked = listener.asked.subscribe();
        let mut interrupted: Option<(TurnOutcome, Instant)> = None;
        loop {
            let silence_ends = listener.last() + self.silence;
            let grace_ends = interrupted.as_ref().map(|(_, since)| *since + INTERRUPT_GRACE);
            tokio::select! {
                biased;
                answer = &mut answer => {
                    return match (answer, interrupted) {
                        (Err(error), _) if lost(&error) => Err(self.link.why().await),
                        // What the agent calls the end of a turn that we ended does not matter.
                        (answer, Some((outcome, _))) => Ok((outcome, answer.ok())),
                        // The question may have come with the answer.
                        (answer, None) => {
                            let question = asked.borrow_and_update().clone();
                            Ok(match (answer, question) {
                                (answer, Some(question)) => (question.ends_turn(), answer.ok()),
                                (Ok(answer), None) => (outcome::of_answer(&answer), Some(answer)),
                                (Err(error), None) => (outcome::of_error(&error, now()), None),
                            })
                        }
                    };
                }
                () = self.link.died() => return Err(self.link.why().await),
                () = until(grace_ends), if interrupted.is_some() => {
                    return Err(Failure::retryable(
                        "response_timeout",
                        format!("the agent did not end its turn within {} s after `session/cancel`", INTERRUPT_GRACE.as_secs()),
                    )
                    .hint("it is ended, and its session resumed by the next run"));
                }
                () = cancel.cancelled(), if interrupted.is_none() => {
                    listener.note("interrupting the turn");
                    // A connection that is over answers the prompt with an error too.
                    if let Err(error) = self.link.connection.send_notification(CancelNotification::new(self.session.0.clone())) {
                        tracing::debug!(%error, "an interrupt could not be sent");
                    }
                    interrupted = Some((TurnOutcome::Interrupted, Instant::now()));
                }
                question = next_question(&mut asked), if interrupted.is_none() => {
                    // The cancel went out before the answer to the question.
                    interrupted = Some((question.ends_turn(), Instant::now()));
                }
                () = sleep_until(silence_ends), if interrupted.is_none() => {
                    if listener.last() + self.silence > silence_ends {
                        continue;
                    }
                    return Err(Failure::retryable(
                        "turn_timeout",
                        format!("the agent was silent for {} ms in its turn", self.silence.as_millis()),
                    )
                    .hint("a longer `codex.turn_timeout_ms` gives slow commands more time"));
                }
            }
        }
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

fn usage_in(answer: &Value) -> Option<dalsegno_engine::core::Usage> {
    [answer.get("usage"), answer.pointer("/_meta/usage")].into_iter().flatten().find_map(usage_of)
}

fn now() -> Timestamp {
    Timestamp(jiff::Timestamp::now().as_millisecond())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_agent_says_at_its_start_is_bounded() {
        let long = "x".repeat(1 << 20);
        let failure = refused("session/new", &Error::new(-32603, long.clone()).data(Value::String(long.clone())));
        assert!(failure.message.len() <= MAX_MESSAGE_BYTES, "{}", failure.message.len());
        assert!(failure.message.starts_with("the agent refused session/new: xxx"));
        assert_eq!(session_named(long).map_err(|failure| failure.code), Err("agent_protocol".to_owned()));
        assert_eq!(session_named(String::new()).map_err(|failure| failure.code), Err("agent_protocol".to_owned()));
        assert_eq!(session_named("s-1".to_owned()), Ok(SessionId::from("s-1")));
    }
}
