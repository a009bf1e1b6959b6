//! `GET /api/v1/events`, and what it shares with the stream.

use axum::Json;
use axum::extract::{Extension, State};
use dalsegno_api::{self as api, Cursor};
use dalsegno_engine::{EventFilter, EventPage, ReadError, Reads, WrittenPage};
use serde_json::value::RawValue;

use crate::app::App;
use crate::convert;
use crate::guard::Caller;
use crate::params::Params;
use crate::problem::Problem;

const DEFAULT_EVENTS: usize = 100;
pub(crate) const MAX_EVENTS: usize = 1_000;

/// `GET /api/v1/events?after=&limit=&issue=&run=&kind=`
pub(crate) async fn page(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    mut params: Params,
) -> Result<Json<api::EventPage<Box<RawValue>>>, Problem> {
    let after = cursor(params.take("after")?.as_deref())?;
    let limit = params.limit(DEFAULT_EVENTS, MAX_EVENTS)?;
    let filter = filter(&mut params)?;
    params.done()?;
    let page = app
        .read(move |reads| {
            let after = match position(reads, after.as_ref())? {
                Ok(after) => after,
                Err(gone) => return Ok(Err(gone)),
            };
            let (page, head) = match read_page(reads, after, limit, &filter)? {
                Ok(read) => read,
                Err(gone) => return Ok(Err(gone)),
            };
            let journal = reads.journal_id();
            let EventPage { events, through } = page;
            let events = events.into_iter().map(|row| convert::event_as_written(row, journal, caller));
            Ok(Ok(api::EventPage {
                events: events.collect::<Result<_, _>>()?,
                next: Cursor::event(journal, through.max(after)).to_string(),
                head: Cursor::event(journal, head.max(through)).to_string(),
            }))
        })
        .await?;
    page.map(Json)
}

/// Reads a cursor as a client gave it.
pub(super) fn cursor(text: Option<&str>) -> Result<Option<Cursor>, Problem> {
    text.map(str::parse).transpose().map_err(Problem::invalid_cursor)
}

pub(super) fn filter(params: &mut Params) -> Result<EventFilter, Problem> {
    Ok(EventFilter { issue: params.word("issue")?, run: params.word("run")?, kind: params.word("kind")? })
}

/// The event that the cursor stands behind; without one, that before the oldest kept.
pub(super) fn position(reads: &dyn Reads, after: Option<&Cursor>) -> Result<Result<u64, Problem>, ReadError> {
    let (oldest, head) = reads.bounds()?;
    let start = oldest.saturating_sub(1);
    let start_cursor = Cursor::event(reads.journal_id(), start);
    let Some(after) = after else { return Ok(Ok(start)) };
    let gone = |why| Ok(Err(Problem::cursor_gone(why, &start_cursor)));
    match after.position_like(&start_cursor) {
        None => gone("the cursor belongs to another journal"),
        Some(seq) if seq < start => gone("events behind the cursor are not kept any more"),
        Some(seq) if seq > head => gone("the cursor lies beyond the end of the journal"),
        Some(seq) => Ok(Ok(seq)),
    }
}

/// A page, and the head after it was read. Tells when retention overtook the reader meanwhile.
pub(super) fn read_page(
    reads: &dyn Reads,
    after: u64,
    limit: usize,
    filter: &EventFilter,
) -> Result<Result<(WrittenPage, u64), Problem>, ReadError> {
    let page = reads.events_as_written(after, limit, filter)?;
    // Looked at after the page: what is still kept now was kept while the page was read.
    let (oldest, head) = reads.bounds()?;
    if after.saturating_add(1) < oldest {
        let start = Cursor::event(reads.journal_id(), oldest.saturating_sub(1));
        return Ok(Err(Problem::cursor_gone("events behind the cursor are not kept any more", &start)));
    }
    Ok(Ok((page, head)))
}
