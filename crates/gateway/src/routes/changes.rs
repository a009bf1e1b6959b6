//! `GET /api/v1/runs/{id}/diff`: what a run changed.

use std::time::Duration;

use axum::Json;
use axum::extract::{Extension, State};
use axum::http::StatusCode;
use dalsegno_api as api;
use dalsegno_core::{CommitId, Failure, RunId, RunView, Workspace};
use dalsegno_engine::{Change, ChangeWanted, EventFilter, FileChange, ReadError, Reads};

use crate::app::App;
use crate::convert;
use crate::guard::Caller;
use crate::looks::{Looked, PATIENCE};
use crate::params::{Key, Params};
use crate::problem::Problem;

/// An answer of the API is at most so old.
const YOUNG: Duration = Duration::from_secs(1);

pub(crate) async fn diff(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Key(key): Key,
    params: Params,
) -> Result<Json<api::RunDiff>, Problem> {
    params.done()?;
    let looked = look(&app, caller, &key, YOUNG, PATIENCE).await?;
    Ok(Json(api::RunDiff::clone(&looked)))
}

/// What a run changed, as it was at most `age` ago. Needs a token everywhere.
pub(crate) async fn look(app: &App, caller: Caller, key: &str, age: Duration, wait: Duration) -> Looked {
    caller.must_read()?;
    let sought = key.to_owned();
    let found = app.read(move |reads| reads.run(&sought)?.map(|run| wanted(reads, run)).transpose()).await?;
    let (view, wanted) = found.ok_or_else(|| Problem::run_not_found(key))?;
    let wanted = wanted?;
    let (control, now) = (app.control.clone(), convert::time(app.clock.now()));
    let run = wanted.run.0.clone();
    let look = move || -> futures::future::BoxFuture<'static, _> {
        Box::pin(async move {
            let name = wanted.run.clone();
            control.change(&view.policy, wanted).await.map(|change| wire(name, now, change)).map_err(problem)
        })
    };
    app.looks.get(&run, age, wait, look).await
}

/// What has to be compared with what.
fn wanted(reads: &dyn Reads, run: RunView) -> Result<(RunView, Result<ChangeWanted, Problem>), ReadError> {
    let issue = reads.issue(run.issue.as_str())?;
    let latest = reads.runs(Some(&run.issue), 1)?.into_iter().next().is_none_or(|latest| latest.id == run.id);
    let standing = issue.and_then(|issue| issue.workspace);
    let workspace = standing.filter(|_| latest);
    let commit = run.handoff.as_ref().map(|handoff| handoff.commit.clone());
    let base = match workspace.as_ref().and_then(|workspace| workspace.base_commit.clone()) {
        Some(base) => Some(base),
        None => base_of(reads, &run.id)?,
    };
    let wanted = match (&workspace, &commit) {
        (None, None) => Err(nothing(&run, latest)),
        (Some(_), _) | (_, Some(_)) => Ok(ChangeWanted { run: run.id.clone(), workspace, base, commit }),
    };
    Ok((run, wanted))
}

/// The commit that the run's workspace began with, as its event has it.
fn base_of(reads: &dyn Reads, run: &RunId) -> Result<Option<CommitId>, ReadError> {
    let kind = Some("workspace_ready".to_owned());
    let filter = EventFilter { issue: None, run: Some(run.as_str().to_owned()), kind };
    let (oldest, _) = reads.bounds()?;
    let page = reads.events(oldest.saturating_sub(1), 1, &filter)?;
    let workspace =
        page.events.into_iter().next().and_then(|mut event| event.data.get_mut("workspace").map(std::mem::take));
    let workspace = workspace.and_then(|workspace| serde_json::from_value::<Workspace>(workspace).ok());
    Ok(workspace.and_then(|workspace| workspace.base_commit))
}

fn nothing(run: &RunView, latest: bool) -> Problem {
    let (code, why, hint) = if latest {
        let why = "has no workspace (yet, or any more), and handed nothing over";
        (api::code::WORKSPACE_MISSING, why, "wait until it has one, or start a new run")
    } else {
        let why = "handed nothing over, and a later run works in its workspace";
        (api::code::WORKSPACE_MOVED_ON, why, "ask for the change of the latest run of the issue")
    };
    Problem::new(StatusCode::CONFLICT, code, format!("{} {why}", run.id), hint)
}

/// What may come right by itself is no conflict.
fn problem(failure: Failure) -> Problem {
    let status = if failure.retryable { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::CONFLICT };
    Problem::failure(status, failure)
}

fn wire(run: RunId, now: String, change: Change) -> api::RunDiff {
    let Change { base, head, from_workspace, files, total, truncated } = change;
    let sum = |lines: fn(&FileChange) -> Option<u64>| files.iter().filter_map(lines).sum();
    let (additions, deletions) = (sum(|file| file.additions), sum(|file| file.deletions));
    api::RunDiff {
        run: run.0,
        base: base.map(|base| base.0),
        head: head.map(|head| head.0),
        source: if from_workspace { "workspace" } else { "commit" }.to_owned(),
        taken_at: now,
        total_files: u64::try_from(total).unwrap_or(u64::MAX),
        additions,
        deletions,
        truncated,
        files: files.into_iter().map(file).collect(),
    }
}

fn file(file: FileChange) -> api::FileDiff {
    let FileChange { path, old_path, status, additions, deletions, binary, truncated, patch } = file;
    let status = status.as_str().to_owned();
    api::FileDiff { path, old_path, status, additions, deletions, binary, truncated, patch }
}
