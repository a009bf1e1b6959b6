//! Runs and their transcripts.

use axum::Json;
use axum::extract::{Extension, State};
use dalsegno_api::{self as api, Cursor};

use super::issues::{DEFAULT_RUNS, MAX_RUNS};
use crate::app::App;
use crate::convert;
use crate::costs::Costs;
use crate::guard::Caller;
use crate::params::{Key, Params};
use crate::problem::Problem;

const DEFAULT_ENTRIES: usize = 200;
pub(crate) const MAX_ENTRIES: usize = 1_000;
const DEFAULT_EFFECTS: usize = 100;
pub(crate) const MAX_EFFECTS: usize = 500;

/// `GET /api/v1/runs`
pub(crate) async fn list(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    mut params: Params,
) -> Result<Json<api::RunList>, Problem> {
    let limit = params.limit(DEFAULT_RUNS, MAX_RUNS)?;
    params.done()?;
    let (runs, costs) = app.read(move |reads| Ok((reads.runs(None, limit)?, Costs::of_runs(reads)?))).await?;
    Ok(Json(api::RunList { runs: runs.into_iter().map(|view| convert::run(view, &costs, caller)).collect() }))
}

/// `GET /api/v1/runs/{id}`
pub(crate) async fn one(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Key(key): Key,
    params: Params,
) -> Result<Json<api::Run>, Problem> {
    params.done()?;
    let sought = key.clone();
    let found = app.read(move |reads| Ok(reads.run(&sought)?.zip(Some(Costs::of_run(reads, &sought)?)))).await?;
    found.map(|(view, costs)| convert::run(view, &costs, caller)).map(Json).ok_or_else(|| Problem::run_not_found(&key))
}

/// `GET /api/v1/runs/{id}/transcript?after=`
pub(crate) async fn transcript(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Key(key): Key,
    mut params: Params,
) -> Result<Json<api::TranscriptPage>, Problem> {
    caller.must_read()?;
    let after = params.take("after")?;
    let limit = params.limit(DEFAULT_ENTRIES, MAX_ENTRIES)?;
    params.done()?;
    let after = after.map(|text| text.parse::<Cursor>()).transpose().map_err(Problem::invalid_cursor)?;
    let sought = key.clone();
    let found = app
        .read(move |reads| {
            let Some(run) = reads.run(&sought)? else { return Ok(None) };
            let start = Cursor::transcript(reads.journal_id(), run.id.as_str(), 0);
            let offset = match after {
                None => 0,
                Some(after) => match after.position_like(&start) {
                    Some(offset) => offset,
                    None => return Ok(Some(Err(start))),
                },
            };
            // The end was looked at before the page, so an empty page of an ended run is the last.
            let ended = run.ended_at.is_some();
            let page = reads.transcript(run.id.as_str(), offset, limit)?;
            let next = Cursor::transcript(reads.journal_id(), run.id.as_str(), page.next).to_string();
            let entries = page.entries.into_iter().map(convert::transcript_entry).collect();
            Ok(Some(Ok(api::TranscriptPage { run: run.id.0, entries, next, ended })))
        })
        .await?;
    match found {
        None => Err(Problem::run_not_found(&key)),
        Some(Err(start)) => Err(Problem::cursor_gone("the cursor belongs to another run or another journal", &start)),
        Some(Ok(page)) => Ok(Json(page)),
    }
}

/// `GET /api/v1/runs/{id}/effects?after=`
pub(crate) async fn effects(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Key(key): Key,
    mut params: Params,
) -> Result<Json<api::EffectPage>, Problem> {
    caller.must_read()?;
    let after = params.take("after")?;
    let limit = params.limit(DEFAULT_EFFECTS, MAX_EFFECTS)?;
    params.done()?;
    let after = after.map(|text| text.parse::<Cursor>()).transpose().map_err(Problem::invalid_cursor)?;
    let sought = key.clone();
    let found = app
        .read(move |reads| {
            let Some(run) = reads.run(&sought)? else { return Ok(None) };
            let cursor = |place: i64| Cursor::effect(reads.journal_id(), run.id.as_str(), place.unsigned_abs());
            let place = match after {
                None => 0,
                Some(after) => match after.position_like(&cursor(0)) {
                    Some(place) => i64::try_from(place).unwrap_or(i64::MAX),
                    None => return Ok(Some(Err(cursor(0)))),
                },
            };
            let rows = reads.effects(run.id.as_str(), place, limit)?;
            let next = cursor(rows.last().map_or(place, |row| row.place)).to_string();
            let effects = rows.into_iter().map(convert::effect).collect();
            Ok(Some(Ok(api::EffectPage { run: run.id.0, effects, next })))
        })
        .await?;
    match found {
        None => Err(Problem::run_not_found(&key)),
        Some(Err(start)) => Err(Problem::cursor_gone("the cursor belongs to another run or another journal", &start)),
        Some(Ok(page)) => Ok(Json(page)),
    }
}
