//! A blocking client of the API, over HTTP or whatever else carries requests.

use std::fmt::{self, Write as _};
use std::io::BufRead;
use std::path::Path;

use serde::de::DeserializeOwned;

use crate::action::{Action, ActionState, Receipt};
use crate::daemon::{DAEMON_FILE, STATE_DIR};
use crate::diff::RunDiff;
use crate::error::{ErrorBody, ErrorDetail, code};
use crate::exit;
use crate::files::FileList;
use crate::http::HttpTransport;
use crate::readiness::Readiness;
use crate::saga::Saga;
use crate::sse::EventStream;
use crate::types::{
    BudgetReport, EffectPage, EventPage, Explanation, Health, IssueDetail, IssueList, LoginLink, Refreshed, Run,
    RunList, State, TranscriptPage, UsageReport,
};

/// A call that did not give what was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientError {
    /// HTTP status, if there was an answer.
    pub status: Option<u16>,
    /// Code, message and hint.
    pub detail: ErrorDetail,
}

impl ClientError {
    /// An error that arose here and not in the daemon.
    #[must_use]
    pub fn local(code: &str, message: impl Into<String>) -> Self {
        Self { status: None, detail: ErrorDetail::new(code, message) }
    }

    /// The same error with a remedy.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.detail.hint = Some(hint.into());
        self
    }

    /// Its stable code.
    #[must_use]
    pub fn code(&self) -> &str {
        &self.detail.code
    }

    /// No daemon runs on this state directory.
    #[must_use]
    pub fn not_running(state_dir: &Path) -> Self {
        Self::local(code::DAEMON_NOT_RUNNING, format!("no daemon runs on {}", state_dir.display()))
            .hint("start one with `dalsegno run`")
    }

    /// The exit code of the command line that goes with it.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        if matches!(self.code(), code::DAEMON_NOT_RUNNING | code::DAEMON_UNREACHABLE) {
            return exit::NO_DAEMON;
        }
        self.status.map_or(exit::FAILURE, exit::of_status)
    }
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.detail.code, self.detail.message)
    }
}

impl std::error::Error for ClientError {}

/// A request, as a transport carries it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// What is asked.
    pub method: Method,
    /// Path and query, percent-encoded.
    pub target: String,
}

/// What a request asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Method {
    /// To read.
    Get,
    /// To do something, with the JSON that goes with it.
    Post(Option<Vec<u8>>),
}

/// An answer, as a transport brings it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// The whole body.
    pub body: Vec<u8>,
}

/// Carries requests to the API.
pub trait Transport: Send {
    /// Sends a request and waits for the answer, whatever its status.
    ///
    /// # Errors
    /// `daemon_unreachable` when there is no answer.
    fn send(&self, request: &Request) -> Result<Reply, ClientError>;

    /// Opens an event stream behind `last_event_id`.
    ///
    /// # Errors
    /// `daemon_unreachable`, or what the daemon answered instead of a stream.
    fn open(&self, target: &str, last_event_id: Option<&str>) -> Result<Box<dyn BufRead + Send>, ClientError>;
}

/// Which events are wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventQuery {
    /// Only what comes after this cursor.
    pub after: Option<String>,
    /// At most so many in a page.
    pub limit: Option<usize>,
    /// Only of this issue.
    pub issue: Option<String>,
    /// Only of this run.
    pub run: Option<String>,
    /// Only of this kind.
    pub kind: Option<String>,
}

impl EventQuery {
    pub(crate) fn target(&self, path: &str, with_limit: bool) -> String {
        let Self { after, limit, issue, run, kind } = self;
        let limit = limit.filter(|_| with_limit).map(|limit| limit.to_string());
        let pairs = [("after", after), ("limit", &limit), ("issue", issue), ("run", run), ("kind", kind)];
        target(path, pairs.map(|(name, value)| (name, value.as_deref())))
    }
}

/// Typed calls over a transport.
pub struct Client {
    transport: Box<dyn Transport>,
}

impl Client {
    /// A client of the daemon that serves this state directory. The token is shown to nobody else: see [`HttpTransport`].
    ///
    /// # Errors
    /// `daemon_not_running` when no process holds the directory as the daemon of `daemon.json`, or another one answers
    /// in its place; `daemon_unreachable` when nobody answers; `daemon_file_invalid`.
    pub fn discover(state_dir: &Path) -> Result<Self, ClientError> {
        HttpTransport::of_daemon(state_dir).map(Self::over)
    }

    /// A client over this transport.
    pub fn over(transport: impl Transport + 'static) -> Self {
        Self { transport: Box::new(transport) }
    }

    /// The answer to a `GET` as it came, if it was no error.
    ///
    /// # Errors
    /// [`ClientError`], as for every other call.
    pub fn get_raw(&self, target: &str) -> Result<Vec<u8>, ClientError> {
        self.send(Method::Get, target.to_owned())
    }

    /// `GET /healthz`
    #[allow(missing_docs, reason = "errors as for `get_raw`, here and below")]
    pub fn health(&self) -> Result<Health, ClientError> {
        self.get("/healthz".to_owned())
    }

    /// `GET /api/v1/state`
    pub fn state(&self) -> Result<State, ClientError> {
        self.get("/api/v1/state".to_owned())
    }

    /// `GET /api/v1/readiness`
    pub fn readiness(&self) -> Result<Readiness, ClientError> {
        self.get("/api/v1/readiness".to_owned())
    }

    /// `GET /api/v1/issues`, of one state or all.
    pub fn issues(&self, state: Option<&str>) -> Result<IssueList, ClientError> {
        self.get(target("/api/v1/issues", [("state", state)]))
    }

    /// `GET /api/v1/issues/{id}`
    pub fn issue(&self, key: &str) -> Result<IssueDetail, ClientError> {
        self.get(format!("/api/v1/issues/{}", escaped(key)))
    }

    /// `GET /api/v1/issues/{id}/explain`
    pub fn explain(&self, key: &str) -> Result<Explanation, ClientError> {
        self.get(format!("/api/v1/issues/{}/explain", escaped(key)))
    }

    /// `GET /api/v1/issues/{id}/runs`
    pub fn issue_runs(&self, key: &str, limit: Option<usize>) -> Result<RunList, ClientError> {
        let limit = limit.map(|limit| limit.to_string());
        self.get(target(&format!("/api/v1/issues/{}/runs", escaped(key)), [("limit", limit.as_deref())]))
    }

    /// `GET /api/v1/runs`
    pub fn runs(&self, limit: Option<usize>) -> Result<RunList, ClientError> {
        let limit = limit.map(|limit| limit.to_string());
        self.get(target("/api/v1/runs", [("limit", limit.as_deref())]))
    }

    /// `GET /api/v1/runs/{id}`
    pub fn run(&self, run: &str) -> Result<Run, ClientError> {
        self.get(format!("/api/v1/runs/{}", escaped(run)))
    }

    /// `GET /api/v1/runs/{id}/transcript`
    pub fn transcript(
        &self,
        run: &str,
        after: Option<&str>,
        limit: Option<usize>,
    ) -> Result<TranscriptPage, ClientError> {
        let limit = limit.map(|limit| limit.to_string());
        let path = format!("/api/v1/runs/{}/transcript", escaped(run));
        self.get(target(&path, [("after", after), ("limit", limit.as_deref())]))
    }

    /// `GET /api/v1/sagas/{id}`
    pub fn saga(&self, id: &str) -> Result<Saga, ClientError> {
        self.get(format!("/api/v1/sagas/{}", escaped(id)))
    }

    /// `GET /api/v1/runs/{id}/effects`
    pub fn effects(&self, run: &str, after: Option<&str>) -> Result<EffectPage, ClientError> {
        let path = format!("/api/v1/runs/{}/effects", escaped(run));
        self.get(target(&path, [("after", after), ("limit", None)]))
    }

    /// `GET /api/v1/runs/{id}/diff`
    pub fn diff(&self, run: &str) -> Result<RunDiff, ClientError> {
        self.get(format!("/api/v1/runs/{}/diff", escaped(run)))
    }

    /// `GET /api/v1/runs/{id}/files`
    pub fn files(&self, run: &str) -> Result<FileList, ClientError> {
        self.get(format!("/api/v1/runs/{}/files", escaped(run)))
    }

    /// `GET /api/v1/runs/{id}/files/{file}`: what is in it.
    pub fn file(&self, run: &str, file: &str) -> Result<String, ClientError> {
        let content = self.get_raw(&format!("/api/v1/runs/{}/files/{}", escaped(run), escaped(file)))?;
        Ok(String::from_utf8_lossy(&content).into_owned())
    }

    /// `GET /api/v1/events`
    pub fn events(&self, query: &EventQuery) -> Result<EventPage, ClientError> {
        self.get(query.target("/api/v1/events", true))
    }

    /// `GET /api/v1/events/stream`: events one by one, as they come. Reconnects by itself, within limits.
    #[must_use]
    pub fn stream(&self, query: &EventQuery) -> EventStream<'_> {
        EventStream::new(&*self.transport, query.clone())
    }

    /// `GET /api/v1/usage`
    pub fn usage(&self) -> Result<UsageReport, ClientError> {
        self.get("/api/v1/usage".to_owned())
    }

    /// `GET /api/v1/budget`
    pub fn budget(&self) -> Result<BudgetReport, ClientError> {
        self.get("/api/v1/budget".to_owned())
    }

    /// `GET /api/v1/actions/{id}`
    pub fn action(&self, id: &str) -> Result<ActionState, ClientError> {
        self.get(format!("/api/v1/actions/{}", escaped(id)))
    }

    /// `POST /api/v1/actions`: the receipt, accepted or not.
    ///
    /// # Errors
    /// When there is no receipt: the request was refused as such, or nobody answered.
    pub fn act(&self, action: &Action) -> Result<Receipt, ClientError> {
        let body = serde_json::to_vec(action).map_err(|error| {
            ClientError::local(code::INVALID_BODY, format!("the action cannot be written: {error}"))
        })?;
        let target = "/api/v1/actions".to_owned();
        let Reply { status, body } = self.transport.send(&Request { method: Method::Post(Some(body)), target })?;
        let receipt = serde_json::from_slice::<Receipt>(&body);
        receipt.map_err(|_| refused(status, &body))
    }

    /// `POST /api/v1/login-links`
    pub fn login_link(&self) -> Result<LoginLink, ClientError> {
        parsed(&self.send(Method::Post(None), "/api/v1/login-links".to_owned())?)
    }

    /// `POST /api/v1/refresh`
    pub fn refresh(&self) -> Result<Refreshed, ClientError> {
        parsed(&self.send(Method::Post(None), "/api/v1/refresh".to_owned())?)
    }

    fn get<T: DeserializeOwned>(&self, target: String) -> Result<T, ClientError> {
        parsed(&self.send(Method::Get, target)?)
    }

    fn send(&self, method: Method, target: String) -> Result<Vec<u8>, ClientError> {
        let Reply { status, body } = self.transport.send(&Request { method, target })?;
        if (200..300).contains(&status) { Ok(body) } else { Err(refused(status, &body)) }
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

pub(crate) fn parsed<T: DeserializeOwned>(body: &[u8]) -> Result<T, ClientError> {
    serde_json::from_slice(body).map_err(|error| {
        ClientError::local(code::INVALID_ANSWER, format!("the answer cannot be understood: {error}"))
            .hint(format!("is the daemon of another version? Look at the `version` in {STATE_DIR}/{DAEMON_FILE}"))
    })
}

pub(crate) fn refused(status: u16, body: &[u8]) -> ClientError {
    let detail = match serde_json::from_slice::<ErrorBody>(body) {
        Ok(body) => body.error,
        Err(_) => ErrorDetail::new(code::INVALID_ANSWER, format!("HTTP status {status} without the error envelope")),
    };
    ClientError { status: Some(status), detail }
}

/// The path with those parameters that have a value.
fn target<const N: usize>(path: &str, pairs: [(&str, Option<&str>); N]) -> String {
    let mut target = path.to_owned();
    let mut separator = '?';
    for (name, value) in pairs {
        if let Some(value) = value {
            target.push(separator);
            target.push_str(name);
            target.push('=');
            target.push_str(&escaped(value));
            separator = '&';
        }
    }
    target
}

/// Percent-encodes everything that is not plain in any part of a URL.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'~') || (byte == b'.' && text.len() > 2) {
            escaped.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(escaped, "%{byte:02X}");
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn foreign_text_stays_inside_its_part_of_the_target() {
        assert_eq!(escaped("DS-1"), "DS-1");
        assert_eq!(escaped("a/b?c=d&e#f %"), "a%2Fb%3Fc%3Dd%26e%23f%20%25");
        assert_eq!(escaped(".."), "%2E%2E");
        assert_eq!(target("/x", [("a", None), ("b", Some("1 2")), ("c", Some("ü"))]), "/x?b=1%202&c=%C3%BC");
    }

    #[test]
    fn an_answer_without_envelope_is_still_an_error_with_a_code() {
        let error = refused(502, b"<html>");
        assert_eq!((error.status, error.code()), (Some(502), code::INVALID_ANSWER));
        assert_eq!(refused(404, br#"{"error":{"code":"x","message":"y"}}"#).exit_code(), exit::NOT_FOUND);
    }

    #[test]
    fn without_a_daemon_the_error_says_how_to_start_one() {
        let error = Client::discover(Path::new("/nowhere/at/all")).unwrap_err();
        assert_eq!(error.code(), code::DAEMON_NOT_RUNNING);
        assert_eq!(error.exit_code(), exit::NO_DAEMON);
        assert!(error.detail.hint.unwrap().contains("dalsegno run"));
    }
}
