//! Issues: list, detail, explanation, runs.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Extension, State};
use dalsegno_api as api;
use dalsegno_core::{IssueStatus, IssueView, normalized_state};
use dalsegno_engine::{EventFilter, EventRow, ReadError, Reads};

use super::state::live_run;
use crate::app::{App, Control};
use crate::convert::{self, DetailParts};
use crate::costs::Costs;
use crate::guard::Caller;
use crate::params::{Key, Params};
use crate::problem::Problem;

pub(crate) const MAX_ISSUES: usize = 10_000;
pub(super) const DEFAULT_RUNS: usize = 100;
pub(crate) const MAX_RUNS: usize = 1_000;
/// Events of an issue are sought among so many newest of the journal.
const RECENT_WINDOW: u64 = 1_000;
const RECENT: usize = 20;
/// Transcripts that a detail names.
const RECENT_RUNS: usize = 10;

/// `GET /api/v1/issues?state=`: a status of ours (`parked`), else a state of the tracker (`In Progress`).
pub(crate) async fn list(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    mut params: Params,
) -> Result<Json<api::IssueList>, Problem> {
    let state = params.word("state")?;
    let limit = params.limit(MAX_ISSUES, MAX_ISSUES)?;
    params.done()?;
    let (views, costs) =
        app.read(move |reads| Ok((wanted(reads, state.as_deref())?, Costs::of_issues(reads)?))).await?;
    let total = views.len() as u64;
    let issues = views.into_iter().take(limit).map(|view| convert::issue(view, &costs, caller)).collect();
    Ok(Json(api::IssueList { issues, total }))
}

fn wanted(reads: &dyn Reads, state: Option<&str>) -> Result<Vec<IssueView>, ReadError> {
    let Some(state) = state else { return reads.issues(None) };
    let wanted = normalized_state(state);
    if let Some(status) = IssueStatus::ALL.into_iter().find(|status| status.as_str() == wanted) {
        return reads.issues(Some(status.as_str()));
    }
    let mut views = reads.issues(None)?;
    views.retain(|view| normalized_state(&view.issue.state) == wanted);
    Ok(views)
}

/// `GET /api/v1/issues/{id}` and `GET /api/v1/{identifier}`.
pub(crate) async fn detail(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Key(key): Key,
    params: Params,
) -> Result<Json<api::IssueDetail>, Problem> {
    params.done()?;
    let control = Arc::clone(&app.control);
    let sought = key.clone();
    let found = app.read(move |reads| gather(reads, &*control, &sought, caller)).await?;
    found.map(Json).ok_or_else(|| Problem::issue_not_found(&key))
}

fn gather(
    reads: &dyn Reads,
    control: &dyn Control,
    key: &str,
    caller: Caller,
) -> Result<Option<api::IssueDetail>, ReadError> {
    let Some(view) = reads.issue(key)? else { return Ok(None) };
    let running = live_run(reads, &view)?.map(|run| {
        let live = control.live(run.id.as_str());
        convert::issue_running(&run, &view.issue.state, live, caller)
    });
    let runs = reads.runs(Some(&view.issue.id), RECENT_RUNS)?;
    let recent = recent_events(reads, &view.issue.identifier)?;
    let costs = Costs::of_issue(reads, &view.issue.id)?;
    Ok(Some(convert::issue_detail(view, DetailParts { running, runs, recent, costs, caller })))
}

fn recent_events(reads: &dyn Reads, identifier: &str) -> Result<Vec<EventRow>, ReadError> {
    let (oldest, head) = reads.bounds()?;
    let after = head.saturating_sub(RECENT_WINDOW).max(oldest.saturating_sub(1));
    let filter = EventFilter { issue: Some(identifier.to_owned()), run: None, kind: None };
    let window = usize::try_from(RECENT_WINDOW).unwrap_or(usize::MAX);
    let mut events = reads.events(after, window, &filter)?.events;
    events.retain(|event| !is_machinery(&event.kind));
    events.drain(..events.len().saturating_sub(RECENT));
    Ok(events)
}

/// Facts that a daemon needs to go on, and that tell a person nothing that another event does not tell.
fn is_machinery(kind: &str) -> bool {
    matches!(kind, "effect_intended" | "effect_ended" | "run_phase" | "run_ending")
}

/// `GET /api/v1/issues/{id}/explain`
pub(crate) async fn explain(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Key(key): Key,
    params: Params,
) -> Result<Json<api::Explanation>, Problem> {
    params.done()?;
    let found = app.ask(app.control.explain(&key)).await?;
    found.map(|found| convert::explanation(found, caller)).map(Json).ok_or_else(|| Problem::issue_not_found(&key))
}

/// `GET /api/v1/issues/{id}/runs`
pub(crate) async fn runs(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Key(key): Key,
    mut params: Params,
) -> Result<Json<api::RunList>, Problem> {
    let limit = params.limit(DEFAULT_RUNS, MAX_RUNS)?;
    params.done()?;
    let sought = key.clone();
    let found = app
        .read(move |reads| match reads.issue(&sought)? {
            Some(view) => Ok(Some((reads.runs(Some(&view.issue.id), limit)?, Costs::of_issue(reads, &view.issue.id)?))),
            None => Ok(None),
        })
        .await?;
    let (runs, costs) = found.ok_or_else(|| Problem::issue_not_found(&key))?;
    Ok(Json(api::RunList { runs: runs.into_iter().map(|view| convert::run(view, &costs, caller)).collect() }))
}
