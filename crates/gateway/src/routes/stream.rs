//! `GET /api/v1/events/stream`: events as they are committed.
//!
//! The stream has no queue. It reads a page, hands it over when the client took the one before, and at the
//! end of the journal waits for the head to move. So a slow client costs one page, and nothing is skipped. Streams that are at the
//! end read it together (`tails.rs`).
//!
//! A heartbeat carries the position as `id:`, without data: it moves the client's last event id past what its filter
//! does not match. A quiet stream that is opened again goes on from there, and not from where retention has been since.

use axum::body::{Body, Bytes};
use axum::extract::{Extension, State};
use axum::http::header::{CONTENT_TYPE, HeaderName};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use dalsegno_api::{Cursor, code};
use dalsegno_engine::EventFilter;
use futures::stream;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::Instant;

use super::events::{cursor, filter, position, read_page};
use crate::app::App;
use crate::convert;
use crate::guard::Caller;
use crate::params::Params;
use crate::problem::Problem;

/// Where the client says what it saw last; it wins over `after`, which a browser keeps sending as it was.
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

pub(crate) async fn stream(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    mut params: Params,
) -> Result<Response, Problem> {
    let after = params.take("after")?;
    let filter = filter(&mut params)?;
    params.done()?;
    let last = match headers.get(LAST_EVENT_ID) {
        Some(value) => Some(value.to_str().map_err(Problem::invalid_cursor)?.to_owned()),
        None => None,
    };
    let after = cursor(last.filter(|last| !last.is_empty()).or(after).as_deref())?;
    let Ok(permit) = app.streams.clone().try_acquire_owned() else {
        let message = format!("{} event streams are open already", app.limits.streams);
        let hint = "close some, or read pages: GET /api/v1/events";
        return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, code::TOO_MANY_STREAMS, message, hint));
    };
    // The head is watched from before the first read, so that no commit falls between.
    let head = app.control.head();
    let after = app.read(move |reads| position(reads, after.as_ref())).await??;
    let beat_at = Instant::now() + app.limits.heartbeat;
    let tail = Tail { app, caller, filter, after, at_end: false, head, beat_at, _permit: permit };
    // A comment at once, so that the client has its headers and knows that it is connected.
    let hello = stream::once(async { Ok(Bytes::from_static(b": dalsegno\n\n")) });
    let body = Body::from_stream(futures::StreamExt::chain(hello, stream::unfold(tail, Tail::next)));
    Ok(([(CONTENT_TYPE, "text/event-stream")], body).into_response())
}

struct Tail {
    app: App,
    caller: Caller,
    filter: EventFilter,
    after: u64,
    /// All that the journal had was read.
    at_end: bool,
    head: watch::Receiver<u64>,
    /// When the client hears something, whether or not an event matches by then.
    beat_at: Instant,
    _permit: OwnedSemaphorePermit,
}

impl Tail {
    async fn next(mut self) -> Option<(Result<Bytes, std::convert::Infallible>, Self)> {
        let closing = self.app.closing.clone();
        loop {
            if closing.is_cancelled() {
                return None;
            }
            if self.at_end && !closing.run_until_cancelled(self.grown()).await?? {
                let beat = self.beat();
                return Some(self.says(beat));
            }
            self.head.mark_unchanged();
            let before = self.after;
            let chunk = self.page().await?;
            self.at_end = self.after == before || self.after >= *self.head.borrow();
            if !chunk.is_empty() {
                return Some(self.says(chunk));
            }
            if self.beat_at <= Instant::now() {
                let beat = self.beat();
                return Some(self.says(beat));
            }
        }
    }

    /// Waits until the journal has more, and it is time to look; `false` when the client is to hear something before. `None`: there will
    /// be no more.
    async fn grown(&mut self) -> Option<bool> {
        match tokio::time::timeout_at(self.beat_at, self.head.changed()).await {
            Ok(changed) => changed.ok()?,
            Err(_) => return Some(false),
        }
        tokio::time::sleep_until(self.app.tails.next_look()).await;
        Some(true)
    }

    fn says(mut self, bytes: Bytes) -> (Result<Bytes, std::convert::Infallible>, Self) {
        self.beat_at = Instant::now() + self.app.limits.heartbeat;
        (Ok(bytes), self)
    }

    fn beat(&self) -> Bytes {
        let position = Cursor::event(self.app.reads.journal_id(), self.after);
        Bytes::from(format!(": still here\nid: {position}\n\n"))
    }

    /// The next page as frames; empty when nothing matches. `None` ends the stream: the client comes again with
    /// its last id, and is told then what is wrong.
    async fn page(&mut self) -> Option<Bytes> {
        let read = self.read();
        let read = match self.at_end && self.filter == EventFilter::default() {
            true => self.app.tails.page(self.after, self.caller.reads(), read).await,
            false => read.await,
        };
        match read {
            Ok((frames, through)) => {
                self.after = self.after.max(through);
                Some(frames)
            }
            Err(problem) => {
                tracing::info!(?problem, "an event stream ends");
                None
            }
        }
    }

    /// The page after the last event, and where it ends.
    fn read(&self) -> impl Future<Output = Result<(Bytes, u64), Problem>> + use<> {
        let (after, limit, filter, caller) =
            (self.after, self.app.limits.stream_page, self.filter.clone(), self.caller);
        let app = self.app.clone();
        async move {
            app.read(move |reads| {
                let page = match read_page(reads, after, limit, &filter)? {
                    Ok((page, _)) => page,
                    Err(gone) => return Ok(Err(gone)),
                };
                let mut frames = Vec::new();
                for row in page.events {
                    let event = convert::event_as_written(row, reads.journal_id(), caller)?;
                    frames.extend_from_slice(format!("id: {}\ndata: ", event.cursor).as_bytes());
                    // JSON on one line: serde_json escapes line breaks in strings.
                    if let Err(error) = serde_json::to_writer(&mut frames, &event) {
                        tracing::error!(%error, seq = event.seq, "an event cannot be written as JSON");
                        return Ok(Err(Problem::internal()));
                    }
                    frames.extend_from_slice(b"\n\n");
                }
                Ok(Ok((Bytes::from(frames), page.through)))
            })
            .await?
        }
    }
}
