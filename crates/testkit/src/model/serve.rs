//! The routes, and how a response goes over the wire.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::DefaultBodyLimit;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, Uri, header};
use axum::routing::{get, post};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::Wire;
use super::choose::{Chosen, choose};
use super::gate::Gates;
use super::record::{Asked, Record};
use super::script::{End, Fail, Script, Step};
use super::wire::{Answer, Frame};

/// Most bytes of a request. A whole conversation comes with each.
const MAX_REQUEST: usize = 32 << 20;
/// Prompts whose failures are counted apart; when there are more, counting begins anew.
const MAX_PROMPTS: usize = 10_000;
/// Longest delay that a script may ask for.
const MAX_DELAY: Duration = Duration::from_secs(3600);
/// Stands for the value of a header that holds a secret.
const WITHHELD: &str = "withheld";

/// What all requests share.
#[derive(Debug)]
pub(super) struct State {
    script: Script,
    pub(super) record: Record,
    pub(super) gates: Gates,
    failed: Mutex<BTreeMap<u64, u32>>,
    log: Option<Mutex<std::fs::File>>,
}

type Reply = Response<Body>;
type Sent = Result<Bytes, io::Error>;

impl State {
    pub(super) fn new(script: Script, log: Option<std::fs::File>) -> Self {
        let log = log.map(Mutex::new);
        Self { script, record: Record::new(), gates: Gates::default(), failed: Mutex::default(), log }
    }

    /// Whether this request is one that fails. A failure that is limited is counted.
    fn fails(&self, fail: &Fail, prompt: u64) -> bool {
        let Some(times) = fail.times else { return true };
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        if failed.len() >= MAX_PROMPTS {
            failed.clear();
        }
        let count = failed.entry(prompt).or_default();
        *count += 1;
        *count <= times
    }

    fn log(&self, asked: &Asked) {
        if let (Some(log), Ok(line)) = (&self.log, serde_json::to_string(asked)) {
            let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
            // A log that cannot be written must not keep an agent from its answer.
            let _ = writeln!(log, "{line}").and_then(|()| log.flush());
        }
    }
}

pub(super) fn routes(state: Arc<State>) -> Router {
    let mut router = Router::new().route("/", get(|| async { "A scripted model.\n" }));
    for prefix in ["", "/v1"] {
        for (path, wire) in
            [("/responses", Wire::Responses), ("/chat/completions", Wire::Chat), ("/messages", Wire::Messages)]
        {
            let state = Arc::clone(&state);
            let handler = move |uri: Uri, headers: HeaderMap, body: Bytes| answer(state, wire, uri, headers, body);
            router = router.route(&format!("{prefix}{path}"), post(handler));
        }
        router = router
            .route(
                &format!("{prefix}/messages/count_tokens"),
                post(|| async { plain(200, &json!({"input_tokens": 100})) }),
            )
            .route(&format!("{prefix}/models"), get(|| async { models() }));
    }
    router
        .fallback(|| async { plain(404, &Wire::Chat.error("not_found_error", "the scripted model has no such path")) })
        .layer(DefaultBodyLimit::max(MAX_REQUEST))
}

/// One list for clients of all formats.
fn models() -> Reply {
    let model = json!({
        "id": "scripted", "object": "model", "type": "model", "display_name": "Scripted", "created": 0,
        "created_at": "2020-01-01T00:00:00Z", "owned_by": "dalsegno",
    });
    plain(200, &json!({"object": "list", "data": [model], "models": [], "has_more": false}))
}

async fn answer(state: Arc<State>, wire: Wire, uri: Uri, headers: HeaderMap, body: Bytes) -> Reply {
    let body: Value = match serde_json::from_slice(&body) {
        Ok(body) => body,
        Err(error) => return plain(400, &wire.error("invalid_request_error", &format!("no JSON: {error}"))),
    };
    let chosen = choose(&state.script, wire, &body);
    let text = |name: &str| body.get(name).and_then(Value::as_str).unwrap_or("unnamed").to_owned();
    let (model, stream) = (text("model"), body.get("stream").and_then(Value::as_bool).unwrap_or(false));
    let asked = state.record.note(Asked {
        number: 0,
        path: uri.path().to_owned(),
        headers: without_secrets(&headers),
        script: chosen.script.clone(),
        step: chosen.index,
        side: chosen.side,
        body,
    });
    state.log(&asked);

    state.gates.pass(&chosen.script, chosen.index).await;
    pause(chosen.step.delay_ms).await;
    if let Some(fail) = &chosen.step.fail
        && state.fails(fail, chosen.prompt)
    {
        return refusal(wire, &chosen.step, fail);
    }
    let Chosen { step, pieces, side, .. } = chosen;
    let answer = Answer { id: asked.number.to_string(), model, pieces, tokens: step.tokens, end: step.end.clone() };
    if stream { streamed(&state, wire, answer, &step, side) } else { whole(&state, wire, &answer, &step, side) }
}

async fn pause(milliseconds: u64) {
    if milliseconds > 0 {
        tokio::time::sleep(Duration::from_millis(milliseconds).min(MAX_DELAY)).await;
    }
}

fn without_secrets(headers: &HeaderMap) -> BTreeMap<String, String> {
    let secret = |name: &str| ["auth", "key", "token", "cookie", "secret"].iter().any(|word| name.contains(word));
    let shown = |name: &str, value: &HeaderValue| {
        if secret(name) { WITHHELD.to_owned() } else { String::from_utf8_lossy(value.as_bytes()).into_owned() }
    };
    headers.iter().map(|(name, value)| (name.as_str().to_owned(), shown(name.as_str(), value))).collect()
}

fn refusal(wire: Wire, step: &Step, fail: &Fail) -> Reply {
    let code = fail.code.as_deref().unwrap_or_else(|| wire.code(fail.status));
    let body = fail.body.clone().unwrap_or_else(|| wire.error(code, "a scripted failure"));
    let mut reply = with_headers(plain(fail.status, &body), step);
    add(&mut reply, fail.headers.iter().map(|(name, value)| (name.as_str(), value.clone())));
    reply
}

fn whole(state: &State, wire: Wire, answer: &Answer, step: &Step, side: bool) -> Reply {
    let whole = wire.whole(answer);
    match answer.end {
        End::Cut | End::Hang => {
            let text = whole.body.to_string();
            let half = text.as_bytes().get(..text.len() / 2).unwrap_or_default().to_vec();
            let (sender, body) = channel();
            let hang = answer.end == End::Hang;
            tokio::spawn(async move {
                if sender.send(Ok(Bytes::from(half))).await.is_ok() {
                    unfinished(&sender, hang).await;
                }
            });
            with_headers(reply(200, "application/json", body), step)
        }
        End::Complete | End::Failed { .. } | End::Incomplete { .. } => {
            state.record.report(&answer.model, whole.reports, side);
            with_headers(plain(whole.status, &whole.body), step)
        }
    }
}

fn streamed(state: &Arc<State>, wire: Wire, answer: Answer, step: &Step, side: bool) -> Reply {
    let mut frames = wire.frames(&answer);
    let unfinished_by = match answer.end {
        End::Cut => Some(false),
        End::Hang => Some(true),
        End::Complete | End::Failed { .. } | End::Incomplete { .. } => None,
    };
    if unfinished_by.is_some() {
        frames.truncate(frames.len().div_ceil(2));
    }
    let (sender, body) = channel();
    let (state, between) = (Arc::clone(state), step.delta_delay_ms);
    tokio::spawn(async move {
        for (index, frame) in frames.iter().enumerate() {
            if index > 0 {
                pause(between).await;
            }
            if !send(&state, &sender, frame, &answer.model, side).await {
                return;
            }
        }
        if let Some(hang) = unfinished_by {
            unfinished(&sender, hang).await;
        }
    });
    with_headers(reply(200, "text/event-stream", body), step)
}

/// Answers whether the client is still there.
async fn send(state: &State, sender: &mpsc::Sender<Sent>, frame: &Frame, model: &str, side: bool) -> bool {
    let Ok(place) = sender.reserve().await else { return false };
    // Counted first: who has read a figure finds it counted.
    state.record.report(model, frame.reports, side);
    place.send(Ok(Bytes::from(frame.text())));
    true
}

/// Leaves a response without its end: waits until the client has gone, or cuts the connection.
async fn unfinished(sender: &mpsc::Sender<Sent>, hang: bool) {
    if hang {
        sender.closed().await;
    } else {
        // Nobody there to be cut off is as good.
        let _ = sender.send(Err(io::Error::from(io::ErrorKind::ConnectionAborted))).await;
    }
}

/// A body that is sent piece by piece; at most one piece waits.
fn channel() -> (mpsc::Sender<Sent>, Body) {
    let (sender, receiver) = mpsc::channel(1);
    let pieces = futures::stream::unfold(receiver, |mut receiver: mpsc::Receiver<Sent>| async move {
        receiver.recv().await.map(|piece| (piece, receiver))
    });
    (sender, Body::from_stream(pieces))
}

fn plain(status: u16, body: &Value) -> Reply {
    reply(status, "application/json", Body::from(body.to_string()))
}

fn reply(status: u16, kind: &'static str, body: Body) -> Reply {
    let mut reply = Response::new(body);
    *reply.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    reply.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    reply
}

fn with_headers(mut reply: Reply, step: &Step) -> Reply {
    add(&mut reply, step.rate_limit.iter().flat_map(super::script::RateLimit::headers));
    add(&mut reply, step.headers.iter().map(|(name, value)| (name.as_str(), value.clone())));
    reply
}

/// Adds headers; what is none is left out.
fn add<'a>(reply: &mut Reply, headers: impl Iterator<Item = (&'a str, String)>) {
    for (name, value) in headers {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            reply.headers_mut().insert(name, value);
        }
    }
}
