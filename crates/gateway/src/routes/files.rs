//! `GET /api/v1/runs/{id}/files`: what was kept for a run, and what is in it.

use axum::Json;
use axum::extract::{Extension, State};
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use dalsegno_api as api;
use dalsegno_engine::{ReadError, Reads};

use crate::app::App;
use crate::convert;
use crate::guard::Caller;
use crate::params::{Key, Keys, Params};
use crate::problem::Problem;

/// Files of a run that are told, at most: the oldest.
const MAX_FILES: usize = 10_000;

/// `GET /api/v1/runs/{id}/files`
pub(crate) async fn list(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Key(key): Key,
    params: Params,
) -> Result<Json<api::FileList>, Problem> {
    caller.must_read()?;
    params.done()?;
    let sought = key.clone();
    let found = app.read(move |reads| kept(reads, &sought)).await?;
    found.map(|files| Json(api::FileList { files })).ok_or_else(|| Problem::run_not_found(&key))
}

/// `GET /api/v1/runs/{id}/files/{file}`
pub(crate) async fn content(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Keys(run, file): Keys,
    params: Params,
) -> Result<impl IntoResponse, Problem> {
    caller.must_read()?;
    params.done()?;
    let (file, content) = look(&app, caller, &run, &file).await?;
    let text = content.map_err(|why| Problem::file_lost(&file.name, &why))?;
    Ok(([(CONTENT_TYPE, "text/plain; charset=utf-8")], text))
}

/// A file of a run and its text, invalid UTF-8 replaced, or why it is lost. Needs a token everywhere.
///
/// # Errors
/// Also when it is kept for another run: a name alone opens nothing.
pub(crate) async fn look(
    app: &App,
    caller: Caller,
    run: &str,
    file: &str,
) -> Result<(api::KeptFile, Result<String, String>), Problem> {
    caller.must_read()?;
    let (key, name) = (run.to_owned(), file.to_owned());
    let found = app
        .read(move |reads| {
            let Some(files) = kept(reads, &key)? else { return Ok(None) };
            let Some(file) = files.into_iter().find(|file| file.file == name) else { return Ok(Some(None)) };
            Ok(Some(reads.kept_file(&name)?.map(|content| (file, content))))
        })
        .await?;
    let (file, content) =
        found.ok_or_else(|| Problem::run_not_found(run))?.ok_or_else(|| Problem::file_not_found(run, file))?;
    Ok((file, content.map(|bytes| String::from_utf8_lossy(&bytes).into_owned())))
}

/// The files of a run; `None`: there is no such run.
pub(crate) fn kept(reads: &dyn Reads, run: &str) -> Result<Option<Vec<api::KeptFile>>, ReadError> {
    let Some(run) = reads.run(run)? else { return Ok(None) };
    let files = reads.kept_files(run.id.as_str(), MAX_FILES)?;
    Ok(Some(files.into_iter().map(convert::kept_file).collect()))
}
