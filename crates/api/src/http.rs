//! Requests over HTTP, and whom the operator token is shown to.
//!
//! A daemon that was killed leaves `daemon.json` behind, and whoever comes first gets its port. So an address alone
//! proves nothing: before each request with a token the process of `daemon.json` must hold the state directory, by the
//! lock of the operating system, which ends with it. A daemon keeps its port as long as it holds its directory, and
//! takes `daemon.json` away before it closes the port.

use std::io::BufRead;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::client::{ClientError, Method, Reply, Request, Transport, parsed, refused};
use crate::daemon::{Daemon, read_token};
use crate::error::code;
use crate::types::Health;

/// Largest answer that is read. A page is far smaller.
const MAX_ANSWER: u64 = 64 * 1024 * 1024;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// Longer than the server's heartbeat, so that silence means that it is gone.
const STREAM_SILENCE: Duration = Duration::from_secs(45);

/// Requests over HTTP to a daemon.
#[derive(Debug, Clone)]
pub struct HttpTransport {
    agent: ureq::Agent,
    place: Place,
}

/// Where the requests go.
#[derive(Debug, Clone)]
enum Place {
    /// To this address, whoever is there.
    Fixed(Door),
    /// To the daemon that holds this state directory, wherever it listens since its last start.
    Daemon(PathBuf),
}

/// An address, and what is shown there.
#[derive(Clone)]
struct Door {
    base: String,
    token: Option<String>,
}

impl std::fmt::Debug for Door {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Door").field("base", &self.base).finish_non_exhaustive()
    }
}

impl HttpTransport {
    /// A transport to the API at `url`, which shows `token` to whoever is there.
    #[must_use]
    pub fn new(url: &str, token: Option<String>) -> Self {
        Self::to(Place::Fixed(Door { base: trimmed(url), token }))
    }

    /// A transport to the daemon that holds this state directory, over its restarts.
    ///
    /// # Errors
    /// As for [`Client::discover`](crate::Client::discover).
    pub fn of_daemon(state_dir: &Path) -> Result<Self, ClientError> {
        let (daemon, _) = holder(state_dir)?.ok_or_else(|| ClientError::not_running(state_dir))?;
        let transport = Self::to(Place::Daemon(state_dir.to_owned()));
        // Asked without the token: who answers may still be somebody else.
        let unknown = Door { base: trimmed(&daemon.url), token: None };
        let request = Request { method: Method::Get, target: "/healthz".to_owned() };
        let Reply { status, body } = transport.send_to(&unknown, &request)?;
        let is_daemon = status == 200 && parsed::<Health>(&body).is_ok_and(|health| health.pid == daemon.pid);
        if is_daemon { Ok(transport) } else { Err(ClientError::not_running(state_dir)) }
    }

    fn to(place: Place) -> Self {
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            // A proxy of the environment has no business between us and loopback.
            .proxy(None)
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .build()
            .new_agent();
        Self { agent, place }
    }

    /// Where the next request goes, looked up anew.
    fn door(&self) -> Result<Door, ClientError> {
        match &self.place {
            Place::Fixed(door) => Ok(door.clone()),
            Place::Daemon(state_dir) => {
                let (daemon, token) = holder(state_dir)?.ok_or_else(|| {
                    let message = format!("the daemon on {} is gone, or is only just starting", state_dir.display());
                    unreachable(message)
                })?;
                Ok(Door { base: trimmed(&daemon.url), token })
            }
        }
    }

    fn send_to(&self, door: &Door, request: &Request) -> Result<Reply, ClientError> {
        let url = format!("{}{}", door.base, request.target);
        let bearer = door.token.as_ref().map(|token| format!("Bearer {token}"));
        let answer = match &request.method {
            Method::Post(body) => {
                let mut call = self.agent.post(&url).config().timeout_global(Some(CALL_TIMEOUT)).build();
                if let Some(bearer) = &bearer {
                    call = call.header("authorization", bearer);
                }
                match body {
                    Some(body) => call.header("content-type", "application/json").send(&body[..]),
                    None => call.send_empty(),
                }
            }
            Method::Get => {
                let mut call = self.agent.get(&url).config().timeout_global(Some(CALL_TIMEOUT)).build();
                if let Some(bearer) = &bearer {
                    call = call.header("authorization", bearer);
                }
                call.call()
            }
        };
        let mut answer = answer.map_err(|error| silent(door, &error))?;
        let status = answer.status().as_u16();
        let body = answer.body_mut().with_config().limit(MAX_ANSWER).read_to_vec();
        Ok(Reply { status, body: body.map_err(|error| silent(door, &error))? })
    }
}

impl Transport for HttpTransport {
    fn send(&self, request: &Request) -> Result<Reply, ClientError> {
        self.send_to(&self.door()?, request)
    }

    fn open(&self, target: &str, last_event_id: Option<&str>) -> Result<Box<dyn BufRead + Send>, ClientError> {
        let door = self.door()?;
        let mut call = self
            .agent
            .get(format!("{}{target}", door.base))
            .header("accept", "text/event-stream")
            .config()
            .timeout_per_read(Some(STREAM_SILENCE))
            .build();
        if let Some(token) = &door.token {
            call = call.header("authorization", format!("Bearer {token}"));
        }
        if let Some(id) = last_event_id {
            call = call.header("last-event-id", id);
        }
        let mut answer = call.call().map_err(|error| silent(&door, &error))?;
        let status = answer.status().as_u16();
        if status != 200 {
            let body = answer.body_mut().with_config().limit(MAX_ANSWER).read_to_vec();
            return Err(refused(status, &body.map_err(|error| silent(&door, &error))?));
        }
        Ok(Box::new(std::io::BufReader::new(answer.into_body().into_with_config().limit(u64::MAX).reader())))
    }
}

/// The daemon that holds the directory, and its token; nothing when there is none, or it is only just starting.
///
/// The token is read before its owner is looked at: should the daemon end and another one start in between, what was
/// read is a token that nobody takes any more, and not the new one for the old one's address.
fn holder(state_dir: &Path) -> Result<Option<(Daemon, Option<String>)>, ClientError> {
    let token = read_token(state_dir)?;
    let Some(daemon) = Daemon::read(state_dir)?.filter(|daemon| daemon.holds(state_dir)) else { return Ok(None) };
    Ok((read_token(state_dir)? == token).then_some((daemon, token)))
}

fn trimmed(url: &str) -> String {
    url.trim_end_matches('/').to_owned()
}

fn silent(door: &Door, error: &ureq::Error) -> ClientError {
    unreachable(format!("the daemon at {} does not answer: {error}", door.base))
}

fn unreachable(message: String) -> ClientError {
    ClientError::local(code::DAEMON_UNREACHABLE, message)
        .hint("see whether it runs (`dalsegno status`), and its log in the state directory")
}

#[cfg(test)]
#[path = "http/tests.rs"]
mod tests;
