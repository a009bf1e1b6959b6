//! `GET /api/v1/tokens`: for admins. Tokens are made and revoked on the daemon's own machine, by `dalsegno token`.

use axum::Json;
use axum::extract::{Extension, State};
use dalsegno_api as api;

use crate::access::Role;
use crate::app::{Access, App};
use crate::guard::Caller;
use crate::params::Params;
use crate::problem::Problem;

pub(crate) async fn list(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    params: Params,
) -> Result<Json<api::TokenList>, Problem> {
    caller.must_be(Role::Admin)?;
    params.done()?;
    let Access::Guarded(gate) = &*app.access else { return Ok(Json(api::TokenList { tokens: Vec::new() })) };
    let tokens = gate.known_tokens();
    let told = tokens.iter().map(|token| api::TokenInfo {
        name: token.name.clone(),
        role: token.role.as_str().to_owned(),
        made_at: token.made_at.clone(),
    });
    Ok(Json(api::TokenList { tokens: told.collect() }))
}
