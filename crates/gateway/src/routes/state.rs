//! `GET /api/v1/state` and `POST /api/v1/refresh`.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Extension, FromRequest, Request, State};
use axum::http::StatusCode;
use dalsegno_api::{self as api, Cursor, Refreshed, code};
use dalsegno_core::{DaemonView, IssueStatus, IssueView, RunView, Timestamp};
use dalsegno_engine::{ReadError, Reads};

use crate::app::{App, Control};
use crate::convert;
use crate::guard::Caller;
use crate::params::Params;
use crate::problem::Problem;

/// Longest list of a state; the counts tell the rest.
const MAX_LIST: usize = 500;

pub(crate) async fn state(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    params: Params,
) -> Result<Json<api::State>, Problem> {
    params.done()?;
    let control = Arc::clone(&app.control);
    let now = app.clock.now();
    app.read(move |reads| gather(reads, &*control, now, caller)).await.map(Json)
}

fn gather(reads: &dyn Reads, control: &dyn Control, now: Timestamp, caller: Caller) -> Result<api::State, ReadError> {
    // First the head: a client that goes on from it misses nothing, and may see something twice.
    let (_, head) = reads.bounds()?;
    let daemon = reads.daemon()?;
    let mut counts = api::Counts::default();
    for status in IssueStatus::ALL {
        counts.by_status.insert(status.as_str().to_owned(), 0);
    }
    let (mut running, mut retrying, mut parked) = (Vec::new(), Vec::new(), Vec::new());
    let (mut paused, mut queued, mut waiting) = (Vec::new(), Vec::new(), Vec::new());
    let mut live_ms = 0_u64;
    for view in reads.issues(None)? {
        counts.total += 1;
        *counts.by_status.entry(view.status.as_str().to_owned()).or_default() += 1;
        let (count, list) = match view.status {
            IssueStatus::Running | IssueStatus::HandingOff => {
                counts.running += 1;
                if running.len() < MAX_LIST
                    && let Some((entry, run_ms)) = running_issue(reads, control, view, now, caller)?
                {
                    live_ms = live_ms.saturating_add(run_ms);
                    running.push(entry);
                }
                continue;
            }
            IssueStatus::WaitingRetry | IssueStatus::WaitingQuota => (&mut counts.retrying, &mut retrying),
            IssueStatus::WaitingQuestion | IssueStatus::WaitingApproval => (&mut counts.waiting, &mut waiting),
            IssueStatus::Parked => (&mut counts.parked, &mut parked),
            IssueStatus::Paused => (&mut counts.paused, &mut paused),
            IssueStatus::Queued => (&mut counts.queued, &mut queued),
            IssueStatus::Idle
            | IssueStatus::HandedOff
            | IssueStatus::Completed
            | IssueStatus::Failed
            | IssueStatus::Canceled => continue,
        };
        *count += 1;
        if list.len() < MAX_LIST {
            list.push(convert::waiting_issue(view, caller));
        }
    }
    let (epoch, policy, workflow_failure, tracker_failure, usage, run_ms) = match daemon {
        Some(DaemonView { epoch, policy, workflow_failure, tracker_failure, usage, run_ms }) => {
            (epoch, policy, workflow_failure, tracker_failure, usage, run_ms)
        }
        None => Default::default(),
    };
    let totals = convert::totals(usage, run_ms.saturating_add(live_ms));
    Ok(api::State {
        generated_at: convert::time(now),
        ready: control.ready(),
        counts,
        running,
        retrying,
        parked,
        paused,
        queued,
        waiting,
        codex_totals: totals,
        totals,
        rate_limits: control.rate_limits().map(convert::rate_limits),
        workflow_error: workflow_failure.map(|failure| convert::problem(failure, caller)),
        tracker_error: tracker_failure.map(|failure| convert::problem(failure, caller)),
        policy: policy.map(|hash| hash.0),
        epoch,
        head: Cursor::event(reads.journal_id(), head).to_string(),
    })
}

/// The entry of a running issue, and for how many milliseconds it runs; `None` when its run is not there (any more).
fn running_issue(
    reads: &dyn Reads,
    control: &dyn Control,
    view: IssueView,
    now: Timestamp,
    caller: Caller,
) -> Result<Option<(api::RunningIssue, u64)>, ReadError> {
    let Some(run) = live_run(reads, &view)? else { return Ok(None) };
    let live = control.live(run.id.as_str());
    let entry = convert::issue_running(&run, &view.issue.state, live, caller);
    Ok(Some((convert::running_issue(view, entry, caller), now.since_ms(run.started_at))))
}

pub(crate) fn live_run(reads: &dyn Reads, view: &IssueView) -> Result<Option<RunView>, ReadError> {
    match &view.current_run {
        Some(run) => reads.run(run.as_str()),
        None => Ok(None),
    }
}

pub(crate) async fn refresh(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    params: Params,
    request: Request,
) -> Result<(StatusCode, Json<Refreshed>), Problem> {
    caller.must_operate()?;
    params.done()?;
    let body = body(&app, request, app.limits.body).await?;
    let empty = body.iter().all(u8::is_ascii_whitespace);
    if !empty && serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(&body).is_err() {
        let message = "the body is neither empty nor a JSON object";
        return Err(Problem::new(StatusCode::BAD_REQUEST, code::INVALID_BODY, message, "send no body, or {}"));
    }
    let requested_at = convert::time(app.clock.now());
    let answer = app.ask(app.control.refresh()).await?;
    let operations = vec!["poll".to_owned(), "reconcile".to_owned()];
    Ok((StatusCode::ACCEPTED, Json(Refreshed { queued: true, coalesced: answer.coalesced, requested_at, operations })))
}

/// The body, which the route itself limits to `most` bytes.
pub(crate) async fn body(app: &App, request: Request, most: usize) -> Result<Bytes, Problem> {
    let limit = format!("send at most {most} bytes");
    match tokio::time::timeout(app.limits.patience, Bytes::from_request(request, &())).await {
        Ok(Ok(body)) => Ok(body),
        Ok(Err(error)) if error.status() == StatusCode::PAYLOAD_TOO_LARGE => {
            Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, code::BODY_TOO_LARGE, "the body is too large", &limit))
        }
        Ok(Err(error)) => Err(broken(&error)),
        Err(_) => {
            let message = "the body did not arrive in time";
            Err(Problem::new(StatusCode::REQUEST_TIMEOUT, code::BODY_TIMEOUT, message, "send it at once"))
        }
    }
}

fn broken(error: &BytesRejection) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, code::INVALID_BODY, error.to_string(), "send no body, or {}")
}
