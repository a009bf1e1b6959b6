//! How requests come in, and how answers and lies go out.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, RawQuery};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, Uri, header};
use serde_json::Value;

use super::FakeSetup;
use super::github::{self, Asked, Said};
use super::lie::{Lie, LieFor};
use super::record::Recorded;
use super::state::State;

/// Most bytes of a request.
const MAX_REQUEST: usize = 4 << 20;
/// Requests that are kept in memory.
const KEPT: usize = 10_000;
/// What is no JSON.
const PAGE: &str = "<html><body>Sorry.</body></html>";

/// What all requests share.
#[derive(Debug)]
pub(super) struct Shared {
    setup: FakeSetup,
    place: PathBuf,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    state: State,
    lies: Vec<(LieFor, Lie)>,
    requests: Vec<Recorded>,
    record: File,
}

impl Shared {
    pub(super) fn open(setup: FakeSetup) -> io::Result<Self> {
        fs::create_dir_all(&setup.folder)?;
        let place = setup.folder.join("state.json");
        let owner = setup.repository.split('/').next().unwrap_or_default().to_owned();
        let fresh = State { owner, default_branch: setup.default_branch.clone(), pulls: Vec::new() };
        let state = State::read(&place)?.unwrap_or(fresh);
        let record = OpenOptions::new().append(true).create(true).open(setup.folder.join("record.jsonl"))?;
        let inner = Inner { state, lies: Vec::new(), requests: Vec::new(), record };
        Ok(Self { setup, place, inner: Mutex::new(inner) })
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn state(&self) -> State {
        self.inner().state.clone()
    }

    pub(super) fn requests(&self) -> Vec<Recorded> {
        self.inner().requests.clone()
    }

    pub(super) fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> io::Result<T> {
        let mut inner = self.inner();
        let changed = change(&mut inner.state);
        inner.state.write(&self.place)?;
        Ok(changed)
    }

    pub(super) fn lie(&self, about: LieFor, lie: Lie) {
        self.inner().lies.push((about, lie));
    }

    pub(super) fn be_honest(&self) {
        self.inner().lies.clear();
    }

    /// What is honestly answered, and the lie that is told instead. What is done is on the disk, and so is the record of it.
    fn handle(&self, asked: &Asked<'_>, query: &str) -> io::Result<(Said, Option<Lie>)> {
        let mut inner = self.inner();
        let lie =
            inner.lies.iter_mut().find(|(about, _)| about.is_for(asked.method, asked.path)).map(|(about, lie)| {
                about.times -= 1;
                *lie
            });
        let mut after = inner.state.clone();
        let said = github::answer(&mut after, &self.setup, asked);
        let changed = after != inner.state && lie.is_none_or(Lie::does_it);
        if changed {
            after.write(&self.place)?;
            inner.state = after;
        }
        let recorded = Recorded {
            method: asked.method.to_owned(),
            path: asked.path.to_owned(),
            query: query.to_owned(),
            account: github::account(asked.authorization).map(|account| account.login.to_owned()),
            body: asked.body.clone(),
            status: status(&said, lie),
            changed,
            lie: lie.map(|lie| format!("{lie:?}")),
        };
        let mut line = serde_json::to_vec(&recorded)?;
        line.push(b'\n');
        inner.record.write_all(&line)?;
        if inner.requests.len() < KEPT {
            inner.requests.push(recorded);
        }
        Ok((said, lie))
    }
}

/// The status that goes out; `None`: nothing does.
fn status(said: &Said, lie: Option<Lie>) -> Option<u16> {
    match lie {
        Some(Lie::DoneUnanswered) => None,
        Some(Lie::Status(status) | Lie::DoneStatus(status)) => Some(status),
        Some(Lie::TooMany(_)) => Some(429),
        Some(Lie::RateLimited) => Some(403),
        Some(Lie::Moved) => Some(301),
        Some(Lie::AnsweredUndone | Lie::Slow(_) | Lie::Cut | Lie::Garbage | Lie::OtherJson) | None => Some(said.status),
    }
}

pub(super) fn routes(shared: Arc<Shared>) -> Router {
    let handler = move |method: Method, uri: Uri, RawQuery(query): RawQuery, headers: HeaderMap, body: Bytes| {
        answer(Arc::clone(&shared), method, uri, query.unwrap_or_default(), headers, body)
    };
    Router::new().fallback(handler).layer(DefaultBodyLimit::max(MAX_REQUEST))
}

async fn answer(
    shared: Arc<Shared>,
    method: Method,
    uri: Uri,
    query: String,
    headers: HeaderMap,
    body: Bytes,
) -> Response<Body> {
    let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let asked = Asked {
        method: method.as_str(),
        path: uri.path().strip_prefix("/api/v3").unwrap_or(uri.path()),
        query: pairs(&query),
        authorization: text(header::AUTHORIZATION),
        agent: text(header::USER_AGENT),
        version: text(HeaderName::from_static("x-github-api-version")),
        body: &body,
    };
    let (said, lie) = match shared.handle(&asked, &query) {
        Ok(handled) => handled,
        Err(error) => return reply(500, error.to_string(), &[]),
    };
    let Some(status) = status(&said, lie) else {
        // Ends the task of the connection, and with it the connection, without a word.
        std::panic::resume_unwind(Box::new("the connection is cut"));
    };
    let json = said.body.to_string();
    match lie {
        Some(Lie::Status(_) | Lie::DoneStatus(_) | Lie::Garbage) => reply(status, PAGE.to_owned(), &[]),
        Some(Lie::TooMany(seconds)) => {
            reply(status, "{\"message\": \"Too many\"}".to_owned(), &[("retry-after", seconds.to_string())])
        }
        Some(Lie::RateLimited) => {
            let headers = [("x-ratelimit-remaining", "0".to_owned()), ("x-ratelimit-reset", "1893456000".to_owned())];
            reply(status, "{\"message\": \"API rate limit exceeded for user\"}".to_owned(), &headers)
        }
        Some(Lie::Moved) => {
            reply(status, "{}".to_owned(), &[("location", "https://forge.example/elsewhere".to_owned())])
        }
        Some(Lie::OtherJson) => reply(status, "[{\"a\": [1, null]}, \"b\"]".to_owned(), &[]),
        Some(Lie::Cut) => cut(status, json),
        Some(Lie::Slow(wait)) => {
            tokio::time::sleep(wait).await;
            honest(status, json, said.link)
        }
        Some(Lie::DoneUnanswered | Lie::AnsweredUndone) | None => honest(status, json, said.link),
    }
}

fn honest(status: u16, json: String, link: Option<String>) -> Response<Body> {
    let link = link.map(|link| ("link", link));
    reply(status, json, link.as_slice())
}

/// Half of the body, and then the connection breaks off.
fn cut(status: u16, json: String) -> Response<Body> {
    let whole = json.len();
    let half = Bytes::copy_from_slice(json.as_bytes().get(..whole / 2).unwrap_or_default());
    let pieces = [Ok(half), Err(io::Error::from(io::ErrorKind::ConnectionAborted))];
    let mut reply = reply(status, String::new(), &[("content-length", whole.to_string())]);
    *reply.body_mut() = Body::from_stream(futures::stream::iter(pieces));
    reply
}

fn reply(status: u16, body: String, headers: &[(&'static str, String)]) -> Response<Body> {
    let mut reply = Response::new(Body::from(body));
    *reply.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    for (name, value) in headers {
        if let Ok(value) = HeaderValue::try_from(value) {
            reply.headers_mut().insert(HeaderName::from_static(name), value);
        }
    }
    reply
}

/// The pairs of a query, decoded.
fn pairs(query: &str) -> Vec<(String, String)> {
    let pair = |text: &str| {
        let (name, value) = text.split_once('=').unwrap_or((text, ""));
        (decoded(name), decoded(value))
    };
    query.split('&').filter(|text| !text.is_empty()).map(pair).collect()
}

fn decoded(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let hex = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        match (first, hex.and_then(|digits| u8::from_str_radix(digits, 16).ok())) {
            (b'%', Some(byte)) => {
                out.push(byte);
                rest = after.get(2..).unwrap_or_default();
                continue;
            }
            (b'+', _) => out.push(b' '),
            (other, _) => out.push(*other),
        }
        rest = after;
    }
    String::from_utf8_lossy(&out).into_owned()
}
