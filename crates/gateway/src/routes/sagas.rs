//! Sagas: what ends together, done or undone.

use axum::Json;
use axum::extract::{Extension, State};
use dalsegno_api as api;

use crate::app::App;
use crate::convert;
use crate::guard::Caller;
use crate::params::{Key, Params};
use crate::problem::Problem;

/// `GET /api/v1/sagas/{id}`
pub(crate) async fn one(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Key(key): Key,
    params: Params,
) -> Result<Json<api::Saga>, Problem> {
    caller.must_read()?;
    params.done()?;
    let sought = key.clone();
    let found = app.read(move |reads| reads.saga(&sought)).await?;
    found.map(convert::saga).map(Json).ok_or_else(|| Problem::saga_not_found(&key))
}
